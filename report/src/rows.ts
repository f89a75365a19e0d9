// What is below one another in the timeline.

import { Kind, lowerBound, type Model, Of, type SliceRow } from "./model";

/** Things of one row in their order, none of which overlap. */
export interface Series {
  what: "slice" | "span" | "range" | "wait" | "lock";
  start: Float64Array;
  end: Float64Array;
  /** The sums of the busy times of all before, from some place on. */
  busy: Float64Array;
  hue: Uint8Array;
  /** Which in the table; absent if they follow each other there, from `offset` on. */
  ref?: Int32Array;
  offset: number;
}

export interface Row {
  key: string;
  group: string;
  label: string;
  note: string;
  kind: "lanes" | "counter" | "notes" | "samples";
  lanes: Series[];
  /** The thread, for the strip that says whether it ran. */
  thread?: number;
  counter?: number;
  of?: Of;
  task?: number;
}

/** So many lanes a tree of spans has at most; what is inside of more shares the last. */
const DEEPEST = 40;
export const LANE = 17;
export const STRIP = 5;

export function height(row: Row): number {
  if (row.kind === "counter") return 34;
  if (row.kind !== "lanes") return 20;
  return Math.max(1, row.lanes.length) * LANE + (row.thread === undefined ? 3 : 3 + STRIP);
}

/** Hues below this have a meaning of their own. */
export const enum Hue {
  None,
  Parked,
  Merged,
  Waiting,
  Ready,
  Bad,
  Lock,
  First,
}
export const HUES = 12;

export function hueOf(text: string): number {
  let hash = 2166136261;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  return Hue.First + ((hash >>> 0) % HUES);
}

export class Rows {
  readonly all: Row[] = [];
  readonly byKey = new Map<string, Row>();
  /** By group, in their order. */
  readonly groups = new Map<string, Row[]>();
  private readonly sliceHues: Uint8Array;
  private readonly siteHues: Uint8Array;
  /** Of each span: its lane, as the place in `all`. */
  readonly rowOfSpan: Int32Array;
  /** Of each span: the outermost one around it. */
  private readonly roots: Int32Array;

  constructor(private readonly model: Model) {
    const { slices, spans } = model;
    this.siteHues = new Uint8Array(model.siteNames.length);
    for (let i = 0; i < this.siteHues.length; i++) this.siteHues[i] = hueOf(model.site(i));
    this.sliceHues = new Uint8Array(slices.count);
    this.rowOfSpan = new Int32Array(spans.count).fill(-1);
    this.roots = new Int32Array(spans.count);
    // A parent has a lower place than what is in it.
    for (let i = 0; i < spans.count; i++) this.roots[i] = spans.parent[i]! < 0 ? i : this.roots[spans.parent[i]!]!;
    this.colour("task");
    this.process();
    this.threads("Workers", true);
    this.requests();
    this.threads("Threads", false);
    this.samples();
    this.counters("Counters", false);
    this.counters("The process and its machine", true);
  }

  private add(row: Row) {
    this.all.push(row);
    this.byKey.set(row.key, row);
    const group = this.groups.get(row.group);
    if (group) group.push(row);
    else this.groups.set(row.group, [row]);
  }

  /** Colours polls by the name of their task, or of the outermost span that they are in. */
  colour(by: "task" | "span") {
    const { slices, spans } = this.model;
    for (let i = 0; i < slices.count; i++) {
      const kind = slices.kind[i];
      let hue = this.siteHues[slices.site[i]!]!;
      if (kind === Kind.Parked) hue = Hue.Parked;
      else if (kind === Kind.Merged && slices.site[i] === 0) hue = Hue.Merged;
      else if (by === "span" && kind === Kind.Poll) {
        const span = this.roots[slices.span[i]!];
        hue = span === undefined ? Hue.Merged : this.siteHues[spans.site[span]!]!;
      }
      this.sliceHues[i] = hue;
    }
  }

  private series(from: number, to: number): Series {
    const { start, end, busy } = this.model.slices;
    return {
      what: "slice",
      start: start.subarray(from, to),
      end: end.subarray(from, to),
      busy: busy.subarray(from, to + 1),
      hue: this.sliceHues.subarray(from, to),
      offset: from,
    };
  }

  private process() {
    const { model } = this;
    if (model.notes.count > 0)
      this.add({ key: "notes", group: "Process", label: "logs and events", note: "", kind: "notes", lanes: [] });
    const { ranges } = model;
    const order = Array.from({ length: ranges.count }, (_, i) => i).sort((a, b) => ranges.from[a]! - ranges.from[b]!);
    const lanes = pack(
      order,
      (i) => ranges.from[i]!,
      (i) => ranges.until[i]!,
      40,
    );
    if (ranges.count > 0) {
      const made = lanes.map((lane) =>
        listed(
          "range",
          lane,
          (i) => ranges.from[i]!,
          (i) => ranges.until[i]!,
          (i) => this.siteHues[ranges.site[i]!]!,
        ),
      );
      this.add({ key: "ranges", group: "Process", label: "ranges", note: "of the whole process", kind: "lanes", lanes: made });
    }
    const [from, to] = model.samplesOf(Of.Lock);
    if (to > from) {
      const { at, weight } = model.samples;
      const begin = (i: number) => at[i]! - weight[i]!;
      const waits = Array.from({ length: to - from }, (_, i) => from + i).sort((a, b) => begin(a) - begin(b));
      const lanes = pack(waits, begin, (i) => at[i]!, 24).map((lane) =>
        listed(
          "lock",
          lane,
          begin,
          (i) => at[i]!,
          () => Hue.Lock,
        ),
      );
      this.add({ key: "locks", group: "Process", label: "waits for locks", note: "", kind: "lanes", lanes });
    }
  }

