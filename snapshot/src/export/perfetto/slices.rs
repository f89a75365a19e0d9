//! What is open on a track. Its slices must nest, so one that ends before another that was opened inside of it ends with that
//! one.

use crate::wire::TaskId;

/// So many slices of a track are inside of one another: the trace processor leaves out what is deeper than 512, and takes
/// its ends for those of others.
const MOST_NESTED: usize = 500;

/// What a slice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Open {
    Poll(TaskId),
    Parked,
    Region,
}

/// A slice that has not ended.
#[derive(Clone, Copy, Debug)]
struct Slice {
    open: Open,
    /// How many around it have ended, and wait for it.
    waiting: usize,
    is_written: bool,
}

/// The slices of a track that have not ended, outermost first.
#[derive(Debug, Default)]
pub(super) struct Slices {
    open: Vec<Slice>,
    /// How many there are on the track.
    written: usize,
}

impl Slices {
    /// Whether it is to be written.
    pub(super) fn push(&mut self, open: Open) -> bool {
        let is_written = self.written < MOST_NESTED;
        self.written += usize::from(is_written);
        self.open.push(Slice { open, waiting: 0, is_written });
        is_written
    }

    /// Where the innermost of this kind is.
    pub(super) fn place(&self, open: Open) -> Option<usize> {
        self.open.iter().rposition(|slice| slice.open == open)
    }

    /// The slice at this place ends. Returns how many end on the track now.
    pub(super) fn end(&mut self, place: usize) -> usize {
        let ended = self.open.remove(place);
        let ends = usize::from(ended.is_written) + ended.waiting;
        if let Some(inside) = self.open.get_mut(place) {
            inside.waiting += ends;
            return 0;
        }
        self.written -= ends;
        ends
    }

    /// All end. Returns how many that are on the track.
    pub(super) fn end_all(&mut self) -> usize {
        self.open.clear();
        std::mem::take(&mut self.written)
    }

    /// Whether one more would be written.
    pub(super) fn has_room(&self) -> bool {
        self.written < MOST_NESTED
    }

    /// How many have not ended.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// How many of those are on the track.
    pub(super) fn written(&self) -> usize {
        self.written
    }
}
