//! The signals that are passed on to the service, as if they had been sent to it.
//!
//! A terminal sends its signals (Ctrl-C, Ctrl-Z, a change of its size) to all processes of a group, so the
//! service has them already if it is still in ours. The kernel tells whether a signal came from a terminal.

use crate::process::Stat;
use rustix::process::{Pid, Signal as Kind, kill_process, pidfd_send_signal};
use signal_hook::consts::signal::{
    SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::origin::WithOrigin;
use signal_hook::low_level::emulate_default_handler;
use signal_hook::low_level::siginfo::Cause;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

const PASSED_ON: [(i32, Kind); 9] = [
    (SIGTERM, Kind::TERM),
    (SIGINT, Kind::INT),
    (SIGHUP, Kind::HUP),
    (SIGQUIT, Kind::QUIT),
    (SIGUSR1, Kind::USR1),
    (SIGUSR2, Kind::USR2),
    (SIGCONT, Kind::CONT),
    (SIGTSTP, Kind::TSTP),
    (SIGWINCH, Kind::WINCH),
];

/// See the module.
pub struct Signals {
    delivery: SignalDelivery<UnixStream, WithOrigin>,
}

/// A signal that has arrived.
pub struct Signal {
    number: i32,
    kind: Kind,
    /// Whether a terminal sent it.
    by_terminal: bool,
}

impl Signals {
    /// From now on signals wait until they are read. Ignored ones stay ignored, also in the service, so that
    /// `nohup` works.
    pub fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let ignored = crate::process::status_line(std::process::id(), "SigIgn:");
        let ignored = ignored.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or(0);
        let passed_on = PASSED_ON.iter().map(|(number, _)| *number);
        let heeded = passed_on.filter(|number| ignored >> (number - 1) & 1 == 0).chain([SIGCHLD]);
        let delivery = SignalDelivery::with_pipe(read, write, WithOrigin::default(), heeded)?;
        Ok(Self { delivery })
    }

    /// Becomes readable when a signal has arrived.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// The signals that have arrived and must be passed on.
    pub fn pending(&mut self) -> Vec<Signal> {
        let known = |number| PASSED_ON.iter().find(|(known, _)| *known == number);
        let came = self.delivery.pending();
        came.filter_map(|origin| {
            let (number, kind) = *known(origin.signal)?;
            Some(Signal { number, kind, by_terminal: matches!(origin.cause, Cause::Kernel) })
        })
        .collect()
    }
}

impl Signal {
    /// Sends it to the process, unless the process has it already.
    pub fn pass_on_to(&self, pid: Pid) {
        if !self.has_reached(pid) {
            // If the process is gone, that is noticed elsewhere.
            let _ = kill_process(pid, self.kind);
        }
    }

    /// Like [`pass_on_to`](Self::pass_on_to), for a process that is not our child.
    pub fn pass_on_through(&self, pid: Pid, descriptor: &OwnedFd) {
        if !self.has_reached(pid) {
            let _ = pidfd_send_signal(descriptor, self.kind);
        }
    }

    fn has_reached(&self, pid: Pid) -> bool {
        // From /proc: the system calls return 0 for processes outside this namespace, and rustix treats that
        // as impossible.
        let ours = Stat::of(std::process::id());
        let theirs = Stat::of(super::number(pid));
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return false };
        let same_group = ours.group == theirs.group;
        // A terminal that hangs up signals only the leader of the session.
        let leader_alone = self.number == SIGHUP && ours.session == std::process::id();
        self.by_terminal && same_group && !leader_alone
    }

    /// The signal's number, if it is one by which a service is asked to end in order. SIGQUIT asks for a core dump.
    pub fn asks(&self) -> Option<i32> {
        [SIGTERM, SIGINT, SIGHUP].contains(&self.number).then_some(self.number)
    }

    /// Whether it asks a process to end.
    pub fn ends(&self) -> bool {
        matches!(self.number, SIGTERM | SIGINT | SIGHUP | SIGQUIT)
    }

    /// Applies it to this process: in the end, Ctrl-Z stops this one, too.
    pub fn act_upon(&self) {
        if self.number == SIGTSTP {
            let _ = emulate_default_handler(SIGTSTP);
        }
    }
}
