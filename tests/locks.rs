//! Locks: a thread or a task that has waited for long is recorded, with the holder; one that has not leaves nothing. They behave
//! like those that they stand for.

use lookback::read::{Event, EventKind, LockHolder, Trace};
use lookback::sync::{Arc, Condvar, Mutex, RwLock, TryLockError, mpsc};
use lookback::{LockKind, Recorder};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

/// A process has one recorder.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn recorder() -> Recorder {
    Recorder::builder().max_bytes(4 << 20).start().unwrap()
}

fn trace(recorder: Recorder) -> Trace {
    let mut bytes = Vec::new();
    recorder.stop().unwrap().write_to(&mut bytes).unwrap();
    Trace::from_bytes(bytes).unwrap()
}

/// What is looked for in an event that is of interest.
fn found<T>(trace: &Trace, find: impl Fn(&Event) -> Option<T>) -> Vec<T> {
    trace.events().map(|event| event.unwrap()).filter_map(|event| find(&event)).collect()
}

/// A wait: its kind, how many milliseconds, the line, whether it was given up, and the holder's thread and line.
type Wait = (LockKind, u64, u32, bool, Option<u64>, Option<u32>);

fn waits(trace: &Trace) -> Vec<Wait> {
    found(trace, |event| {
        let EventKind::Contention { site, kind, waited, is_given_up, .. } = event.kind() else {
            return None;
        };
        let holder = event.lock_holder();
        let thread = holder.and_then(|LockHolder { thread, .. }| Some(thread?.0));
        let line = holder.and_then(|LockHolder { site, .. }| Some(site?.line));
        Some((kind?, waited.0 / 1_000_000, site.line, is_given_up, thread, line))
    })
}

/// The period of generations may be longer than a trigger takes.
#[test]
fn a_snapshot_has_the_waits_that_go_on_when_it_is_taken() {
    const HOUR: Duration = Duration::from_secs(3600);
    let _alone = alone();
    let recorder = Recorder::builder().window(HOUR).generation_period(HOUR).start().unwrap();
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock().unwrap();
    let waiter = thread::spawn({
        let lock = Arc::clone(&lock);
        move || drop(lock.lock().unwrap())
    });
    let waits = || {
        let mut bytes = Vec::new();
        recorder.snapshot().unwrap().write_to(&mut bytes).unwrap();
        found(&Trace::from_bytes(bytes).unwrap(), |event| match event.kind() {
            EventKind::LockWait { kind, waited, .. } => {
                Some((kind, waited, event.lock_holder().is_some()))
            }
            _ => None,
        })
    };
    // It may take a while until the other thread waits, and then the wait is not yet long enough to be told.
    let told = loop {
        if let Some(told) = waits().first() {
            break *told;
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert_eq!((told.0, told.2), (Some(LockKind::Mutex), true));
    assert!(told.1.0 >= 1_000_000, "{told:?}");
    drop(held);
    waiter.join().unwrap();
    recorder.stop().unwrap();
}

/// How many events of locks there are.
fn count(trace: &Trace) -> usize {
    let is_of_lock = |kind: &EventKind<'_>| {
        matches!(
            kind,
            EventKind::Contention { .. } | EventKind::LockWait { .. } | EventKind::LockHeld { .. }
        )
    };
    found(trace, |event| is_of_lock(&event.kind()).then_some(())).len()
}

/// The number of the thread that recorded an event of this name.
fn thread_of(trace: &Trace, name: &str) -> u64 {
    found(trace, |event| (event.name() == name).then(|| event.thread().unwrap().number.0))[0]
}

/// The kernel's number of this thread.
fn number() -> u64 {
    // SAFETY: no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as u64 }
}

/// Waits until this thread, which is about to wait for a lock, has done so for a while.
fn sleeps(thread: u64) {
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        stat[stat.rfind(')').unwrap() + 2..].chars().next()
    };
    while state() != Some('S') {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(5));
}

