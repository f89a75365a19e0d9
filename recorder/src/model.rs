//! The protocols under loom.
mod definitions;
mod gate;
mod notes;
mod read;
mod ring;
mod table;
mod whole;

use loom::cell::UnsafeCell;
use loom::model::Builder;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How often a thread may be interrupted where it need not wait, unless `LOOM_MAX_PREEMPTIONS` says
/// otherwise.
const PREEMPTIONS: usize = 3;

/// Runs `scenario` in every order, and prints in how many.
fn holds(scenario: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let counted = Arc::clone(&executions);
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let executions = executions.load(Ordering::Relaxed);
    println!("{name}: {executions} executions in {:.1?}", began.elapsed());
}

/// Runs a scenario with a mistake in it, which must be found: some order ends with a panic that says
/// `what`.
fn is_caught(what: &str, scenario: impl Fn() + Send + Sync + 'static) {
    let found = catch_unwind(AssertUnwindSafe(|| holds(scenario)));
    let panic = found.expect_err("the mistake was not found");
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(said.contains(what), "something else went wrong: {said}");
}

/// What loom says of two accesses, one of which writes, that nothing orders.
const RACE: &str = "Causality violation";

/// A plain word of memory. Loom panics if two threads touch it with nothing to order them, and one
/// of them writes.
struct Plain(UnsafeCell<u64>);

// SAFETY: loom checks every access.
unsafe impl Sync for Plain {}
// SAFETY: it is a number.
unsafe impl Send for Plain {}

impl Plain {
    fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    fn get(&self) -> u64 {
        // SAFETY: loom checks that nobody writes meanwhile.
        self.0.with(|value| unsafe { *value })
    }

    fn set(&self, new: u64) {
        // SAFETY: loom checks that nobody else looks or writes meanwhile.
        self.0.with_mut(|value| unsafe { *value = new });
    }
}
