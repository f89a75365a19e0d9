//! `lookback summary` says first why a snapshot was taken, and where that happened.

#[path = "command/mod.rs"]
mod command;

use command::{ended, lookback};
use lookback::{Recorder, Trigger};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const WHY: &str = "LOOKBACK_TEST_WHY";
const DIRECTORY: &str = "LOOKBACK_TEST_WHY_DIRECTORY";

/// Not a test: the service of the others, which is this executable started again.
#[test]
fn service() {
    let (Ok(why), Some(directory)) = (std::env::var(WHY), std::env::var_os(DIRECTORY)) else {
        return;
    };
    let directory = PathBuf::from(directory);
    let limit = Duration::from_millis(20);
    let mut builder = Recorder::builder().name("why").black_box(directory.join("box"));
    builder = builder.snapshot_dir(&directory).trigger(Trigger::stalled_poll(limit));
    let _recorder = builder.start().unwrap();
    tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let work = async move {
        let span = tracing::info_span!("pay", order = 7);
        let _span = span.enter();
        let _region = lookback::region!("card");
        match &*why {
            "panic" => panic!("no such card"),
            "panic and crash" => {
                let _ = std::panic::catch_unwind(|| panic!("no such card"));
                std::process::abort();
            }
            "crash" => std::process::abort(),
            _ => {
                while saved(&directory, "stalled_poll").is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    };
    let _ = lookback::block_on(&runtime, async { lookback::spawn(work).await });
}

/// The snapshot of a trigger.
fn saved(directory: &Path, trigger: &str) -> Option<PathBuf> {
    let entries = directory.read_dir().unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().find(|path| path.to_string_lossy().ends_with(&format!("-{trigger}.lbk")))
}

/// Runs the service; returns the summary of what its trigger saved, or of its box, as text and as JSON.
fn summary(why: &str, trigger: Option<&str>) -> (String, Value) {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Command::new(std::env::current_exe().unwrap());
    service.args(["--exact", "service", "--nocapture"]).stdout(Stdio::null()).stderr(Stdio::null());
    service.env(WHY, why).env(DIRECTORY, directory.path()).status().unwrap();
    let file = match trigger {
        Some(trigger) => saved(directory.path(), trigger).unwrap(),
        None => {
            let file = directory.path().join("recovered.lbk");
            let mut recover = Command::new(command::LOOKBACK);
            recover.arg("recover").arg(directory.path().join("box")).arg("-o").arg(&file);
            assert_eq!(ended(&mut recover).code, 0);
            file
        }
    };
    let file = file.to_str().unwrap();
    let json = lookback(&["summary", file, "--json"]).stdout;
    (lookback(&["summary", file]).stdout, serde_json::from_str(&json).unwrap())
}

/// Where the first cause happened.
fn is_in_the_region(json: &Value) {
    let cause = &json["incident"]["causes"][0];
    assert_eq!(cause["regions"], serde_json::json!(["card"]), "{cause:#}");
    let place = &cause["where"];
    assert_eq!((&place["span_name"], &place["span_fields"]), (&"pay".into(), &"order=7".into()));
    assert!(place["task_name"].as_str().unwrap().contains("service"), "{place:#}");
}

/// The words of a text, however its lines are wrapped.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn of_a_panic_what_it_said_and_where() {
    let (text, json) = summary("panic", Some("panic"));
    is_in_the_region(&json);
    let text = flat(&text);
    let (reason, place) = (text.find("no such card").unwrap(), text.find(" where +").unwrap());
    assert!(reason < place && place < text.find("What stood out").unwrap(), "{text}");
    assert!(text.contains("span `pay` {order=7}, region `card`"), "{text}");
}

#[test]
fn of_a_crash_what_was_open_on_its_thread() {
    let (text, json) = summary("crash", None);
    is_in_the_region(&json);
    let text = flat(&text);
    assert!(text.contains("reason SIGABRT in thread "), "{text}");
    assert!(text.contains("span `pay` {order=7}, region `card`"), "{text}");
}

#[test]
fn of_a_panic_before_a_crash_that_it_was_one() {
    let (_, json) = summary("panic and crash", None);
    is_in_the_region(&json);
    let finding = &json["findings"][0];
    assert_eq!(
        (&finding["analysis"], &json["incident"]["panics"]),
        (&"incident".into(), &1.into())
    );
    assert!(finding["title"].as_str().unwrap().ends_with(": no such card"), "{finding:#}");
}

#[test]
fn of_a_stall_what_is_open_on_the_thread_that_stands_still() {
    let (_, json) = summary("stall", Some("stalled_poll"));
    is_in_the_region(&json);
}
