//! Points at which a thread can be held up, so that tests see what else only a machine that is overloaded
//! shows: in builds with debug assertions, or with the feature `fault_injection`. Elsewhere they are
//! nothing.

/// Where a thread is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The collector, before it advances.
    Advance,
    /// Who advances, when the silent threads are noted.
    Noted,
    /// Who advances, when the next generation is published.
    Published,
    /// Who advances, when no writer is left.
    Settled,
    /// Who advances, between carving the block of the statuses and writing it.
    Listed,
    /// A writer, inside of its gate, on the slow way of an event.
    Inside,
    /// A writer, between carving a block and writing its header.
    Carved,
    /// A writer that is about to publish the next generation.
    Publish,
    /// A writer that has just done so.
    Helped,
    /// Who gets the rest of a large arena, before each piece.
    Grow,
    /// A reader, between noting the time and reading what there is.
    Look,
}

#[cfg(any(debug_assertions, feature = "fault_injection"))]
mod real {
    use super::Point;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    const POINTS: usize = Point::Look as usize + 1;

    /// For how many nanoseconds, and how rarely: one pass in so many.
    static HOLDS: [[AtomicU64; 3]; POINTS] = [const { [const { AtomicU64::new(0) }; 3] }; POINTS];
    static ANY: AtomicU64 = AtomicU64::new(0);
    static ALONE: AtomicBool = AtomicBool::new(false);

    /// From now on writers publish no generation: then the arena is full when the collector is late, and the
    /// newest events are lost.
    pub fn leave_the_collector_alone() {
        ALONE.store(true, Ordering::Relaxed);
    }

    /// Whether writers publish no generation.
    pub(crate) fn is_collector_alone() -> bool {
        ALONE.load(Ordering::Relaxed)
    }

    /// From now on one thread in `one_in` that comes to this point is held up for so long. Zero for not at
    /// all, `Duration::MAX` for as long as that is so.
    pub fn hold(point: Point, time: Duration, one_in: u64) {
        let [nanos, rarity, _] = &HOLDS[point as usize];
        rarity.store(one_in.max(1), Ordering::Relaxed);
        nanos.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        ANY.store(1, Ordering::Relaxed);
    }

    /// A thread comes to this point.
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
        // One that is held up for long takes no core: others' times may be measured meanwhile.
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

/// A thread comes to this point.
#[cfg(not(any(debug_assertions, feature = "fault_injection")))]
#[inline(always)]
pub(crate) fn point(_: Point) {}

/// Whether writers publish no generation.
#[cfg(not(any(debug_assertions, feature = "fault_injection")))]
#[inline(always)]
pub(crate) fn is_collector_alone() -> bool {
    false
}
