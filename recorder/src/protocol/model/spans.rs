//! Each generation holds every open span, and no older generation mentions a span after a newer one
//! has. A thread that has a reference to a span keeps the span's place until it drops the
//! reference: a span closes once and never comes back.

use super::{Plain, RACE, holds, is_caught};
use crate::protocol::gate::Gate;
use crate::protocol::references::References;
use crate::protocol::span_generations::SpanGenerations;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::{Arc, Mutex};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Record {
    Create,
    Status,
    Enter,
    Close,
    Listed,
}

#[derive(Clone, Copy, PartialEq)]
enum Mistake {
    None,
    /// A thread that finds the span ahead of its generation writes in the old one all the same.
    NoLateGenerationRule,
    /// The generation is stored before the status is written, and then the status is lost.
    StoresFirst,
    /// A place is reused as soon as its span is closed.
    NoTombstones,
}

struct Scene {
    published: AtomicU64,
    complete: AtomicU64,
    gates: [Gate; 2],
    told: SpanGenerations,
    mistake: Mistake,
    trace: Mutex<Vec<(u64, Record)>>,
}

const FIRST: u64 = 5;

impl Scene {
    /// A span that was created in the generation before the first one.
    fn new(mistake: Mistake) -> Arc<Self> {
        let scene = Self {
            published: AtomicU64::new(FIRST),
            complete: AtomicU64::new(FIRST - 1),
            gates: [Gate::new(), Gate::new()],
            told: SpanGenerations::new(),
            mistake,
            trace: Mutex::default(),
        };
        scene.told.begin(FIRST - 1);
        scene.told.open(FIRST - 1);
        Arc::new(scene)
    }

    fn write(&self, generation: u64, record: Record) {
        self.trace.lock().unwrap().push((generation, record));
    }

    /// `span::enter_gate`, then an event.
    fn event(&self, gate: usize, record: Record) {
        for _ in 0..3 {
            let generation = self.gates[gate].enter(&self.published, || true);
            let ahead = self.told.is_ahead_of(generation);
            if !ahead || self.mistake == Mistake::NoLateGenerationRule {
                if !self.told.is_stated_in(generation) {
                    if self.mistake == Mistake::StoresFirst {
                        self.told.is_stated_now(generation);
                    } else {
                        self.write(generation, Record::Status);
                    }
                    if self.mistake == Mistake::StoresFirst {
                        // No room: writes nothing.
                        self.gates[gate].leave();
                        return;
                    }
                    self.told.is_stated_now(generation);
                }
                self.write(generation, record);
                if record == Record::Close {
                    self.told.close(generation);
                }
                self.gates[gate].leave();
                return;
            }
            self.gates[gate].leave();
        }
        panic!("it begins again and again");
    }

    /// `span_life::create`, in the only place.
    fn create(&self, gate: usize) {
        let generation = self.gates[gate].enter(&self.published, || true);
        let complete = self.complete.load(Ordering::Acquire);
        if self.told.is_free_for(complete) || self.mistake == Mistake::NoTombstones {
            self.told.begin(generation);
            self.write(generation, Record::Create);
            self.told.open(generation);
        }
        self.gates[gate].leave();
    }

    fn advance(&self) {
        let generation = self.published.load(Ordering::Relaxed);
        self.published.store(generation + 1, Ordering::Release);
        fence(Ordering::SeqCst);
        for gate in &self.gates {
            while !gate.is_past(generation + 1) {
                thread::yield_now();
            }
        }
        if self.told.is_to_be_listed(generation) {
            self.write(generation, Record::Listed);
        }
        self.complete.store(generation, Ordering::Release);
    }

    fn check(&self) {
        let trace = self.trace.lock().unwrap().clone();
        let complete = self.complete.load(Ordering::Relaxed);
        let closed = trace.iter().find(|(_, record)| *record == Record::Close).map(|(g, _)| *g);
        let created = trace.iter().find(|(_, record)| *record == Record::Create).map(|(g, _)| *g);
        for generation in FIRST..=complete {
            let of: Vec<_> =
                trace.iter().filter(|(g, _)| *g == generation).map(|(_, record)| *record).collect();
            let stated = of.iter().any(|record| matches!(record, Record::Status | Record::Listed));
            let open = closed.is_none_or(|closed| closed >= generation);
            assert!(!open || stated, "an open span without a status in {generation}: {trace:?}");
            let event = of.contains(&Record::Enter);
            assert!(!event || stated || created.is_some(), "an event without a status");
            if closed.is_some_and(|closed| closed < generation) && created.is_none() {
                assert_eq!(of, [], "something of a span that is closed: {trace:?}");
            }
        }
        // Later records are in no older generation.
        let mut newest = 0;
        for (generation, record) in &trace {
            if matches!(record, Record::Enter | Record::Close) {
                let is_later = *generation >= newest || created.is_some();
                assert!(is_later || self.mistake == Mistake::None, "out of order: {trace:?}");
                newest = newest.max(*generation);
            }
        }
    }
}

fn scenario(mistake: Mistake, first: fn(&Scene), second: Option<fn(&Scene)>) {
    let scene = Scene::new(mistake);
    let threads: Vec<_> = [Some(first), second]
        .into_iter()
        .flatten()
        .map(|work| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || work(&scene))
        })
        .collect();
    scene.advance();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    scene.advance();
    scene.check();
}

