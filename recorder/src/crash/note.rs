//! Which of several faults the note describes, and how it is written.
//!
//! There is room for one note. Several threads may fault at once, and a previous handler may resolve a fault
//! or end the process at any later time. So a note *stands* while its thread's handler runs; afterwards the
//! process has survived or is gone.
//!
//! * A fault of the same thread while its note stands is a consequence, and is not noted. The exception is
//!   the signal that the handler itself blocks: its arrival shows that the handler was left by a jump.
//! * A fault of another thread *waits*, in the process's memory. When the standing note's fault turns out to
//!   be resolved, the waiting note takes its place.
//! * A fault that is sure to end the process (there was no previous handler) does not wait.
//!
//! One note can wait; further ones are dropped. The thread's [stack](super::stack) is taken when the note is written or
//! begins to wait, but not of any number of faults: a runtime that resolves 100,000 a second, on several threads, must not
//! walk as many stacks, one after the other.
//!
//! # Synchronization
//!
//! The word `STATE` is odd while a note is being written; the writer made it odd by compare-and-swap.
//! [`WAITING`] has a word of the same kind. A thread whose note waits stores that and then checks whether the
//! standing note was resolved; a thread whose note was resolved stores that and then checks whether a note
//! waits (sequentially consistent). So one of them sees the other. In the same way, a thread that is sure to
//! die announces that before it checks whether another thread is overwriting its note, and waits for that.

use super::AT_NOTE;
use super::stack::{self, Of, Room, Writing};
use crate::os;
use crate::os::clock;
use crate::os::signal_chain::sender;
use crate::stack::budget::Budget;
use crate::stack::unwind::Registers;
use lookback_snapshot::wire::{crash_offset as at, offset};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The facts that a note records.
#[derive(Clone, Copy)]
struct Facts {
    header: *mut u8,
    signal: libc::c_int,
    code: libc::c_int,
    address: u64,
    sender: u32,
    /// Where the thread was, if that is known on this system.
    place: Option<Registers>,
    os_thread: u64,
    thread: u64,
    panicked: bool,
    ticks: u64,
    monotonic: u64,
    wall: u64,
    name: [u8; 16],
}

/// Where a fault was noted.
pub(super) enum Noted {
    Nowhere,
    /// In the arena with this header, whose state this was afterwards.
    InArena(*mut u8, u64),
    /// It waits for room in the arena with this header.
    Waiting(*mut u8),
}

/// See the module.
struct Waiting {
    state: AtomicU32,
    facts: UnsafeCell<Option<Facts>>,
    stack: Room,
}

// SAFETY: only the thread that changed the state to `HELD` by compare-and-swap touches the facts and the stack.
unsafe impl Sync for Waiting {}

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITS: u32 = 2;

static WAITING: Waiting =
    Waiting { state: AtomicU32::new(FREE), facts: UnsafeCell::new(None), stack: Room::new() };
/// The note in the arena describes a fault that is sure to end the process.
static IS_FATAL: AtomicBool = AtomicBool::new(false);
/// So many faults a second have stacks.
static STACKS: Budget = Budget::new(500);
/// How long to wait for a writer, in tenths of a millisecond. That is far longer than writing takes; but the
/// writer may be this very thread, interrupted.
const TURNS: u32 = 5000;

/// Notes a fault, if there is room. `nests` says that the same signal may interrupt its handler.
///
/// # Safety
/// Call it in the handler, with the handler's arguments.
pub(super) unsafe fn take(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    nests: bool,
) -> Noted {
    let Some(note) = Note::place() else { return Noted::Nowhere };
    // SAFETY: the caller's promise.
    let facts = unsafe { Facts::gather(note.header, signal, info, context) };
    let writing = if STACKS.take() { Writing::begin() } else { None };
    wait_while(|| note.is_being_written());
    let is_left = !nests && note.is_of(&facts);
    if let Some(noted) = note.put_if(&facts, || is_left || note.is_over()) {
        if let (Noted::InArena(header, state), Some(place)) = (&noted, facts.place)
            && let Some(writing) = writing
        {
            // SAFETY: the header stays mapped while the note exists.
            unsafe { writing.write(*header, *state, Of::Interrupted(place)) };
        }
        return noted;
    }
    if note.os_thread() == facts.os_thread || !WAITING.put(&facts, writing.is_some()) {
        return Noted::Nowhere;
    }
    // The standing note's fault may have been resolved before its thread could see that this note waits.
    let put = |facts: &Facts| note.put_waiting_if(facts, writing.as_ref(), || note.is_over());
    let noted = if note.is_over() { WAITING.take(|of| of.is_same(&facts), put) } else { None };
    noted.map_or(Noted::Waiting(note.header), |noted| noted.unwrap_or(Noted::Nowhere))
}

