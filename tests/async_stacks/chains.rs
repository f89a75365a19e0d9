//! What is told of where tasks wait, and what is not: where they waited before, where nothing is known, turned off, for
//! futures that move, and for very many tasks.

use crate::common::chains::{self, Chain};
use crate::common::seccomp::forbid;
use crate::common::{self, wait_for};
use crate::{LINES, LONG, once, runtime, spawn, start, waits};
use lookback::{RecordExt, Recorder};
use std::backtrace::Backtrace;
use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{self, mpsc, oneshot};

const FILE: &str = "tests/async_stacks/chains.rs";

async fn sleeps() {
    waits!("sleep", tokio::time::sleep(LONG).await);
}

/// Goes through a queue for as long as there is no answer: waits for the next, and still for the answer.
async fn select_loop(mut from: mpsc::Receiver<u32>, answer: oneshot::Receiver<u32>) {
    tokio::pin!(answer);
    loop {
        let receives = async { waits!("select! in a loop", from.recv().await) };
        tokio::select! { _ = &mut answer => break, _ = receives => {} }
    }
}

#[test]
fn what_is_not_registered_again_is_said_to_be_of_an_earlier_poll() {
    common::alone("chains::what_is_not_registered_again_is_said_to_be_of_an_earlier_poll", || {
        let recorder = start();
        let runtime = runtime();
        let ((tx, rx), (_tell, answer)) = (mpsc::channel(1), oneshot::channel());
        runtime.spawn(select_loop(rx, answer).recorded("select! in a loop"));
        once(&recorder, FILE, 1);
        runtime.block_on(tx.send(7)).unwrap();
        let is_done = |chains: &[Chain]| {
            let line = LINES.lock().unwrap().first().map(|(_, line)| *line);
            let [last, earlier] = chains else { return false };
            last.line() == line && !last.is_earlier && earlier.is_earlier
        };
        let mut found = BTreeMap::new();
        let is_told = wait_for(|| {
            lookback::log!("test", "so that there is something to complete");
            common::advance(&recorder);
            found = chains::now(&recorder.snapshot().expect("a snapshot"), FILE);
            found.get("select! in a loop").is_some_and(|tasks| is_done(&tasks[0]))
        });
        assert!(is_told, "{found:#?}");
        runtime.shutdown_background();
        common::stop(recorder);
    });
}

async fn waits_twice(first: Arc<sync::Notify>) {
    waits!("first", first.notified().await);
    waits!("second", tokio::time::sleep(LONG).await);
}

#[test]
fn where_it_is_not_known_where_a_task_waits_its_earlier_wait_is_not_shown() {
    common::alone(
        "chains::where_it_is_not_known_where_a_task_waits_its_earlier_wait_is_not_shown",
        || {
            let recorder = start();
            let (tell, told) = oneshot::channel::<()>();
            let (waits, is_waiting) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let [goes_on, stays] = [(); 2].map(|()| Arc::new(sync::Notify::new()));
                    spawn("goes on", waits_twice(Arc::clone(&goes_on)));
                    spawn("stays", waits_twice(Arc::clone(&stays)));
                    told.await.unwrap();
                    // No walk of this thread reads a stack from now on.
                    assert!(forbid(&[libc::SYS_pread64], false, 0));
                    goes_on.notify_one();
                    while LINES.lock().unwrap().iter().all(|(task, _)| *task != "second") {
                        tokio::task::yield_now().await;
                    }
                    waits.send(()).unwrap();
                    std::future::pending::<()>().await;
                });
            });
            once(&recorder, FILE, 2);
            tell.send(()).unwrap();
            is_waiting.recv().unwrap();
            common::advance(&recorder);
            let found = chains::now(&recorder.snapshot().expect("a snapshot"), FILE);
            assert_eq!(found.keys().collect::<Vec<_>>(), ["stays"], "{found:#?}");
            common::stop(recorder);
        },
    );
}

#[test]
fn turned_off_nothing_is_recorded_of_where_tasks_wait() {
    common::alone("chains::turned_off_nothing_is_recorded_of_where_tasks_wait", || {
        let builder = || Recorder::builder().max_bytes(4 << 20);
        for builder in [builder().stacks(false), builder().async_stacks(false)] {
            let recorder = builder.start().unwrap();
            let runtime = runtime();
            runtime.spawn(sleeps().recorded("sleep"));
            assert!(wait_for(|| !LINES.lock().unwrap().is_empty()));
            LINES.lock().unwrap().clear();
            common::advance(&recorder);
            let trace = common::read(&recorder.snapshot().unwrap());
            for info in trace.generations() {
                assert_eq!(trace.generation(info.number).unwrap().waiting().count(), 0);
            }
            let said = trace.metadata().number(lookback::read::wire::key::ASYNC_STACKS);
            assert_eq!(said, Some(0));
            runtime.shutdown_background();
            common::stop(recorder);
        }
    });
}

