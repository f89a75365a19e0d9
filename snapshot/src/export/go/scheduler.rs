//! Which goroutine is on which thread, with which processor, and which events must be added so that it can
//! get there.
//!
//! This is the state of the trace that is written, not of the one that is read. With each event, the reader says
//! which task the thread polls and which worker it is; the written trace must get there.
//!
//! Everything happens when it is needed. A thread's own goroutine waits while tasks are polled, and resumes
//! when something happens outside tasks; so a worker between two polls runs nothing. A parked worker has no
//! processor; for anything that happens on its thread meanwhile there is the thread's own one.

use super::goroutine::{GoId, Status};
use super::processors::Processors;
use super::report::Origin::{self, Added};
use super::state_machine::{StateMachine, ThreadAt};
use super::tables::Root;
use super::task::Task;
use super::thread::{SeatAt, ThreadSeat};
use crate::read::{Site, Thread, WorkerId};
use crate::wire::ThreadNumber;
use std::collections::{HashMap, HashSet};
use std::io::Write;

/// Thread numbers from here on are not the operating system's.
const OTHER_THREADS: u64 = 1 << 32;
/// The operating system has no higher thread numbers than this.
const MAX_OS_THREAD: u64 = 1 << 31;

/// The most nested polls tracked per thread: the recorder allows far fewer.
const MAX_POLLS: usize = 256;

/// See the module.
pub(super) struct Scheduler<W> {
    pub(super) machine: StateMachine<W>,
    pub(super) tasks: HashMap<GoId, Task>,
    seats: Vec<ThreadSeat>,
    by_number: HashMap<u64, SeatAt>,
    by_thread: HashMap<ThreadAt, SeatAt>,
    /// The thread that each worker is.
    by_worker: HashMap<WorkerId, SeatAt>,
    free: Vec<SeatAt>,
    processors: Processors<WorkerId>,
    /// The operating system's numbers in use: it reuses them.
    os_threads: HashSet<u64>,
    other_threads: u64,
    last_own: u64,
}

impl<W: Write> Scheduler<W> {
    /// No threads yet; workers with numbers below `workers` will come.
    pub(super) fn new(machine: StateMachine<W>, workers: u64) -> Self {
        Self {
            machine,
            tasks: HashMap::new(),
            seats: Vec::new(),
            by_number: HashMap::new(),
            by_thread: HashMap::new(),
            by_worker: HashMap::new(),
            free: Vec::new(),
            processors: Processors::new(workers),
            os_threads: HashSet::new(),
            other_threads: OTHER_THREADS,
            last_own: 0,
        }
    }

    // Threads.

    pub(super) fn seat(&self, at: SeatAt) -> &ThreadSeat {
        &self.seats[at.0]
    }

    pub(super) fn seat_mut(&mut self, at: SeatAt) -> &mut ThreadSeat {
        &mut self.seats[at.0]
    }

    /// The seats of all existing threads.
    pub(super) fn seats(&self) -> impl Iterator<Item = SeatAt> {
        self.by_number.values().copied()
    }

    /// The seat of a thread. Number 0 stands for everything that belongs to no known thread.
    pub(super) fn seat_of(&mut self, thread: Option<&Thread>) -> SeatAt {
        let number = thread.map_or(0, |thread| thread.number.0);
        if let Some(known) = self.by_number.get(&number) {
            return *known;
        }
        let name = match thread {
            Some(thread) if !thread.name.is_empty() => thread.name.to_string(),
            Some(thread) => format!("thread {}", thread.number),
            None => "unknown thread".to_owned(),
        };
        let os_thread = thread.map_or(0, |thread| thread.os_thread);
        let at = self.take_seat(&name, os_thread);
        self.seat_mut(at).number = Some(number);
        self.by_number.insert(number, at);
        at
    }

    /// The seat that a thread of this number has, if it has one.
    pub(super) fn known_seat(&self, number: ThreadNumber) -> Option<SeatAt> {
        self.by_number.get(&number.0).copied()
    }

