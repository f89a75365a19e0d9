//! Lost events, by cause.

use super::contents::GenerationInfo;
use crate::wire::{Loss, Metadata, key};
use std::borrow::Cow;

/// How many events one cause lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The cause's code; see [`Loss`].
    pub code: u64,
    /// How many.
    pub count: u64,
}

impl Lost {
    /// The name of the cause as tools print it, such as `arena_full`.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        match Loss::from_code(self.code) {
            Some(cause) => Cow::Borrowed(cause.name()),
            None => Cow::Owned(format!("cause_{}", self.code)),
        }
    }

    /// Adds to the count of a cause. The number of unknown causes that are distinguished is bounded.
    pub(crate) fn add(list: &mut Vec<Self>, code: u64, count: u64) {
        if count == 0 {
            return;
        }
        let code = code.min(u64::from(u8::MAX));
        match list.iter_mut().find(|lost| lost.code == code) {
            Some(lost) => lost.count = lost.count.saturating_add(count),
            None => list.push(Self { code, count }),
        }
    }

    /// Removes a cause.
    fn take(list: &mut Vec<Self>, code: u64) -> u64 {
        let at = list.iter().position(|lost| lost.code == code);
        at.map_or(0, |at| list.remove(at).count)
    }

    pub(crate) fn list(pairs: &[(u64, u64)]) -> Vec<Self> {
        let mut list = Vec::new();
        for (code, count) in pairs {
            Self::add(&mut list, *code, *count);
        }
        list
    }
}

/// Only the last of these has an end record, so that one reports the losses of all of them. Subtracts what
/// their streams say was lost; a thread may say so in the following generation.
pub(crate) fn share_out(infos: &mut [GenerationInfo]) {
    let Some((last, before)) = infos.split_last_mut() else { return };
    let mut said = Vec::new();
    for info in before.iter_mut().rev() {
        for lost in std::mem::take(&mut info.lost) {
            let rest = last.lost.iter_mut().find(|rest| rest.code == lost.code);
            let here = rest.map_or(0, |rest| {
                let here = lost.count.min(rest.count);
                rest.count -= here;
                here
            });
            Lost::add(&mut said, lost.code, here);
        }
        info.lost = std::mem::take(&mut said);
    }
    last.lost.retain(|lost| lost.count > 0);
}

/// A generation's end record reports what was lost in it. If the process died, the last generations have
/// none; then the metadata reports their losses, and is right: their streams lack the last losses, and begin
/// with what a thread lost in the previous generation, whose end record has reported that. `told` is the
/// number of generations up to the last one with an end record.
pub(crate) fn add_untold(infos: &mut [GenerationInfo], told: usize, metadata: &Metadata) {
    for cause in Loss::ALL {
        let Some(mut rest) = metadata.number(&format!("{}{cause}", key::LOST_UNTOLD)) else {
            continue;
        };
        // The newer a generation is, the less of what it says belongs to an earlier one.
        for info in infos[told..].iter_mut().rev() {
            let said = Lost::take(&mut info.lost, cause as u64).min(rest);
            Lost::add(&mut info.lost, cause as u64, said);
            rest -= said;
        }
        if let Some(last) = infos.last_mut() {
            Lost::add(&mut last.lost, cause as u64, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Generation;

    fn info(complete: bool, lost: &[(u64, u64)]) -> GenerationInfo {
        let lost = Lost::list(lost);
        GenerationInfo { complete, lost, ..GenerationInfo::empty(Generation(1)) }
    }

    #[test]
    fn what_no_end_record_tells_stands_with_the_last_generation() {
        let mut metadata = Metadata::default();
        metadata.add("lost_untold.arena_full", 10_u64);
        metadata.add("lost_untold.no_place", 3_u64);
        let mut infos = [info(true, &[(1, 99)]), info(false, &[(1, 4)]), info(false, &[(1, 1)])];
        add_untold(&mut infos, 1, &metadata);
        let lost = infos.map(|info| info.lost);
        assert_eq!(lost[..2], [Lost::list(&[(1, 99)]), Lost::list(&[(1, 4)])]);
        assert_eq!(lost[2], Lost::list(&[(1, 6), (5, 3)]));
        add_untold(&mut [], 0, &metadata);
    }

    #[test]
    fn what_an_end_record_has_told_is_not_told_again() {
        let lost_after = |untold: u64, told: usize, infos: &mut [GenerationInfo]| {
            let mut metadata = Metadata::default();
            metadata.add("lost_untold.arena_full", untold);
            add_untold(infos, told, &metadata);
            infos.iter().map(|info| info.lost.clone()).collect::<Vec<_>>()
        };
        let list = |count| Lost::list(&[(1, count)]);
        // A thread that has lost events says so in its next block, which may belong to the next generation.
        let mut infos = [info(true, &[(1, 99)]), info(false, &[(1, 99)])];
        assert_eq!(lost_after(10, 1, &mut infos), [list(99), list(10)]);
        assert_eq!(lost_after(0, 1, &mut infos), [list(99), list(0)]);
        let mut infos = [info(true, &[]), info(false, &[(1, 99)]), info(false, &[(1, 4)])];
        assert_eq!(lost_after(10, 1, &mut infos), [list(0), list(6), list(4)]);
        // If a generation has no end record, for want of room, the next one reports its losses.
        let mut infos = [info(false, &[(1, 7)]), info(true, &[(1, 9)]), info(false, &[(1, 2)])];
        share_out(&mut infos[..2]);
        assert_eq!(lost_after(5, 2, &mut infos), [list(7), list(2), list(5)]);
        // What the previous end record reported is not reported again.
        let mut infos = [info(false, &[(1, 7)]), info(false, &[(1, 4)]), info(true, &[(1, 6)])];
        share_out(&mut infos);
        assert_eq!(infos.map(|info| info.lost), [list(2), list(4), list(0)]);
        // There was no room for anything of the last one.
        let mut infos = [info(false, &[]), info(true, &[(1, 9)])];
        assert_eq!(lost_after(5, 2, &mut infos), [list(0), list(14)]);
    }
}
