// What is shown: everything that the reader has chosen. The canvas and the panels follow it.

import { layout } from "./layout";
import { type Item, lowerBound, type Model } from "./model";
import { at, Rows, type Row } from "./rows";
import type { Evidence, Finding } from "./schema";

export type Tab = "details" | "selection" | "why" | "flame" | "spans" | "tasks" | "logs" | "about";
export const TABS: [Tab, string][] = [
  ["details", "Details"],
  ["selection", "Selection"],
  ["why", "Why"],
  ["flame", "Flame graphs"],
  ["spans", "Spans"],
  ["tasks", "Tasks"],
  ["logs", "Logs"],
  ["about", "About"],
];

export interface Hit {
  at: number;
  until: number;
  item: Item;
  words: string;
}

/** The shortest time that is shown, in nanoseconds, and as a part of the whole: moments closer to each other may be one number. */
const SHORTEST = 200;
const SHORTEST_PART = 1e-12;
/** So many marks are read from a link. */
const MOST_MARKS = 100;

export class App {
  readonly rows: Rows;
  from: number;
  until: number;
  selected: Item | null = null;
  /** The place in `model.header.summary.findings` of the one that is shown. */
  finding = -1;
  range: [number, number] | null = null;
  /** Stretches that are shown over all rows: of a finding, or of the path of a span. */
  stretches: { from: number; until: number; state: string }[] = [];
  marks: number[] = [];
  pins: string[] = [];
  collapsed = new Set<string>();
  filter = "";
  query = "";
  hits: Hit[] = [];
  hit = -1;
  tab: Tab = "details";
  colourBy: "task" | "span" = "task";
  theme: "auto" | "light" | "dark" = "auto";
  isHelpShown = false;
  /** Brings this row into view, once. */
  reveal: string | null = null;
  /** Where the pointer is in time; null outside. */
  pointer: number | null = null;
  hovered: Item | null = null;
  private readonly drawn = new Set<() => void>();
  private readonly told = new Set<() => void>();
  private isWaiting = false;
  private timer = 0;

  constructor(readonly model: Model) {
    this.rows = new Rows(model);
    this.from = model.from;
    this.until = model.until;
    this.all();
    // Many rows of one kind would hide the others.
    for (const [group, rows] of this.rows.groups)
      if (rows.length > 60 || group.startsWith("The process")) this.collapsed.add(group);
  }

  onDraw(then: () => void) {
    this.drawn.add(then);
  }

  onTold(then: () => void): () => void {
    this.told.add(then);
    return () => this.told.delete(then);
  }

  /** Draws soon; tells the panels if more than the view has changed, else when it stands still. */
  changed(isMore = true) {
    if (!this.isWaiting) {
      this.isWaiting = true;
      requestAnimationFrame(() => {
        this.isWaiting = false;
        this.drawn.forEach((then) => then());
      });
    }
    clearTimeout(this.timer);
    if (isMore) this.told.forEach((then) => then());
    this.timer = setTimeout(() => {
      if (!isMore) this.told.forEach((then) => then());
      this.writeHash();
    }, 120);
  }

  show(from: number, until: number, isMore = false) {
    const { model } = this;
    const margin = (model.until - model.from) * 0.02;
    const [least, most] = [model.from - margin, model.until + margin];
    const length = Math.min(Math.max(until - from, SHORTEST, (most - least) * SHORTEST_PART), most - least);
    const middle = (from + until) / 2;
    this.from = Math.min(Math.max(middle - length / 2, least), most - length);
    this.until = this.from + length;
    this.changed(isMore);
  }

  all() {
    const margin = (this.model.until - this.model.from) * 0.01;
    this.show(this.model.from - margin, this.model.until + margin);
  }

  zoom(factor: number, at = (this.from + this.until) / 2) {
    const length = Math.max((this.until - this.from) * factor, SHORTEST);
    const share = (at - this.from) / (this.until - this.from);
    this.show(at - length * share, at + length * (1 - share));
  }