    /// A seat that no event names.
    pub(super) fn take_seat(&mut self, name: &str, os_thread: u64) -> SeatAt {
        let is_good = (1..MAX_OS_THREAD).contains(&os_thread) && self.os_threads.insert(os_thread);
        self.other_threads += u64::from(!is_good);
        let number = if is_good { os_thread } else { self.other_threads };
        self.last_own += 1;
        let seat = ThreadSeat {
            number: None,
            os_thread: is_good.then_some(os_thread),
            at: self.machine.thread(number),
            root: self.machine.tables.root(Site { name, file: "", line: 0, blocking: false }),
            own: GoId(self.last_own),
            proc: None,
            worker: None,
            is_parked: false,
            polls: Vec::new(),
            open: Vec::new(),
        };
        let thread = seat.at;
        let at = match self.free.pop() {
            Some(at) => {
                self.seats[at.0] = seat;
                at
            }
            None => {
                self.seats.push(seat);
                SeatAt(self.seats.len() - 1)
            }
        };
        self.by_thread.insert(thread, at);
        at
    }

    /// A thread ends, and so does what runs on it.
    pub(super) fn leave_seat(&mut self, seat: SeatAt, origin: Origin) {
        self.follow(seat, None);
        self.close_all(seat);
        self.ensure(seat);
        let at = self.seat(seat).at;
        self.machine.exit_all(at);
        self.machine.go_destroy(at, origin);
        self.machine.proc_stop(at, Added);
        if let Some(proc) = self.seat(seat).proc {
            self.processors.give_back(proc);
        }
        self.machine.forget_thread(at);
        self.by_thread.remove(&at);
        self.is_worker(seat, None);
        let gone = self.seat_mut(seat);
        (gone.at, gone.proc) = (ThreadAt::NONE, None);
        let (number, os_thread) = (gone.number.take(), gone.os_thread.take());
        number.map(|number| self.by_number.remove(&number));
        os_thread.map(|os_thread| self.os_threads.remove(&os_thread));
        self.free.push(seat);
    }

    /// Closes everything that the thread has open.
    pub(super) fn close_all(&mut self, seat: SeatAt) {
        let at = self.seat(seat).at;
        while let Some(open) = self.seat_mut(seat).open.pop() {
            if let Some(token) = open.token {
                self.machine.exit(at, open.goroutine, token, Added);
            }
        }
    }

    // Processors.

    /// Gives the thread the processor it should have, if it has none.
    pub(super) fn bind(&mut self, seat: SeatAt, origin: Origin) {
        let ThreadSeat { at, worker, is_parked, proc, .. } = *self.seat(seat);
        if self.machine.proc_of(at).is_some() {
            return;
        }
        let (proc, is_new) = match (worker.filter(|_| !is_parked), proc) {
            (Some(worker), _) => self.processors.of_worker(worker, worker.worker),
            (None, Some(own)) => (own, false),
            (None, None) => self.processors.of_thread(),
        };
        if worker.is_none() || is_parked {
            self.seat_mut(seat).proc = Some(proc);
        }
        if is_new {
            self.machine.proc_status(at, proc, Added);
        }
        if let Some(Some(holder)) = self.machine.owner(proc) {
            self.take_worker(holder);
        }
        self.machine.proc_start(at, proc, origin);
    }

    /// From now on this thread, and no other, is this worker; or it is none.
    pub(super) fn become_worker(&mut self, seat: SeatAt, worker: Option<WorkerId>) {
        self.unbind(seat, "becomes another worker", Added);
        let before = worker.and_then(|worker| self.by_worker.get(&worker).copied());
        if let Some(other) = before.filter(|other| *other != seat) {
            let holder = self.seat(other).at;
            if self.seat(other).is_parked || self.machine.proc_of(holder).is_none() {
                self.is_worker(other, None);
            } else {
                self.take_worker(holder);
            }
        }
        self.is_worker(seat, worker);
    }

