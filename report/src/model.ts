// The data as tables, with what links them.

import type { Column, Data } from "./decode";
import type { Header } from "./schema";

export const enum Kind {
  Poll,
  Parked,
  Region,
  Merged,
}
export const enum How {
  Ended,
  Pending,
  Ready,
  Panicked,
  Open,
  Unknown,
}
export const enum Of {
  Cpu,
  Heap,
  Lock,
  Await,
  Blocked,
  Stack,
}

/** Something that can be chosen: a kind of thing, and its place in its table. */
export interface Item {
  what: "slice" | "span" | "task" | "note" | "range" | "sample" | "wait" | "counter";
  index: number;
  /** Of a wait of a task: which. */
  from?: number;
  until?: number;
}

export interface Slices {
  count: number;
  thread: Column;
  row: Column;
  start: Column;
  end: Float64Array;
  kind: Uint8Array;
  how: Uint8Array;
  site: Column;
  /** Places in the tables of tasks and spans, or -1. */
  task: Int32Array;
  span: Int32Array;
  number: Column;
  /** The sums of the busy times of all before. */
  busy: Float64Array;
}

export interface Things {
  count: number;
  id: (index: number) => string;
  site: Column;
  fields: Column;
  parent: Int32Array;
  known: Column;
  began: Column;
  end: Float64Array;
  how: Column;
  byId: Map<string, number>;
}

export interface Counter {
  name: string;
  unit: number;
  isOfMachine: boolean;
  at: Float64Array;
  value: Float64Array;
  least: number;
  most: number;
}

/** Where the slices of a thread at one depth are. */
export interface SliceRow {
  thread: number;
  isRegion: boolean;
  depth: number;
  from: number;
  to: number;
}

export class Model {
  readonly header: Header;
  readonly texts: string[];
  readonly slices: Slices;
  readonly sliceRows: SliceRow[] = [];
  readonly tasks: Things;
  readonly spans: Things;
  readonly wakes: { count: number; at: Column; thread: Column; by: Int32Array; task: Int32Array; spawn: Column };
  readonly notes: {
    count: number;
    at: Column;
    thread: Column;
    task: Int32Array;
    span: Int32Array;
    level: Column;
    site: Column;
    text: Column;
    fields: Column;
  };
  readonly samples: {
    count: number;
    of: Column;
    at: Column;
    thread: Column;
    task: Int32Array;
    span: Int32Array;
    stack: Column;
    weight: Column;
  };
  readonly functions: { name: Column; place: Column; foreign: Column };
  readonly stacks: { from: Float64Array; functions: Column };
  readonly counters: Counter[] = [];
  readonly ranges: { count: number; site: Column; from: Column; until: Column; open: Column };
  readonly times: { count: number; thread: Column; at: Column; time: Column; ran: Column; waited: Column };
  /** The whole time. */
  readonly from: number;
  readonly until: number;
  readonly siteNames: Column;
  readonly sitePlaces: Column;
  private readonly byTask = new Map<string, Index>();

  constructor({ header, columns }: Data) {
    this.header = header;
    this.texts = header.texts;
    const get = (name: string): Column => {
      const column = columns.get(name);
      if (!column) throw new Error(`the data has no column ${name}`);
      return column;
    };
    this.siteNames = get("sites.name");
    this.sitePlaces = get("sites.place");
    const [tasks, taskPlaces] = things("tasks", get, header.end);
    const [spans, spanPlaces] = things("spans", get, header.end);
    this.tasks = tasks;
    this.spans = spans;
    const refer = (column: Column, place: PlaceOf) => {
      const refs = new Int32Array(column.length);
      for (let i = 0; i < refs.length; i++) refs[i] = place(column[i]!);
      return refs;
    };
    this.slices = slices(get, refer, taskPlaces, spanPlaces);
    this.findRows();
    const at = get("wakes.at");
    this.wakes = {
      count: at.length,
      at,
      thread: get("wakes.thread"),
      by: refer(get("wakes.by"), taskPlaces),
      task: refer(get("wakes.task"), taskPlaces),
      spawn: get("wakes.spawn"),
    };
    const notes = get("notes.at");
    this.notes = {
      count: notes.length,
      at: notes,
      thread: get("notes.thread"),
      task: refer(get("notes.task"), taskPlaces),
      span: refer(get("notes.span"), spanPlaces),
      level: get("notes.level"),
      site: get("notes.site"),
      text: get("notes.text"),
      fields: get("notes.fields"),
    };
    const samples = get("samples.at");
    this.samples = {
      count: samples.length,
      of: get("samples.of"),
      at: samples,
      thread: get("samples.thread"),
      task: refer(get("samples.task"), taskPlaces),
      span: refer(get("samples.span"), spanPlaces),
      stack: get("samples.stack"),
      weight: get("samples.weight"),
    };
    this.functions = { name: get("functions.name"), place: get("functions.place"), foreign: get("functions.foreign") };
    const lengths = get("stacks.length");
    const from = new Float64Array(lengths.length + 1);
    for (let i = 0; i < lengths.length; i++) from[i + 1] = from[i]! + lengths[i]!;
    this.stacks = { from, functions: get("stacks.functions") };
    this.findCounters(get);
    const ranges = get("ranges.from");
    this.ranges = {
      count: ranges.length,
      site: get("ranges.site"),
      from: ranges,
      until: get("ranges.until"),
      open: get("ranges.open"),
    };
    const times = get("times.at");
    this.times = {
      count: times.length,
      thread: get("times.thread"),
      at: times,
      time: get("times.time"),
      ran: get("times.ran"),
      waited: get("times.waited"),
    };
    const first = header.generations[0];
    this.from = Math.min(0, first?.from ?? 0);
    this.until = Math.max(header.end, this.from + 1000);
  }

