//! Snapshots whose generations have no statuses because the collector got no processor: every command reads
//! them, says so in plain words, and raises no false alarm.

mod command;

use command::{Ended, lookback};
use lookback::read::text::from_text;
use std::fmt::Write;
use std::path::PathBuf;

/// Twelve generations of a second. Those in `ended` have statuses and an end record; a thread has been inside
/// a region since the first one, and is silent after it.
fn snapshot(directory: &tempfile::TempDir, ended: &[u64]) -> PathBuf {
    let mut text = String::from("metadata \"window_ns\" 12000000000\n");
    let second = 1_000_000_000_u64;
    let clock = |at: u64| format!("{at}:{at}:{at}:{second}");
    for number in 1..=12 {
        let is_ended = ended.contains(&number);
        let (kind, end) = if is_ended { ("complete", number + 1) } else { ("incomplete", 13) };
        let (began, end) = (clock(number * second), clock(end * second));
        writeln!(text, "generation {number} {kind} began={began} ended={end}").unwrap();
        let region = "  site id=1 name=\"lock_cache\" file=\"a.rs\" line=1\n";
        if is_ended {
            let events = if number == 1 { 4 } else { 1 };
            text += "block slot=0\n";
            if number > 1 {
                text += "  thread_status thread=2 os_thread=12 name=\"hangs\"\n";
                writeln!(text, "{region}  region_status site=1 ago={}", (number - 1) * second - 30)
                    .unwrap();
            }
            writeln!(
                text,
                "  end events={events} bytes=0 blocks=0 lost=[] advances=[] waits=[] snapshots=[]"
            )
            .unwrap();
        }
        writeln!(text, "block slot=1 thread=1 first_event={}", number - 1).unwrap();
        let state = if number == 1 { "@5 thread_start" } else { "thread_status" };
        writeln!(text, "  {state} thread=1 os_thread=11 name=\"busy\"").unwrap();
        if number > 1 {
            text += "  site id=2 name=\"turn\" file=\"a.rs\" line=2\n  @500 log level=3 site=2 message=\"on\"\n";
        } else {
            text +=
                "block slot=2 thread=2\n  @10 thread_start thread=2 os_thread=12 name=\"hangs\"\n";
            text += region;
            text += "  @30 region_begin site=1\n  @31 log level=3 site=1 message=\"in\"\n";
        }
    }
    let file = directory.path().join("starved.lbk");
    std::fs::write(&file, from_text(&text).unwrap()).unwrap();
    file
}

fn run(file: &std::path::Path, arguments: &[&str]) -> Ended {
    let mut all = vec![arguments[0], file.to_str().unwrap()];
    all.extend(&arguments[1..]);
    let ended = lookback(&all);
    assert_eq!(ended.stderr, "", "{arguments:?}: {ended:?}");
    ended
}

#[test]
fn every_command_reads_them_and_accuses_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let file = snapshot(&directory, &[1, 7, 12]);
    let sound = run(&file, &["validate"]);
    assert_eq!(sound.code, 0, "{sound:?}");
    assert!(sound.stdout.contains("sound: 15 events in 12 generations"), "{sound:?}");
    let says =
        "9 generations have no statuses: what was idle in them is known from the generation before";
    for command in ["info", "summary"] {
        let told = run(&file, &[command]);
        let words = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(told.code, 0);
        assert!(words.contains(says), "{}", told.stdout);
        assert!(words.contains("covered 12 s"), "{}", told.stdout);
        assert!(!words.contains("lost,") && !words.contains("damage"), "{}", told.stdout);
        // A thread that has hung since the first one is known to hang.
        assert_eq!(words.contains("lock_cache"), command == "summary", "{}", told.stdout);
    }
    let doctor = run(&file, &["doctor"]).stdout;
    assert!(doctor.contains("9 generations have no statuses"), "{doctor}");
    assert!(doctor.contains("no event was lost"), "{doctor}");
    let events = run(&file, &["events", "--json"]);
    assert_eq!(events.stdout.lines().count(), 15, "{events:?}");
    let out = directory.path().join("out");
    let exported = run(&file, &["export", "--format", "go", "-o", out.to_str().unwrap()]);
    assert_eq!(exported.code, 0, "{exported:?}");
}

/// The window may begin with some that no complete generation precedes.
#[test]
fn the_first_ones_may_be_known_in_part() {
    let directory = tempfile::tempdir().unwrap();
    let file = snapshot(&directory, &[7, 12]);
    assert_eq!(run(&file, &["validate"]).code, 0);
    assert!(run(&file, &["info"]).stdout.contains("10 generations have no statuses"));
}
