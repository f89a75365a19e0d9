//! Memory from the operating system: address space is reserved once, so that nothing in it ever
//! moves, and pieces of it become memory when they are first needed.
//!
//! Reserved space can be neither read nor written (`PROT_NONE`), so nothing counts it as memory:
//! neither a program that locks all its memory (`mlockall`), nor a kernel without overcommit
//! (`vm.overcommit_memory=2`), nor the data limit (`RLIMIT_DATA`). Two limits do count it, and
//! under them less is reserved: the address space limit (`RLIMIT_AS`), and, in a program that locks
//! all future mappings (`MCL_FUTURE`), the locked memory limit (`RLIMIT_MEMLOCK`), which counts
//! reserved space as locked.

use crate::os::process;
use crate::os::signal_chain::Errno;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Private address space that is wiped in a forked child. It is never returned. Where the kernel
/// cannot wipe it, a forked child calls `wipe`, which may only store to atomics.
pub(crate) fn wiped_in_children(length: usize, wipe: extern "C" fn()) -> io::Result<*mut u8> {
    let address = reserved(length)?;
    #[cfg(target_os = "linux")]
    // SAFETY: the range is the mapping just made.
    let wiped = unsafe { libc::madvise(address.cast(), length, libc::MADV_WIPEONFORK) } == 0;
    #[cfg(not(target_os = "linux"))]
    let wiped = false;
    if !wiped {
        // A kernel before 4.14: `fork` still runs the handler.
        // SAFETY: the handler stores to atomics, which is allowed in a forked child.
        unsafe { libc::pthread_atfork(None, None, Some(wipe)) };
    }
    Ok(address)
}

/// Private address space, which [`commit`] turns into zeroed memory. A forked child has its own
/// copy.
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
    // A huge page for the first few places would be wasteful, and cannot be returned in pieces.
    #[cfg(target_os = "linux")]
    // SAFETY: the range is the mapping just made.
    unsafe {
        libc::madvise(address, length, libc::MADV_NOHUGEPAGE)
    };
    Ok(address.cast())
}

/// A separate mapping of zeroed memory, for temporary use.
pub(crate) fn fresh(length: usize) -> io::Result<*mut u8> {
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at a place that the kernel chooses touches no memory in use.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, -1, 0) };
    if address == libc::MAP_FAILED { Err(without_room()) } else { Ok(address.cast()) }
}

/// Words of memory, all 0, that stay for as long as the process lives.
pub(crate) fn words(count: usize) -> io::Result<&'static [AtomicU64]> {
    let address = fresh(count * size_of::<AtomicU64>())?;
    // SAFETY: the mapping is that long and never given back; zeroes are valid, and only atomics change them.
    Ok(unsafe { std::slice::from_raw_parts(address.cast(), count) })
}

/// Returns unused address space, and the memory in it.
pub(crate) fn unreserve(address: *mut u8, length: usize) {
    // SAFETY: the caller passes what `reserved` or `fresh` returned, and nothing else refers to it.
    unsafe { libc::munmap(address.cast(), length) };
}

/// Turns a piece of reserved address space into memory, rounded to whole pages; pages that are
/// memory already keep their contents. Returns whether it succeeded. Makes one system call and may
/// run in a signal handler.
#[cold]
#[must_use]
pub(crate) fn commit(place: *mut u8, length: usize) -> bool {
    let _errno = Errno::keep();
    let before = place.addr() % page();
    let length = (before + length).next_multiple_of(page());
    let place = place.wrapping_sub(before).cast();
    // SAFETY: the caller passes a piece of a mapping made by `reserved`, which begins and ends at a
    // page boundary; nothing changes for users of pages that are memory already.
    unsafe { libc::mprotect(place, length, libc::PROT_READ | libc::PROT_WRITE) == 0 }
}

/// The page size.
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

/// How much the process may still reserve, if its address space or its locked memory is limited.
pub(crate) fn room_left() -> Option<usize> {
    let of_locked = if locks_what_it_maps() { locked_memory_left() } else { None };
    [address_space_left(), of_locked].into_iter().flatten().min()
}

/// How much more memory of its own the process may have, if that is limited.
pub(crate) fn data_left() -> Option<usize> {
    let limit = limit_on(libc::RLIMIT_DATA)?;
    Some(limit.saturating_sub(kibibytes("VmData:") << 10))
}

fn address_space_left() -> Option<usize> {
    let limit = limit_on(libc::RLIMIT_AS)?;
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|statm| statm.split(' ').next()?.parse::<usize>().ok());
    Some(limit.saturating_sub(pages.unwrap_or(0).saturating_mul(page())))
}

/// How much more memory the process may lock, if that is limited. The process may be privileged to
/// exceed the limit.
pub(crate) fn locked_memory_left() -> Option<usize> {
    Some(limit_on(libc::RLIMIT_MEMLOCK)?.saturating_sub(locked_memory()))
}

/// How much memory the process has locked.
fn locked_memory() -> usize {
    kibibytes("VmLck:") << 10
}

/// A line of what the kernel says of the process; 0 if it does not say that.
fn kibibytes(key: &str) -> usize {
    let said = process::status_line("self", key);
    said.and_then(|words| words.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Whether the process locks everything that it maps, within a limit: maps a page to find out.
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

/// Whether the locked memory limit does not apply to this process (`CAP_IPC_LOCK`).
fn may_exceed_it() -> bool {
    let rights = process::status_line("self", "CapEff:");
    let rights = rights.and_then(|digits| u64::from_str_radix(&digits, 16).ok());
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

/// Whether the system refuses like this when a mapping would exceed the locked memory limit.
pub(crate) fn is_of_locked_memory(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Explains why a thread could not start. Its stack must be mapped, and exceeding the locked memory
/// limit then looks like having too many threads.
pub(crate) fn without_thread(error: io::Error) -> io::Error {
    let is_it = is_of_locked_memory(&error) && locks_what_it_maps();
    if is_it { with_limit(error) } else { error }
}

/// Explains why the system has just refused address space.
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

/// Returns memory to the system. It reads as zeroes afterwards.
pub(crate) fn give_back(place: *mut u8, length: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: the caller passes whole pages of a mapping made by `reserved`, which nothing uses;
    // they hold only atomics, for which zeroes are valid.
    let given = unsafe { libc::madvise(place.cast(), length, libc::MADV_DONTNEED) } == 0;
    #[cfg(not(target_os = "linux"))]
    let given = false;
    if !given {
        // The memory stays, but its contents must read as zeroes.
        for at in (0..length).step_by(8) {
            // SAFETY: as above.
            let word = unsafe { &*place.add(at).cast::<std::sync::atomic::AtomicU64>() };
            word.store(0, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
