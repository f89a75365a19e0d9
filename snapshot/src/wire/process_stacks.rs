//! The stacks of a process's threads, taken from outside at one instant: `lookback snapshot` puts them into the file
//! that it writes, in a frame of their own.
//!
//! A frame of a stack names the frame of its caller, so threads that are at the same place share everything.

use super::varint::put_varint;
use super::{Nanos, StackEnd, StackSource};

/// The most threads that are looked at.
pub const MOST_THREADS: usize = 10_000;

/// The most files, frames and addresses of futexes of a thread that are read: more than any writer writes.
#[cfg(feature = "read")]
const MOST_MODULES: usize = 4096;
#[cfg(feature = "read")]
const MOST_FRAMES: usize = 256 * MOST_THREADS;
#[cfg(feature = "read")]
const MOST_REFERS: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessStacks {
    /// When they were taken: nanoseconds since 1970-01-01 UTC.
    pub wall: Nanos,
    /// When they were taken, by the clock that times generations.
    pub monotonic: Nanos,
    /// The files that code was loaded from.
    pub modules: Vec<CodeFile>,
    /// Frames. None names one behind itself as its caller.
    pub frames: Vec<CodeFrame>,
    /// The threads.
    pub threads: Vec<ThreadAt>,
    /// How many more threads there were.
    pub left_out: u64,
}

/// A file that code was loaded from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeFile {
    /// Its path, as the process sees it.
    pub path: String,
    /// The linker's id of this build; empty if it has none.
    pub build_id: Vec<u8>,
}

impl CodeFile {
    /// A file of this path and build.
    #[must_use]
    pub fn new(path: impl Into<String>, build_id: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), build_id: build_id.into() }
    }
}

/// A frame of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CodeFrame {
    /// The frame that it returns to: its index and one; 0 if that is unknown or there is none.
    pub caller: u32,
    /// The file that its code comes from: its index and one; 0 if that is unknown.
    pub module: u32,
    /// The address of its code in the terms of the file; in memory, if that is unknown.
    pub offset: u64,
    /// Whether that is the address of the next instruction. Otherwise it is a return address.
    pub is_exact: bool,
}

impl CodeFrame {
    /// A frame at this place, which returns to that one.
    #[must_use]
    pub fn new(caller: u32, module: u32, offset: u64, is_exact: bool) -> Self {
        Self { caller, module, offset, is_exact }
    }
}

/// Where a thread was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadAt {
    /// The operating system's number of it.
    pub os_thread: u64,
    /// Its name.
    pub name: String,
    /// Its state, as the kernel has it: `R` runs, `S` sleeps, `D` waits for a disk, `T` is stopped; `?` is unknown.
    pub state: char,
    /// How its stack was taken, or why there is none.
    pub source: StackSource,
    /// Its innermost frame: the index and one; 0 if there is none.
    pub stack: u32,
    /// Why there are no more frames.
    pub end: StackEnd,
    /// What it waits for in the kernel.
    pub waits: Waits,
    /// The addresses of futexes that other threads wait for, and that its stack has: it uses what they belong to, and may
    /// hold that lock.
    pub refers: Vec<u64>,
    /// The same of those that the functions on its stack name, before the place where they are: locks in a `static`, which
    /// need not be on the stack. On x86-64.
    pub uses: Vec<u64>,
}

impl ThreadAt {
    /// A thread without a stack, for this reason.
    #[must_use]
    pub fn new(os_thread: u64, name: impl Into<String>, state: char, source: StackSource) -> Self {
        Self {
            os_thread,
            name: name.into(),
            state,
            source,
            stack: 0,
            end: StackEnd::Begin,
            waits: Waits::default(),
            refers: Vec::new(),
            uses: Vec::new(),
        }
    }
}

/// What a thread waits for in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waits {
    /// The system call that it is in; empty if it is in none, or unknown.
    pub call: String,
    /// Whether the wait ends by itself, because the call was given a time.
    pub is_timed: bool,
    /// What for.
    pub on: WaitsOn,
}

/// What a thread waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitsOn {
    /// Nothing that is known.
    #[default]
    Unknown,
    /// A word of memory: a lock, a condition variable, the end of a thread.
    Futex {
        /// Where it is.
        address: u64,
        /// What it was.
        word: u32,
        /// The word eight bytes behind it, if that is the number of a thread of the process: there a mutex of the C
        /// library has its owner.
        owner: Option<u32>,
    },
    /// A descriptor.
    File {
        /// Its number.
        descriptor: u32,
        /// What it is: a path, `socket:[4711]`, `pipe:[4711]`.
        what: String,
    },
    /// A time.
    Time,
}

impl Waits {
    /// A wait in this call.
    #[must_use]
    pub fn new(call: impl Into<String>, is_timed: bool, on: WaitsOn) -> Self {
        Self { call: call.into(), is_timed, on }
    }
}

const UNKNOWN: u64 = 0;
const FUTEX: u64 = 1;
const FILE: u64 = 2;
const TIME: u64 = 3;

