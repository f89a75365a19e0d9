//! Compares each rule of the export to Go with what the real `go tool trace` reads.
#![cfg(feature = "read")]

#[path = "../build/mod.rs"]
mod build;
mod generations;
#[path = "../go_tool/mod.rs"]
mod go_tool;
mod nesting;
#[path = "../story/mod.rs"]
mod story;

use build::{Gen, Val, file, service};
use go_tool::{Parsed, go_tool};
use lookback_snapshot::export::go::{Report, export, export_with};
use lookback_snapshot::wire::{TaskId, ValueType};
use lookback_snapshot::{Trace, validate};
use story::Story;

fn exported(bytes: Vec<u8>) -> (Vec<u8>, Report) {
    let trace = Trace::from_bytes(bytes).unwrap();
    let mut out = Vec::new();
    let report = export(&trace, &mut out).unwrap();
    assert_eq!(report.bytes, out.len() as u64);
    assert_eq!(report.refused, 0);
    (out, report)
}

/// The export's report, and what Go has read, if Go is available.
#[track_caller]
fn accepted(bytes: Vec<u8>) -> (Report, Option<Parsed>) {
    let (out, report) = exported(bytes);
    let parsed = go_tool().map(|go| {
        let parsed = go.parse(&out).unwrap_or_else(|error| panic!("{error}\n{report:#?}"));
        parsed.assert_equals(&report);
        parsed
    });
    (report, parsed)
}

/// Like `accepted`, for a story, which must be sound itself.
#[track_caller]
fn told(story: Story) -> (Report, Option<Parsed>) {
    let bytes = story.file();
    let violations = validate(&Trace::from_bytes(bytes.clone()).unwrap());
    assert!(violations.is_empty(), "{violations:#?}");
    accepted(bytes)
}

/// Two workers of a runtime, and a thread that is not a worker.
fn runtime() -> Story {
    let mut story = Story::new();
    for (thread, name) in [(1, "worker-0"), (2, "worker-1"), (3, "main")] {
        story.thread(thread, name);
    }
    story.worker(1, 1, 0);
    story.worker(2, 1, 1);
    story
}

fn go(task: TaskId) -> String {
    format!("GoID={} ", task.number())
}

#[test]
fn a_service_of_threads_has_a_goroutine_for_each() {
    let (report, parsed) = accepted(file(&service(3)));
    assert_eq!(report.creations.recorded(), 3);
    // Two workers, three generations, twenty turns.
    assert_eq!(report.logs.recorded(), 2 * 3 * 20);
    assert_eq!(report.regions_begun.recorded(), 2 * 3 * 21 + 1);
    let Some(parsed) = parsed else { return };
    assert_eq!(parsed.with(&["\"served\"", "Message=\"status=207 path=/item/7\""]).len(), 6);
    assert!(parsed.text.contains("worker-1 @"), "the goroutine has the thread's name");
}

#[test]
fn an_empty_snapshot_is_an_empty_trace() {
    let (report, _) = accepted(file(&[]));
    assert_eq!(report.logs.all, 0);
}

#[test]
fn a_task_is_created_polled_woken_and_done() {
    let mut story = runtime();
    let task = story.create(3, "shop::serve");
    story.poll(1, task);
    story.waits(1, "tokio::time::sleep");
    story.wake(3, task);
    story.poll(2, task);
    story.ready(2);
    let id = story.id(task);
    let (report, parsed) = told(story);
    assert_eq!((report.creations.recorded(), report.starts.recorded()), (3 + 1, 2));
    assert_eq!((report.blocks.recorded(), report.unblocks.recorded()), (1, 1));
    assert_eq!(report.destroys.recorded(), 1);
    assert_eq!(report.left_out.sum(), 0);
    let Some(parsed) = parsed else { return };
    let of = parsed.with(&["StateTransition", &go(id)]);
    let changes = ["NotExist->Runnable", "Runnable->Running", "Running->Waiting"];
    let more = ["Waiting->Runnable", "Runnable->Running", "Running->NotExist"];
    assert_eq!(of.len(), 6, "{of:#?}");
    for (event, change) in of.iter().zip(changes.iter().chain(&more)) {
        assert!(event.contains(change), "{event}");
    }
    assert!(of[2].contains("Reason=\"tokio::time::sleep\""), "{}", of[2]);
    assert!(parsed.text.contains("shop::serve @"), "{}", parsed.text);
    // Worker 1 of the runtime is processor 1, and runs on thread 4002.
    assert!(of[5].starts_with("M=4002 P=1 "), "{}", of[5]);
}

