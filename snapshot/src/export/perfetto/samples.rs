//! CPU samples, with the functions of their stacks: what Perfetto's profiler writes (`PerfSample`). Functions, frames and
//! stacks are told once, with the first sample that has them.

use super::packets::Packets;
use crate::export::go::FrameName;
use crate::export::protobuf::Message;
use crate::read::{Frame, OwnedFrame, Stack};
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;

/// Finds the functions of a frame, innermost first; none where nothing is known.
pub(super) type Names<'n> = dyn FnMut(&Frame<'_>) -> Vec<FrameName> + 'n;

/// So many different frames, and so many different stacks, are told. Samples of others have no stack.
const MOST_FRAMES: usize = 200_000;
const MOST_STACKS: usize = 100_000;
/// The most frames of one stack.
const MOST_DEEP: usize = 1024;
/// A sample counts for so many intervals at most: more are a sign of damage.
const MOST_INTERVALS: u64 = 1000;

/// The fields of `InternedData`.
mod interned {
    pub const FUNCTION_NAMES: u32 = 5;
    pub const FRAMES: u32 = 6;
    pub const CALLSTACKS: u32 = 7;
    pub const BUILD_IDS: u32 = 16;
    pub const MAPPING_PATHS: u32 = 17;
    pub const MAPPINGS: u32 = 19;
}

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    functions: HashMap<String, u64>,
    mappings: HashMap<(String, Vec<u8>), u64>,
    /// Of each frame the functions in it, outermost first.
    frames: HashMap<OwnedFrame, Box<[u64]>>,
    next_frame: u64,
    stacks: HashMap<Box<[u64]>, u64>,
}

/// A sample of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: u64,
    pub(super) pid: u64,
    pub(super) tid: u64,
    /// For how many intervals it counts.
    pub(super) weight: u64,
}

impl Told {
    /// Writes a sample, as often as it counts. Returns how often.
    pub(super) fn write<W: Write>(
        &mut self,
        packets: &mut Packets<W>,
        sample: Sample,
        stack: Option<Stack<'_>>,
        names: &mut Names<'_>,
    ) -> io::Result<u64> {
        let mut new = Message::default();
        let callstack = stack.and_then(|stack| self.callstack(&stack, names, &mut new));
        let mut message = Message::default();
        message.number(2, sample.pid);
        message.number(3, sample.tid);
        if let Some(callstack) = callstack {
            message.number(4, callstack);
        }
        let times = sample.weight.clamp(1, MOST_INTERVALS);
        for _ in 0..times {
            packets.sample(sample.at, &new, &message)?;
            new = Message::default();
        }
        Ok(times)
    }

    fn callstack(
        &mut self,
        stack: &Stack<'_>,
        names: &mut Names<'_>,
        new: &mut Message,
    ) -> Option<u64> {
        let mut frames = Vec::new();
        for frame in stack.frames().take(MOST_DEEP) {
            // These come outermost first, and the stack innermost first.
            frames.extend(self.frame(&frame, names, new)?.iter().rev());
        }
        frames.reverse();
        if let Some(known) = self.stacks.get(frames.as_slice()) {
            return Some(*known);
        }
        if self.stacks.len() >= MOST_STACKS {
            return None;
        }
        let number = self.stacks.len() as u64 + 1;
        let mut message = Message::default();
        message.number(1, number);
        frames.iter().for_each(|frame| message.exactly(2, *frame));
        new.message(interned::CALLSTACKS, &message);
        self.stacks.insert(frames.into(), number);
        Some(number)
    }

    /// The numbers of a frame's functions, outermost first.
    fn frame(
        &mut self,
        frame: &Frame<'_>,
        names: &mut Names<'_>,
        new: &mut Message,
    ) -> Option<&[u64]> {
        let owned = OwnedFrame::from(*frame);
        if !self.frames.contains_key(&owned) {
            if self.frames.len() >= MOST_FRAMES {
                return None;
            }
            let mut functions: Vec<_> =
                names(frame).into_iter().rev().map(|of| of.function).collect();
            if functions.is_empty() {
                functions.push(offset(frame));
            }
            let mapping = self.mapping(frame, new);
            let numbers = functions.into_iter().map(|function| {
                let function = self.function(function, new);
                self.next_frame += 1;
                let mut message = Message::default();
                for (field, value) in
                    [(1, self.next_frame), (2, function), (3, mapping), (4, frame.offset)]
                {
                    message.number(field, value);
                }
                new.message(interned::FRAMES, &message);
                self.next_frame
            });
            let numbers: Box<[u64]> = numbers.collect();
            self.frames.insert(owned.clone(), numbers);
        }
        self.frames.get(&owned).map(|numbers| &**numbers)
    }

    fn function(&mut self, name: String, new: &mut Message) -> u64 {
        let number = self.functions.len() as u64 + 1;
        *self.functions.entry(name).or_insert_with_key(|name| {
            new.message(interned::FUNCTION_NAMES, &entry(number, name.as_bytes()));
            number
        })
    }

    /// The file that a frame is in. Where the process had it is not known, and does not matter.
    fn mapping(&mut self, frame: &Frame<'_>, new: &mut Message) -> u64 {
        let (path, build_id) = match frame.module {
            Some(module) => (module.path.to_owned(), module.build_id.to_vec()),
            None => Default::default(),
        };
        let number = self.mappings.len() as u64 + 1;
        *self.mappings.entry((path, build_id)).or_insert_with_key(|(path, build_id)| {
            new.message(interned::MAPPING_PATHS, &entry(number, path.as_bytes()));
            new.message(interned::BUILD_IDS, &entry(number, build_id));
            let mut mapping = Message::default();
            for (field, value) in [(1, number), (2, number), (5, i64::MAX as u64), (7, number)] {
                mapping.number(field, value);
            }
            new.message(interned::MAPPINGS, &mapping);
            number
        })
    }
}

fn offset(frame: &Frame<'_>) -> String {
    let file = frame.module.and_then(|module| Path::new(module.path).file_name());
    let file = file.map_or_else(|| "?".into(), |file| file.to_string_lossy());
    format!("{file}+{:#x}", frame.offset)
}

fn entry(number: u64, bytes: &[u8]) -> Message {
    let mut entry = Message::default();
    entry.number(1, number);
    entry.bytes(2, bytes);
    entry
}
