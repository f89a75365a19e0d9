//! The whole way: a real service is recorded, something goes wrong in it, and the command reads the snapshot
//! back.

mod command;

use command::{lines, lookback};
use lookback::Trace;
use lookback::read::wire::{SpanId, TaskId};
use lookback::read::{Event, EventKind, Level, WorkerId};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[test]
fn the_demo_records_a_fault_and_the_snapshot_explains_it() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("a demo");
    let demo = lookback(&["demo", "--seconds", "2", "--out", out.to_str().unwrap()]);
    assert_eq!(demo.code, 0, "{demo:?}");
    assert_eq!(demo.stderr, "", "no progress bar where there is no terminal");
    assert!(!demo.stdout.contains('\u{1b}'), "plain where there is no terminal");
    let file = out.join("incident.lbk");
    let path = file.to_str().unwrap();
    let commands =
        ["summary", "info", "events", "validate", "export"].map(|name| format!(" {name} "));
    let told = [path, "serve_connection", "keep_inventory", "fetch_prices", "← not polled since"];
    for said in told.into_iter().chain(commands.iter().map(String::as_str)) {
        assert!(demo.stdout.contains(said), "{said} in {}", demo.stdout);
    }
    what_to_try_next_works(&demo.stdout);

    let info = info(&file);
    let reason = info["reason"].as_str().unwrap();
    assert!(reason.starts_with("no answer from the inventory within 200 ms in "), "{reason}");
    assert!(demo.stdout.contains(reason));
    assert_eq!(info["process"]["name"], "shop");
    assert!(info["process"]["pid"].as_u64().unwrap() > 1);
    assert!(info["covered_ns"].as_u64().unwrap() > 500_000_000);
    assert_eq!(info["damage"].as_array().unwrap().len(), 0);

    let events = events(&file);
    assert_eq!(events.len() as u64, info["events"].as_u64().unwrap());
    every_thread_is_there(&events, &info);
    regions_are_nested(&events);
    every_kind_is_there(&events);
    let trace = Trace::open(&file).unwrap();
    the_context_of_every_event_is_known(&trace);
    the_culprit_and_its_victim_are_there(&trace);
    the_summary_names_the_culprit(path);
    columns_of_workers_are_below_each_other(path);

    let validate = lookback(&["validate", path]);
    assert_eq!((validate.code, validate.stderr.as_str()), (0, ""), "{validate:?}");
    let json = lookback(&["validate", "--json", path]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["sound"], &json["violations"]), (&true.into(), &Value::Array(vec![])));

    filters_choose(path, &events);
    nobody_has_to_read_it_all(path);
    colours_are_only_for_who_asks(path);
    the_line_that_blocks_is_told(path);
    what_findings_print_works(path);
}

/// By the first finding, and by what accounts for the span's time; unless the machine gave the recorder no core meanwhile.
fn the_line_that_blocks_is_told(path: &str) {
    let stacks = lookback(&["events", path, "--kind", "thread_stack"]).stdout;
    if !stacks.contains("reason=stall") {
        return println!("skipped: no stack of the stalled poll was taken in time");
    }
    let summary: Value =
        serde_json::from_str(&lookback(&["summary", path, "--json"]).stdout).unwrap();
    let first = summary["findings"][0]["evidence"].to_string();
    assert!(first.contains("prices.rs:") && first.contains("prices::fetch"), "{first}");
    let why = lookback(&["why", path]).stdout;
    let (_, seen) = why.split_once("Where it was seen while it was polled").expect(&why);
    assert!(seen.contains("lookback::demo::prices::fetch"), "{why}");
    let json: Value = serde_json::from_str(&lookback(&["why", path, "--json"]).stdout).unwrap();
    assert!(json["seen"][0]["times"].as_u64().unwrap() >= 1, "{json:#}");
}

