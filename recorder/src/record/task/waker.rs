//! Wakers of recorded tasks: they record what woke the task, and pass the wake on.
//!
//! A recorded future is polled with a waker of ours, which wakes through the executor's. It costs no
//! allocation: its data is the task's entry. During a poll our waker is lent, uncounted, and the executor's
//! waker is borrowed. Only when ours is cloned is the executor's cloned, too: once, into the entry, where it
//! stays until it changes or the task and all its wakers are gone. So `will_wake` is as accurate for two of
//! ours as it is for two of the executor's.
//!
//! An executor may pass another waker in a later poll (as with futures that several others poll in turn).
//! While clones of ours exist, the executor's waker in the entry cannot be replaced, because they may be
//! using it. The task then gets a [`Relay`]: a waker on the heap that holds the new one. Old clones still
//! wake what they always did, as they would without us.
//!
//! While a clone of ours exists, the executor's waker stays in the entry, even if the clone that it was made
//! for is gone. So where a waker owns its task, a task that nothing wakes any more is freed only after its
//! next poll.
//!
//! # Synchronization
//!
//! `state` counts the references to the entry and says whether it holds a waker. A waker is written between
//! [`SETTING`] and [`HELD`], by the thread that set the former; `HELD` is set with release and loaded with
//! acquire. The waker is removed only by the owner while there is no other reference, or with the last
//! reference.

use crate::record::task::await_chains;
use crate::record::task::{self, TaskEntry, Woke};
use crate::stack::await_chain::FirstReturn;
use std::cell::UnsafeCell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// A thread is putting the executor's waker into the entry.
const SETTING: u32 = 1 << 30;
/// The entry holds the executor's waker.
const HELD: u32 = 1 << 31;
/// There is a relay, too. Only the owner reads this.
const RELAYED: u32 = 1 << 29;
const COUNT: u32 = RELAYED - 1;
/// More references than memory could hold: some code forgets wakers in a loop.
const TOO_MANY: u32 = 1 << 28;

/// What an entry keeps for its wakers. Zeroes mean nothing.
#[repr(C)]
pub(crate) struct Wakers {
    held: UnsafeCell<MaybeUninit<Waker>>,
    /// During a poll, the executor's waker, if the entry holds none. Otherwise, if `RELAYED` says so, the
    /// relay.
    other: AtomicPtr<()>,
    state: AtomicU32,
    /// How often the entry has been used: this identifies the task of these wakers.
    pub(crate) incarnation: AtomicU32,
}

// SAFETY: what is held is a `Waker`, which can be shared; only one thread at a time writes or removes it.
unsafe impl Sync for Wakers {}

impl Wakers {
    /// A task takes the entry: one reference, no waker.
    pub(crate) fn begin(&self) {
        self.state.store(1, Ordering::Relaxed);
    }

    /// Drops one reference. Returns whether it was the last one; then the waker is gone.
    pub(crate) fn give_up(&self) -> bool {
        if self.state.fetch_sub(1, Ordering::Release) & COUNT != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        self.let_go();
        true
    }

    /// Drops the waker in the entry, which no other thread can be using.
    fn let_go(&self) {
        if self.state.load(Ordering::Relaxed) & HELD != 0 {
            self.state.fetch_and(!HELD, Ordering::Relaxed);
            // SAFETY: it was there, and only this thread removes it.
            let waker = unsafe { (*self.held.get()).assume_init_read() };
            drop(waker);
        }
    }

    /// A poll has ended. Unless a clone of ours exists, the executor's waker is no longer needed, and it may
    /// own the task. Called by the owner.
    #[inline(always)]
    pub(crate) fn rest(&self) {
        if self.state.load(Ordering::Acquire) == 1 | HELD {
            self.let_go_of_held();
        }
    }

    #[cold]
    fn let_go_of_held(&self) {
        self.let_go();
    }

