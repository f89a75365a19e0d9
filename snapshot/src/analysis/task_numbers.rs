//! How many tasks of each name were alive and were spawned, over time, and how large their futures are: tasks that leak, storms
//! of spawns, large futures.
//!
//! A name is a type of future with the place of its spawn, so a finding names the site.

use super::interner::{Name, Names};
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::slices::{SLICES, Slices, median, rises};
use super::state::LiveState;
use super::{Finding, Moment, Score, Section, Unit};
use crate::format::{bytes, count, counted, duration};
use crate::read::TaskType;
use crate::read::decode::fast_map::Map;
use crate::wire::Nanos;

/// So many more tasks of a name may be alive at the end than were at the beginning.
pub const LEAKED_TASKS: u64 = 1000;
/// So many tasks of a name may be spawned within a thirty-second of the snapshot.
pub const SPAWN_STORM: u64 = 5000;
/// And so many times as many as in other parts of it.
pub const SPAWN_STORM_RATIO: f64 = 8.0;
/// Futures that are larger than this are large.
pub const LARGE_FUTURE: u64 = 16 << 10;
/// All large futures of a name may take so much memory at once.
pub const LARGE_FUTURES: u64 = 16 << 20;

const MOST_NAMES: usize = 4096;
/// What does not rise most of the time is no leak.
const RISING: f64 = 0.75;
/// A shorter snapshot says little of growth.
const SHORT: Nanos = Nanos(1_500_000_000);

/// The types of tasks.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct TaskNumbers {
    /// The names, those whose futures took the most memory first, and then those with the most tasks.
    pub names: Vec<TasksOfName>,
    /// Tasks of further names, which were not analyzed.
    pub others: u64,
}

/// The tasks of one name.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TasksOfName {
    /// The name: the future's type, and where it is spawned.
    pub name: String,
    /// How many bytes its future takes; 0 if that is not known.
    pub size: u64,
    /// How many were alive when the snapshot begins.
    pub first: u64,
    /// How many were alive at its end.
    pub last: u64,
    /// How many were alive at once, at most.
    pub most: u64,
    /// How many were spawned.
    pub spawned: u64,
    /// The most that were spawned in a part of the snapshot, and when that began.
    pub most_spawned: (u64, Moment),
}

/// Counts tasks.
#[derive(Default)]
pub(super) struct TaskCounter {
    slices: Slices,
    /// The slice that the last event was in, and the first one.
    now: Option<usize>,
    begin: usize,
    names: Map<Name, Counts>,
    sizes: Map<Name, u64>,
    others: u64,
    has_gaps: bool,
    /// Whether anything was recorded of tasks in each slice: if not, the process may have been held up.
    seen: [bool; SLICES],
}

#[derive(Clone, Copy, Default)]
struct Counts {
    alive: u64,
    first: u64,
    most: u64,
    /// How many were alive at the end of each slice, and were spawned in it.
    at: [u32; SLICES],
    spawned: [u32; SLICES],
}

impl TaskCounter {
    /// For a snapshot of this time.
    pub(super) fn between(from: Nanos, until: Nanos) -> Self {
        Self { slices: Slices::between(from, until), ..Self::default() }
    }

    /// What is alive is known anew.
    pub(super) fn count(&mut self, live: &LiveState, at: Nanos) {
        self.go_on(at);
        self.has_gaps |= self.names.values().any(|counts| counts.spawned.iter().any(|of| *of > 0));
        self.names.values_mut().for_each(|counts| counts.alive = 0);
        for task in live.tasks.values() {
            if let Some(counts) = self.of(task.name) {
                counts.alive += 1;
            }
        }
        for counts in self.names.values_mut() {
            counts.first = counts.first.max(counts.alive);
            counts.most = counts.most.max(counts.alive);
        }
    }

