// The canvas over which everything is drawn, and what pointer and wheel do there.

import type { App } from "./app";
import { drawArrows } from "./arrows";
import { drawRow, FONT, GUTTER, RULER, type Scene, x } from "./draw";
import { bytes, count, duration, moment } from "./format";
import { type Entry, layout } from "./layout";
import { type Item, lowerBound } from "./model";
import { at, LANE, type Row, STRIP } from "./rows";
import { Strips } from "./strips";
import { type Theme, theme } from "./theme";

export class Timeline {
  private readonly canvas: HTMLCanvasElement;
  private readonly spacer: HTMLElement;
  private entries: Entry[] = [];
  private theme: Theme = theme(false);
  private readonly strips = new Strips();
  private pointerY = 0;
  private drag: {
    x: number;
    y: number;
    from: number;
    until: number;
    top: number;
    isSelecting: boolean;
    isMoved: boolean;
    at: number;
  } | null = null;
  /** How long drawing took, of late: the tests read it. */
  readonly frames: number[] = [];

  constructor(
    private readonly app: App,
    private readonly scroller: HTMLElement,
  ) {
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "Timeline. Keys move in it; what is selected is told in the details below.");
    this.spacer = document.createElement("div");
    scroller.append(this.canvas, this.spacer);
    app.onDraw(() => this.draw());
    scroller.addEventListener("scroll", () => this.app.changed(false));
    new ResizeObserver(() => this.draw()).observe(scroller);
    scroller.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => this.down(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", (event) => this.up(event));
    this.canvas.addEventListener("pointercancel", () => (this.drag = null));
    this.canvas.addEventListener("pointerleave", () => {
      app.pointer = app.hovered = null;
      app.changed(false);
    });
    this.canvas.addEventListener("dblclick", (event) => this.closeUp(event));
  }

  setDark(isDark: boolean) {
    this.theme = theme(isDark);
    this.draw();
  }

  private time(clientX: number): number {
    const left = this.canvas.getBoundingClientRect().left;
    const width = this.scroller.clientWidth - GUTTER;
    return this.app.from + ((clientX - left - GUTTER) / width) * (this.app.until - this.app.from);
  }

