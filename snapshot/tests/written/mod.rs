//! Traces written by hand, in the text form.
#![allow(dead_code, reason = "each test file uses a part of it")]

use lookback_snapshot::text::from_text;
use lookback_snapshot::{Event, EventKind, Trace, validate};

/// How many ticks a generation takes; a tick is 5 ns.
pub const PERIOD: u64 = 1_000_000;

/// A complete generation. The collector's statuses, if any, are in a block of slot 0 at the end of `body`;
/// the end record is added.
pub fn complete(number: u64, body: &str) -> String {
    lossy(number, body, "[]")
}

/// Like [`complete`], with these losses in the end record.
pub fn lossy(number: u64, body: &str, lost: &str) -> String {
    let events = body.lines().filter(|line| line.trim().starts_with('@')).count();
    let slot = if body.contains("block slot=0") { "" } else { "block slot=0\n" };
    format!(
        "{}{body}\n{slot}end events={events} bytes=0 blocks=0 lost={lost} advances=[] waits=[] \
         snapshots=[]\n",
        head(number, "complete")
    )
}

/// An incomplete generation.
pub fn incomplete(number: u64, body: &str) -> String {
    format!("{}{body}\n", head(number, "incomplete"))
}

fn head(number: u64, complete: &str) -> String {
    let clock = |ticks: u64| format!("{ticks}:{}:{}:200000000", ticks * 5, ticks * 5);
    let (began, ended) = (clock(number * PERIOD), clock((number + 1) * PERIOD));
    format!("generation {number} {complete} began={began} ended={ended}\n")
}

#[track_caller]
pub fn trace(text: &str) -> Trace {
    let bytes = from_text(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Trace::from_bytes(bytes).unwrap()
}

/// What `validate` finds.
#[track_caller]
pub fn violations(text: &str) -> Vec<String> {
    validate(&trace(text)).iter().map(|violation| violation.what().to_owned()).collect()
}

/// Exactly these violations are found: each contains these words.
#[track_caller]
pub fn assert_found(text: &str, words: &[&str]) {
    let found = violations(text);
    let all = found.len() == words.len()
        && found.iter().zip(words).all(|(found, words)| found.contains(words));
    assert!(all, "{found:#?}\n{text}");
}

/// One complete generation with this content has exactly these violations.
#[track_caller]
pub fn assert_one(body: &str, words: &[&str]) {
    assert_found(&complete(1, body), words);
}

/// The events in order, without their times: kind, object, and context.
pub fn events(text: &str) -> Vec<String> {
    trace(text).events().map(|event| words(&event.unwrap())).collect()
}

pub fn words(event: &Event) -> String {
    let mut words = event.kind_name().to_owned();
    let mut say = |what: String| {
        words.push(' ');
        words.push_str(&what);
    };
    match event.kind() {
        EventKind::TaskCreate { task, .. }
        | EventKind::TaskPoll { task }
        | EventKind::TaskPending { task, .. }
        | EventKind::TaskReady { task }
        | EventKind::TaskPanic { task }
        | EventKind::TaskDrop { task }
        | EventKind::TaskWake { task } => say(format!("{task}#{}", event.sequence().unwrap_or(0))),
        EventKind::SpanCreate { span, parent, .. } => {
            say(span.to_string());
            if let Some(parent) = parent {
                say(format!("in {parent}"));
            }
        }
        EventKind::SpanEnter { span }
        | EventKind::SpanExit { span }
        | EventKind::SpanClose { span }
        | EventKind::SpanRecord { span } => say(span.to_string()),
        EventKind::SpanFollows { span, from } => say(format!("{span} from {from}")),
        EventKind::WorkerStart { worker }
        | EventKind::WorkerPark { worker }
        | EventKind::WorkerUnpark { worker }
        | EventKind::WorkerStop { worker } => say(worker.to_string()),
        EventKind::PoolThread { runtime } => say(runtime.to_string()),
        _ => say(event.name().to_owned()),
    }
    words
}
