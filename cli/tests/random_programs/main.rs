//! Whatever a legal program does, its snapshot says what happened.
//!
//! A seed makes a program of threads, tasks, runtimes, spans, regions, events and panics, which runs in a
//! process of its own. A judge watches it by other means (layers of `tracing` around the recorder's, the
//! monotonic clock, its own counts); then every name, length, parent, thread and count in the snapshot is
//! compared with what the judge saw. The command must find the file sound, nothing may be lost, and Go must
//! read the export.
//!
//! `LOOKBACK_PROGRAMS=N` sets the number of programs (24 by default), and `LOOKBACK_SEED=N` the first seed; a
//! failure names its seed.

mod clock;
#[path = "../command/mod.rs"]
mod command;
mod compare;
#[path = "../../../snapshot/tests/go_tool/mod.rs"]
mod go_tool;
mod judge;
mod program;

use ::lookback::read::{Trace, validate};
use ::lookback::{Recorder, Snapshot};
use command::lookback;
use program::{Actor, Pool, Random, drain_regions, judged};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

/// How `tracing` reaches the recorder.
const WAYS: [&str; 3] = ["subscriber", "layer", "filtered layer"];
/// How many programs run in one process, one after the other.
const IN_A_PROCESS: u64 = 8;
/// The same, of two runs that are compared.
const OF_A_PAIR: u64 = 20;

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_a_legal_program_does_its_snapshot_says_what_happened() {
    if let Some(directory) = std::env::var_os("LOOKBACK_PROGRAM_DIRECTORY") {
        return run_programs(Path::new(&directory));
    }
    let programs = number_of("LOOKBACK_PROGRAMS").unwrap_or(24);
    let first = number_of("LOOKBACK_SEED").unwrap_or(1);
    let go = go_tool::go_tool();
    let mut events = 0;
    for (batch, seed) in (first..first + programs).step_by(IN_A_PROCESS as usize).enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let many = IN_A_PROCESS.min(first + programs - seed);
        let way = number_of("LOOKBACK_WAY").unwrap_or(batch as u64) as usize % WAYS.len();
        let output = programs_in(directory.path(), seed, many, way).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{}, from seed {seed}: {}\n{said}",
            WAYS[way],
            output.status
        );
        for seed in seed..seed + many {
            let file = directory.path().join(format!("{seed}.lbk"));
            events += judge_of_the_command(&file, seed, go);
        }
    }
    println!("{programs} programs, {events} events");
}

/// A process that runs these programs, one after the other.
fn programs_in(directory: &Path, seed: u64, many: u64, way: usize) -> Command {
    let mut batch = Command::new(std::env::current_exe().unwrap());
    batch
        .args(["--exact", "whatever_a_legal_program_does_its_snapshot_says_what_happened"])
        .args(["--nocapture", "--test-threads=1"])
        .env("LOOKBACK_PROGRAM_DIRECTORY", directory)
        .env("LOOKBACK_SEED", seed.to_string())
        .env("LOOKBACK_PROGRAMS", many.to_string())
        .env("LOOKBACK_WAY", way.to_string());
    batch
}

