//! Whatever a file is: a clear line on stderr for each problem, exit code 1, and whatever can still be read.

mod command;

use command::{Ended, lines, lookback};
use lookback::Recorder;
use lookback::read::Trace;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const COMMANDS: [&[&str]; 6] = [
    &["info"],
    &["info", "--json"],
    &["events"],
    &["events", "--json"],
    &["validate"],
    &["validate", "--json"],
];

/// A small snapshot of several generations, made once.
fn snapshot() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let recorder = Recorder::builder().max_bytes(1 << 20).name("small").start().unwrap();
        for round in 0..4_u32 {
            let _region = lookback::region!("round");
            for n in 0..200_u32 {
                let text = format!("{}", (n + round).wrapping_mul(2_654_435_761));
                lookback::event!("noise", n = n, text = text.as_str(), ratio = f64::NAN);
            }
            lookback::log!(WARN, "evil", "first\nsecond \u{1b}[31mred\u{1b}[0m \u{202e}back");
            lookback::counter!("round", round);
            assert!(recorder.advance());
        }
        let mut bytes = Vec::new();
        recorder.stop().unwrap().write_to(&mut bytes).unwrap();
        bytes
    })
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// Runs each command on the file. All must fail, and each line of stderr must name the file.
fn all_fail(file: &Path) -> Vec<Ended> {
    let path = file.to_str().unwrap();
    let run = |command: &&[&str]| {
        let ended = lookback(&[command, &[path][..]].concat());
        assert_eq!(ended.code, 1, "{command:?} {path}: {ended:?}");
        let said = lines(ended.stderr.as_bytes());
        assert!(!said.is_empty(), "{command:?} {path} is silent");
        for line in &said {
            assert!(line.starts_with(&format!("lookback: {path}: ")), "{command:?}: {line}");
        }
        let mut different = said.clone();
        different.sort();
        different.dedup();
        assert_eq!(different.len(), said.len(), "nothing is said twice: {said:?}");
        ended
    };
    COMMANDS.iter().map(run).collect()
}

#[test]
fn what_is_no_snapshot_gets_one_line() {
    let files = Files::new();
    let bad: [(&str, &[u8], &str); 7] = [
        ("empty", b"", "the file is empty"),
        ("text", b"This is the log of yesterday.\nNothing happened.\n", "not a snapshot"),
        ("gzip.lbk", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0], "gzip"),
        ("binary", &[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "not a snapshot"),
        ("zeros", &[0; 4096], "not a snapshot"),
        ("one byte", &snapshot()[..1], ""),
        ("metadata", &snapshot()[..60], "cut off"),
    ];
    for (name, content, reason) in bad {
        let file = files.with(name, content);
        for ended in all_fail(&file) {
            assert_eq!(ended.stdout, "", "{name}");
            let [line] = &lines(ended.stderr.as_bytes())[..] else { panic!("{name}: {ended:?}") };
            assert!(line.contains(reason), "{line}");
        }
    }
}

#[test]
fn what_cannot_be_opened_gets_one_line_that_helps() {
    let files = Files::new();
    let missing = files.0.path().join("missing.lbk");
    let directory = files.0.path().join("directory");
    std::fs::create_dir(&directory).unwrap();
    let full = files.0.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("x.lbk"), snapshot()).unwrap();
    for (file, reason) in
        [(missing, "no such file"), (directory, "a directory"), (full, "full/x.lbk")]
    {
        for ended in all_fail(&file) {
            assert_eq!(ended.stdout, "");
            let [line] = &lines(ended.stderr.as_bytes())[..] else { panic!("{ended:?}") };
            assert!(line.contains(reason), "{line}");
        }
    }
}

#[test]
fn a_name_with_a_line_end_in_it_stays_on_one_line() {
    let ended = lookback(&["info", "no\nsuch\u{1b}[31mfile"]);
    assert_eq!(ended.code, 1);
    let said = lines(ended.stderr.as_bytes());
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with(r"lookback: no\nsuch\u{1b}[31mfile: "), "{said:?}");
}

#[test]
fn a_cut_file_yields_its_whole_generations() {
    let files = Files::new();
    let sound = Trace::from_bytes(snapshot().to_vec()).unwrap();
    let generations = sound.generations();
    assert!(generations.len() >= 4);
    for at in [1, 2, 3] {
        let next = &generations[at];
        // In the middle of a generation: the earlier ones are whole.
        let cut = &snapshot()[..(next.offset + next.compressed / 2) as usize];
        let file = files.with(&format!("cut-{at}.lbk"), cut);
        let whole: u64 = generations[..at].iter().map(|generation| generation.events).sum();
        let ended = all_fail(&file);
        let info: Value = serde_json::from_str(&ended[1].stdout).unwrap();
        assert_eq!(info["events"], whole);
        assert!(!info["damage"].as_array().unwrap().is_empty());
        assert!(ended[0].stdout.contains("small"), "{}", ended[0].stdout);
        assert_eq!(ended[2].stdout.lines().count() as u64, whole);
        assert_eq!(ended[3].stdout.lines().count() as u64, whole);
        let validate: Value = serde_json::from_str(&ended[5].stdout).unwrap();
        assert_eq!(validate["sound"], false);
        for ended in &ended {
            assert!(ended.stderr.contains(": at byte "), "{}", ended.stderr);
        }
    }
}

