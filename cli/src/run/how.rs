//! How a process ended.

use rustix::process::{WaitIdStatus, WaitStatus};
use signal_hook::low_level::signal_name;
use std::fmt;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl How {
    /// As `wait` says it; `None` if it has not ended.
    pub fn of(status: WaitStatus) -> Option<Self> {
        let exited = status.exit_status().map(Self::Exited);
        exited.or_else(|| status.terminating_signal().map(Self::Killed))
    }

    /// As `waitid` says it; `None` if it has not ended.
    pub fn of_id(status: &WaitIdStatus) -> Option<Self> {
        let exited = status.exit_status().map(Self::Exited);
        exited.or_else(|| status.terminating_signal().map(Self::Killed))
    }

    /// As a process's line in `/proc` says it.
    pub fn of_raw(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Exited(status >> 8 & 0xff),
            signal => Self::Killed(signal),
        }
    }

    /// The exit code that says so.
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
    fn an_end_has_words_and_a_code() {
        let told = |status| (How::of_raw(status).to_string(), How::of_raw(status).code());
        assert_eq!(told(3 << 8), ("exited with 3".into(), 3));
        assert_eq!(told(9), ("killed by SIGKILL".into(), 137));
        assert_eq!(told(11 | 0x80), ("killed by SIGSEGV".into(), 139), "a core was dumped");
        assert_eq!(told(40), ("killed by signal 40".into(), 168));
    }
}
