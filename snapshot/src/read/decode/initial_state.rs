//! What a generation says about its beginning: which tasks existed, which spans were open.
//!
//! A task is stated by its first owner in the generation, or in the list of the tasks that no owner
//! mentioned; a span by the first thread that names it, or in slot 0. Wherever these statuses are, they
//! describe the generation's beginning, so the first pass collects them.

use super::bytes::{Fault, Span};
use super::codec::Arguments;
use super::definitions::Definitions;
use super::fields::ValuesAt;
use super::named_spans::Named;
use super::owned_value::Owned;
use super::workers::Workers;
use crate::wire::{
    Kind, ListedFields, SpanId, SpanListReader, TaskId, TaskListItem, TaskState, Ticks, get_varint,
    put_varint,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The first thing that a generation says about an entry for tasks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TaskBegin {
    pub(crate) id: TaskId,
    /// The number of the transition before; for a task that is created, the number of its creation. A listed
    /// task does not need one.
    pub(crate) sequence: Option<u64>,
    /// Its site, among the generation's.
    pub(crate) site: u32,
    /// `None` if it did not exist yet: the generation creates it.
    pub(crate) state: Option<TaskState>,
    pub(crate) woken: bool,
}

/// A span that was open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanBegin {
    pub(crate) id: SpanId,
    pub(crate) parent: SpanId,
    pub(crate) began: Ticks,
    /// Whether `began` is only a lower bound: a thread that opened its block before it met the span cannot
    /// say when the span began.
    pub(crate) is_bound: bool,
    pub(crate) site: u32,
    /// Where its fields are, and their number.
    pub(crate) values: ValuesAt,
    pub(crate) count: u32,
    /// Whether fields are missing or outdated.
    pub(crate) part: bool,
}

