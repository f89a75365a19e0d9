//! Incomplete generations in a row, each of which is read with what the one before it leaves.
//!
//! There may be hundreds of them, where a recorder's collector got no processor. Who reads one after the
//! other, or the same one again, should not read the whole row each time: what was left to the last one
//! that was asked for is kept, and at every few of them what was left there, as far as there is room.

use super::carry::Carry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Of so many in a row, one is kept.
const STEP: usize = 8;
/// Bytes that those may take, about.
const ROOM: usize = 64 << 20;

/// What is left to a generation; nothing if the one before it cannot be read.
pub(super) type Left = Option<Arc<Carry>>;

/// See the module. Generations are told by where they stand in the file.
#[derive(Default)]
pub(super) struct Chain {
    kept: BTreeMap<usize, Left>,
    last: Option<(usize, Left)>,
    bytes: usize,
}

impl Chain {
    /// What was left to this one, if it is kept.
    pub(super) fn get(&self, at: usize) -> Option<Left> {
        let last = self.last.as_ref().filter(|(last, _)| *last == at).map(|(_, left)| left);
        last.or_else(|| self.kept.get(&at)).cloned()
    }

    /// Keeps what is left to the one at `at`.
    pub(super) fn keep(&mut self, at: usize, left: &Left) {
        self.last = Some((at, left.clone()));
        let bytes = left.as_ref().map_or(0, |carry| carry.bytes());
        let is_step = at.is_multiple_of(STEP);
        if is_step && self.bytes + bytes <= ROOM && !self.kept.contains_key(&at) {
            self.bytes += bytes;
            self.kept.insert(at, left.clone());
        }
    }
}
