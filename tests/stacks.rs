//! What a snapshot blames has a stack: a poll that does not come back, a panic.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::saved::{self, saved};
use common::seccomp::{forbid, forbid_on_pain_of_death};
use common::{events, wait_for};
use lookback::read::{Event, EventKind, StackEnd, StackReason, StackSource, Trace};
use lookback::{Builder, RecordExt, Recorder, Trigger};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Barrier, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

const STALL: Duration = Duration::from_millis(200);

/// A recorder as it is unless told otherwise: it takes stacks.
fn builder(directory: &Path) -> Builder {
    saved::builder(directory)
}

/// One with this trigger, that can unwind.
fn start(directory: &Path, trigger: Trigger) -> Recorder {
    let recorder = builder(directory).trigger(trigger).start().expect("a recorder starts");
    wait_for_tables(&recorder);
    recorder
}

/// Where this program is loaded.
fn bias() -> u64 {
    let program = fs::read_link("/proc/self/exe").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let first = maps.lines().find(|line| line.ends_with(program.to_str().unwrap())).unwrap();
    u64::from_str_radix(first.split('-').next().unwrap(), 16).unwrap()
}

/// The stacks of this reason in a trace.
fn stacks(trace: &Trace, wanted: StackReason) -> Vec<(Event, StackSource)> {
    let found = events(trace).filter_map(|event| match event.kind() {
        EventKind::ThreadStack { reason: Some(reason), source: Some(source), .. }
            if reason == wanted =>
        {
            Some((event, source))
        }
        _ => None,
    });
    found.collect()
}

/// The stack goes through this function of this program, and from there to its thread's begin.
#[track_caller]
fn assert_leads_through(event: &Event, function: usize) {
    let program = std::env::current_exe().unwrap();
    let stack = event.stack().expect("there is one");
    let offset = function as u64 - bias();
    let is_it = |frame: lookback::read::Frame<'_>| {
        frame.module.is_some_and(|module| {
            module.path == program.to_string_lossy() && module.build_id.len() >= 16
        }) && (offset..offset + 1500).contains(&frame.offset)
    };
    assert!(stack.frames().any(is_it), "{offset:#x}: {stack:#x?}");
    assert_eq!(stack.end(), Some(StackEnd::Begin), "{stack:#x?}");
}

/// The tables are made by a thread of the recorder's, which may not have begun yet.
fn wait_for_tables(recorder: &Recorder) {
    assert!(wait_for(|| recorder.stats().unwind_tables.modules > 0));
    let tables = recorder.stats().unwind_tables;
    assert!(tables.without_table < tables.modules && tables.bytes > 0, "{tables:?}");
}

#[inline(never)]
fn waits_for_ever(blocks: &mpsc::Receiver<()>) {
    let received = blocks.recv();
    // Else the call would be this function's last one, and leave no frame of it.
    std::hint::black_box(&received).as_ref().ok();
}

#[test]
fn a_poll_that_blocks_has_the_stack_that_it_blocks_in() {
    common::alone("a_poll_that_blocks_has_the_stack_that_it_blocks_in", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path(), Trigger::stalled_poll(STALL));
        let (go_on, blocks) = mpsc::channel::<()>();
        let polled = std::thread::spawn(move || {
            futures::executor::block_on(async move { waits_for_ever(&blocks) }.recorded("stuck"));
        });
        let trace = saved(&recorder, place.path(), 1);
        drop(go_on);
        polled.join().unwrap();
        let [(stack, source), ..] = &stacks(&trace, StackReason::Stall)[..] else {
            panic!("not one")
        };
        assert_eq!(*source, StackSource::Blocked);
        assert_leads_through(stack, waits_for_ever as fn(_) as usize);
        let stall = events(&trace).find(|event| event.name() == "stall").expect("it is recorded");
        let EventKind::ThreadStack { thread, .. } = stack.kind() else { panic!() };
        assert_eq!(common::number(&stall, "thread"), Some(thread.0), "of that very thread");
        common::stop(recorder);
    });
}

