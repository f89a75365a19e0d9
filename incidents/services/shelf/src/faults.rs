//! Faults, one at a time: the environment's `FAULT` names it.

use std::sync::OnceLock;

/// Whether this fault was asked for.
pub fn fault(name: &str) -> bool {
    static FAULT: OnceLock<String> = OnceLock::new();
    FAULT.get_or_init(|| std::env::var("FAULT").unwrap_or_default()) == name
}

/// What a report computes: a moment, or, with the fault, for as long as another system takes to answer.
pub fn compute(count: u64) -> u64 {
    if fault("blocking_pool") {
        std::thread::sleep(std::time::Duration::from_secs(4)); // truth: blocking_pool
    }
    (0..count).fold(1, |sum, number| std::hint::black_box(sum ^ number).wrapping_mul(31))
}
