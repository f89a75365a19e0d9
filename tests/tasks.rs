//! Tasks, workers and spans on the real thing, all at once: thousands of tasks a second are spawned, woken
//! from foreign threads, cancelled in the middle of an await, panic, move between workers, and are dropped
//! when their runtime shuts down, in two runtimes at once, while generations follow each other back to back.
//! Every snapshot must be sound, and so must each of its complete generations alone; and the trace must have
//! what the service counted. `LOOKBACK_LONG=1` does twenty times as much.

mod common;
#[path = "../snapshot/tests/go_tool/mod.rs"]
mod go_tool;

use common::{alone, long};
use lookback::read::{EventKind, TaskId, Trace};
use lookback::tokio::{JoinSetExt, instrument};
use lookback::{RecordExt, Recorder, Snapshot};
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::Instrument;

fn runtime(workers: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all();
    assert!(instrument(&mut builder).is_whole());
    builder.build().expect("a runtime")
}

fn start(max_bytes: usize, period: Duration) -> Recorder {
    common::start_with(max_bytes, period)
}

/// Wakes every registered task, from threads that are not workers.
struct Foreign {
    send: std::sync::mpsc::Sender<oneshot::Sender<()>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Foreign {
    fn new(threads: usize) -> Self {
        let (send, receive) = std::sync::mpsc::channel::<oneshot::Sender<()>>();
        let receive = Arc::new(Mutex::new(receive));
        let wake = move || {
            loop {
                let next = receive.lock().unwrap().recv();
                match next {
                    Ok(waiting) => drop(waiting.send(())),
                    Err(_) => return,
                }
            }
        };
        let threads = (0..threads).map(|_| std::thread::spawn(wake.clone())).collect();
        Self { send, threads }
    }
}

/// What one task of the storm does.
async fn one(number: u64, send: std::sync::mpsc::Sender<oneshot::Sender<()>>, notify: Arc<Notify>) {
    match number % 8 {
        0 => tokio::task::yield_now().await,
        1 => {
            let (waiting, woken) = oneshot::channel();
            drop(send.send(waiting));
            let _ = woken.await;
        }
        2 => tokio::time::sleep(Duration::from_micros(number % 700)).await,
        3 => {
            notify.notify_one();
            notify.notified().waiting_for("a notification").await;
        }
        4 => {
            let inner = async { tokio::task::yield_now().await }.recorded("inner");
            inner.await;
        }
        5 => {
            let task = lookback::spawn(async {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            });
            tokio::task::yield_now().await;
            task.abort();
            let _ = task.await;
        }
        6 => {
            let span = tracing::info_span!(
                "request",
                number,
                path = "/items",
                late = tracing::field::Empty
            );
            async {
                tracing::Span::current().record("late", "recorded later");
                tokio::task::yield_now().await;
                tracing::info!(number, "half way");
                let (send, mut receive) = mpsc::channel(1);
                let child = tracing::debug_span!("child", depth = 2_i64);
                child.follows_from(tracing::Span::current());
                lookback::spawn(async move { send.send(number).await }.instrument(child));
                assert_eq!(receive.recv().await, Some(number));
            }
            .instrument(span)
            .await;
        }
        _ => {
            if number % 64 == 7 {
                std::panic::resume_unwind(Box::new("as planned"));
            }
        }
    }
}

/// Spawns tasks of all kinds until it is stopped. Returns how many.
async fn storm(stop: Arc<AtomicBool>, send: std::sync::mpsc::Sender<oneshot::Sender<()>>) -> u64 {
    let notify = Arc::new(Notify::new());
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut set = tokio::task::JoinSet::new();
        for _ in 0..64 {
            number += 1;
            set.spawn_recorded(one(number, send.clone(), Arc::clone(&notify)));
        }
        // Some never finish.
        let patience = tokio::time::sleep(Duration::from_millis(3));
        tokio::pin!(patience);
        loop {
            tokio::select! {
                next = set.join_next() => if next.is_none() { break },
                () = &mut patience => break,
            }
        }
    }
    number
}