/// A shell can run the commands that show what a finding is about, and they show something.
fn what_findings_print_works(path: &str) {
    let summary = lookback(&["summary", path, "--json"]).stdout;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_lookback")).parent().unwrap();
    let paths = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let place = tempfile::tempdir().unwrap();
    let findings = summary["findings"].as_array().unwrap();
    let all = findings.iter().flat_map(|finding| finding["commands"].as_array().unwrap());
    let all: BTreeSet<_> = all.map(|command| command.as_str().unwrap()).collect();
    assert!(all.iter().any(|command| command.starts_with("lookback why ")), "{all:?}");
    for command in all {
        let mut shell = std::process::Command::new("sh");
        let ran = shell.args(["-c", command]).env("PATH", &paths).current_dir(&place).output();
        let ran = ran.unwrap();
        assert!(ran.status.success() && !ran.stdout.is_empty(), "{command}: {ran:?}");
    }
}

/// A shell can run the commands that the demo prints as they are.
fn what_to_try_next_works(printed: &str) {
    let (_, next) = printed.split_once("What to try next").unwrap();
    let commands: Vec<_> = next.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    assert!(commands.len() >= 4, "{next}");
    for command in commands {
        let shell = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
        assert!(shell.status.success() && !shell.stdout.is_empty(), "{command}: {shell:?}");
    }
}

fn info(file: &Path) -> Value {
    let info = lookback(&["info", "--json", file.to_str().unwrap()]);
    assert_eq!((info.code, info.stderr.as_str()), (0, ""));
    let info: Value = serde_json::from_str(&info.stdout).unwrap();
    for key in ["process", "reason", "covered_ns", "events", "lost", "generations"] {
        assert!(!info[key].is_null(), "{key} in {info}");
    }
    assert!(info["lost"].is_object());
    let generations = info["generations"].as_array().unwrap();
    assert!(generations.len() >= 2);
    let mut before = None;
    for generation in generations {
        for key in ["number", "start_ns", "duration_ns", "events", "lost", "bytes"] {
            assert!(generation[key].is_u64(), "{key} in {generation}");
        }
        assert!(generation["complete"].is_boolean());
        let start = generation["start_ns"].as_u64();
        assert!(before <= start, "generations are in order");
        before = start;
    }
    assert_eq!(generations[0]["start_ns"], 0, "times begin with the first generation");
    let events: u64 = generations.iter().map(|g| g["events"].as_u64().unwrap()).sum();
    assert_eq!(info["events"], events);
    info
}

fn events(file: &Path) -> Vec<Value> {
    let events = lookback(&["events", "--json", file.to_str().unwrap()]);
    assert_eq!((events.code, events.stderr.as_str()), (0, ""));
    let events: Vec<Value> =
        events.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["t"], 0);
    for event in &events {
        for key in ["t", "generation", "thread", "os_thread"] {
            assert!(event[key].is_u64(), "{key} in {event}");
        }
        for key in ["thread_name", "kind", "name"] {
            assert!(event[key].is_string(), "{key} in {event}");
        }
        assert!(event["fields"].is_object(), "{event}");
    }
    assert!(events.is_sorted_by_key(|event| event["t"].as_u64()));
    events
}

fn every_thread_is_there(events: &[Value], info: &Value) {
    let names: BTreeSet<_> = events.iter().map(|e| e["thread_name"].as_str().unwrap()).collect();
    for worker in ["shop-1", "shop-2", "shop-3", "shop-4"] {
        assert!(names.contains(worker), "{names:?}");
    }
    assert!(names.iter().all(|name| *name == "lookback" || name.starts_with("shop-")), "{names:?}");
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event["thread"].as_u64().unwrap()).or_insert(0) += 1;
    }
    let threads = info["threads"].as_array().unwrap().iter();
    let told = threads.map(|t| (t["number"].as_u64().unwrap(), t["events"].as_u64().unwrap()));
    assert_eq!(told.collect::<BTreeMap<_, _>>(), counts);
}

