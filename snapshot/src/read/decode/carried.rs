//! What the previous generation left open, when an incomplete generation is decoded with its help.
//!
//! A complete generation states everything itself. An incomplete one has no statuses of what was silent in
//! it: that is as the previous generation left it (`replay::carry_over`). Names are carried as texts, because
//! ids have no meaning outside their generation.

use super::bytes::{Fault, Span};
use super::first_pass::FirstPass;
use super::initial_state::{CarriedFields, SpanBegin, TaskBegin, UNKNOWN_PARENT};
use super::otel;
use super::owned_value::Owned;
use super::regions::{Nest, Open, Regions};
use super::thread_context::{Tenure, ThreadContext};
use super::threads::Thread;
use super::workers::WorkerId;
use crate::wire::{MAX_TEXT, SpanId, TaskId, TaskState, ThreadNumber, Ticks};
use std::collections::HashMap;
use std::sync::Arc;

/// What the previous generation left open on a thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carried {
    pub(crate) regions: Regions,
    pub(crate) inside: ThreadContext,
}

/// What a generation leaves to the next one, or found from the previous one.
#[derive(Default)]
pub(crate) struct Carry {
    pub(crate) threads: Vec<CarriedThread>,
    /// By index.
    pub(crate) tasks: Vec<CarriedTask>,
    /// By index and incarnation.
    pub(crate) spans: Vec<CarriedSpan>,
    pub(crate) sites: Vec<CarriedSite>,
    /// The last tenure of each worker.
    pub(crate) tenures: HashMap<WorkerId, u64>,
    /// The names that workers were given.
    pub(crate) worker_names: Vec<(WorkerId, Box<str>)>,
    /// Whether more may live: not everything is known of the generation that it comes from.
    pub(crate) is_part: bool,
    pub(crate) toll: Toll,
}

/// The cost of carrying state through a row of generations that each need the previous one. Everything that
/// lives is carried each time, however little a generation itself says. So this has a bound, which depends on
/// how much the whole row says; beyond it, nothing is known of what is silent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Toll {
    /// How many things were carried.
    carried: u64,
    /// How many bytes the generations of the row have.
    bytes: u64,
}

impl Toll {
    /// A thousand tasks can be carried a thousand times.
    const AT_FIRST: u64 = 1 << 20;
    const A_BYTE: u64 = 64;

    /// For a generation of this many bytes that needs no other.
    pub(crate) fn of(bytes: usize) -> Self {
        Self { carried: 0, bytes: bytes as u64 }
    }

    /// With one more generation of this many bytes, into which `carry` is carried; `None` if that is too
    /// much.
    pub(crate) fn with(self, carry: &Carry, bytes: usize) -> Option<Self> {
        let carried = self.carried.saturating_add(carry.things());
        let bytes = self.bytes.saturating_add(bytes as u64);
        let most = Self::AT_FIRST.saturating_add(bytes.saturating_mul(Self::A_BYTE));
        (carried <= most).then_some(Self { carried, bytes })
    }
}

/// A thread, and what it has open.
pub(crate) struct CarriedThread {
    pub(crate) thread: Thread,
    /// Each with its site.
    pub(crate) regions: Vec<(u32, Ticks)>,
    pub(crate) deeper: u64,
    pub(crate) tasks: Nest<(TaskId, u64)>,
    pub(crate) spans: Nest<SpanId>,
    /// The worker, its tenure, whether it is parked, and whether it is a visit.
    pub(crate) worker: Option<(WorkerId, u64, bool, bool)>,
    pub(crate) pool: Option<u64>,
}

/// A live task.
pub(crate) struct CarriedTask {
    pub(crate) id: TaskId,
    pub(crate) sequence: Option<u64>,
    pub(crate) site: u32,
    pub(crate) state: TaskState,
    pub(crate) woken: bool,
}

/// An open span.
pub(crate) struct CarriedSpan {
    pub(crate) id: SpanId,
    pub(crate) parent: SpanId,
    pub(crate) began: Ticks,
    pub(crate) site: u32,
    /// Its last values, by name.
    pub(crate) fields: Arc<[(Box<str>, Owned)]>,
    /// Whether values may be missing or outdated.
    pub(crate) part: bool,
}

/// A place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CarriedSite {
    pub(crate) name: Box<str>,
    pub(crate) file: Box<str>,
    pub(crate) line: u32,
    pub(crate) blocking: bool,
}

/// The site that stands for one that is not known.
pub(crate) const UNKNOWN: u32 = 0;

impl Carry {
    /// How many things are in it.
    fn things(&self) -> u64 {
        let fields: usize = self.spans.iter().map(|span| span.fields.len()).sum();
        let open: usize = self.threads.iter().map(|thread| thread.regions.len()).sum();
        (self.tasks.len() + self.spans.len() + self.threads.len() + fields + open) as u64
    }

    /// About how many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
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

