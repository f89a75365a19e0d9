//! From a file to findings: what lives is followed from one generation to the next, by statuses where there
//! is nothing else, and nothing is claimed that does not follow.
#![cfg(feature = "read")]

mod build;

use build::{Gen, PERIOD, file, file_with, metadata, service};
use lookback_snapshot::analysis::Report;
use lookback_snapshot::wire::{Kind, Loss, Nanos, TaskListItem, Ticks, key, put_varint};
use lookback_snapshot::{Trace, validate};
use proptest::prelude::*;

/// Ticks per millisecond; a generation has 500 ms.
const MS: u64 = 200_000;

fn report(generations: &[Gen]) -> Report {
    Report::of(&Trace::from_bytes(file(generations)).unwrap())
}

fn titles(report: &Report) -> Vec<String> {
    report.findings().iter().map(|finding| finding.title.clone()).collect()
}

fn numbers(g: &mut Gen, slot: u32, time: u64, kind: Kind, numbers: &[u64]) {
    g.at(slot, time, kind, |out| numbers.iter().for_each(|number| put_varint(out, *number)));
}

fn status(g: &mut Gen, slot: u32, kind: Kind, numbers: &[u64]) {
    g.put(slot, kind, |out| numbers.iter().for_each(|number| put_varint(out, *number)));
}

/// The tasks in slot 0, which no owner mentioned.
fn listed(g: &mut Gen, site: u64, tasks: &[(u32, bool)]) {
    g.put(0, Kind::TaskList, |out| {
        let (mut bytes, mut before) = (Vec::new(), TaskListItem::default());
        for (task, woken) in tasks {
            let (site, running) = (site as u32, false);
            let item = TaskListItem { task: *task, incarnation: 1, site, running, woken: *woken };
            item.put(&before, &mut bytes);
            before = item;
        }
        put_varint(out, bytes.len() as u64);
        out.extend(bytes);
    });
}

/// Worker 0 polls task 1 from 400 ms in the first generation to 100 ms in the second. Task 2 is spawned at
/// 300 ms, and polled after it. Task 3 is polled once in the first, and never again.
fn long_poll() -> [Gen; 2] {
    let mut g = Gen::new(1);
    g.block(1, 1, 10);
    let (reload, victim) = (g.site(1, "reload"), g.site(1, "victim"));
    g.thread_start(1, 20, 1, "w-1");
    numbers(&mut g, 1, 30, Kind::WorkerStart, &[0, 0, 1]);
    numbers(&mut g, 1, 40, Kind::TaskCreate, &[1, 1, 2, reload]);
    numbers(&mut g, 1, 50, Kind::TaskCreate, &[3, 1, 2, victim]);
    numbers(&mut g, 1, MS, Kind::TaskPoll, &[3, 3]);
    numbers(&mut g, 1, 2 * MS, Kind::TaskPending, &[]);
    numbers(&mut g, 1, 3 * MS, Kind::TaskPoll, &[1, 3]);
    numbers(&mut g, 1, 4 * MS, Kind::TaskPending, &[]);
    numbers(&mut g, 1, 5 * MS, Kind::WorkerPark, &[]);
    numbers(&mut g, 1, 299 * MS, Kind::WorkerUnpark, &[]);
    numbers(&mut g, 1, 300 * MS, Kind::TaskCreate, &[2, 1, 2, victim]);
    numbers(&mut g, 1, 301 * MS, Kind::WorkerPark, &[]);
    numbers(&mut g, 1, 399 * MS, Kind::WorkerUnpark, &[]);
    numbers(&mut g, 1, 400 * MS, Kind::TaskWake, &[1, 4]);
    numbers(&mut g, 1, 400 * MS, Kind::TaskPoll, &[1, 5]);
    g.block(0, 0, PERIOD);
    g.end(&[]);

    let mut h = g.next();
    h.block(1, 1, 10);
    let (reload, victim) = (h.site(1, "reload"), h.site(1, "victim"));
    h.thread_status(1, 1, "w-1");
    status(&mut h, 1, Kind::WorkerStatus, &[0, 0, 1, 2]);
    status(&mut h, 1, Kind::TaskStatus, &[1, 1, 5, 2, reload]);
    numbers(&mut h, 1, 100 * MS, Kind::TaskPending, &[]);
    status(&mut h, 1, Kind::TaskStatus, &[2, 1, 2, 1, victim]);
    numbers(&mut h, 1, 101 * MS, Kind::TaskPoll, &[2, 3]);
    numbers(&mut h, 1, 102 * MS, Kind::TaskReady, &[]);
    numbers(&mut h, 1, 103 * MS, Kind::WorkerPark, &[]);
    h.block(0, 0, PERIOD);
    listed(&mut h, victim, &[(3, false)]);
    h.end(&[]);
    [g, h]
}

