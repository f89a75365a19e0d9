//! Where tasks wait at the end, and those of them that wait for what other tasks have.
//!
//! A recorder lists where tasks wait when a generation ends; of a task that has been idle since, that is where it waits.
//! Nothing tells which task holds a lock of futures or a permit. Tasks that wait elsewhere inside of a function that the
//! waiting ones are in, too, may have got it there: they are named as those who may hold it. The nearer that function is to
//! the one that asks, the more that says. All connections of a server are inside of the function that serves one, and what
//! they wait for there says nothing of a lock that is asked for far below. That tasks wait for each other is suspected only
//! if there is no other task that may hold what they want.

use super::{Found, evidence, finding, said};
use crate::analysis::{Evidence, Report, STANDS, Score, TaskRef, Unit};
use crate::format::{counted, duration};
use crate::read::{Trace, WaitingTask};
use crate::symbols::{Awaited, Location, Symbolizer};
use crate::wire::{Nanos, TaskId};
use std::collections::HashMap;

/// How many groups are kept, how many sets of stacks are looked at for them, and how many of their tasks are named.
const MOST_GROUPS: usize = 200;
const MOST_SETS: usize = 2000;
const MOST_TASKS: usize = 8;
/// How many functions of a place are kept, and how many are named.
const MOST_FUNCTIONS: usize = 16;
pub(super) const MOST_SAID: usize = 2;
/// How many functions below the common one may have asked for what the tasks of the other group hold: the body of a command
/// has it from a pool, and that from a semaphore.
const MOST_BELOW: usize = 2;
/// How many groups of tasks that may hold something are told, and how many places of a deadlock.
const MOST_HOLDERS: usize = 4;
const MOST_PLACES: usize = 4;
/// How many findings there are.
const MOST_FINDINGS: usize = 5;

/// Tasks that wait at one place.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitingGroup {
    /// How many.
    pub count: u64,
    /// What they wait for, if that is known.
    pub awaited: Option<Awaited>,
    /// The service's own functions that wait, the innermost first; at most 16. Empty if none is known.
    pub functions: Vec<Location>,
    /// How long the one that has waited longest has, at least.
    pub longest: Nanos,
    /// How long the one that has waited least has.
    pub shortest: Nanos,
    /// How many other things each waits for at the same time, as in a `select!`; the first is told.
    pub others: u64,
    /// Whether a time is one of those: the wait has a limit.
    pub is_timed: bool,
    /// The first of them, those that have waited longest first.
    pub tasks: Vec<TaskRef>,
    /// All of them.
    all: Vec<TaskId>,
}

/// The groups, and how many tasks are in none.
pub(super) fn groups(
    trace: &Trace,
    report: &Report,
    symbolizer: &mut Symbolizer,
) -> (Vec<WaitingGroup>, u64) {
    let last = trace.generations().iter().rev().find(|info| info.complete);
    let Some(generation) = last.and_then(|last| trace.generation(last.number).ok()) else {
        return (Vec::new(), 0);
    };
    let end = crate::analysis::end_of(trace);
    let listed_ago = Nanos(end.0.saturating_sub(generation.ended().monotonic.0));
    let mut groups: Vec<WaitingGroup> = Vec::new();
    let mut by_set: HashMap<u32, Option<usize>> = HashMap::new();
    let mut by_place: HashMap<(Option<Awaited>, Vec<Location>), usize> = HashMap::new();
    let mut left_out = 0;
    for task in generation.waiting() {
        let Some((idle, _)) = report.stuck.table.idle.get(&task.task) else { continue };
        // It was polled since.
        if *idle < listed_ago {
            continue;
        }
        let is_looked_at = by_set.len() < MOST_SETS;
        let group = by_set.entry(task.set).or_insert_with(|| {
            if !is_looked_at || groups.len() >= MOST_GROUPS {
                return None;
            }
            let group = group_of(&task, symbolizer);
            let key = (group.awaited, group.functions.clone());
            if let Some(known) = by_place.get(&key) {
                return Some(*known);
            }
            groups.push(group);
            by_place.insert(key, groups.len() - 1);
            Some(groups.len() - 1)
        });
        let Some(group) = group.and_then(|at| groups.get_mut(at)) else {
            left_out += 1;
            continue;
        };
        let name = task.site.name.to_owned();
        if group.count == 0 || *idle > group.longest {
            group.tasks.insert(0, TaskRef { task: task.task, name });
            group.tasks.truncate(MOST_TASKS);
        } else if group.tasks.len() < MOST_TASKS {
            group.tasks.push(TaskRef { task: task.task, name });
        }
        group.shortest = if group.count == 0 { *idle } else { group.shortest.min(*idle) };
        group.longest = group.longest.max(*idle);
        group.count += 1;
        group.all.push(task.task);
    }
    groups.sort_by_key(|group| std::cmp::Reverse((group.longest, group.count)));
    (groups, left_out)
}

