//! Writes a file as a trace of Go.
#![no_main]

#[path = "../judge.rs"]
#[allow(dead_code, reason = "each target uses a part of it")]
mod judge;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| judge::export_go(judge::file(input)));
