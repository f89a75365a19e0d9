//! Regions of threads, open and ended.

use super::LiveState;
use super::thread::{MAX_OPEN, Thread};
use crate::analysis::completeness::Mark;
use crate::analysis::event_view::EventView;
use crate::analysis::inner::{Inner, Part};
use crate::analysis::interner::Name;
use crate::analysis::nanos_ext::Length;
use crate::wire::{Nanos, ThreadNumber};

/// An open region.
#[derive(Clone, Debug)]
pub(crate) struct OpenRegion {
    pub(crate) name: Name,
    pub(crate) began: Nanos,
    pub(crate) mark: Mark,
    /// The regions inside it that have ended.
    inner: Inner,
}

impl OpenRegion {
    pub(crate) fn new(name: Name, began: Nanos, mark: Mark) -> Self {
        Self { name, began, mark, inner: Inner::default() }
    }
}

/// A region that has ended, or was open at the end of the snapshot.
#[derive(Clone, Debug)]
pub(crate) struct RegionDone {
    pub(crate) name: Name,
    pub(crate) thread: ThreadNumber,
    pub(crate) began: Nanos,
    pub(crate) ended: Nanos,
    pub(crate) open: bool,
    pub(crate) certain: bool,
    /// The innermost few of those around it, outermost first.
    pub(crate) within: Box<[Name]>,
    /// The regions of one name inside it that took most of its time.
    pub(crate) inner: Option<Part>,
}

impl RegionDone {
    pub(crate) fn length(&self) -> Nanos {
        self.ended.since(self.began)
    }
}

impl Thread {
    pub(super) fn begin_region(&mut self, region: OpenRegion) {
        if self.regions.len() < MAX_OPEN && self.deeper == 0 {
            self.regions.push(region);
        } else {
            self.deeper += 1;
        }
    }

    /// Keeps the number of open regions, but knows none of them any more.
    fn forget_regions(&mut self) {
        self.deeper += self.regions.len() as u64 - 1;
        self.regions.clear();
    }
}

impl LiveState {
    pub(crate) fn region_begin(&mut self, view: &EventView) {
        let (name, mark) = (self.names.name(view.name), self.doubts.mark());
        self.thread(view.thread).begin_region(OpenRegion::new(name, view.at, mark));
    }

    /// A region ends. The reader knows which: this many regions that began after it continue; any others have
    /// ended unseen.
    pub(crate) fn region_end(
        &mut self,
        view: &EventView,
        known: Option<(&str, Option<Nanos>)>,
        inside: u64,
    ) -> Option<RegionDone> {
        let thread = self.threads.entry(view.thread).or_default();
        if inside < thread.deeper {
            thread.deeper -= 1;
            return None;
        }
        // Unknown regions inside it stay inside.
        let inside = inside - thread.deeper;
        let names = &self.names;
        let is_it = |open: &OpenRegion, name: &str, took: Option<Nanos>| {
            let length = view.at.0.saturating_sub(open.began.0);
            let agrees = |took: Nanos| took.0.abs_diff(length) <= 1_000_000 + length / 1000;
            names.text(open.name) == name && took.is_none_or(agrees)
        };
        let find = |regions: &[OpenRegion]| {
            let (name, took) = known?;
            regions.iter().rposition(|open| is_it(open, name, took))
        };
        let (open, around) = if inside == 0 {
            // What is examined is removed.
            let found = find(&thread.regions);
            thread.regions.truncate(found.map_or(0, |at| at + 1));
            let open = thread.regions.pop()?;
            (open, thread.regions.len())
        } else {
            let counted = usize::try_from(inside).ok().and_then(|inside| inside.checked_add(1));
            let counted = counted.and_then(|counted| thread.regions.len().checked_sub(counted));
            let agrees = |at: &usize| {
                let open = &thread.regions[*at];
                known.is_none_or(|(name, took)| is_it(open, name, took))
            };
            let looked = counted.filter(agrees);
            let at = match looked {
                Some(at) => at,
                None if self.steps.take(thread.regions.len()) => {
                    find(&thread.regions).or(counted)?
                }
                None => counted?,
            };
            if !self.steps.take(thread.regions.len() - at) {
                thread.forget_regions();
                return None;
            }
            (thread.regions.remove(at), at)
        };
        if let Some(poll) = thread.polls.last_mut() {
            let began = open.began.max(poll.began);
            if open.name == Name::OWN {
                // The recorder's own time counts like a nested poll's.
                poll.nested.grow(view.at.since(began));
            } else {
                poll.region.ended(open.name, began, view.at);
            }
        }
        let certain = self.doubts.certain_since(open.mark);
        let around = &mut thread.regions[..around];
        if let Some(around) = around.last_mut() {
            around.inner.add(open.name, view.at.since(open.began));
        }
        Some(region_done(open, around, view.thread, view.at, false, certain))
    }

    /// Regions that were open at the end of the snapshot.
    pub(crate) fn open_regions(&self, at: Nanos) -> Vec<RegionDone> {
        let mut open = Vec::new();
        for (number, thread) in &self.threads {
            for (depth, region) in thread.regions.iter().enumerate() {
                let certain = self.doubts.certain_since(region.mark);
                let around = &thread.regions[..depth];
                let mut region = region.clone();
                if let Some(inside) = thread.regions.get(depth + 1) {
                    region.inner.add(inside.name, at.since(inside.began));
                }
                open.push(region_done(region, around, *number, at, true, certain));
            }
        }
        open.sort_by_key(|region| (region.began, region.thread));
        open
    }
}

fn region_done(
    open: OpenRegion,
    around: &[OpenRegion],
    thread: ThreadNumber,
    ended: Nanos,
    is_open: bool,
    certain: bool,
) -> RegionDone {
    let within = Thread::names_of(around).collect();
    let OpenRegion { name, began, .. } = open;
    let inner = open.inner.most_of(ended.since(began));
    RegionDone { name, thread, began, ended, open: is_open, certain, within, inner }
}
