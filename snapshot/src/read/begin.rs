//! What a generation says of its begin: which tasks there were, which spans were open.
//!
//! A task is stated by the first of those who own it in the generation, or in the list of those that
//! nobody mentioned; a span by the first who names it, or in slot 0. Wherever these statuses stand,
//! they speak of the generation's begin, so the first pass collects them.

use super::bytes::Fault;
use super::mention::Mention;
use super::spans::Named;
use super::stream::NO_SPAN;
use super::tables::Tables;
use crate::wire::{
    Kind, ListedFields, SpanId, SpanListReader, TaskId, TaskListItem, TaskState, Ticks, get_varint,
    put_varint,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// A worker of a runtime of the recorded process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId {
    /// The runtime, numbered by the recorder.
    pub runtime: u64,
    /// The worker, numbered by its runtime.
    pub worker: u64,
}

/// `r0/w3`: runtime 0, worker 3.
impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r{}/w{}", self.runtime, self.worker))
    }
}

/// The first that a generation says of a task's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct TaskBegin {
    pub(super) id: TaskId,
    /// The number of the transition before; of one that is created, that of its creation. Of a task
    /// that is listed nobody needs it.
    pub(super) sequence: Option<u64>,
    /// Which, among the generation's sites.
    pub(super) site: u32,
    /// Nothing if it was not there yet: it is created.
    pub(super) state: Option<TaskState>,
    pub(super) woken: bool,
}

/// A span that was open.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanBegin {
    pub(super) id: SpanId,
    pub(super) parent: SpanId,
    pub(super) began: Ticks,
    /// It began no earlier than the block of its status: a thread that has opened its block before it
    /// met the span cannot say when.
    pub(super) is_bound: bool,
    pub(super) site: u32,
    /// Where in the content its fields begin, and how many there are.
    pub(super) given: u32,
    pub(super) count: u32,
    /// Not all of its fields are there as they were recorded last.
    pub(super) part: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Begin {
    /// By index, each index once.
    pub(super) tasks: Vec<TaskBegin>,
    /// All that is said of places that several tasks had, by index and number.
    reused: Vec<TaskBegin>,
    /// By index and incarnation. Some of them may be created in the generation all the same.
    pub(super) spans: Vec<SpanBegin>,
    /// Fields of spans that are listed, where each is as it differs from another: what is to stand behind
    /// the content.
    pub(super) listed_fields: Vec<u8>,
    /// Spans that are created in the generation, likewise.
    pub(super) created_spans: Vec<SpanId>,
    /// Spans of which more values become known in the generation.
    pub(super) recorded_spans: HashSet<SpanId>,
    /// How often each span is named by other events.
    pub(super) named_spans: Named,
    pub(super) workers: Workers,
    /// How many events each tenure of a worker has.
    pub(super) tenures: BTreeMap<(u16, u64), u32>,
    /// A span that has two statuses which differ.
    pub(super) differs: Option<SpanId>,
    /// Tasks that are both listed and mentioned by who owns them.
    pub(super) twice: Option<TaskId>,
    /// Tasks that are listed, and in whose place another one was before: its end, and their begin, must
    /// have been lost.
    pub(super) succeeds: Option<TaskId>,
}

/// What a block says of the stream that it is a part of: a record may refer to one in an earlier
/// block, and blocks are not surveyed in their order.
#[derive(Clone, Copy, Default)]
pub(super) struct Trail {
    /// How often the span created last is entered before one is created here; and which that is.
    enters: u32,
    created: SpanId,
    /// How many events of a worker there are before it is known which; then which one, and how many.
    events: u32,
    tenure: Option<Option<(u16, u64)>>,
    count: u32,
}

/// The workers that a generation mentions. An event has an index into them.
#[derive(Default)]
pub(super) struct Workers {
    list: Vec<(WorkerId, Box<str>)>,
    /// Those that have names of their own.
    named: HashSet<WorkerId>,
    by_id: HashMap<WorkerId, u16>,
}

