//! A walk over the slots of a generation: what its threads had open at its beginning and at its end,
//! according to their own streams.

use super::carried::Carried;
use super::contents::Contents;
use super::regions::Regions;
use super::stream::{Record, Stream};
use super::thread_context::{Tenure, ThreadContext};
use super::threads::NO_THREAD;
use std::collections::{HashMap, HashSet};

/// A thread, and what it has open.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) thread: u32,
    pub(crate) regions: Regions,
    pub(crate) inside: ThreadContext,
    /// Whether this comes from the previous generation.
    pub(crate) carried: bool,
}

/// The result of a walk over all slots.
#[derive(Default)]
pub(crate) struct ThreadStates {
    pub(crate) begin: Vec<State>,
    pub(crate) end: Vec<State>,
}

impl ThreadStates {
    pub(crate) fn new(of: &Contents) -> Self {
        let mut walker = ThreadStatesBuilder::default();
        for blocks in of.slots() {
            walker.begin_slot(of.blocks[blocks.start as usize].slot);
            let mut stream = Stream::new(blocks);
            while let Some(record) = stream.next(of) {
                walker.record(record, &stream, of);
            }
            walker.end_slot(&stream, of);
        }
        walker.finish(of)
    }
}

/// Collects the states while a caller walks the slots.
#[derive(Default)]
pub(crate) struct ThreadStatesBuilder {
    thread_states: ThreadStates,
    mentioned: HashSet<u32>,
    /// The statement that is being read, if it is the first mention of its thread.
    statement: Option<State>,
    known: Option<u32>,
    is_collector: bool,
}

impl ThreadStatesBuilder {
    pub(crate) fn begin_slot(&mut self, slot: u32) {
        (self.statement, self.known, self.is_collector) = (None, None, slot == 0);
    }

    /// The walk has reached this record of the slot.
    #[inline]
    pub(crate) fn record(&mut self, record: Record, stream: &Stream, of: &Contents) {
        match record {
            // Usually of the same thread as the last one.
            Record::Event if self.known == Some(stream.event.thread) => {}
            Record::Event => self.event(stream.event.thread, of),
            Record::Block | Record::Lost | Record::Fault => {}
            record => self.status(record, stream, of),
        }
    }

    fn status(&mut self, record: Record, stream: &Stream, of: &Contents) {
        match (record, &mut self.statement) {
            (Record::Thread, _) => {
                self.state();
                self.known = None;
                let thread = stream.thread();
                if thread != NO_THREAD && self.mentioned.insert(thread) {
                    let (regions, inside) = (Regions::default(), ThreadContext::default());
                    self.statement = Some(State { thread, regions, inside, carried: false });
                }
            }
            (Record::Region, Some(state)) => state.regions.begin(stream.stated),
            (Record::Deeper, Some(state)) => state.regions.begin_unknown(stream.args.number),
            (Record::Status(kind), Some(state)) => {
                state.inside.state(kind, &stream.args, &of.begin.workers);
            }
            _ => {}
        }
    }

    fn event(&mut self, thread: u32, of: &Contents) {
        self.state();
        self.known = Some(thread);
        if thread != NO_THREAD
            && self.mentioned.insert(thread)
            && let Some(Carried { regions, inside }) = of.carried.get(&thread).cloned()
        {
            self.thread_states.begin.push(State { thread, regions, inside, carried: true });
        }
    }

    /// The walk has reached the end of the slot.
    pub(crate) fn end_slot(&mut self, stream: &Stream, of: &Contents) {
        self.state();
        let thread = stream.thread();
        if self.is_collector || thread == NO_THREAD {
            return;
        }
        let regions = stream.regions().clone();
        let carried = of.carried.get(&thread);
        let inside = carried.map_or_else(ThreadContext::default, |carried| carried.inside.clone());
        if self.mentioned.insert(thread) && carried.is_some() {
            let (regions, inside) = (regions.clone(), inside.clone());
            self.thread_states.begin.push(State { thread, regions, inside, carried: true });
        }
        self.thread_states.end.push(State { thread, regions, inside, carried: false });
    }

    /// A statement has ended. The collector's describe silent threads: these are unchanged at the end.
    fn state(&mut self) {
        if let Some(state) = self.statement.take() {
            if self.is_collector {
                self.thread_states.end.push(state.clone());
            }
            self.thread_states.begin.push(state);
        }
    }

    /// The walk has reached the end of all slots.
    pub(crate) fn finish(mut self, of: &Contents) -> ThreadStates {
        for (thread, carried) in &of.carried {
            if !self.mentioned.contains(thread) {
                let Carried { regions, inside } = carried.clone();
                let state = State { thread: *thread, regions, inside, carried: true };
                self.thread_states.begin.push(state.clone());
                self.thread_states.end.push(state);
            }
        }
        let number = |state: &State| of.threads.get(state.thread).map(|thread| thread.number);
        drop_taken_workers(&mut self.thread_states.begin);
        self.thread_states.begin.sort_by_key(number);
        self.thread_states.end.sort_by_key(number);
        self.thread_states
    }
}

/// Of the threads that are stated as the same worker, only the last to take it still has it.
fn drop_taken_workers(states: &mut [State]) {
    let mut latest: HashMap<u16, u64> = HashMap::new();
    for tenure in states.iter().filter_map(|state| state.inside.worker) {
        let known = latest.entry(tenure.worker).or_default();
        *known = tenure.number.max(*known);
    }
    for state in states {
        let is_over = |tenure: Tenure| latest[&tenure.worker] > tenure.number;
        if state.inside.worker.is_some_and(is_over) {
            state.inside.lose_worker();
        }
    }
}
