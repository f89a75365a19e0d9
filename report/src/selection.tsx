// What happened in the selected time, or in what is shown.

import { useMemo } from "preact/hooks";
import type { App } from "./app";
import { count, duration, moment, percent } from "./format";
import { lowerBound } from "./model";
import { type Numbers, slicesIn, spansIn, threadsIn } from "./statistics";
import { type ColumnOf, Table } from "./table";

export function columnsOf(app: App, what: "slice" | "span", whole?: number): ColumnOf<Numbers>[] {
  const length = (name: string, by: (row: Numbers) => number): ColumnOf<Numbers> => ({
    name,
    by,
    show: (row) => duration(by(row)),
  });
  return [
    { name: "name", by: (row) => row.name, show: (row) => row.name },
    { name: "count", by: (row) => row.count, show: (row) => count(row.count) },
    length("total", (row) => row.total),
    ...(whole
      ? [{ name: "of one core", by: (row: Numbers) => row.total, show: (row: Numbers) => percent(row.total / whole) }]
      : []),
    length("half within", (row) => row.p50),
    length("90 %", (row) => row.p90),
    length("99 %", (row) => row.p99),
    {
      name: "longest",
      by: (row) => row.most,
      show: (row) => (
        <button
          class="link"
          onClick={() => {
            app.select({ what, index: row.longest }, true);
          }}
        >
          {duration(row.most)}
        </button>
      ),
    },
  ];
}

export function Selection({ app }: { app: App }) {
  const [from, until] = app.range ?? [app.from, app.until];
  const { model } = app;
  const all = useMemo(
    () => ({
      polls: slicesIn(model, from, until, false),
      regions: slicesIn(model, from, until, true),
      spans: spansIn(model, from, until),
      threads: threadsIn(model, from, until),
    }),
    [model, from, until],
  );
  const { notes, wakes } = model;
  const between = (at: Float64Array, total: number) =>
    lowerBound((i) => at[i]!, total, until) - lowerBound((i) => at[i]!, total, from);
  const length = until - from;
  return (
    <>
      <div class="row">
        <b>{app.range ? "Selected" : "Shown"}:</b> {moment(from)} s to {moment(until)} s, {duration(length)};{" "}
        {count(between(wakes.at, wakes.count))} wakes and spawns, {count(between(notes.at, notes.count))} logs and events
        <button
          onClick={() => {
            app.tab = "flame";
            app.changed();
          }}
        >
          Flame graph of it
        </button>
        {!app.range && <span class="soft">Shift and drag selects a time.</span>}
      </div>
      <h3>Polls, by task</h3>
      <Table rows={all.polls} columns={columnsOf(app, "slice", length)} first={2} />
      {all.spans.length > 0 && (
        <>
          <h3>Spans: their whole lengths</h3>
          <Table rows={all.spans} columns={columnsOf(app, "span")} first={2} />
        </>
      )}
      {all.regions.length > 0 && (
        <>
          <h3>Regions</h3>
          <Table rows={all.regions} columns={columnsOf(app, "slice", length)} first={2} />
        </>
      )}
      <h3>Threads</h3>
      <Table
        rows={all.threads}
        first={1}
        columns={[
          { name: "thread", by: (row) => model.thread(row.thread), show: (row) => model.thread(row.thread) },
          { name: "busy", by: (row) => row.busy, show: (row) => duration(row.busy) },
          { name: "share", by: (row) => row.busy, show: (row) => percent(row.busy / length) },
          { name: "polls", by: (row) => row.polls, show: (row) => count(row.polls) },
        ]}
      />
    </>
  );
}
