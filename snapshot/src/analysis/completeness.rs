//! Where the trace is not complete, so that the absence of an event proves nothing.
//!
//! Losses are known by generation. What lies in generations without losses is certain; what touches another
//! one is not, unless the events' own numbers prove it.

use super::nanos_ext::Length;
use crate::format::counted;
use crate::read::GenerationInfo;
use crate::wire::{Generation, Loss, Nanos};
use std::collections::BTreeMap;

/// See the module.
#[derive(Default)]
pub(super) struct Doubts {
    doubtful: BTreeMap<Generation, String>,
    /// How many doubtful generations and gaps the pass has met.
    met: u32,
    /// Whether the current generation is doubtful.
    here: bool,
    /// When it began, and how much of the time before it is certain.
    entered: Nanos,
    certain: Nanos,
}

/// A point in time from which on a statement must be certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark(u32);

impl Doubts {
    pub(super) fn new(generations: &[GenerationInfo]) -> Self {
        let mut doubtful = BTreeMap::new();
        let mut told_later: Option<String> = None;
        for info in generations.iter().rev() {
            let why = why(info);
            if info.complete {
                told_later.clone_from(&why);
            }
            // The end record after a generation without one reports both generations' losses together.
            doubtful.extend(why.or_else(|| told_later.clone()).map(|why| (info.number, why)));
        }
        Self { doubtful, ..Self::default() }
    }

    /// Enters a generation, at this time.
    pub(super) fn enter(&mut self, generation: Generation, at: Nanos) {
        self.certain = self.certain_time(at);
        self.entered = self.entered.max(at);
        self.here = self.doubtful.contains_key(&generation);
        self.met += u32::from(self.here);
    }

    /// How much of the time until now is certain. The difference between two such times is what is certain
    /// between them.
    #[inline]
    pub(super) fn certain_time(&self, now: Nanos) -> Nanos {
        if self.here { self.certain } else { self.certain.plus(now.since(self.entered)) }
    }

    /// Whether events are missing in the current generation.
    pub(super) fn here(&self) -> bool {
        self.here
    }

    /// The present.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.met - u32::from(self.here))
    }

    /// Whether nothing has been lost since then.
    pub(super) fn certain_since(&self, mark: Mark) -> bool {
        self.met == mark.0
    }

    /// Whether anything is doubtful.
    pub(super) fn any(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// What is incomplete, as the end of a sentence.
    pub(super) fn because(&self) -> String {
        const SHOWN: usize = 3;
        let mut out = String::new();
        for (generation, why) in self.doubtful.iter().take(SHOWN) {
            let comma = if out.is_empty() { "" } else { ", " };
            out += &format!("{comma}{why} in generation {generation}");
        }
        if self.doubtful.len() > SHOWN {
            out += &format!(", and so in {} more", self.doubtful.len() - SHOWN);
        }
        out
    }
}

/// Why a generation is not complete. Tasks and spans that found no entry are missing altogether, so
/// statements about others stay right.
fn why(info: &GenerationInfo) -> Option<String> {
    let losses = info.lost.iter().filter(|lost| lost.code != Loss::NoPlace as u64);
    let (mut count, mut causes) = (0_u64, Vec::new());
    for lost in losses {
        count = count.saturating_add(lost.count);
        causes.push(lost.name());
    }
    match (count, &info.damage) {
        (_, Some(_)) => Some("the file is damaged".to_owned()),
        (0, None) => None,
        (1, None) => Some(format!("1 event was lost ({})", causes.join(", "))),
        (count, None) => {
            Some(format!("{} were lost ({})", counted(count, "event"), causes.join(", ")))
        }
    }
}

/// `1 status was`, `51 statuses were`.
pub(super) fn were(many: u64, what: &str) -> String {
    format!("{} {}", counted(many, what), if many == 1 { "was" } else { "were" })
}

/// Why there may be tasks that the snapshot does not know.
pub(super) fn missing(begins_incomplete: bool, generations: &[GenerationInfo]) -> Vec<String> {
    let mut because = Vec::new();
    if begins_incomplete {
        because.push(
            "a generation is incomplete and the one before it is not there: tasks that did nothing since are not known"
                .to_owned(),
        );
    }
    let omitted: u64 = generations.iter().map(|info| info.omitted).fold(0, u64::saturating_add);
    if omitted > 0 {
        because.push(format!(
            "{} left out for want of room: there may be tasks that are not known",
            were(omitted, "status")
        ));
    }
    because
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::Lost;

    fn info(number: u64, complete: bool, lost: u64) -> GenerationInfo {
        let lost = (lost > 0).then_some(Lost { code: Loss::ArenaFull as u64, count: lost });
        let lost = lost.into_iter().collect();
        GenerationInfo { complete, lost, ..GenerationInfo::empty(Generation(number)) }
    }

    #[test]
    fn what_an_end_record_tells_may_be_of_any_generation_before_it_without_one() {
        let doubtful = |infos: &[GenerationInfo]| -> Vec<u64> {
            Doubts::new(infos).doubtful.keys().map(|number| number.0).collect()
        };
        let one =
            |lost| [info(1, true, 0), info(2, false, 0), info(3, false, 0), info(4, true, lost)];
        assert_eq!(doubtful(&one(9)), [2, 3, 4]);
        assert_eq!(doubtful(&one(0)), [0_u64; 0]);
        assert_eq!(doubtful(&[info(1, true, 5), info(2, false, 0), info(3, true, 0)]), [1]);
    }
}
