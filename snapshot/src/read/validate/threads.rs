//! Compares a generation's statements about threads with what the previous one left.

use super::Check;
use crate::read::decode::carried::{CarriedSite, CarriedThread, Carry};
use crate::read::decode::regions::Nest;
use crate::wire::{SpanId, TaskId};
use std::fmt;

impl Check<'_> {
    /// Checks that every thread continues with what it had open.
    pub(super) fn threads(&mut self, left: &Carry, said: &Carry, number: crate::wire::Generation) {
        let (before, now) = (left.by_thread(), said.by_thread());
        for (thread, was) in &before {
            let Some(is) = now.get(thread) else {
                self.say(format!("thread {thread} lives on, and has no status"));
                continue;
            };
            let (was_open, is_open) = (Regions::of(left, was), Regions::of(said, is));
            if !is_open.agrees_with(&was_open) {
                self.say(format!(
                    "thread {thread} is stated with {is_open}; generation {number} left it with \
                     {was_open}"
                ));
            }
            let polls = |nest: &Nest<(TaskId, u64)>| -> Vec<TaskId> {
                nest.known().iter().map(|(task, _)| *task).collect()
            };
            let (was_polled, is_polled) = (polls(&was.tasks), polls(&is.tasks));
            if was_polled != is_polled {
                let (is, was) = (Ids("polls", &is_polled), Ids("polls", &was_polled));
                self.say(format!(
                    "thread {thread} is stated with {is}; generation {number} left it with {was}"
                ));
            }
            if !alike(&was.spans, &is.spans) {
                let (is, was) = (Ids("spans", is.spans.known()), Ids("spans", was.spans.known()));
                self.say(format!(
                    "thread {thread} is stated inside of {is}; generation {number} left it inside \
                     of {was}"
                ));
            }
        }
        for thread in now.keys().filter(|thread| !before.contains_key(thread)) {
            self.say(format!("thread {thread} has a status; generation {number} left none of it"));
        }
    }
}

/// Whether both can describe the same spans: either may know fewer of the deep ones.
fn alike(one: &Nest<SpanId>, other: &Nest<SpanId>) -> bool {
    let depth = |nest: &Nest<SpanId>| nest.known().len() as u64 + nest.deeper();
    depth(one) == depth(other)
        && one.known().iter().zip(other.known()).all(|(one, other)| one == other)
}

/// How many of them to show.
const SHOWN: usize = 4;

/// The open regions of a thread. Prints the outermost few.
struct Regions<'a> {
    named: Vec<&'a CarriedSite>,
    deeper: u64,
}

impl<'a> Regions<'a> {
    fn of(carry: &'a Carry, thread: &'a CarriedThread) -> Self {
        let named = thread.regions.iter().map(|(site, _)| carry.site(*site)).collect();
        Self { named, deeper: thread.deeper }
    }

    /// Whether both can describe the same regions: either may know fewer of the deep ones.
    fn agrees_with(&self, other: &Self) -> bool {
        let depth = |regions: &Self| regions.named.len() as u64 + regions.deeper;
        depth(self) == depth(other)
            && self.named.iter().zip(&other.named).all(|(one, other)| one == other)
    }
}

impl fmt::Display for Regions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.named.is_empty() && self.deeper == 0 {
            return f.write_str("no open region");
        }
        f.write_str("open regions ")?;
        for (index, region) in self.named.iter().take(SHOWN).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{} ({}:{})", region.name, region.file, region.line)?;
        }
        match (self.named.len().saturating_sub(SHOWN) as u64).saturating_add(self.deeper) {
            0 => Ok(()),
            more => write!(f, " and {more} deeper ones"),
        }
    }
}

/// Tasks or spans, the outermost few.
struct Ids<'a, T>(&'static str, &'a [T]);

impl<T: fmt::Display> fmt::Display for Ids<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what, ids) = self;
        if ids.is_empty() {
            return write!(f, "no {what}");
        }
        f.write_str(what)?;
        for (index, id) in ids.iter().take(SHOWN).enumerate() {
            write!(f, "{} {id}", if index > 0 { "," } else { "" })?;
        }
        match ids.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} deeper ones"),
        }
    }
}
