// What the fuzz target and the tests share: how some bytes become a damaged arena. Included by both.

use lookback_snapshot::wire::{
    BLOCK_GRANULE, BLOCK_HEADER, BlockHeader, Generation, Position, ThreadNumber, Ticks, offset,
};

/// The arena of a real process that was killed, compressed: 256 KiB that it went round once and more.
pub const BASE: &[u8] = include_bytes!("base.arena.zst");

/// The base, damaged as `input` says: its first byte chooses how, the next four say how many bytes are
/// left of it, and each five after that are a place and what is put there.
///
/// A block's header is guarded by a hash, which damage would hardly ever pass. So one of the ways makes
/// the hashes right again, as somebody hostile would.
pub fn damaged(base: &[u8], input: &[u8]) -> Vec<u8> {
    let Some((way, rest)) = input.split_first() else { return base.to_vec() };
    if way & 1 != 0 {
        return rest.to_vec();
    }
    let mut arena = base.to_vec();
    let Some((length, patches)) = rest.split_first_chunk::<4>() else { return arena };
    for patch in patches.chunks_exact(5) {
        let at = u32::from_le_bytes([patch[0], patch[1], patch[2], patch[3]]) as usize;
        let at = at % arena.len();
        arena[at] = patch[4];
    }
    if way & 2 != 0 {
        seal(&mut arena, base);
    }
    let length = u32::from_le_bytes(*length) as usize;
    if way & 4 != 0 {
        arena.truncate(length % (base.len() + 1));
    }
    arena
}

/// Makes the hash of every block of `base` right in `arena`, whatever its header says now.
fn seal(arena: &mut [u8], base: &[u8]) {
    for at in (offset::DATA..base.len()).step_by(BLOCK_GRANULE) {
        let was = header(&base[at..]);
        if u32::from_le_bytes([base[at], base[at + 1], base[at + 2], base[at + 3]]) == was.check() {
            let check = header(&arena[at..]).check();
            arena[at..at + 4].copy_from_slice(&check.to_le_bytes());
        }
    }
}

fn header(bytes: &[u8]) -> BlockHeader {
    assert!(bytes.len() >= BLOCK_HEADER);
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    BlockHeader {
        length: u32_at(4),
        position: Position(u64_at(8)),
        generation: Generation(u64_at(16)),
        base: Ticks(u64_at(24)),
        first_event: u64_at(32),
        slot: u32_at(40),
        sequence: u32_at(44),
        thread: ThreadNumber(u64_at(48)),
    }
}