/// No worker.
pub(super) const NO_WORKER: u16 = u16::MAX;

impl Workers {
    pub(super) fn add(&mut self, id: WorkerId) -> u16 {
        if let Some(index) = self.by_id.get(&id) {
            return *index;
        }
        let index = self.list.len() as u16;
        if index < NO_WORKER {
            self.list.push((id, id.to_string().into()));
            self.by_id.insert(id, index);
        }
        index
    }

    /// The worker is called so, unless it is known already how it is called.
    pub(super) fn call(&mut self, id: WorkerId, name: &str) {
        let index = self.add(id);
        if let Some((_, called)) = self.list.get_mut(usize::from(index))
            && !name.is_empty()
            && self.named.insert(id)
        {
            *called = name.into();
        }
    }

    /// The name that the worker was given.
    pub(super) fn given_name(&self, id: WorkerId) -> Option<&str> {
        self.named.contains(&id).then(|| self.name(self.index(id)))
    }

    /// Those that were given names, with their names.
    pub(super) fn given_names(&self) -> impl Iterator<Item = (WorkerId, &str)> {
        self.named.iter().map(|id| (*id, self.name(self.index(*id))))
    }

    pub(super) fn index(&self, id: WorkerId) -> u16 {
        self.by_id.get(&id).copied().unwrap_or(NO_WORKER)
    }

    pub(super) fn get(&self, index: u16) -> Option<WorkerId> {
        self.list.get(usize::from(index)).map(|(id, _)| *id)
    }

    /// How it is called.
    pub(super) fn name(&self, index: u16) -> &str {
        self.list.get(usize::from(index)).map_or("?", |(_, name)| name)
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }
}

