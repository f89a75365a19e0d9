//! Points where tests can hold a thread up, to see what otherwise happens only on an overloaded
//! machine. They exist in builds with debug assertions or with the feature `fault_injection`, and
//! compile to nothing elsewhere.

/// Where a thread is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The collector, before it advances.
    Advance,
    /// The advancer, after it noted the silent threads.
    Noted,
    /// The advancer, after it published the next generation.
    Published,
    /// The advancer, once no writer is left in the old generation.
    Settled,
    /// The advancer, between carving the block for the statuses and writing it.
    Listed,
    /// A writer, inside its gate, on an event's slow path.
    Inside,
    /// A writer, between carving a block and writing its header.
    Carved,
    /// A writer that is about to publish the next generation.
    Publish,
    /// A writer that has just published it.
    Helped,
    /// The thread that grows a large arena, before each piece.
    Grow,
    /// A running thread that was asked for its stack, before it checks whether it was meant.
    Answer,
    /// A reader, between noting the time and reading.
    Look,
}

#[cfg(any(debug_assertions, feature = "fault_injection"))]
mod real {
    use super::Point;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    const POINTS: usize = Point::Look as usize + 1;

    /// The duration in nanoseconds, and the rarity: one pass in this many.
    static HOLDS: [[AtomicU64; 3]; POINTS] = [const { [const { AtomicU64::new(0) }; 3] }; POINTS];
    static ANY: AtomicU64 = AtomicU64::new(0);
    static ALONE: AtomicBool = AtomicBool::new(false);

    /// Stops writers from publishing generations. Then the arena fills up when the collector is
    /// late, and the newest events are lost.
    pub fn leave_the_collector_alone() {
        ALONE.store(true, Ordering::Relaxed);
    }

    /// Whether writers publish no generation.
    pub(crate) fn is_collector_alone() -> bool {
        ALONE.load(Ordering::Relaxed)
    }

    /// Holds up one in `one_in` threads that reach this point, for `time`. Zero stops that;
    /// `Duration::MAX` holds threads for as long as the setting stands.
    pub fn hold(point: Point, time: Duration, one_in: u64) {
        let [nanos, rarity, _] = &HOLDS[point as usize];
        rarity.store(one_in.max(1), Ordering::Relaxed);
        nanos.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        ANY.store(1, Ordering::Relaxed);
    }

    /// A thread reaches this point.
    #[inline]
    pub(crate) fn point(point: Point) {
        if ANY.load(Ordering::Relaxed) != 0 {
            held(point);
        }
    }

    #[cold]
    fn held(point: Point) {
        let [nanos, rarity, passed] = &HOLDS[point as usize];
        let time = nanos.load(Ordering::Relaxed);
        let rarity = rarity.load(Ordering::Relaxed).max(1);
        if time == 0 || !passed.fetch_add(1, Ordering::Relaxed).is_multiple_of(rarity) {
            return;
        }
        // A thread that is held up for long uses no CPU, so that tests can time other threads
        // meanwhile.
        let step = if time < 1_000_000_000 { 200 } else { 20_000 };
        let began = Instant::now();
        while nanos.load(Ordering::Relaxed) != 0 && began.elapsed().as_nanos() < u128::from(time) {
            std::thread::sleep(Duration::from_micros(step));
        }
    }
}

#[cfg(any(debug_assertions, feature = "fault_injection"))]
pub use real::{hold, leave_the_collector_alone};
#[cfg(any(debug_assertions, feature = "fault_injection"))]
pub(crate) use real::{is_collector_alone, point};

/// A thread reaches this point.
#[cfg(not(any(debug_assertions, feature = "fault_injection")))]
#[inline(always)]
pub(crate) fn point(_: Point) {}

/// Whether writers publish no generation.
#[cfg(not(any(debug_assertions, feature = "fault_injection")))]
#[inline(always)]
pub(crate) fn is_collector_alone() -> bool {
    false
}
