//! Recovers a damaged arena, and reads what comes of it.
#![no_main]

#[path = "../damage.rs"]
mod damage;

use libfuzzer_sys::fuzz_target;
use lookback_snapshot::recover::recover;
use lookback_snapshot::{Trace, validate};
use std::sync::LazyLock;

static BASE: LazyLock<Vec<u8>> =
    LazyLock::new(|| zstd::decode_all(damage::BASE).expect("the base is sound"));

fuzz_target!(|input: &[u8]| {
    let arena = damage::damaged(&BASE, input);
    let Ok(mut recovered) = recover(&arena) else { return };
    let mut file = Vec::new();
    recovered.write_to(&mut file, "fuzzed", "fuzz").expect("memory takes every byte");
    let trace = Trace::from_bytes(file).expect("what was written can be opened");
    for event in trace.events().flatten() {
        let _ = (event.time(), event.fields().count());
    }
    let _ = validate(&trace);
});
