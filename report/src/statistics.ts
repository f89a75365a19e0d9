// Numbers about a time: what ran in it, by name.

import { Kind, lowerBound, type Model } from "./model";

export interface Numbers {
  name: string;
  count: number;
  total: number;
  p50: number;
  p90: number;
  p99: number;
  most: number;
  /** The place of the longest. */
  longest: number;
}

class Lengths {
  count = 0;
  total = 0;
  longest = -1;
  private most = -1;
  private readonly lengths: number[] = [];

  add(length: number, index: number, times = 1) {
    this.count += times;
    this.total += length;
    if (times === 1) this.lengths.push(length);
    if (length > this.most) [this.most, this.longest] = [length, index];
  }

  numbers(name: string): Numbers {
    this.lengths.sort((a, b) => a - b);
    const at = (share: number) => this.lengths[Math.min(Math.floor(share * this.lengths.length), this.lengths.length - 1)] ?? 0;
    const { count, total, longest } = this;
    return { name, count, total, p50: at(0.5), p90: at(0.9), p99: at(0.99), most: Math.max(this.most, 0), longest };
  }
}

function named(all: Map<string, Lengths>): Numbers[] {
  return [...all].map(([name, lengths]) => lengths.numbers(name)).sort((a, b) => b.total - a.total);
}

function of(all: Map<string, Lengths>, name: string): Lengths {
  let known = all.get(name);
  if (!known) all.set(name, (known = new Lengths()));
  return known;
}

/** Polls or regions that overlap a time: how long within it, by name. */
export function slicesIn(model: Model, from: number, until: number, areRegions: boolean): Numbers[] {
  const { slices, sliceRows } = model;
  const all = new Map<string, Lengths>();
  const sites: (Lengths | undefined)[] = [];
  for (const row of sliceRows) {
    if (row.isRegion !== areRegions) continue;
    const first = row.from + lowerBound((i) => slices.end[row.from + i]!, row.to - row.from, from);
    for (let i = first; i < row.to && slices.start[i]! < until; i++) {
      if (slices.kind[i] === Kind.Parked) continue;
      const site = slices.site[i]!;
      const lengths = (sites[site] ??= of(all, model.site(site)));
      const length = Math.min(slices.end[i]!, until) - Math.max(slices.start[i]!, from);
      if (slices.kind[i] === Kind.Merged) lengths.add(slices.busy[i + 1]! - slices.busy[i]!, i, slices.number[i]!);
      else lengths.add(length, i);
    }
  }
  return named(all);
}

/** Spans that overlap a time, by name: their whole lengths. */
export function spansIn(model: Model, from: number, until: number): Numbers[] {
  const { spans } = model;
  const all = new Map<string, Lengths>();
  for (let i = 0; i < spans.count; i++)
    if (spans.began[i]! < until && spans.end[i]! >= from)
      of(all, model.site(spans.site[i]!)).add(spans.end[i]! - spans.began[i]!, i);
  return named(all);
}

/** How long each thread was busy in a time. */
export function threadsIn(model: Model, from: number, until: number): { thread: number; busy: number; polls: number }[] {
  const { slices, sliceRows } = model;
  const all = [];
  for (const row of sliceRows) {
    if (row.isRegion || row.depth > 0) continue;
    let [busy, polls] = [0, 0];
    const first = row.from + lowerBound((i) => slices.end[row.from + i]!, row.to - row.from, from);
    for (let i = first; i < row.to && slices.start[i]! < until; i++) {
      if (slices.kind[i] === Kind.Parked) continue;
      const length = slices.end[i]! - slices.start[i]!;
      const inside = Math.min(slices.end[i]!, until) - Math.max(slices.start[i]!, from);
      busy += length > 0 ? ((slices.busy[i + 1]! - slices.busy[i]!) * inside) / length : 0;
      polls += slices.number[i]!;
    }
    all.push({ thread: row.thread, busy, polls });
  }
  return all.sort((a, b) => b.busy - a.busy);
}
