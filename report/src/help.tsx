import { useEffect, useRef } from "preact/hooks";
import type { App } from "./app";
import { KEYS } from "./keys";
import { STATES } from "./theme";

export function Help({ app }: { app: App }) {
  const close = () => {
    app.isHelpShown = false;
    app.changed();
  };
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    button.current?.focus();
  }, []);
  return (
    <div class="shade" onClick={close}>
      <div
        class="help"
        role="dialog"
        aria-modal="true"
        aria-label="Keys"
        onClick={(event) => {
          event.stopPropagation();
        }}
      >
        <h2>Keys</h2>
        <dl>
          {KEYS.map(([keys, what]) => (
            <div key={keys}>
              <dt>
                <kbd>{keys}</kbd>
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
        <h2>What the timeline shows</h2>
        <p>
          Rectangles on a worker are polls, in the colour of their task's name or of the outermost span. Where many are narrower
          than a pixel, the colour is the fuller the busier that pixel is. Above them, a line for each generation says how much
          of it the thread <i style={{ color: "var(--running)" }}>ran</i> and{" "}
          <i style={{ color: "var(--core)" }}>wanted a core</i>, as the kernel counts it, and in{" "}
          <i style={{ color: "var(--blocked)" }}>red</i> where it was seen blocked. A pinned task has an amber bar where it was
          ready and not polled, and a thin line where it waited. Arrows go from a wake to the poll that it led to, dashed ones
          from a spawn. The link in the address bar restores what you see.
        </p>
        <ul class="legend">
          {Object.entries(STATES).map(([name, colour]) => (
            <li key={name}>
              <span class="swatch" style={{ background: colour }} />
              {name.replace("_", " ")}
            </li>
          ))}
        </ul>
        <button ref={button} onClick={close}>
          Close
        </button>
      </div>
    </div>
  );
}
