// What stood out; each is a link to its place.

import { useState } from "preact/hooks";
import type { App } from "./app";
import { moment } from "./format";

export function Findings({ app }: { app: App }) {
  const [isOpen, setOpen] = useState(true);
  const { findings, not_assessed } = app.model.header.summary;
  if (!isOpen)
    return (
      <button
        class="unfold"
        aria-label="Show what stood out"
        onClick={() => {
          setOpen(true);
        }}
      >
        »
      </button>
    );
  return (
    <nav class="findings" aria-label="What stood out">
      <div class="title">
        <h2>What stood out</h2>
        <button
          class="icon"
          aria-label="Hide this list"
          onClick={() => {
            setOpen(false);
          }}
        >
          «
        </button>
      </div>
      {findings.length === 0 && <p class="soft">Nothing of what could be assessed.</p>}
      <ol>
        {findings.map((finding, i) => {
          const first = finding.evidence[0];
          const isShown = app.finding === i;
          return (
            <li key={i} class={isShown ? "shown" : ""}>
              <button
                class="finding"
                aria-current={isShown}
                disabled={!first}
                onClick={() => {
                  if (first) app.jump(finding, first);
                }}
              >
                <span class={`score ${finding.score > 0.8 ? "high" : finding.score > 0.5 ? "middle" : ""}`}>
                  {finding.score.toFixed(2)}
                </span>
                <Code text={finding.title} />
              </button>
              {isShown && (
                <ul>
                  {finding.evidence.slice(0, 12).map((evidence, j) => (
                    <li key={j} style={{ paddingLeft: `${evidence.depth * 10}px` }}>
                      <button
                        class="evidence"
                        onClick={() => {
                          app.jump(finding, evidence);
                        }}
                      >
                        <span class="at">{moment(evidence.t_ns)}</span> <Code text={evidence.what} />
                      </button>
                    </li>
                  ))}
                  {finding.commands.map((command, j) => (
                    <li key={`c${j}`}>
                      <code class="command">{command}</code>
                    </li>
                  ))}
                </ul>
              )}
            </li>
          );
        })}
      </ol>
      {not_assessed.length > 0 && (
        <details>
          <summary>Not assessed ({not_assessed.length})</summary>
          <ul class="plain">
            {not_assessed.map((one, i) => (
              <li key={i}>
                <b>{one.analysis}</b>: {one.because}
              </li>
            ))}
          </ul>
        </details>
      )}
    </nav>
  );
}

/** Text in which names stand between backquotes. */
export function Code({ text }: { text: string }) {
  const parts = text.split("`");
  return (
    <span class="words">
      {parts.map((part, i) => (i % 2 === 1 && i < parts.length - 1 ? <code key={i}>{part}</code> : part))}
    </span>
  );
}