impl ProcessStacks {
    /// Appends them to `out`, as the frame of a file has them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let put_bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        };
        for number in [self.wall.0, self.monotonic.0, self.left_out, self.modules.len() as u64] {
            put_varint(out, number);
        }
        for module in &self.modules {
            put_bytes(out, module.path.as_bytes());
            put_bytes(out, &module.build_id);
        }
        put_varint(out, self.frames.len() as u64);
        for (at, frame) in self.frames.iter().enumerate() {
            // Callers are near: the distance is small.
            let back = match frame.caller {
                0 => 0,
                caller => (at as u64 + 1).saturating_sub(u64::from(caller)),
            };
            put_varint(out, back);
            put_varint(out, u64::from(frame.module));
            put_varint(out, frame.offset << 1 | u64::from(frame.is_exact));
        }
        put_varint(out, self.threads.len() as u64);
        let mut entry = Vec::new();
        for thread in &self.threads {
            entry.clear();
            thread.encode(&mut entry);
            put_bytes(out, &entry);
        }
    }
}

impl ThreadAt {
    fn encode(&self, out: &mut Vec<u8>) {
        let put_text = |out: &mut Vec<u8>, text: &str| {
            put_varint(out, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        };
        put_varint(out, self.os_thread);
        put_text(out, &self.name);
        put_varint(out, u64::from(u32::from(self.state)));
        for number in [self.source as u64, u64::from(self.stack), self.end as u64] {
            put_varint(out, number);
        }
        put_wait(out, &self.waits, &self.refers, &self.uses);
    }
}

/// Appends what a thread waits for, and which of the things that others wait for it uses.
#[doc(hidden)]
pub fn put_wait(out: &mut Vec<u8>, waits: &Waits, refers: &[u64], uses: &[u64]) {
    let put_text = |out: &mut Vec<u8>, text: &str| {
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    };
    put_text(out, &waits.call);
    put_varint(out, u64::from(waits.is_timed));
    match &waits.on {
        WaitsOn::Unknown => put_varint(out, UNKNOWN),
        WaitsOn::Futex { address, word, owner } => {
            put_varint(out, FUTEX);
            let owner = owner.map_or(0, u64::from);
            [*address, u64::from(*word), owner].into_iter().for_each(|it| put_varint(out, it));
        }
        WaitsOn::File { descriptor, what } => {
            put_varint(out, FILE);
            put_varint(out, u64::from(*descriptor));
            put_text(out, what);
        }
        WaitsOn::Time => put_varint(out, TIME),
    }
    for addresses in [refers, uses] {
        put_varint(out, addresses.len() as u64);
        addresses.iter().for_each(|address| put_varint(out, *address));
    }
}

#[cfg(feature = "read")]
pub use decode::get_wait;

#[cfg(feature = "read")]
mod decode {
    use super::*;
    use crate::wire::rest::Rest;

    impl ProcessStacks {
        /// Reads what [`encode`](Self::encode) has written. `None` if it is damaged. Takes no more memory
        /// than twice its length and 100 MB: there are no more than 4,096 files, 10,000 threads, and 256 frames for each.
        #[must_use]
        pub fn decode(bytes: &[u8]) -> Option<Self> {
            let mut rest = Rest(bytes);
            let (wall, monotonic) = (Nanos(rest.number()?), Nanos(rest.number()?));
            let mut found = Self { wall, monotonic, left_out: rest.number()?, ..Self::default() };
            for _ in 0..rest.count(MOST_MODULES)? {
                found.modules.push(CodeFile::new(rest.text()?, rest.bytes()?));
            }
            for at in 0..rest.count(MOST_FRAMES)? {
                let back = rest.number()?;
                let caller = match back {
                    0 => 0,
                    // A caller stands before, so stacks have an end.
                    back => (at + 1).checked_sub(back).filter(|caller| *caller > 0)?,
                };
                let (caller, module) = (u32::try_from(caller).ok()?, rest.small()?);
                let place = rest.number()?;
                if module as usize > found.modules.len() {
                    return None;
                }
                found.frames.push(CodeFrame::new(caller, module, place >> 1, place & 1 != 0));
            }
            for _ in 0..rest.count(MOST_THREADS)? {
                let thread = ThreadAt::decode(&mut Rest(rest.bytes()?))?;
                if thread.stack as usize > found.frames.len() {
                    return None;
                }
                found.threads.push(thread);
            }
            Some(found)
        }
    }

    impl ThreadAt {
        /// What a later version has put behind what is known here is left out.
        fn decode(rest: &mut Rest<'_>) -> Option<Self> {
            let (os_thread, name) = (rest.number()?, rest.text()?);
            let state = char::from_u32(rest.small()?).unwrap_or('?');
            let source = StackSource::from_code(rest.number()?).unwrap_or(StackSource::Unsupported);
            let stack = rest.small()?;
            let end = StackEnd::from_code(rest.number()?).unwrap_or(StackEnd::UnknownCode);
            let (waits, refers, uses) = wait(rest)?;
            Some(Self { os_thread, name, state, source, stack, end, waits, refers, uses })
        }
    }

