//! The trace's clock: nanoseconds, strictly ascending over the whole trace.
//!
//! Go's reader merges threads by time, and consults its state machine where times leave a choice. Here no two
//! events have the same time, so it has no choice and meets the events in the order in which they were
//! written.

use crate::wire::Nanos;

/// The time of the last event, and the earliest for the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    last: u64,
    wanted: u64,
}

/// The latest time, 146 years: Go's times are signed.
const LATEST: u64 = 1 << 62;
/// The earliest time. Go treats a batch whose base is 0 as one without a base.
pub(super) const EARLIEST: u64 = 2048;

impl Clock {
    /// A clock that never shows an earlier time than `start`.
    pub(super) fn new(start: Nanos) -> Self {
        let start = start.0.clamp(EARLIEST, LATEST);
        Self { last: start, wanted: start }
    }

    /// Moves the clock forward to this time, at least.
    pub(super) fn advance(&mut self, to: Nanos) {
        self.wanted = self.wanted.max(to.0.min(LATEST));
    }

    /// The time of the next event.
    pub(super) fn tick(&mut self) -> u64 {
        self.last = (self.last + 1).max(self.wanted);
        self.last
    }

    /// The time of the last event; before the first one, the start.
    pub(super) fn now(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_events_have_the_same_time() {
        let mut clock = Clock::new(Nanos(0));
        assert_eq!((clock.tick(), clock.tick()), (EARLIEST + 1, EARLIEST + 2));
        clock.advance(Nanos(5000));
        clock.advance(Nanos(4000));
        assert_eq!((clock.tick(), clock.tick(), clock.now()), (5000, 5001, 5001));
    }
}
