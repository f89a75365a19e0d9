//! Threads that sleep and wake all the time, whose stacks must never be torn; and a process that goes away.

use super::code::Mappings;
use super::memory::OutsideMemory;
use super::thread::{Seen, Target};
use super::*;
use lookback_snapshot::wire::StackEnd;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[inline(never)]
fn outer_a(micros: u64) {
    let room = black_box([1_u64; 12]);
    place_a(micros);
    black_box(&room);
}

#[inline(never)]
fn place_a(micros: u64) {
    let room = black_box([1_u64; 4]);
    std::thread::sleep(Duration::from_micros(micros));
    black_box(&room);
}

#[inline(never)]
fn outer_b(micros: u64) {
    let room = black_box([1_u64; 4]);
    place_b(micros);
    black_box(&room);
}

#[inline(never)]
fn place_b(micros: u64) {
    let room = black_box([1_u64; 12]);
    std::thread::sleep(Duration::from_micros(micros));
    black_box(&room);
}

/// Sleeps for 0 to 63 microseconds at a time, in one of two places, until it is over.
fn sleeps(over: &AtomicBool, thread: &AtomicU64) {
    thread.store(crate::os::thread::number(), Ordering::Release);
    let mut random = 12_345_u64;
    while !over.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if random >> 63 == 0 { outer_a(random >> 58) } else { outer_b(random >> 58) }
    }
}

/// As a compiler ends a function whose last act is to sleep: it jumps there, and has no frame then.
#[cfg(target_arch = "x86_64")]
mod jumps {
    use super::*;

    // The first argument stays, of a `Duration` the seconds; the nanoseconds are none.
    core::arch::global_asm!(
        ".globl lookback_test_calls_what_jumps",
        ".hidden lookback_test_calls_what_jumps",
        "lookback_test_calls_what_jumps:",
        ".cfi_startproc",
        "sub rsp, 40",
        ".cfi_adjust_cfa_offset 40",
        "call lookback_test_jumps_to_sleep",
        "add rsp, 40",
        ".cfi_adjust_cfa_offset -40",
        "ret",
        ".cfi_endproc",
        "lookback_test_jumps_to_sleep:",
        "mov rax, rsi",
        "xor esi, esi",
        "jmp rax",
    );

    unsafe extern "C" {
        fn lookback_test_calls_what_jumps(seconds: u64, sleep: *const ());
    }

