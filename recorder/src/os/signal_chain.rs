//! Helpers for signal handlers: read the installed action, call it, preserve `errno`. All of them
//! may run in a handler.

use std::mem::MaybeUninit;

/// The signals that mean that a thread cannot go on.
pub(crate) const FATAL: [libc::c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// A handler installed with `SA_SIGINFO`.
pub(crate) type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
type ShortHandler = extern "C" fn(libc::c_int);

/// The action installed for a signal; the default action if the signal does not exist.
pub(crate) fn current(signal: libc::c_int) -> libc::sigaction {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the place is valid, nothing is changed, and all zeroes are a valid action.
    unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr());
        now.assume_init()
    }
}

/// Calls the handler of an action.
///
/// # Safety
/// The action must have a handler, and the other arguments must be what a handler of this signal
/// was given.
pub(crate) unsafe fn call(
    action: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let handler = action.sa_sigaction;
    if action.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: with this flag, the handler has this type.
        let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without this flag, the handler has this type.
        let handler = unsafe { std::mem::transmute::<usize, ShortHandler>(handler) };
        handler(signal);
    }
}

/// The process that sent a signal; 0 if none did.
///
/// # Safety
/// `info` must be what a handler was given.
pub(crate) unsafe fn sender(info: *mut libc::siginfo_t) -> u32 {
    // SAFETY: the kernel provided it.
    if unsafe { (*info).si_code } > 0 {
        return 0;
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the information of a sent signal holds its sender.
    let pid = unsafe { (*info).si_pid() };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: the information of a sent signal holds its sender.
    let pid = unsafe { (*info).si_pid };
    pid.cast_unsigned()
}

/// Saves the thread's `errno`, and restores it when dropped.
pub(crate) struct Errno(libc::c_int);

impl Errno {
    pub(crate) fn keep() -> Self {
        // SAFETY: `errno` belongs to this thread.
        Self(unsafe { *place() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: `errno` belongs to this thread.
        unsafe { *place() = self.0 };
    }
}

fn place() -> *mut libc::c_int {
    #[cfg(target_os = "linux")]
    // SAFETY: no preconditions.
    unsafe {
        libc::__errno_location()
    }
    #[cfg(not(target_os = "linux"))]
    // SAFETY: no preconditions.
    unsafe {
        libc::__error()
    }
}
