//! Programs whose threads and tasks wait for locks, each with a fault or nearly with one. Each says at which of its lines.

use lookback::Recorder;
use lookback::sync::{Arc, Barrier, Mutex, RwLock};
use lookback::tokio::sync::{self, Semaphore};
use std::future::poll_fn;
use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

/// Something stands at this line.
fn at(what: &str, line: u32) {
    println!("\nat {what}={line}");
    std::io::stdout().flush().unwrap();
}

/// Does what this kind says. Saves a snapshot when that is over, which of some it never is.
pub fn run(kind: &str, directory: &Path) {
    let is_silent = kind.ends_with(", silent");
    let recorder = Recorder::builder()
        .name("locks")
        .max_bytes(4 << 20)
        .generation_period(Duration::from_millis(250))
        .black_box(directory.join("black.box"))
        .snapshot_dir(directory)
        .stacks(!is_silent)
        .start()
        .unwrap();
    while !is_silent && recorder.stats().unwind_tables.modules == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    match kind.trim_end_matches(", silent") {
        "a convoy" => convoy(4),
        "two that wait for each other now and then" => convoy(2),
        "a convoy of tasks on two workers" => convoy_of_tasks(),
        "a mutex held across an await" => across_await(true),
        "a mutex released before an await" => across_await(false),
        "a mutex that its own thread waits for" => own_thread(),
        "two threads" => two_threads(false),
        "two threads in the same order" => two_threads(true),
        "a reader and a writer" => reader_and_writer(),
        "two tasks" => two_tasks(false),
        "two tasks in the same order" => two_tasks(true),
        "a task and a thread" => task_and_thread(),
        "a semaphore" => semaphore(),
        "a mutex that is handed on, and then waited for" => handed_on(true),
        "a mutex that is waited for, and then handed on" => handed_on(false),
        "a wait of a task that is not recorded" => unrecorded_wait(),
        "a task that waits for another" => poll_that_waits(true),
        "a task that waits for a thread" => poll_that_waits(false),
        "a forgotten permit" => forgotten_permit(),
        "permits that came back, and are too few" => too_few_permits(false),
        "permits that the semaphore has no more" => too_few_permits(true),
        _ => panic!("no program does that: {kind}"),
    }
    println!("\nready {}", std::process::id());
    std::io::stdout().flush().unwrap();
    recorder.save("asked").unwrap();
    loop {
        thread::sleep(Duration::from_millis(200));
        if !is_silent {
            // Something goes on, as in a service.
            lookback::event!("heartbeat");
        }
    }
}

fn runtime(threads: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).enable_all();
    assert!(lookback::tokio::instrument(&mut builder).is_whole());
    builder.build().unwrap()
}

/// Starts a thread.
fn start(name: &str, body: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(body).unwrap()
}

/// Threads that each want a lock most of the time.
fn convoy(threads: usize) {
    at("asked", line!() + 7);
    let table = Arc::new(Mutex::new(0_u64));
    let all: Vec<_> = (0..threads)
        .map(|number| {
            let table = Arc::clone(&table);
            let body = move || {
                (0..40).for_each(|_| {
                    let mut rows = table.lock().unwrap();
                    *rows += 1;
                    thread::sleep(Duration::from_millis(3));
                    drop(rows);
                })
            };
            start(&format!("clerk-{number}"), body)
        })
        .collect();
    all.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Six tasks block the two workers of their runtime for a mutex of threads, in turns.
fn convoy_of_tasks() {
    at("asked", line!() + 7);
    let table = Arc::new(Mutex::new(0_u64));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let work = |table: Arc<Mutex<u64>>| async move {
        for _ in 0..40 {
            {
                let mut rows = table.lock().unwrap();
                *rows += 1;
                thread::sleep(Duration::from_millis(3));
            }
            tokio::task::yield_now().await;
        }
    };
    let spawn = |_| lookback::spawn_on(runtime.handle(), work(Arc::clone(&table)));
    let all: Vec<_> = (0..6).map(spawn).collect();
    runtime.block_on(async {
        for task in all {
            task.await.unwrap();
        }
    });
}

/// A task that does not let go of a mutex while it sleeps, or does.
fn across_await(is_held: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mutex: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(0)));
    LocalSet::new().block_on(&runtime, async {
        at("held", line!() + 2);
        let keeper = lookback::spawn_local(async move {
            let mut guard = mutex.lock().unwrap();
            *guard += 1;
            if is_held {
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(guard);
            } else {
                drop(guard);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        keeper.await.unwrap();
    });
}

/// The same, and another task on the thread wants it.
fn own_thread() {
    start("lonely", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mutex: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(0)));
        LocalSet::new().block_on(&runtime, async {
            at("held", line!() + 2);
            let keeper = lookback::spawn_local(async move {
                let _guard = mutex.lock().unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            });
            at("waits", line!() + 2);
            let other = lookback::spawn_local(async move {
                *mutex.lock().unwrap() += 1;
            });
            let _ = (keeper.await, other.await);
        });
    });
    thread::sleep(Duration::from_millis(500));
}