/// Holds what `take` takes until another thread has waited for a while.
fn hold<G>(take: impl FnOnce() -> G, wait: impl FnOnce() + Send) {
    thread::scope(|scope| {
        lookback::event!("holds");
        let guard = take();
        let (tell, told) = mpsc::channel();
        let waiter = scope.spawn(move || {
            tell.send(number()).unwrap();
            wait();
        });
        sleeps(told.recv().unwrap());
        drop(guard);
        waiter.join().unwrap();
    });
}

#[test]
fn a_thread_that_waits_for_a_mutex_is_recorded_with_who_held_it() {
    let _alone = alone();
    let recorder = recorder();
    let mutex = Mutex::new(0);
    let (held, waited) = (line!() + 1, line!() + 1);
    hold(|| mutex.lock().unwrap(), || *mutex.lock().unwrap() += 1);
    let trace = trace(recorder);
    let holder = thread_of(&trace, "holds");
    let waits = waits(&trace);
    let [(kind, length, line, given_up, by, at)] = waits[..] else { panic!("{waits:?}") };
    assert_eq!((kind, line, given_up), (LockKind::Mutex, waited, false));
    assert!(length >= 1, "{waits:?}");
    assert_eq!((by, at), (Some(holder), Some(held)));
}

#[test]
fn locks_that_are_free_and_short_waits_leave_nothing() {
    let _alone = alone();
    let recorder =
        Recorder::builder().max_bytes(4 << 20).lock_waits(Duration::MAX).start().unwrap();
    let (mutex, lock) = (Mutex::new(0), RwLock::new(0));
    for _ in 0..1000 {
        *mutex.lock().unwrap() += 1;
        *lock.write().unwrap() += 1;
        assert!(*lock.read().unwrap() > 0 && mutex.try_lock().is_ok());
    }
    hold(|| mutex.lock().unwrap(), || *mutex.lock().unwrap() += 1);
    assert_eq!(count(&trace(recorder)), 0);
    // Nor is anything recorded while nothing records.
    hold(|| mutex.lock().unwrap(), || *mutex.lock().unwrap() += 1);
}

#[test]
fn readers_wait_for_writers_and_writers_for_readers() {
    let _alone = alone();
    let recorder = recorder();
    let lock = RwLock::new(0);
    let (first, second) = (line!() + 1, line!() + 2);
    hold(|| lock.write().unwrap(), || assert_eq!(*lock.read().unwrap(), 0));
    hold(|| lock.read().unwrap(), || *lock.write().unwrap() += 1);
    let trace = trace(recorder);
    let told: Vec<_> =
        waits(&trace).into_iter().map(|(kind, _, line, _, _, at)| (kind, line, at)).collect();
    let expected = [(LockKind::Read, first, Some(first)), (LockKind::Write, second, Some(second))];
    assert_eq!(told, expected);
}

#[test]
fn whoever_is_named_as_the_holder_of_a_lock_in_great_demand_took_it_where_it_is_said() {
    let _alone = alone();
    let recorder =
        Recorder::builder().max_bytes(16 << 20).lock_waits(Duration::ZERO).stacks(false).start();
    let recorder = recorder.unwrap();
    let (mutex, lock) = (Mutex::new(0), RwLock::new(0));
    let lines = thread::scope(|scope| {
        // Each thread has lines of its own.
        let one = scope.spawn(|| {
            lookback::event!("one");
            for _ in 0..20_000 {
                *mutex.lock().unwrap() += 1;
                *lock.write().unwrap() += 1;
            }
            [line!() - 3, line!() - 2]
        });
        let other = scope.spawn(|| {
            lookback::event!("other");
            for _ in 0..20_000 {
                *mutex.lock().unwrap() += 1;
                std::hint::black_box(*lock.read().unwrap());
            }
            [line!() - 3, line!() - 2]
        });
        let third = scope.spawn(|| {
            lookback::event!("third");
            for _ in 0..20_000 {
                *mutex.lock().unwrap() += 1;
                *lock.write().unwrap() += 1;
            }
            [line!() - 3, line!() - 2]
        });
        [one, other, third].map(|thread| thread.join().unwrap())
    });
    let trace = trace(recorder);
    let threads = ["one", "other", "third"].map(|name| thread_of(&trace, name));
    for (kind, _, line, _, holder, at) in waits(&trace) {
        let Some(holder) = holder else { continue };
        let of = threads.iter().position(|thread| *thread == holder).unwrap();
        let of_lock = usize::from(kind != LockKind::Mutex);
        assert_eq!(at, Some(lines[of][of_lock]), "{kind} at {line}, held by {holder}");
    }
}

