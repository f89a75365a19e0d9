//! `lookback run`: starts a service, holds the arenas of every process that it starts, and saves their last
//! seconds when they die, however they die.
//!
//! One loop waits for everything: for processes that hand over their arenas, for those to end, and for
//! signals to pass on. The service does not depend on it: if this process is killed, the service continues.

mod earlier;
mod exit_status;
mod fd_listener;
mod limits;
mod record;
mod signals;
mod tape;
#[cfg(test)]
mod test_arena;
mod watched_processes;

use crate::exit::{Verdict, complain};
use crate::format::{counted, escape};
use anyhow::Context;
use clap::Args;
use exit_status::How;
use fd_listener::Handover;
use limits::Limits;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait};
use signals::{Signal, Signals};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;
use tape::Bounds;
use watched_processes::Held;

pub use record::Record;

/// Run a service, and save its last seconds if it dies, however it dies.
#[derive(Args, Debug)]
#[command(after_help = "\
When a recorder starts in the service, or in any process that the service starts, it hands its arena to \
this command. That needs no code, no black box and no disk. When such a process ends, this command saves \
its last seconds to NAME-PID-TIME-run.lbk, with how it ended as the reason. It skips a process that ended its \
recording in order and exited with 0, and one that was asked to end and did so: after SIGTERM, SIGINT or \
SIGHUP to this command, a process that is killed by that signal, or exits with 0 or 128 + N. --always saves \
these, too. The service keeps running if this command is killed.

A service that dies again and again does not fill the disk: of these files, those of one NAME stay within \
--files and --max-bytes; the oldest are deleted before a new one is written.

This command passes signals on to the service: SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, \
SIGCONT, SIGTSTP, SIGWINCH. Signals from a terminal reach the service without it. As process 1 of a \
container it also reaps orphans. If the service ends and leaves recorded processes behind (because it \
went into the background, say), it waits for those, too. The service must run as the same user as this \
command.

Exit codes: that of COMMAND; 128 + N if signal N killed it; 127 if COMMAND does not exist, 126 if it \
cannot be run; 1 if it was not started for another reason; 2 wrong usage.

Examples:
  lookback run -- my-service --port 8080
  lookback run -o /var/lib/my-service/incidents -- my-service
  docker run -v incidents:/incidents image lookback run -o /incidents -- my-service")]
pub struct Run {
    /// Directory for the snapshots, created if necessary; the default is the working directory
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also save the last seconds of processes that end in order
    #[arg(long)]
    always: bool,
    /// Limit on the number of files of a process's name; the default is LOOKBACK_SNAPSHOT_FILES, or 32
    #[arg(long, value_name = "N", value_parser = limits::parse_files)]
    files: Option<usize>,
    /// Limit on their size together; the default is LOOKBACK_SNAPSHOT_BYTES, or 1GiB
    #[arg(long, value_name = "BYTES", value_parser = limits::parse_bytes)]
    max_bytes: Option<u64>,
    /// The command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

/// How long to wait before retrying after no descriptor was available, or for a process that cannot be waited
/// for.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

impl Run {
    pub fn run(self) -> anyhow::Result<Verdict> {
        self.recorded(None)
    }

