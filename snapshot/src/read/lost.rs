//! Events that were lost, by cause.

use super::GenerationInfo;
use crate::wire::{Loss, Metadata, key};
use std::borrow::Cow;

/// How many events were lost for one cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The cause's code; see [`Loss`].
    pub code: u64,
    /// How many.
    pub count: u64,
}

impl Lost {
    /// The name of the cause, as tools print it: `arena_full`, say.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        match Loss::from_code(self.code) {
            Some(cause) => Cow::Borrowed(cause.name()),
            None => Cow::Owned(format!("cause_{}", self.code)),
        }
    }

    /// Adds to the count of a cause. Of causes that no version has, only so many are told apart.
    pub(super) fn add(list: &mut Vec<Self>, code: u64, count: u64) {
        if count == 0 {
            return;
        }
        let code = code.min(u64::from(u8::MAX));
        match list.iter_mut().find(|lost| lost.code == code) {
            Some(lost) => lost.count = lost.count.saturating_add(count),
            None => list.push(Self { code, count }),
        }
    }

    pub(super) fn list(pairs: &[(u64, u64)]) -> Vec<Self> {
        let mut list = Vec::new();
        for (code, count) in pairs {
            Self::add(&mut list, *code, *count);
        }
        list
    }
}

/// A generation's end record tells what was lost in it. Of those that have none because the process died,
/// the metadata tells; what their streams do not have of it stands with the last of them.
pub(super) fn add_untold(infos: &mut [GenerationInfo], metadata: &Metadata) {
    for cause in Loss::ALL {
        let Some(untold) = metadata.number(&format!("{}{cause}", key::LOST_UNTOLD)) else {
            continue;
        };
        let cut = infos.iter().filter(|info| !info.complete).flat_map(|info| &info.lost);
        let known = cut.filter(|lost| lost.code == cause as u64);
        let rest = known.fold(untold, |rest, lost| rest.saturating_sub(lost.count));
        if let Some(last) = infos.last_mut() {
            Lost::add(&mut last.lost, cause as u64, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Generation, Nanos};

    fn info(complete: bool, lost: &[(u64, u64)]) -> GenerationInfo {
        GenerationInfo {
            number: Generation(1),
            complete,
            start: Nanos(0),
            wall: Nanos(0),
            duration: Nanos(0),
            events: 0,
            lost: Lost::list(lost),
            bytes: 0,
            compressed: 0,
            offset: 0,
            blocks: 0,
            threads: 0,
            omitted: 0,
            damage: None,
        }
    }

    #[test]
    fn what_no_end_record_tells_stands_with_the_last_generation() {
        let mut metadata = Metadata::default();
        metadata.add("lost_untold.arena_full", 10_u64);
        metadata.add("lost_untold.no_place", 3_u64);
        let mut infos = [info(true, &[(1, 99)]), info(false, &[(1, 4)]), info(false, &[(1, 1)])];
        add_untold(&mut infos, &metadata);
        let lost = infos.map(|info| info.lost);
        assert_eq!(lost[..2], [Lost::list(&[(1, 99)]), Lost::list(&[(1, 4)])]);
        assert_eq!(lost[2], Lost::list(&[(1, 6), (5, 3)]));
        add_untold(&mut [], &metadata);
    }
}