#[test]
fn a_holder_that_has_recorded_nothing_is_known_by_the_systems_number() {
    let _alone = alone();
    let recorder = recorder();
    let mutex = Arc::new(Mutex::new(0));
    let other = Arc::clone(&mutex);
    let (tell, told) = mpsc::channel();
    let (waiter, waits) = mpsc::channel();
    let silent = thread::spawn(move || {
        let guard = other.lock().unwrap();
        tell.send(number()).unwrap();
        sleeps(waits.recv().unwrap());
        drop(guard);
    });
    let holder = told.recv().unwrap();
    waiter.send(number()).unwrap();
    drop(mutex.lock().unwrap());
    silent.join().unwrap();
    let holders = found(&trace(recorder), |event| event.lock_holder()?.os_thread);
    assert_eq!(holders, [holder]);
}

#[test]
fn poisoning_is_as_in_the_standard_library() {
    let (mutex, lock) = (Mutex::new(1), RwLock::new(1));
    let panics = catch_unwind(AssertUnwindSafe(|| {
        let _guards = (mutex.lock().unwrap(), lock.write().unwrap());
        panic!("a guard is held");
    }));
    assert!(panics.is_err() && mutex.is_poisoned() && lock.is_poisoned());
    assert_eq!(*mutex.lock().unwrap_err().into_inner(), 1);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
    assert!(lock.read().is_err() && lock.write().is_err());
    mutex.clear_poison();
    lock.clear_poison();
    assert!(mutex.lock().is_ok() && lock.read().is_ok());
    let guard = mutex.lock().unwrap();
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    assert_eq!((format!("{guard}"), format!("{guard:?}")), ("1".to_owned(), "1".to_owned()));
    drop(guard);
    assert_eq!(mutex.into_inner().unwrap() + lock.into_inner().unwrap(), 2);
}

#[test]
fn a_condition_is_waited_for_without_the_lock_and_that_is_no_contention() {
    let _alone = alone();
    let recorder = recorder();
    let (ready, changed) = (Mutex::new(0), Condvar::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            *ready.lock().unwrap() = 1;
            changed.notify_all();
        });
        let mut guard = ready.lock().unwrap();
        while *guard == 0 {
            guard = changed.wait(guard).unwrap();
        }
        drop(guard);
        let guard = changed.wait_while(ready.lock().unwrap(), |ready| *ready == 0).unwrap();
        let moment = Duration::from_millis(1);
        let (guard, late) = changed.wait_timeout_while(guard, moment, |ready| *ready == 1).unwrap();
        assert!(late.timed_out());
        let (guard, _) = changed.wait_timeout(guard, moment).unwrap();
        assert_eq!(*guard, 1);
    });
    assert_eq!(count(&trace(recorder)), 0);
}

#[test]
fn guards_belong_to_their_thread_and_locks_may_be_shared() {
    fn is_shared<T: Send + Sync>() {}
    fn is_sync<T: Sync>() {}
    is_shared::<(Mutex<u8>, RwLock<u8>, Condvar)>();
    is_sync::<(lookback::sync::MutexGuard<'_, u8>, lookback::sync::RwLockReadGuard<'_, u8>)>();
    let unsized_one: Arc<Mutex<dyn std::fmt::Debug + Send>> = Arc::new(Mutex::new(7));
    assert_eq!(format!("{:?}", unsized_one.lock().unwrap()), "7");
}

mod tasks {
    use super::*;
    use lookback::tokio;
    use tokio::sync::{self, OwnedMutexGuard};

