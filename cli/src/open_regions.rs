//! The regions that are open on each thread, while events are read in order.

use lookback::read::wire::{Generation, ThreadNumber};
use lookback::read::{Event, EventKind, Trace};
use std::collections::BTreeMap;

/// See the module.
pub struct OpenRegions<'a> {
    trace: &'a Trace,
    generation: Option<Generation>,
    threads: BTreeMap<ThreadNumber, Vec<Open>>,
}

/// A region that is open.
#[derive(Clone, Debug)]
pub struct Open {
    pub name: String,
    /// When it began, by the same clock as an event's time.
    pub began: u64,
}

impl<'a> OpenRegions<'a> {
    pub fn new(trace: &'a Trace) -> Self {
        Self { trace, generation: None, threads: BTreeMap::new() }
    }

    /// Follows the next event. Says how deep inside of regions it is; the begin and the end of a
    /// region are as deep as what is around it.
    pub fn follow(&mut self, event: &Event) -> usize {
        self.enter(event.generation());
        let Some(thread) = event.thread() else { return 0 };
        match event.kind() {
            EventKind::RegionBegin { site } => {
                let open = self.threads.entry(thread.number).or_default();
                open.push(Open { name: site.name.to_owned(), began: event.time().0 });
                open.len() - 1
            }
            EventKind::RegionEnd { .. } => {
                let open = self.threads.entry(thread.number).or_default();
                open.pop();
                open.len()
            }
            EventKind::ThreadExit => {
                self.threads.remove(&thread.number);
                0
            }
            _ => self.threads.get(&thread.number).map_or(0, Vec::len),
        }
    }

    /// What is open now, by thread, outermost first.
    pub fn threads(&self) -> impl Iterator<Item = (ThreadNumber, &[Open])> {
        self.threads.iter().map(|(thread, open)| (*thread, open.as_slice()))
    }

    /// Where a generation does not follow on the one before, its statuses say what is open.
    fn enter(&mut self, generation: Generation) {
        let before = self.generation.replace(generation);
        if before == Some(generation) || before.is_some_and(|before| before.next() == generation) {
            return;
        }
        self.threads.clear();
        // What is damaged is told by the events themselves.
        let Ok(decoded) = self.trace.generation(generation) else { return };
        for state in decoded.statuses() {
            let Some(thread) = state.thread() else { continue };
            let regions = state.regions();
            let open = |region: lookback::read::OpenRegion<'_>| Open {
                name: region.site.name.to_owned(),
                began: region.began.0,
            };
            self.threads.insert(thread.number, regions.map(open).collect());
        }
    }
}
