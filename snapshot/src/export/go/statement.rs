//! How a generation begins: what is so already.
//!
//! The first one tells Go of the tasks, spans and threads that are there. A later one tells nothing
//! new, unless something before it was lost or could not be read; then what its statuses say
//! corrects what was believed.

use super::goroutine::{GoId, Status};
use super::machine::ThreadAt;
use super::mapping::Mapping;
use super::report::Origin::Added;
use super::seat::{SeatAt, What};
use super::tables::Root;
use super::task::goroutine_of;
use crate::read::{DecodedGeneration, EventKind, Site, ThreadState};
use crate::wire::{Nanos, TaskState};
use std::collections::{HashMap, HashSet};
use std::io::Write;

/// The name of what is said at the begin by no thread of the snapshot.
const BEFORE: &str = "before the snapshot";

impl<W: Write> Mapping<W> {
    /// When a trace begins whose first generation this is: a nanosecond earlier for each thing that is
    /// said of it, because no two events of the trace have the same time.
    pub(super) fn start(generation: &DecodedGeneration) -> Nanos {
        let spans = generation
            .spans()
            .map(|span| 2 + span.fields().count() + span.omitted_fields().count());
        let threads = generation.statuses().map(|state| {
            8 + state.tasks().count() + state.regions().count() + 2 * state.spans().count()
        });
        let things =
            16 + generation.tasks().count() + spans.sum::<usize>() + threads.sum::<usize>();
        Nanos(generation.began().monotonic.0.saturating_sub(things as u64))
    }

    /// How many workers there are in the generation, as far as their numbers tell.
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
            self.stage.machine.clock.advance(generation.began().monotonic);
        }
        let spans = self.begin_spans(generation);
        let (live, running) = self.begin_tasks(generation);
        let mut threads = HashSet::new();
        for state in generation.statuses() {
            let seat = self.stage.seat_of(state.thread());
            threads.insert(seat.0);
            self.begin_thread(seat, &state, &running, &spans);
        }
        // Those that no thread is known to poll.
        running.into_iter().for_each(|(id, root)| self.stage.know(id, Status::Waiting, root));
        let info = generation.info();
        if !self.is_first && info.complete && info.omitted == 0 {
            self.end_rest(&spans, &live, &threads);
        }
    }

    /// The spans that are open. Something must have begun them.
    fn begin_spans<'a>(&mut self, generation: &'a DecodedGeneration) -> HashMap<u64, Site<'a>> {
        let (mut spans, mut teller) = (HashMap::new(), None);
        for status in generation.spans() {
            if !self.is_known(status.span) {
                continue;
            }
            spans.insert(status.span.number(), status.site);
            if !self.stage.machine.is_open(status.span.number()) {
                let seat = *teller.get_or_insert_with(|| self.stage.take_seat(BEFORE, 0));
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
            self.stage.leave_seat(seat, Added);
        }
        spans
    }

    /// The tasks that are there, and the names of those that run.
    fn begin_tasks(
        &mut self,
        generation: &DecodedGeneration,
    ) -> (HashSet<GoId>, HashMap<GoId, Root>) {
        let (mut live, mut running) = (HashSet::new(), HashMap::new());
        for status in generation.tasks() {
            let Some(id) = goroutine_of(status.task) else { continue };
            live.insert(id);
            let root = self.stage.machine.tables.root(status.site);
            match status.state {
                TaskState::Running => drop(running.insert(id, root)),
                TaskState::Idle => {
                    self.stage.forsake(id);
                    let woken = if status.woken { Status::Runnable } else { Status::Waiting };
                    self.stage.know(id, woken, root);
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
        if self.stage.seat(seat).worker != state.worker() {
            self.stage.become_worker(seat, state.worker());
        }
        if state.is_parked() && !self.stage.seat(seat).is_parked {
            self.stage.unbind(seat, "the worker is parked", Added);
            self.stage.seat_mut(seat).is_parked = true;
        }
        let polls: Vec<_> = state.tasks().filter_map(goroutine_of).collect();
        if self.stage.seat(seat).polls != polls {
            self.stage.follow(seat, None);
            for (index, id) in polls.iter().enumerate() {
                let root = running.get(id).copied().unwrap_or_else(|| self.unknown_root());
                self.resume(seat, *id, root, index + 1 == polls.len());
            }
        }
        if state.worker().is_none() || !polls.is_empty() {
            self.stage.ensure(seat);
        }
        self.stage.close_all(seat);
        for open in state.regions() {
            self.enter_region(seat, open.site, Added);
        }
        for span in state.spans() {
            if let Some(site) = spans.get(&span.number()) {
                self.enter(seat, What::Span(span.number()), span.number(), *site, Added);
            }
        }
    }

    /// The thread polls this task since before. Only the innermost one runs.
    fn resume(&mut self, seat: SeatAt, id: GoId, root: Root, is_innermost: bool) {
        let is_new = self.stage.machine.goroutine(id).is_none();
        if is_new && is_innermost {
            self.stage.bind(seat, Added);
            self.stage.suspend(seat, "polls a task");
            let at: ThreadAt = self.stage.seat(seat).at;
            self.stage.machine.go_status(at, id, Status::Running, root, Added);
        }
        self.stage.know(id, Status::Waiting, root);
        self.stage.adopt(seat, id);
    }

    fn unknown_root(&mut self) -> Root {
        self.stage.machine.tables.root(Site { name: "?", file: "", line: 0, blocking: false })
    }

    /// What is not there any more, without its end having been seen.
    fn end_rest(
        &mut self,
        spans: &HashMap<u64, Site<'_>>,
        live: &HashSet<GoId>,
        threads: &HashSet<usize>,
    ) {
        let gone: Vec<_> = self.stage.seats().filter(|seat| !threads.contains(&seat.0)).collect();
        gone.into_iter().for_each(|seat| self.stage.leave_seat(seat, Added));
        let tasks: Vec<_> =
            self.stage.tasks.keys().copied().filter(|id| !live.contains(id)).collect();
        let open = self.stage.machine.open_tasks();
        let ended: Vec<_> = open.filter(|span| !spans.contains_key(span)).collect();
        if tasks.is_empty() && ended.is_empty() {
            return;
        }
        let seat = self.stage.take_seat(BEFORE, 0);
        tasks.into_iter().for_each(|id| self.stage.cancel(seat, id, Added));
        self.stage.ensure(seat);
        let at = self.stage.seat(seat).at;
        for span in ended {
            self.stage.machine.task_end(at, span, Added);
        }
        self.stage.leave_seat(seat, Added);
    }
}
