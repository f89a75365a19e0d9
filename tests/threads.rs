//! Invariant 1 for threads, and the identity of threads: start, name and exit are recorded; slots and blocks
//! are reused, so that ten thousand short-lived threads neither grow memory nor use up the window; and a
//! thread without a slot is counted.

mod common;

use common::Memory;
use lookback::read::EventKind;
use lookback::{Loss, Recorder};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::Builder;
use std::time::Duration;

/// A recorder whose generations end on the test's command, however slow the machine is.
fn start(max_bytes: usize) -> Recorder {
    Recorder::builder()
        .found_ranges(false)
        .window(Duration::from_secs(3600))
        .max_bytes(max_bytes)
        .generation_period(Duration::from_secs(3600))
        .start()
        .expect("a recorder starts")
}

#[test]
fn start_name_and_exit_are_recorded() {
    common::alone("start_name_and_exit_are_recorded", || {
        let recorder = start(1 << 20);
        let names = ["plain", "fifteen-letters", "sixteen-letters!", "größer", ""];
        for name in names {
            let mut builder = Builder::new();
            if !name.is_empty() {
                builder = builder.name(name.to_owned());
            }
            let thread = builder.spawn(move || {
                lookback::event!("alive", name = name);
                // SAFETY: no preconditions.
                unsafe { libc::syscall(libc::SYS_gettid) as u64 }
            });
            let os_thread = thread.expect("a thread").join().expect("it does not panic");
            lookback::event!("was", os_thread = os_thread);
        }
        let trace = common::read(&recorder.stop().expect("it stops"));
        common::assert_sound(&trace);
        let mut found = BTreeMap::new();
        let (mut by_os, mut numbers) = (Vec::new(), BTreeSet::new());
        for event in common::events(&trace) {
            let thread = event.thread().expect("it has a thread");
            let kinds: &mut Vec<&str> = found.entry(thread.number).or_default();
            match event.kind() {
                EventKind::ThreadStart => {
                    assert!(numbers.insert(thread.number), "a number is never used again");
                    kinds.push("start");
                }
                EventKind::ThreadExit => kinds.push("exit"),
                EventKind::Typed { site } if site.name == "alive" => {
                    kinds.push("alive");
                    let (name, _) = common::text(&event, "name").expect("it has one");
                    // Linux keeps fifteen bytes of a name.
                    let mut kept = &name[..name.floor_char_boundary(15)];
                    if name.is_empty() {
                        // An unnamed thread has its parent's name.
                        kept = &thread.name;
                    }
                    assert_eq!(&*thread.name, kept);
                    by_os.push(thread.os_thread);
                }
                _ => {
                    let os_thread = common::number(&event, "os_thread").expect("it has one");
                    assert_eq!(by_os.last(), Some(&os_thread), "the number of the system's");
                }
            }
        }
        let short: Vec<_> = found.values().filter(|kinds| kinds.contains(&"alive")).collect();
        assert_eq!(short.len(), names.len());
        assert!(short.iter().all(|kinds| **kinds == ["start", "alive", "exit"]), "{short:?}");
    });
}