  pan(share: number) {
    const by = (this.until - this.from) * share;
    this.show(this.from + by, this.until + by);
  }

  select(item: Item | null, isShown = false) {
    this.selected = item;
    if (item) this.tab = "details";
    if (item && isShown) this.goTo(item);
    this.changed();
  }

  /** Brings it into view. */
  goTo(item: Item) {
    const [from, until] = this.times(item);
    const length = this.until - this.from;
    if (until < this.from || from > this.until || until - from < length / 400 || until - from > length) {
      const around = Math.max((until - from) * 4, Math.min(length, 50_000_000), 20_000);
      const middle = (from + until) / 2;
      this.show(middle - around / 2, middle + around / 2, true);
    }
    const row = this.rowOf(item);
    if (row) {
      this.collapsed.delete(row.group);
      this.reveal = row.key;
    }
  }

  times(item: Item): [number, number] {
    const { slices, spans, tasks, notes, ranges, samples } = this.model;
    const i = item.index;
    switch (item.what) {
      case "slice":
        return [slices.start[i]!, slices.end[i]!];
      case "span":
        return [spans.began[i]!, spans.end[i]!];
      case "task":
        return [tasks.known[i] ? tasks.began[i]! : this.model.from, tasks.end[i]!];
      case "note":
        return [notes.at[i]!, notes.at[i]!];
      case "range":
        return [ranges.from[i]!, ranges.until[i]!];
      case "sample":
        return [samples.at[i]!, samples.at[i]!];
      default:
        return [item.from ?? 0, item.until ?? 0];
    }
  }

  rowOf(item: Item): Row | undefined {
    const { byKey, all, rowOfSpan } = this.rows;
    const key = (thread: number) => byKey.get(`t${this.model.header.threads[thread]?.number}`);
    switch (item.what) {
      case "slice": {
        const thread = this.model.slices.thread[item.index]!;
        const isRegion = this.model.slices.row[item.index]! % 2 === 1;
        return isRegion ? byKey.get(`r${this.model.header.threads[thread]?.number}`) : key(thread);
      }
      case "span":
        return all[rowOfSpan[item.index]!];
      case "note":
        return byKey.get("notes");
      case "range":
        return byKey.get("ranges");
      case "task":
      case "wait":
        return byKey.get(`task${this.model.tasks.id(item.index)}`);
      default:
        return undefined;
    }
  }

  pin(key: string) {
    this.pins = this.pins.includes(key) ? this.pins.filter((known) => known !== key) : [...this.pins, key];
    this.changed();
  }

  pinTask(task: number) {
    const { key } = this.rows.task(task);
    if (!this.pins.includes(key)) this.pin(key);
    this.reveal = key;
    this.changed();
  }

  unfold(group: string) {
    if (!this.collapsed.delete(group)) this.collapsed.add(group);
    this.changed();
  }

  /** Jumps to where something stood out: its tracks are pinned, its time is selected. */
  jump(finding: Finding | null, evidence: Evidence) {
    const { model } = this;
    this.finding = finding ? model.header.summary.findings.indexOf(finding) : -1;
    const all = finding && finding.evidence[0] === evidence ? finding.evidence : [evidence];
    let [from, until] = [evidence.t_ns, evidence.until_ns ?? evidence.t_ns];
    const item = this.found(evidence);
    if (evidence.until_ns === null && item?.what === "slice") [from, until] = this.times(item);
    if (until === from) {
      // A moment: some of what is around it is of interest.
      from -= 2_000_000;
      until += 2_000_000;
    }
    const keys = new Set<string>();
    for (const one of all.slice(0, 8)) {
      for (const key of [`t${one.thread}`, `r${one.thread}`]) if (this.rows.byKey.has(key)) keys.add(key);
      const span = one.span === null ? undefined : model.spans.byId.get(one.span);
      if (span !== undefined) {
        const row = this.rows.all[this.rows.rowOfSpan[span]!];
        if (row) keys.add(row.key);
      }
      const task = one.task === null ? undefined : model.tasks.byId.get(one.task);
      if (task !== undefined) keys.add(this.rows.task(task).key);
    }
    this.pins = [...keys];
    this.range = [from, until];
    this.stretches = [];
    const length = Math.max(until - from, 1000);
    this.selected = item;
    this.tab = "details";
    this.reveal = this.pins[0] ?? null;
    this.show(from - length * 0.35, until + length * 0.35, true);
  }

