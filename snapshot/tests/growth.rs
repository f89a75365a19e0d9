//! Reading time grows linearly with the file, whatever the file contains: four times as much data takes about
//! four times as long. The tests compare the thread's processor time in two runs side by side, so the speed
//! and the load of the machine matter little; and they retry.
#![cfg(feature = "read")]

use lookback_snapshot::analysis::{DiffSide, Report};
use lookback_snapshot::export::{go, perfetto};
use lookback_snapshot::text::from_text;
use lookback_snapshot::{Trace, validate};
use std::fmt::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Linear growth is 4, quadratic growth is 16.
const MOST: f64 = 9.0;
/// Below this, fixed costs dominate.
const LITTLE: Duration = Duration::from_millis(40);

/// How long the thread has had a processor.
fn used() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|first| first.parse().ok());
    // Without such a clock, the elapsed time.
    nanos.map_or_else(|| BEGAN.elapsed(), Duration::from_nanos)
}

fn took(work: impl FnOnce()) -> Duration {
    let before = used();
    work();
    used() - before
}

/// How to read a file.
fn read(text: &str) {
    let trace = Trace::from_bytes(from_text(text).unwrap()).unwrap();
    let of = |what, work: &dyn Fn()| {
        let took = took(work);
        if std::env::var_os("LOOKBACK_GROWTH").is_some() {
            println!("  {what}: {took:?}");
        }
    };
    of("report", &|| drop(Report::of(&trace)));
    of("diff", &|| DiffSide::of_files(1).add(&trace, None));
    of("validate", &|| drop(validate(&trace)));
    of("export for Go", &|| drop(go::export(&trace, &mut Vec::new()).unwrap()));
    of("export for Perfetto", &|| drop(perfetto::export(&trace, &mut Vec::new()).unwrap()));
    of("statuses", &|| {
        for info in trace.generations() {
            let generation = trace.generation(info.number).unwrap();
            let _ = generation.statuses().count() + generation.tasks().count();
        }
    });
}

/// Compares the cost of reading the file of size `n` with that of size `4n`.
#[track_caller]
fn grows_as_the_file(n: usize, file: impl Fn(usize) -> String) {
    let (small, large) = (file(n), file(4 * n));
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let (little, much) = (took(|| read(&small)), took(|| read(&large)));
        let ratio = much.as_secs_f64() / little.max(LITTLE).as_secs_f64();
        if ratio <= MOST {
            return;
        }
        ratios.push((little, much));
    }
    panic!("it grows faster than the file: {ratios:?}");
}

const HEAD: &str = "metadata \"process.pid\" 17\n";
const SITES: &str = "  site id=1 name=\"a\" file=\"a.rs\" line=1\n  site id=2 name=\"b\" file=\"a.rs\" line=2\n  \
     callsite id=3 name=\"s\" file=\"a.rs\" line=1 target=\"t\" level=3 fields=[\"f\"]\n";

/// The head of a generation that begins at this millisecond.
fn generation(number: usize, complete: bool) -> String {
    let clock = |at: usize| format!("{at}:{at}:{at}:1000000000");
    let (began, ended) = (clock(number * 1_000_000), clock((number + 1) * 1_000_000));
    let complete = if complete { "complete" } else { "incomplete" };
    format!("generation {number} {complete} began={began} ended={ended}\n")
}

fn block(slot: usize) -> String {
    format!("block slot={slot} sequence=0 thread={slot} base=0 first_event=0\n")
}

/// A file of one generation with one thread, whose events follow each other by a tick.
fn one(events: impl IntoIterator<Item = String>) -> String {
    let mut text = format!(
        "{HEAD}{}{}{SITES}  @1 thread_start thread=1 os_thread=7 name=\"main\"\n",
        generation(0, true),
        block(1)
    );
    for (tick, event) in events.into_iter().enumerate() {
        writeln!(text, "  @{} {event}", tick + 2).unwrap();
    }
    text
}

fn many(n: usize, event: &str) -> impl Iterator<Item = String> {
    std::iter::repeat_n(event.to_owned(), n)
}

fn poll(task: usize) -> [String; 2] {
    [
        format!("task_create task={task} incarnation=1 sequence=2 site=1"),
        format!("task_poll task={task} sequence=3"),
    ]
}

#[test]
fn regions_inside_of_many_regions() {
    grows_as_the_file(4000, |n| {
        let inner = (0..n).flat_map(|_| ["region_begin site=2", "region_end"]);
        one(many(n, "region_begin site=1").chain(inner.map(str::to_owned)))
    });
}

#[test]
fn regions_that_are_open_at_the_end() {
    grows_as_the_file(4000, |n| one(many(n, "region_begin site=1")));
}

