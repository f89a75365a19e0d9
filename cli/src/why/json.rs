//! The account as JSON. Its keys are stable.

use super::print::awaited;
use crate::frames;
use lookback::read::Trace;
use lookback::read::analysis::{
    AllOfName, LockWaitedFor, Part, Spent, State, TaskRef, ThreadRef, Why,
};
use lookback::read::symbols::Symbolizer;
use serde_json::{Value, json};

pub fn why(
    why: &Why,
    trace: &Trace,
    damage: &[String],
    mut symbolizer: Option<&mut Symbolizer>,
) -> Value {
    let of_all = why.all.as_ref().map(|of| all(of, symbolizer.as_deref_mut()));
    let stretches = why.spent.longest.iter().map(|stretch| {
        json!({
            "t_ns": stretch.began.0,
            "ns": stretch.length.0,
            "state": stretch.state.key(),
            "words": stretch.state.in_words(),
        })
    });
    let stretches: Vec<_> = stretches.collect();
    let seen: Vec<_> = why
        .spent
        .seen
        .iter()
        .map(|seen| {
            json!({
                "t_ns": seen.first.0,
                "times": seen.times,
                "frames": frames::json(&seen.stack, symbolizer.as_deref_mut()),
            })
        })
        .collect();
    json!({
        "file": trace.file(),
        "span": why.span.as_ref().map(|span| json!({
            "span": span.span.to_string(),
            "name": span.name,
            "fields": span.fields,
        })),
        "task": why.task.as_ref().map(|task| json!({
            "task": task.task.to_string(),
            "name": task.name,
        })),
        "t_ns": why.began.0,
        "from_ns": why.from.0,
        "length_ns": why.length.0,
        "open": why.is_open,
        "shared": why.is_shared,
        "certain": why.is_certain,
        "parts": parts(&why.spent, symbolizer),
        "longest": stretches,
        "seen": seen,
        "all": of_all,
        "damage": damage,
    })
}

fn parts(spent: &Spent, mut symbolizer: Option<&mut Symbolizer>) -> Value {
    let whole = spent.length.0.max(1) as f64;
    let parts = spent.parts.iter().map(|one| part(one, whole, symbolizer.as_deref_mut()));
    parts.collect()
}

fn part(part: &Part, whole: f64, mut symbolizer: Option<&mut Symbolizer>) -> Value {
    let mut value = json!({
        "state": part.state.key(),
        "words": part.state.in_words(),
        "ns": part.time.0,
        "share": part.time.0 as f64 / whole,
        "times": part.times,
        "longest_ns": part.longest.0,
        "longest_t_ns": part.longest_at.0,
    });
    let (thread, task, reason, lock) = whom(&part.state);
    if let Some(thread) = thread {
        value["thread"] = thread.number.0.into();
        value["thread_name"] = thread.name.as_str().into();
        value["worker"] = thread.worker_label().into();
    }
    if let Some(task) = task {
        value["task"] = task.task.to_string().into();
        value["task_name"] = task.name.as_str().into();
    }
    if let Some(reason) = reason {
        value["reason"] = reason.into();
    }
    if let Some(lock) = lock {
        value["lock"] = lock_json(lock);
    }
    if let Some(awaited) = awaited(&part.state, symbolizer.as_deref_mut()) {
        value["awaited"] = awaited.in_words().into();
    }
    if !part.state.stack().is_empty() {
        value["frames"] = frames::json(part.state.stack(), symbolizer.as_deref_mut());
    }
    if let Some(followed) = &part.followed {
        value["followed"] =
            json!({ "ns": followed.length.0, "parts": parts(followed, symbolizer) });
    }
    value
}

/// The thread, the task, the reason and the lock of a state, as far as it has them.
type Whom<'a> =
    (Option<&'a ThreadRef>, Option<&'a TaskRef>, Option<&'a str>, Option<&'a LockWaitedFor>);

fn whom(state: &State) -> Whom<'_> {
    match state {
        State::Running { thread }
        | State::WaitingForCore { thread }
        | State::Polled { thread }
        | State::Blocked { thread, .. } => (Some(thread), None, None, None),
        State::Ready { thread, meanwhile, .. } => (thread.as_ref(), meanwhile.as_ref(), None, None),
        State::Lock(lock) => (None, None, None, Some(lock)),
        State::Task { task, reason, .. } => (None, Some(task), reason.as_deref(), None),
        State::Wake { thread, reason, .. } => (thread.as_ref(), None, reason.as_deref(), None),
        State::NotWoken { reason, .. } => (None, None, reason.as_deref(), None),
        _ => (None, None, None, None),
    }
}

fn lock_json(lock: &LockWaitedFor) -> Value {
    json!({
        "number": lock.lock,
        "kind": lock.kind.map(|kind| kind.name()),
        "at": lock.place,
        "held_at": lock.held_at,
        "os_thread": lock.os_thread,
        "thread": lock.thread.as_ref().map(|thread| thread.number.0),
        "task": lock.task.as_ref().map(|task| task.task.to_string()),
        "task_name": lock.task.as_ref().map(|task| task.name.as_str()),
        "across_await": lock.is_across_await,
    })
}

fn all(all: &AllOfName, symbolizer: Option<&mut Symbolizer>) -> Value {
    let slowest = all.slowest.iter().map(|part| {
        let whole = part.time.0.max(1) as f64;
        let parts = part.parts.iter().map(
            |(words, time)| json!({ "words": words, "ns": time.0, "share": time.0 as f64 / whole }),
        );
        json!({
            "beyond": part.beyond,
            "limit_ns": part.limit.0,
            "spans": part.spans,
            "ns": part.time.0,
            "parts": parts.collect::<Vec<_>>(),
        })
    });
    json!({
        "name": all.name,
        "count": all.lengths.count(),
        "open": all.open,
        "p50_ns": all.lengths.percentile(0.5).0,
        "p90_ns": all.lengths.percentile(0.9).0,
        "p99_ns": all.lengths.percentile(0.99).0,
        "max_ns": all.lengths.most().0,
        "slowest": slowest.collect::<Vec<_>>(),
        "accounted": {
            "spans": all.accounted,
            "ns": all.spent.length.0,
            "parts": parts(&all.spent, symbolizer),
        },
    })
}
