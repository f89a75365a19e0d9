// The page: header, findings, timeline, panel.

import { useEffect, useRef, useState } from "preact/hooks";
import type { App } from "./app";
import { Findings } from "./findings";
import { Head } from "./head";
import { Help } from "./help";
import { useApp } from "./hooks";
import { listen } from "./keys";
import { Overview } from "./overview";
import { Panel } from "./panel";
import { Timeline } from "./timeline";
import { Tools } from "./tools";

export function Page({ app }: { app: App }) {
  useApp(app);
  const scroller = useRef<HTMLDivElement>(null);
  const overview = useRef<HTMLDivElement>(null);
  const canvases = useRef<{ setDark: (isDark: boolean) => void }[]>([]);
  const [size, setSize] = useState(300);
  const [isSystemDark, setSystemDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  useEffect(() => {
    const timeline = new Timeline(app, scroller.current!);
    canvases.current = [timeline, new Overview(app, overview.current!)];
    Object.assign(window, { lookbackFrames: timeline.frames });
    listen(app);
    const query = matchMedia("(prefers-color-scheme: dark)");
    query.addEventListener("change", () => {
      setSystemDark(query.matches);
    });
  }, [app]);
  const isDark = app.theme === "auto" ? isSystemDark : app.theme === "dark";
  useEffect(() => {
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    canvases.current.forEach((canvas) => {
      canvas.setDark(isDark);
    });
  }, [isDark]);
  const resize = (event: PointerEvent) => {
    const begin = { y: event.clientY, size };
    const move = (event: PointerEvent) => {
      setSize(clamp(begin.size + begin.y - event.clientY));
    };
    const end = () => {
      window.removeEventListener("pointermove", move);
      window.removeEventListener("pointerup", end);
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end);
  };
  const key = (event: KeyboardEvent) => {
    const by = event.key === "ArrowUp" ? 24 : event.key === "ArrowDown" ? -24 : 0;
    if (by !== 0) {
      event.preventDefault();
      setSize(clamp(size + by));
    }
  };
  return (
    <div class="page">
      <Head app={app} />
      <div class="body">
        <Findings app={app} />
        <main>
          <Tools app={app} />
          <div class="overview" ref={overview} />
          <div class="timeline" ref={scroller} tabIndex={0} aria-label="Timeline" />
          <div
            class="grip"
            role="separator"
            aria-orientation="horizontal"
            aria-label="Height of the panel"
            tabIndex={0}
            onPointerDown={resize}
            onKeyDown={key}
          />
          <div class="panel" style={{ height: `${size}px` }}>
            <Panel app={app} />
          </div>
        </main>
      </div>
      {app.isHelpShown && <Help app={app} />}
    </div>
  );
}

function clamp(size: number): number {
  return Math.max(90, Math.min(size, window.innerHeight - 260));
}
