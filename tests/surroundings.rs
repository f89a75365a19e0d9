//! Invariants 7 and 10 in hostile surroundings: nothing on the recording path panics, waits, or allocates
//! without bound; what could not be recorded is counted, by cause; start, stop and start again works.
//!
//! Events are emitted from signal handlers, from the global allocator, from destructors of thread-locals and
//! of pthread keys, and from formatting code that itself records or panics. Regions outlive the recording,
//! and the limits of the process are too small.

mod common;

use common::{Emitted, start_with, stop};
use lookback::read::{Event, EventKind, Trace};
use lookback::{Error, Loss, Recorder};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// While this is set, every allocation and deallocation emits an event.
static ALLOCATOR_EMITS: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: Emitted = Emitted::new();

struct Emitting;

// SAFETY: memory comes from the system's allocator; emitting touches none of it.
unsafe impl GlobalAlloc for Emitting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ALLOCATOR_EMITS.load(Ordering::SeqCst) {
            ALLOCATIONS.add(1);
            lookback::event!("alloc", bytes = layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if ALLOCATOR_EMITS.load(Ordering::SeqCst) {
            ALLOCATIONS.add(1);
            lookback::event!("dealloc", bytes = layout.size());
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Emitting = Emitting;

fn start() -> Recorder {
    start_with(4 << 20, Duration::from_millis(5))
}

fn names(trace: &Trace) -> BTreeMap<String, u64> {
    let mut names = BTreeMap::new();
    for event in common::events(trace) {
        *names.entry(event.name().to_owned()).or_insert(0) += 1;
    }
    names
}

/// Events emitted by a signal handler.
static SIGNALLED: Emitted = Emitted::new();

extern "C" fn on_signal(_: libc::c_int) {
    SIGNALLED.add(4);
    lookback::event!("signal", text = "a text that recurs", number = 1);
    lookback::log!("signal", "number {}", 2);
    lookback::counter!("signal", 3);
    lookback::log!("signal", "as it stands");
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: zeroes are a valid action; the handler does what a handler may do.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// Interrupts some thread of the process at this interval; zero for never.
fn interrupt_every(micros: libc::suseconds_t) {
    let time = libc::timeval { tv_sec: 0, tv_usec: micros };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: `timer` is valid.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) }, 0);
}

#[test]
fn signal_handlers_may_emit_at_any_instant() {
    common::alone("signal_handlers_may_emit_at_any_instant", || {
        let enough = if common::long() { 200_000 } else { 4_000 };
        handle(libc::SIGPROF, on_signal);
        handle(libc::SIGUSR1, on_signal);
        let recorder = start();
        let emitted = Arc::new(Emitted::new());
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let emitted = Arc::clone(&emitted);
                std::thread::spawn(move || {
                    let (began, mut number) = (Instant::now(), 0);
                    let in_time = || began.elapsed() < Duration::from_secs(30);
                    while SIGNALLED.get() < enough && in_time() {
                        for _ in 0..100 {
                            let _region = lookback::region!("interrupted");
                            lookback::event!("interrupted", text = "recurs, too", n = number);
                            number += 1;
                        }
                    }
                    emitted.add(2 + 3 * number);
                })
            })
            .collect();
        interrupt_every(100);
        // Besides the timer: signals aimed at the very threads that emit.
        let threads: Vec<_> =
            writers.iter().map(std::os::unix::thread::JoinHandleExt::as_pthread_t).collect();
        while !writers.iter().all(std::thread::JoinHandle::is_finished) {
            for (thread, writer) in threads.iter().zip(&writers) {
                if !writer.is_finished() {
                    // SAFETY: the thread has not been joined.
                    unsafe { libc::pthread_kill(*thread, libc::SIGUSR1) };
                }
            }
            std::thread::yield_now();
        }
        writers.into_iter().for_each(|writer| writer.join().expect("a writer does not panic"));
        interrupt_every(0);
        // A signal that is still pending does not concern us.
        // SAFETY: the disposition is a valid one.
        unsafe { libc::signal(libc::SIGPROF, libc::SIG_IGN) };
        // Which thread has taken the signals is unknown, and so is how many have begun.
        let threads = recorder.stats().threads;
        common::advance(&recorder);
        let stats = recorder.stats();
        let in_all = emitted.get() + SIGNALLED.get() + (threads - 2);
        let lost: BTreeMap<_, _> = stats.lost.iter().copied().collect();
        println!("::{} from handlers, lost {lost:?}, {threads} threads", SIGNALLED.get());
        assert!(SIGNALLED.get() > 0, "no signal came");
        assert_eq!(in_all, stats.recorded + stats.lost_in_all(), "{stats:?}");
        let trace = stop(recorder);
        assert!(names(&trace)["interrupted"] > 0);
    });
}

