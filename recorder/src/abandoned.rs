//! An event that never goes on: a handler of a signal had interrupted it, and left by `siglongjmp`.
//!
//! The next event of the thread that is not below it on the stack finds that out (see
//! [`frame`](crate::frame)). The block goes no further: what was half-written is behind what is committed.
//! The event counts as lost, as one that was interrupted, and uses up its number.
//!
//! What the handler has interrupted may have held something else: an entry of the table of texts, a place
//! that was about to be given out. That stays as it is, and is never used again.

use crate::block::{committed, read_header};
use crate::control::Control;
use crate::frame;
use crate::slot::Slot;
use crate::writer::Inside;
use lookback_snapshot::wire::{BlockHeader, Loss};
use std::sync::atomic::Ordering;

/// Takes the gate back from what is not there any more. Says whether the owner, who is `here` on its
/// stack, may enter now.
#[cold]
#[inline(never)]
pub(crate) fn take_back(slot: &'static Slot, control: &'static Control, here: u64) -> bool {
    // What went the ordinary way was there first, and less deep.
    let here = here.max(slot.refused_at.replace(0));
    if !frame::is_gone(slot.gate.entered_at(), here) {
        return false;
    }
    // While the flag is set no generation is complete that the owner is in; but the one that it has adopted
    // last may be an older one, whose blocks may be overwritten by now.
    if slot.gate.adopted() > control.complete.load(Ordering::Acquire) {
        count_again(slot, control.index_of(slot));
    }
    slot.gate.leave();
    let generation = slot.gate.enter(&control.generation, || control.mode().is_fenced());
    let inside = Inside::from_parts(slot, control, generation);
    if inside.is_recording() {
        inside.lose(Loss::Reentrant);
    } else {
        slot.count_lost(Loss::Reentrant);
    }
    slot.gate.leave();
    true
}

/// What was interrupted may have been changing what the slot knows of its blocks and events. The newest
/// block has it: which one it is, the number of its first event, and how many are committed. In one that has
/// any, all that was lost before is told.
fn count_again(slot: &Slot, index: u32) {
    let block = slot.block.get();
    if block.is_null() {
        return;
    }
    // SAFETY: the slot's block, whose generation is not complete.
    let (header, word) = unsafe { (read_header(block), committed(block).load(Ordering::Relaxed)) };
    // One that never was there has changed nothing.
    let is_newest = |header: &BlockHeader| {
        (header.slot, header.generation.0) == (index + 1, slot.gate.adopted())
    };
    let Some(header) = header.filter(is_newest) else { return };
    // One that holds nothing does not count for who reads, either.
    slot.sequence.set(header.sequence + u32::from(word != 0));
    let events = u64::from_le(word) >> 32;
    if events > 0 {
        slot.next_event.set(header.first_event + events + slot.lost_here.get());
    }
    slot.give_up_block_again(u64::from_le(word));
    slot.room.set(0);
}
