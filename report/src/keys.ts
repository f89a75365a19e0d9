// The keyboard. Keys that move go on while they are held.

import type { App } from "./app";

const MOVES: Record<string, (app: App, by: number) => void> = {
  w: (app, by) => {
    app.zoom(Math.exp(-2.2 * by), app.pointer ?? undefined);
  },
  s: (app, by) => {
    app.zoom(Math.exp(2.2 * by), app.pointer ?? undefined);
  },
  a: (app, by) => {
    app.pan(-0.9 * by);
  },
  d: (app, by) => {
    app.pan(0.9 * by);
  },
  ArrowLeft: (app, by) => {
    app.pan(-0.9 * by);
  },
  ArrowRight: (app, by) => {
    app.pan(0.9 * by);
  },
};

export const KEYS: [string, string][] = [
  ["W  S", "zoom in and out, at the pointer"],
  ["A  D  ←  →", "move in time"],
  ["Ctrl + wheel", "zoom at the pointer; Shift + wheel moves in time"],
  ["drag", "moves; Shift + drag, or in the ruler, selects a time"],
  ["click", "details; in the ruler, a mark; on a name at the left, pins the row"],
  ["double click", "zooms to it"],
  [",  .", "previous and next in the row"],
  ["↑  ↓", "what is in the row above or below at that time"],
  ["[  ]", "follow a wake: to the poll that woke this one, to the poll that this one woke"],
  ["F", "zoom to what is selected"],
  ["0", "everything"],
  ["M", "a mark at the pointer; marks say how far they are apart"],
  ["P", "pin the task of what is selected, or its row"],
  ["/", "search; Enter and Shift + Enter go on"],
  ["N  Shift + N", "next and previous of what was found"],
  ["1 … 9", "jump to a finding"],
  ["Esc", "nothing selected"],
  ["?", "this list"],
];

export function listen(app: App) {
  const held = new Set<string>();
  let last = 0;
  const move = (now: number) => {
    if (held.size === 0) return;
    const by = Math.min((now - last) / 1000, 0.05);
    last = now;
    held.forEach((key) => MOVES[key]?.(app, by));
    requestAnimationFrame(move);
  };
  window.addEventListener("keydown", (event) => {
    const target = event.target as HTMLElement;
    if (target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) {
      if (event.key === "Escape") target.blur();
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (MOVES[key] && !target.closest("[role=tablist], [role=separator]")) {
      event.preventDefault();
      // One press alone moves, too, however short it is.
      if (held.size === 0) {
        last = performance.now();
        MOVES[key](app, 0.016);
        requestAnimationFrame(move);
      }
      held.add(key);
      return;
    }
    if (key.startsWith("Arrow") && target.closest("[role=separator], .content")) return;
    if (press(app, key, event.shiftKey)) event.preventDefault();
  });
  window.addEventListener("keyup", (event) => held.delete(event.key.length === 1 ? event.key.toLowerCase() : event.key));
  window.addEventListener("blur", () => {
    held.clear();
  });
}

function press(app: App, key: string, isShifted: boolean): boolean {
  const { findings } = app.model.header.summary;
  if (key >= "1" && key <= "9") {
    const finding = findings[Number(key) - 1];
    if (finding?.evidence[0]) app.jump(finding, finding.evidence[0]);
    return true;
  }
  switch (key) {
    case ",":
      app.neighbour(-1);
      return true;
    case ".":
      app.neighbour(1);
      return true;
    case "ArrowUp":
      app.vertical(-1);
      return true;
    case "ArrowDown":
      app.vertical(1);
      return true;
    case "[":
      app.follow("cause");
      return true;
    case "]":
      app.follow("effect");
      return true;
    case "0":
      app.all();
      return true;
    case "m":
      app.mark(app.pointer ?? (app.from + app.until) / 2);
      return true;
    case "n":
      app.next(isShifted ? -1 : 1);
      return true;
    case "/":
      document.querySelector<HTMLInputElement>("#search")?.focus();
      return true;
    case "?":
      app.isHelpShown = !app.isHelpShown;
      app.changed();
      return true;
    case "f": {
      const [from, until] = app.selected ? app.times(app.selected) : (app.range ?? [app.from, app.until]);
      const margin = Math.max((until - from) * 0.15, 1000);
      app.show(from - margin, until + margin);
      return true;
    }
    case "p": {
      const item = app.selected;
      if (!item) return true;
      const task =
        item.what === "slice"
          ? app.model.slices.task[item.index]!
          : item.what === "task" || item.what === "wait"
            ? item.index
            : -1;
      const row = app.rowOf(item);
      if (task >= 0) app.pinTask(task);
      else if (row) app.pin(row.key);
      return true;
    }
    case "Escape":
      if (app.isHelpShown) app.isHelpShown = false;
      else {
        app.selected = null;
        app.range = null;
        app.stretches = [];
      }
      app.changed();
      return true;
    default:
      return false;
  }
}
