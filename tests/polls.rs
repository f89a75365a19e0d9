//! What is recorded about a poll is true of that poll: when it began, and what its task waits for afterwards.
//! The program itself finds out what is right, with its own clock.

mod common;

use common::alone;
use lookback::read::{EventKind, TaskId, Trace};
use lookback::tokio::instrument;
use lookback::{RecordExt, Recorder};
use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

fn start() -> Recorder {
    common::start_with(4 << 20, Duration::from_secs(3600))
}

fn current_thread() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all();
    assert!(instrument(&mut builder).is_whole());
    builder.build().expect("a runtime")
}

/// Keeps the thread busy.
fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// The length of the longest poll of each name.
fn longest(trace: &Trace) -> HashMap<String, Duration> {
    let mut begun: HashMap<TaskId, u64> = HashMap::new();
    let mut longest: HashMap<String, Duration> = HashMap::new();
    for event in common::events(trace) {
        match event.kind() {
            EventKind::TaskPoll { task } => drop(begun.insert(task, event.time().0)),
            EventKind::TaskPending { task, .. } | EventKind::TaskReady { task } => {
                let Some(began) = begun.remove(&task) else { continue };
                let took = Duration::from_nanos(event.time().0 - began);
                let entry = longest.entry(event.name().to_owned()).or_default();
                *entry = took.max(*entry);
            }
            _ => {}
        }
    }
    longest
}

