//! The thread that gets a fatal signal leaves its stack in the black box, wherever it was.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use lookback::read::recover::recover;
use lookback::read::wire::CrashNote;
use lookback::read::{
    Event, EventKind, Frame, StackEnd, StackReason, StackSource, Trace, validate,
};
use lookback::{RecordExt, Recorder};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const CHILD: &str = "LOOKBACK_TEST_CRASH_CHILD";
const PATH: &str = "LOOKBACK_TEST_CRASH_PATH";

/// Fails in the middle of an allocation when it is told to.
struct Allocator;

static ALLOCATOR_FAILS: AtomicBool = AtomicBool::new(false);

// SAFETY: it is the system's.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ALLOCATOR_FAILS.load(Ordering::Relaxed) {
            culprit();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// The function that every stack is to name.
#[inline(never)]
extern "C" fn culprit() {
    // SAFETY: none; that is what it is for.
    unsafe { std::ptr::without_provenance_mut::<u8>(0x123).write_volatile(1) };
    black_box(0);
}

/// Its instruction is none.
#[inline(never)]
fn calls_nowhere() {
    // SAFETY: none; that is what it is for.
    let nowhere: extern "C" fn() = unsafe { std::mem::transmute(0x10_usize) };
    black_box(nowhere)();
    black_box(0);
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let room = black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { deeper(depth + 1) + room[3] }
}

/// Fails when it is formatted, which the recorder has called for.
struct Unprintable;

impl std::fmt::Debug for Unprintable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        culprit();
        Ok(())
    }
}

extern "C" fn fails_in_handler(_: libc::c_int) {
    culprit();
}

/// Fails as it is told to, in this function.
#[inline(never)]
fn fail(how: &str) {
    match how {
        "overflow" => {
            black_box(deeper(0));
        }
        "sampled" => {
            // Until this thread has a timer.
            let taken = || lookback::stats().map_or(0, |stats| stats.cpu_samples.taken);
            let before = taken();
            while taken() < before + 3 {
                (0..100_000).for_each(|i| _ = black_box(i));
            }
            black_box(deeper(0));
        }
        "nowhere" => calls_nowhere(),
        "abort" => std::process::abort(),
        "allocator" => {
            ALLOCATOR_FAILS.store(true, Ordering::Relaxed);
            black_box(Box::new(7));
        }
        "recorder" => lookback::event!("says", what = ?Unprintable),
        "handler" | "alternate" => {
            // SAFETY: a valid structure, and a signal to this thread.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = fails_in_handler as *const () as usize;
                action.sa_flags = if how == "alternate" { libc::SA_ONSTACK } else { 0 };
                libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
                libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1);
            }
        }
        "region" => {
            let _region = lookback::region!("in this region");
            culprit();
        }
        "task" => futures::executor::block_on(async { culprit() }.recorded("a task")),
        "twice" => {
            let together = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        together.wait();
                        culprit();
                    });
                }
            });
        }
        _ => culprit(),
    }
    black_box(0);
}

/// If this is a child: fails in a thread, and never returns.
fn fail_if_child(record: impl Fn(lookback::Builder) -> lookback::Builder) {
    let (Ok(how), Some(path)) = (std::env::var(CHILD), std::env::var_os(PATH)) else { return };
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    let builder = Recorder::builder().max_bytes(1 << 20).black_box(path);
    let recorder = record(builder).start().unwrap();
    let has_tables = || how == "off" || recorder.stats().unwind_tables.modules > 0;
    assert!(common::wait_for(has_tables));
    lookback::event!("alive");
    let thread = std::thread::Builder::new().name("the-culprit".to_owned());
    let thread = if how == "sampled" { thread.stack_size(48 << 20) } else { thread };
    let failing = thread.spawn(move || {
        if how != "silent" {
            lookback::event!("about to fail");
        }
        fail(&how);
    });
    let _ = failing.unwrap().join();
    std::process::exit(3);
}

