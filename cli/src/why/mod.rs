//! `lookback why`: where the time of a span or a task went.

mod json;
mod print;

use crate::exit::{Damage, Verdict, complain, open};
use crate::format::quote;
use crate::frames;
use crate::ids::{parse_span, parse_task};
use clap::Args;
use lookback::read::Trace;
use lookback::read::analysis::{self, WhyOf};
use lookback::read::wire::TaskId;
use serde_json::Value;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

/// Account for the time of one span or task: running, ready, waiting for a lock, for another task, for I/O or a timer.
#[derive(Args, Debug)]
#[command(after_help = "\
The parts add up to the whole, to the nanosecond. What cannot be known is a part of its own, with the reason. A span is \
accounted for by the task that entered it first; if others entered it, too, that is said.

Where the task waited for another one, or for a lock that another one held, the parts of that task's time meanwhile are \
shown below, indented: those of the longest waits, with their sum.

`running`, `blocked` and `waited for a core` are the least that the kernel's counts prove, which the recorder reads once \
a generation; the rest of the time in polls is `polled`. A wait is for I/O or a timer if the worker itself ended it; which, \
its await chain tells, if a generation ended meanwhile.

With the name of a span it is about the slowest of these that has ended, and then about all of them that began and ended in \
the snapshot: what the slowest half, tenth and hundredth spent their time with, and the parts of the slowest hundredth.

With --json: one object with `file`, `span` {span, name, fields} or null, `task` {task, name} or null, `t_ns`, `from_ns` \
(later, if it began before the snapshot), `length_ns`, `open`, `shared` (other tasks entered the span, too), `certain` \
(no event was lost meanwhile), `parts` [{state, words, ns, share, times, longest_ns, longest_t_ns, thread, \
thread_name, worker, task, task_name, reason, awaited, lock {number, kind, at, held_at, thread, os_thread, task, task_name, \
across_await}, frames, followed {ns, parts}}], `longest` [{t_ns, ns, state, words}] (of `running`, `core`, `blocked` and `polled`, `times` and `longest_ns` are about \
whole polls), `all` {name, count, open, p50_ns, p90_ns, p99_ns, \
max_ns, slowest [{beyond, limit_ns, spans, ns, parts [{words, ns, share}]}], accounted {spans, ns, parts [as those above, of the slowest hundredth]}} or null, and `damage` [what cannot be read]. \
`state` is `running`, `core`, `blocked`, `polled`, `ready`, `lock`, `task`, `wake`, `not_woken`, `stopped` or `unknown`.

Examples:
  lookback why incident.lbk
  lookback why incident.lbk --span checkout
  lookback why incident.lbk --task 7
  lookback why incident.lbk --json | jq -r '.parts[] | \"\\(.share) \\(.words)\"'")]
pub struct Why {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Of this span (7, 7.2), of the slowest of this name, or of the one that `summary` names first
    #[arg(long, value_name = "ID|NAME|slowest", default_value = "slowest")]
    span: String,
    /// Of this task (7, 7.2), as long as it lived
    #[arg(long, value_name = "ID", value_parser = parse_task, conflicts_with = "span")]
    task: Option<TaskId>,
    /// Name the functions of stacks even if the snapshot comes from another machine or from before this one's last boot,
    /// and also look for debug information in this directory
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Print one JSON value
    #[arg(long)]
    json: bool,
}

impl Why {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let trace = open(&self.file)?;
        let Some(why) = self.find(&trace) else {
            let damage = Damage::of(&trace);
            damage.tell();
            complain(&format!("{}: {}", self.file.display(), self.nothing(&trace)));
            return Ok(Verdict::Bad);
        };
        let mut damage = Damage::of(&trace);
        for generation in trace.generations() {
            generation.damage.iter().for_each(|error| damage.note(error));
        }
        let mut symbolizer = frames::symbolizer(&trace, &self.symbols);
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            let value = json::why(&why, &trace, damage.lines(), symbolizer.as_mut());
            writeln!(out, "{value:#}")?;
        } else {
            print::why(&why, &self.file, symbolizer.as_mut(), &mut out)?;
        }
        out.flush()?;
        Ok(damage.tell())
    }

    fn find(&self, trace: &Trace) -> Option<analysis::Why> {
        if let Some(task) = self.task {
            return analysis::Why::of(trace, WhyOf::Task(task));
        }
        if self.span == "slowest" {
            return analysis::Why::of(trace, WhyOf::Slowest);
        }
        // A name may be a number, too.
        let by_id = parse_span(&self.span).and_then(|id| analysis::Why::of(trace, WhyOf::Span(id)));
        by_id.or_else(|| analysis::Why::of(trace, WhyOf::SpansOf(self.span.clone())))
    }

    /// Why there is nothing to account for.
    fn nothing(&self, trace: &Trace) -> String {
        if let Some(task) = self.task {
            return format!(
                "no task {task}; `lookback events FILE --kind task_create` lists the spawned tasks"
            );
        }
        let has_spans = analysis::Why::of(trace, WhyOf::Slowest).is_some();
        match has_spans {
            true => format!(
                "no span {}; `lookback summary` lists the names of spans, and `lookback events FILE --kind span_create` the spans",
                quote(&self.span)
            ),
            false => {
                "no span is recorded; `lookback why FILE --task ID` is about a task".to_owned()
            }
        }
    }
}

/// The account of the slowest span, as JSON; none if there is no span.
pub fn slowest(trace: &Trace, symbols: &[PathBuf]) -> Option<Value> {
    let why = analysis::Why::of(trace, WhyOf::Slowest)?;
    let mut symbolizer = frames::symbolizer(trace, symbols);
    Some(json::why(&why, trace, &[], symbolizer.as_mut()))
}
