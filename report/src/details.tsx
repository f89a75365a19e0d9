// What is known of what is selected.

import type { App } from "./app";
import { bytes, count, duration, moment, plural, shortPlace } from "./format";
import { How, type Item, Kind, lowerBound, Of } from "./model";
import { Parts, partsOf } from "./parts";
import { Stack } from "./stack";

export function Details({ app }: { app: App }) {
  const item = app.selected;
  if (!item)
    return (
      <p class="soft">
        Click something in the timeline, or a finding at the left. <kbd>?</kbd> lists the keys.
      </p>
    );
  switch (item.what) {
    case "slice":
      return <Slice app={app} index={item.index} />;
    case "span":
      return <Span app={app} index={item.index} />;
    case "task":
      return <Task app={app} index={item.index} />;
    case "wait":
      return <Task app={app} index={item.index} wait={item} />;
    case "note":
      return <Note app={app} index={item.index} />;
    case "range":
      return <Range app={app} index={item.index} />;
    case "sample":
      return <Sample app={app} index={item.index} />;
    case "counter":
      return <Counter app={app} index={item.index} at={item.from ?? 0} />;
  }
}

type Props = { app: App; index: number };
export type Fact = [string, preact.ComponentChildren];

function Facts({ facts }: { facts: (Fact | false | null | undefined)[] }) {
  return (
    <table class="pairs">
      <tbody>
        {facts.map(
          (fact, i) =>
            fact && (
              <tr key={i}>
                <th scope="row">{fact[0]}</th>
                <td>{fact[1]}</td>
              </tr>
            ),
        )}
      </tbody>
    </table>
  );
}

function Title({ kind, name, at }: { kind: string; name: string; at?: string | undefined }) {
  return (
    <h2 class="thing">
      <span class="kind">{kind}</span> <span class="name">{name}</span>
      {at && <span class="place">{at}</span>}
    </h2>
  );
}

export function Link({ app, item, children }: { app: App; item: Item; children: preact.ComponentChildren }) {
  return (
    <button
      class="link"
      onClick={() => {
        app.select(item, true);
      }}
    >
      {children}
    </button>
  );
}

export function taskLink(app: App, task: number) {
  if (task < 0) return "none";
  const { model } = app;
  return (
    <>
      <Link app={app} item={{ what: "task", index: task }}>
        {model.site(model.tasks.site[task]!)} ({model.tasks.id(task)})
      </Link>{" "}
      <button
        class="small"
        onClick={() => {
          app.pinTask(task);
        }}
      >
        pin
      </button>
    </>
  );
}

export function spanLink(app: App, span: number) {
  const { model } = app;
  return (
    <Link app={app} item={{ what: "span", index: span }}>
      {model.site(model.spans.site[span]!)} ({model.spans.id(span)}){" "}
      <span class="soft">{model.text(model.spans.fields[span]!)}</span>
    </Link>
  );
}

const ENDS = ["ended", "pending", "ready", "panicked", "not ended", "its end cannot be read"];

function Slice({ app, index }: Props) {
  const { model } = app;
  const { slices } = model;
  const [from, until] = [slices.start[index]!, slices.end[index]!];
  const kind = slices.kind[index]!;
  const name = kind === Kind.Merged && slices.site[index] === 0 ? "several" : model.site(slices.site[index]!);
  const wake = kind === Kind.Poll ? app.wakeOf(index) : -1;
  const led = kind === Kind.Poll ? app.wakesIn(index) : [];
  const facts: (Fact | false | null)[] = [
    ["time", `${moment(from)} s, for ${duration(until - from)}`],
    kind === Kind.Merged && ["stands for", `${count(slices.number[index]!)} that are short and follow each other`],
    ["thread", model.thread(slices.thread[index]!)],
    slices.task[index]! >= 0 && ["task", taskLink(app, slices.task[index]!)],
    slices.span[index]! >= 0 && ["span", spanLink(app, slices.span[index]!)],
    kind !== Kind.Merged && ["ended", ENDS[slices.how[index]!]],
    kind === Kind.Poll && ["woken", wake < 0 ? "not known by what" : <Woken app={app} wake={wake} until={from} />],
    led.length > 0 && [
      "led to",
      <>
        {led.slice(0, 12).map((wake) => (
          <Led key={wake} app={app} wake={wake} />
        ))}
        {led.length > 12 && <div>… and {count(led.length - 12)} more</div>}
      </>,
    ],
  ];
  const words = ["poll", "worker", "region", "several"][kind]!;
  return (
    <div class="columns">
      <div>
        <Title kind={words} name={name} at={shortPlace(model.place(slices.site[index]!))} />
        <Facts facts={facts} />
      </div>
      <div>
        <Stacks app={app} from={from} until={until} thread={slices.thread[index]!} />
        <Around app={app} from={from} until={until} thread={slices.thread[index]!} />
      </div>
    </div>
  );
}

