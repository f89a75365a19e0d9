//! `lookback diff`, on snapshots of real processes: what was changed is named first, and nothing is named if nothing was.
//!
//! The two runs of a pair run side by side, so that both have the same machine. `LOOKBACK_PAIRS=N` sets the number of pairs of
//! healthy runs, 2 by default.

mod command;

use command::{Ended, ended, lookback};
use lookback::Recorder;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

const MODE: &str = "LOOKBACK_TEST_DIFF";
const FILE: &str = "LOOKBACK_TEST_DIFF_FILE";

/// Not a test: the service of the others, which is this executable started again.
#[test]
fn service() {
    let (Ok(mode), Some(file)) = (std::env::var(MODE), std::env::var_os(FILE)) else { return };
    let name = if mode == "another" { "bank" } else { "shop" };
    let builder = Recorder::builder().name(name).generation_period(Duration::from_millis(250));
    let recorder = builder.start().unwrap();
    tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(3);
    let sleeper = std::thread::spawn(move || sleeps(until));
    runtime.block_on(async {
        let clients = (0..16).map(|client| lookback::spawn(client_of(mode.clone(), client, until)));
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    });
    recorder.stop().unwrap().save(&file).unwrap();
    let slept = Path::new(&file).with_extension("slept");
    std::fs::write(slept, sleeper.join().unwrap().as_micros().to_string()).unwrap();
}

/// How long a sleep of 10 ms takes, on average.
fn sleeps(until: Instant) -> Duration {
    let (began, mut many) = (Instant::now(), 0);
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
        many += 1;
    }
    began.elapsed() / many
}

/// Whether the services did not get the cores when they wanted them: then they did something else than they do.
fn were_held_up() -> bool {
    let slept = |file: &PathBuf| {
        let slept = std::fs::read_to_string(file.with_extension("slept")).unwrap();
        slept.parse::<u64>().unwrap() > 12_000
    };
    let held_up = RUNS.1.iter().any(slept);
    if held_up {
        println!("skipped: others had the cores");
    }
    held_up
}

async fn client_of(mode: String, client: u64, until: Instant) {
    use tracing::Instrument;
    let mut turn = 0;
    while Instant::now() < until {
        turn += 1;
        let query = if mode == "slow" { 30 } else { 10 };
        let request = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            tokio::time::sleep(Duration::from_millis(query))
                .instrument(tracing::info_span!("query"))
                .await;
        };
        request.instrument(tracing::info_span!("request", client)).await;
        tracing::info!("served request {turn} of client {client}");
        if mode == "error" && (turn + client).is_multiple_of(4) {
            tracing::error!("no answer from shard {client}");
        }
        lookback::counter!(
            "carts",
            if mode == "doubled" { 200 + turn % 3 } else { 100 + turn % 3 }
        );
    }
}

fn start(mode: &str, file: &Path) -> Child {
    let mut service = Command::new(std::env::current_exe().unwrap());
    service.args(["--exact", "service", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::null());
    service.env(MODE, mode).env(FILE, file).spawn().unwrap()
}

/// Runs services side by side; returns their snapshots.
fn run(modes: &[&str], directory: &Path) -> Vec<PathBuf> {
    let file = |at: usize| directory.join(format!("{at}.lbk"));
    let services: Vec<_> =
        modes.iter().enumerate().map(|(at, mode)| start(mode, &file(at))).collect();
    for mut service in services {
        assert!(service.wait().unwrap().success());
    }
    (0..modes.len()).map(file).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(good: &Path, bad: &Path) -> Value {
    let ended = lookback(&["diff", text(good), text(bad), "--json"]);
    assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

fn words(diff: &Value) -> Vec<&str> {
    diff["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["words"].as_str().unwrap())
        .collect()
}

/// One pair of each, which all tests share.
static RUNS: LazyLock<(tempfile::TempDir, Vec<PathBuf>)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let modes = ["healthy", "healthy", "slow", "error", "doubled", "another"];
    let runs = run(&modes, directory.path());
    (directory, runs)
});

/// The snapshot of a run: the first two are healthy.
fn file(of: usize) -> &'static Path {
    &RUNS.1[of]
}

#[test]
fn two_healthy_runs_do_not_differ() {
    let pairs =
        std::env::var("LOOKBACK_PAIRS").ok().and_then(|many| many.parse().ok()).unwrap_or(2);
    for pair in 0..pairs {
        let mut found = String::new();
        // Where others have the cores, one of the two may have had fewer.
        for _ in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let files = run(&["healthy", "healthy"], directory.path());
            let diff = json(&files[0], &files[1]);
            assert!(diff["asked"].as_u64().unwrap() >= 10, "{diff:#}");
            found = words(&diff).join("\n");
            if found.is_empty() {
                break;
            }
            println!("pair {pair}: {found}");
        }
        assert!(found.is_empty() || were_held_up(), "pair {pair}: {found}");
    }
}

#[test]
fn a_run_does_not_differ_from_itself() {
    let diff = json(file(0), file(0));
    assert_eq!((words(&diff).len(), &diff["rare"]), (0, &Value::Array(Vec::new())), "{diff:#}");
    let ended = lookback(&["diff", text(file(0)), text(file(0))]);
    assert!(
        ended.stdout.starts_with("Nothing differs that chance would not explain\n"),
        "{}",
        ended.stdout
    );
}