fn regions_are_nested(events: &[Value]) {
    let mut open: BTreeMap<u64, (Vec<&str>, Vec<u64>)> = BTreeMap::new();
    for event in events {
        let (names, begun) = open.entry(event["thread"].as_u64().unwrap()).or_default();
        let name = event["name"].as_str().unwrap();
        match event["kind"].as_str().unwrap() {
            "region_begin" => {
                names.push(name);
                begun.push(event["t"].as_u64().unwrap());
            }
            "region_end" => {
                let began = begun.pop().expect("what ends has begun");
                assert_eq!(names.pop(), Some(name), "regions are nested");
                let took = event["fields"]["duration_ns"].as_u64().unwrap();
                let between = event["t"].as_u64().unwrap() - began;
                assert!(took.abs_diff(between) < 1_000_000, "{took} {between}");
            }
            _ => {}
        }
    }
    let open: Vec<_> = open.values().map(|(names, _)| &names[..]).collect();
    assert!(open.contains(&&["reload_prices", "fetch_prices"][..]), "{open:?}");
    assert!(open.contains(&&["save_snapshot"][..]), "the shop saved it itself: {open:?}");
}

fn every_kind_is_there(events: &[Value]) {
    let of = |kind: &'static str| events.iter().filter(move |event| event["kind"] == kind);
    for kind in [
        "thread_start",
        "task_create",
        "task_poll",
        "task_pending",
        "task_wake",
        "worker_start",
        "worker_park",
        "worker_unpark",
        "span_create",
        "span_enter",
        "span_record",
        "span_exit",
        "span_close",
        "region_begin",
        "region_end",
        "counter",
        "log",
        "event",
    ] {
        assert!(of(kind).next().is_some(), "{kind}");
    }
    assert!(of("counter").all(|counter| counter["fields"]["value"].is_u64()));
    assert!(
        of("log").all(|log| {
            log["fields"]["level"].is_string() && log["fields"]["message"].is_string()
        })
    );
    let request = of("span_create").find(|span| span["name"] == "request").unwrap();
    assert!(request["fields"]["method"].is_string() && request["fields"]["path"].is_string());
    let answer = of("event").find(|event| event["name"] == "answer").unwrap();
    assert!(answer["fields"]["ms"].is_f64() && answer["fields"]["status"].is_u64());
    let lookup = of("event").find(|event| event["name"] == "cache_lookup").unwrap();
    assert!(lookup["fields"]["hit"].is_boolean());
}

/// For everything that happened, the task, the span and the worker are known.
fn the_context_of_every_event_is_known(trace: &Trace) {
    let mut workers = BTreeSet::new();
    let mut requests = 0;
    for event in trace.events() {
        let event = event.unwrap();
        let kind = event.kind();
        // Nothing is called by a thread's name if the thread has a purpose.
        if !matches!(kind, EventKind::PoolThread { .. }) {
            assert_ne!(event.name(), "?", "{kind:?}");
        }
        let (task, span) = ids(kind);
        assert_ne!(task, Some(TaskId::default()), "{kind:?}");
        assert_ne!(span, Some(SpanId::default()), "{kind:?}");
        if task.is_some() && !matches!(kind, EventKind::TaskWake { .. }) {
            assert!(event.sequence().is_some(), "{kind:?}");
        }
        match kind {
            // Handlers do their work in a task, in a span, on a worker.
            EventKind::Typed { site } if site.name == "answer" => {
                assert!(event.task().is_some() && event.span().is_some(), "{event:?}");
                workers.insert(event.worker().expect("handlers run on workers"));
                requests += 1;
            }
            EventKind::TaskPoll { task } | EventKind::TaskPending { task, .. } => {
                assert_eq!(event.task(), Some(task), "{event:?}");
            }
            _ => {}
        }
    }
    assert!(requests > 100, "{requests}");
    let all: BTreeSet<_> = (0..4).map(|worker| WorkerId { runtime: 0, worker }).collect();
    assert!(workers.is_subset(&all) && workers.len() > 1, "{workers:?}");
}

