//! Where threads are that stand still at the end, as the recorder's own thread has seen it.
//!
//! A recorder says when a thread has been blocked for a while, with its stack and what it waits for, and when it goes on.
//! What a thread records itself also shows that it has gone on.

use super::event_view::EventView;
use crate::read::{EventKind, OwnedFrame};
use crate::wire::{
    CodeFile, CodeFrame, Nanos, ProcessStacks, StackEnd, StackReason, StackSource, ThreadAt,
    ThreadNumber,
};
use std::collections::{BTreeMap, HashMap};

/// How many frames of a stack to keep: a recorder writes no more.
const FRAMES: usize = 128;
/// How many threads to keep: a recorder looks at fewer.
const THREADS: usize = 1024;
/// How many stalls that are over to keep, those that took longest: findings name fewer polls.
const OVER: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ThreadPlaces {
    /// The threads that stood still at the end, with what they wait for. Addresses are numbers that mean no more than that
    /// two of them are equal.
    pub standing: ProcessStacks,
    /// The recorder's numbers of those threads, in the same order.
    pub numbers: Vec<ThreadNumber>,
    /// For how long each had been blocked when that was recorded.
    pub since: Vec<Nanos>,
    /// The last stacks of threads whose polls were stalled at the end.
    pub stalled: BTreeMap<ThreadNumber, Vec<OwnedFrame>>,
    /// Where threads were in polls that stalled and have ended since.
    pub(crate) over: Vec<StallOver>,
    /// The operating system's numbers of threads.
    pub(crate) os_threads: BTreeMap<ThreadNumber, u64>,
}

/// The stack of a poll that stalled and has ended since.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StallOver {
    pub(crate) thread: ThreadNumber,
    /// When the stack was taken.
    pub(crate) before_end: Nanos,
    pub(crate) frames: Vec<OwnedFrame>,
}

/// Watches what the recorder's own thread says.
#[derive(Default)]
pub(super) struct PlaceWatch {
    standing: BTreeMap<ThreadNumber, Standing>,
    stalled: BTreeMap<ThreadNumber, Stalled>,
    /// For how long each went on after its stack was taken, on which thread.
    over: Vec<(Nanos, ThreadNumber, Stalled)>,
    os_threads: BTreeMap<ThreadNumber, u64>,
    last: ThreadNumber,
}

/// When the stack of a stalled poll was taken, and the stack.
type Stalled = (Nanos, Vec<OwnedFrame>);

struct Standing {
    at: ThreadAt,
    since: Nanos,
    frames: Vec<OwnedFrame>,
}

impl PlaceWatch {
    /// Any event.
    pub(super) fn view(&mut self, view: &EventView<'_>) {
        if self.last != view.thread {
            self.last = view.thread;
            let os_thread = view.event.and_then(|event| Some(event.thread()?.os_thread));
            if let Some(os_thread) = os_thread.filter(|number| *number > 0) {
                self.os_threads.insert(view.thread, os_thread);
            }
        }
        if !self.standing.is_empty() {
            self.standing.remove(&view.thread);
        }
        match view.kind {
            EventKind::TaskPending { .. }
            | EventKind::TaskReady { .. }
            | EventKind::TaskPanic { .. }
            | EventKind::TaskPoll { .. }
                if !self.stalled.is_empty() =>
            {
                if let Some(stalled) = self.stalled.remove(&view.thread) {
                    self.is_over(view.thread, stalled, view.at);
                }
            }
            EventKind::ThreadStack { thread, reason: Some(StackReason::Stall), .. }
                if self.stalled.len() < THREADS =>
            {
                let frames = frames_of(view);
                if !frames.is_empty() {
                    self.stalled.insert(thread, (view.at, frames));
                }
            }
            EventKind::ThreadStands { thread, since, source } => {
                self.stands(view, thread, since, source)
            }
            _ => {}
        }
    }

    fn is_over(&mut self, thread: ThreadNumber, stalled: Stalled, at: Nanos) {
        if self.over.len() >= OVER {
            let lengths =
                self.over.iter().enumerate().map(|(index, (length, ..))| (*length, index));
            if let Some((_, shortest)) = lengths.min() {
                self.over.swap_remove(shortest);
            }
        }
        self.over.push((Nanos(at.0.saturating_sub(stalled.0.0)), thread, stalled));
    }

    fn stands(
        &mut self,
        view: &EventView<'_>,
        thread: ThreadNumber,
        since: Nanos,
        source: Option<StackSource>,
    ) {
        self.standing.remove(&thread);
        let Some(event) = view.event.filter(|_| since.0 > 0) else { return };
        let Some((waits, refers, uses)) = event.stands_for() else { return };
        if self.standing.len() >= THREADS {
            return;
        }
        let source = source.unwrap_or(StackSource::Unsupported);
        let os_thread = self.os_threads.get(&thread).copied().unwrap_or_default();
        let mut at = ThreadAt::new(os_thread, event.name(), 'S', source);
        (at.waits, at.refers, at.uses) = (waits, refers, uses);
        at.end = event.stack().and_then(|stack| stack.end()).unwrap_or(StackEnd::Begin);
        let frames = frames_of(view);
        self.standing.insert(thread, Standing { at, since, frames });
    }

    pub(super) fn finish(self, end: Nanos) -> ThreadPlaces {
        let stalled = self.stalled.into_iter().map(|(thread, (_, frames))| (thread, frames));
        let over = self.over.into_iter().map(|(_, thread, (at, frames))| {
            let before_end = Nanos(end.0.saturating_sub(at.0));
            StallOver { thread, before_end, frames }
        });
        let mut found = ThreadPlaces {
            stalled: stalled.collect(),
            over: over.collect(),
            ..ThreadPlaces::default()
        };
        let mut building = Building::default();
        for (number, standing) in self.standing {
            let mut thread = standing.at;
            if let Some(os_thread) = self.os_threads.get(&number) {
                thread.os_thread = *os_thread;
            }
            thread.stack = building.stack(&standing.frames);
            building.stacks.threads.push(thread);
            found.numbers.push(number);
            found.since.push(standing.since);
        }
        (found.standing, found.os_threads) = (building.stacks, self.os_threads);
        found
    }
}

fn frames_of(view: &EventView<'_>) -> Vec<OwnedFrame> {
    let stack = view.event.and_then(|event| event.stack());
    stack.iter().flat_map(|stack| stack.frames()).take(FRAMES).map(Into::into).collect()
}

/// Stacks, with equal frames once.
#[derive(Default)]
struct Building {
    stacks: ProcessStacks,
    modules: HashMap<(String, Vec<u8>), u32>,
    frames: HashMap<CodeFrame, u32>,
}

impl Building {
    fn stack(&mut self, frames: &[OwnedFrame]) -> u32 {
        frames.iter().rev().fold(0, |caller, frame| {
            let frame = frame.frame();
            let module = frame.module.map_or(0, |of| {
                let key = (of.path.to_owned(), of.build_id.to_owned());
                let modules = &mut self.stacks.modules;
                *self.modules.entry(key).or_insert_with(|| {
                    modules.push(CodeFile::new(of.path, of.build_id));
                    modules.len() as u32
                })
            });
            let frame = CodeFrame::new(caller, module, frame.offset, frame.is_exact);
            let frames = &mut self.stacks.frames;
            *self.frames.entry(frame).or_insert_with(|| {
                frames.push(frame);
                frames.len() as u32
            })
        })
    }
}
