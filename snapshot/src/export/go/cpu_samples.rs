//! CPU samples, with the functions of their stacks.
//!
//! Go's reader orders samples by time alone, and checks nothing of them but that their stacks exist. A sample changes
//! nothing of what runs where.

use super::state_machine::ThreadAt;
use super::tables::{Frame, StackId};
use super::translate::Mapping;
use crate::read::{self, Event, OwnedFrame};
use crate::wire::{Nanos, ThreadNumber};
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

/// The most frames of a stack that Go reads.
const MOST_FRAMES: usize = 128;
/// The most frames whose functions are kept.
const MOST_KNOWN: usize = 1 << 14;

/// A function that a frame stands for: see [`export_named`](super::export_named).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameName {
    /// Its name.
    pub function: String,
    /// The source file; empty if it is unknown.
    pub file: String,
    /// The line; 0 if it is unknown.
    pub line: u32,
}

/// Finds the functions of frames, innermost first; none where nothing is known.
pub(super) type Names<'n> = dyn FnMut(&read::Frame<'_>) -> Vec<FrameName> + 'n;

/// The functions of the frames that were met.
#[derive(Default)]
pub(super) struct Known(HashMap<OwnedFrame, Box<[Frame]>>);

impl<W: Write> Mapping<'_, W> {
    /// A sample that was taken `ago` before the event, of this thread.
    pub(super) fn cpu_sample(&mut self, event: &Event, of: ThreadNumber, weight: u64, ago: Nanos) {
        let is_own = event.thread().is_some_and(|thread| thread.number == of);
        let seat = if is_own {
            Some(self.scheduler.seat_of(event.thread()))
        } else {
            self.scheduler.known_seat(of)
        };
        let at = seat.map_or(ThreadAt::NONE, |seat| self.scheduler.seat(seat).at);
        let stack = self.stack_of(event);
        let machine = &mut self.scheduler.machine;
        // Its own event has a time that no other has.
        let time = (ago.0 > 0).then(|| Nanos(event.time().0.saturating_sub(ago.0)));
        // What runs there now may not have run then.
        let is_now = is_own && ago.0 == 0;
        // In a profile each of them counts for one interval. More are a sign of damage.
        for _ in 0..weight.min(100) {
            machine.cpu_sample(at, is_now, time, stack);
        }
    }

    fn stack_of(&mut self, event: &Event) -> StackId {
        let mut frames = Vec::new();
        for frame in event.stack().iter().flat_map(|stack| stack.frames()) {
            frames.extend_from_slice(self.frames_of(&frame));
        }
        if frames.len() > MOST_FRAMES {
            // The innermost ones, and where the thread began.
            let last = frames.len() - 1;
            frames.swap(MOST_FRAMES - 1, last);
            frames.truncate(MOST_FRAMES);
        }
        let machine = &mut self.scheduler.machine;
        machine.tables.stack_of(&frames)
    }

    /// The functions of a frame, innermost first.
    fn frames_of(&mut self, frame: &read::Frame<'_>) -> &[Frame] {
        let owned = OwnedFrame::from(*frame);
        if self.frames.0.len() >= MOST_KNOWN && !self.frames.0.contains_key(&owned) {
            self.frames.0.clear();
        }
        let (machine, names) = (&mut self.scheduler.machine, &mut self.names);
        self.frames.0.entry(owned).or_insert_with(|| {
            let mut found = names(frame);
            if found.is_empty() {
                let module = frame.module.map(|module| module.path);
                let file = module.and_then(|path| Path::new(path).file_name());
                let file = file.map_or_else(|| "?".into(), |file| file.to_string_lossy());
                let function = format!("{file}+{:#x}", frame.offset);
                found.push(FrameName { function, ..FrameName::default() });
            }
            found
                .iter()
                .take(MOST_FRAMES)
                .map(|of| machine.frame(&of.function, &of.file, of.line))
                .collect()
        })
    }
}