#[test]
fn what_the_global_allocator_emits_while_a_wait_for_a_lock_is_recorded_is_recorded_too() {
    common::alone(
        "what_the_global_allocator_emits_while_a_wait_for_a_lock_is_recorded_is_recorded_too",
        || {
            let recorder =
                Recorder::builder().lock_waits(Duration::ZERO).stacks(false).start().unwrap();
            let mutex = lookback::sync::Mutex::new(0);
            let thread = AtomicU64::new(0);
            std::thread::scope(|scope| {
                lookback::event!("holds");
                let guard = mutex.lock().unwrap();
                let waits = scope.spawn(|| {
                    lookback::event!("waits");
                    // SAFETY: no preconditions.
                    let number = unsafe { libc::syscall(libc::SYS_gettid) } as u64;
                    thread.store(number, Ordering::SeqCst);
                    // The places are new to the recorder, which allocates something for each.
                    ALLOCATOR_EMITS.store(true, Ordering::SeqCst);
                    drop(mutex.lock().unwrap());
                    ALLOCATOR_EMITS.store(false, Ordering::SeqCst);
                });
                let sleeps = || {
                    let number = thread.load(Ordering::SeqCst);
                    let stat = std::fs::read_to_string(format!("/proc/self/task/{number}/stat"));
                    stat.is_ok_and(|stat| stat[stat.rfind(')').unwrap()..].starts_with(") S"))
                };
                while !ALLOCATOR_EMITS.load(Ordering::SeqCst) || !sleeps() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                drop(guard);
                waits.join().unwrap();
            });
            let lost = recorder.stats().lost;
            let trace = stop(recorder);
            let is_wait = |event: &Event| matches!(event.kind(), EventKind::Contention { .. });
            assert_eq!(common::events(&trace).filter(is_wait).count(), 1);
            assert!(names(&trace).contains_key("alloc"), "{:?}", names(&trace));
            assert!(lost.iter().all(|(cause, _)| *cause != Loss::Reentrant), "{lost:?}");
        },
    );
}

