//! A panic, wherever and however it happens, leaves a snapshot that says why; it never hangs, and previous
//! panic hooks still run.

mod children;
#[path = "../common/mod.rs"]
mod common;

use common::saved::{self, EVER, snapshots};
use common::{events, text, wait_for};
use lookback::read::Trace;
use lookback::read::wire::key;
use lookback::{RecordExt, Recorder, Trigger};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

fn start(directory: &Path) -> Recorder {
    builder(directory).start().expect("a recorder starts")
}

fn builder(directory: &Path) -> lookback::Builder {
    saved::builder(directory).max_bytes(4 << 20).name("panics").panic_patience(EVER)
}

/// The only snapshot in a directory, which must be sound. It may still be on its way: a panic that is caught
/// does not wait for it.
fn only(directory: &Path) -> Trace {
    wait_for(|| !snapshots(directory).is_empty());
    let found = snapshots(directory);
    assert_eq!(found.len(), 1, "{found:?}");
    let trace = Trace::open(&found[0]).expect("it can be read");
    common::assert_sound(&trace);
    trace
}

/// The content of a trace's panic events: message, location, task, span, and their thread's name.
fn panics(trace: &Trace) -> Vec<[String; 5]> {
    let told = |event: &lookback::read::Event| {
        let field = |name| text(event, name).map(|(text, _)| text).unwrap_or_default();
        let thread = event.thread().expect("it has a thread").name.to_string();
        [field("message"), field("location"), field("task"), field("span"), thread]
    };
    events(trace).filter(|event| event.name() == "panic").map(|event| told(&event)).collect()
}

fn reason(trace: &Trace) -> String {
    trace.metadata().text(key::REASON).expect("there is a reason").to_owned()
}

/// Runs the part `name` of this file's test `parts` in a process of its own, and returns how it ended.
fn part(name: &str, directory: &Path) -> (ExitStatus, String) {
    let executable = std::env::current_exe().expect("a test has an executable");
    let output = Command::new(executable)
        .args(["parts", "--exact", "--nocapture", "--test-threads=1"])
        .env("LOOKBACK_TEST_PART", name)
        .env("LOOKBACK_TEST_DIRECTORY", directory)
        .output()
        .expect("a test can run itself again");
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What children do; nothing when run as a test.
#[test]
fn parts() {
    let Ok(name) = std::env::var("LOOKBACK_TEST_PART") else { return };
    let directory = PathBuf::from(std::env::var_os("LOOKBACK_TEST_DIRECTORY").expect("it is set"));
    children::run(&name, &directory);
}

#[test]
fn a_panic_leaves_a_snapshot_that_says_what_where_and_in_which_task_and_span() {
    common::alone(
        "a_panic_leaves_a_snapshot_that_says_what_where_and_in_which_task_and_span",
        || {
            let place = tempfile::tempdir().unwrap();
            let recorder = start(place.path());
            let subscriber = lookback::tracing::subscriber();
            let (runtime, line) = (tokio::runtime::Runtime::new().unwrap(), line!() + 4);
            let joined = tracing::subscriber::with_default(subscriber, || {
                let task = async {
                    let _span = tracing::info_span!("charge").entered();
                    panic!("card {} was refused", 42);
                };
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, local.spawn_local(task.recorded("payment")))
            });
            assert!(joined.is_err_and(|error| error.is_panic()), "Tokio catches it as ever");
            let trace = only(place.path());
            let all = panics(&trace);
            assert_eq!(all.len(), 1, "{all:?}");
            let [message, location, task, span, _] = &all[0];
            assert_eq!(message, "card 42 was refused");
            assert!(location.contains(&format!("tests/panics/main.rs:{line}:")), "{location}");
            assert_eq!((task.as_str(), span.as_str()), ("payment", "charge"));
            let panic = events(&trace).find(|event| event.name() == "panic").expect("it is there");
            let id = |event: &lookback::read::Event| event.task().expect("a task").to_string();
            assert_eq!(text(&panic, "task_id").unwrap().0, id(&panic), "as every view calls it");
            let metadata = trace.metadata();
            assert_eq!(metadata.text(key::TRIGGER), Some("panic"));
            assert_eq!(metadata.text(key::PANIC_MESSAGE), Some("card 42 was refused"));
            assert_eq!(metadata.text(key::PANIC_LOCATION), Some(location.as_str()));
            assert_eq!(metadata.text(key::PANIC_TASK), Some("payment"));
            assert_eq!(metadata.text(key::PANIC_SPAN), Some("charge"));
            let thread = metadata.text(key::TRIGGER_THREAD).expect("the thread is named");
            assert!(thread.contains(" ("), "{thread}");
            assert!(reason(&trace).ends_with("card 42 was refused"), "{}", reason(&trace));
            // Firing is an event, too, which names the file.
            let fired =
                events(&trace).find(|event| event.name() == "trigger").expect("it is there");
            let file = snapshots(place.path())[0].file_name().unwrap().to_str().unwrap().to_owned();
            assert_eq!(text(&fired, "file").unwrap().0, file);
            recorder.stop().expect("nobody is stuck");
        },
    );
}

