//! The order of all findings: worst first, and whatever only waited beneath the finding about what it waited for: for a lock
//! beneath who held it, and for a worker beneath the poll that held that.

use super::{Evidence, Finding, Report};
use crate::wire::TaskId;
use std::cmp::Reverse;

/// A finding with its place.
struct Ranked<'a> {
    is_old: bool,
    rank: f64,
    finding: &'a Finding,
}

/// Each section is in an order of its own.
pub(super) fn ranked<'a>(report: &Report, sections: &[&'a Vec<Finding>]) -> Vec<&'a Finding> {
    let mut all = Vec::new();
    for section in sections {
        // A finding that precedes another one of its section ranks at least as high, if it is no older.
        let mut ranks = [0.0_f64; 2];
        let mut of_section: Vec<_> = section
            .iter()
            .rev()
            .map(|finding| {
                let is_old = report.before_window(finding).is_some();
                let rank = &mut ranks[usize::from(is_old)];
                *rank = rank.max(finding.score.number());
                Ranked { is_old, rank: *rank, finding }
            })
            .collect();
        of_section.reverse();
        all.extend(of_section);
    }
    sort(&mut all);
    let causes = causes(&all);
    beneath(&all, &causes)
}

fn sort(all: &mut [Ranked<'_>]) {
    all.sort_by(|a, b| a.is_old.cmp(&b.is_old).then(b.rank.total_cmp(&a.rank)));
}

/// Of each finding the one about its cause, if there is one. No finding is, in the end, its own cause.
fn causes(all: &[Ranked<'_>]) -> Vec<Option<usize>> {
    let mut causes = vec![None; all.len()];
    for (at, ranked) in all.iter().enumerate() {
        let is_it = |(other, of): &(usize, &Ranked<'_>)| {
            *other != at
                && (of.finding.is_cause_of(ranked.finding)
                    || of.finding.held_up(ranked.finding)
                    || of.finding.starved(ranked.finding))
        };
        // A finding about the lock itself says more than one about what its holder did.
        let found = all.iter().enumerate().filter(is_it);
        // And one about a poll more than that somebody had the cores.
        let found = found.max_by_key(|(other, of)| {
            let analysis = of.finding.analysis;
            (analysis == "locks", analysis != "starved", Reverse(*other))
        });
        let mut above = found.map(|(other, _)| other);
        let cause = above;
        // Those that wait for each other are in a finding of their own.
        for _ in 0..all.len() {
            match above {
                Some(here) if here == at => break,
                Some(here) => above = causes[here],
                None => break,
            }
        }
        if above.is_none() {
            causes[at] = cause;
        }
    }
    causes
}

/// What is caused comes right after its cause, which ranks at least as high.
fn beneath<'a>(all: &[Ranked<'a>], causes: &[Option<usize>]) -> Vec<&'a Finding> {
    let mut heads: Vec<_> = (0..all.len()).filter(|at| causes[*at].is_none()).collect();
    let mut below = vec![Vec::new(); all.len()];
    let mut highest: Vec<_> = all.iter().map(|of| (of.is_old, of.rank)).collect();
    for (at, cause) in causes.iter().enumerate() {
        let Some(cause) = *cause else { continue };
        below[cause].push(at);
        // No path is longer than there are findings.
        let mut above = Some(cause);
        while let Some(here) = above {
            let (is_old, rank) = highest[here];
            highest[here] = (is_old && all[at].is_old, rank.max(all[at].rank));
            above = causes[here];
        }
    }
    heads.sort_by(|a, b| {
        let ((old, rank), (other_old, other)) = (highest[*a], highest[*b]);
        old.cmp(&other_old).then(other.total_cmp(&rank))
    });
    let mut order = Vec::new();
    let mut next: Vec<_> = heads.into_iter().rev().collect();
    while let Some(at) = next.pop() {
        order.push(all[at].finding);
        next.extend(below[at].iter().rev());
    }
    order
}

