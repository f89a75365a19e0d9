//! Threads: their numbers and names, from the kernel.

use std::io;

/// The operating system's id of this thread.
#[cfg(target_os = "linux")]
pub(crate) fn number() -> u64 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as u64 }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn number() -> u64 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::pthread_self() as u64 }
}

/// This thread's name as the kernel has it: up to fifteen bytes, padded with zeroes.
#[cfg(target_os = "linux")]
pub(crate) fn name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the kernel writes sixteen bytes at most, with a zero at the end.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn name() -> [u8; 16] {
    let mut name = [0; 16];
    // SAFETY: the name is written with a zero at the end, and cut to the length given.
    unsafe { libc::pthread_getname_np(libc::pthread_self(), name.as_mut_ptr().cast(), 16) };
    name
}

/// Whether this process has no such thread any more, according to the kernel.
#[cfg(target_os = "linux")]
pub(crate) fn is_gone(os_thread: u64) -> bool {
    let process = std::process::id();
    // SAFETY: signal 0 is not delivered: the call only reports whether the thread exists.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, process, os_thread, 0) };
    answer != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_gone(_: u64) -> bool {
    false
}

/// How many nanoseconds this thread has waited for a processor since it started; `None` if the kernel does not say.
#[cfg(target_os = "linux")]
pub(crate) fn waited_for_a_processor() -> Option<u64> {
    let counts = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    waited_in(&counts)
}

/// What is said by a kernel that counts: one without `CONFIG_SCHED_INFO` says `0 0 0`.
#[cfg(target_os = "linux")]
fn waited_in(counts: &str) -> Option<u64> {
    let mut counts = counts.split_whitespace();
    let [ran, waited, times]: [u64; 3] =
        [counts.next()?.parse().ok()?, counts.next()?.parse().ok()?, counts.next()?.parse().ok()?];
    // This thread has run, or it could not ask.
    (ran != 0 || waited != 0 || times != 0).then_some(waited)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn waited_for_a_processor() -> Option<u64> {
    None
}

/// A name without a cut-off last character, and with a question mark for each byte that is not
/// text.
pub(crate) fn whole_characters(mut bytes: [u8; 16]) -> [u8; 16] {
    let mut at = 0;
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(16);
    bytes[end..].fill(0);
    while let Err(error) = std::str::from_utf8(&bytes[at..end]) {
        at += error.valid_up_to();
        let Some(length) = error.error_len() else {
            bytes[at..end].fill(0);
            break;
        };
        bytes[at..at + length].fill(b'?');
        at += length;
    }
    bytes
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_count_waits_says_nothing_of_them() {
        assert_eq!(waited_in("123 456 7\n"), Some(456));
        assert_eq!(waited_in("123 0 7\n"), Some(0));
        assert_eq!(waited_in("0 0 0\n"), None);
        assert_eq!(waited_in("5\n"), None);
    }
}