  private wheel(event: WheelEvent) {
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      this.app.zoom(Math.exp(Math.max(-80, Math.min(80, event.deltaY)) * 0.006), this.time(event.clientX));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      this.app.pan(((event.deltaX || event.deltaY) / this.scroller.clientWidth) * 1.2);
    }
  }

  private place(event: MouseEvent) {
    const box = this.canvas.getBoundingClientRect();
    return { px: event.clientX - box.left, py: event.clientY - box.top };
  }

  private down(event: PointerEvent) {
    if (event.button !== 0) return;
    const { px, py } = this.place(event);
    if (px < GUTTER && py > RULER) return;
    this.canvas.setPointerCapture(event.pointerId);
    const isSelecting = event.shiftKey || py <= RULER;
    const { from, until } = this.app;
    this.drag = {
      x: event.clientX,
      y: event.clientY,
      from,
      until,
      top: this.scroller.scrollTop,
      isSelecting,
      isMoved: false,
      at: this.time(event.clientX),
    };
  }

  private move(event: PointerEvent) {
    const { app, drag } = this;
    app.pointer = this.time(event.clientX);
    this.pointerY = this.place(event).py;
    if (!drag) {
      const { px, py } = this.place(event);
      const found = px > GUTTER ? this.hit(px, py) : null;
      this.canvas.style.cursor =
        px < GUTTER ? "pointer" : py <= RULER || event.shiftKey ? "col-resize" : found ? "pointer" : "grab";
      app.changed(false);
      return;
    }
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.isMoved && Math.abs(dx) + Math.abs(dy) < 4) return;
    drag.isMoved = true;
    if (drag.isSelecting) {
      const now = this.time(event.clientX);
      app.range = now > drag.at ? [drag.at, now] : [now, drag.at];
      app.changed(false);
    } else {
      this.canvas.style.cursor = "grabbing";
      const by = (-dx / (this.scroller.clientWidth - GUTTER)) * (drag.until - drag.from);
      this.scroller.scrollTop = drag.top - dy;
      app.show(drag.from + by, drag.until + by);
    }
  }

  private up(event: PointerEvent) {
    const { app, drag } = this;
    this.drag = null;
    const { px, py } = this.place(event);
    if (drag?.isMoved) {
      if (drag.isSelecting) {
        app.tab = "selection";
        app.changed();
      }
      return;
    }
    if (px < GUTTER) this.label(px, py);
    else if (py <= RULER) app.mark(this.time(event.clientX));
    else if (drag) {
      const item = this.hit(px, py);
      if (!item) app.range = null;
      app.select(item);
    }
  }

  private closeUp(event: MouseEvent) {
    const { px, py } = this.place(event);
    const item = px > GUTTER ? this.hit(px, py) : null;
    if (!item) return;
    const [from, until] = this.app.times(item);
    const margin = Math.max((until - from) * 0.1, 500);
    this.app.show(from - margin, until + margin);
  }

  private entry(py: number): Entry | undefined {
    const y = py + this.scroller.scrollTop - RULER;
    return py <= RULER ? undefined : this.entries.find((entry) => y >= entry.y && y < entry.y + entry.height);
  }

  private label(px: number, py: number) {
    const entry = this.entry(py);
    if (!entry) return;
    if (entry.row) this.app.pin(entry.row.key);
    else this.app.unfold(entry.title);
    void px;
  }

  /** What is at this place of the canvas. */
  private hit(px: number, py: number): Item | null {
    const row = this.entry(py)?.row;
    if (!row) return null;
    const entry = this.entry(py)!;
    const y = py + this.scroller.scrollTop - RULER - entry.y;
    const { app } = this;
    const time = this.app.from + ((px - GUTTER) / (this.scroller.clientWidth - GUTTER)) * (app.until - app.from);
    const slack = (3 * (app.until - app.from)) / (this.scroller.clientWidth - GUTTER);
    const { model } = app;
    if (row.kind === "notes") {
      const { notes } = model;
      const after = lowerBound((i) => notes.at[i]!, notes.count, time);
      const near = [after - 1, after].filter((i) => i >= 0 && i < notes.count && Math.abs(notes.at[i]! - time) <= slack);
      near.sort((a, b) => notes.level[b]! - notes.level[a]!);
      return near[0] === undefined ? null : { what: "note", index: near[0] };
    }
    if (row.kind === "samples") {
      const [from, to] = model.samplesOf(row.of!);
      const i = from + lowerBound((i) => model.samples.at[from + i]!, to - from, time - slack);
      return i < to && Math.abs(model.samples.at[i]! - time) <= slack ? { what: "sample", index: i } : null;
    }
    if (row.kind === "counter") return { what: "counter", index: row.counter!, from: time, until: time };
    const lane = Math.floor((y - 1 - (row.thread === undefined ? 0 : STRIP)) / LANE);
    const series = row.lanes[Math.max(lane, 0)];
    if (!series) return null;
    const place = at(series, time, slack);
    if (place < 0) return null;
    const index = series.ref ? series.ref[place]! : series.offset + place;
    if (series.what === "lock") return { what: "sample", index };
    if (series.what === "wait")
      return index >= 0
        ? { what: "slice", index }
        : { what: "wait", index: series.offset, from: series.start[place]!, until: series.end[place]! };
    return { what: series.what, index };
  }

  /** Where the rows of threads are now, for arrows. */
  private lines(top: number): Map<number, number> {
    const lines = new Map<number, number>();
    for (const { row, y } of this.entries)
      if (row?.thread !== undefined && !lines.has(row.thread)) lines.set(row.thread, RULER + y - top + 1 + STRIP);
    return lines;
  }

  draw() {
    const began = performance.now();
    const { app, canvas, scroller } = this;
    const made = layout(app);
    this.entries = made.entries;
    const [width, height] = [scroller.clientWidth, scroller.clientHeight];
    if (width < GUTTER + 50 || height < 50) return;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
    }
    this.spacer.style.height = `${Math.max(made.height + RULER - height, 0)}px`;
    if (app.reveal !== null) {
      const entry = this.entries.find(({ row }) => row?.key === app.reveal);
      app.reveal = null;
      if (entry) {
        const y = entry.y - scroller.scrollTop;
        if (y < 20 || y + entry.height > height - RULER - 20) scroller.scrollTop = Math.max(entry.y - height / 3, 0);
      }
    }
    const context = canvas.getContext("2d", { alpha: false })!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = FONT;
    context.textBaseline = "middle";
    const top = scroller.scrollTop;
    const scene: Scene = {
      context,
      theme: this.theme,
      app,
      width,
      height,
      top,
      strips: this.strips,
      scale: (width - GUTTER) / (app.until - app.from),
    };
    context.fillStyle = this.theme.back;
    context.fillRect(0, 0, width, height);
    this.shades(scene);
    for (const entry of this.entries) {
      const y = RULER + entry.y - top;
      if (y > height || y + entry.height < RULER) continue;
      if (entry.row) {
        context.fillStyle = this.theme.line;
        context.fillRect(GUTTER, y + entry.height - 1, width, 0.5);
        drawRow(scene, entry, y);
      }
    }
    this.strips.flush(context, GUTTER);
    this.over(scene);
    drawArrows(scene, this.lines(top));
    this.outline(scene);
    this.labels(scene);
    this.ruler(scene);
    this.tip(scene);
    this.frames.push(performance.now() - began);
    if (this.frames.length > 600) this.frames.shift();
  }

  /** What is not known, and what is chosen, behind the rows. */
  private shades(scene: Scene) {
    const { context, app } = scene;
    for (const generation of app.model.header.generations) {
      if (generation.complete && generation.lost === 0) continue;
      const [x0, x1] = [Math.max(x(scene, generation.from), GUTTER), x(scene, generation.until)];
      context.fillStyle = this.theme.isDark ? "rgb(240 176 63 / 7%)" : "rgb(185 119 0 / 7%)";
      if (x1 > GUTTER) context.fillRect(x0, RULER, x1 - x0, scene.height);
    }
    for (const { from, until } of app.stretches)
      this.shade(scene, from, until, this.theme.isDark ? "rgb(240 176 63 / 16%)" : "rgb(255 183 0 / 18%)");
    if (app.range) this.shade(scene, app.range[0], app.range[1], this.theme.select);
  }

  private shade(scene: Scene, from: number, until: number, colour: string) {
    const [x0, x1] = [Math.max(x(scene, from), GUTTER), Math.min(x(scene, until), scene.width)];
    if (x1 < x0) return;
    scene.context.fillStyle = colour;
    scene.context.fillRect(x0, RULER, Math.max(x1 - x0, 1), scene.height);
  }

  private over(scene: Scene) {
    const { context, app } = scene;
    const line = (at: number, colour: string, width = 1) => {
      const px = Math.round(x(scene, at));
      if (px < GUTTER || px > scene.width) return;
      context.fillStyle = colour;
      context.fillRect(px, RULER, width, scene.height);
    };
    if (app.range) app.range.forEach((at) => line(at, this.theme.accent));
    app.marks.forEach((at) => line(at, this.theme.warn, 1.5));
    if (app.pointer !== null) line(app.pointer, this.theme.line);
  }

  private outline(scene: Scene) {
    const { app, context } = scene;
    const item = app.selected;
    if (!item) return;
    const [from, until] = app.times(item);
    for (const entry of this.entries) {
      if (!entry.row) continue;
      const y = RULER + entry.y - scene.top;
      if (y > scene.height || y + entry.height < RULER) continue;
      const lane = laneOf(entry.row, item, from);
      if (lane < 0) continue;
      const [x0, x1] = [Math.max(x(scene, from), GUTTER - 2), Math.min(x(scene, until), scene.width + 2)];
      const at = y + 1 + (entry.row.thread === undefined ? 0 : STRIP) + lane * LANE;
      context.strokeStyle = this.theme.text;
      context.lineWidth = 2;
      if (x1 > GUTTER)
        context.strokeRect(x0 - 1, at - 1, Math.max(x1 - x0, 2) + 2, entry.row.kind === "lanes" ? LANE : entry.height - 3);
    }
  }

  private labels(scene: Scene) {
    const { context, app, height, top } = scene;
    context.fillStyle = this.theme.raised;
    context.fillRect(0, RULER, GUTTER, height);
    context.fillStyle = this.theme.line;
    context.fillRect(GUTTER - 1, 0, 1, height);
    context.save();
    context.beginPath();
    context.rect(0, RULER, scene.width, height);
    context.clip();
    for (const entry of this.entries) {
      const y = RULER + entry.y - top;
      if (y > height || y + entry.height < RULER) continue;
      if (entry.title !== undefined) {
        context.fillStyle = this.theme.raised;
        context.fillRect(0, y, scene.width, entry.height - 2);
        context.fillStyle = this.theme.text;
        context.font = `600 ${FONT}`;
        context.fillText(`${entry.isOpen ? "▾" : "▸"}  ${entry.title}`, 8, y + 10);
        context.font = FONT;
        if (!entry.isOpen) {
          context.fillStyle = this.theme.soft;
          context.fillText(`${count(entry.count)} rows`, GUTTER + 8, y + 10);
        }
        continue;
      }
      const { row } = entry;
      const isPinned = app.pins.includes(row.key);
      context.fillStyle = this.theme.text;
      const middle = y + Math.min(entry.height / 2, 12);
      const most = GUTTER - 34;
      context.save();
      context.beginPath();
      context.rect(0, y, GUTTER - 4, entry.height);
      context.clip();
      context.fillStyle = isPinned ? this.theme.accent : this.theme.soft;
      context.fillText(isPinned ? "●" : "○", 7, middle);
      context.fillStyle = this.theme.text;
      const label = cut(context, row.label, most);
      context.fillText(label, 22, middle);
      const used = context.measureText(label).width;
      context.fillStyle = this.theme.soft;
      if (row.note && used + 40 < most) context.fillText(cut(context, row.note, most - used - 8), 30 + used, middle);
      if (row.counter !== undefined) this.value(scene, row.counter, y, entry.height);
      context.restore();
    }
    context.restore();
  }

  private value(scene: Scene, index: number, y: number, h: number) {
    const { app, context } = scene;
    const { at, value, unit } = app.model.counters[index]!;
    const moment = app.pointer ?? app.until;
    const place = lowerBound((i) => at[i]!, at.length, moment + 1) - 1;
    const now = value[Math.max(place, 0)];
    if (now === undefined) return;
    const words =
      unit === 3 ? bytes(now) : unit === 1 ? duration(now) : Number.isInteger(now) ? count(now) : now.toPrecision(4);
    context.fillText(words, 22, y + h - 9);
  }

  private ruler(scene: Scene) {
    const { context, app, width } = scene;
    context.fillStyle = this.theme.raised;
    context.fillRect(0, 0, width, RULER);
    context.fillStyle = this.theme.line;
    context.fillRect(0, RULER - 1, width, 1);
    const length = app.until - app.from;
    const wanted = length / ((width - GUTTER) / 110);
    const power = 10 ** Math.floor(Math.log10(wanted));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= wanted) ?? wanted;
    const digits = Math.max(0, Math.min(9, 9 - Math.floor(Math.log10(step))));
    const first = Math.ceil(app.from / step);
    // At times beyond what a number can tell apart, a step may lead nowhere.
    for (let i = 0; i < 1000 && (first + i) * step < app.until; i++) {
      const at = (first + i) * step;
      const px = Math.round(x(scene, at));
      context.fillStyle = this.theme.line;
      context.fillRect(px, RULER - 7, 1, 7);
      context.fillStyle = this.theme.soft;
      context.fillText(`${moment(at, digits)} s`, px + 4, RULER / 2);
    }
    context.fillStyle = this.theme.raised;
    context.fillRect(0, 0, GUTTER, RULER - 1);
    context.fillStyle = this.theme.soft;
    context.fillText(`${duration(length)} shown`, 8, RULER / 2);
    if (app.pointer !== null && app.pointer > app.from)
      this.flag(scene, app.pointer, `${moment(app.pointer, 6)} s`, this.theme.soft);
    app.marks.forEach((mark, i) => {
      const since = i > 0 ? `  Δ ${duration(mark - app.marks[i - 1]!)}` : "";
      this.flag(scene, mark, `${i + 1}${since}`, this.theme.warn);
    });
    if (app.range) this.flag(scene, app.range[1], duration(app.range[1] - app.range[0]), this.theme.accent);
  }

  /** What the pointer is over, beside it. */
  private tip(scene: Scene) {
    const { app, context } = scene;
    if (!app.hovered || app.pointer === null || this.drag) return;
    const words = inWords(app, app.hovered);
    const width = Math.min(context.measureText(words).width + 14, scene.width - GUTTER);
    const left = Math.max(Math.min(x(scene, app.pointer) + 12, scene.width - width), GUTTER);
    const top = Math.min(this.pointerY + 16, scene.height - 24);
    context.fillStyle = this.theme.text;
    context.fillRect(left, top, width, 20);
    context.fillStyle = this.theme.back;
    context.fillText(cut(context, words, width - 12), left + 7, top + 10.5);
  }

  private flag(scene: Scene, at: number, words: string, colour: string) {
    const { context } = scene;
    const px = x(scene, at);
    if (px < GUTTER || px > scene.width) return;
    const width = context.measureText(words).width + 10;
    const left = Math.min(px, scene.width - width);
    context.fillStyle = colour;
    context.fillRect(left, 2, width, RULER - 5);
    context.fillStyle = this.theme.back;
    context.fillText(words, left + 5, RULER / 2);
  }
}

