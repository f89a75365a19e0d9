//! The functions of a profile's frames.

use crate::OwnedFrame;
use crate::symbols::{Location, Symbolizer};
use std::path::Path;

/// See the module.
pub(super) struct FrameNames<'a> {
    frames: &'a [OwnedFrame],
    functions: Vec<Vec<Location>>,
}

impl<'a> FrameNames<'a> {
    pub(super) fn of(frames: &'a [OwnedFrame], symbolizer: &mut Symbolizer) -> Self {
        let functions = |frame: &OwnedFrame| symbolizer.locations(&frame.frame());
        Self { frames, functions: frames.iter().map(functions).collect() }
    }

    /// The frame itself.
    pub(super) fn frame(&self, frame: u32) -> Option<&'a OwnedFrame> {
        self.frames.get(frame as usize)
    }

    /// The functions of this frame, innermost first; none if they are unknown.
    pub(super) fn functions(&self, frame: u32) -> &[Location] {
        self.functions.get(frame as usize).map_or(&[], |functions| functions)
    }

    /// Where a stack begins for who reads it: at how many frames and functions of the next one, innermost first, those end that are
    /// of what takes a lock, such as the recorder's and the executor's. None of a stack that has no other.
    pub(super) fn own_leaf(&self, frames: &[u32]) -> (usize, usize) {
        for (at, frame) in frames.iter().enumerate() {
            let functions = self.functions(*frame);
            if functions.is_empty() {
                return (at, 0);
            }
            if let Some(own) = functions.iter().position(|of| !of.is_foreign()) {
                return (at, own);
            }
        }
        (0, 0)
    }

    /// The frame as file and offset.
    pub(super) fn offset(&self, frame: u32) -> String {
        let Some(frame) = self.frame(frame) else { return "?".to_owned() };
        let frame = frame.frame();
        let file = frame.module.and_then(|module| Path::new(module.path).file_name());
        let file = file.map_or_else(|| "?".into(), |file| file.to_string_lossy());
        format!("{file}+{:#x}", frame.offset)
    }
}
