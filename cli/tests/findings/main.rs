//! Each finding about the machine, the runtimes, the tasks and the heap, in a program that has the fault, and in one that nearly
//! has it: there nothing is found.
#![cfg(target_os = "linux")]

#[path = "../command/mod.rs"]
mod command;
mod group;
mod services;

use command::{LOOKBACK, ended, lookback};
use group::Group;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

#[global_allocator]
static ALLOCATOR: lookback::Alloc = lookback::Alloc::system();

const SERVICE: &str = "LOOKBACK_TEST_FINDINGS";
const FILE: &str = "LOOKBACK_TEST_FILE";
const GROUP: &str = "LOOKBACK_TEST_GROUP";

/// Not a test: the service of the others, which is this executable started again.
#[test]
fn service() {
    let Ok(how) = std::env::var(SERVICE) else { return };
    // SAFETY: the call has no preconditions.
    unsafe { libc::alarm(900) };
    if let Some(group) = std::env::var_os(GROUP) {
        Group::at(Path::new(&group)).enter().unwrap();
    }
    services::run(&how, std::env::var_os(FILE).as_deref().map(Path::new));
}

/// This executable as the service `how`.
fn command(how: &str, group: Option<&Group>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "service", "--nocapture", "--test-threads=1"])
        .env(SERVICE, how)
        .envs(group.map(|group| (GROUP, group.path())));
    command
}

/// What the summary says of a service: in words, and as JSON. `None` if the machine cannot show it.
fn summary(how: &str, group: Option<&Group>) -> Option<(String, Value)> {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("service.lbk");
    let said = ended(command(how, group).env(FILE, &file));
    if let Some(why) = said.stdout.lines().find(|line| line.starts_with("skipped")) {
        println!("{how}: {why}");
        return None;
    }
    assert_eq!(said.code, 0, "{how}: {said:?}");
    let file = file.to_str().unwrap();
    let text = lookback(&["summary", "--all", file]).stdout;
    let json = lookback(&["summary", file, "--json"]).stdout;
    assert_eq!(lookback(&["validate", file]).code, 0, "{how}");
    Some((text, serde_json::from_str(&json).unwrap()))
}

/// The findings of an analysis that begin like this.
fn titles(json: &Value, analysis: &str, begin: &str) -> Vec<String> {
    let findings = json["findings"].as_array().unwrap().iter();
    let of = findings.filter(|one| one["analysis"] == analysis);
    let all = of.map(|one| one["title"].as_str().unwrap().to_owned());
    all.filter(|title| title.contains(begin)).collect()
}

/// Whether others had the cores for much of the time: then the service did not do what it does at other times.
fn was_held_up(json: &Value) -> bool {
    let counters = json["system"]["counters"].as_array().unwrap().iter();
    let waits = counters.filter(|one| one["name"] == "pressure.cpu.some");
    let share = |one: &Value| Some(one["sum"].as_f64()? / one["time_ns"].as_f64()?);
    let is_pressed = waits.filter_map(share).any(|share| share > 0.25);
    is_pressed
        || !titles(json, "starved", "").is_empty()
        || !titles(json, "ranges", "no core").is_empty()
}

/// The service has the finding with these words, and the one that nearly has the fault has not.
#[track_caller]
fn assert_found(how: &str, (analysis, words): (&str, &str)) -> Option<(String, Value)> {
    let (mut text, mut json) = summary(how, None)?;
    // What the service does at its own pace, others disturb.
    for _ in 0..3 {
        if !titles(&json, analysis, words).is_empty() {
            break;
        }
        (text, json) = summary(how, None)?;
    }
    let found = titles(&json, analysis, words);
    if found.is_empty() && was_held_up(&json) {
        println!("skipped: {how}: others had the cores each time");
        return None;
    }
    assert_eq!(found.len(), 1, "{how}: {found:?}\n{text}");
    let of = json["findings"].as_array().unwrap().iter();
    let mut of = of.filter(|one| one["title"] == *found[0]);
    let finding = of.next().unwrap();
    assert!(finding["value"].as_f64() > finding["limit"].as_f64(), "{finding}");
    assert!(!finding["evidence"].as_array().unwrap().is_empty(), "{finding}");
    // On a narrow terminal the title takes several lines.
    let first: Vec<_> = found[0].split(' ').take(4).collect();
    assert!(text.contains(&first.join(" ")), "{found:?}\n{text}");
    let near = format!("{how}-nearly");
    // What is nearly so may be so where the cores are others'.
    for again in 0..3 {
        let Some((text, json)) = summary(&near, None) else { break };
        let found = titles(&json, analysis, words);
        if found.is_empty() {
            break;
        }
        if was_held_up(&json) {
            println!("skipped: {near}: others had the cores");
            break;
        }
        assert!(again < 2, "{near}: {found:?}\n{text}");
    }
    Some((text, json))
}

#[test]
fn tasks_that_do_not_end_are_found() {
    let found = assert_found("leak", ("tasks", "they are spawned and do not end"));
    let Some((text, json)) = found else { return };
    assert!(text.contains("Tasks by name"), "{text}");
    let names = json["tasks"]["names"].as_array().unwrap();
    assert!(names.iter().any(|of| of["last"].as_u64() > Some(1000) && of["size"].is_u64()));
}