    #[tokio::test]
    async fn owned_guards_keep_their_lock_alive_and_give_it_back() {
        let mutex = Arc::new(sync::Mutex::new(String::from("a")));
        let mut guard: OwnedMutexGuard<String> = Arc::clone(&mutex).lock_owned().await;
        guard.push('b');
        assert!(Arc::clone(&mutex).try_lock_owned().is_err() && mutex.try_lock().is_err());
        let task = ::tokio::spawn(async move {
            guard.push('c');
            guard
        });
        let guard = task.await.unwrap();
        assert_eq!((&**guard, Arc::strong_count(&mutex)), ("abc", 2));
        let weak = Arc::downgrade(&mutex);
        drop(mutex);
        assert!(weak.upgrade().is_some());
        drop(guard);
        assert!(weak.upgrade().is_none());
        let lock = Arc::new(sync::RwLock::new(1));
        let (one, other) =
            (Arc::clone(&lock).read_owned().await, Arc::clone(&lock).try_read_owned().unwrap());
        assert!(Arc::clone(&lock).try_write_owned().is_err());
        assert_eq!(*one + *other, 2);
        drop((one, other));
        *lock.clone().write_owned().await += 1;
        assert_eq!(*lock.read().await, 2);
    }

    #[test]
    fn a_task_that_waits_is_recorded_with_the_task_that_held_the_lock() {
        let _alone = alone();
        let recorder = recorder();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let mutex = Arc::new(sync::Mutex::new(0));
        let (tell, told) = sync::oneshot::channel();
        let (wait, waits) = sync::oneshot::channel();
        let other = Arc::clone(&mutex);
        let moment = Duration::from_millis(5);
        let held = line!() + 2;
        let keeper = lookback::spawn_on(runtime.handle(), async move {
            let guard = other.lock().await;
            tell.send(()).unwrap();
            waits.await.unwrap();
            tokio::time::sleep(moment).await;
            drop(guard);
        });
        let waited = line!() + 3;
        let waiter = lookback::spawn_on(runtime.handle(), async move {
            told.await.unwrap();
            let mut lock = pin!(mutex.lock());
            assert!(poll_fn(|cx| Poll::Ready(lock.as_mut().poll(cx).is_pending())).await);
            wait.send(()).unwrap();
            drop(lock.await);
            // One that gives up.
            let guard = mutex.lock().await;
            let wait = tokio::time::timeout(moment, mutex.lock()).await;
            assert!(wait.is_err());
            drop(guard);
        });
        runtime.block_on(async { (keeper.await.unwrap(), waiter.await.unwrap()) });
        let trace = trace(recorder);
        let tasks = found(&trace, |event| match event.kind() {
            EventKind::Contention { site, is_given_up, .. } => Some((
                event.task(),
                event.lock_holder().and_then(|holder| holder.task),
                site.line,
                is_given_up,
                event.lock_holder().and_then(|holder| Some(holder.site?.line)),
            )),
            _ => None,
        });
        let spawned = found(&trace, |event| match event.kind() {
            EventKind::TaskCreate { task, .. } => Some(task),
            _ => None,
        });
        let [keeper, waiter] = spawned[..] else { panic!("{spawned:?}") };
        let expected = [
            (Some(waiter), Some(keeper), waited, false, Some(held)),
            (Some(waiter), Some(waiter), waited + 6, true, Some(waited + 5)),
        ];
        assert_eq!(tasks, expected);
    }

