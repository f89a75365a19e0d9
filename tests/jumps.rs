//! A handler that leaves by a jump, as `siglongjmp` does, in the middle of events.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::alone;
use lookback::Recorder;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

// `catch(work, place)`: calls `work`, having noted in `place` where the stack is. A handler that goes on at
// `landing`, with that stack, makes it return.
std::arch::global_asm!(
    ".globl lookback_test_catch",
    ".globl lookback_test_landing",
    "lookback_test_catch:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "sub rsp, 8",
    "mov [rsi], rsp",
    "call rdi",
    "lookback_test_landing:",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
);

unsafe extern "C" {
    fn lookback_test_catch(work: extern "C" fn(), place: *const AtomicUsize);
    fn lookback_test_landing();
}

static STACK: AtomicUsize = AtomicUsize::new(0);
/// Where to jump to, 0 for nowhere: the handler returns.
static MAY_JUMP: AtomicBool = AtomicBool::new(false);
static JUMPS: AtomicU64 = AtomicU64::new(0);

extern "C" fn jumps(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    lookback::event!("in the handler");
    if !MAY_JUMP.swap(false, Ordering::SeqCst) {
        return;
    }
    JUMPS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the kernel's; what is jumped over has nothing to drop but the recorder's own.
    unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        registers[libc::REG_RSP as usize] = STACK.load(Ordering::SeqCst) as i64;
        registers[libc::REG_RIP as usize] = lookback_test_landing as *const () as i64;
    }
}

extern "C" fn writes() {
    MAY_JUMP.store(true, Ordering::SeqCst);
    for number in 0.. {
        lookback::event!("written", number = number);
        drop(lookback::region!("a region"));
    }
}

/// A jump, out of whatever that interrupts.
fn write_until_a_jump() {
    // SAFETY: the handler jumps to there alone while `work` runs.
    unsafe { lookback_test_catch(writes, &STACK) };
}

/// That of the standard library has no room for an event without optimisation.
fn have_a_large_alternate_stack() {
    let room: &mut [u8] = Box::leak(vec![0; 256 << 10].into_boxed_slice());
    // SAFETY: the stack is there for ever, and the thread is not on another one.
    unsafe {
        let mut stack: libc::stack_t = std::mem::zeroed();
        stack.ss_sp = room.as_mut_ptr().cast();
        stack.ss_size = room.len();
        assert_eq!(libc::sigaltstack(&stack, std::ptr::null_mut()), 0);
    }
}

fn goes_on_after_jumps(flags: libc::c_int) {
    // SAFETY: a valid structure.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = jumps as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | flags;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let recorder = Recorder::builder().max_bytes(4 << 20).start().unwrap();
    let over = AtomicBool::new(false);
    let rounds = if common::long() { 20_000 } else { 1000 };
    std::thread::scope(|scope| {
        let jumper = scope.spawn(|| {
            have_a_large_alternate_stack();
            // SAFETY: the call has no preconditions.
            let thread = unsafe { libc::pthread_self() };
            let over = &over;
            let signals = scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    // SAFETY: the thread waits for this one.
                    unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
                    std::thread::sleep(Duration::from_micros(20));
                }
            });
            for round in 0..rounds {
                write_until_a_jump();
                lookback::event!("after", round = round);
            }
            over.store(true, Ordering::SeqCst);
            signals.join().unwrap();
            lookback::event!("last", rounds = rounds);
        });
        while !jumper.is_finished() {
            assert!(recorder.advance(), "a generation cannot be completed");
            std::thread::sleep(Duration::from_millis(1));
        }
        jumper.join().unwrap();
    });
    assert_eq!(JUMPS.load(Ordering::SeqCst), rounds);
    let lost = recorder.stats().lost_in_all();
    println!("::{rounds} jumps, {lost} events lost: {:?}", recorder.stats().lost);
    assert!(recorder.advance());
    let trace = common::stop(recorder);
    let last = common::events(&trace).filter_map(|event| common::number(&event, "rounds")).last();
    assert_eq!(last, Some(rounds), "the thread is recorded as ever");
    assert!(lost > 0, "some jumps have left an event");
}

#[test]
fn a_thread_is_recorded_after_its_handler_has_jumped_out_of_an_event() {
    let name = "a_thread_is_recorded_after_its_handler_has_jumped_out_of_an_event";
    alone(name, || goes_on_after_jumps(0));
}

#[test]
fn also_if_the_handler_was_on_the_alternate_stack() {
    alone("also_if_the_handler_was_on_the_alternate_stack", || {
        goes_on_after_jumps(libc::SA_ONSTACK)
    });
}
