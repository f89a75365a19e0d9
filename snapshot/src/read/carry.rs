//! What a generation was in the middle of at its begin and at its end.
//!
//! A complete generation says all of it itself. An incomplete one has no statuses of what was silent
//! in it: that is as the generation before left it, and this is what is carried over from there.
//! Names go along as texts, because ids mean nothing outside of their generation.

use super::begin::{SpanBegin, TaskBegin, WorkerId};
use super::bytes::{Fault, Span, TextAt};
use super::generation::Contents;
use super::inside::{Inside, Tenure};
use super::order::Order;
use super::owned::Owned;
use super::regions::{Nest, Open, Regions};
use super::spans::UNKNOWN_PARENT;
use super::stream::NO_SPAN;
use super::survey::Survey;
use super::tables::Field;
use super::thread::Thread;
use super::walked::State;
use crate::wire::{
    MAX_TEXT, SpanId, TaskId, TaskState, ThreadNumber, Ticks, ValueType, put_varint,
};
use std::collections::HashMap;

/// What the generation before left open on a thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    pub(super) regions: Regions,
    pub(super) inside: Inside,
}

/// What a generation leaves to the next one, or found from the one before.
#[derive(Default)]
pub(super) struct Carry {
    pub(super) threads: Vec<CarriedThread>,
    /// By index.
    pub(super) tasks: Vec<CarriedTask>,
    /// By index and incarnation.
    pub(super) spans: Vec<CarriedSpan>,
    pub(super) sites: Vec<CarriedSite>,
    /// The last tenure of each worker.
    pub(super) tenures: HashMap<WorkerId, u64>,
    /// The names that workers were given.
    pub(super) worker_names: Vec<(WorkerId, Box<str>)>,
    /// Whether there may be more that lives: it is of a generation of which not all is known.
    pub(super) is_part: bool,
    pub(super) toll: Toll,
}

/// What it has cost to carry things on, in a row of generations that each need the one before. All that lives
/// is carried each time, however little a generation says itself: so there is an end to it, which depends
/// on how much the whole row says. Behind it nothing is known of what is silent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Toll {
    /// How many things were carried.
    carried: u64,
    /// How many bytes the generations of the row have.
    bytes: u64,
}

impl Toll {
    /// A thousand tasks can be carried a thousand times.
    const AT_FIRST: u64 = 1 << 20;
    const A_BYTE: u64 = 64;

    /// That of a generation of so many bytes, which needs no other.
    pub(super) fn of(bytes: usize) -> Self {
        Self { carried: 0, bytes: bytes as u64 }
    }

    /// With one more generation of so many bytes, into which this is carried; nothing if that is too much.
    pub(super) fn with(self, carry: &Carry, bytes: usize) -> Option<Self> {
        let carried = self.carried.saturating_add(carry.things());
        let bytes = self.bytes.saturating_add(bytes as u64);
        let most = Self::AT_FIRST.saturating_add(bytes.saturating_mul(Self::A_BYTE));
        (carried <= most).then_some(Self { carried, bytes })
    }
}

/// A thread, and what it is in the middle of.
pub(super) struct CarriedThread {
    pub(super) thread: Thread,
    /// Each with its site.
    pub(super) regions: Vec<(u32, Ticks)>,
    pub(super) deeper: u64,
    pub(super) tasks: Nest<(TaskId, u64)>,
    pub(super) spans: Nest<SpanId>,
    /// The worker, its tenure, whether it is parked, and whether it is a visit.
    pub(super) worker: Option<(WorkerId, u64, bool, bool)>,
    pub(super) pool: Option<u64>,
}

/// A task that lives.
pub(super) struct CarriedTask {
    pub(super) id: TaskId,
    pub(super) sequence: Option<u64>,
    pub(super) site: u32,
    pub(super) state: TaskState,
    pub(super) woken: bool,
}

