//! The tasks of a generation, followed from transition to transition.
//!
//! An entry counts its transitions across all tasks that use it one after the other: numbers are even while a
//! task is idle (or done) and odd while it is polled (or was dropped). So each transition identifies the one
//! before it, and no clock is needed for their order.

use super::wait_list::{Progress, Whose};
use crate::read::decode::codec::Arguments;
use crate::read::decode::definitions::NO_SITE;
use crate::read::decode::initial_state::InitialState;
use crate::read::decode::regions::Ended;
use crate::read::decode::sparse_vec::SparseVec;
use crate::read::decode::stream::Raw;
use crate::read::decode::thread_context::ThreadContext;
use crate::wire::{Kind, TaskId, TaskState};
use std::fmt;

/// The state of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TaskPhase {
    /// Not known.
    #[default]
    Unknown,
    /// The entry is free.
    Free,
    Idle,
    Running,
}

/// An entry for tasks.
#[derive(Clone, Copy, Debug)]
struct TaskEntry {
    /// The number of its last transition, if known.
    sequence: Option<u64>,
    /// The number of its present task's creation, if that was in this generation.
    created: u64,
    /// The poll that the last wake was for; 0 if unknown.
    woken: u64,
    incarnation: u32,
    site: u32,
    life: TaskPhase,
    /// Whether it was woken before the generation, for a poll of unknown number.
    was_woken: bool,
}

impl Default for TaskEntry {
    fn default() -> Self {
        Self {
            sequence: None,
            created: 0,
            woken: 0,
            incarnation: 0,
            site: NO_SITE,
            life: TaskPhase::Unknown,
            was_woken: false,
        }
    }
}

/// A task at the end of a generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskEnd {
    pub(crate) id: TaskId,
    pub(crate) sequence: Option<u64>,
    pub(crate) site: u32,
    pub(crate) state: TaskState,
    pub(crate) woken: bool,
}

/// What is wrong with an event of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskInconsistency {
    /// The task has neither a status nor a creation, or its status has no number.
    NoStatus,
    /// A transition has this number, and the last one had that.
    Sequence(u64, u64),
    /// The task should be idle and was not.
    TaskPhase(TaskPhase),
    /// This incarnation is created, and that one was the last.
    Incarnation(u32, u32),
    /// A poll ends that has not begun.
    NoPoll,
    /// The task was woken after it had ended.
    WokenWhenOver,
    /// The poll of this number was woken already.
    WokenAgain(u64),
    /// The task's status says idle or running, and its number the opposite.
    State(u64),
}

impl TaskInconsistency {
    /// How many events must be missing to explain this.
    pub(crate) fn missing(self) -> u64 {
        match self {
            Self::Sequence(is, was) => is.saturating_sub(was).saturating_sub(1).max(1),
            _ => 1,
        }
    }
}

impl fmt::Display for TaskInconsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStatus => f.write_str("it has no status and was not created"),
            Self::Sequence(is, was) => {
                write!(f, "transition {is}; {} was to come", was.saturating_add(1))
            }
            Self::TaskPhase(TaskPhase::Unknown) => f.write_str("nothing is known of it"),
            Self::TaskPhase(TaskPhase::Free) => f.write_str("it is over"),
            Self::TaskPhase(TaskPhase::Idle) => f.write_str("it is there already, and idle"),
            Self::TaskPhase(TaskPhase::Running) => f.write_str("it is being polled"),
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

/// The number with which an entry's next task is created.
fn next_creation(sequence: u64) -> u64 {
    (sequence & !1).saturating_add(2)
}

/// The poll that a wake is for if the waker saw this transition.
fn woken_poll(seen: u64) -> u64 {
    (seen | 1).saturating_add(if seen & 1 == 1 { 2 } else { 0 })
}

/// See the module.
pub(crate) struct Tasks {
    places: SparseVec<TaskEntry>,
}

/// The entry of an event, and what is wrong with the event, if anything.
pub(crate) type Done<W> = (Option<u32>, Result<(), W>);

impl Tasks {
    pub(crate) fn new(begin: &InitialState, limit: usize) -> Self {
        let mut places = SparseVec::<TaskEntry>::new(limit);
        places.expect(begin.tasks.len());
        for task in &begin.tasks {
            let place = places.get_mut(task.id.index);
            let sequence = task.sequence;
            *place = match task.state {
                None => TaskEntry {
                    sequence: sequence.map(|number| number.saturating_sub(1)),
                    incarnation: task.id.incarnation.saturating_sub(1),
                    life: TaskPhase::Free,
                    ..TaskEntry::default()
                },
                Some(state) => TaskEntry {
                    sequence,
                    incarnation: task.id.incarnation,
                    site: task.site,
                    woken: sequence.filter(|_| task.woken).map_or(0, woken_poll),
                    was_woken: task.woken,
                    life: match state {
                        TaskState::Idle => TaskPhase::Idle,
                        TaskState::Running => TaskPhase::Running,
                    },
                    ..TaskEntry::default()
                },
            };
        }
        Self { places }
    }

