//! The protocols under [loom]: all orders of a few threads' steps, and all values that the memory
//! model lets a load return. This runs it:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p lookback-recorder --release --lib model
//! ```
//!
//! # What is modelled
//!
//! [`Gate`](crate::gate::Gate), [`Ring`](crate::ring::Ring), [`Words`](crate::words::Words),
//! [`Told`](crate::told::Told), [`References`](crate::references::References) and
//! [`was_left`](crate::owner::was_left) are the code that ships, with
//! loom's atomics in it. What calls them is not: clock, blocks and slots are the real machine's. So each
//! scenario has a small stand-in for it, which names the function whose loads and stores it repeats
//! in their order; who changes that function changes the stand-in.
//!
//! | file | claim |
//! |---|---|
//! | `gate` | who was seen past a generation never writes in it again, and all it wrote is seen |
//! | `notes` | the note of a silent slot is of its state before the generation, or is dropped |
//! | `owners` | a slot is taken back only of a thread that is gone without having given it back |
//! | `carver` | the block of a writer that is still inside of a generation that was given up is its own |
//! | `publish` | a generation that several begin at once is begun once, whoever of them stops where |
//! | `end` | when a recording is over nobody is inside of its arena, whatever was published meanwhile |
//! | `ring` | what is carved belongs to its carver alone; what is reclaimed is reclaimed once |
//! | `table` | an entry that is reused is never taken for another generation's |
//! | `read` | a copy that the ring calls sound holds nothing of a later lap; no stream has a gap |
//! | `definitions` | every event of the first reading finds its definition in the second |
//! | `tasks` | each generation has the state of every task; no poll has two wakes |
//! | `spans` | each generation has every span that is open; one that is over never comes back |
//! | `whole` | all of it at once: events are whole, and complete generations are all there |
//!
//! Most files also make the mistakes that their protocol is there to prevent (a fence left out, a
//! store too early, a second look that is not taken), and the model must find every one.
//!
//! # Bounds and cost
//!
//! Two or three threads, at most four events in all, rings of two to five units, a table of four
//! entries. Threads are interrupted where they need not wait at most three times in an execution;
//! set `LOOM_MAX_PREEMPTIONS` for another bound. All of it takes one to two minutes on two cores; the
//! scenarios of `publish`, which have some thirty steps a thread, are interrupted at most twice.
//! `--nocapture` prints them one by one.
//!
//! # What it cannot show
//!
//! * That `membarrier` on the advancing side is as good as a fence in the writer. The model always
//!   has the fence; that the two are equivalent is the kernel's promise. One order is needed only
//!   where the writer has no fence, so no mistake in it can be found here: that `Gate::adopt` stores
//!   the generation with release.
//! * That the payload is read whole. It is copied by `pread` while it is written, outside of any
//!   memory model; here it is relaxed atomics. So is the header of the ring, and are the words
//!   `committed`, which the model loads with acquire.
//! * Signals, forks, and threads that die: there are none in loom.
//! * All that the memory model allows. Loom runs each thread in its program's order; it takes a
//!   fence to happen together with the step before it; its sequentially consistent fences
//!   synchronize, which is more than C++ promises; a weak compare-and-swap never fails without a
//!   reason. And it remembers only the last access to a word: if the storing thread has just loaded
//!   it, a load that another thread made before is forgotten, and with it the other order of that
//!   load and the store. So where one reads what another writes, the writer runs first, and the
//!   reader's load finds the store.
//!
//! [loom]: https://docs.rs/loom

mod carver;
mod definitions;
mod end;
mod gate;
mod notes;
mod owners;

mod publish;
mod read;
mod ring;
mod spans;
mod table;
mod tasks;
mod whole;

use crate::ring::{Began, Keeper, Ring};
use loom::cell::UnsafeCell;
use loom::model::Builder;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How often a thread may be interrupted where it need not wait, unless `LOOM_MAX_PREEMPTIONS` says
/// otherwise.
const PREEMPTIONS: usize = 3;

/// Runs `scenario` in every order, and prints in how many.
fn holds(scenario: impl Fn() + Send + Sync + 'static) {
    holds_within(PREEMPTIONS, scenario);
}

/// As [`holds`], with another bound, for scenarios of many steps.
fn holds_within(preemptions: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let counted = Arc::clone(&executions);
    let mut builder = Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
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

/// Of a ring whose generations are over when they are complete, and in which nothing is pinned: what is
/// given up is told to a function.
struct Quiet<'a, F: Fn(u64)>(&'a Ring, F);

impl<F: Fn(u64)> Keeper for Quiet<'_, F> {
    fn reclaimed(&self, generation: u64) {
        self.1(generation);
    }

    fn close(&self, generation: u64) -> bool {
        generation <= self.0.complete.load(crate::sync::Ordering::Acquire)
    }

    fn pin(&self, _: Range<u64>) {}

    fn pinned(&self, _: Range<u64>, _: u64) -> Option<u64> {
        None
    }
}

/// Enters a generation that begins at the head as it is now.
fn enter(ring: &Ring, generation: u64) {
    ring.enter(generation, Began::default(), &Quiet(ring, |_| ())).expect("there is room");
}

/// Gives up the oldest generation, and says which one that was if it was this call that did; else 0.
fn reclaim_oldest(ring: &Ring) -> u64 {
    let number = std::cell::Cell::new(0);
    let _ = ring.reclaim_oldest(&Quiet(ring, |given_up| number.set(given_up)));
    number.get()
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
