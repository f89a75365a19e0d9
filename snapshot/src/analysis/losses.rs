//! Losses: what happened and is missing in the snapshot.

use super::report_context::ReportContext;
use super::{Finding, LeftOut, Score, Section, Unit};
use crate::format::{count, counted, percent};
use crate::read::GenerationInfo;
use crate::wire::{Generation, Nanos};
use std::collections::BTreeMap;

/// The largest share of events that may be lost.
pub const LOST_SHARE: f64 = 0.001;

/// What is missing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Losses {
    /// Lost events, by cause.
    pub lost: BTreeMap<String, u64>,
    /// The generations in which they were lost.
    pub generations: Vec<Generation>,
    /// Their share of all events, 0 to 1.
    pub share: f64,
    /// Statuses that were left out for want of room.
    pub omitted: u64,
    /// What was recorded in part, including those statuses.
    pub left_out: LeftOut,
    /// How many callsites and kinds of tasks (or more) found no entry in the recorder: they are reported as
    /// `(other)`, or without their values.
    pub nameless: u64,
    /// How many texts (or more), since the process began, were written out because their generation's table
    /// of texts was full: nothing is missing, but they took more room.
    pub unshared_texts: u64,
    /// How often the kernel refused `membarrier` to a thread that needed it to make room for an event.
    pub refused_barriers: u64,
    /// Generations that are damaged in the file.
    pub damaged: Vec<Generation>,
}

/// The losses according to the generations themselves.
pub(super) fn finish(
    generations: &[GenerationInfo],
    left_out: LeftOut,
    context: &ReportContext<'_>,
) -> Section<Losses> {
    let mut losses = Losses { left_out, ..Losses::default() };
    losses.left_out.generations(generations);
    let (mut events, mut all) = (0_u64, 0_u64);
    let mut evidence = Vec::new();
    for info in generations {
        events = events.saturating_add(info.events);
        losses.omitted = losses.omitted.saturating_add(info.omitted);
        if info.damage.is_some() {
            losses.damaged.push(info.number);
        }
        let mut here = 0_u64;
        for lost in &info.lost {
            here = here.saturating_add(lost.count);
            let sum = losses.lost.entry(lost.name().into_owned()).or_default();
            *sum = sum.saturating_add(lost.count);
        }
        if here > 0 {
            losses.generations.push(info.number);
            if evidence.len() < 5 {
                let what = format!("{} lost in generation {}", counted(here, "event"), info.number);
                let until = Nanos(info.start.0.saturating_add(info.duration.0));
                let stops = &context.live.stops;
                let (from, until) = (stops.counted(info.start), stops.counted(until));
                evidence.push(context.evidence(what, from, Some(until)));
            }
        }
        all = all.saturating_add(here);
    }
    losses.share = all as f64 / (events.saturating_add(all)).max(1) as f64;
    let mut findings = Vec::new();
    if let Some(score) = Score::beyond(losses.share, LOST_SHARE, Unit::Share) {
        let causes = losses.lost.iter().map(|(cause, many)| format!("{cause} {}", count(*many)));
        let title = format!(
            "{} were lost, {} of all ({})",
            counted(all, "event"),
            percent(losses.share),
            causes.collect::<Vec<_>>().join(", ")
        );
        findings.push(Finding::new("losses", title, score, evidence));
    }
    if let Some(score) = Score::beyond(losses.damaged.len() as f64, 0.0, Unit::Count) {
        let damaged = counted(losses.damaged.len() as u64, "generation");
        let title =
            format!("The file is damaged in {damaged}, so some of their events are missing");
        findings.push(Finding::new("losses", title, score, Vec::new()));
    }
    Section { table: losses, findings, not_assessed: Vec::new() }.settle(2)
}
