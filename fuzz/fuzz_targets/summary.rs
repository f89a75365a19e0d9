//! Says what stood out in a file.
#![no_main]

#[path = "../judge.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod judge;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| judge::summary(judge::file(input)));
