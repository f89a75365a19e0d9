//! The workers of a generation, followed from event to event.
//!
//! A worker is a place where tasks run. Threads become it one after the other, and each time is a tenure with
//! a number. A later tenure ends an earlier one, even if no record says so. The first pass counts how often
//! the worker parks and goes on in each tenure, and the next tenure begins after all of that. It does not wait
//! for the `worker_stop` of the one before: a thread may notice much later that another has become its worker.

use super::wait_list::{Progress, Whose};
use crate::read::decode::initial_state::InitialState;
use crate::read::decode::thread_context::{Tenure, ThreadContext};
use crate::wire::Kind;
use std::fmt;

#[derive(Clone, Copy, Debug, Default)]
struct WorkerEntry {
    /// The current tenure; 0 if unknown.
    tenure: u64,
    /// How often it is still to park or to go on.
    left: u32,
    /// The stream whose thread is the worker.
    holder: Option<u32>,
}

/// What is wrong with an event of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerInconsistency {
    /// This tenure begins, and that one began before.
    Tenure(u64, u64),
    /// The thread becomes a worker, and is one already.
    Already,
    /// The thread is no worker.
    None,
    /// The worker is parked, or running, already.
    Parked,
    Running,
}

impl fmt::Display for WorkerInconsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenure(is, was) => {
                write!(f, "tenure {is} begins, and tenure {was} did before")
            }
            Self::Already => f.write_str("the thread is a worker already"),
            Self::None => f.write_str("the thread is no worker"),
            Self::Parked => f.write_str("it is parked already"),
            Self::Running => f.write_str("it goes on, and was not parked"),
        }
    }
}

/// See the module.
pub(crate) struct WorkerStates {
    places: Vec<WorkerEntry>,
}

impl WorkerStates {
    /// The workers of a generation, of which these have a thread when it begins.
    pub(crate) fn new(begin: &InitialState, held: impl Iterator<Item = Tenure>) -> Self {
        let mut places = vec![WorkerEntry::default(); begin.workers.count()];
        for tenure in held {
            if let Some(place) = places.get_mut(usize::from(tenure.worker)) {
                let left = begin.tenures.get(&(tenure.worker, tenure.number));
                if tenure.number >= place.tenure {
                    (place.tenure, place.left) = (tenure.number, left.copied().unwrap_or(0));
                }
            }
        }
        Self { places }
    }

    /// How far a worker has come: two steps for each tenure, the second of which is that no event of it is
    /// still to come.
    pub(crate) fn progress(&self, worker: u16) -> Progress {
        let level = self.places.get(usize::from(worker)).map_or(u64::MAX, |place| {
            place.tenure.saturating_mul(2).saturating_add(u64::from(place.left == 0))
        });
        Progress { of: Whose::Worker(worker), level }
    }

    /// What the beginning of a tenure must wait for.
    pub(crate) fn start_waits(
        &self,
        worker: u16,
        tenure: u64,
        begin: &InitialState,
    ) -> Option<Progress> {
        let before = begin.tenures.range((worker, 0)..(worker, tenure)).next_back()?.0.1;
        let level = before.saturating_mul(2).saturating_add(1);
        let was = self.progress(worker).level;
        (was < level).then_some(Progress { of: Whose::Worker(worker), level })
    }

    /// A tenure begins, or is stated. Returns the stream whose thread was the worker before.
    pub(crate) fn start(
        &mut self,
        stream: u32,
        tenure: Tenure,
        begin: &InitialState,
    ) -> (Option<u32>, Result<(), WorkerInconsistency>) {
        let Some(place) = self.places.get_mut(usize::from(tenure.worker)) else {
            return (None, Ok(()));
        };
        if place.tenure == tenure.number && tenure.stated {
            // After a loss it may be stated again.
            place.holder = Some(stream);
            return (None, Ok(()));
        }
        if place.tenure >= tenure.number && place.tenure > 0 {
            return (None, Err(WorkerInconsistency::Tenure(tenure.number, place.tenure)));
        }
        let left = begin.tenures.get(&(tenure.worker, tenure.number)).copied().unwrap_or(0);
        let before = place.holder.replace(stream).filter(|holder| *holder != stream);
        (place.tenure, place.left) = (tenure.number, left);
        (before, Ok(()))
    }

    /// The last tenure of each worker that is known to have had one.
    pub(crate) fn tenures(&self) -> impl Iterator<Item = (u16, u64)> {
        self.places.iter().enumerate().map(|(worker, place)| (worker as u16, place.tenure))
    }

    /// Whether a later tenure has ended this one.
    pub(crate) fn is_over(&self, tenure: Tenure) -> bool {
        let place = self.places.get(usize::from(tenure.worker));
        place.is_some_and(|place| place.tenure > tenure.number)
    }

    /// A thread's worker parks, continues or stops.
    pub(crate) fn apply(
        &mut self,
        kind: Kind,
        inside: &mut ThreadContext,
    ) -> (Option<u16>, Result<(), WorkerInconsistency>) {
        let Some(tenure) = &mut inside.worker else {
            // A thread that lost its worker to another may notice that much later.
            let lost = if kind == Kind::WorkerStop { inside.lost.take() } else { None };
            return (lost, lost.map(drop).ok_or(WorkerInconsistency::None));
        };
        let worker = tenure.worker;
        if kind == Kind::WorkerStop {
            inside.worker = None;
            return (Some(worker), Ok(()));
        }
        if let Some(place) = self.places.get_mut(usize::from(worker))
            && place.tenure == tenure.number
        {
            place.left = place.left.saturating_sub(1);
        }
        let parks = kind == Kind::WorkerPark;
        let outcome = match kind {
            Kind::WorkerPark if tenure.parked => Err(WorkerInconsistency::Parked),
            Kind::WorkerUnpark if !tenure.parked => Err(WorkerInconsistency::Running),
            _ => Ok(()),
        };
        tenure.parked = parks;
        (Some(worker), outcome)
    }
}
