//! The beginning of a generation: what exists already.
//!
//! For the first generation, this tells Go about the tasks, spans and threads that exist. A later one adds
//! nothing, unless something before it was lost or could not be read; then its statuses correct what was
//! assumed.

use super::annotations::range_task;
use super::goroutine::{GoId, Status};
use super::report::Origin::Added;
use super::state_machine::ThreadAt;
use super::tables::Root;
use super::task::goroutine_of;
use super::thread::{OpenRange, SeatAt};
use super::translate::Mapping;
use crate::read::{DecodedGeneration, EventKind, Site, ThreadState};
use crate::wire::{Nanos, TaskState};
use std::collections::{HashMap, HashSet};
use std::io::Write;

/// The name of the thread that states what existed at the beginning.
const BEFORE: &str = "before the snapshot";

impl<W: Write> Mapping<'_, W> {
    /// The start of a trace whose first generation this is: a nanosecond earlier for each thing to be stated,
    /// because no two events of the trace have the same time.
    pub(super) fn start(generation: &DecodedGeneration) -> Nanos {
        let spans = generation
            .spans()
            .map(|span| 2 + span.fields().count() + span.omitted_fields().count());
        let ranges = 2 * generation.ranges().count();
        let threads = generation.statuses().map(|state| {
            8 + state.tasks().count() + state.regions().count() + 2 * state.spans().count()
        });
        let things = 16
            + ranges
            + generation.tasks().count()
            + spans.sum::<usize>()
            + threads.sum::<usize>();
        Nanos(generation.began().monotonic.0.saturating_sub(things as u64))
    }

    /// How many workers the generation has, as far as their numbers tell.
    pub(super) fn workers(generation: &DecodedGeneration) -> u64 {
        let there = generation.statuses().filter_map(|state| state.worker());
        let come = generation.events().filter_map(|event| match event.ok()?.kind() {
            EventKind::WorkerStart { worker } | EventKind::WorkerVisit { worker } => Some(worker),
            _ => None,
        });
        there.chain(come).map(|worker| worker.worker.saturating_add(1)).max().unwrap_or_default()
    }

    /// A generation begins.
    pub(super) fn begin(&mut self, generation: &DecodedGeneration) {
        if self.before.is_some_and(|before| before.next() == generation.number()) {
            return;
        }
        if !self.is_first {
            self.scheduler.machine.clock.advance(generation.began().monotonic);
        }
        let spans = self.begin_spans(generation);
        let (live, running) = self.begin_tasks(generation);
        let mut threads = HashSet::new();
        for state in generation.statuses() {
            let seat = self.scheduler.seat_of(state.thread());
            threads.insert(seat.0);
            self.begin_thread(seat, &state, &running, &spans);
        }
        // Tasks that no thread is known to poll.
        running.into_iter().for_each(|(id, root)| self.scheduler.know(id, Status::Waiting, root));
        let info = generation.info();
        if !self.is_first && info.complete && info.omitted == 0 {
            self.end_rest(&spans, &live, &threads);
        }
    }

    /// States the open spans. A goroutine must have begun them.
    fn begin_spans<'a>(&mut self, generation: &'a DecodedGeneration) -> HashMap<u64, Site<'a>> {
        let (mut spans, mut teller) = (HashMap::new(), None);
        let began = generation.began().monotonic;
        for range in generation.ranges().filter(|range| range.began < began) {
            // It counts as one of those that may be open, so that it is not ended.
            spans.insert(range_task(range.range), range.site);
            let seat = *teller.get_or_insert_with(|| self.scheduler.take_seat(BEFORE, 0));
            self.range_begin(seat, range.range, range.site, Added);
        }
        for status in generation.spans() {
            if !self.is_known(status.span) {
                continue;
            }
            spans.insert(status.span.number(), status.site);
            if !self.scheduler.machine.is_open(status.span.number()) {
                let seat = *teller.get_or_insert_with(|| self.scheduler.take_seat(BEFORE, 0));
                let (site, parent) = (status.site, status.parent);
                self.begin_span(
                    seat,
                    status.span,
                    site,
                    parent,
                    Some((status.fields(), status.omitted_fields())),
                    Added,
                );
            }
        }
        if let Some(seat) = teller {
            self.scheduler.leave_seat(seat, Added);
        }
        spans
    }

    /// States the existing tasks, and returns the names of the running ones.
    fn begin_tasks(
        &mut self,
        generation: &DecodedGeneration,
    ) -> (HashSet<GoId>, HashMap<GoId, Root>) {
        let (mut live, mut running) = (HashSet::new(), HashMap::new());
        for status in generation.tasks() {
            let Some(id) = goroutine_of(status.task) else { continue };
            live.insert(id);
            let root = self.scheduler.machine.tables.root(status.site);
            match status.state {
                TaskState::Running => drop(running.insert(id, root)),
                TaskState::Idle => {
                    self.scheduler.forsake(id);
                    let woken = if status.woken { Status::Runnable } else { Status::Waiting };
                    self.scheduler.know(id, woken, root);
                }
            }
        }
        (live, running)
    }

    fn begin_thread(
        &mut self,
        seat: SeatAt,
        state: &ThreadState<'_>,
        running: &HashMap<GoId, Root>,
        spans: &HashMap<u64, Site<'_>>,
    ) {
        if self.scheduler.seat(seat).worker != state.worker() {
            self.scheduler.become_worker(seat, state.worker());
        }
        if state.is_parked() && !self.scheduler.seat(seat).is_parked {
            self.scheduler.unbind(seat, "the worker is parked", Added);
            self.scheduler.seat_mut(seat).is_parked = true;
        }
        let polls: Vec<_> = state.tasks().filter_map(goroutine_of).collect();
        if self.scheduler.seat(seat).polls != polls {
            self.scheduler.follow(seat, None);
            for (index, id) in polls.iter().enumerate() {
                let root = running.get(id).copied().unwrap_or_else(|| self.unknown_root());
                self.resume(seat, *id, root, index + 1 == polls.len());
            }
        }
        if state.worker().is_none() || !polls.is_empty() {
            self.scheduler.ensure(seat);
        }
        self.scheduler.close_all(seat);
        for open in state.regions() {
            self.enter_region(seat, open.site, Added);
        }
        for span in state.spans() {
            if let Some(site) = spans.get(&span.number()) {
                self.enter(seat, OpenRange::Span(span.number()), span.number(), *site, Added);
            }
        }
    }

    /// The thread has been polling this task since before the generation. Only the innermost task runs.
    fn resume(&mut self, seat: SeatAt, id: GoId, root: Root, is_innermost: bool) {
        let is_new = self.scheduler.machine.goroutine(id).is_none();
        if is_new && is_innermost {
            self.scheduler.bind(seat, Added);
            self.scheduler.suspend(seat, "polls a task");
            let at: ThreadAt = self.scheduler.seat(seat).at;
            self.scheduler.machine.go_status(at, id, Status::Running, root, Added);
        }
        self.scheduler.know(id, Status::Waiting, root);
        self.scheduler.adopt(seat, id);
    }

    fn unknown_root(&mut self) -> Root {
        self.scheduler.machine.tables.root(Site { name: "?", file: "", line: 0, blocking: false })
    }

    /// Ends what no longer exists although no event said so.
    fn end_rest(
        &mut self,
        spans: &HashMap<u64, Site<'_>>,
        live: &HashSet<GoId>,
        threads: &HashSet<usize>,
    ) {
        let gone: Vec<_> =
            self.scheduler.seats().filter(|seat| !threads.contains(&seat.0)).collect();
        gone.into_iter().for_each(|seat| self.scheduler.leave_seat(seat, Added));
        let tasks: Vec<_> =
            self.scheduler.tasks.keys().copied().filter(|id| !live.contains(id)).collect();
        let open = self.scheduler.machine.open_tasks();
        let ended: Vec<_> = open.filter(|span| !spans.contains_key(span)).collect();
        if tasks.is_empty() && ended.is_empty() {
            return;
        }
        let seat = self.scheduler.take_seat(BEFORE, 0);
        tasks.into_iter().for_each(|id| self.scheduler.cancel(seat, id, Added));
        self.scheduler.ensure(seat);
        let at = self.scheduler.seat(seat).at;
        for span in ended {
            self.scheduler.machine.task_end(at, span, Added);
        }
        self.scheduler.leave_seat(seat, Added);
    }
}