  /** What the evidence is about: the poll, the span or the task. */
  private found({ t_ns, thread, task, span }: Evidence): Item | null {
    const { slices, tasks, spans } = this.model;
    const place = task === null ? undefined : tasks.byId.get(task);
    if (place !== undefined) {
      const polls = this.model.polls(place);
      const next = lowerBound((i) => slices.end[polls[i]!]!, polls.length, t_ns);
      const poll = polls[next];
      if (poll !== undefined && slices.start[poll]! <= t_ns + 1000) {
        if (thread === null || this.model.header.threads[slices.thread[poll]!]?.number === thread)
          return { what: "slice", index: poll };
      }
    }
    const inside = span === null ? undefined : spans.byId.get(span);
    if (inside !== undefined) return { what: "span", index: inside };
    return place === undefined ? null : { what: "task", index: place };
  }

  search(query: string) {
    this.query = query;
    this.hits = query.trim().length < 2 ? [] : found(this.model, query.trim());
    this.hit = -1;
    this.changed();
  }

  /** The next or the previous of what was found, beginning with what is in view. */
  next(step: 1 | -1) {
    const { hits } = this;
    if (hits.length === 0) return;
    if (this.hit < 0) {
      const first = lowerBound((i) => hits[i]!.at, hits.length, this.from);
      this.hit = step === 1 ? first % hits.length : (first - 1 + hits.length) % hits.length;
    } else this.hit = (this.hit + step + hits.length) % hits.length;
    this.select(hits[this.hit]!.item, true);
  }

  /** The neighbour of what is selected, in its row. */
  neighbour(step: 1 | -1) {
    const item = this.selected;
    if (!item) return;
    const row = this.rowOf(item);
    if (item.what === "note") {
      const index = item.index + step;
      if (index >= 0 && index < this.model.notes.count) this.select({ what: "note", index }, true);
      return;
    }
    for (const series of row?.lanes ?? []) {
      const place = series.ref ? series.ref.indexOf(item.index) : item.index - series.offset;
      if (place < 0 || place >= series.start.length) continue;
      const next = place + step;
      if (next < 0 || next >= series.start.length) return;
      const index = series.ref ? series.ref[next]! : series.offset + next;
      if (series.what !== "wait" && series.what !== "lock") this.select({ what: series.what, index }, true);
      return;
    }
  }

  /** What is in the row above or below, at the time of what is selected, or in the middle of what is shown. */
  vertical(step: 1 | -1) {
    const rows = layout(this)
      .entries.map(({ row }) => row)
      .filter((row) => row !== undefined && row.lanes.length > 0);
    const now = this.selected ? this.rowOf(this.selected) : undefined;
    const [from, until] = this.selected ? this.times(this.selected) : [this.from, this.until];
    const middle = (Math.max(from, this.from) + Math.min(until, this.until)) / 2;
    let place = now ? rows.indexOf(now) : step === 1 ? -1 : rows.length;
    for (place += step; place >= 0 && place < rows.length; place += step) {
      const series = rows[place]!.lanes[0]!;
      if (series.what === "wait" || series.what === "lock") continue;
      const found = at(series, middle, (this.until - this.from) / 2);
      if (found < 0) continue;
      this.selected = { what: series.what, index: series.ref ? series.ref[found]! : series.offset + found };
      this.tab = "details";
      this.reveal = rows[place]!.key;
      this.changed();
      return;
    }
  }

