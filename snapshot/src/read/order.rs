//! One order over all slots of a generation.
//!
//! The events of a slot stay in their order. Between slots, what is said of tasks, spans and workers
//! decides: a transition comes after the one whose number is before its own, a span's creation
//! before and its end after all else that names it, a worker's tenures one after the other
//! (`tasks`, `spans`, `workers`). Only where this leaves a choice does time: the stream whose next
//! event is the earliest goes first; of two that are equal, the one with the lower slot. So clocks
//! that disagree change nothing in what happened to any one thing.
//!
//! A stream that cannot go on is set aside until what it waits for is reached (`waiting`). When none
//! can go on, something is missing: then the earliest goes on all the same.

use super::bytes::Fault;
use super::generation::Contents;
use super::happening::{Happening, Wrong};
use super::line::Line;
use super::stream::{Raw, Record};
use super::thread::NO_THREAD;
use super::waiting::Waiting;
use crate::wire::{Kind, Ticks};
use std::collections::VecDeque;

/// See the module.
pub(super) struct Order {
    pub(super) lines: Vec<Line>,
    /// A heap: the earliest is at the front, each is no later than those at `2i + 1` and `2i + 2`.
    heap: Vec<(Ticks, u32)>,
    waiting: Waiting,
    /// Streams that have waited, and go back into the heap behind the event that woke them.
    woken: Vec<(Ticks, u32)>,
    /// The stream that goes on though what it waits for was not reached.
    forced: Option<u32>,
    pub(super) happening: Happening,
    /// Damage that was met and is yet to be told.
    faults: VecDeque<(u32, Fault)>,
}

impl Order {
    pub(super) fn new(of: &Contents) -> Self {
        Self::with(of, Happening::new(of, false))
    }

    /// An order of which all events were taken, and what cannot be was noted.
    pub(super) fn finished(of: &Contents) -> Self {
        let mut order = Self::with(of, Happening::new(of, true));
        if of.has_mentions {
            while order.next(of).is_some() {}
        }
        order
    }

    fn with(of: &Contents, happening: Happening) -> Self {
        let (lines, heap, faults) = (Vec::new(), Vec::new(), VecDeque::new());
        let (waiting, woken, forced) = (Waiting::default(), Vec::new(), None);
        let mut order = Self { lines, heap, waiting, woken, forced, happening, faults };
        for blocks in of.slots() {
            let is_collector = of.blocks[blocks.start as usize].slot == 0;
            let index = order.lines.len() as u32;
            order.lines.push(Line::new(blocks, is_collector));
            if order.advance(index, of) {
                let ticks = order.lines[index as usize].stream.event.ticks;
                order.heap.push((ticks, index));
            }
        }
        order.heap.sort_unstable();
        order.drop_old_tenures();
        order
    }

    /// A thread whose worker others have taken since need not know it, and states it still.
    fn drop_old_tenures(&mut self) {
        for line in &mut self.lines {
            if let Some(tenure) = line.inside.worker
                && self.happening.workers.is_over(tenure)
            {
                line.inside.worker = None;
                line.refresh();
            }
        }
    }

    /// The next event, or damage.
    #[inline]
    pub(super) fn next(&mut self, of: &Contents) -> Option<Result<Raw, (u32, Fault)>> {
        if !self.faults.is_empty() {
            return self.faults.pop_front().map(Err);
        }
        let (event, index) = loop {
            let Some(&(_, index)) = self.heap.first() else {
                self.force()?;
                continue;
            };
            let line = &self.lines[index as usize];
            let mut event = line.stream.event;
            if event.is_plain() {
                break (event, index);
            }
            if self.take(index, &mut event, of) {
                break (event, index);
            }
        };
        // In the usual case there is another event, and it goes back into the same place.
        let more = match self.lines[index as usize].stream.next(of) {
            Some(Record::Event) => true,
            Some(record) => {
                self.note(record, index, of);
                self.advance(index, of)
            }
            None => false,
        };
        if more {
            let next = (self.lines[index as usize].stream.event.ticks, index);
            self.sift_down(next);
        } else {
            self.remove();
        }
        while let Some(woken) = self.woken.pop() {
            self.push(woken);
        }
        Some(Ok(event))
    }

