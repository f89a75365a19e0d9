//! Triggers of conditions that last fire while they last, once, and again when they have come back.

#![cfg(target_os = "linux")]

mod common;

use common::saved::{EVER, builder, saved, told};
use common::wait_for;
use lookback::read::Trace;
use lookback::read::analysis::{Cause, Report};
use lookback::{Builder, Pressure, Recorder, Trigger};
use std::path::Path;
use std::time::{Duration, Instant};

const MOMENT: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_millis(200);

/// With generations that are short enough for a test.
fn often(directory: &Path) -> Builder {
    builder(directory).window(EVER).generation_period(EVER / 1000)
}

fn at_once(trigger: Trigger) -> Trigger {
    trigger.cool_down(Duration::ZERO).per_hour(u32::MAX)
}

/// As `lookback summary` says it first.
fn first_cause(trace: &Trace) -> Cause {
    Report::of(trace).incident.table.causes.swap_remove(0)
}

fn fired(recorder: &Recorder) -> u64 {
    recorder.stats().triggers.fired
}

/// The collector has looked several times.
fn looks(recorder: &Recorder) {
    for _ in 0..3 {
        std::thread::sleep(MOMENT * 3 / 2);
        common::advance(recorder);
    }
}

#[test]
fn a_slow_span_is_told_of_while_it_is_open_and_once() {
    common::alone("a_slow_span_is_told_of_while_it_is_open_and_once", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = often(place.path())
            .trigger(at_once(Trigger::slow_span("checkout", LIMIT)))
            .trigger(at_once(Trigger::slow_span("GET /cart", MOMENT)))
            .start()
            .unwrap();
        let subscriber = lookback::tracing::subscriber();
        let _default = tracing::subscriber::set_default(subscriber);
        let _other = tracing::info_span!("other").entered();
        let hangs = tracing::info_span!("checkout", cart = 17, user = tracing::field::Empty);
        hangs.record("user", "eve");
        let trace = saved(&recorder, place.path(), 1);
        let (trigger, reason) = told(&trace);
        assert_eq!(trigger, "slow_span");
        assert!(reason.starts_with("span checkout is still open after "), "{reason}");
        assert!(reason.ends_with(", more than 200ms cart=17 user=eve"), "{reason}");
        let cause = first_cause(&trace);
        assert_eq!(cause.reason, reason);
        let evidence = cause.evidence.expect("it says which span");
        assert!(evidence.span.is_some_and(|span| span.label().contains("checkout")));
        assert!(evidence.thread.is_none(), "no thread is in it");

        // Those that follow are of the same hang. And when they end, that is told already.
        let later = tracing::info_span!("checkout", cart = 18);
        looks(&recorder);
        assert_eq!(fired(&recorder), 1);
        drop((hangs, later));
        looks(&recorder);
        assert_eq!(fired(&recorder), 1);

        // After one that ended in time, it is another one.
        let quick = || {
            let began = Instant::now();
            drop(tracing::info_span!("checkout", cart = 19));
            began.elapsed() < LIMIT
        };
        assert!(wait_for(quick), "it took long each time");
        let told_before = fired(&recorder);
        let again = [20, 21].map(|cart| tracing::info_span!("checkout", cart));
        assert!(wait_for(|| fired(&recorder) > told_before));
        let (_, reason) = told(&saved(&recorder, place.path(), told_before + 1));
        assert!(reason.contains("cart=20"), "{reason}");
        drop(again);

        // A span goes by its field's name, too. On a thread that is inside it, that is told.
        let named = tracing::info_span!("request", otel.name = "GET /cart").entered();
        let trace = saved(&recorder, place.path(), told_before + 2);
        assert!(told(&trace).1.starts_with("span GET /cart is still open after "));
        assert!(first_cause(&trace).evidence.is_some_and(|evidence| evidence.thread.is_some()));
        drop(named);
    });
}

#[test]
fn a_hang_that_begins_in_the_cool_down_is_told_of_after_it() {
    common::alone("a_hang_that_begins_in_the_cool_down_is_told_of_after_it", || {
        let place = tempfile::tempdir().unwrap();
        let trigger = Trigger::slow_span("checkout", MOMENT).cool_down(LIMIT * 2);
        let recorder = often(place.path()).trigger(trigger).start().unwrap();
        let _default = tracing::subscriber::set_default(lookback::tracing::subscriber());
        let slow = tracing::info_span!("checkout");
        std::thread::sleep(MOMENT * 2);
        drop(slow);
        assert!(wait_for(|| fired(&recorder) == 1));
        looks(&recorder);
        let _hangs = tracing::info_span!("checkout");
        assert!(wait_for(|| fired(&recorder) == 2), "{:?}", recorder.stats().triggers);
    });
}