  /** From a poll to the one whose wake led to it, or to the next one that it led to. */
  follow(to: "cause" | "effect") {
    const poll = this.selected;
    if (poll?.what !== "slice") return;
    const wake = to === "cause" ? this.wakeOf(poll.index) : (this.wakesIn(poll.index)[0] ?? -1);
    if (wake < 0) return;
    const { wakes } = this.model;
    const index =
      to === "cause"
        ? this.pollAt(wakes.thread[wake]!, wakes.at[wake]!)
        : this.model.pollAfter(wakes.task[wake]!, wakes.at[wake]!);
    if (index >= 0) this.select({ what: "slice", index }, true);
  }

  /** The wake that led to a poll; -1 if it is not known. */
  wakeOf(poll: number): number {
    const { slices, wakes } = this.model;
    const task = slices.task[poll]!;
    const polls = this.model.polls(task);
    const place = lowerBound((i) => slices.start[polls[i]!]!, polls.length, slices.start[poll]!);
    const before = place > 0 ? slices.start[polls[place - 1]!]! : -Infinity;
    const all = this.model.wakesOf(task);
    const first = lowerBound((i) => wakes.at[all[i]!]!, all.length, before + 1);
    const wake = all[first];
    return wake !== undefined && wakes.at[wake]! <= slices.start[poll]! ? wake : -1;
  }

  /** The wakes and spawns that happened in a poll. */
  wakesIn(poll: number): number[] {
    const { slices, wakes } = this.model;
    const found = [];
    const by = this.model.wakesBy(slices.task[poll]!);
    const first = lowerBound((i) => wakes.at[by[i]!]!, by.length, slices.start[poll]!);
    for (let i = first; i < by.length && wakes.at[by[i]!]! <= slices.end[poll]! && found.length < 1000; i++) found.push(by[i]!);
    return found;
  }

  /** The innermost poll of a thread at a moment; -1 if there is none. */
  pollAt(thread: number, moment: number): number {
    const { slices, sliceRows } = this.model;
    let found = -1;
    for (const row of sliceRows) {
      if (row.thread !== thread || row.isRegion) continue;
      const after = row.from + lowerBound((i) => slices.start[row.from + i]!, row.to - row.from, moment + 1e-9);
      if (after > row.from && slices.end[after - 1]! >= moment && slices.kind[after - 1] === 0) found = after - 1;
    }
    return found;
  }

  mark(at: number) {
    const near = (this.until - this.from) / 100;
    const known = this.marks.find((mark) => Math.abs(mark - at) < near);
    this.marks = known === undefined ? [...this.marks, at].sort((a, b) => a - b) : this.marks.filter((mark) => mark !== known);
    this.changed();
  }

  private writeHash() {
    const parts = [`t=${Math.round(this.from)}~${Math.round(this.until)}`];
    const { selected } = this;
    if (selected && selected.from === undefined) parts.push(`s=${selected.what}~${selected.index}`);
    if (this.range) parts.push(`r=${this.range.map(Math.round).join("~")}`);
    if (this.pins.length > 0) parts.push(`p=${this.pins.map(encodeURIComponent).join("~")}`);
    if (this.marks.length > 0) parts.push(`m=${this.marks.map(Math.round).join("~")}`);
    if (this.tab !== "details") parts.push(`b=${this.tab}`);
    if (this.query) parts.push(`q=${encodeURIComponent(this.query)}`);
    if (this.filter) parts.push(`f=${encodeURIComponent(this.filter)}`);
    if (this.finding >= 0) parts.push(`n=${this.finding}`);
    const hash = `#${parts.join("&")}`;
    if (hash !== location.hash) history.replaceState(null, "", hash);
  }