#[test]
fn the_global_allocator_may_emit() {
    common::alone("the_global_allocator_may_emit", || {
        let recorder = start_with(8 << 20, Duration::from_millis(20));
        ALLOCATOR_EMITS.store(true, Ordering::SeqCst);
        let emitted = Arc::new(Emitted::new());
        let threads: Vec<_> = (0..20)
            .map(|thread| {
                let emitted = Arc::clone(&emitted);
                std::thread::spawn(move || {
                    let mut kept = Vec::new();
                    for number in 0..200 {
                        let text = format!("text {number} of thread {thread}");
                        lookback::event!("made", text = text, number = number);
                        lookback::log!("made", "{text}");
                        kept.push(text);
                    }
                    emitted.add(400);
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        // A snapshot allocates, too, and so does the collector.
        let taken = recorder.snapshot().expect("a snapshot is taken");
        ALLOCATOR_EMITS.store(false, Ordering::SeqCst);
        common::assert_sound(&common::read(&taken));
        // The collector has made its last allocation when it answers.
        common::advance(&recorder);
        common::advance(&recorder);
        let stats = recorder.stats();
        let lost: BTreeMap<_, _> = stats.lost.iter().copied().collect();
        println!("::{} from the allocator, lost {lost:?}", ALLOCATIONS.get());
        // Threads with a slot at the end: this one and the collector. All others have exited.
        let starts_and_exits = 2 * stats.threads - living_threads(&recorder);
        let in_all = emitted.get() + ALLOCATIONS.get() + starts_and_exits;
        assert_eq!(in_all, stats.recorded + stats.lost_in_all(), "{stats:?}");
        let arena_full = lost.get(&Loss::ArenaFull).copied().unwrap_or(0);
        let names = names(&stop(recorder));
        assert!(names["alloc"] > 0 && (names["made"] > 0 || arena_full > 0), "{names:?}");
    });
}

/// How many threads that have started have not exited.
fn living_threads(recorder: &Recorder) -> u64 {
    let trace = common::read(&recorder.snapshot().expect("a snapshot is taken"));
    let mut living = 0;
    let last = trace.generations().last().expect("there is one").number;
    living += trace.generation(last).expect("it is there").statuses().count() as u64;
    living
}

thread_local! {
    static DESTROYED: RefCell<Option<EmitsWhenDropped>> = const { RefCell::new(None) };
}

struct EmitsWhenDropped(&'static str);

impl Drop for EmitsWhenDropped {
    fn drop(&mut self) {
        let _region = lookback::region!("destroying");
        lookback::event!("destroyed", what = self.0);
    }
}

extern "C" fn destroy_value(round: *mut libc::c_void) {
    lookback::event!("key destroyed", round = round.addr());
    if round.addr() < 2 {
        set_key(round.addr() + 1);
    }
}

static OWN_KEY: AtomicU64 = AtomicU64::new(u64::MAX);

fn make_key() {
    let mut key = 0;
    // SAFETY: `key` is a valid place.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(destroy_value)) }, 0);
    OWN_KEY.store(u64::from(key), Ordering::SeqCst);
}

fn set_key(round: usize) {
    let key = OWN_KEY.load(Ordering::SeqCst) as libc::pthread_key_t;
    // SAFETY: the key was made; the value is never dereferenced.
    unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(round)) };
}

fn destructors(key_before_the_recorder: bool) {
    if key_before_the_recorder {
        make_key();
    }
    let recorder = start();
    if !key_before_the_recorder {
        make_key();
    }
    const THREADS: u64 = 50;
    for number in 0..THREADS {
        let thread = std::thread::spawn(move || {
            DESTROYED.set(Some(EmitsWhenDropped("a thread-local")));
            set_key(1);
            // Every other thread emits for the first time when it is nearly over.
            if number % 2 == 0 {
                lookback::event!("alive", number = number);
            }
        });
        thread.join().expect("the thread does not panic");
    }
    common::advance(&recorder);
    let stats = recorder.stats();
    assert_eq!((stats.threads, stats.lost_in_all()), (THREADS, 0), "{stats:?}");
    // For each: start, exit, a region and an event in a thread-local, two events of the key.
    assert_eq!(stats.recorded, THREADS * 7 + THREADS / 2, "{stats:?}");
    let trace = stop(recorder);
    let mut ended = BTreeMap::new();
    for event in common::events(&trace) {
        let thread = event.thread().expect("it has a thread").number;
        assert!(!ended.contains_key(&thread), "{event:?} after the thread's exit");
        if matches!(event.kind(), EventKind::ThreadExit) {
            ended.insert(thread, ());
        }
    }
    assert_eq!(ended.len() as u64, THREADS, "each thread has exited");
    assert_eq!(names(&trace)["key destroyed"], 2 * THREADS);
}

#[test]
fn destructors_of_thread_locals_and_keys_may_emit() {
    common::alone("destructors_of_thread_locals_and_keys_may_emit", || destructors(false));
}

#[test]
fn destructors_of_older_keys_may_emit() {
    common::alone("destructors_of_older_keys_may_emit", || destructors(true));
}

struct Recording(u32);

impl fmt::Display for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _region = lookback::region!("formatting");
        lookback::log!("inner", "formatting {}", self.0);
        write!(f, "recorded {}", self.0)
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        lookback::event!("debug", number = self.0);
        fmt::Display::fmt(self, f)
    }
}

struct Panicking;

impl fmt::Display for Panicking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half a mess")?;
        let _region = lookback::region!("in a panic");
        panic!("on purpose");
    }
}