/// A group for tasks that wait where this one does, with none in it.
pub(super) fn group_of(task: &WaitingTask<'_>, symbolizer: &mut Symbolizer) -> WaitingGroup {
    let mut found: Vec<(Option<Awaited>, Vec<Location>)> = Vec::new();
    let mut is_timed = false;
    for place in task.places() {
        let frames = place.stack.iter().flat_map(|stack| stack.frames());
        let functions: Vec<_> = frames.flat_map(|frame| symbolizer.locations(&frame)).collect();
        let awaited = Awaited::of(&functions);
        is_timed |= awaited == Some(Awaited::Time);
        let own = functions.into_iter().filter(Location::is_of_service).take(MOST_FUNCTIONS);
        found.push((awaited, own.collect()));
    }
    let at = told(&found).unwrap_or_default();
    let others = found.len().saturating_sub(1) as u64;
    let (awaited, functions) =
        if found.is_empty() { (None, Vec::new()) } else { found.swap_remove(at) };
    WaitingGroup {
        count: 0,
        awaited,
        functions,
        longest: Nanos(0),
        shortest: Nanos(0),
        others,
        is_timed: is_timed && others > 0,
        tasks: Vec::new(),
        all: Vec::new(),
    }
}

/// Which of several things that a task waits for is told: always the same one, though a `select!` asks for them in any
/// order.
fn told(found: &[(Option<Awaited>, Vec<Location>)]) -> Option<usize> {
    // A time is mostly the limit of what is waited for, and such a message the one that all is over.
    let rank = |awaited: Option<Awaited>| match awaited {
        Some(Awaited::Time) => 2,
        Some(Awaited::Broadcast | Awaited::Change | Awaited::Notice | Awaited::Signal) => 1,
        _ => 0,
    };
    let place = |(awaited, functions): &(Option<Awaited>, Vec<Location>)| {
        let places = functions.iter().map(|of| (of.place.clone(), of.function.whole().to_owned()));
        (rank(*awaited), places.collect::<Vec<_>>())
    };
    (0..found.len()).min_by_key(|at| place(&found[*at]))
}

