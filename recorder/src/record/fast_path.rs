//! The fast path: an event in the ordinary case, and nothing else.
//!
//! Nearly always the thread has a slot, the slot has room in a block of the running generation, the
//! site is known, and the clock advances. This code handles only that case. It calls nothing, so
//! the compiler saves no registers. If anything else turns up, it leaves the gate as if it had
//! never entered, and the caller takes the slow path through
//! [`Writer`](crate::record::writer::Writer), which detects the same conditions again and handles
//! them.

use crate::os::clock;
use crate::protocol::frame;
use crate::record::block::committed;
use crate::record::control::{Control, control};
use crate::record::cursor::Reserved;
use crate::record::slot::Slot;
use crate::record::thread;
use lookback_snapshot::wire::{BLOCK_HEADER, Kind, MAX_VARINT};
use std::sync::atomic::Ordering;

/// An event that was begun: its arguments go to `cursor`. It must be committed.
pub(crate) struct Ordinary {
    pub(crate) cursor: Reserved,
    pub(crate) slot: &'static Slot,
}

impl Ordinary {
    /// Begins an event whose arguments take at most `size` bytes. `id` returns the site's id in the
    /// generation, which is put first: `None` if there is none, `Some(None)` if the event has no
    /// site.
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
        // While tracing is off, no slot has room in generation 0.
        if slot.gate.adopted() == generation
            && used + size <= slot.room.get() as usize
            && control.mode().has_counter()
            && let Some(id) = id(generation)
        {
            let (now, last) = (clock::counter(), slot.last.get());
            if now >= last {
                slot.last.set(now);
                let block = slot.block.get();
                let start = block.wrapping_add(BLOCK_HEADER + used);
                // SAFETY: the block has room for `size` bytes, which everything here takes at most.
                let mut cursor = unsafe { Reserved::new(start, size) };
                cursor.byte(kind as u8);
                cursor.short(now - last);
                if let Some(id) = id {
                    cursor.short(u64::from(id));
                }
                return Some(Self { cursor, slot });
            }
        }
        slot.gate.leave();
        None
    }

    /// Commits the event. The thread keeps the slot until [`leave`](Self::leave).
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

/// An entered slot with room for one record: for task and span events, which record more than their
/// arguments.
pub(crate) struct FastRecord {
    pub(crate) slot: &'static Slot,
    pub(crate) control: &'static Control,
    pub(crate) generation: u64,
    used: usize,
}

impl FastRecord {
    /// Enters, if a block of the running generation has room for a record of `size` bytes.
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
        // While tracing is off, no slot has room in generation 0.
        if slot.gate.adopted() == generation
            && used + size <= slot.room.get() as usize
            && control.mode().has_counter()
        {
            return Some(Self { slot, control, generation, used });
        }
        slot.gate.leave();
        None
    }

    /// The current time, never earlier than the slot's last event.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        clock::counter().max(self.slot.last.get())
    }

    /// Writes and commits the single event that there is room for, at time `now`. `put` writes its
    /// arguments.
    #[inline(always)]
    pub(crate) fn write(&self, kind: Kind, now: u64, put: impl FnOnce(&mut Reserved)) {
        let slot = self.slot;
        let start = slot.block.get().wrapping_add(BLOCK_HEADER);
        let room = slot.room.get() as usize - self.used;
        // SAFETY: there is room for the record.
        let mut cursor = unsafe { Reserved::new(start.wrapping_add(self.used), room) };
        cursor.byte(kind as u8);
        cursor.short(now - slot.last.get());
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