/// Two accounts and two transfers, in different orders or in the same one.
fn two_threads(is_ordered: bool) {
    let accounts = Arc::new((Mutex::new(1), Mutex::new(2)));
    let (there, other) = (Arc::clone(&accounts), Arc::new(Barrier::new(2)));
    let both = Arc::clone(&other);
    at("forth holds", line!() + 2);
    start("forth", move || {
        let _from = there.0.lock().unwrap();
        both.wait();
        at("forth waits", line!() + 1);
        let _to = there.1.lock().unwrap();
        hold_if(is_ordered);
    });
    let back = start("back", move || {
        if is_ordered {
            other.wait();
            let _from = accounts.0.lock().unwrap();
            let _to = accounts.1.lock().unwrap();
            return;
        }
        at("back holds", line!() + 1);
        let _to = accounts.1.lock().unwrap();
        other.wait();
        at("back waits", line!() + 1);
        let _from = accounts.0.lock().unwrap();
    });
    thread::sleep(Duration::from_millis(500));
    drop(back);
}

/// Keeps what the caller holds for as long as the program runs.
fn hold_if(is_ordered: bool) {
    if is_ordered {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// One reads what the other wants to write, and waits for what that holds.
fn reader_and_writer() {
    let (names, log) = (Arc::new(RwLock::new(0)), Arc::new(Mutex::new(0)));
    let both = Arc::new(Barrier::new(2));
    let (names_too, log_too, both_too) = (Arc::clone(&names), Arc::clone(&log), Arc::clone(&both));
    at("reader holds", line!() + 2);
    start("reader", move || {
        let _names = names_too.read().unwrap();
        both_too.wait();
        at("reader waits", line!() + 1);
        let _log = log_too.lock().unwrap();
    });
    start("writer", move || {
        at("writer holds", line!() + 1);
        let _log = log.lock().unwrap();
        both.wait();
        at("writer waits", line!() + 1);
        let _names = names.write().unwrap();
    });
    thread::sleep(Duration::from_millis(500));
}

/// The same as two threads, for tasks.
fn two_tasks(is_ordered: bool) {
    let runtime = Box::leak(Box::new(runtime(2)));
    let accounts: &'static (sync::Mutex<u64>, sync::Mutex<u64>) =
        Box::leak(Box::new((sync::Mutex::new(1), sync::Mutex::new(2))));
    let both: &'static sync::Barrier = Box::leak(Box::new(sync::Barrier::new(2)));
    lookback::spawn_on(runtime.handle(), async move {
        at("forth holds", line!() + 1);
        let _from = accounts.0.lock().await;
        both.wait().await;
        at("forth waits", line!() + 1);
        let _to = accounts.1.lock().await;
        if is_ordered {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
    });
    lookback::spawn_on(runtime.handle(), async move {
        if is_ordered {
            both.wait().await;
            let _from = accounts.0.lock().await;
            let _to = accounts.1.lock().await;
            return;
        }
        at("back holds", line!() + 1);
        let _to = accounts.1.lock().await;
        both.wait().await;
        at("back waits", line!() + 1);
        let _from = accounts.0.lock().await;
    });
    thread::sleep(Duration::from_millis(500));
}

/// A task blocks its worker for a mutex of a thread that waits for what the task holds.
fn task_and_thread() {
    let runtime = Box::leak(Box::new(runtime(2)));
    let cache: &'static sync::Mutex<u64> = Box::leak(Box::new(sync::Mutex::new(1)));
    let file: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(2)));
    let both: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
    lookback::spawn_on(runtime.handle(), async move {
        at("task holds", line!() + 1);
        let _cache = cache.lock().await;
        both.wait();
        at("task waits", line!() + 1);
        *file.lock().unwrap() += 1;
    });
    start("flusher", move || {
        at("thread holds", line!() + 1);
        let _file = file.lock().unwrap();
        both.wait();
        at("thread waits", line!() + 1);
        let _cache = cache.blocking_lock();
    });
    thread::sleep(Duration::from_millis(500));
}

/// Tasks that wait for permits which others have.
fn semaphore() {
    let runtime = Box::leak(Box::new(runtime(2)));
    let permits = Arc::new(Semaphore::new(2));
    at("asked", line!() + 6);
    let all: Vec<_> = (0..6)
        .map(|_| {
            let permits = Arc::clone(&permits);
            lookback::spawn_on(runtime.handle(), async move {
                for _ in 0..10 {
                    let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(4)).await;
                    drop(permit);
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in all {
            task.await.unwrap();
        }
    });
}

/// A task lets go of a mutex, which Tokio hands on to one that is not polled again, and waits for a task that waits for that.
fn handed_on(is_first: bool) {
    let runtime = Box::leak(Box::new(runtime(2)));
    let (table, file): (&'static sync::Mutex<u64>, &'static sync::Mutex<u64>) =
        (Box::leak(Box::new(sync::Mutex::new(1))), Box::leak(Box::new(sync::Mutex::new(2))));
    let all: &'static sync::Barrier = Box::leak(Box::new(sync::Barrier::new(3)));
    let moment = Duration::from_millis(100);
    lookback::spawn_on(runtime.handle(), async move {
        let table = table.lock().await;
        all.wait().await;
        all.wait().await;
        if !is_first {
            tokio::time::sleep(moment).await;
        }
        drop(table);
        all.wait().await;
        drop(file.lock().await);
    });
    lookback::spawn_on(runtime.handle(), async move {
        all.wait().await;
        let mut next = pin!(table.lock());
        let is_pending = poll_fn(|cx| Poll::Ready(next.as_mut().poll(cx).is_pending())).await;
        assert!(is_pending);
        all.wait().await;
        all.wait().await;
        std::future::pending::<()>().await;
    });
    lookback::spawn_on(runtime.handle(), async move {
        let _file = file.lock().await;
        all.wait().await;
        all.wait().await;
        let mut last = pin!(table.lock());
        if !is_first {
            let is_pending = poll_fn(|cx| Poll::Ready(last.as_mut().poll(cx).is_pending())).await;
            assert!(is_pending);
        }
        all.wait().await;
        drop(last.await);
    });
    thread::sleep(Duration::from_millis(500));
}

/// A task that no thread polls waits for what a thread holds, and that waits for a mutex of the thread that once polled it.
fn unrecorded_wait() {
    let table: &'static sync::Mutex<u64> = Box::leak(Box::new(sync::Mutex::new(1)));
    let file: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(2)));
    let both: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
    start("once", move || {
        both.wait();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.spawn(async move { drop(table.lock().await) });
        runtime.block_on(tokio::task::yield_now());
        let _file = file.lock().unwrap();
        both.wait();
        thread::sleep(Duration::from_secs(3600));
    });
    start("holder", move || {
        let _table = table.blocking_lock();
        both.wait();
        both.wait();
        drop(file.lock().unwrap());
    });
    thread::sleep(Duration::from_millis(500));
}

/// A task blocks its worker for a mutex that another task holds, or a thread, and blocks its own with.
fn poll_that_waits(is_of_task: bool) {
    let runtime = Box::leak(Box::new(runtime(2)));
    let table: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(1)));
    let both: &'static Barrier = Box::leak(Box::new(Barrier::new(2)));
    at("held", line!() + 4);
    let keep = move || {
        // Then it has a name.
        lookback::event!("keeps");
        let _table = table.lock().unwrap();
        both.wait();
        thread::sleep(Duration::from_millis(800));
    };
    let keeper = async move { keep() };
    let keeps = is_of_task.then(|| lookback::spawn_on(runtime.handle(), keeper));
    let thread = (!is_of_task).then(|| start("keeper", keep));
    at("asked", line!() + 3);
    let victim = lookback::spawn_on(runtime.handle(), async move {
        both.wait();
        *table.lock().unwrap() += 1;
    });
    runtime.block_on(async {
        victim.await.unwrap();
        if let Some(keeps) = keeps {
            keeps.await.unwrap();
        }
    });
    thread.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A task takes the last of two permits and gives it back. Then tasks wait: for two at once, while another task has the first, or