/// The carried-over fields of a span.
pub(crate) struct CarriedFields {
    pub(crate) fields: Arc<[(Box<str>, Owned)]>,
    /// Where in the content the name is that they give the span.
    pub(crate) name: Option<Span>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct InitialState {
    /// By index, each index once.
    pub(crate) tasks: Vec<TaskBegin>,
    /// Everything about entries that several tasks used, by index and number.
    reused: Vec<TaskBegin>,
    /// By index and incarnation. The generation may create some of them all the same.
    pub(crate) spans: Vec<SpanBegin>,
    /// The fields of listed spans, which the list encodes as differences: they will follow the content.
    pub(crate) listed_fields: Vec<u8>,
    /// Fields of spans that were carried over from the previous generation.
    carried_fields: Vec<CarriedFields>,
    /// The spans that the generation creates, by index and incarnation.
    pub(crate) created_spans: Vec<SpanId>,
    /// The spans for which the generation records more values.
    pub(crate) recorded_spans: HashSet<SpanId>,
    /// How often other events name each span.
    pub(crate) named_spans: Named,
    pub(crate) workers: Workers,
    /// The number of events in each tenure of a worker.
    pub(crate) tenures: BTreeMap<(u16, u64), u32>,
    /// A span with two different statuses.
    pub(crate) differs: Option<SpanId>,
    /// A task that is both listed and mentioned by its owner.
    pub(crate) twice: Option<TaskId>,
    /// A listed task whose entry another task used before: the end of that one and the beginning of this one
    /// must have been lost.
    pub(crate) succeeds: Option<TaskId>,
}

/// What a block says about the stream that it is part of: a record may refer to one in an earlier block, and
/// the first pass does not read blocks in their order.
#[derive(Clone, Copy, Default)]
pub(crate) struct Trail {
    /// How often the block enters the last created span before it creates one itself; and the last one that
    /// it creates.
    enters: u32,
    created: SpanId,
    /// How many events of a worker come before the worker is known; then the worker, and its number of
    /// events.
    events: u32,
    tenure: Option<Option<(u16, u64)>>,
    count: u32,
}

/// The parent of a span that was created inside more spans than the recorder restates.
pub(crate) const UNKNOWN_PARENT: SpanId = SpanId { index: u32::MAX, incarnation: u32::MAX };

impl InitialState {
    /// Notes what a record says about the beginning. Until [`finish`](Self::finish), sites are ids.
    pub(crate) fn note(
        &mut self,
        kind: Kind,
        args: &Arguments,
        content: &[u8],
        base: Ticks,
        trail: &mut Trail,
        tables: &mut Definitions,
    ) -> Result<(), Fault> {
        match kind {
            Kind::TaskStatus => {
                let (state, woken) =
                    TaskState::from_code(args.state).ok_or("a task has a state that none has")?;
                self.task(tables, args, Some(state), woken)?;
            }
            Kind::TaskCreate => self.task(tables, args, None, false)?,
            Kind::TaskList => self.list_tasks(args, content, tables)?,
            Kind::SpanList => self.list_spans(args, content, base, tables)?,
            Kind::SpanStatus | Kind::SpanStatusPart => {
                tables.charge(size_of::<SpanBegin>())?;
                let fields = content.get(args.given as usize..).and_then(get_varint);
                self.spans.push(SpanBegin {
                    count: fields.map_or(0, |(count, _)| id32(count)),
                    part: kind == Kind::SpanStatusPart,
                    id: args.span(),
                    parent: args.other,
                    began: Ticks(base.0.saturating_sub(args.ago)),
                    is_bound: args.ago == 0,
                    site: id32(args.site),
                    values: args.given.into(),
                });
            }
            Kind::SpanCreate | Kind::SpanCreateIn | Kind::SpanCreateUnder => {
                tables.charge(size_of::<SpanId>())?;
                self.created_spans.push(args.span());
                if kind == Kind::SpanCreateIn {
                    self.name(args.other, tables)?;
                }
                trail.created = args.span();
            }
            Kind::SpanEnterLast if trail.created == SpanId::NONE => trail.enters += 1,
            Kind::SpanEnterLast => self.name(trail.created, tables)?,
            Kind::SpanEnter
            | Kind::SpanExitOther
            | Kind::SpanExitDeep
            | Kind::SpanFollowsClosed
            | Kind::LogIn => {
                self.name(args.span(), tables)?;
            }
            Kind::SpanRecord => {
                self.name(args.span(), tables)?;
                if self.recorded_spans.insert(args.span()) {
                    tables.charge(64)?;
                }
            }
            Kind::SpanFollows => {
                self.name(args.span(), tables)?;
                self.name(args.other, tables)?;
            }
            Kind::WorkerStatus | Kind::WorkerStart | Kind::VisitStatus | Kind::WorkerVisit => {
                tables.charge(128)?;
                let worker = self.workers.add(args.worker);
                self.tenures.entry((worker, args.number)).or_default();
                self.change_tenure(trail, Some((worker, args.number)));
            }
            Kind::WorkerPark | Kind::WorkerUnpark => match trail.tenure {
                None => trail.events += 1,
                Some(_) => trail.count += 1,
            },
            // Not counted: the thread may say so long after another has taken the worker.
            Kind::WorkerStop => self.change_tenure(trail, None),
            _ => {}
        }
        Ok(())
    }

    /// A record names a span.
    fn name(&mut self, span: SpanId, tables: &mut Definitions) -> Result<(), Fault> {
        if span != SpanId::NONE && self.named_spans.add(span, 1) {
            tables.charge(Named::ENTRY)?;
        }
        Ok(())
    }

    /// The stream's thread changes, or becomes or stops being a worker.
    pub(crate) fn change_tenure(&mut self, trail: &mut Trail, to: Option<(u16, u64)>) {
        let count = std::mem::take(&mut trail.count);
        if let Some(Some(before)) = trail.tenure.replace(to)
            && let Some(sum) = self.tenures.get_mut(&before)
        {
            *sum = sum.saturating_add(count);
        }
    }