#[test]
fn ten_thousand_short_lived_threads_reuse_a_few_slots_and_blocks() {
    common::alone("ten_thousand_short_lived_threads_reuse_a_few_slots_and_blocks", || {
        const AT_ONCE: u64 = 20;
        let batches = if common::long() { 5000 } else { 500 };
        let recorder = start(4 << 20);
        let batch = || {
            let spawn = |_| {
                let builder = Builder::new().name("short".to_owned()).stack_size(64 << 10);
                let thread = builder.spawn(|| lookback::event!("alive", number = 1));
                thread.expect("a thread")
            };
            let threads: Vec<_> = (0..AT_ONCE).map(spawn).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        };
        // Allocate what the first threads need before the first look.
        (0..20).for_each(|_| batch());
        common::advance(&recorder);
        let (memory, before) = (Memory::now(), recorder.stats());
        (0..batches).for_each(|_| batch());
        common::advance(&recorder);
        let (after, stats) = (Memory::now(), recorder.stats());
        let threads = stats.threads - before.threads;
        assert_eq!(threads, batches * AT_ONCE);
        assert_eq!(stats.lost_in_all(), 0, "{stats:?}");
        assert_eq!(stats.recorded - before.recorded, 3 * threads, "start, event, exit of each");
        let grown = after.resident.saturating_sub(memory.resident);
        assert!(grown <= 2 << 20, "{threads} threads have grown memory by {grown} bytes");

        let trace = common::read(&recorder.stop().expect("it stops"));
        common::assert_sound(&trace);
        let slots: BTreeSet<_> = common::events(&trace).map(|event| event.slot()).collect();
        assert!(slots.len() as u64 <= AT_ONCE, "{} slots for {AT_ONCE} at once", slots.len());
        let (mut bytes, mut blocks, mut events) = (0, 0, 0);
        for generation in trace.generations().iter().filter(|generation| generation.complete) {
            bytes += generation.bytes;
            blocks += generation.blocks;
            events += generation.events;
        }
        println!("::{threads} threads: {bytes} bytes, {blocks} blocks, {events} events");
        // A start takes a name and two numbers, an exit next to nothing.
        assert!(bytes <= 16 * events, "{bytes} bytes for {events} events of short-lived threads");
        assert!(blocks * 50 <= events, "{blocks} blocks for {events} events: they are not reused");
    });
}

#[test]
fn who_finds_no_slot_is_counted_and_others_go_on() {
    common::alone("who_finds_no_slot_is_counted_and_others_go_on", || {
        const SLOTS: usize = 8192;
        let recorder = start(16 << 20);
        lookback::event!("first");
        let all_there = Arc::new(Barrier::new(SLOTS + 1));
        let done = Arc::new(Barrier::new(SLOTS + 1));
        let mut threads = Vec::new();
        for number in 0..SLOTS {
            let (all_there, done) = (Arc::clone(&all_there), Arc::clone(&done));
            let builder = Builder::new().stack_size(32 << 10);
            let thread = builder.spawn(move || {
                lookback::event!("crowded", number = number);
                all_there.wait();
                done.wait();
            });
            match thread {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    // The waiting threads end with the process.
                    println!("::only {} threads can be had: {error}", threads.len());
                    return;
                }
            }
        }
        all_there.wait();
        // This thread has a slot, so one of the others has none.
        let lost: BTreeMap<_, _> = recorder.stats().lost.into_iter().collect();
        assert_eq!(lost, BTreeMap::from([(Loss::NoSlot, 1)]), "one has found no slot");
        lookback::event!("still here");
        common::advance(&recorder);
        let taken = recorder.snapshot().expect("a snapshot is taken");
        done.wait();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        // There are free slots again.
        let late = std::thread::spawn(|| lookback::event!("late"));
        late.join().expect("no panic");
        common::advance(&recorder);
        let stats = recorder.stats();
        assert_eq!(stats.lost_in_all(), 1, "{stats:?}");
        let crowd = SLOTS as u64 - 1;
        // For each: start, event, exit; for this thread, a start and two events.
        assert_eq!(stats.recorded, 3 * crowd + 3 + 3, "{stats:?}");
        common::assert_sound(&common::read(&taken));
        let trace = common::read(&recorder.stop().expect("it stops"));
        common::assert_sound(&trace);
        assert_eq!(common::lost(&trace), 1, "the trace itself says so");
        let mut states = 0;
        for generation in trace.generations().iter().filter(|generation| generation.complete) {
            let generation = trace.generation(generation.number).expect("it is there");
            states = states.max(generation.statuses().count() as u64 + generation.info().omitted);
        }
        println!("::{states} threads in one generation");
    });
}

/// Makes so many keys that setting the recorder's own needs an allocation.
fn use_up_keys() {
    for _ in 0..40 {
        let mut key = 0;
        // SAFETY: `key` is a valid place, and there is no destructor.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, None) }, 0);
    }
}

