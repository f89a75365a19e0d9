//! The different frames of many stacks, numbered, so that a stack is a list of numbers; and such stacks, numbered, too.

use crate::read::{OwnedFrame, Stack, StackSource};
use std::collections::HashMap;

/// The most different stacks that are told apart.
const MOST_STACKS: usize = 20_000;

/// The most different frames that are told apart.
const MOST_FRAMES: usize = 200_000;
/// The most bytes of names of files.
const MOST_BYTES: usize = 8 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct FrameNumbers {
    frames: Vec<OwnedFrame>,
    numbers: HashMap<OwnedFrame, u32>,
    bytes: usize,
}

impl FrameNumbers {
    /// The frames, each at its number.
    pub(super) fn frames(&self) -> &[OwnedFrame] {
        &self.frames
    }

    /// The number of a frame; `None` if there is no room for one more.
    pub(super) fn number(&mut self, frame: OwnedFrame) -> Option<u32> {
        if let Some(known) = self.numbers.get(&frame) {
            return Some(*known);
        }
        let bytes = frame.frame().module.map_or(0, |of| of.path.len() + of.build_id.len());
        // The frame is here twice.
        let bytes = self.bytes.saturating_add(2 * bytes);
        if self.frames.len() >= MOST_FRAMES || bytes > MOST_BYTES {
            return None;
        }
        self.bytes = bytes;
        let number = self.frames.len() as u32;
        self.frames.push(frame.clone());
        self.numbers.insert(frame, number);
        Some(number)
    }
}

/// Different stacks, and different reasons why there is none.
#[derive(Debug, Default)]
pub(super) struct StackNumbers {
    frames: FrameNumbers,
    known: HashMap<(Vec<u32>, Option<u8>), usize>,
}

/// The number of a stack.
pub(super) enum StackNumber {
    Known(usize),
    /// The next one, of these frames, innermost first.
    New(Vec<u32>),
}

impl StackNumbers {
    /// The frames, each at its number.
    pub(super) fn frames(&self) -> &[OwnedFrame] {
        self.frames.frames()
    }

    /// The number of a stack, or of the reason why there is none; `None` if there is no room for one more.
    pub(super) fn number(
        &mut self,
        stack: Option<Stack<'_>>,
        source: Option<StackSource>,
    ) -> Option<StackNumber> {
        let frames = stack.map(|stack| stack.frames()).into_iter().flatten();
        let frames: Vec<_> = frames
            .map(|frame| self.frames.number(OwnedFrame::from(frame)))
            .collect::<Option<_>>()?;
        let why = if stack.is_none() { source.map(|source| source as u8) } else { None };
        let key = (frames, why);
        if let Some(known) = self.known.get(&key) {
            return Some(StackNumber::Known(*known));
        }
        if self.known.len() >= MOST_STACKS {
            return None;
        }
        let frames = key.0.clone();
        self.known.insert(key, self.known.len());
        Some(StackNumber::New(frames))
    }

    /// No stack is asked for any more. The frames stay.
    pub(super) fn close(&mut self) {
        self.known = HashMap::new();
    }
}
