//! Helpers for tests that hold the recorder's threads up (`fault_injection`).

use super::common;
use lookback::OutsideArena;
use lookback::fault_injection::{Point, hold};
use lookback::read::Trace;
use std::collections::HashMap;
use std::time::Duration;

pub const FOREVER: Duration = Duration::MAX;

/// Releases the threads that are held up at this point when it is dropped: a recorder whose collector is held
/// up forever would never stop, so a failing test would hang.
pub struct LetGo(pub Point);

impl Drop for LetGo {
    fn drop(&mut self) {
        hold(self.0, Duration::ZERO, 1);
    }
}

/// The first and the last number of each writer; checks that no more is missing in between than `lost` events in all:
/// a writer that gets no core for long may lose the event that it was writing, which is counted.
pub fn numbers(trace: &Trace, lost: u64) -> HashMap<u64, (u64, u64)> {
    let (mut found, mut missing): (HashMap<u64, (u64, u64)>, u64) = (HashMap::new(), 0);
    for event in common::events(trace).filter(|event| event.name() == "numbered") {
        let number = |name| common::number(&event, name).expect("it has one");
        let (writer, number) = (number("writer"), number("number"));
        let (_, last) = found.entry(writer).or_insert((number, number - 1));
        assert!(number > *last, "writer {writer}: {number} after {last}");
        missing += number - *last - 1;
        *last = number;
    }
    assert!(missing <= lost, "{missing} events are missing, and {lost} were lost");
    found
}

/// The arena of this process, as other processes see it.
pub fn arena() -> OutsideArena {
    OutsideArena::of_process(std::process::id()).expect("there is an arena")
}

/// How much of the arena is in use; `None` if that changed meanwhile.
pub fn in_use(arena: &OutsideArena) -> Option<f64> {
    let header = || arena.header().expect("it can be read");
    // A thread that is held up while reading may see an old head and a new tail. The second head was read
    // while the tail had the same value in both.
    let (before, after) = (header(), header());
    let used = after.head.0.saturating_sub(after.tail.0) as f64 / after.capacity as f64;
    (before.tail == after.tail).then_some(used)
}

/// How often the arena was filled.
pub fn laps(arena: &OutsideArena) -> u64 {
    let header = arena.header().expect("it can be read");
    header.head.0 / header.capacity
}
