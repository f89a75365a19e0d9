//! Captures the stack of another thread.
//!
//! A blocked thread is not disturbed: the kernel reports its stack pointer, this thread walks its stack, and asks the
//! kernel again. If the answer is the same and the thread has not run in between, everything that was read is of one
//! moment. A running thread is interrupted by a signal (see `own_signal`), whose handler walks its own stack.
//! The kernel restarts calls that the signal interrupts (`SA_RESTART`) where it can. Calls with a time limit, like
//! `epoll_wait`, fail with `EINTR` if the thread enters one between the look and the signal.
//!
//! # Synchronization
//!
//! A lock lets one thread ask at a time. The handler moves [`STATE`] from `ASKED` to `ANSWERING` by a compare-and-swap
//! (acquire), so it sees which thread the question is for, and then to `DONE` (release), so the asking thread (acquire)
//! sees the frames. The asking thread withdraws an unanswered question by the same compare-and-swap. While the handler
//! writes an answer, the asking thread waits, and no other thread can ask. Each question has a number, so a late signal
//! answers no later question.

use super::capture::{intern, registers_in, walked};
use super::own_signal::OwnSignal;
use super::trie::StackId;
use super::unwind::{Address, MAX_FRAMES, Registers};
use crate::fault::{self, Point};
use crate::os::signal_chain::Errno;
use crate::os::signal_stack::{self, Handling};
use crate::os::{self, process};
use lookback_snapshot::wire::{StackEnd, StackSource};
use parking_lot::Mutex;
use std::cell::UnsafeCell;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A thread that goes on while it is looked at is looked at again so often.
const LOOKS: u32 = 3;
/// How long a thread that runs is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

/// Of the threads that the collector looks at together, it waits in vain for one at most: it does not interrupt those
/// after it. Else each of them would hold it up.
#[derive(Default)]
pub(crate) struct Patience {
    is_over: bool,
}

/// One thread at a time looks.
static LOOKING: Mutex<()> = Mutex::new(());

/// The stack of another thread of this process, by the kernel's number of it, and how it was got.
pub(crate) fn of_thread(os_thread: u64, patience: &mut Patience) -> (Option<StackId>, StackSource) {
    let Some(_looking) = LOOKING.try_lock_for(2 * PATIENCE) else {
        return (None, StackSource::NoAnswer);
    };
    let mut frames = [Address::default(); MAX_FRAMES];
    for _ in 0..LOOKS {
        match blocked(os_thread, &mut frames) {
            Look::Blocked(walked) => return found(walked, &frames, StackSource::Blocked),
            Look::Runs if patience.is_over => break,
            Look::Runs => {
                let walked = running(os_thread, &mut frames);
                patience.is_over = walked == Err(StackSource::NoAnswer);
                return found(walked, &frames, StackSource::Interrupted);
            }
            Look::WentOn => {}
        }
    }
    (None, StackSource::NoAnswer)
}

/// The stack of another thread, if it is blocked: no thread is interrupted. `None` if it is not.
pub(crate) fn of_blocked_thread(os_thread: u64) -> Option<(Option<StackId>, StackSource)> {
    let _looking = LOOKING.try_lock()?;
    let mut frames = [Address::default(); MAX_FRAMES];
    match blocked(os_thread, &mut frames) {
        Look::Blocked(walked) => Some(found(walked, &frames, StackSource::Blocked)),
        Look::Runs | Look::WentOn => None,
    }
}

/// How many frames a stack has, and why no more; or why there is none.
type Walked = Result<(usize, StackEnd), StackSource>;

fn found(
    walked: Walked,
    frames: &[Address],
    source: StackSource,
) -> (Option<StackId>, StackSource) {
    match walked.and_then(|(count, end)| intern(&frames[..count], end)) {
        Ok(stack) => (Some(stack), source),
        Err(why) => (None, why),
    }
}

/// What is seen of a thread.
enum Look {
    Blocked(Walked),
    Runs,
    /// It did not stay where it was.
    WentOn,
}

fn blocked(os_thread: u64, frames: &mut [Address]) -> Look {
    let before = (Place::of(os_thread), times_run(os_thread));
    let Some(place) = &before.0 else { return Look::Blocked(Err(StackSource::NotReadable)) };
    let Place::Blocked { sp, pc } = *place else { return Look::Runs };
    let walked = walked(Registers { pc, sp, fp: None }, frames);
    if before != (Place::of(os_thread), times_run(os_thread)) {
        return Look::WentOn;
    }
    if before.1.is_none() {
        return Look::Blocked(Err(StackSource::NotReadable));
    }
    Look::Blocked(walked)
}

/// Where a thread is, as the kernel says.
#[derive(PartialEq)]
enum Place {
    Runs,
    Blocked { sp: u64, pc: u64 },
}

