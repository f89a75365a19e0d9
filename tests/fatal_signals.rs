//! Fatal signals are noted in the black box, and the process dies as it would have.

mod common;

use common::alone;
use lookback::Recorder;
use lookback::read::recover::recover;
use lookback::read::wire::CrashNote;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

const CHILD: &str = "LOOKBACK_TEST_SIGNAL_CHILD";
const PATH: &str = "LOOKBACK_TEST_SIGNAL_PATH";

/// What a child is to do, and its box.
fn task() -> Option<(String, PathBuf)> {
    Some((std::env::var(CHILD).ok()?, std::env::var_os(PATH)?.into()))
}

/// Runs this test again as a child with a box and something to do: how it ended, what it said on
/// stderr, and what it noted.
fn end(test: &str, what: &str) -> (ExitStatus, String, Option<CrashNote>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("service.box");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, what)
        .env(PATH, &path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let recovered = recover(&bytes).unwrap();
    assert!(recovered.damage().is_empty(), "{:?}", recovered.damage());
    (status, said, recovered.header().crash.clone())
}

fn record(path: &Path) -> Recorder {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
    let recorder = Recorder::builder().max_bytes(1 << 20).black_box(path).start().unwrap();
    lookback::event!("alive");
    recorder
}

/// Fails where it is told to.
fn fail(how: &str) {
    match how {
        // SAFETY: none; that is what it is for.
        "SIGSEGV" => unsafe { std::ptr::without_provenance_mut::<u8>(0x123).write_volatile(1) },
        "SIGBUS" => {
            let file = tempfile::tempfile().unwrap();
            file.set_len(4096).unwrap();
            // SAFETY: a new mapping, of which the file is then taken away.
            unsafe {
                let (rights, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
                let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
                let base = libc::mmap(std::ptr::null_mut(), 4096, rights, shared, descriptor, 0);
                file.set_len(0).unwrap();
                base.cast::<u8>().write_volatile(1);
            }
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: none; that is what it is for.
        "SIGILL" => unsafe { std::arch::asm!("ud2") },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: none; that is what it is for.
        "SIGFPE" => unsafe {
            std::arch::asm!(
                "xor edx, edx", "xor ecx, ecx", "div ecx",
                inout("eax") 1 => _, out("ecx") _, out("edx") _,
            );
        },
        "SIGABRT" => std::process::abort(),
        "overflow" => {
            fn deeper(depth: u64) -> u64 {
                let room = std::hint::black_box([depth; 512]);
                if depth == u64::MAX { 0 } else { deeper(depth + 1) + room[3] }
            }
            std::hint::black_box(deeper(0));
        }
        // SAFETY: sends a signal to this process.
        _ => unsafe {
            libc::kill(libc::getpid(), libc::SIGFPE);
        },
    }
}

#[test]
fn each_is_noted_with_its_thread_and_the_process_dies_of_it() {
    const NAME: &str = "each_is_noted_with_its_thread_and_the_process_dies_of_it";
    if let Some((what, path)) = task() {
        let _recorder = record(&path);
        let failing = move || {
            lookback::event!("about to fail");
            fail(&what);
        };
        let thread = std::thread::Builder::new().name("the-culprit".to_owned()).spawn(failing);
        let _ = thread.unwrap().join();
        return;
    }
    let mut cases = vec![
        ("SIGSEGV", libc::SIGSEGV, 0x123),
        ("SIGBUS", libc::SIGBUS, 1),
        ("SIGABRT", libc::SIGABRT, 0),
    ];
    if cfg!(target_arch = "x86_64") {
        cases.extend([("SIGILL", libc::SIGILL, 1), ("SIGFPE", libc::SIGFPE, 1)]);
    }
    for (what, signal, address) in cases {
        let (status, _, note) = end(NAME, what);
        assert_eq!(status.signal(), Some(signal), "{what}");
        let note = note.unwrap_or_else(|| panic!("{what} is not noted"));
        assert_eq!((note.signal, note.signal_name()), (signal, Some(what)), "{note:?}");
        assert_eq!(note.thread_name, "the-culprit");
        assert!(note.thread.0 != 0 && note.os_thread != 0 && note.wall.0 != 0, "{note:?}");
        assert!(!note.survived);
        assert!(cfg!(not(target_arch = "x86_64")) || note.instruction != 0, "{note:?}");
        match address {
            0 => assert_eq!(note.address, 0, "{note:?}"),
            1 => assert_ne!(note.address, 0, "{note:?}"),
            exact => assert_eq!(note.address, exact, "{note:?}"),
        }
    }
}

#[test]
fn a_stack_that_overflows_is_noted_and_told_as_ever() {
    const NAME: &str = "a_stack_that_overflows_is_noted_and_told_as_ever";
    if let Some((what, path)) = task() {
        let _recorder = record(&path);
        let _ = std::thread::spawn(move || fail(&what)).join();
        return;
    }
    let (status, said, note) = end(NAME, "overflow");
    // The standard library's handler, which was there before, has had its say.
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(said.contains("has overflowed its stack"), "{said}");
    // The fault stays noted, although an abort came after it.
    assert_eq!(note.expect("it is noted").signal, libc::SIGSEGV);
}

#[test]
fn a_signal_that_somebody_sends_is_noted_with_who_it_was() {
    const NAME: &str = "a_signal_that_somebody_sends_is_noted_with_who_it_was";
    if let Some((what, path)) = task() {
        let _recorder = record(&path);
        fail(&what);
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let (status, _, note) = end(NAME, "sent");
    assert_eq!(status.signal(), Some(libc::SIGFPE));
    let note = note.expect("it is noted");
    assert!(note.sender != 0 && note.code <= 0 && note.address == 0, "{note:?}");
}

static CALLS: AtomicU32 = AtomicU32::new(0);

/// Deals with a fault: makes the page accessible that was not.
extern "C" fn repairs(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    CALLS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the kernel's.
    let address = unsafe { (*info).si_addr() };
    let page = (address as usize) & !4095;
    // SAFETY: the page is this test's.
    unsafe {
        libc::mprotect(page as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE);
    }
}

fn install(signal: libc::c_int, handler: usize) {
    install_with(signal, handler, 0);
}

fn install_with(signal: libc::c_int, handler: usize, flags: libc::c_int) {
    // SAFETY: a valid structure.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | flags;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// A page that nobody may write to.
fn locked_page() -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0).cast() }
}

#[test]
fn a_handler_that_deals_with_faults_goes_on_doing_so() {
    alone("a_handler_that_deals_with_faults_goes_on_doing_so", || {
        install(libc::SIGSEGV, repairs as *const () as usize);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let recorder = record(&path);
        for round in 1..=3 {
            let page = locked_page();
            // SAFETY: the handler makes the page writable.
            unsafe { page.write_volatile(7) };
            // SAFETY: it is mapped.
            assert_eq!(unsafe { page.read_volatile() }, 7);
            assert_eq!(CALLS.load(Ordering::SeqCst), round);
        }
        lookback::event!("went on");
        let bytes = std::fs::read(&path).unwrap();
        let note = recover(&bytes).unwrap().header().crash.clone().expect("noted");
        assert!(note.survived, "{note:?}");
        let mut snapshot = Vec::new();
        recover(&bytes).unwrap().write_to(&mut snapshot, "asked for", "test").unwrap();
        let trace = lookback::Trace::from_bytes(snapshot).unwrap();
        let crash = lookback::read::wire::key::CRASH_SIGNAL;
        assert_eq!(trace.metadata().number(crash), None, "it is none that it died of");
        recorder.stop().unwrap();
        // Nothing is recorded, and nothing is noted: the handler goes on all the same.
        // SAFETY: the handler makes the page writable.
        unsafe { locked_page().write_volatile(7) };
        assert_eq!(CALLS.load(Ordering::SeqCst), 4);
        // A process that went on has not died: the box is replaced.
        let recorder = record(&path);
        assert_eq!(recorder.predecessor(), None);
    });
}

/// Says so on stderr, as a handler may.
fn say(text: &str) {
    // SAFETY: so many bytes are there.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
}

extern "C" fn says(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    say("handled\n");
    if CALLS.fetch_add(1, Ordering::SeqCst) > 10 {
        // SAFETY: the call has no preconditions.
        unsafe { libc::_exit(77) };
    }
}

#[test]
fn a_handler_that_is_there_for_once_is_called_once_and_the_process_dies() {
    const NAME: &str = "a_handler_that_is_there_for_once_is_called_once_and_the_process_dies";
    if let Some((what, path)) = task() {
        install_with(libc::SIGSEGV, says as *const () as usize, libc::SA_RESETHAND);
        let _recorder = record(&path);
        fail(&what);
        return;
    }
    let (status, said, note) = end(NAME, "SIGSEGV");
    assert_eq!(status.signal(), Some(libc::SIGSEGV), "{said}");
    assert_eq!(said.matches("handled").count(), 1, "{said}");
    assert!(!note.expect("it is noted").survived);
}

extern "C" fn aborts(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    std::process::abort();
}

/// From now on this thread's handlers run on its own stack: the alternate one of the standard library
/// has no room for a handler inside of a handler.
fn leave_alternate_stack() {
    // SAFETY: a valid structure, and the thread is not on that stack.
    unsafe {
        let mut none: libc::stack_t = std::mem::zeroed();
        none.ss_flags = libc::SS_DISABLE;
        assert_eq!(libc::sigaltstack(&none, std::ptr::null_mut()), 0);
    }
}

#[test]
fn a_handler_of_aborts_that_came_later_is_called_after_a_fault_too() {
    const NAME: &str = "a_handler_of_aborts_that_came_later_is_called_after_a_fault_too";
    if let Some((what, path)) = task() {
        install(libc::SIGSEGV, aborts as *const () as usize);
        let _recorder = record(&path);
        install(libc::SIGABRT, says as *const () as usize);
        leave_alternate_stack();
        fail(&what);
        return;
    }
    let (status, said, note) = end(NAME, "SIGSEGV");
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert_eq!(said.matches("handled").count(), 1, "{said}");
    assert_eq!(note.expect("it is noted").signal, libc::SIGSEGV);
}

#[test]
fn an_abort_of_who_ignores_it_is_no_signal_that_was_survived() {
    const NAME: &str = "an_abort_of_who_ignores_it_is_no_signal_that_was_survived";
    if let Some((what, path)) = task() {
        install(libc::SIGABRT, libc::SIG_IGN);
        let _recorder = record(&path);
        fail(&what);
        return;
    }
    let (status, _, note) = end(NAME, "SIGABRT");
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(!note.expect("it is noted").survived);
}

/// A page that a handler cannot write to at first, either.
static INNER: AtomicUsize = AtomicUsize::new(0);

extern "C" fn faults_and_repairs(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let inner = INNER.swap(0, Ordering::SeqCst);
    if inner != 0 {
        // SAFETY: this handler makes the page writable, inside of itself.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(inner).write_volatile(1) };
    }
    repairs(signal, info, context);
}

#[test]
fn a_handler_that_may_be_interrupted_by_its_own_signal_still_may() {
    alone("a_handler_that_may_be_interrupted_by_its_own_signal_still_may", || {
        let handler = faults_and_repairs as *const () as usize;
        install_with(libc::SIGSEGV, handler, libc::SA_NODEFER);
        let directory = tempfile::tempdir().unwrap();
        let recorder = record(&directory.path().join("service.box"));
        leave_alternate_stack();
        INNER.store(locked_page().expose_provenance(), Ordering::SeqCst);
        // SAFETY: the handler makes the page writable.
        unsafe { locked_page().write_volatile(7) };
        assert_eq!(CALLS.load(Ordering::SeqCst), 2);
        recorder.stop().unwrap();
    });
}

static ENTERED: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn repairs_later(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    ENTERED.store(true, Ordering::SeqCst);
    while !STOPPED.load(Ordering::SeqCst) {
        // SAFETY: the call has no preconditions.
        unsafe { libc::usleep(1000) };
    }
    repairs(signal, info, context);
}

#[test]
fn a_recorder_may_stop_while_a_handler_deals_with_a_fault() {
    alone("a_recorder_may_stop_while_a_handler_deals_with_a_fault", || {
        install(libc::SIGSEGV, repairs_later as *const () as usize);
        let directory = tempfile::tempdir().unwrap();
        let recorder = record(&directory.path().join("service.box"));
        // SAFETY: the handler makes the page writable.
        let faulting = std::thread::spawn(|| unsafe { locked_page().write_volatile(7) });
        assert!(common::wait_for(|| ENTERED.load(Ordering::SeqCst)));
        recorder.stop().unwrap();
        // The arena is gone, and the handler returns to ours only now.
        STOPPED.store(true, Ordering::SeqCst);
        faulting.join().unwrap();
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_forked_child_notes_nothing_in_its_parents_box() {
    alone("a_forked_child_notes_nothing_in_its_parents_box", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service.box");
        let recorder = record(&path);
        // SAFETY: the child does nothing but fail.
        let child = unsafe { libc::fork() };
        if child == 0 {
            fail("SIGSEGV");
        }
        let mut status = 0;
        // SAFETY: a valid place.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(ExitStatus::from_raw(status).signal(), Some(libc::SIGSEGV));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(recover(&bytes).unwrap().header().crash, None);
        recorder.stop().unwrap();
    });
}

#[test]
fn without_a_box_or_when_told_not_to_no_handler_is_installed() {
    alone("without_a_box_or_when_told_not_to_no_handler_is_installed", || {
        let handler = || {
            // SAFETY: a valid place.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                libc::sigaction(libc::SIGILL, std::ptr::null(), &mut action);
                action.sa_sigaction
            }
        };
        let before = handler();
        Recorder::builder().max_bytes(1 << 20).start().unwrap().stop().unwrap();
        assert_eq!(handler(), before);
        let directory = tempfile::tempdir().unwrap();
        let builder =
            || Recorder::builder().max_bytes(1 << 20).black_box(directory.path().join("b"));
        builder().fatal_signals(false).start().unwrap().stop().unwrap();
        assert_eq!(handler(), before);
        builder().start().unwrap().stop().unwrap();
        assert_ne!(handler(), before);
    });
}

/// How the action of a signal is installed: handler, flags.
fn installed(signal: libc::c_int) -> (usize, libc::c_int) {
    // SAFETY: a valid place.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action);
        (action.sa_sigaction, action.sa_flags)
    }
}

/// Takes far more of the stack than an alternate one has, and then reports.
extern "C" fn reports(signal: libc::c_int) {
    let mut report = std::hint::black_box([0_u8; 256 << 10]);
    report.iter_mut().for_each(|byte| *byte = std::hint::black_box(1));
    say("reported\n");
    // SAFETY: the action of the signal becomes the one that is there by default.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

#[test]
fn a_handler_that_was_installed_for_the_threads_own_stack_runs_on_it() {
    const NAME: &str = "a_handler_that_was_installed_for_the_threads_own_stack_runs_on_it";
    if let Some((what, path)) = task() {
        // SAFETY: a valid structure: neither `SA_ONSTACK` nor `SA_SIGINFO`.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = reports as *const () as usize;
            libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut());
        }
        let _recorder = record(&path);
        // A thread of the standard library has an alternate stack, of 8 KiB or a little more.
        let _ = std::thread::spawn(move || fail(&what)).join();
        return;
    }
    let (status, said, note) = end(NAME, "SIGSEGV");
    assert_eq!(status.signal(), Some(libc::SIGSEGV), "{said}");
    assert_eq!(said.matches("reported").count(), 1, "{said}");
    assert_eq!(note.expect("it is noted").signal, libc::SIGSEGV);
}

