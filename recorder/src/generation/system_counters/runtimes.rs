//! The counters of runtimes, which say themselves how they fare.

#![forbid(unsafe_code)]

use super::Values;
use crate::record::control::Control;
use crate::record::runtimes::{RuntimeFigures, ask_all};
use lookback_snapshot::wire::SystemCounter;
use std::time::Duration;

/// The counters of each runtime, by its number. What one builder has built has one number, and is added up.
pub(super) fn read(control: &Control) -> Vec<(u32, Values)> {
    let mut all: Vec<(u32, RuntimeFigures)> = Vec::new();
    ask_all(control, |runtime, figures| {
        match all.iter_mut().find(|(known, _)| *known == runtime) {
            Some((_, before)) => *before = sum(*before, figures),
            None => all.push((runtime, figures)),
        }
    });
    all.into_iter().map(|(runtime, figures)| (runtime, values(figures))).collect()
}

fn sum(one: RuntimeFigures, other: RuntimeFigures) -> RuntimeFigures {
    RuntimeFigures {
        alive_tasks: one.alive_tasks.saturating_add(other.alive_tasks),
        queued_tasks: one.queued_tasks.saturating_add(other.queued_tasks),
        workers: one.workers.saturating_add(other.workers),
        busy: one.busy.saturating_add(other.busy),
        busiest: one.busiest.max(other.busiest),
        parks: one.parks.saturating_add(other.parks),
    }
}

fn values(figures: RuntimeFigures) -> Values {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut of = Values::NONE;
    of.add(SystemCounter::AliveTasks, figures.alive_tasks);
    of.add(SystemCounter::QueuedTasks, figures.queued_tasks);
    of.add(SystemCounter::Workers, figures.workers);
    of.add(SystemCounter::WorkersBusy, nanos(figures.busy));
    of.add(SystemCounter::BusiestWorker, nanos(figures.busiest));
    of.add(SystemCounter::Parks, figures.parks);
    of
}
