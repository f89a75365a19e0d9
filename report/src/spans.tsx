// Spans by name, over the whole time, and the slowest of a name.

import { useMemo, useState } from "preact/hooks";
import type { App } from "./app";
import { duration, moment } from "./format";
import { How } from "./model";
import { columnsOf } from "./selection";
import { spansIn } from "./statistics";
import { Table } from "./table";

export function Spans({ app }: { app: App }) {
  const { model } = app;
  const [chosen, choose] = useState<string | null>(null);
  const all = useMemo(() => spansIn(model, -Infinity, Infinity), [model]);
  if (all.length === 0) return <p class="soft">No span is recorded.</p>;
  const name = chosen ?? all[0]!.name;
  const columns = columnsOf(app, "span");
  columns[0] = {
    name: "name",
    by: (row) => row.name,
    show: (row) => (
      <button
        class="link"
        aria-pressed={row.name === name}
        onClick={() => {
          choose(row.name);
        }}
      >
        {row.name}
      </button>
    ),
  };
  return (
    <div class="columns">
      <div>
        <Table rows={all} columns={columns} first={2} />
      </div>
      <div>
        <h3>The slowest of {name}</h3>
        <Slowest app={app} name={name} />
      </div>
    </div>
  );
}

function Slowest({ app, name }: { app: App; name: string }) {
  const { model } = app;
  const { spans } = model;
  const slowest = useMemo(() => {
    const all = [];
    for (let i = 0; i < spans.count; i++) if (model.site(spans.site[i]!) === name) all.push(i);
    return all.sort((a, b) => spans.end[b]! - spans.began[b]! - (spans.end[a]! - spans.began[a]!)).slice(0, 50);
  }, [model, name]);
  return (
    <table class="table">
      <tbody>
        {slowest.map((i) => (
          <tr key={i}>
            <td class="number">{duration(spans.end[i]! - spans.began[i]!)}</td>
            <td class="number">{moment(spans.began[i]!)}</td>
            <td>
              <button
                class="link"
                onClick={() => {
                  app.select({ what: "span", index: i }, true);
                }}
              >
                {spans.id(i)}
              </button>{" "}
              {spans.how[i] === How.Open ? "not ended " : ""}
              <span class="soft">{model.text(spans.fields[i]!)}</span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
