//! The barrier between publishing a generation and looking at the writers' flags: see `gate`.

use crate::control::Mode;
use crate::sync::{Ordering, fence};
use std::io;

/// Which side pays for the order of flag and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// The advancing side, by `membarrier(2)`: writers have no fence.
    Membarrier,
    /// Both sides, by a sequentially consistent fence. Where the kernel has no `membarrier`.
    Fence,
}

impl Barrier {
    /// Registers for `membarrier`, or says that there is none.
    pub(crate) fn detect() -> Self {
        #[cfg(target_os = "linux")]
        {
            if command(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED).is_ok() {
                return Self::Membarrier;
            }
        }
        Self::Fence
    }

    /// The one that writers count on.
    pub(crate) fn of(mode: Mode) -> Self {
        if mode.is_fenced() { Self::Fence } else { Self::Membarrier }
    }

    /// Issues it. Safe in a signal handler.
    ///
    /// # Errors
    /// The kernel refuses: a filter was set later. Nothing is ordered then.
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
