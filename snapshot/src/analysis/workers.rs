//! Workers: how busy they were, and how much of that is not recorded.

use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::WorkerNow;
use super::{Finding, Score, Section, ThreadRef, Unit};
use crate::format::{counted, duration, percent};
use crate::read::WorkerId;
use crate::wire::{Nanos, ThreadNumber};

/// A worker should not be at work for a larger part of its time than this.
pub const BUSY_WORKER: f64 = 0.9;
/// The largest part of the time at work that may lie outside the polls of recorded tasks.
pub const UNINSTRUMENTED: f64 = 0.5;
/// Workers that were at work for a smaller part of their time are not examined further.
const IDLE: f64 = 0.1;
/// If more of a worker's time than this is unknown, the report says so.
const UNKNOWN: f64 = 0.1;
/// The most such workers that are listed one by one.
const TOLD: usize = 16;
/// A worker that was observed for less time than this is not judged.
const SHORT: Nanos = Nanos(100_000_000);

/// Workers, by runtime and number.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Workers {
    /// The workers.
    pub workers: Vec<WorkerTime>,
}

/// What a worker did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkerTime {
    /// The worker.
    pub worker: WorkerId,
    /// The name that it was given, if any.
    pub name: Option<String>,
    /// Its thread, current or last.
    pub thread: ThreadRef,
    /// How much of its time these numbers cover: the time from which no event is missing.
    pub observed: Nanos,
    /// How long it had nothing to do.
    pub parked: Nanos,
    /// How long it polled recorded tasks.
    pub polling: Nanos,
    /// How long it did something else: looked for work, drove I/O and timers, polled tasks that are not
    /// recorded.
    pub outside: Nanos,
    /// How long it was neither parked nor polling a recorded task, without it being known whether it was at
    /// work at all. Its thread may have left the runtime where no record shows that (Tokio's own
    /// `Runtime::block_on`, on a current-thread runtime), or no record shows when it sleeps (a
    /// `lookback::worker` that never parks).
    pub unknown: Nanos,
    /// The number of those polls.
    pub polls: u64,
    /// The longest of them.
    pub longest: Nanos,
    /// Whether no thread is this worker any more.
    pub gone: bool,
}

impl WorkerTime {
    /// Its label: the name that it was given, or `r0/w3`.
    #[must_use]
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.worker.to_string())
    }

    /// The part of its time that it was at work, 0 to 1; at least, if some of it is unknown.
    #[must_use]
    pub fn busy(&self) -> f64 {
        share(self.polling.plus(self.outside), self.observed)
    }
}

fn share(part: Nanos, whole: Nanos) -> f64 {
    if whole.0 == 0 { 0.0 } else { part.0 as f64 / whole.0 as f64 }
}

impl Workers {
    /// The part of the time at work that lies outside the polls of recorded tasks, 0 to 1.
    #[must_use]
    pub fn uninstrumented(&self) -> f64 {
        let sum =
            |of: fn(&WorkerTime) -> Nanos| self.workers.iter().map(of).fold(Nanos(0), Length::plus);
        let outside = sum(|worker| worker.outside);
        let polling = sum(|worker| worker.polling);
        share(outside, outside.plus(polling))
    }

    /// How long they were at work, in all.
    #[must_use]
    pub fn at_work(&self) -> Nanos {
        let at_work = self.workers.iter().map(|worker| worker.outside.plus(worker.polling));
        at_work.fold(Nanos(0), Length::plus)
    }

    /// How many polls of recorded tasks there were.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.workers.iter().map(|worker| worker.polls).fold(0, u64::saturating_add)
    }

    /// The part of their time that the workers were at work, 0 to 1.
    #[must_use]
    pub fn busy(&self) -> f64 {
        let sum =
            |of: fn(&WorkerTime) -> Nanos| self.workers.iter().map(of).fold(Nanos(0), Length::plus);
        share(sum(|worker| worker.outside.plus(worker.polling)), sum(|worker| worker.observed))
    }
}

/// The workers at the end of the snapshot. A thread that waits for a lock, for as long as `waited` says, is not at work.
pub(super) fn finish(
    context: &ReportContext<'_>,
    tasks: bool,
    waited: impl Fn(ThreadNumber) -> Nanos,
) -> Section<Workers> {
    let mut section = Section::<Workers>::default();
    for (id, worker) in &context.live.workers {
        let polling = worker.polling.min(worker.unparked);
        let (outside, unknown) = worker.outside();
        section.table.workers.push(WorkerTime {
            worker: *id,
            name: context.live.given_name(*id).map(str::to_owned),
            thread: context.thread(worker.thread),
            observed: worker.parked.plus(worker.unparked),
            parked: worker.parked,
            polling,
            outside,
            unknown,
            polls: worker.polls,
            longest: worker.longest,
            gone: worker.now == WorkerNow::Gone,
        });
    }
    if section.table.workers.is_empty() {
        return Section::nothing(
            "no worker is recorded: `lookback::tokio::instrument` records those of a runtime",
        );
    }
    if context.live.doubts.any() {
        section.not_assessed.push(format!(
            "the times from which events are missing are left out: {}",
            context.live.doubts.because()
        ));
    }
    let mut more_unknown = 0_u64;
    for worker in section.table.workers.iter().filter(|worker| worker.observed >= SHORT) {
        let is_unknown = share(worker.unknown, worker.observed) > UNKNOWN;
        more_unknown += u64::from(is_unknown && section.not_assessed.len() >= TOLD);
        if is_unknown && section.not_assessed.len() < TOLD {
            section.not_assessed.push(format!(
                "whether worker {} ({}) was at work is not known for {} of its {}: {}",
                worker.label(),
                worker.thread.called(),
                duration(worker.unknown),
                duration(worker.observed),
                match worker.name {
                    Some(_) => "when it sleeps is told by `Worker::park` and `Worker::unpark`",
                    None =>
                        "when its thread leaves the runtime is told by `lookback::block_on`, not by \
                         Tokio's",
                }
            ));
        }
        let at_work = worker.polling.plus(worker.outside).since(waited(worker.thread.number));
        let busy = share(at_work, worker.observed);
        if let Some(score) = Score::beyond(busy, BUSY_WORKER, Unit::Share) {
            let title = format!(
                "Worker {} ({}) was at work for {} of its {}",
                worker.label(),
                worker.thread.called(),
                percent(busy),
                duration(worker.observed)
            );
            let began = context.end.since(worker.observed);
            let mut evidence = context.evidence("what it did", began, None);
            evidence.thread = Some(worker.thread.clone());
            let evidence = vec![evidence];
            section.findings.push(Finding::new("workers", title, score, evidence));
        }
    }
    if more_unknown > 0 {
        let more = counted(more_unknown, "more worker");
        section.not_assessed.push(format!("of {more}, too, it is not known"));
    }
    if tasks {
        section.findings.extend(uninstrumented(&section.table));
    } else {
        section.not_assessed.push(
            "no task is recorded: what the workers polled is not known; `lookback::spawn` records tasks"
                .to_owned(),
        );
    }
    section.settle(5)
}

fn uninstrumented(workers: &Workers) -> Option<Finding> {
    // If there is little work, nearly all of it is the runtime's own.
    if workers.busy() < IDLE || workers.at_work() < SHORT {
        return None;
    }
    let share = workers.uninstrumented();
    let score = Score::beyond(share, UNINSTRUMENTED, Unit::Share)?;
    let title = format!(
        "{} of the workers' time at work was outside of the polls of recorded tasks",
        percent(share)
    );
    Some(Finding::new("workers", title, score, Vec::new()))
}
