//! Filters of system calls, as a service sets them once it has all that it needs.

/// What a recorder may need to start, to save, to look at the machine; `membarrier` is not among it. Nothing of
/// it is needed by the other parts of this program.
const OF_A_RECORDER: [libc::c_long; 12] = [
    libc::SYS_memfd_create,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_sched_getaffinity,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// Every thread of this process; without it, the calling one alone.
pub const EVERY_THREAD: libc::c_ulong = libc::SECCOMP_FILTER_FLAG_TSYNC;

/// From now on these fail with EPERM. `false` if the kernel does not let us say so.
pub fn forbid(calls: &[libc::c_long], files_too: bool, flags: libc::c_ulong) -> bool {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let any = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    // The number of the call is the first field of what the filter sees.
    let mut filter = vec![statement(load, 0, 0, 0)];
    for call in calls {
        filter.push(statement(equal, 0, 1, *call as u32));
        filter.push(statement(answer, 0, 0, refuse));
    }
    if files_too {
        // Files are opened, but none is made: of `openat`, the lower half of the third argument.
        filter.push(statement(equal, 0, 3, libc::SYS_openat as u32));
        filter.push(statement(load, 0, 0, 16 + 2 * 8));
        filter.push(statement(any, 0, 1, libc::O_CREAT as u32));
        filter.push(statement(answer, 0, 0, refuse));
    }
    filter.push(statement(answer, 0, 0, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and its filter are valid for the calls.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            ) == 0
    }
}

/// No recorder can start any more, nor save into files; the one that runs goes on.
pub fn forbid_what_a_recorder_needs() -> bool {
    forbid(&OF_A_RECORDER, true, EVERY_THREAD)
}

/// The one that runs cannot know any more who has left a generation.
pub fn forbid_membarrier() -> bool {
    forbid(&[libc::SYS_membarrier], false, EVERY_THREAD)
}