impl WaitingGroup {
    /// `a Mutex at src/bank.rs:31 (bank::transfer)`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let what = self.awaited.map_or("something", Awaited::in_words);
        let places: Vec<_> = self.functions.iter().take(MOST_SAID).map(said).collect();
        match places.is_empty() {
            true => format!("{what}, at an unknown place"),
            false => format!("{what} at {}", places.join(", called at ")),
        }
    }

    /// `7 tasks wait`, `task `answer` (17.2) waits`.
    fn whose(&self) -> String {
        match (self.count, self.tasks.first()) {
            (1, Some(task)) => format!("task {} waits", task.label()),
            (many, _) => format!("{} wait", counted(many, "task")),
        }
    }

    /// `Task `answer` (17.2) waits for a Mutex at src/bank.rs:31 (bank::transfer)`.
    pub(super) fn waits(&self) -> String {
        capital(&format!("{} for {}", self.whose(), self.in_words()))
    }

    /// Whether a finding is about one of its tasks.
    pub(super) fn is_told(&self, found: &Found) -> bool {
        self.all.iter().any(|task| found.tasks.contains(task))
    }

    /// Notes that a finding explains why its tasks wait.
    pub(super) fn add_to(&self, found: &mut Found) {
        found.tasks.extend(&self.all);
    }

    pub(super) fn waits_for_others(&self) -> bool {
        self.awaited.is_some_and(Awaited::is_held_by_others)
    }

    /// Whether it is usual to wait for this for any time.
    fn waits_for_work(&self) -> bool {
        matches!(
            self.awaited,
            Some(Awaited::Message | Awaited::Broadcast | Awaited::Change | Awaited::Accept)
        )
    }

    /// Whether its tasks wait, for as long as it takes, for somebody else to say something, or it is not known for what.
    pub(super) fn waits_for_other_side(&self) -> bool {
        // Who asks again and again waits for each answer for a time.
        let waits_for_data = matches!(self.awaited, None | Some(Awaited::Data)) && !self.is_timed;
        waits_for_data || self.waits_for_work()
    }

    /// Whether its tasks hold no lock, as far as anybody can tell: they wait for work, or they end when others have.
    fn is_at_rest(&self) -> bool {
        self.waits_for_work() || self.awaited == Some(Awaited::TaskEnd)
    }

    fn is_mutual(&self) -> bool {
        matches!(self.awaited, Some(Awaited::Mutex | Awaited::RwLock))
    }

    /// How many functions are below the innermost one of the service that its tasks and those of the other group are in:
    /// none if it is the one that asks itself. `None` if there is no such function, or too far above to say anything.
    fn below_common(&self, other: &Self) -> Option<usize> {
        let is_there = |name: &Location| {
            other.functions.iter().any(|of| of.function.whole() == name.function.whole())
        };
        let common = self.functions.iter().position(is_there)?;
        let mut below: Vec<_> =
            self.functions[..common].iter().map(|of| of.function.to_string()).collect();
        // The closures in a function are that function.
        below.dedup();
        below.retain(|name| *name != self.functions[common].function.to_string());
        (below.len() <= MOST_BELOW).then_some(below.len())
    }

    pub(super) fn evidence(&self, before: &str, report: &Report, depth: u8) -> Evidence {
        let mut what = format!("{before}{} for {}", self.whose(), self.in_words());
        if self.count > 1 && self.shortest < self.longest {
            let times = (duration(self.shortest), duration(self.longest));
            what += &format!(", for {} to {}", times.0, times.1);
        } else {
            what += &format!(", for {}", duration(self.longest));
        }
        if self.is_timed {
            what += ", with a time limit";
        }
        let mut one = evidence(what, self.longest, report, depth);
        one.task = self.tasks.first().cloned();
        one
    }
}

