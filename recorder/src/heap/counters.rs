//! How much was allocated and freed, counted by each thread on its own: a few plain additions in a cache line that no
//! other thread writes.
//!
//! # Synchronization
//!
//! A thread claims its counters with its first allocation. When all were claimed once, the next thread takes those of one
//! that is gone, according to the kernel, and goes on counting there: so the sum over all counters is exact, whoever
//! lives. (No destructor gives them back: code that is unloaded must leave none behind.) What a thread has written before
//! it ended is seen by who asks the kernel for it later.
//!
//! Whoever sums reads all that was freed (acquire) before all that was allocated. An object is freed (release) after it was
//! allocated, by whatever orders the program has for that: so no sum shows more freed than allocated.
//!
//! A thread that finds no counters uses those that are shared, by atomic additions.

use crate::heap::sampling::Sampling;
use crate::os;
use crate::os::signal_chain::Errno;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// So many threads that allocate at the same time have counters of their own, in 512 KiB that are touched as needed.
const THREADS: usize = 4096;
/// So many of those are asked for, if all were claimed once.
const ASKED: usize = 64;
/// When a thread has allocated or freed so much, it updates what is known of all: how much is alive at most is exact to
/// that much a thread.
const STEP: u64 = 64 << 10;

/// What one thread counts. All words are written by its owner alone, except in the shared ones.
#[repr(align(128))]
pub(crate) struct Counters {
    allocated: AtomicU64,
    allocations: AtomicU64,
    freed: AtomicU64,
    frees: AtomicU64,
    /// Once so much was allocated, or freed, there is more to do.
    allocated_limit: AtomicU64,
    freed_limit: AtomicU64,
    /// How much of what is allocated and freed here is in [`LIVE`].
    told: AtomicU64,
    sampling: Sampling,
    /// Of which thread of which process: their numbers, the process's in the high half.
    owner: AtomicU64,
}

/// What the counters say, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) allocated: u64,
    pub(crate) allocations: u64,
    pub(crate) freed: u64,
    pub(crate) frees: u64,
}

impl Totals {
    /// What was counted together.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            allocated: self.allocated.wrapping_add(other.allocated),
            allocations: self.allocations.wrapping_add(other.allocations),
            freed: self.freed.wrapping_add(other.freed),
            frees: self.frees.wrapping_add(other.frees),
        }
    }

    /// What was counted since these.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            allocated: self.allocated.wrapping_sub(before.allocated),
            allocations: self.allocations.wrapping_sub(before.allocations),
            freed: self.freed.wrapping_sub(before.freed),
            frees: self.frees.wrapping_sub(before.frees),
        }
    }
}

static ALL: [Counters; THREADS] = [const { Counters::new() }; THREADS];
/// Of threads without counters of their own. Its limits are 0 for ever, so each use of it comes to the slow path.
static SHARED: Counters = Counters::new();
/// Of a thread that has not allocated anything yet. Nothing is ever counted here.
static NONE_YET: Counters = Counters::new();
/// How many were claimed for the first time, and from where on one is looked for when those are all.
static USED: AtomicUsize = AtomicUsize::new(0);
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// How much is alive, as far as threads have told, and the most since that was last asked.
static LIVE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// A constant without a destructor: it can be used at any time.
    static OWN: Cell<&'static Counters> = const { Cell::new(&NONE_YET) };
}

impl Counters {
    const fn new() -> Self {
        Self {
            allocated: AtomicU64::new(0),
            allocations: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            frees: AtomicU64::new(0),
            allocated_limit: AtomicU64::new(0),
            freed_limit: AtomicU64::new(0),
            told: AtomicU64::new(0),
            sampling: Sampling::new(),
            owner: AtomicU64::new(0),
        }
    }