impl Noted {
    /// A handler has resolved the fault: the process continues.
    pub(super) fn survived(&self) {
        let Some(note) = Note::place() else { return };
        let own = os::thread::number();
        let state = match *self {
            Self::InArena(header, state) if header == note.header => state,
            Self::Waiting(header) => {
                // Another thread may hold it to look at it.
                wait_while(|| WAITING.state.load(Ordering::SeqCst) == HELD);
                let is_ours = |of: &Facts| of.os_thread == own && of.header == header;
                if WAITING.take(is_ours, |_| ()).is_some() {
                    return;
                }
                // It has replaced the standing note, or is lost.
                wait_while(|| WAITING.state.load(Ordering::SeqCst) == HELD);
                if header != note.header || note.os_thread() != own {
                    return;
                }
                note.state()
            }
            _ => return,
        };
        if !note.mark_as_survived(state) {
            return;
        }
        let writing = Writing::begin();
        let put = |facts: &Facts| note.put_waiting_if(facts, writing.as_ref(), || note.is_over());
        WAITING.take(|of| of.header == note.header, put);
    }

    /// The process is sure to die of this fault.
    pub(super) fn is_fatal(&self) {
        let Some(note) = Note::place() else { return };
        let own = os::thread::number();
        let stands = match *self {
            Self::InArena(header, state) => header == note.header && note.state() == state,
            Self::Waiting(header) => {
                let is_ours = |of: &Facts| {
                    of.os_thread == own && of.header == header && header == note.header
                };
                let writing = Writing::begin();
                let put = |facts: &Facts| {
                    let is_so = || !IS_FATAL.load(Ordering::SeqCst);
                    note.put_waiting_if(facts, writing.as_ref(), is_so)
                };
                WAITING.take(is_ours, put).flatten().is_some()
            }
            Self::Nowhere => false,
        };
        if stands {
            IS_FATAL.store(true, Ordering::SeqCst);
        }
        // No thread may die in the middle of a note.
        wait_while(|| note.is_being_written() || stack::is_being_written());
    }
}

/// Waits while this holds, but not forever.
pub(super) fn wait_while(mut is_so: impl FnMut() -> bool) {
    for _ in 0..TURNS {
        if !is_so() {
            return;
        }
        let time = libc::timespec { tv_sec: 0, tv_nsec: 100_000 };
        // SAFETY: the time is valid, and the remaining time is not requested.
        unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
    }
}

impl Waiting {
    /// Makes these facts wait, if none do, with the stack or without.
    fn put(&self, facts: &Facts, with_stack: bool) -> bool {
        let is_held = self.hold(FREE);
        if is_held {
            // SAFETY: it is held.
            unsafe { *self.facts.get() = Some(*facts) };
            match facts.place.filter(|_| crate::stack::is_on()) {
                // SAFETY: as above.
                Some(place) if with_stack => unsafe { self.stack.fill(place) },
                // SAFETY: as above.
                _ => unsafe { self.stack.leave_empty() },
            }
            self.state.store(WAITS, Ordering::SeqCst);
        }
        is_held
    }

    /// Takes the waiting facts if `is_so` holds for them, and calls `then` before any other thread can see
    /// that.
    fn take<R>(
        &self,
        is_so: impl FnOnce(&Facts) -> bool,
        then: impl FnOnce(&Facts) -> R,
    ) -> Option<R> {
        if !self.hold(WAITS) {
            return None;
        }
        // SAFETY: it is held.
        let facts = unsafe { *self.facts.get() };
        let result = facts.filter(is_so).map(|facts| then(&facts));
        self.state.store(if result.is_some() { FREE } else { WAITS }, Ordering::SeqCst);
        result
    }

