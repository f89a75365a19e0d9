//! The rights that this process runs with.

/// Whether this program runs with more rights than the user who started it and set its environment: by its
/// ids, and where the kernel says so, which also knows of capabilities that the executable brings along.
pub(crate) fn are_raised() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: no preconditions.
    if unsafe { libc::getauxval(libc::AT_SECURE) } != 0 {
        return true;
    }
    // SAFETY: no preconditions.
    unsafe { libc::getuid() != libc::geteuid() || libc::getgid() != libc::getegid() }
}