#[test]
fn a_poll_goes_on_from_one_generation_to_the_next() {
    let trace = Trace::from_bytes(file(&long_poll())).unwrap();
    let violations: Vec<_> = validate(&trace).iter().map(ToString::to_string).collect();
    assert_eq!(violations, [""; 0], "the test's own trace is sound");
    let report = report(&long_poll());
    let titles = titles(&report);
    assert!(
        titles.iter().any(|title| title.starts_with(
            "Task `reload` (1) held worker r0/w0 for 200 ms; 1 task waited meanwhile"
        )),
        "{titles:?}"
    );
    assert!(titles.iter().any(|title| title.contains("`victim` (2)")), "{titles:?}");
    assert_eq!(titles.len(), 2, "{titles:?}");
    assert_eq!(report.stuck.table.live, 2);
    let worker = &report.workers.table.workers[0];
    assert_eq!(worker.polls, 4);
    assert!(worker.polling.0.abs_diff(203_000_000) < 1000, "{worker:?}");
    assert!(worker.parked.0.abs_diff((397 + 294 + 98) * 1_000_000) < 1000, "{worker:?}");
}

#[test]
fn from_statuses_alone_it_took_at_least_so_long() {
    let [_, h] = long_poll();
    let report = report(&[h]);
    let poll = &report.polls.table.longest[0];
    assert!(poll.before && poll.length.0.abs_diff(100_000_000) < 1000, "{poll:?}");
    let titles = titles(&report);
    assert!(titles[0].contains("at least 100 ms"), "{titles:?}");
    assert_eq!(titles.len(), 1, "since when task 2 might run is not known: {titles:?}");
    let idle = report.stuck.table.longest.iter().find(|idle| idle.task.name == "victim").unwrap();
    assert!(idle.before && idle.length == Nanos(PERIOD * 5), "{idle:?}");
}

#[test]
fn behind_a_loss_it_begins_anew() {
    let [mut g, h] = long_poll();
    g.blocks.retain(|block| block.header.slot != 0);
    g.block(0, 0, PERIOD);
    g.end(&[(Loss::NoSlot, 3)]);
    let lossy = report(&[g, h]);
    let poll = &lossy.polls.table.longest[0];
    assert!(poll.before && poll.length.0.abs_diff(100_000_000) < 1000, "{poll:?}");
    let because = &lossy.polls.not_assessed[0];
    assert!(because.contains("3 events were lost (no_slot) in generation 1"), "{because}");
    let worker = &lossy.workers.table.workers[0];
    assert!(worker.observed.0.abs_diff(PERIOD * 5) < 1000, "{worker:?}");
    // What found no entry is missing as a whole; the rest is unaffected.
    let [mut g, h] = long_poll();
    g.blocks.retain(|block| block.header.slot != 0);
    g.block(0, 0, PERIOD);
    g.end(&[(Loss::NoPlace, 3)]);
    assert_eq!(report(&[g, h]).polls.table.longest[0].length.0 / 1_000_000, 200);
}

#[test]
fn an_incomplete_generation_ends_where_it_was_copied() {
    let [g, mut h] = long_poll();
    // The poll has not ended, and nothing has been listed yet.
    h.blocks.clear();
    h.block(1, 1, 10);
    h.thread_status(1, 1, "w-1");
    let reload = h.site(1, "reload");
    status(&mut h, 1, Kind::TaskStatus, &[1, 1, 5, 2, reload]);
    let h = h.incomplete();
    let both = report(&[g, h.clone()]);
    let poll = &both.polls.table.longest[0];
    assert!(poll.running && !poll.before, "{poll:?}");
    assert_eq!(poll.length.0 / 1_000_000, 600);
    assert_eq!(both.stuck.table.live, 3, "what the incomplete one does not mention still lives");
    assert_eq!(both.stuck.not_assessed, [""; 0]);
    let alone = report(&[h]);
    let because = &alone.stuck.not_assessed[0];
    assert!(because.contains("is incomplete and the one before it is not there"), "{because}");
}

