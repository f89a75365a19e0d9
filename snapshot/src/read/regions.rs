//! What is open on one thread, outermost first: regions, spans, polls.

use super::tables::NO_SITE;
use crate::wire::Ticks;

/// A region that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// Which, among the generation's sites, or [`NO_SITE`].
    pub(super) site: u32,
    pub(super) began: Ticks,
}

/// The open regions, rebuilt from statuses, begins and ends.
pub(super) type Regions = Nest<Open>;

/// See the module. A stack; what lies at its inner end may be unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nest<T> {
    known: Vec<T>,
    /// Runs of what nothing is known of, each with how many known ones are below it.
    unknown: Vec<(usize, u64)>,
}

impl<T> Default for Nest<T> {
    fn default() -> Self {
        Self { known: Vec::new(), unknown: Vec::new() }
    }
}

/// What an end ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended<T> {
    Known(T),
    Unknown,
    /// Nothing was open.
    Nothing,
}

impl<T: Copy> Nest<T> {
    /// How many are kept one by one. A recorder restates 64.
    const MAX_DEPTH: usize = 1024;

    #[inline]
    pub(super) fn begin(&mut self, open: T) {
        if self.known.len() < Self::MAX_DEPTH {
            self.known.push(open);
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
    pub(super) fn end(&mut self) -> Ended<T> {
        if let Some((below, run)) = self.unknown.last_mut()
            && *below == self.known.len()
        {
            *run -= 1;
            if *run == 0 {
                self.unknown.pop();
            }
            return Ended::Unknown;
        }
        self.known.pop().map_or(Ended::Nothing, Ended::Known)
    }

    /// The innermost, if it is known.
    #[inline]
    pub(super) fn innermost(&self) -> Option<T> {
        let last = *self.known.last()?;
        let covered = self.unknown.last().is_some_and(|(below, _)| *below == self.known.len());
        (!covered).then_some(last)
    }

    /// Takes out the innermost of those that are like this. Whether there was one.
    pub(super) fn end_other(&mut self, like: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.known.iter().rposition(like)?;
        for (below, _) in &mut self.unknown {
            *below -= usize::from(*below > at);
        }
        Some(self.known.remove(at))
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.unknown.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// The known ones, outermost first.
    pub(super) fn known(&self) -> &[T] {
        &self.known
    }

    /// How many are open that nothing is known of.
    pub(super) fn deeper(&self) -> u64 {
        self.unknown.iter().fold(0, |sum, (_, run)| sum.saturating_add(*run))
    }
}

impl Regions {
    /// Ends the innermost region.
    #[inline]
    pub(super) fn end_region(&mut self) -> Ended<Open> {
        match self.end() {
            Ended::Known(Open { site: NO_SITE, .. }) => Ended::Unknown,
            ended => ended,
        }
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
        assert_eq!(regions.innermost(), None);
        regions.begin(open(2));
        assert_eq!(regions.innermost(), Some(open(2)));
        assert_eq!((regions.known().len(), regions.deeper()), (2, 2));
        let ended: Vec<_> = (0..5).map(|_| regions.end_region()).collect();
        let expected = [
            Ended::Known(open(2)),
            Ended::Unknown,
            Ended::Unknown,
            Ended::Known(open(1)),
            Ended::Nothing,
        ];
        assert_eq!(ended, expected);
    }

    #[test]
    fn what_is_not_innermost_may_be_taken_out() {
        let mut spans = Nest::default();
        for span in [1, 2, 1, 3] {
            spans.begin(span);
        }
        spans.begin_unknown(1);
        assert_eq!(spans.end_other(|span| *span == 1), Some(1));
        assert_eq!(spans.known(), [1, 2, 3]);
        assert_eq!(spans.end_other(|span| *span == 7), None);
        assert_eq!((spans.end(), spans.end()), (Ended::Unknown, Ended::Known(3)));
    }

    #[test]
    fn a_stack_without_end_is_counted_not_kept() {
        let mut regions = Regions::default();
        for site in 0..5000 {
            regions.begin(open(site));
        }
        assert_eq!(regions.known().len() as u64 + regions.deeper(), 5000);
        for _ in 0..5000 {
            assert_ne!(regions.end_region(), Ended::Nothing);
        }
        assert_eq!(regions.end_region(), Ended::Nothing);
    }
}
