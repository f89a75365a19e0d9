//! Storms of code: that is loaded and unloaded, that is made while the service runs, and a profiler of the service's own.

use crate::common::alone;
use crate::common::seccomp::{EVERY_THREAD, forbid};
use crate::common::{self, wait_for};
use crate::judge::Judge;
use crate::{Over, PER_SECOND, builder, busy_leaf, spawn_bystanders, storm, time};
use lookback::read::EventKind;
use std::ffi::{CStr, CString};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A library of one function, built by the C compiler: it calls itself so often, with so large a frame, and computes at
/// the bottom.
fn library(directory: &Path, name: &str, frame: usize) -> CString {
    let source = directory.join(format!("{name}.c"));
    let code = format!(
        "unsigned long computes(unsigned long depth, unsigned long rounds) {{
            volatile unsigned long room[{frame}];
            room[depth % {frame}] = rounds;
            if (depth > 0) return computes(depth - 1, rounds) + room[depth % {frame}];
            for (unsigned long i = 0; i < rounds; i++) room[i % {frame}] += i;
            return room[0];
        }}"
    );
    std::fs::write(&source, code).unwrap();
    let built: PathBuf = directory.join(format!("lib{name}.so"));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-fno-optimize-sibling-calls", "-o"]);
    let status = compiler.arg(&built).arg(&source).status().expect("there is a C compiler");
    assert!(status.success());
    CString::new(built.to_str().unwrap()).unwrap()
}

/// Loads the library, lets its function compute, and unloads it.
#[inline(never)]
fn with_library(path: &CStr, rounds: u64) {
    type Computes = extern "C" fn(u64, u64) -> u64;
    // SAFETY: a library that may be loaded anywhere, and the type of its function.
    unsafe {
        let handle = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        assert!(!handle.is_null());
        let found = libc::dlsym(handle, c"computes".as_ptr());
        let computes = std::mem::transmute::<*mut libc::c_void, Computes>(found);
        black_box(computes(10, rounds));
        assert_eq!(libc::dlclose(handle), 0);
    }
}

#[test]
fn code_that_is_loaded_and_unloaded_all_the_time() {
    alone("code::code_that_is_loaded_and_unloaded_all_the_time", || {
        let directory = tempfile::tempdir().unwrap();
        let libraries = [("first", 5), ("second", 90)]
            .map(|(name, frame)| library(directory.path(), name, frame));
        let judge = libraries.iter().fold(Judge::new().of_unknown_code(), |judge, path| {
            judge.with_passing(path.to_str().unwrap())
        });
        storm(2, judge, |round| with_library(&libraries[round as usize % 2], 20_000));
    });
}

