//! Handlers that the service has for such signals, installed before ours or after, go on as they did.

use crate::common::{alone, wait_for};
use crate::{end, fail, record, task};
use lookback::read::recover::recover;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

static CALLS: AtomicU32 = AtomicU32::new(0);

/// Resolves a fault: makes the page accessible.
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

/// A read-only page.
fn locked_page() -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0).cast() }
}

#[test]
fn a_handler_that_deals_with_faults_goes_on_doing_so() {
    alone("handlers::a_handler_that_deals_with_faults_goes_on_doing_so", || {
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
        // Nothing is recorded, and nothing is noted: the handler continues to work.
        // SAFETY: the handler makes the page writable.
        unsafe { locked_page().write_volatile(7) };
        assert_eq!(CALLS.load(Ordering::SeqCst), 4);
        // A process that survived has not died: its box is replaced.
        let recorder = record(&path);
        assert_eq!(recorder.predecessor(), None);
    });
}

/// Prints to stderr, as a handler may.
fn say(text: &str) {
    // SAFETY: the text has this many bytes.
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
    const NAME: &str =
        "handlers::a_handler_that_is_there_for_once_is_called_once_and_the_process_dies";
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

/// From now on this thread's handlers run on its own stack: the standard library's alternate stack has no
/// room for a handler inside a handler.
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
    const NAME: &str = "handlers::a_handler_of_aborts_that_came_later_is_called_after_a_fault_too";
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
    const NAME: &str = "handlers::an_abort_of_who_ignores_it_is_no_signal_that_was_survived";
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
        // SAFETY: this handler makes the page writable, inside itself.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(inner).write_volatile(1) };
    }
    repairs(signal, info, context);
}

#[test]
fn a_handler_that_may_be_interrupted_by_its_own_signal_still_may() {
    alone("handlers::a_handler_that_may_be_interrupted_by_its_own_signal_still_may", || {
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
    alone("handlers::a_recorder_may_stop_while_a_handler_deals_with_a_fault", || {
        install(libc::SIGSEGV, repairs_later as *const () as usize);
        let directory = tempfile::tempdir().unwrap();
        let recorder = record(&directory.path().join("service.box"));
        // SAFETY: the handler makes the page writable.
        let faulting = std::thread::spawn(|| unsafe { locked_page().write_volatile(7) });
        assert!(wait_for(|| ENTERED.load(Ordering::SeqCst)));
        recorder.stop().unwrap();
        // The arena is gone, and only now does the handler return to ours.
        STOPPED.store(true, Ordering::SeqCst);
        faulting.join().unwrap();
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    });
}

/// How the action of a signal is installed: handler and flags.
fn installed(signal: libc::c_int) -> (usize, libc::c_int) {
    // SAFETY: a valid place.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action);
        (action.sa_sigaction, action.sa_flags)
    }
}

/// Takes far more stack than an alternate one has, and then reports.
extern "C" fn reports(signal: libc::c_int) {
    let mut report = std::hint::black_box([0_u8; 256 << 10]);
    report.iter_mut().for_each(|byte| *byte = std::hint::black_box(1));
    say("reported\n");
    // SAFETY: the signal gets its default action.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

#[test]
fn a_handler_that_was_installed_for_the_threads_own_stack_runs_on_it() {
    const NAME: &str =
        "handlers::a_handler_that_was_installed_for_the_threads_own_stack_runs_on_it";
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
    alone("handlers::the_flags_and_the_mask_of_the_handler_from_before_stay", || {
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
    alone("handlers::a_handler_that_was_installed_meanwhile_stays", || {
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

/// Resolves a signal that was sent, when it is ordered to.
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
    const NAME: &str =
        "handlers::a_crash_while_another_thread_deals_with_a_trap_is_the_one_that_is_noted";
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
        assert!(wait_for(|| ENTERED.load(Ordering::SeqCst)));
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
