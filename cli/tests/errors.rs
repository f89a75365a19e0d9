//! Every error is one line, and `docs/errors.md` lists it with its meaning and what to do.

mod command;
mod service;

use command::{Ended, ended, lookback};
use lookback::{Filter, Recorder, Trigger};
use service::Service;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md"));

/// Set for a process of this test whose settings come from its environment.
const CHILD: &str = "LOOKBACK_TEST_SETTINGS";

#[test]
fn service() {
    service::serve();
}

/// The texts of the page, with their placeholders.
fn documented() -> Vec<&'static str> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `"));
    let texts = rows.map(|row| match row.strip_prefix('`') {
        Some(row) => row.split_once("`` |").expect("the text ends").0.trim(),
        None => row.split_once("` |").expect("the text ends").0,
    });
    texts.collect()
}

/// Whether a line matches this text, in which each placeholder stands for one character or more.
fn fits(line: &str, text: &str) -> bool {
    let Some((before, rest)) = text.split_once('{') else { return line == text };
    let Some((_, rest)) = rest.split_once('}') else { return line == text };
    let Some(line) = line.strip_prefix(before) else { return false };
    let ends = line.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.into_iter().any(|at| fits(&line[at..], rest))
}

/// The page without the forms that fit nearly everything, such as `{name}: {what}`.
fn stands_in_the_page(line: &str) -> bool {
    let is_plain = |text: &&&str| {
        text.contains(|c: char| c.is_ascii_alphabetic()) && {
            let fixed: usize =
                text.split('{').map(|part| part.rsplit('}').next().unwrap_or("").len()).sum();
            fixed > 8
        }
    };
    documented().iter().filter(is_plain).any(|text| fits(line, text))
}

/// One line of the command's own.
#[track_caller]
fn is_documented(ended: &Ended) {
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{ended:?}");
    let line = ended.stderr.trim_end().strip_prefix("lookback: ").expect("the command says it");
    assert!(stands_in_the_page(line), "not in docs/errors.md: {line}");
}

/// An error of the library.
#[track_caller]
fn is_documented_of_the_library(error: &dyn std::error::Error) {
    let line = error.to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(stands_in_the_page(&line), "not in docs/errors.md: {line}");
}

/// A black box whose process was killed, and a snapshot of it.
fn files(directory: &Path) -> (PathBuf, PathBuf) {
    let (arena, snapshot) = (directory.join("a.box"), directory.join("a.lbk"));
    Service::with_box("hang", &arena).kill();
    let recovered = lookback(&["recover", text(&arena), "-o", text(&snapshot)]);
    assert_eq!(recovered.code, 0, "{recovered:?}");
    (arena, snapshot)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether this user is root, for whom permissions do not apply.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn the_page_has_a_meaning_and_a_remedy_for_each_text() {
    assert!(documented().len() > 100);
    for row in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 3, "{row}");
        assert!(!cells[2].is_empty(), "what is to be done? {row}");
    }
}

#[test]
fn what_is_no_snapshot_has_a_documented_error() {
    let directory = service::directory();
    let (arena, snapshot) = files(directory.path());
    let at = |name: &str| directory.path().join(name);
    let whole = std::fs::read(&snapshot).unwrap();
    std::fs::create_dir(at("none")).unwrap();
    std::fs::create_dir(at("some")).unwrap();
    std::fs::copy(&snapshot, at("some/b.lbk")).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("text"), "This is the log of yesterday.").unwrap();
    std::fs::write(at("zeroes"), [0; 4096]).unwrap();
    std::fs::write(at("front"), &whole[..60]).unwrap();
    std::fs::write(at("magic"), [b"oops", &whole[4..64]].concat()).unwrap();
    for name in ["missing", "none", "some", "empty", "text", "zeroes", "front", "magic"] {
        for command in ["info", "events", "summary", "validate"] {
            is_documented(&lookback(&[command, text(&at(name))]));
        }
    }
    for command in ["info", "events", "summary", "validate", "doctor"] {
        is_documented(&lookback(&[command, text(&at("missing"))]));
    }
    for command in ["info", "events", "summary", "validate"] {
        let of_a_process = lookback(&[command, &std::process::id().to_string()]);
        is_documented(&of_a_process);
        assert!(of_a_process.stderr.contains("`lookback snapshot"), "{of_a_process:?}");
    }
    is_documented(&lookback(&["info", text(&arena)]));
    if !is_root() {
        use std::os::unix::fs::PermissionsExt;
        for file in [&arena, &snapshot] {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        is_documented(&lookback(&["info", text(&snapshot)]));
        is_documented(&lookback(&["recover", text(&arena)]));
    }
}

