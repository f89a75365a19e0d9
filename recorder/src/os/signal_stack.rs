//! Stacks for handlers of signals that need more room than they are given.
//!
//! A handler runs on the thread's alternate stack if it has one, and every thread of the standard library has: 8 KiB, of
//! which the processor's state alone takes up to half (`AT_MINSIGSTKSZ`). What walks a stack and records it needs about as
//! much as is left, and several times that where the program is not optimised. So a handler that finds itself on such a
//! stack goes on, for what it has to do, on one of a few that lie here.
//!
//! Meanwhile the kernel would take the alternate stack for unused, and a second signal would overwrite what lies there. So
//! all signals are blocked, but those that mean that the thread cannot go on; and as these may come nevertheless (sent by
//! another process, or for a call that a filter traps), the thread has no alternate stack for as long: they nest here.

use crate::os::signal_chain::FATAL;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// With so much left, an alternate stack is as good.
const ENOUGH: usize = SIZE * 3 / 4;
/// Unoptimised, recording a sample takes 6 KiB.
const SIZE: usize = 16 << 10;
/// So many there are, in memory that is touched as it is used: timers of all processors go off in the same tick, and a
/// handler takes some microseconds. The first four are for fatal signals alone.
const STACKS: usize = 32;
const OF_FATAL: u32 = 0b1111;
/// A thread that finds none of the others free looks so often again, which takes some microseconds, too.
const SPINS: u32 = 500;
/// A thread that waits for one of those looks again after this time, so often.
const SOON: Duration = Duration::from_micros(200);
const LOOKS: u32 = 5000;

#[repr(align(64))]
struct Memory(UnsafeCell<[[u8; SIZE]; STACKS]>);

// SAFETY: each stack has one user at a time: who has set its bit in `TAKEN`.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([[0; SIZE]; STACKS]));
/// The stacks that are taken, a bit each.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// What a handler is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    /// A signal that may end the process. Other signals are blocked meanwhile.
    Fatal,
    /// Anything else. Its handler was installed to block all other signals.
    Other,
}

/// Does something in a handler, where it has room. `None` if all stacks are taken: of those for fatal signals, for a second.
///
/// # Safety
/// `context` is what the handler was given. The work does not fault, unwind, or leave by a jump.
pub(crate) unsafe fn with_room<T>(
    context: *mut libc::c_void,
    handling: Handling,
    work: impl FnOnce() -> T,
) -> Option<T> {
    // SAFETY: the caller's promise.
    if unsafe { is_roomy(context) } {
        return Some(in_place(work));
    }
    let mut looks = 0;
    let stack = loop {
        match Claimed::new(handling) {
            Some(stack) => break stack,
            None if handling == Handling::Other && looks < SPINS => std::hint::spin_loop(),
            None if handling == Handling::Other || looks == LOOKS => return None,
            None => wait(),
        }
        looks += 1;
    };
    if handling == Handling::Other {
        // SAFETY: the stack is this thread's until it is given back; the work does as the caller promised.
        return Some(unsafe { stack.run(work) });
    }
    let _blocked = Blocked::now();
    // SAFETY: as above.
    Some(unsafe { stack.run(work) })
}

/// What this takes of the stack is taken when it is called, not before.
#[inline(never)]
fn in_place<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Waits for a moment: `nanosleep` may be called in a handler.
#[inline(never)]
fn wait() {
    std::thread::sleep(SOON);
}

/// Whether the handler is not on an alternate stack, or on a large one.
///
/// # Safety
/// As for [`with_room`].
unsafe fn is_roomy(context: *mut libc::c_void) -> bool {
    if cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return true;
    }
    let here = (&raw const context).addr();
    // SAFETY: the caller's promise.
    let alternate = unsafe { (*context.cast::<libc::ucontext_t>()).uc_stack };
    let left = here.wrapping_sub(alternate.ss_sp.addr());
    left >= alternate.ss_size || left >= ENOUGH
}

/// All signals are blocked on this thread until it is dropped, but those that mean that it cannot go on. By the kernel's own
/// set, of a bit for each signal: two of the C library's would take a quarter of the little stack that there is.
struct Blocked(u64);

impl Blocked {
    fn now() -> Self {
        const NOT: u64 = {
            let (mut set, mut at) = (bit(libc::SIGTRAP) | bit(libc::SIGSYS), 0);
            while at < FATAL.len() {
                set |= bit(FATAL[at]);
                at += 1;
            }
            set
        };
        let mut before = Self(0);
        mask(libc::SIG_BLOCK, &!NOT, &mut before.0);
        before
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        mask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut());
    }
}

const fn bit(signal: libc::c_int) -> u64 {
    1 << (signal - 1)
}

#[cfg(target_os = "linux")]
fn mask(how: libc::c_int, set: *const u64, before: *mut u64) {
    // SAFETY: the kernel reads and writes so many bytes, or none where the pointer is null.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, set, before, size_of::<u64>()) };
}

/// Elsewhere a set has as many bits, or fewer.
#[cfg(not(target_os = "linux"))]
fn mask(how: libc::c_int, set: *const u64, before: *mut u64) {
    // SAFETY: both have room for a set.
    unsafe { libc::pthread_sigmask(how, set.cast(), before.cast()) };
}

/// The thread has no alternate stack until this is dropped. For a thread that is not on it, as the kernel refuses it else.
struct Disarmed(libc::stack_t);