fn assert_sound(snapshot: &Snapshot) -> Trace {
    let trace = common::read(snapshot);
    common::assert_sound(&trace);
    trace
}

/// Each complete generation, with nothing carried over.
fn assert_sound_alone(trace: &Trace) {
    for info in trace.generations().iter().filter(|info| info.complete) {
        let alone = trace.generation(info.number).expect("it can be read");
        let violations = alone.validate();
        let words: Vec<_> = violations.iter().take(10).map(ToString::to_string).collect();
        assert!(words.is_empty(), "generation {} alone: {words:#?}", info.number);
    }
}

/// The real `go tool trace` reads it, and finds in it what the export says that it wrote.
fn assert_go_accepts(trace: &Trace) {
    let mut exported = Vec::new();
    let report = lookback::read::export::go::export(trace, &mut exported).expect("memory takes it");
    if let Some(go) = go_tool::go_tool() {
        go.parse(&exported).expect("Go accepts it").assert_equals(&report);
    }
    // The trace itself has each creation and end of a task once.
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for event in common::events(trace) {
        let what = match event.kind() {
            EventKind::TaskCreate { .. } | EventKind::ThreadStart => "creations",
            EventKind::TaskReady { .. } | EventKind::TaskPanic { .. } => "ends",
            EventKind::SpanCreate { .. } => "spans begun",
            EventKind::SpanClose { .. } => "spans ended",
            _ => continue,
        };
        *counts.entry(what).or_default() += 1;
    }
    let of = |what| counts.get(what).copied().unwrap_or_default();
    assert_eq!(report.creations.recorded(), of("creations"));
    assert_eq!(report.tasks_begun.recorded(), of("spans begun"));
    assert_eq!(report.tasks_ended.recorded(), of("spans ended"));
    assert!(report.destroys.recorded() >= of("ends"));
}

/// A generation may end between any two things that a thread says about itself.
#[test]
fn a_thread_that_joins_a_pool_in_a_new_generation_was_of_none_before() {
    alone("a_thread_that_joins_a_pool_in_a_new_generation_was_of_none_before", || {
        use lookback_recorder::integration::Runtime;
        let recorder = start(1 << 20, Duration::from_secs(3600));
        let advance = || {
            common::advance(&recorder);
        };
        let runtime = Runtime::new(|| Some(0), || 1);
        let say_after = |what: fn(Runtime)| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    lookback::event!("before");
                    advance();
                    what(runtime);
                    advance();
                    lookback::event!("after");
                });
            });
        };
        say_after(Runtime::thread_starts);
        say_after(Runtime::parks);
        say_after(Runtime::unparks);
        let trace = assert_sound(&recorder.snapshot().expect("a snapshot is taken"));
        let joined = common::events(&trace)
            .filter(|event| matches!(event.kind(), EventKind::PoolThread { .. }));
        assert_eq!(joined.count(), 3);
        common::stop(recorder);
    });
}

/// A sleeping worker becomes another one, as a generation ends: it slept until then.
#[test]
fn a_worker_that_becomes_another_one_in_a_new_generation_slept_before() {
    alone("a_worker_that_becomes_another_one_in_a_new_generation_slept_before", || {
        use lookback_recorder::integration::Runtime;
        static WORKER: AtomicUsize = AtomicUsize::new(0);
        let recorder = start(1 << 20, Duration::from_secs(3600));
        let advance = || {
            common::advance(&recorder);
        };
        let runtime = Runtime::new(|| Some(WORKER.load(Ordering::Relaxed)), || 1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                runtime.thread_starts();
                runtime.parks();
                lookback::event!("sleeps");
                advance();
                WORKER.store(1, Ordering::Relaxed);
                runtime.parks();
                advance();
                lookback::event!("after");
            });
        });
        assert_sound(&recorder.snapshot().expect("a snapshot is taken"));
        common::stop(recorder);
    });
}