/// The task and the span that an event concerns.
fn ids(kind: EventKind<'_>) -> (Option<TaskId>, Option<SpanId>) {
    match kind {
        EventKind::TaskCreate { task, .. }
        | EventKind::TaskPoll { task }
        | EventKind::TaskPending { task, .. }
        | EventKind::TaskReady { task }
        | EventKind::TaskPanic { task }
        | EventKind::TaskDrop { task }
        | EventKind::TaskWake { task } => (Some(task), None),
        EventKind::SpanCreate { span, .. }
        | EventKind::SpanEnter { span }
        | EventKind::SpanExit { span }
        | EventKind::SpanClose { span }
        | EventKind::SpanRecord { span } => (None, Some(span)),
        _ => (None, None),
    }
}

/// One task has been polled since before the others' wait began, and still is at the end; it has woken the
/// inventory, which has not been polled since.
fn the_culprit_and_its_victim_are_there(trace: &Trace) {
    let events: Vec<Event> = trace.events().map(Result::unwrap).collect();
    let is_error = |event: &&Event| matches!(event.kind(), EventKind::Log { level, .. } if level == Level::Error);
    let failed = events.iter().find(is_error).expect("the failure was logged").time().0;
    let mut running = BTreeMap::new();
    let mut woken = BTreeMap::new();
    for event in &events {
        match event.kind() {
            EventKind::TaskPoll { task } => {
                running.insert(task, event);
                woken.remove(&task);
            }
            EventKind::TaskPending { task, .. } | EventKind::TaskReady { task } => {
                running.remove(&task);
            }
            EventKind::TaskWake { task } => {
                woken.insert(task, event);
            }
            _ => {}
        }
    }
    let long = |event: &Event| failed.saturating_sub(event.time().0) >= 190_000_000;
    running.retain(|_, event| long(event));
    let [(culprit, poll)] = running.into_iter().collect::<Vec<_>>()[..] else { panic!("not one") };
    assert!(poll.name().contains("serve_connection"), "{}", poll.name());
    assert!(poll.worker().is_some(), "it is on a worker");
    woken.retain(|_, event| long(event));
    let [wake] = woken.values().collect::<Vec<_>>()[..] else { panic!("{woken:?}") };
    assert!(wake.name().contains("keep_inventory"), "{}", wake.name());
    assert_eq!((wake.task(), wake.worker()), (Some(culprit), poll.worker()), "who woke it");
    let inside = events.iter().rfind(|event| event.task() == Some(culprit)).unwrap();
    let span = inside.span().expect("a request is a span");
    let request = events
        .iter()
        .rfind(|event| matches!(event.kind(), EventKind::SpanCreate { span: of, .. } if of == span))
        .unwrap();
    let path = request.fields().find(|(field, _)| *field == "path").unwrap().1;
    assert_eq!(path.to_string().trim_matches('"'), "/prices/reload");
}

/// However long the names of their threads are.
fn columns_of_workers_are_below_each_other(path: &str) {
    let summary = lookback(&["summary", "--all", path]).stdout;
    let (_, table) = summary.split_once("\nWorkers\n").expect(&summary);
    let mut rows = table.lines();
    let head = rows.next().unwrap();
    let at = head.find("at work").unwrap() + "at work".len();
    let rows: Vec<_> = rows.take_while(|row| row.trim_start().starts_with("r0/w")).collect();
    assert_eq!(rows.len(), 4, "{table}");
    rows.iter().for_each(|row| assert!(row[..at].ends_with(" %"), "{head}\n{row}"));
}

