//! The thread that allocates the rest of a large arena while recording runs: see
//! [`crate::record::growth`].
//!
//! The start checks that there is enough memory. If the memory is gone later (the thread checks
//! before each piece, as the start does), recording stops and says why. The existing records can
//! still be read.

use crate::arena::room;
use crate::fault::{self, Point};
use crate::os::{memory_left, own_thread};
use crate::record::growth::is_there;
use crate::recorder::Shared;
use lookback_snapshot::wire::offset;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

/// The thread allocates this much at a time.
const PIECE: usize = 16 << 20;

/// Starts the thread, if anything is missing. Without it, the first write to each page would be
/// slow.
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
        // Also touch memory that is allocated already, by a writer or at the start: that makes its
        // first use cheaper.
        let is_growing = arena.growing().load(Ordering::Acquire) != 0;
        let got = match is_growing {
            true => memory_left::check((length - from) as u64),
            false => Ok(()),
        };
        // SAFETY: the range lies within the mapping, which lives as long as the arena.
        let got = got.and_then(|()| unsafe { room::populate(arena.base().add(from), piece) });
        match got {
            Err(error) if is_growing => {
                return shared
                    .give_up(format!("the rest of the arena could not be allocated: {error}"));
            }
            Err(_) => return,
            Ok(()) => from += piece,
        }
        is_there(arena.growing(), from - offset::DATA, length - offset::DATA);
    }
}