/// A task that measures its longest poll by its own clock, and yields a few times.
async fn brief(took: &mut Duration) {
    for _ in 0..3 {
        let mut first = true;
        std::future::poll_fn(|context| {
            let began = Instant::now();
            let again = std::mem::replace(&mut first, false);
            if again {
                context.waker().wake_by_ref();
            }
            *took = began.elapsed().max(*took);
            if again { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
        })
        .await;
    }
}

/// Anything long and unrecorded between two polls is not part of the next one: an unrecorded root future, an
/// unrecorded task, one on a `LocalSet`, work outside `block_on`. A poll that is blamed is blamed however long
/// that takes; one that the machine held up is not held up ever longer.
#[test]
fn a_poll_takes_no_blame_for_what_ran_before_it() {
    alone("a_poll_takes_no_blame_for_what_ran_before_it", || {
        let tries = [60, 600, 6000].map(Duration::from_millis);
        let mut blamed = Vec::new();
        assert!(
            tries
                .iter()
                .any(|long| long_work_before_polls(*long).map_err(|why| blamed.push(why)).is_ok()),
            "{blamed:#?}"
        );
    });
}

/// Whether polls after unrecorded work of this length took much less.
fn long_work_before_polls(long: Duration) -> Result<(), String> {
    let recorder = start();
    let runtime = current_thread();
    let mut judged = Duration::ZERO;
    // The root future belongs to no task.
    runtime.block_on(async {
        let task = tokio::spawn(
            async {
                let mut took = Duration::ZERO;
                brief(&mut took).await;
                took
            }
            .recorded("behind the root"),
        );
        tokio::task::yield_now().await;
        spin(long);
        judged = judged.max(task.await.unwrap());
    });
    // An unrecorded task.
    runtime.block_on(async {
        let first = tokio::spawn(async {}.recorded("first"));
        let long = tokio::spawn(async move { spin(long) });
        let last = tokio::spawn(
            async {
                let mut took = Duration::ZERO;
                brief(&mut took).await;
                took
            }
            .recorded("behind a task"),
        );
        first.await.unwrap();
        long.await.unwrap();
        judged = judged.max(last.await.unwrap());
    });
    // One on a `LocalSet`.
    let set = tokio::task::LocalSet::new();
    set.block_on(&runtime, async {
        let first = tokio::task::spawn_local(async {}.recorded("first"));
        let long = tokio::task::spawn_local(async move { spin(long) });
        let last = tokio::task::spawn_local(
            async {
                let mut took = Duration::ZERO;
                brief(&mut took).await;
                took
            }
            .recorded("on a set"),
        );
        first.await.unwrap();
        long.await.unwrap();
        judged = judged.max(last.await.unwrap());
    });
    // Work between two calls of `block_on`.
    runtime.block_on(async {}.recorded("first"));
    spin(long);
    runtime.block_on(
        async {
            let mut took = Duration::ZERO;
            brief(&mut took).await;
            judged = judged.max(took);
        }
        .recorded("behind the outside"),
    );
    let trace = common::stop(recorder);
    let longest = longest(&trace);
    for name in ["behind the root", "behind a task", "on a set", "behind the outside"] {
        // The machine may have taken the core away during a poll; then the judge has seen it, too.
        let took = longest[name];
        if took >= long / 2 + judged {
            return Err(format!("{name}: {took:?} behind {long:?}, judged {judged:?}"));
        }
    }
    Ok(())
}

/// The reasons of the polls of the task with this name, `-` for none.
fn reasons(trace: &Trace, name: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    for event in common::events(trace).filter(|event| event.name() == name) {
        if let EventKind::TaskPending { waits_for, .. } = event.kind() {
            reasons.push(waits_for.map_or_else(|| "-".to_owned(), |site| site.name.to_owned()));
        }
    }
    reasons
}

/// Pending at the first poll, done at the second, which it requests at once.
async fn once() {
    tokio::task::yield_now().await;
}

#[test]
fn the_reason_is_that_of_what_still_waits_when_the_poll_ends() {
    alone("the_reason_is_that_of_what_still_waits_when_the_poll_ends", || {
        let recorder = start();
        let runtime = current_thread();
        let run = |name: &'static str, future: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
            runtime.block_on(future.recorded(name));
        };
        // The time is up: this wait is dropped, and another one begins.
        run(
            "timeout",
            Box::pin(async {
                let wait = std::future::pending::<()>().waiting_for("database");
                let _ = tokio::time::timeout(Duration::from_millis(2), wait).await;
                once().waiting_for("cache").await;
                once().await;
            }),
        );
        // A branch that loses is dropped in the poll in which the other one wins.
        run(
            "select",
            Box::pin(async {
                let (send, receive) = oneshot::channel::<()>();
                let mut send = Some(send);
                tokio::select! {
                    biased;
                    _ = receive.waiting_for("loser") => unreachable!("its sender is here"),
                    () = std::future::ready(()).waiting_for("winner") => {}
                }
                once().await;
                drop(send.take());
            }),
        );
        // A wait that is done is over.
        run(
            "join",
            Box::pin(async {
                let mut sooner = Box::pin(once().waiting_for("sooner"));
                let mut later = Box::pin(std::future::pending::<()>().waiting_for("later"));
                // Polled twice in one poll: pending, then done.
                std::future::poll_fn(|context| {
                    assert!(sooner.as_mut().poll(context).is_pending());
                    assert!(later.as_mut().poll(context).is_pending());
                    std::task::Poll::Ready(())
                })
                .await;
                let mut seen = false;
                std::future::poll_fn(|context| {
                    let _ = later.as_mut().poll(context);
                    let first = !std::mem::replace(&mut seen, true);
                    assert!(!first || sooner.as_mut().poll(context).is_ready());
                    context.waker().wake_by_ref();
                    if first { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
                })
                .await;
            }),
        );
        // A nested poll has reasons of its own, and leaves the others alone.
        run(
            "outer",
            Box::pin(async {
                let inner = once().waiting_for("inner's").recorded("inner");
                let outer = std::future::pending::<()>().waiting_for("outer's");
                tokio::select! {
                    biased;
                    () = outer => {}
                    () = inner => {}
                }
            }),
        );
        // The innermost of several nested ones; the outer one when the inner one is done.
        run(
            "nested",
            Box::pin(
                async {
                    once().waiting_for("inside").await;
                    once().await;
                }
                .waiting_for("around"),
            ),
        );
        let trace = common::stop(recorder);
        assert_eq!(reasons(&trace, "timeout"), ["database", "cache", "-"]);
        assert_eq!(reasons(&trace, "select"), ["-"]);
        assert_eq!(reasons(&trace, "join"), ["later"]);
        assert_eq!(reasons(&trace, "outer"), ["outer's"]);
        assert_eq!(reasons(&trace, "inner"), ["inner's"]);
        assert_eq!(reasons(&trace, "nested"), ["inside", "around"]);
    });
}

/// What one task waits for is not a reason of another one that the same thread polls next.
#[test]
fn a_reason_is_that_of_its_own_task_alone() {
    alone("a_reason_is_that_of_its_own_task_alone", || {
        let recorder = start();
        let waits = std::future::pending::<()>().waiting_for("database").recorded("waits");
        let yields = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        };
        current_thread().block_on(async {
            let waits = tokio::spawn(waits);
            tokio::spawn(yields.recorded("yields")).await.unwrap();
            waits.abort();
        });
        let trace = common::stop(recorder);
        assert_eq!(reasons(&trace, "waits"), ["database"]);
        assert_eq!(reasons(&trace, "yields"), ["-", "-", "-"]);
    });
}

