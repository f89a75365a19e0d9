//! The newest data is kept while much is alive, the collector is held up and writers run at full speed,
//! whether it is read from outside, by the process itself, or after the process was killed in the middle of
//! it.
//!
//! With `LOOKBACK_LONG=1`, in an optimised build with `fault_injection`: arenas of 1 to 256 MiB, the
//! collector held up for 5 s at a time and forever, 0 and 100,000 tasks and as many spans alive. Each case
//! prints a line.
//! `LOOKBACK_TEST_MEBIBYTES=N` tries arenas of that size alone.
#![cfg(any(debug_assertions, feature = "fault_injection"))]

mod common;
#[path = "common/held.rs"]
mod held;

use held::{FOREVER, LetGo, arena, in_use, laps, numbers};
use lookback::fault_injection::{Point, hold};
use lookback::read::Trace;
use lookback::{OutsideArena, RecordExt, Recorder, Stats};
use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

const TEST: &str = "the_newest_is_kept_while_much_is_alive";
/// The environment variable of the process that is killed.
const CASE: &str = "LOOKBACK_TEST_CASE";
const DIRECTORY: &str = "LOOKBACK_TEST_DIRECTORY";
/// The files in its directory.
const BOX: &str = "box";
const TOLD: &str = "told";

const WRITERS: usize = 2;
/// A writer that gets no core for long may lose the event that it was writing; the process that looks cannot know.
const FEW: u64 = 8;

/// One case.
#[derive(Clone, Copy, Debug)]
struct Case {
    mebibytes: usize,
    /// How long the collector is held up at a time; `None` for forever.
    held_millis: Option<u64>,
    /// This many tasks, and as many spans.
    alive: usize,
    /// How long writers write before the first look.
    millis: u64,
}

impl Case {
    fn words(self) -> String {
        let Self { mebibytes, held_millis, alive, millis } = self;
        format!("{mebibytes} {} {alive} {millis}", held_millis.unwrap_or(0))
    }

    fn parse(words: &str) -> Self {
        let numbers: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
        let [mebibytes, held, alive, millis] = numbers[..] else { panic!("{words}") };
        let held_millis = (held > 0).then_some(held);
        Self { mebibytes: mebibytes as usize, held_millis, alive: alive as usize, millis }
    }

    fn held(self) -> Duration {
        self.held_millis.map_or(FOREVER, Duration::from_millis)
    }

    fn all() -> Vec<Self> {
        let is_long = common::long() && !cfg!(debug_assertions);
        let (sizes, alive, held): (&[_], _, _) =
            if is_long { (&[1, 8, 32, 256], 100_000, 5000) } else { (&[1, 8], 3000, 200) };
        let only = std::env::var("LOOKBACK_TEST_MEBIBYTES").ok().and_then(|size| size.parse().ok());
        let sizes = only.as_ref().map_or(sizes, std::slice::from_ref);
        let mut cases = Vec::new();
        for &mebibytes in sizes {
            for held_millis in [Some(held), None] {
                for alive in [0, alive] {
                    let millis = if is_long { held + 1000 } else { 2 * held };
                    cases.push(Self { mebibytes, held_millis, alive, millis });
                }
            }
        }
        // If time is short, one small and one large case suffice.
        if is_long || only.is_some() { cases } else { vec![cases[1], cases[7]] }
    }
}

/// The number of each writer's last event, where it outlives the process.
fn told(directory: &Path) -> &'static [AtomicU64; WRITERS] {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false);
    let file = file.open(directory.join(TOLD)).unwrap();
    let length = size_of::<[AtomicU64; WRITERS]>();
    file.set_len(length as u64).unwrap();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let (shared, fd) = (libc::MAP_SHARED, file.as_raw_fd());
    // SAFETY: a new mapping of a file that is long enough.
    let place = unsafe { libc::mmap(std::ptr::null_mut(), length, access, shared, fd, 0) };
    assert_ne!(place, libc::MAP_FAILED);
    // SAFETY: it is page-aligned, is never unmapped, and zeroes are numbers.
    unsafe { &*place.cast() }
}

fn loaded(told: &[AtomicU64; WRITERS]) -> [u64; WRITERS] {
    std::array::from_fn(|writer| told[writer].load(Ordering::Acquire))
}

/// Whether each writer's last event is there. A writer with anything left has all of it; nothing is left of a
/// writer that the machine has held up while the other one filled the arena.
fn has_newest(trace: &Trace, told: [u64; WRITERS], what: &str) -> bool {
    let found = numbers(trace, FEW);
    let mut is_all = true;
    for (writer, told) in (0..).zip(told) {
        match found.get(&writer) {
            Some((first, last)) => assert!(
                *last >= told,
                "{what}: writer {writer} told {told}, {first} to {last} are there"
            ),
            None => is_all = false,
        }
    }
    is_all
}

fn tasks(count: usize) -> Vec<Pin<Box<dyn Future<Output = ()>>>> {
    let mut context = Context::from_waker(Waker::noop());
    let task = |_| -> Pin<Box<dyn Future<Output = ()>>> {
        let mut task = Box::pin(std::future::pending::<()>().recorded("idle"));
        assert!(task.as_mut().poll(&mut context).is_pending());
        task
    };
    (0..count).map(task).collect()
}

fn spans(count: usize) -> Vec<tracing::Span> {
    let _default = tracing::subscriber::set_default(lookback::tracing::subscriber());
    (0..count).map(|number| tracing::info_span!("request", method = "GET", number)).collect()
}