#[test]
fn the_flags_and_the_mask_of_the_handler_from_before_stay() {
    alone("the_flags_and_the_mask_of_the_handler_from_before_stay", || {
        let flags = [0, libc::SA_ONSTACK, libc::SA_NODEFER, libc::SA_RESTART | libc::SA_RESETHAND];
        for (signal, flags) in
            [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE].into_iter().zip(flags)
        {
            // SAFETY: a valid structure.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = says as *const () as usize;
                action.sa_flags = flags;
                libc::sigaddset(&mut action.sa_mask, libc::SIGUSR1);
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let recorder = record(&directory.path().join("service.box"));
        for (signal, flags) in
            [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE].into_iter().zip(flags)
        {
            // SAFETY: a valid place.
            let action = unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut action);
                action
            };
            assert_ne!(action.sa_sigaction, says as *const () as usize, "ours is on top");
            let kept = libc::SA_ONSTACK | libc::SA_NODEFER | libc::SA_RESTART;
            assert_eq!(action.sa_flags & kept, flags & kept, "signal {signal}");
            // SAFETY: a valid set.
            assert_eq!(unsafe { libc::sigismember(&action.sa_mask, libc::SIGUSR1) }, 1);
        }
        recorder.stop().unwrap();
    });
}

extern "C" fn takes_over_aborts(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    install(libc::SIGABRT, says as *const () as usize);
    repairs(signal, info, context);
}