/// Two runtimes take turns on one thread: each poll belongs to its own runtime, or to none that is known, and
/// between two turns the thread is no worker.
#[test]
fn a_thread_is_a_worker_of_the_runtime_that_it_drives_until_it_leaves_it() {
    alone("a_thread_is_a_worker_of_the_runtime_that_it_drives_until_it_leaves_it", || {
        let recorder = start();
        let runtimes = [current_thread(), current_thread()];
        let pause = Duration::from_millis(3);
        for _ in 0..3 {
            for (name, runtime) in ["first", "second"].into_iter().zip(&runtimes) {
                let sleeps = async { tokio::time::sleep(pause).await };
                lookback::block_on(runtime, sleeps.recorded(name));
                lookback::event!("outside");
            }
        }
        // Tokio's own does not say when it returns, but nothing contradicts it.
        for runtime in runtimes.iter().chain(&runtimes) {
            runtime.block_on(async { tokio::time::sleep(pause).await });
        }
        let trace = common::stop(recorder);
        let mut seen: HashMap<String, std::collections::HashSet<u64>> = HashMap::new();
        for event in common::events(&trace) {
            let runtime = event.worker().map(|worker| worker.runtime);
            if event.name() == "outside" {
                assert_eq!(runtime, None, "the thread has left the runtime");
            }
            if let EventKind::TaskPoll { .. } | EventKind::TaskPending { .. } = event.kind() {
                seen.entry(event.name().to_owned()).or_default().extend(runtime);
            }
        }
        let (first, second) = (&seen["first"], &seen["second"]);
        assert!(first.len() == 1 && second.len() == 1 && first != second, "{seen:?}");
    });
}

/// A closure that runs where blocking is allowed is marked as such.
#[test]
fn a_closure_that_may_block_is_told_apart() {
    alone("a_closure_that_may_block_is_told_apart", || {
        let recorder = start();
        lookback::block_on(&current_thread(), async {
            lookback::spawn_blocking(|| spin(Duration::from_millis(1))).await.unwrap();
            lookback::spawn(async {}).await.unwrap();
        });
        let trace = common::stop(recorder);
        let mut blocking = Vec::new();
        for event in common::events(&trace) {
            if let EventKind::TaskCreate { site, .. } = event.kind() {
                assert!(!site.name.contains("{{"), "{}", site.name);
                blocking.push(site.blocking);
            }
        }
        assert_eq!(blocking, [false, true, false], "the root, the closure, the task");
    });
}

/// Tokio's own `block_on` does not say when it returns: then it is unknown whether the worker was at work;
/// but each poll belongs to its own runtime, or to none that is known.
#[test]
fn where_the_end_of_block_on_is_not_told_nothing_is_guessed() {
    alone("where_the_end_of_block_on_is_not_told_nothing_is_guessed", || {
        let recorder = start();
        let runtimes = [current_thread(), current_thread()];
        let (pause, turns) = (Duration::from_millis(30), 4);
        let mut slept = Duration::ZERO;
        for _ in 0..turns {
            for (name, runtime) in ["first", "second"].into_iter().zip(&runtimes) {
                let work = async {
                    // Polled before and after the runtime's first sleep.
                    tokio::task::yield_now().await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                };
                runtime.block_on(async { lookback::spawn(work.recorded(name)).await.unwrap() });
                let began = Instant::now();
                std::thread::sleep(pause);
                slept += began.elapsed();
            }
        }
        common::advance(&recorder);
        let trace = common::stop(recorder);
        common::assert_sound(&trace);
        let mut seen: HashMap<String, std::collections::HashSet<u64>> = HashMap::new();
        let mut unknown = 0;
        for event in common::events(&trace) {
            if let EventKind::TaskPoll { .. } = event.kind() {
                let runtime = event.worker().map(|worker| worker.runtime);
                unknown += u32::from(runtime.is_none());
                seen.entry(event.name().to_owned()).or_default().extend(runtime);
            }
        }
        let (first, second) = (&seen["first"], &seen["second"]);
        assert!(first.len() == 1 && second.len() == 1 && first != second, "{seen:?}");
        assert!(unknown > 0, "which runtime it is, is told when it sleeps");
        let report = lookback::read::analysis::Report::of(&trace);
        let workers = &report.workers.table.workers;
        assert_eq!(workers.len(), 2, "{workers:?}");
        let outside: u64 = workers.iter().map(|worker| worker.outside.0).sum();
        let unknown: u64 = workers.iter().map(|worker| worker.unknown.0).sum();
        assert_eq!(outside, 0, "{workers:?}");
        // From the last sleep of the one to the first of the other.
        assert!(unknown >= slept.as_nanos() as u64 / 2, "{unknown} of {slept:?}: {workers:?}");
        assert!(report.workers.findings.is_empty(), "{:?}", report.workers.findings);
    });
}
