//! What each event of a snapshot becomes.

use super::annotations::range_task;
use super::cpu_samples::{Known, Names};
use super::goroutine::{GoId, Status};
use super::report::Origin::{Added, Recorded};
use super::report::Report;
use super::scheduler::Scheduler;
use super::state_machine::{StateMachine, ThreadAt};
use super::task::{Wake, goroutine_of};
use super::thread::SeatAt;
use crate::read::{DecodedGeneration, Event, EventKind, GenerationInfo, Site, WorkerId};
use crate::wire::{Generation, TaskId};
use std::hash::RandomState;
use std::io::{self, Write};

/// What a task waits for if that is unknown. Go's profile of waits includes those whose reason contains
/// `sync`.
const WAITS: &str = "async wait";

/// An export in progress.
pub(super) struct Mapping<'n, W> {
    pub(super) scheduler: Scheduler<W>,
    /// The last generation, if all of it could be read and nothing was lost.
    pub(super) before: Option<Generation>,
    pub(super) is_first: bool,
    /// The last region's.
    pub(super) tokens: u64,
    pub(super) hashes: RandomState,
    pub(super) names: &'n mut Names<'n>,
    pub(super) frames: Known,
}

impl<'n, W: Write> Mapping<'n, W> {
    /// Begins a trace with this first generation.
    pub(super) fn new(out: W, generation: &DecodedGeneration, names: &'n mut Names<'n>) -> Self {
        let clock = generation.began();
        let start = Self::start(generation);
        Self {
            scheduler: Scheduler::new(
                StateMachine::new(out, start, &clock),
                Self::workers(generation),
            ),
            before: None,
            is_first: true,
            tokens: 0,
            hashes: RandomState::new(),
            names,
            frames: Known::default(),
        }
    }

    /// A generation has ended. If it is `alone`, not everything that lives in it is known.
    pub(super) fn end(&mut self, info: &GenerationInfo, alone: bool) {
        let is_whole = !alone && info.lost.is_empty() && info.damage.is_none();
        self.before = is_whole.then_some(info.number);
        self.is_first = false;
    }

    pub(super) fn finish(self) -> io::Result<Report> {
        self.scheduler.machine.finish()
    }

