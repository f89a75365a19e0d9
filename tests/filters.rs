//! Exactly what was requested of `tracing` and the `log` crate is recorded: INFO and above unless configured
//! otherwise, by level and by target, in code, by the environment, and at run time. Snapshots show the
//! filter.

mod common;

use common::alone;
use lookback::read::wire::key;
use lookback::read::{EventKind, Trace};
use lookback::{Filter, Recorder};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tracing::Subscriber;
use tracing::subscriber::with_default;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

type Shared = Arc<dyn Subscriber + Send + Sync>;

fn ways() -> [Shared; 2] {
    let layer = tracing_subscriber::registry().with(lookback::tracing::layer());
    [Arc::new(lookback::tracing::subscriber()), Arc::new(layer)]
}

fn builder() -> lookback::Builder {
    Recorder::builder().max_bytes(4 << 20).generation_period(Duration::from_secs(5))
}

/// A message of each level, of two targets, through both crates; spans of three levels.
fn everything() {
    let _outer = tracing::info_span!("info").entered();
    let _middle = tracing::debug_span!("debug").entered();
    let _inner = tracing::trace_span!(target: "shop::db", "trace").entered();
    tracing::error!("error");
    tracing::warn!("warn");
    tracing::info!("info");
    tracing::debug!("debug");
    tracing::trace!("trace");
    tracing::trace!(target: "shop::db", "db trace");
    tracing::warn!(target: "hyper::client", "hyper warn");
    tracing::info!(target: "hyper::client", "hyper info");
    log::debug!(target: "shop::old", "old debug");
    log::warn!(target: "other", "other warn");
    log::debug!(target: "other", "other debug");
}

/// The names of spans and the messages of a trace.
fn said(trace: &Trace) -> Vec<String> {
    let events = common::events(trace);
    let said = events.filter_map(|event| match event.kind() {
        EventKind::SpanCreate { site, .. } => Some(format!("span {}", site.name)),
        EventKind::Log { message, .. } => Some(message.to_string()),
        _ => None,
    });
    said.collect()
}

fn record(builder: lookback::Builder, subscriber: Shared) -> Trace {
    let recorder = builder.start().unwrap();
    with_default(subscriber, everything);
    common::stop(recorder)
}

const BY_DEFAULT: &[&str] =
    &["span info", "error", "warn", "info", "hyper warn", "hyper info", "other warn"];
const CHOSEN: &str = "warn,shop=trace,hyper=error,filters=info";
const OF_CHOSEN: &[&str] =
    &["span info", "span trace", "error", "warn", "info", "db trace", "old debug", "other warn"];

#[test]
fn info_and_above_is_recorded_unless_more_is_asked_for() {
    alone("info_and_above_is_recorded_unless_more_is_asked_for", || {
        lookback::tracing::record_log().unwrap();
        for subscriber in ways() {
            let trace = record(builder(), subscriber);
            assert_eq!(said(&trace), BY_DEFAULT);
            let filters: Vec<_> = trace.metadata().texts(key::FILTER).collect();
            assert_eq!(filters, ["info"]);
        }
        let filter = || CHOSEN.parse::<Filter>().unwrap();
        let subscriber = lookback::tracing::subscriber().with_targets(filter());
        assert_eq!(said(&record(builder(), Arc::new(subscriber))), OF_CHOSEN);
        let layer = lookback::tracing::layer().with_targets(filter());
        let registry = tracing_subscriber::registry().with(layer);
        assert_eq!(said(&record(builder(), Arc::new(registry))), OF_CHOSEN);
        // A filter of `tracing-subscriber`, for a layer that accepts everything.
        let all = lookback::tracing::layer().with_max_level(tracing::Level::TRACE);
        let filtered = all.with_filter(CHOSEN.parse::<Targets>().unwrap());
        let registry = tracing_subscriber::registry().with(filtered);
        assert_eq!(said(&record(builder(), Arc::new(registry))), OF_CHOSEN);
        // The recorder's filter takes precedence over both.
        for subscriber in ways() {
            let trace = record(builder().filter(filter()), subscriber);
            assert_eq!(said(&trace), OF_CHOSEN);
            let filters: Vec<_> = trace.metadata().texts(key::FILTER).collect();
            assert_eq!(filters, ["warn,shop=trace,hyper=error,filters=info"]);
        }
        for subscriber in ways() {
            assert_eq!(said(&record(builder(), subscriber)), BY_DEFAULT, "that one is over");
        }
    });
}

