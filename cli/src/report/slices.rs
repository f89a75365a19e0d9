//! Polls, regions and parked workers: what takes time on a thread, on tracks in which it nests.
//!
//! There is room for so many; beyond that, short ones that follow each other are put together, first the shortest. So a page
//! shows the whole time whatever the length of the file, and what is long stays exact. Where hardly any follow each other, on
//! ever new threads, the shortest are left out.

use super::columns::Columns;

/// The most slices in a page.
const MOST: usize = 1_200_000;
/// What is put together first is shorter than this, in nanoseconds.
const FIRST_LEAST: u64 = 1_000;
/// Longer ones are not put together: a minute of nothing is no slice.
const LAST_LEAST: u64 = 60_000_000_000;

/// What a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A poll of a task.
    Poll = 0,
    /// The worker has nothing to do.
    Parked = 1,
    /// A region of the thread.
    Region = 2,
    /// Several, put together.
    Merged = 3,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum How {
    /// Nothing more is known than that it ended.
    Ended = 0,
    /// The task has to wait.
    Pending = 1,
    /// The task is done.
    Ready = 2,
    /// The task panicked.
    Panicked = 3,
    /// It had not ended when the snapshot did.
    Open = 4,
    /// Its end cannot be read.
    Unknown = 5,
}

/// A slice.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// The index of the thread.
    pub thread: u32,
    /// Whether it is below, among the regions.
    pub is_region: bool,
    pub depth: u16,
    pub start: i64,
    pub length: u64,
    pub kind: Kind,
    pub how: How,
    pub site: u32,
    /// The numbers of its task and its span, 0 without.
    pub task: u32,
    pub span: u32,
    /// How many it stands for.
    pub count: u32,
    /// For how long there was any of them.
    pub busy: u64,
}

impl Slice {
    /// Those of a row follow each other.
    fn row(&self) -> (u32, bool, u16) {
        (self.thread, self.is_region, self.depth)
    }

    fn end(&self) -> i64 {
        self.start.saturating_add_unsigned(self.length)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Slices {
    all: Vec<Slice>,
    /// Shorter ones were put together; 0 if none were.
    least: u64,
    most: Option<usize>,
    /// How many there was no room for.
    pub left_out: u64,
}

impl Slices {
    pub fn push(&mut self, slice: Slice) {
        self.all.push(slice);
        if self.all.len() > self.most.unwrap_or(MOST) {
            self.make_room();
        }
    }

    fn make_room(&mut self) {
        let target = self.most.unwrap_or(MOST) / 4 * 3;
        self.sort();
        self.least = self.least.max(FIRST_LEAST);
        self.merge();
        while self.all.len() > target && self.least < LAST_LEAST {
            self.least *= 2;
            self.merge();
        }
        if self.all.len() > target {
            self.leave_out(self.all.len() - target);
        }
    }

    /// Leaves out so many, the shortest.
    fn leave_out(&mut self, many: usize) {
        let mut lengths: Vec<_> = self.all.iter().map(|slice| slice.length).collect();
        let (_, limit, _) = lengths.select_nth_unstable(many.saturating_sub(1));
        let limit = *limit;
        let mut as_long = many - self.all.iter().filter(|slice| slice.length < limit).count();
        self.all.retain(|slice| {
            let is_kept = slice.length > limit || slice.length == limit && as_long == 0;
            as_long -= usize::from(!is_kept && slice.length == limit);
            is_kept
        });
        self.left_out += many as u64;
    }

    fn sort(&mut self) {
        self.all.sort_by_key(|slice| (slice.row(), slice.start));
    }

    /// Puts those together that are short, near each other, and together not long either.
    fn merge(&mut self) {
        let least = self.least;
        let is_short = |slice: &Slice| slice.kind == Kind::Merged || slice.length < least;
        self.all.dedup_by(|next, kept| {
            let together = next.end().saturating_sub(kept.start) as u64;
            let gap = next.start.saturating_sub(kept.end()).max(0) as u64;
            let fits = is_short(next)
                && is_short(kept)
                && gap < least
                && together < 16 * least
                && next.row() == kept.row();
            if fits {
                kept.length = kept.length.max(together);
                kept.count = kept.count.saturating_add(next.count);
                kept.busy = kept.busy.saturating_add(next.busy);
                kept.site = if kept.site == next.site { kept.site } else { 0 };
                (kept.kind, kept.how, kept.task, kept.span) = (Kind::Merged, How::Ended, 0, 0);
            }
            fits
        });
    }

    /// Writes them, those of a row one after the other. Returns below which length they were put together, and how many are left
    /// out.
    pub fn write(mut self, columns: &mut Columns) -> (u64, u64) {
        self.sort();
        let all = &self.all;
        columns.numbers("slices.thread", all.iter().map(|of| u64::from(of.thread)));
        let row = |of: &Slice| u64::from(of.depth) << 1 | u64::from(of.is_region);
        columns.numbers("slices.row", all.iter().map(row));
        columns.steps("slices.start", all.iter().map(|of| of.start));
        columns.numbers("slices.length", all.iter().map(|of| of.length));
        let kind = |of: &Slice| u64::from(of.how as u8) << 3 | u64::from(of.kind as u8);
        columns.numbers("slices.kind", all.iter().map(kind));
        columns.numbers("slices.site", all.iter().map(|of| u64::from(of.site)));
        columns.steps("slices.task", all.iter().map(|of| i64::from(of.task)));
        columns.steps("slices.span", all.iter().map(|of| i64::from(of.span)));
        columns.numbers("slices.count", all.iter().map(|of| u64::from(of.count)));
        let idle = |of: &Slice| of.length.saturating_sub(of.busy);
        columns.numbers("slices.idle", all.iter().map(idle));
        (self.least, self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(start: i64, length: u64) -> Slice {
        let (thread, is_region, depth, site, task, span) = (1, false, 0, 3, 4, 0);
        let (kind, how, count, busy) = (Kind::Poll, How::Pending, 1, length);
        Slice { thread, is_region, depth, start, length, kind, how, site, task, span, count, busy }
    }

    #[test]
    fn what_is_short_is_put_together_and_what_is_long_stays() {
        let mut slices = Slices { most: Some(100), ..Slices::default() };
        for at in 0..1000 {
            let length = if at == 500 { 5_000_000 } else { 100 };
            slices.push(slice(at * 10_000 + if at > 500 { 5_000_000 } else { 0 }, length));
        }
        slices.make_room();
        assert!(slices.all.len() <= 101);
        let long: Vec<_> = slices.all.iter().filter(|of| of.kind == Kind::Poll).collect();
        assert!(long.iter().any(|of| of.length == 5_000_000 && of.task == 4));
        assert_eq!(slices.all.iter().map(|of| of.count).sum::<u32>(), 1000);
        assert_eq!(slices.all.iter().map(|of| of.busy).sum::<u64>(), 999 * 100 + 5_000_000);
        let ends = slices.all.windows(2).all(|two| two[0].end() <= two[1].start);
        assert!(ends, "{:?}", slices.all);
    }

    #[test]
    fn slices_of_which_none_follow_each_other_take_bounded_memory_and_the_longest_stay() {
        let mut slices = Slices { most: Some(100), ..Slices::default() };
        for thread in 0..1000 {
            let long = if thread == 7 { i64::MAX as u64 } else { u64::from(thread % 3) };
            slices.push(Slice { thread, ..slice(i64::from(thread), long) });
            assert!(slices.all.len() <= 100);
        }
        assert!(slices.all.iter().any(|of| of.thread == 7));
        assert_eq!(slices.all.len() as u64 + slices.left_out, 1000);
    }
}
