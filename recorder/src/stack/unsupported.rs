//! The stand-in on systems where stacks cannot be captured.

#![forbid(unsafe_code)]

use super::await_chain::Step;
use super::trie::StackId;
use super::unwind::{Address, Registers};
use lookback_snapshot::wire::{StackEnd, StackSource};

pub(crate) fn of_this_thread(_: Registers) -> Result<StackId, StackSource> {
    Err(StackSource::Unsupported)
}

pub(crate) fn block_own_signals() {}

pub(super) fn up_to_poll(_: Registers, _: u64, _: &mut [Step]) -> Option<usize> {
    None
}

pub(super) fn intern(_: &[Address], _: StackEnd) -> Result<StackId, StackSource> {
    Err(StackSource::Unsupported)
}

#[derive(Default)]
pub(crate) struct Patience;

pub(crate) fn of_thread(_: u64, _: &mut Patience) -> (Option<StackId>, StackSource) {
    (None, StackSource::Unsupported)
}

pub(crate) fn of_blocked_thread(_: u64) -> Option<(Option<StackId>, StackSource)> {
    None
}

pub(crate) struct Piece;

impl Piece {
    pub(crate) const fn new() -> Self {
        Self
    }
}

pub(crate) fn walk_from(
    _: Registers,
    _: &Piece,
    _: &mut dyn FnMut(Address) -> bool,
) -> Result<StackEnd, StackSource> {
    Err(StackSource::Unsupported)
}
