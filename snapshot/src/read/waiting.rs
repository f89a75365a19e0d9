//! Streams that cannot go on before something else has happened.

use crate::wire::Ticks;
use std::collections::BTreeSet;

/// What somebody may wait for: that something reaches a level. Levels only rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level {
    pub(super) of: Whose,
    pub(super) level: u64,
}

/// A place of a task or a span, or a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Task(u32),
    Span(u32),
    Worker(u16),
}

/// See the module. Each stream waits for one level, and is found again by it: nobody is asked twice
/// without a reason.
#[derive(Default)]
pub(super) struct Waiting {
    by_level: BTreeSet<(Level, u32)>,
    by_time: BTreeSet<(Ticks, u32)>,
}

impl Waiting {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_level.is_empty()
    }

    /// A stream, whose next event has this time, waits.
    pub(super) fn add(&mut self, stream: u32, time: Ticks, level: Level) {
        self.by_level.insert((level, stream));
        self.by_time.insert((time, stream));
    }

    /// A stream that waits for a level which has been reached; it waits no longer.
    pub(super) fn reached(&mut self, reached: Level) -> Option<u32> {
        let lowest = (Level { of: reached.of, level: 0 }, 0);
        let (level, stream) = *self.by_level.range(lowest..=(reached, u32::MAX)).next()?;
        self.by_level.remove(&(level, stream));
        Some(stream)
    }

    /// This stream, whose next event has this time, was [`reached`](Self::reached).
    pub(super) fn forget_time(&mut self, stream: u32, time: Ticks) {
        self.by_time.remove(&(time, stream));
    }

    /// The stream whose next event is the earliest of all that wait.
    pub(super) fn earliest(&self) -> Option<u32> {
        self.by_time.first().map(|(_, stream)| *stream)
    }

    /// A stream, which waits for this level, goes on without it.
    pub(super) fn give_up(&mut self, stream: u32, time: Ticks, level: Level) {
        self.by_level.remove(&(level, stream));
        self.by_time.remove(&(time, stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_woken_by_what_they_wait_for() {
        let level = |place, level| Level { of: Whose::Task(place), level };
        let mut waiting = Waiting::default();
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
