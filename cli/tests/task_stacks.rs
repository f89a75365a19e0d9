//! `lookback stacks --tasks` names where tasks wait, by function and line.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod command;

use command::lookback;
use lookback::{RecordExt, Recorder};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

/// Never done.
struct Never(Option<Waker>);

impl Future for Never {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0 = Some(cx.waker().clone());
        Poll::Pending
    }
}

async fn waits_for_its_turn() {
    Never(None).await;
}

const LINE: u32 = line!() - 3;

async fn takes_part() {
    waits_for_its_turn().await;
    std::hint::black_box(());
}

/// A snapshot of this process, in which four tasks wait; and one that was taken without.
fn snapshots() -> &'static [PathBuf; 2] {
    static MADE: OnceLock<(tempfile::TempDir, [PathBuf; 2])> = OnceLock::new();
    &MADE.get_or_init(make).1
}

fn make() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let files = [true, false].map(|taken| {
        let recorder = Recorder::builder()
            .max_bytes(4 << 20)
            .async_stacks(taken)
            .spawn_stacks(100)
            .start()
            .unwrap();
        // Under load the start may not have waited for the tables.
        while recorder.stats().unwind_tables.modules == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let task = |name| Box::pin(takes_part().recorded(name));
        // From one place, as tasks that were spawned at different ones are shown apart.
        let names = ["guest", "guest", "guest", "host"];
        let mut tasks: Vec<_> = names.into_iter().map(task).collect();
        for task in &mut tasks {
            assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        while !recorder.advance() {}
        // One of them is polled once more, behind the generation whose end is shown.
        assert!(tasks[0].as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let file = folder.path().join(format!("{taken}.lbk"));
        recorder.snapshot().unwrap().save(&file).unwrap();
        recorder.stop().unwrap();
        file
    });
    (folder, files)
}

fn printed(arguments: &[&str]) -> String {
    let ended = lookback(arguments);
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout
}

fn file() -> &'static str {
    snapshots()[0].to_str().unwrap()
}

#[test]
fn tasks_that_wait_at_one_place_are_shown_once() {
    let said = printed(&["stacks", file(), "--tasks"]);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("4 tasks waiting at "), "{said}");
    let place = format!("cli/tests/task_stacks.rs:{LINE}");
    for (count, name) in [("3 tasks", "guest"), ("1 task", "host")] {
        let at = lines.iter().position(|line| line.starts_with(&format!("{count} {name} ")));
        let group = &lines[at.unwrap_or_else(|| panic!("{count} {name} in {said}"))..];
        let group: Vec<_> = group.iter().take_while(|line| !line.is_empty()).collect();
        assert!(group[0].contains("(spawned at cli/tests/task_stacks.rs:"), "{said}");
        let innermost = group.iter().position(|line| line.contains(&place));
        let innermost = innermost.unwrap_or_else(|| panic!("{place} in {said}"));
        assert!(group[innermost].contains("waits_for_its_turn"), "{said}");
        assert!(group[innermost + 1].contains("takes_part"), "{said}");
        let spawned = group.iter().position(|line| line.trim() == "spawned by");
        let spawned = spawned.unwrap_or_else(|| panic!("{said}"));
        assert!(
            group[spawned + 1..].iter().any(|line| line.contains("task_stacks::make")),
            "{said}"
        );
    }
    let all = printed(&["stacks", file(), "--tasks", "--all-frames"]);
    assert!(all.contains("lookback_recorder::record::task::recorded::Recorded"), "{all}");
}

