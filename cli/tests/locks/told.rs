//! What is told of who waited for a lock and of who held it, and that the commands beneath show it.

use super::{Running, evidence, findings, lookback, summary};
use serde_json::Value;

fn titles(summary: &Value) -> Vec<&str> {
    let all = summary["findings"].as_array().unwrap().iter();
    all.map(|finding| finding["title"].as_str().unwrap()).collect()
}

/// Where the first of these stands.
fn place(summary: &Value, is_it: impl Fn(&Value) -> bool) -> usize {
    let all = summary["findings"].as_array().unwrap();
    all.iter().position(is_it).unwrap_or_else(|| panic!("{all:#?}"))
}

/// The long poll that waited for a lock.
fn waited(finding: &Value) -> bool {
    finding["analysis"] == "polls" && !finding["lock"].is_null()
}

#[test]
fn a_poll_that_waited_for_a_lock_is_told_after_the_poll_that_held_it() {
    let running = Running::start("a task that waits for another");
    let file = running.saved();
    let summary = summary(&file);
    let holder = |of: &Value| of["analysis"] == "polls" && of["lock"].is_null();
    let (holder, victim) = (place(&summary, holder), place(&summary, waited));
    assert!(holder < victim, "{:#?}", titles(&summary));
    let victim = &summary["findings"][victim];
    let title = victim["title"].as_str().unwrap();
    let lock = &victim["lock"];
    assert!(lock["at"].as_str().unwrap().ends_with(&running.at("asked")), "{victim:#}");
    assert!(lock["held_at"].as_str().unwrap().ends_with(&running.at("held")), "{victim:#}");
    assert_eq!(lock["holder_task"], summary["findings"][holder]["evidence"][0]["task"]);
    for part in [": it waited ", " for a Mutex (", &running.at("asked"), &running.at("held")] {
        assert!(title.contains(part), "{part}: {title}");
    }
    let said = lookback(&["summary", "--all", &file]).stdout;
    assert!(said.contains("it waited"), "{said}");
    let longest = summary["polls"]["longest"].as_array().unwrap().iter();
    let told: Vec<_> = longest.filter(|poll| !poll["lock"].is_null()).collect();
    assert_eq!(told.len(), 1, "{:#}", summary["polls"]);
    assert!(told[0]["lock_waited_ns"].as_u64() <= told[0]["length_ns"].as_u64());
    // And it is what the task waited for, without having said so.
    let reasons = summary["waits"]["reasons"].as_array().unwrap();
    assert!(reasons[0]["reason"].as_str().unwrap().ends_with(&running.at("asked")), "{reasons:#?}");
    assert!(!said.contains("no task said"), "{said}");
}

#[test]
fn a_thread_that_kept_a_poll_waiting_is_found_before_that() {
    let running = Running::start("a task that waits for a thread");
    let file = running.saved();
    let summary = summary(&file);
    let found = findings(&summary, "A Mutex, taken at");
    let [held] = found.as_slice() else { panic!("{:#?}", titles(&summary)) };
    let title = held["title"].as_str().unwrap();
    assert!(title.contains(&running.at("held")) && title.contains("keeper"), "{title}");
    let cause = place(&summary, |of| of == held);
    assert!(cause < place(&summary, waited), "{:#?}", titles(&summary));
    assert!(evidence(held)[1].contains(" waited "), "{held:#}");
    commands_work(&file, held, &["events", "export"], &running);
}

#[test]
fn forgotten_permits_are_found_without_stacks() {
    for kind in ["a forgotten permit", "a forgotten permit, silent"] {
        let running = Running::start(kind);
        let file = running.saved();
        let summary = summary(&file);
        let found = findings(&summary, "All permits of a tokio Semaphore are taken");
        let [forgotten] = found.as_slice() else { panic!("{kind}: {:#}", summary["findings"]) };
        let title = forgotten["title"].as_str().unwrap();
        for part in ["6 tasks wait", &running.at("asked"), &running.at("taken"), "has ended"] {
            assert!(title.contains(part), "{kind}: {part}: {title}");
        }
        let told = evidence(forgotten);
        assert!(told.contains(&"and 1 more".to_owned()), "{kind}: {told:#?}");
        // The same is not told again.
        let hangs = summary["findings"].as_array().unwrap().iter();
        assert_eq!(hangs.filter(|of| of["analysis"] == "hangs").count(), 0, "{kind}");
        commands_work(&file, forgotten, &["events"], &running);
    }
}

