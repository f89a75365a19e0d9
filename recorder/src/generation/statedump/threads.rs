//! Threads that were silent in a generation: the notes taken of them before it ends, and the statuses made
//! from the notes afterwards.
//!
//! A note is true if its owner had not entered the generation when all of it was read: see `advance`.
//!
//! A service that is out of memory must not die of this. So everything that grows with threads, tasks and
//! spans uses fallible allocation. Without memory for the notes the generation continues; without memory for
//! statuses they are left out, and counted. The little that an end record takes is allocated without asking.

use crate::generation::statedump::stacks::Known;
use crate::heap::profile::Listed;
use crate::protocol::task_state::Status;
use crate::record::control::Control;
use crate::record::cursor::Reserved;
use crate::record::ranges::{self, Noted};
use crate::record::site::Site;
use crate::record::slot::{MAX_POLLS, MAX_REGIONS, MAX_SPANS, Slot, ThreadName};
use crate::record::span::Name;
use crate::record::task::TASKS;
use crate::record::worker::{NAME_SIZE, WorkerState};
use lookback_snapshot::wire::{Kind, MAX_VARINT, TaskState, put_varint};
use std::collections::{HashMap, HashSet, TryReserveError};
use std::sync::atomic::{Ordering, fence};

/// The most that a thread's status takes, without its regions.
pub(crate) const THREAD_SIZE: usize = 1 + crate::record::thread::IDENTITY_SIZE;
/// The most that a region's status takes, without its site's definition.
pub(crate) const REGION_SIZE: usize = 1 + 2 * MAX_VARINT;
/// The most that any of these statuses takes: of a task that is being polled, of an entered span, of a worker
/// and its pool.
const POLL_SIZE: usize = 1 + 5 * MAX_VARINT;
const SPAN_SIZE: usize = 1 + 10;
const WORKER_SIZE: usize = 2 + 5 * MAX_VARINT;
/// The most that the size of a task's future takes.
const SIZE_SIZE: usize = 1 + 2 * MAX_VARINT;
/// How [`Kind::Omitted`] refers to threads.
const THREADS_OMITTED: u64 = 1;
/// The most that a count of omitted statuses takes.
const COUNT_SIZE: usize = 1 + 2 * MAX_VARINT;

/// The note of a thread.
#[derive(Debug)]
pub(crate) struct Silent {
    slot: u32,
    thread: u64,
    os_thread: u64,
    name: ThreadName,
    regions: Vec<(&'static Site, u64)>,
    deeper: u32,
    worker: WorkerState,
    polls: Vec<Poll>,
    spans: Vec<Name>,
    deeper_spans: u32,
}

/// What is noted of a generation while it is still running.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) silent: Vec<Silent>,
    /// The open ranges: see [`ranges`].
    ranges: Vec<Noted>,
}

impl Notes {
    /// Notes every thread that has not entered `generation`, which is still published, and the open ranges. `None` if there
    /// is not enough memory for the threads.
    pub(crate) fn take(control: &Control, generation: u64) -> Option<Self> {
        let ranges = ranges::note_all();
        Some(Self { silent: Silent::note_all(control, generation)?, ranges })
    }
}

/// A task that a silent thread is polling.
#[derive(Debug)]
struct Poll {
    task: u32,
    incarnation: u32,
    sequence: u64,
    site: &'static Site,
}

impl Silent {
    /// Notes every thread that has not entered `generation`, which is still published. `None` if there is not
    /// enough memory.
    fn note_all(control: &Control, generation: u64) -> Option<Vec<Self>> {
        let mut notes = Vec::new();
        for (index, slot) in control.slots().enumerate() {
            match Self::note(index as u32, slot, generation) {
                Ok(None) => {}
                Ok(Some(note)) => {
                    notes.try_reserve(1).ok()?;
                    notes.push(note);
                }
                Err(_) => return None,
            }
        }
        Some(notes)
    }

    fn note(
        slot_index: u32,
        slot: &Slot,
        generation: u64,
    ) -> Result<Option<Self>, TryReserveError> {
        if slot.gate.entered() >= generation {
            return Ok(None);
        }
        let thread = slot.thread.load(Ordering::Relaxed);
        let depth = slot.depth.load(Ordering::Relaxed);
        let open = &slot.regions[..(depth as usize).min(MAX_REGIONS)];
        let noted = gathered(
            open.len(),
            open.iter().map(|region| {
                let site = region.site.load(Ordering::Relaxed);
                (site, region.began.load(Ordering::Relaxed))
            }),
        )?;
        let (os_thread, name) = (slot.os_thread.load(Ordering::Relaxed), slot.name());
        let worker = slot.worker.held();
        let polls = Poll::note(slot)?;
        let span_depth = slot.span_depth.load(Ordering::Relaxed);
        let spans = &slot.spans[..(span_depth as usize).min(MAX_SPANS)];
        let names = spans.iter().map(|span| span.load(Ordering::Relaxed));
        let spans = gathered(spans.len(), names)?;
        fence(Ordering::Acquire);
        if thread == 0 || slot.gate.entered() >= generation {
            return Ok(None);
        }
        let regions = noted.iter().filter_map(|(site, began)| {
            // SAFETY: the stack holds pointers to statics, or null.
            Some((unsafe { site.as_ref() }?, *began))
        });
        Ok(Some(Self {
            slot: slot_index,
            thread,
            os_thread,
            name,
            regions: gathered(noted.len(), regions)?,
            deeper: depth.saturating_sub(MAX_REGIONS as u32),
            worker,
            polls,
            spans,
            deeper_spans: span_depth.saturating_sub(MAX_SPANS as u32),
        }))
    }
}