  private threads(group: string, areWorkers: boolean) {
    const { model } = this;
    const threads = model.header.threads.map((thread, index) => ({ ...thread, index }));
    const wanted = threads.filter((thread) => (thread.worker !== null) === areWorkers);
    wanted.sort((a, b) => compare(a.worker ?? a.name, b.worker ?? b.name) || a.number - b.number);
    const has = new Set(model.times.thread);
    const rowsOf = new Map<number, SliceRow[]>();
    for (const row of model.sliceRows) {
      const known = rowsOf.get(row.thread);
      if (known) known.push(row);
      else rowsOf.set(row.thread, [row]);
    }
    for (const thread of wanted) {
      const rows = rowsOf.get(thread.index) ?? [];
      const polls = rows.filter((row) => !row.isRegion).map((row) => this.series(row.from, row.to));
      const regions = rows.filter((row) => row.isRegion).map((row) => this.series(row.from, row.to));
      if (polls.length + regions.length === 0 && !has.has(thread.index)) continue;
      const note = thread.worker ? `${thread.name}#${thread.number}` : thread.os ? `tid ${thread.os}` : "";
      const label = model.thread(thread.index);
      this.add({ key: `t${thread.number}`, group, label, note, kind: "lanes", lanes: polls, thread: thread.index });
      if (regions.length > 0)
        this.add({ key: `r${thread.number}`, group, label: "  regions", note: label, kind: "lanes", lanes: regions });
    }
  }

  /** Spans as trees: those of one outermost name share rows where they do not overlap. */
  private requests() {
    const { model } = this;
    const { spans } = model;
    const order = Array.from({ length: spans.count }, (_, i) => i).sort((a, b) => spans.began[a]! - spans.began[b]!);
    const root = this.roots;
    const trees = new Map<number, { spans: number[]; depth: number[]; ends: number[]; end: number }>();
    const depths = new Int32Array(spans.count);
    for (const span of order) {
      let tree = trees.get(root[span]!);
      if (!tree) trees.set(root[span]!, (tree = { spans: [], depth: [], ends: [], end: 0 }));
      let depth = spans.parent[span]! < 0 ? 0 : Math.min(depths[spans.parent[span]!]! + 1, DEEPEST);
      while ((tree.ends[depth] ?? -Infinity) > spans.began[span]! && depth < DEEPEST) depth++;
      depths[span] = depth;
      tree.ends[depth] = spans.end[span]!;
      tree.spans.push(span);
      tree.depth.push(depth);
      tree.end = Math.max(tree.end, spans.end[span]!);
    }
    const groups = new Map<string, { end: number; lists: number[][] }[]>();
    const counts = new Map<string, number>();
    for (const [first, tree] of trees) {
      const name = model.site(spans.site[first]!);
      let lanes = groups.get(name);
      if (!lanes) groups.set(name, (lanes = []));
      counts.set(name, (counts.get(name) ?? 0) + 1);
      const begin = spans.began[tree.spans[0]!]!;
      let lane = lanes.find((lane) => lane.end <= begin);
      if (!lane) {
        if (lanes.length < 500) lanes.push((lane = { end: 0, lists: [] }));
        else lane = lanes[lanes.length - 1]!;
      }
      lane.end = Math.max(lane.end, tree.end);
      tree.spans.forEach((span, i) => (lane.lists[tree.depth[i]!] ??= []).push(span));
    }
    for (const [name, lanes] of groups)
      lanes.forEach((lane, number) => {
        const made = Array.from(lane.lists, (list) =>
          listed(
            "span",
            list ?? [],
            (i) => spans.began[i]!,
            (i) => spans.end[i]!,
            (i) => this.spanHue(i),
          ),
        );
        for (const list of lane.lists) for (const span of list ?? []) this.rowOfSpan[span] = this.all.length;
        const group = `Spans: ${name}`;
        const label = number === 0 ? name : `  ${name} ${number + 1}`;
        this.add({
          key: `s${name}/${number}`,
          group,
          label,
          note: number === 0 ? `${counts.get(name)}` : "",
          kind: "lanes",
          lanes: made,
        });
      });
  }

  spanHue(span: number): number {
    return this.siteHues[this.model.spans.site[span]!]!;
  }

