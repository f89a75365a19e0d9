//! Sums over a window of time that slides.

#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

/// A window has so many parts: one leaves it at a time.
const PARTS: u32 = 50;

/// Two sums of what was added within a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Of this time.
    pub(super) time: Duration,
    pub(super) all: u64,
    pub(super) bad: u64,
    /// The longest of the bad ones.
    pub(super) longest: Duration,
}

impl Sums {
    fn add(&mut self, more: Self) {
        self.time = self.time.saturating_add(more.time);
        self.all = self.all.saturating_add(more.all);
        self.bad = self.bad.saturating_add(more.bad);
        self.longest = self.longest.max(more.longest);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sliding {
    over: Duration,
    parts: VecDeque<Sums>,
}

impl Sliding {
    pub(super) fn new(over: Duration) -> Self {
        Self { over, parts: VecDeque::new() }
    }

    /// Adds what was counted since the call before. Returns the sums of the window.
    pub(super) fn add(&mut self, more: Sums) -> Sums {
        match self.parts.back_mut().filter(|last| last.time < self.over / PARTS) {
            Some(last) => last.add(more),
            None => self.parts.push_back(more),
        }
        let mut sums = Sums::default();
        self.parts.iter().for_each(|part| sums.add(*part));
        while self.parts.len() > 1
            && let Some(first) = self.parts.front()
            && sums.time.saturating_sub(first.time) >= self.over
        {
            self.parts.pop_front();
            sums = Sums::default();
            self.parts.iter().for_each(|part| sums.add(*part));
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_leaves_it_and_the_parts_are_few() {
        let mut window = Sliding::new(Duration::from_secs(10));
        let mut add = |millis, all, bad, longest| {
            let (time, longest) = (Duration::from_millis(millis), Duration::from_millis(longest));
            let sums = window.add(Sums { time, all, bad, longest });
            (sums.time.as_millis(), sums.all, sums.bad, sums.longest.as_millis())
        };
        assert_eq!(add(1000, 5, 2, 70), (1000, 5, 2, 70));
        assert_eq!(add(5000, 1, 0, 0), (6000, 6, 2, 70));
        assert_eq!(add(4500, 1, 1, 30), (10_500, 7, 3, 70));
        assert_eq!(add(1000, 1, 0, 0), (10_500, 3, 1, 30));
        for _ in 0..100_000 {
            add(1, 1, 1, 1);
        }
        let (time, all, ..) = add(1, 1, 1, 1);
        assert!((10_000..10_400).contains(&time) && (10_000..10_400).contains(&all));
        assert!(window.parts.len() <= PARTS as usize + 2);
    }
}