function Woken({ app, wake, until }: { app: App; wake: number; until: number }) {
  const { wakes } = app.model;
  const poll = app.pollAt(wakes.thread[wake]!, wakes.at[wake]!);
  const words = wakes.spawn[wake] ? "spawned" : "woken";
  return (
    <>
      {duration(until - wakes.at[wake]!)} before, {words} on {app.model.thread(wakes.thread[wake]!)}
      {wakes.by[wake]! >= 0 && <> by {taskLink(app, wakes.by[wake]!)}</>}{" "}
      {poll >= 0 && (
        <Link app={app} item={{ what: "slice", index: poll }}>
          go there [
        </Link>
      )}
    </>
  );
}

function Led({ app, wake }: { app: App; wake: number }) {
  const { wakes, slices, tasks } = app.model;
  const poll = app.model.pollAfter(wakes.task[wake]!, wakes.at[wake]!);
  const name = app.model.site(tasks.site[wakes.task[wake]!] ?? 0);
  const words = `${wakes.spawn[wake] ? "spawned" : "woke"} ${name} (${wakes.task[wake]! < 0 ? "?" : tasks.id(wakes.task[wake]!)})`;
  return (
    <div>
      {poll < 0 ? (
        words
      ) : (
        <Link app={app} item={{ what: "slice", index: poll }}>
          {words}, polled {duration(slices.start[poll]! - wakes.at[wake]!)} later
        </Link>
      )}
    </div>
  );
}

function Span({ app, index }: Props) {
  const { model } = app;
  const { spans } = model;
  const [from, until] = [spans.began[index]!, spans.end[index]!];
  const children = model.children(index);
  const polls = model.pollsIn(index);
  const task = polls.length > 0 ? model.slices.task[polls[0]!]! : -1;
  const facts: (Fact | false | null)[] = [
    ["time", `${moment(from)} s, for ${duration(until - from)}${spans.how[index] === How.Open ? ", not ended" : ""}`],
    ["id", spans.id(index)],
    model.text(spans.fields[index]!) !== "" && ["fields", <Fields text={model.text(spans.fields[index]!)} />],
    spans.parent[index]! >= 0 && ["inside of", spanLink(app, spans.parent[index]!)],
    task >= 0 && ["task", taskLink(app, task)],
    children.length > 0 && [
      "spans in it",
      <>
        {Array.from(children.slice(0, 12), (child) => (
          <div key={child}>
            {spanLink(app, child)} {duration(spans.end[child]! - spans.began[child]!)}
          </div>
        ))}
        {children.length > 12 && `… and ${count(children.length - 12)} more`}
      </>,
    ],
  ];
  return (
    <div class="columns">
      <div>
        <Title kind="span" name={model.site(spans.site[index]!)} at={shortPlace(model.place(spans.site[index]!))} />
        <Facts facts={facts} />
      </div>
      <div>
        {task >= 0 && (
          <>
            <h3>
              Where its time went{" "}
              <button
                class="small"
                onClick={() => {
                  follow(app, index, task);
                }}
              >
                show its path
              </button>
            </h3>
            <Parts app={app} parts={partsOf(app, task, from, until)} />
          </>
        )}
        <Around app={app} from={from} until={until} span={index} />
      </div>
    </div>
  );
}

/** The path of a request over all rows: when its task was polled, ready, waiting. */
function follow(app: App, span: number, task: number) {
  const { spans } = app.model;
  const row = app.rows.task(task);
  const keys = new Set([row.key, ...app.pins]);
  const { slices } = app.model;
  for (const poll of app.model.polls(task)) {
    if (keys.size > 8) break;
    if (slices.end[poll]! >= spans.began[span]! && slices.start[poll]! <= spans.end[span]!)
      keys.add(`t${app.model.header.threads[slices.thread[poll]!]?.number}`);
  }
  app.pins = [...keys];
  app.stretches = [];
  for (const poll of app.model.polls(task))
    if (slices.end[poll]! >= spans.began[span]! && slices.start[poll]! <= spans.end[span]! && app.stretches.length < 2000)
      app.stretches.push({ from: slices.start[poll]!, until: slices.end[poll]!, state: "polled" });
  app.reveal = row.key;
  const margin = (spans.end[span]! - spans.began[span]!) * 0.1;
  app.show(spans.began[span]! - margin, spans.end[span]! + margin, true);
}

function Fields({ text }: { text: string }) {
  return <code class="fields">{text}</code>;
}

function Task({ app, index, wait }: Props & { wait?: Item }) {
  const { model } = app;
  const { tasks } = model;
  const [from, until] = app.times({ what: "task", index });
  const polls = model.polls(index);
  const ends = ["ended", "dropped: it was cancelled", "done", "panicked", "not ended", "its end cannot be read"];
  const facts: (Fact | false)[] = [
    ["id", tasks.id(index)],
    ["lived", `from ${tasks.known[index] ? `${moment(from)} s` : "before the snapshot"}, for ${duration(until - from)}`],
    ["ended", ends[tasks.how[index]!] ?? "?"],
    tasks.parent[index]! >= 0 && ["spawned by", taskLink(app, tasks.parent[index]!)],
    ["polls", count(polls.length)],
    wait?.from !== undefined && ["this wait", `${moment(wait.from)} s, for ${duration(wait.until! - wait.from)}`],
  ];
  const [first, last] = model.samplesOf(Of.Await);
  const waits: number[] = [];
  for (let i = first; i < last && waits.length < 4; i++)
    if (
      model.samples.task[i] === index &&
      (wait?.from === undefined || (model.samples.at[i]! >= wait.from && model.samples.at[i]! <= wait.until!))
    )
      waits.push(i);
  return (
    <div class="columns">
      <div>
        <Title kind="task" name={model.site(tasks.site[index]!)} at={shortPlace(model.place(tasks.site[index]!))} />
        <Facts facts={facts} />
        <button
          onClick={() => {
            app.pinTask(index);
          }}
        >
          Pin its row
        </button>{" "}
        {polls.length > 0 && (
          <>
            <Link app={app} item={{ what: "slice", index: polls[0]! }}>
              first poll
            </Link>{" "}
            ·{" "}
            <Link app={app} item={{ what: "slice", index: polls[polls.length - 1]! }}>
              last poll
            </Link>
          </>
        )}
      </div>
      <div>
        <h3>Where its time went</h3>
        <Parts app={app} parts={partsOf(app, index, wait?.from ?? from, wait?.until ?? until)} />
        {waits.map((i) => (
          <div key={i}>
            <h3>It waited here at {moment(model.samples.at[i]!)} s</h3>
            <Stack app={app} stack={model.samples.stack[i]!} />
          </div>
        ))}
      </div>
    </div>
  );
}

const LEVELS = ["event", "TRACE", "DEBUG", "INFO", "WARN", "ERROR"];

function Note({ app, index }: Props) {
  const { model } = app;
  const { notes } = model;
  const level = notes.level[index]!;
  const facts: (Fact | false)[] = [
    ["time", `${moment(notes.at[index]!)} s`],
    level > 0 && ["category", model.site(notes.site[index]!)],
    model.text(notes.fields[index]!) !== "" && ["fields", <Fields text={model.text(notes.fields[index]!)} />],
    ["thread", model.thread(notes.thread[index]!)],
    notes.task[index]! >= 0 && ["task", taskLink(app, notes.task[index]!)],
    notes.span[index]! >= 0 && ["span", spanLink(app, notes.span[index]!)],
  ];
  return (
    <div class="columns">
      <div>
        <Title
          kind={LEVELS[level] ?? "log"}
          name={model.text(notes.text[index]!) || model.site(notes.site[index]!)}
          at={shortPlace(model.place(notes.site[index]!))}
        />
        <Facts facts={facts} />
      </div>
      <div>
        <Around app={app} from={notes.at[index]! - 2e6} until={notes.at[index]! + 2e6} />
      </div>
    </div>
  );
}

function Range({ app, index }: Props) {
  const { ranges } = app.model;
  const [from, until] = [ranges.from[index]!, ranges.until[index]!];
  return (
    <div class="columns">
      <div>
        <Title kind="range" name={app.model.site(ranges.site[index]!)} at={shortPlace(app.model.place(ranges.site[index]!))} />
        <Facts
          facts={[["time", `${moment(from)} s, for ${duration(until - from)}${ranges.open[index] ? ", not ended" : ""}`]]}
        />
      </div>
      <div>
        <Around app={app} from={from} until={until} />
      </div>
    </div>
  );
}

const SAMPLES = ["CPU sample", "allocation", "wait for a lock", "wait of a task", "blocked thread", "stack"];

function Sample({ app, index }: Props) {
  const { samples } = app.model;
  const of = samples.of[index]!;
  const weight = of === Of.Heap ? bytes(samples.weight[index]!) : duration(samples.weight[index]!);
  const facts: (Fact | false)[] = [
    ["time", `${moment(samples.at[index]!)} s`],
    of !== Of.Stack && ["stands for", weight],
    ["thread", app.model.thread(samples.thread[index]!)],
    samples.task[index]! >= 0 && ["task", taskLink(app, samples.task[index]!)],
    samples.span[index]! >= 0 && ["span", spanLink(app, samples.span[index]!)],
  ];
  return (
    <div class="columns">
      <div>
        <Title kind={SAMPLES[of] ?? "sample"} name="" />
        <Facts facts={facts} />
      </div>
      <div>
        <Stack app={app} stack={samples.stack[index]!} />
      </div>
    </div>
  );
}

function Counter({ app, index, at }: Props & { at: number }) {
  const counter = app.model.counters[index]!;
  const place = Math.max(lowerBound((i) => counter.at[i]!, counter.at.length, at + 1) - 1, 0);
  const show = (value: number) =>
    counter.unit === 3 ? bytes(value) : counter.unit === 1 ? duration(value) : value.toLocaleString("en");
  return (
    <div>
      <Title kind="counter" name={counter.name} />
      <Facts
        facts={[
          [`at ${moment(at)} s`, show(counter.value[place]!)],
          ["least", show(counter.least)],
          ["most", show(counter.most)],
          ["values", count(counter.value.length)],
        ]}
      />
    </div>
  );
}

/** The stacks that were taken of a thread in this time. */
function Stacks({ app, from, until, thread }: { app: App; from: number; until: number; thread: number }) {
  const { samples } = app.model;
  const found: number[] = [];
  for (const of of [Of.Stack, Of.Blocked, Of.Cpu, Of.Lock]) {
    const [first, last] = app.model.samplesOf(of);
    let i = first + lowerBound((i) => samples.at[first + i]!, last - first, from);
    for (; i < last && samples.at[i]! <= until && found.length < 3; i++)
      if (
        samples.thread[i] === thread &&
        samples.stack[i]! > 0 &&
        !found.some((known) => samples.stack[known] === samples.stack[i])
      )
        found.push(i);
  }
  return (
    <>
      {found.map((i) => (
        <div key={i}>
          <h3>
            {SAMPLES[samples.of[i]!]} at {moment(samples.at[i]!)} s
          </h3>
          <Stack app={app} stack={samples.stack[i]!} />
        </div>
      ))}
    </>
  );
}

/** Logs and events in this time: of this thread or this span if they are given. */
function Around({ app, from, until, thread, span }: { app: App; from: number; until: number; thread?: number; span?: number }) {
  const { notes, spans } = app.model;
  const isInside = (note: number) => {
    for (let of = notes.span[note]!; of >= 0; of = spans.parent[of]!) if (of === span) return true;
    return false;
  };
  const found: number[] = [];
  let more = 0;
  for (let i = lowerBound((i) => notes.at[i]!, notes.count, from); i < notes.count && notes.at[i]! <= until; i++) {
    if ((thread !== undefined && notes.thread[i] !== thread) || (span !== undefined && !isInside(i))) continue;
    if (found.length < 30) found.push(i);
    else more++;
  }
  if (found.length === 0) return null;
  return (
    <>
      <h3>Logs and events</h3>
      <ul class="logs">
        {found.map((i) => (
          <LogLine key={i} app={app} index={i} />
        ))}
      </ul>
      {more > 0 && <p class="soft">… and {plural(more, "more line")}</p>}
    </>
  );
}

export function LogLine({ app, index }: Props) {
  const { model } = app;
  const { notes } = model;
  const level = notes.level[index]!;
  const isSelected = app.selected?.what === "note" && app.selected.index === index;
  return (
    <li class={`level${level}${isSelected ? " chosen" : ""}`}>
      <button
        onClick={() => {
          app.select({ what: "note", index }, true);
        }}
      >
        <span class="at">{moment(notes.at[index]!)}</span> <span class="level">{LEVELS[level]}</span>{" "}
        <span class="message">{model.text(notes.text[index]!) || model.site(notes.site[index]!)}</span>{" "}
        <span class="soft">{model.text(notes.fields[index]!)}</span>
      </button>
    </li>
  );
}
