//! Fields of spans and messages: fields without room are listed by name, in the event and in restatements;
//! restatements have the last value of each field.

mod common;

use common::alone;
use lookback::Recorder;
use lookback::read::{Event, EventKind, SpanStatus, Trace, Value};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::field::Empty;
use tracing::subscriber::with_default;
use tracing::{Subscriber, info, info_span};
use tracing_subscriber::layer::SubscriberExt;

fn start() -> Recorder {
    common::start_with(8 << 20, Duration::from_secs(3600))
}

/// Through the subscriber, then through the layer: what each records.
fn both_ways(start: impl Fn() -> Recorder, work: impl Fn(&Recorder), check: impl Fn(&Trace)) {
    let ways: [Arc<dyn Subscriber + Send + Sync>; 2] = [
        Arc::new(lookback::tracing::subscriber()),
        Arc::new(tracing_subscriber::registry().with(lookback::tracing::layer())),
    ];
    for subscriber in ways {
        let recorder = start();
        with_default(subscriber, || work(&recorder));
        check(&common::stop(recorder));
    }
}

fn message(trace: &Trace, wanted: &str) -> Event {
    let is_it = |event: &Event| match event.kind() {
        EventKind::Log { message, .. } => &*message == wanted,
        _ => false,
    };
    common::events(trace).find(is_it).expect("the message is there")
}

/// The given fields, after the level and the message.
fn given(event: &Event) -> Vec<(String, String)> {
    let fields = event.fields().skip(2);
    fields.map(|(name, value)| (name.to_owned(), format!("{value:?}"))).collect()
}

