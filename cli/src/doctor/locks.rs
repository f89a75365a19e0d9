//! Whether waits for locks are recorded, and which.

use super::Findings;
use crate::format::{counted, duration};
use lookback::read::Trace;
use lookback::read::analysis::Locks;
use lookback::read::wire::key;

/// What nobody sees in them.
const OF_STD: &str = "those of `std::sync`, `tokio::sync` and `parking_lot` themselves are seen only on the stacks of threads and \
                      tasks that wait";

pub fn look(trace: &Trace, locks: &Locks, findings: &mut Findings) {
    let Some(limit) = trace.metadata().number(key::LOCK_WAITS) else {
        // An older recorder, or one that is told to.
        if trace.metadata().number(key::STACKS).is_some() {
            findings.ok("locks", format!("no wait for a lock is recorded; {OF_STD}"));
        }
        return;
    };
    let limit = duration(limit);
    let going_on = locks.going_on.len() as u64;
    if locks.waits == 0 && going_on == 0 {
        let what = format!(
            "no wait of {limit} or more for a lock of `lookback::sync`, `lookback::tokio::sync` or `lookback::sync::RawMutex`; \
             {OF_STD}"
        );
        return findings.ok("locks", what);
    }
    let goes_on = match going_on {
        0 => String::new(),
        1 => ", and 1 goes on".to_owned(),
        many => format!(", and {many} go on"),
    };
    findings.ok(
        "locks",
        format!(
            "{} of {limit} or more for {}{goes_on}; {OF_STD}",
            counted(locks.waits, "wait"),
            counted(locks.many, "recorded lock"),
        ),
    );
}
