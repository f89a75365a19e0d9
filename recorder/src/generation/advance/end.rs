//! The end of a generation: the statuses of what was silent in it, and its end record, in a block of their
//! own.

use super::{Advancer, COLLECTOR_SLOT};
use crate::arena::block_totals::Tally;
use crate::fault::{self, Point};
use crate::generation::noted;
use crate::generation::statedump::threads::{Notes, Statuses};
use crate::generation::thread_times::Ran;
use crate::generation::timing::put_pairs;
use crate::protocol::ring::Carved;
use crate::record::block::{committed, note_lost, write_headers};
use crate::record::growth;
use lookback_snapshot::wire::{
    BLOCK_GRANULE, BLOCK_HEADER, BlockHeader, Generation, Kind, Loss, Position, ThreadNumber,
    Ticks, offset, pack_committed, put_varint,
};
use std::sync::atomic::{Ordering, fence};

/// Room for the end record.
pub(super) const END_SIZE: usize = 1024;

/// What is written when a generation has ended.
pub(super) struct End {
    pub(super) bytes: Vec<u8>,
    base: u64,
    /// The losses that it reports, and the totals reported so far including them.
    pub(super) lost: Vec<(Loss, u64)>,
    pub(super) told: [u64; Loss::ALL.len() + 1],
}

impl Advancer {
    /// The statuses and the end record of `generation`, which no thread is in any more. `None` if writers
    /// have outrun it.
    pub(super) fn end_of(&self, generation: u64, notes: &Notes, tally: &Tally) -> Option<End> {
        let now = crate::os::clock::now(self.control.mode());
        let room = self.arena.capacity() as usize / 16;
        let room = room.next_multiple_of(BLOCK_GRANULE).saturating_sub(BLOCK_HEADER + END_SIZE);
        let statuses = |is_cut| {
            Statuses::new(self.control, generation, now, (room, is_cut))
                .write(notes, self.heap.as_ref())
        };
        let mut statuses = match statuses(false) {
            // If room is short, the more important statuses come first.
            (_, true) => statuses(true).0,
            (statuses, false) => statuses,
        };
        // What was read belongs to this generation only if none but the next has been running until now.
        fence(Ordering::Acquire);
        if self.control.is_outrun(generation) {
            return None;
        }
        for of in &self.thread_times {
            if statuses.len() + Ran::SIZE > room {
                break;
            }
            of.put(&mut statuses);
        }
        self.system.put(&mut statuses, room);
        let (lost, told) = self.put_end(&mut statuses, generation, tally);
        Some(End { bytes: statuses, base: now, lost, told })
    }

    /// Writes the end of `generation` into a block of its own. Returns whether there was room for it.
    pub(super) fn write_end(&self, generation: u64, end: &End) -> bool {
        let (control, capacity) = (self.control, self.arena.capacity());
        let length = (BLOCK_HEADER + end.bytes.len()).next_multiple_of(BLOCK_GRANULE);
        let carver = self.carver(generation);
        let carved = self.arena.ring().carve(length as u64, capacity, capacity, &carver);
        let reaches = |carved: &Carved| growth::reaches(control, carved.position + length as u64);
        let carved = carved.ok().filter(reaches);
        if let Some(carved) = carved {
            fault::point(Point::Listed);
            let header = BlockHeader {
                length: length as u32,
                position: Position(carved.position),
                generation: Generation(generation),
                base: Ticks(end.base),
                first_event: 0,
                slot: COLLECTOR_SLOT,
                sequence: 0,
                thread: ThreadNumber(0),
            };
            // SAFETY: both were carved from this arena, and stay pinned until they are written.
            let block = unsafe { write_headers(control, &header, carved.padding) };
            // SAFETY: the block is as long as this and its header.
            unsafe {
                let start = block.add(BLOCK_HEADER);
                std::ptr::copy_nonoverlapping(end.bytes.as_ptr(), start, end.bytes.len());
                let word = pack_committed(end.bytes.len() as u32, 0).to_le();
                committed(block).store(word, Ordering::Release);
            }
        }
        control.collector_pin.clear();
        carved.is_some()
    }

    fn put_end(
        &self,
        out: &mut Vec<u8>,
        generation: u64,
        tally: &Tally,
    ) -> (Vec<(Loss, u64)>, [u64; Loss::ALL.len() + 1]) {
        out.push(Kind::End as u8);
        put_varint(out, tally.events);
        put_varint(out, tally.bytes);
        put_varint(out, tally.blocks);
        let (mut lost, mut told) = (Vec::new(), self.told);
        for cause in Loss::ALL {
            let total = self.control.lost_until(generation, cause);
            let before = std::mem::replace(&mut told[cause as usize], total);
            let new = total.saturating_sub(before);
            if new > 0 {
                lost.push((cause, new));
            }
        }
        put_pairs(out, &lost.iter().map(|(cause, new)| (*cause as u64, *new)).collect::<Vec<_>>());
        let mut timings = self.timings.lock();
        put_pairs(out, &timings.advances.take_interval());
        put_pairs(out, &timings.waits.take_interval());
        put_pairs(out, &timings.snapshots.take_interval());
        (lost, told)
    }

    /// Notes in the arena's header which losses the end record reports.
    pub(super) fn note_told(&self, lost: &[(Loss, u64)]) {
        noted::note(&self.arena);
        for (cause, count) in lost {
            // SAFETY: this arena is mapped.
            let note = |at| unsafe { note_lost(self.arena.base(), at, *cause, *count) };
            // Other losses are noted when they happen. These happen outside the gate, where the arena may be
            // gone.
            if matches!(cause, Loss::Reentrant | Loss::NoSlot) {
                note(offset::LOST);
            }
            note(offset::LOST_AND_TOLD);
        }
    }
}
