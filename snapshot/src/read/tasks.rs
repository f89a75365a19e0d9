//! The tasks of a generation, followed from transition to transition.
//!
//! A place counts its transitions, over all tasks that have it one after the other: even numbers are
//! those of a task that is idle (or done), odd ones of one that is polled (or was dropped). So each
//! transition says which one comes before it, and no clock is needed to know the order.

use super::begin::Begin;
use super::inside::Inside;
use super::mention::Mention;
use super::places::Places;
use super::regions::Ended;
use super::stream::{NO_TASK, Raw};
use super::tables::NO_SITE;
use super::waiting::{Level, Whose};
use crate::wire::{Kind, TaskId, TaskState};
use std::fmt;

/// What a task's place is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Life {
    /// Nobody has said.
    #[default]
    Unknown,
    /// It is free.
    Free,
    Idle,
    Running,
}

/// A task's place.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The number of its last transition, if it is known.
    sequence: Option<u64>,
    /// That of the creation of the task that is there, if that was in this generation.
    created: u64,
    /// The poll that the last wake was for; 0 if none is known.
    woken: u64,
    incarnation: u32,
    site: u32,
    life: Life,
    /// Woken before the generation, for a poll whose number is not known.
    was_woken: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            sequence: None,
            created: 0,
            woken: 0,
            incarnation: 0,
            site: NO_SITE,
            life: Life::Unknown,
            was_woken: false,
        }
    }
}

/// A task, at the end of a generation.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskEnd {
    pub(super) id: TaskId,
    pub(super) sequence: Option<u64>,
    pub(super) site: u32,
    pub(super) state: TaskState,
    pub(super) woken: bool,
}

/// What is wrong with an event of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TaskWrong {
    /// It has neither a status nor a creation, or no number in its status.
    NoStatus,
    /// The transition of this number, when that was the last one.
    Sequence(u64, u64),
    /// What has to be idle was not.
    Life(Life),
    /// This incarnation is created, when that was the last.
    Incarnation(u32, u32),
    /// A poll ends that there is none of.
    NoPoll,
    /// It was woken when it was over.
    WokenWhenOver,
    /// It was woken before for the poll of this number.
    WokenAgain(u64),
    /// Its status says that it is idle or running, and its number the contrary.
    State(u64),
}

impl TaskWrong {
    /// How many events have to be missing for this to be right.
    pub(super) fn missing(self) -> u64 {
        match self {
            Self::Sequence(is, was) => is.saturating_sub(was).saturating_sub(1).max(1),
            _ => 1,
        }
    }
}

impl fmt::Display for TaskWrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStatus => f.write_str("it has no status and was not created"),
            Self::Sequence(is, was) => {
                write!(f, "transition {is}; {} was to come", was.saturating_add(1))
            }
            Self::Life(Life::Unknown) => f.write_str("nothing is known of it"),
            Self::Life(Life::Free) => f.write_str("it is over"),
            Self::Life(Life::Idle) => f.write_str("it is there already, and idle"),
            Self::Life(Life::Running) => f.write_str("it is being polled"),
            Self::Incarnation(is, was) => {
                write!(f, "incarnation {is}; {} was to come", was.saturating_add(1))
            }
            Self::NoPoll => f.write_str("a poll ends, and none was going on"),
            Self::WokenWhenOver => f.write_str("it is woken when it is over"),
            Self::WokenAgain(poll) => write!(f, "it was woken for poll {poll} before"),
            Self::State(sequence) => {
                write!(f, "its state is not that of transition {sequence}: idle is even")
            }
        }
    }
}

/// The number that a place's next task is created with.
fn next_creation(sequence: u64) -> u64 {
    (sequence & !1).saturating_add(2)
}

/// The poll that a wake is for which saw this transition.
fn woken_poll(seen: u64) -> u64 {
    (seen | 1).saturating_add(if seen & 1 == 1 { 2 } else { 0 })
}

/// See the module.
pub(super) struct Tasks {
    places: Places<Place>,
}

/// The place that an event was of, and what is wrong with it if something is.
pub(super) type Done<W> = (Option<u32>, Result<(), W>);

impl Tasks {
    pub(super) fn new(begin: &Begin, limit: usize) -> Self {
        let mut places = Places::<Place>::new(limit);
        places.expect(begin.tasks.len());
        for task in &begin.tasks {
            let place = places.get_mut(task.id.index);
            let sequence = task.sequence;
            *place = match task.state {
                None => Place {
                    sequence: sequence.map(|number| number.saturating_sub(1)),
                    incarnation: task.id.incarnation.saturating_sub(1),
                    life: Life::Free,
                    ..Place::default()
                },
                Some(state) => Place {
                    sequence,
                    incarnation: task.id.incarnation,
                    site: task.site,
                    woken: sequence.filter(|_| task.woken).map_or(0, woken_poll),
                    was_woken: task.woken,
                    life: match state {
                        TaskState::Idle => Life::Idle,
                        TaskState::Running => Life::Running,
                    },
                    ..Place::default()
                },
            };
        }
        Self { places }
    }

