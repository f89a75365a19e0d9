//! How the command is invoked.

mod command;

use command::{ended, lookback};
use std::process::Command;

#[test]
fn wrong_usage_exits_with_2_and_says_how_it_is_done() {
    for wrong in [
        &[][..],
        &["no-such-command"],
        &["info"],
        &["info", "a", "b"],
        &["events", "x", "--kind", "no_such_kind"],
        &["events", "x", "--last", "soon"],
        &["events", "x", "--limit", "-1"],
        &["demo", "--seconds", "0"],
        &["demo", "--seconds", "many"],
        &["completions", "no-such-shell"],
        &["info", "x", "--color", "green"],
        &["snapshot"],
        &["snapshot", "1", "2"],
        &["recover"],
        &["recover", "x", "--last", "-1"],
        &["run"],
        &["run", "-o", "x"],
        &["ps", "1"],
        &["doctor"],
        &["stacks"],
        &["symbolize"],
        &["diff", "x.lbk"],
        &["report"],
        &["why"],
        &["why", "x.lbk", "--task", "soon"],
        &["why", "x.lbk", "--task", "1", "--span", "1"],
        &["symbolize", "x.lbk", "-o", "-", "--json"],
        &["stacks", "x.lbk", "--stop"],
        &["stacks", "1", "--cpu"],
        &["stacks", "1", "--tasks"],
        &["stacks", "1", "--tasks", "--at", "1s"],
    ] {
        let ended = lookback(wrong);
        assert_eq!(ended.code, 2, "{wrong:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "{wrong:?}");
        assert!(ended.stderr.contains("--help") || ended.stderr.contains("Usage"), "{ended:?}");
    }
}

#[test]
fn help_has_examples_and_the_exit_codes() {
    let help = lookback(&["--help"]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("Examples:") && help.stdout.contains("Exit codes:"));
    let commands = [
        "demo",
        "info",
        "events",
        "stacks",
        "why",
        "report",
        "diff",
        "symbolize",
        "validate",
        "export",
        "completions",
        "man",
    ];
    let outside = ["snapshot", "recover", "run", "ps", "doctor"];
    for command in commands.into_iter().chain(outside) {
        assert!(help.stdout.contains(command), "{}", help.stdout);
        let help = lookback(&[command, "--help"]);
        assert_eq!(help.code, 0);
        assert!(help.stdout.contains("Examples:"), "{}", help.stdout);
        assert!(!help.stdout.contains('\u{1b}'), "plain where there is no terminal");
        assert!(lookback(&["--color", "always", command, "--help"]).stdout.contains('\u{1b}'));
    }
    let version = lookback(&["--version"]);
    assert_eq!(version.stdout, format!("lookback {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_fills_the_lines_of_any_terminal() {
    let commands = [
        "info",
        "events",
        "summary",
        "stacks",
        "why",
        "report",
        "diff",
        "symbolize",
        "validate",
        "export",
        "snapshot",
    ];
    let outside = ["recover", "run", "ps", "doctor"];
    for (command, width) in commands.into_iter().chain(outside).flat_map(|c| [(c, 60), (c, 80)]) {
        let mut help = Command::new(command::LOOKBACK);
        let help = ended(help.args([command, "--help"]).env("COLUMNS", width.to_string())).stdout;
        let notes = help.split_once("Print version").expect("options end with it").1;
        let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
        for (line, next) in notes.lines().zip(notes.lines().skip(1)) {
            let word = next.split(' ').next().unwrap_or_default();
            let is_full = line.chars().count() + 1 + word.chars().count() > width;
            assert!(!is_prose(line) || !is_prose(next) || is_full, "{command}: {line}");
        }
    }
}

#[test]
fn each_subcommand_has_a_manual_page() {
    let page = lookback(&["man"]);
    assert_eq!((page.code, page.stderr.as_str()), (0, ""));
    assert!(page.stdout.contains(".TH lookback"), "{}", page.stdout);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(lookback(&["man", "-o", path]).code, 0);
    for name in ["lookback", "lookback-events", "lookback-run", "lookback-summary"] {
        let page = std::fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".TH"), "{name}: {page}");
    }
    let missing = lookback(&["man", "-o", "/no/such/directory"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("/no/such/directory"), "{}", missing.stderr);
    assert_eq!(missing.stderr.lines().count(), 1, "{}", missing.stderr);
}

#[test]
fn shells_get_their_completions() {
    for (shell, mark) in
        [("bash", "complete -F"), ("zsh", "#compdef lookback"), ("fish", "complete -c lookback")]
    {
        let script = lookback(&["completions", shell]);
        assert_eq!((script.code, script.stderr.as_str()), (0, ""));
        assert!(script.stdout.contains(mark), "{shell}");
        assert!(script.stdout.contains("validate"), "{shell}");
    }
}

#[test]
fn no_color_is_respected_but_who_asks_for_colours_gets_them() {
    let run = |colour: &str| {
        let mut command = Command::new(command::LOOKBACK);
        ended(command.args(["info", "missing", "--color", colour]).env("NO_COLOR", "1"))
    };
    assert!(!run("auto").stderr.contains('\u{1b}'));
    assert!(run("always").stderr.contains('\u{1b}'));
    assert_eq!(run("always").code, 1);
}
