//! Everything alive is in every generation even if nothing happens to it, including a hundred thousand spans,
//! and takes little of the arena.

mod common;

use common::{alone, read, wait_for};
use lookback::Recorder;
use lookback::read::{GenerationInfo, Trace};
use std::time::{Duration, Instant};
use tracing::Span;
use tracing_subscriber::prelude::*;

const SPANS: usize = 100_000;
const HOUR: Duration = Duration::from_secs(3600);

/// The last complete generation of a snapshot, in which no record named what is alive.
fn last_complete(trace: &Trace) -> Option<GenerationInfo> {
    trace.generations().iter().rfind(|info| info.complete).cloned()
}

/// Requests as in real services: mostly equal fields, a number of their own, and a span inside each.
fn requests() -> Vec<Span> {
    let mut spans = Vec::new();
    for number in 0..SPANS / 2 {
        let request = tracing::info_span!("request", method = "GET", path = "/checkout", number);
        let query = tracing::info_span!(parent: &request, "query", db = "orders");
        spans.extend([request, query]);
    }
    spans
}

fn recorder(window: Duration, period: Duration) -> Recorder {
    Recorder::builder()
        .window(window)
        .max_bytes(32 << 20)
        .generation_period(period)
        .start()
        .unwrap()
}

#[test]
fn the_time_of_an_advance_is_told_with_its_listing() {
    alone("the_time_of_an_advance_is_told_with_its_listing", || {
        let recorder = recorder(HOUR, HOUR);
        let subscriber = tracing_subscriber::registry().with(lookback::tracing::layer());
        let _default = tracing::subscriber::set_default(subscriber);
        let _spans = requests();
        common::advance(&recorder);
        // One that takes too long, on a machine that is held up, does not count.
        let took = (0..20).filter_map(|_| {
            lookback::event!("turn");
            let began = Instant::now();
            recorder.advance().then(|| began.elapsed())
        });
        // The rest of it is the round trip to the collector.
        let shortest = took.min().unwrap();
        let told = recorder.stats().advances.median;
        assert!(told * 5 > shortest * 4, "{told:?} told, {shortest:?} at least");
    });
}

#[test]
fn a_hundred_thousand_open_spans_are_all_in_each_generation_of_32_mib() {
    alone("a_hundred_thousand_open_spans_are_all_in_each_generation_of_32_mib", || {
        let recorder = recorder(Duration::from_secs(45), Duration::from_millis(50));
        let subscriber = tracing_subscriber::registry().with(lookback::tracing::layer());
        let _default = tracing::subscriber::set_default(subscriber);
        let spans = requests();
        let mut trace = None;
        // Until all of them were created in earlier generations.
        let is_quiet = || {
            lookback::event!("turn");
            std::thread::sleep(Duration::from_millis(20));
            let taken = read(&recorder.snapshot().unwrap());
            let is_quiet = last_complete(&taken).is_some_and(|info| info.events < 100);
            trace = Some(taken);
            is_quiet
        };
        assert!(wait_for(is_quiet));
        let trace = trace.unwrap();
        let info = last_complete(&trace).unwrap();
        assert_eq!(info.omitted, 0, "statuses were left out: {info:?}");
        let generation = trace.generation(info.number).unwrap();
        let listed: Vec<_> = generation.spans().collect();
        assert_eq!(listed.len(), SPANS);
        assert!(listed.iter().all(|span| !span.is_part()), "fields were left out");
        for (number, of) in listed.chunks(2).enumerate().step_by(997) {
            let fields: Vec<_> =
                of[0].fields().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(fields, ["method=GET", "path=/checkout", &*format!("number={number}")]);
            assert_eq!((of[0].parent, of[1].parent), (None, Some(of[0].span)));
        }
        println!("::listed spans: {:.1} bytes each", info.bytes as f64 / SPANS as f64);
        drop(spans);
    });
}