#[test]
fn a_storm_of_spawns_is_found() {
    assert_found("storm", ("tasks", "A storm of spawns"));
}

#[test]
fn many_large_futures_are_found() {
    assert_found("futures", ("tasks", "box what they hold"));
}

#[test]
fn a_queue_of_a_runtime_that_grows_is_found() {
    let found = assert_found("queue", ("runtimes", "The queue of runtime r"));
    let Some((text, json)) = found else { return };
    let counters = json["runtimes"]["runtimes"][0]["counters"].as_array().unwrap();
    let names: Vec<_> = counters.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"runtime.queued_tasks"), "{names:?}");
    assert!(text.contains("runtime.workers_busy"), "{text}");
}

#[test]
fn a_queue_of_ones_own_that_grows_is_found() {
    assert_found("counter", ("counters", "more comes in than goes out"));
}

/// The stack that the summary names first in this list. `None` after saying so if there is none, and others had the cores: the
/// samples may have come too late for the generation.
fn first_stack(json: &Value, list: &str) -> Option<String> {
    if json["heap"][list][0].is_null() && was_held_up(json) {
        println!("skipped: {list}: no stack, and others had the cores");
        return None;
    }
    let frames = json["heap"][list][0]["frames"].as_array().unwrap();
    let functions = frames.iter().flat_map(|frame| frame["functions"].as_array().unwrap());
    let names: Vec<_> = functions.map(|function| function["name"].as_str().unwrap()).collect();
    Some(names.join(" < "))
}

#[test]
fn memory_that_grows_is_found_with_the_stack_that_allocates_it() {
    let Some((text, json)) = assert_found("growth", ("heap", "Memory grew")) else { return };
    let Some(stack) = first_stack(&json, "growing") else { return };
    assert!(stack.contains("keeps_all"), "{stack}\n{text}");
    assert!(text.contains("keeps_all"), "{text}");
}

#[test]
fn a_burst_of_allocations_is_found_with_the_stack_that_allocates() {
    let found = assert_found("burst", ("heap", "A burst of allocations"));
    let Some((text, json)) = found else { return };
    let Some(stack) = first_stack(&json, "burst") else { return };
    assert!(stack.contains("allocates_at_once"), "{stack}\n{text}");
    assert!(text.contains("allocates_at_once"), "{text}");
}

#[test]
fn threads_that_others_keep_from_running_are_found() {
    assert_found("starved", ("starved", "others had them"));
}

#[test]
fn descriptors_that_run_out_are_found() {
    assert_found("descriptors", ("system", "descriptors open of the"));
}

#[test]
fn a_storm_of_page_faults_is_found() {
    assert_found("faults", ("ranges", "Page faults stormed"));
}

#[test]
fn a_control_group_whose_memory_is_reclaimed_is_found() {
    let group = || Group::new("memory", 96 << 20);
    let group = match group() {
        Ok(group) => group,
        Err(why) => return println!("skipped: no control group can be made: {why}"),
    };
    let words = "The control group was at its limit of memory";
    if let Some((text, json)) = summary("reclaim", Some(&group))
        && !was_held_up(&json)
    {
        assert_eq!(titles(&json, "ranges", words).len(), 1, "{text}");
    }
    if let Some((text, json)) = summary("reclaim-nearly", Some(&group)) {
        assert!(titles(&json, "ranges", words).is_empty(), "{text}");
    }
}

/// The black box of a service that the kernel has killed for want of memory.
#[test]
fn a_service_that_is_killed_for_its_memory_leaves_the_stack_that_allocated() {
    let group = match Group::new("killed", 160 << 20) {
        Ok(group) => group,
        Err(why) => return println!("skipped: no control group can be made: {why}"),
    };
    let place = tempfile::tempdir().unwrap();
    let service = command("killed", Some(&group));
    let mut run = Command::new(LOOKBACK);
    run.args(["run", "-o"]).arg(place.path()).arg("--").arg(service.get_program());
    run.args(service.get_args());
    for (name, value) in service.get_envs() {
        run.env(name, value.unwrap());
    }
    let output = run.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    if let Some(why) = said.lines().find(|line| line.starts_with("skipped")) {
        return println!("{why}");
    }
    let files: Vec<_> = std::fs::read_dir(place.path()).unwrap().flatten().collect();
    let file = files
        .iter()
        .map(|file| file.path())
        .find(|path| path.extension().is_some_and(|of| of == "lbk"));
    let file = file.unwrap_or_else(|| panic!("{output:?}"));
    let text = lookback(&["summary", "--all", file.to_str().unwrap()]).stdout;
    let json = lookback(&["summary", file.to_str().unwrap(), "--json"]).stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(text.contains("SIGKILL") || text.contains("killed"), "{text}");
    if titles(&json, "heap", "Memory grew").is_empty() && was_held_up(&json) {
        return println!("skipped: killed: others had the cores");
    }
    assert_eq!(titles(&json, "heap", "Memory grew").len(), 1, "{text}");
    let Some(stack) = first_stack(&json, "growing") else { return };
    assert!(stack.contains("keeps_all"), "{stack}\n{text}");
    assert!(text.contains("keeps_all"), "{text}");
}
