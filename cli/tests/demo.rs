//! The whole way: a real service is recorded, something goes wrong in it, and the command reads the
//! snapshot back.

mod command;

use command::{lines, lookback};
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
    for said in [path, "inventory_locked", "no lock after 200 ms", "info", "events", "validate"] {
        assert!(demo.stdout.contains(said), "{said} in {}", demo.stdout);
    }
    what_to_try_next_works(&demo.stdout);

    let info = info(&file);
    let reason = info["reason"].as_str().unwrap();
    assert!(reason.starts_with("inventory lock timed out after 200 ms in "), "{reason}");
    assert!(demo.stdout.contains(reason));
    assert_eq!(info["process"]["name"], "shop");
    assert!(info["process"]["pid"].as_u64().unwrap() > 1);
    assert!(info["covered_ns"].as_u64().unwrap() > 500_000_000);
    assert_eq!(info["damage"].as_array().unwrap().len(), 0);

    let events = events(&file);
    assert_eq!(events.len() as u64, info["events"].as_u64().unwrap());
    every_thread_is_there(&events, &info);
    the_holder_of_the_lock_is_there(&events);
    every_kind_is_there(&events);

    let validate = lookback(&["validate", path]);
    assert_eq!((validate.code, validate.stderr.as_str()), (0, ""), "{validate:?}");
    let json = lookback(&["validate", "--json", path]);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["sound"], &json["violations"]), (&true.into(), &Value::Array(vec![])));

    filters_choose(path, &events);
    nobody_has_to_read_it_all(path);
    colours_are_only_for_who_asks(path);
}

/// The commands that the demo prints are such that a shell can run them as they stand.
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
    assert_eq!(names, BTreeSet::from(["accept", "http-1", "http-2", "http-3", "http-4"]));
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event["thread"].as_u64().unwrap()).or_insert(0) += 1;
    }
    let threads = info["threads"].as_array().unwrap().iter();
    let told = threads.map(|t| (t["number"].as_u64().unwrap(), t["events"].as_u64().unwrap()));
    assert_eq!(told.collect::<BTreeMap<_, _>>(), counts);
}

/// One thread is inside of `inventory_locked` at the end, since before the others' wait began.
fn the_holder_of_the_lock_is_there(events: &[Value]) {
    let mut open: BTreeMap<u64, Vec<(&str, u64)>> = BTreeMap::new();
    for event in events {
        let open = open.entry(event["thread"].as_u64().unwrap()).or_default();
        let name = event["name"].as_str().unwrap();
        match event["kind"].as_str().unwrap() {
            "region_begin" => open.push((name, event["t"].as_u64().unwrap())),
            "region_end" => {
                let (ended, began) = open.pop().expect("what ends has begun");
                assert_eq!(name, ended, "regions are nested");
                let took = event["fields"]["duration_ns"].as_u64().unwrap();
                let between = event["t"].as_u64().unwrap() - began;
                assert!(took.abs_diff(between) < 1_000_000, "{took} {between}");
            }
            _ => {}
        }
    }
    let held = |open: &&Vec<(&str, u64)>| open.iter().any(|(name, _)| *name == "inventory_locked");
    let holders: Vec<_> = open.values().filter(held).collect();
    let [holder] = holders[..] else { panic!("one thread holds the lock: {open:?}") };
    let names: Vec<_> = holder.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["request", "reload_prices", "inventory_locked", "fetch_prices"]);
    let error = events
        .iter()
        .find(|event| event["fields"]["level"] == "error")
        .expect("the failure was logged");
    assert!(error["t"].as_u64().unwrap() - holder[2].1 >= 150_000_000, "the lock was held long");
    let snapshot = |open: &Vec<(&str, u64)>| open.iter().any(|(name, _)| *name == "take_snapshot");
    assert!(open.values().any(snapshot), "the snapshot was taken by the handler that failed");
}

fn every_kind_is_there(events: &[Value]) {
    let of = |kind: &'static str| events.iter().filter(move |event| event["kind"] == kind);
    assert!(of("thread_start").next().is_some());
    assert!(of("counter").all(|counter| counter["fields"]["value"].is_u64()));
    assert!(
        of("log").all(|log| {
            log["fields"]["level"].is_string() && log["fields"]["message"].is_string()
        })
    );
    let accept = of("event").find(|event| event["name"] == "accept").unwrap();
    assert!(accept["fields"]["request"].is_u64() && accept["fields"]["url"].is_string());
    let answer = of("event").find(|event| event["name"] == "answer").unwrap();
    assert!(answer["fields"]["ms"].is_f64() && answer["fields"]["status"].is_u64());
    let lookup = of("event").find(|event| event["name"] == "cache_lookup").unwrap();
    assert!(lookup["fields"]["hit"].is_boolean());
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
    assert_eq!(count(&["--thread", "http-1"]), of(&|e| e["thread_name"] == "http-1"));
    let two = ["--thread", "1", "--thread", "2", "--kind", "counter"];
    let numbers = |e: &Value| e["thread"].as_u64().unwrap() <= 2 && e["kind"] == "counter";
    assert_eq!(count(&two), of(&numbers));
    let lock = |e: &Value| e["name"].as_str().unwrap().contains("lock");
    assert_eq!(count(&["--name", "lock"]), of(&lock));
    let cache = |e: &Value| e["name"].as_str().unwrap().starts_with("cache");
    assert_eq!(count(&["--name", "cache*"]), of(&cache));
    assert_eq!(count(&["--limit", "7"]), 7);
    assert_eq!(count(&["--limit", "0"]), 0);
    assert_eq!(count(&["--last", "1h"]), events.len());
    let last = count(&["--last", "300ms"]);
    assert!(0 < last && last < events.len(), "{last}");
    assert_eq!(count(&["--name", "no such name"]), 0);
}

fn nobody_has_to_read_it_all(path: &str) {
    for options in [&[][..], &["--json"]] {
        let mut child = std::process::Command::new(command::LOOKBACK)
            .args([&["events", path], options].concat())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // As `head -1` does.
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
    for command in ["info", "events", "validate"] {
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
