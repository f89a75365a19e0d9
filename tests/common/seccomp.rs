//! Filters of system calls, as a service installs them once it has everything it needs.

/// Calls that a recorder may need to start, to save, and to examine the machine; `membarrier` is not among
/// them. The other parts of this program need none of them.
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

/// For every thread of this process; without this, for the calling thread alone.
pub const EVERY_THREAD: libc::c_ulong = libc::SECCOMP_FILTER_FLAG_TSYNC;

fn statement(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// From now on these calls end the process. `false` if the kernel does not allow that.
pub fn forbid_on_pain_of_death(calls: &[libc::c_long], flags: libc::c_ulong) -> bool {
    answers(calls, libc::SECCOMP_RET_KILL_PROCESS, false, flags)
}

/// From now on these calls fail with EPERM. `false` if the kernel does not allow that.
pub fn forbid(calls: &[libc::c_long], files_too: bool, flags: libc::c_ulong) -> bool {
    answers(calls, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, files_too, flags)
}

fn answers(calls: &[libc::c_long], refuse: u32, files_too: bool, flags: libc::c_ulong) -> bool {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let any = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    // The call's number is the first field that the filter sees.
    let mut filter = vec![statement(load, 0, 0, 0)];
    for call in calls {
        filter.push(statement(equal, 0, 1, *call as u32));
        filter.push(statement(answer, 0, 0, refuse));
    }
    if files_too {
        // Files can be opened but not created: for `openat`, the lower half of the third argument.
        filter.push(statement(equal, 0, 3, libc::SYS_openat as u32));
        filter.push(statement(load, 0, 0, 16 + 2 * 8));
        filter.push(statement(any, 0, 1, libc::O_CREAT as u32));
        filter.push(statement(answer, 0, 0, refuse));
    }
    filter.push(statement(answer, 0, 0, libc::SECCOMP_RET_ALLOW));
    install(&mut filter, flags)
}

fn install(filter: &mut [libc::sock_filter], flags: libc::c_ulong) -> bool {
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

/// From now on `MADV_POPULATE_WRITE` is unknown, as before Linux 5.14, but accepted for an empty range, as some
/// emulators of Linux do. `false` if the kernel does not allow that.
pub fn forget_to_populate() -> bool {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    // The lower halves of the second and the third argument: the length and the advice.
    let (length, advice) = (16 + 8, 16 + 2 * 8);
    let mut filter = [
        statement(load, 0, 0, 0),
        statement(equal, 0, 6, libc::SYS_madvise as u32),
        statement(load, 0, 0, advice),
        statement(equal, 0, 4, libc::MADV_POPULATE_WRITE as u32),
        statement(load, 0, 0, length),
        statement(equal, 0, 1, 0),
        statement(answer, 0, 0, libc::SECCOMP_RET_ERRNO),
        statement(answer, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
        statement(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    install(&mut filter, EVERY_THREAD)
}

/// No recorder can start any more, or save to files; a running one continues.
pub fn forbid_what_a_recorder_needs() -> bool {
    forbid(&OF_A_RECORDER, true, EVERY_THREAD)
}

/// A running recorder can no longer tell which threads have left a generation.
pub fn forbid_membarrier() -> bool {
    forbid(&[libc::SYS_membarrier], false, EVERY_THREAD)
}
