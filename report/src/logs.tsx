// Logs and events of what is shown, as many as fit; they follow the timeline, and the timeline follows them.

import { useEffect, useRef, useState } from "preact/hooks";
import type { App } from "./app";
import { LogLine } from "./details";
import { count } from "./format";
import { lowerBound } from "./model";

/** The height of a line, in pixels. */
const LINE = 22;

export function Logs({ app }: { app: App }) {
  const { notes } = app.model;
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [least, setLeast] = useState(0);
  const [isFollowing, follow] = useState(true);
  const wanted = least === 0 ? null : listed(notes.level, least);
  const total = wanted ? wanted.length : notes.count;
  const note = (place: number) => (wanted ? wanted[place]! : place);
  const first = lowerBound((i) => notes.at[note(i)]!, total, app.from);
  const past = lowerBound((i) => notes.at[note(i)]!, total, app.until);
  const chosen = app.selected?.what === "note" ? app.selected.index : -1;
  useEffect(() => {
    const scroller = box.current?.closest<HTMLElement>(".content");
    if (!scroller) return;
    const scrolled = () => {
      setTop(Math.max(scroller.scrollTop - 40, 0));
    };
    scroller.addEventListener("scroll", scrolled);
    return () => {
      scroller.removeEventListener("scroll", scrolled);
    };
  }, []);
  // What is shown begins at the top of the list.
  useEffect(() => {
    const scroller = box.current?.closest<HTMLElement>(".content");
    if (scroller && isFollowing && chosen < 0) scroller.scrollTop = first * LINE;
  }, [first, isFollowing, least]);
  const from = Math.max(Math.floor(top / LINE) - 5, 0);
  const lines = Array.from({ length: Math.max(Math.min(60, total - from), 0) }, (_, i) => note(from + i));
  if (notes.count === 0) return <p class="soft">No log and no event is recorded.</p>;
  return (
    <>
      <div class="row sticky">
        <span>
          {count(total)}, of which {count(past - first)} are in what is shown
        </span>
        <label class="choice">
          From{" "}
          <select
            value={least}
            onChange={(event) => {
              setLeast(Number(event.currentTarget.value));
            }}
          >
            <option value={0}>all, with events</option>
            <option value={1}>logs</option>
            <option value={3}>INFO</option>
            <option value={4}>WARN</option>
            <option value={5}>ERROR</option>
          </select>
        </label>
        <label class="choice">
          <input
            type="checkbox"
            checked={isFollowing}
            onChange={(event) => {
              follow(event.currentTarget.checked);
            }}
          />{" "}
          follow the timeline
        </label>
      </div>
      <div class="lines" ref={box} style={{ height: `${total * LINE}px` }}>
        <ul class="logs" style={{ top: `${from * LINE}px` }}>
          {lines.map((i) => (
            <LogLine key={i} app={app} index={i} />
          ))}
        </ul>
      </div>
    </>
  );
}

const known = new Map<number, Int32Array>();

function listed(levels: Float64Array, least: number): Int32Array {
  let list = known.get(least);
  if (!list) {
    const all = [];
    for (let i = 0; i < levels.length; i++) if (levels[i]! >= least) all.push(i);
    known.set(least, (list = Int32Array.from(all)));
  }
  return list;
}