#[test]
fn a_storm_of_tasks_is_recorded_soundly() {
    alone("a_storm_of_tasks_is_recorded_soundly", || {
        let subscriber = lookback::tracing::subscriber().with_max_level(tracing::Level::DEBUG);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        let seconds = if long() {
            120
        } else if cfg!(debug_assertions) {
            1
        } else {
            6
        };
        for (max_bytes, period) in [
            (16 << 20, Duration::ZERO),
            (1 << 20, Duration::ZERO),
            (8 << 20, Duration::from_millis(20)),
        ] {
            let recorder = start(max_bytes, period);
            let (stop, foreign) = (Arc::new(AtomicBool::new(false)), Foreign::new(2));
            let runtimes = [runtime(2), runtime(2)];
            let storms: Vec<_> = runtimes
                .iter()
                .map(|runtime| {
                    lookback::spawn_on(
                        runtime.handle(),
                        storm(Arc::clone(&stop), foreign.send.clone()),
                    )
                })
                .collect();
            let (began, mut snapshots) = (Instant::now(), 0);
            while began.elapsed() < Duration::from_secs(seconds) / 3 {
                let snapshot = recorder.snapshot().expect("a snapshot is taken");
                let trace = assert_sound(&snapshot);
                assert_sound_alone(&trace);
                if max_bytes <= 1 << 20 {
                    assert_go_accepts(&trace);
                }
                snapshots += 1;
            }
            stop.store(true, Ordering::Relaxed);
            let mut tasks = 0;
            for (runtime, storm) in runtimes.into_iter().zip(storms) {
                tasks += runtime.block_on(storm).expect("the storm ends");
                // Tasks that still run are dropped here, on this thread.
                drop(runtime);
            }
            drop(foreign.send);
            foreign.threads.into_iter().for_each(|thread| thread.join().unwrap());
            let stats = recorder.stats();
            let trace = assert_sound(&recorder.stop().expect("it stops"));
            assert_sound_alone(&trace);
            assert_go_accepts(&trace);
            println!(
                "{max_bytes} B, {period:?}: {tasks} tasks, {snapshots} snapshots, {} events, lost {:?}, {} generations",
                stats.recorded, stats.lost, stats.generation
            );
            assert!(snapshots > 0 && tasks > 1000);
        }
    });
}

/// Every transition of the tasks with this name, by task, in words.
fn histories(trace: &Trace, name: &str) -> HashMap<TaskId, Vec<&'static str>> {
    let mut histories: HashMap<TaskId, Vec<&'static str>> = HashMap::new();
    for event in common::events(trace) {
        let (task, what) = match event.kind() {
            EventKind::TaskCreate { task, .. } => (task, "create"),
            EventKind::TaskPoll { task } => (task, "poll"),
            EventKind::TaskPending { task, .. } => (task, "pending"),
            EventKind::TaskReady { task } => (task, "ready"),
            EventKind::TaskPanic { task } => (task, "panic"),
            EventKind::TaskDrop { task } => (task, "drop"),
            EventKind::TaskWake { task } => (task, "wake"),
            _ => continue,
        };
        if event.name() == name {
            histories.entry(task).or_default().push(what);
        }
    }
    histories
}

fn only(trace: &Trace, name: &str) -> Vec<&'static str> {
    let mut all: Vec<_> = histories(trace, name).into_values().collect();
    assert_eq!(all.len(), 1, "{name}: {all:?}");
    all.remove(0)
}

