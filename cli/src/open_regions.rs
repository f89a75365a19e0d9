//! How many regions are open on each thread, while events are read in order.

use lookback::read::wire::{Generation, ThreadNumber};
use lookback::read::{Event, EventKind, Trace};
use std::collections::BTreeMap;

/// See the module.
pub struct OpenRegions<'a> {
    trace: &'a Trace,
    generation: Option<Generation>,
    /// What is open on threads that were silent so far is not known.
    is_part: bool,
    threads: BTreeMap<ThreadNumber, usize>,
}

impl<'a> OpenRegions<'a> {
    pub fn new(trace: &'a Trace) -> Self {
        Self { trace, generation: None, is_part: false, threads: BTreeMap::new() }
    }

    /// Follows the next event. Says how deep inside of regions it is; the begin and the end of a
    /// region are as deep as what is around it.
    pub fn follow(&mut self, event: &Event) -> usize {
        self.enter(event.generation());
        let Some(thread) = event.thread() else { return 0 };
        match event.kind() {
            EventKind::RegionBegin { .. } => {
                let open = self.threads.entry(thread.number).or_default();
                *open += 1;
                *open - 1
            }
            EventKind::RegionEnd { .. } => {
                let open = self.threads.entry(thread.number).or_default();
                *open = open.saturating_sub(1);
                *open
            }
            EventKind::ThreadExit => {
                self.threads.remove(&thread.number);
                0
            }
            _ => self.threads.get(&thread.number).copied().unwrap_or_default(),
        }
    }

    /// Where a generation does not follow on the one before, its statuses say what is open; or those of the
    /// next one that has any.
    fn enter(&mut self, generation: Generation) {
        let before = self.generation.replace(generation);
        let follows = before.is_some_and(|before| before.next() == generation);
        if before == Some(generation) || (follows && !self.is_part) {
            return;
        }
        if !follows {
            self.threads.clear();
        }
        // What is damaged is told by the events themselves.
        let Ok(decoded) = self.trace.generation(generation) else { return };
        self.is_part = decoded.is_alone();
        for state in decoded.statuses() {
            let Some(thread) = state.thread() else { continue };
            self.threads.insert(thread.number, state.regions().count());
        }
    }
}
