//! Wakers of recorded tasks: they record who wakes, and pass the wake on.
//!
//! A recorded future is polled with a waker of ours, which wakes through the one that its executor
//! gave. It costs no allocation: its data is the task's place. During a poll it is lent, uncounted,
//! and the executor's waker is borrowed. Only when somebody clones ours is the executor's cloned,
//! once, into the place, where it stays until it changes or the task and all its wakers are gone. So
//! `will_wake` is as true of two of ours as it is of two of the executor's.
//!
//! An executor may give another waker in a later poll (futures that are polled by several others in
//! turn do). While clones of ours are about, the one in the place cannot be exchanged, because they
//! may be using it. The task then gets a [`Relay`], a waker on the heap with the new one in it. Old
//! clones go on to wake what they always did, as they would without us.
//!
//! While a clone of ours is about, the executor's waker stays in the place, even if the clone that it
//! was made for is gone. So where a waker owns its task, one that nobody wakes any more is freed only
//! after its next poll.
//!
//! # Synchronization
//!
//! `state` counts the references to the place and says whether it holds a waker. A waker is written
//! between [`SETTING`] and [`HELD`], by who won the former; `HELD` is set with release and loaded with
//! acquire. It is taken out only by the owner with no other reference about, or with the last one.

use crate::task::{self, Place, Woke};
use std::cell::UnsafeCell;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering, fence};
use std::task::{RawWaker, RawWakerVTable, Waker};

/// Somebody is putting the executor's waker into the place.
const SETTING: u32 = 1 << 30;
/// It is there.
const HELD: u32 = 1 << 31;
/// There is a relay, too. Only the owner looks at it.
const RELAYED: u32 = 1 << 29;
const COUNT: u32 = RELAYED - 1;
/// So many references are more than memory could hold: somebody forgets wakers in a loop.
const TOO_MANY: u32 = 1 << 28;

/// What a place keeps for its wakers. Zeroes are nothing.
#[repr(C)]
pub(crate) struct Wakers {
    held: UnsafeCell<MaybeUninit<Waker>>,
    /// The executor's, during a poll, if there is none in the place. If there is, and `RELAYED` says
    /// so, the relay.
    other: AtomicPtr<()>,
    state: AtomicU32,
    /// How often the place was taken: whose wakers these are.
    pub(crate) incarnation: AtomicU32,
}

// SAFETY: what is held is a `Waker`, which can be shared; who writes it or takes it out is alone.
unsafe impl Sync for Wakers {}

impl Wakers {
    /// A task takes the place: one reference, no waker.
    pub(crate) fn begin(&self) {
        self.state.store(1, Ordering::Relaxed);
    }

    /// Gives up one reference. Whether it was the last one; the waker is gone then.
    pub(crate) fn give_up(&self) -> bool {
        if self.state.fetch_sub(1, Ordering::Release) & COUNT != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        self.let_go();
        true
    }

    /// Drops the waker in the place, which nobody else can be using.
    fn let_go(&self) {
        if self.state.load(Ordering::Relaxed) & HELD != 0 {
            self.state.fetch_and(!HELD, Ordering::Relaxed);
            // SAFETY: it was there, and is taken out by this thread alone.
            let waker = unsafe { (*self.held.get()).assume_init_read() };
            drop(waker);
        }
    }

    /// A poll is over. Where nobody has a clone of ours, nobody needs the executor's: it may own the
    /// task. For the owner.
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

    /// The task is over: lets the relay go, if there is one. For the owner, before its own reference.
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
        // SAFETY: by `RELAYED` it is the place's own reference to a relay, of which there is one.
        drop(unsafe { Arc::from_raw(relay) });
    }

    fn add_reference(&self) {
        if self.state.fetch_add(1, Ordering::Relaxed) & COUNT > TOO_MANY {
            std::process::abort();
        }
    }

    /// The waker in the place, if this state says that there is one.
    #[inline(always)]
    fn held(&self, state: u32) -> Option<&Waker> {
        // SAFETY: it was written before `HELD` was set, and stays while references are about.
        (state & HELD != 0).then(|| unsafe { (*self.held.get()).assume_init_ref() })
    }

    /// The waker to pass a wake on to.
    fn executor(&self) -> &Waker {
        if let Some(held) = self.held(self.state.load(Ordering::Acquire)) {
            return held;
        }
        // SAFETY: without one in the place there are no clones, so this is the one that is lent
        // during a poll, for which the executor's is borrowed.
        unsafe { &*self.other.load(Ordering::Relaxed).cast::<Waker>() }
    }

    /// Puts a clone of the executor's waker into the place, if there is none.
    fn hold(&self) {
        if self.state.load(Ordering::Acquire) & HELD != 0 {
            return;
        }
        // Cloned first: it is the executor's code, and may panic.
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
            // Another thread, which shares the lent waker with this one, is between two lines.
            std::thread::yield_now();
        }
        // SAFETY: who has set `SETTING` is alone here until `HELD` is set.
        unsafe { (*self.held.get()).write(waker) };
        self.state.fetch_add(HELD - SETTING, Ordering::Release);
    }
}

