//! A model of the state machine by which Go's reader judges a trace; it guards the file.
//!
//! Each call is one event. If Go's reader would accept it, the event is written and counted; if not, nothing
//! is written, and the call returns that. Threads, processors and goroutines are bound as in Go: a thread has
//! at most one processor and runs at most one goroutine, and most events need both.

use super::batch::Batch;
use super::clock::Clock;
use super::goroutine::{GoId, Goroutine, Status};
use super::report::{Count, Origin, Report};
use super::tables::{Frame, GoTables, Root, StackId, StringId};
use super::writer::{File, NO_THREAD};
use crate::wire::{ClockRecord, Nanos};
use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

/// The codes of events.
mod code {
    pub(super) const PROC_START: u8 = 10;
    pub(super) const PROC_STOP: u8 = 11;
    pub(super) const PROC_STATUS: u8 = 13;
    pub(super) const GO_CREATE: u8 = 14;
    pub(super) const GO_START: u8 = 16;
    pub(super) const GO_DESTROY: u8 = 17;
    pub(super) const GO_STOP: u8 = 19;
    pub(super) const GO_BLOCK: u8 = 20;
    pub(super) const GO_UNBLOCK: u8 = 21;
    pub(super) const GO_STATUS_STACK: u8 = 48;
}

/// The status of a processor that no thread has.
const PROC_IDLE: u64 = 2;

/// The most bytes of unwritten events, however many threads there are.
const MOST_WAITING: usize = 16 << 20;

/// A thread of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ThreadAt(usize);

impl ThreadAt {
    /// No thread: only for events that need none.
    pub(super) const NONE: Self = Self(0);
}

/// A processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProcId(pub(super) u64);

struct Thread {
    number: u64,
    batch: Batch,
    proc: Option<ProcId>,
    goroutine: Option<GoId>,
}

struct Proc {
    sequence: u64,
    thread: Option<ThreadAt>,
}

/// See the module.
pub(super) struct StateMachine<W> {
    file: File<W>,
    start: u64,
    waiting: usize,
    threads: Vec<Thread>,
    /// Free entries of threads that have ended.
    free: Vec<ThreadAt>,
    procs: HashMap<ProcId, Proc>,
    goroutines: HashMap<GoId, Goroutine>,
    /// User tasks that have begun and not ended.
    pub(super) tasks: HashSet<u64>,
    pub(super) clock: Clock,
    pub(super) tables: GoTables,
    pub(super) report: Report,
}

impl<W: Write> StateMachine<W> {
    /// Begins a trace at `start`; `clock` is what the clocks showed at about that time.
    pub(super) fn new(out: W, start: Nanos, clock: &ClockRecord) -> Self {
        let ticks = Clock::new(start);
        let start = ticks.now();
        let none =
            Thread { number: NO_THREAD, batch: Batch::default(), proc: None, goroutine: None };
        Self {
            file: File::new(out, start, clock),
            start,
            waiting: 0,
            threads: vec![none],
            free: Vec::new(),
            procs: HashMap::new(),
            goroutines: HashMap::new(),
            tasks: HashSet::new(),
            clock: ticks,
            tables: GoTables::new(),
            report: Report::default(),
        }
    }

    /// Ends the trace.
    pub(super) fn finish(mut self) -> io::Result<Report> {
        self.write_all();
        self.tables.finish(&mut self.file, self.start);
        self.report.bytes = self.file.finish()?;
        Ok(self.report)
    }

    /// Whether everything could be written so far.
    pub(super) fn check(&mut self) -> io::Result<()> {
        self.file.check()
    }

    // Threads.

    /// A new thread with this number.
    pub(super) fn thread(&mut self, number: u64) -> ThreadAt {
        let thread = Thread { number, batch: Batch::default(), proc: None, goroutine: None };
        match self.free.pop() {
            Some(place) => {
                self.threads[place.0] = thread;
                place
            }
            None => {
                self.threads.push(thread);
                ThreadAt(self.threads.len() - 1)
            }
        }
    }

    /// Removes a thread that has no processor and no goroutine.
    pub(super) fn forget_thread(&mut self, at: ThreadAt) {
        self.write(at.0);
        self.threads[at.0].batch.release();
        self.free.push(at);
    }

    /// The processor that a thread has.
    pub(super) fn proc_of(&self, at: ThreadAt) -> Option<ProcId> {
        self.threads[at.0].proc
    }

