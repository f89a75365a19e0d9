//! `tracing` in the trace: through the subscriber without a registry, and through the layer of a registry.
//! Both record the same.

mod common;

use common::alone;
use lookback::Recorder;
use lookback::read::{Event, EventKind, SpanId, Trace, Value};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::with_default;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt;

fn start() -> Recorder {
    common::start_with(8 << 20, Duration::from_secs(3600))
}

/// Through the subscriber, then through the layer.
fn both_ways(check: impl Fn(Arc<dyn Subscriber + Send + Sync>)) {
    let level = LevelFilter::TRACE;
    check(Arc::new(lookback::tracing::subscriber().with_max_level(level)));
    let layer = lookback::tracing::layer().with_max_level(level);
    check(Arc::new(tracing_subscriber::registry().with(layer)));
}

/// Records what `work` does, and returns the trace.
fn record(subscriber: Arc<dyn Subscriber + Send + Sync>, work: impl FnOnce(&Recorder)) -> Trace {
    let recorder = start();
    with_default(subscriber, || work(&recorder));
    common::stop(recorder)
}

/// The events of spans and logs, in words.
fn words(trace: &Trace) -> Vec<String> {
    let mut names: HashMap<SpanId, String> = HashMap::new();
    let mut said = Vec::new();
    for event in common::events(trace) {
        let named = |span: SpanId, names: &HashMap<SpanId, String>| {
            names.get(&span).cloned().unwrap_or_else(|| "?".to_owned())
        };
        let line = match event.kind() {
            EventKind::SpanCreate { span, site, parent } => {
                names.insert(span, site.name.to_owned());
                match parent {
                    Some(parent) => format!("create {} in {}", site.name, named(parent, &names)),
                    None => format!("create {}", site.name),
                }
            }
            EventKind::SpanEnter { span } => format!("enter {}", named(span, &names)),
            EventKind::SpanExit { span } => format!("exit {}", named(span, &names)),
            EventKind::SpanClose { span } => format!("close {}", named(span, &names)),
            EventKind::SpanRecord { span } => format!("record {}", named(span, &names)),
            EventKind::SpanFollows { span, from } => {
                format!("{} follows {}", named(span, &names), named(from, &names))
            }
            EventKind::Log { level, message, .. } => {
                let span = event.span().map(|span| format!(" in {}", named(span, &names)));
                format!("{level} {}{}", &*message, span.unwrap_or_default())
            }
            _ => continue,
        };
        said.push(format!("{line}{}", fields(&event)));
    }
    said
}

/// The fields of a span or a log, without the log's own.
fn fields(event: &Event) -> String {
    let own = ["level", "message"];
    let fields = event.fields().filter(|(name, _)| !own.contains(name));
    let fields: Vec<_> = fields
        .filter(|(name, _)| !["span", "parent", "from"].contains(name))
        .map(|(name, value)| {
            let kind = match value {
                Value::Unsigned(_) => "u",
                Value::Signed(_) => "i",
                Value::Float(_) => "f",
                Value::Bool(_) => "b",
                _ => "",
            };
            format!(" {name}={value}{kind}")
        })
        .collect();
    fields.concat()
}

#[derive(Debug)]
struct Failure;

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no more of it")
    }
}

impl std::error::Error for Failure {}

fn a_bit_of_everything(_: &Recorder) {
    let request = tracing::info_span!(
        "request",
        id = 7_u64,
        delta = -3_i64,
        share = 0.5,
        full = true,
        path = "/items",
        size = tracing::field::Empty
    );
    {
        let _entered = request.enter();
        tracing::warn!(status = 200, "served {}", "well");
        let child = tracing::debug_span!("query", table = %"orders", debug = ?Some(1));
        child.in_scope(|| tracing::trace!("inside"));
        drop(child);
        request.record("size", 4096);
    }
    let other = tracing::info_span!(parent: None, "other");
    other.follows_from(&request);
    let explicit = tracing::info_span!(parent: &request, "explicit");
    tracing::error!(parent: &explicit, error = &Failure as &dyn std::error::Error, "failed");
    drop((explicit, request, other));
}

