// Tasks, grouped by where they waited when the last generation ended, or by their names.

import { useMemo, useState } from "preact/hooks";
import type { App } from "./app";
import { count, duration, plural, shortName } from "./format";
import { How, Of } from "./model";
import { Stack } from "./stack";
import { Table } from "./table";

export function Tasks({ app }: { app: App }) {
  const [by, choose] = useState<"chain" | "name">(() => (waiting(app).length > 0 ? "chain" : "name"));
  return (
    <>
      <div class="row" role="group" aria-label="Grouped">
        <button
          aria-pressed={by === "chain"}
          onClick={() => {
            choose("chain");
          }}
        >
          By where they wait at the end
        </button>
        <button
          aria-pressed={by === "name"}
          onClick={() => {
            choose("name");
          }}
        >
          By name
        </button>
      </div>
      {by === "chain" ? <ByChain app={app} /> : <ByName app={app} />}
    </>
  );
}

interface Group {
  stack: number;
  tasks: number[];
}

/** By the await chains that the last generation with some has. */
function waiting(app: App): Group[] {
  const { samples } = app.model;
  const [from, to] = app.model.samplesOf(Of.Await);
  if (to === from) return [];
  const last = samples.at[to - 1]!;
  const groups = new Map<number, number[]>();
  for (let i = to - 1; i >= from && samples.at[i] === last; i--) {
    const stack = samples.stack[i]!;
    const tasks = groups.get(stack) ?? [];
    groups.set(stack, tasks);
    tasks.push(samples.task[i]!);
  }
  return [...groups].map(([stack, tasks]) => ({ stack, tasks })).sort((a, b) => b.tasks.length - a.tasks.length);
}

function ByChain({ app }: { app: App }) {
  const { model } = app;
  const groups = useMemo(() => waiting(app), [app]);
  if (groups.length === 0) return <p class="soft">Where tasks wait is not recorded in this snapshot.</p>;
  return (
    <>
      {groups.slice(0, 100).map(({ stack, tasks }) => (
        <details key={stack}>
          <summary>
            <b>{plural(tasks.length, "task")}</b> {chain(app, stack)}
          </summary>
          <div class="columns">
            <Stack app={app} stack={stack} />
            <div>
              {tasks
                .filter((task) => task >= 0)
                .slice(0, 40)
                .map((task) => (
                  <div key={task}>
                    <button
                      class="link"
                      onClick={() => {
                        app.pinTask(task);
                        app.select({ what: "task", index: task }, true);
                      }}
                    >
                      {model.site(model.tasks.site[task]!)} ({model.tasks.id(task)})
                    </button>
                  </div>
                ))}
              {tasks.length > 40 && <span class="soft">… and {count(tasks.length - 40)} more</span>}
            </div>
          </div>
        </details>
      ))}
    </>
  );
}

/** The service's own functions, outermost first. */
function chain(app: App, stack: number): string {
  const { model } = app;
  const frames = model.frames(stack);
  const own = frames.filter((frame) => !model.functions.foreign[frame]);
  return (own.length > 0 ? own : frames)
    .slice(0, 4)
    .reverse()
    .map((frame) => shortName(model.functionName(frame)))
    .join(" › ");
}

function ByName({ app }: { app: App }) {
  const { model } = app;
  const rows = useMemo(() => {
    const { tasks, slices } = model;
    const all = new Map<
      number,
      { site: number; count: number; live: number; polls: number; polled: number; longest: number; first: number }
    >();
    for (let task = 0; task < tasks.count; task++) {
      const site = tasks.site[task]!;
      let row = all.get(site);
      if (!row) all.set(site, (row = { site, count: 0, live: 0, polls: 0, polled: 0, longest: 0, first: task }));
      row.count++;
      if (tasks.how[task] === How.Open) row.live++;
      for (const poll of model.polls(task)) {
        const length = slices.end[poll]! - slices.start[poll]!;
        row.polls++;
        row.polled += length;
        if (length > row.longest) [row.longest, row.first] = [length, task];
      }
    }
    return [...all.values()];
  }, [model]);
  return (
    <Table
      rows={rows}
      first={4}
      columns={[
        {
          name: "name",
          by: (row) => model.site(row.site),
          show: (row) => (
            <>
              {model.site(row.site)} <span class="soft">{model.place(row.site)}</span>
            </>
          ),
        },
        { name: "tasks", by: (row) => row.count, show: (row) => count(row.count) },
        { name: "alive at the end", by: (row) => row.live, show: (row) => count(row.live) },
        { name: "polls", by: (row) => row.polls, show: (row) => count(row.polls) },
        { name: "polled for", by: (row) => row.polled, show: (row) => duration(row.polled) },
        {
          name: "longest poll",
          by: (row) => row.longest,
          show: (row) => (
            <button
              class="link"
              onClick={() => {
                app.pinTask(row.first);
                app.select({ what: "task", index: row.first }, true);
              }}
            >
              {duration(row.longest)}
            </button>
          ),
        },
      ]}
    />
  );
}