#[test]
fn regions_that_end_first_to_last() {
    // Each end moves those that are open in memory, which takes little time for each: with more regions than these, it
    // would take most of it.
    grows_as_the_file(2000, |n| {
        let ends = (0..n).rev().map(|inside| format!("region_end inside={inside}"));
        let ends = ends.map(|end| end.replace(" inside=0", ""));
        one(many(n, "region_begin site=1").chain(ends))
    });
}

#[test]
fn polls_inside_of_many_regions_and_spans() {
    grows_as_the_file(4000, |n| {
        let spans = (1..n).flat_map(|span| {
            let create = format!("span_create span={span} incarnation=1 site=3 fields={{}}");
            [create, format!("span_enter span={span} incarnation=1")]
        });
        let polls = (0..n).flat_map(|task| {
            let [create, poll] = poll(task);
            [create, poll, "task_pending".to_owned()]
        });
        one(many(n, "region_begin site=1").chain(spans).chain(polls))
    });
}

#[test]
fn polls_within_polls_around_regions() {
    grows_as_the_file(4000, |n| one((0..n).flat_map(poll).chain(many(n, "region_begin site=1"))));
}

#[test]
fn spans_that_are_left_first_to_last() {
    grows_as_the_file(4000, |n| {
        let enters = (1..n).flat_map(|span| {
            let create = format!("span_create span={span} incarnation=1 site=3 fields={{}}");
            [create, format!("span_enter span={span} incarnation=1")]
        });
        let exits = (1..n - 1).map(|span| format!("span_exit span={span} incarnation=1"));
        one(enters.chain(exits))
    });
}

#[test]
fn one_task_that_is_polled_by_many_threads_at_once() {
    grows_as_the_file(3000, |n| {
        let threads = (0..n).flat_map(|thread| {
            let start =
                format!("thread_start thread={} os_thread={} name=\"t\"", thread + 2, thread + 9);
            [start, "region_begin site=1".to_owned()]
        });
        let polls = (0..n).map(|number| format!("task_poll task=1 sequence={}", 3 + 2 * number));
        one(threads.chain(polls))
    });
}

#[test]
fn a_worker_that_goes_from_thread_to_thread_in_the_middle_of_polls() {
    grows_as_the_file(3000, |n| {
        let polls = (0..n).flat_map(poll);
        let turns = (0..n)
            .map(|turn| format!("worker_start runtime=0 worker={} tenure={}", turn % 2, turn + 1));
        one(polls.chain(turns))
    });
}

#[test]
fn long_polls_while_many_tasks_are_ready() {
    grows_as_the_file(2000, |n| {
        let mut text =
            one((0..n)
                .map(|task| format!("task_create task={task} incarnation=1 sequence=2 site=1")));
        let mut at = 100_000;
        for poll in 0..n {
            let sequence = 3 + 2 * poll;
            writeln!(text, "  @{at} task_poll task=0 sequence={sequence}").unwrap();
            at += 20_000_000 + poll;
            writeln!(text, "  @{at} task_pending").unwrap();
        }
        text
    });
}

#[test]
fn triggers_inside_of_many_regions_and_many_reasons() {
    grows_as_the_file(3000, |n| {
        let events = many(n, "region_begin site=1")
            .chain(many(n, "event schema=9 values=(\"t\", \"reason\")"));
        let text = one(events);
        let schema = "  schema id=9 name=\"trigger\" file=\"a.rs\" line=1 fields=[text \"name\", text \"reason\"]\n";
        let reasons = (0..n)
            .map(|n| format!("metadata \"trigger\" \"u\"\nmetadata \"reason\" \"reason {n}\"\n"));
        let head: String = reasons.collect();
        text.replacen(SITES, &format!("{SITES}{schema}"), 1).replacen(
            HEAD,
            &format!("{HEAD}{head}"),
            1,
        )
    });
}

#[test]
fn triggers_about_spans_while_there_are_many_threads() {
    grows_as_the_file(3000, |n| {
        let threads = (0..n).flat_map(|thread| {
            let (number, os_thread) = (thread + 2, thread + 9);
            let start = format!("thread_start thread={number} os_thread={os_thread} name=\"t\"");
            [start, "region_begin site=1".to_owned()]
        });
        let span = "span_create span=1 incarnation=1 site=3 fields={}".to_owned();
        let fired = (0..2 * n).flat_map(|_| {
            [
                "event schema=8 values=(0, \"1\")".to_owned(),
                "event schema=9 values=(\"t\", \"reason\")".to_owned(),
            ]
        });
        let text = one(threads.chain([span]).chain(fired));
        let schemas = "  schema id=8 name=\"trigger_about\" file=\"a.rs\" line=1 fields=[unsigned \"thread\", text \"span\"]\n  \
                       schema id=9 name=\"trigger\" file=\"a.rs\" line=1 fields=[text \"name\", text \"reason\"]\n";
        let reason = "metadata \"trigger\" \"t\"\nmetadata \"reason\" \"reason\"\n";
        text.replacen(SITES, &format!("{SITES}{schemas}"), 1).replacen(
            HEAD,
            &format!("{HEAD}{reason}"),
            1,
        )
    });
}

