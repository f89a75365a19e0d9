//! What a reader makes of a file is bounded by the file's content: a few malicious kilobytes do not become
//! gigabytes. The tests count bytes, not time, so none depends on the machine.
#![cfg(feature = "read")]

use lookback_snapshot::analysis;
use lookback_snapshot::export::go::{Report, export};
use lookback_snapshot::text::from_text;
use lookback_snapshot::wire::Generation;
use lookback_snapshot::{Trace, validate};
use std::fmt::Write;

/// The most bytes of a Go trace for each byte of a snapshot's records, and in addition.
const MOST_BYTES: usize = 64;
const MOST_BESIDE: usize = 1 << 20;

/// A file of one block: `definitions`, and then `events`, each a tick after the previous one.
fn file(definitions: &str, events: impl IntoIterator<Item = String>) -> String {
    let mut text = String::from(
        "metadata \"process.pid\" 17\n\
         generation 1 complete began=0:0:0:1000000000 ended=900000000:900000000:900000000:1000000000\n\
         block slot=1 sequence=0 thread=1 base=0 first_event=0\n",
    );
    text.push_str(definitions);
    for (tick, event) in events.into_iter().enumerate() {
        writeln!(text, "  @{} {event}", tick + 1).unwrap();
    }
    text
}

/// Exports a file in text form, and compares the size of the result with that of its records.
#[track_caller]
fn exported(text: &str) -> Report {
    let bytes = from_text(text).unwrap();
    let trace = Trace::from_bytes(bytes).unwrap();
    let records: u64 = trace.generations().iter().map(|info| info.bytes).sum();
    let mut out = Vec::new();
    let report = export(&trace, &mut out).unwrap();
    assert_eq!(report.refused, 0);
    let budget = MOST_BESIDE + MOST_BYTES * usize::try_from(records).unwrap();
    assert!(out.len() <= budget, "{} bytes of {records}, budget {budget}", out.len());
    report
}

/// A thousand spans are entered, and then the outermost one again and again: it is exited and entered, so all
/// the others end and begin again each time.
#[test]
fn regions_that_end_from_the_outside_become_no_gigabytes() {
    let spans = 1000_u32;
    let mut events = vec!["thread_start thread=1 os_thread=7 name=\"main\"".to_owned()];
    for span in 0..spans {
        events.push(format!(
            "span_create span={span} incarnation=1 parent=0 parent_incarnation=0 site=1 fields={{}}"
        ));
        events.push(format!("span_enter span={span} incarnation=1"));
    }
    for turn in 0..8_000 {
        let span = turn % spans;
        events.push(format!("span_exit span={span} incarnation=1"));
        events.push(format!("span_enter span={span} incarnation=1"));
    }
    let report = exported(&file(
        "  callsite id=1 name=\"s\" file=\"a.rs\" line=1 target=\"t\" level=3 fields=[]\n",
        events,
    ));
    // They last as long as what is inside them, so there are too many, too.
    assert!(report.left_out.deep > 0, "{report:?}");
    let turns = report.regions_begun.recorded() + report.left_out.deep;
    assert_eq!(turns, u64::from(spans) + 8_000);
}

/// One long text that each of many events names by a byte or two.
#[test]
fn a_text_that_is_named_often_is_written_once() {
    let long = "x".repeat(1024);
    let definitions = format!(
        "  string id=1 text=\"{long}\"\n\
         \x20 site id=2 name=\"cache\" file=\"a.rs\" line=1\n\
         \x20 callsite id=3 name=\"s\" file=\"a.rs\" line=1 target=\"t\" level=3 fields=[\"a\", \"b\"]\n"
    );
    let logs = (0..10_000).map(|_| "log level=3 site=2 message=&1".to_owned());
    let spans = (1..5_000).map(|span| {
        format!(
            "span_create span={span} incarnation=1 parent=0 parent_incarnation=0 site=3 \
             fields={{0: &1, 1: &1}}"
        )
    });
    let report = exported(&file(&definitions, logs.chain(spans)));
    assert_eq!(report.logs.all, 10_000 + 2 * 4_999);
}

/// Nested polls, and workers that change their threads: as many of each as there are events.
#[test]
fn polls_within_polls_without_end_are_kept_to_a_limit() {
    let tasks = (0..3_000).flat_map(|task| {
        [
            format!("task_create task={task} incarnation=1 sequence=2 site=1"),
            format!("task_poll task={task} sequence=3"),
        ]
    });
    let site = "  site id=1 name=\"Serve\" file=\"a.rs\" line=1\n";
    let report = exported(&file(site, tasks));
    assert_eq!(report.creations.recorded(), 3_000);
}

/// A row of generations without statuses, each of which is read with what the previous ones leave; every one
/// lost events, so each is examined anew.
fn row(length: u64) -> Trace {
    let mut text = String::from("metadata \"process.pid\" 17\n");
    for number in 1..=length {
        let clock = |at: u64| format!("{at}:{at}:{at}:1000000000");
        let (began, ended) = (clock(number * 1000), clock((length + 1) * 1000));
        writeln!(
            text,
            "generation {number} incomplete began={began} ended={ended}\nblock slot=1 thread=1 first_event={}\n  \
             lost cause=1 count=1\n  thread_status thread=1 os_thread=7 name=\"main\"\n  \
             site id=1 name=\"x\" file=\"a.rs\" line=1\n  @5 log level=3 site=1 message=\"x\"",
            2 * number
        )
        .unwrap();
    }
    Trace::from_bytes(from_text(&text).unwrap()).unwrap()
}

/// How many generations are decoded each time that one is requested.
fn decoded(trace: &Trace, work: impl FnOnce(&Trace)) -> u64 {
    let before = trace.decoded();
    work(trace);
    trace.decoded() - before
}

#[test]
fn a_row_of_generations_without_statuses_is_decoded_a_few_times_and_not_once_for_each() {
    const LENGTH: u64 = 400;
    const MOST: u64 = 4 * LENGTH;
    let in_order = |trace: &Trace| {
        for number in 1..=LENGTH {
            assert_eq!(trace.generation(Generation(number)).unwrap().events().count(), 1);
        }
    };
    type Work<'a> = (&'a str, &'a dyn Fn(&Trace));
    let all: [Work<'_>; 6] = [
        ("one after the other", &in_order),
        ("events", &|trace| assert_eq!(trace.events().count() as u64, LENGTH)),
        ("generations", &|trace| assert_eq!(trace.generations().len() as u64, LENGTH)),
        ("validate", &|trace| assert_eq!(validate(trace).len(), 0)),
        ("report", &|trace| drop(analysis::Report::of(trace))),
        ("export", &|trace| drop(export(trace, &mut Vec::new()).unwrap())),
    ];
    for (what, work) in all {
        let decoded = decoded(&row(LENGTH), work);
        assert!(decoded <= MOST, "{what}: {decoded} decoded for {LENGTH}");
    }
}

#[test]
fn any_of_a_row_of_generations_without_statuses_is_found_by_a_few_steps() {
    const LENGTH: u64 = 400;
    let trace = row(LENGTH);
    let first = decoded(&trace, |trace| drop(trace.generation(Generation(LENGTH)).unwrap()));
    assert!(first <= LENGTH, "{first}");
    for number in [LENGTH, 1, LENGTH - 1, 17, 200, 199, 201] {
        let again = decoded(&trace, |trace| drop(trace.generation(Generation(number)).unwrap()));
        assert!(again <= 8, "{number}: {again}");
    }
}