#[test]
fn a_handler_that_was_installed_meanwhile_stays() {
    alone("a_handler_that_was_installed_meanwhile_stays", || {
        install(libc::SIGSEGV, takes_over_aborts as *const () as usize);
        let directory = tempfile::tempdir().unwrap();
        let recorder = record(&directory.path().join("service.box"));
        leave_alternate_stack();
        // SAFETY: the handler makes the page writable.
        unsafe { locked_page().write_volatile(7) };
        assert_eq!(installed(libc::SIGABRT).0, says as *const () as usize, "by the handler");
        install(libc::SIGFPE, says as *const () as usize);
        recorder.stop().unwrap();
        for signal in [libc::SIGABRT, libc::SIGFPE] {
            assert_eq!(installed(signal).0, says as *const () as usize, "of signal {signal}");
        }
    });
}

/// Deals with a signal that was sent, when it is told to.
extern "C" fn survives(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    ENTERED.store(true, Ordering::SeqCst);
    while !STOPPED.load(Ordering::SeqCst) {
        // SAFETY: the call has no preconditions.
        unsafe { libc::usleep(1000) };
    }
}

static WENT_ON: AtomicBool = AtomicBool::new(false);

extern "C" fn aborts_when_the_other_goes_on(
    _: libc::c_int,
    _: *mut libc::siginfo_t,
    _: *mut libc::c_void,
) {
    STOPPED.store(true, Ordering::SeqCst);
    while !WENT_ON.load(Ordering::SeqCst) {
        // SAFETY: the call has no preconditions.
        unsafe { libc::usleep(1000) };
    }
    std::process::abort();
}

