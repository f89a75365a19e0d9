//! The note itself: which of several faults it is of, and how it is written.
//!
//! There is room for one note. Threads may fault at once, and a handler that was there before may deal
//! with a fault, or end the process, after any time. So a note *stands* while its thread's handler runs;
//! after that the process went on, or is gone.
//!
//! * A fault of the same thread while its note stands is a consequence, and not noted. Unless it is the
//!   very signal which that handler is not interrupted by: then the handler was left by a jump.
//! * A fault of another thread *waits*, in memory of the process. When the note that stands turns out to be
//!   of a fault that was dealt with, what waits takes its place.
//! * What is sure to end the process (no handler was there before) waits no longer.
//!
//! One can wait; what comes beyond that is not noted.
//!
//! # Synchronization
//!
//! The word `STATE` is odd while a note is written, by who made it so by compare-and-swap; [`WAITING`] has
//! a word of that kind, too. Who waits stores that and then looks whether the note was dealt with; who has
//! dealt with it stores that and then looks whether anybody waits (sequentially consistent): so one of
//! them sees the other. In the same way who is sure to die says so before it looks whether somebody is
//! writing over its note, and waits for that.

use super::AT_NOTE;
use crate::clock;
use crate::control::control;
use crate::sigaction::sender;
use crate::thread;
use lookback_snapshot::wire::{crash_offset as at, offset};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// What a note is of.
#[derive(Clone, Copy)]
struct Facts {
    header: *mut u8,
    signal: libc::c_int,
    code: libc::c_int,
    address: u64,
    sender: u32,
    instruction: u64,
    os_thread: u64,
    thread: u64,
    ticks: u64,
    monotonic: u64,
    wall: u64,
    name: [u8; 16],
}

/// Where a fault was noted.
pub(super) enum Noted {
    Nowhere,
    /// In the arena with this header, which had this state afterwards.
    InArena(*mut u8, u64),
    /// It waits, for the arena with this header.
    Waiting(*mut u8),
}

/// See the module.
struct Waiting {
    state: AtomicU32,
    facts: UnsafeCell<Option<Facts>>,
}

// SAFETY: only who made the state `HELD`, from another one by compare-and-swap, touches the facts.
unsafe impl Sync for Waiting {}

const FREE: u32 = 0;
const HELD: u32 = 1;
const WAITS: u32 = 2;

static WAITING: Waiting =
    Waiting { state: AtomicU32::new(FREE), facts: UnsafeCell::new(None) };
/// The note in the arena is of what the process is sure to die of.
static IS_FATAL: AtomicBool = AtomicBool::new(false);
/// For so many tenths of a millisecond somebody is waited for who writes: far longer than it takes; but it
/// may be this very thread that was interrupted in it.
const TURNS: u32 = 5000;

/// Notes a fault, as far as there is room for it. `nests`: its handler may be interrupted by the same
/// signal.
///
/// # Safety
/// To be called in the handler with what it was given.
pub(super) unsafe fn take(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    nests: bool,
) -> Noted {
    let Some(note) = Note::place() else { return Noted::Nowhere };
    // SAFETY: the caller's promise.
    let facts = unsafe { Facts::gather(note.header, signal, info, context) };
    wait_while(|| note.is_being_written());
    let is_left = !nests && note.is_of(&facts);
    if let Some(noted) = note.put_if(&facts, || is_left || note.is_over()) {
        return noted;
    }
    if note.os_thread() == facts.os_thread || !WAITING.put(&facts) {
        return Noted::Nowhere;
    }
    // It may have been dealt with before it could be seen that somebody waits.
    let put = |facts: &Facts| note.put_if(facts, || note.is_over());
    let noted = if note.is_over() { WAITING.take(|of| of.is_same(&facts), put) } else { None };
    noted.map_or(Noted::Waiting(note.header), |noted| noted.unwrap_or(Noted::Nowhere))
}

