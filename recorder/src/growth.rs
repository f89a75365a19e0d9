//! What of a large arena is not there when recording starts: a gigabyte of memory takes the kernel a second
//! or more, and a service must not wait for it. That there is as much is looked at before recording starts;
//! then the first part is allocated, and a thread of its own gets the rest, piece by piece, while it is
//! being recorded already.
//!
//! # Nothing that is not there is touched
//!
//! A page that cannot be had would be a fatal signal for its first writer. So the arena's header says
//! how much there is ([`offset::GROWING`]), and a writer whose block lies beyond that gets the memory for it first, by
//! a call that fails instead (`MADV_POPULATE_WRITE`). If it fails the event is lost, and counted. That happens
//! on the first lap only, and only to writers that overtake the thread, which gets a gigabyte or more in a second.
//!
//! If the memory is gone meanwhile (the thread asks before each piece, as the start does), recording stops,
//! and says why. What was recorded can still be read.
//!
//! The word only grows, until it is 0: all is there. It is stored (release) behind the call, and loaded
//! (acquire) before what is there is used. Several may get the same pages, which does no harm.

use crate::control::Control;
use crate::fault::{self, Point};
use crate::recorder::Shared;
use crate::sigaction::Errno;
use crate::{memory_left, own_thread, room};
use lookback_snapshot::wire::offset;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// The thread gets so much at a time, and a writer that cannot wait for it.
const PIECE: usize = 16 << 20;
const LITTLE: usize = 256 << 10;
const PAGE: usize = 4096;

/// Starts the thread, if anything is missing; without it, each page costs its first writer a while.
pub(crate) fn start(shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    if shared.arena().length() <= room::AT_ONCE {
        return None;
    }
    let shared = Arc::clone(shared);
    own_thread::spawn("lookback-room", move || run(&shared)).ok()
}

fn run(shared: &Shared) {
    let (arena, length) = (shared.arena(), shared.arena().length());
    let mut from = room::AT_ONCE;
    while from < length && !shared.is_ending() {
        fault::point(Point::Grow);
        let piece = PIECE.min(length - from);
        // What is allocated, or what writers have got, costs them less when it is touched here.
        let is_growing = arena.growing().load(Ordering::Acquire) != 0;
        let got = match is_growing {
            true => memory_left::check((length - from) as u64),
            false => Ok(()),
        };
        // SAFETY: within the mapping, which is there as long as the arena.
        let got = got.and_then(|()| unsafe { room::populate(arena.base().add(from), piece) });
        match got {
            Err(error) if is_growing => return shared.give_up(format!("the rest of the arena cannot be had: {error}")),
            Err(_) => return,
            Ok(()) => from += piece,
        }
        is_there(arena.growing(), from - offset::DATA, length - offset::DATA);
    }
}

/// So many bytes of data are there now, of so many in all.
fn is_there(growing: &AtomicU64, there: usize, all: usize) {
    let mut found = growing.load(Ordering::Relaxed);
    while found != 0 && found < there as u64 {
        let now = if there < all { there as u64 } else { 0 };
        match growing.compare_exchange(found, now, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(other) => found = other,
        }
    }
}

/// Whether there is memory behind what was carved up to this position. On a writer's thread, or the collector's.
#[inline]
pub(crate) fn reaches(control: &Control, end: u64) -> bool {
    let base = control.arena.load(Ordering::Relaxed);
    // SAFETY: a generation is published, or was when this writer came in, so the arena is mapped; its header has
    // a word there.
    let growing = unsafe { &*base.add(offset::GROWING).cast::<AtomicU64>() };
    let there = growing.load(Ordering::Acquire);
    there == 0 || end <= there || get(control, base, growing, end).is_ok()
}

/// Gets the memory up to this position, on the first lap.
#[cold]
fn get(control: &Control, base: *mut u8, growing: &AtomicU64, end: u64) -> io::Result<()> {
    let _errno = Errno::keep();
    let capacity = control.capacity.load(Ordering::Relaxed);
    loop {
        let there = growing.load(Ordering::Acquire);
        // On a later lap what lies in front is there, and the end is not needed any more.
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