#[test]
fn a_crash_while_another_thread_deals_with_a_trap_is_the_one_that_is_noted() {
    const NAME: &str = "a_crash_while_another_thread_deals_with_a_trap_is_the_one_that_is_noted";
    if let Some((what, path)) = task() {
        install(libc::SIGFPE, survives as *const () as usize);
        if what == "handled" {
            install(libc::SIGSEGV, aborts_when_the_other_goes_on as *const () as usize);
        } else {
            // SAFETY: the standard library's handler is taken away.
            unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
        }
        let _recorder = record(&path);
        std::thread::spawn(|| {
            // SAFETY: sends a signal to this thread.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGFPE) };
            WENT_ON.store(true, Ordering::SeqCst);
        });
        assert!(common::wait_for(|| ENTERED.load(Ordering::SeqCst)));
        let crashes = std::thread::Builder::new().name("the-culprit".to_owned());
        let _ = crashes.spawn(|| fail("SIGSEGV")).unwrap().join();
        return;
    }
    for (what, signal) in [("handled", libc::SIGABRT), ("by default", libc::SIGSEGV)] {
        let (status, said, note) = end(NAME, what);
        assert_eq!(status.signal(), Some(signal), "{what}: {said}");
        let note = note.expect("it is noted");
        assert_eq!((note.signal, note.survived), (libc::SIGSEGV, false), "{what}: {note:?}");
        assert_eq!(note.thread_name, "the-culprit", "{what}: {note:?}");
    }
}

#[test]
fn of_two_threads_that_fault_at_once_one_is_noted_whole() {
    const NAME: &str = "of_two_threads_that_fault_at_once_one_is_noted_whole";
    if let Some((what, path)) = task() {
        let _recorder = record(&path);
        let (what, together) = (&*what, std::sync::Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    lookback::event!("about to fail");
                    together.wait();
                    fail(what);
                });
            }
        });
        return;
    }
    for _ in 0..if common::long() { 500 } else { 20 } {
        let (status, said, note) = end(NAME, "SIGFPE");
        assert_eq!(status.signal(), Some(libc::SIGFPE), "{said}");
        let note = note.expect("it is noted");
        assert_eq!((note.signal, note.survived), (libc::SIGFPE, false), "{note:?}");
        assert!(note.thread.0 != 0 && note.os_thread != 0 && note.wall.0 != 0, "{note:?}");
    }
}
