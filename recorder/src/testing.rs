//! Helpers for unit tests.

#![forbid(unsafe_code)]

/// Runs a test in a process of its own, because a process can have only one recorder.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "LOOKBACK_TEST_ALONE";
    if std::env::var(ALONE).is_ok_and(|alone| alone == name) {
        return body();
    }
    let executable = std::env::current_exe().unwrap();
    let mut own = std::process::Command::new(executable);
    own.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(ALONE, name);
    let output = own.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}