#[test]
fn each_line_about_a_damaged_snapshot_is_documented() {
    let directory = service::directory();
    let (_, snapshot) = files(directory.path());
    let whole = std::fs::read(&snapshot).unwrap();
    let file = directory.path().join("damaged.lbk");
    let step = (whole.len() / 12).max(1);
    for at in (4..whole.len()).step_by(step) {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        for bytes in [&flipped[..], &whole[..at]] {
            std::fs::write(&file, bytes).unwrap();
            for line in lookback(&["validate", text(&file)]).stderr.lines() {
                let line = line.strip_prefix("lookback: ").expect("the command says it");
                assert!(stands_in_the_page(line), "not in docs/errors.md: {line}");
            }
        }
    }
}

#[test]
fn what_is_no_black_box_has_a_documented_error() {
    let directory = service::directory();
    let (arena, snapshot) = files(directory.path());
    let at = |name: &str| directory.path().join(name);
    let whole = std::fs::read(&arena).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("text"), "This is the log of yesterday.").unwrap();
    std::fs::write(at("zeroes"), [0; 4096]).unwrap();
    std::fs::write(at("front"), &whole[..100]).unwrap();
    std::fs::write(at("header"), &whole[..whole.len().min(4 << 20) / 64]).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    std::os::unix::fs::symlink(&arena, at("link")).unwrap();
    assert!(Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
    for name in ["missing", "empty", "text", "zeroes", "front", "directory", "link", "fifo"] {
        is_documented(&lookback(&["recover", text(&at(name)), "-o", text(&at("out.lbk"))]));
    }
    is_documented(&lookback(&["recover", "/dev/null"]));
    is_documented(&lookback(&["recover", text(&snapshot)]));
    for line in
        lookback(&["recover", text(&at("header")), "-o", text(&at("out.lbk"))]).stderr.lines()
    {
        let line = line.strip_prefix("lookback: ").expect("the command says it");
        assert!(stands_in_the_page(line), "not in docs/errors.md: {line}");
    }
}

#[test]
fn an_output_that_cannot_be_had_has_a_documented_error() {
    let directory = service::directory();
    let (arena, snapshot) = files(directory.path());
    let export =
        |out: &Path| lookback(&["export", text(&snapshot), "--format", "go", "-o", text(out)]);
    let missing = directory.path().join("missing/x");
    is_documented(&export(directory.path()));
    is_documented(&export(&snapshot));
    is_documented(&export(&missing));
    is_documented(&export(Path::new("/dev/full")));
    is_documented(&lookback(&["recover", text(&arena), "-o", text(&missing)]));
    is_documented(&lookback(&["man", "-o", text(&missing)]));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut info = Command::new(command::LOOKBACK);
    is_documented(&ended_without_output(info.args(["info", text(&snapshot)]).stdout(full)));
}

/// Like [`ended`], with its own output.
fn ended_without_output(command: &mut Command) -> Ended {
    let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    Ended { code: output.status.code().unwrap(), stdout: String::new(), stderr }
}

#[test]
fn what_no_event_matches_has_a_documented_error() {
    let directory = service::directory();
    let (_, snapshot) = files(directory.path());
    for filter in [
        ["--thread", "nosuch"],
        ["--task", "99.7"],
        ["--span", "0"],
        ["--generation", "0"],
        ["--name", "nosuch*"],
        ["--kind", "span_follows"],
    ] {
        is_documented(&lookback(&["events", text(&snapshot), filter[0], filter[1]]));
    }
}

#[test]
fn a_process_that_cannot_be_read_has_a_documented_error() {
    let bare = Service::start("bare");
    is_documented(&lookback(&["snapshot", &bare.text(), "--no-stacks"]));
    for command in ["snapshot", "doctor", "stacks"] {
        is_documented(&lookback(&[command, "4194304"]));
    }
    let service = Service::start("hang");
    is_documented(&lookback(&["snapshot", &service.text(), "--recorder", "7"]));
    if !is_root() {
        is_documented(&lookback(&["snapshot", "1"]));
    }
}

#[test]
fn wrong_usage_has_a_documented_error() {
    for wrong in [
        &["snapshot", "0"][..],
        &["snapshot", "my-service"],
        &["snapshot", "1", "--recorder", "0"],
        &["snapshot", "1", "--last", "many"],
        &["events", "x", "--last", "5"],
        &["events", "x", "--kind", "no_such_kind"],
        &["events", "x", "--limit", "-1"],
        &["events", "x", "--records", "--json"],
        &["info", "x", "--color", "green"],
        &["info"],
        &["info", "a", "b"],
        &["no-such-command"],
    ] {
        let ended = lookback(wrong);
        let line = ended.stderr.lines().next().unwrap_or_default();
        assert_eq!(ended.code, 2, "{ended:?}");
        let line = line.strip_prefix("error: ").expect("clap says it");
        assert!(stands_in_the_page(line), "not in docs/errors.md: {line}");
    }
    let run = lookback(&["run", "--", "/no/such/program"]);
    let line = run.stderr.trim_end().strip_prefix("lookback: ").expect("the command says it");
    assert!(run.code == 127 && stands_in_the_page(line), "{run:?}");
}

