//! What differs between two runs is found if it is real, and nothing is found that is not.
//!
//! The runs are of made-up services of known truth: Poisson arrivals, alone or in bursts, and log-normal lengths.
//! `LOOKBACK_PAIRS=N` sets the number of pairs, 60 by default.
#![cfg(feature = "read")]

mod random;
mod service;

use lookback_snapshot::analysis::{Diff, DiffKind, DiffSide, DiffWhat};
use lookback_snapshot::text::from_text;
use lookback_snapshot::{Trace, wire::Nanos};
use service::{Logs, Service, Spans};

fn pairs() -> u64 {
    std::env::var("LOOKBACK_PAIRS").ok().and_then(|many| many.parse().ok()).unwrap_or(60)
}

fn diff(good: &Service, bad: &Service, seed: u64) -> Diff {
    Diff::of(&[good.run(2 * seed)], &[bad.run(2 * seed + 1)])
}

fn words(diff: &Diff) -> Vec<String> {
    diff.differences.iter().map(|one| format!("{:.2} {}", one.score, one.in_words())).collect()
}

#[test]
fn a_run_does_not_differ_from_itself() {
    for seed in 0..pairs() / 4 {
        let service = Service::any(seed);
        let diff = Diff::of(&[service.run(seed)], &[service.run(seed)]);
        assert!(diff.differences.is_empty(), "seed {seed}: {:#?}", words(&diff));
        assert!(diff.asked > 50 && diff.rare.is_empty(), "{}", diff.asked);
    }
}

fn nothing_differs(cluster: f64) {
    let mut found = Vec::new();
    let mut asked = 0;
    for seed in 0..pairs() {
        let service = Service { cluster, ..Service::any(seed) };
        let diff = diff(&service, &service, seed);
        asked += diff.asked;
        assert!(diff.not_comparable.is_empty(), "{:?}", diff.not_comparable);
        found.extend(words(&diff).into_iter().map(|words| format!("seed {seed}: {words}")));
    }
    println!("{} pairs, {asked} questions, {} differences", pairs(), found.len());
    // Of thousands of pairs, chance alone makes a few.
    assert!(found.len() as u64 <= pairs() / 500, "{found:#?}");
}

#[test]
fn two_runs_of_one_service_do_not_differ() {
    nothing_differs(1.0);
}

#[test]
fn two_runs_of_one_service_do_not_differ_whose_events_come_in_bursts() {
    nothing_differs(8.0);
}

/// The planted change is the first difference, whatever the service.
#[track_caller]
fn is_first(plant: impl Fn(&mut Service), is_it: impl Fn(&Diff) -> bool) {
    for seed in 0..20 {
        let good = Service::any(seed);
        let mut bad = good.clone();
        plant(&mut bad);
        let diff = diff(&good, &bad, seed);
        assert!(is_it(&diff), "seed {seed}: {:#?}", words(&diff));
    }
}

fn first(diff: &Diff, kind: DiffKind, name: &str, what: DiffWhat) -> bool {
    diff.differences.first().is_some_and(|first| {
        first.kind == kind && first.name.contains(name) && first.changes[0].what == what
    })
}

const RATE: DiffWhat = DiffWhat::Rate;

#[test]
fn a_span_that_takes_twice_as_long_is_first() {
    for seed in 0..20 {
        let mut good = Service::any(seed);
        (good.spans[3].median, good.spans[3].per_second) = (8.0, 30.0);
        let mut bad = good.clone();
        bad.spans[3].median *= 2.0;
        let diff = diff(&good, &bad, seed);
        assert!(
            first(&diff, DiffKind::Span, "span d", DiffWhat::Length),
            "seed {seed}: {:#?}",
            words(&diff)
        );
        let ratio = diff.differences[0].changes[0].ratio();
        assert!((1.4..3.5).contains(&ratio), "seed {seed}: {ratio}");
    }
}

#[test]
fn a_new_error_is_first() {
    let new = Logs { level: 5, message: "cannot reach the inventory".to_owned(), per_second: 4.0 };
    is_first(
        |bad| bad.logs.push(new.clone()),
        |diff| first(diff, DiffKind::ErrorLog, "cannot reach", RATE),
    );
}

#[test]
fn a_new_span_is_first_and_one_that_is_gone() {
    let new =
        Spans { name: "retry".to_owned(), per_second: 8.0, median: 4.0, sigma: 0.5, failing: 0.0 };
    is_first(|bad| bad.spans.push(new.clone()), |diff| first(diff, DiffKind::Span, "retry", RATE));
    for seed in 0..20 {
        let bad = Service::any(seed);
        let mut good = bad.clone();
        good.spans.push(new.clone());
        let diff = diff(&good, &bad, seed);
        assert!(first(&diff, DiffKind::Span, "retry", RATE), "seed {seed}: {:#?}", words(&diff));
        assert!(diff.differences[0].in_words().contains("is gone"), "{:#?}", words(&diff));
    }
}