/// What a child has left that has failed in this way.
struct Left {
    status: ExitStatus,
    note: CrashNote,
    trace: Trace,
    crash: Vec<Event>,
}

impl Left {
    fn of(test: &str, how: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let status = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, how)
            .env(PATH, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.code().is_none(), "{how}: {status}");
        let bytes = std::fs::read(&path).unwrap();
        let mut recovered = recover(&bytes).unwrap();
        assert!(recovered.damage().is_empty(), "{how}: {:?}", recovered.damage());
        let note = recovered.header().crash.clone().expect("it is noted");
        let mut file = Vec::new();
        recovered.write_to(&mut file, "crash", "test").unwrap();
        let trace = Trace::from_bytes(file).unwrap();
        let wrong = validate(&trace);
        assert!(wrong.is_empty(), "{how}: {wrong:?}");
        let is_crash = |event: &Event| {
            let crash = Some(StackReason::Crash);
            matches!(event.kind(), EventKind::ThreadStack { reason, .. } if reason == crash)
        };
        let crash = common::events(&trace).filter(is_crash).collect();
        Self { status, note, trace, crash }
    }

    /// The one stack of the crash.
    #[track_caller]
    fn frames(&self) -> (Vec<Frame<'_>>, StackEnd) {
        let [event] = &self.crash[..] else { panic!("{:?}: {:?}", self.crash, self.note) };
        let EventKind::ThreadStack { source, .. } = event.kind() else { unreachable!() };
        assert_eq!(source, Some(StackSource::Own));
        assert_eq!(event.name(), self.note.thread_name, "{:?} {event:?}", self.note);
        let stack = event.stack().expect("there is one");
        (stack.frames().collect(), stack.end().expect("it has an end"))
    }
}

/// The places of the frames that lie in this function of this program, which is the same in the child.
fn places_in(frames: &[Frame<'_>], function: usize, length: u64) -> Vec<usize> {
    let program = std::env::current_exe().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let first = maps.lines().find(|line| line.ends_with(program.to_str().unwrap())).unwrap();
    let bias = u64::from_str_radix(first.split('-').next().unwrap(), 16).unwrap();
    let offset = function as u64 - bias;
    let is_it = |frame: &Frame<'_>| {
        frame.module.is_some_and(|module| {
            module.path == program.to_string_lossy() && module.build_id.len() >= 16
        }) && (offset..offset + length).contains(&frame.offset)
    };
    (0..frames.len()).filter(|at| is_it(&frames[*at])).collect()
}

const OF_CULPRIT: u64 = 60;
const OF_FAIL: u64 = 3000;

#[test]
fn wherever_a_thread_crashes_its_stack_leads_from_there_to_its_begin() {
    const NAME: &str = "wherever_a_thread_crashes_its_stack_leads_from_there_to_its_begin";
    fail_if_child(|builder| builder);
    for how in
        ["plainly", "silent", "allocator", "recorder", "handler", "alternate", "region", "task"]
    {
        let left = Left::of(NAME, how);
        let (frames, end) = left.frames();
        let in_culprit = places_in(&frames, culprit as extern "C" fn() as usize, OF_CULPRIT);
        let in_fail = places_in(&frames, fail as fn(&str) as usize, OF_FAIL);
        assert_eq!(in_culprit, [0], "{how}: {frames:#x?}");
        assert!(frames[0].is_exact && !frames[1].is_exact, "{how}: {frames:#x?}");
        assert!(!in_fail.is_empty(), "{how}: {frames:#x?}");
        assert_eq!(end, StackEnd::Begin, "{how}: {frames:#x?}");
        let exact = frames.iter().filter(|frame| frame.is_exact).count();
        assert_eq!(
            exact,
            if ["handler", "alternate"].contains(&how) { 2 } else { 1 },
            "{how}: {frames:#x?}"
        );
    }
}

