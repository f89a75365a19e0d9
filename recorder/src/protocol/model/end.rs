//! The end of a recording: once it is over, no thread is inside the arena, whichever generations
//! were published meanwhile, and by which thread.

use super::{Plain, RACE, holds, is_caught};
use crate::protocol::gate::Gate;
use crate::sync::{AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Arc;

/// How the recording is ended: as it should be, or with a mistake.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Well,
    /// Does not wait for any thread if a later generation runs than the one that was noted.
    GoesWhenOutrun,
    /// Does not wait for writers that have adopted the generation after the noted one, as an
    /// advance would.
    LetsLaterOnesBe,
    WithoutBarrier,
    /// Sets the published generation to 0 only if it is the one that was noted.
    OnlyIfNoted,
}

struct Scene {
    published: AtomicU64,
    gate: Gate,
    /// The arena. The ending thread unmaps it, which counts as a write.
    arena: Plain,
}

impl Scene {
    /// `Writer::enter`, `Inside::adopt`, and an event in the arena. If `publishes`, the event fills
    /// the generation and `publish::next` publishes the next one.
    fn write(&self, publishes: bool) {
        let generation = self.gate.enter(&self.published, || true);
        if generation != 0 {
            if self.gate.adopted() != generation {
                self.gate.adopt(generation);
            }
            self.arena.set(generation);
            if publishes {
                let (next, order) = (generation + 1, (Ordering::AcqRel, Ordering::Acquire));
                let _ = self.published.compare_exchange(generation, next, order.0, order.1);
                self.arena.set(next);
            }
        }
        self.gate.leave();
    }

    /// `Advancer::end_last`, where writers kept it from noting the last generation: it has noted
    /// generation 1.
    fn end(&self, how: How) {
        let noted = 1;
        let last = if how == How::OnlyIfNoted {
            let order = (Ordering::AcqRel, Ordering::Acquire);
            let swap = self.published.compare_exchange(noted, 0, order.0, order.1);
            swap.unwrap_or_else(|found| found)
        } else {
            self.published.swap(0, Ordering::AcqRel)
        };
        if how != How::WithoutBarrier {
            fence(Ordering::SeqCst);
        }
        if how == How::GoesWhenOutrun && last != noted {
            return self.arena.set(u64::MAX);
        }
        let next = if how == How::LetsLaterOnesBe { noted + 1 } else { 0 };
        while !self.gate.is_past(next) {
            thread::yield_now();
        }
        self.arena.set(u64::MAX);
    }
}

/// A writer writes `events` events, the first of which ends its generation, while the recording
/// ends.
fn scenario(how: How, events: usize) {
    let published = AtomicU64::new(1);
    let scene = Arc::new(Scene { published, gate: Gate::new(), arena: Plain::new(0) });
    let writer = {
        let scene = Arc::clone(&scene);
        thread::spawn(move || (0..events).for_each(|event| scene.write(event == 0)))
    };
    scene.end(how);
    // A writer that comes now leaves again. A write at this point is a race.
    assert_eq!(scene.arena.get(), u64::MAX, "a thread wrote after the end");
    writer.join().unwrap();
    assert_eq!(scene.arena.get(), u64::MAX, "a thread wrote after the end");
    assert_eq!(scene.published.load(Ordering::Relaxed), 0, "a generation is published");
}

#[test]
fn nobody_is_inside_of_the_arena_after_the_end_whatever_was_published() {
    holds(|| scenario(How::Well, 2));
}

#[test]
fn who_comes_again_and_again_is_waited_for_once() {
    holds(|| scenario(How::Well, 3));
}

#[test]
fn an_end_that_does_not_wait_where_it_was_outrun_is_caught() {
    is_caught(RACE, || scenario(How::GoesWhenOutrun, 1));
}

#[test]
fn an_end_that_lets_later_generations_be_is_caught() {
    is_caught(RACE, || scenario(How::LetsLaterOnesBe, 2));
}

#[test]
fn an_end_without_a_barrier_is_caught() {
    is_caught(RACE, || scenario(How::WithoutBarrier, 1));
}

#[test]
fn an_end_that_leaves_a_later_generation_published_is_caught() {
    is_caught("", || scenario(How::OnlyIfNoted, 2));
}