/// A waker for one poll of a task. It is lent: it must not be dropped.
pub(crate) struct Lent(ManuallyDrop<Waker>);

impl Lent {
    /// A waker that wakes through `executor`.
    #[inline]
    pub(crate) fn new(place: &'static Place, executor: &Waker) -> Self {
        let wakers = &place.wakers;
        let state = wakers.state.load(Ordering::Acquire);
        match wakers.held(state) {
            // Only this thread, the owner, could take it out.
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
        // SAFETY: the place outlives the poll, and the table's functions take a place.
        Self(ManuallyDrop::new(unsafe { Waker::from_raw(raw(place)) }))
    }

    #[cold]
    fn relayed(place: &'static Place, executor: &Waker) -> Self {
        let wakers = &place.wakers;
        let mut relay = wakers.other.load(Ordering::Relaxed).cast::<Relay>();
        let is_relayed = wakers.state.load(Ordering::Relaxed) & RELAYED != 0;
        // SAFETY: by `RELAYED` it is a relay, which the place holds a reference to.
        if !is_relayed || !unsafe { &*relay }.executor.will_wake(executor) {
            wakers.end();
            relay = Arc::into_raw(Relay::new(place, executor)).cast_mut();
            wakers.other.store(relay.cast(), Ordering::Relaxed);
            wakers.state.fetch_or(RELAYED, Ordering::Relaxed);
        }
        let raw = RawWaker::new(relay.cast(), &RELAY);
        // SAFETY: the place's reference outlives the poll.
        Self(ManuallyDrop::new(unsafe { Waker::from_raw(raw) }))
    }

    pub(crate) fn waker(&self) -> &Waker {
        &self.0
    }
}

/// Records that a task is woken, and passes the wake on.
#[inline(always)]
fn wake_through(place: &'static Place, executor: &Waker) {
    if !crate::is_recording() {
        return executor.wake_by_ref();
    }
    let woke = task::wake(place);
    executor.wake_by_ref();
    // Somebody's wake for the same poll is recorded. If that poll has begun meanwhile, this wake may
    // be what the next one comes from.
    if let Woke::Already(word) = woke
        && place.words.look() != word
    {
        task::wake(place);
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, give_up);

fn raw(place: &'static Place) -> RawWaker {
    RawWaker::new(std::ptr::from_ref(place).cast(), &TABLE)
}

/// The place in a waker's data.
///
/// # Safety
/// `data` must be that of a waker made by [`raw`].
unsafe fn place(data: *const ()) -> &'static Place {
    // SAFETY: it is a place, and those are never unmapped.
    unsafe { &*data.cast::<Place>() }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the table stands in wakers made by `raw` alone.
    let place = unsafe { place(data) };
    place.wakers.hold();
    place.wakers.add_reference();
    raw(place)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the table stands in wakers made by `raw` alone.
    unsafe {
        wake_by_ref(data);
        give_up(data);
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: the table stands in wakers made by `raw` alone.
    let place = unsafe { place(data) };
    wake_through(place, place.wakers.executor());
}

unsafe fn give_up(data: *const ()) {
    // SAFETY: the table stands in wakers made by `raw` alone.
    task::give_up(unsafe { place(data) });
}

/// A waker on the heap, for a task whose executor has changed its mind.
pub(crate) struct Relay {
    place: &'static Place,
    executor: Waker,
}

impl Relay {
    fn new(place: &'static Place, executor: &Waker) -> Arc<Self> {
        // Cloned first: it is the executor's code, and may panic.
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
    // SAFETY: the table stands in wakers whose data is an `Arc<Relay>`.
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
