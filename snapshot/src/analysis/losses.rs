//! Losses: what happened and is not in the snapshot.

use super::scribe::Scribe;
use super::{Finding, LeftOut, Score, Section, Unit};
use crate::read::GenerationInfo;
use crate::wire::{Generation, Nanos};
use crate::words::{count, counted, percent};
use std::collections::BTreeMap;

/// Not more than this part of the events should be lost.
pub const LOST_SHARE: f64 = 0.001;

/// What is missing.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Losses {
    /// Events that were lost, by cause.
    pub lost: BTreeMap<String, u64>,
    /// The generations that they were lost in.
    pub generations: Vec<Generation>,
    /// Which part of all events they are, 0 to 1.
    pub share: f64,
    /// Statuses that were left out for want of room.
    pub omitted: u64,
    /// What was recorded in part, those statuses included.
    pub left_out: LeftOut,
    /// Callsites and kinds of tasks that the recorder had no place for, at least so many: they are told as
    /// `(other)`, or without their values.
    pub nameless: u64,
    /// Texts that were written out since the process began, at least so many, because the table of a
    /// generation's texts was full: nothing is missing, but they took more room.
    pub unshared_texts: u64,
    /// How often the kernel refused `membarrier` to a thread that needed it to make room for an event.
    pub refused_barriers: u64,
    /// Generations of which the file is damaged.
    pub damaged: Vec<Generation>,
}

/// From what the generations say of themselves.
pub(super) fn finish(
    generations: &[GenerationInfo],
    left_out: LeftOut,
    scribe: &Scribe<'_>,
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
                evidence.push(scribe.evidence(what, info.start, Some(until)));
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
        findings.push(Finding { analysis: "losses", title, score, evidence });
    }
    if let Some(score) = Score::beyond(losses.damaged.len() as f64, 0.0, Unit::Count) {
        let damaged = counted(losses.damaged.len() as u64, "generation");
        let title = format!("The file is damaged in {damaged}: what happened then is not all here");
        findings.push(Finding { analysis: "losses", title, score, evidence: Vec::new() });
    }
    Section { table: losses, findings, not_assessed: Vec::new() }.settle(2)
}