#[test]
fn a_call_to_nowhere_is_shown_with_its_caller() {
    const NAME: &str = "a_call_to_nowhere_is_shown_with_its_caller";
    fail_if_child(|builder| builder);
    let left = Left::of(NAME, "nowhere");
    let (frames, end) = left.frames();
    assert_eq!(places_in(&frames, calls_nowhere as fn() as usize, 100), [1], "{frames:#x?}");
    assert_eq!((frames[0].module, frames[0].left_out(), end), (None, None, StackEnd::Begin));
}

#[test]
fn an_abort_has_the_stack_of_who_aborts() {
    const NAME: &str = "an_abort_has_the_stack_of_who_aborts";
    fail_if_child(|builder| builder);
    let left = Left::of(NAME, "abort");
    let (frames, end) = left.frames();
    assert!(!places_in(&frames, fail as fn(&str) as usize, OF_FAIL).is_empty(), "{frames:#x?}");
    assert_eq!(end, StackEnd::Begin);
    let files: Vec<_> = frames.iter().filter_map(|frame| frame.module).collect();
    assert!(files.iter().any(|file| file.path.contains("libc")), "{files:?}");
}

#[test]
fn of_a_stack_that_overflows_both_ends_are_there_and_the_number_between() {
    const NAME: &str = "of_a_stack_that_overflows_both_ends_are_there_and_the_number_between";
    fail_if_child(|builder| builder);
    let left = Left::of(NAME, "overflow");
    let (frames, end) = left.frames();
    assert_eq!((frames.len(), end), (64 + 1 + 32, StackEnd::Begin));
    let between = frames[64].left_out().expect("frames are missing");
    // The stack has 2 MiB, and each frame has room for 64 words at least.
    assert!((1000..4096).contains(&between), "{between}");
    let in_deeper = places_in(&frames, deeper as fn(u64) -> u64 as usize, 600);
    assert!(in_deeper.len() > 70, "{in_deeper:?} of {frames:#x?}");
    // Optimised, it is so short that the other one begins within its range.
    if cfg!(debug_assertions) {
        let in_fail = places_in(&frames, fail as fn(&str) as usize, OF_FAIL);
        assert!(matches!(in_fail[..], [at] if at > 65), "{in_fail:?} of {frames:#x?}");
    }
    assert_eq!(left.note.signal, libc::SIGSEGV);
}

/// The walk of so deep a stack uses so much CPU time that the thread's timer goes off in it, on an alternate stack that has
/// no room for a second signal.
#[test]
fn a_sample_of_cpu_time_does_not_disturb_the_handler_of_a_crash() {
    const NAME: &str = "a_sample_of_cpu_time_does_not_disturb_the_handler_of_a_crash";
    fail_if_child(|builder| builder.cpu_samples(1000));
    let left = Left::of(NAME, "sampled");
    let (frames, end) = left.frames();
    assert_eq!((frames.len(), end), (64 + 1 + 32, StackEnd::Begin));
    assert_eq!(left.note.signal, libc::SIGSEGV);
    // The standard library's handler has had its say.
    assert_eq!(left.status.signal(), Some(libc::SIGABRT));
}

#[test]
fn of_threads_that_crash_at_once_the_stack_is_of_the_one_that_is_noted() {
    const NAME: &str = "of_threads_that_crash_at_once_the_stack_is_of_the_one_that_is_noted";
    fail_if_child(|builder| builder);
    for _ in 0..if common::long() { 200 } else { 10 } {
        let left = Left::of(NAME, "twice");
        let (frames, end) = left.frames();
        let in_culprit = places_in(&frames, culprit as extern "C" fn() as usize, OF_CULPRIT);
        assert_eq!((&in_culprit[..], end), (&[0][..], StackEnd::Begin), "{frames:#x?}");
        let stack = left.note.stack.as_ref().unwrap();
        assert_eq!(u64::from(stack.frames[0].offset), frames[0].offset);
    }
}

#[test]
fn without_stacks_a_crash_has_none() {
    const NAME: &str = "without_stacks_a_crash_has_none";
    fail_if_child(|builder| builder.stacks(false));
    let left = Left::of(NAME, "off");
    assert!(left.crash.is_empty() && left.note.stack.is_none(), "{:?}", left.note);
    assert!(left.trace.metadata().number("crash.signal").is_some());
}

