//! What hangs, and who keeps whom waiting, by file and line: deadlocks of threads, threads that wait for a lock, tasks that
//! wait for a lock, for something of a pool or for a peer that does nothing, and the line at which a poll blocks.
//!
//! This joins what the [report](crate::analysis::Report) knows of times with the [names](crate::symbols) of the functions on
//! stacks. What is certain and what is only suspected differs in words. Whoever keeps others waiting comes first, and
//! those that wait stand beneath.

mod holders;
mod lock_polls;
mod peers;
mod slow_names;
mod spans;
mod starved;
mod tasks;
mod threads;

pub use slow_names::{SLOW_FOR_OTHERS, SLOW_FOR_OWN};
pub use tasks::WaitingGroup;

use crate::analysis::{Evidence, Finding, LONG_POLL, Moment, Report, Score};
use crate::read::Trace;
use crate::symbols::{Location, Symbolizer};
use crate::wire::{Nanos, TaskId, ThreadNumber};
use std::collections::HashSet;

/// See the module.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Hangs {
    /// All findings: those of the report, with the lines at which polls block and at which slow spans waited, and those about
    /// hangs (`hangs`), in their order. What these explain is not told twice.
    pub findings: Vec<Finding>,
    /// Where tasks wait at the end, those that have waited longest first.
    pub waiting: Vec<WaitingGroup>,
    /// How many tasks wait that are not in a group, for want of room.
    pub left_out: u64,
}

/// What was found of one kind of hang.
#[derive(Default)]
struct Found {
    findings: Vec<Finding>,
    /// Whom they explain.
    tasks: HashSet<TaskId>,
    threads: HashSet<ThreadNumber>,
    /// Tasks that wait for a thread of the blocking pool, or for those that do.
    behind_pool: Vec<Evidence>,
    /// Whose polls had not ended.
    in_polls: HashSet<ThreadNumber>,
    /// Whether those were all workers: then nothing else could run, whatever it was.
    is_standstill: bool,
}

impl Hangs {
    /// What hangs at the end of this snapshot, of which that is the report.
    #[must_use]
    pub fn of(trace: &Trace, report: &Report, symbolizer: &mut Symbolizer) -> Self {
        let mut found = Found::default();
        let places = threads::find(trace, report, symbolizer, &mut found);
        let (waiting, left_out) = tasks::groups(trace, report, symbolizer);
        tasks::find(report, &waiting, &mut found);
        peers::find(report, &waiting, &mut found);
        slow_names::find(trace, report, &waiting, symbolizer, &mut found);
        found.note_blocked(report);
        found.leave_out_told(report);
        let mut of_report = report.findings();
        of_report.retain(|finding| !found.explains(finding) && !found.tells_more_than(finding));
        let with_places = of_report.into_iter().map(|finding| {
            let mut finding = finding.clone();
            places.add_to(&mut finding);
            (report.before_window(&finding).is_some(), finding)
        });
        let mut findings: Vec<_> =
            found.findings.drain(..).map(|finding| (false, finding)).collect();
        findings.sort_by(|(_, a), (_, b)| b.score.number().total_cmp(&a.score.number()));
        // The report's keep their order: each of ours comes before the first that is no worse.
        let mut all: Vec<_> = with_places.collect();
        for (at, finding) in findings.into_iter().enumerate() {
            let is_below = |(is_old, other): &(bool, Finding)| {
                *is_old
                    || other.score.number() <= finding.1.score.number()
                    || is_about(other, &found.tasks)
            };
            let first = all[at.min(all.len())..].iter().position(is_below);
            let place = first.map_or(all.len(), |first| at.min(all.len()) + first);
            all.insert(place, finding);
        }
        let mut findings: Vec<_> = all.into_iter().map(|(_, finding)| finding).collect();
        found.put_behind_pool(&mut findings);
        spans::add_places(trace, report, &mut findings, symbolizer);
        holders::add(trace, report, &mut findings, symbolizer);
        places.locks.blame_holders(report, &mut findings);
        starved::fold(&mut findings);
        Self { findings, waiting, left_out }
    }
}