    /// The task that has a place, and its site.
    fn at(&self, index: u32) -> (TaskId, u32) {
        self.places.get(index).map_or((NO_TASK, NO_SITE), |place| {
            (TaskId { index, incarnation: place.incarnation }, place.site)
        })
    }

    /// How far a place has come.
    pub(super) fn level(&self, index: u32) -> Level {
        let sequence = self.places.get(index).and_then(|place| place.sequence);
        Level { of: Whose::Task(index), level: sequence.unwrap_or(u64::MAX) }
    }

    /// What an event has to wait for, if it does.
    #[inline]
    pub(super) fn waits_for(&self, kind: Kind, mention: &Mention) -> Option<Level> {
        let place = self.places.get(mention.index)?;
        let (is, was) = (mention.number, place.sequence?);
        let level = match kind {
            Kind::TaskPoll | Kind::TaskDrop => is.saturating_sub(1),
            Kind::TaskWake | Kind::TaskWakeStale => is,
            Kind::TaskCreate if was == is.saturating_sub(2) && place.life != Life::Free => {
                is.saturating_sub(1)
            }
            Kind::TaskCreate => is.saturating_sub(2),
            _ => return None,
        };
        (was < level).then_some(Level { of: Whose::Task(mention.index), level })
    }

    /// An event of a task happens on a thread. Fills in what is known of it.
    pub(super) fn happen(
        &mut self,
        kind: Kind,
        (mention, stated): (&Mention, &Mention),
        inside: &mut Inside,
        event: &mut Raw,
        begin: &Begin,
    ) -> Done<TaskWrong> {
        let index = mention.index;
        match kind {
            Kind::TaskCreate => {
                event.extra = mention.task().number();
                (Some(index), self.create(mention, event.site))
            }
            Kind::TaskPoll => {
                let outcome = self.owned(mention, stated, Life::Running);
                (event.task, event.site) = self.at(index);
                event.extra = mention.number;
                inside.tasks.begin((event.task, mention.number));
                (Some(index), outcome)
            }
            Kind::TaskDrop => {
                let outcome = self.owned(mention, stated, Life::Free);
                let (task, site) = self.at(index);
                (event.extra, event.site) = (task.number(), site);
                (Some(index), outcome)
            }
            Kind::TaskWake | Kind::TaskWakeStale => {
                let (task, site, outcome) = self.wake(kind, mention, begin);
                (event.extra, event.site) = (task.number(), site);
                (None, outcome)
            }
            _ => self.end_poll(kind, inside, event),
        }
    }

    fn create(&mut self, mention: &Mention, site: u32) -> Result<(), TaskWrong> {
        let place = self.places.get_mut(mention.index);
        let outcome = match (place.life, place.sequence) {
            (Life::Unknown, _) | (_, None) => Err(TaskWrong::NoStatus),
            (Life::Free, Some(was)) if mention.number != next_creation(was) => {
                Err(TaskWrong::Sequence(mention.number, next_creation(was).saturating_sub(1)))
            }
            (Life::Free, _) if mention.incarnation != place.incarnation.wrapping_add(1) => {
                Err(TaskWrong::Incarnation(mention.incarnation, place.incarnation))
            }
            (Life::Free, _) => Ok(()),
            (life, _) => Err(TaskWrong::Life(life)),
        };
        *place = Place {
            sequence: Some(mention.number),
            created: mention.number,
            woken: 0,
            incarnation: mention.incarnation,
            site,
            life: Life::Idle,
            was_woken: false,
        };
        outcome
    }

    /// What only the owner of an idle task does.
    fn owned(&mut self, mention: &Mention, stated: &Mention, life: Life) -> Result<(), TaskWrong> {
        let is_stated =
            stated.index == mention.index && stated.number.checked_add(1) == Some(mention.number);
        let place = self.places.get_mut(mention.index);
        let outcome = match (place.life, place.sequence) {
            (Life::Unknown, _) | (_, None) => Err(TaskWrong::NoStatus),
            (_, Some(was)) if was.checked_add(1) != Some(mention.number) => {
                Err(TaskWrong::Sequence(mention.number, was))
            }
            (Life::Idle, _) => Ok(()),
            (life, _) => Err(TaskWrong::Life(life)),
        };
        if is_stated && (outcome.is_err() || place.incarnation != stated.incarnation) {
            place.incarnation = stated.incarnation;
        }
        (place.sequence, place.life, place.was_woken) = (Some(mention.number), life, false);
        outcome
    }