/** A thing and how long it took, in one line. */
function inWords(app: App, item: Item): string {
  const { model } = app;
  const [from, until] = app.times(item);
  const name = () => {
    switch (item.what) {
      case "slice":
        return model.slices.site[item.index] === 0 ? "several" : model.site(model.slices.site[item.index]!);
      case "span":
        return `${model.site(model.spans.site[item.index]!)}  ${model.text(model.spans.fields[item.index]!)}`;
      case "note":
        return model.text(model.notes.text[item.index]!) || model.site(model.notes.site[item.index]!);
      case "range":
        return model.site(model.ranges.site[item.index]!);
      case "wait":
        return "not polled";
      case "counter":
        return model.counters[item.index]!.name;
      default:
        return item.what;
    }
  };
  return until > from ? `${duration(until - from)}  ${name()}` : name();
}

function cut(context: CanvasRenderingContext2D, text: string, most: number): string {
  if (context.measureText(text).width <= most) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (context.measureText(`${text.slice(0, middle)}…`).width <= most) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

/** In which lane of a row this is; -1 if it is not there. */
function laneOf(row: Row, item: Item, from: number): number {
  if (row.kind === "notes") return item.what === "note" ? 0 : -1;
  for (let lane = 0; lane < row.lanes.length; lane++) {
    const series = row.lanes[lane]!;
    const what =
      series.what === "wait" ? (item.what === "wait" ? "wait" : "slice") : series.what === "lock" ? "sample" : series.what;
    if (what !== item.what) continue;
    const place = lowerBound((i) => series.start[i]!, series.start.length, from);
    for (let i = place; i < series.start.length && series.start[i] === from; i++) {
      const index = series.ref ? series.ref[i]! : series.offset + i;
      if (item.what === "wait" ? series.offset === item.index : index === item.index) return lane;
    }
  }
  return -1;
}