    /// Runs the command; with bounds for a recording, also writes each generation to disk.
    fn recorded(self, recording: Option<Bounds>) -> anyhow::Result<Verdict> {
        let directory = self.out.clone().unwrap_or_default();
        if self.out.is_some() {
            std::fs::create_dir_all(&directory).with_context(|| {
                format!("{}: cannot create this directory", directory.display())
            })?;
        }
        let program = self.command[0].to_string_lossy().into_owned();
        let signals = Signals::catch().context("cannot catch signals")?;
        // A failure here does not keep the service from starting: the service matters most.
        let handover = Handover::listen()
            .map_err(|error| {
                complain(&format!(
                    "{program}: {error:#}; the service runs, but nothing is saved when it dies"
                ));
            })
            .ok();
        // Makes this process reap the service's orphans. Without that, less is known about their ends.
        let _ = set_child_subreaper(Some(getpid()));
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        match &handover {
            Some(handover) => command.env(lookback::command::RUN_SOCKET, handover.path()),
            // The socket of an outer `lookback run` must not be mistaken for ours.
            None => command.env_remove(lookback::command::RUN_SOCKET),
        };
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                complain(&format!("{program}: cannot be run: {error}"));
                let missing = error.kind() == io::ErrorKind::NotFound;
                return Ok(Verdict::Code(if missing { 127 } else { 126 }));
            }
        };
        let service = Service { pid: child.id(), ended: None };
        let limits = Limits::of(self.files, self.max_bytes);
        let held = Held::new(directory, limits, self.always, recording);
        let mut running = Running { program, service, signals, handover, held };
        Ok(Verdict::Code(running.wait().code()))
    }
}

/// The command that was started.
struct Service {
    pid: u32,
    ended: Option<How>,
}

struct Running {
    program: String,
    service: Service,
    signals: Signals,
    handover: Option<Handover>,
    held: Held,
}

impl Running {
    /// Waits until the service and every process that handed over an arena have ended. Returns how the
    /// service ended.
    fn wait(&mut self) -> How {
        let mut told = false;
        loop {
            // A dead process's messages are in the queue already, so take arenas first. Read signals before
            // that: a child that ends afterwards is noticed the next time.
            let signals = self.signals.pending();
            signals.iter().for_each(|signal| self.held.note_signal(signal));
            self.take();
            self.reap();
            if self.service.ended.is_some() {
                self.held.give_up_unseen();
            }
            self.held.save_dead();
            self.pass_on(signals);
            if let Some(how) = self.service.ended {
                if self.held.is_empty() && !self.take() && !self.held.is_ending() {
                    self.say_if_nothing_came();
                    return how;
                }
                if !told && !self.held.is_empty() {
                    told = true;
                    let left = counted(self.held.len() as u64, "recorded process");
                    say(&format!(
                        "{}: {how}; waiting for {left} that it left behind",
                        self.program
                    ));
                }
            }
            self.sleep();
        }
    }

    /// Takes the arenas that were handed over. Returns whether there were any.
    fn take(&mut self) -> bool {
        self.handover.as_mut().is_some_and(|handover| handover.take(&mut self.held))
    }

    /// Sleeps until something happens.
    fn sleep(&mut self) {
        let is_ending = self.held.is_ending();
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.descriptor(), PollFlags::IN)];
        let rests = self.handover.as_ref().is_some_and(|handover| handover.add_to(&mut fds));
        let blind = self.held.add_to(&mut fds);
        // A signal interrupts this: then there is something to do.
        let looks_again = rests || blind || is_ending;
        let _ = poll(&mut fds, looks_again.then_some(&PAUSE));
    }

    /// Reaps every child that has ended, including orphans.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let (Some(how), pid) = (How::of(status), number(pid)) else { continue };
            if pid == self.service.pid {
                self.service.ended = Some(how);
            }
            self.held.note_end(pid, how);
        }
    }

    fn pass_on(&self, signals: Vec<Signal>) {
        let service = self.service.ended.is_none().then_some(self.service.pid);
        for signal in signals {
            match service.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                Some(service) => signal.pass_on_to(service),
                None => self.held.pass_on(&signal),
            }
            signal.act_upon();
        }
    }

    fn say_if_nothing_came(&self) {
        if self.held.ever == 0 && self.handover.is_some() {
            complain(&format!(
                "{}: no recorder handed its arena over; start one in the service, as this user",
                self.program
            ));
        }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Prints one line on stderr that is not an error.
fn say(what: &str) {
    let name = console::Style::new().for_stderr().dim().apply_to("lookback:");
    let _ = writeln!(io::stderr(), "{name} {}", escape(what));
}