    fn end_poll(&mut self, kind: Kind, inside: &mut Inside, event: &mut Raw) -> Done<TaskWrong> {
        let (task, number) = match inside.tasks.end() {
            Ended::Known(polled) => polled,
            Ended::Unknown => return (None, Ok(())),
            Ended::Nothing => return (None, Err(TaskWrong::NoPoll)),
        };
        let number = number.saturating_add(1);
        (event.task, event.extra) = (task, number);
        let place = self.places.get_mut(task.index);
        let outcome = match (place.life, place.sequence) {
            (Life::Unknown, _) => Err(TaskWrong::NoStatus),
            (_, Some(was)) if was.checked_add(1) != Some(number) => {
                Err(TaskWrong::Sequence(number, was))
            }
            (Life::Running, _) if place.incarnation == task.incarnation => Ok(()),
            (Life::Running, _) => {
                Err(TaskWrong::Incarnation(task.incarnation, place.incarnation.wrapping_sub(1)))
            }
            (life, _) => Err(TaskWrong::Life(life)),
        };
        let pends = matches!(kind, Kind::TaskPending | Kind::TaskWaits);
        // What was passed by others in the meantime stays with them.
        if place.sequence.is_none_or(|was| was < number) {
            place.sequence = Some(number);
            place.life = if pends { Life::Idle } else { Life::Free };
            place.incarnation = task.incarnation;
        }
        event.site = place.site;
        (Some(task.index), outcome)
    }

    fn wake(
        &mut self,
        kind: Kind,
        mention: &Mention,
        begin: &Begin,
    ) -> (TaskId, u32, Result<(), TaskWrong>) {
        let (seen, poll) = (mention.number, woken_poll(mention.number));
        let place = self.places.get_mut(mention.index);
        let incarnation = place.incarnation;
        if seen < place.created {
            // Of the task that had the place before.
            let before = TaskId { index: mention.index, incarnation: incarnation.wrapping_sub(1) };
            let (task, site) = begin.task_then(mention.index, seen).unwrap_or((before, NO_SITE));
            return (task, site, Ok(()));
        }
        let stale = kind == Kind::TaskWakeStale;
        let outcome = match (place.life, place.sequence) {
            (Life::Unknown, _) if stale => Ok(()),
            (Life::Unknown, _) => Err(TaskWrong::NoStatus),
            (Life::Free, Some(was)) if seen >= was && !stale => Err(TaskWrong::WokenWhenOver),
            (_, Some(was)) if seen > was && !stale => Err(TaskWrong::Sequence(seen, was)),
            (_, None) if place.was_woken && !stale => Err(TaskWrong::WokenAgain(poll)),
            _ if place.woken == poll && poll != 0 => Err(TaskWrong::WokenAgain(poll)),
            _ => Ok(()),
        };
        place.woken = place.woken.max(poll);
        (TaskId { index: mention.index, incarnation }, place.site, outcome)
    }

    /// A status, as it is read in the stream. It counts where nothing is known yet.
    pub(super) fn state(&mut self, mention: &Mention, site: u32) -> Result<(), TaskWrong> {
        let Some((state, woken)) = TaskState::from_code(mention.state) else { return Ok(()) };
        let place = self.places.get_mut(mention.index);
        let later = place.sequence.is_some_and(|was| was < mention.number);
        if place.life == Life::Unknown {
            (place.sequence, place.incarnation) = (Some(mention.number), mention.incarnation);
            place.life = if state == TaskState::Idle { Life::Idle } else { Life::Running };
            place.woken = if woken { woken_poll(mention.number) } else { 0 };
        }
        if place.site == NO_SITE || later && place.incarnation != mention.incarnation {
            place.site = site;
        }
        let running = state == TaskState::Running;
        if running == (mention.number & 1 == 1) {
            Ok(())
        } else {
            Err(TaskWrong::State(mention.number))
        }
    }

    /// The tasks that there are, by index.
    pub(super) fn end(&self) -> Vec<TaskEnd> {
        let end = |(index, place): (u32, &Place)| {
            let state = match place.life {
                Life::Idle => TaskState::Idle,
                Life::Running => TaskState::Running,
                Life::Unknown | Life::Free => return None,
            };
            let id = TaskId { index, incarnation: place.incarnation };
            let (sequence, site) = (place.sequence, place.site);
            let woken = match sequence {
                Some(number) => place.woken == woken_poll(number),
                None => place.was_woken || place.woken > 0,
            };
            Some(TaskEnd { id, sequence, site, state, woken })
        };
        let mut tasks: Vec<_> = self.places.iter().filter_map(end).collect();
        tasks.sort_unstable_by_key(|task| task.id.index);
        tasks
    }
}
