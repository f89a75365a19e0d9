//! A process that was stopped as a whole: `lookback summary` says so first, and blames no task or thread for
//! that time.
#![cfg(target_os = "linux")]

#[path = "command/mod.rs"]
mod command;

use command::lookback;
use lookback::{RecordExt, Recorder};
use serde_json::Value;
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const DIRECTORY: &str = "LOOKBACK_TEST_STOPPED";
const STOP: Duration = Duration::from_secs(2);
const HANG: Duration = Duration::from_millis(400);

/// Polls a task of this name once; it only does `work`.
fn poll(name: &'static str, work: impl FnOnce()) {
    let mut work = Some(work);
    let future = std::future::poll_fn(move |_| {
        work.take().expect("it is polled once")();
        std::task::Poll::Ready(())
    });
    let mut future = Box::pin(future.recorded(name));
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

/// Not a test: the service of the other one, which is this executable started again.
#[test]
fn service() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let recorder = Recorder::builder()
        .window(Duration::from_secs(120))
        .generation_period(Duration::from_millis(200))
        .snapshot_dir(PathBuf::from(directory))
        .start()
        .unwrap();
    let _subscriber = tracing::subscriber::set_default(lookback::tracing::subscriber());
    let mut lines = std::io::stdin().lines();
    let mut say = |what: &str| {
        println!("\n::{what}");
        std::io::stdout().flush().unwrap();
        lines.next().unwrap().unwrap();
    };
    lookback::event!("begins");
    let mut whole = Duration::ZERO;
    poll("innocent", || {
        let _span = tracing::info_span!("unhurried").entered();
        let _region = lookback::region!("calm");
        let began = Instant::now();
        // It is stopped meanwhile, and continues.
        say(&format!("in it {}", std::process::id()));
        whole = began.elapsed();
    });
    poll("culprit", || std::thread::sleep(HANG));
    let path = recorder.save("after it").unwrap();
    say(&format!("saved {} {}", whole.as_nanos(), path.display()));
}

/// Waits until the process is stopped, or is not.
fn is_stopped(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('T')
}

/// What a service has saved that was stopped while it was in a poll.
struct Saved {
    _directory: tempfile::TempDir,
    file: String,
    /// How long the poll took, in nanoseconds, as the service has measured it.
    poll: u64,
    /// The longest time between the signals, as this process has measured it.
    stop: Duration,
}

/// Runs the service, and stops it `times` times for so long.
fn stopped(times: u32, length: Duration) -> Saved {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "service", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(service.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut heard = |what: &str| {
        output.find_map(|line| line.strip_prefix(what).map(str::to_owned)).expect("it says that")
    };
    let process: u32 = heard("::in it ").parse().unwrap();
    let signal = |signal| {
        // SAFETY: the child was not waited for yet, so its ID is still its own.
        assert_eq!(unsafe { libc::kill(process.cast_signed(), signal) }, 0);
    };
    let mut longest = Duration::ZERO;
    for _ in 0..times {
        // Two periods: its collector sleeps.
        std::thread::sleep(Duration::from_millis(500));
        let began = Instant::now();
        signal(libc::SIGSTOP);
        while !is_stopped(process) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(length);
        signal(libc::SIGCONT);
        longest = longest.max(began.elapsed());
    }
    let mut input = service.stdin.take().unwrap();
    writeln!(input, "go on").unwrap();
    let saved = heard("::saved ");
    let (poll, file) = saved.split_once(' ').unwrap();
    writeln!(input, "end").unwrap();
    assert!(service.wait().unwrap().success());
    let (poll, file) = (poll.parse().unwrap(), file.to_owned());
    Saved { _directory: directory, file, poll, stop: longest }
}

fn summary(file: &str) -> (String, Value) {
    let json = serde_json::from_str(&lookback(&["summary", file, "--json"]).stdout).unwrap();
    (lookback(&["summary", file]).stdout, json)
}

#[test]
fn a_process_that_stands_still_for_moments_was_not_stopped() {
    for _ in 0..3 {
        let saved = stopped(3, Duration::from_millis(40));
        let (text, json) = summary(&saved.file);
        // A machine that stands still itself, or leaves the process no core, makes more of it.
        if saved.stop > Duration::from_millis(150) || text.contains("starved") {
            continue;
        }
        assert_eq!(json["coverage"]["stops"].as_array().unwrap().len(), 0, "{text}");
        assert!(!text.contains("The process was stopped"), "{text}");
        return;
    }
    println!("skipped: each time it stood still for longer than it was stopped");
}

#[test]
fn the_time_for_which_a_process_was_stopped_is_told_and_nobody_is_blamed_for_it() {
    let saved = stopped(1, STOP);
    let (text, json) = summary(&saved.file);
    let stops = json["coverage"]["stops"].as_array().unwrap();
    // If the machine itself stands still, there may be more.
    let lengths: Vec<u64> = stops.iter().map(|stop| stop["length_ns"].as_u64().unwrap()).collect();
    let longest = lengths.iter().copied().max().unwrap_or_default();
    assert!(longest >= STOP.as_nanos() as u64, "{lengths:?}\n{text}");
    let first = json["findings"][0]["title"].as_str().unwrap();
    assert!(first.starts_with("The process was stopped for "), "{text}");
    assert!(text.contains("stopped") && text.contains("the process, for "), "{text}");
    let own = saved.poll;
    let rest = own - lengths.iter().sum::<u64>().min(own) + 50_000_000;
    let longest = &json["polls"]["longest"];
    let of = |name: &str| {
        let polls = longest.as_array().unwrap().iter();
        let mut of = polls.filter(|poll| poll["task_name"] == name);
        of.next().map_or(0, |poll| poll["length_ns"].as_u64().unwrap())
    };
    assert!(of("innocent") <= rest, "{rest}\n{text}\n{longest:#}");
    assert!(of("culprit") >= HANG.as_nanos() as u64, "{text}\n{longest:#}");
    // How the process and its machine fared meanwhile is told, too, by a kernel that says it.
    let counters = json["system"]["counters"].as_array().unwrap();
    match counters.iter().find(|one| one["name"] == "memory.resident") {
        Some(resident) => {
            assert!(resident["last"].as_u64().unwrap() > 1 << 20 && resident["unit"] == "bytes");
            assert_eq!(resident["increase"], false);
            let table = text.split_once("\nThe process and its machine").unwrap().1;
            assert!(table.contains("memory.resident") && table.contains("MiB"), "{text}");
        }
        None => println!("skipped: no reading of /proc/self/statm: {counters:?}"),
    }
}