#[test]
fn closures_that_may_block_of_which_each_has_waited_longer_than_the_one_before() {
    grows_as_the_file(4000, |n| {
        let creates = (0..2 * n)
            .map(|task| format!("task_create task={task} incarnation=1 sequence=2 site=7"));
        let mut text = one(creates).replacen(
            SITES,
            &format!("{SITES}  blocking_site id=7 name=\"c\" file=\"a.rs\" line=3\n"),
            1,
        );
        for task in 0..n {
            let at = 200_000_000 + 10 * task;
            writeln!(text, "  @{at} task_poll task={task} sequence=3").unwrap();
            writeln!(text, "  @{} task_ready", at + 5).unwrap();
        }
        text
    });
}

#[test]
fn a_generation_of_many_slots_before_many_small_ones() {
    grows_as_the_file(1500, |n| {
        let mut text = format!("{HEAD}{}", generation(0, true));
        for slot in 1..n {
            write!(
                text,
                "{}  @1 thread_start thread={slot} os_thread={slot} name=\"t\"\n  @2 thread_exit\n",
                block(slot)
            )
            .unwrap();
        }
        for number in 1..n {
            writeln!(
                text,
                "{}{}{SITES}  @1 log level=3 site=1 message=\"x\"",
                generation(number, true),
                block(1)
            )
            .unwrap();
        }
        text
    });
}

#[test]
fn many_workers_before_many_small_generations() {
    grows_as_the_file(1500, |n| {
        let mut text =
            one((0..n).map(|worker| format!("worker_start runtime=0 worker={worker} tenure=1")));
        for number in 1..n {
            let lost = if number % 2 == 0 { "  lost cause=1 count=1\n" } else { "" };
            writeln!(
                text,
                "{}{}{lost}{SITES}  @1 log level=3 site=1 message=\"x\"",
                generation(number, true),
                block(1)
            )
            .unwrap();
        }
        text
    });
}

/// The codes of a mutex of threads and of one of tasks.
const OF_THREADS: u8 = 1;
const OF_TASKS: u8 = 8;
/// What follows the place of a wait for a lock, and how long it is: nothing is known of who holds the lock.
const NOT_HELD: &str = "waiters=1 holder=0 holder_os_thread=0 holder_task=0 holder_incarnation=0 holder_site=0 held=0 flags=0";

fn lock_wait(task: usize, kind: u8) -> String {
    format!(
        "lock_wait thread=0 os_thread=0 task={task} incarnation=1 site=1 lock={task} kind={kind} waited=5 {NOT_HELD}"
    )
}

fn contention(lock: usize, kind: u8, waited: usize) -> String {
    format!("contention stack=0 source=1 site=1 lock={lock} kind={kind} waited={waited} {NOT_HELD}")
}

#[test]
fn events_while_many_wait_for_locks() {
    grows_as_the_file(4000, |n| {
        let waits = (0..n).map(|task| lock_wait(task, OF_TASKS));
        let logs = many(n, "log level=3 site=1 message=\"x\"");
        let ends = (0..n).flat_map(|task| {
            let [create, poll] = poll(n + task);
            [create, poll, "task_ready".to_owned()]
        });
        one(waits.chain(logs).chain(ends))
    });
}

#[test]
fn threads_that_go_on_while_many_wait_for_locks() {
    grows_as_the_file(4000, |n| {
        let waits = (2..n).map(|task| lock_wait(task, OF_TASKS));
        let waits_and_goes_on = (0..2 * n).flat_map(|_| {
            let wait =
                lock_wait(0, OF_THREADS).replace("thread=0 os_thread=0", "thread=1 os_thread=0");
            [wait, "log level=3 site=1 message=\"x\"".to_owned()]
        });
        one(waits.chain(waits_and_goes_on))
    });
}

#[test]
fn waits_for_locks_that_nobody_knows_and_that_overlap() {
    grows_as_the_file(20_000, |n| one((0..n).map(|lock| contention(lock, OF_TASKS, 1 << 40))));
}

#[test]
fn waits_for_locks_in_one_span_and_one_poll() {
    grows_as_the_file(8000, |n| {
        let enter = [
            "span_create span=1 incarnation=1 site=3 fields={}",
            "span_enter span=1 incarnation=1",
        ];
        let waits = (0..n).map(|lock| contention(lock, OF_THREADS, lock % 1000));
        one(poll(1).into_iter().chain(enter.map(str::to_owned)).chain(waits))
    });
}
