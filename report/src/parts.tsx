// Where a time went, as a bar whose parts add up to it.

import type { App } from "./app";
import { duration, percent } from "./format";
import { lowerBound } from "./model";
import { Hue } from "./rows";
import { STATES } from "./theme";

export interface Part {
  state: string;
  words: string;
  ns: number;
  times?: number;
  at?: number | undefined;
  until?: number | undefined;
  inner?: Part[] | undefined;
}

export function Parts({ app, parts, level = 0 }: { app: App; parts: Part[]; level?: number }) {
  const whole = parts.reduce((sum, part) => sum + part.ns, 0) || 1;
  return (
    <div class="parts">
      <div class="bar" role="img" aria-label={parts.map((part) => `${part.words} ${percent(part.ns / whole)}`).join(", ")}>
        {parts
          .filter((part) => part.ns > 0)
          .map((part, i) => (
            <span
              key={i}
              title={`${part.words}: ${duration(part.ns)}`}
              style={{ width: `${(part.ns / whole) * 100}%`, background: STATES[part.state] ?? "var(--unknown)" }}
            />
          ))}
      </div>
      <table>
        <tbody>
          {parts.map((part, i) => (
            <tr key={i}>
              <td>
                <span class="swatch" style={{ background: STATES[part.state] ?? "var(--unknown)" }} />
              </td>
              <td class="number">{duration(part.ns)}</td>
              <td class="number">{percent(part.ns / whole)}</td>
              <td>
                {part.at === undefined ? (
                  part.words
                ) : (
                  <button
                    class="link"
                    onClick={() => {
                      app.range = [part.at!, part.until ?? part.at!];
                      app.show(
                        part.at! - (part.until! - part.at!) * 0.3 - 1000,
                        part.until! + (part.until! - part.at!) * 0.3 + 1000,
                        true,
                      );
                    }}
                  >
                    {part.words}
                  </button>
                )}
                {part.times !== undefined && part.times > 1 && <span class="soft"> {part.times} ×</span>}
                {part.inner && part.inner.length > 0 && level < 4 && (
                  <div class="inner">
                    <Parts app={app} parts={part.inner} level={level + 1} />
                  </div>
                )}
              </td>
            </tr>
          ))}
          {level === 0 && (
            <tr class="sum">
              <td />
              <td class="number">{duration(whole)}</td>
              <td class="number">100 %</td>
              <td>all of it</td>
            </tr>
          )}
        </tbody>
      </table>
    </div>
  );
}

/** What a task did in a time, as far as its polls and wakes tell. */
export function partsOf(app: App, task: number, from: number, until: number): Part[] {
  const { start, end, hue, ref } = app.rows.doing(task);
  const sums = { polled: 0, ready: 0, not_woken: 0, unknown: 0 };
  const times = { polled: 0, ready: 0, not_woken: 0 };
  let known = 0;
  for (let i = lowerBound((i) => end[i]!, end.length, from); i < start.length && start[i]! < until; i++) {
    const length = Math.min(end[i]!, until) - Math.max(start[i]!, from);
    if (length < 0) continue;
    const state = ref![i]! >= 0 ? "polled" : hue[i] === Hue.Ready ? "ready" : "not_woken";
    sums[state] += length;
    times[state]++;
    known += length;
  }
  sums.unknown = Math.max(until - from - known, 0);
  const words = {
    polled: "polled",
    ready: "ready, and not polled",
    not_woken: "waiting until it is woken",
    unknown: "not known",
  };
  const parts = (Object.keys(sums) as (keyof typeof sums)[]).filter((state) => sums[state] > 0);
  return parts
    .map((state) => ({ state, words: words[state], ns: sums[state], ...(state !== "unknown" && { times: times[state] }) }))
    .sort((a, b) => b.ns - a.ns);
}