    /// Notes which worker the thread is, or that it is none.
    fn is_worker(&mut self, at: SeatAt, worker: Option<WorkerId>) {
        let seat = &mut self.seats[at.0];
        let before = std::mem::replace(&mut seat.worker, worker);
        seat.is_parked = false;
        before.map(|worker| self.by_worker.remove(&worker));
        worker.map(|worker| self.by_worker.insert(worker, at));
    }

    /// Another thread has become the worker in this thread's place. What this thread runs continues.
    fn take_worker(&mut self, holder: ThreadAt) {
        let Some(seat) = self.by_thread.get(&holder).copied() else { return };
        let running = self.machine.running(holder);
        if running.is_some() {
            let reason = self.machine.tables.name("hands its worker over");
            let stack = self.machine.stack_of(holder);
            self.machine.go_stop(holder, reason, stack, Added);
        }
        self.machine.proc_stop(holder, Added);
        self.is_worker(seat, None);
        if let Some(running) = running {
            self.bind(seat, Added);
            self.machine.go_start(holder, running, Added);
        }
    }

    /// Takes the thread's processor away.
    pub(super) fn unbind(&mut self, seat: SeatAt, why: &str, origin: Origin) {
        self.suspend(seat, why);
        let at = self.seat(seat).at;
        if self.machine.proc_of(at).is_some() {
            self.machine.proc_stop(at, origin);
        }
    }

    // Goroutines.

    /// Makes the thread run the goroutine that it should run.
    pub(super) fn ensure(&mut self, seat: SeatAt) {
        self.bind(seat, Added);
        let (at, wanted) = (self.seat(seat).at, self.seat(seat).wanted());
        match self.machine.running(at) {
            Some(running) if running == wanted => return,
            Some(_) => self.suspend(seat, "the thread does something else"),
            None => {}
        }
        self.run(seat, wanted, Added);
    }

    /// Makes the thread run nothing.
    pub(super) fn suspend(&mut self, seat: SeatAt, why: &str) {
        let at = self.seat(seat).at;
        if self.machine.running(at).is_some() {
            let reason = self.machine.tables.name(why);
            let stack = self.machine.stack_of(at);
            self.machine.go_block(at, reason, stack, Added);
        }
    }

    /// Runs a goroutine on a thread that has a processor and runs nothing.
    pub(super) fn run(&mut self, seat: SeatAt, id: GoId, origin: Origin) {
        let ThreadSeat { at, root, own, worker, .. } = *self.seat(seat);
        let status = match self.machine.goroutine(id) {
            Some(goroutine) => goroutine.status,
            // A thread that is no worker has been running all the time.
            None if id == own && worker.is_none() => {
                self.machine.go_status(at, id, Status::Running, root, Added);
                return;
            }
            None => {
                self.machine.go_status(ThreadAt::NONE, id, Status::Waiting, root, Added);
                Status::Waiting
            }
        };
        if status == Status::Waiting {
            // The waker is unknown, or there is none.
            self.machine.go_unblock(ThreadAt::NONE, id, Added);
        }
        self.machine.go_start(at, id, origin);
        self.machine.catch_up(at);
    }

    // Tasks.

    /// Makes a task exist; if it was unknown, it has existed since before.
    pub(super) fn know(&mut self, id: GoId, status: Status, root: Root) {
        if self.machine.goroutine(id).is_none() {
            self.machine.go_status(ThreadAt::NONE, id, status, root, Added);
        }
        self.tasks.entry(id).or_default();
    }

    /// The thread begins to poll a task that is known.
    pub(super) fn poll(&mut self, seat: SeatAt, id: GoId, origin: Origin) {
        self.forsake(id);
        if self.seat(seat).is_parked {
            self.unbind(seat, "the worker goes on", Added);
            self.seat_mut(seat).is_parked = false;
        }
        self.bind(seat, Added);
        self.suspend(seat, "polls a task");
        self.put_on(seat, id);
        self.run(seat, id, origin);
    }