#[test]
fn where_the_end_of_a_thread_cannot_be_seen_the_collector_finds_it() {
    common::alone("where_the_end_of_a_thread_cannot_be_seen_the_collector_finds_it", || {
        use_up_keys();
        let recorder = Recorder::builder()
            .max_bytes(4 << 20)
            .window(Duration::from_secs(3600))
            .start()
            .expect("a recorder starts");
        for batch in 0..3_u64 {
            let threads: Vec<_> = (0..50)
                .map(|_| std::thread::spawn(move || lookback::event!("work", batch = batch)))
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
            // They are silent in a generation only after the one in which they wrote.
            for _ in 0..2 {
                lookback::event!("tick");
                common::advance(&recorder);
            }
        }
        let trace = common::read(&recorder.stop().expect("it stops"));
        common::assert_sound(&trace);
        let count = |kind: &str| common::events(&trace).filter(|e| e.kind_name() == kind).count();
        // Those of the three batches, and this one.
        assert_eq!((count("thread_start"), count("thread_exit")), (151, 150));
        let slots = common::events(&trace).map(|event| event.slot()).max();
        assert!(slots.expect("there are events") <= 52, "slots are used again: {slots:?}");
    });
}

#[test]
fn a_first_event_in_a_signal_handler_that_interrupts_an_allocation_does_no_harm() {
    use std::os::unix::thread::JoinHandleExt;
    extern "C" fn record(_: libc::c_int) {
        lookback::event!("in a handler");
    }
    let name = "a_first_event_in_a_signal_handler_that_interrupts_an_allocation_does_no_harm";
    common::alone(name, || {
        use_up_keys();
        // SAFETY: the handler does nothing but record, which is safe in one.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = record as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        let recorder = Recorder::builder().max_bytes(4 << 20).start().expect("a recorder starts");
        for _ in 0..if common::long() { 50_000 } else { 3000 } {
            let (ready, done) =
                (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let thread = std::thread::spawn({
                let (ready, done) = (Arc::clone(&ready), Arc::clone(&done));
                move || {
                    ready.store(true, Ordering::SeqCst);
                    while !done.load(Ordering::Relaxed) {
                        let all: Vec<_> = (0..50).map(|n| vec![0_u8; 2000 + n * 300]).collect();
                        std::hint::black_box(all);
                    }
                }
            });
            while !ready.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            // SAFETY: the thread was not joined yet.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
            done.store(true, Ordering::SeqCst);
            thread.join().expect("it does not panic");
        }
        drop(recorder);
    });
}

#[test]
fn threads_whose_first_event_comes_at_their_very_end_leave_no_slot_behind() {
    static KEY: AtomicU32 = AtomicU32::new(0);
    fn set(round: usize) {
        let value = std::ptr::without_provenance(round);
        // SAFETY: the key was made before; the value is never dereferenced.
        unsafe { libc::pthread_setspecific(KEY.load(Ordering::SeqCst), value) };
    }
    extern "C" fn at_end(round: *mut libc::c_void) {
        if round.addr() >= 3 {
            lookback::event!("late", round = round.addr());
        }
        if round.addr() < 4 {
            set(round.addr() + 1);
        }
    }
    let name = "threads_whose_first_event_comes_at_their_very_end_leave_no_slot_behind";
    common::alone(name, || {
        let mut key = 0;
        // SAFETY: `key` is a valid place, and the destructor may run on any thread.
        assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(at_end)) }, 0);
        KEY.store(key, Ordering::SeqCst);
        let recorder = Recorder::builder().max_bytes(8 << 20).start().expect("a recorder starts");
        for thread in 0..9000 {
            let spawned = std::thread::Builder::new().stack_size(64 << 10).spawn(|| set(1));
            spawned.expect("a thread starts").join().expect("it does not panic");
            if thread % 500 == 0 {
                common::advance(&recorder);
            }
        }
        let lost = recorder.stats().lost;
        assert!(lost.iter().all(|(cause, _)| *cause != Loss::NoSlot), "{lost:?}");
    });
}
