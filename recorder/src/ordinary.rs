//! The ordinary case of an event, and nothing else.
//!
//! Nearly always the thread has a slot, the slot has room in a block of the running generation, the
//! site is known, and the clock goes on. This is that case alone: it calls nothing, so the compiler
//! saves no registers for it. If anything else is found, the gate is left as if it had never been
//! entered, and the caller goes the long way through [`Writer`](crate::writer::Writer), which finds
//! the same things again and deals with them.

use crate::block::committed;
use crate::clock;
use crate::control::{Control, control};
use crate::cursor::Cursor;
use crate::frame;
use crate::slot::Slot;
use crate::thread;
use lookback_snapshot::wire::{BLOCK_HEADER, Kind, MAX_VARINT};
use std::sync::atomic::Ordering;

/// An event that was begun: its arguments go to `cursor`. It must be committed.
pub(crate) struct Ordinary {
    pub(crate) cursor: Cursor,
    pub(crate) slot: &'static Slot,
}

impl Ordinary {
    /// Begins an event whose arguments take `size` bytes at most. `id` is asked for the id of its
    /// site in the generation, which is put first; `None` if it has none, and `Some(None)` if the
    /// event has no site.
    #[inline(always)]
    pub(crate) fn begin(
        kind: Kind,
        size: usize,
        id: impl FnOnce(u64) -> Option<Option<u32>>,
    ) -> Option<Self> {
        let control = control();
        let slot = thread::present_slot()?;
        if slot.gate.is_inside() {
            slot.refused_at.set(frame::here());
            return None;
        }
        let generation = slot.gate.enter(&control.generation, || control.mode().is_fenced());
        let used = slot.committed.get() as u32 as usize;
        let size = 1 + 2 * MAX_VARINT + size;
        // With tracing off, no slot has room in a generation of that number.
        if slot.gate.adopted() == generation
            && used + size <= slot.room.get() as usize
            && control.mode().has_counter()
            && let Some(id) = id(generation)
        {
            let (now, last) = (clock::counter(), slot.last.get());
            if now >= last {
                slot.last.set(now);
                let block = slot.block.get();
                let mut cursor = Cursor::at(block.wrapping_add(BLOCK_HEADER + used));
                // SAFETY: there is room for `size` bytes, which is what all of it takes.
                unsafe {
                    cursor.byte(kind as u8);
                    cursor.short(now - last);
                    if let Some(id) = id {
                        cursor.short(u64::from(id));
                    }
                }
                return Some(Self { cursor, slot });
            }
        }
        slot.gate.leave();
        None
    }

    /// Commits the event. The slot is still the thread's alone until [`leave`](Self::leave).
    ///
    /// # Safety
    /// Nothing but the event's arguments may have been put.
    #[inline(always)]
    pub(crate) unsafe fn commit(&self) {
        let slot = self.slot;
        let block = slot.block.get();
        let bytes = self.cursor.bytes_since(block.wrapping_add(BLOCK_HEADER)) as u64;
        let events = (slot.committed.get() & !0xffff_ffff) + (1 << 32);
        slot.committed.set(events + bytes);
        // SAFETY: an event was begun, so there is a block.
        unsafe { committed(block) }.store((events + bytes).to_le(), Ordering::Release);
    }

    /// Leaves the gate.
    #[inline(always)]
    pub(crate) fn leave(self) {
        self.slot.gate.leave();
    }
}

/// A slot that was entered, with room for one record: for events that need more said than their
/// arguments, of tasks and of spans.
pub(crate) struct Ready {
    pub(crate) slot: &'static Slot,
    pub(crate) control: &'static Control,
    pub(crate) generation: u64,
    used: usize,
}

impl Ready {
    /// Enters, if there is room for a record of `size` bytes in a block of the running generation.
    #[inline(always)]
    pub(crate) fn enter(size: usize) -> Option<Self> {
        let control = control();
        let slot = thread::present_slot()?;
        if slot.gate.is_inside() {
            slot.refused_at.set(frame::here());
            return None;
        }
        let generation = slot.gate.enter(&control.generation, || control.mode().is_fenced());
        let used = slot.committed.get() as u32 as usize;
        // With tracing off, no slot has room in a generation of that number.
        if slot.gate.adopted() == generation
            && used + size <= slot.room.get() as usize
            && control.mode().has_counter()
        {
            return Some(Self { slot, control, generation, used });
        }
        slot.gate.leave();
        None
    }

    /// The present; a clock that goes back is held still.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        clock::counter().max(self.slot.last.get())
    }

    /// Writes and commits the one event that there is room for, which happened at `now`. `put` puts
    /// its arguments.
    #[inline(always)]
    pub(crate) fn write(&self, kind: Kind, now: u64, put: impl FnOnce(&mut Cursor)) {
        let slot = self.slot;
        let start = slot.block.get().wrapping_add(BLOCK_HEADER);
        let mut cursor = Cursor::at(start.wrapping_add(self.used));
        // SAFETY: there is room for the record.
        unsafe {
            cursor.byte(kind as u8);
            cursor.short(now - slot.last.get());
        }
        put(&mut cursor);
        slot.last.set(now);
        let events = (slot.committed.get() & !0xffff_ffff) + (1 << 32);
        let after = events + cursor.bytes_since(start) as u64;
        slot.committed.set(after);
        // SAFETY: there is a block, because there is room in it.
        unsafe { committed(slot.block.get()) }.store(after.to_le(), Ordering::Release);
    }

    /// Leaves the gate.
    #[inline(always)]
    pub(crate) fn leave(self) {
        self.slot.gate.leave();
    }
}