/// In the place of a library that is unloaded often comes another one, of which nobody has told yet.
#[test]
fn no_stack_names_code_that_another_one_has_replaced() {
    alone("code::no_stack_names_code_that_another_one_has_replaced", || {
        let directory = tempfile::tempdir().unwrap();
        let libraries = [("first", 5), ("second", 90)]
            .map(|(name, frame)| library(directory.path(), name, frame));
        // Seldom enough that a library has gone before its code is known.
        let recorder = builder().generation_period(Duration::from_millis(50)).start().unwrap();
        assert!(wait_for(|| recorder.stats().unwind_tables.modules > 0));
        let over = AtomicBool::new(false);
        let (mut named, mut checked) = (0, 0);
        std::thread::scope(|scope| {
            let _over = Over(&over);
            spawn_bystanders(scope, &over);
            scope.spawn(|| {
                for round in 0.. {
                    let which = round % 2;
                    lookback::event!("loads", which = which);
                    with_library(&libraries[which as usize], 3_000_000);
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let began = Instant::now();
            let mut newest = 0;
            while began.elapsed() < time()
                || named < 20 && began.elapsed() < Duration::from_secs(60)
            {
                std::thread::sleep(Duration::from_millis(300));
                let trace = common::read(&recorder.snapshot().unwrap());
                common::assert_sound(&trace);
                let mut loaded = None;
                let before = newest;
                for event in common::events(&trace) {
                    if event.name() == "loads" {
                        loaded = common::number(&event, "which").map(|which| which as usize);
                        continue;
                    }
                    let EventKind::CpuSample { ago, .. } = event.kind() else { continue };
                    let (Some(which), 0) = (loaded, ago.0) else { continue };
                    if event.ticks().0 <= before {
                        continue;
                    }
                    newest = newest.max(event.ticks().0);
                    let [this, other] =
                        [which, 1 - which].map(|at| libraries[at].to_str().unwrap());
                    let Some(stack) = event.stack() else { continue };
                    checked += 1;
                    for frame in stack.frames() {
                        let path = frame.module.map(|module| module.path);
                        assert_ne!(path, Some(other), "while {this} is there: {stack:#x?}");
                        named += u64::from(path == Some(this));
                    }
                }
            }
        });
        println!("::{checked} samples, {named} frames in a library");
        assert!(checked > 0);
        common::stop(recorder);
    });
}

/// Code that is written while the service runs, in a page of its own.
struct Written(*mut libc::c_void);

const PAGE: usize = 4096;

// SAFETY: the page stays as it is, and may be executed by any thread.
unsafe impl Sync for Written {}

impl Written {
    fn new(code: &[u8]) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, as long as the code at least.
        unsafe {
            let page = libc::mmap(std::ptr::null_mut(), PAGE, access, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            page.cast::<u8>().copy_from_nonoverlapping(code.as_ptr(), code.len());
            assert_eq!(libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC), 0);
            Self(page)
        }
    }

    /// Calls it with two arguments.
    fn call(&self, first: u64, second: u64) -> u64 {
        type Code = extern "C" fn(u64, u64) -> u64;
        // SAFETY: what is there is a function of this type.
        unsafe { std::mem::transmute::<*mut libc::c_void, Code>(self.0)(first, second) }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and no longer called.
        unsafe { libc::munmap(self.0, PAGE) };
    }
}

/// `push rbp; mov rbp, rsp; 1: dec rdi; jnz 1b; call rsi; pop rbp; ret`, as most compilers at run time write it.
const WITH_FRAME_POINTER: [u8; 13] =
    [0x55, 0x48, 0x89, 0xe5, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0xff, 0xd6, 0x5d, 0xc3];
/// `push rbp; mov rbp, rsi; 1: dec rdi; jnz 1b; pop rbp; ret`: the register of the frame pointer holds something else.
const WITHOUT_FRAME_POINTER: [u8; 11] =
    [0x55, 0x48, 0x89, 0xf5, 0x48, 0xff, 0xcf, 0x75, 0xfb, 0x5d, 0xc3];

#[inline(never)]
extern "C" fn called_from_written_code() -> u64 {
    black_box(busy_leaf(black_box(3)))
}

#[test]
fn code_that_is_made_at_run_time_and_has_no_rules() {
    alone("code::code_that_is_made_at_run_time_and_has_no_rules", || {
        storm(2, Judge::new().of_unknown_code(), |round| {
            let room = black_box([round; 64]);
            let written = Written::new(&WITH_FRAME_POINTER);
            for _ in 0..20 {
                let called = called_from_written_code as extern "C" fn() -> u64 as usize;
                written.call(5_000, called as u64);
            }
            let written = Written::new(&WITHOUT_FRAME_POINTER);
            let inside = std::ptr::from_ref(&room[(round % 64) as usize]) as u64;
            // A place on the stack, one above it, one nowhere, and one that is odd.
            for junk in [inside, inside + 1024, u64::MAX - 7, inside | 1, 0] {
                written.call(20_000, junk);
            }
        });
    });
}

#[test]
fn a_profiler_of_the_service_s_own() {
    static PROFILED: AtomicU64 = AtomicU64::new(0);
    extern "C" fn profiles(_: libc::c_int) {
        PROFILED.fetch_add(1, Ordering::Relaxed);
        black_box(busy_leaf(1));
    }
    alone("code::a_profiler_of_the_service_s_own", || {
        // SAFETY: the handler does what a handler may, and the setting is valid.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = profiles as *const () as usize;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGPROF, &action, std::ptr::null_mut()), 0);
            let time = libc::timeval { tv_sec: 0, tv_usec: 1000 };
            let setting = libc::itimerval { it_interval: time, it_value: time };
            let nowhere = std::ptr::null_mut::<libc::itimerval>();
            assert_eq!(libc::syscall(libc::SYS_setitimer, 2, &raw const setting, nowhere), 0);
        }
        storm(2, Judge::new(), |round| _ = black_box(busy_leaf(round)));
        assert!(PROFILED.load(Ordering::Relaxed) > 0);
    });
}

/// Installed in the middle: the timers that there are go on, and no thread gets another one.
#[test]
fn a_filter_that_forbids_timers_from_now_on() {
    alone("code::a_filter_that_forbids_timers_from_now_on", || {
        let recorder = builder().start().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _over = Over(&over);
            spawn_bystanders(scope, &over);
            assert!(wait_for(|| recorder.stats().cpu_samples.taken > 5));
            if !forbid(&[libc::SYS_timer_create], false, EVERY_THREAD) {
                return println!("::no seccomp here");
            }
            let began = Instant::now();
            let mut rounds = 0;
            let is_told = || recorder.stats().cpu_samples.trouble.is_some();
            while !is_told() || began.elapsed() < time() {
                let brief = || _ = black_box(busy_leaf(rounds));
                std::thread::scope(|scope| _ = scope.spawn(brief).join());
                rounds += 1;
                assert!(began.elapsed() < time() + Duration::from_secs(60), "it is never told");
            }
            lookback::event!("goes on");
        });
        let trouble = recorder.stats().cpu_samples.trouble;
        let trace = common::stop(recorder);
        assert!(common::events(&trace).any(|event| event.name() == "goes on"));
        assert!(trouble.is_none_or(|trouble| trouble.starts_with("the kernel refuses timers: ")));
        let _ = PER_SECOND;
    });
}
