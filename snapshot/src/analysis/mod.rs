//! What a snapshot tells: what stood out, with evidence, and what cannot be said.
//!
//! [`Report::of`] reads the events once, in order. `state` follows everything that lives (threads, tasks,
//! spans, workers) and hands whatever has ended to small analyses, a file each, which keep the worst few and
//! count the rest. So memory grows with what lives at one time, not with the file.
//!
//! No analysis concludes anything from the absence of an event while events may be missing: `completeness`
//! knows where that is, and what cannot be assessed says why. `docs/summary.md` has the limits and the
//! computation of scores.

mod blocking_pool;
mod busy;
mod by_name;
mod changes;
mod completeness;
mod contention_profile;
mod counters;
mod coverage;
mod cpu_profile;
mod delays;
mod diff;
mod event_view;
mod finding;
mod frame_numbers;
mod heap_growth;
mod heap_profile;
mod histogram;
mod idle_tasks;
mod incident;
mod initial_state;
mod inner;
mod interner;
mod left_out;
mod lock_times;
mod lock_wait;
mod locks;
mod logs;
mod losses;
mod nanos_ext;
mod onlooker;
mod outcomes;
mod pass;
mod polls;
mod ranges;
mod ranking;
mod refs;
mod regions;
mod report_context;
mod runtimes;
mod score;
mod slices;
mod span_gaps;
mod spans;
mod standing;
mod starved;
mod state;
mod stopped;
mod stuck;
mod system;
mod task_numbers;
mod task_outcomes;
mod thread_places;
mod top_n;
mod waiting;
mod waits;
mod why;
mod workers;

#[cfg(test)]
mod alike_tests;
#[cfg(test)]
mod causes_tests;
#[cfg(test)]
mod test_trace;
#[cfg(test)]
mod tests;

pub use blocking_pool::{BlockingPool, LONG_QUEUED};
pub use busy::{BusyLoop, BusyLoops, LONG_SPIN};
pub use changes::{Change, Changes, LAST};
pub use contention_profile::{ContendedStack, ContentionProfile};
pub use counters::{CounterRange, Counters, GROWN_QUEUE, GROWN_QUEUE_RATIO};
pub use coverage::{Coverage, MISSING, without_statuses};
pub use cpu_profile::{CpuProfile, CpuStack};
pub use delays::{Delay, Delays, LONG_DELAY};
pub use diff::{
    Change as DiffChange, Diff, DiffSide, Difference, Function as DiffFunction, Kind as DiffKind,
    NotComparable, Numbers as DiffNumbers, What as DiffWhat,
};
pub use finding::{Evidence, Finding, Moment, Section, SpanRef, TaskRef, ThreadRef};
pub use heap_growth::{
    BURST_BYTES, BURST_RATIO, GROWN_BYTES, GROWN_RATIO, HeapGrowth, HeapStackChange,
};
pub use heap_profile::{AllocatingStack, HeapProfile};
pub use histogram::Histogram;
pub use idle_tasks::IdleTasks;
pub use incident::{Cause, Incident};
pub use left_out::LeftOut;
pub use lock_wait::LockWaiter;
pub use locks::{
    AcrossAwait, ContendedLock, FEWEST_WAITERS, FEWEST_WAITS_FOR_LOCK, LONG_WAITS, Locks,
};
pub use logs::{LogLine, Logs};
pub use losses::{LOST_SHARE, Losses};
pub use outcomes::{
    CANCELLED_ONE_IN, FAILED_ONE_IN, FAILED_ONE_IN_SINCE, FEWEST_CANCELLED, Failures, SpanOutcomes,
};
pub use polls::{LONG_POLL, LongPoll, Polls, Victim};
pub use ranges::{RangeName, Ranges, TROUBLED_SHARE};
pub use refs::{BlockerRef, WakeRef};
pub use regions::{RegionName, Regions, SlowRegion};
pub use runtimes::{LONG_QUEUE, RuntimeCounters, Runtimes};
pub use score::{Score, Unit};
pub use spans::{
    FEWEST_SPANS, SLOW_SPAN, SLOW_SPAN_LEAST, SlowSpan, SpanGap, SpanName, SpanTime, Spans,
};
pub use standing::{STANDS, Stand, StandingStill};
pub use starved::{STARVED_SHARE, STOLEN_SHARE, Starved};
pub use stopped::Stop;
pub use stuck::{FEWEST_WAITS, IdleTask, STUCK, StuckTasks};
pub use system::{DESCRIPTORS_SHARE, MEMORY_SHARE, System, SystemRange, THROTTLED_SHARE};
pub use task_numbers::{
    LARGE_FUTURE, LARGE_FUTURES, LEAKED_TASKS, SPAWN_STORM, SPAWN_STORM_RATIO, TaskNumbers,
    TasksOfName,
};
pub use task_outcomes::{Endings, Panic};
pub use thread_places::ThreadPlaces;
pub use waiting::{WaitPlace, WaitingAt};
pub use waits::{LongWait, WaitReason, Waits};
pub use why::{
    AllOfName, LockWaitedFor, Part, Seen, SlowestPart, Spent, State, Stretch, Why, WhyOf,
};
pub use workers::{BUSY_WORKER, UNINSTRUMENTED, WorkerTime, Workers};