#[inline(never)]
fn holds_and_waits(own: &Mutex<u32>, other: &Mutex<u32>, has_own: &Barrier) -> u32 {
    let own = own.lock().unwrap();
    has_own.wait();
    let _region = lookback::region!("transfer");
    let other = other.try_lock().map_or_else(|_| IN_VAIN.load(Ordering::Relaxed), |it| *it);
    // As a lock that is never let go would; but the test ends.
    while IN_VAIN.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    *own + other
}

static IN_VAIN: AtomicU32 = AtomicU32::new(0);

/// Nothing is saved for it.
#[test]
fn where_no_trigger_is_armed_a_stalled_poll_has_stacks_if_they_are_asked_for() {
    let name = "where_no_trigger_is_armed_a_stalled_poll_has_stacks_if_they_are_asked_for";
    common::alone(name, || {
        let place = tempfile::tempdir().unwrap();
        let builder = Recorder::builder().snapshot_dir(place.path()).stall_stacks(STALL);
        let recorder = builder.start().unwrap();
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let poll = async move { waits.recv().is_err() };
                futures::executor::block_on(poll.recorded("stuck"))
            });
            let taken = || {
                let mut bytes = Vec::new();
                recorder.snapshot().unwrap().write_to(&mut bytes).unwrap();
                let trace = Trace::from_bytes(bytes).unwrap();
                stacks(&trace, StackReason::Stall).iter().any(|(stack, _)| stack.stack().is_some())
            };
            assert!(wait_for(taken), "a stack of the poll");
            drop(go_on);
        });
        assert_eq!(place.path().read_dir().unwrap().count(), 0, "nothing is saved");
        common::stop(recorder);
    });
}

/// A poll stalls because of what a thread holds that is in no poll.
#[test]
fn a_stalled_poll_is_sampled_while_it_lasts_with_the_threads_that_block_beside_it() {
    let name = "a_stalled_poll_is_sampled_while_it_lasts_with_the_threads_that_block_beside_it";
    common::alone(name, || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path(), Trigger::stalled_poll(STALL));
        let (a, b, has_own) = (Mutex::new(1), Mutex::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| holds_and_waits(&a, &b, &has_own));
            scope.spawn(|| {
                let poll = async { holds_and_waits(&b, &a, &has_own) };
                futures::executor::block_on(poll.recorded("stuck"))
            });
            let function = holds_and_waits as fn(_, _, _) -> _ as usize;
            let trace = saved(&recorder, place.path(), 1);
            // It may not have blocked just then; but there is one of a later stall, or a later look.
            for (stack, source) in stacks(&trace, StackReason::Beside) {
                assert_eq!(source, StackSource::Blocked);
                assert_leads_through(&stack, function);
            }
            let of_stall = || {
                let mut bytes = Vec::new();
                recorder.snapshot().unwrap().write_to(&mut bytes).unwrap();
                let trace = Trace::from_bytes(bytes).unwrap();
                (stacks(&trace, StackReason::Stall), stacks(&trace, StackReason::Beside).len())
            };
            // Four times in all, however long it lasts.
            assert!(wait_for(|| of_stall().0.len() == 4));
            std::thread::sleep(4 * STALL);
            let (samples, beside) = of_stall();
            assert_eq!((samples.len(), beside <= 1), (4, true));
            for (stack, _) in samples.iter().filter(|(stack, _)| stack.stack().is_some()) {
                assert_leads_through(stack, function);
            }
            IN_VAIN.store(1, Ordering::Relaxed);
        });
        common::stop(recorder);
    });
}

static IS_OVER: AtomicBool = AtomicBool::new(false);

#[inline(never)]
fn spins_for_ever() -> u64 {
    let mut turns = 0;
    while !IS_OVER.load(Ordering::Relaxed) {
        turns = std::hint::black_box(turns + 1);
    }
    turns
}

/// The snapshot of a poll that has stalled, and ends before it is saved: saving needs a core, too.
fn saved_after_the_poll(recorder: &Recorder, place: &Path, polled: JoinHandle<()>) -> Trace {
    assert!(wait_for(|| recorder.stats().triggers.fired > 0));
    IS_OVER.store(true, Ordering::Relaxed);
    polled.join().unwrap();
    saved(recorder, place, 1)
}

