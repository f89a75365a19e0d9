//! Who held each lock lately, and from when to when.
//!
//! A lock that is passed along a queue is had, in the end, from the waiter before, who held it for a moment. The one that all
//! of them waited for is known from the first waiter's wait: it held the lock for most of everybody's time.

use crate::analysis::lock_wait::{Held, Wait};
use crate::analysis::nanos_ext::Length;
use crate::wire::Nanos;
use std::collections::{HashMap, VecDeque};

/// So many locks are told apart.
const MOST_LOCKS: usize = 4096;
/// So many holds of each are kept: the last ones of those that count. Each of them is longer than all after it together, so there
/// are hardly ever as many.
const MOST_HOLDS: usize = 64;
/// What was held for less is no reason to wait for long.
const LEAST: Nanos = Nanos(1_000_000);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holds(HashMap<u64, VecDeque<Hold>>);

#[derive(Debug)]
struct Hold {
    held: Held,
    since: Nanos,
    until: Nanos,
}

impl Hold {
    fn is_of(&self, held: &Held) -> bool {
        (self.held.thread, self.held.os_thread, self.held.task_id())
            == (held.thread, held.os_thread, held.task_id())
    }

    /// Whether it can be most of a wait that ends now or later: if it began before the hold was over, it has all the time since
    /// then in it, too.
    fn counts(&self, now: Nanos) -> bool {
        self.until.since(self.since) > now.since(self.until)
    }

    /// For how long of this wait it was so.
    fn within(&self, wait: &Wait) -> Nanos {
        self.until.min(wait.known).since(self.since.max(wait.began))
    }
}

impl Holds {
    /// A wait that is over: names the one who held the lock for most of it, if that is known and is not the one from whom the
    /// waiter had it.
    pub(super) fn attribute(&mut self, wait: &mut Wait) {
        // Of locks with many holders only the last one is known.
        if wait.kind.is_none_or(|kind| !kind.has_certain_holder()) {
            return;
        }
        let Some(held) = wait.held else { return };
        let Some(since) = held.since else { return };
        let last = Hold { held, since, until: wait.known };
        if last.within(wait).0.saturating_mul(2) < wait.length().0 {
            let before = self.0.get(&wait.lock).into_iter().flatten();
            let most = before.max_by_key(|hold| hold.within(wait));
            if let Some(most) = most.filter(|most| most.within(wait).0 > wait.length().0 / 2) {
                wait.held = Some(Held { over: Some(most.until), ..most.held });
            }
        }
        if last.until.since(last.since) >= LEAST {
            self.note(wait.lock, last);
        }
    }

    fn note(&mut self, lock: u64, hold: Hold) {
        let now = hold.until;
        if self.0.len() >= MOST_LOCKS && !self.0.contains_key(&lock) {
            self.0.retain(|_, holds| holds.iter().any(|hold| hold.counts(now)));
            if self.0.len() >= MOST_LOCKS {
                return;
            }
        }
        let holds = self.0.entry(lock).or_default();
        // Several waited while it was held.
        let same = holds.iter_mut().find(|known| {
            known.is_of(&hold.held) && known.since <= hold.until && hold.since <= known.until
        });
        if let Some(same) = same {
            same.until = same.until.max(hold.until);
            same.since = same.since.min(hold.since);
            return;
        }
        holds.retain(|known| known.counts(now));
        if holds.len() == MOST_HOLDS {
            holds.pop_front();
        }
        holds.push_back(hold);
    }
}