    /// Follows a slot's blocks in their order, to resolve what the first records of each refer to.
    pub(crate) fn follow<'a>(&mut self, trails: impl Iterator<Item = &'a mut Trail>) {
        let (mut created, mut tenure) = (SpanId::NONE, None);
        for trail in trails {
            if trail.enters > 0 && created != SpanId::NONE {
                self.named_spans.add(created, trail.enters);
            }
            if trail.created != SpanId::NONE {
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
        tables: &mut Definitions,
        args: &Arguments,
        state: Option<TaskState>,
        woken: bool,
    ) -> Result<(), Fault> {
        tables.charge(size_of::<TaskBegin>())?;
        let (sequence, site) = (Some(args.number), id32(args.site));
        self.tasks.push(TaskBegin { id: args.task(), sequence, site, state, woken });
        Ok(())
    }

    fn list_spans(
        &mut self,
        args: &Arguments,
        content: &[u8],
        base: Ticks,
        tables: &mut Definitions,
    ) -> Result<(), Fault> {
        let bytes = &content[args.given as usize..][..args.number as usize];
        let mut list = SpanListReader::new(bytes);
        // Where the last fields of each site are, for spans with the same ones.
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
                values: given.into(),
                count: id32(span.count),
                part: span.part,
            });
        }
        Ok(())
    }

    fn list_tasks(
        &mut self,
        args: &Arguments,
        content: &[u8],
        tables: &mut Definitions,
    ) -> Result<(), Fault> {
        let mut rest = &content[args.given as usize..][..args.number as usize];
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

    /// Sorts what was noted, keeps the first statement about each task, and finds the sites.
    pub(crate) fn finish(&mut self, tables: &Definitions) {
        for task in &mut self.tasks {
            task.site = tables.place_index(u64::from(task.site));
        }
        // Statements with a number come before listed ones.
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
            // Of two, the one with more fields counts.
            if (first.count, !first.part) < (later.count, !later.part) {
                *first = *later;
            }
            (first.began, first.is_bound) = (began, is_bound);
            true
        });
        self.created_spans.sort_unstable();
        self.created_spans.dedup();
    }

    /// The task that used an entry when its last transition had this number, as far as it was mentioned, and
    /// its site.
    pub(crate) fn task_then(&self, index: u32, sequence: u64) -> Option<(TaskId, u32)> {
        let key = |task: &TaskBegin| (task.id.index, task.sequence.unwrap_or(u64::MAX));
        let behind = self.reused.partition_point(|task| key(task) <= (index, sequence));
        let task = &self.reused[behind.checked_sub(1)?];
        (task.id.index == index).then_some((task.id, task.site))
    }

    /// The site of a task that the generation mentions.
    pub(crate) fn site_of(&self, id: TaskId) -> Option<u32> {
        let of = |tasks: &[TaskBegin]| {
            let from = tasks.partition_point(|task| task.id.index < id.index);
            let same = tasks[from..].iter().take_while(|task| task.id.index == id.index);
            same.into_iter().find(|task| task.id == id).map(|task| task.site)
        };
        of(&self.tasks).or_else(|| of(&self.reused))
    }

    /// Takes over the fields of a span, with the position in the content of the name that one of them gives
    /// it.
    pub(crate) fn carry_fields(&mut self, fields: CarriedFields) -> ValuesAt {
        self.carried_fields.push(fields);
        ValuesAt::Carried((self.carried_fields.len() - 1) as u32)
    }

    /// The fields that were carried over.
    pub(crate) fn carried_fields(&self, index: u32) -> Arc<[(Box<str>, Owned)]> {
        let carried = self.carried_fields.get(index as usize);
        carried.map_or_else(Arc::default, |carried| Arc::clone(&carried.fields))
    }

    /// Like [`carried_fields`](Self::carried_fields), borrowed.
    pub(crate) fn carried(&self, index: u32) -> &[(Box<str>, Owned)] {
        self.carried_fields.get(index as usize).map_or(&[], |carried| &carried.fields)
    }

    /// The name that these fields give their span.
    pub(crate) fn carried_name(&self, index: u32) -> Option<Span> {
        self.carried_fields.get(index as usize)?.name
    }

    /// Whether the generation creates this span.
    pub(crate) fn is_created(&self, id: SpanId) -> bool {
        self.created_spans.binary_search(&id).is_ok()
    }
}

/// An id in 32 bits; a larger one stands for nothing.
fn id32(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}