    /// The task that uses an entry, and its site.
    fn at(&self, index: u32) -> (TaskId, u32) {
        self.places.get(index).map_or((TaskId::NONE, NO_SITE), |place| {
            (TaskId { index, incarnation: place.incarnation }, place.site)
        })
    }

    /// How far an entry has come.
    pub(crate) fn progress(&self, index: u32) -> Progress {
        let sequence = self.places.get(index).and_then(|place| place.sequence);
        Progress { of: Whose::Task(index), level: sequence.unwrap_or(u64::MAX) }
    }

    /// What an event must wait for, if anything.
    #[inline]
    pub(crate) fn waits_for(&self, kind: Kind, args: &Arguments) -> Option<Progress> {
        let place = self.places.get(args.index)?;
        let (is, was) = (args.number, place.sequence?);
        let level = match kind {
            Kind::TaskPoll | Kind::TaskDrop => is.saturating_sub(1),
            Kind::TaskWake | Kind::TaskWakeStale => is,
            Kind::TaskCreate if was == is.saturating_sub(2) && place.life != TaskPhase::Free => {
                is.saturating_sub(1)
            }
            Kind::TaskCreate => is.saturating_sub(2),
            _ => return None,
        };
        (was < level).then_some(Progress { of: Whose::Task(args.index), level })
    }

    /// Applies an event of a task on a thread. Fills in what is known about it.
    pub(crate) fn apply(
        &mut self,
        kind: Kind,
        (args, stated): (&Arguments, &Arguments),
        inside: &mut ThreadContext,
        event: &mut Raw,
        begin: &InitialState,
    ) -> Done<TaskInconsistency> {
        let index = args.index;
        match kind {
            Kind::TaskCreate => {
                event.extra = args.task().number();
                (Some(index), self.create(args, event.site))
            }
            Kind::TaskPoll => {
                let outcome = self.owned(args, stated, TaskPhase::Running);
                (event.task, event.site) = self.at(index);
                event.extra = args.number;
                inside.tasks.begin((event.task, args.number));
                (Some(index), outcome)
            }
            Kind::TaskDrop => {
                let outcome = self.owned(args, stated, TaskPhase::Free);
                let (task, site) = self.at(index);
                (event.extra, event.site) = (task.number(), site);
                (Some(index), outcome)
            }
            Kind::TaskWake | Kind::TaskWakeStale => {
                let (task, site, outcome) = self.wake(kind, args, begin);
                (event.extra, event.site) = (task.number(), site);
                (None, outcome)
            }
            _ => self.end_poll(kind, inside, event),
        }
    }

    fn create(&mut self, args: &Arguments, site: u32) -> Result<(), TaskInconsistency> {
        let place = self.places.get_mut(args.index);
        let outcome = match (place.life, place.sequence) {
            (TaskPhase::Unknown, _) | (_, None) => Err(TaskInconsistency::NoStatus),
            (TaskPhase::Free, Some(was)) if args.number != next_creation(was) => {
                Err(TaskInconsistency::Sequence(args.number, next_creation(was).saturating_sub(1)))
            }
            (TaskPhase::Free, _) if args.incarnation != place.incarnation.wrapping_add(1) => {
                Err(TaskInconsistency::Incarnation(args.incarnation, place.incarnation))
            }
            (TaskPhase::Free, _) => Ok(()),
            (life, _) => Err(TaskInconsistency::TaskPhase(life)),
        };
        *place = TaskEntry {
            sequence: Some(args.number),
            created: args.number,
            woken: 0,
            incarnation: args.incarnation,
            site,
            life: TaskPhase::Idle,
            was_woken: false,
        };
        outcome
    }

    /// Applies a transition that only the owner of an idle task makes.
    fn owned(
        &mut self,
        args: &Arguments,
        stated: &Arguments,
        life: TaskPhase,
    ) -> Result<(), TaskInconsistency> {
        let is_stated =
            stated.index == args.index && stated.number.checked_add(1) == Some(args.number);
        let place = self.places.get_mut(args.index);
        let outcome = match (place.life, place.sequence) {
            (TaskPhase::Unknown, _) | (_, None) => Err(TaskInconsistency::NoStatus),
            (_, Some(was)) if was.checked_add(1) != Some(args.number) => {
                Err(TaskInconsistency::Sequence(args.number, was))
            }
            (TaskPhase::Idle, _) => Ok(()),
            (life, _) => Err(TaskInconsistency::TaskPhase(life)),
        };
        if is_stated && (outcome.is_err() || place.incarnation != stated.incarnation) {
            place.incarnation = stated.incarnation;
        }
        (place.sequence, place.life, place.was_woken) = (Some(args.number), life, false);
        outcome
    }

