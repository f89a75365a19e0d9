//! Programs that know where their time goes, as they measure it themselves while they run.

use lookback::sync::{Arc, Mutex, RwLock};
use lookback::tokio::sync as tasks;
use lookback::{RecordExt, Recorder};
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tracing::{Instrument, info_span};

const GENERATION: Duration = Duration::from_millis(110);
const LONG: Duration = Duration::from_millis(400);
const SHORT: Duration = Duration::from_millis(150);

/// It has spent this time with that.
fn truth(state: &str, time: Duration) {
    println!("\ntruth {state} {}", time.as_nanos());
    std::io::stdout().flush().unwrap();
}

/// Measures.
fn timed<T>(state: &str, body: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = body();
    truth(state, began.elapsed());
    done
}

async fn awaited<T>(state: &str, future: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = future.await;
    truth(state, began.elapsed());
    done
}

/// Computes for so long, by the thread's own clock.
fn compute(time: Duration) -> Duration {
    let began = cpu_time();
    while cpu_time() - began < time {
        std::hint::black_box((0..1000).fold(0_u64, |sum, next| sum.wrapping_mul(31) ^ next));
    }
    cpu_time() - began
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}

fn runtime(workers: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all();
    assert!(lookback::tokio::instrument(&mut builder).is_whole());
    builder.build().unwrap()
}

/// Runs it in a task and in the span `work`, and measures both together.
fn in_a_task<F>(runtime: &Runtime, body: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let work = async {
        let began = Instant::now();
        body.instrument(info_span!("work")).await;
        truth("whole", began.elapsed());
    };
    let task = runtime.spawn(work.recorded("worker_of_it"));
    runtime.block_on(task).unwrap();
}

/// Does what this kind says, and saves a snapshot.
pub fn run(kind: &str, directory: &Path) {
    let recorder = Recorder::builder()
        .name("why")
        .max_bytes(4 << 20)
        .generation_period(GENERATION)
        .snapshot_dir(directory)
        .start()
        .unwrap();
    tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
    while recorder.stats().unwind_tables.modules == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let runtime = runtime(if kind.starts_with("one worker") { 1 } else { 2 });
    warm(&runtime);
    program(kind, &runtime);
    // The kernel's counts of the last polls are read when a generation ends.
    if !kind.ends_with("to the end") {
        warm(&runtime);
    }
    recorder.save("asked").unwrap();
    println!("\nsaved");
    std::io::stdout().flush().unwrap();
    std::process::exit(0);
}

/// The kernel's counts of a thread are known from their second reading on, so each worker records something in a few
/// generations.
fn warm(runtime: &Runtime) {
    for _ in 0..4 {
        let all: Vec<_> = (0..4)
            .map(|_| {
                let work = async { thread::sleep(Duration::from_millis(1)) };
                lookback::spawn_on(runtime.handle(), work)
            })
            .collect();
        all.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        lookback::event!("warm");
        thread::sleep(GENERATION);
    }
}

