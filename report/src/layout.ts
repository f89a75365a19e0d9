// Which rows are where, below one another.

import type { App } from "./app";
import { height, type Row } from "./rows";

export type Entry = { y: number; height: number } & (
  { row: Row; title?: undefined } | { title: string; count: number; isOpen: boolean; row?: undefined }
);

export function layout(app: App): { entries: Entry[]; height: number } {
  const entries: Entry[] = [];
  let y = 0;
  const put = (title: string, rows: Row[]) => {
    if (rows.length === 0) return;
    const isOpen = !app.collapsed.has(title);
    entries.push({ y, height: 22, title, count: rows.length, isOpen });
    y += 22;
    if (!isOpen) return;
    for (const row of rows) {
      const h = height(row);
      entries.push({ y, height: h, row });
      y += h;
    }
    y += 6;
  };
  const { rows, pins } = app;
  const filter = app.filter.trim().toLowerCase();
  const isWanted = (row: Row) => filter === "" || `${row.group} ${row.label} ${row.note}`.toLowerCase().includes(filter);
  const pinned = pins.map((key) => rows.byKey.get(key)).filter((row) => row !== undefined);
  put("Pinned", pinned);
  const there = new Set(pins);
  for (const [group, all] of rows.groups)
    put(
      group,
      all.filter((row) => !there.has(row.key) && isWanted(row)),
    );
  return { entries, height: y + 40 };
}