/// The process that is killed. It looks at itself, prints what it saw, and continues until it is killed.
fn service(case: Case, directory: &Path) {
    // SAFETY: neither call has preconditions.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(600);
    }
    let recorder = Recorder::builder()
        .window(Duration::from_secs(60))
        .max_bytes(case.mebibytes << 20)
        .generation_period(Duration::from_millis(100))
        .black_box(directory.join(BOX))
        .start()
        .unwrap();
    let _alive = (tasks(case.alive), spans(case.alive));
    common::advance(&recorder);
    hold(Point::Advance, case.held(), 1);
    let _held = LetGo(Point::Advance);
    let told = told(directory);
    for (writer, told) in (0_u64..).zip(told) {
        std::thread::spawn(move || {
            let mut number = 0;
            loop {
                number += 1;
                lookback::event!("numbered", writer = writer, number = number);
                told.store(number, Ordering::Release);
            }
        });
    }
    let arena = arena();
    let (began, before) = (Instant::now(), recorder.stats());
    let (least, mean) = in_use_for_long(&arena, case);
    let (took, stats) = (began.elapsed(), recorder.stats());
    let (written, lost) = (loaded(told).iter().sum::<u64>(), stats.lost_in_all());
    // A writer that is held up for a whole lap between entering and carving may lose an event.
    assert!(lost * 1000 <= written, "{lost} of {written} events were lost: {stats:?}");
    let looks = seen_outside(&arena, told);
    let snapshots = seen_inside(&recorder, told);
    let rate = (written as f64 / took.as_secs_f64()) / 1e6;
    let completed = completed(&before, &stats);
    println!(
        "\nready {rate:.1} M events/s, {lost} lost, {completed} generations completed, in use {mean:.3}, {least:.3} at least, \
         look {looks}, snapshot {snapshots}"
    );
    std::thread::park();
    drop(recorder);
}

fn completed(before: &Stats, after: &Stats) -> u64 {
    after.advances.count.saturating_sub(before.advances.count)
}

/// The least and the mean part of the arena in use, once it was filled.
fn in_use_for_long(arena: &OutsideArena, case: Case) -> (f64, f64) {
    assert!(common::wait_for(|| laps(arena) >= 2), "the arena is filled");
    let (began, mut least, mut sum, mut looks) = (Instant::now(), 1.0_f64, 0.0, 0.0);
    while looks < 10.0 || began.elapsed() < Duration::from_millis(case.millis) {
        if let Some(used) = in_use(arena) {
            (least, sum, looks) = (least.min(used), sum + used, looks + 1.0);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    let mean = sum / looks;
    assert!(least >= 0.75, "{least:.3} of the arena were in use at least, {mean:.3} on average");
    (least, mean)
}

/// The first look from outside that has each writer's newest event. A look may be outrun: two writers fill a
/// mebibyte in 2 ms.
fn seen_outside(arena: &OutsideArena, told: &[AtomicU64; WRITERS]) -> usize {
    let has_all = |_: &usize| {
        let before = loaded(told);
        let Ok(snapshot) = arena.snapshot("test", "test") else { return false };
        let trace = common::read(&snapshot);
        common::assert_sound(&trace);
        has_newest(&trace, before, "a look from outside")
    };
    (1..=100).find(has_all).expect("a look has the newest event of each writer")
}

/// The same for the process's own snapshots.
fn seen_inside(recorder: &Recorder, told: &[AtomicU64; WRITERS]) -> usize {
    let has_all = |_: &usize| {
        let before = loaded(told);
        let Ok(snapshot) = recorder.snapshot() else { return false };
        let trace = common::read(&snapshot);
        common::assert_sound(&trace);
        has_newest(&trace, before, "a snapshot")
    };
    (1..=100).find(has_all).expect("a snapshot has the newest event of each writer")
}

/// Runs such a process, kills it, and reads its box. Returns its output, and whether each writer's last event
/// is there.
fn killed(case: Case) -> (String, bool) {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
        .env(CASE, case.words())
        .env(DIRECTORY, directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(process.stdout.take().unwrap());
    let ready = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("ready ").map(ToOwned::to_owned));
    // The process ends here, wherever it is.
    process.kill().unwrap();
    process.wait().unwrap();
    let Some(ready) = ready else { panic!("{case:?}: it failed") };
    let told = loaded(told(directory.path()));
    let bytes = std::fs::read(directory.path().join(BOX)).unwrap();
    let mut recovered = lookback::read::recover::recover(&bytes).unwrap();
    let mut file = Vec::new();
    recovered.write_to(&mut file, "killed", "test").unwrap();
    let trace = Trace::from_bytes(file).unwrap();
    common::assert_sound(&trace);
    (ready, has_newest(&trace, told, "the box"))
}

#[test]
fn the_newest_is_kept_while_much_is_alive() {
    if let Ok(words) = std::env::var(CASE) {
        let directory = std::env::var_os(DIRECTORY).unwrap();
        return service(Case::parse(&words), Path::new(&directory));
    }
    for case in Case::all() {
        let mut kills = 0;
        // A kill may be outrun like a look: see there.
        let ready = loop {
            kills += 1;
            let (ready, has_all) = killed(case);
            if has_all {
                break ready;
            }
            assert!(kills < 20, "{case:?}: no box has the newest event of each writer");
        };
        let held = case.held_millis.map_or("ever".to_owned(), |millis| format!("{millis} ms"));
        let Case { mebibytes, alive, .. } = case;
        println!("::{mebibytes} MiB, held up for {held}, {alive} alive: {ready}, kill {kills}");
    }
}