#[test]
fn spans_and_events_are_told_with_their_fields_both_ways() {
    alone("spans_and_events_are_told_with_their_fields_both_ways", || {
        both_ways(|subscriber| {
            let trace = record(subscriber, a_bit_of_everything);
            let expected = [
                "create request id=7u delta=-3i share=0.5f full=trueb path=/items",
                "enter request",
                "warn served well in request status=200i",
                "create query in request table=orders debug=Some(1)",
                "enter query",
                "trace inside in query",
                "exit query",
                "close query",
                "record request size=4096i",
                "exit request",
                "create other",
                "other follows request",
                "create explicit in request",
                "error failed in explicit error=no more of it",
                "close explicit",
                "close request",
                "close other",
            ];
            assert_eq!(words(&trace), expected);
            let sites: Vec<_> = common::events(&trace)
                .filter_map(|event| match event.kind() {
                    EventKind::SpanCreate { site, .. } => Some((site.file.to_owned(), site.line)),
                    _ => None,
                })
                .collect();
            assert!(sites.iter().all(|(file, line)| file.ends_with("spans.rs") && *line > 0));
        });
    });
}

#[test]
fn secrets_are_not_recorded_unless_asked_for() {
    alone("secrets_are_not_recorded_unless_asked_for", || {
        let log_in = |_: &Recorder| {
            let span =
                tracing::info_span!("login", user = "ann", password = "hunter2", email = "a@b");
            let _entered = span.enter();
            tracing::info!(auth_token = "abc", api_key = 17, "logged in");
        };
        let trace = record(Arc::new(lookback::tracing::subscriber()), log_in);
        let expected = [
            "create login user=ann password=[redacted] email=a@b",
            "enter login",
            "info logged in in login auth_token=[redacted] api_key=[redacted]",
            "exit login",
            "close login",
        ];
        assert_eq!(words(&trace), expected);
        let layer = lookback::tracing::layer().redact(["EMAIL"]);
        let trace = record(Arc::new(tracing_subscriber::registry().with(layer)), log_in);
        assert_eq!(words(&trace)[0], "create login user=ann password=[redacted] email=[redacted]");
        let all = lookback::tracing::subscriber().reveal_secrets();
        let trace = record(Arc::new(all), log_in);
        assert_eq!(words(&trace)[0], "create login user=ann password=hunter2 email=a@b");
        assert_eq!(words(&trace)[2], "info logged in in login auth_token=abc api_key=17i");
    });
}

#[test]
fn levels_and_filters_choose_what_is_recorded() {
    alone("levels_and_filters_choose_what_is_recorded", || {
        let work = |_: &Recorder| {
            let outer = tracing::info_span!("outer").entered();
            let fine = tracing::debug_span!("fine").entered();
            let inner = tracing::info_span!("inner").entered();
            tracing::info!("kept");
            tracing::debug!("left out");
            drop((inner, fine, outer));
        };
        let expected = [
            "create outer",
            "enter outer",
            "create inner in outer",
            "enter inner",
            "info kept in inner",
            "exit inner",
            "close inner",
            "exit outer",
            "close outer",
        ];
        let subscriber = lookback::tracing::subscriber().with_max_level(LevelFilter::INFO);
        assert_eq!(words(&record(Arc::new(subscriber), work)), expected);
        let layer = lookback::tracing::layer().with_max_level(tracing::Level::INFO);
        let registry = tracing_subscriber::registry().with(layer);
        assert_eq!(words(&record(Arc::new(registry), work)), expected);
        // The layer has its own filter; another layer sees everything.
        let filtered = lookback::tracing::layer().with_filter(LevelFilter::INFO);
        let registry = tracing_subscriber::registry().with(filtered).with(LevelFilter::TRACE);
        assert_eq!(words(&record(Arc::new(registry), work)), expected);
    });
}