#[test]
fn the_filter_changes_while_it_runs() {
    alone("the_filter_changes_while_it_runs", || {
        for subscriber in ways() {
            let recorder = builder().start().unwrap();
            let step = |filter: Option<&str>| {
                lookback::set_filter(filter.map(|text| text.parse::<Filter>().unwrap())).unwrap();
                // The same callsites every time: they must forget their cached interest.
                tracing::info!("info");
                tracing::debug!("debug");
                tracing::trace!(target: "shop", "shop");
            };
            with_default(subscriber, || {
                let open = tracing::info_span!("open");
                let by_target =
                    [Some("error,shop=trace"), Some("debug,shop=off"), Some("off,shop=info")];
                for filter in [None, Some("off"), Some("debug")].into_iter().chain(by_target) {
                    step(filter);
                }
                step(None);
                lookback::set_filter("off".parse::<Filter>().unwrap()).unwrap();
                drop(open);
            });
            let filters = recorder.stats().filters;
            assert_eq!(filters, ["off"]);
            let trace = common::stop(recorder);
            let expected = ["span open", "info", "info", "debug", "shop", "info", "debug", "info"];
            assert_eq!(said(&trace), expected);
            let closed = common::events(&trace)
                .filter(|event| matches!(event.kind(), EventKind::SpanClose { .. }));
            assert_eq!(closed.count(), 1, "what is open ends, whatever is recorded by then");
        }
        assert!(lookback::set_filter(None).is_err(), "nothing is recorded any more");
    });
}

#[test]
fn threads_that_record_while_the_filter_changes_go_by_one_of_both() {
    alone("threads_that_record_while_the_filter_changes_go_by_one_of_both", || {
        for subscriber in ways() {
            let recorder = builder().start().unwrap();
            let dispatch = tracing::Dispatch::new(subscriber);
            let done = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    tracing::dispatcher::with_default(&dispatch, || {
                        while !done.load(std::sync::atomic::Ordering::Relaxed) {
                            tracing::warn!("always");
                            tracing::trace!(target: "never", "never");
                            tracing::debug!("perhaps");
                        }
                    });
                });
                for turn in 0..200 {
                    let filter = if turn % 2 == 0 { "warn" } else { "debug,never=off" };
                    recorder.set_filter(filter.parse::<Filter>().unwrap());
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let trace = common::stop(recorder);
            assert!(said(&trace).iter().all(|said| said != "never"));
        }
    });
}

#[test]
fn the_environment_chooses_level_and_targets_over_code() {
    alone("the_environment_chooses_level_and_targets_over_code", || {
        lookback::tracing::record_log().unwrap();
        // SAFETY: the process has one thread.
        let set = |name: &str, value: &str| unsafe { std::env::set_var(name, value) };
        let from_env = || builder().filter("trace".parse().unwrap()).from_env().unwrap();
        set("LOOKBACK_LEVEL", "warn");
        assert_eq!(
            said(&record(from_env(), ways()[0].clone())),
            ["error", "warn", "hyper warn", "other warn"]
        );
        set("LOOKBACK_FILTER", "shop=trace,hyper=error,filters=info");
        assert_eq!(said(&record(from_env(), ways()[1].clone())), OF_CHOSEN);
        set("LOOKBACK_LEVEL", "wran");
        let error = builder().from_env().unwrap_err().to_string();
        assert!(error.starts_with("LOOKBACK_LEVEL = \"wran\": `wran` is not a level"), "{error}");
    });
}

#[test]
fn a_recorder_that_is_turned_off_records_nothing_and_answers_all_the_same() {
    alone("a_recorder_that_is_turned_off_records_nothing_and_answers_all_the_same", || {
        // SAFETY: the process has one thread.
        unsafe { std::env::set_var("LOOKBACK_ENABLED", "off") };
        let directory = tempfile::tempdir().unwrap();
        let black_box = directory.path().join("box");
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        let builder = builder().snapshot_dir(directory.path()).black_box(&black_box);
        let recorder = builder.from_env().unwrap().start().unwrap();
        assert!(!lookback::is_recording() && !black_box.exists());
        assert_eq!(threads(), before);
        with_default(ways()[0].clone(), everything);
        lookback::event!("nothing", value = 1);
        let stats = recorder.stats();
        assert!(!stats.enabled && stats.recorded == 0 && stats.broken.is_none());
        recorder.set_filter(None);
        let trace = common::read(&recorder.snapshot().unwrap());
        assert_eq!(trace.metadata().number(key::ENABLED), Some(0));
        assert!(recorder.save("asked").unwrap().starts_with(directory.path()));
        // From anywhere it is the same: no `?` ends a service whose recording is turned off.
        assert!(lookback::save("asked").unwrap().starts_with(directory.path()));
        let trace = common::read(&lookback::snapshot().unwrap());
        assert_eq!(trace.metadata().number(key::ENABLED), Some(0));
        lookback::set_filter(None).unwrap();
        assert_eq!(common::events(&common::read(&recorder.stop().unwrap())).count(), 0);
        assert!(lookback::save("asked").is_err(), "it was stopped");
        // It is not the process's recorder: another one can be started.
        drop(self::builder().start().unwrap());
    });
}

