//! The workers of a generation, followed from event to event.
//!
//! A worker is a place where tasks run; threads take it one after the other, and each taking is a
//! tenure with a number. A later tenure ends an earlier one, even if nobody says so. The first pass
//! counts the events of each tenure, so that a tenure begins after all of those before it.

use super::begin::Begin;
use super::inside::{Inside, Tenure};
use super::waiting::{Level, Whose};
use crate::wire::Kind;
use std::fmt;

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The tenure that it is in; 0 if none is known.
    tenure: u64,
    /// How many events of it are still to come.
    left: u32,
    /// The stream whose thread has it.
    holder: Option<u32>,
}

/// What is wrong with an event of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerWrong {
    /// This tenure begins, when that one did before.
    Tenure(u64, u64),
    /// The thread takes a worker, and is one already.
    Already,
    /// The thread is no worker.
    None,
    /// It is parked, or runs, already.
    Parked,
    Running,
}

impl fmt::Display for WorkerWrong {
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
pub(super) struct WorkerStates {
    places: Vec<Place>,
}

impl WorkerStates {
    /// The workers of a generation, of which these are held when it begins.
    pub(super) fn new(begin: &Begin, held: impl Iterator<Item = Tenure>) -> Self {
        let mut places = vec![Place::default(); begin.workers.count()];
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

    /// How far a worker has come: two steps a tenure, of which the second is that nothing of it is
    /// to come.
    pub(super) fn level(&self, worker: u16) -> Level {
        let level = self.places.get(usize::from(worker)).map_or(u64::MAX, |place| {
            place.tenure.saturating_mul(2).saturating_add(u64::from(place.left == 0))
        });
        Level { of: Whose::Worker(worker), level }
    }

    /// What the begin of a tenure has to wait for.
    pub(super) fn start_waits(&self, worker: u16, tenure: u64, begin: &Begin) -> Option<Level> {
        let before = begin.tenures.range((worker, 0)..(worker, tenure)).next_back()?.0.1;
        let level = before.saturating_mul(2).saturating_add(1);
        let was = self.level(worker).level;
        (was < level).then_some(Level { of: Whose::Worker(worker), level })
    }

    /// A tenure begins, or is stated. The stream whose thread had the worker before.
    pub(super) fn start(
        &mut self,
        stream: u32,
        tenure: Tenure,
        begin: &Begin,
    ) -> (Option<u32>, Result<(), WorkerWrong>) {
        let Some(place) = self.places.get_mut(usize::from(tenure.worker)) else {
            return (None, Ok(()));
        };
        if place.tenure == tenure.number && tenure.stated {
            // After a loss it is stated again.
            place.holder = Some(stream);
            return (None, Ok(()));
        }
        if place.tenure >= tenure.number && place.tenure > 0 {
            return (None, Err(WorkerWrong::Tenure(tenure.number, place.tenure)));
        }
        let left = begin.tenures.get(&(tenure.worker, tenure.number)).copied().unwrap_or(0);
        let before = place.holder.replace(stream).filter(|holder| *holder != stream);
        (place.tenure, place.left) = (tenure.number, left);
        (before, Ok(()))
    }

    /// The last tenure of each worker that is known to have had one.
    pub(super) fn tenures(&self) -> impl Iterator<Item = (u16, u64)> {
        self.places.iter().enumerate().map(|(worker, place)| (worker as u16, place.tenure))
    }

    /// Whether a later tenure has ended this one.
    pub(super) fn is_over(&self, tenure: Tenure) -> bool {
        let place = self.places.get(usize::from(tenure.worker));
        place.is_some_and(|place| place.tenure > tenure.number)
    }

    /// The worker of a thread parks, goes on or stops.
    pub(super) fn happen(
        &mut self,
        kind: Kind,
        inside: &mut Inside,
    ) -> (Option<u16>, Result<(), WorkerWrong>) {
        let Some(tenure) = &mut inside.worker else { return (None, Err(WorkerWrong::None)) };
        let worker = tenure.worker;
        if let Some(place) = self.places.get_mut(usize::from(worker))
            && place.tenure == tenure.number
        {
            place.left = place.left.saturating_sub(1);
        }
        let parks = kind == Kind::WorkerPark;
        let outcome = match kind {
            Kind::WorkerPark if tenure.parked => Err(WorkerWrong::Parked),
            Kind::WorkerUnpark if !tenure.parked => Err(WorkerWrong::Running),
            _ => Ok(()),
        };
        tenure.parked = parks;
        if kind == Kind::WorkerStop {
            inside.worker = None;
        }
        (Some(worker), outcome)
    }
}
