//! What was recovered, and whether it holds what it must.

use super::command::lookback;
use super::service::{Last, WRITERS};
use lookback::Trace;
use lookback::read::{Value, validate};
use std::collections::HashSet;
use std::path::Path;

/// A snapshot of what an ended process has left.
pub struct Recovered {
    from: String,
    trace: Trace,
}

impl Recovered {
    /// From a black box, by `lookback recover`.
    pub fn of_box(path: &Path, directory: &Path, what: &str) -> Self {
        let out = directory.join("recovered.lbk");
        let words = ["recover", path.to_str().unwrap(), "-o", out.to_str().unwrap()];
        let ended = lookback(&words);
        assert_eq!(ended.code, 0, "{what}: {ended:?}");
        Self { from: "the black box".to_owned(), trace: Trace::open(&out).unwrap() }
    }

    /// From `lookback run`, which has saved it.
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

    /// Checks that it is sound and holds each writer's last event and all before it, as far back as it goes.
    /// Returns how many of the writers' last events are older than everything that had room.
    pub fn holds(&self, last: &[Last; WRITERS], what: &str) -> usize {
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
        let oldest = &self.trace.generations()[0];
        let mut reclaimed = 0;
        for (writer, (numbers, last)) in numbers.iter().zip(last).enumerate() {
            let (first, newest) = (numbers.iter().min(), numbers.iter().max());
            let is_there = numbers.contains(&last.number);
            // The machine held the writer up while others filled the arena.
            let is_too_old = oldest.number.0 > 1 && last.wall < oldest.wall.0;
            assert!(
                is_there || is_too_old,
                "{what}: {from}: writer {writer} told {last:?}, there are {first:?} to {newest:?} since {oldest:?}",
            );
            reclaimed += usize::from(!is_there);
            let whole = first.zip(newest).map_or(0, |(first, newest)| newest - first + 1);
            assert_eq!(numbers.len() as u64, whole, "{what}: {from}: writer {writer} has gaps");
        }
        reclaimed
    }
}