/// Makes the page of a fault accessible.
extern "C" fn repairs(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's, and the page is this test's.
    unsafe {
        let page = (*info).si_addr() as usize & !4095;
        libc::mprotect(page as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE);
    }
}

/// As a runtime does that tells by faults what is written to.
#[test]
fn of_any_number_of_faults_that_are_resolved_few_have_stacks() {
    common::alone("of_any_number_of_faults_that_are_resolved_few_have_stacks", || {
        // SAFETY: a valid structure.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = repairs as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO;
            libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let recorder = Recorder::builder().max_bytes(1 << 20).black_box(&path).start().unwrap();
        assert!(common::wait_for(|| recorder.stats().unwind_tables.modules > 0));
        lookback::event!("alive");
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0) };
        let has_stack = |faults: u32| {
            for _ in 0..faults {
                // SAFETY: the handler makes the page accessible.
                unsafe {
                    page.cast::<u8>().write_volatile(1);
                    libc::mprotect(page, 4096, libc::PROT_READ);
                }
            }
            let bytes = std::fs::read(&path).unwrap();
            let note = recover(&bytes).unwrap().header().crash.clone().expect("noted");
            assert!(note.survived);
            note.stack.is_some()
        };
        assert!(has_stack(1));
        // The last of 5,000 has none, unless they take longer than some seconds.
        assert!((0..100).any(|_| !has_stack(5000)));
        recorder.stop().unwrap();
    });
}

#[inline(never)]
fn faults_deep_below(depth: u64) -> u64 {
    let room = black_box([depth; 9]);
    if depth > 0 {
        return faults_deep_below(depth - 1) + room[black_box(3)];
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, which the handler makes accessible.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
        page.cast::<u8>().write_volatile(1);
    }
    1
}

/// A thread of the standard library has an alternate stack of 8 KiB, or as much as the kernel needs where that is more.
#[test]
fn the_handler_leaves_most_of_a_small_alternate_stack() {
    const SIZE: usize = 64 << 10;
    const PAINT: u8 = 0xA5;
    common::alone("the_handler_leaves_most_of_a_small_alternate_stack", || {
        // SAFETY: a valid structure.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = repairs as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let recorder =
            Recorder::builder().max_bytes(1 << 20).stacks(true).black_box(&path).start().unwrap();
        assert!(common::wait_for(|| recorder.stats().unwind_tables.modules > 0));
        lookback::event!("alive");
        let used = std::thread::spawn(|| {
            let mut alternate = vec![PAINT; SIZE];
            // SAFETY: memory that lasts as long as a handler may run on it, which this thread's last lines end.
            unsafe {
                let mut before = std::mem::zeroed::<libc::stack_t>();
                let stack = libc::stack_t {
                    ss_sp: alternate.as_mut_ptr().cast(),
                    ss_flags: 0,
                    ss_size: SIZE,
                };
                assert_eq!(libc::sigaltstack(&stack, &mut before), 0);
                faults_deep_below(200);
                libc::sigaltstack(&before, std::ptr::null_mut());
            }
            SIZE - alternate.iter().position(|byte| *byte != PAINT).unwrap_or(SIZE)
        });
        let used = used.join().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let note = recover(&bytes).unwrap().header().crash.clone().expect("noted");
        let stack = note.stack.expect("with its stack");
        assert!(note.survived && stack.left_out > 100, "{stack:?}");
        // SAFETY: asks only. What the kernel saves, which differs by machine.
        let of_kernel = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
        assert!(used > 0 && used < 8 << 10, "{used}");
        let own = used.saturating_sub(of_kernel);
        eprintln!("{own} bytes of the alternate stack beyond the kernel's {of_kernel}");
        assert!(of_kernel == 0 || own < 4 << 10, "{own} beyond what the kernel saves");
        recorder.stop().unwrap();
    });
}