/// Collects these, of which there are at most `most`, if there is memory for them.
fn gathered<T>(most: usize, of: impl Iterator<Item = T>) -> Result<Vec<T>, TryReserveError> {
    let mut all = Vec::new();
    all.try_reserve_exact(most)?;
    all.extend(of.take(most));
    Ok(all)
}

impl Poll {
    fn note(slot: &Slot) -> Result<Vec<Self>, TryReserveError> {
        let depth = (slot.poll_depth.load(Ordering::Relaxed) as usize).min(MAX_POLLS);
        let polls = slot.polls[..depth].iter().filter_map(|poll| {
            // SAFETY: the stack holds entries, which are never unmapped, or null.
            let place = unsafe { poll.load(Ordering::Relaxed).as_ref() }?;
            let (site, incarnation) = place.named()?;
            let word = place.words.look();
            (word.status() == Status::Running).then(|| Self {
                task: TASKS.index_of(place),
                incarnation,
                sequence: word.sequence(),
                site,
            })
        });
        gathered(depth, polls)
    }
}

/// The statuses as they are written when a generation has ended.
pub(crate) struct Statuses<'a> {
    pub(crate) control: &'a Control,
    pub(crate) generation: u64,
    /// The base time of their block.
    pub(crate) base: u64,
    /// How many bytes they may take.
    pub(crate) room: usize,
    /// Whether that is less than all of them take.
    pub(crate) is_cut: bool,
    is_short: bool,
    pub(crate) out: Vec<u8>,
    /// How many more bytes are sure to come.
    pub(crate) pending: usize,
    ids: HashMap<*const Site, u32>,
}

impl<'a> Statuses<'a> {
    pub(crate) fn new(
        control: &'a Control,
        generation: u64,
        base: u64,
        (room, is_cut): (usize, bool),
    ) -> Self {
        let (out, ids) = (Vec::new(), HashMap::new());
        Self { control, generation, base, room, is_cut, is_short: false, out, pending: 0, ids }
    }

    /// Writes all of them: of threads that did not state themselves, and of spans and tasks that no record
    /// mentioned. Also returns whether room was short.
    pub(crate) fn write(mut self, notes: &Notes, heap: Option<&Listed>) -> (Vec<u8>, bool) {
        let mut polled = HashSet::new();
        self.threads(&notes.silent, &mut polled);
        self.ranges(&notes.ranges);
        self.spans();
        self.tasks(&polled);
        let mut known = Known::default();
        self.task_stacks(&mut known);
        if let Some(heap) = heap {
            self.heap(heap, &mut known);
        }
        (self.out, self.is_short)
    }

    /// The statuses of threads that did not state themselves; those without room are counted.
    fn threads(&mut self, notes: &[Silent], polled: &mut HashSet<u32>) {
        let mut omitted = 0;
        for note in notes {
            let gate = &self.control.slot(note.slot).gate;
            if gate.was_stated_in(self.generation) {
                continue;
            }
            if !self.has_room(THREAD_SIZE) {
                omitted += 1;
                continue;
            }
            self.thread(note);
            // A thread that was in the generation, but could not write: its regions are not known.
            if !gate.was_in(self.generation) {
                self.regions(note);
                self.worker(note.worker);
                self.polls(note, polled);
                self.entered(note);
            }
        }
        if omitted > 0 {
            self.count_omitted(THREADS_OMITTED, omitted);
        }
    }

    /// Reports how many statuses of this kind were left out, if there is memory for that.
    pub(crate) fn count_omitted(&mut self, what: u64, count: u64) {
        if self.out.try_reserve(COUNT_SIZE).is_ok() {
            self.numbers(Kind::Omitted, &[what, count]);
        }
    }

    /// A record that consists of numbers.
    pub(crate) fn numbers(&mut self, kind: Kind, numbers: &[u64]) {
        self.out.push(kind as u8);
        numbers.iter().for_each(|number| put_varint(&mut self.out, *number));
    }