struct Failing;

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("as far as it goes")?;
        Err(fmt::Error)
    }
}

#[test]
fn formatting_code_may_record_fail_and_panic() {
    common::alone("formatting_code_may_record_fail_and_panic", || {
        let recorder = start();
        for number in 0..100 {
            lookback::log!("outer", "it is {} and {:?}", Recording(number), Recording(number));
            lookback::log!("outer", "{}", Failing);
        }
        let panicked = std::panic::catch_unwind(|| lookback::log!("outer", "{}", Panicking));
        assert!(panicked.is_err(), "the panic is the caller's to see");
        lookback::log!("outer", "it goes on");
        common::advance(&recorder);
        let stats = recorder.stats();
        // A start; a hundred times two messages, three events in Display twice and one in Debug;
        // the region of the panic, the panic itself and its stack; the last message.
        assert_eq!(stats.recorded, 1 + 100 * (2 + 2 * 3 + 1) + 4 + 1, "{stats:?}");
        assert_eq!(stats.lost_in_all(), 0, "{stats:?}");
        let trace = stop(recorder);
        assert_eq!(common::events(&trace).filter(|event| event.name() == "panic").count(), 1);
        let messages: Vec<_> = common::events(&trace)
            .filter(|event| event.name() == "outer")
            .map(|event| common::text(&event, "message").expect("a log has one").0)
            .collect();
        assert_eq!(messages[0], "it is recorded 0 and recorded 0");
        assert_eq!(messages[1], "as far as it goes");
        assert_eq!(messages.last().map(String::as_str), Some("it goes on"));
        assert_eq!(messages.len(), 201, "the message that panicked is none");
    });
}

#[test]
fn regions_may_outlive_the_recording_and_go_on_in_the_next() {
    common::alone("regions_may_outlive_the_recording_and_go_on_in_the_next", || {
        let before = lookback::region!("before any recording");
        // Generations end on this test's command.
        let start = || start_with(4 << 20, Duration::from_secs(3600));
        let first = start();
        let (kept, dropped) =
            (lookback::region!("kept"), lookback::region!("dropped after the stop"));
        lookback::event!("in the first");
        drop(stop(first));
        drop(dropped);
        let between = lookback::region!("between");
        let second = start();
        lookback::event!("in the second");
        {
            let _new = lookback::region!("new");
            common::advance(&second);
        }
        let taken = second.snapshot().expect("a snapshot is taken");
        drop(between);
        drop(kept);
        drop(before);
        lookback::event!("at the end");
        let trace = common::read(&taken);
        common::assert_sound(&trace);
        let numbers: Vec<_> = trace.generations().iter().map(|g| g.number).collect();
        let open = |number| -> Vec<String> {
            let generation = trace.generation(number).expect("it is there");
            let state = generation.statuses().next().expect("this thread is stated");
            assert_eq!(state.deeper(), 0);
            state.regions().map(|region| region.site.name.to_owned()).collect()
        };
        assert_eq!(open(numbers[0]), ["kept"], "what was dropped meanwhile is not open");
        assert_eq!(open(*numbers.last().expect("some")), ["kept", "new"]);
        let trace = stop(second);
        let ends: Vec<_> = common::events(&trace)
            .filter_map(|event| match event.kind() {
                EventKind::RegionEnd { site, duration, .. } => {
                    assert!(duration.is_some(), "its begin is known");
                    Some(site.expect("its site is known").name.to_owned())
                }
                _ => None,
            })
            .collect();
        assert_eq!(ends, ["new", "kept"], "only what is recorded is ended");
    });
}