/// `LOOKBACK_PAIRS=N` sets the number of pairs, 3 by default. A pair runs side by side, so that both have the same machine.
#[test]
fn two_runs_of_the_same_programs_do_not_differ() {
    let first = number_of("LOOKBACK_SEED").unwrap_or(1);
    let (mut compared, mut asked) = (0, 0);
    for pair in 0..number_of("LOOKBACK_PAIRS").unwrap_or(3) {
        let (seed, way) = (first + pair * OF_A_PAIR, pair as usize % WAYS.len());
        let mut found = String::new();
        // Where others have the cores, one of the two may have had fewer.
        for _ in 0..3 {
            let runs = [0, 1].map(|_| tempfile::tempdir().unwrap());
            let runs = runs.map(|run| {
                let mut command = programs_in(run.path(), seed, OF_A_PAIR, way);
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                (command.spawn().unwrap(), run)
            });
            let [good, bad] = runs.map(|(mut run, directory)| {
                assert!(run.wait().unwrap().success(), "from seed {seed}");
                directory
            });
            let paths = [&good, &bad].map(|directory| directory.path().to_str().unwrap());
            let ended = lookback(&["diff", paths[0], paths[1], "--json"]);
            let diff: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(ended.stderr, "", "from seed {seed}");
            let list = |key: &str| diff[key].as_array().unwrap().clone();
            let too_short = |part: &serde_json::Value| {
                part["because"].as_str().unwrap().contains(" s are needed")
            };
            if list("not_comparable").iter().any(too_short) {
                println!("from seed {seed}: {}", diff["headline"]);
                break;
            }
            assert_eq!(ended.code, 0, "from seed {seed}: {}", diff["headline"]);
            (compared, asked) = (compared + 1, asked + diff["asked"].as_u64().unwrap());
            let words = list("differences");
            found = words.iter().map(|one| format!("{}\n", one["words"])).collect();
            if found.is_empty() {
                break;
            }
            println!("from seed {seed}: {found}");
        }
        assert!(found.is_empty(), "from seed {seed}: {found}");
    }
    println!("{compared} comparisons, {asked} questions");
    assert!(compared > 0, "all of them are too short");
}

/// Checks that the command finds it sound and Go reads it; returns how many events it has.
fn judge_of_the_command(file: &Path, seed: u64, go: Option<&go_tool::GoTool>) -> usize {
    let path = file.to_str().unwrap();
    let valid = lookback(&["validate", path]);
    assert_eq!(valid.code, 0, "seed {seed}: {}{}", valid.stdout, valid.stderr);
    let summary = lookback(&["summary", path]);
    assert_eq!(summary.code, 0, "seed {seed}: {}", summary.stderr);
    let info: serde_json::Value =
        serde_json::from_str(&lookback(&["info", path, "--json"]).stdout).unwrap();
    let lost = info["lost"].as_object().unwrap();
    assert!(lost.values().all(|count| count == 0), "seed {seed}: {lost:?}");
    let events = lookback(&["events", path, "--json"]);
    let lines = events.stdout.lines().count();
    assert_eq!(info["events"], lines, "seed {seed}");
    if let Some(go) = go {
        let out = file.with_extension("trace");
        let ended = lookback(&["export", path, "--format", "go", "-o", out.to_str().unwrap()]);
        assert_eq!(ended.code, 0, "seed {seed}: {}", ended.stderr);
        go.parse_file(&out).unwrap_or_else(|error| panic!("seed {seed}: Go refuses it: {error}"));
    }
    lines
}

/// The trace of a snapshot, which must be valid.
#[track_caller]
fn assert_valid(snapshot: &Snapshot, what: &str) -> Trace {
    let mut bytes = Vec::new();
    snapshot.write_to(&mut bytes).expect("memory takes every byte");
    let trace = Trace::from_bytes(bytes).expect("a snapshot can be read");
    let found: Vec<_> = validate(&trace).iter().map(ToString::to_string).collect();
    assert!(
        found.is_empty(),
        "{what}: {} violations: {:#?}",
        found.len(),
        &found[..found.len().min(10)]
    );
    trace
}

fn run_programs(directory: &Path) {
    // Programs panic all the time.
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or(payload.downcast_ref().map(String::as_str)).unwrap_or_default();
        if !text.starts_with("a panic of the program") && !text.starts_with("a task panics") {
            eprintln!("{info}");
        }
    }));
    let way = number_of("LOOKBACK_WAY").unwrap() as usize;
    let layer = || ::lookback::tracing::layer().with_max_level(Level::TRACE);
    let registry = || tracing_subscriber::registry().with(judge::Before);
    let level = match way {
        0 => {
            let subscriber = ::lookback::tracing::subscriber().with_max_level(Level::TRACE);
            tracing::subscriber::set_global_default(judge::Around(subscriber)).unwrap();
            Level::TRACE
        }
        1 => {
            let subscriber = registry().with(layer()).with(judge::After);
            tracing::subscriber::set_global_default(subscriber).unwrap();
            Level::TRACE
        }
        _ => {
            let filtered = layer().with_filter(LevelFilter::INFO);
            let subscriber = registry().with(filtered).with(judge::After);
            tracing::subscriber::set_global_default(subscriber).unwrap();
            Level::INFO
        }
    };
    let first = number_of("LOOKBACK_SEED").unwrap();
    for seed in first..first + number_of("LOOKBACK_PROGRAMS").unwrap() {
        run_program(seed, level, &directory.join(format!("{seed}.lbk")));
    }
}

