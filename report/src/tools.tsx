// Search, filter, and what else is chosen above the timeline.

import type { App } from "./app";
import { count, duration } from "./format";

export function Tools({ app }: { app: App }) {
  const theme = { auto: "Auto", light: "Light", dark: "Dark" }[app.theme];
  const colour = (by: "task" | "span") => {
    app.colourBy = by;
    app.rows.colour(by);
    app.changed();
  };
  return (
    <div class="tools" role="toolbar" aria-label="Timeline">
      <input
        id="search"
        type="search"
        placeholder="Search  /"
        aria-label="Search names, fields and messages"
        value={app.query}
        onInput={(event) => {
          app.search(event.currentTarget.value);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") app.next(event.shiftKey ? -1 : 1);
          if (event.key === "Escape") {
            app.search("");
            event.currentTarget.blur();
          }
        }}
      />
      {app.query.trim().length > 1 && (
        <span class="hits" role="status">
          {app.hits.length === 0
            ? "nothing found"
            : `${app.hit >= 0 ? `${count(app.hit + 1)} of ` : ""}${count(app.hits.length)}`}
          <button
            aria-label="Previous"
            disabled={app.hits.length === 0}
            onClick={() => {
              app.next(-1);
            }}
          >
            ‹
          </button>
          <button
            aria-label="Next"
            disabled={app.hits.length === 0}
            onClick={() => {
              app.next(1);
            }}
          >
            ›
          </button>
        </span>
      )}
      <input
        type="search"
        class="filter"
        placeholder="Filter rows"
        aria-label="Filter rows by name"
        value={app.filter}
        onInput={(event) => {
          app.filter = event.currentTarget.value;
          app.changed();
        }}
      />
      <label class="choice">
        Colour by{" "}
        <select
          value={app.colourBy}
          onChange={(event) => {
            colour(event.currentTarget.value as "task" | "span");
          }}
        >
          <option value="task">task</option>
          <option value="span">span</option>
        </select>
      </label>
      {app.pins.length > 0 && (
        <button
          onClick={() => {
            app.pins = [];
            app.changed();
          }}
        >
          Unpin all
        </button>
      )}
      {app.marks.length > 0 && (
        <button
          onClick={() => {
            app.marks = [];
            app.changed();
          }}
        >
          No marks
        </button>
      )}
      {app.range && (
        <button
          onClick={() => {
            app.show(app.range![0], app.range![1]);
          }}
        >
          Zoom to {duration(app.range[1] - app.range[0])}
        </button>
      )}
      <span class="space" />
      <button
        aria-label="Zoom out"
        onClick={() => {
          app.zoom(2);
        }}
      >
        −
      </button>
      <button
        aria-label="Zoom in"
        onClick={() => {
          app.zoom(0.5);
        }}
      >
        +
      </button>
      <button
        onClick={() => {
          app.all();
        }}
      >
        All
      </button>
      <button
        aria-label={`Colours: ${theme}`}
        onClick={() => {
          app.theme = app.theme === "auto" ? "dark" : app.theme === "dark" ? "light" : "auto";
          app.changed();
        }}
      >
        {theme}
      </button>
      <button
        aria-label="Keys"
        onClick={() => {
          app.isHelpShown = true;
          app.changed();
        }}
      >
        ?
      </button>
    </div>
  );
}