/// How the last generation that has the span restates it.
fn restated<T>(trace: &Trace, name: &str, told: impl Fn(&SpanStatus<'_>) -> T) -> T {
    let generations = trace.generations().iter().rev();
    let decoded = generations.map(|info| trace.generation(info.number).expect("it is whole"));
    decoded
        .filter_map(|generation| {
            generation.spans().find(|span| span.site.name == name).map(|span| told(&span))
        })
        .next()
        .expect("a generation restates it")
}

fn in_words(span: &SpanStatus<'_>) -> BTreeMap<String, String> {
    span.fields()
        .map(|(name, value)| match value {
            Value::Text(text) if text.cut => (name.to_owned(), format!("{value}…")),
            value => (name.to_owned(), value.to_string()),
        })
        .collect()
}

#[test]
fn what_there_is_no_room_for_is_told_by_name() {
    alone("what_there_is_no_room_for_is_told_by_name", || {
        let long = "x".repeat(700);
        let work = |recorder: &Recorder| {
            let t = long.as_str();
            let before = recorder.stats().omitted_fields;
            info!(a = t, b = t, c = t, d = t, e = t, f = 7, g = t, "much");
            info!(a = t, b = t, "enough");
            assert_eq!(recorder.stats().omitted_fields - before, 3, "d, e, g");
            let _span =
                info_span!("wide", a = t, b = t, c = t, d = t, e = t, f = 7, g = t).entered();
        };
        both_ways(start, work, |trace| {
            for event in common::events(trace) {
                let much = match event.kind() {
                    EventKind::Log { message, .. } => &*message == "much",
                    EventKind::SpanCreate { .. } => true,
                    _ => continue,
                };
                let omitted: Vec<_> = event.omitted_fields().collect();
                if !much {
                    assert_eq!(omitted, [""; 0]);
                    continue;
                }
                assert_eq!(omitted, ["d", "e", "g"]);
                let own = if matches!(event.kind(), EventKind::Log { .. }) { 2 } else { 0 };
                let names: Vec<_> = event.fields().skip(own).map(|(name, _)| name).collect();
                assert_eq!(names, ["a", "b", "c", "f"]);
                assert_eq!(common::text(&event, "a"), Some((long.clone(), false)));
                let (c, is_cut) = common::text(&event, "c").expect("it is there");
                assert!(is_cut && c.len() >= 16 && long.starts_with(&c), "{} bytes", c.len());
            }
        });
    });
}

#[test]
fn fields_whose_names_have_no_room_are_counted() {
    alone("fields_whose_names_have_no_room_are_counted", || {
        let work = |_: &Recorder| {
            info!(
                f0 = 0,
                f1 = 0,
                f2 = 0,
                f3 = 0,
                f4 = 0,
                f5 = 0,
                f6 = 0,
                f7 = 0,
                f8 = 0,
                f9 = 0,
                g0 = 0,
                g1 = 0,
                g2 = 0,
                g3 = 0,
                g4 = 0,
                g5 = 0,
                g6 = 0,
                g7 = 0,
                g8 = 0,
                g9 = 0,
                h0 = 0,
                h1 = 0,
                h2 = 0,
                h3 = 0,
                h4 = 0,
                h5 = 0,
                h6 = 0,
                h7 = 0,
                h8 = 0,
                h9 = 0,
                i0 = 0,
                i1 = 0,
                "many"
            );
        };
        let narrow =
            || Recorder::builder().max_bytes(4 << 20).max_fields(30).start().expect("it starts");
        both_ways(start, work, |trace| {
            let event = message(trace, "many");
            assert_eq!((given(&event).len(), event.omitted_fields().count()), (32, 0));
        });
        both_ways(narrow, work, |trace| {
            let event = message(trace, "many");
            assert_eq!(given(&event).len(), 30);
            assert_eq!(event.omitted_fields().collect::<Vec<_>>(), ["i0", "i1"]);
        });
    });
}

/// A definition has 1,856 bytes for the names of fields, of which a long name takes 58 and `message` 9.
/// Fields beyond that could not be identified.
#[test]
fn fields_that_a_definition_cannot_name_are_counted() {
    alone("fields_that_a_definition_cannot_name_are_counted", || {
        let work = |recorder: &Recorder| {
            // The thread's first event: the block that is opened for it has no room for the definition, and
            // stays empty. It does not count as missing.
            let before = recorder.stats().omitted_fields;
            info!(
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_00 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_01 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_02 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_03 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_04 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_05 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_06 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_07 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_08 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_09 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_10 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_11 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_12 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_13 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_14 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_15 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_16 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_17 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_18 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_19 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_20 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_21 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_22 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_23 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_24 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_25 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_26 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_27 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_28 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_29 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_30 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_31 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_32 = 0,
                a_name_that_is_as_long_as_a_definition_has_room_for_and_more_33 = 0,
                "named"
            );
            assert_eq!(recorder.stats().omitted_fields - before, 3);
        };
        both_ways(start, work, |trace| {
            let event = message(trace, "named");
            assert_eq!((given(&event).len(), event.omitted_fields().count()), (31, 3));
        });
    });
}

#[test]
fn limits_are_those_that_were_set() {
    alone("limits_are_those_that_were_set", || {
        let narrow = || {
            let builder = Recorder::builder().max_bytes(4 << 20);
            let builder = builder.generation_period(Duration::from_secs(5));
            builder.max_text_bytes(20).max_kept_field_bytes(24).start().expect("it starts")
        };
        let work = |recorder: &Recorder| {
            let text = "0123456789".repeat(5);
            info!(text, "0123456789 0123456789 0123456789");
            lookback::event!("typed", text = text, short = "s");
            lookback::log!("plain", "{text}");
            let span = info_span!("kept", first = text, second = text, third = text);
            common::advance(recorder);
            common::advance(recorder);
            span.in_scope(|| ());
        };
        both_ways(narrow, work, |trace| {
            let event = message(trace, "0123456789 012345678");
            assert_eq!(common::text(&event, "text"), Some(("01234567890123456789".into(), true)));
            let typed = common::events(trace).find(|e| e.name() == "typed").expect("it is there");
            assert_eq!(common::text(&typed, "text"), Some(("01234567890123456789".into(), true)));
            assert_eq!(common::text(&typed, "short"), Some(("s".into(), false)));
            let kept = restated(trace, "kept", |span| {
                let omitted: Vec<_> = span.omitted_fields().map(str::to_owned).collect();
                (in_words(span), omitted, span.is_part())
            });
            let first = BTreeMap::from([
                ("first".to_owned(), "01234567…".to_owned()),
                ("second".to_owned(), "01234567…".to_owned()),
            ]);
            assert_eq!(kept, (first, vec!["third".to_owned()], true));
        });
    });
}

#[test]
fn the_last_value_of_each_field_is_restated() {
    alone("the_last_value_of_each_field_is_restated", || {
        let path = "/".repeat(150);
        let work = |recorder: &Recorder| {
            let span =
                info_span!("late", path = path, attempt = Empty, status = Empty, host = Empty);
            span.record("status", 0);
            for attempt in 0..1000 {
                span.record("attempt", attempt);
            }
            span.record("status", 503);
            span.record("host", "db-7");
            common::advance(recorder);
            span.in_scope(|| info!("inside"));
            common::advance(recorder);
            common::advance(recorder);
            span.in_scope(|| info!("inside"));
        };
        both_ways(start, work, |trace| {
            let expected = [
                ("attempt", "999".to_owned()),
                ("host", "db-7".to_owned()),
                ("path", path.clone()),
                ("status", "503".to_owned()),
            ];
            let expected: BTreeMap<_, _> =
                expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let found = restated(trace, "late", |span| (in_words(span), span.is_part()));
            assert_eq!(found, (expected, false));
        });
    });
}

#[test]
fn what_is_not_restated_is_told_by_name_and_later_values_are_still_taken() {
    alone("what_is_not_restated_is_told_by_name_and_later_values_are_still_taken", || {
        let long = "y".repeat(600);
        let work = |recorder: &Recorder| {
            let span = info_span!("full", a = long, b = long, status = Empty);
            span.record("status", 200);
            span.record("b", "short");
            common::advance(recorder);
            common::advance(recorder);
            span.in_scope(|| ());
        };
        both_ways(start, work, |trace| {
            let (fields, part) = restated(trace, "full", |span| (in_words(span), span.is_part()));
            assert!(part, "a is cut");
            let a = fields["a"].strip_suffix('…').expect("it is marked");
            assert!(long.starts_with(a) && a.len() >= 8);
            assert_eq!((&*fields["b"], &*fields["status"]), ("short", "200"));
        });
    });
}

#[test]
fn values_are_whole_while_many_threads_record_them() {
    alone("values_are_whole_while_many_threads_record_them", || {
        let rounds = if common::long() { 3000 } else { 20 };
        let recorder = common::start_with(8 << 20, Duration::from_secs(3600));
        let over = AtomicBool::new(false);
        with_default(lookback::tracing::subscriber(), || {
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let span = info_span!("shared", a = Empty, b = Empty, c = Empty);
            std::thread::scope(|scope| {
                for letter in ['p', 'q'] {
                    let (span, over, dispatch) = (&span, &over, &dispatch);
                    scope.spawn(move || {
                        tracing::dispatcher::with_default(dispatch, || {
                            let mut length = 0;
                            while !over.load(Ordering::Relaxed) {
                                length = (length + 7) % 90;
                                let text = letter.to_string().repeat(length + 1);
                                for field in ["a", "b", "c"] {
                                    span.record(field, &*text);
                                }
                            }
                        });
                    });
                }
                for _ in 0..rounds {
                    recorder.advance();
                    span.in_scope(|| ());
                }
                over.store(true, Ordering::Relaxed);
            });
        });
        let trace = common::stop(recorder);
        let mut checked = 0;
        for info in trace.generations() {
            let generation = trace.generation(info.number).expect("it is whole");
            for span in generation.spans() {
                for (name, value) in span.fields() {
                    let Value::Text(text) = value else { panic!("{name} is {value:?}") };
                    let first = text.chars().next().expect("it is not empty");
                    assert!(['p', 'q'].contains(&first), "{name}={value}");
                    assert!(text.chars().all(|letter| letter == first), "{name}={value}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 0, "something is restated");
    });
}

#[derive(Debug)]
struct Failure(&'static str, Option<Box<Failure>>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}

#[test]
fn fields_are_what_an_engineer_expects() {
    alone("fields_are_what_an_engineer_expects", || {
        let work = |_: &Recorder| {
            let error = Failure("no answer", Some(Box::new(Failure("connection refused", None))));
            info!(
                error = &error as &dyn Error,
                r#type = "t",
                big = u128::MAX,
                small = i128::MIN,
                bytes = &[1_u8, 255][..],
                there = Some(1.5),
                not_there = None::<u64>,
                level = 3,
                message_id = 7,
                twice = 1,
                twice = 2,
                shown = %error,
                "told"
            );
        };
        both_ways(start, work, |trace| {
            let text = |text: &str| format!("{:?}", text_of(text));
            let expected = [
                ("error", format!("Error({:?})", raw("no answer: connection refused"))),
                ("type", text("t")),
                ("big", format!("{:?}", Value::Wide(u128::MAX))),
                ("small", format!("{:?}", Value::WideSigned(i128::MIN))),
                ("bytes", text("[01 ff]")),
                ("there", format!("{:?}", Value::Float(1.5))),
                ("level", format!("{:?}", Value::Signed(3))),
                ("message_id", format!("{:?}", Value::Signed(7))),
                ("twice", format!("{:?}", Value::Signed(1))),
                ("twice", format!("{:?}", Value::Signed(2))),
                ("shown", text("no answer")),
            ];
            let expected = expected.map(|(name, value)| (name.to_owned(), value));
            assert_eq!(given(&message(trace, "told")), expected);
        });
    });
}

fn raw(text: &str) -> lookback::read::Text<'_> {
    lookback::read::Text { text, cut: false }
}

fn text_of(text: &str) -> Value<'_> {
    Value::Text(raw(text))
}

#[test]
fn a_span_is_called_as_its_otel_name_says() {
    alone("a_span_is_called_as_its_otel_name_says", || {
        let work = |recorder: &Recorder| {
            let early = info_span!("request", otel.name = "GET /cart", path = "/cart");
            let late = info_span!("request", otel.name = Empty);
            let never = info_span!("request", otel.name = Empty, path = "/");
            early.in_scope(|| ());
            late.in_scope(|| ());
            late.record("otel.name", "POST /pay");
            late.in_scope(|| ());
            common::advance(recorder);
            common::advance(recorder);
            for span in [&early, &late, &never] {
                span.in_scope(|| ());
            }
        };
        both_ways(start, work, |trace| {
            let spans = common::events(trace).filter(|event| event.kind_name().starts_with("span"));
            let mut told = Vec::new();
            for event in spans {
                assert!(event.callsite_name().is_none_or(|callsite| callsite == "request"));
                assert_eq!(event.callsite_name().is_none(), event.name() == "request");
                told.push(format!("{} {}", &event.kind_name()[5..], event.name()));
            }
            // The order in which they close does not matter here.
            let last = told.len() - 3;
            told[last..].sort_unstable();
            let expected = [
                "create GET /cart",
                "create request",
                "create request",
                "enter GET /cart",
                "exit GET /cart",
                "enter request",
                "exit request",
                "record POST /pay",
                "enter POST /pay",
                "exit POST /pay",
                "enter GET /cart",
                "exit GET /cart",
                "enter POST /pay",
                "exit POST /pay",
                "enter request",
                "exit request",
                "close GET /cart",
                "close POST /pay",
                "close request",
            ];
            assert_eq!(told, expected);
            let generation = trace.generation(trace.generations()[1].number).expect("it is whole");
            let mut names: Vec<_> =
                generation.spans().map(|span| span.site.name.to_owned()).collect();
            names.sort_unstable();
            assert_eq!(names, ["GET /cart", "POST /pay", "request"]);
        });
    });
}
