//! Streams that must wait for something else to happen.

use crate::wire::Ticks;
use std::collections::BTreeSet;

/// What a stream may wait for: that something reaches a level. Levels only rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Progress {
    pub(crate) of: Whose,
    pub(crate) level: u64,
}

/// An entry of a task or a span, or a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    Task(u32),
    Span(u32),
    Worker(u16),
}

/// See the module. Each stream waits for one level and is found by it, so no stream is checked without a
/// reason.
#[derive(Default)]
pub(crate) struct WaitList {
    by_level: BTreeSet<(Progress, u32)>,
    by_time: BTreeSet<(Ticks, u32)>,
}

impl WaitList {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_level.is_empty()
    }

    /// Adds a stream whose next event has this time.
    pub(crate) fn add(&mut self, stream: u32, time: Ticks, level: Progress) {
        self.by_level.insert((level, stream));
        self.by_time.insert((time, stream));
    }

    /// Removes and returns a stream that waits for a level that has been reached.
    pub(crate) fn reached(&mut self, reached: Progress) -> Option<u32> {
        let lowest = (Progress { of: reached.of, level: 0 }, 0);
        let (level, stream) = *self.by_level.range(lowest..=(reached, u32::MAX)).next()?;
        self.by_level.remove(&(level, stream));
        Some(stream)
    }

    /// This stream, whose next event has this time, was [`reached`](Self::reached).
    pub(crate) fn forget_time(&mut self, stream: u32, time: Ticks) {
        self.by_time.remove(&(time, stream));
    }

    /// The waiting stream whose next event is the earliest.
    pub(crate) fn earliest(&self) -> Option<u32> {
        self.by_time.first().map(|(_, stream)| *stream)
    }

    /// Removes a stream that continues although its level was not reached.
    pub(crate) fn give_up(&mut self, stream: u32, time: Ticks, level: Progress) {
        self.by_level.remove(&(level, stream));
        self.by_time.remove(&(time, stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_woken_by_what_they_wait_for() {
        let level = |place, level| Progress { of: Whose::Task(place), level };
        let mut waiting = WaitList::default();
        waiting.add(1, Ticks(10), level(7, 4));
        waiting.add(2, Ticks(5), level(7, 2));
        waiting.add(3, Ticks(1), level(8, 1));
        assert_eq!(waiting.reached(level(7, 1)), None);
        assert_eq!(waiting.reached(level(7, 3)), Some(2));
        waiting.forget_time(2, Ticks(5));
        assert_eq!(waiting.reached(level(7, 3)), None);
        assert_eq!(waiting.earliest(), Some(3));
        waiting.give_up(3, Ticks(1), level(8, 1));
        assert_eq!(waiting.reached(level(7, u64::MAX)), Some(1));
        waiting.forget_time(1, Ticks(10));
        assert!(waiting.is_empty() && waiting.earliest().is_none());
    }
}
