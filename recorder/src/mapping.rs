//! Memory from the operating system: address space that is reserved at once, so that nothing in it ever
//! moves, and pieces of it that become memory when they are first needed.
//!
//! What is only reserved can be neither read nor written (`PROT_NONE`). So nothing counts it as memory:
//! not a program that locks all of its own (`mlockall`), nor a kernel that promises no more than it has
//! (`vm.overcommit_memory=2`), nor the limit on data (`RLIMIT_DATA`). Two limits do, and under them less is
//! reserved: that on address space (`RLIMIT_AS`), and, in a program that locks all that it will map
//! (`MCL_FUTURE`), that on locked memory (`RLIMIT_MEMLOCK`), where what is only reserved counts as locked.

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

/// How much the process may still reserve, if there is a limit on that: on its address space, or on what
/// it locks.
pub(crate) fn room_left() -> Option<usize> {
    let of_locked = if locks_what_it_maps() { locked_memory_left() } else { None };
    [address_space_left(), of_locked].into_iter().flatten().min()
}

fn address_space_left() -> Option<usize> {
    let limit = limit_on(libc::RLIMIT_AS)?;
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|statm| statm.split(' ').next()?.parse::<usize>().ok());
    Some(limit.saturating_sub(pages.unwrap_or(0).saturating_mul(page())))
}

/// How much more the process may lock, if there is a limit on that. It may be one that it is allowed to
/// exceed.
pub(crate) fn locked_memory_left() -> Option<usize> {
    Some(limit_on(libc::RLIMIT_MEMLOCK)?.saturating_sub(locked_memory()))
}

/// How much the process has locked.
fn locked_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    let number = kibibytes.and_then(|words| words.split_whitespace().next()?.parse::<usize>().ok());
    number.unwrap_or(0) << 10
}

/// Whether the process locks all that it maps, within a limit: what is mapped now tells.
fn locks_what_it_maps() -> bool {
    if limit_on(libc::RLIMIT_MEMLOCK).is_none() || may_exceed_it() {
        return false;
    }
    let before = locked_memory();
    let Ok(probe) = reserved(page()) else { return true };
    let is_locked = locked_memory() > before;
    unreserve(probe, page());
    is_locked
}

/// Whether the limit on locked memory does not count for this process (`CAP_IPC_LOCK`).
fn may_exceed_it() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = rights.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    rights.is_some_and(|rights| rights & 1 << 14 != 0)
}

#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

fn limit_on(resource: Resource) -> Option<usize> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: 0 };
    // SAFETY: `limit` is a valid place.
    unsafe { libc::getrlimit(resource, &mut limit) };
    let limited = limit.rlim_cur != libc::RLIM_INFINITY;
    limited.then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Whether that is how the system refuses what would have to be locked beyond the limit.
pub(crate) fn is_of_locked_memory(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Why there is no thread, for which its stack must be mapped: that is told as where there are too many.
pub(crate) fn without_thread(error: io::Error) -> io::Error {
    let is_it = is_of_locked_memory(&error) && locks_what_it_maps();
    if is_it { with_limit(error) } else { error }
}

/// Why the system has just refused address space.
pub(crate) fn without_room() -> io::Error {
    with_limit(io::Error::last_os_error())
}

fn with_limit(error: io::Error) -> io::Error {
    let (what, limit) = if is_of_locked_memory(&error) {
        let what = "the process locks all that it maps, and the limit on that (RLIMIT_MEMLOCK)";
        (what, limit_on(libc::RLIMIT_MEMLOCK))
    } else if error.kind() == io::ErrorKind::OutOfMemory {
        ("the limit on address space (RLIMIT_AS)", limit_on(libc::RLIMIT_AS))
    } else {
        return error;
    };
    match limit {
        Some(limit) => io::Error::new(error.kind(), format!("{error}; {what} is {limit} bytes")),
        None => error,
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