#[test]
fn a_service_without_tasks_has_its_regions_summed_up() {
    let report = report(&service(4));
    // Each generation ends inside a request, whose end is the beginning of the next.
    let slow = "worker-1#1 was in region `request` for 500 ms, where the median of 166 is 101 ns \
                (7 more like it, 4 s lost by all of them)";
    assert_eq!(titles(&report), [slow]);
    assert_eq!(report.coverage.table.generations, 4);
    assert_eq!(report.coverage.table.process.as_deref(), Some("shop"));
    let [sleep, request] = ["sleep", "request"]
        .map(|name| report.regions.table.names.iter().find(|of| of.name == name).unwrap());
    assert_eq!((sleep.lengths.count(), sleep.open), (0, 1));
    assert_eq!((request.lengths.count(), request.open), (2 * 4 * 20 + 2 * 3, 2));
    assert_eq!(report.polls.not_assessed.len(), 1);
}

#[test]
fn a_window_that_is_mostly_missing_is_told() {
    let mut metadata = metadata();
    metadata.add(key::WINDOW, 10_000_000_000_u64);
    let bytes = file_with(&metadata, &service(4)[1..]);
    let report = Report::of(&Trace::from_bytes(bytes).unwrap());
    let missing = "85 % of the window that was asked for is missing: 1.5 s of 10 s are covered";
    assert_eq!(report.coverage.findings[0].title, missing);
    let bytes = file_with(&metadata, &service(4));
    let from_the_begin = Report::of(&Trace::from_bytes(bytes).unwrap());
    assert_eq!(from_the_begin.coverage.findings, [], "a recorder that has only begun");
    // A recorder that follows another one in its process continues counting.
    let later = service(4)[1..].to_vec();
    metadata.add(key::FIRST_GENERATION, later[0].number);
    let again = Report::of(&Trace::from_bytes(file_with(&metadata, &later)).unwrap());
    assert_eq!(again.coverage.findings, [], "as much as there is since its start");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever was lost or damaged: no panic, and scores within their bounds.
    #[test]
    fn any_damage_is_survived(
        which: [bool; 2], places in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8)
    ) {
        let generations = if which[0] { service(4) } else { long_poll().to_vec() };
        let skip = usize::from(which[1]);
        let mut bytes = file(&generations[skip..]);
        let length = bytes.len();
        places.iter().for_each(|(at, byte)| bytes[at % length] = *byte);
        if let Ok(trace) = Trace::from_bytes(bytes) {
            let report = Report::of(&trace);
            for finding in report.findings() {
                prop_assert!((0.0..=1.0).contains(&finding.score.number()), "{finding:?}");
            }
        }
    }

    /// Whatever times a file contains.
    #[test]
    fn any_clock_is_survived(times: [u64; 6], metadata_window: u64) {
        let mut generations = long_poll();
        for (generation, times) in generations.iter_mut().zip(times.chunks(3)) {
            generation.began.ticks = Ticks(times[0]);
            generation.began.monotonic = Nanos(times[1]);
            generation.ended.monotonic = Nanos(times[2]);
        }
        let mut metadata = metadata();
        metadata.add(key::WINDOW, metadata_window);
        let trace = Trace::from_bytes(file_with(&metadata, &generations)).unwrap();
        for finding in Report::of(&trace).findings() {
            prop_assert!((0.0..=1.0).contains(&finding.score.number()), "{finding:?}");
        }
    }

    /// Whatever a writer might write into its blocks.
    #[test]
    fn any_records_are_survived(
        places in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..12)
    ) {
        let mut generations = long_poll();
        for (at, byte) in places {
            let block = &mut generations[at % 2].blocks[0];
            let place = at / 2 % block.records.len();
            block.records[place] = byte;
        }
        let report = report(&generations);
        prop_assert!(report.findings().len() < 100);
    }
}

