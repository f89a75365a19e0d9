// Samples added up by their stacks: a tree of functions, of all or of some time.

import { lowerBound, type Model, Of } from "./model";
import type { Rows } from "./rows";

export interface Node {
  /** The place in the table of functions; -1 for all. */
  of: number;
  weight: number;
  self: number;
  children: Map<number, Node>;
  /** In time order, the same function may follow itself again later. */
  list: Node[];
}

export type Order = "heavy" | "time";

export interface Profile {
  root: Node;
  samples: number;
  /** By function: what is in it alone, and with all that it called. */
  functions: Map<number, { self: number; total: number }>;
}

export const PROFILES: [Of, string, "time" | "bytes"][] = [
  [Of.Cpu, "CPU time", "time"],
  [Of.Await, "waiting tasks (off-CPU, by await chain)", "time"],
  [Of.Blocked, "blocked threads", "time"],
  [Of.Lock, "waits for locks", "time"],
  [Of.Heap, "allocations", "bytes"],
];

function node(of: number): Node {
  return { of, weight: 0, self: 0, children: new Map(), list: [] };
}

/** `of` what, in which time. With `around`, only stacks with this function: what called it, or what it called. */
export function profile(
  model: Model,
  rows: Rows,
  of: Of,
  [from, until]: [number, number],
  order: Order,
  around?: { of: number; side: "callers" | "callees" },
): Profile {
  const { samples } = model;
  const [first, last] = model.samplesOf(of);
  const begin = first + lowerBound((i) => samples.at[first + i]!, last - first, from);
  const root = node(-1);
  const functions = new Map<number, { self: number; total: number }>();
  let count = 0;
  const waits = of === Of.Await ? new Waits(model, rows) : null;
  for (let i = begin; i < last && samples.at[i]! <= until; i++) {
    const stack = samples.stack[i]!;
    const weight = waits ? waits.weight(samples.task[i]!, samples.at[i]!) : samples.weight[i]!;
    if (weight <= 0) continue;
    let path = model.frames(stack).reverse();
    if (path.length === 0) continue;
    count++;
    for (const frame of new Set(path)) {
      const known = functions.get(frame) ?? { self: 0, total: 0 };
      functions.set(frame, known);
      known.total += weight;
    }
    functions.get(path[path.length - 1]!)!.self += weight;
    if (around) {
      const place = path.lastIndexOf(around.of);
      if (place < 0) continue;
      path = around.side === "callers" ? path.slice(0, place + 1).reverse() : path.slice(place);
    }
    add(root, path, weight, order);
  }
  if (order === "heavy") sort(root);
  return { root, samples: count, functions };
}

function add(root: Node, path: number[], weight: number, order: Order) {
  let at = root;
  at.weight += weight;
  let isNew = false;
  for (const frame of path) {
    let next = order === "heavy" ? at.children.get(frame) : isNew ? undefined : at.list[at.list.length - 1];
    if (order === "time" && next?.of !== frame) next = undefined;
    if (!next) {
      next = node(frame);
      isNew = true;
      at.list.push(next);
      at.children.set(frame, next);
    }
    next.weight += weight;
    at = next;
  }
  at.self += weight;
}

function sort(root: Node) {
  const all = [root];
  for (let next = all.pop(); next; next = all.pop()) {
    next.list.sort((a, b) => b.weight - a.weight);
    // Not all at once: there may be more than a call has room for.
    for (const child of next.list) all.push(child);
  }
}

/** Each wait counts once, for as long as it was, however many generations ended meanwhile. */
class Waits {
  private readonly counted = new Set<string>();
  private readonly known = new Map<number, ReturnType<Rows["doing"]>>();

  constructor(
    private readonly model: Model,
    private readonly rows: Rows,
  ) {}

  weight(task: number, at: number): number {
    if (task < 0) return 0;
    let series = this.known.get(task);
    if (!series) this.known.set(task, (series = this.rows.doing(task)));
    const { start, end, ref } = series;
    const place = Math.max(lowerBound((i) => start[i]!, start.length, at + 1) - 1, 0);
    if (start.length === 0 || ref![place]! >= 0 || end[place]! < at) return 0;
    const key = `${task} ${start[place]}`;
    if (this.counted.has(key)) return 0;
    this.counted.add(key);
    return Math.min(end[place]!, this.model.until) - start[place]!;
  }
}
