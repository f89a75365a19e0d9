//! Waits for locks: slices. That of a thread lies on the thread's track, inside of the poll that it blocks. A task that waits
//! blocks no thread, so its waits have tracks of their own, as many as the task waits for at once.
//!
//! A wait is written when its end is read. What a generation says goes on is kept until then; at the end of the snapshot it is
//! open.

use super::packets::{Track, Type};
use super::timeline::{Timeline, text};
use crate::read::{Event, EventKind, LockHolder, Site, Value};
use crate::wire::{LockKind, Nanos, TaskId, ThreadNumber};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

/// So many tasks have tracks for their waits; the waits of others are on the tracks of one that is not known.
const MOST_TASKS: usize = 1 << 16;
/// So many waits that go on are kept.
const MOST_OPEN: usize = 1 << 14;
/// So many tracks has each: of a task that is not known, any number may wait at once.
const MOST_AT_ONCE: usize = 256;

/// Who waits: a thread, or a task, recorded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Waits {
    Thread(Option<ThreadNumber>),
    Task(Option<TaskId>),
}

/// A wait that goes on.
#[derive(Debug)]
pub(super) struct OpenWait {
    began: u64,
    name: &'static str,
    place: (String, u32),
    values: Vec<(&'static str, String)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LockTracks {
    root: Option<Track>,
    /// The tracks of each task, and of threads that have none, with when what lies on them ends.
    tracks: HashMap<Waits, Vec<(Track, u64)>>,
    /// By the waiter first, so that one that goes on is found without a look at the others.
    open: BTreeMap<(Waits, u64), OpenWait>,
}

impl LockTracks {
    /// A thread that has recorded something else does not wait.
    pub(super) fn goes_on(&mut self, event: &Event) {
        if self.open.is_empty() {
            return;
        }
        self.over(Waits::Thread(event.thread().map(|thread| thread.number)));
        if let EventKind::TaskReady { task }
        | EventKind::TaskPanic { task }
        | EventKind::TaskDrop { task } = event.kind()
        {
            self.over(Waits::Task(Some(task)));
        }
    }

    fn over(&mut self, waits: Waits) {
        let first = |open: &BTreeMap<_, _>| {
            open.range((waits, 0)..=(waits, u64::MAX)).next().map(|(key, _)| *key)
        };
        while let Some(key) = first(&self.open) {
            self.open.remove(&key);
        }
    }
}

impl<W: Write> Timeline<'_, W> {
    /// A wait has ended.
    pub(super) fn lock_wait_over(&mut self, event: &Event) -> io::Result<()> {
        let EventKind::Contention { site, lock, kind, waited, waiters, is_given_up } = event.kind()
        else {
            return Ok(());
        };
        let is_of_task = kind.is_some_and(LockKind::is_of_tasks);
        let task = event.task().filter(|task| task.number() != 0);
        let waits = match is_of_task {
            true => Waits::Task(task),
            false => Waits::Thread(event.thread().map(|thread| thread.number)),
        };
        self.locks.open.remove(&(waits, lock));
        let mut values = of_holder(event.lock_holder(), waited, lock);
        values.push(("waiters", waiters.to_string()));
        if is_given_up {
            values.push(("given_up", "true".to_owned()));
        }
        let ended = event.measured().0;
        let wait = OpenWait::new(ended.saturating_sub(waited.0), kind, site, values);
        if let Waits::Thread(_) = waits {
            // The thread may not have recorded anything before.
            self.lane(event.thread())?;
        }
        self.write_wait(waits, &wait, Some(ended))
    }

    /// A wait goes on.
    pub(super) fn lock_wait_goes_on(&mut self, event: &Event) {
        let EventKind::LockWait { thread, task, site, lock, kind, waited } = event.kind() else {
            return;
        };
        let is_of_task = kind.is_some_and(LockKind::is_of_tasks);
        let waits = match (thread, task) {
            (None, task) => Waits::Task(task),
            (Some(_), Some(task)) if is_of_task => Waits::Task(Some(task)),
            (thread, _) => Waits::Thread(thread),
        };
        if self.locks.open.len() < MOST_OPEN || self.locks.open.contains_key(&(waits, lock)) {
            let values = of_holder(event.lock_holder(), waited, lock);
            let began = event.measured().0.saturating_sub(waited.0);
            self.locks.open.insert((waits, lock), OpenWait::new(began, kind, site, values));
        }
    }

    /// The waits that go on at the end are open. Returns how many.
    pub(super) fn open_lock_waits(&mut self) -> io::Result<u64> {
        let mut open: Vec<_> = std::mem::take(&mut self.locks.open).into_iter().collect();
        open.sort_by_key(|((_, lock), wait)| (wait.began, *lock));
        let before = self.report.slices;
        for ((waits, _), wait) in open {
            self.write_wait(waits, &wait, None)?;
        }
        Ok(self.report.slices - before)
    }

