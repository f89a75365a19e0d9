//! What is open on each thread. A slice has the depth that it began with, also when one around it ends first.

use super::slices::{How, Kind, Slice, Slices};
use lookback::read::Thread;
use lookback::read::wire::{TaskId, ThreadNumber};
use std::collections::{BTreeSet, HashMap};

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
    /// How many regions are open that there is no room for.
    beyond: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Lanes {
    known: HashMap<Option<ThreadNumber>, u32>,
    pub all: Vec<Lane>,
    pub slices: Slices,
    /// Where something may be open.
    open: BTreeSet<u32>,
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
            beyond: 0,
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
        let is_region = open == Open::Region;
        let of = if is_region { &mut lane.regions } else { &mut lane.polls };
        let depth = of.last().map_or(0, |last| last.depth.saturating_add(1));
        if of.is_empty() {
            self.open.insert(index);
        }
        if depth > DEEPEST {
            self.too_deep += 1;
            lane.beyond += u64::from(is_region);
            return;
        }
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
        if inside < lane.beyond {
            lane.beyond -= 1;
            return;
        }
        let inside = usize::try_from(inside - lane.beyond).unwrap_or(usize::MAX);
        let last = lane.regions.len().checked_sub(1);
        if let Some(place) = last.and_then(|last| last.checked_sub(inside)) {
            let ended = lane.regions.remove(place);
            self.ended(index, ended, at, How::Ended);
        }
    }

    /// Everything ends, or is cut off, here.
    pub fn close_all(&mut self, at: i64, how: How) {
        for index in std::mem::take(&mut self.open) {
            let Some(lane) = self.all.get_mut(index as usize) else { continue };
            lane.beyond = 0;
            let open: Vec<_> = lane.polls.drain(..).chain(lane.regions.drain(..)).collect();
            open.into_iter().for_each(|slice| self.ended(index, slice, at, how));
        }
    }

    fn ended(&mut self, thread: u32, of: Running, at: i64, how: How) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_of_too_much_is_counted_and_what_is_around_it_ends_where_it_does() {
        let mut lanes = Lanes::default();
        let lane = lanes.index(None);
        for at in 0..1000 {
            lanes.open(lane, Open::Region, at, 0, 0, 0);
            lanes.open(lane, Open::Parked, at, 0, 0, 0);
        }
        let held = |lanes: &Lanes| lanes.all[0].regions.len() + lanes.all[0].polls.len();
        assert_eq!(held(&lanes), 2 * (usize::from(DEEPEST) + 1));
        assert_eq!(lanes.too_deep, 2 * (1000 - u64::from(DEEPEST) - 1));
        for at in 1000..2000 {
            lanes.close_region(lane, 0, at);
        }
        assert!(lanes.all[0].regions.is_empty());
        lanes.open(lane, Open::Region, 2000, 0, 0, 0);
        lanes.close_region(lane, 0, 3000);
        lanes.close_all(4000, How::Unknown);
        assert_eq!(held(&lanes), 0);
        assert!(lanes.open.is_empty());
    }
}
