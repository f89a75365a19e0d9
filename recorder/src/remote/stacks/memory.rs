//! The memory of another process, as the kernel reads it.

#![forbid(unsafe_code)]

use crate::os::read_memory::ReadMemory;
use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The file `/proc/PID/mem`, opened.
#[derive(Clone, Copy)]
pub(super) struct OutsideMemory<'a>(pub(super) &'a File);

impl ReadMemory for OutsideMemory<'_> {
    fn copy(self, address: u64, room: &mut [u8]) -> &[u8] {
        let mut done = 0;
        while done < room.len() {
            let Some(from) = address.checked_add(done as u64) else { break };
            match self.0.read_at(&mut room[done..], from) {
                Ok(copied) if copied > 0 => done += copied,
                _ => break,
            }
        }
        &room[..done]
    }

    fn words(self, address: u64, room: &[Cell<u64>]) -> usize {
        const PIECE: usize = 128;
        let mut bytes = [0; PIECE * 8];
        let mut done = 0;
        for cells in room.chunks(PIECE) {
            let found = self.copy(address + done as u64 * 8, &mut bytes[..cells.len() * 8]);
            let (words, _) = found.as_chunks();
            words.iter().zip(cells).for_each(|(word, cell)| cell.set(u64::from_ne_bytes(*word)));
            done += words.len();
            if words.len() < cells.len() {
                break;
            }
        }
        done
    }

    /// The file is of the process that it was opened for, whatever becomes of that.
    fn is_sound(self) -> bool {
        true
    }
}