    pub(super) fn sizes<'a>(
        &mut self,
        types: impl Iterator<Item = TaskType<'a>>,
        names: &mut Names,
    ) {
        for of in types {
            let name = names.name(of.site.name);
            if self.sizes.len() < MOST_NAMES || self.sizes.contains_key(&name) {
                let size = self.sizes.entry(name).or_default();
                *size = of.size.max(*size);
            }
        }
    }

    pub(super) fn spawned(&mut self, name: Name, at: Nanos) {
        let slice = self.go_on(at);
        if let Some(counts) = self.of(name) {
            counts.alive += 1;
            counts.most = counts.most.max(counts.alive);
            counts.spawned[slice] = counts.spawned[slice].saturating_add(1);
        }
    }

    pub(super) fn ended(&mut self, name: Name, at: Nanos) {
        self.go_on(at);
        if let Some(counts) = self.names.get_mut(&name) {
            counts.alive = counts.alive.saturating_sub(1);
        }
    }

    fn of(&mut self, name: Name) -> Option<&mut Counts> {
        if self.names.len() >= MOST_NAMES && !self.names.contains_key(&name) {
            self.others += 1;
            return None;
        }
        Some(self.names.entry(name).or_default())
    }

    /// Enters the slice of this instant.
    fn go_on(&mut self, at: Nanos) -> usize {
        let slice = self.slices.at(at);
        self.seen[slice] = true;
        let Some(now) = self.now else {
            (self.now, self.begin) = (Some(slice), slice);
            return slice;
        };
        if slice > now {
            for counts in self.names.values_mut() {
                let alive = u32::try_from(counts.alive).unwrap_or(u32::MAX);
                counts.at[now..slice].fill(alive);
            }
            self.now = Some(slice);
        }
        slice.max(now)
    }

    pub(super) fn finish(mut self, context: &ReportContext<'_>) -> Section<TaskNumbers> {
        let last = self.go_on(context.end);
        for counts in self.names.values_mut() {
            counts.at[last] = u32::try_from(counts.alive).unwrap_or(u32::MAX);
        }
        let mut section = Section::<TaskNumbers>::default();
        let is_long = context.end.since(self.slices.begin(self.begin)) >= SHORT;
        if !is_long {
            section.not_assessed.push("the snapshot is too short to see growth".to_owned());
        } else if context.live.doubts.any() || self.has_gaps {
            section.not_assessed.push(context.live.doubts.because());
        }
        let can_see_growth = section.not_assessed.is_empty();
        for (name, counts) in &self.names {
            let size = self.sizes.get(name).copied().unwrap_or_default();
            let of = self.told(*name, counts, size, context);
            if can_see_growth {
                section.findings.extend(self.leak(&of, counts, last, context));
                section.findings.extend(self.storm(&of, counts, last, context));
            }
            section.findings.extend(large(&of, context));
            section.table.names.push(of);
        }
        section.table.names.sort_by(|a, b| {
            let bytes = |of: &TasksOfName| of.size.saturating_mul(of.most);
            bytes(b).cmp(&bytes(a)).then(b.most.cmp(&a.most)).then(a.name.cmp(&b.name))
        });
        section.table.others = self.others;
        section.settle(5)
    }

    fn told(
        &self,
        name: Name,
        counts: &Counts,
        size: u64,
        context: &ReportContext<'_>,
    ) -> TasksOfName {
        let spawned = counts.spawned.iter().map(|of| u64::from(*of));
        let storm = counts.spawned.iter().enumerate().max_by_key(|(_, of)| **of);
        let (at, most_spawned) = storm.map_or((0, 0), |(at, of)| (at, u64::from(*of)));
        TasksOfName {
            name: context.text(name),
            size,
            first: counts.first,
            last: counts.alive,
            most: counts.most,
            spawned: spawned.sum(),
            most_spawned: (most_spawned, context.moment(self.slices.begin(at))),
        }
    }

    fn leak(
        &self,
        of: &TasksOfName,
        counts: &Counts,
        last: usize,
        context: &ReportContext<'_>,
    ) -> Option<Finding> {
        let slices = (self.begin..=last).filter(|slice| self.seen[*slice]);
        let row: Vec<f64> = slices.map(|slice| f64::from(counts.at[slice])).collect();
        let grown = of.last.saturating_sub(of.first);
        let score = Score::beyond(grown as f64, LEAKED_TASKS as f64, Unit::Count)?;
        if of.last < of.first.saturating_mul(2) || !rises(&row, RISING) {
            return None;
        }
        let title = format!(
            "Tasks `{}` grew from {} to {} in {}, all the while: they are spawned and do not end",
            of.name,
            count(of.first),
            count(of.last),
            duration(context.end.since(self.slices.begin(self.begin))),
        );
        let what =
            format!("{} spawned, and {} alive at the end", count(of.spawned), count(of.last));
        let evidence = context.evidence(what, self.slices.begin(self.begin), Some(context.end));
        Some(Finding::new("tasks", title, score, vec![evidence]))
    }

    fn storm(
        &self,
        of: &TasksOfName,
        counts: &Counts,
        last: usize,
        context: &ReportContext<'_>,
    ) -> Option<Finding> {
        let row = &counts.spawned[self.begin..=last];
        let (at, most) = row.iter().enumerate().max_by_key(|(_, of)| **of)?;
        if row.len() < 4 {
            return None;
        }
        let others = row.iter().enumerate().filter(|(other, _)| *other != at);
        let usual = median(others.map(|(_, of)| f64::from(*of)).collect());
        let limit = (SPAWN_STORM as f64).max(SPAWN_STORM_RATIO * usual);
        let score = Score::beyond(f64::from(*most), limit, Unit::Count)?;
        let began = self.slices.begin(self.begin + at);
        let title = format!(
            "A storm of spawns: {} of `{}` within {}, otherwise about {}",
            counted(u64::from(*most), "task"),
            of.name,
            duration(self.slices.length()),
            count(usual as u64),
        );
        let ended = began.0.saturating_add(self.slices.length().0);
        let evidence =
            context.evidence("they are spawned", began, Some(Nanos(ended).min(context.end)));
        Some(Finding::new("tasks", title, score, vec![evidence]))
    }
}