fn the_summary_names_the_culprit(path: &str) {
    let summary = lookback(&["summary", "--json", path]);
    assert_eq!((summary.code, summary.stderr.as_str()), (0, ""), "{summary:?}");
    let summary: Value = serde_json::from_str(&summary.stdout).unwrap();
    // A machine that is short of something is another finding.
    let mut findings = summary["findings"].as_array().unwrap().iter();
    let worst = findings.find(|finding| finding["analysis"] != "system").unwrap();
    assert_eq!(worst["analysis"], "polls", "{worst}");
    assert!(worst["value"].as_f64().unwrap() >= 190e6, "{worst}");
    let evidence = &worst["evidence"][0];
    assert!(evidence["task_name"].as_str().unwrap().contains("serve_connection"), "{worst}");
    assert_eq!(evidence["span_name"], "request", "{worst}");
    assert!(evidence["span_fields"].as_str().unwrap().contains("/prices/reload"), "{worst}");
    let waited = summary["delays"]["longest"][0]["task_name"].as_str().unwrap();
    assert!(waited.contains("keep_inventory"), "{}", summary["delays"]);
}

fn filters_choose(path: &str, events: &[Value]) {
    let count = |options: &[&str]| {
        let chosen = lookback(&[&["events", path], options].concat());
        assert_eq!((chosen.code, chosen.stderr.as_str()), (0, ""));
        chosen.stdout.lines().count()
    };
    let of = |chosen: &dyn Fn(&Value) -> bool| events.iter().filter(|event| chosen(event)).count();
    assert_eq!(count(&[]), events.len());
    assert_eq!(count(&["--kind", "log"]), of(&|e| e["kind"] == "log"));
    assert_eq!(count(&["--thread", "shop-1"]), of(&|e| e["thread_name"] == "shop-1"));
    let two = ["--thread", "1", "--thread", "2", "--kind", "counter"];
    let numbers = |e: &Value| e["thread"].as_u64().unwrap() <= 2 && e["kind"] == "counter";
    assert_eq!(count(&two), of(&numbers));
    let inventory = |e: &Value| e["name"].as_str().unwrap().contains("inventory");
    assert_eq!(count(&["--name", "inventory"]), of(&inventory));
    let cache = |e: &Value| e["name"].as_str().unwrap().starts_with("cache");
    assert_eq!(count(&["--name", "cache*"]), of(&cache));
    assert_eq!(count(&["--limit", "7"]), 7);
    assert_eq!(count(&["--limit", "0"]), 0);
    assert_eq!(count(&["--last", "1h"]), events.len());
    let last = count(&["--last", "300ms"]);
    assert!(0 < last && last < events.len(), "{last}");
    let none = lookback(&["events", path, "--name", "no such name"]);
    assert_eq!((none.code, none.stdout.as_str()), (1, ""));
}

fn nobody_has_to_read_it_all(path: &str) {
    for options in [&[][..], &["--json"]] {
        let mut child = std::process::Command::new(command::LOOKBACK)
            .args([&["events", path], options].concat())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Like `head -1`.
        let mut first = String::new();
        let stdout = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut first).unwrap();
        assert!(!first.is_empty());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0));
        assert_eq!(lines(&ended.stderr), Vec::<String>::new());
    }
}

fn colours_are_only_for_who_asks(path: &str) {
    for command in ["summary", "info", "events", "validate"] {
        let plain = lookback(&[command, path]);
        assert!(!plain.stdout.contains('\u{1b}'), "{command}");
        let never = lookback(&[command, path, "--color", "never"]);
        assert_eq!(plain.stdout, never.stdout);
        let always = lookback(&["--color=always", command, path]);
        assert!(always.stdout.contains('\u{1b}'), "{command}");
    }
}

#[test]
fn a_demo_that_cannot_save_says_so_before_it_begins() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    let inside = taken.join("inside");
    for out in [&taken, &inside] {
        let demo = lookback(&["demo", "--out", out.to_str().unwrap()]);
        assert_eq!((demo.code, demo.stdout.as_str()), (1, ""));
        let [line] = &lines(demo.stderr.as_bytes())[..] else { panic!("{demo:?}") };
        assert!(line.starts_with(&format!("lookback: {}: ", out.display())), "{line}");
    }
}
