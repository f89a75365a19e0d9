//! How far apart generations end, depending on what their ends cost.
//!
//! The end of a generation lists everything that is alive and that nothing in it mentioned. For a million
//! spans that takes 50 ms and 9 MB, and a writer at full speed fills a sixteenth of the arena in less. So a
//! generation may grow until its listing is an eighth of it, in bytes and in the time that it takes to fill.
//! But three quarters of the arena must stay in use when the oldest generation is reclaimed: its events, its
//! listing, and the reserve for the next listing must not take more than a quarter together.
//!
//! Where that is not enough, the collector rests after a listing for seven times as long as the listing took
//! of a core. Meanwhile writers end generations, which are then incomplete (see `publish`). The collector
//! does not rest while fewer complete generations are kept than that allows, unless writers outran it the
//! last time: then the arena is too small for what is alive besides what is written, and all that the
//! collector could do is to occupy a core.
//!
//! Each complete generation still holds all of its statuses.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

/// A listing is at most this fraction of a generation.
const PART: u64 = 8;
/// A generation takes this fraction of the arena, unless something calls for more.
const PARTS: u64 = 16;
/// This fraction of the arena may be unused at the ends of a generation's blocks.
const UNUSED: u64 = 64;
/// A generation is ended early at this size even if its share of the arena is larger: a process that reads
/// one, or passes it on, holds all of it in memory.
const MOST_GENERATION: u64 = 64 << 20;
/// The longest rest, however long a listing took.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// What the end of a generation cost, and how fast writers filled the generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) bytes: u64,
    /// The time that it took of a core.
    pub(crate) time: Duration,
    /// How much was written from the beginning of the generation to that of the next, and how long that took.
    pub(crate) filled: u64,
    pub(crate) filled_in: Duration,
}

/// How much of the arena a generation may take before writers wake the collector to end it, and before a
/// writer ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) early: u64,
    pub(crate) late: u64,
}

impl Share {
    /// The share in an arena of this capacity, of which `reserve` bytes are kept from writers.
    pub(crate) fn of(capacity: u64, reserve: u64, last: &Listing) -> Self {
        let part = (capacity / PARTS).min(MOST_GENERATION);
        // The oldest generation goes together with its statuses and the unused ends of its blocks; and
        // writers never get the reserve for the running generation's statuses.
        let most_late = (capacity / 4).saturating_sub(2 * reserve + capacity / UNUSED);
        let most_late = most_late.clamp(part + part / 4, MOST_GENERATION + part);
        let most = most_late.saturating_sub(part / 2).clamp(part, MOST_GENERATION);
        let per_time = u128::from(last.filled).saturating_mul(last.time.as_nanos())
            / last.filled_in.as_nanos().max(1);
        let by_time = u64::try_from(per_time).unwrap_or(u64::MAX);
        let early = last.bytes.max(by_time).saturating_mul(PART).clamp(part, most);
        Self { early, late: (early + part).min(most_late) }
    }
}

/// How long the collector leaves early ends to writers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    until: Instant,
    /// The head's position at which the rest ends early; `None` if writers outran the advance.
    up_to: Option<u64>,
}

impl Rest {
    /// The rest after an advance that ended at `now` and listed for that long. `head` is the ring's head
    /// then; `None` if writers were faster.
    pub(crate) fn after(now: Instant, listed: Duration, capacity: u64, head: Option<u64>) -> Self {
        let rest = listed.saturating_mul(PART as u32 - 1).min(LONGEST_REST);
        Self { until: now + rest, up_to: head.map(|head| head + capacity / 4) }
    }

    /// When the rest ends, if it has not ended yet.
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
        // A mebibyte per millisecond, and a listing of 4 ms.
        let by_time = Share::of(256 * MIB, MIB, &listing(0, 4000, 16 * MIB, 16_000));
        assert_eq!(by_time, Share { early: 32 * MIB, late: 48 * MIB });
        // At a tenth of the rate it takes no more than before.
        let slow = Share::of(256 * MIB, MIB, &listing(0, 4000, 16 * MIB, 160_000));
        assert_eq!(slow.early, 16 * MIB);
    }

    #[test]
    fn a_measure_that_makes_no_sense_is_survived() {
        let absurd = Share::of(1 << 16, 0, &listing(0, u64::MAX, u64::MAX, 0));
        assert_eq!(absurd, Share { early: 13 << 10, late: 15 << 10 });
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
            let reserve = reserve.min(capacity / PARTS);
            let [bytes, micros, filled, filled_micros] = numbers;
            let share = Share::of(capacity, reserve, &listing(bytes, micros, filled, filled_micros));
            let part = (capacity / PARTS).min(MOST_GENERATION);
            prop_assert!(share.early >= part && share.early < share.late);
            prop_assert!(share.late + 2 * reserve + capacity / UNUSED <= capacity / 4 + PARTS);
        }
    }
}