use crate::read::{ReadError, Trace};
use crate::wire::{Nanos, TaskId};
use std::collections::BTreeMap;

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
    /// Closures that may block, and how long they waited for a thread.
    pub blocking: Section<BlockingPool>,
    /// Spans that failed or were cancelled.
    pub failures: Section<Failures>,
    /// Spans by name, and where the time of the slowest went.
    pub spans: Section<Spans>,
    /// Regions by name.
    pub regions: Section<Regions>,
    /// Threads and tasks that are stuck in a lock at the end.
    pub standing: Section<StandingStill>,
    /// Locks that were waited for, and who waits for whom at the end.
    pub locks: Section<Locks>,
    /// Tasks that are neither polled nor woken.
    pub stuck: Section<StuckTasks>,
    /// What tasks waited for.
    pub waits: Section<Waits>,
    /// Where those of these tasks wait that `stuck` and `waits` name, as far as it is known.
    pub waiting: BTreeMap<TaskId, WaitingAt>,
    /// Where threads are that stand still at the end.
    pub threads: ThreadPlaces,
    /// Tasks that keep waking themselves.
    pub busy: Section<BusyLoops>,
    /// How tasks ended.
    pub endings: Section<Endings>,
    /// How busy workers were.
    pub workers: Section<Workers>,
    /// Counters' ranges.
    pub counters: Section<Counters>,
    /// How the process, its control group and the machine fared.
    pub system: Section<System>,
    /// How executors' runtimes fared.
    pub runtimes: Section<Runtimes>,
    /// Whether others had the cores.
    pub starved: Section<Starved>,
    /// Ranges of the whole process.
    pub ranges: Section<Ranges>,
    /// How many tasks of each name there were, and how large their futures are.
    pub tasks: Section<TaskNumbers>,
    /// How the heap grew.
    pub heap: Section<HeapGrowth>,
    /// What was different in the last second.
    pub changes: Section<Changes>,
    /// What was lost.
    pub losses: Section<Losses>,
    /// The last logs.
    pub logs: Section<Logs>,
    /// The end of the snapshot, since its first event.
    pub end: Moment,
    /// The damage in the file, in its order.
    pub damage: Vec<ReadError>,
}

impl Report {
    /// Analyzes a whole snapshot.
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

    /// All findings: first those within the recorder's window, then those that were over before it. By descending
    /// score; those of one analysis in its own order, which is by the time that they cost if that is known. What
    /// mostly waited for a lock comes after the finding about who held that.
    #[must_use]
    pub fn findings(&self) -> Vec<&Finding> {
        let sections = [
            &self.incident.findings,
            &self.failures.findings,
            &self.coverage.findings,
            &self.polls.findings,
            &self.delays.findings,
            &self.blocking.findings,
            &self.spans.findings,
            &self.regions.findings,
            &self.locks.findings,
            &self.standing.findings,
            &self.stuck.findings,
            &self.waits.findings,
            &self.busy.findings,
            &self.endings.findings,
            &self.workers.findings,
            &self.counters.findings,
            &self.system.findings,
            &self.starved.findings,
            &self.runtimes.findings,
            &self.ranges.findings,
            &self.tasks.findings,
            &self.heap.findings,
            &self.losses.findings,
            &self.logs.findings,
        ];
        ranking::ranked(self, &sections)
    }

    /// How long before the end of the snapshot this was over, if that was before the recorder's window. A
    /// snapshot can go back further than that.
    #[must_use]
    pub fn before_window(&self, finding: &Finding) -> Option<Nanos> {
        let window = self.coverage.table.window.filter(|window| window.0 > 0)?;
        let evidence = finding.evidence.first()?;
        // Panics have no length; whatever else has no end was not over.
        let is_moment = ["incident", "endings"].contains(&finding.analysis);
        let over = evidence.until.or(is_moment.then_some(evidence.at))?;
        let ago = Nanos(u64::try_from(self.end.0.saturating_sub(over.0)).unwrap_or_default());
        (ago > window && finding.analysis != "failures").then_some(ago)
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
            ("locks", &self.locks.not_assessed),
            ("standing", &self.standing.not_assessed),
            ("stuck", &self.stuck.not_assessed),
            ("waits", &self.waits.not_assessed),
            ("busy", &self.busy.not_assessed),
            ("endings", &self.endings.not_assessed),
            ("workers", &self.workers.not_assessed),
            ("counters", &self.counters.not_assessed),
            ("system", &self.system.not_assessed),
            ("starved", &self.starved.not_assessed),
            ("runtimes", &self.runtimes.not_assessed),
            ("ranges", &self.ranges.not_assessed),
            ("tasks", &self.tasks.not_assessed),
            ("heap", &self.heap.not_assessed),
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

/// Where the threads of a snapshot are that stand still at its end, as its recorder has seen it: [`Report::threads`] alone.
#[must_use]
pub fn standing_threads(trace: &Trace) -> ThreadPlaces {
    let mut watch = thread_places::PlaceWatch::default();
    let mut events = trace.events();
    while let Some(next) = events.lend() {
        if let Ok(lent) = next {
            watch.view(&event_view::EventView::of(lent.event));
        }
    }
    watch.finish(end(trace))
}

/// See [`end`].
#[cfg(feature = "symbols")]
pub(crate) fn end_of(trace: &Trace) -> Nanos {
    end(trace)
}

/// When the last generation ends, by the clock of the events.
fn end(trace: &Trace) -> Nanos {
    let ends =
        trace.generations().iter().map(|info| Nanos(info.start.0.saturating_add(info.duration.0)));
    ends.max().unwrap_or_default()
}