impl Noted {
    /// A handler has dealt with it: the process goes on.
    pub(super) fn survived(&self) {
        let Some(note) = Note::place() else { return };
        let own = thread::os_thread();
        let state = match *self {
            Self::InArena(header, state) if header == note.header => state,
            Self::Waiting(header) => {
                // Somebody may be holding it to look at it.
                wait_while(|| WAITING.state.load(Ordering::SeqCst) == HELD);
                let is_ours = |of: &Facts| of.os_thread == own && of.header == header;
                if WAITING.take(is_ours, |_| ()).is_some() {
                    return;
                }
                // It has taken the place of the note that stood, or is lost.
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
        let put = |facts: &Facts| note.put_if(facts, || note.is_over());
        WAITING.take(|of| of.header == note.header, put);
    }

    /// The process is sure to die of it.
    pub(super) fn is_fatal(&self) {
        let Some(note) = Note::place() else { return };
        let own = thread::os_thread();
        let stands = match *self {
            Self::InArena(header, state) => header == note.header && note.state() == state,
            Self::Waiting(header) => {
                let is_ours = |of: &Facts| {
                    of.os_thread == own && of.header == header && header == note.header
                };
                let put =
                    |facts: &Facts| note.put_if(facts, || !IS_FATAL.load(Ordering::SeqCst));
                WAITING.take(is_ours, put).flatten().is_some()
            }
            Self::Nowhere => false,
        };
        if stands {
            IS_FATAL.store(true, Ordering::SeqCst);
        }
        // Nobody is to die in the middle of a note.
        wait_while(|| note.is_being_written());
    }
}

/// Waits as long as it is so, but not for ever.
fn wait_while(mut is_so: impl FnMut() -> bool) {
    for _ in 0..TURNS {
        if !is_so() {
            return;
        }
        let time = libc::timespec { tv_sec: 0, tv_nsec: 100_000 };
        // SAFETY: the time is valid, and what is left of it is not asked for.
        unsafe { libc::nanosleep(&time, std::ptr::null_mut()) };
    }
}

impl Waiting {
    /// Lets these wait, if none do.
    fn put(&self, facts: &Facts) -> bool {
        let is_held = self.hold(FREE);
        if is_held {
            // SAFETY: it is held.
            unsafe { *self.facts.get() = Some(*facts) };
            self.state.store(WAITS, Ordering::SeqCst);
        }
        is_held
    }

    /// Ends the waiting of what waits, if that is so of it; and `then` is called before anybody can see it.
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

/// The note in the arena that is recorded into, which stays mapped as long as this is there.
struct Note {
    header: *mut u8,
}

impl Note {
    /// The place for a note, if this process records.
    fn place() -> Option<Self> {
        AT_NOTE.fetch_add(1, Ordering::SeqCst);
        let note = Self { header: super::HEADER.load(Ordering::SeqCst) };
        // A forked child has the mapping, too, and must not write to it.
        (!note.header.is_null() && !control().is_foreign()).then_some(note)
    }

    fn state(&self) -> u64 {
        u64::from_le(self.word(at::STATE).load(Ordering::SeqCst))
    }

    fn is_being_written(&self) -> bool {
        self.state() % 2 == 1
    }

    /// There is none, or it is of what was dealt with.
    fn is_over(&self) -> bool {
        let survived = self.word(at::SURVIVED).load(Ordering::SeqCst);
        self.state() < 2 || survived != 0
    }

    fn os_thread(&self) -> u64 {
        u64::from_le(self.word(at::OS_THREAD).load(Ordering::SeqCst))
    }

    /// Whether it is of the same signal on the same thread.
    fn is_of(&self, facts: &Facts) -> bool {
        let signal = u32::from_le(self.half(at::SIGNAL).load(Ordering::SeqCst));
        self.os_thread() == facts.os_thread && signal == facts.signal.cast_unsigned()
    }

    /// Makes the state odd, for who writes: of two threads that do so at once, one gets it.
    fn hold(&self, state: u64) -> bool {
        let (old, new) = (state.to_le(), (state | 1).to_le());
        let word = self.word(at::STATE);
        state.is_multiple_of(2)
            && word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn let_go(&self, state: u64) {
        self.word(at::STATE).store(state.to_le(), Ordering::SeqCst);
    }

    /// Writes the note, if that is so while nobody else writes one.
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

    /// What was noted with this state was dealt with. Says no if somebody else's stands there by now.
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
        // SAFETY: within the note in the header, which is mapped; and aligned.
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
        put(at::INSTRUCTION, facts.instruction);
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
    /// To be called in the handler with what it was given.
    unsafe fn gather(
        header: *mut u8,
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) -> Self {
        // SAFETY: the kernel's.
        let (code, address) = unsafe { ((*info).si_code, address_of(info)) };
        let slot = thread::present_slot();
        Self {
            header,
            signal,
            code,
            address: if code > 0 { address } else { 0 },
            // SAFETY: the kernel's.
            sender: unsafe { sender(info) },
            // SAFETY: the kernel's.
            instruction: unsafe { instruction(context) },
            os_thread: thread::os_thread(),
            thread: slot.map_or(0, |slot| slot.thread.load(Ordering::Relaxed)),
            ticks: clock::now(control().mode()),
            monotonic: clock::monotonic().0,
            wall: clock::wall().0,
            name: thread::name().short(),
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
unsafe fn instruction(context: *mut libc::c_void) -> u64 {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    // SAFETY: the kernel's.
    return unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        context.uc_mcontext.gregs[libc::REG_RIP as usize].cast_unsigned()
    };
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    // SAFETY: the kernel's.
    return unsafe { (*context.cast::<libc::ucontext_t>()).uc_mcontext.pc };
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let _ = context;
        0
    }
}