#[test]
fn whoever_reads_from_outside_sees_the_filter_of_the_moment() {
    alone("whoever_reads_from_outside_sees_the_filter_of_the_moment", || {
        let recorder = builder().filter("warn,shop=trace".parse().unwrap()).start().unwrap();
        let outside = || {
            let arena = lookback::OutsideArena::of_process(std::process::id()).unwrap();
            let trace = common::read(&arena.snapshot("asked", "outside").unwrap());
            trace.metadata().texts(key::FILTER).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(outside(), ["warn,shop=trace"]);
        recorder.set_filter("off".parse::<Filter>().unwrap());
        assert_eq!(outside(), ["off"]);
        recorder.stop().unwrap();
    });
}

#[test]
fn records_of_log_come_through_whoever_forwards_them() {
    alone("records_of_log_come_through_whoever_forwards_them", || {
        // Like the `init()` of `tracing-subscriber`.
        tracing_log::LogTracer::init().unwrap();
        let recorder = builder().start().unwrap();
        with_default(ways()[0].clone(), || {
            lookback::tracing::record_log().unwrap();
            lookback::tracing::record_log().unwrap();
            log::info!("forwarded");
            tracing::info!("and told");
        });
        assert_eq!(said(&common::stop(recorder)), ["forwarded", "and told"]);
    });
}

#[test]
fn records_of_log_are_recorded_where_tracing_has_no_subscriber() {
    alone("records_of_log_are_recorded_where_tracing_has_no_subscriber", || {
        lookback::tracing::record_log().unwrap();
        lookback::tracing::record_log().unwrap();
        let say = |of: &str| {
            log::info!("{of}");
            log::debug!("{of} in detail");
            log::debug!(target: "shop", "{of} of the shop, password=1234");
        };
        say("nothing is recorded yet");
        let recorder = builder().start().unwrap();
        say("nobody");
        with_default(ways()[0].clone(), || say("a subscriber"));
        let off = "off".parse::<Filter>().unwrap();
        let own = lookback::tracing::subscriber().with_targets(off);
        with_default(own, || say("one that wants nothing"));
        recorder.set_filter("warn,shop=debug".parse::<Filter>().unwrap());
        say("by the recorder's filter");
        let trace = common::stop(recorder);
        let shop = "by the recorder's filter of the shop, password=[redacted]";
        assert_eq!(said(&trace), ["nobody", "a subscriber", shop]);
        let of_nobody = common::events(&trace).find(|event| event.name() == "filters");
        let site = of_nobody.expect("its category is its target").site().map(|site| site.line > 0);
        assert_eq!(site, Some(true), "it has its place in the source");
    });
}

#[test]
fn a_logger_that_forwards_nothing_is_told_with_what_to_do() {
    struct Silent;
    impl log::Log for Silent {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, _: &log::Record<'_>) {
            panic!("nothing is to be logged");
        }
        fn flush(&self) {}
    }
    alone("a_logger_that_forwards_nothing_is_told_with_what_to_do", || {
        log::set_boxed_logger(Box::new(Silent)).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        // Callsites that are registered while the probe runs do not count.
        with_default(ways()[0].clone(), || tracing::info!("there is a callsite"));
        let error = lookback::tracing::record_log().unwrap_err().to_string();
        assert!(error.contains("LogTracer::new().log(record)"), "{error}");
        assert_eq!(error.lines().count(), 1);
    });
}

fn targets() -> impl Strategy<Value = String> {
    let level = "off|error|warn|info|debug|trace|OFF|Info|[0-5]";
    let target = "[ab](::[ab]){0,2}";
    let directive = prop_oneof![
        level.prop_map(|level: String| level),
        target.prop_map(|target: String| target),
        (target, level).prop_map(|(target, level)| format!("{target}={level}")),
    ];
    prop::collection::vec(directive, 1..6).prop_map(|directives| directives.join(","))
}

proptest! {
    #[test]
    fn a_filter_means_what_it_means_to_tracing_subscriber(
        text in targets(),
        asked in prop::collection::vec("[abc](::[abc]){0,3}", 8),
    ) {
        let ours: Filter = text.parse().unwrap();
        let theirs: Targets = text.parse().unwrap();
        let levels = [
            (lookback::Level::Trace, tracing::Level::TRACE),
            (lookback::Level::Debug, tracing::Level::DEBUG),
            (lookback::Level::Info, tracing::Level::INFO),
            (lookback::Level::Warn, tracing::Level::WARN),
            (lookback::Level::Error, tracing::Level::ERROR),
        ];
        let printed: Filter = ours.to_string().parse().unwrap();
        for target in &asked {
            for (level, same) in levels {
                let expected = theirs.would_enable(target, &same);
                prop_assert_eq!(ours.enables(target, level), expected, "{} {} {}", text, target, level);
                prop_assert_eq!(printed.enables(target, level), expected, "{}", ours);
            }
        }
    }
}