    fn write_wait(&mut self, waits: Waits, wait: &OpenWait, ended: Option<u64>) -> io::Result<()> {
        let began = wait.began.max(self.start);
        let (track, began, ended) = match waits {
            Waits::Thread(thread) if self.threads.contains_key(&thread) => {
                let Some(lane) = self.threads.get_mut(&thread) else { return Ok(()) };
                // Whatever is on the track is over by then, or is around it.
                let began = began.max(lane.latest);
                let ended = ended.map(|ended| ended.max(began));
                if !lane.has_room() {
                    self.report.too_deep += 1;
                    return Ok(());
                }
                lane.latest = ended.unwrap_or(began);
                (lane.track, began, ended)
            }
            waits => {
                let Some(track) = self.own_track(waits, began, ended)? else {
                    self.report.too_deep += 1;
                    return Ok(());
                };
                (track, began, ended)
            }
        };
        let mut written = self.packets.event(Type::Begin, track, began);
        self.packets.name(&mut written, "lock_wait", wait.name);
        for (name, value) in &wait.values {
            match value.parse() {
                Ok(number) => self.packets.annotate(&mut written, name, &Value::Unsigned(number)),
                Err(_) => self.packets.annotate(&mut written, name, &text(value)),
            }
        }
        if let Some(before) = began.checked_sub(wait.began).filter(|before| *before > 0) {
            self.packets.annotate(&mut written, "began_ns_before", &Value::Unsigned(before));
        }
        written.place(&wait.place.0, wait.place.1);
        self.report.slices += 1;
        self.packets.write(&written)?;
        match ended {
            Some(ended) => self.end_slices(track, 1, ended.max(began), |_, _| {}),
            None => Ok(()),
        }
    }

    /// A track of the task, on which nothing lies any more by then; `None` if it has too many.
    fn own_track(
        &mut self,
        waits: Waits,
        began: u64,
        ended: Option<u64>,
    ) -> io::Result<Option<Track>> {
        let has_room = self.locks.tracks.len() < MOST_TASKS;
        let waits = match self.locks.tracks.contains_key(&waits) || has_room {
            true => waits,
            false => Waits::Task(None),
        };
        let until = ended.unwrap_or(u64::MAX);
        let tracks = self.locks.tracks.entry(waits).or_default();
        if let Some((track, busy)) = tracks.iter_mut().find(|(_, busy)| *busy <= began) {
            *busy = until;
            return Ok(Some(*track));
        }
        if tracks.len() >= MOST_AT_ONCE {
            return Ok(None);
        }
        let root = match self.locks.root {
            Some(root) => root,
            None => {
                let root = self.new_track();
                self.locks.root = Some(root);
                self.packets.track(root, Some(self.process), "waits for locks", |_| {})?;
                root
            }
        };
        let track = self.new_track();
        let name = match waits {
            Waits::Task(Some(task)) => format!("task {task}"),
            Waits::Thread(Some(thread)) => format!("thread {thread}"),
            Waits::Task(None) | Waits::Thread(None) => "not known".to_owned(),
        };
        self.packets.track(track, Some(root), &name, |_| {})?;
        self.locks.tracks.entry(waits).or_default().push((track, until));
        Ok(Some(track))
    }
}

impl OpenWait {
    fn new(
        began: u64,
        kind: Option<LockKind>,
        site: Site<'_>,
        mut values: Vec<(&'static str, String)>,
    ) -> Self {
        values.push(("at", format!("{}:{}", site.file, site.line)));
        let name = kind.map_or("lock", LockKind::name);
        Self { began, name, place: (site.file.to_owned(), site.line), values }
    }
}

/// What is known of the lock and of who holds it.
fn of_holder(
    holder: Option<LockHolder<'_>>,
    waited: Nanos,
    lock: u64,
) -> Vec<(&'static str, String)> {
    let mut values = vec![("lock", lock.to_string()), ("waited_ns", waited.0.to_string())];
    let Some(holder) = holder else { return values };
    values.extend(holder.thread.map(|thread| ("holder", thread.to_string())));
    values.extend(holder.os_thread.map(|thread| ("holder_os_thread", thread.to_string())));
    values.extend(holder.task.map(|task| ("holder_task", format!("task {task}"))));
    values.extend(holder.site.map(|site| ("held_at", format!("{}:{}", site.file, site.line))));
    let name = if holder.is_at_least { "held_at_least_ns" } else { "held_ns" };
    values.extend(holder.held.map(|held| (name, held.0.to_string())));
    if holder.is_across_await {
        values.push(("across_await", "true".to_owned()));
    }
    values
}
