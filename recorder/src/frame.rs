//! Where on its stack a thread is: what its gate's flag holds while it is inside.
//!
//! A handler of a signal may leave by `siglongjmp`, and what it had interrupted then never goes on. If that
//! was an event, the flag of its thread stays set. So the flag is the stack pointer of who has entered,
//! which costs no more to store than a 1. Who finds it set, and is not below it on the same stack, knows that
//! there is nobody inside any more. Not even a little below it: what interrupts an event is a handler, and
//! between the two lies what the kernel has saved.
//!
//! What is known of stacks is the thread's own and its alternate one, of which the kernel is asked, which
//! it may refuse (`seccomp`): then everybody counts as still there, and a thread whose handler has jumped out
//! of an event loses the events that it would have recorded afterwards.
//!
//! Not known are stacks that a program makes and switches to itself. Coroutines that switch where they call
//! something that does so are no trouble: no event is being written then. A signal handler that switches to
//! another stack *in the middle of an event*, to go on there with something that records (a scheduler that
//! pre-empts coroutines by a timer's signal), is: the event may be taken for one that never goes on, and when
//! it does, it writes in a gate that is another one's. No such program can be recorded.

use crate::sync::AtomicU64;

/// Sets the flag: to the stack pointer, or, where that is not known, to 1.
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

/// The stack pointer, 0 where that is not known.
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

/// Whether who entered with `entered` is not there any more, seen from `here` on the same thread: it would
/// lie further up on the same stack. Handlers may run on the thread's alternate stack.
#[cfg(not(loom))]
pub(crate) fn is_gone(entered: u64, here: u64) -> bool {
    if entered <= 1 || here == 0 {
        return false;
    }
    // Where it is not known who may be interrupted by whom, nobody is gone.
    alternate_stack().is_some_and(|stack| judge(entered, here, SAVED, stack))
}

/// As [`is_gone`], of who may have been called from there, with nothing in between that the kernel has saved.
#[cfg(not(loom))]
pub(crate) fn has_left(there: u64, here: u64) -> bool {
    here != 0 && alternate_stack().is_some_and(|stack| judge(there, here, 1, stack))
}

/// Where the thread's alternate stack begins, and its size, which is 0 if it has none. `None` if the kernel
/// does not say.
#[cfg(not(loom))]
pub(crate) fn alternate_stack() -> Option<(u64, u64)> {
    // This is the host's thread, in the middle of whatever it does.
    let _errno = crate::sigaction::Errno::keep();
    let mut alternate = std::mem::MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: asks for the thread's own, zeroes are a value.
    let (asked, alternate) = unsafe {
        (libc::sigaltstack(std::ptr::null(), alternate.as_mut_ptr()), alternate.assume_init())
    };
    let is_there = alternate.ss_flags & libc::SS_DISABLE == 0;
    let size = if is_there { alternate.ss_size as u64 } else { 0 };
    (asked == 0).then_some((alternate.ss_sp as u64, size))
}

/// What lies between who is interrupted and its handler at least: 128 bytes that are left alone, the
/// registers, and those of floating point, which is 1144 bytes on x86-64 and 4688 on 64-bit ARM. Functions
/// that are called from one place, each with a frame of its own, are closer to each other, mostly.
#[cfg(not(loom))]
const SAVED: u64 = 1024;

#[cfg(not(loom))]
fn judge(entered: u64, here: u64, apart: u64, (first, size): (u64, u64)) -> bool {
    let is_alternate = |at: u64| at.wrapping_sub(first) < size;
    match (is_alternate(entered), is_alternate(here)) {
        // The alternate stack has been left.
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
        // The filter is this thread's alone.
        let tested = std::thread::spawn(|| {
            let above = here() - (1 << 20);
            assert!(here() == 0 || is_gone(above, here()));
            if !refuse(libc::SYS_sigaltstack) {
                return;
            }
            // SAFETY: the thread's own.
            unsafe { *libc::__errno_location() = 77 };
            assert!(!is_gone(above, here()), "it may be interrupted by who runs on another stack");
            // SAFETY: as above.
            assert_eq!(unsafe { *libc::__errno_location() }, 77);
        });
        tested.join().unwrap();
    }

    /// From now on this call of the system fails on this thread. `false` if that cannot be had.
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