    #[test]
    fn a_function_that_called_one_which_jumped_to_another_is_on_the_stack() {
        let pid = std::process::id();
        let file = File::open("/proc/self/mem").unwrap();
        let memory = OutsideMemory(&file);
        let code = Mappings::of(pid).unwrap().code(memory, &|| false);
        let target = Target { pid, memory, code: &code, tracing: None };
        let (number, told) = std::sync::mpsc::channel();
        // It sleeps until the process ends.
        std::thread::spawn(move || {
            number.send(crate::os::thread::number()).unwrap();
            let sleep: fn(Duration) = std::thread::sleep;
            // SAFETY: a `Duration` is passed as its two numbers, in the first two registers.
            unsafe { lookback_test_calls_what_jumps(3600, sleep as *const ()) };
        });
        let thread = told.recv().unwrap();
        let calls: unsafe extern "C" fn(u64, *const ()) = lookback_test_calls_what_jumps;
        let start = code.find(calls as usize as u64).unwrap().1;
        let is_there =
            |at: u64| code.find(at).is_some_and(|(_, at)| (start..start + 10).contains(&at));
        let mut last = None;
        for _ in 0..600 {
            if let Some(walked) = target.one_look(thread) {
                if walked.frames.iter().any(|frame| is_there(frame.at())) {
                    return;
                }
                last = Some((walked.end, walked.frames));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("it is not in {last:x?}");
    }
}

/// A million with LOOKBACK_TEST_READS=1000000.
#[test]
fn of_a_thread_that_sleeps_and_wakes_all_the_time_no_stack_is_torn() {
    let reads = std::env::var("LOOKBACK_TEST_READS").ok().and_then(|reads| reads.parse().ok());
    let reads: u64 = reads.unwrap_or(100_000);
    let pid = std::process::id();
    let file = File::open("/proc/self/mem").unwrap();
    let memory = OutsideMemory(&file);
    let code = Mappings::of(pid).unwrap().code(memory, &|| false);
    let target = Target { pid, memory, code: &code, tracing: None };
    let start_of = |function: fn(u64)| code.find(function as usize as u64).unwrap().1;
    // Where each function ends is not known, but which begins last before an address.
    let mut starts: Vec<_> = [outer_a, place_a, outer_b, place_b, end_of_places]
        .into_iter()
        .zip(0..)
        .map(|(function, which)| (start_of(function), which))
        .collect();
    starts.sort_unstable();
    let which = |address: u64| {
        let at = code.find(address)?.1;
        let next = starts.partition_point(|(start, _)| *start <= at);
        let (start, which) = *starts.get(next.checked_sub(1)?)?;
        (at - start < 400 && which < 4).then_some(which)
    };
    let (over, thread) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut good, mut rejected) = (0_u64, 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| sleeps(&over, &thread));
        while thread.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let thread = thread.load(Ordering::Acquire);
        let mut wrong = None;
        for _ in 0..reads {
            let Some(walked) = target.one_look(thread) else {
                rejected += 1;
                continue;
            };
            let places: Vec<i32> =
                walked.frames.iter().skip(1).filter_map(|frame| which(frame.at())).collect();
            let is_whole = walked.end == StackEnd::Begin;
            let is_known = matches!(places[..], [1, 0] | [3, 2]) || places.is_empty();
            if !is_whole || !is_known {
                wrong = Some((places, walked.end, walked.frames));
                break;
            }
            good += u64::from(!places.is_empty());
        }
        over.store(true, Ordering::Relaxed);
        assert!(wrong.is_none(), "{wrong:x?}");
    });
    println!("{reads} reads: {good} stacks, {rejected} times the thread went on, none torn");
    assert!(good > 0);
}

/// Stands behind the places, if the linker keeps the order; else it does no harm.
#[inline(never)]
fn end_of_places(_: u64) {}

#[test]
fn the_same_place_is_seen_only_while_a_thread_has_not_run() {
    let (pid, file) = (std::process::id(), File::open("/proc/self/mem").unwrap());
    let memory = OutsideMemory(&file);
    let code = Mappings::of(pid).unwrap().code(memory, &|| true);
    let target = Target { pid, memory, code: &code, tracing: None };
    let (wake, woken) = mpsc::channel::<()>();
    let (said, number) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        said.send(crate::os::thread::number()).unwrap();
        while woken.recv().is_ok() {}
    });
    let number = number.recv().unwrap();
    let blocked = || loop {
        match target.look(number) {
            Ok(seen @ Seen { place: wait::Place::Blocked { .. }, .. }) => return seen,
            _ => std::thread::yield_now(),
        }
    };
    let before = loop {
        let seen = blocked();
        if seen == blocked() {
            break seen;
        }
    };
    wake.send(()).unwrap();
    // It waits at the same place again, and has run meanwhile.
    while target.look(number).is_ok_and(|now| now == before) {
        std::thread::yield_now();
    }
    drop(wake);
    thread.join().unwrap();
}

#[test]
fn a_process_that_ends_meanwhile_is_an_error_or_has_what_was_there() {
    for pause in [0, 1, 5, 20] {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id();
        let ends = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(pause));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        match stacks_of_process(pid, false) {
            Ok(_) | Err(OutsideError::NoProcess(_) | OutsideError::Stacks { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        ends.join().unwrap();
        assert!(matches!(stacks_of_process(pid, false), Err(OutsideError::NoProcess(_))));
    }
}

#[test]
fn a_thread_of_the_kernel_has_no_stack_and_that_is_an_error() {
    // Process 2 starts the kernel's threads, where it is visible.
    let is_kernel = fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n");
    if is_kernel {
        assert!(
            stacks_of_process(2, true).is_ok_and(|of| of.threads.iter().all(|t| t.stack == 0))
                || stacks_of_process(2, true).is_err()
        );
    }
}