#[test]
fn a_limit_on_file_sizes_is_an_error_in_words() {
    common::alone("a_limit_on_file_sizes_is_an_error_in_words", || {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid place.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) }, 0);
        let usual = limit;
        limit.rlim_cur = 1 << 20;
        // SAFETY: `limit` is valid.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
        let refused = Recorder::builder().max_bytes(8 << 20).start().expect_err("it is too large");
        let words = refused.to_string();
        assert!(matches!(refused, Error::Arena { .. }), "{refused:?}");
        assert!(words.contains("RLIMIT_FSIZE") && words.contains("8388608"), "{words}");
        assert!(!words.contains('\n'), "{words}");
        assert!(matches!(lookback::snapshot(), Err(Error::NotRecording)));
        // What fits is fine, and so is everything once the limit is lifted.
        drop(stop(start_with(512 << 10, Duration::from_secs(1))));
        // SAFETY: `usual` is valid.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &usual) }, 0);
        drop(stop(start_with(8 << 20, Duration::from_secs(1))));
    });
}

#[test]
fn a_second_recorder_is_refused_and_the_first_goes_on() {
    common::alone("a_second_recorder_is_refused_and_the_first_goes_on", || {
        assert!(matches!(lookback::snapshot(), Err(Error::NotRecording)));
        let first = start();
        lookback::event!("before");
        let refused = Recorder::builder().start().expect_err("there is one already");
        assert!(matches!(refused, Error::AlreadyRecording), "{refused}");
        lookback::event!("after");
        let names = names(&stop(first));
        assert_eq!((names["before"], names["after"]), (1, 1));
        assert!(matches!(lookback::snapshot(), Err(Error::NotRecording)));
    });
}

#[test]
fn of_a_recorder_that_was_started_again_nothing_is_said_to_be_missing() {
    common::alone("of_a_recorder_that_was_started_again_nothing_is_said_to_be_missing", || {
        stop(start());
        let recorder =
            Recorder::builder().window(Duration::from_secs(3600)).start().expect("again");
        lookback::event!("x");
        common::advance(&recorder);
        let report = lookback::read::analysis::Report::of(&stop(recorder));
        assert!(report.coverage.table.from_begin, "{:?}", report.coverage);
        assert_eq!(report.coverage.findings, []);
    });
}

#[test]
fn stop_and_start_again_records_again() {
    common::alone("stop_and_start_again_records_again", || {
        let (mut last, mut in_all) = (0, 0);
        for round in 0..50_u64 {
            let recorder = start();
            assert!(lookback::is_recording());
            lookback::event!("round", round = round);
            lookback::log!("round", "a text that recurs");
            let stats = recorder.stats();
            assert_eq!(stats.lost_in_all(), 0, "losses are those of this recording");
            assert!(stats.generation > last, "{} comes after {last}", stats.generation);
            last = stats.generation;
            // A handle may move, and any thread that has it may end the recording.
            let trace = match round % 3 {
                0 => stop(recorder),
                1 => std::thread::spawn(|| stop(recorder)).join().expect("no panic"),
                _ => {
                    let snapshot = recorder.snapshot().expect("a snapshot is taken");
                    std::thread::spawn(|| drop(recorder)).join().expect("no panic");
                    let trace = common::read(&snapshot);
                    common::assert_sound(&trace);
                    trace
                }
            };
            assert!(!lookback::is_recording());
            lookback::event!("round", round = u64::MAX);
            let rounds: Vec<_> = common::events(&trace)
                .filter_map(|event| common::number(&event, "round"))
                .collect();
            assert_eq!(rounds, [round], "this recording's event and no other");
            in_all += rounds.len();
        }
        assert_eq!(in_all, 50);
    });
}
