//! How spans ended, as far as their fields say so: an HTTP status of 500 or more, a gRPC status that blames the
//! server, an error, a panic, a cancellation.

use super::interner::Name;
use super::report_context::ReportContext;
use super::state::{EachField, SpanDone};
use super::{Finding, Moment, Score, Unit};
use crate::format::count;
use crate::read::Value;
use crate::wire::{Outcome, Told};
use std::collections::BTreeMap;

/// Failures are a finding if they are more than one in this many of the group, …
pub const FAILED_ONE_IN: u64 = 1000;
/// … and more than one in this many since the first of them.
pub const FAILED_ONE_IN_SINCE: u64 = 100;
/// Cancellations are a finding if they are more than one in this many of the group, and more than
/// [`FEWEST_CANCELLED`].
pub const CANCELLED_ONE_IN: u64 = 5;
/// See [`CANCELLED_ONE_IN`].
pub const FEWEST_CANCELLED: u64 = 10;

/// How the spans of a group ended that did not simply end.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SpanOutcomes {
    /// How many failed.
    pub failed: u64,
    /// How many were cancelled: the client went away, for instance.
    pub cancelled: u64,
    /// How they ended, in words, and how many of them: `status 500`, `panicked`.
    pub by: BTreeMap<String, u64>,
    /// When the first one that failed ended.
    pub first_failed: Option<Moment>,
}

/// How many spans of all names failed or were cancelled, as far as their fields say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failures {
    /// How many failed.
    pub failed: u64,
    /// How many were cancelled.
    pub cancelled: u64,
}

/// What these fields of a span say.
pub(crate) fn outcome_of(fields: EachField<'_>) -> Option<Outcome> {
    let mut found = None;
    fields(&mut |name, value| found = found.max(Outcome::of_field(name, told(&value))));
    found
}

fn told<'a>(value: &Value<'a>) -> Told<'a> {
    match value {
        Value::Unsigned(number) => Told::Number(*number),
        Value::Signed(number) => u64::try_from(*number).map_or(Told::Other, Told::Number),
        Value::Text(text) => Told::Text(text.text),
        Value::Bool(set) => Told::Flag(*set),
        Value::Error(_) => Told::Error,
        _ => Told::Other,
    }
}

/// The outcomes of a group of spans.
#[derive(Default)]
pub(super) struct Outcomes {
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    by: BTreeMap<Outcome, u64>,
    /// The first one that failed, and how many of the group had ended before.
    first: Option<(SpanDone, u64)>,
    last: Option<SpanDone>,
    first_cancelled: Option<SpanDone>,
}

impl Outcomes {
    /// One more has this outcome, after `before` of the group have ended.
    pub(super) fn add(&mut self, outcome: Outcome, span: &SpanDone, before: u64) {
        *self.by.entry(outcome).or_default() += 1;
        if outcome == Outcome::Cancelled {
            self.cancelled += 1;
            self.first_cancelled.get_or_insert_with(|| span.clone());
            return;
        }
        self.failed += 1;
        if self.first.is_none() {
            self.first = Some((span.clone(), before));
        } else {
            self.last = Some(span.clone());
        }
    }

    pub(super) fn told(&self, context: &ReportContext<'_>) -> SpanOutcomes {
        let first = self.first.as_ref().map(|(span, _)| context.moment(span.ended));
        SpanOutcomes {
            failed: self.failed,
            cancelled: self.cancelled,
            by: self.by.iter().map(|(outcome, many)| (outcome.in_words(), *many)).collect(),
            first_failed: first,
        }
    }

    /// The findings of a group of which `all` have ended. If the snapshot was taken for such a failure, a single
    /// one is a finding.
    pub(super) fn findings(
        &self,
        group: Name,
        all: u64,
        is_reason: bool,
        context: &ReportContext<'_>,
    ) -> Vec<(u64, Finding)> {
        let failed = self.failure(group, all, is_reason, context).map(|one| (self.failed, one));
        let cancelled = self.cancellation(group, all, context).map(|one| (self.cancelled, one));
        failed.into_iter().chain(cancelled).collect()
    }

    fn failure(
        &self,
        group: Name,
        all: u64,
        is_reason: bool,
        context: &ReportContext<'_>,
    ) -> Option<Finding> {
        let (first, before) = self.first.as_ref()?;
        let since = all.saturating_sub(*before);
        // Counts from the first one on: a rate that was 0 before and is not any more matters more.
        let limit = (all / FAILED_ONE_IN).max(since / FAILED_ONE_IN_SINCE).max(1);
        let limit = if is_reason { 0 } else { limit };
        let score = Score::beyond(self.failed as f64, limit as f64, Unit::Count)?;
        let how: Vec<_> =
            self.by.iter().rev().filter(|(how, _)| **how != Outcome::Cancelled).collect();
        let how = match how[..] {
            [(Outcome::Panicked, _)] => "panicked".to_owned(),
            [(Outcome::Error, _)] => "ended with an error".to_owned(),
            [(one, _)] => format!("ended with {}", one.in_words()),
            _ => {
                let parts =
                    how.iter().map(|(how, many)| format!("{} {}", count(**many), how.in_words()));
                format!("failed ({})", parts.collect::<Vec<_>>().join(", "))
            }
        };
        let mut title = format!(
            "{} of {} spans `{}` {how}",
            count(self.failed),
            count(all),
            context.text(group),
        );
        if *before > 0 && self.failed > 1 {
            title += &format!(", the first of them after {} that did not fail", count(*before));
        }
        let first_what = if self.failed > 1 { "the first of them" } else { "the span" };
        let mut evidence = vec![context.span_as(first_what, first)];
        evidence.extend(self.last.as_ref().map(|last| context.span_as("the last of them", last)));
        Some(Finding::new("failures", title, score, evidence))
    }

    fn cancellation(&self, group: Name, all: u64, context: &ReportContext<'_>) -> Option<Finding> {
        let first = self.first_cancelled.as_ref()?;
        let limit = (all / CANCELLED_ONE_IN).max(FEWEST_CANCELLED);
        let score = Score::beyond(self.cancelled as f64, limit as f64, Unit::Count)?;
        let title = format!(
            "{} of {} spans `{}` were cancelled before they had ended",
            count(self.cancelled),
            count(all),
            context.text(group)
        );
        let evidence = vec![context.span_as("the first of them", first)];
        Some(Finding::new("failures", title, score, evidence))
    }
}

impl ReportContext<'_> {
    /// Evidence of a span as a whole.
    fn span_as(&self, what: &str, span: &SpanDone) -> super::Evidence {
        let label = self.span(&span.label);
        let what = format!("{what}: {}", label.label());
        let mut evidence = self.evidence(what, span.began, (!span.open).then_some(span.ended));
        evidence.thread = (span.thread.0 > 0).then(|| self.thread(span.thread));
        evidence.task = span.task.map(|(task, name)| self.task(task, name));
        evidence.span = Some(label);
        evidence
    }
}
