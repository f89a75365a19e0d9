//! Memory for the blocks of a large arena on its first lap. The kernel takes a second or more to allocate a
//! gigabyte, and a service must not wait for that. So when recording starts, only the first part of the arena
//! is allocated, and a thread of its own ([`crate::recorder::growth`]) allocates the rest, piece by piece.
//!
//! # No thread touches memory that is not there
//!
//! A page that cannot be allocated would be a fatal signal for its first writer. So the arena's header says
//! how much memory there is ([`offset::GROWING`]). A writer whose block lies beyond that first allocates the
//! block's memory, by a call that fails instead (`MADV_POPULATE_WRITE`). If it fails, the event is lost and
//! counted. That happens on the first lap only, and only to writers that overtake the thread, which allocates
//! a gigabyte or more in a second.
//!
//! The word only grows until it becomes 0: all of it is there. It is stored (release) after the call, and
//! loaded (acquire) before the memory is used. Several threads may allocate the same pages, which does no
//! harm.

use crate::arena::room;
use crate::os::signal_chain::Errno;
use crate::record::control::Control;
use lookback_snapshot::wire::offset;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much a writer allocates if it cannot wait for the thread.
const LITTLE: usize = 256 << 10;
const PAGE: usize = 4096;

/// Whether there is memory up to this position. Called on a writer's thread, or the collector's.
#[inline]
pub(crate) fn reaches(control: &Control, end: u64) -> bool {
    let base = control.arena.load(Ordering::Relaxed);
    // SAFETY: a generation is published, or was when this writer entered, so the arena is mapped; its header
    // has a word there.
    let growing = unsafe { &*base.add(offset::GROWING).cast::<AtomicU64>() };
    let there = growing.load(Ordering::Acquire);
    there == 0 || end <= there || get(control, base, growing, end).is_ok()
}

/// Allocates the memory up to this position, on the first lap.
#[cold]
fn get(control: &Control, base: *mut u8, growing: &AtomicU64, end: u64) -> io::Result<()> {
    let _errno = Errno::keep();
    let capacity = control.capacity.load(Ordering::Relaxed);
    loop {
        let there = growing.load(Ordering::Acquire);
        // On a later lap everything before is there, and the end is no longer needed.
        if there == 0 || end.min(capacity) <= there {
            return Ok(());
        }
        let from = (offset::DATA + there as usize) / PAGE * PAGE;
        let to = (from + LITTLE).min(offset::DATA + capacity as usize);
        // SAFETY: within the mapping, as for `reaches`.
        unsafe { room::populate(base.add(from), to - from) }?;
        is_there(growing, to - offset::DATA, capacity as usize);
    }
}

/// Notes that `there` bytes of data, of `all`, have memory now.
pub(crate) fn is_there(growing: &AtomicU64, there: usize, all: usize) {
    let mut found = growing.load(Ordering::Relaxed);
    while found != 0 && found < there as u64 {
        let now = if there < all { there as u64 } else { 0 };
        match growing.compare_exchange(found, now, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => found = other,
        }
    }
}