/// Registers the waker, and says where that was, as the standard library sees it.
struct Registers<'a> {
    waker: Option<Waker>,
    said: &'a Mutex<String>,
}

impl Future for Registers<'_> {
    type Output = ();

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (waker, said) = (cx.waker().clone(), Backtrace::force_capture());
        self.waker = Some(waker);
        *self.said.lock().unwrap() = said.to_string();
        Poll::Pending
    }
}

/// The lines of this file in a backtrace, from the innermost on, up to that of a function.
fn lines_of(backtrace: &str, last: &str) -> Vec<u32> {
    let (mut function, mut found) = ("", Vec::new());
    for line in backtrace.lines().map(str::trim) {
        let Some(place) = line.strip_prefix("at ") else {
            function = line;
            continue;
        };
        let mut parts = place.rsplitn(3, ':');
        let (_, line, file) = (parts.next(), parts.next(), parts.next());
        if file.is_some_and(|file| file.ends_with(FILE)) {
            if function.contains(last) {
                break;
            }
            found.extend(line.and_then(|line| line.parse::<u32>().ok()));
        }
    }
    found
}

fn deep(depth: u32, said: &Mutex<String>) -> Pin<Box<dyn Future<Output = ()> + '_>> {
    Box::pin(async move {
        match depth {
            0 => Registers { waker: None, said }.await,
            _ if depth.is_multiple_of(2) => deep(depth - 1, said).await,
            _ => {
                deep(depth - 1, said).await;
            }
        }
    })
}

/// Polls by hand.
#[inline(never)]
fn polls_by_hand(task: Pin<&mut impl Future<Output = ()>>) {
    assert!(task.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "optimised code of two places may be one, with one line"
)]
fn a_chain_is_what_a_backtrace_of_that_moment_is() {
    common::alone("chains::a_chain_is_what_a_backtrace_of_that_moment_is", || {
        let recorder = start();
        let said: Vec<_> = (0..12).map(|_| Mutex::new(String::new())).collect();
        let mut tasks: Vec<_> = (0..)
            .zip(&said)
            .map(|(depth, said)| Box::pin(deep(depth, said).recorded("deep")))
            .collect();
        // The first time each chain is walked, and then it is found again.
        for _ in 0..3 {
            for task in &mut tasks {
                polls_by_hand(task.as_mut());
            }
            common::advance(&recorder);
            let found = chains::now(&recorder.snapshot().unwrap(), FILE);
            let mut chains: Vec<Vec<u32>> = found["deep"]
                .iter()
                .map(|chains| {
                    let [chain] = &chains[..] else { panic!("{chains:#?}") };
                    assert!(!chain.is_earlier);
                    chain.own.iter().map(|(_, line)| *line).collect()
                })
                .collect();
            let mut wanted: Vec<_> =
                said.iter().map(|said| lines_of(&said.lock().unwrap(), "polls_by_hand")).collect();
            assert!(wanted.iter().enumerate().all(|(depth, of)| of.len() >= depth), "{wanted:?}");
            chains.sort();
            wanted.sort();
            assert_eq!(chains, wanted);
        }
        drop(tasks);
        common::stop(recorder);
    });
}

/// Registers the waker that it was given for good.
struct Keeps<'a>(&'a Mutex<Vec<Waker>>);

impl Future for Keeps<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    }
}

async fn first_then_second(kept: &Mutex<Vec<Waker>>, is_second: &AtomicBool) {
    let mut first = pin!(Keeps(kept));
    std::future::poll_fn(|cx| match is_second.load(Ordering::Relaxed) {
        true => Poll::Ready(()),
        false => first.as_mut().poll(cx),
    })
    .await;
    waits!("moves", Keeps(kept).await);
}

