//! This thread's own stack, as far as it is sure to be mapped for as long as the thread lives: that can be read as it is; all
//! else is read through the kernel.
//!
//! The C library knows the bounds of a thread's stack, but takes memory and a system call to tell them, which no handler of a
//! signal and no panic may. So a thread [notes](note) them where that is harmless, as it begins; until then, and on stacks that
//! a program has made for itself, nothing is known here.
//!
//! The main thread's stack reaches up to what the kernel put there when it started the process (`AT_RANDOM`), and grows with
//! use, within its limit: above the stack pointer of a live frame all was in use, and it never shrinks.

use std::cell::Cell;
use std::ops::Range;

thread_local! {
    /// A constant without a destructor, so that a handler may use it. Empty until it is noted.
    static BOUNDS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// What is so near below the begin of the main thread's stack is a part of it, if it may grow to twice as much: the kernel
/// keeps that free, and a gap of 1 MiB below.
#[cfg(target_os = "linux")]
const OF_MAIN: u64 = 1 << 20;

/// Notes the bounds of this thread's stack, unless they are known. Not for handlers of signals.
pub(crate) fn note() {
    if BOUNDS.get() == (0, 0) {
        BOUNDS.set(bounds_of_this_thread().map_or((0, 0), |known| (known.start, known.end)));
    }
}

fn here() -> u64 {
    let here = 0_u8;
    (&raw const here).addr() as u64 & !7
}

/// From this address up to where the thread's stack begins; empty if it is not known to be on that.
pub(super) fn above(sp: u64) -> Range<u64> {
    let (low, top) = BOUNDS.get();
    if (low..top).contains(&sp) { sp..top } else { 0..0 }
}

#[cfg(target_os = "linux")]
fn is_main_thread() -> bool {
    crate::os::thread::number() == u64::from(std::process::id())
}

#[cfg(target_os = "linux")]
fn bounds_of_this_thread() -> Option<Range<u64>> {
    let bounds = if is_main_thread() { of_main()? } else { by_pthread()? };
    bounds.contains(&here()).then_some(bounds)
}

#[cfg(target_os = "linux")]
fn of_main() -> Option<Range<u64>> {
    let mut limit = std::mem::MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the place is valid, and read only if the call has written it.
    let (top, limit) = unsafe {
        if libc::getrlimit(libc::RLIMIT_STACK, limit.as_mut_ptr()) != 0 {
            return None;
        }
        (libc::getauxval(libc::AT_RANDOM) & !7, limit.assume_init().rlim_cur)
    };
    (limit >= 2 * OF_MAIN).then_some(top.checked_sub(OF_MAIN)?..top)
}

#[cfg(target_os = "linux")]
fn by_pthread() -> Option<Range<u64>> {
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut address, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
    // SAFETY: the places are valid; the attributes are read and given back only if they were written.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return None;
        }
        let told = libc::pthread_attr_getstack(attributes.as_ptr(), &mut address, &mut size) == 0
            && libc::pthread_attr_getguardsize(attributes.as_ptr(), &mut guard) == 0;
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        if !told {
            return None;
        }
    }
    // Before version 2.27, glibc takes the guard for a part of the stack.
    let low = (address.addr() as u64).checked_add(guard as u64)?;
    Some(low..(address.addr() as u64).checked_add(size as u64)? & !7)
}

#[cfg(not(target_os = "linux"))]
fn bounds_of_this_thread() -> Option<Range<u64>> {
    None
}

/// The word at this address of this thread's stack, which may be one that nobody has written yet.
///
/// # Safety
/// The address lies in what [`above`] has said on this thread, and is a multiple of eight.
pub(super) unsafe fn word(at: u64) -> u64 {
    let at = std::ptr::with_exposed_provenance::<u64>(at as usize);
    let word: u64;
    // Not a load of the language: the word may be uninitialised, and belongs to other functions.
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("mov {}, [{}]", out(reg) word, in(reg) at, options(nostack, readonly, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the caller's promise.
    unsafe {
        core::arch::asm!("ldr {}, [{}]", out(reg) word, in(reg) at, options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    // SAFETY: the caller's promise.
    unsafe {
        word = at.read_volatile();
    }
    word
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_knows_its_own_stack_and_no_other() {
        let known = || {
            let local = 7_u64;
            let here = (&raw const local).addr() as u64;
            assert_eq!(above(here), 0..0, "not noted yet");
            note();
            let stack = above(here);
            assert!(stack.start == here && stack.end > here);
            // SAFETY: it is a live frame of this thread.
            assert_eq!(unsafe { word(here) }, 7);
            // SAFETY: as above; the last word of the stack can be read, too.
            unsafe { word(stack.end - 8) };
            let boxed = Box::new(0_u64);
            assert_eq!(above((&raw const *boxed).addr() as u64), 0..0);
            here
        };
        let of_another = std::thread::spawn(known).join().unwrap();
        std::thread::Builder::new().stack_size(32 << 10).spawn(known).unwrap().join().unwrap();
        note();
        assert_eq!(above(of_another), 0..0);
    }

    /// A test's thread is never the main one.
    #[test]
    fn the_kernel_has_mapped_nothing_near_the_main_threads_stack() {
        // SAFETY: asks for the address of bytes that the kernel has put on the main thread's stack.
        let top = unsafe { libc::getauxval(libc::AT_RANDOM) };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let stack = maps.lines().find(|line| line.ends_with("[stack]")).unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (low, high) = stack.split(' ').next().unwrap().split_once('-').unwrap();
        assert!((number(low)..number(high)).contains(&top), "{top:x} in {stack}");
        // Nothing else is mapped so near below its begin.
        let near = number(high).saturating_sub(OF_MAIN);
        let ends = maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
        let mut ends = ends.map(|(_, end)| number(end)).filter(|end| *end <= number(low));
        assert!(ends.all(|end| end < near), "{maps}");
    }
}