    /// Reads what [`put_wait`] has written. `None` if it is damaged.
    #[doc(hidden)]
    #[must_use]
    pub fn get_wait(bytes: &[u8]) -> Option<(Waits, Vec<u64>, Vec<u64>)> {
        wait(&mut Rest(bytes))
    }

    fn wait(rest: &mut Rest<'_>) -> Option<(Waits, Vec<u64>, Vec<u64>)> {
        let (call, is_timed) = (rest.text()?, rest.number()? != 0);
        let on = match rest.number()? {
            UNKNOWN => WaitsOn::Unknown,
            FUTEX => {
                let (address, word) = (rest.number()?, rest.small()?);
                let owner = rest.small()?;
                WaitsOn::Futex { address, word, owner: (owner != 0).then_some(owner) }
            }
            FILE => WaitsOn::File { descriptor: rest.small()?, what: rest.text()? },
            TIME => WaitsOn::Time,
            // Where the rest begins is not known.
            _ => {
                let waits = Waits { call, is_timed, on: WaitsOn::Unknown };
                return Some((waits, Vec::new(), Vec::new()));
            }
        };
        let refers = addresses(rest)?;
        // An earlier version has put nothing more.
        let uses = if rest.0.is_empty() { Vec::new() } else { addresses(rest)? };
        Some((Waits { call, is_timed, on }, refers, uses))
    }

    fn addresses(rest: &mut Rest<'_>) -> Option<Vec<u64>> {
        let mut found = Vec::new();
        for _ in 0..rest.count(MOST_REFERS)? {
            found.push(rest.number()?);
        }
        Some(found)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn example() -> ProcessStacks {
            let mut blocked = ThreadAt::new(17, "forth", 'S', StackSource::Blocked);
            blocked.stack = 2;
            let on = WaitsOn::Futex { address: 0x7f00_1234, word: 2, owner: Some(18) };
            blocked.waits = Waits::new("futex", false, on);
            blocked.refers = vec![0x7f00_0000];
            blocked.uses = vec![0x5500_0000, 0x5500_0008];
            let mut reads = ThreadAt::new(18, "bäck", 'S', StackSource::Blocked);
            reads.stack = 3;
            reads.end = StackEnd::UnknownCode;
            let on = WaitsOn::File { descriptor: 3, what: "socket:[17]".to_owned() };
            reads.waits = Waits::new("read", true, on);
            let mut sleeps = ThreadAt::new(19, "", 'S', StackSource::NoAnswer);
            sleeps.waits = Waits::new("clock_nanosleep", true, WaitsOn::Time);
            ProcessStacks {
                wall: Nanos(5),
                monotonic: Nanos(1 << 60),
                modules: vec![CodeFile::new("/bin/shop", *b"abc"), CodeFile::new("libc", *b"")],
                frames: vec![
                    CodeFrame::new(0, 1, 0x1234, false),
                    CodeFrame::new(1, 2, 0x99, true),
                    CodeFrame::new(1, 0, u64::MAX >> 1, false),
                ],
                threads: vec![blocked, reads, sleeps],
                left_out: 4,
            }
        }

        #[test]
        fn what_was_written_is_read_and_what_is_cut_is_damaged() {
            let mut bytes = Vec::new();
            example().encode(&mut bytes);
            assert_eq!(ProcessStacks::decode(&bytes), Some(example()));
            for end in 0..bytes.len() {
                assert_eq!(ProcessStacks::decode(&bytes[..end]), None, "{end}");
            }
        }

        #[test]
        fn more_than_any_writer_writes_is_damage() {
            let mut of_threads = example();
            of_threads.threads.resize(MOST_THREADS + 1, of_threads.threads[1].clone());
            let mut of_frames = example();
            of_frames.frames.resize(MOST_FRAMES + 1, of_frames.frames[0]);
            let mut of_modules = example();
            of_modules.modules.resize(MOST_MODULES + 1, CodeFile::default());
            let mut of_refers = example();
            of_refers.threads[0].refers.resize(MOST_REFERS + 1, 7);
            for stacks in [of_threads, of_frames, of_modules, of_refers] {
                let mut bytes = Vec::new();
                stacks.encode(&mut bytes);
                assert_eq!(ProcessStacks::decode(&bytes), None);
            }
        }

        #[test]
        fn damage_is_none_or_something_and_every_stack_has_an_end() {
            let mut bytes = Vec::new();
            example().encode(&mut bytes);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 1 << bit;
                    let Some(found) = ProcessStacks::decode(&damaged) else { continue };
                    for (at, frame) in found.frames.iter().enumerate() {
                        assert!((frame.caller as usize) <= at);
                        assert!(frame.module as usize <= found.modules.len());
                    }
                    assert!(found.threads.iter().all(|of| of.stack as usize <= found.frames.len()));
                }
            }
        }
    }
}
