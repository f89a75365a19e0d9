//! Locks and stacks that windows refer to: each once, and no more than so many.

use crate::analysis::event_view::EventView;
use crate::analysis::interner::{Name, Names};
use crate::read::{Event, OwnedFrame, Site, Stack};
use crate::wire::{LockKind, TaskId, ThreadNumber};
use std::collections::BTreeMap;

/// So many are told apart.
const MOST: usize = 4096;
/// How many frames of a stack to keep: a recorder writes no more.
const FRAMES: usize = 128;

/// A lock that is waited for, and who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LockOf {
    pub(super) lock: u64,
    pub(super) kind: Option<LockKind>,
    /// Where it is asked for.
    pub(super) at: Name,
    pub(super) thread: Option<ThreadNumber>,
    pub(super) os_thread: Option<u64>,
    pub(super) task: Option<TaskId>,
    /// Where the holder took it.
    pub(super) held_at: Option<Name>,
    pub(super) is_across_await: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) locks: Vec<LockOf>,
    known_locks: BTreeMap<LockOf, usize>,
    pub(super) stacks: Vec<Vec<OwnedFrame>>,
}

impl Tables {
    /// `None` if there are too many.
    pub(super) fn lock(
        &mut self,
        view: &EventView<'_>,
        (lock, kind): (u64, Option<LockKind>),
        site: Site<'_>,
        names: &mut Names,
    ) -> Option<usize> {
        let mut place = |site: Site<'_>| names.name(&format!("{}:{}", site.file, site.line));
        let at = place(site);
        let holder = view.event.and_then(Event::lock_holder);
        let of = LockOf {
            lock,
            kind,
            at,
            thread: holder.and_then(|holder| holder.thread),
            os_thread: holder.and_then(|holder| holder.os_thread),
            task: holder.and_then(|holder| holder.task),
            held_at: holder.and_then(|holder| holder.site).map(place),
            is_across_await: holder.is_some_and(|holder| holder.is_across_await),
        };
        if let Some(known) = self.known_locks.get(&of) {
            return Some(*known);
        }
        (self.locks.len() < MOST).then(|| {
            self.locks.push(of);
            self.known_locks.insert(of, self.locks.len() - 1);
            self.locks.len() - 1
        })
    }

    /// `None` if there is none, or no room for it.
    pub(super) fn stack(&mut self, stack: Option<Stack<'_>>) -> Option<usize> {
        let frames: Vec<OwnedFrame> =
            stack.iter().flat_map(Stack::frames).take(FRAMES).map(Into::into).collect();
        if frames.is_empty() {
            return None;
        }
        if let Some(known) = self.stacks.iter().position(|known| *known == frames) {
            return Some(known);
        }
        (self.stacks.len() < MOST / 16).then(|| {
            self.stacks.push(frames);
            self.stacks.len() - 1
        })
    }
}
