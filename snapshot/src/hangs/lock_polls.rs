//! Polls that wait for a lock which nobody records, such as a mutex of the standard library.
//!
//! The stacks of threads say which of those that are in polls at the end wait for a lock, and which do something else. Whoever waits
//! keeps a worker, too, but is a victim: the one that keeps others waiting comes first, and if that one cannot be told, it is said
//! what is waited for.

use super::said;
use super::threads::Threads;
use crate::analysis::{Evidence, Finding, LONG_POLL, LongPoll, Report};
use crate::format::{counted, duration};
use crate::symbols::WaitKind;
use crate::wire::{Nanos, ThreadNumber};
use std::collections::BTreeMap;

/// How many of those that wait are told.
const MOST_NAMED: usize = 4;

/// What threads do at the end, as their stacks tell.
#[derive(Default)]
pub(super) struct LockThreads {
    /// Where each waits for a lock, and who is taken to hold that.
    waits: BTreeMap<ThreadNumber, (String, Option<ThreadNumber>)>,
    /// What the others do, in words: `sleeps at src/db.rs:143 (db::rebuild)`.
    does: BTreeMap<ThreadNumber, String>,
}

impl LockThreads {
    pub(super) fn of(threads: &Threads<'_>) -> Self {
        let mut found = Self::default();
        for (at, number) in &threads.numbers {
            let wait = &threads.blocked.waits[*at];
            let holder = wait.holder.and_then(|of| threads.numbers.get(&of.thread)).copied();
            match (wait.kind, &wait.place) {
                (Some(WaitKind::Lock), Some(place)) => {
                    found.waits.insert(*number, (said(place), holder));
                }
                (Some(WaitKind::Lock), None) => {
                    found.waits.insert(*number, ("an unknown place".to_owned(), holder));
                }
                (_, Some(_)) => {
                    found.does.insert(*number, threads.does(*at));
                }
                (_, None) => {}
            }
        }
        found
    }

    /// Puts the poll that keeps others waiting for a lock before the polls that wait for it.
    pub(super) fn blame_holders(&self, report: &Report, findings: &mut Vec<Finding>) {
        let Some(at) = findings.iter().position(|finding| self.is_of_waiter(finding)) else {
            return;
        };
        let open = |poll: &&LongPoll| poll.running && !poll.handed_over && poll.lock.is_none();
        let polls: Vec<_> = report.polls.table.longest.iter().filter(open).collect();
        let Some(holder) = self.holder(&findings[at], &polls) else {
            findings.iter_mut().filter(|finding| self.is_of_waiter(finding)).for_each(|finding| {
                self.say_what_for(finding);
            });
            return;
        };
        let waiters: Vec<_> =
            polls.into_iter().filter(|poll| self.waits.contains_key(&poll.thread.number)).collect();
        let blamed = self.blame(holder, &waiters, &findings[at], report);
        findings[at] = blamed;
        // What is about those polls alone is told now.
        let is_told = |of: &Evidence| {
            let thread = of.thread.as_ref().map(|thread| thread.number);
            of.until.is_none()
                && (thread == Some(holder.thread.number) && of.at == holder.began
                    || thread.is_some_and(|thread| self.waits.contains_key(&thread)))
        };
        let mut index = 0;
        findings.retain(|finding| {
            let mut own = finding.evidence.iter().filter(|of| of.depth == 0);
            index += 1;
            index - 1 == at || finding.analysis != "polls" || !own.all(is_told)
        });
        self.explain_spans(holder, findings);
    }

    /// Spans in those polls wait for the lock, too.
    fn explain_spans(&self, holder: &LongPoll, findings: &mut [Finding]) {
        let does = self.does.get(&holder.thread.number);
        let does = does.map(|does| format!(", which {does}")).unwrap_or_default();
        for finding in findings.iter_mut().filter(|finding| finding.analysis == "spans") {
            let Some(first) = finding.evidence.first().filter(|of| of.until.is_none()) else {
                continue;
            };
            let thread = first.thread.as_ref().map(|thread| thread.number);
            let Some((place, _)) = thread.and_then(|number| self.waits.get(&number)) else {
                continue;
            };
            let by = holder.task.label();
            let what = format!("waits at {place} for a lock, which task {by} may hold{does}");
            finding.evidence.insert(1, Evidence { what, depth: 1, span: None, ..first.clone() });
        }
    }

    /// Whether it is about a poll that, at the end, waits for a lock of which nothing is recorded.
    fn is_of_waiter(&self, finding: &Finding) -> bool {
        let first = finding.evidence.first();
        let waits = first.filter(|of| of.until.is_none()).and_then(|of| of.thread.as_ref());
        finding.analysis == "polls"
            && finding.lock.is_none()
            && waits.is_some_and(|thread| self.waits.contains_key(&thread.number))
    }