#[test]
fn the_life_of_a_task_is_told_step_by_step() {
    alone("the_life_of_a_task_is_told_step_by_step", || {
        let recorder = start(4 << 20, Duration::from_secs(3600));
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all();
        assert!(instrument(&mut builder).is_whole());
        let runtime = builder.build().unwrap();
        lookback::block_on(&runtime, async {
            tokio::spawn(async {}.recorded("short")).await.unwrap();
            let (send, receive) = oneshot::channel::<()>();
            let waits = tokio::spawn(receive.recorded("waits"));
            tokio::task::yield_now().await;
            send.send(()).unwrap();
            waits.await.unwrap().unwrap();
            tokio::spawn(tokio::task::yield_now().recorded("yields")).await.unwrap();
            let forever = tokio::spawn(std::future::pending::<()>().recorded("cancelled"));
            tokio::task::yield_now().await;
            forever.abort();
            assert!(forever.await.unwrap_err().is_cancelled());
            let panics = async { std::panic::resume_unwind(Box::new("as planned")) };
            let panics: Result<(), _> = tokio::spawn(panics.recorded("panics")).await;
            assert!(panics.unwrap_err().is_panic());
            drop(std::future::ready(()).recorded("never polled"));
            let sleeps = tokio::time::sleep(Duration::from_millis(2));
            tokio::spawn(sleeps.waiting_for("a timer").recorded("sleeps")).await.unwrap();
            async { tokio::task::yield_now().await }.recorded("nested").await;
            lookback::spawn_blocking(|| 7).await.unwrap();
        });
        let trace = assert_sound(&recorder.stop().unwrap());
        assert_eq!(only(&trace, "short"), ["create", "poll", "ready"]);
        assert_eq!(only(&trace, "waits"), ["create", "poll", "pending", "wake", "poll", "ready"]);
        // Tokio wakes a task that yields when its poll is over.
        assert_eq!(only(&trace, "yields"), ["create", "poll", "pending", "wake", "poll", "ready"]);
        assert_eq!(only(&trace, "cancelled"), ["create", "poll", "pending", "drop"]);
        assert_eq!(only(&trace, "panics"), ["create", "poll", "panic"]);
        assert_eq!(only(&trace, "never polled"), ["create", "drop"]);
        assert_eq!(only(&trace, "sleeps"), ["create", "poll", "pending", "wake", "poll", "ready"]);
        assert_eq!(only(&trace, "nested"), ["create", "poll", "pending", "wake", "poll", "ready"]);
        let mut reasons = Vec::new();
        let mut parents = HashSet::new();
        let mut workers = HashSet::new();
        for event in common::events(&trace) {
            match event.kind() {
                EventKind::TaskPending { waits_for: Some(site), .. } => {
                    reasons.push(site.name.to_owned())
                }
                EventKind::TaskCreate { parent, .. } => drop(parents.insert(parent)),
                EventKind::TaskPoll { .. } => drop(workers.insert(event.worker())),
                _ => {}
            }
        }
        assert_eq!(reasons, ["a timer"]);
        assert_eq!(parents.len(), 2, "the root has none, all others have the root: {parents:?}");
        assert!(workers.iter().any(Option::is_some), "workers are known: {workers:?}");
    });
}

/// A task is woken by a thread, by another task, by a timer: each time the trace has the waker.
#[test]
fn who_woke_a_task_is_known() {
    alone("who_woke_a_task_is_known", || {
        let recorder = start(4 << 20, Duration::from_secs(3600));
        let runtime = runtime(1);
        lookback::block_on(&runtime, async {
            for foreign in [true, false] {
                let (send, receive) = oneshot::channel::<()>();
                let name = if foreign { "woken by a thread" } else { "woken by a task" };
                let is_waiting = Arc::new(AtomicBool::new(false));
                let (mut receive, told) = (receive, Arc::clone(&is_waiting));
                let waiting = std::future::poll_fn(move |context| {
                    let polled = Pin::new(&mut receive).poll(context);
                    told.store(polled.is_pending(), Ordering::Release);
                    polled
                });
                let waits = lookback::spawn(waiting.recorded(name));
                while !is_waiting.load(Ordering::Acquire) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                if foreign {
                    let thread = std::thread::Builder::new().name("foreign".to_owned());
                    let _ = thread.spawn(move || send.send(()).unwrap()).unwrap().join();
                } else {
                    tokio::spawn(async move { send.send(()).unwrap() }.recorded("waker"));
                }
                waits.await.unwrap().unwrap();
            }
        });
        let trace = assert_sound(&recorder.stop().unwrap());
        let mut names: HashMap<TaskId, String> = HashMap::new();
        let mut wakers = HashMap::new();
        for event in common::events(&trace) {
            match event.kind() {
                EventKind::TaskCreate { task, site, .. } => {
                    drop(names.insert(task, site.name.to_owned()))
                }
                EventKind::TaskWake { task } => {
                    let by = match event.task() {
                        Some(task) => names[&task].clone(),
                        None => event.thread().unwrap().name.to_string(),
                    };
                    wakers.insert(names[&task].clone(), by);
                }
                _ => {}
            }
        }
        assert_eq!(wakers["woken by a thread"], "foreign");
        assert_eq!(wakers["woken by a task"], "waker");
    });
}