    /// From now on the thread polls this task as its innermost one.
    fn put_on(&mut self, seat: SeatAt, id: GoId) {
        if self.seat(seat).polls.len() >= MAX_POLLS
            && let Some(outermost) = self.seat(seat).polls.first().copied()
        {
            self.forsake(outermost);
        }
        self.seat_mut(seat).polls.push(id);
        self.tasks.entry(id).or_default().on = Some(seat);
    }

    /// The thread that polls the task, if any, no longer does.
    pub(super) fn forsake(&mut self, id: GoId) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(seat) = task.on.take() else { return };
        if task.wake.take().is_some() {
            self.machine.report.left_out.wakes += 1;
        }
        if self.machine.running(self.seat(seat).at) == Some(id) {
            self.suspend(seat, "the end of the poll is not known");
        }
        self.seat_mut(seat).polls.retain(|poll| *poll != id);
    }

    /// Makes this the innermost task that the thread polls, with whatever events are missing. Costs nothing
    /// if it is so already.
    pub(super) fn follow(&mut self, seat: SeatAt, task: Option<GoId>) {
        let polls = &self.seat(seat).polls;
        if polls.last().copied() == task {
            return;
        }
        let keep = match task {
            None => 0,
            Some(id) => polls.iter().position(|poll| *poll == id).map_or(polls.len(), |at| at + 1),
        };
        while self.seat(seat).polls.len() > keep {
            let Some(id) = self.seat(seat).polls.last().copied() else { break };
            self.forsake(id);
        }
        if let Some(id) = task.filter(|id| self.seat(seat).polls.last() != Some(id))
            && self.machine.goroutine(id).is_some()
        {
            self.adopt(seat, id);
        }
    }

    /// The thread polls a known task as its innermost one, taking it from any other thread. If the task is
    /// not running yet, it will be as soon as something happens there.
    pub(super) fn adopt(&mut self, seat: SeatAt, id: GoId) {
        self.forsake(id);
        self.put_on(seat, id);
    }

    /// The poll of the thread's innermost task ends, and the task stops running. The poll around it
    /// continues.
    pub(super) fn return_from(&mut self, seat: SeatAt) {
        if let Some(id) = self.seat_mut(seat).polls.pop()
            && let Some(task) = self.tasks.get_mut(&id)
        {
            task.on = None;
        }
        if !self.seat(seat).polls.is_empty() {
            self.ensure(seat);
        }
    }

    /// The task that runs on the thread ends.
    pub(super) fn destroy(&mut self, seat: SeatAt, id: GoId, origin: Origin) {
        let at = self.seat(seat).at;
        self.machine.exit_all(at);
        self.machine.go_destroy(at, origin);
        if self.tasks.remove(&id).is_some_and(|task| task.wake.is_some()) {
            self.machine.report.left_out.wakes += 1;
        }
    }

    /// This thread ends a task that nothing polls. In Go goroutines can only end themselves, so the task has
    /// to run for that.
    pub(super) fn cancel(&mut self, seat: SeatAt, id: GoId, origin: Origin) {
        self.forsake(id);
        self.bind(seat, Added);
        let at = self.seat(seat).at;
        let is_interrupted = self.machine.running(at).is_some();
        if self.machine.goroutine(id).is_some_and(|g| g.status == Status::Waiting) {
            self.machine.go_unblock(at, id, Added);
        }
        self.suspend(seat, "drops a task");
        self.run(seat, id, Added);
        let (key, stack) = (self.machine.tables.name("cancelled"), self.machine.stack_of(at));
        self.machine.log(at, 0, key, Default::default(), stack, Added);
        self.destroy(seat, id, origin);
        if is_interrupted {
            self.ensure(seat);
        }
    }
}
