//! `lookback tail`: every event that is recorded while it follows is printed once, in its thread's order, or is in a gap that
//! is counted; and it ends when it should.
#![cfg(target_os = "linux")]

#[path = "command/mod.rs"]
mod command;

use command::lookback;
use lookback::Recorder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

const SERVICE: &str = "LOOKBACK_TEST_TAIL";
/// How many threads record, and how many events each.
const THREADS: u64 = 3;
const EVENTS: u64 = 8_000;

/// Not a test: the service of the others, which is this executable started again.
#[test]
fn service() {
    let Ok(bytes) = std::env::var(SERVICE) else { return };
    let recorder = Recorder::builder()
        .max_bytes(bytes.parse().unwrap())
        .generation_period(Duration::from_millis(50))
        .found_ranges(false)
        .name("tailed")
        .start()
        .unwrap();
    tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
    lookback::event!("ready");
    println!("\n::ready");
    std::io::stdout().flush().unwrap();
    std::io::stdin().lines().next().unwrap().unwrap();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            std::thread::spawn(move || {
                for number in 0..EVENTS {
                    lookback::event!("counted", thread = thread, number = number);
                    if number % 1000 == 0 {
                        tracing::info_span!("round", number)
                            .in_scope(|| tracing::warn!("a thousand of thread {thread}"));
                        std::thread::sleep(Duration::from_millis(10));
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    lookback::event!("done");
    println!("::done {}", recorder.stats().lost_in_all());
    std::io::stdin().lines().next();
    recorder.stop().unwrap();
}

struct Service {
    child: Child,
    input: ChildStdin,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Service {
    fn start(bytes: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "service", "--nocapture", "--test-threads=1"])
            .env(SERVICE, bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut service = Self { child, input, said };
        service.hears("::ready");
        service
    }

    fn hears(&mut self, what: &str) -> String {
        let mut lines = self.said.by_ref().map_while(Result::ok);
        lines.find_map(|line| line.strip_prefix(what).map(str::to_owned)).expect("it says that")
    }

    fn go_on(&mut self) {
        writeln!(self.input).unwrap();
    }

    fn tail(&self, more: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_lookback"))
            .args(["tail", &self.child.id().to_string(), "--color", "never"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The numbers that were printed, by thread, and how many generations and events are told to be missing.
fn printed(lines: &str) -> (BTreeMap<u64, Vec<u64>>, u64, u64) {
    let (mut numbers, mut generations, mut events) = (BTreeMap::new(), 0, 0);
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if let Some(gap) = event.get("gap") {
            generations += gap["generations"].as_u64().unwrap_or(0);
            events += gap["events"].as_u64().unwrap_or(0);
        } else if event["name"] == "counted" {
            let field = |name: &str| event["fields"][name].as_u64().unwrap();
            numbers.entry(field("thread")).or_insert_with(Vec::new).push(field("number"));
        }
    }
    (numbers, generations, events)
}

#[test]
fn ten_that_follow_print_every_event_once_and_in_order_until_the_service_ends() {
    let mut service = Service::start(64 << 20);
    let tails: Vec<_> = (0..10).map(|_| service.tail(&["--json", "--all"])).collect();
    service.go_on();
    assert_eq!(service.hears("::done "), "0", "the recorder lost nothing");
    service.go_on();
    for tail in tails {
        let ended = tail.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(ended.status.success() && said.lines().count() == 1, "{said}");
        assert!(said.ends_with("it records no more\n"), "{said}");
        let lines = String::from_utf8(ended.stdout).unwrap();
        let (numbers, generations, events) = printed(&lines);
        assert_eq!((numbers.len() as u64, generations, events), (THREADS, 0, 0));
        for (thread, numbers) in numbers {
            assert!(numbers.into_iter().eq(0..EVENTS), "of thread {thread}");
        }
        assert_eq!(lines.lines().filter(|line| line.contains(r#""name":"done""#)).count(), 1);
    }
}

#[test]
fn what_was_overwritten_before_it_could_be_read_is_a_gap() {
    // A small arena keeps some hundredths of what is recorded, and nobody reads it meanwhile.
    let mut service = Service::start(256 << 10);
    let mut tail = service.tail(&["--json", "--all"]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines().map_while(Result::ok);
    lines.find(|line| line.contains("ready")).expect("it follows");
    // SAFETY: no preconditions; the process is a child that was not waited for.
    let signal = |signal| unsafe { libc::kill(tail.id().cast_signed(), signal) };
    assert_eq!(signal(libc::SIGSTOP), 0);
    service.go_on();
    service.hears("::done ");
    assert_eq!(signal(libc::SIGCONT), 0);
    service.go_on();
    let rest: Vec<_> = lines.collect();
    let ended = tail.wait_with_output().unwrap();
    let (numbers, generations, _) = printed(&rest.join("\n"));
    assert!(generations > 0, "{}", String::from_utf8_lossy(&ended.stderr));
    let many: usize = numbers.values().map(Vec::len).sum();
    assert!((many as u64) < THREADS * EVENTS);
    for numbers in numbers.values() {
        assert!(numbers.is_sorted_by(|a, b| a < b), "what is printed is in order");
    }
}

#[test]
fn it_ends_when_it_is_asked_to_and_prints_what_is_asked_for() {
    let mut service = Service::start(64 << 20);
    // Nothing of what was before.
    let none = service.tail(&["--for", "200ms", "--name", "ready"]).wait_with_output().unwrap();
    assert!(none.status.success() && none.stdout.is_empty(), "{none:?}");
    let before = service.tail(&["--for", "200ms", "--all"]).wait_with_output().unwrap();
    let before = String::from_utf8(before.stdout).unwrap();
    assert!(before.contains("ready"), "{before}");
    let logs = service.tail(&["--kind", "log", "--level", "warn", "--limit", "5"]);
    let round = ["--span", "round", "--grep", "of thread 1", "--target", "tail", "--limit", "3"];
    let round = service.tail(&round);
    // Whose reader has ended ends, too, also while there is nothing to print.
    let closed = {
        let mut tail = service.tail(&["--name", "never"]);
        drop(tail.stdout.take());
        tail
    };
    assert!(closed.wait_with_output().unwrap().status.success());
    service.go_on();
    let logs = logs.wait_with_output().unwrap();
    let lines = String::from_utf8(logs.stdout).unwrap();
    assert!(logs.status.success() && lines.lines().count() == 5, "{lines}");
    assert!(lines.lines().all(|line| line.contains("WARN tail: a thousand of thread ")), "{lines}");
    let round = String::from_utf8(round.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(round.lines().count(), 3, "{round}");
    for line in round.lines() {
        assert!(line.contains("WARN tail: a thousand of thread 1"), "{line}");
        let clock = line.trim_start().split(' ').next().unwrap();
        assert_eq!((clock.len(), &clock[2..3], &clock[8..9]), (15, ":", "."), "{line}");
    }
    service.hears("::done ");
    service.go_on();
}

#[test]
fn a_process_that_is_not_recorded_is_an_error_of_one_line() {
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let said = lookback(&["tail", &other.id().to_string()]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("not being recorded"), "{}", said.stderr);
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    other.kill().unwrap();
    other.wait().unwrap();
}
