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