/// A span that is open.
pub(super) struct CarriedSpan {
    pub(super) id: SpanId,
    pub(super) parent: SpanId,
    pub(super) began: Ticks,
    pub(super) site: u32,
    /// Its values by name, of each the last.
    pub(super) fields: Vec<(Box<str>, Owned)>,
    /// Whether they may not be all, or not the last.
    pub(super) part: bool,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CarriedSite {
    pub(super) name: Box<str>,
    pub(super) file: Box<str>,
    pub(super) line: u32,
    pub(super) blocking: bool,
}

/// The site that stands for one that is not known.
const UNKNOWN: u32 = 0;

impl Carry {
    /// What `of` leaves, of which every event was taken from `order`.
    pub(super) fn of(of: &Contents, order: &Order) -> Self {
        let mut carry = Self::with_threads(of, &of.walked().end, Some(order));
        let mut sites = Sites::new(of, &mut carry.sites);
        let tasks = order.happening.tasks.end().into_iter().map(|task| CarriedTask {
            id: task.id,
            sequence: task.sequence,
            site: sites.index(task.site),
            state: task.state,
            woken: task.woken,
        });
        carry.tasks = tasks.collect();
        let spans = order.happening.spans.end().into_iter().map(|span| {
            let mut fields = Vec::new();
            for (site, given) in span.given {
                Owned::add_given(of, site, given, &mut fields);
            }
            CarriedSpan {
                id: span.id,
                parent: span.parent,
                began: span.began,
                site: sites.index(span.site),
                fields,
                part: span.part,
            }
        });
        carry.spans = spans.collect();
        let last = |(worker, tenure)| Some((of.begin.workers.get(worker)?, tenure));
        let given = of.begin.workers.given_names();
        carry.worker_names = given.map(|(worker, name)| (worker, name.into())).collect();
        carry.tenures = order.happening.workers.tenures().filter_map(last).collect();
        (carry.is_part, carry.toll) = (of.is_alone, of.toll);
        carry
    }

    /// How many things are in it.
    fn things(&self) -> u64 {
        let fields: usize = self.spans.iter().map(|span| span.fields.len()).sum();
        let open: usize = self.threads.iter().map(|thread| thread.regions.len()).sum();
        (self.tasks.len() + self.spans.len() + self.threads.len() + fields + open) as u64
    }

    /// How many bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        const THREAD: usize = 512;
        const FIELD: usize = 96;
        let fields: usize = self.spans.iter().map(|span| span.fields.len()).sum();
        let open: usize = self.threads.iter().map(|thread| thread.regions.len()).sum();
        size_of_val(&self.tasks[..])
            + size_of_val(&self.spans[..])
            + THREAD * self.threads.len()
            + FIELD * (fields + self.sites.len() + self.worker_names.len() + self.tenures.len())
            + 16 * open
    }

    /// What `of` says that it found.
    pub(super) fn at_begin(of: &Contents) -> Self {
        let mut carry = Self::with_threads(of, &of.walked().begin, None);
        let mut sites = Sites::new(of, &mut carry.sites);
        let task = |task: &TaskBegin| {
            let site = sites.index(task.site);
            let TaskBegin { id, sequence, state, woken, .. } = *task;
            Some(CarriedTask { id, sequence, site, state: state?, woken })
        };
        carry.tasks = of.begin.tasks.iter().filter_map(task).collect();
        let open = of.begin.spans.iter().filter(|span| !of.begin.is_created(span.id));
        let span = |span: &SpanBegin| {
            let mut fields = Vec::new();
            Owned::add_given(of, span.site, span.given, &mut fields);
            let SpanBegin { id, parent, began, part, .. } = *span;
            CarriedSpan { id, parent, began, site: sites.index(span.site), fields, part }
        };
        carry.spans = open.map(span).collect();
        carry
    }