#[test]
fn records_of_log_are_logs_of_their_target() {
    alone("records_of_log_are_logs_of_their_target", || {
        lookback::tracing::record_log().unwrap();
        let recorder = start();
        tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
        let span = tracing::info_span!("request").entered();
        let line = line!() + 1;
        log::warn!(target: "old::library", "number {}", 17);
        log::info!("of this place");
        drop(span);
        let trace = common::stop(recorder);
        let logs: Vec<_> = common::events(&trace)
            .filter_map(|event| match event.kind() {
                EventKind::Log { level, message, .. } => {
                    Some(format!("{level} {}: {}{}", event.name(), &*message, fields(&event)))
                }
                _ => None,
            })
            .collect();
        assert_eq!(logs, ["warn old::library: number 17", "info spans: of this place"]);
        // In the order in which they are written in this file.
        let places: Vec<_> = common::events(&trace)
            .filter_map(|event| match event.kind() {
                EventKind::Log { site, .. } => Some((site.file.to_owned(), site.line)),
                _ => None,
            })
            .collect();
        assert_eq!(places, [(file!().to_owned(), line), (file!().to_owned(), line + 1)]);
    });
}

#[test]
fn spans_that_are_used_on_many_threads_do_no_harm() {
    alone("spans_that_are_used_on_many_threads_do_no_harm", || {
        both_ways(|subscriber| {
            let recorder = common::start_with(8 << 20, Duration::ZERO);
            let dispatch = tracing::Dispatch::new(subscriber);
            let shared = tracing::dispatcher::with_default(&dispatch, || {
                tracing::info_span!("shared", order = 1, late = tracing::field::Empty)
            });
            std::thread::scope(|scope| {
                for number in 0..4_u64 {
                    let (shared, dispatch) = (shared.clone(), &dispatch);
                    scope.spawn(move || {
                        tracing::dispatcher::with_default(dispatch, || {
                            for turn in 0..3000 {
                                let entered = shared.enter();
                                let child = tracing::info_span!("child", number, turn).entered();
                                tracing::info!(turn, "working");
                                if turn % 100 == 0 {
                                    shared.record("late", turn);
                                }
                                // Exited in another order than entered.
                                drop(entered);
                                drop(child);
                            }
                        });
                    });
                }
                for _ in 0..5 {
                    let trace = common::read(&recorder.snapshot().unwrap());
                    common::assert_sound(&trace);
                }
            });
            drop(shared);
            common::stop(recorder);
        });
    });
}

#[test]
fn a_span_can_be_moved_between_threads_and_outlive_the_recording() {
    alone("a_span_can_be_moved_between_threads_and_outlive_the_recording", || {
        tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
        // Created while nothing is recorded: it is never recorded.
        let before = tracing::info_span!("before");
        assert!(before.is_none() || before.id().is_some());
        let recorder = start();
        let _entered = before.enter();
        let moved = tracing::info_span!("moved");
        std::thread::spawn(move || moved.in_scope(|| tracing::info!("elsewhere"))).join().unwrap();
        let outlives = tracing::info_span!("outlives").entered();
        let deep: Vec<_> = (0..100).map(|_| tracing::info_span!("deep").entered()).collect();
        common::advance(&recorder);
        tracing::info!("deep inside");
        common::advance(&recorder);
        deep.into_iter().rev().for_each(drop);
        common::stop(recorder);
        tracing::info!("nobody hears this");
        let recorder = start();
        tracing::info!("in a span from the last recording");
        drop(outlives);
        let trace = common::stop(recorder);
        let said = words(&trace);
        assert!(said.iter().any(|line| line.starts_with("info in a span from")), "{said:?}");
    });
}

