//! What a generation had open at its beginning and at its end.
//!
//! A complete generation states everything itself. An incomplete one has no statuses of what was silent in
//! it: that is as the previous generation left it, and this is what is carried over from there. Names are
//! carried as texts, because ids have no meaning outside their generation.

use super::merge::Merge;
use crate::read::decode::carried::{
    CarriedSite, CarriedSpan, CarriedTask, CarriedThread, Carry, UNKNOWN,
};
use crate::read::decode::contents::Contents;
use crate::read::decode::fields::ValuesAt;
use crate::read::decode::initial_state::{SpanBegin, TaskBegin};
use crate::read::decode::owned_value::Owned;
use crate::read::decode::regions::Open;
use crate::read::decode::thread_context::{Tenure, ThreadContext};
use crate::read::decode::thread_states::State;
use std::collections::HashMap;

impl Carry {
    /// What `of` leaves, once every event was taken from `order`.
    pub(crate) fn of(of: &Contents, order: &Merge) -> Self {
        let mut carry = Self::with_threads(of, &of.thread_states().end, Some(order));
        let mut sites = Sites::new(of, &mut carry.sites);
        let tasks = order.replay.tasks.end().into_iter().map(|task| CarriedTask {
            id: task.id,
            sequence: task.sequence,
            site: sites.index(task.site),
            state: task.state,
            woken: task.woken,
        });
        carry.tasks = tasks.collect();
        let spans = order.replay.spans.end().into_iter().map(|span| {
            let fields = match span.values[..] {
                // Nothing was added to what the previous generation left.
                [(_, ValuesAt::Carried(index))] => of.begin.carried_fields(index),
                _ => {
                    let mut fields = Vec::new();
                    for (site, values) in span.values {
                        Owned::add_given(of, site, values, &mut fields);
                    }
                    fields.into()
                }
            };
            CarriedSpan {
                id: span.id,
                parent: span.parent,
                began: span.began,
                site: sites.index(span.site),
                fields,
                part: span.part,
            }
        });
        carry.spans = spans.collect();
        let last = |(worker, tenure)| Some((of.begin.workers.get(worker)?, tenure));
        let given = of.begin.workers.given_names();
        carry.worker_names = given.map(|(worker, name)| (worker, name.into())).collect();
        carry.tenures = order.replay.workers.tenures().filter_map(last).collect();
        (carry.is_part, carry.toll) = (of.is_alone, of.toll);
        carry
    }

    /// What `of` says that it found.
    pub(crate) fn at_begin(of: &Contents) -> Self {
        let mut carry = Self::with_threads(of, &of.thread_states().begin, None);
        let mut sites = Sites::new(of, &mut carry.sites);
        let task = |task: &TaskBegin| {
            let site = sites.index(task.site);
            let TaskBegin { id, sequence, state, woken, .. } = *task;
            Some(CarriedTask { id, sequence, site, state: state?, woken })
        };
        carry.tasks = of.begin.tasks.iter().filter_map(task).collect();
        let open = of.begin.spans.iter().filter(|span| !of.begin.is_created(span.id));
        let span = |span: &SpanBegin| {
            let mut fields = Vec::new();
            Owned::add_given(of, span.site, span.values, &mut fields);
            let SpanBegin { id, parent, began, part, .. } = *span;
            let (site, fields) = (sites.index(span.site), fields.into());
            CarriedSpan { id, parent, began, site, fields, part }
        };
        carry.spans = open.map(span).collect();
        carry
    }

    fn with_threads(of: &Contents, states: &[State], order: Option<&Merge>) -> Self {
        let unknown = CarriedSite { name: "?".into(), file: "?".into(), line: 0, blocking: false };
        let mut carry = Self { sites: vec![unknown], ..Self::default() };
        let mut sites = Sites::new(of, &mut carry.sites);
        let lines = order.map_or(&[][..], |order| &order.cursors);
        let at_end: HashMap<u32, &ThreadContext> = lines
            .iter()
            .filter(|line| !line.is_collector)
            .map(|line| (line.thread, &line.inside))
            .collect();
        let thread = |state: &State| {
            let inside = match at_end.get(&state.thread) {
                Some(inside) => inside,
                None => &state.inside,
            };
            let worker = |tenure: Tenure| {
                let Tenure { number, parked, visit, .. } = tenure;
                Some((of.begin.workers.get(tenure.worker)?, number, parked, visit))
            };
            let mut region = |open: &Open| (sites.index(open.site), open.began);
            Some(CarriedThread {
                thread: of.threads.get(state.thread)?.clone(),
                regions: state.regions.known().iter().map(&mut region).collect(),
                deeper: state.regions.deeper(),
                tasks: inside.tasks.clone(),
                spans: inside.spans.clone(),
                worker: inside.worker.and_then(worker),
                pool: inside.pool,
            })
        };
        carry.threads = states.iter().filter_map(thread).collect();
        carry
    }
}

/// The sites of a generation, in the form in which they are carried.
struct Sites<'a> {
    of: &'a Contents,
    known: HashMap<u32, u32>,
    list: &'a mut Vec<CarriedSite>,
}

impl<'a> Sites<'a> {
    fn new(of: &'a Contents, list: &'a mut Vec<CarriedSite>) -> Self {
        Self { of, known: HashMap::new(), list }
    }

    fn index(&mut self, site: u32) -> u32 {
        if let Some(known) = self.known.get(&site) {
            return *known;
        }
        let index = self.of.site(site).map_or(UNKNOWN, |found| {
            let (name, file) = (found.name.into(), found.file.into());
            let (line, blocking) = (found.line, found.blocking);
            self.list.push(CarriedSite { name, file, line, blocking });
            (self.list.len() - 1) as u32
        });
        self.known.insert(site, index);
        index
    }
}
