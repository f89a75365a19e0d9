//! The note of a crash, which a signal handler writes into the arena's header when the process is about to
//! die. It has its own room there, because the signal may have interrupted an event.

use super::{CrashStack, Nanos, ThreadNumber, Ticks, offset};

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
    /// u64, the address of the instruction, 0 if unknown.
    pub const INSTRUCTION: usize = 24;
    /// u64, the operating system's ID of the thread.
    pub const OS_THREAD: usize = 32;
    /// u64, ticks of the recorder's clock.
    pub const TICKS: usize = 40;
    /// u64, nanoseconds of the monotonic clock.
    pub const MONOTONIC: usize = 48;
    /// u64, nanoseconds since 1970-01-01 UTC.
    pub const WALL: usize = 56;
    /// u64, the recorder's number of the thread, 0 if it has none.
    pub const THREAD: usize = 64;
    /// u64, 1 once a previously installed handler has resolved the signal: the process survived.
    pub const SURVIVED: usize = 72;
    /// u32, the process that sent the signal, 0 if none did.
    pub const SENDER: usize = 80;
    /// u32, 1 if the thread aborts because it panicked, and the recorder's panic hook did not see that.
    pub const PANICKED: usize = 84;
    /// 16 bytes, the thread's name, filled up with zeroes. What follows is the thread's stack: see
    /// [`crash_stack_offset`](super::super::crash_stack_offset).
    pub const NAME: usize = 88;
}

/// The note of a fatal signal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashNote {
    /// The signal.
    pub signal: i32,
    /// Its code: above 0 if the kernel sent it for what the thread did.
    pub code: i32,
    /// The address that could not be accessed or executed.
    pub address: u64,
    /// The address of the instruction, 0 if unknown.
    pub instruction: u64,
    /// The operating system's ID of the thread.
    pub os_thread: u64,
    /// When it happened.
    pub ticks: Ticks,
    /// When it happened, on the monotonic clock.
    pub monotonic: Nanos,
    /// When it happened, since 1970-01-01 UTC.
    pub wall: Nanos,
    /// The recorder's number of the thread, 0 if it has none.
    pub thread: ThreadNumber,
    /// The thread's name.
    pub thread_name: String,
    /// The process that sent the signal, 0 if none did.
    pub sender: u32,
    /// The thread panicked, and the recorder did not see that: the program has replaced its panic hook.
    pub panicked: bool,
    /// A previously installed handler has resolved it: the process survived.
    pub survived: bool,
    /// The thread's stack; `None` if stacks are turned off.
    pub stack: Option<CrashStack>,
}

impl CrashNote {
    /// Reads the note in an arena's header; `None` if there is none, or if it is being written.
    pub(super) fn parse(header: &[u8]) -> Option<Self> {
        use crash_offset as at;
        let bytes = &header[offset::CRASH_NOTE..offset::LOST];
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
            panicked: u32_at(at::PANICKED) == 1,
            survived: u64_at(at::SURVIVED) == 1,
            stack: CrashStack::parse(header, state),
        })
    }

    /// The signal's name, if it is one of the fatal ones.
    #[must_use]
    pub fn signal_name(&self) -> Option<&'static str> {
        // The numbers of Linux on all machines but MIPS, Alpha and SPARC.
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
        if self.panicked {
            words += ", which panicked; the panic hook was replaced";
        }
        // A process that aborts sends the signal to itself.
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
        let mut header = vec![0_u8; offset::DATA];
        assert_eq!(CrashNote::parse(&header), None);
        header[offset::CRASH_NOTE] = 1;
        assert_eq!(CrashNote::parse(&header), None);
        let bytes = &mut header[offset::CRASH_NOTE..];
        bytes[0] = 2;
        bytes[crash_offset::SIGNAL] = 11;
        bytes[crash_offset::CODE] = 1;
        bytes[crash_offset::ADDRESS] = 0x10;
        bytes[crash_offset::OS_THREAD] = 7;
        bytes[crash_offset::NAME..][..4].copy_from_slice(b"loop");
        let note = CrashNote::parse(&header).unwrap();
        assert_eq!(note.in_words(), "SIGSEGV at address 0x10 in thread 7 (loop)");
        let bytes = &mut header[offset::CRASH_NOTE..];
        bytes[crash_offset::SIGNAL] = 6;
        bytes[crash_offset::PANICKED] = 1;
        let words = CrashNote::parse(&header).unwrap().in_words();
        assert_eq!(
            words,
            "SIGABRT in thread 7 (loop), which panicked; the panic hook was replaced"
        );
    }
}
