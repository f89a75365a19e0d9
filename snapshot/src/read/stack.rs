//! Stacks of threads, as they were recorded: files and offsets in them.

use super::decode::contents::Contents;
use super::decode::stacks::FrameDefinition;
use crate::wire::{CodeFrame, ProcessStacks, StackEnd, ThreadAt};

/// The most frames of a stack. No recorder writes more than 128; more are damage: definitions in a circle
/// never end.
const MAX_FRAMES: usize = 256;

/// A stack: see [`Event::stack`](super::Event::stack).
#[derive(Clone, Copy)]
pub struct Stack<'a> {
    of: &'a Contents,
    innermost: u64,
}

/// A frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Frame<'a> {
    /// The file that its code comes from; `None` if it is unknown.
    pub module: Option<Module<'a>>,
    /// Its address in the terms of the file's symbols and debug information: counted from where the linker
    /// put the file's beginning.
    pub offset: u64,
    /// Whether `offset` is the address of the next instruction. Otherwise it is a return address, and the
    /// line is that of the byte before.
    pub is_exact: bool,
}

impl Frame<'_> {
    /// If it stands for frames that were left out, of a stack with too many: how many.
    #[must_use]
    pub fn left_out(&self) -> Option<u64> {
        (self.module.is_none() && self.offset > 0).then_some(self.offset)
    }
}

/// A file that code was loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Module<'a> {
    /// Its path, as the recorded process's loader knows it.
    pub path: &'a str,
    /// The linker's id of this build; empty if it has none.
    pub build_id: &'a [u8],
}

/// A [`Frame`] that borrows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnedFrame {
    module: Option<(String, Vec<u8>)>,
    offset: u64,
    is_exact: bool,
}

impl OwnedFrame {
    /// The frame that it was made from.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        let module = self.module.as_ref();
        let module = module.map(|(path, build_id)| Module { path, build_id });
        Frame { module, offset: self.offset, is_exact: self.is_exact }
    }
}

impl From<Frame<'_>> for OwnedFrame {
    fn from(frame: Frame<'_>) -> Self {
        let module = frame.module.map(|of| (of.path.to_owned(), of.build_id.to_owned()));
        Self { module, offset: frame.offset, is_exact: frame.is_exact }
    }
}

impl<'a> Stack<'a> {
    /// The stack with this id; `None` for 0, or if it is not defined.
    pub(crate) fn new(of: &'a Contents, id: u64) -> Option<Self> {
        of.tables.stacks.frame(id)?;
        Some(Self { of, innermost: id })
    }

    /// Its frames, innermost first. They end after 256, or where they go round in a circle: see
    /// [`is_damaged`](Self::is_damaged).
    pub fn frames(&self) -> impl Iterator<Item = Frame<'a>> + use<'a> {
        let of = self.of;
        let definitions = move |id| of.tables.stacks.frame(id);
        // Detects a circle: compares each frame with one that is replaced after 1, 2, 4 … frames.
        let (mut waited_for, mut steps, mut power) = (self.innermost, 0_usize, 1);
        let caller = move |frame: &&FrameDefinition| {
            if frame.caller == waited_for {
                return None;
            }
            steps += 1;
            if steps == power {
                (waited_for, steps, power) = (frame.caller, 0, power * 2);
            }
            definitions(frame.caller)
        };
        std::iter::successors(definitions(self.innermost), caller)
            .take_while(|frame| frame.caller != 0)
            .take(MAX_FRAMES)
            .map(move |frame| defined(of, frame))
    }

    /// Why there are no more frames, if known.
    #[must_use]
    pub fn end(&self) -> Option<StackEnd> {
        StackEnd::from_code(self.root()?.offset)
    }

    /// Whether its end is missing: a caller is not defined, or the callers go round in a circle.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.root().is_none()
    }

    /// What replaces the outermost frame's caller; `None` if a caller is not defined.
    pub(crate) fn root(&self) -> Option<&'a FrameDefinition> {
        let stacks = &self.of.tables.stacks;
        let mut frame = stacks.frame(self.innermost)?;
        for _ in 0..MAX_FRAMES {
            if frame.caller == 0 {
                return Some(frame);
            }
            frame = stacks.frame(frame.caller)?;
        }
        None
    }
}

impl ProcessStacks {
    /// The frames of a thread's stack, innermost first.
    pub fn frames_of(&self, thread: &ThreadAt) -> impl Iterator<Item = Frame<'_>> + use<'_> {
        let at = |number: u32| self.frames.get((number as usize).checked_sub(1)?);
        let frames = std::iter::successors(at(thread.stack), move |frame| at(frame.caller));
        frames.take(MAX_FRAMES).map(|frame| self.frame(frame))
    }

    /// The frames of all stacks, each once.
    #[cfg(feature = "symbols")]
    pub(crate) fn all_frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().map(|frame| self.frame(frame))
    }

    fn frame(&self, frame: &CodeFrame) -> Frame<'_> {
        let module = (frame.module as usize).checked_sub(1);
        let module = module.and_then(|module| self.modules.get(module));
        let module = module.map(|of| Module { path: &of.path, build_id: &of.build_id });
        Frame { module, offset: frame.offset, is_exact: frame.is_exact }
    }
}

/// The frames that a generation defines.
#[cfg(feature = "symbols")]
pub(crate) fn frames_of(contents: &Contents) -> impl Iterator<Item = Frame<'_>> {
    contents.tables.stacks.frames().map(|frame| defined(contents, frame))
}

fn defined<'a>(of: &'a Contents, frame: &FrameDefinition) -> Frame<'a> {
    Frame {
        module: of.tables.stacks.module(frame.module).map(|module| Module {
            path: of.tables.text(&of.content, module.path),
            build_id: module.build_id.bytes(&of.content),
        }),
        offset: frame.offset >> 1,
        is_exact: frame.offset & 1 != 0,
    }
}

impl std::fmt::Debug for Stack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.frames()).finish()
    }
}