#[test]
fn what_was_changed_is_named_first() {
    if were_held_up() {
        return;
    }
    let first = |bad: usize| {
        let diff = json(file(0), file(bad));
        words(&diff).first().map(|first| (*first).to_owned()).unwrap_or_default()
    };
    assert!(first(2).starts_with("Span `query` (cli/tests/diff.rs:"), "{}", first(2));
    assert!(first(2).contains(" as long: median 1"), "{}", first(2));
    assert!(first(3).starts_with("Error log `no answer from shard #`"), "{}", first(3));
    assert!(first(3).contains("is new"), "{}", first(3));
    assert!(first(4).starts_with("Counter `carts` 2.0 × as high: 10"), "{}", first(4));
}

#[test]
fn a_summary_against_a_baseline_says_what_a_comparison_says() {
    let asked = ["summary", text(file(2)), "--against", text(file(0))];
    let summary = lookback(&asked).stdout;
    let diff = json(file(0), file(2));
    assert!(summary.contains(&format!("\nAgainst {}\n", text(file(0)))), "{summary}");
    if let Some(first) = words(&diff).first() {
        // Lines are wrapped.
        let begin: String = first.chars().take(30).collect();
        assert!(summary.contains(&begin), "no {first} in {summary}");
    }
    let told: Value =
        serde_json::from_str(&lookback(&[&asked[..], &["--json"]].concat()).stdout).unwrap();
    assert_eq!(told["against"], diff);
    let without: Value =
        serde_json::from_str(&lookback(&["summary", text(file(2)), "--json"]).stdout).unwrap();
    assert_eq!(without["against"], Value::Null);
    let ended = lookback(&["summary", text(file(2)), "--against", "no-such.lbk"]);
    assert!(ended.code != 0 && ended.stderr.contains("no-such.lbk"), "{ended:?}");
}

#[test]
fn the_answer_fits_on_one_screen() {
    if were_held_up() {
        return;
    }
    let mut command = Command::new(command::LOOKBACK);
    let ended = ended(command.args(["diff", text(file(0)), text(file(2))]).env("COLUMNS", "100"));
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(lines.len() <= 20, "{}", ended.stdout);
    assert!(lines[0].starts_with("Span `query`"), "{}", ended.stdout);
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{}", ended.stdout);
    assert!(!ended.stdout.contains('\u{1b}'), "plain where there is no terminal");
}

#[test]
fn what_cannot_be_compared_is_said_and_the_exit_code_is_1() {
    let ended = lookback(&["diff", text(file(0)), text(file(5))]);
    assert_eq!((ended.code, &*ended.stderr), (1, ""), "{ended:?}");
    let because = "Not comparable because GOOD is of the program `shop`, and BAD of `bank`\n";
    assert!(ended.stdout.starts_with(because), "{}", ended.stdout);
    let any = lookback(&["diff", text(file(0)), text(file(5)), "--any-program"]);
    assert_eq!(any.code, 0, "{any:?}");
}

#[test]
fn directories_are_compared_file_by_file_and_what_is_no_snapshot_is_named() {
    let [good, bad] = [0, 1].map(|_| tempfile::tempdir().unwrap());
    for (directory, from) in [(&good, [0, 1]), (&bad, [2, 2])] {
        for (at, from) in from.into_iter().enumerate() {
            std::fs::copy(file(from), directory.path().join(format!("{at}.lbk"))).unwrap();
        }
    }
    let diff = json(good.path(), bad.path());
    assert_eq!((diff["good"]["files"].as_u64(), diff["bad"]["files"].as_u64()), (Some(2), Some(2)));
    // The same file twice counts once.
    let covered = |side: &str| diff[side]["covered_ns"].as_u64().unwrap();
    assert!(covered("good") > covered("bad") * 3 / 2, "{diff:#}");
    let is_query = |words: &str| were_held_up() || words.starts_with("Span `query`");
    assert!(is_query(words(&diff).first().unwrap_or(&"")), "{:#?}", words(&diff));
    std::fs::write(bad.path().join("broken.lbk"), "no snapshot").unwrap();
    let ended = lookback(&["diff", text(good.path()), text(bad.path())]);
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
    assert!(ended.stderr.contains("broken.lbk") && is_query(&ended.stdout), "{ended:?}");
}

#[track_caller]
fn is_no_panic(ended: &Ended) {
    assert!([0, 1].contains(&ended.code), "{ended:?}");
    assert!(ended.stderr.lines().all(|line| line.starts_with("lookback: ")), "{ended:?}");
}

#[test]
fn damage_of_any_kind_is_named_in_lines_and_is_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.lbk");
    let bytes = std::fs::read(file(2)).unwrap();
    let mut seed = 1_u64;
    for round in 0..40 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + round % 5 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 20) as usize % damaged.len();
            damaged[at] ^= 1 << (seed >> 13 & 7);
        }
        if round % 4 == 0 {
            damaged.truncate(bytes.len() * (round + 1) / 41);
        }
        std::fs::write(&path, damaged).unwrap();
        is_no_panic(&lookback(&["diff", text(file(0)), text(&path)]));
        is_no_panic(&lookback(&["diff", text(&path), text(file(0)), "--json"]));
    }
    for none in ["", "no snapshot"] {
        std::fs::write(&path, none).unwrap();
        let ended = lookback(&["diff", text(&path), text(file(0))]);
        assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
    }
    let ended = lookback(&["diff", text(directory.path()), text(file(0))]);
    assert!(ended.stderr.contains("none of the 1 files in it can be read"), "{ended:?}");
    let empty = tempfile::tempdir().unwrap();
    let ended = lookback(&["diff", text(empty.path()), text(file(0))]);
    assert!(ended.stderr.contains("no .lbk file in it"), "{ended:?}");
}
