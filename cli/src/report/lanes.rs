//! What is open on each thread. A slice has the depth that it began with, also when one around it ends first.

use super::slices::{How, Kind, Slice, Slices};
use lookback::read::Thread;
use lookback::read::wire::{TaskId, ThreadNumber};
use std::collections::HashMap;

/// What is inside of more is left out.
const DEEPEST: u16 = 200;

/// Which slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Poll(TaskId),
    Parked,
    Region,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    open: Open,
    start: i64,
    depth: u16,
    site: u32,
    task: u32,
    span: u32,
}

/// A thread.
#[derive(Debug)]
pub struct Lane {
    pub number: u64,
    pub os_thread: u64,
    pub name: String,
    pub worker: Option<String>,
    polls: Vec<Running>,
    regions: Vec<Running>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Lanes {
    known: HashMap<Option<ThreadNumber>, u32>,
    pub all: Vec<Lane>,
    pub slices: Slices,
    /// Slices that are inside of too many others.
    pub too_deep: u64,
}

impl Lanes {
    /// The index of a thread.
    pub fn index(&mut self, thread: Option<&Thread>) -> u32 {
        let number = thread.map(|thread| thread.number);
        if let Some(known) = self.known.get(&number) {
            return *known;
        }
        let index = self.all.len() as u32;
        self.known.insert(number, index);
        self.all.push(Lane {
            number: number.unwrap_or_default().0,
            os_thread: thread.map_or(0, |thread| thread.os_thread),
            name: thread.map_or_else(String::new, |thread| thread.name.to_string()),
            worker: None,
            polls: Vec::new(),
            regions: Vec::new(),
        });
        index
    }

    /// The index of a thread that was met before; that of an unknown one otherwise.
    pub fn index_of(&mut self, number: ThreadNumber) -> u32 {
        match self.known.get(&Some(number)) {
            Some(known) => *known,
            None => self.index(None),
        }
    }

    /// Its current name.
    pub fn rename(&mut self, thread: Option<&Thread>) {
        let index = self.index(thread);
        if let (Some(lane), Some(thread)) = (self.all.get_mut(index as usize), thread) {
            lane.name = thread.name.to_string();
        }
    }

    pub fn is_worker(&mut self, index: u32, label: impl FnOnce() -> String) {
        if let Some(lane) = self.all.get_mut(index as usize)
            && lane.worker.is_none()
        {
            lane.worker = Some(label());
        }
    }

    /// A slice begins.
    pub fn open(&mut self, index: u32, open: Open, start: i64, site: u32, task: u32, span: u32) {
        let Some(lane) = self.all.get_mut(index as usize) else { return };
        let of = if open == Open::Region { &mut lane.regions } else { &mut lane.polls };
        let depth = of.last().map_or(0, |last| last.depth.saturating_add(1));
        of.push(Running { open, start, depth, site, task, span });
    }

    /// The thread enters a span: the poll is about the first one.
    pub fn enter(&mut self, index: u32, span: u32) {
        let lane = self.all.get_mut(index as usize);
        let poll = lane.and_then(|lane| lane.polls.last_mut());
        if let Some(poll) = poll.filter(|poll| poll.span == 0) {
            poll.span = span;
        }
    }

    /// The innermost such slice ends.
    pub fn close(&mut self, index: u32, which: Open, at: i64, how: How) {
        let Some(lane) = self.all.get_mut(index as usize) else { return };
        if let Some(place) = lane.polls.iter().rposition(|slice| slice.open == which) {
            let ended = lane.polls.remove(place);
            self.ended(index, ended, at, how);
        }
    }

    /// The region ends inside of which so many are open.
    pub fn close_region(&mut self, index: u32, inside: u64, at: i64) {
        let Some(lane) = self.all.get_mut(index as usize) else { return };
        let inside = usize::try_from(inside).unwrap_or(usize::MAX);
        let last = lane.regions.len().checked_sub(1);
        if let Some(place) = last.and_then(|last| last.checked_sub(inside)) {
            let ended = lane.regions.remove(place);
            self.ended(index, ended, at, How::Ended);
        }
    }

    /// Everything ends, or is cut off, here.
    pub fn close_all(&mut self, at: i64, how: How) {
        for index in 0..self.all.len() {
            let Some(lane) = self.all.get_mut(index) else { continue };
            let open: Vec<_> = lane.polls.drain(..).chain(lane.regions.drain(..)).collect();
            open.into_iter().for_each(|slice| self.ended(index as u32, slice, at, how));
        }
    }

    fn ended(&mut self, thread: u32, of: Running, at: i64, how: How) {
        if of.depth > DEEPEST {
            self.too_deep += 1;
            return;
        }
        let length = u64::try_from(at.saturating_sub(of.start)).unwrap_or_default();
        let kind = match of.open {
            Open::Poll(_) => Kind::Poll,
            Open::Parked => Kind::Parked,
            Open::Region => Kind::Region,
        };
        self.slices.push(Slice {
            thread,
            is_region: of.open == Open::Region,
            depth: of.depth,
            start: of.start,
            length,
            kind,
            how,
            site: of.site,
            task: of.task,
            span: of.span,
            count: 1,
            busy: length,
        });
    }
}
