//! What can go wrong, in words.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
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
    Write(io::Error),
    /// The arena could not be copied.
    #[error("the arena{} cannot be read: {error}", in_box(path.as_deref()))]
    Read {
        /// The black box that it lies in, if it does not lie in memory alone.
        path: Option<PathBuf>,
        /// What the operating system said.
        error: io::Error,
    },
}

fn in_box(path: Option<&Path>) -> String {
    path.map_or(String::new(), |path| format!(" in the black box {}", path.display()))
}

impl Error {
    /// What a writer says, which is that of this file.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Write(error) => Self::File { path: path.to_owned(), error },
            other => other,
        }
    }

    /// The same once more, for everybody who waits for one snapshot.
    pub(crate) fn again(&self) -> Self {
        let again = |error: &io::Error| match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), error.to_string()),
        };
        match self {
            Self::Setting { name, value, reason } => {
                Self::Setting { name, value: value.clone(), reason }
            }
            Self::Environment { variable, value, reason } => Self::Environment {
                variable: variable.clone(),
                value: value.clone(),
                reason: reason.clone(),
            },
            Self::AlreadyRecording => Self::AlreadyRecording,
            Self::NotRecording => Self::NotRecording,
            Self::Forked => Self::Forked,
            Self::Arena { length, error } => Self::Arena { length: *length, error: again(error) },
            Self::BlackBox { path, error } => {
                Self::BlackBox { path: path.clone(), error: again(error) }
            }
            Self::System { what, error } => Self::System { what, error: again(error) },
            Self::Stuck(patience) => Self::Stuck(*patience),
            Self::Overtaken => Self::Overtaken,
            Self::Broken(reason) => Self::Broken(reason.clone()),
            Self::File { path, error } => Self::File { path: path.clone(), error: again(error) },
            Self::Write(error) => Self::Write(again(error)),
            Self::Read { path, error } => Self::Read { path: path.clone(), error: again(error) },
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