#[test]
fn the_current_span_is_known() {
    alone("the_current_span_is_known", || {
        let recorder = start();
        with_default(lookback::tracing::subscriber(), || {
            assert!(tracing::Span::current().is_none());
            let outer = tracing::info_span!("outer", id = 1);
            let _entered = outer.enter();
            let current = tracing::Span::current();
            assert_eq!(current.id(), outer.id());
            assert_eq!(current.metadata().unwrap().name(), "outer");
            {
                let inner = tracing::info_span!("inner");
                let _entered = inner.enter();
                assert_eq!(tracing::Span::current().id(), inner.id());
            }
            assert_eq!(tracing::Span::current().id(), outer.id());
        });
        common::stop(recorder);
    });
}

#[test]
fn spans_with_long_fields_are_all_listed_where_the_arena_has_room() {
    common::alone("spans_with_long_fields_are_all_listed_where_the_arena_has_room", || {
        const SPANS: usize = 400;
        let recorder = common::start_with(32 << 20, std::time::Duration::from_secs(3600));
        let text = "x".repeat(180);
        let spans: Vec<_> =
            tracing::subscriber::with_default(lookback::tracing::subscriber(), || {
                let spans = (0..SPANS)
                    .map(|n| tracing::info_span!("open for long", n, text = text.as_str()));
                let spans = spans.collect();
                // Something happens in the second generation, but no record names a span.
                for _ in 0..3 {
                    common::advance(&recorder);
                    lookback::event!("something");
                }
                spans
            });
        let snapshot = recorder.snapshot().unwrap();
        let trace = common::read(&snapshot);
        common::assert_sound(&trace);
        let mut silent = 0;
        for info in trace.generations() {
            let decoded = trace.generation(info.number).unwrap();
            assert_eq!(decoded.info().omitted, 0, "generation {}", info.number.0);
            let listed = decoded.spans().filter(|span| span.fields().count() == 2).count();
            silent += usize::from(info.complete && listed == SPANS);
        }
        assert!(silent >= 2, "each span is restated with its fields in {silent} generations");
        drop(spans);
    });
}

#[test]
fn spans_that_are_open_when_the_layer_is_replaced_end_when_they_end() {
    alone("spans_that_are_open_when_the_layer_is_replaced_end_when_they_end", || {
        let layer = || lookback::tracing::layer().with_max_level(LevelFilter::TRACE);
        let (reloaded, handle) = tracing_subscriber::reload::Layer::new(Some(layer()));
        let registry = tracing_subscriber::registry().with(reloaded);
        let trace = record(Arc::new(registry), |_| {
            let outer = tracing::info_span!("outer", late = tracing::field::Empty);
            let entered = tracing::info_span!("entered").entered();
            // Another registry uses the same span ids: nothing of it is in a span of this one.
            let other = tracing_subscriber::registry().with(layer());
            with_default(other, || {
                drop(tracing::info_span!("elsewhere").entered());
                std::mem::forget(tracing::info_span!("forgotten"));
            });
            for _ in 0..3 {
                handle.reload(Some(layer())).unwrap();
                tracing::info!("of the new one");
            }
            drop(entered);
            outer.record("late", 1);
            outer.in_scope(|| drop(tracing::info_span!("inner").entered()));
            // A span that ends while there is no layer ends when there is one again.
            let unseen = tracing::info_span!("unseen");
            handle.reload(None::<lookback::tracing::Layer>).unwrap();
            drop(unseen);
            handle.reload(Some(layer())).unwrap();
            drop(outer);
        });
        let expected = [
            "create outer",
            "create entered",
            "enter entered",
            "create elsewhere",
            "enter elsewhere",
            "exit elsewhere",
            "close elsewhere",
            "create forgotten",
            "info of the new one in entered",
            "info of the new one in entered",
            "info of the new one in entered",
            "exit entered",
            "close entered",
            "record outer late=1i",
            "enter outer",
            "create inner in outer",
            "enter inner",
            "exit inner",
            "close inner",
            "exit outer",
            "create unseen",
            "close unseen",
            "close outer",
        ];
        assert_eq!(words(&trace), expected);
    });
}
