//! How often a trigger may fire: not within its cool-down, and so many times an hour.
//!
//! # Synchronization
//!
//! A thread that finds the cool-down over moves its end forward by a compare-and-swap, so of several that
//! fire at once only one passes. When an hour's quota is used up, the end moves to the end of the hour. So
//! suppression costs one relaxed load and the clock, whatever its reason.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HOUR: u64 = 3_600_000_000_000;
/// Hours are distinguished in units of 2^20 ns (about a millisecond); the low bits count how often the
/// trigger has fired in the hour.
const UNIT_BITS: u32 = 20;
const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// See the module.
#[derive(Debug)]
pub(crate) struct Limiter {
    cool_down: u64,
    per_hour: u64,
    /// Nothing passes before this instant, in nanoseconds.
    closed_until: AtomicU64,
    /// When the hour began, counted from 1, and how often the trigger has fired since.
    hour: AtomicU64,
}

impl Limiter {
    pub(crate) fn new(cool_down: Duration, per_hour: u32) -> Self {
        Self {
            cool_down: u64::try_from(cool_down.as_nanos()).unwrap_or(u64::MAX),
            per_hour: u64::from(per_hour).min(COUNT),
            closed_until: AtomicU64::new(0),
            hour: AtomicU64::new(0),
        }
    }

    /// Whether the trigger may fire at `now`, in nanoseconds of a clock that never goes back. A yes counts as
    /// firing.
    #[inline]
    pub(crate) fn admits(&self, now: u64) -> bool {
        let closed_until = self.closed_until.load(Ordering::Relaxed);
        now >= closed_until && self.claim(now, closed_until)
    }

    /// Whether it would refuse at `now`.
    pub(crate) fn is_closed(&self, now: u64) -> bool {
        now < self.closed_until.load(Ordering::Relaxed)
    }

    #[cold]
    fn claim(&self, now: u64, closed_until: u64) -> bool {
        let (order, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let next = now.saturating_add(self.cool_down);
        if next != closed_until
            && self.closed_until.compare_exchange(closed_until, next, order, failure).is_err()
        {
            return false;
        }
        let begin = |now: u64| (now >> UNIT_BITS) + 1;
        let mut hour = self.hour.load(Ordering::Relaxed);
        loop {
            let began = hour >> COUNT_BITS;
            let is_new = began == 0 || begin(now).saturating_sub(began) > HOUR >> UNIT_BITS;
            let (began, count) = if is_new { (begin(now), 0) } else { (began, hour & COUNT) };
            if count >= self.per_hour {
                let over = (began << UNIT_BITS).saturating_add(HOUR);
                self.closed_until.fetch_max(over, Ordering::Relaxed);
                return false;
            }
            let counted = began << COUNT_BITS | (count + 1);
            match self.hour.compare_exchange(hour, counted, order, failure) {
                Ok(_) => return true,
                Err(other) => hour = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn nothing_goes_through_within_the_cool_down() {
        let limiter = Limiter::new(Duration::from_secs(10), 1000);
        assert!(limiter.admits(SECOND));
        assert!(!limiter.admits(SECOND));
        assert!(!limiter.admits(11 * SECOND - 1));
        assert!(limiter.admits(11 * SECOND));
    }

    #[test]
    fn an_hour_has_its_number_and_the_next_one_has_it_again() {
        let limiter = Limiter::new(Duration::ZERO, 3);
        let fired = |from: u64| (0..100).filter(|n| limiter.admits(from + n * SECOND)).count();
        assert_eq!(fired(5 * SECOND), 3);
        assert_eq!(fired(200 * SECOND), 0);
        assert_eq!(fired(5 * SECOND + HOUR + SECOND), 3);
        assert!(!Limiter::new(Duration::ZERO, 0).admits(SECOND), "none an hour");
    }

    #[test]
    fn of_many_that_fire_at_once_one_goes_through() {
        let limiter = Limiter::new(Duration::from_secs(1), 1000);
        let through = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 1..=100 {
                        if limiter.admits(round * 10 * SECOND) {
                            through.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!((1..=100).contains(&through.load(Ordering::Relaxed)));
    }
}