    /// The poll whose thread is taken to hold the lock; or else the only one that does something else.
    fn holder<'p>(&self, finding: &Finding, polls: &[&'p LongPoll]) -> Option<&'p LongPoll> {
        let waiter = finding.evidence.first()?.thread.as_ref()?.number;
        if let Some(known) = self.waits.get(&waiter)?.1 {
            return polls.iter().copied().find(|poll| poll.thread.number == known);
        }
        let does = |poll: &&&LongPoll| {
            poll.length > LONG_POLL && self.does.contains_key(&poll.thread.number)
        };
        let mut others = polls.iter().filter(does);
        others.next().copied().filter(|_| others.next().is_none())
    }

    fn blame(
        &self,
        holder: &LongPoll,
        waiters: &[&LongPoll],
        victims: &Finding,
        report: &Report,
    ) -> Finding {
        // Not all of them are among the longest polls.
        let is_of_it = |by: &Option<ThreadNumber>| by.is_none_or(|by| by == holder.thread.number);
        let many = self.waits.values().filter(|(_, by)| is_of_it(by)).count() as u64;
        let waits = if many == 1 { "waits" } else { "wait" };
        let many = counted(many, "thread");
        let place = waiters.first().and_then(|poll| self.waits.get(&poll.thread.number));
        let place = place.map(|(place, _)| format!(" at {place}")).unwrap_or_default();
        let does = self.does.get(&holder.thread.number);
        let does = does.map(|does| format!(": it {does}")).unwrap_or_default();
        let title = format!(
            "Task {} has held {} for at least {}, and still held it at the end{does}; {many} {waits} meanwhile for a \
             lock, which it may hold,{place}",
            holder.task.label(),
            holder.thread.label(),
            duration(holder.length),
        );
        let poll = |poll: &LongPoll, what: String, depth| Evidence {
            what,
            at: poll.began,
            until: None,
            before_end: Nanos(report.end.0.saturating_sub(poll.began.0).unsigned_abs()),
            thread: Some(poll.thread.clone()),
            task: Some(poll.task.clone()),
            span: poll.span.clone(),
            depth,
        };
        let mut told = vec![poll(holder, format!("a poll of {}", duration(holder.length)), 0)];
        let places = waiters.iter().take(MOST_NAMED).filter_map(|waiter| {
            let (place, _) = self.waits.get(&waiter.thread.number)?;
            let what =
                format!("a poll of {}: waits at {place} for a lock", duration(waiter.length));
            Some(poll(waiter, what, 1))
        });
        told.extend(places);
        Finding { title, evidence: told, ..victims.clone() }
    }

    /// It is not known who holds the lock.
    fn say_what_for(&self, finding: &mut Finding) {
        const HELD: &str = ", and still held it at the end";
        let thread = finding.evidence.first().and_then(|of| of.thread.as_ref());
        let Some((place, _)) = thread.and_then(|thread| self.waits.get(&thread.number)) else {
            return;
        };
        let waits =
            format!("{HELD}: it waits for a lock at {place}, and who holds that is not known");
        finding.title = finding.title.replacen(HELD, &waits, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Moment, Score, TaskRef, ThreadRef, Unit};
    use crate::wire::TaskId;

    const SECOND: i64 = 1_000_000_000;

    /// A poll on the thread of that number, which has not ended after so many seconds.
    fn poll(number: u64, seconds: u64) -> LongPoll {
        let thread = ThreadNumber(number);
        let (name, worker, worker_name) = (format!("w-{number}"), None, None);
        LongPoll {
            task: TaskRef {
                task: TaskId { index: number as u32, incarnation: 0 },
                name: "serve".to_owned(),
            },
            thread: ThreadRef { number: thread, name, worker, worker_name },
            worker: None,
            span: None,
            region: None,
            route: None,
            began: Moment(10 * SECOND - seconds.cast_signed() * SECOND),
            length: Nanos(seconds * SECOND.cast_unsigned()),
            before: false,
            running: true,
            handed_over: false,
            lock: None,
            lock_waited: Nanos(0),
            waited: 0,
            victims: Vec::new(),
        }
    }

    fn finding(polls: &[&LongPoll]) -> Finding {
        let evidence = polls.iter().map(|poll| Evidence {
            what: "a poll".to_owned(),
            at: poll.began,
            until: None,
            before_end: poll.length,
            thread: Some(poll.thread.clone()),
            task: Some(poll.task.clone()),
            span: None,
            depth: 0,
        });
        let (value, limit) = (polls[0].length.0 as f64, 1e7);
        let title = format!("Task {} held it, and still held it at the end", polls[0].task.label());
        let score = Score { value, limit, unit: Unit::Nanos };
        Finding::new("polls", title, score, evidence.collect())
    }

    /// Those that wait, all for one lock, and those that sleep.
    fn threads(waits: &[u64], sleeps: &[u64], holder: Option<u64>) -> LockThreads {
        let holder = holder.map(ThreadNumber);
        let waits = waits.iter().map(|of| (ThreadNumber(*of), ("src/db.rs:1".to_owned(), holder)));
        let sleeps =
            sleeps.iter().map(|of| (ThreadNumber(*of), format!("sleeps at src/db.rs:{of}")));
        LockThreads { waits: waits.collect(), does: sleeps.collect() }
    }

    fn blamed(
        threads: &LockThreads,
        polls: &[LongPoll],
        mut findings: Vec<Finding>,
    ) -> Vec<Finding> {
        let mut report = Report { end: Moment(10 * SECOND), ..Report::default() };
        report.polls.table.longest = polls.to_vec();
        threads.blame_holders(&report, &mut findings);
        findings
    }

    #[test]
    fn the_only_poll_that_does_something_else_leads_and_what_it_explains_is_told_once() {
        let polls = [poll(1, 5), poll(2, 4), poll(3, 3)];
        let findings = vec![finding(&[&polls[0], &polls[2]]), finding(&[&polls[1]])];
        let found = blamed(&threads(&[1, 3], &[2], None), &polls, findings);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(
            found[0].title,
            "Task `serve` (2) has held w-2#2 for at least 4 s, and still held it at the end: it sleeps at src/db.rs:2; 2 \
             threads wait meanwhile for a lock, which it may hold, at src/db.rs:1"
        );
        let told: Vec<_> =
            found[0].evidence.iter().map(|of| (of.depth, of.what.as_str())).collect();
        assert_eq!(told[0], (0, "a poll of 4 s"));
        assert_eq!(told[1], (1, "a poll of 5 s: waits at src/db.rs:1 for a lock"));
    }

    #[test]
    fn all_threads_that_wait_are_counted_though_the_table_has_the_longest_polls_alone() {
        let polls = [poll(1, 5), poll(2, 4)];
        let waits: Vec<_> = (100..164).chain([1]).collect();
        let found = blamed(&threads(&waits, &[2], None), &polls, vec![finding(&[&polls[0]])]);
        assert!(found[0].title.contains("; 65 threads wait meanwhile"), "{}", found[0].title);
    }

    #[test]
    fn a_span_in_a_poll_that_waits_says_who_may_hold_the_lock() {
        let polls = [poll(1, 5), poll(2, 4)];
        let mut span = finding(&[&polls[0]]);
        span.analysis = "spans";
        let found = blamed(
            &threads(&[1], &[2], None),
            &polls,
            vec![finding(&[&polls[0]]), span, finding(&[&polls[1]])],
        );
        assert_eq!(found.len(), 2);
        let what = "waits at src/db.rs:1 for a lock, which task `serve` (2) may hold, which sleeps at src/db.rs:2";
        assert_eq!(found[1].evidence[1].what, what);
    }

    #[test]
    fn of_several_that_do_something_else_nobody_is_blamed_unless_the_lock_is_known_to_be_held() {
        let polls = [poll(1, 5), poll(2, 4), poll(3, 3)];
        let findings = || vec![finding(&[&polls[0]]), finding(&[&polls[1]]), finding(&[&polls[2]])];
        let found = blamed(&threads(&[1], &[2, 3], None), &polls, findings());
        assert_eq!(found.len(), 3);
        assert!(
            found[0].title.ends_with(
                "at the end: it waits for a lock at src/db.rs:1, and who holds that is not known"
            ),
            "{}",
            found[0].title
        );
        let found = blamed(&threads(&[1], &[2, 3], Some(3)), &polls, findings());
        assert!(found[0].title.starts_with("Task `serve` (3) has held"), "{}", found[0].title);
        assert_eq!(found.len(), 2, "the poll of thread 2 is another matter");
    }

    #[test]
    fn polls_that_have_ended_or_wait_for_no_lock_are_left_as_they_are() {
        let polls = [poll(1, 5), poll(2, 4)];
        let mut over = finding(&[&polls[0]]);
        over.evidence[0].until = Some(Moment(9 * SECOND));
        let findings = vec![over, finding(&[&polls[1]])];
        assert_eq!(blamed(&threads(&[1], &[2], None), &polls, findings.clone()), findings);
    }
}