    fn hold(&self, from: u32) -> bool {
        self.state.compare_exchange(from, HELD, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// The note in the arena of the current recording, which stays mapped while this value exists.
struct Note {
    header: *mut u8,
}

impl Note {
    /// The room for a note, if this process records.
    fn place() -> Option<Self> {
        AT_NOTE.fetch_add(1, Ordering::SeqCst);
        let note = Self { header: super::HEADER.load(Ordering::SeqCst) };
        // A forked child has the mapping, too, and must not write to it.
        (!note.header.is_null() && !super::witness().is_none_or(|witness| (witness.is_foreign)()))
            .then_some(note)
    }

    fn state(&self) -> u64 {
        u64::from_le(self.word(at::STATE).load(Ordering::SeqCst))
    }

    fn is_being_written(&self) -> bool {
        self.state() % 2 == 1
    }

    /// Whether there is no note, or its fault was resolved.
    fn is_over(&self) -> bool {
        let survived = self.word(at::SURVIVED).load(Ordering::SeqCst);
        self.state() < 2 || survived != 0
    }

    fn os_thread(&self) -> u64 {
        u64::from_le(self.word(at::OS_THREAD).load(Ordering::SeqCst))
    }

    /// Whether it describes the same signal on the same thread.
    fn is_of(&self, facts: &Facts) -> bool {
        let signal = u32::from_le(self.half(at::SIGNAL).load(Ordering::SeqCst));
        self.os_thread() == facts.os_thread && signal == facts.signal.cast_unsigned()
    }

    /// Makes the state odd, for a writer. If two threads try at once, one succeeds.
    fn hold(&self, state: u64) -> bool {
        let (old, new) = (state.to_le(), (state | 1).to_le());
        let word = self.word(at::STATE);
        state.is_multiple_of(2)
            && word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn let_go(&self, state: u64) {
        self.word(at::STATE).store(state.to_le(), Ordering::SeqCst);
    }

    /// Writes the note, if `is_so` holds while no other thread writes one.
    fn put_if(&self, facts: &Facts, is_so: impl FnOnce() -> bool) -> Option<Noted> {
        let before = self.state();
        if !self.hold(before) {
            return None;
        }
        if !is_so() {
            self.let_go(before);
            return None;
        }
        self.write(facts);
        self.let_go(before + 2);
        Some(Noted::InArena(self.header, before + 2))
    }

    /// Like [`put_if`](Self::put_if), for what waits and is held by this thread: writes its stack, too.
    fn put_waiting_if(
        &self,
        facts: &Facts,
        writing: Option<&Writing>,
        is_so: impl FnOnce() -> bool,
    ) -> Option<Noted> {
        let noted = self.put_if(facts, is_so)?;
        if let (Noted::InArena(header, state), Some(writing)) = (&noted, writing) {
            // SAFETY: the header stays mapped while the note exists, and what waits is held.
            unsafe { writing.write(*header, *state, Of::Room(&WAITING.stack)) };
        }
        Some(noted)
    }

    /// Marks the note with this state as survived. Returns false if another note is there by now.
    fn mark_as_survived(&self, state: u64) -> bool {
        let mut is_held = false;
        wait_while(|| {
            is_held = self.hold(state);
            !is_held && self.state() | 1 == state | 1
        });
        if is_held {
            self.word(at::SURVIVED).store(1_u64.to_le(), Ordering::SeqCst);
            self.let_go(state);
        }
        is_held
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: aligned, and within the note in the header, which is mapped.
        unsafe { &*self.header.add(offset::CRASH_NOTE + at).cast::<AtomicU64>() }
    }

    fn half(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &*self.header.add(offset::CRASH_NOTE + at).cast::<AtomicU32>() }
    }

    fn write(&self, facts: &Facts) {
        let put = |at: usize, value: u64| self.word(at).store(value.to_le(), Ordering::Relaxed);
        let put_half =
            |at: usize, value: u32| self.half(at).store(value.to_le(), Ordering::Relaxed);
        put(at::SURVIVED, 0);
        put_half(at::SIGNAL, facts.signal.cast_unsigned());
        put_half(at::CODE, facts.code.cast_unsigned());
        put(at::ADDRESS, facts.address);
        put_half(at::SENDER, facts.sender);
        put_half(at::PANICKED, facts.panicked.into());
        put(at::INSTRUCTION, facts.place.map_or(0, |place| place.pc));
        put(at::OS_THREAD, facts.os_thread);
        put(at::THREAD, facts.thread);
        put(at::TICKS, facts.ticks);
        put(at::MONOTONIC, facts.monotonic);
        put(at::WALL, facts.wall);
        for (index, chunk) in facts.name.chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(std::array::from_fn(|i| chunk[i]));
            self.word(at::NAME + index * 8).store(word, Ordering::Relaxed);
        }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        AT_NOTE.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Facts {
    /// # Safety
    /// Call it in the handler, with the handler's arguments.
    unsafe fn gather(
        header: *mut u8,
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) -> Self {
        // SAFETY: the kernel's.
        let (code, address) = unsafe { ((*info).si_code, address_of(info)) };
        let witness = super::witness();
        Self {
            header,
            signal,
            code,
            address: if code > 0 { address } else { 0 },
            // SAFETY: the kernel's.
            sender: unsafe { sender(info) },
            // SAFETY: the kernel's.
            place: unsafe { place(context) },
            os_thread: os::thread::number(),
            thread: witness.map_or(0, |witness| (witness.thread)()),
            panicked: signal == libc::SIGABRT
                && witness.is_some_and(|witness| (witness.aborts_unseen)()),
            ticks: witness.map_or(0, |witness| clock::now((witness.mode)())),
            monotonic: clock::monotonic().0,
            wall: clock::wall().0,
            name: os::thread::whole_characters(os::thread::name()),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.os_thread, self.header) == (other.os_thread, other.header)
    }
}

#[cfg(target_os = "linux")]
unsafe fn address_of(info: *mut libc::siginfo_t) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (*info).si_addr() as u64 }
}

#[cfg(not(target_os = "linux"))]
unsafe fn address_of(info: *mut libc::siginfo_t) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (*info).si_addr as u64 }
}

/// Where the thread was.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn place(context: *mut libc::c_void) -> Option<Registers> {
    // SAFETY: the kernel's.
    Some(unsafe { crate::stack::capture::registers_in(context) })
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
unsafe fn place(_: *mut libc::c_void) -> Option<Registers> {
    None
}