  private samples() {
    for (const [of, label] of [
      [Of.Cpu, "CPU samples"],
      [Of.Heap, "allocations"],
      [Of.Stack, "stacks taken"],
    ] as const) {
      const [from, to] = this.model.samplesOf(of);
      if (to > from) this.add({ key: `p${of}`, group: "Samples", label, note: `${to - from}`, kind: "samples", lanes: [], of });
    }
  }

  private counters(group: string, isOfMachine: boolean) {
    this.model.counters.forEach((counter, index) => {
      if (counter.isOfMachine === isOfMachine)
        this.add({ key: `c${counter.name}`, group, label: counter.name, note: "", kind: "counter", lanes: [], counter: index });
    });
  }

  /** A row of what a task did: made when it is asked for. */
  task(task: number): Row {
    const { model } = this;
    const id = model.tasks.id(task);
    const key = `task${id}`;
    const known = this.byKey.get(key);
    if (known) return known;
    const name = model.site(model.tasks.site[task]!);
    const row: Row = {
      key,
      group: "Tasks",
      label: `${id} ${name}`,
      note: model.place(model.tasks.site[task]!),
      kind: "lanes",
      lanes: [this.doing(task)],
      task,
    };
    this.byKey.set(key, row);
    return row;
  }

  /** Its polls, and between them when it waited and when it was ready. */
  doing(task: number): Series {
    const { slices, wakes, tasks } = this.model;
    const [start, end, hue, ref]: [number[], number[], number[], number[]] = [[], [], [], []];
    const put = (from: number, until: number, of: number, index: number) => {
      if (until > from || index >= 0) {
        start.push(from);
        end.push(until);
        hue.push(of);
        ref.push(index);
      }
    };
    const woken = this.model.wakesOf(task);
    let after = tasks.known[task] ? tasks.began[task]! : Math.max(this.model.from, tasks.began[task]!);
    let next = 0;
    const gap = (until: number) => {
      while (next < woken.length && wakes.at[woken[next]!]! < after) next++;
      const wake = next < woken.length ? wakes.at[woken[next]!]! : Infinity;
      put(after, Math.min(wake, until), Hue.Waiting, -1);
      if (wake < until) put(wake, until, Hue.Ready, -1);
    };
    for (const poll of this.model.polls(task)) {
      gap(slices.start[poll]!);
      put(slices.start[poll]!, slices.end[poll]!, this.sliceHues[poll]!, poll);
      after = Math.max(after, slices.end[poll]!);
      // What woke it meanwhile counts from when its poll was over.
      while (next < woken.length && wakes.at[woken[next]!]! < slices.start[poll]!) next++;
      if (next < woken.length && wakes.at[woken[next]!]! <= after) {
        const poll = this.model.pollAfter(task, after);
        const until = poll < 0 ? tasks.end[task]! : slices.start[poll]!;
        put(after, until, Hue.Ready, -1);
        after = until;
      }
    }
    gap(tasks.end[task]!);
    const [s, e] = [Float64Array.from(start), Float64Array.from(end)];
    const busy = new Float64Array(s.length + 1);
    for (let i = 0; i < s.length; i++) busy[i + 1] = busy[i]! + (ref[i]! >= 0 ? e[i]! - s[i]! : 0);
    return { what: "wait", start: s, end: e, busy, hue: Uint8Array.from(hue), ref: Int32Array.from(ref), offset: task };
  }
}

function compare(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

/** So that none of a list overlap; beyond `most` lists they may. */
function pack(order: number[], from: (i: number) => number, until: (i: number) => number, most: number): number[][] {
  const lanes: { end: number; list: number[] }[] = [];
  for (const i of order) {
    let lane = lanes.find((lane) => lane.end <= from(i));
    if (!lane) {
      if (lanes.length < most) lanes.push((lane = { end: 0, list: [] }));
      else lane = lanes[most - 1]!;
    }
    lane.end = Math.max(lane.end, until(i));
    lane.list.push(i);
  }
  return lanes.map((lane) => lane.list);
}

function listed(
  what: Series["what"],
  list: number[],
  from: (i: number) => number,
  until: (i: number) => number,
  hue: (i: number) => number,
): Series {
  const [start, end, hues] = [new Float64Array(list.length), new Float64Array(list.length), new Uint8Array(list.length)];
  const busy = new Float64Array(list.length + 1);
  list.forEach((i, place) => {
    start[place] = from(i);
    // If there was no room for another row, what is longer is cut.
    end[place] = until(i);
    hues[place] = hue(i);
    busy[place + 1] = busy[place]! + end[place]! - start[place]!;
  });
  return { what, start, end, busy, hue: hues, ref: Int32Array.from(list), offset: 0 };
}

/** What is at this time, or nearest to it within `slack`; -1 if nothing is. */
export function at(series: Series, time: number, slack: number): number {
  const { start, end } = series;
  const after = lowerBound((i) => start[i]!, start.length, time + 1e-9);
  let best = -1;
  let distance = slack;
  for (const i of [after - 1, after, after - 2]) {
    if (i < 0 || i >= start.length) continue;
    const away = Math.max(start[i]! - time, time - end[i]!, 0);
    if (away <= distance && (best < 0 || away < distance)) [best, distance] = [i, away];
  }
  return best;
}
