//! Threads and workers that name themselves: the name is in each generation, whether the thread records
//! anything in it or not. A worker slept and polled as long as the program measured; if it never says when it
//! sleeps, nothing claims to know whether it was at work.

mod common;

use common::{advance, alone, assert_sound, events, read, start_with, stop};
use futures::FutureExt;
use futures::task::noop_waker_ref;
use lookback::read::analysis::Report;
use lookback::read::{EventKind, Trace};
use lookback::{RecordExt, Recorder};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::task::Context;
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(40);

fn start() -> Recorder {
    start_with(4 << 20, Duration::from_secs(3600))
}

/// Polls a recorded task that takes this long and is then done.
fn poll(name: &'static str, length: Duration) -> Duration {
    let began = Instant::now();
    let mut work = Box::pin(async { spin(length) }.recorded(name));
    assert!(work.poll_unpin(&mut Context::from_waker(noop_waker_ref())).is_ready());
    began.elapsed()
}

fn spin(length: Duration) {
    let began = Instant::now();
    while began.elapsed() < length {
        std::hint::spin_loop();
    }
}

/// Runs this on a thread of that name.
fn on_thread<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    Builder::new().name(name.to_owned()).spawn(work).unwrap().join().unwrap()
}

/// The names of the workers that the threads were when they logged this, by the threads' names then.
fn workers_at(trace: &Trace, event_name: &str) -> Vec<Option<String>> {
    let at = events(trace).filter(|event| event.name() == event_name);
    at.map(|event| event.worker_name().map(str::to_owned)).collect()
}

#[test]
fn a_worker_that_says_when_it_sleeps_is_at_work_for_the_rest() {
    alone("a_worker_that_says_when_it_sleeps_is_at_work_for_the_rest", || {
        let recorder = start();
        lookback::event!("first");
        let (slept, polled, outside) = on_thread("pool", || {
            lookback::event!("before");
            let worker = lookback::worker("arbiter-0");
            assert_eq!(worker.name(), "arbiter-0");
            let (mut slept, mut polled, mut outside) = <(Duration, Duration, Duration)>::default();
            for _ in 0..3 {
                let began = Instant::now();
                worker.parked(|| sleep(PAUSE));
                slept += began.elapsed();
                lookback::event!("during");
                polled += poll("job", PAUSE / 2);
                let began = Instant::now();
                spin(PAUSE / 4);
                outside += began.elapsed();
            }
            drop(worker);
            lookback::event!("after");
            sleep(PAUSE);
            lookback::event!("after");
            (slept, polled, outside)
        });
        let trace = stop(recorder);
        assert_sound(&trace);
        assert_eq!(workers_at(&trace, "before"), [None]);
        assert_eq!(workers_at(&trace, "during"), vec![Some("arbiter-0".to_owned()); 3]);
        assert_eq!(workers_at(&trace, "after"), [None, None]);
        let report = Report::of(&trace);
        let [worker] = &report.workers.table.workers[..] else {
            panic!("{:?}", report.workers.table);
        };
        assert_eq!((worker.label().as_str(), worker.polls, worker.gone), ("arbiter-0", 3, true));
        assert_eq!(worker.thread.label(), "arbiter-0");
        // The measured time includes recording it and, on a slow machine, whatever came in between.
        let near = |found: u64, measured: Duration, least: Duration| {
            let most = measured + Duration::from_millis(1);
            assert!(
                (least..=most).contains(&Duration::from_nanos(found)),
                "{found} ns for {measured:?}: {worker:?}"
            );
        };
        near(worker.parked.0, slept, 3 * PAUSE);
        near(worker.polling.0, polled, 3 * PAUSE / 2);
        assert!(Duration::from_nanos(worker.outside.0) >= outside, "{worker:?}");
    });
}

#[test]
fn of_a_worker_that_never_parks_nobody_says_that_it_was_at_work() {
    alone("of_a_worker_that_never_parks_nobody_says_that_it_was_at_work", || {
        let recorder = start();
        on_thread("pool", || {
            let _worker = lookback::worker("silent-0");
            for _ in 0..4 {
                poll("job", PAUSE / 4);
                sleep(PAUSE);
            }
        });
        let trace = stop(recorder);
        assert_sound(&trace);
        let report = Report::of(&trace);
        let [worker] = &report.workers.table.workers[..] else {
            panic!("{:?}", report.workers.table);
        };
        assert_eq!((worker.polls, worker.outside.0, worker.parked.0), (4, 0, 0));
        assert!(worker.unknown.0 >= 4 * PAUSE.as_nanos() as u64);
        assert!(report.workers.findings.is_empty(), "{:?}", report.workers.findings);
        let said = report.workers.not_assessed.iter();
        assert!(said.clone().any(|line| line.contains("silent-0") && line.contains("not known")));
    });
}

