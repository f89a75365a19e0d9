//! How a command ends: what it says when something is wrong, and its exit code.

use crate::arena_file;
use crate::text::{escape, shell_word};
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

/// So long nobody wonders why nothing happens.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Sound,
    /// The input is damaged, or a check failed. What is wrong has been said.
    Bad,
    /// What a command that was run has ended with.
    Code(u8),
}

/// The exit code of a command. Says on one line of stderr what went wrong, if it did.
pub fn conclude(outcome: anyhow::Result<Verdict>) -> ExitCode {
    match outcome {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        Ok(Verdict::Code(code)) => ExitCode::from(code),
        // Who reads the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Whatever is read or saved names its file; what is left is the output.
            let bare = error.chain().count() == 1 && error.is::<io::Error>();
            let what = if bare { "cannot write the output: " } else { "" };
            complain(&format!("{what}{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line on stderr.
pub fn complain(what: &str) {
    let name = console::Style::new().for_stderr().red().bold().apply_to("lookback:");
    // If there is nobody to tell, there is nobody to tell that to either.
    let _ = writeln!(io::stderr(), "{name} {}", escape(what));
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// Opens a snapshot. The error says what to do.
pub fn open(path: &Path) -> anyhow::Result<Trace> {
    told_of_waiting(path, || Trace::open(path)).map_err(|error| {
        let file = path.display();
        let Reason::Io { kind, message } = error.reason() else {
            return match arena_file::is_arena(path) {
                true => anyhow!(
                    "{file}: a black box, not a snapshot; `lookback recover {}` makes a snapshot of it",
                    shell_word(path)
                ),
                false => anyhow!("{error}"),
            };
        };
        match kind {
            io::ErrorKind::NotFound => {
                anyhow!("{file}: there is no such file; `lookback demo` makes one to look at")
            }
            io::ErrorKind::IsADirectory => match snapshot_in(path) {
                Some(inside) => anyhow!("{file}: a directory, not a snapshot; try {inside}"),
                None => anyhow!("{file}: a directory, and there is no .lbk file in it"),
            },
            io::ErrorKind::PermissionDenied => anyhow!(
                "{file}: permission denied; a snapshot can be read by the user it was saved by"
            ),
            _ => anyhow!("{file}: cannot be read: {message}"),
        }
    })
}

/// Does `work`, and says so if that has to wait for somebody who writes to a FIFO.
fn told_of_waiting<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    if !std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return work();
    }
    let (done, is_done) = mpsc::channel::<()>();
    let waiting = format!("{}: a FIFO: waiting for who writes to it", path.display());
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

/// Damage that was met, each thing once.
#[derive(Default)]
pub struct Damage {
    seen: HashSet<String>,
    lines: Vec<String>,
    more: u64,
}

impl Damage {
    /// So many are told one by one.
    const MOST: usize = 1000;

    /// What was found when the file was opened.
    pub fn of(trace: &Trace) -> Self {
        let mut damage = Self::default();
        trace.damage().iter().for_each(|error| damage.note(error));
        damage
    }

    /// Notes it, unless it is known.
    pub fn note(&mut self, error: &ReadError) {
        let line = error.to_string();
        if self.lines.len() >= Self::MOST {
            self.more += u64::from(!self.seen.contains(&line));
        } else if self.seen.insert(line.clone()) {
            self.lines.push(line);
        }
    }

    /// Every line of it.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Says what is damaged, and so decides.
    pub fn tell(&self) -> Verdict {
        self.lines.iter().for_each(|line| complain(line));
        if self.more > 0 {
            complain(&format!("and {} more of the kind", self.more));
        }
        if self.lines.is_empty() { Verdict::Sound } else { Verdict::Bad }
    }
}