impl Disarmed {
    fn now() -> Self {
        let none =
            libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        let mut before = none;
        // SAFETY: both are valid.
        unsafe { libc::sigaltstack(&none, &mut before) };
        Self(before)
    }
}

impl Drop for Disarmed {
    fn drop(&mut self) {
        // SAFETY: what the thread had.
        unsafe { libc::sigaltstack(&self.0, std::ptr::null_mut()) };
    }
}

const _: () = assert!(STACKS == u32::BITS as usize);

/// A stack that this thread has for itself.
struct Claimed(usize);

impl Claimed {
    fn new(handling: Handling) -> Option<Self> {
        let may = match handling {
            Handling::Fatal => OF_FATAL,
            Handling::Other => !OF_FATAL,
        };
        let claim = |taken: u32| {
            let free = may & !taken;
            (free != 0).then(|| taken | 1 << free.trailing_zeros())
        };
        let order = Ordering::Acquire;
        let before = TAKEN.fetch_update(order, Ordering::Relaxed, claim).ok()?;
        Some(Self((may & !before).trailing_zeros() as usize))
    }

    /// Does something on this stack.
    ///
    /// # Safety
    /// It neither unwinds nor leaves by a jump.
    unsafe fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut done = Work { work: Some(work), result: None };
        let top = MEMORY.0.get().addr() + (self.0 + 1) * SIZE;
        let data: *mut libc::c_void = (&raw mut done).cast();
        // SAFETY: the top is aligned, and what lies below it is unused. `done` outlives the call.
        unsafe { call_on(top, trampoline_of(&done), data) };
        match done.result {
            Some(result) => result,
            None => unreachable!("it has returned"),
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        TAKEN.fetch_and(!(1 << self.0), Ordering::Release);
    }
}

struct Work<F, T> {
    work: Option<F>,
    result: Option<T>,
}

type Trampoline = unsafe extern "C" fn(*mut libc::c_void);

fn trampoline_of<F: FnOnce() -> T, T>(_: &Work<F, T>) -> Trampoline {
    unsafe extern "C" fn trampoline<F: FnOnce() -> T, T>(data: *mut libc::c_void) {
        // SAFETY: it is passed on by `run`, which waits.
        let work = unsafe { &mut *data.cast::<Work<F, T>>() };
        let _disarmed = Disarmed::now();
        work.result = work.work.take().map(|work| work());
    }
    trampoline::<F, T>
}

/// Calls a function on another stack.
///
/// # Safety
/// `top` is the aligned upper end of enough memory that nobody uses; the function may be called with this and returns.
#[inline(never)]
unsafe fn call_on(top: usize, function: Trampoline, data: *mut libc::c_void) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promises. The stack pointer is kept in a register that the function preserves.
    unsafe {
        core::arch::asm!(
            "mov r12, rsp",
            "mov rsp, {top}",
            "call {function}",
            "mov rsp, r12",
            top = in(reg) top,
            function = in(reg) function,
            in("rdi") data,
            out("r12") _,
            clobber_abi("C"),
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "mov x20, sp",
            "mov sp, {top}",
            "blr {function}",
            "mov sp, x20",
            top = in(reg) top,
            function = in(reg) function,
            in("x0") data,
            out("x20") _,
            clobber_abi("C"),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    // SAFETY: as above; it stays on this stack.
    unsafe {
        let _ = top;
        function(data);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn context(alternate: &[u8]) -> libc::ucontext_t {
        // SAFETY: zeroes are a valid context.
        let mut context: libc::ucontext_t = unsafe { std::mem::zeroed() };
        context.uc_stack.ss_sp = alternate.as_ptr().cast_mut().cast();
        context.uc_stack.ss_size = alternate.len();
        context
    }

    #[test]
    fn who_is_on_a_small_alternate_stack_works_on_another_one_and_all_that_are_free_are_used() {
        let here = 0_u8;
        let at = (&raw const here).addr();
        // SAFETY: the memory is never looked at.
        let around = unsafe { std::slice::from_raw_parts((at - 4096) as *const u8, 8192) };
        let mut small = context(around);
        let mut elsewhere = context(&[0; 64]);
        let lies_here = |address: usize| {
            let start = MEMORY.0.get().addr();
            (start..start + SIZE * STACKS).contains(&address)
        };
        let place = || {
            let local = 0_u8;
            std::hint::black_box(&raw const local).addr()
        };
        fn nested(depth: usize) -> usize {
            // SAFETY: a context; nothing is done.
            let deeper = unsafe {
                let deeper = || if depth < 99 { nested(depth + 1) } else { 0 };
                let claimed = Claimed::new(Handling::Other);
                claimed.map(|stack| stack.run(deeper))
            };
            deeper.map_or(0, |deeper| deeper + 1)
        }
        // SAFETY: contexts; the work does nothing.
        unsafe {
            let small = (&raw mut small).cast();
            assert!(lies_here(with_room(small, Handling::Other, place).unwrap()));
            assert!(lies_here(with_room(small, Handling::Fatal, place).unwrap()));
            let elsewhere = (&raw mut elsewhere).cast();
            assert!(!lies_here(with_room(elsewhere, Handling::Other, place).unwrap()));
            assert_eq!(nested(0), STACKS - OF_FATAL.count_ones() as usize);
            assert!(with_room(small, Handling::Other, || ()).is_some(), "they were given back");
        }
    }
}
