//! Reads settings from the environment: each line of an input is a variable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lookback_recorder::Recorder;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fuzz_target!(|input: &[u8]| {
    let lines = input.split(|byte| *byte == b'\n');
    let pairs = lines.filter_map(|line| {
        let at = line.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&line[..at], &line[at + 1..]);
        let is_good = name.starts_with(b"LOOKBACK_") && !line.contains(&0);
        is_good.then(|| (OsStr::from_bytes(name), OsStr::from_bytes(value)))
    });
    let pairs: Vec<_> = pairs.collect();
    for (name, value) in &pairs {
        // SAFETY: there is no other thread.
        unsafe { std::env::set_var(name, value) };
    }
    let read = Recorder::builder().from_env();
    for (name, _) in &pairs {
        // SAFETY: there is no other thread.
        unsafe { std::env::remove_var(name) };
    }
    if let Err(error) = read {
        let words = error.to_string();
        assert!(!words.contains('\n') && words.len() < 2048, "{words:?}");
    }
});
