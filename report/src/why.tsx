// Where the time of the slowest span went: what `lookback why` says, with its path over the timeline.

import type { App } from "./app";
import { duration, moment } from "./format";
import { type Part, Parts } from "./parts";
import type { WhyPart } from "./schema";

export function WhyPanel({ app }: { app: App }) {
  const { why } = app.model.header;
  if (!why) return <p class="soft">No span is recorded, so there is nothing to account for.</p>;
  const { model } = app;
  const span = why.span ? model.spans.byId.get(why.span.span) : undefined;
  const task = why.task ? model.tasks.byId.get(why.task.task) : undefined;
  const show = () => {
    if (task !== undefined) app.rows.task(task);
    const row = span === undefined ? undefined : app.rows.all[app.rows.rowOfSpan[span]!];
    const keys = new Set(why.parts.map((part) => part.task).filter((id) => id !== undefined));
    const tasks = [...keys].map((id) => model.tasks.byId.get(id)).filter((task) => task !== undefined);
    app.pins = [
      ...new Set([
        ...(row ? [row.key] : []),
        ...(task === undefined ? [] : [app.rows.task(task).key]),
        ...tasks.slice(0, 4).map((task) => app.rows.task(task).key),
      ]),
    ];
    app.stretches = why.longest.map(({ t_ns, ns, state }) => ({ from: t_ns, until: t_ns + ns, state }));
    app.reveal = app.pins[0] ?? null;
    app.show(why.from_ns - why.length_ns * 0.1, why.from_ns + why.length_ns * 1.1, true);
  };
  return (
    <div class="columns">
      <div>
        <h2 class="thing">
          <span class="kind">{why.span ? "span" : "task"}</span> <span class="name">{why.span?.name ?? why.task?.name}</span>{" "}
          <span class="soft">{why.span?.fields}</span>
        </h2>
        <p>
          {duration(why.length_ns)} from {moment(why.from_ns)} s{why.open ? ", not ended" : ""}
          {why.task && `, by task ${why.task.name} (${why.task.task})`}.
          {why.shared && " Other tasks entered it, too: what they did is not included."}
          {!why.certain && " Events were lost in its time, so it may be incomplete."}
        </p>
        <button onClick={show}>Show its path</button>
        <h3>The longest stretches</h3>
        <table class="table">
          <tbody>
            {why.longest.map((stretch, i) => (
              <tr key={i}>
                <td class="number">
                  <button
                    class="link"
                    onClick={() => {
                      const margin = stretch.ns * 0.3 + 1000;
                      app.range = [stretch.t_ns, stretch.t_ns + stretch.ns];
                      app.show(stretch.t_ns - margin, stretch.t_ns + stretch.ns + margin, true);
                    }}
                  >
                    {moment(stretch.t_ns)}
                  </button>
                </td>
                <td class="number">{duration(stretch.ns)}</td>
                <td>{stretch.words}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <div>
        <h3>All of its time</h3>
        <Parts app={app} parts={why.parts.map(part)} />
      </div>
    </div>
  );
}

function part(of: WhyPart): Part {
  const where = of.awaited ? `: ${of.awaited}` : "";
  return {
    state: of.state,
    words: of.words + where,
    ns: of.ns,
    times: of.times,
    at: of.longest_t_ns,
    until: of.longest_t_ns + of.longest_ns,
    inner: of.followed?.parts.map(part),
  };
}
