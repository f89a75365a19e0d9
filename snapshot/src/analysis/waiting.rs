//! Where the tasks wait that the report names as stuck, or as still waiting for what they said.
//!
//! A recorder lists where tasks wait when a generation ends. So that is known of a task that has been idle since before the
//! last complete generation's end.

use super::{Moment, Report, end};
use crate::read::{OwnedFrame, Stack, Trace, WaitsAt};
use crate::wire::TaskId;
use std::collections::{BTreeMap, HashMap};

/// How many frames of a stack to keep: a recorder writes no more.
const FRAMES: usize = 128;

/// One of the places where a task waits.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WaitPlace {
    /// The task's await chain, innermost frame first.
    pub stack: Vec<OwnedFrame>,
    /// Whether its waker was registered there in a poll before the last one: see
    /// [`WaitsAt::is_earlier`](crate::WaitsAt::is_earlier).
    pub is_earlier: bool,
}

/// Where a task waits, and where it was spawned.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct WaitingAt {
    /// The places, that registered last first.
    pub places: Vec<WaitPlace>,
    /// The stack of the thread that spawned it, innermost frame first; empty if the recorder was not asked to keep it.
    pub spawned_by: Vec<OwnedFrame>,
}

/// Of the tasks that the report names, by task.
pub(super) fn of(report: &Report, trace: &Trace) -> BTreeMap<TaskId, WaitingAt> {
    let idle = report.stuck.table.longest.iter().map(|idle| (idle.task.task, idle.since));
    let found = report.stuck.findings.iter().flat_map(|finding| &finding.evidence);
    let found = found.filter_map(|evidence| Some((evidence.task.as_ref()?.task, evidence.at)));
    let waits = report.waits.table.reasons.iter().flat_map(|of| &of.longest);
    let open = waits.filter(|wait| wait.open).map(|wait| (wait.task.task, wait.began));
    let named: HashMap<TaskId, Moment> = idle.chain(found).chain(open).collect();
    let last = trace.generations().iter().rev().find(|info| info.complete);
    let Some(last) = last.filter(|_| !named.is_empty()) else { return BTreeMap::new() };
    let Ok(generation) = trace.generation(last.number) else { return BTreeMap::new() };
    let after = end(trace).0.saturating_sub(generation.ended().monotonic.0);
    let moment = report.end.0.saturating_sub(i64::try_from(after).unwrap_or(i64::MAX));
    let is_asked = |task: &TaskId| named.get(task).is_some_and(|since| since.0 <= moment);
    let frames = |stack: Option<Stack<'_>>| {
        stack.iter().flat_map(Stack::frames).take(FRAMES).map(Into::into).collect()
    };
    let owned =
        |place: WaitsAt<'_>| WaitPlace { stack: frames(place.stack), is_earlier: place.is_earlier };
    let mut found: BTreeMap<TaskId, WaitingAt> = BTreeMap::new();
    for task in generation.waiting().filter(|task| is_asked(&task.task)) {
        found.entry(task.task).or_default().places = task.places().map(owned).collect();
    }
    for task in named.keys() {
        if let Some(stack) = generation.spawned_by(*task) {
            found.entry(*task).or_default().spawned_by = frames(Some(stack));
        }
    }
    found
}
