//! Where a thread is on its stack: the value that its gate's flag holds while it is inside.
//!
//! A signal handler may leave by `siglongjmp`, and then the code that it interrupted never resumes.
//! If that code was writing an event, the thread's flag stays set. So the flag holds the stack
//! pointer at entry, which costs no more to store than a 1. Code that finds the flag set, but is
//! not below the stored pointer on the same stack, knows that the interrupted writer is gone. It
//! must be below by some distance: an event is only ever interrupted by a handler, and the state
//! that the kernel saved lies between the two.
//!
//! The thread knows its own stack and its alternate one, which it asks the kernel for. The kernel
//! may refuse (`seccomp`); then every writer counts as still inside, and a thread whose handler has
//! jumped out of an event loses all events that it would have recorded afterwards. The same holds if
//! the kernel reports no alternate stack: it reports none, too, while a handler runs on one that it
//! disarms for that time (`SS_AUTODISARM`), wherever that lies. (Threads of the standard library have
//! an alternate stack.)
//!
//! Stacks that a program allocates and switches to itself are unknown here. Coroutines that switch
//! by a function call are fine: no event is being written at that point. A signal handler that
//! switches stacks *in the middle of an event* and goes on with code that records (a scheduler that
//! pre-empts coroutines by a timer signal) is not: the event may be taken for abandoned, and when
//! it resumes, it writes inside a gate that another event has entered. Such programs cannot be
//! recorded.

use crate::sync::AtomicU64;

/// Sets the flag to the stack pointer, or to 1 where the stack pointer cannot be read.
#[inline(always)]
pub(crate) fn mark(flag: &AtomicU64) {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    // SAFETY: one store of an aligned word to an atomic, which is relaxed in the terms of the language.
    unsafe {
        core::arch::asm!(
            "mov qword ptr [{flag}], rsp",
            flag = in(reg) flag.as_ptr(),
            options(nostack, preserves_flags),
        );
    }
    #[cfg(all(target_arch = "aarch64", not(loom)))]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "mov {here}, sp",
            "str {here}, [{flag}]",
            here = out(reg) _,
            flag = in(reg) flag.as_ptr(),
            options(nostack, preserves_flags),
        );
    }
    #[cfg(any(loom, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    flag.store(1, crate::sync::Ordering::Relaxed);
}