#[test]
fn no_progress_is_told_of_once_until_there_is_some() {
    common::alone("no_progress_is_told_of_once_until_there_is_some", || {
        let place = tempfile::tempdir().unwrap();
        let trigger = at_once(Trigger::no_progress("request", LIMIT));
        let recorder = often(place.path()).trigger(trigger).start().unwrap();
        let _default = tracing::subscriber::set_default(lookback::tracing::subscriber());
        let requests = [1, 2, 3].map(|number| tracing::info_span!("request", number));
        let trace = saved(&recorder, place.path(), 1);
        let (trigger, reason) = told(&trace);
        assert_eq!(trigger, "no_progress");
        assert!(reason.starts_with("no span request has ended for "), "{reason}");
        assert!(reason.contains(", more than 200ms: 3 are open, the oldest for "), "{reason}");
        assert!(reason.ends_with(" number=1"), "{reason}");
        let evidence = first_cause(&trace).evidence.expect("it says which span");
        assert!(evidence.span.is_some_and(|span| span.label().contains("request")));
        looks(&recorder);
        assert_eq!(fired(&recorder), 1);
        // One ends: there is progress. Then there is none again.
        let [_one, _two, three] = requests;
        drop(three);
        assert!(told(&saved(&recorder, place.path(), 2)).1.contains("2 are open"));
        drop((_one, _two));
        // Nothing to do is no hang.
        std::thread::sleep(LIMIT + MOMENT);
        looks(&recorder);
        assert_eq!(fired(&recorder), 2);
    });
}

#[test]
fn an_error_rate_is_told_of_once_until_it_is_low_again() {
    common::alone("an_error_rate_is_told_of_once_until_it_is_low_again", || {
        let place = tempfile::tempdir().unwrap();
        let trigger = at_once(Trigger::error_rate("request", 0.5).over(LIMIT).at_least(10));
        let recorder = often(place.path()).trigger(trigger).start().unwrap();
        let _default = tracing::subscriber::set_default(lookback::tracing::subscriber());
        let request = |status: &str| drop(tracing::info_span!("request", status));
        // So many are too few. One in two is not too many. And others do not count.
        for _ in 0..9 {
            request("500 Internal Server Error");
        }
        for _ in 0..50 {
            drop(tracing::info_span!("other", status = 500));
        }
        looks(&recorder);
        assert_eq!(fired(&recorder), 0);
        for _ in 0..9 {
            request("200 OK");
        }
        looks(&recorder);
        assert_eq!(fired(&recorder), 0);

        let fails = || {
            (0..100).for_each(|_| request("500 Internal Server Error"));
            recorder.stats().triggers.saved > 0
        };
        assert!(wait_for(fails));
        let (trigger, reason) = told(&saved(&recorder, place.path(), 1));
        assert_eq!(trigger, "error_rate");
        assert!(reason.contains(" spans request in the last "), "{reason}");
        assert!(reason.contains(" failed: ") && reason.ends_with(" %, more than 50 %"), "{reason}");
        // Once, while it lasts; and when nothing ends any more, it is over.
        looks(&recorder);
        assert_eq!(fired(&recorder), 1);
        let fails_again = || {
            // A recorder without a core may not have looked in the quiet time; then there is another one.
            std::thread::sleep(LIMIT * 2);
            looks(&recorder);
            (0..100).for_each(|_| request("502"));
            looks(&recorder);
            fired(&recorder) > 1
        };
        assert!(wait_for(fails_again));
    });
}

#[test]
fn settings_that_are_no_share_are_refused() {
    for (trigger, name) in [
        (Trigger::error_rate("request", 5.0), "error_rate = 5"),
        (Trigger::latency_quantile("request", -0.1, LIMIT), "latency_quantile = -0.1"),
        (Trigger::memory_share(f64::NAN), "memory_share = NaN"),
        (Trigger::pressure(Pressure::Io, 90.0), "pressure = 90"),
    ] {
        let error = Recorder::builder().trigger(trigger).start().unwrap_err().to_string();
        assert_eq!(error, format!("{name}: must be a share, between 0 and 1"));
    }
}

/// Builder and environment may have taken away what a trigger needs.
#[test]
fn a_trigger_reads_the_counters_that_it_needs() {
    common::alone("a_trigger_reads_the_counters_that_it_needs", || {
        let place = tempfile::tempdir().unwrap();
        let builder = often(place.path()).system_counters([]);
        let recorder = builder.trigger(at_once(Trigger::memory(1))).start().unwrap();
        let (trigger, reason) = told(&saved(&recorder, place.path(), 1));
        assert_eq!(trigger, "memory");
        assert!(
            reason.starts_with("resident memory is ") && reason.ends_with(", more than 0.0 MiB")
        );
        looks(&recorder);
        assert_eq!(fired(&recorder), 1);
    });
}
