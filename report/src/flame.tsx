// Flame graphs, with the outermost function on top: of all the time or of what is selected, the heaviest first or in the order
// of time; and what called a function, and what it called.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { App } from "./app";
import { FONT } from "./draw";
import { bytes, count, duration, percent, shortName } from "./format";
import { Of } from "./model";
import { type Node, type Order, profile, PROFILES } from "./profile";
import { hueOf } from "./rows";
import { Table } from "./table";
import { theme } from "./theme";

export function Flame({ app }: { app: App }) {
  const { model } = app;
  const there = PROFILES.filter(([of]) => {
    const [from, to] = model.samplesOf(of);
    return to > from;
  });
  const [chosen, choose] = useState<Of | null>(null);
  const [order, setOrder] = useState<Order>("heavy");
  const [isAll, setAll] = useState(false);
  const [around, setAround] = useState<number | null>(null);
  const [find, setFind] = useState("");
  const [of, , unit] = there.find(([of]) => of === chosen) ?? there[0] ?? PROFILES[0]!;
  const time: [number, number] = isAll || !app.range ? [-Infinity, Infinity] : app.range;
  const made = useMemo(() => {
    if (there.length === 0) return null;
    const whole = profile(model, app.rows, of, time, order);
    if (around === null) return { whole, sides: null };
    const side = (side: "callers" | "callees") => profile(model, app.rows, of, time, "heavy", { of: around, side }).root;
    return { whole, sides: { callers: side("callers"), callees: side("callees") } };
  }, [model, of, time[0], time[1], order, around, there.length]);
  if (!made)
    return (
      <p class="soft">
        No stack is in this snapshot. CPU samples are taken with <code>LOOKBACK_CPU_HZ=100</code>; where tasks wait, waits for
        locks and allocations are recorded as the README of lookback says.
      </p>
    );
  const words = (weight: number) => (unit === "bytes" ? bytes(weight) : duration(weight));
  const { whole, sides } = made;
  const functions = [...whole.functions].map(([of, { self, total }]) => ({ of, self, total }));
  const graph = (root: Node, name: string) => (
    <Graph
      app={app}
      root={root}
      words={words}
      find={find}
      name={name}
      onChoose={(of) => {
        setAround(of);
      }}
    />
  );
  return (
    <>
      <div class="row">
        <select
          aria-label="Profile"
          value={of}
          onChange={(event) => {
            choose(Number(event.currentTarget.value));
            setAround(null);
          }}
        >
          {there.map(([of, name]) => (
            <option key={of} value={of}>
              {name}
            </option>
          ))}
        </select>
        <select
          aria-label="Order"
          value={order}
          onChange={(event) => {
            setOrder(event.currentTarget.value as Order);
          }}
        >
          <option value="heavy">heaviest first</option>
          <option value="time">in the order of time</option>
        </select>
        {app.range && (
          <label class="choice">
            <input
              type="checkbox"
              checked={!isAll}
              onChange={(event) => {
                setAll(!event.currentTarget.checked);
              }}
            />{" "}
            only of the selected time
          </label>
        )}
        <input
          type="search"
          placeholder="Find a function"
          aria-label="Find a function"
          value={find}
          onInput={(event) => {
            setFind(event.currentTarget.value);
          }}
        />
        <span class="soft">
          {words(whole.root.weight)} in {count(whole.samples)} {of === Of.Await ? "waits" : "samples"}
        </span>
        {around !== null && (
          <button
            onClick={() => {
              setAround(null);
            }}
          >
            All, not only {shortName(model.functionName(around))}
          </button>
        )}
      </div>
      {whole.samples === 0 && <p class="soft">None in this time.</p>}
      {sides ? (
        <>
          <h3>What called {model.functionName(around!)}</h3>
          {graph(sides.callers, "Callers")}
          <h3>What it called</h3>
          {graph(sides.callees, "Callees")}
        </>
      ) : (
        graph(whole.root, "Flame graph")
      )}
      <h3>Functions</h3>
      <Table
        rows={functions}
        first={0}
        columns={[
          { name: "itself", by: (row) => row.self, show: (row) => words(row.self) },
          { name: "with what it called", by: (row) => row.total, show: (row) => words(row.total) },
          { name: "share", by: (row) => row.total, show: (row) => percent(row.total / (whole.root.weight || 1)) },
          {
            name: "function",
            by: (row) => model.functionName(row.of),
            show: (row) => (
              <button
                class="link"
                onClick={() => {
                  setAround(row.of);
                }}
              >
                {model.functionName(row.of)}
              </button>
            ),
          },
        ]}
      />
    </>
  );
}

const H = 18;

interface Box {
  node: Node;
  x: number;
  y: number;
  width: number;
}