#[test]
fn a_task_that_gave_its_permit_back_is_not_said_to_have_forgotten_it() {
    for kind in
        ["permits that came back, and are too few", "permits that the semaphore has no more"]
    {
        let running = Running::start(kind);
        let summary = summary(&running.saved());
        let found = findings(&summary, "All permits");
        assert!(found.is_empty(), "{kind}: {found:#?}");
        // That tasks wait is told, by where they wait.
        let hangs = summary["findings"].as_array().unwrap().iter();
        assert!(hangs.filter(|of| of["analysis"] == "hangs").count() > 0, "{kind}");
    }
}

#[test]
fn commands_beneath_findings_of_locks_show_events_of_locks() {
    for (kind, begins, commands) in [
        ("a convoy", "Lock convoy", &["events", "export"][..]),
        ("two threads", "Deadlock", &["events"]),
        ("a mutex held across an await", "A Mutex is held", &["events"]),
    ] {
        let running = Running::start(kind);
        let file = running.saved();
        let summary = summary(&file);
        let found = findings(&summary, begins);
        let [finding] = found.as_slice() else { panic!("{kind}: {:#}", summary["findings"]) };
        commands_work(&file, finding, commands, &running);
    }
}

#[test]
fn the_doctor_says_which_locks_are_recorded() {
    let said = |file: &str| {
        let said = lookback(&["doctor", file, "--json"]);
        let json: Value = serde_json::from_str(&said.stdout).unwrap();
        let all = json["findings"].as_array().unwrap().iter();
        let mut of_locks = all.filter(|of| of["check"] == "locks");
        of_locks.next().unwrap()["what"].as_str().unwrap().to_owned()
    };
    let running = Running::start("a convoy");
    let file = running.saved();
    let waits = summary(&file)["locks"]["waits"].as_u64().unwrap();
    let found = said(&file);
    assert!(
        found.contains(&format!("{waits} waits of 1 ms or more for 1 recorded lock")),
        "{found}"
    );
    assert!(found.contains("`std::sync`"), "{found}");
    let running = Running::start("a mutex released before an await");
    let found = said(&running.saved());
    assert!(found.contains("no wait of 1 ms or more for a lock of `lookback::sync`"), "{found}");
}

/// Runs the commands as they are printed: these subcommands. The first one shows events of locks.
fn commands_work(file: &str, finding: &Value, expected: &[&str], running: &Running) {
    let commands = finding["commands"].as_array().unwrap().iter();
    let commands: Vec<_> = commands.map(|line| line.as_str().unwrap()).collect();
    let said = lookback(&["summary", "--all", file]).stdout;
    let mut kinds = Vec::new();
    for line in &commands {
        assert!(said.contains(line), "{line}: {said}");
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words[0], "lookback", "{line}");
        kinds.push(words[1]);
        // Where one stands, it writes.
        let out = running.file(words.last().unwrap());
        let last = if words[1] == "export" { out.to_str().unwrap() } else { words.last().unwrap() };
        let mut words = words[1..].to_vec();
        *words.last_mut().unwrap() = last;
        let ran = lookback(&words);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        if words[0] == "events" {
            let is_of_lock = |line: &str| {
                ["contention", "lock_wait", "lock_held"].iter().any(|kind| line.contains(kind))
            };
            assert!(ran.stdout.lines().any(is_of_lock), "{line}: {ran:?}");
        }
    }
    assert_eq!(kinds, expected, "{commands:#?}");
}
