//! Asks the scheduler to run the collector soon after it is woken.
//!
//! With every core busy, a thread that wakes waits for the end of somebody's slice, some
//! milliseconds, in which fast writers fill a small arena. The scheduler of Linux 6.12 and later
//! lets a thread ask for a shorter slice of its own: it then gets the same share of the processor,
//! but sooner (<https://docs.kernel.org/scheduler/sched-eevdf.html>). No privilege is needed, and an
//! older kernel ignores it.

/// Asks for the calling thread.
#[cfg(target_os = "linux")]
pub(crate) fn ask() {
    /// The shortest slice that the kernel grants, in nanoseconds.
    const SLICE: u64 = 100_000;

    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let mut attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: 0,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime: 0,
        deadline: 0,
        period: 0,
    };
    let size = attributes.size;
    // SAFETY: the kernel writes no more than `size` bytes to the structure, and reads no more.
    unsafe {
        if libc::syscall(libc::SYS_sched_getattr, 0, &mut attributes, size, 0) == 0
            && attributes.policy == libc::SCHED_OTHER as u32
        {
            attributes.runtime = SLICE;
            libc::syscall(libc::SYS_sched_setattr, 0, &attributes, 0);
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn ask() {}