/// The stack pointer, or 0 where it cannot be read.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) fn here() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a register.
    unsafe {
        let here;
        core::arch::asm!(
            "mov {}, rsp", out(reg) here, options(nomem, nostack, preserves_flags)
        );
        here
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads a register.
    unsafe {
        let here;
        core::arch::asm!(
            "mov {}, sp", out(reg) here, options(nomem, nostack, preserves_flags)
        );
        here
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    0
}

/// Whether the writer that entered at `entered` is gone, as seen from `here` on the same thread. A
/// writer that is still there lies further up on the same stack, or `here` is on the alternate
/// stack.
#[cfg(not(loom))]
pub(crate) fn is_gone(entered: u64, here: u64) -> bool {
    if entered <= 1 || here == 0 {
        return false;
    }
    // Without knowing the alternate stack, assume that the writer is still there.
    let known = alternate_stack().filter(|(_, size)| *size > 0);
    known.is_some_and(|stack| judge(entered, here, SAVED, stack))
}

/// As [`is_gone`], for a caller: nothing that the kernel has saved lies between its frame and
/// `here`.
#[cfg(not(loom))]
pub(crate) fn has_left(there: u64, here: u64) -> bool {
    here != 0 && alternate_stack().is_some_and(|stack| judge(there, here, 1, stack))
}

/// Start and size of the thread's alternate stack; the size is 0 if it has none. `None` if the
/// kernel does not say.
#[cfg(not(loom))]
pub(crate) fn alternate_stack() -> Option<(u64, u64)> {
    // This runs on the host's thread, in the middle of the host's work.
    let _errno = crate::os::signal_chain::Errno::keep();
    let mut alternate = std::mem::MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: reads the thread's own setting; all zeroes are a valid `stack_t`.
    let (asked, alternate) = unsafe {
        (libc::sigaltstack(std::ptr::null(), alternate.as_mut_ptr()), alternate.assume_init())
    };
    let is_there = alternate.ss_flags & libc::SS_DISABLE == 0;
    let size = if is_there { alternate.ss_size as u64 } else { 0 };
    (asked == 0).then_some((alternate.ss_sp as u64, size))
}

/// A lower bound on the distance between interrupted code and its handler: the red zone of 128
/// bytes, the general registers, and the floating-point state, together 1144 bytes on x86-64 and
/// 4688 on 64-bit ARM. Functions that one place calls, each with a frame of its own, are mostly
/// closer together than that.
#[cfg(not(loom))]
const SAVED: u64 = 1024;

#[cfg(not(loom))]
fn judge(entered: u64, here: u64, apart: u64, (first, size): (u64, u64)) -> bool {
    let is_alternate = |at: u64| at.wrapping_sub(first) < size;
    match (is_alternate(entered), is_alternate(here)) {
        // The writer was on the alternate stack, and the thread has left that.
        (true, false) => true,
        (false, true) => false,
        _ => here.saturating_add(apart) > entered,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn who_is_further_up_on_the_stack_is_there_and_others_are_not() {
        assert!(!judge(10_000, 8_800, SAVED, (0, 0)), "a handler that has interrupted it");
        assert!(judge(10_000, 10_000, SAVED, (0, 0)), "the same place, again");
        assert!(judge(10_000, 9_900, SAVED, (0, 0)), "a place beside it");
        assert!(judge(10_000, 10_008, SAVED, (0, 0)));
        for first in [5_000, 50_000] {
            assert!(!judge(10_000, first + 50, SAVED, (first, 4000)), "a handler on another stack");
            assert!(judge(first + 50, 10_000, SAVED, (first, 4000)), "that was left");
            assert!(judge(first + 2000, first + 2010, SAVED, (first, 4000)));
            assert!(
                !judge(first + 2000, first + 800, SAVED, (first, 4000)),
                "a handler in a handler"
            );
        }
    }

    #[test]
    fn the_flag_is_the_stack_pointer() {
        let flag = AtomicU64::new(0);
        mark(&flag);
        let marked = flag.load(Ordering::Relaxed);
        assert_ne!(marked, 0);
        if marked > 1 {
            let local = std::ptr::from_ref(&flag).addr() as u64;
            assert!(marked.abs_diff(local) < 1 << 16 && here().abs_diff(local) < 1 << 16);
            assert!(!is_gone(marked + 4096, here()) && is_gone(marked - 4096, here()));
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn where_the_kernel_does_not_say_where_handlers_run_nobody_is_gone() {
        // The filter applies to this thread alone.
        let tested = std::thread::spawn(|| {
            let above = here() - (1 << 20);
            assert!(here() == 0 || is_gone(above, here()));
            if !refuse(libc::SYS_sigaltstack) {
                return;
            }
            // SAFETY: the thread's own.
            unsafe { *libc::__errno_location() = 77 };
            assert!(!is_gone(above, here()), "a handler on another stack may have interrupted it");
            // SAFETY: as above.
            assert_eq!(unsafe { *libc::__errno_location() }, 77);
        });
        tested.join().unwrap();
    }

    /// What a handler found on a stack that the kernel has disarmed.
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    static FOUND: AtomicU64 = AtomicU64::new(0);
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    static ENTERED: AtomicU64 = AtomicU64::new(0);

    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    extern "C" fn on_a_stack_that_is_not_told(_: libc::c_int) {
        let entered = ENTERED.load(Ordering::Relaxed);
        let (is_above, is_gone) = (here() > entered, is_gone(entered, here()));
        FOUND.store(1 + u64::from(is_above) * 2 + u64::from(is_gone) * 4, Ordering::Relaxed);
    }

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn on_an_alternate_stack_that_the_kernel_disarms_no_writer_counts_as_gone() {
        const SS_AUTODISARM: libc::c_int = 1 << 31;
        let tested = std::thread::spawn(|| {
            // It lies above all that is called from here.
            let mut room = vec![0_u128; 1 << 14];
            let mut before = std::mem::MaybeUninit::<libc::stack_t>::uninit();
            let stack = libc::stack_t {
                ss_sp: room.as_mut_ptr().cast(),
                ss_flags: SS_AUTODISARM,
                ss_size: size_of_val(&*room),
            };
            // SAFETY: the room is there until the stack from before is put back; the handler is async-signal-safe.
            unsafe {
                assert_eq!(libc::sigaltstack(&stack, before.as_mut_ptr()), 0);
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_a_stack_that_is_not_told as *const () as usize;
                action.sa_flags = libc::SA_ONSTACK;
                assert_eq!(libc::sigaction(libc::SIGWINCH, &action, std::ptr::null_mut()), 0);
                // An event that stands below the handler's stack, wherever that is.
                ENTERED.store(stack.ss_sp as u64 - 4096, Ordering::Relaxed);
                assert_eq!(libc::pthread_kill(libc::pthread_self(), libc::SIGWINCH), 0);
                libc::sigaltstack(before.as_ptr(), std::ptr::null_mut());
                libc::signal(libc::SIGWINCH, libc::SIG_DFL);
            }
            assert_eq!(FOUND.load(Ordering::Relaxed), 1 + 2, "above it, and it is there");
        });
        tested.join().unwrap();
    }

    /// Makes this system call fail on this thread from now on. `false` if that is not possible.
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn refuse(call: libc::c_long) -> bool {
        let part = |code: u32, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        let answer = libc::BPF_RET | libc::BPF_K;
        let mut filter = [
            part(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
            part(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
            part(answer, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            part(answer, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: `program` and its filter are valid for the calls.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
                    == 0
        }
    }
}
