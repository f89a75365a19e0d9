//! Checks what stacks a program gives: how they are unwound, which names they get, and whether CPU samples are taken.

use super::Findings;
use crate::format::{bytes, count, counted};
use lookback::read::symbols::{NamesInfo, ProgramInfo};
use lookback::read::wire::{Metadata, key};
use lookback::read::{EventKind, Trace};
use std::path::{Path, PathBuf};

/// Of a process: by the file that it runs, even if that was replaced.
pub fn look_at_process(pid: u32, trace: &Trace, findings: &mut Findings) {
    look(&PathBuf::from(format!("/proc/{pid}/exe")), trace, findings);
}

/// Of a snapshot: by the file on this machine, if it is of this machine.
pub fn look_at_snapshot(trace: &Trace, findings: &mut Findings) {
    let here = crate::process::boot_id_text();
    let is_here = here.is_some() && here.as_deref() == trace.metadata().text(key::BOOT_ID);
    match trace.metadata().text(key::PROCESS_EXECUTABLE).filter(|_| is_here) {
        Some(path) => look(Path::new(path), trace, findings),
        None => samples(trace, findings),
    }
}

fn look(program: &Path, trace: &Trace, findings: &mut Findings) {
    if trace.metadata().number(key::STACKS) == Some(0) {
        let advice = "start it without `LOOKBACK_STACKS=off`, or without `.stacks(false)`";
        return findings.hint("stacks", "they were turned off", advice);
    }
    if let Some(program) = ProgramInfo::of(program) {
        let called = trace.metadata().text(key::PROCESS_NAME).unwrap_or("the program");
        unwinding(called, &program, findings);
        names(called, &program, findings);
    }
    samples(trace, findings);
}

fn unwinding(called: &str, program: &ProgramInfo, findings: &mut Findings) {
    if cfg!(target_arch = "aarch64") {
        let what = "stacks are walked by frame pointers, which the compiler keeps on this machine";
        let advice = "if they end early, build with `-C force-frame-pointers=yes`: in .cargo/config.toml, \
                      `[build] rustflags = [\"-C\", \"force-frame-pointers=yes\"]`";
        return findings.hint("unwinding", what, advice);
    }
    if program.functions == 0 {
        let what = format!("{called} has no unwind tables: its stacks end in its own code");
        let advice =
            "build it without `-C force-unwind-tables=no`, and keep the section `.eh_frame`";
        return findings.warning("unwinding", what, advice);
    }
    let what = format!(
        "by the compiler's tables: rules for {} of {called}, {}",
        counted(program.functions, "function"),
        bytes(program.unwind_bytes),
    );
    findings.ok("unwinding", what);
}

fn names(called: &str, program: &ProgramInfo, findings: &mut Findings) {
    let place = match &program.debug_file {
        Some(file) => format!(" (in {})", file.display()),
        None => String::new(),
    };
    match program.names {
        NamesInfo::All => {
            findings.ok("names", format!("all functions, inlined ones too, with lines{place}"));
        }
        NamesInfo::Split => {
            let what = "debug information is split off, into .dwo files or a .dwp file";
            let advice = "keep these beside the executable: `lookback symbolize` on this machine puts the names into a \
                          snapshot";
            findings.hint("names", format!("{what}{place}"), advice);
        }
        NamesInfo::Lines => {
            let what =
                format!("functions with lines{place}; inlined functions have names without paths");
            let advice = "`debug = 1` under `[profile.release]` in Cargo.toml gives all of them";
            findings.hint("names", what, advice);
        }
        NamesInfo::Symbols => {
            let what = format!(
                "{called} has those of its functions alone: no lines, and inlined functions are missing"
            );
            let advice = "`debug = 1` under `[profile.release]` in Cargo.toml gives both; \
                          `debug = \"line-tables-only\"` takes less room, and inlined functions lack their paths";
            findings.warning("names", what, advice);
        }
        _ => {
            let what = format!("{called} has none, it is stripped: stacks are offsets");
            let advice = "`strip = false` and `debug = 1` under `[profile.release]` in Cargo.toml give all of them; or \
                          keep the unstripped file, for --symbols";
            findings.warning("names", what, advice);
        }
    }
}

/// Whether CPU samples are taken that were asked for.
fn samples(trace: &Trace, findings: &mut Findings) {
    let metadata: &Metadata = trace.metadata();
    let Some(hz) = metadata.number(key::CPU_SAMPLES).filter(|hz| *hz > 0) else { return };
    let asked = format!("{} a second of CPU time were asked for", count(hz));
    if let Some(trouble) = metadata.text(key::CPU_SAMPLES_TROUBLE) {
        let advice = "see docs/cpu.md: the signals that the user may have queued (`ulimit -i`), seccomp, or a signal that the \
                      service blocks";
        return findings.warning("cpu", format!("{asked}, and none is taken: {trouble}"), advice);
    }
    let (mut placed, mut unplaced) = (0_u64, 0_u64);
    for event in trace.events().flatten() {
        if let EventKind::CpuSample { .. } = event.kind() {
            *if event.stack().is_some() { &mut placed } else { &mut unplaced } += 1;
        }
    }
    match (placed, unplaced) {
        (0, 0) => {
            let what = format!(
                "{asked}, and there is no sample: no thread has used as much CPU time as lies between two, or the kernel \
                 refuses the timers, which `Recorder::stats` says (`cpu_samples.trouble`)"
            );
            findings.unknown("cpu", what);
        }
        (0, _) => {
            let what = format!("{} without any stack", counted(unplaced, "CPU sample"));
            findings.warning("cpu", what, "`lookback stacks --cpu` says why");
        }
        _ => findings.ok("cpu", format!("{asked}; {}", counted(placed + unplaced, "sample"))),
    }
}