#[test]
fn the_hook_before_is_called_once_for_each_panic() {
    common::alone("the_hook_before_is_called_once_for_each_panic", || {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        std::panic::set_hook(Box::new(|_| {
            CALLS.fetch_add(1, Ordering::SeqCst);
        }));
        let place = tempfile::tempdir().unwrap();
        let panic_once = || assert!(catch_unwind(|| panic!("caught")).is_err());
        // Several recorders in turn: the hook is not installed twice.
        for round in 1..=3 {
            let recorder = start(place.path());
            panic_once();
            assert_eq!(CALLS.load(Ordering::SeqCst), 2 * round - 1);
            drop(recorder);
            panic_once();
            assert_eq!(CALLS.load(Ordering::SeqCst), 2 * round, "while nothing is recorded, too");
        }
        // Where a file has replaced the directory.
        let nowhere = place.path().join("a file");
        let recorder = start(&nowhere);
        let _ = fs::remove_dir(&nowhere);
        fs::write(&nowhere, "").unwrap();
        panic_once();
        assert_eq!(CALLS.load(Ordering::SeqCst), 7, "also when ours fails");
        assert!(wait_for(|| recorder.stats().triggers.failed > 0));
        let stats = recorder.stats().triggers;
        assert_eq!((stats.saved, stats.failed), (0, 1), "{stats:?}");
        assert!(stats.last_error.is_some_and(|error| error.contains("a file")));
    });
}

#[test]
fn a_caught_panic_costs_one_snapshot_in_its_cool_down_and_all_are_recorded() {
    common::alone(
        "a_caught_panic_costs_one_snapshot_in_its_cool_down_and_all_are_recorded",
        || {
            std::panic::set_hook(Box::new(|_| {}));
            let place = tempfile::tempdir().unwrap();
            let recorder = builder(place.path())
                .trigger(Trigger::panic().cool_down(EVER))
                .start()
                .expect("a recorder starts");
            for number in 0..500 {
                assert!(catch_unwind(|| panic!("number {number}")).is_err());
            }
            assert!(wait_for(|| recorder.stats().triggers.saved > 0));
            let stats = recorder.stats().triggers;
            assert_eq!((stats.fired, stats.suppressed, stats.saved), (1, 499, 1), "{stats:?}");
            assert_eq!(snapshots(place.path()).len(), 1);
            let trace = common::stop(recorder);
            assert_eq!(panics(&trace).len(), 500);
        },
    );
}

#[test]
fn a_caught_panic_waits_for_nothing_and_its_snapshot_comes() {
    common::alone("a_caught_panic_waits_for_nothing_and_its_snapshot_comes", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let began = Instant::now();
        recorder.while_saver_waits(|| {
            // On a thread of a pool, and on the main thread of a runtime.
            assert!(std::thread::spawn(|| panic!("in a thread")).join().is_err());
            assert!(catch_unwind(|| panic!("here")).is_err());
            assert_eq!(snapshots(place.path()).len(), 0);
        });
        assert!(began.elapsed() < EVER / 2, "it has waited for {:?}", began.elapsed());
        assert!(reason(&only(place.path())).contains("in a thread"));
        assert_eq!(panics(&common::stop(recorder)).len(), 2);
    });
}

#[test]
fn nothing_is_saved_where_nobody_asked_for_it() {
    common::alone("nothing_is_saved_where_nobody_asked_for_it", || {
        std::panic::set_hook(Box::new(|_| {}));
        let place = tempfile::tempdir().unwrap();
        std::env::set_current_dir(place.path()).unwrap();
        let recorder = Recorder::builder().max_bytes(1 << 20).start().expect("it starts");
        assert!(catch_unwind(|| panic!("without a directory")).is_err());
        drop(recorder);
        let recorder = builder(place.path()).no_triggers().start().expect("it starts");
        assert!(catch_unwind(|| panic!("without triggers")).is_err());
        assert_eq!(recorder.stats().triggers.fired, 0);
        drop(recorder);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    });
}

