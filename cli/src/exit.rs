//! How a command ends: its error messages on stderr and its exit code. `docs/errors.md` lists the messages.

use crate::arena_file;
use crate::format::{escape, shell_word};
use crate::process::{self, parse_pid};
use anyhow::anyhow;
use lookback::read::{ReadError, Reason, Trace};
use std::collections::HashSet;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long to wait for a writer to a FIFO before saying so.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Sound,
    /// The input is damaged, or a check failed. The error has been printed.
    Bad,
    /// The exit code of the command that `lookback run` ran.
    Code(u8),
}

/// Turns the outcome into an exit code. Prints an error as one line on stderr.
pub fn conclude(outcome: anyhow::Result<Verdict>) -> ExitCode {
    match outcome {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Ok(Verdict::Code(code)) => ExitCode::from(code),
        // The reader of the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Every other error names its file; a bare I/O error comes from writing the output.
            let bare = error.chain().count() == 1 && error.is::<io::Error>();
            let what = if bare { "cannot write to standard output: " } else { "" };
            complain(&format!("{what}{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints one line on stderr.
pub fn complain(what: &str) {
    let name = console::Style::new().for_stderr().red().bold().apply_to("lookback:");
    // If stderr cannot be written to, there is no other place to report it.
    let _ = writeln!(io::stderr(), "{name} {}", escape(what));
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// Opens a snapshot. The error names the file, what is wrong, and what to do.
pub fn open(path: &Path) -> anyhow::Result<Trace> {
    reporting_a_wait(path, || Trace::open(path)).map_err(|error| {
        let file = path.display();
        let Reason::Io { kind, message } = error.reason() else {
            return match arena_file::is_arena(path) {
                true => anyhow!(
                    "{file}: this is a black box, not a snapshot; `lookback recover {}` makes a snapshot of it",
                    shell_word(path)
                ),
                false => anyhow!("{error}"),
            };
        };
        match kind {
            io::ErrorKind::NotFound if process_named(path).is_some() => {
                let pid = process_named(path).unwrap_or_default();
                anyhow!("{file}: no such file, but a process; `lookback snapshot {pid}` takes a snapshot of it")
            }
            io::ErrorKind::NotFound if cfg!(feature = "demo") => {
                anyhow!("{file}: no such file; `lookback demo` records an example")
            }
            io::ErrorKind::NotFound => anyhow!(
                "{file}: no such file; `lookback snapshot PID` takes a snapshot of a running service"
            ),
            io::ErrorKind::IsADirectory => match snapshot_in(path) {
                Some(inside) => anyhow!("{file}: this is a directory; the newest snapshot in it is {inside}"),
                None => anyhow!("{file}: this is a directory with no .lbk file in it; name a snapshot"),
            },
            io::ErrorKind::PermissionDenied => anyhow!(
                "{file}: permission denied; read it as the user whose process saved it, or as root"
            ),
            _ => anyhow!("{file}: cannot be read: {message}"),
        }
    })
}

/// The number of the process that was named in place of a file.
fn process_named(path: &Path) -> Option<u32> {
    let pid = parse_pid(path.to_str()?).ok()?;
    process::command(pid).map(|_| pid)
}

/// Does `work`. Prints a line if it has to wait for a writer to a FIFO.
fn reporting_a_wait<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    if !std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return work();
    }
    let (done, is_done) = mpsc::channel::<()>();
    let waiting = format!("{}: this is a FIFO; waiting for a writer", path.display());
    thread::spawn(move || {
        if is_done.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            complain(&waiting);
        }
    });
    let result = work();
    drop(done);
    result
}

/// The newest snapshot in a directory.
fn snapshot_in(directory: &Path) -> Option<String> {
    let entries = directory.read_dir().ok()?.filter_map(Result::ok);
    let snapshots = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "lbk"));
    let newest = snapshots.max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok())?;
    Some(shell_word(&newest.path()).into_owned())
}

/// The damage found in a file, without duplicates.
#[derive(Default)]
pub struct Damage {
    seen: HashSet<String>,
    lines: Vec<String>,
    more: u64,
}

impl Damage {
    /// How many are printed one by one.
    const MOST: usize = 1000;

    /// The damage found when the file was opened.
    pub fn of(trace: &Trace) -> Self {
        let mut damage = Self::default();
        trace.damage().iter().for_each(|error| damage.note(error));
        damage
    }

    /// Adds it, unless it is known already.
    pub fn note(&mut self, error: &ReadError) {
        self.add(error.to_string());
    }

    /// The same for what is said already.
    pub fn add(&mut self, line: String) {
        if self.lines.len() >= Self::MOST {
            self.more += u64::from(!self.seen.contains(&line));
        } else if self.seen.insert(line.clone()) {
            self.lines.push(line);
        }
    }

    /// What was read, if it could be; otherwise notes why not.
    pub fn noted<T>(&mut self, read: Result<T, ReadError>) -> Option<T> {
        read.inspect_err(|error| self.note(error)).ok()
    }

    /// Every line of it.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Prints every line. The verdict is `Bad` if there is any.
    pub fn tell(&self) -> Verdict {
        self.lines.iter().for_each(|line| complain(line));
        if self.more > 0 {
            complain(&format!("… and {} more, not listed", self.more));
        }
        if self.lines.is_empty() { Verdict::Sound } else { Verdict::Bad }
    }
}
