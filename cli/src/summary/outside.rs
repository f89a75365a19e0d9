//! What the stacks that were taken from outside say: who waits for whom.

use crate::format::{counted, shell_word};
use crate::stacks::Threads;
use lookback::Trace;
use lookback::read::symbols::Symbolizer;
use serde_json::{Value, json};
use std::path::Path;

/// How many locks are shown.
const MOST_LOCKS: usize = 8;
/// How many of the threads that wait for a lock are named.
const MOST_WAITERS: usize = 8;

/// A heading, and lines below it; nothing if no stacks were taken from outside.
pub fn lines(trace: &Trace, symbolizer: Option<&mut Symbolizer>, file: &Path) -> Vec<String> {
    let Some(stacks) = trace.process_stacks() else { return Vec::new() };
    let mut lines = vec!["Threads".to_owned()];
    // Without names nothing is known of what is waited for.
    if let Some(symbolizer) = symbolizer {
        let threads = Threads::of(stacks, symbolizer);
        lines.extend(threads.blocked.circles.iter().flat_map(|circle| threads.circle(circle)));
        let locks = threads.locks();
        for (address, holder, waiters) in locks.iter().take(MOST_LOCKS) {
            let named = waiters.iter().take(MOST_WAITERS).map(|at| threads.called(*at));
            let mut named = named.collect::<Vec<_>>().join(", ");
            if waiters.len() > MOST_WAITERS {
                named += &format!(", and {} more", waiters.len() - MOST_WAITERS);
            }
            let wait = if waiters.len() == 1 { "waits" } else { "wait" };
            let held = match holder {
                Some(of) if of.is_certain => format!("held by {}", threads.called(of.thread)),
                Some(of) => format!(
                    "perhaps held by {}, which has it on its stack",
                    threads.called(of.thread)
                ),
                None => "who holds it is not known".to_owned(),
            };
            lines.push(format!("lock {address:#x}: {held}; {named} {wait}"));
        }
        if locks.len() > MOST_LOCKS {
            let more = counted((locks.len() - MOST_LOCKS) as u64, "more lock");
            lines.push(format!("{more}, see --json"));
        }
    }
    let many = counted(stacks.threads.len() as u64, "thread");
    lines.push(format!("{many} from outside: lookback stacks {}", shell_word(file)));
    lines
}

/// For programs.
pub fn json(trace: &Trace, symbolizer: Option<&mut Symbolizer>) -> Value {
    let Some(stacks) = trace.process_stacks() else { return Value::Null };
    let Some(symbolizer) = symbolizer else {
        return json!({"threads": stacks.threads.len(), "deadlocks": [], "locks": []});
    };
    let threads = Threads::of(stacks, symbolizer);
    let thread = |at: &usize| {
        json!({
            "os_thread": stacks.threads[*at].os_thread,
            "name": stacks.threads[*at].name,
            "waits": threads.waits_for(*at),
        })
    };
    let circles = threads.blocked.circles.iter();
    let circles = circles.map(|circle| circle.iter().map(thread).collect::<Vec<_>>());
    let lock = |(address, holder, waiters): &crate::stacks::Lock| {
        json!({
            "address": format!("{address:#x}"),
            "holder": holder.map(|of| json!({"os_thread": stacks.threads[of.thread].os_thread, "certain": of.is_certain})),
            "waiters": waiters.iter().map(|at| stacks.threads[*at].os_thread).collect::<Vec<_>>(),
        })
    };
    json!({
        "threads": stacks.threads.len(),
        "deadlocks": circles.collect::<Vec<_>>(),
        "locks": threads.locks().iter().map(lock).collect::<Vec<_>>(),
    })
}
