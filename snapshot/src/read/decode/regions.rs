//! What is open on one thread, outermost first: regions, spans, polls.

use super::definitions::NO_SITE;
use crate::wire::Ticks;

/// An open region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Its site among the generation's, or [`NO_SITE`].
    pub(crate) site: u32,
    pub(crate) began: Ticks,
}

/// The open regions, reconstructed from statuses, begins and ends.
pub(crate) type Regions = Nest<Open>;

/// See the module. A stack whose inner end may be unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nest<T> {
    known: Vec<T>,
    /// Runs of unknown items, each with the number of known ones below it, in ascending order.
    unknown: Vec<(usize, u64)>,
    /// How many steps the ends of outer items have taken.
    steps: Steps,
}

/// Has no influence on equality: all are equal.
#[derive(Clone, Copy, Debug, Default)]
struct Steps(u64);

impl PartialEq for Steps {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Steps {}

impl<T> Default for Nest<T> {
    fn default() -> Self {
        Self { known: Vec::new(), unknown: Vec::new(), steps: Steps(0) }
    }
}

/// What an end has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended<T> {
    Known(T),
    Unknown,
    /// Nothing was open.
    Nothing,
}

impl<T: Copy> Nest<T> {
    /// The most that are kept one by one: as many as a recorder keeps open.
    const MAX_DEPTH: usize = 1 << 14;
    /// The most steps for finding what ends. A stack that needs more is only counted from then on: a file
    /// that was made to take long must not keep anybody waiting.
    const MAX_STEPS: u64 = 1 << 24;

    #[inline]
    pub(crate) fn begin(&mut self, open: T) {
        if self.known.len() < Self::MAX_DEPTH {
            self.known.push(open);
        } else {
            self.begin_unknown(1);
        }
    }

    #[cold]
    pub(crate) fn begin_unknown(&mut self, count: u64) {
        let below = self.known.len();
        match self.unknown.last_mut() {
            Some((at, run)) if *at == below => *run = run.saturating_add(count),
            _ if count > 0 => self.unknown.push((below, count)),
            _ => {}
        }
    }

