//! Memory from the operating system.

use std::io;

/// A private, zeroed mapping that is wiped in a forked child. It is never unmapped.
pub(crate) fn wiped_in_children(length: usize) -> io::Result<*mut u8> {
    #[cfg(target_os = "linux")]
    let no_reserve = libc::MAP_NORESERVE;
    #[cfg(not(target_os = "linux"))]
    let no_reserve = 0;
    // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use.
    let address = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | no_reserve,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the range is the mapping just made.
    let wiped = unsafe { libc::madvise(address, length, libc::MADV_WIPEONFORK) } == 0;
    #[cfg(not(target_os = "linux"))]
    let wiped = false;
    if !wiped {
        // A kernel before 4.14: what calls `fork` still runs the handler.
        // SAFETY: the handler stores to atomics, which is allowed in a forked child.
        unsafe { libc::pthread_atfork(None, None, Some(crate::control::Control::off_in_child)) };
    }
    Ok(address.cast())
}

/// Private, zeroed address space that takes memory as it is used. It is never unmapped. A forked
/// child has a copy of its own.
pub(crate) fn reserved(length: usize) -> io::Result<*mut u8> {
    #[cfg(target_os = "linux")]
    let no_reserve = libc::MAP_NORESERVE;
    #[cfg(not(target_os = "linux"))]
    let no_reserve = 0;
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | no_reserve);
    // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // A huge page for the first few places would be a waste, and is not given back piece by piece.
    #[cfg(target_os = "linux")]
    // SAFETY: the range is the mapping just made.
    unsafe {
        libc::madvise(address, length, libc::MADV_NOHUGEPAGE)
    };
    Ok(address.cast())
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