    /// The goroutine that a thread runs.
    pub(super) fn running(&self, at: ThreadAt) -> Option<GoId> {
        self.threads[at.0].goroutine
    }

    // CPU samples.

    /// A place in the source, for a stack.
    pub(super) fn frame(&mut self, function: &str, file: &str, line: u32) -> Frame {
        let frame = self.tables.frame_of(function, file, line);
        // A stack may have many functions with long names.
        self.tables.make_room(&mut self.file, self.start);
        frame
    }

    /// A thread was there at this time, or now. `is_now`: its processor and its goroutine are known.
    pub(super) fn cpu_sample(
        &mut self,
        at: ThreadAt,
        is_now: bool,
        time: Option<Nanos>,
        stack: StackId,
    ) {
        let thread = &self.threads[at.0];
        let (number, proc, goroutine) = (thread.number, thread.proc, thread.goroutine);
        let time = match time {
            Some(time) => Clock::new(time).now().max(self.start),
            None => self.clock.tick(),
        };
        let proc = proc.filter(|_| is_now).map_or(u64::MAX, |proc| proc.0);
        let goroutine = goroutine.filter(|_| is_now).map_or(0, |goroutine| goroutine.0);
        self.tables.sample([time, number, proc, goroutine], stack);
        self.tables.make_room(&mut self.file, self.start);
        self.report.samples.add(Origin::Recorded);
    }

    // Processors.

    /// A processor without a thread exists.
    pub(super) fn proc_status(&mut self, at: ThreadAt, proc: ProcId, origin: Origin) -> bool {
        if self.procs.contains_key(&proc) {
            return self.refuse();
        }
        self.procs.insert(proc, Proc { sequence: 0, thread: None });
        self.put(at, code::PROC_STATUS, &[proc.0, PROC_IDLE]);
        self.count(|report| &mut report.processors, origin)
    }

    /// The thread that has a processor. `None` if the processor does not exist.
    pub(super) fn owner(&self, proc: ProcId) -> Option<Option<ThreadAt>> {
        self.procs.get(&proc).map(|proc| proc.thread)
    }

    /// A thread gets a processor.
    pub(super) fn proc_start(&mut self, at: ThreadAt, id: ProcId, origin: Origin) -> bool {
        let is_free = at != ThreadAt::NONE && self.threads[at.0].proc.is_none();
        let Some(proc) = self.procs.get_mut(&id).filter(|proc| is_free && proc.thread.is_none())
        else {
            return self.refuse();
        };
        proc.sequence += 1;
        proc.thread = Some(at);
        let sequence = proc.sequence;
        self.threads[at.0].proc = Some(id);
        self.put(at, code::PROC_START, &[id.0, sequence]);
        self.count(|report| &mut report.processor_starts, origin)
    }

    /// A thread loses its processor. It must run no goroutine then: this rule is our own, because Go's viewer
    /// does not expect one.
    pub(super) fn proc_stop(&mut self, at: ThreadAt, origin: Origin) -> bool {
        let thread = &mut self.threads[at.0];
        let Some(id) = thread.proc.filter(|_| thread.goroutine.is_none()) else {
            return self.refuse();
        };
        thread.proc = None;
        if let Some(proc) = self.procs.get_mut(&id) {
            proc.thread = None;
        }
        self.put(at, code::PROC_STOP, &[]);
        self.count(|report| &mut report.processor_stops, origin)
    }

    // Goroutines.

    /// The goroutine of this number, if it exists.
    pub(super) fn goroutine(&self, id: GoId) -> Option<&Goroutine> {
        self.goroutines.get(&id)
    }

    pub(super) fn goroutine_mut(&mut self, id: GoId) -> Option<&mut Goroutine> {
        self.goroutines.get_mut(&id)
    }

    /// A goroutine existed before the trace began, in this state. A running one runs on this thread.
    pub(super) fn go_status(
        &mut self,
        at: ThreadAt,
        id: GoId,
        status: Status,
        root: Root,
        origin: Origin,
    ) -> bool {
        let runs = status == Status::Running;
        let thread = &mut self.threads[at.0];
        if self.goroutines.contains_key(&id)
            || (runs && (at == ThreadAt::NONE || thread.goroutine.is_some()))
        {
            return self.refuse();
        }
        if runs {
            thread.goroutine = Some(id);
        }
        let of = if runs { thread.number } else { NO_THREAD };
        self.goroutines.insert(id, Goroutine::new(status, root));
        self.put(at, code::GO_STATUS_STACK, &[id.0, of, status as u64, root.stack.0]);
        self.count(|report| &mut report.statuses, origin)
    }