/// One generation of 100 ms, with what its end says of the heap, and with samples of so many bytes at times in it.
fn heap_generation(number: u64, totals: Option<(u64, u64)>, samples: &[(u64, u64)]) -> String {
    use std::fmt::Write;
    let (begin, end) = (number * 100, number * 100 + 100);
    // Ticks are 5 ns.
    let moment = |ms: u64| format!("{}:{}:{}:200000000", ms * MS, ms * 1_000_000, ms * 1_000_000);
    let (began, ended) = (moment(begin), moment(end));
    let mut out = format!("generation {number} complete began={began} ended={ended}\n");
    let first = begin * MS;
    let _ = writeln!(out, "block slot=0 sequence=0 thread=0 base={first} first_event=0");
    if let Some((time, allocated)) = totals {
        let _ = writeln!(
            out,
            "  heap_totals time={time} allocated={allocated} allocations=9 freed={allocated} frees=9 \
             live=0 live_objects=0 peak=0"
        );
    }
    let many = samples.len();
    let _ = writeln!(
        out,
        "  end events={many} bytes=0 blocks=2 lost=[] advances=[] waits=[] snapshots=[]"
    );
    let _ = writeln!(out, "block slot=1 sequence=0 thread=1 base={first} first_event=0");
    out += "  thread_status thread=1 os_thread=7 name=\"w\"\n  module id=1 path=\"/srv/shop\" build_id=0x01\n";
    out += "  frame id=2 caller=0 module=0 offset=0\n  frame id=3 caller=2 module=1 offset=5\n";
    for (ms, size) in samples {
        let at = ms * MS;
        let _ =
            writeln!(out, "  @{at} allocation_sample stack=3 source=1 size={size} interval=65536");
    }
    out
}

/// Where looking at the heap takes long, a recorder looks less often than it ends generations.
#[test]
fn a_burst_has_the_samples_of_all_generations_that_its_reading_is_of() {
    let mut text = String::from("metadata \"process.name\" \"shop\"\n");
    let (few, much) = (Some((300_000_000, 1 << 10)), Some((300_000_000, 300 << 20)));
    for number in 1..=15 {
        text += &match number {
            3 | 6 | 12 | 15 => heap_generation(number, few, &[]),
            // What comes between the look and the end of its generation is of the next one.
            7 => heap_generation(number, None, &[(750, 100 << 20)]),
            8 => heap_generation(number, None, &[(850, 100 << 20), (860, 100 << 20)]),
            9 => heap_generation(number, much, &[]),
            _ => heap_generation(number, None, &[]),
        };
    }
    let file = lookback_snapshot::text::from_text(&text).unwrap();
    let report = Report::of(&Trace::from_bytes(file).unwrap());
    assert_eq!(report.heap.table.burst.len(), 1, "{:?}", titles(&report));
    let burst = &report.heap.table.burst[0];
    assert_eq!((burst.samples, burst.stack.len()), (3, 1));
    assert_eq!(burst.bytes, 300 << 20);
}

/// Who holds a lock may record its first event while others wait for it.
#[test]
fn a_holder_that_had_recorded_nothing_is_called_by_the_name_that_it_has_since() {
    let wait = "lock_wait thread=1 os_thread=0 task=0 incarnation=0 site=1 lock=77 kind=1 waited=400000000 waiters=1 \
                holder=0 holder_os_thread=4009 holder_task=0 holder_incarnation=0 holder_site=2 held=500000000 flags=0";
    let text = |holder: &str| {
        format!(
            "metadata \"process.name\" \"shop\"\n\
             generation 1 complete began=0:0:0:200000000 ended=200000000:1000000000:1000000000:200000000\n\
             block slot=0 sequence=0 thread=0 base=0 first_event=0\n\
             \x20 end events=4 bytes=0 blocks=4 lost=[] advances=[] waits=[] snapshots=[]\n\
             block slot=1 sequence=0 thread=1 base=1 first_event=0\n\
             \x20 @2 thread_start thread=1 os_thread=4001 name=\"waits\"\n\
             block slot=2 sequence=0 thread=2 base=1 first_event=1\n\
             \x20 @160000000 thread_start thread=2 os_thread={holder} name=\"purger\"\n\
             block slot=3 sequence=0 thread=3 base=1 first_event=2\n\
             \x20 site id=1 name=\"Mutex\" file=\"src/a.rs\" line=12\n\
             \x20 site id=2 name=\"Mutex\" file=\"src/a.rs\" line=30\n\
             \x20 @3 thread_start thread=3 os_thread=4003 name=\"lookback\"\n\
             \x20 @180000000 {wait}\n"
        )
    };
    let holder = |os_thread: &str| {
        let file = lookback_snapshot::text::from_text(&text(os_thread)).unwrap();
        let report = Report::of(&Trace::from_bytes(file).unwrap());
        report.locks.table.going_on[0].holder_in_words().unwrap()
    };
    assert_eq!(holder("4009"), "purger#2");
    assert_eq!(holder("4008"), "a thread that has recorded nothing (the system's number 4009)");
}