fn program(kind: &str, on: &Runtime) {
    match kind {
        "a timer" => in_a_task(on, async { awaited("wake", sleep(LONG)).await }),
        "several timers" => in_a_task(on, async {
            for _ in 0..8 {
                awaited("wake", sleep(LONG / 8)).await;
            }
        }),
        "it computes" => in_a_task(on, async { truth("running", compute(LONG)) }),
        "it computes in many polls" => in_a_task(on, async {
            for _ in 0..100 {
                truth("running", compute(LONG / 100));
                awaited("wake", sleep(Duration::from_millis(1))).await;
            }
        }),
        "it blocks in a poll" => in_a_task(on, async { timed("blocked", || thread::sleep(LONG)) }),
        "it computes and waits" => in_a_task(on, async {
            truth("running", compute(LONG));
            awaited("wake", sleep(LONG)).await;
        }),
        "it blocks and waits" => in_a_task(on, async {
            timed("blocked", || thread::sleep(SHORT));
            awaited("wake", sleep(LONG)).await;
        }),
        "a lock of threads" => {
            let lock = Arc::new(Mutex::new(0));
            held_for(&lock, LONG);
            in_a_task(on, async move { timed("lock", || drop(lock.lock().unwrap())) });
        }
        "a lock of threads, and then it computes" => {
            let lock = Arc::new(Mutex::new(0));
            held_for(&lock, LONG);
            in_a_task(on, async move {
                timed("lock", || drop(lock.lock().unwrap()));
                truth("running", compute(LONG));
            });
        }
        "a lock of threads, to write" => {
            let lock = Arc::new(RwLock::new(0));
            let theirs = Arc::clone(&lock);
            let (taken, is_taken) = std::sync::mpsc::channel();
            thread::spawn(move || {
                let _held = theirs.read().unwrap();
                taken.send(()).unwrap();
                thread::sleep(LONG);
            });
            is_taken.recv().unwrap();
            in_a_task(on, async move { timed("lock", || drop(lock.write().unwrap())) });
        }
        "a lock of threads, in a thread alone" => {
            let lock = Arc::new(Mutex::new(0));
            held_for(&lock, LONG);
            in_a_thread(move || timed("lock", || drop(lock.lock().unwrap())));
        }
        "a thread alone blocks" => in_a_thread(|| timed("blocked", || thread::sleep(LONG))),
        "a thread alone computes" => {
            in_a_thread(|| timed("running+core+polled", || assert!(compute(LONG) >= LONG)))
        }
        "a mutex of tasks" => {
            let lock = Arc::new(tasks::Mutex::new(0));
            keep(on, Arc::clone(&lock));
            in_a_task(on, async move { drop(awaited("lock", lock.lock()).await) });
        }
        "a lock of tasks, to write" => {
            let lock: &'static _ = Box::leak(Box::new(tasks::RwLock::new(0)));
            let (taken, is_taken) = oneshot::channel();
            let keeper = async move {
                let _held = lock.read().await;
                taken.send(()).unwrap();
                sleep(LONG).await;
            };
            on.spawn(keeper.recorded("keeper"));
            on.block_on(is_taken).unwrap();
            in_a_task(on, async move { drop(awaited("lock", lock.write()).await) });
        }
        "a semaphore" => {
            let permits: &'static _ = Box::leak(Box::new(tasks::Semaphore::new(2)));
            let (taken, is_taken) = oneshot::channel();
            let keeper = async move {
                let _held = permits.acquire_many(2).await.unwrap();
                taken.send(()).unwrap();
                sleep(LONG).await;
            };
            on.spawn(keeper.recorded("keeper"));
            on.block_on(is_taken).unwrap();
            in_a_task(on, async move { drop(awaited("lock", permits.acquire()).await.unwrap()) });
        }
        "many spans that need a permit" => {
            let permits: &'static _ = Box::leak(Box::new(tasks::Semaphore::new(1)));
            let quick = async move {
                for _ in 0..40 {
                    let work = async { drop(permits.acquire().await.unwrap()) };
                    work.instrument(info_span!("work")).await;
                }
            };
            on.block_on(on.spawn(quick.recorded("quick"))).unwrap();
            let (taken, is_taken) = oneshot::channel();
            let keeper = async move {
                let _held = permits.acquire().await.unwrap();
                taken.send(()).unwrap();
                sleep(LONG).await;
            };
            on.spawn(keeper.recorded("keeper"));
            on.block_on(is_taken).unwrap();
            in_a_task(on, async move { drop(awaited("lock", permits.acquire()).await.unwrap()) });
        }
        "a lock that is given up" => {
            let lock = Arc::new(tasks::Mutex::new(0));
            keep(on, Arc::clone(&lock));
            in_a_task(on, async move {
                let wait = tokio::time::timeout(SHORT, lock.lock());
                assert!(awaited("lock", wait).await.is_err());
                awaited("wake", sleep(LONG)).await;
            });
        }
        "a chain of locks" => {
            let (first, second): (&'static _, &'static _) = (
                Box::leak(Box::new(tasks::Mutex::new(1))),
                Box::leak(Box::new(tasks::Mutex::new(2))),
            );
            let (taken, is_taken) = oneshot::channel();
            let last = async move {
                let _held = second.lock().await;
                taken.send(()).unwrap();
                sleep(LONG).await;
            };
            on.spawn(last.recorded("last"));
            on.block_on(is_taken).unwrap();
            let (taken, is_taken) = oneshot::channel();
            let middle = async move {
                let _held = first.lock().await;
                taken.send(()).unwrap();
                drop(second.lock().await);
            };
            on.spawn(middle.recorded("middle"));
            on.block_on(is_taken).unwrap();
            in_a_task(on, async move { drop(awaited("lock", first.lock()).await) });
        }
        "it joins a task that computes" => in_a_task(on, async {
            let other = async { truth("task/running", compute(LONG)) };
            awaited("task", tokio::spawn(other.recorded("other"))).await.unwrap();
        }),
        "it joins a task that waits" => in_a_task(on, async {
            let other = async { awaited("task/wake", sleep(LONG)).await };
            awaited("task", tokio::spawn(other.recorded("other"))).await.unwrap();
        }),
        "it joins a task that blocks" => in_a_task(on, async {
            let other = async { timed("task/blocked", || thread::sleep(LONG)) };
            awaited("task", tokio::spawn(other.recorded("other"))).await.unwrap();
        }),
        "a message of a task" => {
            let (sender, mut messages) = mpsc::channel(1);
            let other = async move {
                awaited("task/wake", sleep(LONG)).await;
                sender.send(7).await.unwrap();
                sleep(LONG).await;
            };
            in_a_task(on, async move {
                tokio::spawn(other.recorded("other"));
                awaited("task", messages.recv()).await.unwrap();
            });
        }
        "an answer of a task that computes" => in_a_task(on, async {
            let (answer, question) = oneshot::channel();
            let other = async move {
                truth("task/running", compute(LONG));
                answer.send(7).unwrap();
            };
            tokio::spawn(other.recorded("other"));
            awaited("task", question).await.unwrap();
        }),
        "a message of a thread" => {
            let (answer, question) = oneshot::channel();
            let sends = move || {
                thread::sleep(LONG);
                lookback::event!("answers");
                answer.send(7).unwrap();
            };
            let sends = thread::Builder::new().name("answerer".to_owned()).spawn(sends).unwrap();
            in_a_task(on, async move { assert_eq!(awaited("wake", question).await, Ok(7)) });
            sends.join().unwrap();
        }
        "a socket" => in_a_task(on, async {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            thread::spawn(move || {
                let (mut there, _) = listener.accept().unwrap();
                thread::sleep(LONG);
                there.write_all(b"7").unwrap();
            });
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            awaited("wake", stream.read_u8()).await.unwrap();
            stream.shutdown().await.unwrap();
        }),
        "a reason" => in_a_task(on, async {
            awaited("wake", sleep(LONG).waiting_for("database")).await;
        }),
        "blocking work" => in_a_task(on, async {
            let work = || timed("task/blocked+polled", || thread::sleep(LONG));
            awaited("task", lookback::spawn_blocking(work)).await.unwrap();
        }),
        "one worker that another task blocks" => {
            let (woken, is_woken) = oneshot::channel();
            in_a_task(on, async move {
                let other = async move {
                    sleep(SHORT).await;
                    woken.send(Instant::now()).unwrap();
                    thread::sleep(LONG);
                };
                tokio::spawn(other.recorded("other"));
                let began = Instant::now();
                let at: Instant = is_woken.await.unwrap();
                truth("ready", at.elapsed());
                truth("task", at - began);
            });
        }
        "one worker that is late for a timer" => in_a_task(on, async {
            let other = async { thread::sleep(LONG) };
            tokio::spawn(other.recorded("other"));
            awaited("wake", sleep(SHORT)).await;
        }),
        "nested spans" => in_a_task(on, async {
            sleep(SHORT).await;
            let began = Instant::now();
            let inner = async { awaited("wake", sleep(LONG)).await };
            inner.instrument(info_span!("inner")).await;
            truth("inner", began.elapsed());
        }),
        "several tasks in a span" => {
            let span = info_span!("work");
            let began = Instant::now();
            let first = async { sleep(SHORT).await };
            let first = lookback::spawn_on(on.handle(), first.instrument(span.clone()));
            on.block_on(first).unwrap();
            let second = async { sleep(LONG).await };
            let second = lookback::spawn_on(on.handle(), second.instrument(span));
            on.block_on(second).unwrap();
            truth("whole", began.elapsed());
        }
        "cancelled" => {
            let began = Instant::now();
            let work = std::future::pending::<()>().instrument(info_span!("work"));
            let task = lookback::spawn_on(on.handle(), work);
            thread::sleep(LONG);
            task.abort();
            assert!(on.block_on(task).is_err());
            truth("whole", began.elapsed());
            truth("not_woken", began.elapsed());
        }
        "cancelled while it waits for a lock" => {
            let lock = Arc::new(tasks::Mutex::new(0));
            let guard = on.block_on(Arc::clone(&lock).lock_owned());
            let began = Instant::now();
            let work = async move { drop(lock.lock().await) }.instrument(info_span!("work"));
            let task = lookback::spawn_on(on.handle(), work);
            thread::sleep(LONG);
            task.abort();
            assert!(on.block_on(task).is_err());
            truth("lock", began.elapsed());
            truth("whole", began.elapsed());
            drop(guard);
        }
        "many locks" => in_a_task(on, async {
            let locks: Vec<_> = (0..40).map(|_| Arc::new(tasks::Mutex::new(0))).collect();
            for lock in &locks {
                let guard = Arc::clone(lock).lock_owned().await;
                lookback::spawn(async move {
                    sleep(LONG / 40).await;
                    drop(guard);
                });
                // Forty times it is ready some time before it is polled, and its poll takes some.
                awaited("lock+ready+polled+running", async { drop(lock.lock().await) }).await;
            }
        }),
        "it waits to the end" => {
            let work = std::future::pending::<()>().instrument(info_span!("work"));
            lookback::spawn_on(on.handle(), work);
            timed("not_woken", || thread::sleep(LONG));
        }
        _ => panic!("no program does that: {kind}"),
    }
}

