//! Threads that wait for each other, and threads that others wait for: from stacks that were taken from outside or,
//! without those, from what the recorder says of threads that stand still.

use super::lock_polls::LockThreads;
use super::{Found, evidence, finding, said};
use crate::analysis::{Evidence, Finding, Report, STANDS, Score, Stand, ThreadRef, Unit};
use crate::format::counted;
use crate::read::{Trace, WorkerId};
use crate::symbols::{Blocked, FrameNames, Holder, Location, Symbolizer, WaitKind};
use crate::wire::{Nanos, ProcessStacks, ThreadNumber};
use std::collections::{BTreeMap, HashMap};

/// How many threads that wait behind others are named.
const MOST_NAMED: usize = 8;
/// How many findings about deadlocks there are, and how many about locks.
const MOST_CIRCLES: usize = 5;
const MOST_LOCKS: usize = 5;
/// How many functions of a place are named.
const MOST_FUNCTIONS: usize = 3;

/// At which lines threads are that are in polls at the end, and were in polls that stalled.
pub(super) struct Places {
    open: BTreeMap<ThreadNumber, String>,
    /// With how long before the end that was.
    over: Vec<(ThreadNumber, Nanos, String)>,
    /// Which of them wait for a lock.
    pub(super) locks: LockThreads,
}

/// Adds what is found about threads.
pub(super) fn find(
    trace: &Trace,
    report: &Report,
    symbolizer: &mut Symbolizer,
    found: &mut Found,
) -> Places {
    let own = &report.threads.standing;
    let outside = trace.process_stacks();
    let stacks = outside.unwrap_or(own);
    let mut numbers = BTreeMap::new();
    if outside.is_some() {
        let by_os: HashMap<u64, ThreadNumber> =
            report.threads.os_threads.iter().map(|(number, os)| (*os, *number)).collect();
        for (at, thread) in stacks.threads.iter().enumerate() {
            if let Some(number) = by_os.get(&thread.os_thread) {
                numbers.insert(at, *number);
            }
        }
    } else {
        numbers = report.threads.numbers.iter().copied().enumerate().collect();
    }
    let mut places = BTreeMap::new();
    let locks;
    {
        let mut names = FrameNames::new(stacks, symbolizer);
        let blocked = Blocked::of(&mut names);
        for (at, thread) in stacks.threads.iter().enumerate() {
            let Some(number) = numbers.get(&at) else { continue };
            let functions = names.of(thread);
            let own = functions.iter().flat_map(|of| of.iter()).filter(|of| of.is_of_service());
            let verb = if thread.waits.call.is_empty() { "is at" } else { "blocks at" };
            if let Some(place) = place(verb, own) {
                places.insert(*number, place);
            }
        }
        let threads = Threads { stacks, blocked, numbers, report };
        threads.circles(found);
        threads.locks(found);
        locks = LockThreads::of(&threads);
    }
    for (number, frames) in &report.threads.stalled {
        let functions: Vec<_> =
            frames.iter().flat_map(|frame| symbolizer.locations(&frame.frame())).collect();
        let own = functions.iter().filter(|of| of.is_of_service());
        if let (false, Some(place)) = (places.contains_key(number), place("was at", own)) {
            places.insert(*number, place);
        }
    }
    let over = report.threads.over.iter().filter_map(|stall| {
        let frames = stall.frames.iter();
        let functions: Vec<_> =
            frames.flat_map(|frame| symbolizer.locations(&frame.frame())).collect();
        let place = place("was at", functions.iter().filter(|of| of.is_of_service()))?;
        Some((stall.thread, stall.before_end, place))
    });
    Places { over: over.collect(), open: places, locks }
}

fn place<'l>(verb: &str, own: impl Iterator<Item = &'l Location>) -> Option<String> {
    let own: Vec<_> = own.take(MOST_FUNCTIONS).map(said).collect();
    (!own.is_empty()).then(|| format!("{verb} {}", own.join(", called at ")))
}

impl Places {
    /// Adds the line to a finding about a poll that had not ended, or that stalled.
    pub(super) fn add_to(&self, finding: &mut Finding) {
        if finding.analysis != "polls" && finding.analysis != "standing" {
            return;
        }
        let mut at = 0;
        while let Some(one) = finding.evidence.get(at) {
            at += 1;
            if let Some(place) = self.of(one).filter(|_| one.depth == 0) {
                let line = Evidence { what: place.clone(), depth: 1, task: None, ..one.clone() };
                finding.evidence.insert(at, line);
                at += 1;
            }
        }
    }

    /// Where the thread of a poll was, as long as that took.
    fn of(&self, poll: &Evidence) -> Option<&String> {
        let number = poll.thread.as_ref()?.number;
        let Some(until) = poll.until else { return self.open.get(&number) };
        let length = until.0.saturating_sub(poll.at.0).max(0).cast_unsigned();
        let ended = Nanos(poll.before_end.0.saturating_sub(length));
        let within = |at: Nanos| (ended..=poll.before_end).contains(&at);
        let stall = self.over.iter().find(|(thread, at, _)| *thread == number && within(*at));
        stall.map(|(.., place)| place)
    }
}

