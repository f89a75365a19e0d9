//! What each event of a snapshot becomes.

use super::goroutine::{GoId, Status};
use super::machine::{Machine, ThreadAt};
use super::report::Origin::{Added, Recorded};
use super::report::Report;
use super::seat::SeatAt;
use super::stage::Stage;
use super::task::{Wake, goroutine_of};
use crate::read::{DecodedGeneration, Event, EventKind, GenerationInfo, Site, WorkerId};
use crate::wire::{Generation, TaskId};
use std::hash::RandomState;
use std::io::{self, Write};

/// What a task waits for that is not known to wait for anything. Go's profile of what goroutines
/// wait for has those whose reason has `sync` in it.
const WAITS: &str = "async wait";

/// An export in progress.
pub(super) struct Mapping<W> {
    pub(super) stage: Stage<W>,
    /// The generation that was read last, if all of it could be read and nothing was lost.
    pub(super) before: Option<Generation>,
    pub(super) is_first: bool,
    /// The last region's.
    pub(super) tokens: u64,
    pub(super) hashes: RandomState,
}

impl<W: Write> Mapping<W> {
    /// Begins a trace whose first generation this is.
    pub(super) fn new(out: W, generation: &DecodedGeneration) -> Self {
        let clock = generation.began();
        let start = Self::start(generation);
        Self {
            stage: Stage::new(Machine::new(out, start, &clock), Self::workers(generation)),
            before: None,
            is_first: true,
            tokens: 0,
            hashes: RandomState::new(),
        }
    }

    /// A generation is through. Of one that is `alone` not all is known that lives.
    pub(super) fn end(&mut self, info: &GenerationInfo, alone: bool) {
        let is_whole = !alone && info.lost.is_empty() && info.damage.is_none();
        self.before = is_whole.then_some(info.number);
        self.is_first = false;
    }

    pub(super) fn finish(self) -> io::Result<Report> {
        self.stage.machine.finish()
    }