    /// Those of this thread.
    #[inline(always)]
    pub(crate) fn own() -> &'static Self {
        OWN.get()
    }

    /// Whether so much can be allocated without more to do.
    #[inline(always)]
    pub(crate) fn is_within(&self, size: u64) -> bool {
        self.allocated.load(Ordering::Relaxed).wrapping_add(size)
            < self.allocated_limit.load(Ordering::Relaxed)
    }

    /// An object was allocated, and [`is_within`](Self::is_within) is so.
    #[inline(always)]
    pub(crate) fn count_allocation(&self, size: u64) {
        add(&self.allocated, size, Ordering::Relaxed);
        add(&self.allocations, 1, Ordering::Relaxed);
    }

    /// An object was freed. Returns whether there is more to do: [`count_more_freed`](Self::count_more_freed).
    #[inline(always)]
    pub(crate) fn count_free(&self, size: u64) -> bool {
        let freed = self.freed.load(Ordering::Relaxed).wrapping_add(size);
        if freed >= self.freed_limit.load(Ordering::Relaxed) {
            return true;
        }
        self.freed.store(freed, Ordering::Release);
        add(&self.frees, 1, Ordering::Release);
        false
    }

    /// The counters that this thread is to use from now on.
    #[cold]
    pub(crate) fn claimed() -> &'static Self {
        let own = Self::own();
        if !std::ptr::eq(own, &raw const NONE_YET) {
            return own;
        }
        let claimed = claim();
        OWN.set(claimed);
        claimed
    }

    /// Whether an object of this size is to be a sample.
    pub(crate) fn is_due(&self, size: u64) -> bool {
        self.sampling.is_due(self.allocated().wrapping_add(size))
    }

    /// An object was allocated on the slow path.
    pub(crate) fn count_more_allocated(&self, size: u64) {
        if self.is_shared() {
            self.allocated.fetch_add(size, Ordering::Relaxed);
            self.allocations.fetch_add(1, Ordering::Relaxed);
        } else {
            self.count_allocation(size);
        }
        if self.allocated() >= self.sampling.place() {
            self.sampling.renew(self.allocated());
        }
        self.tell();
    }

    /// An object was freed, and [`count_free`](Self::count_free) has not counted it.
    #[cold]
    pub(crate) fn count_more_freed(size: u64) {
        let own = Self::claimed();
        if own.is_shared() {
            own.freed.fetch_add(size, Ordering::Release);
            own.frees.fetch_add(1, Ordering::Release);
        } else {
            add(&own.freed, size, Ordering::Release);
            add(&own.frees, 1, Ordering::Release);
        }
        own.tell();
    }

    /// Updates what is known of all threads, and says when to do that again.
    fn tell(&self) {
        let (allocated, freed) =
            (self.allocated.load(Ordering::Relaxed), self.freed.load(Ordering::Relaxed));
        // A thread may free more than it allocates: the difference counts modulo 2^64, and so does the sum.
        let balance = allocated.wrapping_sub(freed);
        let change = balance.wrapping_sub(self.told.swap(balance, Ordering::Relaxed));
        let live = LIVE.fetch_add(change, Ordering::Relaxed).wrapping_add(change);
        // While others have not told what they have allocated, it may be below 0.
        if live as i64 > 0 {
            PEAK.fetch_max(live, Ordering::Relaxed);
        }
        if !self.is_shared() {
            let next = (allocated + STEP).min(self.sampling.place());
            self.allocated_limit.store(next, Ordering::Relaxed);
            self.freed_limit.store(freed + STEP, Ordering::Relaxed);
        }
    }

    fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    fn is_shared(&self) -> bool {
        std::ptr::eq(self, &raw const SHARED)
    }
}

/// An addition by the only thread that writes the word. (In a handler of a signal that allocates, which none may, one
/// of two could be lost.)
#[inline(always)]
fn add(word: &AtomicU64, by: u64, order: Ordering) {
    word.store(word.load(Ordering::Relaxed).wrapping_add(by), order);
}

fn claim() -> &'static Counters {
    let _errno = Errno::keep();
    let order = Ordering::Relaxed;
    let process = u64::from(std::process::id()) << 32;
    let thread = os::thread::number();
    let own = |counters: &'static Counters| {
        counters.sampling.begin(counters.allocated());
        counters
    };
    let is_left = |used: usize| (used < THREADS).then_some(used + 1);
    if let Ok(at) = USED.fetch_update(order, order, is_left) {
        ALL[at].owner.store(process | thread, order);
        return own(&ALL[at]);
    }
    let first = NEXT.fetch_add(1, order);
    let gone = (0..ASKED).map(|next| &ALL[first.wrapping_add(next) % THREADS]).find(|counters| {
        let owner = counters.owner.load(order);
        let before = owner & u64::from(u32::MAX);
        // After a fork, those of the parent's threads stay theirs: this thread's are among them.
        owner != 0
            && owner - before == process
            && (before == thread || os::thread::is_gone(before))
            && counters
                .owner
                .compare_exchange(owner, process | thread, Ordering::Acquire, order)
                .is_ok()
    });
    gone.map_or(&SHARED, own)
}

fn in_use() -> impl Iterator<Item = &'static Counters> {
    let used = USED.load(Ordering::Relaxed);
    ALL[..used.min(THREADS)].iter().chain([&SHARED])
}

/// What all threads have counted until now, exactly.
pub(crate) fn totals() -> Totals {
    let mut totals = Totals::default();
    for of in in_use() {
        totals.frees += of.frees.load(Ordering::Acquire);
        totals.freed = totals.freed.wrapping_add(of.freed.load(Ordering::Acquire));
    }
    for of in in_use() {
        totals.allocated = totals.allocated.wrapping_add(of.allocated.load(Ordering::Relaxed));
        totals.allocations += of.allocations.load(Ordering::Relaxed);
    }
    totals
}

/// The most that was alive since this was last called, to [`STEP`] a thread; `live` is what is alive now.
pub(crate) fn take_peak(live: u64) -> u64 {
    PEAK.swap(live, Ordering::Relaxed).max(live)
}

/// Whether anything was ever allocated through [`Alloc`](super::alloc::Alloc).
pub(crate) fn are_used() -> bool {
    USED.load(Ordering::Relaxed) != 0
}
