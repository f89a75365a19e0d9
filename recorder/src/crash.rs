//! The note of a crash: what is written into the arena's header when a fatal signal comes.
//!
//! The handler does what a handler may: it stores to memory and asks the kernel. It runs on the thread's
//! alternate stack where it has one, as threads of the standard library do; so a stack that overflowed
//! is noted, too. The note has a place of its own in the header, because the signal may have
//! interrupted an event. Then the handler that was there before is called, or the signal is let
//! through as if there had been none; so the process dies as it would have.
//!
//! The first note that nobody has dealt with stays: a handler that aborts on a fault does not hide
//! the fault.
//!
//! # Synchronization
//!
//! The recorder may stop, and the arena be unmapped, while a handler runs. So a handler counts itself in
//! before it looks for the header; who takes the header away looks at the count afterwards (all of that
//! sequentially consistent), and waits. A handler is counted only while it is at the note, which takes
//! microseconds; not while the handler from before runs, which may take for ever.

use crate::arena::Arena;
use crate::clock;
use crate::control::control;
use crate::sigaction::{self, Errno, FATAL, current, sender};
use crate::thread;
use crate::trigger::exit;
use lookback_snapshot::wire::{crash_offset as at, offset};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The header that is noted in, null when there is none.
static HEADER: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// How many handlers are at a note: see the module.
static AT_NOTE: AtomicU32 = AtomicU32::new(0);
/// How long handlers are waited for that are.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was installed before for a signal. Written once, before the handler that reads it can run.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: see above.
unsafe impl Sync for Before {}

/// By place in [`FATAL`].
static BEFORE: [Before; FATAL.len()] =
    [const { Before(UnsafeCell::new(MaybeUninit::uninit())) }; FATAL.len()];

/// From now on a fatal signal is noted in this arena.
pub(crate) fn watch(arena: &Arena) {
    HEADER.store(arena.base(), Ordering::SeqCst);
    FATAL.into_iter().for_each(install);
}

/// From now on a process that aborts waits for the snapshots that were asked for.
pub(crate) fn watch_aborts() {
    install(libc::SIGABRT);
}

/// Installs the handler for a fatal signal. Once a process: who has taken the signal over since then may
/// call ours, and must not be called by it.
fn install(signal: libc::c_int) {
    static INSTALLED: [Once; FATAL.len()] = [const { Once::new() }; FATAL.len()];
    let Some(index) = FATAL.iter().position(|known| *known == signal) else { return };
    INSTALLED[index].call_once(|| {
        // SAFETY: `BEFORE` is written here alone, under the `Once`, and the element before the
        // handler that reads it is installed. Both structures are valid.
        unsafe {
            let before = BEFORE[index].0.get();
            if libc::sigaction(signal, std::ptr::null(), before.cast()) != 0 {
                return;
            }
            // What interrupts the handler from before, and what it interrupts, stays as it was.
            let mut ours: libc::sigaction = *before.cast();
            ours.sa_sigaction = on_signal as *const () as usize;
            ours.sa_flags &= libc::SA_NODEFER | libc::SA_RESTART;
            ours.sa_flags |= libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(signal, &ours, std::ptr::null_mut());
        }
    });
}

/// Nothing is noted in this arena any more. It may be unmapped afterwards.
pub(crate) fn forget(arena: &Arena) {
    let (ours, none) = (arena.base(), std::ptr::null_mut());
    if HEADER.compare_exchange(ours, none, Ordering::SeqCst, Ordering::Relaxed).is_err() {
        return;
    }
    let began = Instant::now();
    while AT_NOTE.load(Ordering::SeqCst) != 0 {
        if began.elapsed() > PATIENCE {
            return arena.leak();
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}

extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let _errno = Errno::keep();
    // SAFETY: the kernel has given us both.
    let header = unsafe { note(signal, info, context) };
    if signal == libc::SIGABRT {
        exit::wait_in_abort();
    }
    // SAFETY: as above.
    let went_on = unsafe { pass_on(signal, info, context) };
    if went_on && let Some(note) = Note::place().filter(|note| Some(note.header) == header) {
        note.word(at::SURVIVED).store(1_u64.to_le(), Ordering::Release);
    }
}

/// Writes the note, if it is to be written. In which arena it was.
///
/// # Safety
/// To be called in the handler with what it was given.
unsafe fn note(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) -> Option<*mut u8> {
    let note = Note::place().filter(Note::claim)?;
    // SAFETY: the caller's promise.
    unsafe { note.write(signal, info, context) };
    Some(note.header)
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == on_signal as *const () as usize
}

/// Calls what was installed before, or lets the signal through. Whether that dealt with it, so that the
/// process goes on.
///
/// # Safety
/// To be called in the handler with what it was given.
unsafe fn pass_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) -> bool {
    let Some(index) = FATAL.iter().position(|known| *known == signal) else { return false };
    // SAFETY: written before the handler was installed.
    let before = unsafe { (*BEFORE[index].0.get()).assume_init_ref() };
    // SAFETY: the kernel's.
    let code = unsafe { (*info).si_code };
    let by_fault = code > 0 && signal != libc::SIGABRT;
    // SAFETY: the kernel's.
    let sender = unsafe { sender(info) };
    // Who calls `abort` dies of it, whatever a handler does.
    let by_itself = signal == libc::SIGABRT && (sender == 0 || sender == std::process::id());
    match before.sa_sigaction {
        libc::SIG_IGN if !by_fault => return !by_itself,
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: a valid structure. What faulted faults again, with nobody in between; what was
            // sent is sent again, and waits until this handler is left.
            unsafe {
                libc::sigaction(signal, before, std::ptr::null_mut());
                if !by_fault {
                    libc::pthread_kill(libc::pthread_self(), signal);
                }
            }
            return false;
        }
        _ => {}
    }
    if before.sa_flags & libc::SA_RESETHAND != 0 && is_ours(&current(signal)) {
        // It is there for once: so the kernel takes it away before it calls it.
        // SAFETY: zeroes are the action that is there by default.
        unsafe { libc::sigaction(signal, &std::mem::zeroed(), std::ptr::null_mut()) };
    }
    let abort = Aborting::as_before(by_fault);
    // SAFETY: it has a handler, and the rest is what ours was given.
    unsafe { sigaction::call(before, signal, info, context) };
    drop(abort);
    if !by_fault && signal != libc::SIGABRT {
        // Nothing fails again because it was sent once.
        return true;
    }
    if signal == libc::SIGABRT {
        return !by_itself;
    }
    // A handler that takes itself away does so for the signal to be fatal when it comes again.
    current(signal).sa_sigaction != libc::SIG_DFL
}