/// Many large futures at once.
fn large(of: &TasksOfName, context: &ReportContext<'_>) -> Option<Finding> {
    if of.size <= LARGE_FUTURE {
        return None;
    }
    let all = of.size.saturating_mul(of.most);
    let score = Score::beyond(all as f64, LARGE_FUTURES as f64, Unit::Bytes)?;
    let title = format!(
        "Futures of {} each: {} of `{}` were alive at once, which takes {}; box what they hold over an `.await`",
        bytes(of.size),
        counted(of.most, "task"),
        of.name,
        bytes(all),
    );
    let evidence = context.evidence("they are alive", context.first, Some(context.end));
    Some(Finding::new("tasks", title, score, vec![evidence]))
}

#[cfg(test)]
mod tests {
    use crate::analysis::test_trace::Script;

    /// 3,000 tasks in ten seconds, `each` of which lives for so many milliseconds; spawned at these times.
    fn findings(times: impl Iterator<Item = f64>, lives: Option<f64>) -> Vec<String> {
        let mut script = Script::new(10, &[]);
        let mut ends: Vec<(f64, u32)> = Vec::new();
        for (number, at) in times.enumerate() {
            let number = number as u32 + 1;
            while let Some((end, other)) = ends.first().copied().filter(|(end, _)| *end <= at) {
                ends.remove(0);
                script.cancel(end, 1, other);
            }
            script.spawn(at, 1, number, "serve");
            ends.extend(lives.map(|lives| (at + lives, number)));
        }
        script.report().tasks.findings.into_iter().map(|finding| finding.title).collect()
    }

    #[test]
    fn tasks_that_do_not_end_are_found_and_those_that_end_are_not() {
        let steadily = || (0..3000).map(|at| f64::from(at) * 3.3);
        let found = findings(steadily(), None);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("Tasks `serve` grew from 0 to 3,000 in "), "{found:?}");
        assert!(findings(steadily(), Some(500.0)).is_empty());
        // All are spawned at the beginning.
        assert!(findings((0..3000).map(|at| f64::from(at) / 10.0), None).is_empty());
        assert!(findings((0..900).map(|at| f64::from(at) * 11.0), None).is_empty(), "too few");
    }

    #[test]
    fn a_storm_of_spawns_is_found_and_a_steady_rate_is_not() {
        let calm = (0..100).map(|at| f64::from(at) * 50.0);
        let storm = (0..8000).map(|at| 5000.0 + f64::from(at) / 100.0);
        let found = findings(calm.chain(storm), Some(1.0));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("A storm of spawns: "), "{found:?}");
        assert!(findings((0..16000).map(|at| f64::from(at) * 0.6), Some(1.0)).is_empty());
    }
}
