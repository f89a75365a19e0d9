//! Recovers from an event that never resumes, because a signal handler interrupted it and left by
//! `siglongjmp`.
//!
//! The thread's next event that is not below it on the stack notices that (see
//! [`frame`](crate::protocol::frame)). The block is abandoned: the half-written record lies past
//! its committed end. The interrupted event counts as lost to re-entrance and uses up its number.
//!
//! The interrupted code may have held something else: an entry of the string table, or a place that
//! was about to be handed out. That stays as it is and is never used again.

use crate::protocol::frame;
use crate::record::block::{committed, read_header};
use crate::record::control::Control;
use crate::record::slot::Slot;
use crate::record::writer::WriteCtx;
use lookback_snapshot::wire::{BlockHeader, Loss};
use std::sync::atomic::Ordering;

/// Takes the gate back from an event that is gone. Returns whether the owner, whose stack pointer
/// is `here`, may enter now.
#[cold]
#[inline(never)]
pub(crate) fn take_back(slot: &'static Slot, control: &'static Control, here: u64) -> bool {
    // The fast path was refused first, at a lesser stack depth.
    let here = here.max(slot.refused_at.replace(0));
    if !frame::is_gone(slot.gate.entered_at(), here) {
        return false;
    }
    // While the flag is set, the owner's generation is not complete. But the one that it adopted
    // last may be an older one, whose blocks may be overwritten by now.
    if slot.gate.adopted() > control.complete.load(Ordering::Acquire) {
        count_again(slot, control.index_of(slot));
    }
    slot.gate.leave();
    let generation = slot.gate.enter(&control.generation, || control.mode().is_fenced());
    let inside = WriteCtx::from_parts(slot, control, generation);
    if inside.is_recording() {
        inside.lose(Loss::Reentrant);
    } else {
        slot.count_lost(Loss::Reentrant);
    }
    slot.gate.leave();
    true
}

/// Recounts the slot's blocks and events, which the interrupted code may have been changing, from
/// the newest block: which block it is, the number of its first event, and how many are committed.
/// If any are, the block also states all earlier losses.
fn count_again(slot: &Slot, index: u32) {
    let block = slot.block.get();
    if block.is_null() {
        return;
    }
    // SAFETY: the slot's block, whose generation is not complete.
    let (header, word) = unsafe { (read_header(block), committed(block).load(Ordering::Relaxed)) };
    // A block whose header was never finished has changed nothing.
    let is_newest = |header: &BlockHeader| {
        (header.slot, header.generation.0) == (index + 1, slot.gate.adopted())
    };
    let Some(header) = header.filter(is_newest) else { return };
    // An empty block does not count for readers, either.
    slot.sequence.set(header.sequence + u32::from(word != 0));
    let events = u64::from_le(word) >> 32;
    if events > 0 {
        slot.next_event.set(header.first_event + events + slot.lost_here.get());
    }
    slot.give_up_block_again(u64::from_le(word));
    slot.room.set(0);
}
