//! Model checks of the protocols with [loom], which runs every order of a few threads' steps and
//! every value that the memory model lets a load return. Run them with:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p lookback-recorder --release --lib model
//! ```
//!
//! # What is modelled
//!
//! [`Gate`](crate::protocol::gate::Gate), [`Ring`](crate::protocol::ring::Ring), [`TaskWords`](crate::protocol::task_state::TaskWords),
//! [`AddressTable`](crate::protocol::address_table::AddressTable), [`LockCell`](crate::protocol::lock_cell::LockCell),
//! [`SpanGenerations`](crate::protocol::span_generations::SpanGenerations), [`intern`](crate::protocol::intern::intern), [`References`](crate::protocol::references::References) and
//! [`was_left`](crate::protocol::owner::was_left) are the code that ships, with
//! loom's atomics in it. Their callers (clock, blocks, slots) belong to the real machine and are
//! not modelled. So each scenario has a small stand-in, which names the function whose loads and
//! stores it repeats, in the same order. Change the stand-in together with that function.
//!
//! | file | claim |
//! |---|---|
//! | `gate` | a writer seen past a generation never writes in it again, and all its writes in it are seen |
//! | `notes` | the note of a silent slot is of its state before the generation, or is dropped |
//! | `owners` | a slot is taken back only if its thread is gone without having returned it |
//! | `carver` | a writer still inside a generation that was given up keeps its block |
//! | `publish` | a generation that several threads begin at once begins once, wherever any of them stops |
//! | `end` | once a recording is over no thread is inside its arena, whatever was published meanwhile |
//! | `ring` | a carved block belongs to its carver alone; a generation is reclaimed once |
//! | `table` | an entry that is reused is never taken for another generation's |
//! | `addresses` | what is listed of a sample of the heap is of one object |
//! | `intern` | equal stacks have one number; an await chain that is found is whole |
//! | `locks` | what is read of a wait, or of who holds a lock, is of one; a cell has one owner |
//! | `ranges` | what is noted of an open range is of one range |
//! | `read` | a copy that the ring calls sound holds nothing of a later lap; no stream has a gap |
//! | `definitions` | every event of the first reading finds its definition in the second |
//! | `tasks` | each generation has the state of every task; no poll has two wakes |
//! | `spans` | each generation has every open span; a closed span never comes back |
//! | `whole` | all of it at once: events are whole, and complete generations are all there |
//!
//! Most files also make the mistakes that their protocol prevents (a missing fence, an early store,
//! a missing second look), and the model must find every one.
//!
//! # Bounds and cost
//!
//! Two or three threads, at most four events in all, rings of two to five units, a table of four
//! entries. An execution has at most three preemptions where threads need not wait;
//! `LOOM_MAX_PREEMPTIONS` sets another bound. All of it takes one to two minutes on two cores. The
//! scenarios of `publish`, with some thirty steps per thread, have at most two preemptions.
//! `--nocapture` prints the scenarios one by one.
//!
//! # What it cannot show
//!
//! * That `membarrier` on the advancing side is as good as a fence in the writer. The model always
//!   has the fence; the kernel promises that the two are equivalent. One ordering matters only
//!   where the writer has no fence, so the model cannot find a mistake in it: `Gate::adopt` stores
//!   the generation with release.
//! * That the payload is read whole. It is copied by `pread` while it is written, outside any
//!   memory model; here it is relaxed atomics. The same goes for the ring's header and for the
//!   `committed` words, which the model loads with acquire.
//! * Signals, forks, and threads that die: loom has none.
//! * Everything that the memory model allows. Loom runs each thread in program order; it treats a
//!   fence and the step before it as one; its sequentially consistent fences synchronize, which is
//!   more than C++ promises; a weak compare-and-swap never fails spuriously. And it remembers only
//!   the last access to a word: if the storing thread has just loaded it, an earlier load by
//!   another thread is forgotten, and with it the other order of that load and the store. So where
//!   one thread reads what another writes, the writer runs first, and the reader's load finds the
//!   store.
//!
//! [loom]: https://docs.rs/loom

mod addresses;
mod carver;
mod definitions;
mod end;
mod gate;
mod intern;
mod locks;
mod notes;
mod owners;
mod publish;
mod ranges;
mod read;
mod ring;
mod spans;
mod table;
mod tasks;
mod whole;

use crate::protocol::ring::{Began, Keeper, Ring};
use loom::cell::UnsafeCell;
use loom::model::Builder;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How often an execution may preempt threads that need not wait, unless `LOOM_MAX_PREEMPTIONS`
/// says otherwise.
const PREEMPTIONS: usize = 3;

/// Runs `scenario` in every order, and prints the number of orders.
fn holds(scenario: impl Fn() + Send + Sync + 'static) {
    holds_within(PREEMPTIONS, scenario);
}

/// As [`holds`], with another bound: for scenarios of many steps.
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

/// Runs a scenario with a mistake, which some order must reveal by a panic that says `what`.
fn is_caught(what: &str, scenario: impl Fn() + Send + Sync + 'static) {
    let found = catch_unwind(AssertUnwindSafe(|| holds(scenario)));
    let panic = found.expect_err("the mistake was not found");
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    assert!(said.contains(what), "something else went wrong: {said}");
}

/// The keeper of a ring whose generations are over when they are complete, and in which nothing is
/// pinned. It passes each generation that is given up to a function.
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

/// Enters a generation that begins at the current head.
fn enter(ring: &Ring, generation: u64) {
    ring.enter(generation, Began::default(), &Quiet(ring, |_| ())).expect("there is room");
}

/// Gives up the oldest generation, and returns its number if this call did it, else 0.
fn reclaim_oldest(ring: &Ring) -> u64 {
    let number = std::cell::Cell::new(0);
    let _ = ring.reclaim_oldest(&Quiet(ring, |given_up| number.set(given_up)));
    number.get()
}

/// Loom's message for two unordered accesses, at least one of which writes.
const RACE: &str = "Causality violation";

/// A plain word of memory. Loom panics if two threads access it without any ordering, and one of
/// them writes.
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
        // SAFETY: loom checks that no thread writes meanwhile.
        self.0.with(|value| unsafe { *value })
    }

    fn set(&self, new: u64) {
        // SAFETY: loom checks that no other thread reads or writes meanwhile.
        self.0.with_mut(|value| unsafe { *value = new });
    }
}
