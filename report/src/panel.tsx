// The panel below the timeline: one of several at a time.

import type { App, Tab } from "./app";
import { TABS } from "./app";
import { About } from "./about";
import { Details } from "./details";
import { Flame } from "./flame";
import { Logs } from "./logs";
import { Selection } from "./selection";
import { Spans } from "./spans";
import { Tasks } from "./tasks";
import { WhyPanel } from "./why";

export function Panel({ app }: { app: App }) {
  const move = (event: KeyboardEvent) => {
    const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (by === 0) return;
    event.preventDefault();
    const place = TABS.findIndex(([tab]) => tab === app.tab);
    open(app, TABS[(place + by + TABS.length) % TABS.length]![0]);
    requestAnimationFrame(() => document.getElementById(`tab-${app.tab}`)?.focus());
  };
  return (
    <>
      <div class="tabs" role="tablist" aria-label="Panels" onKeyDown={move}>
        {TABS.map(([tab, name]) => (
          <button
            key={tab}
            id={`tab-${tab}`}
            role="tab"
            aria-selected={tab === app.tab}
            aria-controls="panel"
            tabIndex={tab === app.tab ? 0 : -1}
            onClick={() => {
              open(app, tab);
            }}
          >
            {name}
          </button>
        ))}
      </div>
      <section
        id="panel"
        class="content"
        role="tabpanel"
        aria-labelledby={`tab-${app.tab}`}
        aria-live={app.tab === "details" ? "polite" : "off"}
      >
        <Content app={app} />
      </section>
    </>
  );
}

function open(app: App, tab: Tab) {
  app.tab = tab;
  app.changed();
}

function Content({ app }: { app: App }) {
  switch (app.tab) {
    case "details":
      return <Details app={app} />;
    case "selection":
      return <Selection app={app} />;
    case "why":
      return <WhyPanel app={app} />;
    case "flame":
      return <Flame app={app} />;
    case "spans":
      return <Spans app={app} />;
    case "tasks":
      return <Tasks app={app} />;
    case "logs":
      return <Logs app={app} />;
    case "about":
      return <About app={app} />;
  }
}
