//! Arenas for tests, made of a header alone.

use lookback::read::wire::{ARENA_MAGIC, ARENA_VERSION, offset};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// An arena of one page in which nothing has been recorded, of a process that states this ID.
pub fn empty(pid: u32) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(offset::DATA as u64 + 4096).unwrap();
    put(&file, 0, &ARENA_MAGIC);
    put(&file, offset::VERSION, &ARENA_VERSION.to_le_bytes());
    put(&file, offset::HEADER_LENGTH, &(offset::DATA as u32).to_le_bytes());
    put(&file, offset::CAPACITY, &4096_u64.to_le_bytes());
    put(&file, offset::PID, &pid.to_le_bytes());
    file
}

/// Writes a field of the header: see [`offset`].
pub fn put(file: &File, at: usize, bytes: &[u8]) {
    file.write_all_at(bytes, at as u64).unwrap();
}