    /// Translates an event and writes the result.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        self.scheduler.machine.clock.advance(event.time());
        self.scheduler.machine.report.events += 1;
        if let EventKind::CpuSample { thread, weight, ago, .. } = event.kind() {
            self.cpu_sample(event, thread, weight, ago);
            return self.scheduler.machine.check();
        }
        if let EventKind::AllocationSample { .. }
        | EventKind::Contention { .. }
        | EventKind::LockWait { .. }
        | EventKind::LockHeld { .. } = event.kind()
        {
            // Go's trace has none.
            return self.scheduler.machine.check();
        }
        let seat = self.scheduler.seat_of(event.thread());
        self.map(event, seat);
        self.scheduler.machine.check()
    }

    fn map(&mut self, event: &Event, seat: SeatAt) {
        let (kind, worker) = (event.kind(), event.worker());
        // Beginnings and ends of polls change what the thread runs: they are no evidence of it.
        match kind {
            EventKind::TaskPoll { task } => return self.poll(event, seat, task),
            EventKind::TaskPending { task, waits_for } => {
                return self.pending(event, seat, task, waits_for);
            }
            EventKind::TaskReady { task } => return self.done(event, seat, task, false),
            EventKind::TaskPanic { task } => return self.done(event, seat, task, true),
            EventKind::ThreadStart => return self.thread_start(seat),
            EventKind::ThreadExit => return self.scheduler.leave_seat(seat, Recorded),
            EventKind::WorkerStart { worker } | EventKind::WorkerVisit { worker } => {
                return self.worker_start(seat, worker);
            }
            EventKind::WorkerPark { .. } | EventKind::WorkerUnpark { .. } if worker.is_none() => {
                self.scheduler.machine.report.left_out.unknown += 1;
                return;
            }
            EventKind::WorkerPark { worker } => return self.park(seat, worker),
            EventKind::WorkerUnpark { worker } => return self.unpark(seat, worker),
            EventKind::WorkerStop { .. } => return self.worker_stop(seat),
            _ => {}
        }
        let task = event.task().and_then(goroutine_of);
        self.scheduler.follow(seat, task);
        if self.scheduler.seat(seat).worker != worker {
            self.scheduler.become_worker(seat, worker);
        }
        match kind {
            EventKind::TaskCreate { task, site, .. } => self.create(seat, task, site),
            EventKind::TaskWake { task: woken } => self.wake(event, seat, woken, task),
            EventKind::TaskDrop { task } => self.drop_task(event, seat, task),
            EventKind::RegionBegin { site } => self.enter_region(seat, site, Recorded),
            EventKind::RegionEnd { site, inside, .. } => self.region_end(seat, site, inside),
            EventKind::SpanCreate { span, site, parent } => {
                self.span_create(event, seat, span, site, parent);
            }
            EventKind::SpanEnter { span } => self.span_enter(event, seat, span),
            EventKind::SpanExit { span } => self.span_exit(seat, span),
            EventKind::SpanClose { span } => self.span_close(seat, span),
            EventKind::SpanRecord { span } => self.span_record(event, seat, span),
            EventKind::RangeBegin { site, range, ago } => {
                self.range_begin(seat, range, site, Recorded);
                if ago.0 > 0 {
                    self.say(seat, range_task(range), "ago_ns", &ago.0.to_string(), None, Added);
                }
            }
            EventKind::RangeEnd { site, range, duration, .. } => {
                self.range_end(seat, range, site, duration);
            }
            EventKind::SpanFollows { span, from } => {
                self.say(seat, span.number(), "follows from", &from.to_string(), None, Recorded);
            }
            EventKind::PoolThread { .. } | EventKind::ThreadName => {}
            _ => self.log(event, seat),
        }
    }

    // Threads and workers.

    fn thread_start(&mut self, seat: SeatAt) {
        let (at, own, root) = {
            let seat = self.scheduler.seat(seat);
            (seat.at, seat.own, seat.root)
        };
        if self.scheduler.machine.goroutine(own).is_none() {
            self.scheduler.bind(seat, Added);
            self.scheduler.machine.go_create(at, own, root, Recorded);
        }
        self.scheduler.follow(seat, None);
        self.scheduler.ensure(seat);
    }

    fn worker_start(&mut self, seat: SeatAt, worker: WorkerId) {
        self.scheduler.become_worker(seat, Some(worker));
        self.scheduler.bind(seat, Recorded);
        if !self.scheduler.seat(seat).polls.is_empty() {
            self.scheduler.ensure(seat);
        }
    }

    fn park(&mut self, seat: SeatAt, worker: WorkerId) {
        self.be_worker(seat, worker);
        self.scheduler.bind(seat, Added);
        self.scheduler.unbind(seat, "the worker is parked", Recorded);
        self.scheduler.seat_mut(seat).is_parked = true;
    }

    fn unpark(&mut self, seat: SeatAt, worker: WorkerId) {
        self.be_worker(seat, worker);
        self.scheduler.unbind(seat, "the worker goes on", Added);
        self.scheduler.seat_mut(seat).is_parked = false;
        self.scheduler.bind(seat, Recorded);
    }

    fn worker_stop(&mut self, seat: SeatAt) {
        if self.scheduler.seat(seat).worker.is_some() && !self.scheduler.seat(seat).is_parked {
            self.scheduler.bind(seat, Added);
            self.scheduler.unbind(seat, "is no worker any more", Recorded);
        }
        self.scheduler.become_worker(seat, None);
    }

    fn be_worker(&mut self, seat: SeatAt, worker: WorkerId) {
        if self.scheduler.seat(seat).worker != Some(worker) {
            self.scheduler.become_worker(seat, Some(worker));
        }
    }

    // Tasks.

    /// A task's goroutine; if it was unknown, it has existed since before.
    fn known(&mut self, event: &Event, task: TaskId) -> Option<GoId> {
        let Some(id) = goroutine_of(task) else {
            self.scheduler.machine.report.left_out.unknown += 1;
            return None;
        };
        if self.scheduler.machine.goroutine(id).is_none() {
            let site = event.site().unwrap_or(Site {
                name: event.name(),
                file: "",
                line: 0,
                blocking: false,
            });
            let root = self.scheduler.machine.tables.root(site);
            self.scheduler.know(id, Status::Waiting, root);
        }
        Some(id)
    }

    fn create(&mut self, seat: SeatAt, task: TaskId, site: Site<'_>) {
        let Some(id) = goroutine_of(task) else {
            self.scheduler.machine.report.left_out.unknown += 1;
            return;
        };
        if self.scheduler.machine.goroutine(id).is_some() {
            // Its end was lost and its number is in use again, after 2^32 uses.
            self.scheduler.cancel(seat, id, Added);
        }
        self.scheduler.ensure(seat);
        let root = self.scheduler.machine.tables.root(site);
        let at = self.scheduler.seat(seat).at;
        self.scheduler.machine.go_create(at, id, root, Recorded);
        self.scheduler.tasks.entry(id).or_default();
    }

    fn poll(&mut self, event: &Event, seat: SeatAt, task: TaskId) {
        let Some(id) = self.known(event, task) else { return };
        self.scheduler.poll(seat, id, Recorded);
        if let Some(task) = self.scheduler.tasks.get_mut(&id) {
            task.sequence = event.sequence();
        }
    }

    /// The running task that a poll's end belongs to. `None` if it is not known.
    fn polled(&mut self, event: &Event, seat: SeatAt, task: TaskId) -> Option<GoId> {
        let id = self.known(event, task)?;
        self.scheduler.follow(seat, Some(id));
        self.scheduler.ensure(seat);
        Some(id)
    }

    fn pending(&mut self, event: &Event, seat: SeatAt, task: TaskId, waits_for: Option<Site<'_>>) {
        let Some(id) = self.polled(event, seat, task) else { return };
        let wake = self.scheduler.tasks.get_mut(&id).and_then(|task| task.wake.take());
        let at = self.scheduler.seat(seat).at;
        let machine = &mut self.scheduler.machine;
        let stack = match machine.root_of(at) {
            Some(root) => machine.tables.inside(waits_for, root),
            None => Default::default(),
        };
        match wake {
            Some(Wake::Itself) => {
                let reason = machine.tables.name("has woken itself");
                machine.go_stop(at, reason, stack, Recorded);
            }
            _ => {
                let reason = waits_for.map_or(WAITS, |site| site.name);
                let reason = machine.tables.name(reason);
                machine.go_block(at, reason, stack, Recorded);
            }
        }
        if let Some(Wake::Thread(waker, running)) = wake {
            // A waker that runs something else by now was not the one.
            let is_there = running.is_some() && machine.running(waker) == running;
            machine.go_unblock(if is_there { waker } else { ThreadAt::NONE }, id, Recorded);
        }
        self.scheduler.return_from(seat);
    }

    fn done(&mut self, event: &Event, seat: SeatAt, task: TaskId, has_panicked: bool) {
        let Some(id) = self.polled(event, seat, task) else { return };
        if has_panicked {
            self.say(seat, 0, "panicked", "", None, Added);
        }
        self.scheduler.destroy(seat, id, Recorded);
        self.scheduler.return_from(seat);
    }

    fn drop_task(&mut self, event: &Event, seat: SeatAt, task: TaskId) {
        if let Some(id) = self.known(event, task) {
            self.scheduler.cancel(seat, id, Recorded);
        }
    }

    fn wake(&mut self, event: &Event, seat: SeatAt, woken: TaskId, waker: Option<GoId>) {
        let id = goroutine_of(woken).filter(|id| self.scheduler.tasks.contains_key(id));
        let Some(id) = id else {
            self.scheduler.machine.report.left_out.unknown += 1;
            return;
        };
        // A worker may wake tasks between polls, for its timers; nothing runs on it then.
        if waker.is_some() || self.scheduler.seat(seat).worker.is_none() {
            self.scheduler.ensure(seat);
        }
        let at = self.scheduler.seat(seat).at;
        let is_waiting =
            self.scheduler.machine.goroutine(id).is_some_and(|g| g.status == Status::Waiting);
        let running = self.scheduler.machine.running(at);
        let left_out = &mut self.scheduler.machine.report.left_out.wakes;
        match self.scheduler.tasks.get_mut(&id) {
            Some(task) if task.on.is_some() => {
                // It may be the wake that caused this very poll, recorded late.
                let is_late = event.sequence().is_some_and(|seen| {
                    seen.is_multiple_of(2) && task.sequence == seen.checked_add(1)
                });
                if is_late || task.wake.is_some() {
                    *left_out += 1;
                } else if waker == Some(id) {
                    task.wake = Some(Wake::Itself);
                } else {
                    task.wake = Some(Wake::Thread(at, running));
                }
            }
            Some(_) if is_waiting => {
                self.scheduler.machine.go_unblock(at, id, Recorded);
            }
            _ => *left_out += 1,
        }
    }
}