#[test]
fn as_json_it_is_one_value_with_each_task() {
    let said = printed(&["stacks", file(), "--tasks", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["recorded"], &said["left_out"]), (&true.into(), &0.into()));
    let groups = said["tasks"].as_array().unwrap();
    let counts: Vec<_> = groups.iter().map(|group| (&group["name"], &group["count"])).collect();
    assert_eq!(counts, [(&"guest".into(), &3.into()), (&"host".into(), &1.into())]);
    let chain = &groups[0]["waits_at"][0];
    assert_eq!((&chain["earlier"], &chain["end"]), (&false.into(), &"the task's poll".into()));
    let functions = chain["frames"].as_array().unwrap().iter();
    let functions = functions.flat_map(|frame| frame["functions"].as_array().unwrap());
    assert!(functions.clone().any(|function| function["line"] == LINE), "{chain:#}");
    assert_eq!(groups[0]["tasks"].as_array().unwrap().len(), 3);
    assert!(!groups[0]["spawned_by"]["frames"].as_array().unwrap().is_empty());
}

/// A file with one complete generation: idle tasks of a kind that nobody wrapped, of one that waits at two places, in either
/// order, and of one that is not listed.
const TWO_ORDERS: &str =
    "generation 1 complete began=1000:1000:1000:1000000000 ended=9000:9000:9000:1000000000
block slot=0 sequence=0 thread=0 base=1000 first_event=0
  site id=1 name=\"guest\" file=\"a.rs\" line=1
  site id=2 name=\"(task)\" file=\"b.rs\" line=1
  module id=3 path=\"/no/such/program\" build_id=0x0123
  frame id=4 caller=0 module=0 offset=5
  frame id=5 caller=4 module=3 offset=32
  frame id=6 caller=4 module=3 offset=64
  task_status task=1 incarnation=1 sequence=2 state=1 site=1
  task_status task=2 incarnation=1 sequence=2 state=1 site=1
  task_status task=3 incarnation=1 sequence=2 state=1 site=1
  task_status task=4 incarnation=1 sequence=2 state=1 site=2
  task_stack_list tasks=[1.1 at [5, 6], 2.1 at [6, 5]]
  end events=1 bytes=0 blocks=1 lost=[] advances=[] waits=[] snapshots=[]
block slot=1 sequence=0 thread=1 base=1000 first_event=0
  @1 thread_start thread=1 os_thread=1 name=\"a\"
";

#[test]
fn the_order_of_the_places_makes_no_other_group_and_idle_tasks_without_a_place_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.lbk");
    std::fs::write(&file, lookback::read::text::from_text(TWO_ORDERS).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    let said = printed(&["stacks", file, "--tasks"]);
    assert_eq!(said.matches("2 tasks guest").count(), 1, "{said}");
    let unplaced = "of 2 other idle tasks it is not known where: 1 not wrapped, as `lookback::spawn` \
                    does, 1 unseen when their waker was registered";
    assert!(said.contains(unplaced), "{said}");
    let idle = serde_json::json!({"placed": 2, "unwrapped": 1, "left_out": 0, "unknown": 1});
    let said = printed(&["stacks", file, "--tasks", "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((said["tasks"].as_array().unwrap().len(), &said["idle"]), (1, &idle));
    let summary = printed(&["summary", file, "--json"]);
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["stuck"]["idle"], idle);
    let longest = summary["stuck"]["longest"].as_array().unwrap();
    let first = longest.iter().find(|idle| idle["task"] == "1").unwrap();
    assert_eq!(first["waits_at"].as_array().unwrap().len(), 2, "{first:#}");
    let third = longest.iter().find(|idle| idle["task"] == "3").unwrap();
    assert!(third["waits_at"].is_null(), "{third:#}");
}

#[test]
fn a_moment_before_any_generation_has_ended_has_none_and_a_file_without_says_what_to_set() {
    let early = printed(&["stacks", file(), "--tasks", "--at", "0s"]);
    assert!(early.starts_with("no tasks: "), "{early}");
    let late = printed(&["stacks", file(), "--tasks", "--at", "1h"]);
    assert!(late.starts_with("4 tasks waiting at "), "{late}");
    let without = snapshots()[1].to_str().unwrap();
    let said = printed(&["stacks", without, "--tasks"]);
    assert!(said.contains("`LOOKBACK_ASYNC_STACKS=on`"), "{said}");
}