#[test]
fn a_waker_that_is_cloned_elsewhere_says_nothing_and_a_task_may_move() {
    common::alone(
        "chains::a_waker_that_is_cloned_elsewhere_says_nothing_and_a_task_may_move",
        || {
            let recorder = start();
            let (kept, is_second) = (Mutex::new(Vec::new()), AtomicBool::new(false));
            let mut task = Box::pin(first_then_second(&kept, &is_second).recorded("moves"));
            std::thread::scope(|scope| {
                scope.spawn(|| polls_by_hand(task.as_mut()));
            });
            is_second.store(true, Ordering::Relaxed);
            kept.lock().unwrap().clear();
            std::thread::scope(|scope| {
                scope.spawn(|| polls_by_hand(task.as_mut()));
            });
            // Outside of the poll, on this thread and on others, and inside of the poll of another task.
            let clones = |many: usize| {
                let waker = kept.lock().unwrap()[0].clone();
                (0..many).map(|_| waker.clone()).collect::<Vec<_>>()
            };
            let here = clones(3);
            let there = std::thread::scope(|scope| scope.spawn(|| clones(3)).join().unwrap());
            let mut other = Box::pin(
                async {
                    let _clones = clones(3);
                    std::future::pending::<()>().await;
                }
                .recorded("other"),
            );
            polls_by_hand(other.as_mut());
            common::advance(&recorder);
            let found = chains::now(&recorder.snapshot().unwrap(), FILE);
            let line = LINES.lock().unwrap()[0].1;
            assert!(!found.contains_key("other"), "it has not registered: {found:#?}");
            let [chains] = &found["moves"][..] else { panic!("{found:#?}") };
            // The innermost of its functions is the future that keeps the waker.
            assert_eq!((chains[0].own[1].1, chains[0].is_earlier), (line, false), "{chains:#?}");
            // With so many clones the first place may be in force, too, for all that can be told.
            assert!(chains[1..].iter().all(|chain| chain.is_earlier), "{chains:#?}");
            drop((here, there, task, other));
            kept.lock().unwrap().clear();
            common::stop(recorder);
        },
    );
}

#[test]
fn a_task_that_polls_another_waits_at_that_one() {
    common::alone("chains::a_task_that_polls_another_waits_at_that_one", || {
        let recorder = start();
        let inner = async { waits!("inner", tokio::time::sleep(LONG).await) };
        let outer = async move { waits!("outer", inner.recorded("inner").await) };
        let runtime = runtime();
        runtime.spawn(outer.recorded("outer"));
        let found = once(&recorder, FILE, 2);
        for (task, chains) in &found {
            let lines = LINES.lock().unwrap().clone();
            let line = lines.iter().find(|(name, _)| name == task).map(|(_, line)| *line);
            let [chain] = &chains[0][..] else { panic!("{found:#?}") };
            assert_eq!(chain.line(), line, "{task}: {found:#?}");
        }
        runtime.shutdown_background();
        common::stop(recorder);
    });
}

#[test]
fn of_100_000_tasks_each_takes_few_bytes_in_a_generation_and_is_found_in_the_report() {
    let name =
        "chains::of_100_000_tasks_each_takes_few_bytes_in_a_generation_and_is_found_in_the_report";
    common::alone(name, || {
        const TASKS: usize = 100_000;
        let recorder = Recorder::builder()
            .max_bytes(64 << 20)
            .window(Duration::from_secs(3600))
            .generation_period(Duration::from_secs(3600))
            .start()
            .unwrap();
        assert!(wait_for(|| recorder.stats().unwind_tables.modules > 0));
        let kept = Mutex::new(Vec::new());
        let keeps = |at: usize| {
            let kept = &kept;
            async move {
                match at % 4 {
                    0 => Keeps(kept).await,
                    1 => Keeps(kept).await,
                    2 => Keeps(kept).await,
                    _ => Keeps(kept).await,
                }
            }
        };
        let mut tasks: Vec<_> =
            (0..TASKS).map(|at| Box::pin(keeps(at).recorded("waits"))).collect();
        for task in &mut tasks {
            polls_by_hand(task.as_mut());
        }
        common::advance(&recorder);
        let listed = |words: &str| {
            lookback::log!("test", "{}", words);
            common::advance(&recorder);
            let trace = common::read(&recorder.snapshot().unwrap());
            common::assert_sound(&trace);
            let last = trace.generations().iter().rev().find(|info| info.complete).unwrap().clone();
            let generation = trace.generation(last.number).unwrap();
            assert_eq!(generation.waiting().count(), TASKS);
            let sets: HashSet<_> = generation.waiting().map(|task| task.set).collect();
            assert_eq!(sets.len(), 4);
            assert_eq!(last.omitted, 0);
            (last.bytes, trace)
        };
        let (bytes, trace) = listed("nothing else happens");
        // Two bytes are its status, and two where it waits.
        assert!(bytes < 4 * TASKS as u64 + 4096, "{bytes}");
        let report = lookback::read::analysis::Report::of(&trace);
        assert!(!report.stuck.table.longest.is_empty());
        for idle in &report.stuck.table.longest {
            let [place] = &report.waiting[&idle.task.task].places[..] else { panic!("{idle:?}") };
            assert!(!place.stack.is_empty() && !place.is_earlier);
        }
        // The words of tasks that are gone are returned with their places.
        kept.lock().unwrap().clear();
        tasks.truncate(10);
        for _ in 0..4 {
            lookback::log!("test", "on it goes");
            common::advance(&recorder);
        }
        let trace = common::read(&recorder.snapshot().unwrap());
        let last = trace.generations().iter().rev().find(|info| info.complete).unwrap();
        assert_eq!(trace.generation(last.number).unwrap().waiting().count(), 10);
        common::stop(recorder);
    });
}
