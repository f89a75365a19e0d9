//! What can go wrong, in words.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a recorder could not start, or a snapshot could not be taken or saved.
///
/// `{:?}` is the same line as `{}`: it is what a service prints whose `main` returns this.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting of the builder makes no sense.
    #[error("{name} = {value}: {reason}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What would make sense.
        reason: &'static str,
    },
    /// A variable of the environment is not understood.
    #[error("{variable} = {value}: {reason}")]
    Environment {
        /// Its name.
        variable: String,
        /// What it was set to, in quotes; if that is long, the front of it.
        value: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// There is a recorder already.
    #[error("this process is being recorded already; one recorder a process")]
    AlreadyRecording,
    /// There is no recorder.
    #[error("this process is not being recorded: no recorder was started, or it was stopped")]
    NotRecording,
    /// This is a child of the process that records.
    #[error("this process was forked from one that is being recorded, and is not recorded itself")]
    Forked,
    /// The arena could not be had.
    #[error("no arena of {length} bytes: {error}")]
    Arena {
        /// How large it was to be.
        length: usize,
        /// What the operating system said.
        error: io::Error,
    },
    /// The black box could not be had.
    #[error("the black box {}: {error}", path.display())]
    BlackBox {
        /// Where it was to be.
        path: PathBuf,
        /// What is in its way.
        error: io::Error,
    },
    /// The operating system refused something else that recording needs.
    #[error("{what}: {error}")]
    System {
        /// What was refused.
        what: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
    /// A thread was inside an event for so long that its generation could not be completed.
    #[error("a thread has been in the middle of an event for {0:?}; is it stopped by a debugger?")]
    Stuck(Duration),
    /// Writers were faster than the copy, every time.
    #[error("the arena was overwritten faster than it could be copied; a larger `max_bytes` helps")]
    Overtaken,
    /// Recording had to stop.
    #[error("recording stopped: {0}")]
    Broken(String),
    /// A file could not be written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the operating system said.
        error: io::Error,
    },
    /// A writer that was given failed.
    #[error("writing the snapshot: {0}")]
    Write(#[from] io::Error),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
