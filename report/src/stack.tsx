// A stack, innermost function first; what services are built on is folded.

import { useState } from "preact/hooks";
import type { App } from "./app";
import { plural, shortPlace } from "./format";

export function Stack({ app, stack }: { app: App; stack: number }) {
  const [isWhole, setWhole] = useState(false);
  const { model } = app;
  const frames = model.frames(stack);
  const own = frames.filter((frame) => !model.functions.foreign[frame]);
  const shown = isWhole || own.length === 0 ? frames : own;
  return (
    <>
      <ol class="stack">
        {shown.map((frame, i) => (
          <li key={i} class={model.functions.foreign[frame] ? "foreign" : ""}>
            <span class="name">{model.functionName(frame)}</span>{" "}
            <span class="place" title={model.functionPlace(frame)}>
              {shortPlace(model.functionPlace(frame))}
            </span>
          </li>
        ))}
      </ol>
      {own.length > 0 && own.length < frames.length && (
        <button
          class="small"
          onClick={() => {
            setWhole(!isWhole);
          }}
        >
          {isWhole ? "only the service's own" : `and ${plural(frames.length - own.length, "function")} that it is built on`}
        </button>
      )}
      {frames.length === 0 && <p class="soft">No stack.</p>}
    </>
  );
}