/// Whether a finding is, before all, about one of these tasks, which may be in a span.
fn is_about(finding: &Finding, tasks: &HashSet<TaskId>) -> bool {
    let worst = finding.evidence.iter().enumerate().take_while(|(at, of)| *at == 0 || of.depth > 0);
    worst.filter_map(|(_, of)| of.task.as_ref()).any(|of| tasks.contains(&of.task))
}

impl Found {
    /// The locks themselves have said who waits for whom, and are certain of it: that is not told twice.
    fn leave_out_told(&mut self, report: &Report) {
        let is_deadlock =
            |finding: &&Finding| finding.is_certain || finding.title.starts_with("Deadlock");
        let told = report.locks.findings.iter().filter(is_deadlock).flat_map(|of| &of.evidence);
        let told: Vec<_> = told.collect();
        let threads: HashSet<_> =
            told.iter().filter_map(|of| Some(of.thread.as_ref()?.number)).collect();
        let tasks: HashSet<_> = told.iter().filter_map(|of| Some(of.task.as_ref()?.task)).collect();
        if told.is_empty() {
            return;
        }
        self.findings.retain(|finding| {
            let is_told = |of: &Evidence| {
                of.thread.as_ref().is_some_and(|thread| threads.contains(&thread.number))
                    || of.task.as_ref().is_some_and(|task| tasks.contains(&task.task))
            };
            let own = finding.evidence.iter().filter(|of| of.depth == 0);
            finding.evidence.is_empty() || !own.into_iter().any(is_told)
        });
        self.threads.extend(threads);
        self.tasks.extend(tasks);
    }

    /// Whoever waits for closures that get no thread is told where those are.
    fn put_behind_pool(&mut self, findings: &mut Vec<Finding>) {
        let of_pool = |finding: &Finding| finding.analysis == "blocking";
        let Some(pool) = findings.iter_mut().find(|finding| of_pool(finding)) else { return };
        if self.behind_pool.is_empty() {
            return;
        }
        pool.evidence.append(&mut self.behind_pool);
        let is_behind = |of: &Evidence| {
            of.until.is_none() && of.task.as_ref().is_some_and(|of| self.tasks.contains(&of.task))
        };
        findings.retain(|finding| {
            finding.analysis != "spans" || !finding.evidence.first().is_some_and(is_behind)
        });
    }

    /// Whether functions on stacks say more of who has permits than the semaphore does, which only knows who took the last one.
    fn tells_more_than(&self, finding: &Finding) -> bool {
        if finding.is_certain || !finding.title.starts_with("All permits") {
            return false;
        }
        let task = |of: &Evidence| of.task.as_ref().map(|task| task.task);
        let waits: HashSet<_> = finding.evidence.iter().filter_map(task).collect();
        let own = self.findings.iter().flat_map(|finding| &finding.evidence);
        own.filter_map(task).any(|task| waits.contains(&task))
    }

    /// A worker that a poll has held up to the end is busy for that reason alone. The finding about polls names the first of
    /// those that are alike, the table more of them.
    fn note_blocked(&mut self, report: &Report) {
        if report.polls.findings.is_empty() {
            return;
        }
        let polls = report.polls.findings.iter().flat_map(|finding| &finding.evidence);
        let open = polls.filter(|evidence| evidence.until.is_none() && evidence.depth == 0);
        self.in_polls.extend(open.filter_map(|of| Some(of.thread.as_ref()?.number)));
        let longest = report.polls.table.longest.iter();
        let open =
            longest.filter(|poll| poll.running && !poll.handed_over && poll.length > LONG_POLL);
        self.in_polls.extend(open.map(|poll| poll.thread.number));
        let mut workers =
            report.workers.table.workers.iter().filter(|worker| !worker.gone).peekable();
        self.is_standstill = workers.peek().is_some()
            && workers.all(|worker| self.in_polls.contains(&worker.thread.number));
    }

