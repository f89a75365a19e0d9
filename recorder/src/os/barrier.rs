//! The barrier between publishing a generation and checking the writers' flags: see `gate`.

use crate::os::mode::Mode;
use crate::sync::{Ordering, fence};
use std::io;

/// Which side pays for the order between flag and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Barrier {
    /// The advancing side pays, by `membarrier(2)`; writers need no fence.
    Membarrier,
    /// Both sides pay, by a sequentially consistent fence. For kernels without `membarrier`.
    Fence,
}

impl Barrier {
    /// Registers for `membarrier`, or falls back to fences.
    pub(crate) fn detect() -> Self {
        #[cfg(target_os = "linux")]
        {
            if command(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED).is_ok() {
                return Self::Membarrier;
            }
        }
        Self::Fence
    }

    /// The barrier that writers in this mode rely on.
    pub(crate) fn of(mode: Mode) -> Self {
        if mode.is_fenced() { Self::Fence } else { Self::Membarrier }
    }

    /// Issues the barrier. Async-signal-safe.
    ///
    /// # Errors
    /// The kernel refuses, because a filter was installed later. Then nothing is ordered.
    pub(crate) fn issue(self) -> io::Result<()> {
        fence(Ordering::SeqCst);
        #[cfg(target_os = "linux")]
        if self == Self::Membarrier {
            command(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)?;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn command(command: libc::c_int) -> io::Result<()> {
    // SAFETY: the call touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