/// for one, and behind that; or the semaphore has none any more.
fn too_few_permits(are_forgotten: bool) {
    let runtime = Box::leak(Box::new(runtime(2)));
    let permits: &'static Semaphore = Box::leak(Box::new(Semaphore::new(2)));
    runtime.block_on(async {
        let mut keeps = None;
        if !are_forgotten {
            keeps = Some(permits.acquire().await.unwrap());
        }
        let take = async { drop(permits.acquire().await.unwrap()) };
        lookback::spawn_on(runtime.handle(), take).await.unwrap();
        std::mem::forget(keeps);
    });
    if are_forgotten {
        assert_eq!(permits.forget_permits(2), 2);
    } else {
        let wait = async { drop(permits.acquire_many(2).await.unwrap()) };
        lookback::spawn_on(runtime.handle(), wait);
        thread::sleep(Duration::from_millis(100));
    }
    let wait = async { drop(permits.acquire().await.unwrap()) };
    lookback::spawn_on(runtime.handle(), wait);
    thread::sleep(Duration::from_millis(2500));
}

/// A task forgets one of two permits, another has the second, and six more wait.
fn forgotten_permit() {
    let runtime = Box::leak(Box::new(runtime(2)));
    let permits: &'static Semaphore = Box::leak(Box::new(Semaphore::new(2)));
    at("taken", line!() + 3);
    runtime.block_on(async {
        for _ in 0..2 {
            let take = async { std::mem::forget(permits.acquire().await.unwrap()) };
            lookback::spawn_on(runtime.handle(), take).await.unwrap();
        }
    });
    at("asked", line!() + 2);
    for _ in 0..6 {
        let wait = async { drop(permits.acquire().await.unwrap()) };
        lookback::spawn_on(runtime.handle(), wait);
    }
    // Nobody needs to notice soon.
    thread::sleep(Duration::from_millis(2500));
}
