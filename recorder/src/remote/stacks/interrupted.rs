//! Interrupting a thread of another process, for as long as its registers and its stack are read.
//!
//! It is seized (`PTRACE_SEIZE`), which does not stop it, interrupted, and let go. The kernel lets all threads go when the
//! thread that has seized them ends, however that happens: also if the command is killed, or gives up on one that does not
//! answer. One that does not answer in time (its group of processes may have used up its share of the cores) stops later,
//! and is let go as soon as that is noticed.

use crate::stack::unwind::Registers;
use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// How long an interrupted thread is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Says that running threads may be interrupted. Stays on the thread that has it, since that alone may let them go.
pub(super) struct Tracing {
    patience: Duration,
    /// Threads that were interrupted, and had not stopped when they were last looked at.
    late: RefCell<Vec<libc::pid_t>>,
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

/// Why a thread could not be interrupted.
#[derive(Debug)]
pub(super) enum Failed {
    /// It has ended.
    Gone,
    /// The kernel does not allow it, or a debugger has it.
    Refused,
    /// It did not stop in time: it waits for a device, or for a core.
    NoAnswer,
}

/// A thread that stands still until this is dropped.
pub(super) struct Stopped {
    thread: libc::pid_t,
    /// A signal that came first, which the thread is to get.
    signal: libc::c_int,
}

impl Tracing {
    pub(super) fn new() -> Self {
        let late = RefCell::default();
        Self { patience: PATIENCE, late, _of_this_thread: std::marker::PhantomData }
    }

    /// Stops a thread.
    pub(super) fn stopped(&self, thread: u64) -> Result<Stopped, Failed> {
        let thread = libc::pid_t::try_from(thread).map_err(|_| Failed::Gone)?;
        request(libc::PTRACE_SEIZE, thread, 0)?;
        request(libc::PTRACE_INTERRUPT, thread, 0)?;
        let began = Instant::now();
        loop {
            if let Some(stopped) = Stopped::now(thread)? {
                return Ok(stopped);
            }
            if began.elapsed() > self.patience {
                self.late.borrow_mut().push(thread);
                return Err(Failed::NoAnswer);
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// Lets threads go that have stopped late. To be called all the time until this thread ends, which lets all go.
    pub(super) fn release_late(&self) {
        self.late.borrow_mut().retain(|thread| matches!(Stopped::now(*thread), Ok(None)));
    }
}

fn request(request: libc::c_uint, thread: libc::pid_t, data: usize) -> Result<(), Failed> {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    let data = std::ptr::without_provenance_mut::<libc::c_void>(data);
    // SAFETY: these requests neither read nor write this process's memory.
    if unsafe { libc::ptrace(request, thread, nothing, data) } == 0 {
        return Ok(());
    }
    Err(match io::Error::last_os_error().raw_os_error() {
        Some(libc::ESRCH) => Failed::Gone,
        _ => Failed::Refused,
    })
}

impl Stopped {
    /// The thread, if it has stopped by now.
    fn now(thread: libc::pid_t) -> Result<Option<Self>, Failed> {
        let mut status = 0;
        // SAFETY: the place is valid.
        let found = unsafe { libc::waitpid(thread, &mut status, libc::__WALL | libc::WNOHANG) };
        if found == 0 {
            return Ok(None);
        }
        if found != thread || !libc::WIFSTOPPED(status) {
            return Err(Failed::Gone);
        }
        let is_ours = status >> 16 == libc::PTRACE_EVENT_STOP;
        let signal = if is_ours { 0 } else { libc::WSTOPSIG(status) };
        Ok(Some(Self { thread, signal }))
    }

    /// Its registers; `None` if it was killed meanwhile.
    pub(super) fn registers(&self) -> Option<Registers> {
        let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
        let mut place = libc::iovec {
            iov_base: registers.as_mut_ptr().cast(),
            iov_len: size_of::<libc::user_regs_struct>(),
        };
        // The general ones.
        let kind = std::ptr::without_provenance_mut::<libc::c_void>(libc::NT_PRSTATUS as usize);
        // SAFETY: the place has room for what the kernel writes, of which it is told the length.
        let done =
            unsafe { libc::ptrace(libc::PTRACE_GETREGSET, self.thread, kind, &raw mut place) == 0 };
        if !done || place.iov_len < size_of::<libc::user_regs_struct>() {
            return None;
        }
        // SAFETY: zeroed, and then written by the kernel; any bits are valid.
        let registers = unsafe { registers.assume_init() };
        #[cfg(target_arch = "x86_64")]
        let found = Registers { pc: registers.rip, sp: registers.rsp, fp: Some(registers.rbp) };
        #[cfg(target_arch = "aarch64")]
        let found = Registers { pc: registers.pc, sp: registers.sp, fp: Some(registers.regs[29]) };
        Some(found)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = request(libc::PTRACE_DETACH, self.thread, self.signal.unsigned_abs() as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::status_line;

    #[test]
    fn a_thread_that_stops_too_late_is_let_go_while_others_are_looked_at() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let tracing = Tracing { patience: Duration::ZERO, ..Tracing::new() };
        let failed = loop {
            // It may be faster than this.
            if let Err(failed) = tracing.stopped(child.id().into()) {
                break failed;
            }
        };
        if matches!(failed, Failed::NoAnswer) {
            while !tracing.late.borrow().is_empty() {
                tracing.release_late();
                std::thread::yield_now();
            }
            assert_eq!(status_line(child.id(), "TracerPid:").as_deref(), Some("0"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(failed, Failed::NoAnswer | Failed::Refused), "{failed:?}");
    }
}
