//! What triggered the snapshot, and what it covers.

use super::report_context::ReportContext;
use super::{Finding, Score, Section, Stop, Unit};
use crate::format::{bytes, count, counted, duration, percent};
use crate::read::{GenerationInfo, Trace};
use crate::wire::{Generation, Nanos, key, needed_bytes};

/// The largest part of the configured window that may be missing.
pub const MISSING: f64 = 0.5;

/// What the snapshot says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Coverage {
    /// The process's name.
    pub process: Option<String>,
    /// The process ID.
    pub pid: Option<u64>,
    /// Why it was taken.
    pub reason: Option<String>,
    /// What took it.
    pub trigger: Option<String>,
    /// When, as in RFC 3339.
    pub taken: Option<String>,
    /// The filter of `tracing` and the `log` crate at the end: `info,hyper=warn`.
    pub filters: Vec<String>,
    /// Whether it goes back to the start of the recorder.
    pub from_begin: bool,
    /// The time that its generations cover, without gaps.
    pub covered: Nanos,
    /// The configured window.
    pub window: Option<Nanos>,
    /// The bound on the recorder's memory.
    pub max_bytes: Option<u64>,
    /// How large that would have to be for the whole window, at the snapshot's rate of events; none if the
    /// window, or everything that was recorded, is covered.
    pub needed_bytes: Option<u64>,
    /// How many generations there are.
    pub generations: u64,
    /// The generations that were not complete when it was taken.
    pub incomplete: Vec<Generation>,
    /// In words: some of those have no statuses although others follow.
    pub without_statuses: Option<String>,
    /// How often a generation does not follow directly on the one before it.
    pub gaps: u64,
    /// When the whole process was stopped. No length in the report includes that time.
    pub stops: Vec<Stop>,
    /// How many events.
    pub events: u64,
    /// How many of them concern tasks.
    pub task_events: u64,
    /// Starts, ends and names of threads.
    pub thread_events: u64,
    /// Samples of CPU time.
    pub cpu_samples: u64,
    /// Samples of the heap.
    pub allocation_samples: u64,
    /// Events of locks: waits, and locks that were held across an `.await`.
    pub lock_events: u64,
    /// Events of workers.
    pub worker_events: u64,
    /// Events of spans.
    pub span_events: u64,
    /// Beginnings and ends of regions.
    pub region_events: u64,
    /// Beginnings and ends of ranges of the process.
    pub range_events: u64,
    /// Logs.
    pub logs: u64,
    /// Samples of counters.
    pub counters: u64,
    /// Typed events.
    pub typed: u64,
}

/// Generations that have no statuses although others follow, in words; none if there are none. No thread got
/// to write their statuses, so what was idle in them is known from the generation before. `begin` is the
/// number of the very first generation, before which there was nothing.
#[must_use]
pub fn without_statuses(generations: &[GenerationInfo], begin: Generation) -> Option<String> {
    let (mut all, mut alone) = (0_u64, 0_u64);
    let mut before: Option<(Generation, bool)> = None;
    for (at, info) in generations.iter().enumerate() {
        let follows = before.filter(|(number, _)| number.next() == info.number);
        let is_known =
            info.complete || info.number <= begin || follows.is_some_and(|(_, is_known)| is_known);
        before = Some((info.number, is_known));
        if !info.complete && at + 1 < generations.len() {
            all += 1;
            alone += u64::from(!is_known);
        }
    }
    let (has, them) = if all == 1 { ("has", "it") } else { ("have", "them") };
    let all_of_them = counted(all, "generation");
    match alone {
        _ if all == 0 => None,
        0 => Some(format!(
            "{all_of_them} {has} no statuses: what was idle in {them} is known from the generation before"
        )),
        alone if alone == all => Some(format!(
            "{all_of_them} {has} no statuses, and nothing before tells: what was idle in {them} is not known"
        )),
        alone => Some(format!(
            "{all_of_them} {has} no statuses: what was idle in {them} is known from the generation before, but for \
             the first {alone}"
        )),
    }
}

