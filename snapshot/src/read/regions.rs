//! The open regions of one thread, rebuilt from statuses, begins and ends.

use super::tables::NO_SITE;
use crate::wire::Ticks;

/// A region that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Which, among the generation's sites, or [`NO_SITE`].
    pub(super) site: u32,
    pub(super) began: Ticks,
}

/// See the module. A stack; the regions at its inner end may be unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Regions {
    known: Vec<Open>,
    /// Runs of regions that nothing is known of, each with how many known ones are below it.
    unknown: Vec<(usize, u64)>,
}

/// What an end ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Region(Open),
    Unknown,
    /// Nothing was open.
    Nothing,
}

impl Regions {
    /// How many regions are kept one by one. A recorder restates 64.
    const MAX_DEPTH: usize = 1024;

    #[inline]
    pub(super) fn begin(&mut self, region: Open) {
        if self.known.len() < Self::MAX_DEPTH {
            self.known.push(region);
        } else {
            self.begin_unknown(1);
        }
    }

    #[cold]
    pub(super) fn begin_unknown(&mut self, count: u64) {
        let below = self.known.len();
        match self.unknown.last_mut() {
            Some((at, run)) if *at == below => *run = run.saturating_add(count),
            _ if count > 0 => self.unknown.push((below, count)),
            _ => {}
        }
    }

    #[inline]
    pub(super) fn end(&mut self) -> Ended {
        if let Some((below, run)) = self.unknown.last_mut()
            && *below == self.known.len()
        {
            *run -= 1;
            if *run == 0 {
                self.unknown.pop();
            }
            return Ended::Unknown;
        }
        self.known.pop().map_or(Ended::Nothing, |open| match open.site {
            NO_SITE => Ended::Unknown,
            _ => Ended::Region(open),
        })
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.unknown.clear();
    }

    /// The known ones, outermost first.
    pub(super) fn known(&self) -> &[Open] {
        &self.known
    }

    /// How many are open that nothing is known of.
    pub(super) fn deeper(&self) -> u64 {
        self.unknown.iter().fold(0, |sum, (_, run)| sum.saturating_add(*run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(site: u32) -> Open {
        Open { site, began: Ticks(u64::from(site)) }
    }

    #[test]
    fn regions_end_in_the_reverse_of_their_order() {
        let mut regions = Regions::default();
        regions.begin(open(1));
        regions.begin_unknown(2);
        regions.begin(open(2));
        assert_eq!((regions.known().len(), regions.deeper()), (2, 2));
        let ended: Vec<_> = (0..5).map(|_| regions.end()).collect();
        let expected = [
            Ended::Region(open(2)),
            Ended::Unknown,
            Ended::Unknown,
            Ended::Region(open(1)),
            Ended::Nothing,
        ];
        assert_eq!(ended, expected);
    }

    #[test]
    fn a_stack_without_end_is_counted_not_kept() {
        let mut regions = Regions::default();
        for site in 0..5000 {
            regions.begin(open(site));
        }
        assert_eq!(regions.known().len() as u64 + regions.deeper(), 5000);
        for _ in 0..5000 {
            assert_ne!(regions.end(), Ended::Nothing);
        }
        assert_eq!(regions.end(), Ended::Nothing);
    }
}
