//! Values and texts of events: types that differ at one site, texts that are cut at the format's limit,
//! recurring texts.

mod common;

use common::{start_with, stop};
use lookback::read::Value;
use std::collections::BTreeMap;
use std::time::Duration;

fn generic<T: lookback::Value>(value: T) {
    lookback::event!("generic", value = value, after = 7_u8);
}

#[test]
fn one_site_takes_values_of_different_types() {
    common::alone("one_site_takes_values_of_different_types", || {
        let recorder = start_with(4 << 20, Duration::from_millis(1));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                std::thread::spawn(|| {
                    let owned = String::from("a string");
                    for _ in 0..2000 {
                        generic(5_u64);
                        generic(-5_i32);
                        generic("five");
                        generic(0.5_f32);
                        generic(true);
                        generic(&owned);
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        let lost = recorder.stats().lost_in_all();
        let trace = stop(recorder);
        let mut values = BTreeMap::new();
        for event in common::events(&trace).filter(|event| event.name() == "generic") {
            assert_eq!(common::number(&event, "after"), Some(7), "{event:?}");
            let value = event.fields().next().expect("it has fields").1;
            let expected = match value {
                Value::Unsigned(5) | Value::Signed(-5) | Value::Bool(true) => true,
                Value::Float(half) => half == 0.5,
                Value::Text(text) => ["five", "a string"].contains(&&*text) && !text.cut,
                _ => false,
            };
            assert!(expected, "{value:?} was never written");
            *values.entry(format!("{value}")).or_insert(0) += 1;
        }
        let all = common::lost(&trace) == 0 && lost == 0 && trace.generations()[0].number.0 == 1;
        assert_eq!(values.len(), 6, "{values:?}");
        assert!(!all || values.values().all(|count| *count == 4000), "{values:?}");
    });
}

/// What is left of a text of which `limit` bytes may stay.
fn cut(text: &str, limit: usize) -> (String, bool) {
    let end = lookback::read::wire::floor_char_boundary(text, limit);
    (text[..end].to_owned(), end < text.len())
}

#[test]
fn texts_are_cut_at_a_kibibyte_on_a_character_and_marked() {
    common::alone("texts_are_cut_at_a_kibibyte_on_a_character_and_marked", || {
        let recorder = start_with(16 << 20, Duration::from_secs(1));
        let pieces = ["a", "ü", "€", "🦀"];
        let lengths =
            [0, 1, 3, 4, 5, 7, 8, 9, 255, 256, 257, 1000, 1022, 1023, 1024, 1025, 1026, 1027]
                .into_iter()
                .chain([1028, 1029, 2000, 5000, 100_000]);
        let texts: Vec<String> = lengths
            .flat_map(|length| pieces.map(|piece| (length, piece)))
            // So that characters straddle the limits in every way.
            .flat_map(|(length, piece)| (0..4).map(move |shift| (length, piece, shift)))
            .map(|(length, piece, shift)| {
                let mut text = "x".repeat(shift.min(length));
                while text.len() + piece.len() <= length {
                    text.push_str(piece);
                }
                text
            })
            .collect();
        // Three times, so that recurring ones become references.
        for _ in 0..3 {
            for text in &texts {
                lookback::event!("text", text = text);
                lookback::log!("text", "{text}");
                lookback::log!(
                    "text",
                    "{}{}",
                    &text[..text.floor_char_boundary(text.len() / 2)],
                    &text[text.floor_char_boundary(text.len() / 2)..]
                );
            }
        }
        let long: Vec<_> = (0..12).map(|n| char::from(b'a' + n).to_string().repeat(2048)).collect();
        let t = &long;
        lookback::event!(
            "twelve",
            a = t[0],
            b = t[1],
            c = t[2],
            d = t[3],
            e = t[4],
            f = t[5],
            g = t[6],
            h = t[7],
            i = t[8],
            j = t[9],
            k = t[10],
            l = t[11]
        );
        let short = String::from("ß").repeat(100);
        lookback::event!("three", a = t[0], b = short, c = t[1]);
        let stats = recorder.stats();
        assert_eq!(stats.lost_in_all(), 0, "{stats:?}");
        let trace = stop(recorder);
        let mut expected = (0..3).flat_map(|_| &texts).flat_map(|text| [text, text, text]);
        for event in common::events(&trace) {
            match event.name() {
                "text" => {
                    let text = expected.next().expect("there are no more than were written");
                    let found = common::text(&event, "text").or(common::text(&event, "message"));
                    assert_eq!(found, Some(cut(text, 1024)), "{} bytes", text.len());
                }
                "twelve" => {
                    for ((_, value), text) in event.fields().zip(&long) {
                        let Value::Text(value) = value else { panic!("{value:?} is no text") };
                        assert!(text.starts_with(&*value) && value.len() >= 200, "{value:?}");
                        assert!(value.cut, "it is marked");
                    }
                    assert_eq!(event.fields().count(), 12);
                }
                "three" => {
                    assert_eq!(common::text(&event, "b"), Some((short.clone(), false)));
                    let (a, is_cut) = common::text(&event, "a").expect("it is there");
                    assert!(a.len() >= 1000 && is_cut, "{} bytes of 2048", a.len());
                }
                _ => {}
            }
        }
        assert_eq!(expected.next(), None, "every text is there");
    });
}

#[test]
fn texts_that_recur_are_equal_after_decoding() {
    common::alone("texts_that_recur_are_equal_after_decoding", || {
        let recorder = start_with(16 << 20, Duration::from_millis(3));
        // More texts than the table has entries, from two threads, over many generations.
        let text = |number: u64| format!("GET /items/{}?page={}", number % 6007, number % 3);
        let writers: Vec<_> = (0..2)
            .map(|_| {
                std::thread::spawn(move || {
                    for number in 0..30_000 {
                        lookback::event!("request", number = number, route = text(number));
                        lookback::log!("request", "{}", text(number));
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        let trace = stop(recorder);
        let (mut number, mut checked) = (BTreeMap::new(), 0);
        for event in common::events(&trace).filter(|event| event.name() == "request") {
            let thread = event.thread().expect("it has a thread").number;
            if let Some(this) = common::number(&event, "number") {
                assert_eq!(common::text(&event, "route"), Some((text(this), false)));
                number.insert(thread, this);
                checked += 1;
            } else if let Some(this) = number.get(&thread) {
                assert_eq!(common::text(&event, "message"), Some((text(*this), false)));
            }
        }
        assert!(checked > 0, "nothing is there");
    });
}
