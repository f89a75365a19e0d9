//! The recorder's errors.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a recorder could not start, or a snapshot could not be taken or saved.
///
/// `{:?}` prints the same line as `{}`, because `{:?}` is what a service prints whose `main`
/// returns this.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting of the builder is invalid.
    #[error("{name} = {value}: {reason}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// Which values are valid.
        reason: &'static str,
    },
    /// An environment variable has an invalid value.
    #[error("{variable} = {value}: {reason}")]
    Environment {
        /// The variable's name.
        variable: String,
        /// The value that was given, in quotes; if it is long, only the front of it.
        value: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A recorder is running already.
    #[error("this process already has a recorder; stop that one before you start another")]
    AlreadyRecording,
    /// No recorder is running.
    #[error(
        "this process is not being recorded: no recorder was started, or it was stopped or dropped; keep the `Recorder` that `start` returns"
    )]
    NotRecording,
    /// This process was forked from the one that records.
    #[error(
        "this process was forked from a recorded one and is not recorded itself; start a recorder after the fork"
    )]
    Forked,
    /// The arena could not be allocated.
    #[error(
        "cannot allocate an arena of {length} bytes: {error}; a smaller `max_bytes` needs less"
    )]
    Arena {
        /// The requested size in bytes.
        length: usize,
        /// The operating system's error.
        error: io::Error,
    },
    /// The black box could not be created.
    #[error("the black box {}: {error}", path.display())]
    BlackBox {
        /// The path of the black box.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The operating system refused something else that recording needs.
    #[error("{what}: {error}")]
    System {
        /// What was refused.
        what: &'static str,
        /// The operating system's error.
        error: io::Error,
    },
    /// A thread was inside an event for this long, so its generation could not be completed.
    #[error("a thread has been in the middle of an event for {0:?}; is it stopped by a debugger?")]
    Stuck(Duration),
    /// Writers overtook the copy, every time.
    #[error("the arena was overwritten faster than it could be copied; set a larger `max_bytes`")]
    Overtaken,
    /// Recording had to stop.
    #[error("recording stopped: {0}")]
    Broken(String),
    /// A file could not be written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file's path.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// The caller's writer failed.
    #[error("writing the snapshot: {0}")]
    Write(io::Error),
    /// The arena could not be copied.
    #[error("the arena{} cannot be read: {error}", in_box(path.as_deref()))]
    Read {
        /// The black box that holds the arena, if it is not in memory alone.
        path: Option<PathBuf>,
        /// The operating system's error.
        error: io::Error,
    },
}

fn in_box(path: Option<&Path>) -> String {
    path.map_or(String::new(), |path| format!(" in the black box {}", path.display()))
}

impl Error {
    /// Turns a writer's error into one of this file.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Write(error) => Self::File { path: path.to_owned(), error },
            other => other,
        }
    }

    /// A copy, for all callers that wait for the same snapshot.
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