/// Tasks, spans and workers to which nothing happens are in each generation, unchanged.
#[test]
fn what_is_idle_is_in_each_generation() {
    alone("what_is_idle_is_in_each_generation", || {
        let subscriber = lookback::tracing::subscriber().with_max_level(tracing::Level::DEBUG);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        let recorder = start(8 << 20, Duration::from_secs(3600));
        let runtime = runtime(2);
        let span = tracing::info_span!(
            "held for long",
            order = 17,
            path = "/items",
            late = tracing::field::Empty
        );
        let (send, receive) = tokio::sync::watch::channel(());
        let count = Arc::new(AtomicU64::new(0));
        for _ in 0..500 {
            let (mut receive, count) = (receive.clone(), Arc::clone(&count));
            let task = async move {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = receive.changed().await;
            };
            runtime.spawn(task.recorded("idle"));
        }
        assert!(common::wait_for(|| count.load(Ordering::Relaxed) == 500));
        // Parked by now.
        std::thread::sleep(Duration::from_millis(50));
        common::advance(&recorder);
        span.record("late", true);
        for _ in 0..5 {
            lookback::event!("something");
            common::advance(&recorder);
        }
        let trace = assert_sound(&recorder.snapshot().unwrap());
        assert_sound_alone(&trace);
        let complete: Vec<_> = trace.generations().iter().filter(|info| info.complete).collect();
        assert!(complete.len() >= 6);
        for info in &complete[2..] {
            let generation = trace.generation(info.number).unwrap();
            let idle = generation.tasks().filter(|task| task.site.name == "idle");
            assert_eq!(idle.count(), 500, "generation {}", info.number);
            let spans: Vec<_> = generation.spans().collect();
            let [span] = &spans[..] else { panic!("{} spans", spans.len()) };
            assert_eq!(span.site.name, "held for long");
            let fields: Vec<_> =
                span.fields().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(fields, ["order=17", "path=/items", "late=true"]);
            let workers: HashSet<_> =
                generation.statuses().filter_map(|state| state.worker()).collect();
            assert_eq!(workers.len(), 2, "both workers are parked, and known");
        }
        drop(send);
        drop(span);
        drop(runtime);
        assert_sound(&recorder.stop().unwrap());
    });
}

/// A million waiting tasks, whose memory is returned when they are gone.
#[test]
fn a_million_tasks_can_be_alive() {
    alone("a_million_tasks_can_be_alive", || {
        let count = if long() { 1_000_000 } else { 200_000 };
        let recorder = start(64 << 20, Duration::from_secs(3600));
        let waker = std::task::Waker::noop();
        let before = common::Memory::now();
        let mut tasks: Vec<_> = (0..count)
            .map(|_| Box::pin(std::future::pending::<()>().recorded("one of a million")))
            .collect();
        for task in &mut tasks {
            let _ = task.as_mut().poll(&mut std::task::Context::from_waker(waker));
        }
        common::advance(&recorder);
        for _ in 0..3 {
            lookback::event!("something");
            common::advance(&recorder);
        }
        let during = common::Memory::now();
        let snapshot = recorder.snapshot().unwrap();
        let trace = assert_sound(&snapshot);
        let last = trace.generations().iter().rfind(|info| info.complete).unwrap().number;
        let generation = trace.generation(last).unwrap();
        assert_eq!(generation.tasks().count(), count);
        drop((generation, trace, snapshot));
        drop(tasks);
        for _ in 0..8 {
            lookback::event!("something");
            common::advance(&recorder);
        }
        let after = common::Memory::now();
        let grown = |memory: common::Memory| memory.resident.saturating_sub(before.resident) >> 20;
        println!(
            "{count} tasks: {} MiB more, {} MiB when they are gone",
            grown(during),
            grown(after)
        );
        assert_sound(&recorder.stop().unwrap());
    });
}
