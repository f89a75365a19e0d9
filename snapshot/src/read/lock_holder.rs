//! Who holds a lock that is waited for.

#![forbid(unsafe_code)]

use super::Site;
use super::decode::bytes::Bytes;
use super::decode::codec::record;
use super::decode::contents::Contents;
use crate::wire::{Kind, LockFlags, Nanos, TaskId, ThreadNumber};

/// Who holds, or held, a lock that a [`Contention`](super::EventKind::Contention) or a
/// [`LockWait`](super::EventKind::LockWait) is about: see [`Event::lock_holder`](super::Event::lock_holder).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LockHolder<'a> {
    /// The thread, by the recorder's number; none if a task holds it, recorded or not, or if the thread had recorded nothing.
    pub thread: Option<ThreadNumber>,
    /// The kernel's number of a thread that had recorded nothing.
    pub os_thread: Option<u64>,
    /// The task that holds it, or that the thread polled when it took the lock.
    pub task: Option<TaskId>,
    /// Where it took the lock.
    pub site: Option<Site<'a>>,
    /// For how long it had held the lock at the time of the event, if known.
    pub held: Option<Nanos>,
    /// Whether it had held the lock for longer: `held` counts from when it was first seen to hold it.
    pub is_at_least: bool,
    /// Whether a thread holds it for a task that nobody polled: across an `.await`.
    pub is_across_await: bool,
}

/// What the two kinds of events have in common.
pub(super) struct OfLock {
    pub(super) lock: u64,
    pub(super) kind: u64,
    pub(super) waited: u64,
    pub(super) waiters: u64,
    pub(super) flags: LockFlags,
    holder: [u64; 6],
}

impl OfLock {
    pub(super) fn read(kind: Kind, bytes: &mut Bytes<'_>) -> Option<Self> {
        macro_rules! common {
            ($read:ident) => {
                Self {
                    lock: $read.lock,
                    kind: $read.kind,
                    waited: $read.waited,
                    waiters: $read.waiters,
                    flags: LockFlags($read.flags),
                    holder: [
                        $read.holder,
                        $read.holder_os_thread,
                        $read.holder_task,
                        $read.holder_incarnation,
                        $read.holder_site,
                        $read.held,
                    ],
                }
            };
        }
        Some(match kind {
            Kind::Contention => {
                let read = record::Contention::read(bytes).ok()?;
                common!(read)
            }
            Kind::LockWait => {
                let read = record::LockWait::read(bytes).ok()?;
                common!(read)
            }
            _ => return None,
        })
    }

    /// `None` if nothing is known of it.
    pub(super) fn holder<'a>(&self, of: &'a Contents) -> Option<LockHolder<'a>> {
        let [thread, os_thread, task, incarnation, site, held] = self.holder;
        let holder = LockHolder {
            thread: (thread != 0).then_some(ThreadNumber(thread)),
            os_thread: (os_thread != 0).then_some(os_thread),
            task: task_of(task, incarnation),
            site: of.site(of.tables.site_index(site)),
            held: (held != 0).then_some(Nanos(held)),
            is_at_least: self.flags.has(LockFlags::AT_LEAST),
            is_across_await: self.flags.has(LockFlags::ACROSS_AWAIT),
        };
        let is_known =
            thread != 0 || os_thread != 0 || holder.task.is_some() || holder.site.is_some();
        is_known.then_some(holder)
    }
}

/// A task, if it is one.
pub(super) fn task_of(index: u64, incarnation: u64) -> Option<TaskId> {
    let (index, incarnation) = (u32::try_from(index).ok()?, u32::try_from(incarnation).ok()?);
    (incarnation != 0).then_some(TaskId { index, incarnation })
}