    #[inline]
    pub(crate) fn end(&mut self) -> Ended<T> {
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
    pub(crate) fn innermost(&self) -> Option<T> {
        let last = *self.known.last()?;
        let covered = self.unknown.last().is_some_and(|(below, _)| *below == self.known.len());
        (!covered).then_some(last)
    }

    /// Ends the one that has this many others inside it.
    pub(crate) fn end_inside(&mut self, inside: u64) -> Ended<T> {
        if inside == 0 {
            return self.end();
        }
        let (mut left, mut top) = (inside, self.known.len());
        let mut runs = 0;
        for at in (0..self.unknown.len()).rev() {
            let (below, run) = &mut self.unknown[at];
            let known = (top - *below) as u64;
            runs += 1;
            if left < known {
                break;
            }
            (left, top) = (left - known, *below);
            if left < *run {
                *run -= 1;
                if *run == 0 {
                    self.unknown.remove(at);
                }
                self.take_steps(runs);
                return Ended::Unknown;
            }
            left -= *run;
        }
        let at = usize::try_from(left).ok().and_then(|left| top.checked_sub(left.checked_add(1)?));
        let ended = at.map_or(Ended::Nothing, |at| Ended::Known(self.take_out(at)));
        self.take_steps(runs);
        ended
    }

    /// Removes the innermost one that matches, and returns it.
    pub(crate) fn end_like(&mut self, like: impl Fn(&T) -> bool) -> Option<T> {
        let found = self.known.iter().rposition(like);
        self.take_steps(self.known.len() - found.unwrap_or_default());
        // If that took too many steps, none is known any more.
        found.filter(|at| *at < self.known.len()).map(|at| self.take_out(at))
    }

    /// Ends an unknown one. Returns whether there was one.
    pub(crate) fn end_unknown(&mut self) -> bool {
        let Some((_, run)) = self.unknown.last_mut() else { return false };
        *run -= 1;
        if *run == 0 {
            self.unknown.pop();
        }
        true
    }

    fn take_out(&mut self, at: usize) -> T {
        let taken = self.known.remove(at);
        // What is inside it moves up; two runs may merge.
        let first = self.unknown.partition_point(|(below, _)| *below <= at);
        for (below, _) in &mut self.unknown[first..] {
            *below -= 1;
        }
        if let Some(before) = first.checked_sub(1)
            && let Some(&(below, run)) = self.unknown.get(first)
            && self.unknown[before].0 == below
        {
            self.unknown[before].1 = self.unknown[before].1.saturating_add(run);
            self.unknown.remove(first);
        }
        self.take_steps(
            (self.known.len() - at) / 16 + self.unknown.len() - first.min(self.unknown.len()),
        );
        taken
    }

    fn take_steps(&mut self, steps: usize) {
        self.steps.0 = self.steps.0.saturating_add(steps as u64);
        if self.steps.0 > Self::MAX_STEPS {
            let all = self.deeper().saturating_add(self.known.len() as u64);
            self.clear();
            self.begin_unknown(all);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.unknown.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty() && self.unknown.is_empty()
    }

    /// The known ones, outermost first.
    pub(crate) fn known(&self) -> &[T] {
        &self.known
    }

    /// How many unknown ones are open.
    pub(crate) fn deeper(&self) -> u64 {
        self.unknown.iter().fold(0, |sum, (_, run)| sum.saturating_add(*run))
    }
}

impl Regions {
    /// Ends the region that has this many others inside it.
    #[inline]
    pub(crate) fn end_region(&mut self, inside: u64) -> Ended<Open> {
        match self.end_inside(inside) {
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
        let ended: Vec<_> = (0..5).map(|_| regions.end_region(0)).collect();
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
        assert_eq!(spans.end_like(|span| *span == 1), Some(1));
        assert_eq!(spans.known(), [1, 2, 3]);
        assert_eq!(spans.end_like(|span| *span == 7), None);
        assert_eq!((spans.end(), spans.end()), (Ended::Unknown, Ended::Known(3)));
    }

    #[test]
    fn a_stack_without_end_is_counted_not_kept() {
        let mut regions = Regions::default();
        for site in 0..50_000 {
            regions.begin(open(site));
        }
        assert_eq!(regions.known().len() as u64 + regions.deeper(), 50_000);
        for _ in 0..50_000 {
            assert_ne!(regions.end_region(0), Ended::Nothing);
        }
        assert_eq!(regions.end_region(0), Ended::Nothing);
    }

    /// A simpler model: a list of what is open, outermost first; `None` is unknown.
    #[derive(Default)]
    struct List(Vec<Option<Open>>);

    #[test]
    fn what_ends_is_what_a_list_of_all_that_is_open_would_say() {
        let (mut regions, mut list) = (Regions::default(), List::default());
        let mut random = 1_u64;
        for turn in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let dice = random >> 33;
            match dice % 8 {
                0..=2 => {
                    regions.begin(open(turn));
                    list.0.push(Some(open(turn)));
                }
                3 => {
                    regions.begin_unknown(2);
                    list.0.extend([None, None]);
                }
                _ => {
                    let inside = (dice / 8) as usize % (list.0.len() + 2);
                    let at = list.0.len().checked_sub(inside + 1);
                    let expected = match at.map(|at| list.0.remove(at)) {
                        Some(Some(open)) => Ended::Known(open),
                        Some(None) => Ended::Unknown,
                        None => Ended::Nothing,
                    };
                    assert_eq!(regions.end_region(inside as u64), expected, "{turn}");
                }
            }
            let known: Vec<_> = list.0.iter().flatten().copied().collect();
            assert_eq!(regions.known(), known, "{turn}");
            assert_eq!(regions.deeper() as usize, list.0.len() - known.len(), "{turn}");
            assert!(regions.unknown.windows(2).all(|two| two[0].0 < two[1].0), "{turn}");
        }
    }

    #[test]
    fn a_stack_that_takes_too_many_steps_is_counted_and_costs_little() {
        let mut regions = Regions::default();
        for site in 0..16_000 {
            regions.begin_unknown(1);
            regions.begin(open(site));
        }
        let mut ended_nothing = 0;
        for _ in 0..200_000 {
            // One that is far out ends, and another one begins.
            let inside = 2 * regions.known().len().max(1) as u64 - 2;
            ended_nothing += u64::from(regions.end_region(inside) == Ended::Nothing);
            regions.begin(open(1));
        }
        assert_eq!(regions.known().len() as u64 + regions.deeper(), 32_000 + ended_nothing);
        assert!(regions.steps.0 < 2 * Regions::MAX_STEPS, "{:?}", regions.steps);
        assert!(regions.known().len() < 16_000, "all of it was searched each time");
    }
}