    /// The site with this index.
    pub(crate) fn site(&self, index: u32) -> &CarriedSite {
        &self.sites[index as usize]
    }

    /// By the number of the thread.
    pub(crate) fn by_thread(&self) -> std::collections::BTreeMap<ThreadNumber, &CarriedThread> {
        self.threads.iter().map(|carried| (carried.thread.number, carried)).collect()
    }

    /// Adds what is carried over to the next generation's tables, and what was open by thread.
    pub(crate) fn put_into(
        &self,
        content: &mut Vec<u8>,
        pass: &mut FirstPass,
    ) -> Result<HashMap<u32, Carried>, Fault> {
        let mut into = CarriedTexts { content, texts: HashMap::new(), sites: HashMap::new() };
        let mut carried = HashMap::new();
        for thread in &self.threads {
            pass.threads.add(thread.thread.clone(), &mut pass.tables)?;
            let mut regions = Regions::default();
            for (site, began) in &thread.regions {
                let site = into.site(*site, self.site(*site), pass)?;
                regions.begin(Open { site, began: *began });
            }
            regions.begin_unknown(thread.deeper);
            let worker = thread.worker.map(|(worker, number, parked, visit)| {
                let worker = pass.begin.workers.add(worker);
                pass.begin.tenures.entry((worker, number)).or_default();
                Tenure { worker, number, parked, visit, stated: true }
            });
            let (tasks, spans) = (thread.tasks.clone(), thread.spans.clone());
            let inside = ThreadContext { tasks, spans, worker, lost: None, pool: thread.pool };
            let index = pass.threads.index(thread.thread.number);
            carried.insert(index, Carried { regions, inside });
        }
        for (worker, name) in &self.worker_names {
            pass.tables.charge(128)?;
            pass.begin.workers.call(*worker, name);
        }
        self.put_tasks(&mut into, pass)?;
        self.put_spans(&mut into, pass)?;
        Ok(carried)
    }

    fn put_tasks(&self, into: &mut CarriedTexts<'_>, pass: &mut FirstPass) -> Result<(), Fault> {
        let mut all = std::mem::take(&mut pass.begin.tasks);
        let stated: std::collections::HashSet<_> =
            all.iter().filter(|task| task.state.is_some()).map(|task| task.id.index).collect();
        // A task that is created here uses the entry after the carried one.
        for task in self.tasks.iter().filter(|task| !stated.contains(&task.id.index)) {
            let site = into.site(task.site, self.site(task.site), pass)?;
            pass.tables.charge(size_of::<TaskBegin>())?;
            let CarriedTask { id, sequence, state, woken, .. } = *task;
            all.push(TaskBegin { id, sequence, site, state: Some(state), woken });
        }
        all.sort_by_key(|task| (task.id.index, task.sequence.unwrap_or(0)));
        all.dedup_by_key(|task| task.id.index);
        pass.begin.tasks = all;
        Ok(())
    }

    fn put_spans(&self, into: &mut CarriedTexts<'_>, pass: &mut FirstPass) -> Result<(), Fault> {
        let stated: std::collections::HashSet<_> =
            pass.begin.spans.iter().map(|span| span.id).collect();
        for span in self.spans.iter().filter(|span| !stated.contains(&span.id)) {
            let site = into.site(span.site, self.site(span.site), pass)?;
            pass.tables.charge(size_of::<SpanBegin>() + size_of::<CarriedFields>())?;
            let named = span.fields.iter().find(|(name, _)| **name == *otel::FIELD);
            let name = match named {
                Some((_, Owned::Text(text, _, false))) if !text.is_empty() => {
                    Some(into.span(text)?)
                }
                _ => None,
            };
            let fields = CarriedFields { fields: Arc::clone(&span.fields), name };
            let values = pass.begin.carry_fields(fields);
            let CarriedSpan { id, parent, began, part, .. } = *span;
            let count = span.fields.len() as u32;
            let parent = if parent == UNKNOWN_PARENT { SpanId::NONE } else { parent };
            let is_bound = false;
            let begin = SpanBegin { id, parent, began, is_bound, site, values, count, part };
            pass.begin.spans.push(begin);
        }
        pass.begin.spans.sort_by_key(|span| span.id);
        Ok(())
    }
}

/// The content that texts are appended to, each once.
struct CarriedTexts<'a> {
    content: &'a mut Vec<u8>,
    texts: HashMap<Box<str>, Span>,
    sites: HashMap<u32, u32>,
}

impl CarriedTexts<'_> {
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

    /// The index of a carried site among those of the next generation.
    fn site(&mut self, index: u32, site: &CarriedSite, pass: &mut FirstPass) -> Result<u32, Fault> {
        if let Some(known) = self.sites.get(&index) {
            return Ok(*known);
        }
        let (name, file) = (self.span(&site.name)?, self.span(&site.file)?);
        let put = pass.tables.add_nameless(name, file, site.line, &[])?;
        pass.tables.set_blocking(put, site.blocking);
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
