//! A walk over the slots of a generation: what its threads were in the middle of at its begin and at
//! its end, as far as their own streams say it.

use super::carry::Carried;
use super::generation::Contents;
use super::inside::Inside;
use super::regions::Regions;
use super::stream::{Record, Stream};
use super::thread::NO_THREAD;
use std::collections::HashSet;

/// A thread, and what is open on it.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) thread: u32,
    pub(super) regions: Regions,
    pub(super) inside: Inside,
    /// Told by the generation before.
    pub(super) carried: bool,
}

/// What a walk over all slots shows.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) begin: Vec<State>,
    pub(super) end: Vec<State>,
}

impl Walked {
    pub(super) fn new(of: &Contents) -> Self {
        let mut walker = Walker::default();
        for blocks in of.slots() {
            walker.begin_slot(of.blocks[blocks.start as usize].slot);
            let mut stream = Stream::new(blocks);
            while let Some(record) = stream.next(of) {
                walker.record(&record, &stream, of);
            }
            walker.end_slot(&stream, of);
        }
        walker.finish(of)
    }
}

/// One who follows while somebody walks.
#[derive(Default)]
pub(super) struct Walker {
    walked: Walked,
    mentioned: HashSet<u32>,
    /// The statement that is being read, if it is the first mention of its thread.
    statement: Option<State>,
    known: Option<u32>,
    is_collector: bool,
}

impl Walker {
    pub(super) fn begin_slot(&mut self, slot: u32) {
        (self.statement, self.known, self.is_collector) = (None, None, slot == 0);
    }

    /// The walk has come to this record of the slot.
    #[inline]
    pub(super) fn record(&mut self, record: &Record, stream: &Stream, of: &Contents) {
        match record {
            // Mostly of the thread that the last one was of.
            Record::Event if self.known == Some(stream.event.thread) => {}
            Record::Event => self.event(stream.event.thread, of),
            Record::Block(_) | Record::Lost(_) | Record::Fault(..) => {}
            record => self.status(record, stream, of),
        }
    }

    fn status(&mut self, record: &Record, stream: &Stream, of: &Contents) {
        match (record, &mut self.statement) {
            (Record::Thread(thread), _) => {
                self.state();
                self.known = None;
                if *thread != NO_THREAD && self.mentioned.insert(*thread) {
                    let (regions, inside) = (Regions::default(), Inside::default());
                    let thread = *thread;
                    self.statement = Some(State { thread, regions, inside, carried: false });
                }
            }
            (Record::Region(open), Some(state)) => state.regions.begin(*open),
            (Record::Deeper(count), Some(state)) => state.regions.begin_unknown(*count),
            (Record::Status(kind), Some(state)) => {
                state.inside.state(*kind, &stream.mention, &of.begin.workers);
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
            self.walked.begin.push(State { thread, regions, inside, carried: true });
        }
    }

    /// The slot is through.
    pub(super) fn end_slot(&mut self, stream: &Stream, of: &Contents) {
        self.state();
        let thread = stream.thread();
        if self.is_collector || thread == NO_THREAD {
            return;
        }
        let regions = stream.regions().clone();
        let carried = of.carried.get(&thread);
        let inside = carried.map_or_else(Inside::default, |carried| carried.inside.clone());
        if self.mentioned.insert(thread) && carried.is_some() {
            let (regions, inside) = (regions.clone(), inside.clone());
            self.walked.begin.push(State { thread, regions, inside, carried: true });
        }
        self.walked.end.push(State { thread, regions, inside, carried: false });
    }

    /// A statement is over. The collector's are about threads that are silent: as they were, they
    /// still are at the end.
    fn state(&mut self) {
        if let Some(state) = self.statement.take() {
            if self.is_collector {
                self.walked.end.push(state.clone());
            }
            self.walked.begin.push(state);
        }
    }

    /// All slots are through.
    pub(super) fn finish(mut self, of: &Contents) -> Walked {
        for (thread, carried) in &of.carried {
            if !self.mentioned.contains(thread) {
                let Carried { regions, inside } = carried.clone();
                let state = State { thread: *thread, regions, inside, carried: true };
                self.walked.begin.push(state.clone());
                self.walked.end.push(state);
            }
        }
        let number = |state: &State| of.threads.get(state.thread).map(|thread| thread.number);
        self.walked.begin.sort_by_key(number);
        self.walked.end.sort_by_key(number);
        self.walked
    }
}
