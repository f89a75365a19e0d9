//! What is alive and does nothing is in every generation all the same, a hundred thousand spans among it,
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

/// The last complete generation of a snapshot, in which nobody named what is alive.
fn last_complete(trace: &Trace) -> Option<GenerationInfo> {
    trace.generations().iter().rfind(|info| info.complete).cloned()
}

/// Requests as services have them: what is the same in most of them, a number of their own, and a span
/// inside each.
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
        assert!(recorder.advance());
        let took = (0..20).map(|_| {
            lookback::event!("turn");
            let began = Instant::now();
            assert!(recorder.advance());
            began.elapsed()
        });
        // The rest of it is the way to the collector and back.
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
        // Until they are all made in generations before.
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
