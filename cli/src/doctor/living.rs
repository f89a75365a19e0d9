//! Whether a process records as it should, from what its arena's header says.

use super::Findings;
use crate::process;
use crate::ps::rate;
use crate::text::{count, duration};
use lookback::read::wire::ArenaHeader;

/// An advance takes milliseconds; one that takes longer than this hangs.
const STALLED: u64 = 2_000_000_000;

pub fn look(pid: u32, header: &ArenaHeader, findings: &mut Findings) {
    if let Some(why) = process::standstill(pid) {
        let advice = "`kill -CONT` lets it go on; a snapshot can be taken all the same";
        findings.warning("process", format!("it does not run: {why}"), advice);
    }
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
            "the end of generation {} has been pending for {}: a thread stands in the middle of an event",
            header.complete.next(),
            duration(age)
        );
        let advice = "a debugger holds it, or it left a signal handler by `longjmp`; snapshots still \
                      work, but the arena fills up";
        findings.problem("advance", what, advice);
    }
}