#[test]
fn tasks_that_wait_at_another_place_are_first() {
    for seed in 0..20 {
        let mut good = Service::any(seed);
        (good.waiting[2], good.waiting[3]) = (60, 0);
        let mut bad = good.clone();
        (bad.waiting[2], bad.waiting[3]) = (0, 60);
        let diff = diff(&good, &bad, seed);
        let is_wait = |one: &lookback_snapshot::analysis::Difference| {
            matches!(one.kind, DiffKind::Wait | DiffKind::AliveTasks)
        };
        assert_eq!(
            diff.differences.iter().filter(|one| is_wait(one)).count(),
            4,
            "{:#?}",
            words(&diff)
        );
        assert!(
            first(&diff, DiffKind::Wait, "", DiffWhat::Level),
            "seed {seed}: {:#?}",
            words(&diff)
        );
        assert!(diff.differences[0].bad.level > 40.0, "the new place: {:#?}", words(&diff));
    }
}

#[test]
fn a_counter_that_doubled_is_first() {
    is_first(
        |bad| bad.gauges[1] *= 2.0,
        |diff| first(diff, DiffKind::Counter, "counter 1", DiffWhat::Level),
    );
    is_first(
        |bad| bad.totals[1] *= 2.0,
        |diff| first(diff, DiffKind::Counter, "counter 5", DiffWhat::Growth),
    );
}

#[test]
fn a_function_that_takes_more_cpu_time_or_allocates_more_is_first() {
    is_first(|bad| bad.cpu[4] += 0.5, |diff| first(diff, DiffKind::Cpu, "+0x36", RATE));
    is_first(
        |bad| bad.allocations[4] += 90.0,
        |diff| first(diff, DiffKind::Allocation, "+0x36", RATE),
    );
}

#[test]
fn more_failures_and_longer_waits_for_a_lock_are_first() {
    is_first(
        |bad| (bad.spans[1].failing, bad.spans[1].per_second) = (0.6, bad.spans[1].per_second),
        |diff| {
            diff.differences.is_empty() || first(diff, DiffKind::Span, "span b", DiffWhat::Failures)
        },
    );
    is_first(
        |bad| bad.locks[2] = (bad.locks[2].0.max(20.0) * 5.0, 20.0),
        |diff| {
            diff.differences
                .first()
                .is_some_and(|first| first.kind == DiffKind::Lock && first.name == "e.rs:3")
        },
    );
}

#[test]
fn what_cannot_be_compared_is_said_with_the_reason() {
    let good = Service::any(1);
    let because = |bad: &Service| -> Vec<String> {
        let diff = diff(&good, bad, 1);
        diff.not_comparable.iter().map(|part| format!("{}: {}", part.what, part.because)).collect()
    };
    let other = Service { program: "bank", ..good.clone() };
    assert_eq!(because(&other), ["all: GOOD is of the program `shop`, and BAD of `bank`"]);
    let lossy = Service { lost: 9, ..good.clone() };
    assert_eq!(
        because(&lossy),
        ["all: BAD lost events in 10 of 10 generations: `lookback info` says why"]
    );
    let bare = Service { has_samples: false, ..good.clone() };
    let [cpu, heap] = &because(&bare)[..] else { panic!("{:?}", because(&bare)) };
    assert_eq!(cpu, "cpu: BAD has no samples of CPU time");
    assert_eq!(heap, "allocation: BAD has no samples of allocations");
    let mut never = good.clone();
    never.waiting = vec![0; 6];
    assert_eq!(because(&never), ["wait: BAD has no places where tasks wait"]);
    let rebuilt = Service { build: 2, ..good.clone() };
    let found = because(&rebuilt);
    assert!(
        found.iter().all(|line| line.contains("the builds differ")) && found.len() == 3,
        "{found:?}"
    );
    let short = Service { seconds: 0, ..good.clone() };
    assert!(
        because(&short)[0].starts_with("all: BAD covers 0.00 s, and at least 1 s"),
        "{:?}",
        because(&short)
    );
}

/// A file has room for so many names; what comes after that is not gone.
#[test]
fn a_span_whose_name_had_no_room_is_not_gone() {
    let good = Service::any(1);
    let text = good.text(1);
    let words = (0..70_000_u32).map(|number| {
        let word: String =
            number.to_string().bytes().map(|digit| (digit + b'a' - b'0') as char).collect();
        format!("  @1 log level=3 site=200 message=\"{word}\"\n")
    });
    let first = text.find("  @0 thread_start").unwrap();
    let first = first + text[first..].find('\n').unwrap() + 1;
    let bad = [&text[..first], &words.collect::<String>(), &text[first..]].concat();
    let bad = Trace::from_bytes(from_text(&bad).unwrap()).unwrap();
    let diff = Diff::of(&[good.run(1)], &[bad]);
    let is_log = |kind| matches!(kind, DiffKind::Log | DiffKind::WarnLog | DiffKind::ErrorLog);
    let all = diff.differences.iter().chain(&diff.rare).filter(|one| !is_log(one.kind));
    let all: Vec<_> = all.map(|one| one.in_words()).collect();
    assert!(all.is_empty(), "{all:#?}");
    assert!(diff.not_comparable.iter().any(|part| part.what == "span"), "{diff:#?}");
}

/// In a container, the next process has the same ID.
#[test]
fn generations_of_the_process_after_a_restart_count() {
    let before = Service::any(1);
    let after = Service { began: 1000, ..before.clone() };
    let mut side = DiffSide::of_files(3);
    for run in [before.run(1), after.run(1), before.run(1)] {
        side.add(&run, None);
    }
    assert_eq!(side.covered(), Nanos(20_000_000_000));
}