interface GraphProps {
  app: App;
  root: Node;
  words: (weight: number) => string;
  find: string;
  name: string;
  onChoose: (of: number) => void;
}

function Graph({ app, root, words, find, name, onChoose }: GraphProps) {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const boxes = useRef<Box[]>([]);
  const [path, setPath] = useState<Node[]>([]);
  const [tip, setTip] = useState<{ x: number; y: number; node: Node } | null>(null);
  const [width, setWidth] = useState(800);
  const { model } = app;
  const top = path[path.length - 1] ?? root;
  useEffect(() => {
    setPath([]);
  }, [root]);
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      setWidth(box.current?.clientWidth ?? 800);
    });
    observer.observe(box.current!);
    return () => {
      observer.disconnect();
    };
  }, []);
  const isDark = document.documentElement.dataset.theme === "dark";
  useEffect(() => {
    const made: Box[] = [];
    let deepest = 0;
    const scale = width / (top.weight || 1);
    const put = (node: Node, x: number, depth: number) => {
      const size = node.weight * scale;
      if (size < 0.4 || depth > 200) return;
      deepest = Math.max(deepest, depth);
      made.push({ node, x, y: depth * H, width: size });
      let at = x;
      for (const child of node.list) {
        put(child, at, depth + 1);
        at += child.weight * scale;
      }
    };
    put(top, 0, 0);
    boxes.current = made;
    const colours = theme(isDark);
    const element = canvas.current!;
    const ratio = window.devicePixelRatio || 1;
    element.width = Math.round(width * ratio);
    element.height = Math.round((deepest + 1) * H * ratio);
    element.style.width = `${width}px`;
    element.style.height = `${(deepest + 1) * H}px`;
    const context = element.getContext("2d", { alpha: false })!;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = colours.back;
    context.fillRect(0, 0, width, (deepest + 1) * H);
    context.font = FONT;
    context.textBaseline = "middle";
    const wanted = find.trim().toLowerCase();
    for (const { node, x, y, width: size } of made) {
      const text = node.of < 0 ? "all" : model.functionName(node.of);
      const isFound = wanted !== "" && text.toLowerCase().includes(wanted);
      const isForeign = node.of >= 0 && model.functions.foreign[node.of] === 1;
      const hue = node.of < 0 ? 0 : hueOf(text.split("::").slice(0, 2).join("::"));
      context.fillStyle = isFound ? colours.warn : colours.fills[hue]![isForeign ? 1 : 3]!;
      context.fillRect(x, y, Math.max(size - 0.6, 0.4), H - 1);
      const most = Math.floor((size - 6) / 5.9);
      if (most < 3) continue;
      const short = shortName(text);
      context.fillStyle = colours.ink;
      context.fillText(short.length > most ? `${short.slice(0, most - 1)}…` : short, x + 4, y + H / 2);
    }
  }, [top, width, find, isDark]);
  const at = (event: MouseEvent) => {
    const area = canvas.current!.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    return boxes.current.find((box) => y >= box.y && y < box.y + H && x >= box.x && x < box.x + box.width)?.node;
  };
  const parent = path[path.length - 2];
  return (
    <div class="flame" ref={box}>
      {path.length > 0 && (
        <div class="row">
          <button
            onClick={() => {
              setPath(parent ? path.slice(0, -1) : []);
            }}
          >
            Back
          </button>
          <span class="soft">below {model.functionName(top.of)}</span>
          <button
            onClick={() => {
              onChoose(top.of);
            }}
          >
            Callers and callees
          </button>
        </div>
      )}
      <canvas
        ref={canvas}
        role="img"
        aria-label={`${name}; the table below has its functions`}
        onPointerMove={(event) => {
          const node = at(event);
          setTip(node ? { x: event.clientX, y: event.clientY, node } : null);
        }}
        onPointerLeave={() => {
          setTip(null);
        }}
        onClick={(event) => {
          const node = at(event);
          if (!node || node.of < 0) return;
          if (event.altKey) onChoose(node.of);
          else if (node !== top) setPath([...path, node]);
        }}
      />
      {tip && (
        <div class="tip" style={{ left: `${Math.min(tip.x + 12, window.innerWidth - 420)}px`, top: `${tip.y + 14}px` }}>
          <b>{tip.node.of < 0 ? "all" : model.functionName(tip.node.of)}</b>
          <br />
          <span class="soft">{tip.node.of < 0 ? "" : model.functionPlace(tip.node.of)}</span>
          <br />
          {words(tip.node.weight)}, {percent(tip.node.weight / (root.weight || 1))}; itself {words(tip.node.self)}
        </div>
      )}
    </div>
  );
}
