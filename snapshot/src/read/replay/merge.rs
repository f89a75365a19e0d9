//! One order over all slots of a generation.
//!
//! The events of a slot stay in their order. Between slots, what the events say about tasks, spans and
//! workers decides: a transition comes after the one with the number before its own; a span's creation comes
//! before everything else that names the span, and its end after; a worker's tenures come one after the other
//! (`tasks`, `spans`, `workers`). Time decides only where this leaves a choice: the stream whose next event
//! is the earliest goes first; between equal times, the lower slot. So clocks that disagree do not change
//! what happened to any one thing.
//!
//! A stream that cannot go on is set aside until what it waits for is reached (`wait_list`). When none can go
//! on, something is missing, and the earliest goes on nevertheless.

use super::slot_cursor::SlotCursor;
use super::wait_list::WaitList;
use super::{Inconsistency, Replay};
use crate::read::decode::bytes::Fault;
use crate::read::decode::codec::is_plain;
use crate::read::decode::contents::Contents;
use crate::read::decode::stream::{Raw, Record};
use crate::read::decode::threads::NO_THREAD;
use crate::wire::Ticks;
use std::collections::VecDeque;

/// See the module.
pub(crate) struct Merge {
    pub(crate) cursors: Vec<SlotCursor>,
    /// A heap: the earliest is at the front, and each is no later than those at `2i + 1` and `2i + 2`.
    heap: Vec<Head>,
    waiting: WaitList,
    /// Streams that have waited, and go back into the heap after the event that woke them.
    woken: Vec<Head>,
    /// The stream that goes on although what it waits for was not reached.
    forced: Option<u32>,
    pub(crate) replay: Replay,
    /// Damage that was met and is yet to be told.
    faults: VecDeque<(u32, Fault)>,
    /// The stream of the event that was taken last. It advances only when the caller asks for the next event:
    /// until then it shows what the thread is inside.
    taken: Option<u32>,
}

/// What the merge has advanced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Event,
    Damage,
}

impl Merge {
    pub(crate) fn new(of: &Contents) -> Self {
        Self::with(of, Replay::new(of, false))
    }

    /// The order at its end, with the inconsistencies noted.
    pub(crate) fn finished(of: &Contents) -> Self {
        let mut order = Self::with(of, Replay::new(of, true));
        if of.has_objects {
            while let Some(next) = order.next(of) {
                if next == Next::Damage {
                    order.damage();
                }
            }
        }
        order
    }

    fn with(of: &Contents, replay: Replay) -> Self {
        let (cursors, heap, faults) = (Vec::new(), Vec::new(), VecDeque::new());
        let (waiting, woken, forced) = (WaitList::default(), Vec::new(), None);
        let taken = None;
        let mut order = Self { cursors, heap, waiting, woken, forced, replay, faults, taken };
        for blocks in of.slots() {
            let is_collector = of.blocks[blocks.start as usize].slot == 0;
            let index = order.cursors.len() as u32;
            order.cursors.push(SlotCursor::new(blocks, is_collector));
            if order.advance(index, of) {
                let ticks = order.cursors[index as usize].stream.event.ticks;
                order.heap.push(Head::new(ticks, index));
            }
        }
        order.heap.sort_unstable();
        order.drop_old_tenures();
        order
    }

    /// A thread may not know that others have taken its worker since, and so still states it.
    fn drop_old_tenures(&mut self) {
        for cursor in &mut self.cursors {
            if let Some(tenure) = cursor.inside.worker
                && self.replay.workers.is_over(tenure)
            {
                cursor.inside.lose_worker();
                cursor.refresh();
            }
        }
    }

    /// Advances to the next event, which [`taken`](Self::taken) then returns, or to [`damage`](Self::damage).
    #[inline]
    pub(crate) fn next(&mut self, of: &Contents) -> Option<Next> {
        if let Some(index) = self.taken.take() {
            self.go_on(index, of);
        }
        if !self.faults.is_empty() {
            return Some(Next::Damage);
        }
        let index = loop {
            let Some(index) = self.heap.first().map(|head| head.stream()) else {
                self.force()?;
                continue;
            };
            if self.cursors[index as usize].stream.event.is_plain() || self.take(index, of) {
                break index;
            }
        };
        self.taken = Some(index);
        Some(Next::Event)
    }

    /// Takes out the next damage: its block, and what is wrong there.
    pub(crate) fn damage(&mut self) -> Option<(u32, Fault)> {
        self.faults.pop_front()
    }

    /// The stream of the event that was taken last.
    #[inline]
    pub(crate) fn taken(&self) -> Option<&SlotCursor> {
        self.cursors.get(self.taken? as usize)
    }

    /// Advances the stream whose event was taken last, which is the first of the heap.
    #[inline]
    fn go_on(&mut self, index: u32, of: &Contents) {
        let cursor = &mut self.cursors[index as usize];
        if !cursor.stream.event.is_plain() {
            cursor.refresh();
        }
        // In the usual case there is another event, and it goes back into the same place.
        let more = match cursor.stream.next(of) {
            Some(Record::Event) => true,
            Some(record) => {
                self.note(record, index, of);
                self.advance(index, of)
            }
            None => false,
        };
        if more {
            let ticks = self.cursors[index as usize].stream.event.ticks;
            self.sift_down(Head::new(ticks, index));
        } else {
            self.remove();
        }
        while let Some(woken) = self.woken.pop() {
            self.push(woken);
        }
    }

