//! `lookback why` says of programs where their time went, and they have measured it themselves: each share is right, and the
//! parts add up to the whole, to the nanosecond.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "../command/mod.rs"]
mod command;
mod pressure;
mod programs;

use command::lookback;
use pressure::Pressure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

const KIND: &str = "LOOKBACK_TEST_WHY_PROGRAM";
const PLACE: &str = "LOOKBACK_TEST_WHY_PLACE";
/// How far a share may be from what the program has measured.
const NEAR: f64 = 0.02;
/// The kernel may stop a program between its look at the clock and what it does; not each time.
const TRIES: usize = 5;

/// The body of the processes.
#[test]
fn runs_if_asked() {
    let Ok(kind) = std::env::var(KIND) else { return };
    programs::run(&kind, std::env::var_os(PLACE).unwrap().as_ref());
}

/// A program that has run.
struct Ran {
    place: tempfile::TempDir,
    /// What it has measured, in nanoseconds.
    truth: BTreeMap<String, u64>,
}

impl Ran {
    fn new(kind: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["runs_if_asked", "--exact", "--nocapture", "--test-threads=1"])
            .env(KIND, kind)
            .env(PLACE, place.path())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("\nsaved"), "{kind}: {said}");
        let mut truth = BTreeMap::new();
        for line in said.lines().filter_map(|line| line.strip_prefix("truth ")) {
            let (state, time) = line.split_once(' ').unwrap();
            *truth.entry(state.to_owned()).or_default() += time.parse::<u64>().unwrap();
        }
        Self { place, truth }
    }

    fn file(&self) -> String {
        let entries = self.place.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
        let mut saved = entries.filter(|path| path.extension().is_some_and(|end| end == "lbk"));
        saved.next().unwrap().to_str().unwrap().to_owned()
    }

    fn why(&self, arguments: &[&str]) -> Value {
        let file = self.file();
        let said = lookback(&[&["why", &file, "--json"], arguments].concat());
        assert_eq!(said.code, 0, "{said:?}");
        let text = lookback(&[&["why", &file], arguments].concat());
        assert_eq!((text.code, &*text.stderr), (0, ""), "{}", text.stdout);
        serde_json::from_str(&said.stdout).unwrap()
    }
}

/// Parts add up to the whole, and so do those of whom is followed.
fn adds_up(parts: &Value, whole: u64) {
    let parts = parts.as_array().unwrap();
    let sum: u64 = parts.iter().map(|part| part["ns"].as_u64().unwrap()).sum();
    assert_eq!(sum, whole, "{parts:#?}");
    for part in parts {
        if let Some(followed) = part.get("followed") {
            adds_up(&followed["parts"], followed["ns"].as_u64().unwrap());
        }
    }
}

/// How long was spent with this: `lock`, either of `running+polled`, or `task/running` for what is followed.
fn spent(parts: &Value, state: &str) -> u64 {
    let (first, rest) = match state.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (state, None),
    };
    let is_it = |part: &&Value| first.split('+').any(|state| part["state"] == state);
    let parts = parts.as_array().unwrap().iter().filter(is_it);
    let of = |part: &Value| match rest {
        None => part["ns"].as_u64().unwrap(),
        Some(rest) => part.get("followed").map_or(0, |of| spent(&of["parts"], rest)),
    };
    parts.map(of).sum()
}

/// What is wrong about an account.
fn wrong(why: &Value, truth: &BTreeMap<String, u64>, whole: &str) -> Vec<String> {
    let length = why["length_ns"].as_u64().unwrap();
    adds_up(&why["parts"], length);
    let of = &why["all"]["accounted"];
    if let Some(time) = of["ns"].as_u64() {
        adds_up(&of["parts"], time);
    }
    for part in why["all"]["slowest"].as_array().into_iter().flatten() {
        adds_up(&part["parts"], part["ns"].as_u64().unwrap());
    }
    let measured = truth.get(whole).copied().unwrap_or(length);
    let mut wrong = Vec::new();
    let states = truth.iter().filter(|(state, _)| !["whole", "inner"].contains(&&***state));
    let all = states.map(|(state, time)| (state.as_str(), *time, spent(&why["parts"], state)));
    for (what, time, said) in all.chain([(whole, measured, length)]) {
        let off = time.abs_diff(said) as f64 / measured as f64;
        if off > NEAR {
            wrong.push(format!("{what}: {said} ns instead of {time}, {off:.3} of the whole"));
        }
    }
    wrong
}