impl Place {
    fn of(os_thread: u64) -> Option<Self> {
        let said = fs::read_to_string(format!("/proc/self/task/{os_thread}/syscall")).ok()?;
        if said.trim() == "running" {
            return Some(Self::Runs);
        }
        // The call's number and arguments, or -1; then the two.
        let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let mut words = said.split_whitespace().rev();
        let (pc, sp) = (number(words.next()?)?, number(words.next()?)?);
        Some(Self::Blocked { sp, pc })
    }
}

/// How often a thread was given a core.
fn times_run(os_thread: u64) -> Option<String> {
    let said = fs::read_to_string(format!("/proc/self/task/{os_thread}/schedstat")).ok()?;
    said.split_whitespace().nth(2).map(str::to_owned)
}

const IDLE: u64 = 0;
const ASKED: u64 = 1;
const ANSWERING: u64 = 2;
const DONE: u64 = 3;

/// What is the matter with the question, and its number times four.
static STATE: AtomicU64 = AtomicU64::new(IDLE);
/// Whom it is for.
static ASKED_OF: AtomicU64 = AtomicU64::new(0);
/// The signal that asks.
static SIGNAL: OwnSignal = OwnSignal::new(answer);
static ANSWER: Answer = Answer(UnsafeCell::new((
    Err(StackSource::NoAnswer),
    [const { Address::new(0, false) }; MAX_FRAMES],
)));

/// The frames that were asked for. The thread that finds them may be late, so they are never freed.
struct Answer(UnsafeCell<(Walked, [Address; MAX_FRAMES])>);

// SAFETY: only the thread that made the state `ANSWERING` writes, and only one that found it `DONE` reads.
unsafe impl Sync for Answer {}

fn running(os_thread: u64, frames: &mut [Address; MAX_FRAMES]) -> Walked {
    if !super::interrupts() {
        return Err(StackSource::Running);
    }
    let signal = SIGNAL.get().ok_or(StackSource::NoSignal)?;
    if blocks(os_thread, signal) {
        return Err(StackSource::NoSignal);
    }
    let last = STATE.load(Ordering::Acquire);
    if last % 4 == ANSWERING || last % 4 == ASKED {
        return Err(StackSource::NoAnswer);
    }
    let asked = (last / 4 + 1) * 4 + ASKED;
    ASKED_OF.store(os_thread, Ordering::Relaxed);
    STATE.store(asked, Ordering::Release);
    // SAFETY: a signal that has a handler, to a thread of this process, or to none.
    if unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), os_thread, signal) } != 0 {
        STATE.store(asked - ASKED, Ordering::Relaxed);
        return Err(StackSource::NotReadable);
    }
    let began = Instant::now();
    let done = asked - ASKED + DONE;
    while STATE.load(Ordering::Acquire) != done {
        if began.elapsed() > PATIENCE {
            let back = asked - ASKED;
            let order = Ordering::Acquire;
            if STATE.compare_exchange(asked, back, order, order).is_ok() {
                return Err(StackSource::NoAnswer);
            }
            if began.elapsed() > 2 * PATIENCE {
                // It stands still in the middle: nobody is asked before it is done.
                return Err(StackSource::NoAnswer);
            }
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    // SAFETY: it is done, and nobody writes before this thread asks again.
    let (walked, found) = unsafe { &*ANSWER.0.get() };
    frames.clone_from(found);
    *walked
}

/// Whether a thread has blocked the signal.
pub(crate) fn blocks(os_thread: u64, signal: libc::c_int) -> bool {
    let blocked = process::status_line(format_args!("self/task/{os_thread}"), "SigBlk:");
    let blocked = blocked.and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    blocked.unwrap_or(u64::MAX) >> (signal - 1) & 1 != 0
}

/// The handler: walks the stack of this thread, if that was asked for.
extern "C" fn answer(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let _errno = Errno::keep();
    fault::point(Point::Answer);
    let asked = STATE.load(Ordering::Acquire);
    if asked % 4 != ASKED || ASKED_OF.load(Ordering::Relaxed) != os::thread::number() {
        return;
    }
    let (answering, order) = (asked - ASKED + ANSWERING, Ordering::Acquire);
    if STATE.compare_exchange(asked, answering, order, Ordering::Relaxed).is_err() {
        return;
    }
    // SAFETY: this thread has made it `ANSWERING`, so the answer is its alone; the context is what the handler was given.
    // All signals are blocked, and a walk neither faults nor unwinds.
    unsafe {
        let (walk, frames) = &mut *ANSWER.0.get();
        let from = registers_in(context);
        let walked = signal_stack::with_room(context, Handling::Other, || walked(from, frames));
        *walk = walked.unwrap_or(Err(StackSource::NoRoom));
    }
    STATE.store(asked - ASKED + DONE, Ordering::Release);
}
