//! A process that is started with `LOOKBACK_*` variables records accordingly, or says what is wrong.

use lookback::{Error, Recorder, stats};
use std::process::Command;
use std::time::Duration;

/// Marks the process with the variables, for the test.
const CHILD: &str = "LOOKBACK_TEST_ENVIRONMENT";

/// Runs `test` again, in a process with these variables. Returns its output, and whether it passed.
fn run(test: &str, variables: &[(&str, &str)]) -> (String, bool) {
    let executable = std::env::current_exe().expect("a test has an executable");
    let mut command = Command::new(executable);
    let ours =
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LOOKBACK"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.args([test, "--exact", "--nocapture"]).env(CHILD, test);
    let output = command.envs(variables.iter().copied()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.success())
}

fn is_child(test: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|child| child == test)
}

#[test]
fn the_environment_sets_up_a_recorder() {
    const TEST: &str = "the_environment_sets_up_a_recorder";
    if is_child(TEST) {
        let recorder = Recorder::from_env().expect("it starts");
        let said = stats().expect("it records");
        assert_eq!((said.window, said.max_bytes), (Duration::from_secs(90), 1 << 20));
        assert_eq!(said.armed, ["log", "signal", "panic"]);
        let black_box = said.black_box.expect("there is one");
        assert!(black_box.is_file(), "{}", black_box.display());
        let path = recorder.save("by hand").expect("it is saved");
        println!("saved {}", path.display());
        assert!(path.file_name().unwrap().to_str().unwrap().starts_with("my-shop-"));
        // Beyond the limit, the oldest snapshot is deleted.
        for _ in 0..4 {
            recorder.save("by hand").expect("it is saved");
        }
        return recorder.stop().map(drop).expect("it stops");
    }
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("snapshots");
    let (text, passed) = run(
        TEST,
        &[
            ("LOOKBACK_WINDOW", "1.5m"),
            ("LOOKBACK_MAX_BYTES", "1MiB"),
            ("LOOKBACK_NAME", "my-shop"),
            ("LOOKBACK_SNAPSHOT_DIR", directory.to_str().unwrap()),
            ("LOOKBACK_SNAPSHOT_FILES", "3"),
            ("LOOKBACK_TRIGGERS", "log=ERROR,target=shop; signal=SIGUSR1"),
            ("LOOKBACK_GENERATION_PERIOD", ""),
            ("LOOKBACK_BLACK_BOX", place.path().join("box").to_str().unwrap()),
        ],
    );
    assert!(passed && text.contains("1 passed"), "{text}");
    assert!(text.contains(&format!("saved {}/my-shop-", directory.display())), "{text}");
    assert_eq!(std::fs::read_dir(directory).unwrap().count(), 3);
}

#[test]
fn what_code_has_set_stays_unless_the_environment_says_otherwise() {
    const TEST: &str = "what_code_has_set_stays_unless_the_environment_says_otherwise";
    if is_child(TEST) {
        let builder = Recorder::builder().window(Duration::from_secs(3)).max_bytes(2 << 20);
        let builder = builder.snapshot_dir("/proc/nowhere").trigger(lookback::Trigger::signal());
        let recorder = builder.from_env().expect("it is understood").start().expect("it starts");
        let said = recorder.stats();
        assert_eq!((said.window, said.max_bytes), (Duration::from_secs(7), 2 << 20));
        assert!(said.armed.is_empty(), "{:?}", said.armed);
        return recorder.stop().map(drop).expect("it stops");
    }
    let (text, passed) = run(TEST, &[("LOOKBACK_WINDOW", "7s"), ("LOOKBACK_TRIGGERS", "none")]);
    assert!(passed && text.contains("1 passed"), "{text}");
}

#[test]
fn nothing_starts_with_what_is_not_understood() {
    const TEST: &str = "nothing_starts_with_what_is_not_understood";
    if is_child(TEST) {
        let error = Recorder::from_env().expect_err("it makes no sense");
        assert!(matches!(error, Error::Environment { .. }), "{error:?}");
        assert!(!lookback::is_recording());
        assert_eq!(
            format!("{error:?}"),
            error.to_string(),
            "as a service prints it that ends with it"
        );
        // On a line of its own: with one processor the test's name comes before it, without a line end.
        return println!("\nerror: {error}");
    }
    let expected = [
        (
            "LOOKBACK_WINDOW",
            "10",
            "`10` has no unit of time; expected a time like 10s, 500ms or 2m",
        ),
        ("LOOKBACK_WINDWO", "10s", "no such variable; did you mean LOOKBACK_WINDOW?"),
    ];
    for (name, value, reason) in expected {
        let (text, passed) = run(TEST, &[(name, value)]);
        assert!(passed, "{text}");
        let line = format!("error: {name} = \"{value}\": {reason}");
        assert!(text.lines().any(|said| said == line), "{text}\nlacks {line}");
    }
}

#[test]
fn a_service_beside_one_that_is_named_lookback_starts() {
    const TEST: &str = "a_service_beside_one_that_is_named_lookback_starts";
    if is_child(TEST) {
        let recorder = Recorder::from_env().expect("it starts");
        assert_eq!(recorder.stats().window, Duration::from_secs(7));
        return recorder.stop().map(drop).expect("it stops");
    }
    let injected = [
        ("LOOKBACK_PORT", "tcp://10.0.0.1:80"),
        ("LOOKBACK_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("LOOKBACK_SERVICE_HOST", "10.0.0.1"),
        ("LOOKBACK_SERVICE_PORT", "80"),
        ("LOOKBACK_WINDOW", "7s"),
    ];
    let (text, passed) = run(TEST, &injected);
    assert!(passed && text.contains("1 passed"), "{text}");
}
