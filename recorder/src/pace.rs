//! How far apart generations end, by what their ends cost.
//!
//! The end of a generation lists all that is alive and that nothing in it mentioned. Where a million spans are,
//! that is a thing of 50 ms and of 9 MB; and a writer at full speed fills a sixteenth of the arena in less. So
//! a generation may grow until its listing is an eighth of it, of its bytes and of the time that it takes to fill
//! it. It must not become so large that what goes with it, when it is the oldest and is given up, takes the window
//! below three quarters of the arena.
//!
//! Where that is not enough, the collector rests after a listing for seven times as long as that took of a core,
//! and writers end generations meanwhile, which then are incomplete (see `publish`). It does not rest while less
//! than so many complete ones are kept, unless it was outrun the last time: then the arena is too small for what is
//! alive beside what is written, and all that it could do is to take a core away.
//!
//! Each complete generation holds all of its statuses, as ever.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// A listing is at most one part in so many.
const PART: u64 = 8;
/// Of the arena, in parts of which a generation takes one where nothing speaks against it.
const PARTS: u64 = 16;
/// A generation is ended early when it is as large as this, though it is less than its share of the arena: who
/// reads one, or passes it on, has all of it in memory.
const MOST_GENERATION: u64 = 64 << 20;
/// However long a listing took: so long is the rest at most.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// What the end of a generation took, and how fast it was filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) bytes: u64,
    /// Of a core.
    pub(crate) time: Duration,
    /// How much was written from the begin of the generation to the begin of the next, and how long that took.
    pub(crate) filled: u64,
    pub(crate) filled_in: Duration,
}

/// How much of the arena a generation may take before the collector is asked to end it, and before a writer ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) early: u64,
    pub(crate) late: u64,
}

impl Share {
    /// In an arena of this capacity, of which `reserve` bytes are kept from writers.
    pub(crate) fn of(capacity: u64, reserve: u64, last: &Listing) -> Self {
        let part = (capacity / PARTS).min(MOST_GENERATION);
        let most = (capacity / 4).saturating_sub(reserve + part).clamp(part, MOST_GENERATION);
        let per_time = u128::from(last.filled).saturating_mul(last.time.as_nanos())
            / last.filled_in.as_nanos().max(1);
        let by_time = u64::try_from(per_time).unwrap_or(u64::MAX);
        let early = last.bytes.max(by_time).saturating_mul(PART).clamp(part, most);
        Self { early, late: early + part }
    }
}

/// Until when the collector leaves early ends to writers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    until: Instant,
    /// But no further than up to this position of the head, if it is not for nothing.
    up_to: Option<u64>,
}

impl Rest {
    /// After an advance that listed for so long, and was over `now`. `head` is where the ring's head stood;
    /// `None` if writers were faster.
    pub(crate) fn after(now: Instant, listed: Duration, capacity: u64, head: Option<u64>) -> Self {
        let rest = listed.saturating_mul(PART as u32 - 1).min(LONGEST_REST);
        Self { until: now + rest, up_to: head.map(|head| head + capacity / 4) }
    }

    /// When it is over, if it is not yet.
    pub(crate) fn left(self, now: Instant, head: u64) -> Option<Instant> {
        let is_over = now >= self.until || self.up_to.is_some_and(|up_to| head >= up_to);
        (!is_over).then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn listing(bytes: u64, micros: u64, filled: u64, filled_micros: u64) -> Listing {
        let (time, filled_in) =
            (Duration::from_micros(micros), Duration::from_micros(filled_micros));
        Listing { bytes, time, filled, filled_in }
    }

    #[test]
    fn a_generation_is_a_sixteenth_where_little_is_alive() {
        let share = Share { early: MIB, late: 2 * MIB };
        assert_eq!(Share::of(16 * MIB, 8192, &Listing::default()), share);
        assert_eq!(Share::of(16 * MIB, 8192, &listing(1000, 10, MIB, 10_000)), share);
    }

    #[test]
    fn a_listing_is_an_eighth_of_its_generation_in_bytes_and_in_time() {
        let by_bytes = Share::of(256 * MIB, MIB, &listing(3 * MIB, 0, MIB, 1000));
        assert_eq!(by_bytes, Share { early: 24 * MIB, late: 40 * MIB });
        // A mebibyte in a millisecond, and a listing of 4 ms.
        let by_time = Share::of(256 * MIB, MIB, &listing(0, 4000, 16 * MIB, 16_000));
        assert_eq!(by_time, Share { early: 32 * MIB, late: 48 * MIB });
        // At a tenth of the rate it takes no more than it did.
        let slow = Share::of(256 * MIB, MIB, &listing(0, 4000, 16 * MIB, 160_000));
        assert_eq!(slow.early, 16 * MIB);
    }

    #[test]
    fn a_measure_that_makes_no_sense_is_survived() {
        let absurd = Share::of(1 << 16, 0, &listing(0, u64::MAX, u64::MAX, 0));
        assert_eq!(absurd, Share { early: 3 << 12, late: 4 << 12 });
    }

    #[test]
    fn after_a_listing_the_collector_rests_but_keeps_complete_generations_in_the_window() {
        let (now, listed) = (Instant::now(), Duration::from_millis(10));
        let rest = Rest::after(now, listed, 16 * MIB, Some(100 * MIB));
        let over = now + Duration::from_millis(70);
        assert_eq!(rest.left(now, 100 * MIB), Some(over));
        assert_eq!(rest.left(over, 100 * MIB), None);
        assert_eq!(rest.left(now, 104 * MIB), None);
        let outrun = Rest::after(now, listed, 16 * MIB, None);
        assert_eq!(outrun.left(now, 1000 * MIB), Some(over));
        assert_eq!(outrun.left(over, 1000 * MIB), None);
    }

    proptest! {
        #[test]
        fn what_is_given_up_at_once_leaves_three_quarters_of_the_arena(
            capacity in 1_u64 << 16..1 << 40,
            reserve in 0_u64..1 << 40,
            numbers in proptest::array::uniform4(any::<u64>()),
        ) {
            let reserve = reserve.min(capacity / 8);
            let [bytes, micros, filled, filled_micros] = numbers;
            let share = Share::of(capacity, reserve, &listing(bytes, micros, filled, filled_micros));
            let part = (capacity / PARTS).min(MOST_GENERATION);
            prop_assert!(share.early >= part && share.early < share.late);
            prop_assert!(share.late + reserve <= capacity / 4 + PARTS);
        }
    }
}
