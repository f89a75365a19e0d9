//! The events of locks.

use super::tables::{self, Wait};
use super::waiting::{Ended, HeldBy, LockKind};
use super::words::{LockWords, PollOf, Who};
use crate::record::cursor::Reserved;
use crate::record::emit::is_recording;
use crate::record::site::Site;
use crate::record::site_registry::site_of;
use crate::record::stacks;
use crate::record::thread;
use crate::record::writer::{WriteCtx, Writer};
use crate::stack;
use crate::stack::budget::Budget;
use crate::stack::trie::StackId;
use lookback_snapshot::wire::{Kind, LockFlags, Loss, MAX_VARINT, StackSource};
use std::panic::Location;

/// A lock that everything waits for would have the stack of each wait: at some microseconds each, and while the lock is held, so
/// the next one waits for it, too. This is one to three hundredths of the lock's time. A profile says how many have none.
static STACKS: Budget = Budget::new(2_000);

/// Arguments of a wait and of its holder, at most.
const WAIT: usize = 5 * MAX_VARINT;
const HOLDER: usize = 7 * MAX_VARINT;

/// Records a wait that has ended, on the thread that has waited.
#[cold]
#[inline(never)]
pub(crate) fn contention(ended: &Ended) {
    if !is_recording() {
        return;
    }
    let taken = stack::within(&STACKS);
    let (stack, source) = (taken.ok(), taken.err().unwrap_or(StackSource::Own));
    let sites = Sites::of(ended.wait.kind, ended.wait.place, ended.holder);
    if let Some(writer) = Writer::enter()
        && let Err(cause) = put_contention(writer.inside(), ended, sites, stack, source)
    {
        writer.inside().lose(cause);
    }
}

fn put_contention(
    inside: WriteCtx,
    ended: &Ended,
    sites: Sites,
    stack: Option<StackId>,
    source: StackSource,
) -> Result<(), Loss> {
    let Wait { lock, kind, .. } = ended.wait;
    let (site, holder_site) = sites.ids(inside)?;
    let stack = stack.map_or(Ok(0), |stack| stacks::id(inside, stack))?;
    let size = 2 * MAX_VARINT + WAIT + HOLDER;
    let Some((mut cursor, _)) = inside.begin(Kind::Contention, size) else { return Ok(()) };
    let flags = if ended.is_given_up { LockFlags::GIVEN_UP } else { 0 };
    for number in [u64::from(stack), source as u64, u64::from(site), lock, kind as u64] {
        cursor.number(number);
    }
    cursor.number(ended.waited);
    cursor.number(u64::from(ended.waiters));
    put_holder(&mut cursor, ended.holder, holder_site, ended.until, flags);
    // SAFETY: as large as asked for.
    unsafe { inside.commit(cursor) };
    Ok(())
}

/// Records a wait that goes on: for the recorder's own thread.
pub(crate) fn still_waits(wait: &Wait, now: u64, waiters: u64) {
    if !is_recording() {
        return;
    }
    let holder = tables::holder(wait.lock);
    let sites = Sites::of(wait.kind, wait.place, holder);
    if let Some(writer) = Writer::enter()
        && let Err(cause) = put_still_waits(writer.inside(), wait, holder, sites, (now, waiters))
    {
        writer.inside().lose(cause);
    }
}

fn put_still_waits(
    inside: WriteCtx,
    wait: &Wait,
    holder: Option<HeldBy>,
    sites: Sites,
    (now, waiters): (u64, u64),
) -> Result<(), Loss> {
    let (site, holder_site) = sites.ids(inside)?;
    let size = 3 * MAX_VARINT + WAIT + HOLDER;
    let Some((mut cursor, _)) = inside.begin(Kind::LockWait, size) else { return Ok(()) };
    let (thread, os_thread) = numbers(Some(wait.who));
    for number in [thread, os_thread, wait.task & 0xffff_ffff, wait.task >> 32] {
        cursor.number(number);
    }
    for number in [u64::from(site), wait.lock, wait.kind as u64] {
        cursor.number(number);
    }
    cursor.number(now.saturating_sub(wait.since));
    cursor.number(waiters);
    put_holder(&mut cursor, holder, holder_site, now, 0);
    // SAFETY: as large as asked for.
    unsafe { inside.commit(cursor) };
    Ok(())
}

/// Records that a lock was released which this thread had locked in an earlier poll of a task.
#[cold]
#[inline(never)]
pub(crate) fn held_across(
    words: &LockWords,
    kind: LockKind,
    place: &'static Location<'static>,
    poll: &PollOf,
) {
    if !is_recording() {
        return;
    }
    let site = site_of(kind.name(), place, 0);
    let Some(writer) = Writer::enter() else { return };
    let inside = writer.inside();
    let polls = (poll.place.words.own().sequence().saturating_sub(poll.sequence)).div_ceil(2);
    if let Some((mut cursor, _)) = inside.begin_at(Kind::LockHeld, site, 5 * MAX_VARINT) {
        for number in [tables::number(words), kind as u64, poll.task & 0xffff_ffff, poll.task >> 32]
        {
            cursor.number(number);
        }
        cursor.number(polls.max(1));
        // SAFETY: as large as asked for.
        unsafe { inside.commit(cursor) };
    }
}

/// The places where the lock is waited for and where it is held. They are looked up before the record is begun: one that is new is
/// allocated, and an allocator may take its time, and record something itself.
#[derive(Clone, Copy)]
struct Sites {
    waits: &'static Site,
    holds: Option<&'static Site>,
}

impl Sites {
    fn of(kind: LockKind, place: &'static Location<'static>, holder: Option<HeldBy>) -> Self {
        let holds = holder.map(|held| site_of(kind.name(), held.place, 0));
        Self { waits: site_of(kind.name(), place, 0), holds }
    }

    fn ids(self, inside: WriteCtx) -> Result<(u32, u32), Loss> {
        let holds = self.holds.map(|site| site.id(inside)).transpose()?;
        Ok((self.waits.id(inside)?, holds.unwrap_or(0)))
    }
}

/// The recorder's number of a thread and the kernel's, as far as they are known.
fn numbers(who: Option<Who>) -> (u64, u64) {
    match who {
        Some(Who::Thread(number)) => (number, 0),
        // It may have recorded something since it took the lock: that it waits itself, for one.
        Some(Who::OsThread(number)) => match thread::with_os_number(number) {
            Some(thread) => (thread, 0),
            None => (0, number),
        },
        Some(Who::Task) | None => (0, 0),
    }
}

/// There must be room for [`HOLDER`].
fn put_holder(cursor: &mut Reserved, holder: Option<HeldBy>, site: u32, now: u64, flags: u64) {
    let (thread, os_thread) = numbers(holder.map(|held| held.who));
    let task = holder.map_or(0, |held| held.task);
    let held = holder.map_or(0, |held| match held.since {
        0 => 0,
        since => now.saturating_sub(since).max(1),
    });
    let at_least = holder.is_some_and(|held| held.is_since_at_least);
    let flags = flags
        | if at_least { LockFlags::AT_LEAST } else { 0 }
        | if holder.is_some_and(|held| held.is_across_await) { LockFlags::ACROSS_AWAIT } else { 0 };
    for number in [thread, os_thread, task & 0xffff_ffff, task >> 32, u64::from(site), held, flags]
    {
        cursor.number(number);
    }
}