/// Runs the program until what is said of it is right. If it never is, that is no fault where others had the cores each time:
/// then a program does not do what it has measured.
fn right(kind: &str, arguments: &[&str], whole: &str, check: impl Fn(&Value, &str)) {
    let mut all = Vec::new();
    for _ in 0..TRIES {
        let pressure = Pressure::now();
        let ran = Ran::new(kind);
        let had_cores = !pressure.is_high();
        let why = ran.why(arguments);
        let wrong = wrong(&why, &ran.truth, whole);
        if wrong.is_empty() {
            let text = lookback(&[&["why", &ran.file()], arguments].concat()).stdout;
            let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
            if catch_unwind(AssertUnwindSafe(|| check(&why, &flat))).is_ok() {
                return;
            }
        }
        all.push((had_cores, format!("{wrong:#?}\n{why:#}")));
    }
    if !all.iter().any(|(had_cores, _)| *had_cores) {
        return println!("skipped: {kind}: others had the cores each time");
    }
    let all: Vec<_> = all.into_iter().map(|(_, said)| said).collect();
    panic!("{kind}: {}", all.join("\n"));
}

macro_rules! programs {
    ($($test:ident $kind:literal $check:expr;)*) => {
        $(#[test]
        fn $test() {
            right($kind, &["--span", "work"], "whole", $check);
        })*
    };
}

fn nothing(_: &Value, _: &str) {}

/// A part of this state.
fn part<'a>(why: &'a Value, state: &str) -> &'a Value {
    let parts = why["parts"].as_array().unwrap();
    parts.iter().find(|part| part["state"] == state).unwrap()
}