    /// A goroutine is created, runnable.
    pub(super) fn go_create(&mut self, at: ThreadAt, id: GoId, root: Root, origin: Origin) -> bool {
        if self.threads[at.0].proc.is_none() || self.goroutines.contains_key(&id) {
            return self.refuse();
        }
        let stack = self.stack_of(at);
        self.goroutines.insert(id, Goroutine::new(Status::Runnable, root));
        self.put(at, code::GO_CREATE, &[id.0, root.stack.0, stack.0]);
        self.count(|report| &mut report.creations, origin)
    }

    /// A runnable goroutine begins to run.
    pub(super) fn go_start(&mut self, at: ThreadAt, id: GoId, origin: Origin) -> bool {
        let thread = &mut self.threads[at.0];
        let is_free = thread.proc.is_some() && thread.goroutine.is_none();
        let goroutine = self.goroutines.get_mut(&id);
        let Some(goroutine) = goroutine.filter(|g| is_free && g.status == Status::Runnable) else {
            return self.refuse();
        };
        goroutine.status = Status::Running;
        thread.goroutine = Some(id);
        let sequence = goroutine.count();
        self.put(at, code::GO_START, &[id.0, sequence]);
        self.count(|report| &mut report.starts, origin)
    }

    /// The running goroutine begins to wait.
    pub(super) fn go_block(
        &mut self,
        at: ThreadAt,
        reason: StringId,
        stack: StackId,
        origin: Origin,
    ) -> bool {
        if !self.leave(at, Status::Waiting) {
            return self.refuse();
        }
        self.put(at, code::GO_BLOCK, &[reason.0, stack.0]);
        self.count(|report| &mut report.blocks, origin)
    }

    /// The running goroutine stops, and stays runnable.
    pub(super) fn go_stop(
        &mut self,
        at: ThreadAt,
        reason: StringId,
        stack: StackId,
        origin: Origin,
    ) -> bool {
        if !self.leave(at, Status::Runnable) {
            return self.refuse();
        }
        self.put(at, code::GO_STOP, &[reason.0, stack.0]);
        self.count(|report| &mut report.yields, origin)
    }

    /// The running goroutine ends.
    pub(super) fn go_destroy(&mut self, at: ThreadAt, origin: Origin) -> bool {
        let running = self.threads[at.0].goroutine;
        if !self.leave(at, Status::Waiting) {
            return self.refuse();
        }
        self.goroutines.remove(&running.unwrap_or(GoId(0)));
        self.put(at, code::GO_DESTROY, &[]);
        self.count(|report| &mut report.destroys, origin)
    }

    /// A waiting goroutine is woken, by this thread and its goroutine, or by an unknown waker.
    pub(super) fn go_unblock(&mut self, at: ThreadAt, id: GoId, origin: Origin) -> bool {
        let goroutine = self.goroutines.get_mut(&id);
        let Some(goroutine) = goroutine.filter(|g| g.status == Status::Waiting) else {
            return self.refuse();
        };
        goroutine.status = Status::Runnable;
        let sequence = goroutine.count();
        let stack = self.stack_of(at);
        self.put(at, code::GO_UNBLOCK, &[id.0, sequence, stack.0]);
        self.count(|report| &mut report.unblocks, origin)
    }

    // The parts of the above.

    /// Whether user code can run there: that needs a processor and a goroutine.
    pub(super) fn is_user_code(&self, at: ThreadAt) -> bool {
        let thread = &self.threads[at.0];
        thread.proc.is_some() && thread.goroutine.is_some()
    }

    pub(super) fn user_code(&mut self, at: ThreadAt) -> Option<&mut Goroutine> {
        let thread = &self.threads[at.0];
        let running = thread.goroutine.filter(|_| thread.proc.is_some())?;
        self.goroutines.get_mut(&running)
    }

    /// The running goroutine stops running.
    fn leave(&mut self, at: ThreadAt, status: Status) -> bool {
        let Some(goroutine) = self.user_code(at) else { return false };
        goroutine.status = status;
        self.threads[at.0].goroutine = None;
        true
    }

    /// The stack of the goroutine that runs there.
    pub(super) fn stack_of(&self, at: ThreadAt) -> StackId {
        self.root_of(at).map_or(StackId(0), |root| root.stack)
    }