    /// The task has ended: drops the relay, if there is one. Called by the owner, before it drops its own
    /// reference.
    #[inline(always)]
    pub(crate) fn end(&self) {
        if self.state.load(Ordering::Relaxed) & RELAYED != 0 {
            self.let_relay_go();
        }
    }

    #[cold]
    fn let_relay_go(&self) {
        self.state.fetch_and(!RELAYED, Ordering::Relaxed);
        let relay = self.other.load(Ordering::Relaxed).cast::<Relay>();
        // SAFETY: by `RELAYED` it is the entry's own reference to a relay, of which there is one.
        drop(unsafe { Arc::from_raw(relay) });
    }

    /// How many clones of ours there are at most, as far as it matters, for an observer. Those of a relay are not known.
    pub(crate) fn clones(&self) -> u32 {
        let state = self.state.load(Ordering::Relaxed);
        if state & RELAYED != 0 { u32::MAX } else { (state & COUNT).saturating_sub(1) }
    }

    fn add_reference(&self) {
        if self.state.fetch_add(1, Ordering::Relaxed) & COUNT > TOO_MANY {
            std::process::abort();
        }
    }

    /// The waker in the entry, if this state says that there is one.
    #[inline(always)]
    fn held(&self, state: u32) -> Option<&Waker> {
        // SAFETY: it was written before `HELD` was set, and stays while there are references.
        (state & HELD != 0).then(|| unsafe { (*self.held.get()).assume_init_ref() })
    }

    /// The waker to pass a wake on to.
    fn executor(&self) -> &Waker {
        if let Some(held) = self.held(self.state.load(Ordering::Acquire)) {
            return held;
        }
        // SAFETY: without a waker in the entry there are no clones, so this one is lent during a poll, for
        // which the executor's is borrowed.
        unsafe { &*self.other.load(Ordering::Relaxed).cast::<Waker>() }
    }

    /// Puts a clone of the executor's waker into the entry, if it holds none.
    fn hold(&self) {
        if self.state.load(Ordering::Acquire) & HELD != 0 {
            return;
        }
        // Cloned first: this is the executor's code, and may panic.
        let waker = self.executor().clone();
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & HELD != 0 {
                return;
            }
            let (next, order) = (state | SETTING, Ordering::Acquire);
            if state & SETTING == 0
                && self.state.compare_exchange(state, next, order, order).is_ok()
            {
                break;
            }
            // Another thread, which shares the lent waker with this one, is in the middle of this.
            std::thread::yield_now();
        }
        // SAFETY: the thread that has set `SETTING` is alone here until `HELD` is set.
        unsafe { (*self.held.get()).write(waker) };
        self.state.fetch_add(HELD - SETTING, Ordering::Release);
    }
}

/// A waker for one poll of a task. It is lent: it must not be dropped.
pub(crate) struct Lent(ManuallyDrop<Waker>);

impl Lent {
    /// A waker that wakes through `executor`.
    #[inline]
    pub(crate) fn new(place: &'static TaskEntry, executor: &Waker) -> Self {
        let wakers = &place.wakers;
        let state = wakers.state.load(Ordering::Acquire);
        match wakers.held(state) {
            // Only this thread, the owner, could remove it.
            Some(held) if held.will_wake(executor) => {}
            Some(_) if state & COUNT > 1 => return Self::relayed(place, executor),
            held => {
                if held.is_some() {
                    wakers.let_go();
                }
                let borrowed = std::ptr::from_ref(executor).cast_mut();
                wakers.other.store(borrowed.cast(), Ordering::Relaxed);
            }
        }
        // SAFETY: the entry outlives the poll, and the functions of the waker's table take an entry.
        Self(ManuallyDrop::new(unsafe { Waker::from_raw(raw(place)) }))
    }