/// The stack of a poll that runs on, on a thread that does this first. On a busy machine the thread may get no
/// core in time to answer: then it is done again. `None` if the thread does not poll.
fn stack_of_a_busy_poll(recorder: &Recorder, first: fn() -> bool) -> Option<(Event, StackSource)> {
    (1..).find_map(|count| {
        IS_OVER.store(false, Ordering::Relaxed);
        let polled = std::thread::spawn(move || {
            let polls = first();
            if polls {
                futures::executor::block_on(async { spins_for_ever() }.recorded("busy"));
            }
            polls
        });
        let mut found = Vec::new();
        let is_found = wait_for(|| {
            found = stacks(&common::read(&recorder.snapshot().unwrap()), StackReason::Stall);
            found.len() == count || polled.is_finished()
        });
        IS_OVER.store(true, Ordering::Relaxed);
        if !polled.join().unwrap() {
            return Some(None);
        }
        assert!(is_found);
        found.pop().filter(|(_, source)| *source != StackSource::NoAnswer).map(Some)
    })?
}

#[test]
fn a_poll_that_runs_on_has_the_stack_that_it_runs_in() {
    common::alone("a_poll_that_runs_on_has_the_stack_that_it_runs_in", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path(), Trigger::stalled_poll(STALL));
        let (stack, source) = stack_of_a_busy_poll(&recorder, || true).unwrap();
        assert_eq!(source, StackSource::Interrupted);
        assert_leads_through(&stack, spins_for_ever as fn() -> _ as usize);
        common::stop(recorder);
    });
}

#[inline(never)]
fn panics_in_here(number: Option<u32>) -> u32 {
    number.expect("there is a number")
}

#[test]
fn a_panic_has_the_stack_of_its_thread() {
    common::alone("a_panic_has_the_stack_of_its_thread", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = builder(place.path()).trigger(Trigger::panic()).start().unwrap();
        wait_for_tables(&recorder);
        let panicked = std::thread::spawn(|| panics_in_here(None)).join();
        assert!(panicked.is_err());
        let trace = common::stop(recorder);
        let [(stack, source)] = &stacks(&trace, StackReason::Panic)[..] else { panic!("not one") };
        assert_eq!(*source, StackSource::Own);
        assert_leads_through(stack, panics_in_here as fn(_) -> _ as usize);
    });
}

#[test]
fn a_thread_that_has_blocked_every_signal_is_left_alone_and_the_trace_says_so() {
    common::alone(
        "a_thread_that_has_blocked_every_signal_is_left_alone_and_the_trace_says_so",
        || {
            let place = tempfile::tempdir().unwrap();
            let recorder = start(place.path(), Trigger::stalled_poll(STALL));
            let polled = std::thread::spawn(|| {
                // SAFETY: a set of this thread's, filled before it is used.
                unsafe {
                    let mut all = std::mem::zeroed();
                    libc::sigfillset(&mut all);
                    libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
                }
                futures::executor::block_on(async { spins_for_ever() }.recorded("deaf"));
            });
            let trace = saved_after_the_poll(&recorder, place.path(), polled);
            let [(stack, source), ..] = &stacks(&trace, StackReason::Stall)[..] else {
                panic!("no")
            };
            assert_eq!((*source, stack.stack().is_some()), (StackSource::NoSignal, false));
            common::stop(recorder);
        },
    );
}

/// What of a service's own threads is left to a filter to forbid under threat of death: all but `pread64`.
#[test]
fn where_nothing_may_be_opened_any_more_a_panic_and_a_stalled_poll_have_their_stacks() {
    common::alone(
        "where_nothing_may_be_opened_any_more_a_panic_and_a_stalled_poll_have_their_stacks",
        || {
            let place = tempfile::tempdir().unwrap();
            let recorder = start(place.path(), Trigger::stalled_poll(STALL));
            fn opens_nothing() -> bool {
                let opens = [libc::SYS_open, libc::SYS_openat, libc::SYS_close, libc::SYS_read];
                forbid(&opens, false, 0)
            }
            let panicked = std::thread::spawn(|| {
                opens_nothing() && std::panic::catch_unwind(|| panics_in_here(None)).is_err()
            });
            let stalled = stack_of_a_busy_poll(&recorder, opens_nothing);
            let (true, Some((stack, source))) = (panicked.join().unwrap(), stalled) else {
                println!("::no seccomp here");
                return;
            };
            assert_eq!(source, StackSource::Interrupted);
            assert_leads_through(&stack, spins_for_ever as fn() -> _ as usize);
            let of_panics = stacks(&common::stop(recorder), StackReason::Panic);
            let [(stack, source)] = &of_panics[..] else { panic!("{of_panics:?}") };
            assert_eq!(*source, StackSource::Own);
            assert_leads_through(stack, panics_in_here as fn(_) -> _ as usize);
        },
    );
}