programs! {
    of_a_timer_that_it_waited_and_for_what "a timer" |why, text| {
        assert_eq!(part(why, "wake")["awaited"], "a time", "{why:#}");
        assert!(text.contains("I/O, a timer") && text.contains("it waited for a time"), "{text}");
    };
    of_several_timers_their_sum "several timers" |why, _| {
        assert!(part(why, "wake")["times"].as_u64() >= Some(1), "{why:#}");
    };
    of_a_poll_that_computes_that_it_ran "it computes" nothing;
    of_many_polls_that_compute_that_they_ran "it computes in many polls" nothing;
    of_a_poll_that_blocks_that_it_did "it blocks in a poll" nothing;
    of_a_task_that_computes_and_waits_both "it computes and waits" nothing;
    of_a_task_that_blocks_and_waits_both "it blocks and waits" nothing;
    of_a_lock_of_threads_who_held_it "a lock of threads" |why, text| {
        let lock = &part(why, "lock")["lock"];
        assert_eq!(lock["kind"], "Mutex");
        assert!(lock["at"].as_str().unwrap().contains("programs.rs"), "{lock:#}");
        assert!(text.contains("held by holder#"), "{text}");
    };
    of_a_lock_of_threads_no_more_than_that "a lock of threads, and then it computes" nothing;
    of_a_lock_of_threads_to_be_written "a lock of threads, to write" nothing;
    of_a_lock_in_a_span_of_no_task_the_same "a lock of threads, in a thread alone" |why, text| {
        assert_eq!(why["task"], Value::Null);
        assert!(text.contains("none that is recorded"), "{text}");
    };
    of_a_span_of_no_task_that_blocks_that_it_did "a thread alone blocks" nothing;
    of_a_span_of_no_task_that_computes_that_it_ran "a thread alone computes" |why, _| {
        // Of the periods in which it begins and ends, a part may have been spent outside of it.
        assert!(part(why, "running")["share"].as_f64() > Some(0.3), "{why:#}");
        assert!(part(why, "polled")["words"].as_str().unwrap().contains("unknown"), "{why:#}");
    };
    of_a_mutex_of_tasks_who_had_it_and_what_that_did "a mutex of tasks" |why, text| {
        let part = part(why, "lock");
        assert_eq!(part["lock"]["task_name"], "keeper", "{why:#}");
        assert_eq!(part["followed"]["parts"][0]["state"], "wake", "{why:#}");
        assert!(text.contains("held by task `keeper`"), "{text}");
    };
    of_a_lock_of_tasks_to_be_written "a lock of tasks, to write" |why, _| {
        assert_eq!(part(why, "lock")["lock"]["task_name"], "keeper", "{why:#}");
    };
    of_a_semaphore_who_took_permits_last "a semaphore" |why, text| {
        assert_eq!(part(why, "lock")["lock"]["task_name"], "keeper", "{why:#}");
        assert!(text.contains("last taken by task `keeper`"), "{text}");
    };
    of_a_lock_that_is_given_up_how_long_it_waited "a lock that is given up" nothing;
    of_a_chain_of_locks_each "a chain of locks" |why, _| {
        let first = part(why, "lock");
        assert_eq!(first["lock"]["task_name"], "middle", "{why:#}");
        let second = &first["followed"]["parts"][0];
        assert_eq!(second["lock"]["task_name"], "last", "{why:#}");
        assert_eq!(second["followed"]["parts"][0]["state"], "wake", "{why:#}");
    };
    of_a_join_what_the_other_task_did "it joins a task that computes" |why, _| {
        assert_eq!(part(why, "task")["task_name"], "other", "{why:#}");
    };
    of_a_join_that_the_other_task_waited "it joins a task that waits" nothing;
    of_a_join_that_the_other_task_blocked "it joins a task that blocks" nothing;
    of_a_message_what_its_sender_did "a message of a task" |why, _| {
        assert_eq!(part(why, "task")["task_name"], "other", "{why:#}");
    };
    of_an_answer_what_its_sender_did "an answer of a task that computes" nothing;
    of_a_message_of_a_thread_which_one "a message of a thread" |why, _| {
        assert_eq!(part(why, "wake")["thread_name"], "answerer", "{why:#}");
    };
    of_a_socket_that_it_waited_for_data "a socket" |why, _| {
        assert_eq!(part(why, "wake")["awaited"], "data to read", "{why:#}");
    };
    of_a_reason_that_was_given_that_reason "a reason" |why, text| {
        assert_eq!(part(why, "wake")["reason"], "database", "{why:#}");
        assert!(text.contains("waiting for `database`"), "{text}");
    };
    of_blocking_work_that_it_blocked "blocking work" |why, _| {
        // Before the first reading of a new thread nothing is proved: that part is said to be unknown.
        let (blocked, polled) =
            (spent(&why["parts"], "task/blocked"), spent(&why["parts"], "task/polled"));
        assert!(blocked > polled, "{why:#}");
    };
    of_a_task_that_is_ready_whom_the_worker_polled "one worker that another task blocks" |why, text| {
        assert_eq!(part(why, "ready")["task_name"], "other", "{why:#}");
        assert!(text.contains("which polled task `other`"), "{text}");
    };
    of_a_timer_that_is_late_all_of_it "one worker that is late for a timer" nothing;
    of_several_tasks_in_a_span_that_there_are_others "several tasks in a span" |why, text| {
        assert_eq!(why["shared"], true);
        assert!(text.contains("other tasks entered the span, too"), "{text}");
        assert!(part(why, "unknown")["share"].as_f64() > Some(0.5), "{why:#}");
    };
    of_a_task_that_is_cancelled_that_nothing_woke_it "cancelled" nothing;
    of_a_task_that_is_cancelled_that_it_waited_for_a_lock "cancelled while it waits for a lock" |why, _| {
        assert_eq!(why["parts"][0]["lock"]["kind"], "tokio Mutex", "{why:#}");
    };
    of_many_small_parts_what_they_are_together "many locks" |_, text| {
        let small = text.split_once(" smaller parts: ").unwrap().1.split_once(" % ").unwrap();
        assert!(small.1.starts_with("waiting for locks"), "{text}");
        assert!(small.0.parse::<f64>().unwrap() > 50.0, "{text}");
    };
    of_a_span_that_is_open_that_nothing_wakes_it "it waits to the end" |why, text| {
        assert_eq!(why["open"], true);
        assert!(text.contains("it had not ended"), "{text}");
    };
}

