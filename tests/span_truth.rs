//! What is recorded of spans is what happened to them: when each began and ended, its parent, the current
//! span. The program that makes the spans is the judge, with stamps of its own.

mod common;

use common::alone;
use lookback::Recorder;
use lookback::read::{EventKind, SpanId, Trace};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use tracing::instrument::Instrument;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::with_default;
use tracing::{Span, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt;

fn start() -> Recorder {
    common::start_with(64 << 20, Duration::from_secs(3600))
}

fn both_ways(check: impl Fn(Arc<dyn Subscriber + Send + Sync>)) {
    check(Arc::new(lookback::tracing::subscriber()));
    check(Arc::new(tracing_subscriber::registry().with(lookback::tracing::layer())));
}

/// A span in the trace, by the number in its field `n`.
#[derive(Debug)]
struct Found {
    parent: Option<u64>,
    began: u64,
    ended: Option<u64>,
}

/// The spans of a trace, which must be sound and complete.
fn found(trace: &Trace) -> HashMap<u64, Found> {
    common::assert_sound(trace);
    assert_eq!(common::lost(trace), 0);
    let (mut numbers, mut spans) = (HashMap::<SpanId, u64>::new(), HashMap::new());
    for event in common::events(trace) {
        match event.kind() {
            EventKind::SpanCreate { span, parent, .. } => {
                let n = common::number(&event, "n").expect("each span has its number");
                numbers.insert(span, n);
                let parent = parent.map(|parent| numbers[&parent]);
                spans.insert(n, Found { parent, began: event.time().0, ended: None });
            }
            EventKind::SpanClose { span } => {
                let n = numbers[&span];
                spans.get_mut(&n).expect("it was created").ended = Some(event.time().0);
            }
            _ => {}
        }
    }
    spans
}

/// A span as the judge knows it.
struct Judged {
    parent: Option<u64>,
    began: [u64; 2],
    ended: [u64; 2],
}

/// Whether there is a registry below.
fn is_registry(subscriber: &(dyn Subscriber + Send + Sync)) -> bool {
    subscriber.is::<tracing_subscriber::Registry>()
}

/// `nests` says that a span ends when its children have, as in a registry.
fn compare(trace: &Trace, judged: &mut HashMap<u64, Judged>, nests: bool) {
    let mut numbers: Vec<_> = judged.keys().copied().collect();
    numbers.sort_unstable();
    // Children have higher numbers than their parents.
    for n in numbers.into_iter().rev().filter(|_| nests) {
        let (parent, ended) = (judged[&n].parent, judged[&n].ended);
        if let Some(parent) = parent.and_then(|parent| judged.get_mut(&parent)) {
            parent.ended = parent.ended.max(ended);
        }
    }
    let judged = &*judged;
    let found = found(trace);
    assert_eq!(found.len(), judged.len());
    for (n, judged) in judged {
        let found = &found[n];
        assert_eq!(found.parent, judged.parent, "the parent of {n}");
        let ended = found.ended.expect("each has ended");
        // Two clocks, each read separately.
        let slack = 2_000 + (judged.ended[1] - judged.began[0]) / 500;
        let is_in =
            |time: u64, [before, after]: [u64; 2]| time + slack >= before && time <= after + slack;
        let agrees = is_in(found.began, judged.began) && is_in(ended, judged.ended);
        assert!(
            agrees,
            "{n}: {} to {ended}, not {:?} to {:?}",
            found.began, judged.began, judged.ended
        );
    }
}

/// Nanoseconds of the monotonic clock, like the times of events.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

const MOMENT: Duration = Duration::from_millis(15);

#[test]
fn a_span_ends_when_it_is_dropped() {
    alone("a_span_ends_when_it_is_dropped", || {
        both_ways(|subscriber| {
            let recorder = start();
            with_default(subscriber, || {
                let pause = || std::thread::sleep(MOMENT);
                let left = tracing::info_span!("left", n = 1_u64);
                drop(left.enter());
                pause();
                drop(left);
                let scoped = tracing::info_span!("scoped", n = 2_u64);
                scoped.in_scope(|| ());
                pause();
                drop(scoped);
                let exited = tracing::info_span!("exited", n = 3_u64).entered().exit();
                pause();
                drop(exited);
                let never = tracing::info_span!("never entered", n = 4_u64);
                pause();
                drop(never);
                let elsewhere = tracing::info_span!("elsewhere", n = 5_u64);
                drop(elsewhere.enter());
                std::thread::spawn(move || {
                    std::thread::sleep(MOMENT);
                    drop(elsewhere);
                })
                .join()
                .unwrap();
                // Instrumented, and dropped some time after it was done.
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let span = tracing::info_span!("instrumented", n = 6_u64);
                let mut future = Box::pin(async {}.instrument(span));
                runtime.block_on(future.as_mut());
                pause();
                drop(future);
                let kept = tracing::info_span!("kept", n = 7_u64);
                let also = kept.clone();
                drop(kept.enter());
                drop(kept);
                pause();
                drop(also);
            });
            for (n, span) in found(&common::stop(recorder)) {
                let took = Duration::from_nanos(span.ended.expect("it ended") - span.began);
                assert!(took >= MOMENT, "{n}: {took:?}");
            }
        });
    });
}

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// A program of one thread that makes, enters, exits and drops spans in any order.
struct Program {
    state: u64,
    live: Vec<(u64, Span, [u64; 2], Option<u64>)>,
    /// The spans that it has entered, by number.
    inside: Vec<u64>,
    judged: HashMap<u64, Judged>,
    made: u64,
    /// How often one span may be entered.
    entries: usize,
}

impl Program {
    fn span(&self, n: u64) -> &Span {
        &self.live.iter().find(|live| live.0 == n).expect("it lives").1
    }

    fn make(&mut self) {
        self.made += 1;
        let n = self.made;
        let before = now();
        let (span, parent) = match random(&mut self.state) % 4 {
            0 => (tracing::info_span!(parent: None, "root", n), None),
            1 if !self.live.is_empty() => {
                let of = random(&mut self.state) % self.live.len();
                let (parent, of, ..) = &self.live[of];
                (tracing::info_span!(parent: of, "child", n), Some(*parent))
            }
            _ => (tracing::info_span!("span", n), self.inside.last().copied()),
        };
        self.live.push((n, span, [before, now()], parent));
    }

    fn turn(&mut self) {
        match random(&mut self.state) % 8 {
            0..=1 => self.make(),
            2..=3 if !self.live.is_empty() => {
                let n = self.live[random(&mut self.state) % self.live.len()].0;
                if self.inside.iter().filter(|inside| **inside == n).count() < self.entries {
                    self.span(n).with_subscriber(|(id, dispatch)| dispatch.enter(id));
                    self.inside.push(n);
                }
            }
            4..=5 if !self.inside.is_empty() => {
                let from_top = random(&mut self.state) % self.inside.len().min(4);
                let n = self.inside[self.inside.len() - 1 - from_top];
                self.leave(n);
            }
            _ => {
                let at = random(&mut self.state) % self.live.len().max(1);
                if self.live.get(at).is_some_and(|live| !self.inside.contains(&live.0)) {
                    self.end(at);
                }
            }
        }
        let current = Span::current();
        let expected = self.inside.last().and_then(|n| self.span(*n).id());
        assert_eq!(current.id(), expected, "the current span");
    }

    fn leave(&mut self, n: u64) {
        self.span(n).with_subscriber(|(id, dispatch)| dispatch.exit(id));
        // If a span was entered twice, its last entry is exited.
        let at = self.inside.iter().rposition(|inside| *inside == n).expect("it is inside");
        self.inside.remove(at);
    }

    fn end(&mut self, at: usize) {
        let (n, span, began, parent) = self.live.swap_remove(at);
        let before = now();
        drop(span);
        self.judged.insert(n, Judged { parent, began, ended: [before, now()] });
    }

    fn finish(mut self) -> HashMap<u64, Judged> {
        while let Some(n) = self.inside.first().copied() {
            self.leave(n);
        }
        while !self.live.is_empty() {
            let at = random(&mut self.state) % self.live.len();
            self.end(at);
        }
        self.judged
    }
}

fn run(subscriber: Arc<dyn Subscriber + Send + Sync>, seed: u64, entries: usize, turns: usize) {
    let recorder = start();
    let nests = is_registry(&*subscriber);
    let mut judged = with_default(subscriber, || {
        let (live, inside, judged) = (Vec::new(), Vec::new(), HashMap::new());
        let mut program = Program { state: seed, live, inside, judged, made: 0, entries };
        for turn in 0..turns {
            program.turn();
            if turn % 700 == 699 {
                common::advance(&recorder);
            }
        }
        program.finish()
    });
    compare(&common::stop(recorder), &mut judged, nests);
}

#[test]
fn random_programs_of_spans_are_recorded_as_they_ran() {
    alone("random_programs_of_spans_are_recorded_as_they_ran", || {
        let seeds = if common::long() { 200 } else { 3 };
        for seed in 0..seeds {
            // A registry does not take a span that is entered again as the current one.
            both_ways(|subscriber| run(subscriber, seed, 1, 3000));
            run(Arc::new(lookback::tracing::subscriber()), seed, 3, 3000);
        }
    });
}

#[test]
fn ten_thousand_nested_spans_have_their_parents_and_each_is_the_current_one() {
    alone("ten_thousand_nested_spans_have_their_parents_and_each_is_the_current_one", || {
        for advances in [false, true] {
            both_ways(|subscriber| {
                let recorder = start();
                // A registry looks at everything that a thread has entered each time that it enters a span.
                let depth = if is_registry(&*subscriber) { 1000 } else { 10_000_u64 };
                with_default(subscriber, || {
                    let mut inside = Vec::new();
                    for n in 0..depth {
                        let span = tracing::info_span!("deep", n).entered();
                        assert_eq!(Span::current().id(), span.id());
                        inside.push(span);
                        if advances && n % 300 == 100 && n < 1000 {
                            common::advance(&recorder);
                        }
                        if n % 100 == 99 {
                            tracing::info!(n, "here");
                        }
                    }
                    while let Some(span) = inside.pop() {
                        assert_eq!(Span::current().id(), span.id());
                        drop(span);
                    }
                    assert!(Span::current().is_none());
                });
                let trace = common::stop(recorder);
                let spans = found(&trace);
                assert_eq!(spans.len() as u64, depth);
                for (n, span) in &spans {
                    assert_eq!(span.parent, n.checked_sub(1));
                    assert!(span.ended.is_some());
                }
                let mut numbers = HashMap::new();
                for event in common::events(&trace) {
                    match event.kind() {
                        EventKind::SpanCreate { span, .. } => {
                            numbers.insert(span, common::number(&event, "n"));
                        }
                        EventKind::Log { .. } => {
                            let of = event.span().expect("it is said inside of a span");
                            assert_eq!(numbers[&of], common::number(&event, "n"));
                        }
                        _ => {}
                    }
                }
            });
        }
    });
}

#[test]
fn ten_thousand_open_spans_have_their_parents_and_lengths() {
    alone("ten_thousand_open_spans_have_their_parents_and_lengths", || {
        both_ways(|subscriber| {
            let recorder = start();
            let nests = is_registry(&*subscriber);
            let mut judged = with_default(subscriber, || {
                let mut program = Program {
                    state: 11,
                    live: Vec::new(),
                    inside: Vec::new(),
                    judged: HashMap::new(),
                    made: 0,
                    entries: 1,
                };
                for _ in 0..10_000 {
                    program.make();
                }
                common::advance(&recorder);
                common::advance(&recorder);
                program.finish()
            });
            compare(&common::stop(recorder), &mut judged, nests);
        });
    });
}

#[test]
fn spans_beyond_what_a_thread_can_be_inside_of_are_counted_and_the_others_are_right() {
    alone(
        "spans_beyond_what_a_thread_can_be_inside_of_are_counted_and_the_others_are_right",
        || {
            let recorder = start();
            with_default(lookback::tracing::subscriber(), || {
                let mut inside: Vec<_> =
                    (0..16_384_u64).map(|n| tracing::info_span!("deep", n).entered()).collect();
                let beyond: Vec<_> =
                    (0..10_u64).map(|n| tracing::info_span!("beyond", n).entered()).collect();
                beyond.into_iter().rev().for_each(drop);
                assert_eq!(Span::current().id(), inside.last().unwrap().id());
                while let Some(span) = inside.pop() {
                    drop(span);
                }
            });
            let trace = common::stop(recorder);
            common::assert_sound(&trace);
            assert_eq!(common::lost(&trace), 10, "each entry that was not recorded");
            let parents = common::events(&trace).filter_map(|event| match event.kind() {
                EventKind::SpanCreate { site, parent, .. } if site.name == "beyond" => Some(parent),
                _ => None,
            });
            let parents: Vec<_> = parents.collect();
            // The first one's parent is known; the others' parent is not recorded.
            assert_eq!(parents.len(), 10);
            assert!(
                parents[0].is_some() && parents[1..].iter().all(Option::is_none),
                "{parents:?}"
            );
        },
    );
}

/// A layer that wants all spans, and does nothing.
struct Everything;

impl<S: Subscriber> tracing_subscriber::Layer<S> for Everything {}

#[test]
fn a_span_or_event_whose_parent_a_filter_hides_belongs_to_the_nearest_recorded_one() {
    let name = "a_span_or_event_whose_parent_a_filter_hides_belongs_to_the_nearest_recorded_one";
    alone(name, || {
        let layer = || lookback::tracing::layer();
        let per_layer = tracing_subscriber::registry()
            .with(layer().with_filter(LevelFilter::INFO))
            .with(Everything.with_filter(LevelFilter::TRACE));
        let boxed: Box<dyn tracing_subscriber::Layer<_> + Send + Sync> =
            layer().with_filter(LevelFilter::INFO).boxed();
        let boxed = tracing_subscriber::registry().with(boxed).with(Everything);
        let own = tracing_subscriber::registry()
            .with(layer().with_max_level(tracing::Level::INFO))
            .with(LevelFilter::TRACE);
        hidden_parents(per_layer);
        hidden_parents(boxed);
        hidden_parents(own);
    });
}

fn hidden_parents(subscriber: impl Subscriber + Send + Sync) {
    let recorder = start();
    with_default(subscriber, || {
        let outer = tracing::info_span!("outer", n = 1_u64);
        let hidden = tracing::debug_span!(parent: &outer, "hidden");
        let deeper = tracing::trace_span!(parent: &hidden, "deeper");
        let inner = tracing::info_span!(parent: &deeper, "inner", n = 2_u64);
        tracing::info!(parent: &deeper, "said");
        let alone = tracing::debug_span!(parent: None, "alone");
        let root = tracing::info_span!(parent: &alone, "root", n = 3_u64);
        // The thread has entered only the hidden one, and then both.
        let left = deeper.in_scope(|| tracing::info_span!("left", n = 4_u64));
        let entered =
            outer.in_scope(|| hidden.in_scope(|| tracing::info_span!("entered", n = 5_u64)));
        drop((outer, hidden, deeper, inner, alone, root, left, entered));
    });
    let trace = common::stop(recorder);
    let parents: Vec<_> = {
        let spans = found(&trace);
        (1..=5).map(|n| spans[&n].parent).collect()
    };
    assert_eq!(parents, [None, Some(1), None, Some(1), Some(1)]);
    let said = common::events(&trace)
        .find(|event| matches!(event.kind(), EventKind::Log { .. }))
        .expect("it was said");
    let outer = common::events(&trace).find_map(|event| match event.kind() {
        EventKind::SpanCreate { span, site, .. } if site.name == "outer" => Some(span),
        _ => None,
    });
    assert_eq!(said.span(), outer);
}

#[test]
fn what_names_a_span_that_is_over_is_sound() {
    alone("what_names_a_span_that_is_over_is_sound", || {
        for advances in [false, true] {
            let before = with_default(lookback::tracing::subscriber(), || {
                tracing::info_span!("before the start", n = 0_u64)
            });
            let recorder = start();
            with_default(lookback::tracing::subscriber(), || {
                let over = tracing::info_span!("over", n = 1_u64);
                let id = over.id();
                drop(over);
                if advances {
                    common::advance(&recorder);
                }
                let child = tracing::info_span!(parent: id.clone(), "child", n = 2_u64);
                tracing::info!(parent: id.clone(), "said of none");
                child.follows_from(id.clone());
                child.follows_from(before.id());
                child.follows_from(&before);
                let root = tracing::info_span!(parent: before.id(), "root", n = 3_u64);
                tracing::info!(parent: before.id(), "said of none");
                // A number that no span ever had.
                let nobody = tracing::span::Id::from_u64(77 << 32 | 12_345);
                child.follows_from(nobody.clone());
                let orphan = tracing::info_span!(parent: nobody.clone(), "orphan", n = 4_u64);
                tracing::info!(parent: nobody, "said of none");
                if advances {
                    common::advance(&recorder);
                }
                drop((child, root, orphan));
            });
            let trace = common::stop(recorder);
            let spans = found(&trace);
            let parents: Vec<_> = (1..=4).map(|n| spans[&n].parent).collect();
            assert_eq!(parents, [None, Some(1), None, None]);
            let mut follows = Vec::new();
            for event in common::events(&trace) {
                match event.kind() {
                    EventKind::SpanFollows { span, from } => follows.push((span, from)),
                    EventKind::Log { .. } => assert_eq!(event.span(), None),
                    _ => {}
                }
            }
            let ids: Vec<_> = common::events(&trace)
                .filter_map(|event| match event.kind() {
                    EventKind::SpanCreate { span, .. } => Some(span),
                    _ => None,
                })
                .collect();
            assert_eq!(follows, [(ids[1], ids[0])]);
        }
    });
}

#[test]
fn spans_that_are_named_while_others_close_them_do_no_harm() {
    alone("spans_that_are_named_while_others_close_them_do_no_harm", || {
        let recorder = common::start_with(8 << 20, Duration::ZERO);
        let dispatch = tracing::Dispatch::new(lookback::tracing::subscriber());
        let newest = std::sync::Mutex::new(None);
        let (is_over, all_are_there) = (AtomicBool::new(false), Barrier::new(3));
        let turns = if common::long() { 200_000 } else { 5_000 };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                all_are_there.wait();
                tracing::dispatcher::with_default(&dispatch, || {
                    for n in 0..turns {
                        let span = tracing::info_span!("short", n, text = "some text to keep");
                        *newest.lock().unwrap() = span.id();
                        drop(span.enter());
                    }
                });
                is_over.store(true, Ordering::Relaxed);
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    all_are_there.wait();
                    tracing::dispatcher::with_default(&dispatch, || {
                        while !is_over.load(Ordering::Relaxed) {
                            let Some(id) = newest.lock().unwrap().clone() else { continue };
                            let child = tracing::info_span!(parent: id.clone(), "child");
                            child.follows_from(id.clone());
                            tracing::info!(parent: id, "said of it, or of none");
                        }
                    });
                });
            }
        });
        let trace = common::stop(recorder);
        common::assert_sound(&trace);
    });
}