/// Adds what is found about tasks that wait for what others have.
pub(super) fn find(report: &Report, groups: &[WaitingGroup], found: &mut Found) {
    let stuck: Vec<&WaitingGroup> =
        groups.iter().filter(|group| group.waits_for_others() && group.longest >= STANDS).collect();
    let (mutual, rest): (Vec<_>, Vec<_>) = stuck.into_iter().partition(|group| group.is_mutual());
    let mut places: Vec<&WaitingGroup> = Vec::new();
    for group in &mutual {
        let place = |of: &WaitingGroup| of.functions.first().cloned();
        if places.iter().all(|known| place(known) != place(group)) {
            places.push(group);
        }
    }
    let before = found.findings.len();
    // Where others are inside of the very function that asks, one of those has the lock; and a wait with a limit ends.
    let near = may_hold(groups, &mutual);
    let is_one_finding = places.len() > 1
        && near.iter().all(|(below, _)| *below > 0)
        && mutual.iter().all(|group| !group.is_timed);
    if is_one_finding {
        let others = others(report, groups, &mutual);
        let parts = places.iter().take(MOST_PLACES);
        let parts: Vec<_> =
            parts.map(|group| format!("{} for {}", group.whose(), group.in_words())).collect();
        let longest = mutual[0].longest;
        let (before, behind) = match others {
            0 => ("Deadlock, suspected: ".to_owned(), String::new()),
            _ => {
                let whom = counted(others, "task");
                let behind = format!(": for each other, or for one of {whom} elsewhere");
                (format!("Locks at {} places: ", places.len()), behind)
            }
        };
        let title = format!(
            "{before}{}; the longest for {}, and nothing has woken any of them{behind}",
            parts.join("; "),
            duration(longest),
        );
        let mut told: Vec<_> = mutual.iter().map(|group| group.evidence("", report, 0)).collect();
        if others > 0 {
            told.extend(
                near.iter().map(|(_, of)| of.evidence("may hold one of them: ", report, 1)),
            );
            let is_near =
                |of: &&WaitingGroup| near.iter().any(|(_, near)| std::ptr::eq(*near, *of));
            let elsewhere = groups
                .iter()
                .filter(|of| !of.waits_for_others() && !of.is_at_rest() && !is_near(of))
                .take(MOST_HOLDERS - near.len());
            told.extend(elsewhere.map(|of| of.evidence("elsewhere, ", report, 1)));
        }
        found.findings.push(finding(title, score(longest), told));
        mutual.iter().for_each(|group| found.tasks.extend(&group.all));
    } else {
        for group in mutual.into_iter().take(MOST_FINDINGS) {
            one(group, groups, report, found);
        }
    }
    // Who may have what others want says more than that they want it, and the nearer the more. A service has few pools: those who
    // want something of one may want what the same tasks have.
    let nearest = |group: &WaitingGroup| {
        may_hold(groups, &[group]).first().map_or(usize::MAX, |(below, _)| *below)
    };
    let mut rest: Vec<_> = rest.into_iter().map(|group| (nearest(group), group)).collect();
    rest.sort_by_key(|(below, _)| *below);
    let mut of_pool: Option<(usize, usize)> = None;
    for (below, group) in rest {
        let is_pooled = group.awaited == Some(Awaited::Pooled);
        let is_farther = |(_, known): &(usize, usize)| below > *known || below == usize::MAX;
        let known = of_pool.filter(|known| is_pooled && is_farther(known));
        if is_pooled && !found.behind_pool.is_empty() {
            found.behind_pool.push(group.evidence("may want the same: ", report, 1));
            group.add_to(found);
        } else if let Some(known) = known.and_then(|(at, _)| found.findings.get_mut(at)) {
            known.evidence.push(group.evidence("may want the same: ", report, 1));
            group.add_to(found);
        } else if found.findings.len() - before < MOST_FINDINGS {
            let at = found.findings.len();
            one(group, groups, report, found);
            let is_told = found.findings.len() > at;
            of_pool = of_pool.or((is_pooled && is_told).then_some((at, below)));
        }
    }
}

fn score(longest: Nanos) -> Score {
    Score { value: longest.0 as f64, limit: STANDS.0 as f64, unit: Unit::Nanos }
}

/// Other groups whose tasks may hold what these wait for, as near as any are, and how near that is.
fn may_hold<'g>(
    groups: &'g [WaitingGroup],
    of: &[&WaitingGroup],
) -> Vec<(usize, &'g WaitingGroup)> {
    let is_other = |group: &&WaitingGroup| {
        !of.iter().any(|one| std::ptr::eq(*one, *group)) && group.longest >= STANDS
    };
    let near = |group: &'g WaitingGroup| {
        // Who waits for the same elsewhere has none of it yet; only from inside of a function that asked may it ask for another.
        let below = |one: &&WaitingGroup| {
            let below = one.below_common(group)?;
            (below == 0 || one.awaited != group.awaited).then_some(below)
        };
        let below = of.iter().filter_map(below).min()?;
        Some((below, group))
    };
    let mut found: Vec<_> = groups.iter().filter(is_other).filter_map(near).collect();
    let nearest = found.iter().map(|(below, _)| *below).min();
    found.retain(|(below, _)| Some(*below) == nearest);
    found.truncate(MOST_HOLDERS);
    found
}