/// A panic asks for nothing that the thread's beginning has asked for.
#[test]
fn a_panic_survives_a_filter_that_kills_for_what_bounds_a_stack() {
    common::alone("a_panic_survives_a_filter_that_kills_for_what_bounds_a_stack", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path(), Trigger::panic());
        let panicked = std::thread::spawn(|| {
            let calls = [libc::SYS_sched_getaffinity, libc::SYS_prlimit64];
            forbid_on_pain_of_death(&calls, 0)
                && std::panic::catch_unwind(|| panics_in_here(None)).is_err()
        });
        if !panicked.join().unwrap() {
            return println!("::no seccomp here");
        }
        let of_panics = stacks(&common::stop(recorder), StackReason::Panic);
        let [(stack, source)] = &of_panics[..] else { panic!("{of_panics:?}") };
        assert_eq!(*source, StackSource::Own);
        assert_leads_through(stack, panics_in_here as fn(_) -> _ as usize);
    });
}

/// The descriptor by which this process reads its own memory.
fn memory_file() -> Option<libc::c_int> {
    let files = fs::read_dir("/proc/self/fd").unwrap().map(|file| file.unwrap().path());
    let memory = format!("/proc/{}/mem", std::process::id());
    let mut found =
        files.filter(|file| fs::read_link(file).is_ok_and(|to| to == Path::new(&memory)));
    found.next().map(|file| file.file_name().unwrap().to_str().unwrap().parse().unwrap())
}

#[test]
fn a_program_that_reuses_the_recorders_descriptor_keeps_it_and_has_stacks_again_soon() {
    common::alone(
        "a_program_that_reuses_the_recorders_descriptor_keeps_it_and_has_stacks_again_soon",
        || {
            assert_eq!(memory_file(), None);
            let place = tempfile::tempdir().unwrap();
            // The file is opened again when a generation ends: not before the first stack.
            let hour = Duration::from_secs(3600);
            let recorder = builder(place.path()).generation_period(hour).start().unwrap();
            wait_for_tables(&recorder);
            let number = memory_file().expect("it is open");
            let own = fs::File::open("/proc/self/exe").unwrap();
            // SAFETY: as a program does that closes what it does not know.
            assert_eq!(unsafe { libc::dup2(own.as_raw_fd(), number) }, number);
            // A thread that has not asked for its stack's bounds reads it through the file.
            let asks = || lookback::event!(stack: 1000, "here");
            std::thread::spawn(asks).join().unwrap();
            common::advance(&recorder);
            let is_open_again = wait_for(|| {
                common::advance(&recorder);
                memory_file().is_some()
            });
            assert!(is_open_again);
            std::thread::spawn(asks).join().unwrap();
            let trace = common::stop(recorder);
            let sources: Vec<_> =
                stacks(&trace, StackReason::Asked).iter().map(|(_, source)| *source).collect();
            assert_eq!(sources, [StackSource::NotReadable, StackSource::Own]);
            assert_eq!(memory_file(), None, "closed with the recording");
            let exe = fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
            assert_eq!(exe, std::env::current_exe().unwrap(), "still the program's");
        },
    );
}