impl Finding {
    /// Whether this is about the lock that the other one waited for, or about who held it meanwhile.
    pub(super) fn is_cause_of(&self, victim: &Self) -> bool {
        let Some(waited) = &victim.lock else { return false };
        if self.of_locks.contains(&waited.lock) {
            // Another one may have held it at another time.
            let until = waited.since.0.saturating_add_unsigned(waited.length.0);
            return self.hold.is_none_or(|(from, over)| {
                from.0 <= until && over.is_none_or(|over| over >= waited.since)
            });
        }
        // A waiter for the same lock has not kept others waiting for it.
        if self.lock.as_ref().is_some_and(|own| own.lock == waited.lock) {
            return false;
        }
        let (thread, task) = &waited.holder;
        let Some(first) = self.evidence.first() else { return false };
        let is_holder = match (thread, task) {
            (_, Some(task)) => first.task.as_ref().is_some_and(|of| of.task == task.task),
            (Some(thread), None) => {
                first.task.is_none()
                    && first.thread.as_ref().is_some_and(|of| of.number == thread.number)
            }
            (None, None) => false,
        };
        let waits = victim.evidence.first().map_or(waited.since, |of| of.at.min(waited.since));
        let until = victim.evidence.first().and_then(|of| of.until);
        let is_meanwhile = first.until.is_none_or(|over| over >= waits)
            && until.is_none_or(|until| first.at <= until);
        let is_of_holder = ["polls", "spans", "regions", "stuck", "standing"];
        is_holder && is_meanwhile && is_of_holder.contains(&self.analysis)
    }

    /// Whether this is about a poll which took most of the time that the other one is about: of a span that was in that poll, or
    /// of a task that waited meanwhile.
    fn held_up(&self, victim: &Self) -> bool {
        if self.analysis != "polls" || self.lock.is_some() || victim.lock.is_some() {
            return false;
        }
        let (Some(poll), Some(of)) = (self.evidence.first(), victim.evidence.first()) else {
            return false;
        };
        let Some(task) = task_of(of) else { return false };
        let waited = || self.evidence.iter().skip(1).any(|other| task_of(other) == Some(task));
        let is_of_it = match victim.analysis {
            "spans" => task_of(poll) == Some(task) || waited() || self.wakes_at_its_end(victim),
            "delays" | "stuck" => waited(),
            _ => false,
        };
        is_of_it && overlap(poll, of).saturating_mul(2) >= length(of)
    }
}

impl Finding {
    /// Whether the end of one of its polls woke the task of a span, which waited for most of the time of the poll: the span's task
    /// waited for the other one's end.
    fn wakes_at_its_end(&self, victim: &Self) -> bool {
        /// From the end of the poll to the wake.
        const SOON: i64 = 1_000_000;
        let is_wait = |of: &&Evidence| of.depth == 1 && of.until.is_some();
        let waits = || victim.evidence.iter().filter(is_wait);
        self.evidence.iter().filter(|poll| poll.depth == 0 && poll.until.is_some()).any(|poll| {
            waits().any(|wait| {
                let woken_by = wait.thread.as_ref().map(|thread| thread.number);
                let by = poll.thread.as_ref().map(|thread| thread.number);
                let after = end(wait).saturating_sub(end(poll));
                by.is_some()
                    && woken_by == by
                    && (0..=SOON).contains(&after)
                    && overlap(poll, wait).saturating_mul(2) >= length(wait)
            })
        })
    }

    /// Whether others had the cores, and this one wanted one meanwhile.
    pub(crate) fn starved(&self, victim: &Self) -> bool {
        /// Less is usual on a machine that is busy.
        const MUCH: f64 = 0.7;
        self.analysis == "starved" && self.score.number() >= MUCH && victim.wants_core
    }
}

fn task_of(evidence: &Evidence) -> Option<TaskId> {
    evidence.task.as_ref().map(|of| of.task)
}

/// When it ends, or else the snapshot.
fn end(of: &Evidence) -> i64 {
    let before_end = i64::try_from(of.before_end.0).unwrap_or(i64::MAX);
    of.until.map_or(of.at.0.saturating_add(before_end), |until| until.0)
}

fn length(of: &Evidence) -> i64 {
    end(of).saturating_sub(of.at.0)
}

