//! Rows of incomplete generations, each of which is read with what the previous one leaves.
//!
//! A row may have hundreds of generations, if a recorder's collector got no processor. A reader that takes
//! one after the other, or the same one again, must not read the whole row each time. So the state before the
//! last requested generation is kept, and the state before every eighth, as far as there is room.

use crate::read::decode::carried::Carry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One state is kept for each run of this many generations.
const STEP: usize = 8;
/// About how many bytes those may take.
const ROOM: usize = 64 << 20;

/// What is left to a generation; `None` if the previous one cannot be read.
pub(crate) type Left = Option<Arc<Carry>>;

/// See the module. Generations are identified by their index in the file.
#[derive(Default)]
pub(crate) struct Chain {
    kept: BTreeMap<usize, Left>,
    last: Option<(usize, Left)>,
    bytes: usize,
}

impl Chain {
    /// What was left to this one, if it is kept.
    pub(crate) fn get(&self, at: usize) -> Option<Left> {
        let last = self.last.as_ref().filter(|(last, _)| *last == at).map(|(_, left)| left);
        last.or_else(|| self.kept.get(&at)).cloned()
    }

    /// Keeps what is left to the one at `at`.
    pub(crate) fn keep(&mut self, at: usize, left: &Left) {
        self.last = Some((at, left.clone()));
        let bytes = left.as_ref().map_or(0, |carry| carry.bytes());
        let is_step = at.is_multiple_of(STEP);
        if is_step && self.bytes + bytes <= ROOM && !self.kept.contains_key(&at) {
            self.bytes += bytes;
            self.kept.insert(at, left.clone());
        }
    }
}