    fn worker(&mut self, held: WorkerState) {
        if !self.has_room(WORKER_SIZE) {
            return;
        }
        if let Some(pool) = held.pool() {
            self.numbers(Kind::PoolStatus, &[pool]);
        }
        if let Some((kind, status)) = held.status() {
            self.numbers(kind, &status);
        }
        if let Some(name) = held.name()
            && self.has_room(NAME_SIZE)
        {
            self.numbers(Kind::WorkerName, &held.name_numbers());
            put_varint(&mut self.out, (name.len() as u64) << 2);
            self.out.extend_from_slice(name.as_bytes());
        }
    }

    /// What the thread is polling. A task for which there is no room is in the list of tasks, or counted
    /// there.
    fn polls(&mut self, note: &Silent, polled: &mut HashSet<u32>) {
        for poll in &note.polls {
            if let Some(id) = self.id(poll.site)
                && self.has_room(POLL_SIZE)
                && polled.try_reserve(1).is_ok()
            {
                // Its entry says, when the generation has ended, whether it was woken meanwhile.
                let place = TASKS.get(poll.task);
                let listed = place.and_then(|place| place.words.status_at_end(self.generation));
                let state = TaskState::Running.code(listed.is_some_and(|stated| stated.woken));
                let (task, incarnation) = (u64::from(poll.task), u64::from(poll.incarnation));
                let numbers = [task, incarnation, poll.sequence, state, u64::from(id)];
                self.numbers(Kind::TaskStatus, &numbers);
                polled.insert(poll.task);
            }
        }
    }

    /// The spans that the thread has entered.
    fn entered(&mut self, note: &Silent) {
        let mut deeper = u64::from(note.deeper_spans);
        for name in &note.spans {
            if self.has_room(2 * SPAN_SIZE) {
                self.numbers(Kind::SpanEntered, &[name & 0xffff_ffff, name >> 32]);
            } else {
                deeper += 1;
            }
        }
        if deeper > 0 {
            self.numbers(Kind::SpansDeeper, &[deeper]);
        }
    }

    /// Whether this much fits, and the count of what does not.
    pub(crate) fn has_room(&mut self, size: usize) -> bool {
        let size = self.pending + size + COUNT_SIZE;
        // Without memory, statuses are left out and counted, as without room in the arena.
        let has_room = self.out.len() + size <= self.room && self.out.try_reserve(size).is_ok();
        self.is_short |= !has_room;
        has_room
    }

    fn thread(&mut self, note: &Silent) {
        self.out.push(Kind::ThreadStatus as u8);
        put_varint(&mut self.out, note.thread);
        put_varint(&mut self.out, note.os_thread);
        let name = note.name.as_str();
        put_varint(&mut self.out, (name.len() as u64) << 2);
        self.out.extend_from_slice(name.as_bytes());
    }

    fn regions(&mut self, note: &Silent) {
        let mut deeper = u64::from(note.deeper);
        for (at, (site, began)) in note.regions.iter().enumerate() {
            match self.id(site) {
                Some(id) if self.has_room(REGION_SIZE + COUNT_SIZE) => {
                    self.out.push(Kind::RegionStatus as u8);
                    put_varint(&mut self.out, u64::from(id));
                    put_varint(&mut self.out, self.base.saturating_sub(*began));
                }
                // The ones inside it are counted, too: otherwise they would take its place.
                _ => {
                    deeper += (note.regions.len() - at) as u64;
                    break;
                }
            }
        }
        if deeper > 0 {
            self.out.push(Kind::RegionsDeeper as u8);
            put_varint(&mut self.out, deeper);
        }
    }

    /// The id of a site, which this defines if no record has.
    pub(crate) fn id(&mut self, site: &'static Site) -> Option<u32> {
        let known = self.ids.get(&std::ptr::from_ref(site)).copied();
        if let Some(id) = known.or_else(|| site.cached(self.generation)) {
            return Some(id);
        }
        if !self.has_room(1 + site.definition_size() + SIZE_SIZE + REGION_SIZE + COUNT_SIZE) {
            return None;
        }
        let id = self.control.ids.next(self.generation).ok()?;
        let (mut definition, size) = (Vec::new(), site.definition_size());
        if definition.try_reserve_exact(size).is_err() || self.ids.try_reserve(1).is_err() {
            return None;
        }
        definition.resize(size, 0);
        let start = definition.as_mut_ptr();
        // SAFETY: the vector has the most that the definition takes.
        let mut cursor = unsafe { Reserved::new(start, size) };
        site.put_definition(id, &mut cursor);
        definition.truncate(cursor.bytes_since(start));
        self.out.push(site.definition_kind() as u8);
        self.out.extend(definition);
        if let Some(size) = site.size() {
            self.numbers(Kind::TaskSize, &[u64::from(id), size]);
        }
        self.ids.insert(std::ptr::from_ref(site), id);
        Some(id)
    }
}
