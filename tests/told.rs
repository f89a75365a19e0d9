//! Reached limits are reported: a window that the arena is too small for, a table that is full.

mod common;

use common::{alone, read};
use lookback::Recorder;
use lookback::read::wire::key;
use std::time::Duration;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn start() -> Recorder {
    Recorder::builder().window(WEEK).max_bytes(1 << 20).start().unwrap()
}

#[test]
fn a_window_that_the_arena_is_too_small_for_is_told() {
    alone("a_window_that_the_arena_is_too_small_for_is_told", || {
        let recorder = start();
        lookback::event!("first");
        let early = recorder.snapshot().unwrap();
        assert_eq!(early.needed_bytes(), None, "a recorder that has only begun has lost nothing");
        assert_eq!(read(&early).metadata().number(key::NEEDED_BYTES), None);
        let mut number = 0_u64;
        while recorder.stats().reclaimed == 0 {
            for _ in 0..100 {
                number += 1;
                lookback::event!("load", number = number);
            }
        }
        let snapshot = recorder.snapshot().unwrap();
        let trace = read(&snapshot);
        let [needed, window, covered] = [key::NEEDED_BYTES, key::WINDOW, key::COVERED]
            .map(|name| trace.metadata().number(name).expect("it is told"));
        assert_eq!(snapshot.needed_bytes(), Some(needed));
        let times = window as f64 / covered as f64;
        let share = needed as f64 / ((1 << 20) as f64 * times);
        assert!((1.2..1.3).contains(&share), "{share}");
    });
}

#[test]
fn texts_that_the_table_is_too_small_for_are_counted() {
    alone("texts_that_the_table_is_too_small_for_are_counted", || {
        let recorder = start();
        for number in 0..100 {
            lookback::event!("few", text = format!("text {number}"));
        }
        assert_eq!(recorder.stats().unshared_texts, 0);
        for number in 0..20_000 {
            lookback::event!("many", text = format!("text {number}"));
        }
        let told = recorder.stats().unshared_texts;
        assert!(told > 0);
        let trace = read(&recorder.snapshot().unwrap());
        assert_eq!(trace.metadata().number(key::UNSHARED_TEXTS), Some(told));
    });
}
