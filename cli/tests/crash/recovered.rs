//! What was recovered, and whether it holds what it must.

use super::command::lookback;
use super::service::WRITERS;
use lookback::Trace;
use lookback::read::{Value, validate};
use std::collections::HashSet;
use std::path::Path;

/// A snapshot that was made of what an ended process has left.
pub struct Recovered {
    from: String,
    trace: Trace,
}

impl Recovered {
    /// Of a black box, by `lookback recover`.
    pub fn of_box(path: &Path, directory: &Path, what: &str) -> Self {
        let out = directory.join("recovered.lbk");
        let words = ["recover", path.to_str().unwrap(), "-o", out.to_str().unwrap()];
        let ended = lookback(&words);
        assert_eq!(ended.code, 0, "{what}: {ended:?}");
        Self { from: "the black box".to_owned(), trace: Trace::open(&out).unwrap() }
    }

    /// Of `lookback run`, which has saved it.
    pub fn of_run(directory: &Path, what: &str) -> Self {
        let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{what}: {e}"));
        let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        let [file] = &files[..] else { panic!("{what}: {files:?}") };
        Self { from: "what was run".to_owned(), trace: Trace::open(file).unwrap() }
    }

    /// How many events it holds.
    pub fn events(&self) -> u64 {
        self.trace.generations().iter().map(|generation| generation.events).sum()
    }

    /// Makes sure that it is sound, and holds the last event of each writer and all before it, as far
    /// back as it goes.
    pub fn holds(&self, last: &[u64; WRITERS], what: &str) {
        let from = &self.from;
        let violations = validate(&self.trace);
        let words: Vec<_> = violations.iter().take(5).map(ToString::to_string).collect();
        assert!(words.is_empty(), "{what}: {from}: {words:#?}");
        let mut numbers: [HashSet<u64>; WRITERS] = Default::default();
        for event in self.trace.events() {
            let event = event.unwrap_or_else(|error| panic!("{what}: {from}: {error}"));
            if event.name() != "tick" {
                continue;
            }
            let field = |name| {
                event.fields().find(|(known, _)| *known == name).and_then(
                    |(_, value)| match value {
                        Value::Unsigned(value) => Some(value),
                        Value::Signed(value) => u64::try_from(value).ok(),
                        _ => None,
                    },
                )
            };
            let writer = field("writer").unwrap() as usize;
            let is_new = numbers[writer].insert(field("number").unwrap());
            assert!(is_new, "{what}: {from}: an event is there twice");
        }
        for (writer, (numbers, last)) in numbers.iter().zip(last).enumerate() {
            assert!(
                numbers.contains(last),
                "{what}: {from}: writer {writer} told {last}, {:?}",
                numbers.iter().max()
            );
            let (first, newest) = (numbers.iter().min().unwrap(), numbers.iter().max().unwrap());
            let whole = newest - first + 1;
            assert_eq!(numbers.len() as u64, whole, "{what}: {from}: writer {writer} has gaps");
        }
    }
}