    fn with_threads(of: &Contents, states: &[State], order: Option<&Order>) -> Self {
        let unknown = CarriedSite { name: "?".into(), file: "?".into(), line: 0, blocking: false };
        let mut carry = Self { sites: vec![unknown], ..Self::default() };
        let mut sites = Sites::new(of, &mut carry.sites);
        let lines = order.map_or(&[][..], |order| &order.lines);
        let at_end: HashMap<u32, &Inside> = lines
            .iter()
            .filter(|line| !line.is_collector)
            .map(|line| (line.thread, &line.inside))
            .collect();
        let thread = |state: &State| {
            let inside = match at_end.get(&state.thread) {
                Some(inside) => inside,
                None => &state.inside,
            };
            let worker = |tenure: Tenure| {
                let Tenure { number, parked, visit, .. } = tenure;
                Some((of.begin.workers.get(tenure.worker)?, number, parked, visit))
            };
            let mut region = |open: &Open| (sites.index(open.site), open.began);
            Some(CarriedThread {
                thread: of.threads.get(state.thread)?.clone(),
                regions: state.regions.known().iter().map(&mut region).collect(),
                deeper: state.regions.deeper(),
                tasks: inside.tasks.clone(),
                spans: inside.spans.clone(),
                worker: inside.worker.and_then(worker),
                pool: inside.pool,
            })
        };
        carry.threads = states.iter().filter_map(thread).collect();
        carry
    }

    /// The place of this index.
    pub(super) fn site(&self, index: u32) -> &CarriedSite {
        &self.sites[index as usize]
    }

    /// By the number of the thread.
    pub(super) fn by_thread(&self) -> std::collections::BTreeMap<ThreadNumber, &CarriedThread> {
        self.threads.iter().map(|carried| (carried.thread.number, carried)).collect()
    }

    /// Gives the next generation's tables what is carried over; what was open by thread.
    pub(super) fn put_into(
        &self,
        content: &mut Vec<u8>,
        survey: &mut Survey,
    ) -> Result<HashMap<u32, Carried>, Fault> {
        let mut into = Into { content, texts: HashMap::new(), sites: HashMap::new() };
        let mut carried = HashMap::new();
        for thread in &self.threads {
            survey.threads.add(thread.thread.clone(), &mut survey.tables)?;
            let mut regions = Regions::default();
            for (site, began) in &thread.regions {
                let site = into.site(*site, self.site(*site), survey)?;
                regions.begin(Open { site, began: *began });
            }
            regions.begin_unknown(thread.deeper);
            let worker = thread.worker.map(|(worker, number, parked, visit)| {
                let worker = survey.begin.workers.add(worker);
                survey.begin.tenures.entry((worker, number)).or_default();
                Tenure { worker, number, parked, visit, stated: true }
            });
            let (tasks, spans) = (thread.tasks.clone(), thread.spans.clone());
            let inside = Inside { tasks, spans, worker, pool: thread.pool };
            let index = survey.threads.index(thread.thread.number);
            carried.insert(index, Carried { regions, inside });
        }
        for (worker, name) in &self.worker_names {
            survey.tables.charge(128)?;
            survey.begin.workers.call(*worker, name);
        }
        self.put_tasks(&mut into, survey)?;
        self.put_spans(&mut into, survey)?;
        Ok(carried)
    }

    fn put_tasks(&self, into: &mut Into<'_>, survey: &mut Survey) -> Result<(), Fault> {
        let mut all = std::mem::take(&mut survey.begin.tasks);
        let stated: std::collections::HashSet<_> =
            all.iter().filter(|task| task.state.is_some()).map(|task| task.id.index).collect();
        // One that is created here has its place after the one that is carried.
        for task in self.tasks.iter().filter(|task| !stated.contains(&task.id.index)) {
            let site = into.site(task.site, self.site(task.site), survey)?;
            survey.tables.charge(size_of::<TaskBegin>())?;
            let CarriedTask { id, sequence, state, woken, .. } = *task;
            all.push(TaskBegin { id, sequence, site, state: Some(state), woken });
        }
        all.sort_by_key(|task| (task.id.index, task.sequence.unwrap_or(0)));
        all.dedup_by_key(|task| task.id.index);
        survey.begin.tasks = all;
        Ok(())
    }

