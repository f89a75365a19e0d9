//! Writes an event in every case, including when a block or a generation ends. `fast_path` handles
//! the ordinary case, and falls back to this module.
//!
//! A [`Writer`] is a thread inside its gate: it knows the generation, which no thread can complete
//! meanwhile. Ordinarily an event costs the clock instruction, a few plain stores and no atomic
//! read-modify-write. Everything else is cold: a thread's first event, the first one of a
//! generation (which states the thread and its open regions), a full block, a full arena.
//!
//! Nothing here panics, waits or allocates, and all of it may run in a signal handler.
//!
//! # What is committed
//!
//! The `committed` word in the block's header holds the number of readable bytes and the number of
//! events among them. It is stored (release) after each record. So a reader that loads it
//! (acquire), in this process or another, or in the memory of a dead one, finds whole records below
//! it.

use crate::os::clock;
use crate::protocol::frame;
use crate::record::block::{committed, note_lost, place_of, ring, write_headers};
use crate::record::carver::Carver;
use crate::record::control::{Control, control};
use crate::record::cursor::Reserved;
use crate::record::site::Site;
use crate::record::slot::Slot;
use crate::record::value::Values;
use crate::record::{abandoned, growth, publish, thread};
use crate::{crash, fault};
use lookback_snapshot::wire::{
    BLOCK_GRANULE, BLOCK_HEADER, BlockHeader, Generation, Kind, Loss, MAX_VARINT, Position,
    ThreadNumber, Ticks, offset,
};
use std::sync::atomic::Ordering;

/// The most bytes that the records of one event take; every block has room for it.
pub(crate) const MAX_RECORD: usize = 3584;
/// A clock that goes back by less than this many nanoseconds is held still; one that goes back
/// further (the machine was moved) begins a new block.
const CLAMPED_NANOS: u64 = 1_000_000;

/// A thread inside its gate. Leaves when dropped.
pub(crate) struct Writer(WriteCtx);

impl Drop for Writer {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.slot.gate.leave();
    }
}

impl Writer {
    /// Enters the gate of this thread's slot, after [`is_recording`](crate::is_recording) returned
    /// true. `None` if tracing was turned off meanwhile, if the thread is inside already, or if
    /// there is no slot for it.
    #[inline(always)]
    pub(crate) fn enter() -> Option<Self> {
        let control = control();
        let writer = Self::enter_slot(control, thread::current_slot(control)?)?;
        // Otherwise dropping the writer leaves the gate.
        writer.0.is_recording().then_some(writer)
    }

    /// Enters the gate of `slot`, which belongs to this thread; `None` if the thread is inside
    /// already. The caller must check whether tracing is on.
    #[inline(always)]
    pub(crate) fn enter_slot(control: &'static Control, slot: &'static Slot) -> Option<Self> {
        if slot.gate.is_inside() && !abandoned::take_back(slot, control, frame::here()) {
            slot.count_lost(Loss::Reentrant);
            return None;
        }
        let generation = slot.gate.enter(&control.generation, || control.mode().is_fenced());
        Some(Self(WriteCtx { slot, control, generation }))
    }

    /// The context for writing.
    #[inline(always)]
    pub(crate) fn inside(&self) -> WriteCtx {
        self.0
    }
}

/// What a writer knows. On the hot path it stays in registers: cold functions take its fields one
/// by one, because passing the address of the whole would force it into memory.
#[derive(Clone, Copy)]
pub struct WriteCtx {
    slot: &'static Slot,
    control: &'static Control,
    generation: u64,
}

impl WriteCtx {
    /// Whether there is a generation to write in.
    #[inline(always)]
    pub(crate) fn is_recording(self) -> bool {
        self.generation != 0
    }

    /// The separate fields, for a cold function.
    #[inline(always)]
    pub(crate) fn parts(self) -> (&'static Slot, &'static Control, u64) {
        (self.slot, self.control, self.generation)
    }

    pub(crate) fn from_parts(
        slot: &'static Slot,
        control: &'static Control,
        generation: u64,
    ) -> Self {
        Self { slot, control, generation }
    }

    #[inline(always)]
    pub(crate) fn generation(self) -> u64 {
        self.generation
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> &'static Slot {
        self.slot
    }