fn run_program(seed: u64, level: Level, file: &Path) {
    let mut random = Random(seed);
    let pool = Pool::new();
    judge::begin(level);
    let period = Duration::from_millis(2 + random.below(40));
    let recorder = Recorder::builder()
        .window(period * 900)
        .max_bytes(32 << 20)
        .generation_period(period)
        .start()
        .expect("a recorder starts");
    judge::is_recorded(true);
    let recorder = Arc::new(recorder);
    let mut actor = Actor {
        random: random.fork(),
        pool: Arc::clone(&pool),
        recorder: Arc::clone(&recorder),
        depth: 0,
    };
    run_kind(&mut random, &mut actor);
    pool.join();
    drain_regions(&mut random);
    drop(actor);
    judge::is_recorded(false);
    let recorder = Arc::into_inner(recorder).expect("everybody has ended");
    let snapshot = recorder.stop().expect("it stops");
    snapshot.save(file).unwrap();
    let trace = assert_valid(&snapshot, &format!("seed {seed}"));
    let facts = judge::end();
    drop(pool);
    let differences = compare::differences(&trace, &facts);
    let shown = &differences[..differences.len().min(12)];
    assert!(differences.is_empty(), "seed {seed}: {} differences: {shown:#?}", differences.len());
}

/// A builder whose threads end the regions that are open on them.
fn builder(kind: u64, is_instrumented: bool, seed: u64) -> tokio::runtime::Runtime {
    let mut builder = match kind {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().worker_threads(2);
    let drain = move || drain_regions(&mut Random(seed));
    if is_instrumented {
        let hooks = ::lookback::tokio::Hooks::new().on_thread_stop(drain);
        assert!(::lookback::tokio::instrument_with(&mut builder, hooks).is_whole());
    } else {
        builder.on_thread_stop(drain);
    }
    builder.build().expect("a runtime")
}

fn run_kind(random: &mut Random, actor: &mut Actor) {
    let many = 20 + random.below(60);
    let child = |actor: &mut Actor| Actor {
        random: Random(actor.random.next()),
        pool: Arc::clone(&actor.pool),
        recorder: Arc::clone(&actor.recorder),
        depth: 0,
    };
    actor.steps(10);
    match random.below(6) {
        // Threads alone.
        0 => std::thread::scope(|scope| {
            for _ in 0..3 {
                let mut actor = child(actor);
                scope.spawn(move || {
                    actor.steps(many);
                    drain_regions(&mut actor.random);
                });
            }
            actor.steps(many);
        }),
        // A runtime, recorded or not.
        kind @ 1..=4 => {
            let runtime = builder(kind % 2, kind < 3, random.next());
            for _ in 0..2 {
                let root = judged(child(actor).run(many), None);
                ::lookback::block_on(&runtime, root);
                actor.steps(5);
            }
            drop(runtime);
        }
        // Two runtimes that take turns on one thread.
        _ => {
            let runtimes = [builder(0, true, random.next()), builder(0, true, random.next())];
            for turn in 0..6 {
                let root = judged(child(actor).run(many / 4), None);
                ::lookback::block_on(&runtimes[turn % 2], root);
                actor.steps(2);
            }
            for runtime in runtimes {
                drop(runtime);
            }
        }
    }
}
