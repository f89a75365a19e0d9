//! Handlers that leave by a jump, like `siglongjmp`, in the middle of events.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::alone;
use lookback::Recorder;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

// `catch(work, place)`: notes the stack's position in `place`, and calls `work`. A handler that continues at
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
/// Where to jump; 0 for nowhere: the handler returns.
static MAY_JUMP: AtomicBool = AtomicBool::new(false);
static JUMPS: AtomicU64 = AtomicU64::new(0);

extern "C" fn jumps(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    lookback::event!("in the handler");
    if !MAY_JUMP.swap(false, Ordering::SeqCst) {
        return;
    }
    JUMPS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the kernel's; what is jumped over has nothing to drop except the recorder's own.
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

/// A jump out of whatever it interrupts.
fn write_until_a_jump() {
    // SAFETY: the handler jumps there only while `work` runs.
    unsafe { lookback_test_catch(writes, &STACK) };
}

/// The standard library's stack has no room for an event without optimisation.
fn have_a_large_alternate_stack() {
    let room: &mut [u8] = Box::leak(vec![0; 256 << 10].into_boxed_slice());
    // SAFETY: the stack is never freed, and the thread is not on another one.
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

/// Leaves a fault by a jump: what `siglongjmp` does, except for the mask.
extern "C" fn leaves(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the stack is the catching function's, and nothing that is jumped over has anything to drop.
    unsafe {
        std::arch::asm!(
            "mov rsp, {}",
            "jmp lookback_test_landing",
            in(reg) STACK.load(Ordering::SeqCst),
            options(noreturn),
        );
    }
}

extern "C" fn faults() {
    // SAFETY: none; the handler leaves the fault.
    unsafe { std::ptr::null_mut::<u8>().wrapping_add(16).write_volatile(1) };
}

fn fault_and_leave() {
    // SAFETY: the handler jumps there only while `faults` runs; the mask is valid.
    unsafe {
        lookback_test_catch(faults, &STACK);
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut mask, libc::SIGSEGV);
        assert_eq!(libc::pthread_sigmask(libc::SIG_UNBLOCK, &mask, std::ptr::null_mut()), 0);
    }
}

/// The action that is installed for SIGABRT.
fn for_aborts() -> usize {
    // SAFETY: a valid structure.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGABRT, std::ptr::null(), &mut now), 0);
        now.sa_sigaction
    }
}

/// Small alternate stacks have no room for noting an abort, so it is not noted while a handler deals with a
/// fault; but it is afterwards, although the handler never returned.
#[test]
fn aborts_are_noted_again_after_the_handler_of_a_fault_has_jumped_out_of_it() {
    alone("aborts_are_noted_again_after_the_handler_of_a_fault_has_jumped_out_of_it", || {
        // SAFETY: a valid structure.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = leaves as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(libc::SIGSEGV, &action, std::ptr::null_mut()), 0);
        }
        let place = tempfile::tempdir().unwrap();
        let recorder = Recorder::builder()
            .max_bytes(1 << 20)
            .black_box(place.path().join("service.box"))
            .start()
            .unwrap();
        let ours = for_aborts();
        assert!(ours != libc::SIG_DFL, "aborts are noted");
        let again = |what: &str| assert_eq!(for_aborts(), ours, "{what}");
        // By the thread itself, when it records in another generation.
        fault_and_leave();
        lookback::event!("went on");
        common::advance(&recorder);
        lookback::event!("in another generation");
        again("the thread has gone on");
        // By the advancing thread, if the thread is gone.
        std::thread::spawn(fault_and_leave).join().unwrap();
        lookback::event!("a third one");
        assert!(common::wait_for(|| {
            lookback::event!("another one");
            common::advance(&recorder);
            for_aborts() == ours
        }));
        // With enough room, nothing was taken away.
        let large = std::thread::spawn(|| {
            have_a_large_alternate_stack();
            fault_and_leave();
            for_aborts()
        });
        assert_eq!(large.join().unwrap(), ours);
        drop(recorder);
    });
}