#[test]
fn two_threads_that_panic_at_once_share_a_snapshot_or_a_cool_down() {
    common::alone("two_threads_that_panic_at_once_share_a_snapshot_or_a_cool_down", || {
        std::panic::set_hook(Box::new(|_| {}));
        for cool_down in [Duration::ZERO, EVER] {
            let place = tempfile::tempdir().unwrap();
            let trigger = Trigger::panic().cool_down(cool_down).per_hour(1000);
            let recorder = builder(place.path()).trigger(trigger).start().expect("it starts");
            let barrier = Arc::new(Barrier::new(8));
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let barrier = Arc::clone(&barrier);
                    std::thread::spawn(move || {
                        barrier.wait();
                        panic!("number {number}");
                    })
                })
                .collect();
            assert!(threads.into_iter().all(|thread| thread.join().is_err()));
            let reasons = |path: &PathBuf| {
                let trace = Trace::open(path).expect("it can be read");
                trace.metadata().texts(key::REASON).count() as u64
            };
            let named = || snapshots(place.path()).iter().map(reasons).sum::<u64>();
            assert!(wait_for(|| {
                let stats = recorder.stats().triggers;
                named() == stats.fired && stats.saved == snapshots(place.path()).len() as u64
            }));
            let stats = recorder.stats().triggers;
            assert_eq!(stats.fired + stats.suppressed, 8, "{stats:?}");
            assert_eq!(stats.saved, snapshots(place.path()).len() as u64);
            assert!(stats.saved >= 1 && stats.failed == 0, "{stats:?}");
            assert_eq!(named(), stats.fired, "each that fired is named in one of them");
            assert_eq!(panics(&common::stop(recorder)).len(), 8);
        }
    });
}

#[test]
fn a_panic_under_every_lock_of_the_recorder_gets_its_snapshot() {
    common::alone("a_panic_under_every_lock_of_the_recorder_gets_its_snapshot", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        lookback::event!("before");
        let caught = catch_unwind(AssertUnwindSafe(|| {
            recorder.while_locked(|| panic!("with every lock held"));
        }));
        assert!(caught.is_err());
        let trace = only(place.path());
        assert!(reason(&trace).contains("with every lock held"));
        assert!(events(&trace).any(|event| event.name() == "before"));
        recorder.stop().expect("no lock is held any more");
    });
}

#[test]
fn a_panic_while_another_thread_is_advancing_waits_for_nobody() {
    common::alone("a_panic_while_another_thread_is_advancing_waits_for_nobody", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = Arc::new(start(place.path()));
        let (held, let_go) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let other = std::thread::spawn({
            let (recorder, held, let_go) = (recorder.clone(), held.clone(), let_go.clone());
            move || {
                recorder.while_locked(|| {
                    held.wait();
                    let_go.wait();
                });
            }
        });
        held.wait();
        assert!(catch_unwind(|| panic!("meanwhile")).is_err());
        // The locks are still held.
        assert!(reason(&only(place.path())).contains("meanwhile"));
        let_go.wait();
        other.join().unwrap();
    });
}

#[test]
fn a_panic_in_the_collector_gets_its_snapshot() {
    common::alone("a_panic_in_the_collector_gets_its_snapshot", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        lookback::event!("before");
        recorder.panic_in_collector();
        assert!(wait_for(|| !snapshots(place.path()).is_empty()));
        let trace = only(place.path());
        assert!(reason(&trace).contains("the collector panics"));
        assert!(events(&trace).any(|event| event.name() == "before"));
        assert_eq!(panics(&trace).len(), 1);
        recorder.stop().expect("it can be stopped without a collector");
    });
}

#[test]
fn a_panic_in_the_saver_gets_its_snapshot_and_the_saver_goes_on() {
    common::alone("a_panic_in_the_saver_gets_its_snapshot_and_the_saver_goes_on", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let trigger = Trigger::named("mine").cool_down(Duration::ZERO).arm();
        recorder.panic_in_saver();
        let lost = trigger.fire(|| "this one is lost".to_owned()).expect("it fires");
        let error = lost.wait(EVER).expect("it is told").unwrap_err();
        assert_eq!(error.to_string(), "the snapshot was not saved: the saver panicked");
        assert!(reason(&only(place.path())).contains("the saver panics"));
        let next = trigger.fire(|| "the next one".to_owned()).expect("it fires");
        let path = next.wait(EVER).expect("the saver is alive").expect("it can save");
        assert_eq!(reason(&Trace::open(path).unwrap()), "the next one");
        recorder.stop().expect("nobody is stuck");
    });
}

