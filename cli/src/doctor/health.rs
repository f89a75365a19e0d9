//! Checks from an arena's header whether the process records as it should.

use super::Findings;
use crate::format::{count, counted, duration};
use crate::process;
use crate::ps::rate;
use lookback::read::wire::ArenaHeader;

/// An advance takes milliseconds; one that takes longer than this is stuck.
const STALLED: u64 = 2_000_000_000;

pub fn look(pid: u32, header: &ArenaHeader, findings: &mut Findings) {
    if let Some(why) = process::standstill(pid) {
        let advice = "`kill -CONT` lets it continue; `lookback snapshot` works all the same";
        findings.warning("process", format!("it does not run: {why}"), advice);
    }
    if header.stops > 0 {
        let what =
            format!("it was stopped as a whole, {} since it began", counted(header.stops, "time"));
        let advice = "by SIGSTOP, in a frozen control group, or with its machine; `lookback summary` says when";
        findings.warning("stopped", what, advice);
    }
    saves(header, findings);
    if header.ended || header.running.0 == 0 {
        let advice = "the `Recorder` was stopped or dropped: keep it as long as the process lives";
        findings.problem("recording", "its recording has ended", advice);
        return;
    }
    let rate = rate(header).map(|rate| format!(", {} events/s lately", count(rate.round() as u64)));
    findings
        .ok("recording", format!("generation {} runs{}", header.running, rate.unwrap_or_default()));
    let began = header.entry(header.running).map(|entry| entry.began.monotonic.0);
    let age = began.map_or(0, |began| process::monotonic().saturating_sub(began));
    if header.running.0.saturating_sub(header.complete.0) > 1 && age > STALLED {
        let what = format!(
            "the end of generation {} has been pending for {}: a thread is in the middle of an event",
            header.complete.next(),
            duration(age)
        );
        let advice = "a debugger holds it, or it left a signal handler by `longjmp`; snapshots still work, \
                      with incomplete generations";
        findings.problem("advance", what, advice);
    }
}

/// Whether what triggers is saved.
fn saves(header: &ArenaHeader, findings: &mut Findings) {
    let failed = counted(header.failed_saves, "snapshot");
    let advice = "mend the directory (`snapshot_dir`): is it there, may the process write to it, is there room?";
    match (&header.saves, header.failed_saves) {
        (Some(why), 0) => {
            findings.problem("saves", format!("snapshots cannot be saved: {why}"), advice)
        }
        (Some(why), _) => {
            let what =
                format!("{failed} that triggers asked for could not be saved; the last one: {why}");
            findings.problem("saves", what, advice);
        }
        (None, 0) => {}
        (None, _) => {
            let advice = "its standard error has the reasons; the last one was saved";
            findings.warning(
                "saves",
                format!("{failed} that triggers asked for could not be saved"),
                advice,
            );
        }
    }
}
