//! `lookback record`: everything that a service records, to disk, for as long as it runs.

use super::Run;
use super::limits::parse_bytes;
use super::signals::Signals;
use super::tape::{Bounds, Recording, Tape};
use crate::exit::Verdict;
use crate::process::{self, is_alive};
use crate::ps::chosen;
use crate::saved_snapshot::name_for;
use anyhow::{Context, bail};
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::OsString;
use std::path::PathBuf;

/// How often to check whether the process exists.
const INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Record everything that a service does to disk, for as long as it runs.
#[derive(Args, Debug)]
#[command(after_help = "\
A service keeps a window of some seconds in memory. This command reads each of its generations once, from outside, \
and writes them to NAME-PID-TIME-0001.lbk and so on. Every command that reads snapshots can read each file alone. \
The service never waits for the disk. If the disk stays slower than the service for longer than the window, whole \
generations are missing, and the command says how many.

COMMAND runs as under `lookback run`: this command passes signals on, and if the service dies, it saves the last \
seconds, too. With --pid it records a running process until that ends, or until this command gets SIGINT or SIGTERM.

Exit codes: with COMMAND, those of `lookback run`; with --pid, 0, or 1 if it could not be recorded; 2 wrong usage.

Examples:
  lookback record -o /var/tmp/trace -- my-service --port 8080
  lookback record --pid 4711 -o /var/tmp/trace --max-bytes 10GiB
  lookback summary /var/tmp/trace/my-service-4711-20250102T030405.678Z-0001.lbk")]
pub struct Record {
    /// Directory for the files, created if necessary; the default is the working directory
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Limit on the size of a recording's files and of those that ended processes of its name left; the oldest go first
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = parse_bytes)]
    max_bytes: u64,
    /// Limit on the size of one file; then the next one begins
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = parse_bytes)]
    file_bytes: u64,
    /// Record this running process
    #[arg(long, value_name = "PID", value_parser = process::parse_pid, conflicts_with = "command")]
    pid: Option<u32>,
    /// Which recorder, if the process has several; `lookback ps` numbers them
    #[arg(long, value_name = "N", requires = "pid", value_parser = clap::value_parser!(u32).range(1..))]
    recorder: Option<u32>,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required_unless_present = "pid",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

impl Record {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let bounds = Bounds { file_bytes: self.file_bytes, max_bytes: self.max_bytes };
        if bounds.file_bytes > bounds.max_bytes / 2 {
            bail!(
                "--file-bytes must be at most half of --max-bytes: the oldest file is deleted to make room for the next"
            );
        }
        match self.pid {
            Some(pid) => attach(pid, self.recorder, self.out.unwrap_or_default(), bounds),
            None => {
                let (out, command) = (self.out, self.command);
                let run = Run { out, always: false, files: None, max_bytes: None, command };
                run.recorded(Some(bounds))
            }
        }
    }
}

/// Records a running process until it ends or a signal comes.
fn attach(
    pid: u32,
    recorder: Option<u32>,
    directory: PathBuf,
    bounds: Bounds,
) -> anyhow::Result<Verdict> {
    let arena = chosen(pid, recorder).map_err(|error| error.explain(pid))?;
    let header = arena.header()?;
    if !directory.as_os_str().is_empty() {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("{}: cannot create this directory", directory.display()))?;
    }
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let tape = Tape::new(arena, &directory, name_for(Some(&header), pid), bounds);
    let recording = Recording::start(tape, format!("process {pid}"))?;
    while !recording.has_ended() {
        if !is_alive(pid, header.process_start) {
            recording.end();
        }
        for signal in signals.pending() {
            if signal.ends() {
                recording.end();
            }
            signal.act_upon();
        }
        let mut fds = [PollFd::from_borrowed_fd(signals.descriptor(), PollFlags::IN)];
        // A signal interrupts this: then there is something to do.
        let _ = poll(&mut fds, Some(&INTERVAL));
    }
    Ok(if recording.wait() { Verdict::Sound } else { Verdict::Bad })
}
