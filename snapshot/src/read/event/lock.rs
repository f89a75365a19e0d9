//! What events of locks say.

use super::super::lock_holder::{LockHolder, OfLock, task_of};
use super::super::{EventKind, Site};
use super::Event;
use crate::wire::{Kind, LockFlags, LockKind, Nanos, StackSource, ThreadNumber};

impl Event {
    /// What an event of a lock says.
    pub(super) fn of_lock(&self, kind: Kind) -> EventKind<'_> {
        let site = self.site().unwrap_or(Site::UNKNOWN);
        let bytes = &mut self.bytes();
        if kind == Kind::LockHeld {
            let [_, lock, kind, task, incarnation, polls] = self.first_numbers();
            let (kind, task) = (LockKind::from_code(kind), task_of(task, incarnation));
            let task = task.unwrap_or_default();
            return EventKind::LockHeld { site, lock, kind, task, polls };
        }
        // The first pass has already read it.
        let Some(of) = OfLock::read(kind, bytes) else {
            return EventKind::Other { name: self.kind_name() };
        };
        let (lock, waited, known) = (of.lock, Nanos(of.waited), LockKind::from_code(of.kind));
        if kind == Kind::LockWait {
            let [thread, _, task, incarnation] = self.first_numbers();
            return EventKind::LockWait {
                thread: (thread != 0).then_some(ThreadNumber(thread)),
                task: task_of(task, incarnation),
                site,
                lock,
                kind: known,
                waited,
            };
        }
        EventKind::Contention {
            site,
            lock,
            kind: known,
            waited,
            waiters: of.waiters,
            is_given_up: of.flags.has(LockFlags::GIVEN_UP),
        }
    }

    /// How the stack of a wait for a lock was obtained, or why there is none.
    pub(crate) fn stack_source(&self) -> Option<StackSource> {
        let [_, source] = self.first_numbers();
        (self.raw.kind() == Some(Kind::Contention)).then(|| StackSource::from_code(source))?
    }

    /// Who holds the lock that is waited for, or held it last, as far as that is known.
    #[must_use]
    pub fn lock_holder(&self) -> Option<LockHolder<'_>> {
        OfLock::read(self.raw.kind()?, &mut self.bytes())?.holder(&self.of)
    }
}