    /// Writes what an event becomes.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        self.stage.machine.clock.advance(event.time());
        self.stage.machine.report.events += 1;
        let seat = self.stage.seat_of(event.thread());
        self.map(event, seat);
        self.stage.machine.check()
    }

    fn map(&mut self, event: &Event, seat: SeatAt) {
        let (kind, worker) = (event.kind(), event.worker());
        // What a poll's begin or end says of the thread is what it changes.
        match kind {
            EventKind::TaskPoll { task } => return self.poll(event, seat, task),
            EventKind::TaskPending { task, waits_for } => {
                return self.pending(event, seat, task, waits_for);
            }
            EventKind::TaskReady { task } => return self.done(event, seat, task, false),
            EventKind::TaskPanic { task } => return self.done(event, seat, task, true),
            EventKind::ThreadStart => return self.thread_start(seat),
            EventKind::ThreadExit => return self.stage.leave_seat(seat, Recorded),
            EventKind::WorkerStart { worker } | EventKind::WorkerVisit { worker } => {
                return self.worker_start(seat, worker);
            }
            EventKind::WorkerPark { .. } | EventKind::WorkerUnpark { .. } if worker.is_none() => {
                self.stage.machine.report.left_out.unknown += 1;
                return;
            }
            EventKind::WorkerPark { worker } => return self.park(seat, worker),
            EventKind::WorkerUnpark { worker } => return self.unpark(seat, worker),
            EventKind::WorkerStop { .. } => return self.worker_stop(seat),
            _ => {}
        }
        let task = event.task().and_then(goroutine_of);
        self.stage.follow(seat, task);
        if self.stage.seat(seat).worker != worker {
            self.stage.become_worker(seat, worker);
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
            let seat = self.stage.seat(seat);
            (seat.at, seat.own, seat.root)
        };
        if self.stage.machine.goroutine(own).is_none() {
            self.stage.bind(seat, Added);
            self.stage.machine.go_create(at, own, root, Recorded);
        }
        self.stage.follow(seat, None);
        self.stage.ensure(seat);
    }

    fn worker_start(&mut self, seat: SeatAt, worker: WorkerId) {
        self.stage.become_worker(seat, Some(worker));
        self.stage.bind(seat, Recorded);
        if !self.stage.seat(seat).polls.is_empty() {
            self.stage.ensure(seat);
        }
    }

    fn park(&mut self, seat: SeatAt, worker: WorkerId) {
        self.be_worker(seat, worker);
        self.stage.bind(seat, Added);
        self.stage.unbind(seat, "the worker is parked", Recorded);
        self.stage.seat_mut(seat).is_parked = true;
    }

    fn unpark(&mut self, seat: SeatAt, worker: WorkerId) {
        self.be_worker(seat, worker);
        self.stage.unbind(seat, "the worker goes on", Added);
        self.stage.seat_mut(seat).is_parked = false;
        self.stage.bind(seat, Recorded);
    }

    fn worker_stop(&mut self, seat: SeatAt) {
        if self.stage.seat(seat).worker.is_some() && !self.stage.seat(seat).is_parked {
            self.stage.bind(seat, Added);
            self.stage.unbind(seat, "is no worker any more", Recorded);
        }
        self.stage.become_worker(seat, None);
    }

    fn be_worker(&mut self, seat: SeatAt, worker: WorkerId) {
        if self.stage.seat(seat).worker != Some(worker) {
            self.stage.become_worker(seat, Some(worker));
        }
    }

    // Tasks.

    /// The goroutine of a task, which has been there if it was not known.
    fn known(&mut self, event: &Event, task: TaskId) -> Option<GoId> {
        let Some(id) = goroutine_of(task) else {
            self.stage.machine.report.left_out.unknown += 1;
            return None;
        };
        if self.stage.machine.goroutine(id).is_none() {
            let site = event.site().unwrap_or(Site {
                name: event.name(),
                file: "",
                line: 0,
                blocking: false,
            });
            let root = self.stage.machine.tables.root(site);
            self.stage.know(id, Status::Waiting, root);
        }
        Some(id)
    }

    fn create(&mut self, seat: SeatAt, task: TaskId, site: Site<'_>) {
        let Some(id) = goroutine_of(task) else {
            self.stage.machine.report.left_out.unknown += 1;
            return;
        };
        if self.stage.machine.goroutine(id).is_some() {
            // Its end was lost, and its number is used again, which takes 2^32 of them.
            self.stage.cancel(seat, id, Added);
        }
        self.stage.ensure(seat);
        let root = self.stage.machine.tables.root(site);
        let at = self.stage.seat(seat).at;
        self.stage.machine.go_create(at, id, root, Recorded);
        self.stage.tasks.entry(id).or_default();
    }

    fn poll(&mut self, event: &Event, seat: SeatAt, task: TaskId) {
        let Some(id) = self.known(event, task) else { return };
        self.stage.poll(seat, id, Recorded);
        if let Some(task) = self.stage.tasks.get_mut(&id) {
            task.sequence = event.sequence();
        }
    }

    /// The task that a poll's end is of, running. `None` if it is not known.
    fn polled(&mut self, event: &Event, seat: SeatAt, task: TaskId) -> Option<GoId> {
        let id = self.known(event, task)?;
        self.stage.follow(seat, Some(id));
        self.stage.ensure(seat);
        Some(id)
    }

    fn pending(&mut self, event: &Event, seat: SeatAt, task: TaskId, waits_for: Option<Site<'_>>) {
        let Some(id) = self.polled(event, seat, task) else { return };
        let wake = self.stage.tasks.get_mut(&id).and_then(|task| task.wake.take());
        let at = self.stage.seat(seat).at;
        let machine = &mut self.stage.machine;
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
            // If the waker does something else by now, it was not that.
            let is_there = running.is_some() && machine.running(waker) == running;
            machine.go_unblock(if is_there { waker } else { ThreadAt::NONE }, id, Recorded);
        }
        self.stage.return_from(seat);
    }

    fn done(&mut self, event: &Event, seat: SeatAt, task: TaskId, has_panicked: bool) {
        let Some(id) = self.polled(event, seat, task) else { return };
        if has_panicked {
            self.say(seat, 0, "panicked", "", None, Added);
        }
        self.stage.destroy(seat, id, Recorded);
        self.stage.return_from(seat);
    }

    fn drop_task(&mut self, event: &Event, seat: SeatAt, task: TaskId) {
        if let Some(id) = self.known(event, task) {
            self.stage.cancel(seat, id, Recorded);
        }
    }

    fn wake(&mut self, event: &Event, seat: SeatAt, woken: TaskId, waker: Option<GoId>) {
        let id = goroutine_of(woken).filter(|id| self.stage.tasks.contains_key(id));
        let Some(id) = id else {
            self.stage.machine.report.left_out.unknown += 1;
            return;
        };
        // A worker may wake tasks from between polls, for its timers; nothing runs then.
        if waker.is_some() || self.stage.seat(seat).worker.is_none() {
            self.stage.ensure(seat);
        }
        let at = self.stage.seat(seat).at;
        let is_waiting =
            self.stage.machine.goroutine(id).is_some_and(|g| g.status == Status::Waiting);
        let running = self.stage.machine.running(at);
        let left_out = &mut self.stage.machine.report.left_out.wakes;
        match self.stage.tasks.get_mut(&id) {
            Some(task) if task.on.is_some() => {
                // It may be the wake that this very poll is for, told late.
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
                self.stage.machine.go_unblock(at, id, Recorded);
            }
            _ => *left_out += 1,
        }
    }
}
