//! A service's own signal handlers, all of which record.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

pub static HANDLED: AtomicU64 = AtomicU64::new(0);
pub static PROFILED: AtomicU64 = AtomicU64::new(0);
pub static REPAIRED: AtomicU64 = AtomicU64::new(0);

/// Gives this thread an alternate stack on which there is room for an event even without optimisation.
pub fn have_a_large_alternate_stack() {
    thread_local!(static STACK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    STACK.with_borrow_mut(|stack| {
        if stack.is_empty() {
            stack.resize(LARGE, 0);
            let given = libc::stack_t {
                ss_sp: stack.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: stack.len(),
            };
            // SAFETY: the stack is there until the thread has ended, but for its very last destructors; the standard
            // library takes it away before.
            assert_eq!(unsafe { libc::sigaltstack(&given, std::ptr::null_mut()) }, 0);
        }
    });
}

const LARGE: usize = 64 << 10;

/// On the 8 KiB that the standard library gives a thread, of which the kernel's frame takes up to half, there is
/// no room for an event without optimisation.
fn has_room() -> bool {
    // SAFETY: a valid place.
    unsafe {
        let mut stack: libc::stack_t = std::mem::zeroed();
        libc::sigaltstack(std::ptr::null(), &mut stack) == 0
            && (stack.ss_flags & libc::SS_ONSTACK == 0 || stack.ss_size >= LARGE)
    }
}

extern "C" fn handles(signal: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    if cfg!(debug_assertions) && !has_room() {
        return;
    }
    let _region = lookback::region!("in a handler");
    lookback::event!("signal", signal = signal);
}

extern "C" fn profiles(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let sample = PROFILED.fetch_add(1, Ordering::Relaxed);
    lookback::counter!("samples", sample);
}

/// Resolves a fault: makes the page accessible.
extern "C" fn repairs(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    REPAIRED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the kernel's.
    let address = unsafe { (*info).si_addr() };
    let page = (address as usize) & !4095;
    // SAFETY: only pages of `fault` below cause faults; any other fault comes again, and the limit ends that.
    let repaired =
        unsafe { libc::mprotect(page as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE) == 0 };
    if !repaired {
        // SAFETY: the call has no preconditions.
        unsafe { libc::abort() };
    }
    lookback::event!("repaired");
}

fn install(
    signal: libc::c_int,
    handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
    flags: libc::c_int,
) {
    // SAFETY: a valid structure.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | flags;
        // One at a time: an alternate stack of 8 KiB has no room for several frames.
        libc::sigfillset(&mut action.sa_mask);
        libc::sigdelset(&mut action.sa_mask, libc::SIGSEGV);
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// Handlers on the alternate stack and off it, one of which interrupts system calls; and a timer.
pub fn install_all() {
    install(libc::SIGUSR1, handles, libc::SA_ONSTACK | libc::SA_RESTART);
    install(libc::SIGUSR2, handles, 0);
    install(libc::SIGPROF, profiles, libc::SA_RESTART);
    install(libc::SIGSEGV, repairs, 0);
    let every = libc::timeval { tv_sec: 0, tv_usec: 2000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: a valid timer.
    assert_eq!(unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) }, 0);
}

/// Sends a signal to each existing thread.
pub fn send_to_all(signal: libc::c_int) {
    let process = std::process::id();
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Ok(thread) = thread.file_name().to_string_lossy().parse::<libc::pid_t>() else {
            continue;
        };
        // SAFETY: a thread that is gone by now only causes an error.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    }
}

/// Writes to a page that is read-only until the handler changes that.
pub fn fault() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, and its end.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
        if page != libc::MAP_FAILED {
            page.cast::<u8>().write_volatile(7);
            assert_eq!(page.cast::<u8>().read_volatile(), 7);
            libc::munmap(page, 4096);
        }
    }
}
