//! What a snapshot tells: what stood out, with its evidence, and what cannot be said.
//!
//! [`Report::of`] reads the events once, in order. `state` follows what lives (threads, tasks,
//! spans, workers) and hands what is over to small analyses, a file each, which keep the worst few
//! and count the rest. So memory grows with what lives at once, not with the file.
//!
//! Nothing is concluded from an event that is not there while events may be missing: `doubts` knows
//! where that is, and what cannot be assessed says why. `docs/summary.md` has the limits and how a
//! score is computed.

mod begin;
mod busy;
mod by_name;
mod changes;
mod counters;
mod coverage;
mod delays;
mod doubts;
mod endings;
mod finding;
mod histogram;
mod incident;
mod inner;
mod left_out;
mod length;
mod logs;
mod losses;
mod map;
mod names;
mod pass;
mod polls;
mod refs;
mod regions;
mod score;
mod scribe;
mod spans;
mod standing;
mod state;
mod step;
mod stuck;
mod top;
mod waits;
mod workers;

#[cfg(test)]
mod alike_tests;
#[cfg(test)]
mod causes_tests;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;

pub use busy::{BusyLoop, BusyLoops, LONG_SPIN};
pub use changes::{Change, Changes, LAST};
pub use counters::{CounterRange, Counters};
pub use coverage::{Coverage, MISSING, without_statuses};
pub use delays::{Delay, Delays, LONG_DELAY};
pub use endings::{Endings, Panic};
pub use finding::{Evidence, Finding, Moment, Section, SpanRef, TaskRef, ThreadRef};
pub use histogram::Histogram;
pub use incident::{Cause, Incident};
pub use left_out::LeftOut;
pub use logs::{LogLine, Logs};
pub use losses::{LOST_SHARE, Losses};
pub use polls::{LONG_POLL, LongPoll, Polls, Victim};
pub use refs::{BlockerRef, WakeRef};
pub use regions::{RegionName, Regions, SlowRegion};
pub use score::{Score, Unit};
pub use spans::{
    FEWEST_SPANS, SLOW_SPAN, SLOW_SPAN_LEAST, SlowSpan, SpanGap, SpanName, SpanTime, Spans,
};
pub use standing::{STANDS, Stand, StandingStill};
pub use stuck::{FEWEST_WAITS, IdleTask, STUCK, StuckTasks};
pub use waits::{LongWait, WaitReason, Waits};
pub use workers::{BUSY_WORKER, UNINSTRUMENTED, WorkerTime, Workers};

use crate::read::{ReadError, Trace};
use crate::wire::Nanos;

/// What a snapshot tells.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Why it was taken, and where that happened.
    pub incident: Section<Incident>,
    /// What fired, and what is covered.
    pub coverage: Section<Coverage>,
    /// Long polls.
    pub polls: Section<Polls>,
    /// Long times from wake to poll.
    pub delays: Section<Delays>,
    /// Spans by name, and where the time of the slowest went.
    pub spans: Section<Spans>,
    /// Regions by name.
    pub regions: Section<Regions>,
    /// Threads and tasks that stand still in a lock at the end.
    pub standing: Section<StandingStill>,
    /// Tasks that nobody polls or wakes.
    pub stuck: Section<StuckTasks>,
    /// What tasks waited for.
    pub waits: Section<Waits>,
    /// Tasks that wake themselves all the time.
    pub busy: Section<BusyLoops>,
    /// How tasks ended.
    pub endings: Section<Endings>,
    /// How busy workers were.
    pub workers: Section<Workers>,
    /// Counters' ranges.
    pub counters: Section<Counters>,
    /// What was different in the last second.
    pub changes: Section<Changes>,
    /// What was lost.
    pub losses: Section<Losses>,
    /// The last logs.
    pub logs: Section<Logs>,
    /// When the snapshot ends, since its first event.
    pub end: Moment,
    /// Damage that was met, in the order of the file.
    pub damage: Vec<ReadError>,
}

impl Report {
    /// Reads all of a snapshot, and says what stood out.
    ///
    /// ```no_run
    /// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
    /// let report = lookback_snapshot::analysis::Report::of(&trace);
    /// for finding in report.findings() {
    ///     println!("{:.2}  {}", finding.score.number(), finding.title);
    /// }
    /// # Ok::<(), lookback_snapshot::ReadError>(())
    /// ```
    #[must_use]
    pub fn of(trace: &Trace) -> Self {
        pass::report(trace)
    }

    /// All findings, by descending score; those of one analysis in its own order, which is by the time
    /// that they cost where that is known.
    #[must_use]
    pub fn findings(&self) -> Vec<&Finding> {
        let sections = [
            &self.incident.findings,
            &self.coverage.findings,
            &self.polls.findings,
            &self.delays.findings,
            &self.spans.findings,
            &self.regions.findings,
            &self.standing.findings,
            &self.stuck.findings,
            &self.waits.findings,
            &self.busy.findings,
            &self.endings.findings,
            &self.workers.findings,
            &self.counters.findings,
            &self.losses.findings,
            &self.logs.findings,
        ];
        let mut ranked = Vec::new();
        for section in sections {
            // What comes before another one of its section is as bad as that.
            let mut rank = 0.0_f64;
            let mut of_section: Vec<_> = section
                .iter()
                .rev()
                .map(|finding| {
                    rank = rank.max(finding.score.number());
                    (rank, finding)
                })
                .collect();
            of_section.reverse();
            ranked.extend(of_section);
        }
        ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        ranked.into_iter().map(|(_, finding)| finding).collect()
    }

    /// What could not be assessed: the analysis, and why.
    #[must_use]
    pub fn not_assessed(&self) -> Vec<(&'static str, &str)> {
        let sections = [
            ("coverage", &self.coverage.not_assessed),
            ("polls", &self.polls.not_assessed),
            ("delays", &self.delays.not_assessed),
            ("spans", &self.spans.not_assessed),
            ("regions", &self.regions.not_assessed),
            ("standing", &self.standing.not_assessed),
            ("stuck", &self.stuck.not_assessed),
            ("waits", &self.waits.not_assessed),
            ("busy", &self.busy.not_assessed),
            ("endings", &self.endings.not_assessed),
            ("workers", &self.workers.not_assessed),
            ("counters", &self.counters.not_assessed),
            ("changes", &self.changes.not_assessed),
            ("losses", &self.losses.not_assessed),
            ("logs", &self.logs.not_assessed),
        ];
        let told = sections.into_iter().flat_map(|(analysis, because)| {
            because.iter().map(move |because| (analysis, because.as_str()))
        });
        told.collect()
    }
}

/// When the last generation ends, by the clock of the events.
fn end(trace: &Trace) -> Nanos {
    let ends =
        trace.generations().iter().map(|info| Nanos(info.start.0.saturating_add(info.duration.0)));
    ends.max().unwrap_or_default()
}
