// What fired, what is covered, and what is missing.

import type { App } from "./app";
import { count, duration, percent, plural } from "./format";

export function Head({ app }: { app: App }) {
  const { summary, missing, events } = app.model.header;
  const { coverage, incident, losses } = summary;
  const cause = incident.causes[0];
  const lost = Object.values(losses.lost).reduce((sum, n) => sum + n, 0);
  const where = cause?.where;
  return (
    <header class="head">
      <div class="what">
        <span class="brand">lookback</span>
        <h1>{cause?.reason ?? coverage.reason ?? "A snapshot"}</h1>
        {where && (
          <button
            class="link"
            onClick={() => {
              app.jump(null, where);
            }}
          >
            show where
          </button>
        )}
      </div>
      <dl class="facts">
        <Fact name="process">
          {coverage.process ?? "?"}
          {coverage.pid === null ? "" : ` (${coverage.pid})`}
        </Fact>
        {coverage.taken && <Fact name="taken">{coverage.taken}</Fact>}
        {coverage.trigger && <Fact name="trigger">{coverage.trigger}</Fact>}
        <Fact name="covered">
          {duration(coverage.covered_ns)}
          {coverage.window_ns ? ` of a window of ${duration(coverage.window_ns)}` : ""}
        </Fact>
        <Fact name="events">{count(events)}</Fact>
        <Fact name="lost" isBad={lost > 0}>
          {lost > 0 ? `${plural(lost, "event")} (${percent(losses.share)})` : "none"}
        </Fact>
        {coverage.gaps > 0 && (
          <Fact name="gaps" isBad>
            {coverage.gaps}
          </Fact>
        )}
        {summary.damage.length > 0 && (
          <Fact name="damage" isBad>
            {plural(summary.damage.length, "place")}; see About
          </Fact>
        )}
      </dl>
      {missing.length > 0 && (
        <p class="missing" role="note">
          Too much for one page, so not all is here: {missing.join("; ")}.
        </p>
      )}
    </header>
  );
}

function Fact({ name, children, isBad }: { name: string; children: preact.ComponentChildren; isBad?: boolean }) {
  return (
    <div class={isBad ? "fact bad" : "fact"}>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