#[test]
fn a_poll_that_nobody_woke_for_is_unblocked_by_nobody() {
    let mut story = runtime();
    let task = story.create(3, "task");
    for _ in 0..3 {
        story.poll(1, task);
        story.pending(1);
    }
    let id = story.id(task);
    let (report, parsed) = told(story);
    assert_eq!((report.starts.recorded(), report.unblocks.recorded()), (3, 0));
    assert_eq!(report.left_out.sum(), 0);
    let Some(parsed) = parsed else { return };
    let unblocks = parsed.with(&[&go(id), "Waiting->Runnable"]);
    assert_eq!(unblocks.len(), 2);
    assert!(unblocks.iter().all(|event| event.starts_with("M=-1 P=-1 G=-1 ")), "{unblocks:?}");
}

#[test]
fn a_wake_names_who_woke() {
    let mut story = runtime();
    let (waker, woken) = (story.create(3, "waker"), story.create(3, "woken"));
    for task in [waker, woken] {
        story.poll(1, task);
        story.pending(1);
    }
    story.poll(2, waker);
    story.wake(2, woken);
    story.pending(2);
    let (waker, woken) = (story.id(waker), story.id(woken));
    let (report, parsed) = told(story);
    assert_eq!(report.unblocks.recorded(), 1);
    let Some(parsed) = parsed else { return };
    let by = format!("M=4002 P=1 G={} ", waker.number());
    assert_eq!(parsed.with(&[&by, &go(woken), "Waiting->Runnable"]).len(), 1, "{}", parsed.text);
}

#[test]
fn a_task_that_wakes_itself_yields() {
    let mut story = runtime();
    let task = story.create(3, "task");
    for _ in 0..4 {
        story.poll(1, task);
        story.wake(1, task);
        story.pending(1);
    }
    let (report, _) = told(story);
    assert_eq!((report.yields.recorded(), report.blocks.recorded()), (4, 0));
    assert_eq!((report.unblocks.all - report.unblocks.synthetic, report.left_out.sum()), (0, 0));
}

#[test]
fn who_wakes_a_task_while_it_is_polled_unblocks_it_when_it_waits() {
    let mut story = runtime();
    let (task, waker) = (story.create(3, "task"), story.create(3, "waker"));
    story.poll(2, waker);
    story.poll(1, task);
    story.wake(2, task);
    story.pending(1);
    // The waker is doing something else by then, so it is not named.
    story.poll(1, task);
    story.wake(2, task);
    story.pending(2);
    story.pending(1);
    // A task that never waits again.
    story.poll(1, task);
    story.wake(3, task);
    story.ready(1);
    let (task, waker) = (story.id(task), story.id(waker));
    let (report, parsed) = told(story);
    assert_eq!((report.unblocks.recorded(), report.left_out.wakes), (2, 1));
    let Some(parsed) = parsed else { return };
    let unblocks = parsed.with(&[&go(task), "Waiting->Runnable"]);
    let [first, second] = unblocks[..] else { panic!("{unblocks:?}") };
    assert!(first.contains(&format!(" G={} ", waker.number())), "{first}");
    assert!(second.starts_with("M=-1 "), "{second}");
}

#[test]
fn a_second_wake_is_told_not_written() {
    let mut story = runtime();
    let task = story.create(3, "task");
    // It has been runnable since its creation.
    story.wake(2, task);
    story.poll(1, task);
    story.pending(1);
    let (report, _) = told(story);
    assert_eq!((report.unblocks.all, report.left_out.wakes), (0, 1));
}

#[test]
fn while_a_task_is_polled_inside_of_another_that_one_waits() {
    let mut story = runtime();
    let [a, b, c] = ["a", "b", "c"].map(|name| story.create(3, name));
    story.poll(1, a);
    story.region(1, "in a");
    story.poll(1, b);
    story.region(1, "in b");
    story.poll(1, c);
    story.log(1, "in c");
    // Woken while it waits for the task inside it.
    story.wake(2, a);
    story.pending(1);
    story.log(1, "in b");
    story.end_region(1);
    story.ready(1);
    story.log(1, "in a");
    story.end_region(1);
    story.pending(1);
    let ids = [a, b, c].map(|task| story.id(task).number());
    let (report, parsed) = told(story);
    assert_eq!((report.starts.recorded(), report.blocks.recorded()), (3, 2));
    assert_eq!((report.regions_begun.all, report.regions_ended.all), (2, 2));
    let Some(parsed) = parsed else { return };
    for (text, id) in [("in c", ids[2]), ("in b", ids[1]), ("in a", ids[0])] {
        let [log] = parsed.with(&["Log ", text])[..] else { panic!("{}", parsed.text) };
        assert!(log.contains(&format!(" G={id} ")), "{log}");
    }
}

