// Wakes and spawns as arrows, from where they happened to the poll that they led to: those of the chosen poll, and all that
// are in view while they are few.

import { GUTTER, type Scene, x } from "./draw";
import { lowerBound } from "./model";

const MOST = 250;

export function drawArrows(scene: Scene, lines: Map<number, number>) {
  const { app } = scene;
  const { wakes } = app.model;
  const from = lowerBound((i) => wakes.at[i]!, wakes.count, app.from);
  const until = lowerBound((i) => wakes.at[i]!, wakes.count, app.until);
  scene.context.save();
  scene.context.beginPath();
  scene.context.rect(GUTTER, 0, scene.width, scene.height);
  scene.context.clip();
  if (until - from <= MOST) for (let i = from; i < until; i++) arrow(scene, lines, i, false);
  const item = app.selected;
  if (item?.what === "slice") {
    const cause = app.wakeOf(item.index);
    if (cause >= 0) arrow(scene, lines, cause, true);
    app
      .wakesIn(item.index)
      .slice(0, MOST)
      .forEach((wake) => {
        arrow(scene, lines, wake, true);
      });
  }
  scene.context.restore();
}

function arrow(scene: Scene, lines: Map<number, number>, wake: number, isStrong: boolean) {
  const { context, app, theme } = scene;
  const { wakes, slices } = app.model;
  const poll = app.model.pollAfter(wakes.task[wake]!, wakes.at[wake]!);
  if (poll < 0) return;
  const [y0, y1] = [lines.get(wakes.thread[wake]!), lines.get(slices.thread[poll]!)];
  if (y0 === undefined || y1 === undefined) return;
  const [x0, x1] = [x(scene, wakes.at[wake]!), x(scene, slices.start[poll]!)];
  const down = y1 > y0;
  const [from, to] = [y0 + (down ? 14 : 2), y1 + (down ? 1 : 14)];
  context.globalAlpha = isStrong ? 1 : 0.45;
  context.strokeStyle = isStrong ? theme.accent : theme.soft;
  context.fillStyle = context.strokeStyle;
  context.lineWidth = isStrong ? 1.75 : 1;
  context.setLineDash(wakes.spawn[wake] ? [4, 3] : []);
  context.beginPath();
  context.moveTo(x0, from);
  const bend = Math.max(Math.min((x1 - x0) / 2, 60), 8);
  context.bezierCurveTo(x0 + bend, from, x1 - bend, to, x1, to);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(x1 + 1, to);
  context.lineTo(x1 - 5, to - 3.5);
  context.lineTo(x1 - 5, to + 3.5);
  context.fill();
  context.globalAlpha = 1;
}