    /// Whether another task of this thread gets to run while this one takes a lock that is free, again and again.
    async fn others_run<F: Future>(take: impl Fn() -> F) -> bool {
        let has_run = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&has_run);
        // Not recorded, as another test counts the tasks that are.
        ::tokio::spawn(async move { other.store(true, Ordering::Relaxed) });
        for _ in 0..10_000 {
            drop(take().await);
        }
        has_run.load(Ordering::Relaxed)
    }

    #[test]
    fn a_task_whose_locks_are_always_free_lets_others_run() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mutex, lock) = (Arc::new(sync::Mutex::new(0)), Arc::new(sync::RwLock::new(0)));
            let semaphore = Arc::new(sync::Semaphore::new(1));
            assert!(others_run(|| mutex.lock()).await, "Mutex");
            assert!(others_run(|| Arc::clone(&mutex).lock_owned()).await, "Mutex, owned");
            assert!(others_run(|| lock.read()).await, "RwLock, to read");
            assert!(others_run(|| lock.write()).await, "RwLock, to write");
            assert!(others_run(|| Arc::clone(&lock).write_owned()).await, "RwLock, owned");
            assert!(others_run(|| semaphore.acquire()).await, "Semaphore");
            let owned = || Arc::clone(&semaphore).acquire_owned();
            assert!(others_run(owned).await, "Semaphore, owned");
        });
    }

    /// Polls a future once, which is not ready then.
    async fn is_not_ready<F: Future>(future: &mut std::pin::Pin<&mut F>) {
        assert!(poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await);
    }

    #[test]
    fn who_waits_for_a_semaphore_that_is_closed_gives_up_and_has_nothing() {
        let _alone = alone();
        let recorder = recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let semaphore = sync::Semaphore::new(1);
        let line = line!() + 2;
        runtime.block_on(async {
            let held = semaphore.acquire().await;
            let (mut one, mut other) = (pin!(semaphore.acquire()), pin!(semaphore.acquire()));
            is_not_ready(&mut one).await;
            is_not_ready(&mut other).await;
            thread::sleep(Duration::from_millis(2));
            semaphore.close();
            assert!(one.await.is_err() && other.await.is_err());
            drop(held);
        });
        let fresh = &sync::Semaphore::new(0);
        thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let waiter = scope.spawn(move || {
                tell.send(number()).unwrap();
                assert!(fresh.blocking_acquire().is_err());
            });
            sleeps(told.recv().unwrap());
            fresh.close();
            waiter.join().unwrap();
        });
        let told: Vec<_> = waits(&trace(recorder))
            .into_iter()
            .map(|(_, _, at, given_up, _, held)| (at, given_up, held))
            .collect();
        let second = line + 1;
        let expected =
            [(second, true, Some(line)), (second, true, Some(line)), (line + 14, true, None)];
        assert_eq!(told, expected);
    }
}

#[cfg(feature = "lock_api")]
mod raw {
    use super::*;
    use lookback::sync::{RawMutex, RawRwLock};

    #[test]
    fn locks_of_lock_api_are_recorded_alike() {
        let _alone = alone();
        let recorder = recorder();
        let mutex: lock_api::Mutex<RawMutex, u8> = lock_api::Mutex::new(0);
        let lock: lock_api::RwLock<RawRwLock, u8> = lock_api::RwLock::new(0);
        let first = line!() + 1;
        hold(|| mutex.lock(), || *mutex.lock() += 1);
        hold(|| lock.write(), || assert_eq!(*lock.read(), 0));
        hold(|| lock.read(), || *lock.write() += 1);
        let guard = mutex.lock();
        let gives_up = || assert!(mutex.try_lock_for(Duration::from_millis(5)).is_none());
        thread::scope(|scope| scope.spawn(gives_up).join().unwrap());
        drop(guard);
        let told: Vec<_> = waits(&trace(recorder))
            .into_iter()
            .map(|(kind, _, line, given_up, _, at)| (kind, line, given_up, at))
            .collect();
        let expected = [
            (LockKind::RawMutex, first, false, Some(first)),
            (LockKind::RawRead, first + 1, false, Some(first + 1)),
            (LockKind::RawWrite, first + 2, false, Some(first + 2)),
            (LockKind::RawMutex, first + 4, true, Some(first + 3)),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_reader_that_records_its_first_event_while_it_reads_is_no_holder_any_more_after_that() {
        let _alone = alone();
        let recorder = recorder();
        let lock: lock_api::RwLock<RawRwLock, u8> = lock_api::RwLock::new(0);
        let new = || {
            let guard = lock.read();
            lookback::event!("known from now on");
            drop(guard);
        };
        thread::scope(|scope| scope.spawn(new).join().unwrap());
        let read = line!() + 1;
        hold(|| lock.read(), || *lock.write() += 1);
        let trace = trace(recorder);
        let holder = thread_of(&trace, "holds");
        let told: Vec<_> = waits(&trace).into_iter().map(|(_, _, _, _, by, at)| (by, at)).collect();
        assert_eq!(told, [(Some(holder), Some(read))]);
    }
}