#[test]
fn panics_in_a_debug_impl_and_in_thread_locals_that_are_destroyed_are_survived() {
    struct Bad;
    impl std::fmt::Debug for Bad {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("in a Debug impl")
        }
    }
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            assert!(catch_unwind(|| panic!("while locals are destroyed")).is_err());
        }
    }
    thread_local! { static LATE: Late = const { Late }; }
    common::alone(
        "panics_in_a_debug_impl_and_in_thread_locals_that_are_destroyed_are_survived",
        || {
            let place = tempfile::tempdir().unwrap();
            let trigger = Trigger::panic().cool_down(Duration::ZERO);
            let recorder = builder(place.path()).trigger(trigger).start().expect("it starts");
            let log = || lookback::log!("bad", "{:?}", Bad);
            assert!(catch_unwind(log).is_err());
            let subscriber = lookback::tracing::subscriber();
            tracing::subscriber::with_default(subscriber, || {
                assert!(catch_unwind(|| tracing::error!(bad = ?Bad, "x")).is_err());
                assert!(catch_unwind(|| tracing::error_span!("s", bad = ?Bad)).is_err());
            });
            let late = std::thread::spawn(|| {
                lookback::event!("its first event");
                LATE.with(|_| ());
            });
            assert!(late.join().is_ok());
            let late = std::thread::spawn(|| LATE.with(|_| ()));
            assert!(late.join().is_ok(), "that panic is the thread's first event");
            // Those that come while another is being saved share a snapshot.
            let reasons = |path: &PathBuf| {
                let trace = Trace::open(path).expect("it can be read");
                trace.metadata().texts(key::REASON).count()
            };
            let named = || snapshots(place.path()).iter().map(reasons).sum::<usize>();
            assert!(wait_for(|| named() == 5), "{:?}", recorder.stats().triggers);
            assert_eq!(recorder.stats().triggers.failed, 0);
            let trace = common::stop(recorder);
            assert_eq!(panics(&trace).len(), 5);
        },
    );
}

#[test]
fn a_panic_in_a_forked_child_does_nothing_but_what_it_did_before() {
    common::alone("a_panic_in_a_forked_child_does_nothing_but_what_it_did_before", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        // SAFETY: the child panics, catches that, and exits at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: no preconditions.
            unsafe { libc::alarm(60) };
            let caught = catch_unwind(|| panic!("in the child")).is_err();
            // SAFETY: no preconditions.
            unsafe { libc::_exit(if caught { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        assert_eq!(status, 0, "the child did not end as it should");
        assert!(snapshots(place.path()).is_empty());
        assert_eq!(recorder.stats().triggers.fired, 0);
    });
}

#[test]
fn panics_while_recorders_start_and_stop_never_hang() {
    common::alone("panics_while_recorders_start_and_stop_never_hang", || {
        std::panic::set_hook(Box::new(|_| {}));
        let place = tempfile::tempdir().unwrap();
        let over = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let over = Arc::clone(&over);
                std::thread::spawn(move || {
                    while over.load(Ordering::Relaxed) == 0 {
                        assert!(catch_unwind(|| panic!("again")).is_err());
                    }
                })
            })
            .collect();
        for _ in 0..if common::long() { 300 } else { 30 } {
            let recorder = Recorder::builder()
                .max_bytes(256 << 10)
                .name("panics")
                .snapshot_dir(place.path())
                .snapshot_limits(4, 1 << 30)
                .trigger(Trigger::panic().cool_down(Duration::ZERO).per_hour(u32::MAX))
                .start()
                .expect("a recorder starts");
            std::thread::sleep(Duration::from_millis(3));
            recorder.stop().expect("nobody is stuck");
        }
        over.store(1, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().expect("it never hangs"));
        assert!(snapshots(place.path()).len() <= 5, "4, and one that is being made");
        for path in snapshots(place.path()) {
            common::assert_sound(&Trace::open(path).expect("it can be read"));
        }
    });
}