    fn put_spans(&self, into: &mut Into<'_>, survey: &mut Survey) -> Result<(), Fault> {
        let stated: std::collections::HashSet<_> =
            survey.begin.spans.iter().map(|span| span.id).collect();
        for span in self.spans.iter().filter(|span| !stated.contains(&span.id)) {
            let names = span
                .fields
                .iter()
                .map(|(name, _)| Ok(Field { kind: ValueType::Text, name: into.text(name)? }))
                .collect::<Result<Vec<_>, Fault>>()?;
            let place = self.site(span.site);
            let (name, file) = (into.span(&place.name)?, into.span(&place.file)?);
            let site = survey.tables.add_nameless(name, file, place.line, &names)?;
            survey.tables.charge(size_of::<SpanBegin>())?;
            into.check()?;
            let given = into.content.len() as u32;
            put_varint(into.content, span.fields.len() as u64);
            for (index, (_, value)) in span.fields.iter().enumerate() {
                value.put(index as u64, into.content);
            }
            let CarriedSpan { id, parent, began, part, .. } = *span;
            let count = span.fields.len() as u32;
            let parent = if parent == UNKNOWN_PARENT { NO_SPAN } else { parent };
            let is_bound = false;
            let begin = SpanBegin { id, parent, began, is_bound, site, given, count, part };
            survey.begin.spans.push(begin);
        }
        survey.begin.spans.sort_by_key(|span| span.id);
        Ok(())
    }
}

/// The sites of a generation, as they are carried.
struct Sites<'a> {
    of: &'a Contents,
    known: HashMap<u32, u32>,
    list: &'a mut Vec<CarriedSite>,
}

impl<'a> Sites<'a> {
    fn new(of: &'a Contents, list: &'a mut Vec<CarriedSite>) -> Self {
        Self { of, known: HashMap::new(), list }
    }

    fn index(&mut self, site: u32) -> u32 {
        if let Some(known) = self.known.get(&site) {
            return *known;
        }
        let index = self.of.site(site).map_or(UNKNOWN, |found| {
            let (name, file) = (found.name.into(), found.file.into());
            let (line, blocking) = (found.line, found.blocking);
            self.list.push(CarriedSite { name, file, line, blocking });
            (self.list.len() - 1) as u32
        });
        self.known.insert(site, index);
        index
    }
}

/// The content that texts are appended to, each once.
struct Into<'a> {
    content: &'a mut Vec<u8>,
    texts: HashMap<Box<str>, Span>,
    sites: HashMap<u32, u32>,
}

impl Into<'_> {
    fn check(&self) -> Result<(), Fault> {
        let fits = self.content.len() <= u32::MAX as usize - 64 * MAX_TEXT;
        if fits { Ok(()) } else { Err("it is too large") }
    }

    fn span(&mut self, text: &str) -> Result<Span, Fault> {
        if let Some(known) = self.texts.get(text) {
            return Ok(*known);
        }
        self.check()?;
        let start = self.content.len() as u32;
        self.content.extend_from_slice(text.as_bytes());
        let span = Span::new(start, text.len() as u32, false);
        self.texts.insert(text.into(), span);
        Ok(span)
    }

    fn text(&mut self, text: &str) -> Result<TextAt, Fault> {
        self.span(text).map(TextAt::Span)
    }

    /// The index of a carried site among those of the next generation.
    fn site(&mut self, index: u32, site: &CarriedSite, survey: &mut Survey) -> Result<u32, Fault> {
        if let Some(known) = self.sites.get(&index) {
            return Ok(*known);
        }
        let (name, file) = (self.span(&site.name)?, self.span(&site.file)?);
        let put = survey.tables.add_nameless(name, file, site.line, &[])?;
        survey.tables.set_blocking(put, site.blocking);
        self.sites.insert(index, put);
        Ok(put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_little_itself_does_not_carry_much_without_end() {
        let task = |index| {
            let id = TaskId { index, incarnation: 1 };
            CarriedTask { id, sequence: None, site: 0, state: TaskState::Idle, woken: false }
        };
        let carry = Carry { tasks: (0..1000).map(task).collect(), ..Carry::default() };
        let row = |bytes: usize| {
            let mut toll = Some(Toll::of(2000));
            (0..100_000)
                .take_while(|_| {
                    toll = toll.and_then(|toll| toll.with(&carry, bytes));
                    toll.is_some()
                })
                .count()
        };
        let hardly_anything = row(1);
        assert!((1000..2000).contains(&hardly_anything), "{hardly_anything}");
        assert_eq!(row(100), 100_000, "each says enough to pay for it");
    }
}
