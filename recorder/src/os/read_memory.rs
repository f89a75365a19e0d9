//! Memory that the kernel reads for us, so that nothing faults where there is none: that of this process, or of
//! another one.

use std::cell::Cell;

/// See the module.
pub(crate) trait ReadMemory: Copy {
    /// Copies the contiguous memory at `address` into `room`, as much as there is.
    fn copy(self, address: u64, room: &mut [u8]) -> &[u8];

    /// Like [`copy`](Self::copy), for words. Returns how many.
    fn words(self, address: u64, room: &[Cell<u64>]) -> usize;

    /// Whether what was read before can be trusted.
    fn is_sound(self) -> bool;
}