  private findRows() {
    const { count, thread, row } = this.slices;
    for (let from = 0; from < count;) {
      const [of, at] = [thread[from]!, row[from]!];
      let to = from + 1;
      while (to < count && thread[to] === of && row[to] === at) to++;
      this.sliceRows.push({ thread: of, isRegion: at % 2 === 1, depth: at >> 1, from, to });
      from = to;
    }
  }

  private findCounters(get: (name: string) => Column) {
    const [names, units, machine, counts] = ["name", "unit", "machine", "count"].map((name) => get(`counters.${name}`));
    const [at, value] = [get("values.at"), get("values.value")];
    let from = 0;
    for (let i = 0; i < names!.length; i++) {
      const to = from + counts![i]!;
      const values = value!.subarray(from, to);
      this.counters.push({
        name: this.text(names![i]!),
        unit: units![i]!,
        isOfMachine: machine![i] === 1,
        at: at!.subarray(from, to),
        value: values,
        least: values.reduce((least, value) => Math.min(least, value), Infinity),
        most: values.reduce((most, value) => Math.max(most, value), -Infinity),
      });
      from = to;
    }
  }

  text(number: number): string {
    return this.texts[number] ?? "";
  }

  site(number: number): string {
    return this.text(this.siteNames[number] ?? 0) || "?";
  }

  place(number: number): string {
    return this.text(this.sitePlaces[number] ?? 0);
  }

  thread(index: number): string {
    const thread = this.header.threads[index];
    if (!thread) return "?";
    if (thread.worker) return thread.worker;
    return thread.name ? `${thread.name}#${thread.number}` : thread.number ? `thread ${thread.number}` : "unknown thread";
  }

  /** Which slices are polls of a task, in their order. */
  polls(task: number): Int32Array {
    return this.index("polls", () => index(this.slices.task, this.tasks.count, this.slices.start, this.slices.kind)).of(task);
  }

  /** Which wakes are of a task. */
  wakesOf(task: number): Int32Array {
    return this.index("wakes", () => index(this.wakes.task, this.tasks.count)).of(task);
  }

  wakesBy(task: number): Int32Array {
    return this.index("by", () => index(this.wakes.by, this.tasks.count)).of(task);
  }

  pollsIn(span: number): Int32Array {
    return this.index("spans", () => index(this.slices.span, this.spans.count, this.slices.start)).of(span);
  }

  children(span: number): Int32Array {
    return this.index("children", () => index(this.spans.parent, this.spans.count)).of(span);
  }

  private index(name: string, make: () => Index): Index {
    let known = this.byTask.get(name);
    if (!known) this.byTask.set(name, (known = make()));
    return known;
  }

  /** The poll that begins next, from then on; -1 if there is none. */
  pollAfter(task: number, at: number): number {
    const polls = this.polls(task);
    const place = lowerBound((i) => this.slices.start[polls[i]!]!, polls.length, at);
    return polls[place] ?? -1;
  }

  /** Where in `times` a thread is. */
  timesOf(thread: number): Int32Array {
    return this.index("times", () => index(Int32Array.from(this.times.thread), this.header.threads.length)).of(thread);
  }

  /** Which samples say that a thread was blocked. */
  blockedOf(thread: number): Int32Array {
    const { of, thread: threads } = this.samples;
    const blocked = () => Int32Array.from(threads, (thread, i) => (of[i] === Of.Blocked ? thread : -1));
    return this.index("blocked", () => index(blocked(), this.header.threads.length)).of(thread);
  }

  /** The frames of a stack, innermost first. */
  frames(stack: number): number[] {
    if (stack === 0) return [];
    const frames = [];
    for (let i = this.stacks.from[stack - 1]!; i < this.stacks.from[stack]!; i++) frames.push(this.stacks.functions[i]!);
    return frames;
  }

  functionName(index: number): string {
    return this.text(this.functions.name[index] ?? 0);
  }

