//! `lookback run`: starts a service, holds the arenas of all that it starts, and saves their last
//! seconds when they die, however they die.
//!
//! One loop waits for everything: for processes that hand their arenas over, for those to end, for
//! signals that are to be passed on. Nothing on the way of the service depends on it: when this
//! process is killed, the service goes on.

mod handover;
mod held;
mod how;
mod signals;

use crate::outcome::{Verdict, complain};
use crate::text::{counted, escape};
use anyhow::Context;
use clap::Args;
use handover::Handover;
use held::Held;
use how::How;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait};
use signals::{Signal, Signals};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::Command;

/// Run a service, and save its last seconds if it dies, however it dies.
#[derive(Args, Debug)]
#[command(after_help = "\
A recorder that is started in the service, or in any process that it starts, hands its arena over; no \
code is needed for that, no black box, and no disk. When such a process ends, its last seconds are \
saved to NAME-PID-TIME.lbk, with how it ended as the reason; not those of a process that ended its \
recording in order and exited with 0, unless --always is given. The service keeps running if this \
command is killed.

Signals are passed on to the service: SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, \
SIGTSTP, SIGWINCH; what a terminal sends reaches it already. Works as process 1 of a container, where \
it also waits for orphans. If the service ends and leaves recorded processes behind (it went into the \
background, say), it waits for those, too. The service must run as the same user as this command.

Exit codes: that of COMMAND; 128 + N if signal N killed it; 127 if there is no such command, 126 if it \
cannot be run; 1 if it was not started for another reason; 2 wrong usage.

Examples:
  lookback run -- my-service --port 8080
  lookback run -o /var/lib/my-service/incidents -- my-service
  docker run -v incidents:/incidents image lookback run -o /incidents -- my-service")]
pub struct Run {
    /// The directory for the snapshots, made if it is not there; the working directory unless given
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Save the last seconds of processes that end in order, too
    #[arg(long)]
    always: bool,
    /// The command, and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

/// How long a descriptor that could not be had, or a process that cannot be waited for, is left alone.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

impl Run {
    pub fn run(self) -> anyhow::Result<Verdict> {
        let directory = self.out.clone().unwrap_or_default();
        if self.out.is_some() {
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("{}: cannot make this directory", directory.display()))?;
        }
        let program = self.command[0].to_string_lossy().into_owned();
        let signals = Signals::catch().context("signals cannot be caught")?;
        // The service is started all the same: it is what this is about.
        let handover = Handover::listen()
            .map_err(|error| {
                complain(&format!(
                    "{program}: {error:#}; it is started, but no recording of it is held: nothing is saved when it dies"
                ));
            })
            .ok();
        // So that what the service leaves behind comes to us. If not, we only know less of its end.
        let _ = set_child_subreaper(Some(getpid()));
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        match &handover {
            Some(handover) => command.env(lookback::RUN_SOCKET, handover.path()),
            // One around this one must not be taken for it.
            None => command.env_remove(lookback::RUN_SOCKET),
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
        let held = Held::new(directory, self.always);
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
    /// Waits until the service and all that it has handed over have ended. Says how the service did.
    fn wait(&mut self) -> How {
        let mut told = false;
        loop {
            // What a process has sent is there when it is dead, so arenas are taken first.
            // Signals are heard first: a child that ends after this is heard the next time.
            let signals = self.signals.pending();
            self.take();
            self.reap();
            if self.service.ended.is_some() {
                self.held.give_up_unseen();
            }
            self.held.save_dead();
            self.pass_on(signals);
            if let Some(how) = self.service.ended {
                if self.held.is_empty() && !self.take() {
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

    /// Takes the arenas that were handed over. Whether there were any.
    fn take(&mut self) -> bool {
        self.handover.as_mut().is_some_and(|handover| handover.take(&mut self.held))
    }

    /// Waits for something to happen.
    fn sleep(&self) {
        let mut fds = vec![PollFd::from_borrowed_fd(self.signals.descriptor(), PollFlags::IN)];
        let rests = self.handover.as_ref().is_some_and(|handover| handover.add_to(&mut fds));
        let blind = self.held.add_to(&mut fds);
        // Interrupted by a signal: then there is something to do.
        let _ = poll(&mut fds, (rests || blind).then_some(&PAUSE));
    }

    /// Takes leave of every child that has ended, ours or left to us.
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
                "{}: it never handed a recording over: is a recorder started in it, as this user?",
                self.program
            ));
        }
    }
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// One line on stderr, which is no complaint.
fn say(what: &str) {
    let name = console::Style::new().for_stderr().dim().apply_to("lookback:");
    let _ = writeln!(io::stderr(), "{name} {}", escape(what));
}