#[test]
fn a_task_that_is_dropped_runs_for_its_end() {
    let mut story = runtime();
    let [a, b, c] = ["a", "b", "c"].map(|name| story.create(3, name));
    story.poll(1, a);
    story.pending(1);
    // By a thread outside tasks, by a worker between polls, and by a task.
    story.drop_task(3, a);
    story.log(3, "after");
    story.drop_task(2, b);
    let d = story.create(3, "d");
    story.poll(1, d);
    story.drop_task(1, c);
    story.log(1, "goes on");
    story.pending(1);
    let d = story.id(d).number();
    let (report, parsed) = told(story);
    assert_eq!(report.destroys.recorded(), 3);
    let Some(parsed) = parsed else { return };
    assert_eq!(parsed.with(&["Log ", "\"cancelled\""]).len(), 3);
    let [log] = parsed.with(&["Log ", "goes on"])[..] else { panic!("{}", parsed.text) };
    assert!(log.contains(&format!(" G={d} ")), "{log}");
}

#[test]
fn a_panic_ends_a_task_and_what_it_was_inside_of() {
    let mut story = runtime();
    let task = story.create(3, "task");
    story.poll(1, task);
    story.region(1, "deep");
    story.region(1, "deeper");
    story.panic(1);
    let (report, parsed) = told(story);
    assert_eq!((report.destroys.recorded(), report.regions_ended.synthetic), (1, 2));
    let Some(parsed) = parsed else { return };
    assert_eq!(parsed.with(&["Log ", "\"panicked\""]).len(), 1);
}

#[test]
fn parked_workers_have_no_processor() {
    let mut story = runtime();
    for _ in 0..3 {
        story.park(1);
        // Something that happens in any case.
        story.log(1, "parked");
        story.unpark(1);
    }
    // The worker moves to another thread, which continues what the first one does.
    let task = story.create(3, "blocks");
    story.poll(1, task);
    story.worker(3, 1, 0);
    story.log(1, "still here");
    story.pending(1);
    story.stop_worker(3);
    story.exit_thread(3);
    let (report, parsed) = told(story);
    assert_eq!(report.processor_starts.recorded(), 2 + 3 + 1);
    assert_eq!(report.processor_stops.recorded(), 3 + 1);
    let Some(parsed) = parsed else { return };
    let parked = parsed.with(&["Log ", "\"INFO parked\""]);
    assert!(parked.len() == 3 && parked.iter().all(|event| !event.contains(" P=0 ")), "{parked:?}");
}

#[test]
fn texts_are_cut_where_go_would_refuse_them() {
    let mut g = Gen::new(1);
    g.block(1, 1, 10).thread_start(1, 11, 1, "main");
    let long = g.site(1, &"näme".repeat(150));
    let wide = g.schema(1, "wide", &[("a", ValueType::Text), ("b", ValueType::Float)]);
    g.region_begin(1, 20, long);
    g.log(1, 21, long, 3, &"ü".repeat(511));
    g.event(1, 22, wide, &[Val::T("x".repeat(1023)), Val::F(f64::NAN)]);
    g.counter(1, 23, long, &Val::I(-7));
    g.region_end(1, 30).end(&[]);
    let (report, parsed) = accepted(file(&[g]));
    assert_eq!((report.logs.all, report.regions_ended.all), (3, 1));
    let Some(parsed) = parsed else { return };
    assert_eq!(parsed.with(&["Log ", "Message=\"-7\""]).len(), 1);
}

#[test]
fn many_events_and_texts_fill_many_batches() {
    let mut story = runtime();
    let task = story.create(3, "task");
    for turn in 0..20_000 {
        story.poll(1, task);
        story.log(1, &format!("turn {turn} of very many, which makes for as many texts"));
        story.pending(1);
    }
    let (report, _) = told(story);
    assert_eq!((report.starts.recorded(), report.logs.recorded()), (20_000, 20_000));
    assert!(report.bytes > 1 << 20);
}

#[test]
fn it_is_told_how_far_the_export_is() {
    let trace = Trace::from_bytes(file(&service(3))).unwrap();
    let mut told = Vec::new();
    export_with(&trace, std::io::sink(), |through, of| told.push((through, of))).unwrap();
    assert_eq!(told, [(0, 3), (1, 3), (2, 3), (3, 3)]);
}

#[test]
fn a_full_disk_is_an_error() {
    let trace = Trace::from_bytes(file(&service(3))).unwrap();
    let mut small = [0; 1000];
    let error = export(&trace, &mut small[..]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WriteZero);
}