/// The span `work` on a thread that polls no task.
fn in_a_thread(body: impl FnOnce() + Send + 'static) {
    let work = move || {
        for _ in 0..4 {
            lookback::event!("warm");
            thread::sleep(GENERATION);
        }
        let began = Instant::now();
        info_span!("work").in_scope(body);
        truth("whole", began.elapsed());
        for _ in 0..4 {
            lookback::event!("warm");
            thread::sleep(GENERATION);
        }
    };
    thread::Builder::new().name("alone".to_owned()).spawn(work).unwrap().join().unwrap();
}

/// A thread holds the lock for so long. In a thread alone, that begins to wait later, it is held longer.
fn held_for(lock: &Arc<Mutex<i32>>, time: Duration) {
    let lock = Arc::clone(lock);
    let (taken, is_taken) = std::sync::mpsc::channel();
    let holds = move || {
        lookback::event!("holds");
        let _held = lock.lock().unwrap();
        taken.send(()).unwrap();
        thread::sleep(time + GENERATION * 4);
    };
    thread::Builder::new().name("holder".to_owned()).spawn(holds).unwrap();
    is_taken.recv().unwrap();
}

/// A task has the mutex while it waits.
fn keep(on: &Runtime, lock: Arc<tasks::Mutex<i32>>) {
    let (taken, is_taken) = oneshot::channel();
    let keeper = async move {
        let _held = lock.lock().await;
        taken.send(()).unwrap();
        sleep(LONG).await;
    };
    on.spawn(keeper.recorded("keeper"));
    on.block_on(is_taken).unwrap();
}
