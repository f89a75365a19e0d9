//! The order of events is that in which they happened, whatever the clocks say.
#![cfg(feature = "read")]

mod program;
mod written;

use lookback_snapshot::{Event, EventKind, Trace};
use program::{Program, scrambled};
use std::collections::BTreeMap;
use written::{PERIOD, assert_found, complete, events, trace, violations, words};

/// What happens to one thing, in order. Of a task only transitions count: wakes may come anywhere after what
/// they saw.
fn by_resource(trace: &Trace) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let mut add = |of: String, event: &Event| found.entry(of).or_default().push(words(event));
    for event in trace.events() {
        let event = event.unwrap();
        add(format!("slot {}", event.slot()), &event);
        match event.kind() {
            EventKind::TaskCreate { task, .. }
            | EventKind::TaskPoll { task }
            | EventKind::TaskPending { task, .. }
            | EventKind::TaskReady { task }
            | EventKind::TaskPanic { task }
            | EventKind::TaskDrop { task } => add(format!("task {}", task.index), &event),
            // Not when a thread says that it is no worker any more: it may notice that late.
            EventKind::WorkerStart { worker }
            | EventKind::WorkerPark { worker }
            | EventKind::WorkerUnpark { worker } => add(format!("worker {worker}"), &event),
            EventKind::SpanCreate { span, .. } | EventKind::SpanClose { span } => {
                add(format!("span {}", span.index), &event);
            }
            _ => {}
        }
    }
    found
}

/// Each wake comes after what it saw; a span is created before and closed after everything else about it.
#[track_caller]
fn assert_causal(trace: &Trace) {
    let (mut reached, mut over) = (BTreeMap::new(), std::collections::BTreeSet::new());
    let mut open = std::collections::BTreeSet::new();
    for info in trace.generations() {
        let generation = trace.generation(info.number).unwrap();
        open.extend(generation.spans().map(|status| status.span));
        for task in generation.tasks() {
            reached.insert(task.task.index, task.sequence.unwrap_or(u64::MAX));
        }
        for event in generation.events() {
            let event = event.unwrap();
            match event.kind() {
                EventKind::TaskWake { task } => {
                    assert!(reached[&task.index] >= event.sequence().unwrap(), "{event:?}");
                }
                EventKind::SpanCreate { span, .. } => drop(open.insert(span)),
                EventKind::SpanClose { span } => {
                    assert!(open.remove(&span) && over.insert(span), "{event:?}");
                }
                EventKind::SpanEnter { span }
                | EventKind::SpanExit { span }
                | EventKind::SpanRecord { span } => assert!(open.contains(&span), "{event:?}"),
                kind => {
                    if let (Some(number), Some(task)) = (event.sequence(), subject(&kind)) {
                        reached.insert(task, number);
                    }
                }
            }
        }
    }
}

fn subject(kind: &EventKind<'_>) -> Option<u32> {
    match kind {
        EventKind::TaskCreate { task, .. }
        | EventKind::TaskPoll { task }
        | EventKind::TaskPending { task, .. }
        | EventKind::TaskReady { task }
        | EventKind::TaskPanic { task }
        | EventKind::TaskDrop { task } => Some(task.index),
        _ => None,
    }
}

#[test]
fn whatever_the_times_the_order_of_each_thing_is_the_same() {
    for seed in 0..150 {
        let written = Program::new(seed).run(3, 150, seed % 3 == 0);
        let text = written.concat();
        let found = violations(&text);
        assert!(found.is_empty(), "seed {seed}: {found:#?}\n{text}");
        let sound = trace(&text);
        let expected = by_resource(&sound);
        assert_causal(&sound);
        for other in 0..4 {
            let mixed = scrambled(&text, seed * 10 + other);
            let found = violations(&mixed);
            assert!(found.is_empty(), "seed {seed}, {other}: {found:#?}\n{mixed}");
            let mixed = trace(&mixed);
            let found = by_resource(&mixed);
            assert!(found.keys().eq(expected.keys()), "seed {seed}, {other}");
            for (of, order) in &expected {
                assert_eq!(&found[of], order, "seed {seed}, {other}: {of}");
            }
            assert_causal(&mixed);
        }
        // And each complete generation stands alone.
        for generation in written.iter().filter(|text| !text.contains("incomplete")) {
            let found = violations(generation);
            assert!(found.is_empty(), "seed {seed}: {found:#?}\n{generation}");
        }
    }
}

#[test]
fn an_event_that_is_left_out_is_found() {
    let (mut found, mut left_out) = (0, 0);
    for seed in 0..60 {
        let text = Program::new(seed).run(2, 120, false).concat();
        let lines: Vec<_> = text.lines().collect();
        // A change that the next generation states.
        let owned = ["task_poll", "task_pending", "task_drop", "span_create", "span_close"];
        let first = lines.iter().position(|line| line.starts_with("generation 2")).unwrap();
        let at: Vec<_> = (0..first)
            .filter(|at| owned.iter().any(|kind| lines[*at].contains(&format!(" {kind}"))))
            .collect();
        let Some(&at) = at.get(seed as usize % at.len().max(1)) else { continue };
        let without: Vec<_> = lines
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != at)
            .map(|(_, line)| *line)
            .collect();
        left_out += 1;
        let what = violations(&without.join("\n"));
        // The end record reveals it in any case; something else must, too.
        let told = |what: &String| {
            !what.contains("the end record says") && !what.contains("its first event")
        };
        let is_found = what.iter().any(told);
        assert!(is_found, "seed {seed}: without {}\n{what:#?}\n{text}", lines[at]);
        found += u32::from(is_found);
    }
    assert_eq!(found, left_out);
}