#[test]
fn of_many_panics_ten_a_second_have_stacks_and_the_others_are_counted() {
    common::alone("of_many_panics_ten_a_second_have_stacks_and_the_others_are_counted", || {
        const MANY: usize = 200;
        let place = tempfile::tempdir().unwrap();
        // The recorder's calls it, and so nothing is printed.
        std::panic::set_hook(Box::new(|_| {}));
        let recorder = builder(place.path()).start().unwrap();
        wait_for_tables(&recorder);
        let began = std::time::Instant::now();
        for _ in 0..MANY {
            let _ = std::panic::catch_unwind(|| panics_in_here(None));
        }
        let seconds = began.elapsed().as_secs() as usize + 2;
        let limited = recorder.stats().stacks.limited as usize;
        let trace = common::stop(recorder);
        let found = stacks(&trace, StackReason::Panic);
        let of = |wanted| found.iter().filter(|(_, source)| *source == wanted).count();
        assert_eq!(found.len(), MANY);
        assert_eq!(of(StackSource::Own) + of(StackSource::Limited), MANY);
        assert_eq!(of(StackSource::Limited), limited);
        assert!((1..=10 * seconds).contains(&of(StackSource::Own)), "{seconds} s");
    });
}

#[test]
fn running_threads_are_left_alone_if_that_was_asked_for() {
    common::alone("running_threads_are_left_alone_if_that_was_asked_for", || {
        let place = tempfile::tempdir().unwrap();
        let trigger = Trigger::stalled_poll(STALL);
        let recorder = builder(place.path()).stack_signals(false).trigger(trigger).start().unwrap();
        wait_for_tables(&recorder);
        let polled = std::thread::spawn(|| {
            futures::executor::block_on(async { spins_for_ever() }.recorded("busy"));
        });
        let trace = saved_after_the_poll(&recorder, place.path(), polled);
        let [(stack, source), ..] = &stacks(&trace, StackReason::Stall)[..] else {
            panic!("not one")
        };
        assert_eq!((*source, stack.stack().is_some()), (StackSource::Running, false));
        assert_no_signal_has_a_handler();
        common::stop(recorder);
    });
}

fn assert_no_signal_has_a_handler() {
    for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        // SAFETY: asks only.
        let now = unsafe {
            let mut now = std::mem::zeroed::<libc::sigaction>();
            assert_eq!(libc::sigaction(signal, std::ptr::null(), &mut now), 0);
            now.sa_sigaction
        };
        assert_eq!(now, libc::SIG_DFL, "{signal}");
    }
}

#[test]
fn each_generation_defines_the_frames_of_its_stacks_anew() {
    common::alone("each_generation_defines_the_frames_of_its_stacks_anew", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = builder(place.path()).start().unwrap();
        wait_for_tables(&recorder);
        for _ in 0..3 {
            let _ = std::thread::spawn(|| panics_in_here(None)).join();
            common::advance(&recorder);
        }
        let trace = common::stop(recorder);
        let found = stacks(&trace, StackReason::Panic);
        assert_eq!(found.len(), 3);
        for (stack, _) in &found {
            assert_leads_through(stack, panics_in_here as fn(_) -> _ as usize);
        }
        let frames: Vec<Vec<_>> = found
            .iter()
            .map(|(event, _)| event.stack().unwrap().frames().map(|f| f.offset).collect())
            .collect();
        assert!(frames.windows(2).all(|pair| pair[0] == pair[1]), "the same place: {frames:#x?}");
    });
}

#[test]
fn while_stacks_are_off_no_table_is_made_no_signal_gets_a_handler_and_nothing_is_recorded() {
    common::alone(
        "while_stacks_are_off_no_table_is_made_no_signal_gets_a_handler_and_nothing_is_recorded",
        || {
            let place = tempfile::tempdir().unwrap();
            let stalled = Trigger::stalled_poll(STALL);
            let recorder = builder(place.path()).stacks(false).trigger(stalled).start().unwrap();
            let polled = std::thread::spawn(|| {
                futures::executor::block_on(async { spins_for_ever() }.recorded("busy"));
            });
            let trace = saved_after_the_poll(&recorder, place.path(), polled);
            assert!(events(&trace).any(|event| event.name() == "stall"));
            assert!(stacks(&trace, StackReason::Stall).is_empty());
            let _ = std::thread::spawn(|| panics_in_here(None)).join();
            assert_eq!(recorder.stats().unwind_tables, Default::default());
            let trace = common::stop(recorder);
            assert!(events(&trace).any(|event| event.name() == "panic"));
            assert!(stacks(&trace, StackReason::Panic).is_empty());
            assert_no_signal_has_a_handler();
        },
    );
}
