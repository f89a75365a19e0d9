// Draws the rows. What is narrower than a pixel is drawn together: how much of the pixel is busy is known from sums, so the
// time for a frame depends on the pixels, not on how many things there are.

import type { App } from "./app";
import type { Entry } from "./layout";
import { Kind, lowerBound } from "./model";
import { Hue, LANE, type Row, type Series, STRIP } from "./rows";
import type { Strips } from "./strips";
import type { Theme } from "./theme";
import { duration, shortName } from "./format";

export const GUTTER = 210;
export const RULER = 26;
export const FONT = '11px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

/** Where things are on the canvas. */
export interface Scene {
  context: CanvasRenderingContext2D;
  theme: Theme;
  app: App;
  width: number;
  height: number;
  top: number;
  strips: Strips;
  /** Pixels in a nanosecond. */
  scale: number;
}

export function x(scene: Scene, at: number): number {
  return GUTTER + (at - scene.app.from) * scene.scale;
}

/** A name on a rectangle of this width, cut to fit; empty if there is no room. */
function fitted(text: string, width: number): string {
  const most = Math.floor((width - 6) / 5.9);
  if (most < 3) return "";
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

export function drawSeries(scene: Scene, series: Series, y: number, h: number, name: (index: number) => string) {
  const { context, theme, app, scale } = scene;
  const { start, end, busy, hue } = series;
  const count = start.length;
  const { from, until } = app;
  const pixel = 1 / scale;
  const names: [string, number, number][] = [];
  const { strips } = scene;
  let line = -1;
  let i = lowerBound((i) => end[i]!, count, from);
  while (i < count && start[i]! < until) {
    const x0 = GUTTER + (start[i]! - from) * scale;
    const x1 = GUTTER + (end[i]! - from) * scale;
    if (x1 - x0 >= 1.5) {
      const left = Math.max(x0, GUTTER);
      const right = Math.min(x1, scene.width);
      const of = hue[i]!;
      const isThin = of === Hue.Waiting || of === Hue.Ready;
      context.fillStyle = theme.fills[of]![3]!;
      if (isThin) context.fillRect(left, y + h / 2 - (of === Hue.Ready ? 3 : 1), right - left, of === Hue.Ready ? 6 : 2);
      else context.fillRect(left, y, Math.max(right - left - (x1 - x0 > 4 ? 0.75 : 0), 1), h);
      if (right - left > 26 && of !== Hue.Parked && of !== Hue.Waiting && (of !== Hue.Ready || right - left > 50))
        names.push([
          fitted(isThin ? "ready" : name(series.ref ? series.ref[i]! : series.offset + i), right - left),
          left + 4,
          y + h / 2,
        ]);
      i++;
      continue;
    }
    // All that begins in this pixel; the last may go far beyond it.
    const bucket = from + (Math.floor(x0) + 1 - GUTTER) * pixel;
    let next = i + 1;
    let step = 1;
    while (next < count && start[next]! < bucket) {
      next += step;
      step *= 2;
    }
    if (step > 1) {
      let low = Math.max(i + 1, next - step);
      let high = Math.min(next, count);
      while (low < high) {
        const middle = (low + high) >> 1;
        if (start[middle]! < bucket) low = middle + 1;
        else high = middle;
      }
      next = low;
    }
    if (next - i > 1 && (end[next - 1]! - start[next - 1]!) * scale >= 1.5) next--;
    const share = (busy[next]! - busy[i]!) / pixel;
    const of = hue[i + ((next - i) >> 1)]!;
    const level = share > 0.7 ? 3 : share > 0.35 ? 2 : share > 0.1 ? 1 : 0;
    if (line < 0) line = strips.row(context, GUTTER, Math.ceil(scene.width - GUTTER), y, h);
    const left = Math.max(Math.floor(x0) - GUTTER, 0);
    strips.pixels[line + left] = theme.pixels[of * 4 + (of === Hue.Parked ? 3 : level)]!;
    i = next;
  }
  context.fillStyle = theme.ink;
  for (const [text, at, middle] of names) if (text) context.fillText(text, at, middle + 0.5);
}

export function nameOf(app: App, series: Series): (index: number) => string {
  const { model } = app;
  switch (series.what) {
    case "slice":
      return (i) => {
        const { slices } = model;
        if (slices.kind[i] === Kind.Merged)
          return `${slices.number[i]} × ${slices.site[i] ? shortName(model.site(slices.site[i]!)) : "several"}`;
        if (slices.kind[i] === Kind.Poll && app.colourBy === "span" && slices.span[i]! >= 0)
          return model.site(model.spans.site[slices.span[i]!]!);
        return shortName(model.site(slices.site[i]!));
      };
    case "span":
      return (i) => {
        const fields = model.text(model.spans.fields[i]!);
        return model.site(model.spans.site[i]!) + (fields ? `  ${fields}` : "");
      };
    case "range":
      return (i) => model.site(model.ranges.site[i]!);
    case "lock":
      return (i) => `lock, ${duration(model.samples.weight[i]!)}`;
    case "wait":
      return (i) => (i >= 0 ? `poll on ${model.thread(model.slices.thread[i]!)}` : "");
  }
}

export function drawRow(scene: Scene, entry: Entry & { row: Row }, y: number) {
  const { row } = entry;
  const top = row.thread === undefined ? y + 1 : y + 1 + STRIP;
  if (row.thread !== undefined) drawStrip(scene, row.thread, y);
  row.lanes.forEach((series, depth) => {
    const h = LANE - (row.kind === "lanes" && row.key.startsWith("r") ? 3 : 2);
    drawSeries(scene, series, top + depth * LANE, h, nameOf(scene.app, series));
  });
  if (row.kind === "counter") drawCounter(scene, row.counter!, y, entry.height);
  else if (row.kind === "notes") drawNotes(scene, y, entry.height);
  else if (row.kind === "samples") drawSamples(scene, row.of!, y, entry.height);
}

/** Whether a thread ran, as the kernel counts it for each generation: green ran, amber wanted a core; red was seen blocked. */
function drawStrip(scene: Scene, thread: number, y: number) {
  const { context, theme, app } = scene;
  const { times, samples } = app.model;
  for (const i of app.model.timesOf(thread)) {
    const x0 = Math.max(x(scene, times.at[i]! - times.time[i]!), GUTTER);
    const x1 = Math.min(x(scene, times.at[i]!), scene.width);
    if (x1 <= x0 || times.time[i]! <= 0) continue;
    const ran = Math.min(times.ran[i]! / times.time[i]!, 1);
    const waited = Math.min(times.waited[i]! / times.time[i]!, 1 - ran);
    context.fillStyle = theme.line;
    context.fillRect(x0, y + 1, x1 - x0 - 1, 3);
    context.fillStyle = theme.good;
    context.fillRect(x0, y + 1, (x1 - x0 - 1) * ran, 3);
    context.fillStyle = theme.warn;
    context.fillRect(x0 + (x1 - x0 - 1) * ran, y + 1, (x1 - x0 - 1) * waited, 3);
  }
  context.fillStyle = theme.bad;
  for (const i of app.model.blockedOf(thread)) {
    const x0 = Math.max(x(scene, samples.at[i]! - samples.weight[i]!), GUTTER);
    const x1 = Math.min(x(scene, samples.at[i]!), scene.width);
    if (x1 > x0) context.fillRect(x0, y + 1, x1 - x0, 2);
  }
}

function drawCounter(scene: Scene, index: number, y: number, h: number) {
  const { context, theme, app } = scene;
  const counter = app.model.counters[index]!;
  const { at, value } = counter;
  const [least, most] = [Math.min(counter.least, 0), Math.max(counter.most, 0)];
  const scale = (h - 8) / (most - least || 1);
  const level = (value: number) => y + h - 3 - (value - least) * scale;
  // Of each pixel the least and the most, and what it ends with, which holds up to the next value.
  let i = Math.max(lowerBound((i) => at[i]!, at.length, app.from + 1) - 1, 0);
  const last = Math.min(Math.ceil(x(scene, app.model.until)), Math.ceil(scene.width));
  const first = Math.max(Math.floor(x(scene, at[i] ?? app.until)), GUTTER);
  let now = value[i]!;
  const [line, below] = [new Path2D(), new Path2D()];
  for (let px = first; px < last; px++) {
    let [low, high] = [now, now];
    const until = app.from + (px + 1 - GUTTER) / scene.scale;
    for (; i < at.length && at[i]! < until; i++) {
      now = value[i]!;
      if (now < low) low = now;
      if (now > high) high = now;
    }
    const top = Math.round(level(high));
    line.rect(px, top, 1, Math.max(Math.round(level(low)) - top, 1.5));
    below.rect(px, top, 1, level(least) - top);
  }
  context.fillStyle = theme.select;
  context.fill(below);
  context.fillStyle = theme.accent;
  context.fill(line);
}

export function levelColour(theme: Theme, level: number): string {
  return level >= 5 ? theme.bad : level === 4 ? theme.warn : level === 0 ? theme.event : theme.soft;
}

function drawNotes(scene: Scene, y: number, h: number) {
  const { context, theme, app } = scene;
  const { notes } = app.model;
  // What is worse is drawn over the rest. Each level is filled at once.
  const paths = [0, 1, 2, 3, 4, 5].map(() => ({ path: new Path2D(), last: -1 }));
  for (let i = lowerBound((i) => notes.at[i]!, notes.count, app.from); i < notes.count && notes.at[i]! < app.until; i++) {
    const level = Math.min(notes.level[i]!, 5);
    const of = paths[level]!;
    const px = Math.round(x(scene, notes.at[i]!));
    if (px === of.last) continue;
    of.last = px;
    const [size, width] = level >= 4 ? [h - 5, 2] : [h - 10, 1];
    of.path.rect(px, y + (h - size) / 2, width, size);
  }
  paths.forEach(({ path }, level) => {
    context.fillStyle = levelColour(theme, level);
    context.fill(path);
  });
}

function drawSamples(scene: Scene, of: number, y: number, h: number) {
  const { context, theme, app } = scene;
  const [from, to] = app.model.samplesOf(of);
  const { at, weight } = app.model.samples;
  const bars = new Float64Array(Math.ceil((scene.width - GUTTER) / 3) + 1);
  let most = 0;
  for (let i = from + lowerBound((i) => at[from + i]!, to - from, app.from); i < to && at[i]! < app.until; i++) {
    const bar = Math.floor((x(scene, at[i]!) - GUTTER) / 3);
    bars[bar]! += weight[i]!;
    most = Math.max(most, bars[bar]!);
  }
  context.fillStyle = theme.accent;
  for (let i = 0; i < bars.length; i++) {
    if (!bars[i]) continue;
    const size = Math.max((bars[i]! / most) * (h - 6), 2);
    context.fillRect(GUTTER + i * 3, y + h - 3 - size, 2.25, size);
  }
}