    /// The name of the goroutine that runs there.
    pub(super) fn root_of(&self, at: ThreadAt) -> Option<Root> {
        self.running(at).and_then(|id| self.goroutines.get(&id)).map(|goroutine| goroutine.root)
    }

    #[cold]
    pub(super) fn refuse(&mut self) -> bool {
        self.report.refused += 1;
        false
    }

    pub(super) fn count(
        &mut self,
        of: impl FnOnce(&mut Report) -> &mut Count,
        origin: Origin,
    ) -> bool {
        of(&mut self.report).add(origin);
        true
    }

    pub(super) fn put(&mut self, at: ThreadAt, code: u8, arguments: &[u64]) {
        self.tables.make_room(&mut self.file, self.start);
        let time = self.clock.tick();
        if self.threads[at.0].batch.is_full() {
            self.write(at.0);
        }
        let batch = &mut self.threads[at.0].batch;
        let before = batch.parts().1.len();
        batch.put(code, time, arguments);
        self.waiting += batch.parts().1.len() - before;
        if self.waiting > MOST_WAITING {
            self.write_all();
        }
    }

    fn write_all(&mut self) {
        (0..self.threads.len()).for_each(|place| self.write(place));
    }

    fn write(&mut self, place: usize) {
        let thread = &mut self.threads[place];
        let (base, content) = thread.batch.parts();
        if !content.is_empty() {
            self.waiting -= content.len();
            self.file.batch(thread.number, base, content);
            thread.batch.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::go::report::Origin::{Added, Recorded};
    use crate::read::Site;

    fn machine() -> (StateMachine<Vec<u8>>, Root) {
        let mut machine = StateMachine::new(Vec::new(), Nanos(5000), &ClockRecord::default());
        let root = machine.tables.root(Site {
            name: "task",
            file: "src/main.rs",
            line: 7,
            blocking: false,
        });
        (machine, root)
    }

    #[test]
    fn what_go_would_refuse_is_not_written() {
        let (mut machine, root) = machine();
        let (at, id, proc) = (machine.thread(7), GoId(1), ProcId(0));
        let none = (StringId(0), StackId(0));
        assert!(!machine.proc_start(at, proc, Recorded), "no such processor");
        assert!(!machine.go_create(at, id, root, Recorded), "it takes a processor to create");
        assert!(!machine.go_start(at, id, Recorded), "no such goroutine");
        assert!(!machine.go_block(at, none.0, none.1, Recorded), "nothing runs");
        assert!(!machine.log(at, 0, none.0, none.0, none.1, Recorded), "nobody says it");
        assert!(machine.proc_status(at, proc, Added));
        assert!(machine.proc_start(at, proc, Recorded));
        let other = machine.thread(8);
        assert!(!machine.proc_start(other, proc, Recorded), "another thread has it");
        assert!(machine.go_create(at, id, root, Recorded));
        assert!(!machine.go_create(at, id, root, Recorded), "it is there");
        assert!(!machine.go_unblock(at, id, Recorded), "it does not wait");
        assert!(machine.go_start(at, id, Recorded));
        assert!(!machine.go_start(at, id, Recorded), "it runs");
        assert!(!machine.proc_stop(at, Recorded), "it runs something");
        assert!(!machine.region_end(at, Recorded), "it is in no region");
        assert!(machine.task_begin(at, 3, 0, none.0, none.1, Recorded));
        assert!(!machine.task_begin(at, 3, 0, none.0, none.1, Recorded), "it is open");
        assert!(machine.task_end(at, 3, Recorded));
        assert!(!machine.task_end(at, 3, Recorded));
        assert!(machine.go_block(at, none.0, none.1, Recorded));
        assert!(machine.go_unblock(ThreadAt::NONE, id, Added));
        assert!(machine.go_start(at, id, Recorded));
        assert!(machine.go_destroy(at, Recorded));
        assert!(machine.proc_stop(at, Recorded));
        let report = machine.finish().unwrap();
        assert_eq!((report.refused, report.starts.all, report.unblocks.recorded()), (13, 2, 0));
    }

    #[test]
    fn threads_that_come_and_go_take_no_room() {
        let (mut machine, _) = machine();
        for number in 0..1000 {
            let at = machine.thread(number);
            assert!(machine.proc_status(at, ProcId(number), Added));
            machine.forget_thread(at);
        }
        assert_eq!(machine.threads.len(), 2);
        assert_eq!(machine.waiting, 0);
    }
}
