//! How a process ended.

use rustix::process::{WaitIdStatus, WaitStatus};
use signal_hook::low_level::signal_name;
use std::fmt;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It exited by itself, with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl How {
    /// From the result of `wait`; `None` if it has not ended.
    pub fn of(status: WaitStatus) -> Option<Self> {
        let exited = status.exit_status().map(Self::Exited);
        exited.or_else(|| status.terminating_signal().map(Self::Killed))
    }

    /// From the result of `waitid`; `None` if it has not ended.
    pub fn of_id(status: &WaitIdStatus) -> Option<Self> {
        let exited = status.exit_status().map(Self::Exited);
        exited.or_else(|| status.terminating_signal().map(Self::Killed))
    }

    /// From a process's line in `/proc`.
    pub fn of_raw(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Exited(status >> 8 & 0xff),
            signal => Self::Killed(signal),
        }
    }

    /// Whether a process that ends like this does what these signals ask for: they killed it, or it exited as processes
    /// do that handle them.
    pub fn obeys(self, signals: &[i32]) -> bool {
        match self {
            Self::Exited(0) => !signals.is_empty(),
            Self::Exited(code) => signals.iter().any(|signal| code == 128 + signal),
            Self::Killed(signal) => signals.contains(&signal),
        }
    }

    /// The corresponding exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code as u8,
            Self::Killed(signal) => 128_u8.wrapping_add(signal as u8),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Killed(signal) => match signal_name(signal) {
                Some(name) => write!(f, "killed by {name}"),
                None => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_does_as_it_is_asked_obeys() {
        let asked = [15, 2];
        for how in [How::Exited(0), How::Exited(143), How::Killed(15), How::Killed(2)] {
            assert!(how.obeys(&asked) && !how.obeys(&[]), "{how}");
        }
        for how in [How::Exited(1), How::Exited(137), How::Killed(9), How::Killed(11)] {
            assert!(!how.obeys(&asked), "{how}");
        }
    }

    #[test]
    fn an_end_has_words_and_a_code() {
        let told = |status| (How::of_raw(status).to_string(), How::of_raw(status).code());
        assert_eq!(told(3 << 8), ("exited with 3".into(), 3));
        assert_eq!(told(9), ("killed by SIGKILL".into(), 137));
        assert_eq!(told(11 | 0x80), ("killed by SIGSEGV".into(), 139), "a core was dumped");
        assert_eq!(told(40), ("killed by signal 40".into(), 168));
    }
}