fn overlap(a: &Evidence, b: &Evidence) -> i64 {
    end(a).min(end(b)).saturating_sub(a.at.0.max(b.at.0)).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{Moment, Score, TaskRef, Unit};
    use crate::wire::Nanos;

    /// Of a task, from and to a millisecond of a snapshot of one second.
    fn evidence(task: u32, from: i64, to: Option<i64>, depth: u8) -> Evidence {
        Evidence {
            what: "it".to_owned(),
            at: Moment(from * 1_000_000),
            until: to.map(|to| Moment(to * 1_000_000)),
            before_end: Nanos((1000 - from).cast_unsigned() * 1_000_000),
            thread: None,
            task: Some(TaskRef {
                task: TaskId { index: task, incarnation: 1 },
                name: "task".to_owned(),
            }),
            span: None,
            depth,
        }
    }

    fn finding(analysis: &'static str, ms: f64, evidence: Vec<Evidence>) -> Finding {
        let score = Score { value: ms, limit: 10.0, unit: Unit::Nanos };
        Finding::new(analysis, analysis.to_owned(), score, evidence)
    }

    fn on(mut evidence: Evidence, thread: u64) -> Evidence {
        let number = crate::wire::ThreadNumber(thread);
        let (name, worker, worker_name) = (String::new(), None, None);
        evidence.thread = Some(crate::analysis::ThreadRef { number, name, worker, worker_name });
        evidence
    }

    fn order(findings: &[&Finding]) -> Vec<f64> {
        let ranked = |finding: &&Finding| finding.score.number().max(finding.score.value / 1000.0);
        let mut all: Vec<_> = findings
            .iter()
            .map(|finding| Ranked { is_old: false, rank: ranked(finding), finding })
            .collect();
        sort(&mut all);
        let causes = causes(&all);
        beneath(&all, &causes).iter().map(|of| of.score.value).collect()
    }

    #[test]
    fn a_span_that_waited_for_the_end_of_a_task_comes_beneath_the_poll_in_which_that_was() {
        let poll = finding("polls", 400.0, vec![on(evidence(2, 100, Some(500), 0), 7)]);
        let span = |woken_by| {
            let wait = on(evidence(1, 100, Some(500), 1), woken_by);
            finding("spans", 405.0, vec![evidence(1, 99, Some(504), 0), wait])
        };
        assert_eq!(order(&[&span(7), &poll]), [400.0, 405.0]);
        assert_eq!(order(&[&span(8), &poll]), [405.0, 400.0], "another thread woke it");
    }

    #[test]
    fn what_wanted_a_core_comes_beneath_the_finding_that_others_had_them() {
        let share = |value| Score { value, limit: 0.25, unit: Unit::Share };
        let starved = |value| {
            let evidence = vec![evidence(9, 0, None, 0)];
            Finding::new("starved", String::new(), share(value), evidence)
        };
        let mut span = finding("spans", 900.0, vec![evidence(1, 0, Some(900), 0)]);
        span.wants_core = true;
        assert_eq!(order(&[&span, &starved(0.9)]), [0.9, 900.0]);
        assert_eq!(order(&[&span, &starved(0.5)]), [900.0, 0.5], "that is usual");
        span.wants_core = false;
        assert_eq!(order(&[&span, &starved(0.9)]), [900.0, 0.9], "it waited for something else");
    }

    #[test]
    fn what_a_poll_held_up_comes_beneath_it_and_what_lasted_longer_does_not() {
        let poll = finding(
            "polls",
            200.0,
            vec![evidence(1, 300, Some(500), 0), evidence(2, 310, None, 1)],
        );
        let own = finding("spans", 210.0, vec![evidence(1, 295, Some(505), 0)]);
        let victim = finding("spans", 205.0, vec![evidence(2, 305, Some(510), 0)]);
        let delay = finding("delays", 190.0, vec![evidence(2, 310, Some(500), 0)]);
        let longer = finding("spans", 900.0, vec![evidence(2, 0, Some(900), 0)]);
        let other = finding("spans", 220.0, vec![evidence(3, 290, Some(510), 0)]);
        let findings = [&own, &victim, &delay, &longer, &other, &poll];
        let mut all: Vec<_> = findings
            .map(|finding| Ranked { is_old: false, rank: finding.score.number(), finding })
            .into();
        sort(&mut all);
        let causes = causes(&all);
        let order: Vec<_> = beneath(&all, &causes).iter().map(|of| of.score.value).collect();
        assert_eq!(order, [900.0, 220.0, 200.0, 210.0, 205.0, 190.0]);
    }
}
