// What the page is, and what is not in it.

import type { App } from "./app";
import { count } from "./format";

export function About({ app }: { app: App }) {
  const { header } = app.model;
  const { summary } = header;
  return (
    <div class="about">
      <p>
        <b>{summary.file}</b>, {count(header.events)} events in {count(header.generations.length)} generations, by{" "}
        {header.program}. This page is one file with all of its data inside: it asks nothing of a network, and its policy lets
        it ask nothing.
      </p>
      <p>
        {count(app.model.slices.count)} polls and regions, {count(app.model.tasks.count)} tasks, {count(app.model.spans.count)}{" "}
        spans, {count(app.model.wakes.count)} wakes and spawns, {count(app.model.notes.count)} logs and events,{" "}
        {count(app.model.samples.count)} samples.
      </p>
      {header.missing.length > 0 && (
        <>
          <h3>Not all is here</h3>
          <ul>
            {header.missing.map((what, i) => (
              <li key={i}>{what}</li>
            ))}
          </ul>
        </>
      )}
      {summary.damage.length > 0 && (
        <>
          <h3>Damage</h3>
          <ul>
            {summary.damage.map((what, i) => (
              <li key={i}>{what}</li>
            ))}
          </ul>
        </>
      )}
      {summary.incident.causes.map((cause, i) => (
        <p key={i}>
          Fired: {cause.trigger}: {cause.reason}
        </p>
      ))}
    </div>
  );
}