pub(super) struct Threads<'a> {
    stacks: &'a ProcessStacks,
    pub(super) blocked: Blocked,
    /// The recorder's numbers, of those that it knows.
    pub(super) numbers: BTreeMap<usize, ThreadNumber>,
    report: &'a Report,
}

impl Threads<'_> {
    /// Each deadlock is one finding, with those that wait behind it.
    fn circles(&self, found: &mut Found) {
        let before = found.findings.len();
        let mut left_out = 0;
        for circle in &self.blocked.circles {
            let holders = circle.iter().map(|at| self.blocked.waits[*at].holder);
            let is_certain = holders.flatten().all(|holder| holder.is_certain);
            let is_short = |at: &usize| self.silent(*at).is_some_and(|since| since < STANDS);
            if !is_certain && circle.iter().any(is_short) {
                continue;
            }
            if found.findings.len() - before >= MOST_CIRCLES {
                left_out += 1;
                self.explained(circle, found);
                continue;
            }
            let parts: Vec<_> = circle.iter().map(|at| self.waits(*at)).collect();
            let title = match (is_certain, circle.len()) {
                (true, 1) => format!("Deadlock: {}, itself", parts[0]),
                (false, 1) => format!("Deadlock, suspected: {}, itself", parts[0]),
                (true, _) => format!("Deadlock: {}", parts.join("; ")),
                (false, _) => format!("Deadlock, suspected: {}", parts.join("; ")),
            };
            let mut told: Vec<_> = circle.iter().map(|at| self.evidence(*at, 0)).collect();
            self.behind(circle, &mut told);
            let score = Score { value: circle.len() as f64, limit: 0.0, unit: Unit::Count };
            found.findings.push(finding(title, score, told));
            self.explained(circle, found);
        }
        if let Some(last) = found.findings.last_mut().filter(|_| left_out > 0) {
            let what = format!("{} like this", counted(left_out, "more deadlock"));
            last.evidence.push(evidence(what, Nanos(0), self.report, 1));
        }
    }

    /// Each thread that others have waited for, and that is in no deadlock, nor waits for one.
    fn locks(&self, found: &mut Found) {
        let mut by_holder: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, wait) in self.blocked.waits.iter().enumerate() {
            let is_lock = wait.kind == Some(WaitKind::Lock);
            let Some(holder) = wait.holder.filter(|of| is_lock && of.thread != at) else {
                continue;
            };
            by_holder.entry(holder.thread).or_default().push(at);
        }
        // Whoever waits for a lock is told beneath the one who holds it.
        let leads = |at: usize| self.blocked.waits[at].holder.is_none();
        let mut worst: Vec<_> = by_holder
            .into_iter()
            .filter(|(holder, waiters)| leads(*holder) && !self.take_turns(*holder, waiters))
            .filter_map(|(holder, waiters)| {
                let longest = waiters.iter().filter_map(|at| self.silent(*at)).max()?;
                (longest >= STANDS).then_some((longest, holder, waiters))
            })
            .collect();
        worst.sort_by_key(|(longest, ..)| std::cmp::Reverse(*longest));
        for (longest, holder, waiters) in worst.into_iter().take(MOST_LOCKS) {
            let many = match waiters.len() {
                1 => "1 thread waits".to_owned(),
                many => format!("{many} threads wait"),
            };
            let is_certain = waiters
                .iter()
                .all(|at| self.blocked.waits[*at].holder.is_some_and(|of| of.is_certain));
            let holds = if is_certain { "holds" } else { "may hold" };
            let title = format!(
                "{} {holds} a lock for which {many}, for at least {}: it {}",
                self.called(holder),
                crate::format::duration(longest),
                self.does(holder),
            );
            let mut told = vec![self.evidence(holder, 0)];
            self.behind(&[holder], &mut told);
            let score =
                Score { value: longest.0 as f64, limit: STANDS.0 as f64, unit: Unit::Nanos };
            found.findings.push(finding(title, score, told));
            self.explained(&waiters, found);
        }
    }

    /// Whether the one receives a message where the others wait for their turn to: a receiver that several share. The
    /// closures of a function are called alike, so of these the line must be the same.
    fn take_turns(&self, holder: usize, waiters: &[usize]) -> bool {
        let Some(there) = self.blocked.waits[holder].place.as_ref() else { return false };
        let is_closure = there.function.whole().contains("closure");
        let is_there = |of: &Location| match is_closure {
            true => of.place == there.place,
            false => of.function.whole() == there.function.whole(),
        };
        self.blocked.waits[holder].receives
            && waiters.iter().all(|at| self.blocked.waits[*at].place.as_ref().is_some_and(is_there))
    }

    fn explained(&self, of: &[usize], found: &mut Found) {
        found.threads.extend(of.iter().filter_map(|at| self.numbers.get(at)));
    }

    /// Those that wait for these, and for those in turn.
    fn behind(&self, first: &[usize], told: &mut Vec<Evidence>) {
        let mut known = first.to_vec();
        let (mut next, mut left_out) = (0, 0);
        while let Some(holder) = known.get(next).copied() {
            next += 1;
            for (at, wait) in self.blocked.waits.iter().enumerate() {
                let waits_for_it = wait.holder.is_some_and(|of| of.thread == holder);
                if waits_for_it && !known.contains(&at) {
                    known.push(at);
                    if known.len() - first.len() <= MOST_NAMED {
                        told.push(self.evidence(at, 1));
                    } else {
                        left_out += 1;
                    }
                }
            }
        }
        if left_out > 0 {
            let what = format!("{left_out} more threads wait behind them");
            told.push(evidence(what, Nanos(0), self.report, 1));
        }
    }

    /// `forth (17) waits at src/bank.rs:31 (bank::transfer) for a lock that back (18) holds`.
    fn waits(&self, at: usize) -> String {
        format!("{} {}", self.called(at), self.does(at))
    }

    /// `sleeps at src/bank.rs:31 (bank::transfer)`.
    pub(super) fn does(&self, at: usize) -> String {
        let (thread, wait) = (&self.stacks.threads[at], &self.blocked.waits[at]);
        let place = wait.place.as_ref().map(|place| format!(" at {}", said(place)));
        let place = place.unwrap_or_default();
        let whom = |holder: Holder| match holder.is_certain {
            true => format!("that {} holds", self.called(holder.thread)),
            false => format!("that {} may hold", self.called(holder.thread)),
        };
        match (wait.kind, wait.holder) {
            (None, _) => format!("runs{place}"),
            (Some(WaitKind::Lock), Some(holder)) => {
                format!("waits{place} for a lock {}", whom(holder))
            }
            (Some(WaitKind::Join), Some(holder)) => {
                format!("waits{place} for the end of {}", self.called(holder.thread))
            }
            (Some(WaitKind::Sleep), _) => format!("sleeps{place}"),
            (Some(WaitKind::File | WaitKind::Other), _) => {
                format!("is in {}{place}", thread.waits.call)
            }
            (Some(kind), _) => format!("waits{place} for {}", kind.in_words()),
        }
    }

    fn called(&self, at: usize) -> String {
        let thread = &self.stacks.threads[at];
        // A title is one line.
        let name = thread.name.replace(char::is_control, "\u{fffd}");
        format!("{name} ({})", thread.os_thread)
    }

    /// How long a thread has been known to stand still: since it recorded something.
    fn silent(&self, at: usize) -> Option<Nanos> {
        let number = self.numbers.get(&at)?;
        let standing = self.report.threads.numbers.iter().position(|of| of == number)?;
        self.report.threads.since.get(standing).copied()
    }

    fn evidence(&self, at: usize, depth: u8) -> Evidence {
        let mut what = self.waits(at);
        let number = self.numbers.get(&at);
        let is_of = |stand: &&Stand| {
            let of = stand.thread.as_ref().map(|thread| thread.number);
            of.is_some() && of == number.copied()
        };
        if let Some(stand) = self.report.standing.table.locks.iter().find(is_of) {
            what += &format!(", inside of `{}`", stand.what);
        }
        let mut one = evidence(what, self.silent(at).unwrap_or_default(), self.report, depth);
        one.thread = self.numbers.get(&at).map(|number| ThreadRef {
            number: *number,
            name: self.stacks.threads[at].name.clone(),
            worker: None::<WorkerId>,
            worker_name: None,
        });
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::Moment;

    /// A poll on a thread, from and to a millisecond of a snapshot of one second.
    fn poll(thread: u64, from: i64, to: Option<i64>) -> Evidence {
        let moment = |ms: i64| Moment(ms * 1_000_000);
        let name = String::new();
        let thread =
            ThreadRef { number: ThreadNumber(thread), name, worker: None, worker_name: None };
        Evidence {
            what: "a poll".to_owned(),
            at: moment(from),
            until: to.map(moment),
            before_end: Nanos((1000 - from).cast_unsigned() * 1_000_000),
            thread: Some(thread),
            task: None,
            span: None,
            depth: 0,
        }
    }

    #[test]
    fn a_poll_that_stalled_and_ended_has_the_place_of_its_own_stall_alone() {
        let place = |words: &str| words.to_owned();
        // 300 ms before the end, so at 700 ms.
        let over = vec![(ThreadNumber(2), Nanos(300_000_000), place("was at src/db.rs:7"))];
        let open = BTreeMap::from([(ThreadNumber(2), place("blocks at src/db.rs:9"))]);
        let places = Places { open, over, locks: LockThreads::default() };
        let of = |thread, from, to| places.of(&poll(thread, from, to)).map(String::as_str);
        assert_eq!(of(2, 600, Some(900)), Some("was at src/db.rs:7"));
        assert_eq!(of(2, 950, None), Some("blocks at src/db.rs:9"));
        assert_eq!(of(2, 100, Some(690)), None, "it had ended by then");
        assert_eq!(of(2, 710, Some(900)), None, "it had not begun");
        assert_eq!(of(3, 600, Some(900)), None, "another thread");
    }
}
