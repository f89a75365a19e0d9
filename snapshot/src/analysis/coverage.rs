//! What fired, and what the snapshot covers.

use super::{Finding, Score, Section, Unit};
use crate::read::{GenerationInfo, Trace};
use crate::wire::{Generation, Nanos, key, needed_bytes};
use crate::words::{bytes, count, counted, duration, percent};

/// Not more than this part of the window that was asked for should be missing.
pub const MISSING: f64 = 0.5;

/// What the snapshot says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Coverage {
    /// The process it is of.
    pub process: Option<String>,
    /// Its number.
    pub pid: Option<u64>,
    /// Why it was taken.
    pub reason: Option<String>,
    /// What took it.
    pub trigger: Option<String>,
    /// When, as RFC 3339 has it.
    pub taken: Option<String>,
    /// What was recorded of `tracing` and of the `log` crate, at the end: `info,hyper=warn`.
    pub filters: Vec<String>,
    /// It goes back to when the recorder was started.
    pub from_begin: bool,
    /// The time that the generations in it cover, without gaps.
    pub covered: Nanos,
    /// The window that was asked for.
    pub window: Option<Nanos>,
    /// The bound on the recorder's memory.
    pub max_bytes: Option<u64>,
    /// How large that would have to be for the whole window, at the rate of the snapshot; none if all of it
    /// is covered, or all that was recorded.
    pub needed_bytes: Option<u64>,
    /// How many generations there are.
    pub generations: u64,
    /// Those that were not complete when it was taken.
    pub incomplete: Vec<Generation>,
    /// That some of those have no statuses although others follow, in words.
    pub without_statuses: Option<String>,
    /// How often a generation does not follow on the one before it.
    pub gaps: u64,
    /// How many events.
    pub events: u64,
    /// How many of them are about tasks.
    pub task_events: u64,
    /// Begins and ends of threads, and their names.
    pub thread_events: u64,
    /// About workers.
    pub worker_events: u64,
    /// About spans.
    pub span_events: u64,
    /// Begins and ends of regions.
    pub region_events: u64,
    /// Logs.
    pub logs: u64,
    /// Samples of counters.
    pub counters: u64,
    /// Typed events.
    pub typed: u64,
}

/// Generations that have no statuses although others follow: nobody got to write them, so what was idle in them
/// is known from the generation before. In words; nothing if there are none. `begin` is the number of the
/// first generation that there was at all, before which nothing was.
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
    /// What the file says, without the events.
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

    /// Why not all of the window is covered.
    #[must_use]
    pub fn too_small(&self) -> Option<String> {
        let rate = self.events as f64 / (self.covered.0.max(1) as f64 / 1e9);
        let arena = bytes(self.max_bytes.filter(|_| self.needed_bytes.is_some())?);
        Some(format!("an arena of {arena} is too small for {} events a second", count(rate as u64)))
    }

    /// What would do for all of it.
    #[must_use]
    pub fn would_do(&self) -> Option<String> {
        /// The most that a recorder takes.
        const MOST: u64 = 16 << 30;
        let needed = self.needed_bytes?;
        Some(match needed <= MOST {
            true => format!("for all of it `max_bytes` would have to be about {}", bytes(needed)),
            false => "no arena is large enough for all of it at this rate: record less, or ask for a shorter window"
                .to_owned(),
        })
    }

    /// That the filter may be why there are none; at the end of a sentence.
    pub(super) fn filtered(&self) -> String {
        match self.filters.as_slice() {
            [] => String::new(),
            filters => {
                format!(", as far as the filter lets them through: `{}`", filters.join("`, `"))
            }
        }
    }

    pub(super) fn finish(self) -> Section<Self> {
        let mut section = Section::default();
        // A recorder that has only begun has nothing to look back on.
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
                Finding { analysis: "coverage", title, score, evidence: Vec::new() }
            }));
        }
        section.table = self;
        section
    }
}
