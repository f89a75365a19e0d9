//! What tests share that hold the recorder's threads up (`fault_injection`).

use super::common;
use lookback::OutsideArena;
use lookback::fault_injection::{Point, hold};
use lookback::read::Trace;
use std::collections::HashMap;
use std::time::Duration;

pub const FOREVER: Duration = Duration::MAX;

/// Whoever is held up at this point goes on when this is dropped: a recorder whose collector is held up
/// for ever would never stop, so a test that fails would hang.
pub struct LetGo(pub Point);

impl Drop for LetGo {
    fn drop(&mut self) {
        hold(self.0, Duration::ZERO, 1);
    }
}

/// Of each writer, the first and the last number; and that there is no gap between them.
pub fn numbers(trace: &Trace) -> HashMap<u64, (u64, u64)> {
    let mut found: HashMap<u64, (u64, u64)> = HashMap::new();
    for event in common::events(trace).filter(|event| event.name() == "numbered") {
        let number = |name| common::number(&event, name).expect("it has one");
        let (writer, number) = (number("writer"), number("number"));
        let (_, last) = found.entry(writer).or_insert((number, number - 1));
        assert_eq!(number, *last + 1, "writer {writer}: a gap");
        *last = number;
    }
    found
}

/// The arena of this process, as others see it.
pub fn arena() -> OutsideArena {
    OutsideArena::of_process(std::process::id()).expect("there is an arena")
}

/// How much of the arena is in use; `None` if it changed while it was asked for.
pub fn in_use(arena: &OutsideArena) -> Option<f64> {
    let header = || arena.header().expect("it can be read");
    // Who is held up in the middle of reading has an old head beside a new tail. The second head was read
    // while the tail stood where it stands in both.
    let (before, after) = (header(), header());
    let used = after.head.0.saturating_sub(after.tail.0) as f64 / after.capacity as f64;
    (before.tail == after.tail).then_some(used)
}

/// How often the arena was filled.
pub fn laps(arena: &OutsideArena) -> u64 {
    let header = arena.header().expect("it can be read");
    header.head.0 / header.capacity
}
