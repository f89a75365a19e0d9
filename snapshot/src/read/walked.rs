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
        let mut walked = Self::default();
        let mut mentioned = HashSet::new();
        for blocks in of.slots() {
            walked.slot(of, blocks, &mut mentioned);
        }
        for (thread, carried) in &of.carried {
            if !mentioned.contains(thread) {
                let Carried { regions, inside } = carried.clone();
                let state = State { thread: *thread, regions, inside, carried: true };
                walked.begin.push(state.clone());
                walked.end.push(state);
            }
        }
        let number = |state: &State| of.threads.get(state.thread).map(|thread| thread.number);
        walked.begin.sort_by_key(number);
        walked.end.sort_by_key(number);
        walked
    }

    fn slot(&mut self, of: &Contents, blocks: std::ops::Range<u32>, mentioned: &mut HashSet<u32>) {
        let collector = of.blocks[blocks.start as usize].slot == 0;
        let mut stream = Stream::new(blocks);
        // The statement that is being read, if it is the first mention of its thread.
        let mut statement: Option<State> = None;
        let mut known = NO_THREAD;
        while let Some(record) = stream.next(of) {
            match record {
                Record::Thread(thread) => {
                    self.state(&mut statement, collector);
                    if thread != NO_THREAD && mentioned.insert(thread) {
                        let (regions, inside) = (Regions::default(), Inside::default());
                        statement = Some(State { thread, regions, inside, carried: false });
                    }
                }
                Record::Region(open) => {
                    if let Some(state) = &mut statement {
                        state.regions.begin(open);
                    }
                }
                Record::Deeper(count) => {
                    if let Some(state) = &mut statement {
                        state.regions.begin_unknown(count);
                    }
                }
                Record::Status(kind) => {
                    if let Some(state) = &mut statement {
                        state.inside.state(kind, &stream.mention, &of.begin.workers);
                    }
                }
                Record::Event => {
                    let thread = stream.event.thread;
                    self.state(&mut statement, collector);
                    if thread != known
                        && thread != NO_THREAD
                        && mentioned.insert(thread)
                        && let Some(Carried { regions, inside }) = of.carried.get(&thread).cloned()
                    {
                        self.begin.push(State { thread, regions, inside, carried: true });
                    }
                    known = thread;
                }
                Record::Block(_) | Record::Lost(_) | Record::Fault(..) => {}
            }
        }
        self.state(&mut statement, collector);
        if !collector && stream.thread() != NO_THREAD {
            let (thread, regions) = (stream.thread(), stream.regions().clone());
            let inside = of.carried.get(&thread).map_or_else(Inside::default, |c| c.inside.clone());
            if mentioned.insert(thread) && of.carried.contains_key(&thread) {
                let (regions, inside) = (regions.clone(), inside.clone());
                self.begin.push(State { thread, regions, inside, carried: true });
            }
            self.end.push(State { thread, regions, inside, carried: false });
        }
    }

    /// A statement is over. The collector's are about threads that are silent: as they were, they
    /// still are at the end.
    fn state(&mut self, statement: &mut Option<State>, collector: bool) {
        if let Some(state) = statement.take() {
            if collector {
                self.end.push(state.clone());
            }
            self.begin.push(state);
        }
    }
}