/// While a handler deals with a fault, an abort is not ours: the fault is noted already, and the frame
/// of a second signal does not fit an alternate stack of the usual size. What somebody else has
/// installed for it since then is left alone.
struct Aborting(Option<libc::sigaction>);

impl Aborting {
    fn as_before(by_fault: bool) -> Self {
        let index = FATAL.iter().position(|known| *known == libc::SIGABRT);
        let is_ours = || is_ours(&current(libc::SIGABRT));
        let Some(index) = index.filter(|_| by_fault && is_ours()) else { return Self(None) };
        let mut ours = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: written before the handler was installed; the other is a valid place.
        unsafe {
            let before = BEFORE[index].0.get().cast();
            let swapped = libc::sigaction(libc::SIGABRT, before, ours.as_mut_ptr());
            Self((swapped == 0).then(|| ours.assume_init()))
        }
    }
}

impl Drop for Aborting {
    fn drop(&mut self) {
        if let Some(ours) = &self.0 {
            // SAFETY: a valid structure.
            unsafe { libc::sigaction(libc::SIGABRT, ours, std::ptr::null_mut()) };
        }
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
        let note = Self { header: HEADER.load(Ordering::SeqCst) };
        // A forked child has the mapping, too, and must not write to it.
        (!note.header.is_null() && !control().is_foreign()).then_some(note)
    }

    /// Claims the place, unless a note stands there that matters more.
    fn claim(&self) -> bool {
        let state = self.word(at::STATE);
        let before = u64::from_le(state.load(Ordering::Acquire));
        if before != 0 && self.word(at::SURVIVED).load(Ordering::Acquire) == 0 {
            return false;
        }
        // Odd while it is written. Of two threads that crash at once, one gets it.
        let (old, new) = (before.to_le(), (before | 1).to_le());
        before.is_multiple_of(2)
            && state.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: within the note in the header, which is mapped; and aligned.
        unsafe { &*self.header.add(offset::CRASH_NOTE + at).cast::<AtomicU64>() }
    }

    fn half(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &*self.header.add(offset::CRASH_NOTE + at).cast::<AtomicU32>() }
    }

    /// # Safety
    /// To be called in the handler with what it was given.
    unsafe fn write(
        &self,
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        let put = |at: usize, value: u64| self.word(at).store(value.to_le(), Ordering::Relaxed);
        let put_half =
            |at: usize, value: u32| self.half(at).store(value.to_le(), Ordering::Relaxed);
        put(at::SURVIVED, 0);
        put_half(at::SIGNAL, signal.cast_unsigned());
        // SAFETY: the kernel's.
        let (code, address) = unsafe { ((*info).si_code, address_of(info)) };
        put_half(at::CODE, code.cast_unsigned());
        put(at::ADDRESS, if code > 0 { address } else { 0 });
        // SAFETY: the kernel's.
        put_half(at::SENDER, unsafe { sender(info) });
        // SAFETY: the kernel's.
        put(at::INSTRUCTION, unsafe { instruction(context) });
        put(at::OS_THREAD, thread::os_thread());
        let slot = thread::present_slot();
        put(at::THREAD, slot.map_or(0, |slot| slot.thread.load(Ordering::Relaxed)));
        put(at::TICKS, clock::now(control().mode()));
        put(at::MONOTONIC, clock::monotonic().0);
        put(at::WALL, clock::wall().0);
        let name = thread::name().short();
        for (index, chunk) in name.chunks_exact(8).enumerate() {
            let word = u64::from_ne_bytes(std::array::from_fn(|i| chunk[i]));
            self.word(at::NAME + index * 8).store(word, Ordering::Relaxed);
        }
        let state = u64::from_le(self.word(at::STATE).load(Ordering::Relaxed));
        self.word(at::STATE).store((state + 1).to_le(), Ordering::Release);
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        AT_NOTE.fetch_sub(1, Ordering::SeqCst);
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
