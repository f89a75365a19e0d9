//! Why the arena of another process cannot be read.

#![forbid(unsafe_code)]

use std::fs;
use std::io;

/// Why the arena of another process cannot be read. Prints as one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutsideError {
    /// The process does not exist.
    #[error("process {0}: no such process; `lookback ps` lists the recorded processes")]
    NoProcess(u32),
    /// The process exists and does not record.
    #[error(
        "process {0}: not being recorded: no recorder was started in it, or it was stopped; `lookback doctor {0}` says why"
    )]
    NotRecorded(u32),
    /// The kernel does not allow it.
    #[error(
        "process {pid}: {what} cannot be read ({error}): it belongs to another user, is not dumpable, or has \
         capabilities that this command lacks; run it as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, or \
         give the service a black box, which needs neither"
    )]
    Denied {
        /// The process.
        pid: u32,
        /// What could not be read.
        what: &'static str,
        /// The kernel's error.
        error: io::Error,
    },
    /// The kernel does not allow to read its memory and its stacks.
    #[error("process {pid}: its stacks cannot be read ({error}): {why}")]
    Stacks {
        /// The process.
        pid: u32,
        /// The kernel's error.
        error: io::Error,
        /// The likely reason, and what helps.
        why: &'static str,
    },
    /// The process's arena, or what looks like one, is invalid.
    #[error("{name}: {what}")]
    Damaged {
        /// The process or file.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The output could not be written.
    #[error("writing the snapshot: {0}")]
    Write(io::Error),
    /// Writers overtook the copy, every time.
    #[error(
        "{0}: the arena was overwritten faster than it could be copied; try again, or give the service a larger `max_bytes`"
    )]
    Overtaken(String),
    /// The arena could not be read.
    #[error("{name}: {error}")]
    Io {
        /// The process or file.
        name: String,
        /// The kernel's error.
        error: io::Error,
    },
}

/// What it means that the memory of a process cannot be read.
pub(super) fn denied(pid: u32, error: io::Error) -> OutsideError {
    let is_gone =
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH);
    if is_gone {
        return OutsideError::NoProcess(pid);
    }
    let may_be_named = fs::metadata(format!("/proc/{pid}/maps")).is_ok()
        && fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let why = match yama.trim() {
        "1" if may_be_named => {
            "kernel.yama.ptrace_scope is 1: run it as root, or with CAP_SYS_PTRACE"
        }
        "2" if may_be_named => {
            "kernel.yama.ptrace_scope is 2: run it as root, or with CAP_SYS_PTRACE"
        }
        "3" if may_be_named => {
            "kernel.yama.ptrace_scope is 3: nobody may read them before the machine is restarted without it"
        }
        _ => {
            "it belongs to another user, is not dumpable, or has capabilities that this command lacks; run it as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        }
    };
    OutsideError::Stacks { pid, error, why }
}

impl OutsideError {
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::TimedOut)
    }
}