  functionPlace(index: number): string {
    return this.text(this.functions.place[index] ?? 0);
  }

  /** The samples of a kind follow each other, in their order. */
  samplesOf(of: Of): [number, number] {
    const column = this.samples.of;
    return [lowerBound((i) => column[i]!, column.length, of), lowerBound((i) => column[i]!, column.length, of + 1)];
  }
}

/** The first place whose value is not less. */
export function lowerBound(value: (index: number) => number, count: number, than: number): number {
  let [low, high] = [0, count];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value(middle) < than) low = middle + 1;
    else high = middle;
  }
  return low;
}

export interface Index {
  of: (key: number) => Int32Array;
}

/** Which places have each key, sorted by `by` if it is given. */
function index(keys: Int32Array, count: number, by?: Column, kinds?: Uint8Array): Index {
  const begin = new Int32Array(count + 2);
  const isIn = (i: number) => keys[i]! >= 0 && (!kinds || kinds[i] === Kind.Poll);
  for (let i = 0; i < keys.length; i++) if (isIn(i)) begin[keys[i]! + 2]!++;
  for (let i = 1; i < begin.length; i++) begin[i]! += begin[i - 1]!;
  const order = new Int32Array(begin[count + 1]!);
  for (let i = 0; i < keys.length; i++) if (isIn(i)) order[begin[keys[i]! + 1]!++] = i;
  if (by)
    for (let key = 0; key < count; key++) {
      const part = order.subarray(begin[key]!, begin[key + 1]!);
      let isSorted = true;
      for (let i = 1; i < part.length && isSorted; i++) isSorted = by[part[i - 1]!]! <= by[part[i]!]!;
      if (!isSorted) part.sort((a, b) => by[a]! - by[b]!);
    }
  return { of: (key) => (key < 0 ? new Int32Array(0) : order.subarray(begin[key]!, begin[key + 1]!)) };
}

/** Where in its table the task or span with a number is; -1 if it is not there. */
type PlaceOf = (number: number) => number;

/** A table by number has room for so many; a long recording has had more. */
const MOST_NUMBERS = 4_000_000;

function placesOf(numbers: Column): PlaceOf {
  const last = numbers.length > 0 ? numbers[numbers.length - 1]! : 0;
  if (last > MOST_NUMBERS)
    return (number) => {
      const place = lowerBound((i) => numbers[i]!, numbers.length, number);
      return numbers[place] === number ? place : -1;
    };
  const places = new Int32Array(last + 1).fill(-1);
  for (let i = 0; i < numbers.length; i++) places[numbers[i]!] = i;
  return (number) => places[number] ?? -1;
}

function things(name: string, get: (name: string) => Column, until: number): [Things, PlaceOf] {
  const column = (what: string) => get(`${name}.${what}`);
  const number = column("number");
  const place = placesOf(number);
  const [index, incarnation] = [column("index"), column("incarnation")];
  const id = (i: number) => (incarnation[i]! > 1 ? `${index[i]}.${incarnation[i]}` : `${index[i]}`);
  const parents = column("parent");
  const parent = new Int32Array(parents.length);
  const [began, length, how] = [column("began"), column("length"), column("how")];
  const end = new Float64Array(number.length);
  const byId = new Map<string, number>();
  for (let i = 0; i < number.length; i++) {
    parent[i] = place(parents[i]!);
    end[i] = how[i] === How.Open ? until : began[i]! + length[i]!;
    byId.set(id(i), i);
  }
  const all = {
    count: number.length,
    id,
    site: column("site"),
    fields: column("fields"),
    parent,
    known: column("known"),
    began,
    end,
    how,
    byId,
  };
  return [all, place];
}

function slices(
  get: (name: string) => Column,
  refer: (column: Column, place: PlaceOf) => Int32Array,
  tasks: PlaceOf,
  spans: PlaceOf,
): Slices {
  const [start, length, idle, both] = ["start", "length", "idle", "kind"].map((name) => get(`slices.${name}`));
  const count = start!.length;
  const [end, busy] = [new Float64Array(count), new Float64Array(count + 1)];
  const [kind, how] = [new Uint8Array(count), new Uint8Array(count)];
  for (let i = 0; i < count; i++) {
    end[i] = start![i]! + length![i]!;
    kind[i] = both![i]! & 7;
    how[i] = both![i]! >> 3;
    const isBusy = kind[i] !== Kind.Parked;
    busy[i + 1] = busy[i]! + (isBusy ? length![i]! - idle![i]! : 0);
  }
  return {
    count,
    thread: get("slices.thread"),
    row: get("slices.row"),
    start: start!,
    end,
    kind,
    how,
    site: get("slices.site"),
    task: refer(get("slices.task"), tasks),
    span: refer(get("slices.span"), spans),
    number: get("slices.count"),
    busy,
  };
}
