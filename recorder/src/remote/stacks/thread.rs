//! The stack of a thread of another process.
//!
//! A thread that blocks is not disturbed: the kernel says where it is, its stack is walked, and the kernel is asked again.
//! If it says the same, and the thread has not run meanwhile, then what was read is of one moment. This is what the
//! recorder does with the threads of its own process, too. A thread that runs is [interrupted](super::interrupted) if that
//! is wanted.

#![forbid(unsafe_code)]

use super::code::Code;
use super::interrupted::{self, Tracing};
use super::memory::OutsideMemory;
use super::wait::Place;
use crate::os::read_memory::ReadMemory;
use crate::stack::Piece;
use crate::stack::code_references::named_in_code;
use crate::stack::stack_memory::StackMemory;
use crate::stack::unwind::{Address, MAX_FRAMES, Registers, walk_through};
use lookback_snapshot::wire::{StackEnd, StackSource};
use std::fs;
use std::io;
use std::time::Duration;

/// A thread that goes on while it is looked at is looked at again so often.
const LOOKS: u32 = 20;
/// After so many looks there is a pause between them.
const IN_A_ROW: u32 = 5;
const PAUSE: Duration = Duration::from_micros(200);

/// A process whose threads are looked at.
pub(super) struct Target<'a> {
    pub(super) pid: u32,
    pub(super) memory: OutsideMemory<'a>,
    pub(super) code: &'a Code,
    /// Present if running threads are to be interrupted.
    pub(super) tracing: Option<&'a Tracing>,
}

/// A stack, innermost frame first.
pub(super) struct Walked {
    pub(super) frames: Vec<Address>,
    pub(super) end: StackEnd,
    pub(super) source: StackSource,
    pub(super) sp: u64,
    /// The system call that it is in, with its arguments.
    pub(super) call: Option<(i64, [u64; 6])>,
}

/// What is seen of a thread.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) place: Place,
    times_run: Box<str>,
}

impl Target<'_> {
    /// The stack of a thread, or why there is none. `None` if the thread is gone.
    pub(super) fn stack_of(&self, thread: u64) -> Option<Result<Walked, StackSource>> {
        let mut runs = false;
        for look in 0..LOOKS {
            if look >= IN_A_ROW {
                std::thread::sleep(PAUSE);
            }
            let before = match self.look(thread) {
                Ok(seen) => seen,
                Err(error) => return self.unseen(thread, &error),
            };
            let Place::Blocked { call, sp, pc } = before.place else {
                runs = true;
                match self.tracing {
                    Some(tracing) => return self.interrupted(thread, tracing),
                    None => continue,
                }
            };
            // The kernel does not tell the frame pointer, which code outside of calls may be in the middle of changing.
            if let (None, Some(tracing)) = (call, self.tracing) {
                return self.interrupted(thread, tracing);
            }
            let (frames, end) = self.walked(Registers { pc, sp, fp: None });
            if self.is_still(thread, &before) {
                return Some(Ok(Walked { frames, end, source: StackSource::Blocked, sp, call }));
            }
        }
        Some(Err(if runs { StackSource::Running } else { StackSource::NoAnswer }))
    }

    /// Whether a thread is where it was, and has not run since.
    fn is_still(&self, thread: u64, before: &Seen) -> bool {
        self.look(thread).is_ok_and(|now| now == *before)
    }

    /// The stack, if the thread blocks, and has not gone on while it was looked at.
    #[cfg(test)]
    pub(super) fn one_look(&self, thread: u64) -> Option<Walked> {
        let before = self.look(thread).ok()?;
        let Place::Blocked { call, sp, pc } = before.place else { return None };
        let (frames, end) = self.walked(Registers { pc, sp, fp: None });
        let source = StackSource::Blocked;
        self.is_still(thread, &before).then_some(Walked { frames, end, source, sp, call })
    }

    pub(super) fn look(&self, thread: u64) -> io::Result<Seen> {
        let of = |what| fs::read_to_string(format!("/proc/{}/task/{thread}/{what}", self.pid));
        let place = Place::parse(&of("syscall")?).ok_or(io::ErrorKind::InvalidData)?;
        let schedule = of("schedstat")?;
        let times_run = schedule.split_whitespace().nth(2).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Seen { place, times_run: times_run.into() })
    }

    /// What there is of a thread at which the kernel does not let this process look.
    fn unseen(&self, thread: u64, error: &io::Error) -> Option<Result<Walked, StackSource>> {
        let path = format!("/proc/{}/task/{thread}", self.pid);
        if error.raw_os_error() == Some(libc::ESRCH) || fs::symlink_metadata(path).is_err() {
            return None;
        }
        match self.tracing {
            Some(tracing) => self.interrupted(thread, tracing),
            None => Some(Err(StackSource::NotReadable)),
        }
    }

    fn interrupted(&self, thread: u64, tracing: &Tracing) -> Option<Result<Walked, StackSource>> {
        match tracing.stopped(thread) {
            Ok(stopped) => {
                let registers = stopped.registers();
                let walked = registers.map(|registers| (registers.sp, self.walked(registers)));
                drop(stopped);
                let Some((sp, (frames, end))) = walked else {
                    return Some(Err(StackSource::NotReadable));
                };
                let source = StackSource::Interrupted;
                Some(Ok(Walked { frames, end, source, sp, call: None }))
            }
            Err(interrupted::Failed::Gone) => None,
            Err(interrupted::Failed::Refused) => Some(Err(StackSource::NotReadable)),
            Err(interrupted::Failed::NoAnswer) => Some(Err(StackSource::NoAnswer)),
        }
    }

    fn walked(&self, from: Registers) -> (Vec<Address>, StackEnd) {
        let mut frames = [Address::default(); MAX_FRAMES];
        let piece = Piece::new();
        let stack = StackMemory::new(self.memory, from.sp, &piece);
        let (count, end) = walk_through(self.code, &stack, from, &mut frames);
        (frames[..count].to_vec(), end)
    }

    /// Which of these addresses, in ascending order, the thread's stack has, and which the code on it names; `None` if the
    /// thread has moved since.
    pub(super) fn refers(
        &self,
        thread: u64,
        walked: &Walked,
        to: &[u64],
    ) -> Option<(Vec<u64>, Vec<u64>)> {
        /// So much of a stack is looked through.
        const SEARCH: usize = 64 << 10;
        const MOST: usize = 16;
        let before = self.look(thread).ok()?;
        if !matches!(before.place, Place::Blocked { sp, .. } if sp == walked.sp) {
            return None;
        }
        let mut room = vec![0; SEARCH];
        let stack = self.memory.copy(walked.sp, &mut room);
        let words = stack.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word));
        let mut found: Vec<_> = words.filter(|word| to.binary_search(word).is_ok()).collect();
        found.sort_unstable();
        found.dedup();
        let frames = walked.frames.iter().copied();
        let named = named_in_code(frames, self.code, self.memory, to);
        if !self.is_still(thread, &before) {
            return None;
        }
        found.truncate(MOST);
        Some((found, named))
    }
}