    #[cold]
    fn relayed(place: &'static TaskEntry, executor: &Waker) -> Self {
        let wakers = &place.wakers;
        let mut relay = wakers.other.load(Ordering::Relaxed).cast::<Relay>();
        let is_relayed = wakers.state.load(Ordering::Relaxed) & RELAYED != 0;
        // SAFETY: by `RELAYED` it is a relay, to which the entry holds a reference.
        if !is_relayed || !unsafe { &*relay }.executor.will_wake(executor) {
            wakers.end();
            relay = Arc::into_raw(Relay::new(place, executor)).cast_mut();
            wakers.other.store(relay.cast(), Ordering::Relaxed);
            wakers.state.fetch_or(RELAYED, Ordering::Relaxed);
        }
        let raw = RawWaker::new(relay.cast(), &RELAY);
        // SAFETY: the entry's reference outlives the poll.
        Self(ManuallyDrop::new(unsafe { Waker::from_raw(raw) }))
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.0
    }
}

/// Records that a task is woken, and passes the wake on.
#[inline(always)]
fn wake_through(place: &'static TaskEntry, executor: &Waker) {
    if !crate::is_recording() {
        return executor.wake_by_ref();
    }
    let woke = task::wake(place);
    executor.wake_by_ref();
    // A wake for the same poll is recorded already. If that poll has begun meanwhile, this wake may cause the
    // next one.
    if let Woke::Already(word) = woke
        && place.words.look() != word
    {
        task::wake(place);
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, give_up);

fn raw(place: &'static TaskEntry) -> RawWaker {
    RawWaker::new(std::ptr::from_ref(place).cast(), &TABLE)
}

/// The entry in a waker's data.
///
/// # Safety
/// `data` must be that of a waker made by [`raw`].
unsafe fn place(data: *const ()) -> &'static TaskEntry {
    // SAFETY: it is an entry, and those are never unmapped.
    unsafe { &*data.cast::<TaskEntry>() }
}

// Not inlined: so the return address of this function, by which its caller is known, is in one place of its frame.
#[inline(never)]
unsafe fn clone(data: *const ()) -> RawWaker {
    static FIRST: FirstReturn = FirstReturn::new();
    // SAFETY: only wakers made by `raw` have this table.
    let place = unsafe { place(data) };
    place.wakers.hold();
    place.wakers.add_reference();
    await_chains::registered(place, &FIRST);
    raw(place)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: only wakers made by `raw` have this table.
    unsafe {
        wake_by_ref(data);
        give_up(data);
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: only wakers made by `raw` have this table.
    let place = unsafe { place(data) };
    wake_through(place, place.wakers.executor());
}

unsafe fn give_up(data: *const ()) {
    // SAFETY: only wakers made by `raw` have this table.
    task::give_up(unsafe { place(data) });
}

/// A waker on the heap, for a task whose executor has passed another one.
pub(crate) struct Relay {
    place: &'static TaskEntry,
    executor: Waker,
}

impl Relay {
    fn new(place: &'static TaskEntry, executor: &Waker) -> Arc<Self> {
        // Cloned first: this is the executor's code, and may panic.
        let executor = executor.clone();
        place.wakers.add_reference();
        Arc::new(Self { place, executor })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        task::give_up(self.place);
    }
}

static RELAY: RawWakerVTable =
    RawWakerVTable::new(clone_relay, wake_relay, wake_relay_by_ref, drop_relay);

unsafe fn clone_relay(data: *const ()) -> RawWaker {
    // SAFETY: only wakers whose data is an `Arc<Relay>` have this table.
    unsafe { Arc::increment_strong_count(data.cast::<Relay>()) };
    RawWaker::new(data, &RELAY)
}

unsafe fn wake_relay(data: *const ()) {
    // SAFETY: as above.
    unsafe {
        wake_relay_by_ref(data);
        drop_relay(data);
    }
}

unsafe fn wake_relay_by_ref(data: *const ()) {
    // SAFETY: as above; the waker that this is called on holds a reference.
    let relay = unsafe { &*data.cast::<Relay>() };
    wake_through(relay.place, &relay.executor);
}

unsafe fn drop_relay(data: *const ()) {
    // SAFETY: as above.
    drop(unsafe { Arc::from_raw(data.cast::<Relay>()) });
}