#[test]
fn settings_that_are_refused_have_a_documented_error() {
    let builder = || Recorder::builder().name("errors");
    let long = Duration::from_secs(10_000_000);
    let many: Vec<_> = (0..300).map(|number| format!("name{number}")).collect();
    // Not this command's own executable: while one thread has that open for writing, no other can execute it.
    let place = service::directory();
    let other = place.path().join("no.box");
    std::fs::write(&other, vec![1; 1 << 16]).unwrap();
    let refused = [
        builder().max_bytes(1),
        builder().window(long),
        builder().generation_period(long),
        builder().generation_period(Duration::from_secs(60)),
        builder().window(Duration::from_secs(3600)).generation_period(Duration::from_secs(1)),
        builder().name(""),
        builder().snapshot_limits(0, 1),
        builder().max_text_bytes(1),
        builder().max_kept_field_bytes(1),
        builder().max_fields(0),
        builder().redact_names(["___"]),
        builder().redact_names(many.iter().map(String::as_str)),
        builder().trigger(Trigger::panic().delay(long)),
        builder().trigger(Trigger::stalled_poll(Duration::from_nanos(1))),
        builder().trigger(Trigger::signal_number(9)),
        builder().trigger(Trigger::named("mine")),
        builder().black_box("/"),
        builder().black_box("/dev/null"),
        builder().black_box(&other),
    ];
    for builder in refused {
        is_documented_of_the_library(&builder.start().expect_err("it is refused"));
    }
    is_documented_of_the_library(&"in fo".parse::<Filter>().unwrap_err());
    is_documented_of_the_library(&lookback::save("nobody records").unwrap_err());
}

/// In a process of its own, because variables belong to the process.
#[test]
fn what_a_variable_says_wrong_has_a_documented_error() {
    if std::env::var_os(CHILD).is_some() {
        let error = Recorder::from_env().expect_err("it is refused");
        return println!("refused: {error}");
    }
    let not_a_text: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    let long = "x".repeat(300);
    let wrong: [(&str, &OsStr); 41] = [
        ("WINDWO", "10s".as_ref()),
        ("NAME", not_a_text),
        ("NAME", long.as_ref()),
        ("WINDOW", "10".as_ref()),
        ("WINDOW", "10x".as_ref()),
        ("WINDOW", "soon".as_ref()),
        ("WINDOW", "0s".as_ref()),
        ("WINDOW", "99999999999999h".as_ref()),
        ("GENERATION_PERIOD", "2h".as_ref()),
        ("MAX_BYTES", "10".as_ref()),
        ("MAX_BYTES", "many".as_ref()),
        ("MAX_BYTES", "1PiB".as_ref()),
        ("MAX_BYTES", "99999999999999999G".as_ref()),
        ("SNAPSHOT_FILES", "0".as_ref()),
        ("SNAPSHOT_BYTES", "0".as_ref()),
        ("BLACK_BOXES_KEPT", "all".as_ref()),
        ("FATAL_SIGNALS", "maybe".as_ref()),
        ("STACKS", "all".as_ref()),
        ("ASYNC_STACKS", "all".as_ref()),
        ("MAX_TEXT_BYTES", "1".as_ref()),
        ("MAX_FIELDS", "0".as_ref()),
        ("REDACT", "___".as_ref()),
        ("LEVEL", "wran".as_ref()),
        ("FILTER", "a=loud".as_ref()),
        ("FILTER", "in fo".as_ref()),
        ("FILTER", "a[b]=info".as_ref()),
        ("TRIGGERS", "painc".as_ref()),
        ("TRIGGERS", "panic; none".as_ref()),
        ("TRIGGERS", "panic=1".as_ref()),
        ("TRIGGERS", ",".as_ref()),
        ("TRIGGERS", "log".as_ref()),
        ("TRIGGERS", "log=LOUD".as_ref()),
        ("TRIGGERS", "slow_span=request".as_ref()),
        ("TRIGGERS", "slow_region=parse,0s".as_ref()),
        ("TRIGGERS", "stalled_poll=1us".as_ref()),
        ("TRIGGERS", "signal=SIGKILL".as_ref()),
        ("TRIGGERS", "panic,cooldown=1s".as_ref()),
        ("TRIGGERS", "panic,cool_down=1".as_ref()),
        ("TRIGGERS", "panic,per_hour=-1".as_ref()),
        ("TRIGGERS", "panic,target=shop".as_ref()),
        ("ENABLED", "perhaps".as_ref()),
    ];
    for (name, value) in wrong {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", "what_a_variable_says_wrong_has_a_documented_error"]);
        let ended = ended(child.env(CHILD, "1").env(format!("LOOKBACK_{name}"), value));
        let line = ended.stdout.lines().find_map(|line| line.split_once("refused: "));
        let line = line.unwrap_or_else(|| panic!("{name}: {ended:?}")).1;
        assert!(line.starts_with(&format!("LOOKBACK_{name} = ")), "{line}");
        assert!(stands_in_the_page(line), "not in docs/errors.md: {line}");
    }
}