impl Coverage {
    /// What the file says about itself, without its events.
    pub(super) fn of(trace: &Trace) -> Self {
        let metadata = trace.metadata();
        let text = |name| metadata.text(name).map(str::to_owned);
        let generations = trace.generations();
        let readable = |info: &&GenerationInfo| info.damage.is_none() || info.events > 0;
        let covered = generations.iter().filter(readable).map(|info| info.duration.0);
        let follows = |pair: &&[GenerationInfo]| pair[0].number.next() == pair[1].number;
        let begin = metadata.number(key::FIRST_GENERATION).unwrap_or(1);
        let from_begin = generations.first().is_some_and(|first| first.number.0 <= begin);
        let covered = Nanos(covered.fold(0, u64::saturating_add));
        let (window, max_bytes) =
            (metadata.number(key::WINDOW).map(Nanos), metadata.number(key::MAX_BYTES));
        let computed = window.zip(max_bytes).map(|(w, max)| needed_bytes(max, w, covered));
        let is_short = !from_begin && window.is_some_and(|window| covered < window);
        let needed = metadata.number(key::NEEDED_BYTES).or(computed);
        Self {
            from_begin,
            max_bytes,
            needed_bytes: needed.filter(|_| is_short),
            filters: metadata.texts(key::FILTER).map(str::to_owned).collect(),
            process: text(key::PROCESS_NAME),
            pid: metadata.number(key::PROCESS_PID),
            reason: text(key::REASON),
            trigger: text(key::TRIGGER),
            taken: text(key::TAKEN),
            covered,
            window,
            generations: generations.len() as u64,
            incomplete: generations.iter().filter(|g| !g.complete).map(|g| g.number).collect(),
            without_statuses: without_statuses(generations, Generation(begin)),
            gaps: generations.windows(2).filter(|pair| !follows(pair)).count() as u64,
            ..Self::default()
        }
    }

    /// Why the window is not covered completely.
    #[must_use]
    pub fn too_small(&self) -> Option<String> {
        let rate = self.events as f64 / (self.covered.0.max(1) as f64 / 1e9);
        let arena = bytes(self.max_bytes.filter(|_| self.needed_bytes.is_some())?);
        Some(format!("an arena of {arena} is too small for {} events a second", count(rate as u64)))
    }

    /// What would suffice to cover it.
    #[must_use]
    pub fn would_do(&self) -> Option<String> {
        /// The largest arena that a recorder accepts.
        const MOST: u64 = 16 << 30;
        let needed = self.needed_bytes?;
        Some(match needed <= MOST {
            true => format!("for all of it `max_bytes` would have to be about {}", bytes(needed)),
            false => "no arena is large enough for all of it at this rate: record less, or ask for a shorter window"
                .to_owned(),
        })
    }

    /// The filter as the possible reason why there are none; the end of a sentence.
    pub(super) fn filtered(&self) -> String {
        match self.filters.as_slice() {
            [] => String::new(),
            filters => {
                format!(", as far as the filter lets them through: `{}`", filters.join("`, `"))
            }
        }
    }

    pub(super) fn finish(mut self, context: &ReportContext<'_>) -> Section<Self> {
        let stops = &context.live.stops;
        self.stops = stops.list(stops.told(context.first));
        let mut section = Section::default();
        section.findings.extend(stops.finding(context));
        // A recorder that has just begun has nothing to look back on.
        if let Some(window) = self.window.filter(|window| window.0 > 0 && !self.from_begin) {
            let missing = 1.0 - self.covered.0 as f64 / window.0 as f64;
            section.findings.extend(Score::beyond(missing, MISSING, Unit::Share).map(|score| {
                let mut title = format!(
                    "{} of the window that was asked for is missing: {} of {} are covered",
                    percent(missing),
                    duration(self.covered),
                    duration(window)
                );
                for more in [self.too_small(), self.would_do()].into_iter().flatten() {
                    title = format!("{title}; {more}");
                }
                Finding::new("coverage", title, score, Vec::new())
            }));
        }
        section.table = self;
        section
    }
}