fn enters(scene: &Scene) {
    scene.event(0, Record::Enter);
}

fn enters_elsewhere(scene: &Scene) {
    scene.event(1, Record::Enter);
}

#[test]
fn a_span_that_two_threads_enter_is_stated_in_each_generation() {
    holds(|| scenario(Mistake::None, enters, Some(enters_elsewhere)));
}

#[test]
fn a_span_that_nobody_touches_is_listed() {
    holds(|| scenario(Mistake::None, |_| (), None));
}

#[test]
fn a_span_that_is_closed_is_gone_from_the_next_generation_on() {
    holds(|| {
        scenario(
            Mistake::None,
            |scene| {
                scene.event(0, Record::Enter);
                scene.event(0, Record::Close);
            },
            None,
        );
    });
}

#[test]
fn a_place_that_is_used_again_loses_no_span() {
    holds(|| {
        scenario(
            Mistake::None,
            |scene| {
                scene.event(0, Record::Close);
                scene.create(0);
            },
            None,
        );
    });
}

#[test]
fn an_event_in_an_older_generation_is_caught() {
    is_caught("", || {
        scenario(Mistake::NoLateGenerationRule, enters, Some(enters_elsewhere));
    });
}

#[test]
fn a_claim_before_the_status_is_caught() {
    is_caught("without a status", || scenario(Mistake::StoresFirst, enters, None));
}

#[test]
fn a_place_that_is_used_again_at_once_is_caught() {
    is_caught("without a status", || {
        scenario(
            Mistake::NoTombstones,
            |scene| {
                scene.event(0, Record::Close);
                scene.create(0);
            },
            None,
        );
    });
}

/// A place that passes from span to span, identified by their numbers.
struct Place {
    references: References,
    incarnation: AtomicU32,
    /// What a span begins with: written by the only owner of the place, read by holders of the
    /// span.
    fields: Plain,
    /// `Groups`: whether the place can be taken.
    free: AtomicU32,
    let_go: fn(&References) -> bool,
    /// The spans that were closed.
    closed: Mutex<Vec<u32>>,
}

impl Place {
    /// A place with its first span, which has this many references.
    fn new(references: u32, let_go: fn(&References) -> bool) -> Arc<Self> {
        let place = Self {
            references: References::new(),
            incarnation: AtomicU32::new(0),
            fields: Plain::new(0),
            free: AtomicU32::new(0),
            let_go,
            closed: Mutex::default(),
        };
        place.begin(1);
        (1..references).for_each(|_| assert!(place.references.hold()));
        Arc::new(place)
    }

    /// `SpanPlace::begin`.
    fn begin(&self, span: u32) {
        self.incarnation.store(span, Ordering::Relaxed);
        self.references.begin();
        self.fields.set(u64::from(span));
    }

    /// `span::find`.
    fn is_there(&self, span: u32) -> bool {
        self.incarnation.load(Ordering::Relaxed) == span && self.references.are_there()
    }

    /// `span_life::give_up`, `close` and `release`.
    fn give_up(&self, span: u32) {
        if self.is_there(span) && (self.let_go)(&self.references) {
            assert_eq!(self.fields.get(), u64::from(span), "closed with another one's fields");
            self.closed.lock().unwrap().push(span);
            self.references.end();
            self.free.fetch_or(1, Ordering::Release);
        }
    }

    /// `span_life::Held`, for a thread without a reference: holds the span, reads it, and drops the
    /// reference.
    fn visit(&self, span: u32) {
        if self.is_there(span) && self.references.hold() {
            let held = self.incarnation.load(Ordering::Relaxed);
            if held == span {
                assert_eq!(self.fields.get(), u64::from(span), "another one's fields");
            }
            self.give_up(held);
        }
    }

    /// `span_life::create`, if the place is free.
    fn take(&self, span: u32) {
        if self.free.swap(0, Ordering::Acquire) == 1 {
            self.begin(span);
        }
    }
}

/// Each holder drops its reference and begins the next span in the same place, while another thread
/// looks up the span by its name.
fn hand_over(references: u32, let_go: fn(&References) -> bool) {
    let place = Place::new(references, let_go);
    let mut threads = vec![];
    for next in 0..references {
        let place = Arc::clone(&place);
        threads.push(thread::spawn(move || {
            place.give_up(1);
            place.take(2 + next);
        }));
    }
    place.visit(1);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    place.take(9);
    let last = place.incarnation.load(Ordering::Relaxed);
    assert!(last > 1 && place.is_there(last), "the span came back, or the next one is gone");
    let closed = place.closed.lock().unwrap().clone();
    assert_eq!(closed, [1], "what was closed, in order");
}

#[test]
fn a_span_is_over_once_and_its_place_nobody_elses_meanwhile() {
    holds(|| hand_over(1, References::let_go));
}

#[test]
fn of_two_that_give_up_the_last_references_one_closes_the_span() {
    holds(|| hand_over(2, References::let_go));
}

#[test]
fn a_last_reference_that_stands_until_the_span_is_closed_is_caught() {
    is_caught(RACE, || hand_over(1, References::let_go_later));
}
