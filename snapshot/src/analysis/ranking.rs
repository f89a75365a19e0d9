//! The order of all findings: worst first, and whatever only waited for a lock beneath the finding about who held that.

use super::{Finding, Report};
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
        if ranked.finding.lock.is_none() {
            continue;
        }
        let is_it = |(other, of): &(usize, &Ranked<'_>)| {
            *other != at && of.finding.is_cause_of(ranked.finding)
        };
        // A finding about the lock itself says more than one about what its holder did.
        let found = all.iter().enumerate().filter(is_it);
        let found =
            found.max_by_key(|(other, of)| (of.finding.analysis == "locks", Reverse(*other)));
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
            return true;
        }
        // Whoever waits for the same lock has not kept others waiting for it.
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
}
