//! The note of a crash: what a signal handler writes into the arena's header when the process is about
//! to die. It has a place of its own there, because the signal may have interrupted an event.

use super::{Nanos, ThreadNumber, Ticks};

/// Offsets within the note, in bytes. All fields are little-endian.
pub mod crash_offset {
    /// u64: 0 when nothing was noted, odd while a note is being written, and then even.
    pub const STATE: usize = 0;
    /// i32, the signal.
    pub const SIGNAL: usize = 8;
    /// i32, the signal's code: above 0 if the kernel sent it for what the thread did.
    pub const CODE: usize = 12;
    /// u64, the address that could not be accessed or executed.
    pub const ADDRESS: usize = 16;
    /// u64, the address of the instruction, 0 where that is not known.
    pub const INSTRUCTION: usize = 24;
    /// u64, the operating system's number of the thread.
    pub const OS_THREAD: usize = 32;
    /// u64, ticks of the recorder's clock.
    pub const TICKS: usize = 40;
    /// u64, nanoseconds of the monotonic clock.
    pub const MONOTONIC: usize = 48;
    /// u64, nanoseconds since 1970-01-01 UTC.
    pub const WALL: usize = 56;
    /// u64, the recorder's number of the thread, 0 if it has none.
    pub const THREAD: usize = 64;
    /// u64, 1 once a handler that was installed before has dealt with the signal: the process went on.
    pub const SURVIVED: usize = 72;
    /// u32, the process that sent the signal, 0 if none did.
    pub const SENDER: usize = 80;
    /// 16 bytes, the thread's name, filled up with zeroes.
    pub const NAME: usize = 88;
}

/// What a process noted of a fatal signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashNote {
    /// The signal.
    pub signal: i32,
    /// Its code: above 0 if the kernel sent it for what the thread did.
    pub code: i32,
    /// The address that could not be accessed or executed.
    pub address: u64,
    /// The address of the instruction, 0 where that is not known.
    pub instruction: u64,
    /// The operating system's number of the thread.
    pub os_thread: u64,
    /// When it was.
    pub ticks: Ticks,
    /// When it was, by the monotonic clock.
    pub monotonic: Nanos,
    /// When it was, since 1970-01-01 UTC.
    pub wall: Nanos,
    /// The recorder's number of the thread, 0 if it has none.
    pub thread: ThreadNumber,
    /// The thread's name.
    pub thread_name: String,
    /// The process that sent the signal, 0 if none did.
    pub sender: u32,
    /// A handler that was installed before has dealt with it: the process went on.
    pub survived: bool,
}

impl CrashNote {
    /// Reads the note; `None` if there is none that is whole.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        use crash_offset as at;
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let state = u64_at(at::STATE);
        if state == 0 || state % 2 == 1 {
            return None;
        }
        let name = &bytes[at::NAME..][..16];
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Self {
            signal: u32_at(at::SIGNAL).cast_signed(),
            code: u32_at(at::CODE).cast_signed(),
            address: u64_at(at::ADDRESS),
            instruction: u64_at(at::INSTRUCTION),
            os_thread: u64_at(at::OS_THREAD),
            ticks: Ticks(u64_at(at::TICKS)),
            monotonic: Nanos(u64_at(at::MONOTONIC)),
            wall: Nanos(u64_at(at::WALL)),
            thread: ThreadNumber(u64_at(at::THREAD)),
            thread_name: String::from_utf8_lossy(name).into_owned(),
            sender: u32_at(at::SENDER),
            survived: u64_at(at::SURVIVED) == 1,
        })
    }

    /// The signal's name, if it is one of those that are noted.
    #[must_use]
    pub fn signal_name(&self) -> Option<&'static str> {
        // As Linux numbers them on all machines but MIPS, Alpha and SPARC.
        Some(match self.signal {
            4 => "SIGILL",
            6 => "SIGABRT",
            7 => "SIGBUS",
            8 => "SIGFPE",
            11 => "SIGSEGV",
            _ => return None,
        })
    }

    /// The crash in a few words, on one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        let signal = match self.signal_name() {
            Some(name) => name.to_owned(),
            None => format!("signal {}", self.signal),
        };
        let mut words = signal;
        if matches!(self.signal, 4 | 7 | 8 | 11) && self.code > 0 {
            words += &format!(" at address {:#x}", self.address);
        }
        words += &format!(" in thread {}", self.os_thread);
        if !self.thread_name.is_empty() {
            words += &format!(" ({})", self.thread_name);
        }
        // Who aborts sends the signal to itself.
        if self.sender != 0 && self.signal != 6 {
            words += &format!(", sent by process {}", self.sender);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_is_being_written_is_none() {
        let mut bytes = [0_u8; 704];
        assert_eq!(CrashNote::parse(&bytes), None);
        bytes[0] = 1;
        assert_eq!(CrashNote::parse(&bytes), None);
        bytes[0] = 2;
        bytes[crash_offset::SIGNAL] = 11;
        bytes[crash_offset::CODE] = 1;
        bytes[crash_offset::ADDRESS] = 0x10;
        bytes[crash_offset::OS_THREAD] = 7;
        bytes[crash_offset::NAME..][..4].copy_from_slice(b"loop");
        let note = CrashNote::parse(&bytes).unwrap();
        assert_eq!(note.in_words(), "SIGSEGV at address 0x10 in thread 7 (loop)");
    }
}