impl Begin {
    /// Notes what a record says of the begin. Until [`finish`](Self::finish) sites are ids.
    pub(super) fn note(
        &mut self,
        kind: Kind,
        mention: &Mention,
        content: &[u8],
        base: Ticks,
        trail: &mut Trail,
        tables: &mut Tables,
    ) -> Result<(), Fault> {
        match kind {
            Kind::TaskStatus => {
                let (state, woken) = TaskState::from_code(mention.state)
                    .ok_or("a task has a state that none has")?;
                self.task(tables, mention, Some(state), woken)?;
            }
            Kind::TaskCreate => self.task(tables, mention, None, false)?,
            Kind::TaskList => self.list_tasks(mention, content, tables)?,
            Kind::SpanList => self.list_spans(mention, content, base, tables)?,
            Kind::SpanStatus | Kind::SpanStatusPart => {
                tables.charge(size_of::<SpanBegin>())?;
                let fields = content.get(mention.given as usize..).and_then(get_varint);
                self.spans.push(SpanBegin {
                    count: fields.map_or(0, |(count, _)| id32(count)),
                    part: kind == Kind::SpanStatusPart,
                    id: mention.span(),
                    parent: mention.other,
                    began: Ticks(base.0.saturating_sub(mention.ago)),
                    is_bound: mention.ago == 0,
                    site: id32(mention.site),
                    given: mention.given,
                });
            }
            Kind::SpanCreate | Kind::SpanCreateIn | Kind::SpanCreateUnder => {
                tables.charge(size_of::<SpanId>())?;
                self.created_spans.push(mention.span());
                if kind == Kind::SpanCreateIn {
                    self.name(mention.other, tables)?;
                }
                trail.created = mention.span();
            }
            Kind::SpanEnterLast if trail.created == NO_SPAN => trail.enters += 1,
            Kind::SpanEnterLast => self.name(trail.created, tables)?,
            Kind::SpanEnter
            | Kind::SpanExitOther
            | Kind::SpanExitDeep
            | Kind::SpanFollowsClosed
            | Kind::LogIn => {
                self.name(mention.span(), tables)?;
            }
            Kind::SpanRecord => {
                self.name(mention.span(), tables)?;
                if self.recorded_spans.insert(mention.span()) {
                    tables.charge(64)?;
                }
            }
            Kind::SpanFollows => {
                self.name(mention.span(), tables)?;
                self.name(mention.other, tables)?;
            }
            Kind::WorkerStatus | Kind::WorkerStart | Kind::VisitStatus | Kind::WorkerVisit => {
                tables.charge(128)?;
                let worker = self.workers.add(mention.worker);
                self.tenures.entry((worker, mention.number)).or_default();
                self.change_tenure(trail, Some((worker, mention.number)));
            }
            Kind::WorkerPark | Kind::WorkerUnpark | Kind::WorkerStop => {
                match trail.tenure {
                    None => trail.events += 1,
                    Some(_) => trail.count += 1,
                }
                if kind == Kind::WorkerStop {
                    self.change_tenure(trail, None);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A span is named.
    fn name(&mut self, span: SpanId, tables: &mut Tables) -> Result<(), Fault> {
        if span != NO_SPAN && self.named_spans.add(span, 1) {
            tables.charge(64)?;
        }
        Ok(())
    }

    /// The thread of a stream is another one, or becomes or leaves a worker.
    pub(super) fn change_tenure(&mut self, trail: &mut Trail, to: Option<(u16, u64)>) {
        let count = std::mem::take(&mut trail.count);
        if let Some(Some(before)) = trail.tenure.replace(to)
            && let Some(sum) = self.tenures.get_mut(&before)
        {
            *sum = sum.saturating_add(count);
        }
    }

    /// Follows a slot's blocks, in their order: to what do the records refer that stand in front?
    pub(super) fn follow<'a>(&mut self, trails: impl Iterator<Item = &'a mut Trail>) {
        let (mut created, mut tenure) = (NO_SPAN, None);
        for trail in trails {
            if trail.enters > 0 && created != NO_SPAN {
                self.named_spans.add(created, trail.enters);
            }
            if trail.created != NO_SPAN {
                created = trail.created;
            }
            let front = tenure.and_then(|tenure| self.tenures.get_mut(&tenure));
            if let Some(sum) = front {
                *sum = sum.saturating_add(trail.events);
            }
            if let Some(last) = trail.tenure {
                tenure = last;
                self.change_tenure(trail, None);
            }
        }
    }

    fn task(
        &mut self,
        tables: &mut Tables,
        mention: &Mention,
        state: Option<TaskState>,
        woken: bool,
    ) -> Result<(), Fault> {
        tables.charge(size_of::<TaskBegin>())?;
        let (sequence, site) = (Some(mention.number), id32(mention.site));
        self.tasks.push(TaskBegin { id: mention.task(), sequence, site, state, woken });
        Ok(())
    }

    fn list_spans(
        &mut self,
        mention: &Mention,
        content: &[u8],
        base: Ticks,
        tables: &mut Tables,
    ) -> Result<(), Fault> {
        let bytes = &content[mention.given as usize..][..mention.number as usize];
        let mut list = SpanListReader::new(bytes);
        // Where the last fields of each site are, for those that have the same.
        let mut last: HashMap<u32, u32> = HashMap::new();
        while !list.is_at_end() {
            let room = usize::try_from(tables.room()).unwrap_or(usize::MAX);
            let span = list.next(room).ok_or("a list of spans cannot be read")?;
            let item = span.item;
            let given = match item.fields {
                ListedFields::None => 0,
                ListedFields::Same => last.get(&item.site).copied().unwrap_or(0),
                ListedFields::All | ListedFields::Part => {
                    let given = u32::try_from(content.len() + self.listed_fields.len())
                        .map_err(|_| "it is too large")?;
                    tables.charge(span.values.len() + 64)?;
                    put_varint(&mut self.listed_fields, span.count);
                    self.listed_fields.extend_from_slice(span.values);
                    last.insert(item.site, given);
                    given
                }
            };
            tables.charge(size_of::<SpanBegin>())?;
            self.spans.push(SpanBegin {
                id: item.span,
                parent: item.parent,
                began: Ticks(base.0.saturating_sub(item.ago)),
                is_bound: item.ago == 0,
                site: item.site,
                given,
                count: id32(span.count),
                part: span.part,
            });
        }
        Ok(())
    }

    fn list_tasks(
        &mut self,
        mention: &Mention,
        content: &[u8],
        tables: &mut Tables,
    ) -> Result<(), Fault> {
        let mut rest = &content[mention.given as usize..][..mention.number as usize];
        let mut before = TaskListItem::default();
        while !rest.is_empty() {
            let (item, length) =
                TaskListItem::get(&before, rest).ok_or("a list of tasks cannot be read")?;
            tables.charge(size_of::<TaskBegin>())?;
            self.tasks.push(TaskBegin {
                id: TaskId { index: item.task, incarnation: item.incarnation },
                sequence: None,
                site: item.site,
                state: Some(if item.running { TaskState::Running } else { TaskState::Idle }),
                woken: item.woken,
            });
            before = item;
            rest = &rest[length..];
        }
        Ok(())
    }

    /// Sorts what was noted, keeps of each task the first word, and finds the sites.
    pub(super) fn finish(&mut self, tables: &Tables) {
        for task in &mut self.tasks {
            task.site = tables.place_index(u64::from(task.site));
        }
        // What has a number comes before what is listed.
        self.tasks.sort_by_key(|task| (task.id.index, task.sequence.unwrap_or(u64::MAX)));
        let places = self.tasks.chunk_by(|a, b| a.id.index == b.id.index);
        self.reused = places.filter(|place| place.len() > 1).flatten().copied().collect();
        self.tasks.dedup_by(|later, first| {
            let same = later.id.index == first.id.index;
            if same && later.sequence.is_none() {
                let found = if later.id == first.id { &mut self.twice } else { &mut self.succeeds };
                found.get_or_insert(later.id);
            }
            same
        });
        for span in &mut self.spans {
            span.site = tables.place_index(u64::from(span.site));
        }
        self.spans.sort_by_key(|span| span.id);
        self.spans.dedup_by(|later, first| {
            let same = later.id == first.id;
            if !same {
                return false;
            }
            let is_bound = first.is_bound && later.is_bound;
            let began = match (first.is_bound, later.is_bound) {
                (true, false) => later.began,
                (false, true) => first.began,
                _ => first.began.max(later.began),
            };
            let fits =
                |span: &SpanBegin| span.began == began || span.is_bound && span.began <= began;
            if later.parent != first.parent || !fits(first) || !fits(later) {
                self.differs.get_or_insert(later.id);
            }
            // Of two, the one that knows more of its fields.
            if (first.count, !first.part) < (later.count, !later.part) {
                *first = *later;
            }
            (first.began, first.is_bound) = (began, is_bound);
            true
        });
        self.created_spans.sort_unstable();
        self.created_spans.dedup();
    }

    /// The task that had a place when its last transition had this number, as far as it was
    /// mentioned, and its site.
    pub(super) fn task_then(&self, index: u32, sequence: u64) -> Option<(TaskId, u32)> {
        let key = |task: &TaskBegin| (task.id.index, task.sequence.unwrap_or(u64::MAX));
        let behind = self.reused.partition_point(|task| key(task) <= (index, sequence));
        let task = &self.reused[behind.checked_sub(1)?];
        (task.id.index == index).then_some((task.id, task.site))
    }

    /// Whether a span begins in the generation.
    pub(super) fn is_created(&self, id: SpanId) -> bool {
        self.created_spans.binary_search(&id).is_ok()
    }
}

/// An id as it fits 32 bits; one that is too large stands for nothing.
fn id32(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}
