//! Runs the command as a process of its own.

#![allow(dead_code, reason = "each test uses some of it")]

use std::process::Command;

/// The command.
pub const LOOKBACK: &str = env!("CARGO_BIN_EXE_lookback");

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs it.
pub fn lookback(arguments: &[&str]) -> Ended {
    ended(Command::new(LOOKBACK).args(arguments))
}

/// Runs a command to its end.
pub fn ended(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The lines of an output.
pub fn lines(output: &[u8]) -> Vec<String> {
    String::from_utf8(output.to_vec()).unwrap().lines().map(str::to_owned).collect()
}
