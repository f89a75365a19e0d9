// The whole time in one line: how busy the workers were, where logs of warnings and errors are, and a brush that says what is
// shown below.

import type { App } from "./app";
import { levelColour } from "./draw";
import { Kind } from "./model";
import { type Theme, theme } from "./theme";

const H = 46;

export class Overview {
  private readonly canvas = document.createElement("canvas");
  private readonly picture = document.createElement("canvas");
  private drawn = "";
  private theme: Theme = theme(false);
  private busy: Float64Array = new Float64Array(0);
  private drag: { isNew: boolean; at: number; from: number; until: number } | null = null;

  constructor(
    private readonly app: App,
    private readonly box: HTMLElement,
  ) {
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "Overview of the whole time, with what is shown below");
    box.append(this.canvas);
    app.onDraw(() => this.draw());
    new ResizeObserver(() => this.draw()).observe(box);
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      const at = this.time(event);
      const isInside = at > app.from && at < app.until && app.until - app.from < (app.model.until - app.model.from) * 0.9;
      this.drag = { isNew: !isInside, at, from: app.from, until: app.until };
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.drag) return;
      const now = this.time(event);
      const { isNew, at, from, until } = this.drag;
      if (isNew && Math.abs(now - at) > (app.model.until - app.model.from) / 400)
        app.show(Math.min(at, now), Math.max(at, now));
      else if (!isNew) app.show(from + now - at, until + now - at);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      const { drag } = this;
      this.drag = null;
      if (drag?.isNew && Math.abs(this.time(event) - drag.at) <= (app.model.until - app.model.from) / 400) {
        const half = (app.until - app.from) / 2;
        app.show(drag.at - half, drag.at + half);
      }
    });
    this.canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        app.zoom(Math.exp(Math.max(-80, Math.min(80, event.deltaY)) * 0.006), this.time(event));
      },
      { passive: false },
    );
  }

  setDark(isDark: boolean) {
    this.theme = theme(isDark);
    this.draw();
  }

  private time(event: MouseEvent): number {
    const box = this.canvas.getBoundingClientRect();
    const { from, until } = this.app.model;
    return from + ((event.clientX - box.left) / box.width) * (until - from);
  }

  /** How busy the workers were in each pixel. */
  private measure(width: number) {
    const { model } = this.app;
    const { slices } = model;
    this.busy = new Float64Array(width);
    const pixel = (model.until - model.from) / width;
    const rows = model.sliceRows.filter((row) => !row.isRegion && row.depth === 0);
    for (const { from, to } of rows) {
      for (let i = from; i < to; i++) {
        if (slices.kind[i] === Kind.Parked) continue;
        const [start, end] = [slices.start[i]! - model.from, slices.end[i]! - model.from];
        const share = end > start ? (slices.busy[i + 1]! - slices.busy[i]!) / (end - start) : 0;
        const [first, last] = [Math.max(Math.floor(start / pixel), 0), Math.min(Math.floor(end / pixel), width - 1)];
        if (first >= last) {
          if (first < width) this.busy[first]! += (end - start) * share;
          continue;
        }
        this.busy[first]! += ((first + 1) * pixel - start) * share;
        for (let px = first + 1; px < last; px++) this.busy[px]! += pixel * share;
        this.busy[last]! += (end - last * pixel) * share;
      }
    }
    const most = this.busy.reduce((most, value) => Math.max(most, value), 0) || 1;
    for (let px = 0; px < width; px++) this.busy[px]! /= most;
  }

  draw() {
    const { app, canvas } = this;
    const width = this.box.clientWidth;
    if (width < 50) return;
    const ratio = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = H * ratio;
      canvas.style.width = `${width}px`;
      canvas.style.height = `${H}px`;
    }
    const { model } = app;
    const px = (at: number) => ((at - model.from) / (model.until - model.from)) * width;
    const wanted = `${width} ${ratio} ${this.theme.isDark} ${app.finding}`;
    if (wanted !== this.drawn) {
      this.drawn = wanted;
      this.still(width, ratio, px);
    }
    const context = canvas.getContext("2d", { alpha: false })!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.picture, 0, 0);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const [x0, x1] = [Math.max(px(app.from), 0), Math.min(px(app.until), width)];
    context.fillStyle = this.theme.isDark ? "rgb(0 0 0 / 45%)" : "rgb(90 100 115 / 18%)";
    context.fillRect(0, 0, x0, H);
    context.fillRect(x1, 0, width - x1, H);
    context.strokeStyle = this.theme.accent;
    context.lineWidth = 1.5;
    context.strokeRect(x0 + 0.75, 0.75, Math.max(x1 - x0 - 1.5, 2), H - 1.5);
  }

  /** What stays the same while the brush moves. */
  private still(width: number, ratio: number, px: (at: number) => number) {
    const { app, picture } = this;
    if (this.busy.length !== width) this.measure(width);
    picture.width = Math.round(width * ratio);
    picture.height = H * ratio;
    const context = picture.getContext("2d", { alpha: false })!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = this.theme.back;
    context.fillRect(0, 0, width, H);
    context.fillStyle = this.theme.isDark ? "#46648f" : "#a9c2e8";
    for (let i = 0; i < width; i++) {
      const size = this.busy[i]! * (H - 14) + 4;
      if (this.busy[i]! > 0) context.fillRect(i, H - size, 1, size);
    }
    const { notes, header } = app.model;
    let last = -1;
    for (let i = 0; i < notes.count; i++) {
      const at = Math.round(px(notes.at[i]!));
      if (notes.level[i]! < 4 || at === last) continue;
      last = at;
      context.fillStyle = levelColour(this.theme, notes.level[i]!);
      context.fillRect(at - 0.5, 0, 1.5, 7);
    }
    header.summary.findings.forEach((finding, i) => {
      const first = finding.evidence[0];
      if (!first) return;
      const [x0, x1] = [px(first.t_ns), px(first.until_ns ?? first.t_ns)];
      context.fillStyle = i === app.finding ? this.theme.bad : this.theme.warn;
      context.fillRect(x0, H - 4, Math.max(x1 - x0, 3), 4);
    });
  }
}
