//! A timer on the CPU time of another thread: each time that the thread has used so much of it, the thread gets a signal.
//!
//! The calls of the system are made directly: older C libraries have theirs in a library of its own.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// A timer, deleted when dropped. It ends with its thread, too; then nothing happens any more.
#[derive(Debug)]
pub(crate) struct CpuTimer(libc::c_int);

impl CpuTimer {
    /// Starts one for a thread of this process, by the kernel's number of it. The signal comes with `value`.
    ///
    /// # Errors
    /// The kernel refuses it: `EAGAIN` where the user has too many signals queued (`RLIMIT_SIGPENDING` counts each timer),
    /// `EINVAL` where there is no such thread.
    pub(crate) fn start(
        os_thread: u64,
        signal: libc::c_int,
        interval: Duration,
        value: usize,
    ) -> io::Result<Self> {
        let thread = libc::pid_t::try_from(os_thread)
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: all zeroes are a valid event.
        let mut event = unsafe { MaybeUninit::<libc::sigevent>::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_value.sival_ptr = std::ptr::without_provenance_mut(value);
        event.sigev_notify_thread_id = thread;
        let mut number: libc::c_int = 0;
        // SAFETY: the places are valid.
        let made = unsafe {
            libc::syscall(
                libc::SYS_timer_create,
                clock_of(thread),
                &raw const event,
                &raw mut number,
            )
        };
        if made != 0 {
            return Err(io::Error::last_os_error());
        }
        let timer = Self(number);
        // SAFETY: all zeroes are a valid setting.
        let mut setting = unsafe { MaybeUninit::<libc::itimerspec>::zeroed().assume_init() };
        setting.it_interval.tv_sec = interval.as_secs() as _;
        setting.it_interval.tv_nsec = interval.subsec_nanos() as _;
        setting.it_value = setting.it_interval;
        // SAFETY: the setting is valid, and the old one is not asked for.
        let set = unsafe {
            let nowhere = std::ptr::null_mut::<libc::itimerspec>();
            libc::syscall(libc::SYS_timer_settime, number, 0, &raw const setting, nowhere)
        };
        if set == 0 { Ok(timer) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for CpuTimer {
    fn drop(&mut self) {
        // SAFETY: it was made here, and nobody else knows it.
        unsafe { libc::syscall(libc::SYS_timer_delete, self.0) };
    }
}

/// The clock of the CPU time that a thread has used, as the kernel makes it of the thread's number.
fn clock_of(thread: libc::pid_t) -> libc::clockid_t {
    /// Of one thread, and as the scheduler counts.
    const OF_THREAD: libc::clockid_t = 4 | 2;
    !thread << 3 | OF_THREAD
}

/// What came with a timer's signal: its value, and how often the interval has passed beyond once. `None` if something
/// else sent the signal.
///
/// # Safety
/// `info` must be what a handler was given.
pub(crate) unsafe fn said_by(info: *const libc::siginfo_t) -> Option<(usize, u32)> {
    /// As the kernel fills it for a timer, on machines of 64 bits.
    #[repr(C)]
    struct OfTimer {
        signal: libc::c_int,
        error: libc::c_int,
        code: libc::c_int,
        _room: libc::c_int,
        timer: libc::c_int,
        overrun: libc::c_int,
        value: usize,
    }
    const _: () = assert!(size_of::<OfTimer>() <= size_of::<libc::siginfo_t>());
    const SI_TIMER: libc::c_int = -2;
    // SAFETY: it is that long, and all of it is numbers.
    let info = unsafe { &*info.cast::<OfTimer>() };
    (info.code == SI_TIMER).then_some((info.value, info.overrun.max(0).cast_unsigned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_not_there_has_no_timer() {
        // A process of its own.
        let refused = CpuTimer::start(1, libc::SIGRTMAX(), Duration::from_secs(1), 0);
        assert!(refused.is_err() || std::process::id() == 1);
    }
}
