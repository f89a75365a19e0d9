//! Memory from the operating system: address space that is reserved at once, so that nothing in it ever
//! moves, and pieces of it that become memory when they are first needed.
//!
//! What is only reserved can be neither read nor written (`PROT_NONE`). So nothing counts it as memory:
//! not a program that locks all of its own (`mlockall`), nor a kernel that promises no more than it has
//! (`vm.overcommit_memory=2`), nor the limit on data (`RLIMIT_DATA`). A limit on address space does; under
//! one less is reserved.

use crate::sigaction::Errno;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Private address space that is wiped in a forked child. It is never given back.
pub(crate) fn wiped_in_children(length: usize) -> io::Result<*mut u8> {
    let address = reserved(length)?;
    #[cfg(target_os = "linux")]
    // SAFETY: the range is the mapping just made.
    let wiped = unsafe { libc::madvise(address.cast(), length, libc::MADV_WIPEONFORK) } == 0;
    #[cfg(not(target_os = "linux"))]
    let wiped = false;
    if !wiped {
        // A kernel before 4.14: what calls `fork` still runs the handler.
        // SAFETY: the handler stores to atomics, which is allowed in a forked child.
        unsafe { libc::pthread_atfork(None, None, Some(crate::control::Control::off_in_child)) };
    }
    Ok(address)
}

/// Private address space, of which [`commit`] makes memory that is zeroed at first. A forked child has a
/// copy of its own.
pub(crate) fn reserved(length: usize) -> io::Result<*mut u8> {
    #[cfg(target_os = "linux")]
    let no_reserve = libc::MAP_NORESERVE;
    #[cfg(not(target_os = "linux"))]
    let no_reserve = 0;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | no_reserve;
    // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use.
    let address =
        unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(without_room());
    }
    // A huge page for the first few places would be a waste, and is not given back piece by piece.
    #[cfg(target_os = "linux")]
    // SAFETY: the range is the mapping just made.
    unsafe {
        libc::madvise(address, length, libc::MADV_NOHUGEPAGE)
    };
    Ok(address.cast())
}

/// Memory of its own, zeroed, for as long as something lasts.
pub(crate) fn fresh(length: usize) -> io::Result<*mut u8> {
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
    if address == libc::MAP_FAILED { Err(without_room()) } else { Ok(address.cast()) }
}

/// Gives address space back that nobody uses, and the memory in it.
pub(crate) fn unreserve(address: *mut u8, length: usize) {
    // SAFETY: the caller names what `reserved` or `fresh` gave, and nobody else knows it.
    unsafe { libc::munmap(address.cast(), length) };
}

/// Makes memory of a piece of reserved address space, rounded to whole pages; what is memory already
/// stays as it is. Says whether it could. It is one call of the system, and may be done in a signal
/// handler.
#[cold]
#[must_use]
pub(crate) fn commit(place: *mut u8, length: usize) -> bool {
    let _errno = Errno::keep();
    let before = place.addr() % page();
    let length = (before + length).next_multiple_of(page());
    let place = place.wrapping_sub(before).cast();
    // SAFETY: the caller names a piece of a mapping made by `reserved`, which is aligned to a page and ends
    // with one; nothing changes for who uses what is memory already.
    unsafe { libc::mprotect(place, length, libc::PROT_READ | libc::PROT_WRITE) == 0 }
}

/// The size of a page.
fn page() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    match PAGE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: the call has no preconditions.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let size = usize::try_from(size).ok().filter(|size| size.is_power_of_two());
            PAGE.store(size.unwrap_or(4096), Ordering::Relaxed);
            size.unwrap_or(4096)
        }
        size => size,
    }
}

/// How much address space the process may still take, if there is a limit on that.
pub(crate) fn address_space_left() -> Option<usize> {
    let limit = address_space_limit()?;
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|statm| statm.split(' ').next()?.parse::<usize>().ok());
    Some(limit.saturating_sub(pages.unwrap_or(0).saturating_mul(page())))
}

fn address_space_limit() -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: 0 };
    // SAFETY: `limit` is a valid place.
    unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    let limited = limit.rlim_cur != libc::RLIM_INFINITY;
    limited.then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Why the system has just refused address space.
pub(crate) fn without_room() -> io::Error {
    let error = io::Error::last_os_error();
    match address_space_limit() {
        Some(limit) if error.kind() == io::ErrorKind::OutOfMemory => {
            let limit = format!("the limit on address space (RLIMIT_AS) is {limit} bytes");
            io::Error::new(error.kind(), format!("{error}; {limit}"))
        }
        _ => error,
    }
}

/// Gives memory back to the system. It reads as zeroes afterwards.
pub(crate) fn give_back(place: *mut u8, length: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: the caller names whole pages of a mapping made by `reserved`, which nobody uses; all
    // that lies in them is atomics, for which zeroes are valid.
    let given = unsafe { libc::madvise(place.cast(), length, libc::MADV_DONTNEED) } == 0;
    #[cfg(not(target_os = "linux"))]
    let given = false;
    if !given {
        // Not given back, then; but what relies on the zeroes gets them.
        for at in (0..length).step_by(8) {
            // SAFETY: as above.
            let word = unsafe { &*place.add(at).cast::<std::sync::atomic::AtomicU64>() };
            word.store(0, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
