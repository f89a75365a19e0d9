// A table that is sorted by a click on the name of a column.

import { useState } from "preact/hooks";

export interface ColumnOf<T> {
  name: string;
  /** What it is sorted by. */
  by: (row: T) => number | string;
  show: (row: T) => preact.ComponentChildren;
}

const MOST = 300;

export function Table<T>({ rows, columns, first }: { rows: T[]; columns: ColumnOf<T>[]; first: number }) {
  const [sorted, setSorted] = useState({ column: first, isDown: true });
  const by = columns[sorted.column]!.by;
  const factor = sorted.isDown ? -1 : 1;
  const all = [...rows].sort((a, b) => {
    const [x, y] = [by(a), by(b)];
    return factor * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
  });
  const isNumber = (column: ColumnOf<T>) => rows.length > 0 && typeof column.by(rows[0]!) === "number";
  return (
    <>
      <table class="table">
        <thead>
          <tr>
            {columns.map((column, i) => (
              <th
                key={column.name}
                class={isNumber(column) ? "number" : ""}
                aria-sort={i !== sorted.column ? "none" : sorted.isDown ? "descending" : "ascending"}
              >
                <button
                  onClick={() => {
                    setSorted({ column: i, isDown: i === sorted.column ? !sorted.isDown : true });
                  }}
                >
                  {column.name}
                  {i === sorted.column ? (sorted.isDown ? " ↓" : " ↑") : ""}
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {all.slice(0, MOST).map((row, i) => (
            <tr key={i}>
              {columns.map((column) => (
                <td key={column.name} class={isNumber(column) ? "number" : ""}>
                  {column.show(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {all.length > MOST && <p class="soft">… and {all.length - MOST} more</p>}
    </>
  );
}