/// How many other tasks there are that may hold what these wait for: all that do not wait for work or for the end of
/// another task, wherever that is.
fn others(report: &Report, groups: &[WaitingGroup], of: &[&WaitingGroup]) -> u64 {
    let is_known = |group: &&WaitingGroup| {
        group.is_at_rest() || of.iter().any(|one| std::ptr::eq(*one, *group))
    };
    let known: u64 = groups.iter().filter(is_known).map(|group| group.count).sum();
    report.stuck.table.live.saturating_sub(known)
}

/// A finding about one place at which tasks wait for what others have: those who may have it come first.
fn one(group: &WaitingGroup, groups: &[WaitingGroup], report: &Report, found: &mut Found) {
    let holders: Vec<_> = may_hold(groups, &[group]).into_iter().map(|(_, of)| of).collect();
    found.tasks.extend(&group.all);
    // Who has the lock waits for work, and the others for their turn to: a receiver that several share.
    if !holders.is_empty() && holders.iter().all(|of| of.waits_for_work()) {
        return;
    }
    // Those wait for closures that get no thread.
    let is_of_pool = |of: &&WaitingGroup| of.awaited == Some(Awaited::TaskEnd);
    if !report.blocking.findings.is_empty() && holders.iter().any(is_of_pool) {
        for of in holders.iter().copied().filter(is_of_pool).chain([group]) {
            found.behind_pool.push(of.evidence("behind them, ", report, 1));
            of.add_to(found);
        }
        return;
    }
    let waiting = format!("{} for {}", group.whose(), group.in_words());
    let longest = duration(group.longest);
    let (title, mut told) = match holders.first() {
        Some(first) => {
            let title = format!(
                "{} for {}, and may hold what others want: {waiting}, the longest for {longest}, and nothing has woken them",
                capital(&first.whose()),
                first.in_words(),
            );
            let told = holders.iter().map(|of| of.evidence("", report, 0)).collect();
            (title, told)
        }
        None => {
            let title =
                format!("{}, the longest for {longest}; nothing has woken them", capital(&waiting));
            (title, Vec::new())
        }
    };
    let depth = u8::from(!holders.is_empty());
    told.push(group.evidence("", report, depth));
    if holders.is_empty() {
        // Whoever holds it is one of those that wait elsewhere, or runs.
        let others = groups.iter().filter(|of| !std::ptr::eq(*of, group));
        let others = others.filter(|of| of.longest >= group.shortest && !of.waits_for_others());
        told.extend(others.take(MOST_HOLDERS).map(|of| of.evidence("elsewhere, ", report, 1)));
    }
    for of in holders {
        found.tasks.extend(&of.all);
    }
    found.findings.push(finding(title, score(group.longest), told));
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::analysis::Finding;
    use crate::symbols::FunctionName;

    /// Tasks that have waited for this many seconds, and in which functions.
    pub(in super::super) fn group(
        awaited: Awaited,
        seconds: u64,
        functions: &[(&str, u32)],
    ) -> WaitingGroup {
        let location = |(name, line): &(&str, u32)| Location {
            function: FunctionName::new(name),
            place: Some(("src/db.rs".to_owned(), *line)),
            is_inlined: false,
        };
        WaitingGroup {
            count: 1,
            awaited: Some(awaited),
            functions: functions.iter().map(location).collect(),
            longest: Nanos(seconds * 1_000_000_000),
            shortest: Nanos(seconds * 1_000_000_000),
            others: 0,
            is_timed: false,
            tasks: Vec::new(),
            all: Vec::new(),
        }
    }

    const SERVES: [(&str, u32); 3] =
        [("db::Get::apply", 70), ("db::Command::apply", 94), ("db::Handler::run", 380)];

    /// Inside of a command of a connection.
    pub(in super::super) fn in_command(
        awaited: Awaited,
        function: &str,
        line: u32,
    ) -> WaitingGroup {
        group(awaited, 4, &[&[(function, line)], &SERVES[..]].concat())
    }

    fn titles(groups: &[WaitingGroup]) -> Vec<String> {
        let mut found = Found::default();
        find(&Report::default(), groups, &mut found);
        found.findings.into_iter().map(|finding| finding.title).collect()
    }

    #[test]
    fn connections_that_wait_for_requests_hold_no_lock_that_a_command_waits_for() {
        let idle = group(Awaited::Data, 5, &[("db::read", 69), ("db::Handler::run", 339)]);
        let locks = [
            in_command(Awaited::Mutex, "db::Db::rebuild", 186),
            in_command(Awaited::Mutex, "db::Db::reindex", 193),
        ];
        let titles = titles(&[idle, locks[0].clone(), locks[1].clone()]);
        assert_eq!(titles.len(), 1, "{titles:?}");
        assert!(titles[0].starts_with("Deadlock, suspected: "), "{titles:?}");
        assert!(!titles[0].contains("read"), "{titles:?}");
    }

    #[test]
    fn what_a_select_waits_for_is_told_alike_whatever_it_asked_for_first() {
        let place = |awaited, name| {
            let found = group(awaited, 1, &[(name, 3), ("db::Handler::run", 339)]);
            (found.awaited, found.functions)
        };
        let over = place(Awaited::Broadcast, "db::Shutdown::recv");
        let limit = place(Awaited::Time, "db::Handler::run");
        let data = place(Awaited::Data, "db::read");
        for found in [
            [data.clone(), over.clone(), limit.clone()],
            [over.clone(), limit.clone(), data.clone()],
            [limit, data.clone(), over],
        ] {
            let at = told(&found).unwrap();
            assert_eq!(found[at], data);
        }
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn tasks_of_the_function_that_asks_are_suspected_before_those_of_its_callers() {
        let other = in_command(Awaited::Answer, "db::Db::query", 5);
        let holder = in_command(Awaited::Answer, "db::Db::export::{{closure}}", 200);
        let waiting = in_command(Awaited::Permit, "db::Db::export::{{closure}}", 198);
        let titles = titles(&[other, holder, waiting]);
        assert_eq!(titles.len(), 1, "{titles:?}");
        assert!(titles[0].contains("db.rs:200") && !titles[0].contains("db.rs:5 "), "{titles:?}");
    }

    #[test]
    fn who_may_hold_something_of_a_pool_is_told_before_all_that_want_something_of_it() {
        let found = |groups: &[WaitingGroup]| {
            let mut found = Found::default();
            find(&Report::default(), groups, &mut found);
            found.findings
        };
        let (cover, serve) = (("main::cover", 36), ("main::serve", 9));
        let other = group(Awaited::Pooled, 5, &[("db::title", 37), ("main::book", 30), serve]);
        let asks = group(Awaited::Pooled, 4, &[("db::title_with", 62), cover, serve]);
        let chain = [("covers::of", 38), ("db::title_with", 67), cover, serve];
        let holds = group(Awaited::Data, 4, &chain);
        let told = found(&[other.clone(), asks.clone(), holds]);
        assert_eq!(told.len(), 1, "{told:#?}");
        assert!(told[0].title.starts_with("1 task wait for data to read at src/db.rs:38"));
        let last = &told[0].evidence.last().unwrap().what;
        assert!(last.starts_with("may want the same: ") && last.contains(":37"), "{last}");
        // Nobody may hold it: one finding for each place.
        let told = found(&[other, asks]);
        assert_eq!(told.len(), 1, "{told:#?}");
    }

    #[test]
    fn two_locks_and_others_that_may_hold_them_are_one_finding_that_says_both() {
        let groups = [
            in_command(Awaited::Answer, "db::Db::export", 200),
            in_command(Awaited::Mutex, "db::Db::rebuild", 186),
            in_command(Awaited::Mutex, "db::Db::reindex", 193),
        ];
        let (mut report, mut found) = (Report::default(), Found::default());
        report.stuck.table.live = 3;
        find(&report, &groups, &mut found);
        assert_eq!(found.findings.len(), 1);
        let Finding { title, evidence, .. } = &found.findings[0];
        assert!(title.starts_with("Locks at 2 places: "), "{title}");
        assert!(title.ends_with("for each other, or for one of 1 task elsewhere"), "{title}");
        assert!(!title.contains("db.rs:200"), "{title}");
        let last = evidence.last().unwrap();
        assert!(last.what.starts_with("may hold one of them: ") && last.what.contains(":200"));
    }
}
