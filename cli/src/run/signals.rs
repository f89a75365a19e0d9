//! The signals that are passed on to the service, as if they had been sent to it.
//!
//! What a terminal sends (Ctrl-C, Ctrl-Z, a change of its size) goes to all processes of a group, so
//! the service has it already if it is still in ours. The kernel says whether it was a terminal.

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

/// One that came.
pub struct Signal {
    number: i32,
    kind: Kind,
    /// A terminal sent it.
    by_terminal: bool,
}

impl Signals {
    /// From now on signals wait until they are asked for. Those that are ignored stay ignored, also
    /// in the service: `nohup` is to work.
    pub fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let ignored = crate::process::status_line(std::process::id(), "SigIgn:");
        let ignored = ignored.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or(0);
        let passed_on = PASSED_ON.iter().map(|(number, _)| *number);
        let heeded = passed_on.filter(|number| ignored >> (number - 1) & 1 == 0).chain([SIGCHLD]);
        let delivery = SignalDelivery::with_pipe(read, write, WithOrigin::default(), heeded)?;
        Ok(Self { delivery })
    }

    /// Can be read from when a signal has come.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// Those that have come and are to be passed on.
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
    /// Sends it on, if the process does not have it already.
    pub fn pass_on_to(&self, pid: Pid) {
        if !self.has_reached(pid) {
            // If it is gone, that is noticed elsewhere.
            let _ = kill_process(pid, self.kind);
        }
    }

    /// As [`pass_on_to`](Self::pass_on_to), to a process that is not our child.
    pub fn pass_on_through(&self, pid: Pid, descriptor: &OwnedFd) {
        if !self.has_reached(pid) {
            let _ = pidfd_send_signal(descriptor, self.kind);
        }
    }

    fn has_reached(&self, pid: Pid) -> bool {
        // Of /proc: the system's own calls say 0 for what is outside of this namespace, which rustix
        // takes to be impossible.
        let ours = Stat::of(std::process::id());
        let theirs = Stat::of(super::number(pid));
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return false };
        let same_group = ours.group == theirs.group;
        // A terminal that hangs up tells the leader of the session alone.
        let leader_alone = self.number == SIGHUP && ours.session == std::process::id();
        self.by_terminal && same_group && !leader_alone
    }

    /// What it means for this process itself: after all else, Ctrl-Z stops it, too.
    pub fn act_upon(&self) {
        if self.number == SIGTSTP {
            let _ = emulate_default_handler(SIGTSTP);
        }
    }
}