    /// Lets an event of a task, a span, a worker or a thread happen. If it has to wait for something,
    /// its stream is set aside.
    #[inline(never)]
    fn take(&mut self, index: u32, event: &mut Raw, of: &Contents) -> bool {
        let Some(kind) = event.kind() else { return true };
        let forced = self.forced.take() == Some(index);
        let line = &self.lines[index as usize];
        if !forced && let Some(level) = self.happening.waits_for(kind, line, of) {
            let ticks = event.ticks;
            self.lines[index as usize].waits = Some(level);
            self.waiting.add(index, ticks, level);
            self.remove();
            return false;
        }
        self.happening.happen(kind, index, &mut self.lines, event, of);
        if !self.waiting.is_empty() {
            self.wake();
        }
        self.happening.changed.clear();
        true
    }

    /// Wakes the streams that wait for what has been reached.
    #[cold]
    fn wake(&mut self) {
        while let Some(whose) = self.happening.changed.pop() {
            let level = self.happening.level(whose);
            while let Some(stream) = self.waiting.reached(level) {
                let line = &mut self.lines[stream as usize];
                line.waits = None;
                let ticks = line.stream.event.ticks;
                self.waiting.forget_time(stream, ticks);
                self.woken.push((ticks, stream));
            }
        }
    }

    /// None can go on: the earliest does all the same.
    #[cold]
    fn force(&mut self) -> Option<()> {
        let stream = self.waiting.earliest()?;
        let line = &mut self.lines[stream as usize];
        let ticks = line.stream.event.ticks;
        if let Some(level) = line.waits.take() {
            self.waiting.give_up(stream, ticks, level);
        }
        self.forced = Some(stream);
        self.push((ticks, stream));
        Some(())
    }

    /// Goes to the next event of a stream, if there is one.
    #[cold]
    fn advance(&mut self, index: u32, of: &Contents) -> bool {
        loop {
            match self.lines[index as usize].stream.next(of) {
                Some(Record::Event) => return true,
                Some(record) => self.note(record, index, of),
                None => return false,
            }
        }
    }

    /// Notes what stands between events.
    #[cold]
    fn note(&mut self, record: Record, index: u32, of: &Contents) {
        let line = &mut self.lines[index as usize];
        match record {
            Record::Fault(block, fault) => {
                self.faults.push_back((block, fault));
                self.happening.lose(u64::from(of.blocks[block as usize].events));
            }
            Record::Thread(thread) => self.happening.switch(line, thread),
            Record::Block(_) => {
                // The block's header says whose it is, if nothing in it does.
                let thread = line.stream.thread();
                if thread != line.thread && thread != NO_THREAD {
                    self.happening.switch(line, thread);
                    if let Some(carried) = of.carried.get(&thread) {
                        self.happening.resume(line, &carried.inside);
                    }
                }
            }
            Record::Status(kind) => self.happening.state(kind, index, line, of),
            Record::Lost(count) => self.happening.lose(count),
            Record::Event | Record::Region(_) | Record::Deeper(_) => {}
        }
        if !self.waiting.is_empty() {
            self.wake();
        }
        self.happening.changed.clear();
    }

    /// What cannot be, in the order in which it was met.
    pub(super) fn wrongs(&self) -> &[Wrong] {
        &self.happening.wrongs
    }

    /// Puts a stream into the heap.
    #[cold]
    fn push(&mut self, moved: (Ticks, u32)) {
        self.heap.push(moved);
        let mut at = self.heap.len() - 1;
        while at > 0 && self.heap[(at - 1) / 2] > moved {
            self.heap[at] = self.heap[(at - 1) / 2];
            at = (at - 1) / 2;
        }
        self.heap[at] = moved;
    }

    /// Takes the first out of the heap.
    #[cold]
    fn remove(&mut self) {
        self.heap.swap_remove(0);
        if let Some(&first) = self.heap.first() {
            self.sift_down(first);
        }
    }

    /// Puts `moved` where the first of the heap was, and from there down to its place.
    #[inline]
    fn sift_down(&mut self, moved: (Ticks, u32)) {
        let heap = &mut self.heap[..];
        let mut at = 0;
        loop {
            let mut child = 2 * at + 1;
            if child >= heap.len() {
                break;
            }
            if child + 1 < heap.len() && heap[child + 1] < heap[child] {
                child += 1;
            }
            if moved <= heap[child] {
                break;
            }
            heap[at] = heap[child];
            at = child;
        }
        heap[at] = moved;
    }
}

impl Raw {
    /// Whether it neither waits for anything nor changes what its thread is inside of.
    #[inline]
    fn is_plain(&self) -> bool {
        let code = self.code();
        code < Kind::TaskStatus as u8 && code > Kind::ThreadExit as u8 || code == 0
    }
}