#[test]
fn a_process_that_ends_with_its_panic_leaves_the_snapshot_all_the_same() {
    let cases = [
        ("abort in extern C", "out of a function of C"),
        ("double panic", "the first one"),
        ("exit in the hook before", "the process exits with this"),
        ("main thread", "nobody catches it"),
        ("abort in the hook before", "the process aborts in a hook"),
        ("exit after a panic was caught", "it was caught, and yet"),
        ("exit with a trigger that is delayed", "it was to be delayed"),
        ("abort with a trigger that is delayed", "it was to be delayed, too"),
        ("forked children end while it saves", "the parent waits, its children do not"),
        ("panic in a thread, and main ends", "the thread cannot go on"),
    ];
    for (name, message) in cases {
        let place = tempfile::tempdir().unwrap();
        let (status, errors) = part(name, place.path());
        assert!(!status.success(), "{name}");
        assert!(errors.contains(message), "{name}: what was there before has told it: {errors}");
        let trace = only(place.path());
        assert!(reason(&trace).contains(message), "{name}: {}", reason(&trace));
        assert!(events(&trace).any(|event| event.name() == "last words"), "{name}");
    }
}

#[test]
fn a_panic_of_a_recorded_task_is_told_where_the_hook_was_replaced() {
    for (name, task) in [
        ("a task panics, and the hook was replaced", "fails"),
        ("a blocking task panics, and the hook was replaced", "task run"),
    ] {
        let place = tempfile::tempdir().unwrap();
        let (status, errors) = part(name, place.path());
        assert_eq!(status.code(), Some(9), "{name}: {errors}");
        let trace = only(place.path());
        let reason = reason(&trace);
        assert!(
            reason.contains(task) && reason.contains("the panic hook was replaced"),
            "{reason}"
        );
        assert_eq!(trace.metadata().text(key::TRIGGER), Some("panic"), "{name}");
        assert!(events(&trace).any(|event| event.name() == "last words"), "{name}");
    }
    let place = tempfile::tempdir().unwrap();
    let (status, errors) = part("a task panics, and the hook sees it", place.path());
    assert_eq!(status.code(), Some(9), "{errors}");
    assert!(reason(&only(place.path())).contains("the hook sees it"));
}

/// Built as a separate program, with `panic = "abort"`.
#[test]
fn with_panic_abort_the_snapshot_is_there_when_the_process_is_gone() {
    // It builds the library again, which takes longer than all other tests of this file.
    if cfg!(debug_assertions) && !common::long() {
        println!("skipped: it runs in optimised builds, and with LOOKBACK_LONG=1");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let program = build_aborting();
    for threads in ["1", "2", "8"] {
        let directory = place.path().join(threads);
        let began = Instant::now();
        let output = Command::new(&program).arg(&directory).arg(threads).output().expect("it runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.status.code().is_none(), "{:?}", output.status);
        assert!(errors.contains("aborts with this"), "{errors}");
        let trace = only(&directory);
        assert!(reason(&trace).contains("aborts with this"), "after {:?}", began.elapsed());
        assert!(events(&trace).any(|event| event.name() == "last words"));
    }
}

/// Builds `examples/panic_abort.rs` with `panic = "abort"`, beside what the tests build.
fn build_aborting() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic-abort");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--offline",
            "--quiet",
            "--no-default-features",
            "--example",
            "panic_abort",
        ])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_PROFILE_DEV_PANIC", "abort")
        .env_remove("RUSTFLAGS")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "it can be built");
    target.join("debug/examples/panic_abort")
}

#[test]
fn of_a_cascade_the_first_panic_is_told_and_those_that_followed_are_counted() {
    common::alone(
        "of_a_cascade_the_first_panic_is_told_and_those_that_followed_are_counted",
        || {
            std::panic::set_hook(Box::new(|_| {}));
            let place = tempfile::tempdir().unwrap();
            let recorder = start(place.path());
            let stock = Arc::new(std::sync::Mutex::new(0));
            for number in 0..22 {
                let stock = Arc::clone(&stock);
                let thread = std::thread::spawn(move || {
                    let mut stock = stock.lock().unwrap();
                    *stock += 1;
                    panic!("the stock is negative ({number})");
                });
                assert!(thread.join().is_err());
            }
            let report = lookback::read::analysis::Report::of(&common::stop(recorder));
            assert_eq!(report.incident.table.panics, 22);
            let finding = report.findings().into_iter().find(|f| f.analysis == "incident").unwrap();
            let title = &finding.title;
            assert!(title.contains("the stock is negative (0), the first of 22 panics"), "{title}");
            assert!(title.contains("21 of them met a lock"), "{title}");
            let told: Vec<_> = finding.evidence.iter().map(|e| e.what.as_str()).collect();
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(told[1].contains("21 times") && told[1].contains("PoisonError"), "{told:?}");
        },
    );
}