#[test]
fn a_flipped_bit_costs_its_generation_and_no_other() {
    let files = Files::new();
    let sound = Trace::from_bytes(snapshot().to_vec()).unwrap();
    let all: u64 = sound.generations().iter().map(|generation| generation.events).sum();
    for generation in &sound.generations()[..3] {
        let mut bytes = snapshot().to_vec();
        bytes[(generation.offset + generation.compressed / 2) as usize] ^= 4;
        let file = files.with(&format!("flip-{}.lbk", generation.number), &bytes);
        let ended = all_fail(&file);
        for ended in &ended[..4] {
            let [line] = &lines(ended.stderr.as_bytes())[..] else { panic!("{ended:?}") };
            assert!(line.contains(&format!("generation {}: ", generation.number)), "{line}");
        }
        let info: Value = serde_json::from_str(&ended[1].stdout).unwrap();
        assert_eq!(info["events"], all - generation.events);
        assert_eq!(ended[3].stdout.lines().count() as u64, all - generation.events);
    }
}

#[test]
fn a_bit_flipped_anywhere_never_makes_it_crash() {
    let files = Files::new();
    let step = snapshot().len() / 40;
    for at in (0..snapshot().len()).step_by(step.max(1)) {
        let mut bytes = snapshot().to_vec();
        bytes[at] ^= 1 << (at % 8);
        let file = files.with("flip.lbk", &bytes);
        let path = file.to_str().unwrap();
        let info = lookback(&["info", "--json", path]);
        assert!(matches!(info.code, 0 | 1), "at byte {at}: {info:?}");
        if info.code == 1 {
            for line in lines(info.stderr.as_bytes()) {
                assert!(line.starts_with(&format!("lookback: {path}: ")), "at byte {at}: {line}");
            }
        }
        if !info.stdout.is_empty() {
            serde_json::from_str::<Value>(&info.stdout).unwrap();
        }
    }
}

#[test]
fn what_a_service_has_logged_cannot_harm_a_terminal() {
    let files = Files::new();
    let file = files.with("evil.lbk", snapshot());
    let path = file.to_str().unwrap();
    let events = lookback(&["events", path, "--kind", "log"]);
    assert_eq!(events.code, 0);
    assert_eq!(events.stdout.lines().count(), 4, "{}", events.stdout);
    let harmful =
        |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
    assert!(!events.stdout.contains(harmful));
    assert!(events.stdout.contains(r"WARN evil: first\nsecond \u{1b}[31mred"), "{}", events.stdout);

    let events = lookback(&["events", path, "--json", "--kind", "log", "--kind", "event"]);
    for line in events.stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        match event["kind"].as_str().unwrap() {
            "log" => assert_eq!(
                event["fields"]["message"],
                "first\nsecond \u{1b}[31mred\u{1b}[0m \u{202e}back"
            ),
            _ => assert!(event["fields"]["ratio"].is_null(), "JSON has no NaN"),
        }
    }
}

#[test]
fn a_region_from_before_the_window_is_indented_like_any_other() {
    let files = Files::new();
    // The first generation is gone, and with it the beginnings of the first regions.
    let sound = Trace::from_bytes(snapshot().to_vec()).unwrap();
    let first = &sound.generations()[0];
    let mut bytes = snapshot().to_vec();
    bytes[(first.offset + first.compressed / 2) as usize] ^= 4;
    let file = files.with("late.lbk", &bytes);
    let events = lookback(&["events", file.to_str().unwrap(), "--limit", "1"]);
    assert!(events.stdout.contains("region_end    round  "), "{}", events.stdout);
}

/// A named pipe is read like any other file, and the command says that it waits.
#[test]
fn a_fifo_that_nobody_writes_to_is_waited_for_in_words() {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    let files = Files::new();
    let path = files.0.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut info = Command::new(command::LOOKBACK)
        .args(["info".as_ref(), path.as_os_str()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(info.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let expected = format!("lookback: {}: this is a FIFO; waiting for a writer\n", path.display());
    assert_eq!(said, expected);
    let mut pipe = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    pipe.write_all(snapshot()).unwrap();
    drop(pipe);
    assert!(info.wait_with_output().unwrap().status.success());
}

#[test]
fn a_file_of_zeroes_is_called_so_at_once_however_large_it_is() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("lost.lbk");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let path = path.to_str().unwrap();
    for command in ["info", "summary", "events", "validate", "recover"] {
        let ended = lookback(&[command, path]);
        assert_eq!(ended.code, 1, "{command}");
        assert!(ended.stderr.contains("zeroes"), "{command}: {}", ended.stderr);
        assert_eq!(lines(ended.stderr.as_bytes()).len(), 1, "{command}: {}", ended.stderr);
    }
    // A hole at the front costs only what was there.
    let whole = snapshot();
    let mut damaged = whole.to_vec();
    damaged[..200].fill(0);
    let holed = place.path().join("holed.lbk");
    std::fs::write(&holed, [&vec![0; 100_000][..], &damaged].concat()).unwrap();
    let before = Trace::from_bytes(whole.to_vec()).unwrap().generations().len();
    let found = Trace::open(&holed).unwrap().generations().len();
    assert!(found + 1 >= before, "{found} of {before}");
}

#[test]
fn what_is_to_be_typed_is_quoted() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("it's my box");
    std::fs::write(&path, snapshot()).unwrap();
    let ended = lookback(&["recover", path.to_str().unwrap()]);
    let quoted = format!("'{}'", path.to_str().unwrap().replace('\'', r"'\''"));
    assert!(ended.stderr.contains(&format!("`lookback info {quoted}`")), "{}", ended.stderr);
    let out = place.path().join("a trace");
    let ended = lookback(&[
        "export",
        path.to_str().unwrap(),
        "--format",
        "go",
        "-o",
        out.to_str().unwrap(),
    ]);
    assert!(
        ended.stdout.contains(&format!("go tool trace '{}'", out.to_str().unwrap())),
        "{}",
        ended.stdout
    );
    let ended = lookback(&["info", place.path().to_str().unwrap()]);
    assert!(
        !ended.stderr.contains("box"),
        "only files that are called so are snapshots: {}",
        ended.stderr
    );
}