    /// Applies a stream's next event, which is about a task, a span, a worker or a thread. If the event must
    /// wait for something, sets the stream aside instead.
    #[inline(never)]
    fn take(&mut self, index: u32, of: &Contents) -> bool {
        let cursor = &self.cursors[index as usize];
        let event = &cursor.stream.event;
        let Some(kind) = event.kind() else { return true };
        let forced = self.forced.take() == Some(index);
        if !forced && let Some(progress) = self.replay.waits_for(kind, cursor, of) {
            let ticks = event.ticks;
            self.cursors[index as usize].waits = Some(progress);
            self.waiting.add(index, ticks, progress);
            self.remove();
            return false;
        }
        self.replay.apply(kind, index, &mut self.cursors, of);
        if !self.waiting.is_empty() {
            self.wake();
        }
        self.replay.changed.clear();
        true
    }

    /// Wakes the streams that wait for what has been reached.
    #[cold]
    fn wake(&mut self) {
        while let Some(whose) = self.replay.changed.pop() {
            let progress = self.replay.progress(whose);
            while let Some(stream) = self.waiting.reached(progress) {
                let cursor = &mut self.cursors[stream as usize];
                cursor.waits = None;
                let ticks = cursor.stream.event.ticks;
                self.waiting.forget_time(stream, ticks);
                self.woken.push(Head::new(ticks, stream));
            }
        }
    }

    /// Makes the earliest stream go on when none can.
    #[cold]
    fn force(&mut self) -> Option<()> {
        let stream = self.waiting.earliest()?;
        let cursor = &mut self.cursors[stream as usize];
        let ticks = cursor.stream.event.ticks;
        if let Some(progress) = cursor.waits.take() {
            self.waiting.give_up(stream, ticks, progress);
        }
        self.forced = Some(stream);
        self.push(Head::new(ticks, stream));
        Some(())
    }

    /// Moves a stream to its next event, if there is one.
    #[cold]
    fn advance(&mut self, index: u32, of: &Contents) -> bool {
        loop {
            match self.cursors[index as usize].stream.next(of) {
                Some(Record::Event) => return true,
                Some(record) => self.note(record, index, of),
                None => return false,
            }
        }
    }

    /// Takes a record between events.
    #[cold]
    fn note(&mut self, record: Record, index: u32, of: &Contents) {
        let cursor = &mut self.cursors[index as usize];
        match record {
            Record::Fault => {
                let block = cursor.stream.block();
                self.faults.push_back((block, cursor.stream.fault));
                self.replay.lose(u64::from(of.blocks[block as usize].events));
            }
            Record::Thread => {
                let thread = cursor.stream.thread();
                self.replay.switch(cursor, thread);
            }
            Record::Block => {
                // The block's header says whose it is, if nothing in it does.
                let thread = cursor.stream.thread();
                if thread != cursor.thread && thread != NO_THREAD {
                    self.replay.switch(cursor, thread);
                    if let Some(carried) = of.carried.get(&thread) {
                        self.replay.resume(cursor, &carried.inside);
                    }
                }
            }
            Record::Status(kind) => self.replay.state(kind, index, cursor, of),
            Record::Lost => self.replay.lose(cursor.stream.args.number),
            Record::Event | Record::Region | Record::Deeper => {}
        }
        if !self.waiting.is_empty() {
            self.wake();
        }
        self.replay.changed.clear();
    }

    /// What cannot have happened, in the order in which it was found.
    pub(crate) fn inconsistencies(&self) -> &[Inconsistency] {
        &self.replay.inconsistencies
    }

    /// Puts a stream into the heap.
    #[cold]
    fn push(&mut self, moved: Head) {
        self.heap.push(moved);
        let mut at = self.heap.len() - 1;
        while at > 0 && self.heap[(at - 1) / 2] > moved {
            self.heap[at] = self.heap[(at - 1) / 2];
            at = (at - 1) / 2;
        }
        self.heap[at] = moved;
    }

    /// Takes the first stream out of the heap.
    #[cold]
    fn remove(&mut self) {
        self.heap.swap_remove(0);
        if let Some(&first) = self.heap.first() {
            self.sift_down(first);
        }
    }

    /// Replaces the heap's first with `moved`, and moves it down to its place.
    #[inline]
    fn sift_down(&mut self, moved: Head) {
        let heap = &mut self.heap[..];
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= heap.len() {
                break;
            }
            if child + 1 < heap.len() {
                // Which of the two is earlier cannot be predicted, so it is computed without a branch.
                child += usize::from(heap[child + 1] < heap[child]);
            }
            let earlier = heap[child];
            if moved <= earlier {
                break;
            }
            heap[at] = earlier;
            at = child;
        }
        heap[at] = moved;
    }
}

/// A stream's next event: its time and the stream, as one number, so that one comparison orders two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Head(u128);

impl Head {
    #[inline]
    fn new(ticks: Ticks, stream: u32) -> Self {
        Self(u128::from(ticks.0) << 32 | u128::from(stream))
    }

    #[inline]
    fn stream(self) -> u32 {
        self.0 as u32
    }
}

impl Raw {
    /// Whether it neither waits for anything nor changes what its thread is inside.
    #[inline]
    fn is_plain(&self) -> bool {
        is_plain(self.code())
    }
}
