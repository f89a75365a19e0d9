//! Which allocations are samples.
//!
//! Samples are a Poisson process over the bytes that a thread allocates: the distance from one to the next is drawn from
//! an exponential distribution, so each byte is as likely as any other to be one, whatever the program does in
//! which order. An object of `n` bytes is a sample with probability `1 - exp(-n / interval)`, whatever was allocated before
//! it; a reader divides by that, and has an estimate without bias (the heap profilers of TCMalloc and Go do so).

use crate::os::clock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The mean distance between samples, in bytes, if nobody says another.
pub(crate) const DEFAULT_INTERVAL: u64 = 512 << 10;
/// The shortest: with less, sampling would be most of what the program does.
pub(crate) const LEAST_INTERVAL: u64 = 1 << 10;
/// No distance is longer: so that no sum of them overflows.
const FARTHEST: f64 = (1_u64 << 48) as f64;

static INTERVAL: AtomicU64 = AtomicU64::new(DEFAULT_INTERVAL);

/// Sets the mean distance between samples from now on, in bytes; 0: there are none.
pub(crate) fn set_interval(bytes: u64) {
    INTERVAL.store(bytes, Ordering::Relaxed);
}

/// The mean distance between samples, in bytes; 0 if there are none.
pub(crate) fn interval() -> u64 {
    INTERVAL.load(Ordering::Relaxed)
}

/// Where the next sample of one thread is. Written by that thread alone, but where several share one: then the random
/// numbers of two may be the same, which makes them no less random.
pub(crate) struct Sampling {
    /// How much is allocated when it is due.
    place: AtomicU64,
    random: AtomicU64,
}

impl Sampling {
    pub(crate) const fn new() -> Self {
        Self { place: AtomicU64::new(0), random: AtomicU64::new(0) }
    }

    /// A thread that has already allocated so much begins with a distance of its own.
    pub(crate) fn begin(&self, allocated: u64) {
        if self.random.load(Ordering::Relaxed) == 0 {
            let seed = (&raw const *self).addr() as u64 ^ clock::monotonic().0.rotate_left(32);
            self.random.store(seed | 1, Ordering::Relaxed);
        }
        self.renew(allocated);
    }

    /// When so much is allocated, the next sample is due.
    pub(crate) fn place(&self) -> u64 {
        self.place.load(Ordering::Relaxed)
    }

    /// Whether it is due.
    pub(crate) fn is_due(&self, allocated: u64) -> bool {
        allocated >= self.place() && interval() != 0
    }

    /// Draws the distance to the next sample from here.
    pub(crate) fn renew(&self, allocated: u64) {
        // Where sampling is off, somebody may turn it on: that is looked at once in a while.
        let mean = Some(interval()).filter(|interval| *interval != 0).unwrap_or(DEFAULT_INTERVAL);
        let random = next(self.random.load(Ordering::Relaxed) | 1);
        self.random.store(random, Ordering::Relaxed);
        let distance = (-unit(random).ln() * mean as f64).clamp(1.0, FARTHEST);
        self.place.store(allocated + distance as u64, Ordering::Relaxed);
    }
}

/// George Marsaglia's xorshift64* ("Xorshift RNGs", 2003; the multiplier is Vigna's).
fn next(mut state: u64) -> u64 {
    state ^= state >> 12;
    state ^= state << 25;
    state ^ state >> 27
}

/// A number above 0, up to 1.
fn unit(random: u64) -> f64 {
    ((random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_a_sample_with_the_probability_that_its_size_has() {
        // In blocks of 700 kB of which each is an object, and of which each has 7,000 of 100 bytes.
        for (size, seed) in [(700_000_u64, 3), (100, 5), (16, 7), (100_000, 11)] {
            let sampling = Sampling::new();
            sampling.random.store(seed, Ordering::Relaxed);
            sampling.renew(0);
            let objects = (2_000_000_000 / size).max(20_000);
            let (mut allocated, mut samples) = (0, 0_u64);
            for _ in 0..objects {
                allocated += size;
                if sampling.is_due(allocated) {
                    samples += 1;
                    sampling.renew(allocated);
                }
            }
            let probability = 1.0 - (-(size as f64) / DEFAULT_INTERVAL as f64).exp();
            let expected = objects as f64 * probability;
            let deviation = (expected * (1.0 - probability)).sqrt().max(1.0);
            let off = (samples as f64 - expected) / deviation;
            assert!(off.abs() < 4.0, "{size}: {samples} samples, {expected} expected");
        }
    }
}