    pub(crate) fn strings(self) -> &'static crate::record::strings::StringTable {
        self.control.strings()
    }

    /// Begins an event whose arguments take at most `size` bytes: returns where to put them, and
    /// the time. `None` if the event is lost; the loss is counted.
    #[inline(always)]
    pub(crate) fn begin(self, kind: Kind, size: usize) -> Option<(Reserved, u64)> {
        let size = 1 + MAX_VARINT + size;
        if !self.has_room(size) {
            self.lose(Loss::ArenaFull);
            return None;
        }
        let slot = self.slot;
        let now = clock::now(self.control.mode());
        let mut delta = now.wrapping_sub(slot.last.get());
        if delta > u64::MAX / 2 {
            delta = went_back(slot, self.control, self.generation, now, size)?;
        }
        slot.last.set(slot.last.get().wrapping_add(delta));
        let mut cursor = self.end_of_block();
        cursor.byte(kind as u8);
        cursor.short(delta);
        Some((cursor, now))
    }

    /// As [`begin`](Self::begin), for an event whose first argument is a site.
    #[inline(always)]
    pub(crate) fn begin_at(self, kind: Kind, site: &Site, size: usize) -> Option<(Reserved, u64)> {
        let id = match site.id(self) {
            Ok(id) => id,
            Err(cause) => {
                self.lose(cause);
                return None;
            }
        };
        let (mut cursor, now) = self.begin(kind, MAX_VARINT + size)?;
        cursor.short(u64::from(id));
        Some((cursor, now))
    }

    /// As [`begin`](Self::begin), for an event that names a site: returns its id, and where to put
    /// the id and all other arguments, at most `size` bytes.
    #[inline(always)]
    pub(crate) fn begin_at_id(
        self,
        kind: Kind,
        site: &Site,
        size: usize,
    ) -> Option<(u32, Reserved)> {
        let id = match site.id(self) {
            Ok(id) => id,
            Err(cause) => {
                self.lose(cause);
                return None;
            }
        };
        Some((id, self.begin(kind, MAX_VARINT + size)?.0))
    }

    /// Makes room for records of `size` bytes in one block, in which the slot is stated.
    #[inline(always)]
    pub(crate) fn room_for(self, size: usize) -> Result<(), Loss> {
        if self.has_room(size) { Ok(()) } else { Err(Loss::ArenaFull) }
    }

    /// Commits an event.
    ///
    /// # Safety
    /// `cursor` must come from [`begin`](Self::begin), with nothing but the event's arguments put.
    #[inline(always)]
    pub(crate) unsafe fn commit(self, cursor: Reserved) {
        // SAFETY: as the caller promises.
        unsafe { self.commit_as(1 << 32, cursor) };
    }

    /// Records a typed event.
    #[inline(always)]
    pub(crate) fn typed_event<V: Values>(self, site: &Site, mut values: V) {
        let (id, hidden) = match site.id_with(V::TYPES, self) {
            Ok(found) => found,
            Err(cause) => return self.lose(cause),
        };
        if hidden != 0 {
            return self.event_without_secrets(id, values, hidden);
        }
        values.resolve(self);
        if let Some((mut cursor, _)) = self.begin(Kind::Event, MAX_VARINT + values.size()) {
            // SAFETY: the size asked for is that of the id and the values.
            unsafe {
                cursor.short(u64::from(id));
                values.put(&mut cursor);
                self.commit(cursor);
            }
        }
    }

    /// Records a typed event with hidden values.
    #[cold]
    #[inline(never)]
    fn event_without_secrets<V: Values>(self, id: u32, mut values: V, hidden: u64) {
        values.resolve_shown(self, hidden);
        let size = MAX_VARINT + values.size_shown(hidden);
        if let Some((mut cursor, _)) = self.begin(Kind::Event, size) {
            // SAFETY: the size asked for is that of the id and the values.
            unsafe {
                cursor.number(u64::from(id));
                values.put_shown(&mut cursor, hidden);
                self.commit(cursor);
            }
        }
    }

    /// Writes a record that is not an event: a definition or a status.
    pub(crate) fn record(
        self,
        kind: Kind,
        size: usize,
        put: impl FnOnce(&mut Reserved),
    ) -> Result<(), Loss> {
        if !self.has_room(1 + size) {
            return Err(Loss::ArenaFull);
        }
        self.put_record(kind, put);
        Ok(())
    }

    /// An id for a definition in this generation, unless all are used.
    pub(crate) fn next_id(self) -> Result<u32, Loss> {
        self.control.ids.next(self.generation)
    }

    /// Whether the slot has a block of this generation with room for `size` bytes; opens one if
    /// possible.
    #[inline(always)]
    fn has_room(self, size: usize) -> bool {
        let slot = self.slot;
        // A slot that must be stated has no room, and a slot with room has a block.
        let used = slot.committed.get() as u32 as usize;
        (slot.gate.adopted() == self.generation && used + size <= slot.room.get() as usize)
            || make_room(self.slot, self.control, self.generation, size)
    }

    fn get_room(self, size: usize) -> bool {
        let slot = self.slot;
        self.adopt();
        if slot.must_state.get() {
            // The statement itself is written with room made for it.
            slot.must_state.set(false);
            if self.state().is_none() {
                self.retire_block();
                slot.must_state.set(true);
                return false;
            }
            slot.gate.note_stated();
        }
        self.block_for(size)
    }

    /// Makes the writer's generation the slot's own. Called before anything in the slot changes.
    fn adopt(self) {
        let slot = self.slot;
        if slot.gate.adopted() == self.generation {
            return;
        }
        crash::take_back_if_left();
        self.retire_block();
        slot.mark_losses();
        // Reset before adopting: after that, the number counts as one of this generation.
        slot.sequence.set(0);
        slot.gate.adopt(self.generation);
        slot.forget_last();
        // As much as the last generation used, so that most slots need one block.
        let largest = self.control.max_block.load(Ordering::Relaxed) as u32;
        let wanted = slot.used.replace(0).next_multiple_of(BLOCK_GRANULE as u32);
        slot.next_block.set(wanted.clamp(BLOCK_GRANULE as u32, largest));
        slot.must_state.set(true);
    }

    /// Ensures a block with room for `size` bytes.
    pub(crate) fn block_for(self, size: usize) -> bool {
        let slot = self.slot;
        if slot.committed.get() as u32 as usize + size <= slot.room.get() as usize {
            return true;
        }
        self.retire_block();
        let least = (size + BLOCK_HEADER).next_multiple_of(BLOCK_GRANULE) as u32;
        let length = slot.next_block.get().max(least);
        if !self.open_block(length) {
            return false;
        }
        let largest = self.control.max_block.load(Ordering::Relaxed) as u32;
        slot.next_block.set(length.saturating_mul(2).min(largest));
        true
    }

    /// The clock went back. Returns a delta to continue with, in a new block if it went back far.
    fn go_on_from(self, now: u64, size: usize) -> Option<u64> {
        let entry = ring(self.control).entry(self.generation);
        let frequency = entry.frequency.load(Ordering::Relaxed);
        let limit = frequency / (1_000_000_000 / CLAMPED_NANOS);
        if self.slot.last.get().wrapping_sub(now) <= limit {
            return Some(0);
        }
        self.retire_block();
        if !self.block_for(size) {
            self.lose(Loss::ArenaFull);
            return None;
        }
        Some(now.saturating_sub(self.slot.last.get()))
    }

    /// Appends a record that is not an event; there must be room for it.
    pub(crate) fn put_record(self, kind: Kind, put: impl FnOnce(&mut Reserved)) {
        let mut cursor = self.end_of_block();
        // SAFETY: the caller has made room in an open block.
        unsafe {
            cursor.byte(kind as u8);
            put(&mut cursor);
            self.commit_as(0, cursor);
        }
    }

    /// Where the next record goes.
    #[inline(always)]
    fn end_of_block(self) -> Reserved {
        let used = self.slot.committed.get() as u32 as usize;
        let start = self.slot.block.get().wrapping_add(BLOCK_HEADER + used);
        let room = self.slot.room.get() as usize - used;
        // SAFETY: the caller has made room in the open block for what it puts.
        unsafe { Reserved::new(start, room) }
    }

    /// Commits what was put; `event` is one event in units of `committed`, or 0.
    ///
    /// # Safety
    /// `cursor` must come from [`end_of_block`](Self::end_of_block), with one record put.
    #[inline(always)]
    unsafe fn commit_as(self, event: u64, cursor: Reserved) {
        let slot = self.slot;
        let block = slot.block.get();
        let events = (slot.committed.get() & !0xffff_ffff) + event;
        let after = events + cursor.bytes_since(block.wrapping_add(BLOCK_HEADER)) as u64;
        slot.committed.set(after);
        // SAFETY: a record was put, so there is a block.
        unsafe { committed(block) }.store(after.to_le(), Ordering::Release);
    }

    /// Loses an event: its number is used up, and the next block says so and states the thread
    /// again, because the lost event may have changed it.
    #[inline(always)]
    pub(crate) fn lose(self, cause: Loss) {
        lose(self.slot, self.control, self.generation, cause);
    }

    fn use_up_number(self, cause: Loss) {
        let slot = self.slot;
        // Adopt first, so that the loss counts in this generation.
        self.adopt();
        self.count_lost(cause);
        self.retire_block();
        slot.next_event.set(slot.next_event.get() + 1);
        slot.lost_here.set(slot.lost_here.get() + 1);
        slot.lost_cause.set(cause as u8);
        slot.must_state.set(true);
        slot.forget_last();
    }

    /// Counts a lost event, also in the arena, where the count can be read if the process dies now.
    #[cold]
    pub(crate) fn count_lost(self, cause: Loss) {
        self.slot.count_lost(cause);
        let arena = self.control.arena.load(Ordering::Relaxed);
        // SAFETY: a generation is published, or was when this writer entered: until it has left,
        // the arena is mapped.
        unsafe { note_lost(arena, offset::LOST, cause, 1) };
    }

    /// Gives up the block being filled. Writes nothing to it, because it may belong to another
    /// writer by now.
    pub(crate) fn retire_block(self) {
        let slot = self.slot;
        if let Some(committed) = slot.end_block() {
            let used = committed as u32 + BLOCK_HEADER as u32;
            slot.used.set(slot.used.get().saturating_add(used));
        }
    }

    fn open_block(self, length: u32) -> bool {
        let (slot, control) = (self.slot, self.control);
        let capacity = control.capacity.load(Ordering::Relaxed);
        let limit = control.limit.load(Ordering::Relaxed);
        let carver = Carver { control, slot: Some(slot), generation: self.generation };
        let Ok(carved) = ring(control).carve(u64::from(length), capacity, limit, &carver) else {
            control.request_advance();
            return false;
        };
        let end = carved.position + u64::from(length);
        let used = end.saturating_sub(control.running_start.load(Ordering::Relaxed));
        if used > control.early_advance.load(Ordering::Relaxed) {
            control.request_advance();
            // The collector is late, perhaps for want of a core.
            if used > control.late_advance.load(Ordering::Relaxed) {
                publish::next(&carver);
            }
        }
        // Otherwise the carved block is a hole.
        if !growth::reaches(control, end) {
            return false;
        }
        fault::point(fault::Point::Carved);
        let now = clock::now(self.control.mode());
        let header = BlockHeader {
            length,
            position: Position(carved.position),
            generation: Generation(self.generation),
            base: Ticks(now),
            first_event: slot.next_event.get(),
            slot: control.index_of(slot) + 1,
            sequence: slot.sequence.get(),
            thread: ThreadNumber(slot.thread.load(Ordering::Relaxed)),
        };
        // SAFETY: the block was carved, so it belongs to this writer until its generation is
        // complete, and it lies within the data.
        unsafe {
            // Store it first, so that it is found if this thread never continues: see `abandoned`.
            slot.block.set(place_of(control, carved.position));
            write_headers(control, &header, carved.padding);
        }
        slot.sequence.set(slot.sequence.get() + 1);
        slot.room.set(length - BLOCK_HEADER as u32);
        slot.committed.set(0);
        slot.last.set(now);
        true
    }
}

#[cold]
#[inline(never)]
fn make_room(slot: &'static Slot, control: &'static Control, generation: u64, size: usize) -> bool {
    fault::point(fault::Point::Inside);
    WriteCtx { slot, control, generation }.get_room(size)
}

#[cold]
#[inline(never)]
fn went_back(
    slot: &'static Slot,
    control: &'static Control,
    generation: u64,
    now: u64,
    size: usize,
) -> Option<u64> {
    WriteCtx { slot, control, generation }.go_on_from(now, size)
}

#[cold]
#[inline(never)]
fn lose(slot: &'static Slot, control: &'static Control, generation: u64, cause: Loss) {
    WriteCtx { slot, control, generation }.use_up_number(cause);
}