    fn end_poll(
        &mut self,
        kind: Kind,
        inside: &mut ThreadContext,
        event: &mut Raw,
    ) -> Done<TaskInconsistency> {
        let (task, number) = match inside.tasks.end() {
            Ended::Known(polled) => polled,
            Ended::Unknown => return (None, Ok(())),
            Ended::Nothing => return (None, Err(TaskInconsistency::NoPoll)),
        };
        let number = number.saturating_add(1);
        (event.task, event.extra) = (task, number);
        let place = self.places.get_mut(task.index);
        let outcome = match (place.life, place.sequence) {
            (TaskPhase::Unknown, _) => Err(TaskInconsistency::NoStatus),
            (_, Some(was)) if was.checked_add(1) != Some(number) => {
                Err(TaskInconsistency::Sequence(number, was))
            }
            (TaskPhase::Running, _) if place.incarnation == task.incarnation => Ok(()),
            (TaskPhase::Running, _) => Err(TaskInconsistency::Incarnation(
                task.incarnation,
                place.incarnation.wrapping_sub(1),
            )),
            (life, _) => Err(TaskInconsistency::TaskPhase(life)),
        };
        let pends = matches!(kind, Kind::TaskPending | Kind::TaskWaits);
        // Wakes of transitions that others have passed meanwhile stay as they are.
        if place.sequence.is_none_or(|was| was < number) {
            place.sequence = Some(number);
            place.life = if pends { TaskPhase::Idle } else { TaskPhase::Free };
            place.incarnation = task.incarnation;
        }
        event.site = place.site;
        (Some(task.index), outcome)
    }

    fn wake(
        &mut self,
        kind: Kind,
        args: &Arguments,
        begin: &InitialState,
    ) -> (TaskId, u32, Result<(), TaskInconsistency>) {
        let (seen, poll) = (args.number, woken_poll(args.number));
        let place = self.places.get_mut(args.index);
        let incarnation = place.incarnation;
        if seen < place.created {
            // The previous task of the entry.
            let before = TaskId { index: args.index, incarnation: incarnation.wrapping_sub(1) };
            let (task, site) = begin.task_then(args.index, seen).unwrap_or((before, NO_SITE));
            return (task, site, Ok(()));
        }
        let stale = kind == Kind::TaskWakeStale;
        let outcome = match (place.life, place.sequence) {
            (TaskPhase::Unknown, _) if stale => Ok(()),
            (TaskPhase::Unknown, _) => Err(TaskInconsistency::NoStatus),
            (TaskPhase::Free, Some(was)) if seen >= was && !stale => {
                Err(TaskInconsistency::WokenWhenOver)
            }
            (_, Some(was)) if seen > was && !stale => Err(TaskInconsistency::Sequence(seen, was)),
            (_, None) if place.was_woken && !stale => Err(TaskInconsistency::WokenAgain(poll)),
            _ if place.woken == poll && poll != 0 => Err(TaskInconsistency::WokenAgain(poll)),
            _ => Ok(()),
        };
        place.woken = place.woken.max(poll);
        (TaskId { index: args.index, incarnation }, place.site, outcome)
    }

    /// Applies a status in the stream. It counts only if nothing is known yet.
    pub(crate) fn state(&mut self, args: &Arguments, site: u32) -> Result<(), TaskInconsistency> {
        let Some((state, woken)) = TaskState::from_code(args.state) else { return Ok(()) };
        let place = self.places.get_mut(args.index);
        let later = place.sequence.is_some_and(|was| was < args.number);
        if place.life == TaskPhase::Unknown {
            (place.sequence, place.incarnation) = (Some(args.number), args.incarnation);
            place.life =
                if state == TaskState::Idle { TaskPhase::Idle } else { TaskPhase::Running };
            place.woken = if woken { woken_poll(args.number) } else { 0 };
        }
        if place.site == NO_SITE || later && place.incarnation != args.incarnation {
            place.site = site;
        }
        let running = state == TaskState::Running;
        if running == (args.number & 1 == 1) {
            Ok(())
        } else {
            Err(TaskInconsistency::State(args.number))
        }
    }

    /// The existing tasks, by index.
    pub(crate) fn end(&self) -> Vec<TaskEnd> {
        let end = |(index, place): (u32, &TaskEntry)| {
            let state = match place.life {
                TaskPhase::Idle => TaskState::Idle,
                TaskPhase::Running => TaskState::Running,
                TaskPhase::Unknown | TaskPhase::Free => return None,
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