fn thread(slot: u32, body: &str) -> String {
    format!(
        "block slot={slot} thread={slot}\n@1 thread_start thread={slot} os_thread=4 name=\"t{slot}\"\n{body}\n"
    )
}

const SITES: &str = "site id=1 name=\"S\" file=\"a.rs\" line=1\ncallsite id=2 name=\"s\" file=\"a.rs\" line=2 target=\"t\" level=3 fields=[]\n";

#[test]
fn without_tasks_time_decides_and_then_the_slot() {
    let first = format!("{SITES}@10 region_begin site=1\n@30 region_end");
    let second = "@10 region_begin site=1\n@20 region_end";
    let text = complete(1, &(thread(1, &first) + &thread(2, second)));
    let slots: Vec<_> = trace(&text).events().map(|event| event.unwrap().slot()).collect();
    assert_eq!(slots, [1, 2, 1, 2, 2, 1]);
}

#[test]
fn a_thread_that_was_held_up_at_the_end_of_a_generation_changes_no_length() {
    let begun = format!("{SITES}@10 span_create span=1 incarnation=1 site=2 fields={{}}");
    // It writes to the generation a quarter of a period after that has ended.
    let late = format!("@{} region_begin site=1", PERIOD + PERIOD / 4);
    let listed =
        "block slot=0\nthread_status thread=2 os_thread=4 name=\"t2\"\nregion_status site=1 ago=0";
    let ended = format!(
        "block slot=1 thread=1\nthread_status thread=1 os_thread=4 name=\"t1\"\n{SITES}\
         span_status span=1 incarnation=1 parent=0 parent_incarnation=0 ago=0 site=2 fields={{}}\n\
         @20 span_close span=1 incarnation=1\n{listed}"
    );
    let text = complete(1, &(thread(1, &begun) + &thread(2, &late))) + &complete(2, &ended);
    let trace = trace(&text);
    let events: Vec<Event> = trace.events().map(Result::unwrap).collect();
    assert!(events.iter().map(|event| event.time()).is_sorted());
    let of_span = |name: &str| {
        let found = events.iter().find(|event| event.kind_name() == name).unwrap();
        (found.time().0, found.measured().0)
    };
    let (created, closed) = (of_span("span_create"), of_span("span_close"));
    // A tick is 5 ns.
    assert_eq!(closed.1 - created.1, (PERIOD + 10) * 5);
    assert!(closed.0 > closed.1, "it stands behind what was written late");
    let report = lookback_snapshot::analysis::Report::of(&trace);
    assert_eq!(report.spans.table.names[0].slowest[0].length.0, (PERIOD + 10) * 5);
}

#[test]
fn a_task_that_goes_from_thread_to_thread_is_followed() {
    let first = format!(
        "{SITES}@90 task_create task=0 incarnation=1 sequence=2 site=1\n@95 task_poll task=0 sequence=5\n@99 task_ready"
    );
    let second = "@10 task_poll task=0 sequence=3\n@11 task_pending\n@12 task_wake task=0 sequence=4\n@13 task_create task=0 incarnation=2 sequence=8 site=1";
    let third = "@5 task_wake task=0 sequence=6";
    let text = complete(1, &(thread(1, &first) + &thread(2, second) + &thread(3, third)));
    assert_found(&text, &["it is woken when it is over"]);
    let text = text.replace("@5 task_wake task=0 sequence=6", "@5 task_wake task=0 sequence=5");
    assert_found(&text, &[]);
    assert_eq!(
        events(&text)[3..],
        [
            "task_create 0#2",
            "task_poll 0#3",
            "task_pending 0#4",
            "task_wake 0#4",
            "task_poll 0#5",
            "task_wake 0#5",
            "task_ready 0#6",
            "task_create 0.2#8",
        ]
    );
}

#[test]
fn a_span_is_closed_behind_all_that_names_it() {
    let first = format!(
        "{SITES}@90 span_create span=1 incarnation=1 site=2 fields={{}}\n@91 span_enter\n@92 span_exit"
    );
    let second = "@10 span_enter span=1 incarnation=1\n@11 span_exit\n@12 span_close";
    let third = "@5 span_create span=1 incarnation=2 site=2 fields={}";
    let text = complete(1, &(thread(1, &first) + &thread(2, second) + &thread(3, third)));
    assert_found(&text, &[]);
    assert_eq!(
        events(&text)[3..],
        [
            "span_create 1",
            "span_enter 1",
            "span_exit 1",
            "span_enter 1",
            "span_exit 1",
            "span_close 1",
            "span_create 1.2",
        ]
        .map(str::to_owned)
        .to_vec()
    );
}

#[test]
fn streams_that_wait_for_each_other_go_on_all_the_same() {
    let first = format!(
        "{SITES}@10 task_poll task=1 sequence=5\n@11 task_pending\n@12 task_create task=0 incarnation=1 sequence=2 site=1"
    );
    let second = "@20 task_poll task=0 sequence=3\n@21 task_pending\n@22 task_create task=1 incarnation=1 sequence=2 site=1";
    let text = complete(1, &(thread(1, &first) + &thread(2, second)));
    assert_found(&text, &["task 1: transition 5; 2 was to come"]);
    assert_eq!(events(&text).len(), 8);
}
