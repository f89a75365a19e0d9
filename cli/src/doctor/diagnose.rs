//! Explains why a process is not recorded, or may not be read: the most likely reasons.

use super::Findings;
use crate::process;
use lookback::command::parse;
use lookback::{OutsideArena, OutsideError};
use std::fs::File;
use std::io::Read;

pub fn explain(pid: u32, error: &OutsideError, findings: &mut Findings) {
    let called = process::command(pid).unwrap_or_default();
    match error {
        OutsideError::Denied { .. } => denied(pid, findings),
        OutsideError::NotRecorded(_) => not_recorded(pid, &called, findings),
        _ => {
            let advice = "its memory was overwritten, or its recorder is of another version: use the `lookback` of that version";
            findings.problem("arena", error.to_string(), advice);
        }
    }
}

fn not_recorded(pid: u32, called: &str, findings: &mut Findings) {
    let headers = OutsideArena::mapped_by(pid).unwrap_or_default();
    let foreign = headers.iter().filter_map(|arena| arena.header().ok()).next();
    if let Some(header) = foreign {
        let parent = header.pid;
        let alive = process::is_alive(parent, header.process_start);
        let state = if alive { "which runs and is recorded" } else { "which is gone" };
        let what = format!(
            "it is not recorded: it was forked by process {parent}, {state}, after the recorder was started there; it \
             has that process's arena, and does not write to it"
        );
        let advice = "start the recorder after the fork: after going into the background, or in the worker itself";
        return findings.problem("recording", what, advice);
    }
    if process::standstill(pid) == Some("over") {
        let advice = "zombie: its parent has not reaped it; its arena is gone unless `lookback run` or a black box has it";
        return findings.problem("recording", "it has ended", advice);
    }
    if let Some(off) = turned_off(pid) {
        let what =
            format!("it ({called}) is not recorded: it was started with `LOOKBACK_ENABLED={off}`");
        let advice = "unset it; a program that does not call `from_env()` ignores it";
        return findings.problem("recording", what, advice);
    }
    let (what, advice) = match has_recorder(pid) {
        Some(true) => (
            format!("it ({called}) is not recorded, though its executable contains a recorder"),
            "no recorder was started yet, or it was stopped or dropped: keep the `Recorder` that \
             `Recorder::builder().start()?` returns as long as the process lives",
        ),
        Some(false) => (
            format!("it ({called}) is not recorded: its executable contains no recorder"),
            "is this the service, or the shell that started it? `lookback ps` lists the recorded processes",
        ),
        None => (
            format!("it ({called}) is not recorded"),
            "no recorder was started in it, or it was stopped; `lookback ps` lists the recorded processes",
        ),
    };
    findings.problem("recording", what, advice);
}

/// The value of `LOOKBACK_ENABLED` at the start of the process, if that turns recording off.
fn turned_off(pid: u32) -> Option<String> {
    process::variable(pid, "LOOKBACK_ENABLED").filter(|value| parse::switch(value) == Ok(false))
}

fn denied(pid: u32, findings: &mut Findings) {
    let ours = rustix::process::geteuid().as_raw();
    let run_as = "or give the service a black box: `lookback recover` only needs to read that file";
    match process::users(pid) {
        Some((real, effective)) if real != ours && effective != ours => {
            let what =
                format!("it belongs to user {real}, and user {ours} may not read its memory");
            let advice =
                format!("run this as that user (`sudo -u '#{real}' …`) or as root; {run_as}");
            findings.problem("permission", what, advice);
        }
        _ => {
            let reason = if capabilities(pid).is_some_and(|theirs| {
                theirs & !capabilities(std::process::id()).unwrap_or_default() != 0
            }) {
                "it has capabilities that this command lacks"
            } else {
                "it is not dumpable (prctl PR_SET_DUMPABLE, or a set-user-id program)"
            };
            let advice = format!(
                "run this as root, or with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; {run_as}"
            );
            findings.problem("permission", format!("its memory may not be read: {reason}"), advice);
        }
    }
    if let Ok(scope) = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
        && scope.trim() != "0"
    {
        let what = format!(
            "Yama restricts reading the memory of processes (ptrace_scope {})",
            scope.trim()
        );
        findings.warning(
            "permission",
            what,
            "this matters only if the service has closed its descriptors",
        );
    }
}

fn capabilities(pid: u32) -> Option<u64> {
    u64::from_str_radix(&process::status_line(pid, "CapPrm:")?, 16).ok()
}

/// Whether the executable contains a string that every recorder contains.
fn has_recorder(pid: u32) -> Option<bool> {
    const MOST: u64 = 1 << 30;
    let word = lookback::command::RUN_SOCKET.as_bytes();
    let mut file = File::open(format!("/proc/{pid}/exe")).ok()?.take(MOST);
    let mut buffer = Vec::with_capacity(1 << 20);
    loop {
        let read = (&mut file).take(1 << 20).read_to_end(&mut buffer).ok()?;
        if buffer.windows(word.len()).any(|window| window == word) {
            return Some(true);
        }
        if read == 0 {
            return Some(false);
        }
        // The string may lie across two pieces.
        buffer.drain(..buffer.len().saturating_sub(word.len()));
    }
}