/// The thread is silent for generations, or records something in each; names that were set while nothing was
/// recorded are known afterwards.
#[test]
fn each_generation_knows_how_threads_and_workers_are_called() {
    alone("each_generation_knows_how_threads_and_workers_are_called", || {
        let long = "partition ".repeat(12);
        let (early, late) = (format!("early {long}"), format!("späte {long}"));
        let cut = |name: &str| name[..name.floor_char_boundary(64)].to_owned();
        let expected = [cut(&early), cut(&late)];
        let ((go_on, wait), (said, done)) = (mpsc::channel::<bool>(), mpsc::channel());
        let thread = Builder::new().name("short".to_owned()).spawn(move || {
            lookback::set_thread_name(&early);
            said.send(()).unwrap();
            wait.recv().unwrap();
            lookback::event!("early");
            lookback::set_thread_name(&late);
            let worker = lookback::worker("w-7");
            said.send(()).unwrap();
            while wait.recv().unwrap() {
                lookback::event!("late");
                worker.park();
                worker.unpark();
                said.send(()).unwrap();
            }
        });
        done.recv().unwrap();
        let recorder = start();
        let step = |go: bool| {
            go_on.send(go).unwrap();
            if go {
                done.recv().unwrap();
            }
        };
        step(true);
        for round in 0..6 {
            // A generation without an event does not end.
            lookback::event!("tick");
            advance(&recorder);
            if round % 3 == 0 {
                step(true);
            }
        }
        let trace = read(&recorder.snapshot().unwrap());
        assert_sound(&trace);
        let mut seen = 0;
        for info in trace.generations() {
            let generation = trace.generation(info.number).unwrap();
            for status in generation.statuses() {
                let thread = status.thread().unwrap();
                if thread.name.starts_with("sp") || thread.name.starts_with("early") {
                    seen += 1;
                    assert_eq!(*thread.name, *expected[1]);
                    assert_eq!(status.worker_name(), Some("w-7"));
                }
            }
        }
        assert!(seen >= 6, "it is stated in each generation: {seen}");
        let names: BTreeSet<_> = events(&trace)
            .filter(|event| event.name() == "late" || event.name() == "early")
            .map(|event| event.thread().unwrap().name.to_string())
            .collect();
        assert_eq!(names, BTreeSet::from([expected[1].clone()]), "in the whole of its generation");
        step(false);
        thread.unwrap().join().unwrap();
        stop(recorder);
    });
}

#[test]
fn of_several_workers_of_a_thread_that_counts_which_spoke_last() {
    alone("of_several_workers_of_a_thread_that_counts_which_spoke_last", || {
        let recorder = start();
        on_thread("pool", || {
            let first = lookback::worker("first");
            let second = lookback::worker("second");
            lookback::event!("a");
            drop(first);
            lookback::event!("b");
            let third = lookback::worker("third");
            drop(second);
            lookback::event!("c");
            advance_by_panic(&third);
            lookback::event!("d");
            drop(third);
            lookback::event!("e");
        });
        let trace = stop(recorder);
        assert_sound(&trace);
        let named = |name: &str| vec![Some(name.to_owned())];
        assert_eq!(workers_at(&trace, "a"), named("second"));
        assert_eq!(workers_at(&trace, "b"), named("second"));
        assert_eq!(workers_at(&trace, "c"), named("third"));
        assert_eq!(workers_at(&trace, "d"), named("third"));
        assert_eq!(workers_at(&trace, "e"), [None]);
        let turns = |wanted: &str| events(&trace).filter(|e| e.kind_name() == wanted).count();
        assert_eq!((turns("worker_park"), turns("worker_unpark")), (1, 1), "also after a panic");
    });
}

/// What waits for work panics.
fn advance_by_panic(worker: &lookback::Worker) {
    let wait =
        std::panic::AssertUnwindSafe(|| worker.parked(|| std::panic::resume_unwind(Box::new(()))));
    assert!(std::panic::catch_unwind(wait).is_err());
}

/// The kernel keeps 15 bytes of it.
#[test]
fn threads_of_runtimes_have_their_whole_names() {
    alone("threads_of_runtimes_have_their_whole_names", || {
        let recorder = start();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("a-runtime-with-a-long-name");
        assert!(lookback::tokio::instrument(&mut builder).is_whole());
        let runtime = builder.build().unwrap();
        lookback::block_on(&runtime, async {
            lookback::spawn(async { lookback::event!("on a worker") }).await.unwrap();
        });
        drop(runtime);
        on_thread("drives-a-runtime-for-a-while", || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            lookback::block_on(&runtime, async { lookback::event!("driven") });
        });
        let trace = stop(recorder);
        assert_sound(&trace);
        let name_at = |name: &str| {
            let event = events(&trace).find(|event| event.name() == name).unwrap();
            event.thread().unwrap().name.to_string()
        };
        assert_eq!(name_at("on a worker"), "a-runtime-with-a-long-name");
        assert_eq!(name_at("driven"), "drives-a-runtime-for-a-while");
        let renames = events(&trace).filter(|event| matches!(event.kind(), EventKind::ThreadName));
        assert!(renames.count() <= 2, "a name that is known before the first event needs no event");
    });
}