  /** Restores what a link says; what it does not say stays. */
  readHash() {
    const given = new Map(
      location.hash
        .slice(1)
        .split("&")
        .map((part) => {
          const [name = "", value = ""] = [part.slice(0, 1), part.slice(2)];
          return [name, value.split("~")] as const;
        }),
    );
    const text = (name: string) => {
      try {
        return decodeURIComponent(given.get(name)?.[0] ?? "");
      } catch {
        return "";
      }
    };
    const pair = (name: string): [number, number] | null => {
      const [from, until] = (given.get(name) ?? []).map(Number);
      return Number.isFinite(from) && Number.isFinite(until) && from! < until! ? [from!, until!] : null;
    };
    for (const key of given.get("p") ?? []) {
      let name = "";
      try {
        name = decodeURIComponent(key);
      } catch {
        continue;
      }
      if (name.startsWith("task")) {
        const task = this.model.tasks.byId.get(name.slice(4));
        if (task !== undefined) this.rows.task(task);
      }
      if (this.rows.byKey.has(name) && !this.pins.includes(name)) this.pins.push(name);
    }
    this.range = pair("r");
    this.marks = (given.get("m") ?? [])
      .slice(0, MOST_MARKS)
      .map(Number)
      .filter((mark) => Number.isFinite(mark) && mark !== 0);
    const [what, index] = given.get("s") ?? [];
    const counts: Partial<Record<string, number>> = {
      slice: this.model.slices.count,
      span: this.model.spans.count,
      task: this.model.tasks.count,
      note: this.model.notes.count,
      range: this.model.ranges.count,
    };
    const place = Number(index);
    if (what && Number.isInteger(place) && place >= 0 && place < (counts[what] ?? 0))
      this.selected = { what: what as Item["what"], index: place };
    const tab = TABS.find(([tab]) => tab === text("b"));
    if (tab) this.tab = tab[0];
    this.filter = text("f");
    if (text("q")) this.search(text("q"));
    const finding = Number(text("n") || "-1");
    if (Number.isInteger(finding) && finding < this.model.header.summary.findings.length) this.finding = finding;
    const shown = pair("t");
    if (shown) this.show(shown[0], shown[1], true);
    else this.changed();
  }
}

/** Everything whose name, field or message has this in it, in the order of time. */
function found(model: Model, query: string): Hit[] {
  const lower = query.toLowerCase();
  const has = model.texts.map((text) => text.toLowerCase().includes(lower));
  const sites = new Uint8Array(model.siteNames.length);
  for (let i = 0; i < sites.length; i++) sites[i] = has[model.siteNames[i]!] ? 1 : 0;
  const hits: Hit[] = [];
  const most = 200_000;
  const { slices, spans, notes, tasks, ranges } = model;
  for (let i = 0; i < spans.count && hits.length < most; i++)
    if (sites[spans.site[i]!] || has[spans.fields[i]!] || spans.id(i) === query)
      hits.push({
        at: spans.began[i]!,
        until: spans.end[i]!,
        item: { what: "span", index: i },
        words: model.site(spans.site[i]!),
      });
  for (let i = 0; i < notes.count && hits.length < most; i++)
    if (sites[notes.site[i]!] || has[notes.text[i]!] || has[notes.fields[i]!])
      hits.push({
        at: notes.at[i]!,
        until: notes.at[i]!,
        item: { what: "note", index: i },
        words: model.text(notes.text[i]!) || model.site(notes.site[i]!),
      });
  for (let i = 0; i < ranges.count && hits.length < most; i++)
    if (sites[ranges.site[i]!])
      hits.push({
        at: ranges.from[i]!,
        until: ranges.until[i]!,
        item: { what: "range", index: i },
        words: model.site(ranges.site[i]!),
      });
  const task = tasks.byId.get(query) ?? -2;
  for (let i = 0; i < slices.count && hits.length < most; i++)
    if ((sites[slices.site[i]!] && slices.kind[i] !== 1) || slices.task[i] === task)
      hits.push({
        at: slices.start[i]!,
        until: slices.end[i]!,
        item: { what: "slice", index: i },
        words: model.site(slices.site[i]!),
      });
  return hits.sort((a, b) => a.at - b.at);
}