#[test]
fn of_a_nested_span_its_own_time() {
    right("nested spans", &["--span", "inner"], "inner", nothing);
}

#[test]
fn what_is_not_there_is_said_and_damage_costs_no_more_than_what_is_damaged() {
    let ran = Ran::new("a mutex of tasks");
    let file = ran.file();
    for (arguments, said) in [
        (["--span", "nosuch"], "no span nosuch; "),
        (["--span", "999"], "no span 999; "),
        (["--task", "99.7"], "no task 99.7; "),
    ] {
        let none = lookback(&[&["why", &file], &arguments[..]].concat());
        assert_eq!((none.code, &*none.stdout), (1, ""), "{none:?}");
        assert!(none.stderr.contains(said), "{none:?}");
        assert_eq!(none.stderr.lines().count(), 1, "{none:?}");
    }
    let whole = std::fs::read(&file).unwrap();
    let bad = ran.place.path().join("bad.lbk");
    for part in 1..16 {
        let mut bytes = whole.clone();
        let at = bytes.len() * part / 16;
        if part % 2 == 0 {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 0xff
        }
        std::fs::write(&bad, bytes).unwrap();
        for arguments in
            [&["--json"][..], &["--span", "work", "--json"], &["--task", "1", "--json"]]
        {
            let said = lookback(&[&["why", bad.to_str().unwrap()], arguments].concat());
            assert!(said.code <= 1 && !said.stderr.contains("panicked"), "{said:?}");
            if let Ok(why) = serde_json::from_str::<Value>(&said.stdout) {
                adds_up(&why["parts"], why["length_ns"].as_u64().unwrap());
            }
        }
    }
}

#[test]
fn of_all_spans_of_a_name_what_the_slowest_wait_for_and_who_has_it() {
    right("many spans that need a permit", &["--span", "work"], "whole", |why, text| {
        let all = &why["all"];
        assert_eq!(all["count"], 41, "{all:#}");
        let slow = &all["accounted"];
        assert_eq!(slow["spans"], 1, "{all:#}");
        let first = &slow["parts"][0];
        assert_eq!(
            (&first["state"], &first["lock"]["task_name"]),
            (&"lock".into(), &"keeper".into())
        );
        assert!(first["share"].as_f64() > Some(0.9), "{slow:#}");
        let beyond: Vec<_> =
            all["slowest"].as_array().unwrap().iter().map(|part| part["spans"].as_u64()).collect();
        assert_eq!((beyond[0], beyond[3]), (Some(41), Some(1)), "{all:#}");
        assert!(
            text.contains("p99 of `work` is ") && text.contains("taken by task `keeper`"),
            "{text}"
        );
    });
}

/// The commands that it prints work as they are printed.
#[test]
fn the_commands_that_show_the_events_work_as_printed() {
    let ran = Ran::new("a mutex of tasks");
    let text = lookback(&["why", &ran.file(), "--span", "work"]).stdout;
    let (_, commands) = text.split_once("To look at it").unwrap();
    let commands: Vec<_> = commands.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(commands.len() >= 2, "{text}");
    for command in commands {
        let words: Vec<_> = command.split_whitespace().collect();
        assert_eq!(words[0], "lookback");
        let shown = lookback(&words[1..]);
        assert_eq!((shown.code, &*shown.stderr), (0, ""), "{command}");
        assert!(shown.stdout.contains("work"), "{command}: {}", shown.stdout);
    }
}