    /// Whether a finding is about somebody whose waiting is explained already.
    fn explains(&self, finding: &Finding) -> bool {
        let is_known_task =
            |of: &Evidence| of.task.as_ref().is_some_and(|task| self.tasks.contains(&task.task));
        let is_known_thread = |of: &Evidence| {
            of.thread.as_ref().is_some_and(|thread| self.threads.contains(&thread.number))
        };
        let is_in_poll = |of: &Evidence| {
            of.thread.as_ref().is_some_and(|thread| self.in_polls.contains(&thread.number))
        };
        let mut whole = finding.evidence.iter().filter(|of| of.depth == 0).peekable();
        // One finding may be about many: unless all are explained, it stays.
        whole.peek().is_some()
            && whole.all(|of| match finding.analysis {
                "stuck" => is_known_task(of),
                "standing" => is_known_task(of) || is_known_thread(of),
                "workers" => is_in_poll(of),
                // It was not polled any more.
                "delays" => self.is_standstill && of.until.is_none() && of.thread.is_none(),
                _ => false,
            })
    }
}

/// `transfer at src/bank.rs:31`, or without a line the name alone.
fn said(location: &Location) -> String {
    match &location.place {
        Some((file, line)) => format!("{file}:{line} ({})", location.function),
        None => location.function.to_string(),
    }
}

/// Evidence that says this, from a moment on up to the end.
fn evidence(what: String, length: Nanos, report: &Report, depth: u8) -> Evidence {
    let since = i64::try_from(length.0).unwrap_or(i64::MAX);
    Evidence {
        what,
        at: Moment(report.end.0.saturating_sub(since)),
        until: None,
        before_end: length,
        thread: None,
        task: None,
        span: None,
        depth,
    }
}

fn finding(title: String, score: Score, evidence: Vec<Evidence>) -> Finding {
    Finding::new("hangs", title, score, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{LongPoll, TaskRef, ThreadRef, Unit, WorkerTime};
    use crate::read::WorkerId;

    fn thread(number: u64) -> ThreadRef {
        let number = ThreadNumber(number);
        ThreadRef { number, name: String::new(), worker: None, worker_name: None }
    }

    fn task(number: u64) -> TaskRef {
        TaskRef { task: TaskId { index: number as _, incarnation: 0 }, name: "serve".to_owned() }
    }

    fn about(analysis: &'static str, of: Option<u64>, by: Option<u64>) -> Finding {
        let mut one = evidence(String::new(), Nanos(5_000_000_000), &Report::default(), 0);
        (one.task, one.thread) = (of.map(task), by.map(thread));
        let score = Score { value: 5e9, limit: 1e7, unit: Unit::Nanos };
        Finding::new(analysis, String::new(), score, vec![one])
    }

    /// Two workers, of which so many are in a poll that does not end; only the first poll is in a finding.
    fn held(workers: u64) -> Found {
        let mut report = Report::default();
        report.polls.findings.push(about("polls", Some(1), Some(1)));
        for number in 1..=workers {
            report.polls.table.longest.push(LongPoll {
                task: task(number),
                thread: thread(number),
                worker: None,
                span: None,
                region: None,
                route: None,
                began: Moment(0),
                length: Nanos(5_000_000_000),
                before: false,
                running: true,
                handed_over: false,
                lock: None,
                lock_waited: Nanos(0),
                waited: 0,
                victims: Vec::new(),
            });
        }
        for number in 1..=2 {
            report.workers.table.workers.push(WorkerTime {
                worker: WorkerId { runtime: 0, worker: number },
                name: None,
                thread: thread(number),
                observed: Nanos(0),
                parked: Nanos(0),
                polling: Nanos(0),
                outside: Nanos(0),
                unknown: Nanos(0),
                polls: 1,
                longest: Nanos(0),
                gone: false,
            });
        }
        let mut found = Found::default();
        found.note_blocked(&report);
        found
    }

    #[test]
    fn a_task_that_nobody_could_poll_is_explained_by_polls_that_hold_all_workers() {
        let never_polled = about("delays", Some(7), None);
        assert!(held(2).explains(&never_polled));
        assert!(!held(1).explains(&never_polled));
        assert!(!held(2).explains(&about("delays", Some(7), Some(1))));
    }

    #[test]
    fn each_worker_that_a_poll_holds_is_explained_by_it_though_the_finding_names_one() {
        assert!(held(2).explains(&about("workers", None, Some(2))));
        assert!(!held(1).explains(&about("workers", None, Some(2))));
    }
}
