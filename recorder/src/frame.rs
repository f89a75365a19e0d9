//! Where on its stack a thread is: what its gate's flag holds while it is inside.
//!
//! A handler of a signal may leave by `siglongjmp`, and what it had interrupted then never goes on. If that
//! was an event, the flag of its thread stays set. So the flag is the stack pointer of who has entered,
//! which costs no more to store than a 1. Who finds it set, and is not below it on the same stack, knows that
//! there is nobody inside any more. Not even a little below it: what interrupts an event is a handler, and
//! between the two lies what the kernel has saved.

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
    let mut alternate = std::mem::MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: asks for the thread's own, zeroes are a value.
    let alternate = unsafe {
        libc::sigaltstack(std::ptr::null(), alternate.as_mut_ptr());
        alternate.assume_init()
    };
    judge(entered, here, alternate.ss_sp as u64, alternate.ss_size as u64)
}

/// What lies between who is interrupted and its handler at least: 128 bytes that are left alone, the
/// registers, and those of floating point, which is 1144 bytes on x86-64 and 4688 on 64-bit ARM. Functions
/// that are called from one place, each with a frame of its own, are closer to each other, mostly.
#[cfg(not(loom))]
const SAVED: u64 = 1024;

#[cfg(not(loom))]
fn judge(entered: u64, here: u64, first: u64, size: u64) -> bool {
    let is_alternate = |at: u64| at.wrapping_sub(first) < size;
    match (is_alternate(entered), is_alternate(here)) {
        // The alternate stack has been left.
        (true, false) => true,
        (false, true) => false,
        _ => here.saturating_add(SAVED) > entered,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering;

    #[test]
    fn who_is_further_up_on_the_stack_is_there_and_others_are_not() {
        assert!(!judge(10_000, 8_800, 0, 0), "a handler that has interrupted it");
        assert!(judge(10_000, 10_000, 0, 0), "the same place, again");
        assert!(judge(10_000, 9_900, 0, 0), "a place beside it");
        assert!(judge(10_000, 10_008, 0, 0));
        for first in [5_000, 50_000] {
            assert!(!judge(10_000, first + 50, first, 4000), "a handler on another stack");
            assert!(judge(first + 50, 10_000, first, 4000), "that was left");
            assert!(judge(first + 2000, first + 2010, first, 4000));
            assert!(!judge(first + 2000, first + 800, first, 4000), "a handler in a handler");
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
}
