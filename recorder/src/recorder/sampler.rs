//! The sampler: gives each thread of the service a timer on its CPU time, whose signal makes the thread record where it is.
//!
//! It is part of the collector, which looks at the process's threads once a generation. A thread that does not run costs
//! nothing, and one that blocks is not interrupted: the timer only goes off while its thread runs. The recorder's own
//! threads have none.
//!
//! The kernel looks at such timers with its own tick (100 to 1,000 times a second): what it could not tell in time is the
//! next signal's weight. A thread that has blocked the signal gets it when it no longer does. Where it then is says nothing
//! of what it did meanwhile, so that is recorded as CPU time at no place. A thread that blocks the signal when it would get a
//! timer gets none: it may wait for all signals (`sigwait`, `signalfd`), and must not be told of ours.

use crate::os::cpu_timer::{self, CpuTimer};
use crate::os::own_thread;
use crate::os::pin;
use crate::os::process::status_line;
use crate::os::signal_chain::Errno;
use crate::os::signal_stack::{self, Handling};
use crate::os::thread::is_gone;
use crate::record::samples;
use crate::stack;
use crate::stack::blocks;
use crate::stack::own_signal::OwnSignal;
use lookback_snapshot::wire::StackSource;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// So many threads have a timer at most.
const MOST_TIMERS: usize = 4096;
/// Of the threads that have blocked the signal so many are asked again each time.
const MOST_ASKED: usize = 64;
/// One signal tells that much CPU time at most of the place where it finds its thread.
const TOLD_AT_ONE_PLACE: Duration = Duration::from_millis(100);

static SIGNAL: OwnSignal = OwnSignal::new(sample);
/// What the running sampler's timers say, and how many intervals a signal tells at most: `number << 32 | intervals`; 0 while
/// there is none. A signal of an earlier one's may be on its way.
static RUNNING: AtomicU64 = AtomicU64::new(0);

/// What [`Stats`](crate::Stats) has. None of it orders anything.
static TIMERS: AtomicU32 = AtomicU32::new(0);
static REFUSED: AtomicU32 = AtomicU32::new(0);
static TROUBLE: AtomicU32 = AtomicU32::new(NONE);

/// Why no thread is sampled: an error's number, or one of these.
const NONE: u32 = 0;
const NO_SIGNAL: u32 = u32::MAX;
const IN_LIBRARY: u32 = u32::MAX - 1;

/// How many threads have a timer, how many could not have one when they were last looked at, and why none has.
pub(crate) fn state() -> (u32, u32, Option<String>) {
    let trouble = match TROUBLE.load(Ordering::Relaxed) {
        NONE => None,
        NO_SIGNAL => Some("the service uses all real-time signals".to_owned()),
        IN_LIBRARY => Some("the recorder is in a shared library, not in the program".to_owned()),
        error => {
            let error = io::Error::from_raw_os_error(error.cast_signed());
            Some(format!("the kernel refuses timers: {error}"))
        }
    };
    (TIMERS.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed), trouble)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sampler {
    interval: Duration,
    number: u64,
    signal: libc::c_int,
    /// By the kernel's number of the thread.
    timers: HashMap<u64, Timed>,
    /// Threads that have blocked the signal, by number and folder.
    deaf: HashSet<(u64, u64)>,
    /// The kernel does not allow it: it is not asked again.
    is_refused: bool,
}

/// A thread with a timer.
#[derive(Debug)]
struct Timed {
    /// The number of the thread's folder in `/proc`: another thread of the same number has another one.
    folder: u64,
    is_there: bool,
    _timer: CpuTimer,
}

impl Sampler {
    /// One that takes so many samples for each second of CPU time; `None` for 0, and while stacks are off.
    pub(crate) fn new(hz: u32) -> Option<Self> {
        static NUMBERS: AtomicU32 = AtomicU32::new(1);
        TROUBLE.store(NONE, Ordering::Relaxed);
        REFUSED.store(0, Ordering::Relaxed);
        let interval = Duration::from_secs(1).checked_div(hz)?;
        if !stack::is_on() {
            return None;
        }
        samples::forget_waiting();
        let number = u64::from(NUMBERS.fetch_add(1, Ordering::Relaxed)) << 32;
        let told = (TOLD_AT_ONE_PLACE.as_nanos() / interval.as_nanos()).max(1) as u64;
        RUNNING.store(number | told, Ordering::Relaxed);
        let (timers, deaf) = (HashMap::new(), HashSet::new());
        Some(Self { interval, number: number | told, signal: 0, timers, deaf, is_refused: false })
    }

    /// Gives the threads that there are now a timer each, and records the samples that wait.
    pub(crate) fn look_after(&mut self) {
        samples::record_waiting();
        if self.is_refused {
            return;
        }
        let looked = self.look();
        TIMERS.store(self.timers.len() as u32, Ordering::Relaxed);
        if let Err(trouble) = looked {
            TROUBLE.store(trouble, Ordering::Relaxed);
        }
    }

    fn look(&mut self) -> Result<(), u32> {
        // A thread's first use of a library's thread-locals may allocate, which a handler must not.
        if !pin::is_in_program() {
            self.is_refused = true;
            return Err(IN_LIBRARY);
        }
        let Some(signal) = SIGNAL.get() else {
            self.timers.clear();
            return Err(NO_SIGNAL);
        };
        if signal != self.signal {
            // The service has taken the one before.
            self.timers.clear();
            self.signal = signal;
        }
        let number = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO).cast_unsigned();
        let threads = fs::read_dir("/proc/self/task").map_err(|error| number(&error))?;
        self.timers.values_mut().for_each(|timed| timed.is_there = false);
        let (mut new, mut deaf) = (Vec::new(), HashSet::new());
        for thread in threads.flatten() {
            let name = thread.file_name();
            let Some(os_thread) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let folder = thread.ino();
            match self.timers.get_mut(&os_thread) {
                // It may have been too young to be known as one, and have a timer, which goes again: the recorder's threads
                // block the signal.
                _ if own_thread::is_own(os_thread) => {}
                Some(timed) if timed.folder == folder => timed.is_there = true,
                _ => new.push((os_thread, folder)),
            }
        }
        // Those of threads that are gone make room first.
        self.timers.retain(|_, timed| timed.is_there);
        let (mut refused, mut stay_deaf) = (0, 0);
        let mut room = if new.is_empty() { 0 } else { room() };
        for (os_thread, folder) in new {
            if self.timers.len() >= MOST_TIMERS || room == 0 {
                refused += 1;
                continue;
            }
            let was_deaf = self.deaf.contains(&(os_thread, folder));
            if was_deaf && stay_deaf >= MOST_ASKED || blocks(os_thread, signal) {
                deaf.insert((os_thread, folder));
                // One that is new has blocked it for the time that it takes to begin.
                stay_deaf += usize::from(was_deaf);
                continue;
            }
            match CpuTimer::start(os_thread, signal, self.interval, self.number as usize) {
                Ok(timer) => {
                    let timed = Timed { folder, is_there: true, _timer: timer };
                    self.timers.insert(os_thread, timed);
                    room -= 1;
                }
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
                    refused += 1;
                    room = 0;
                }
                Err(_) if is_gone(os_thread) => {}
                Err(error) => {
                    self.is_refused = true;
                    self.timers.clear();
                    return Err(number(&error));
                }
            }
        }
        self.deaf = deaf;
        refused += stay_deaf as u32;
        REFUSED.store(refused, Ordering::Relaxed);
        TROUBLE.store(NONE, Ordering::Relaxed);
        Ok(())
    }
}

/// How many more timers may be made. Each takes one of the signals that the user may have queued (`RLIMIT_SIGPENDING`), in all
/// processes together; half of them are left to others.
fn room() -> usize {
    let said = status_line("thread-self", "SigQ:");
    let of = said.as_deref().and_then(|said| said.split_once('/'));
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let left = of.and_then(|(used, most)| Some((number(most)? / 2).saturating_sub(number(used)?)));
    left.map_or(MOST_TIMERS, |left| usize::try_from(left).unwrap_or(MOST_TIMERS))
}

impl Drop for Sampler {
    fn drop(&mut self) {
        RUNNING.store(0, Ordering::Relaxed);
        self.timers.clear();
        TIMERS.store(0, Ordering::Relaxed);
        samples::record_waiting();
    }
}

/// The handler: records where this thread is, if its timer has gone off.
extern "C" fn sample(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let _errno = Errno::keep();
    // SAFETY: what this handler was given.
    let Some((number, overrun)) = (unsafe { cpu_timer::said_by(info) }) else { return };
    if number as u64 != RUNNING.load(Ordering::Relaxed) || number == 0 {
        return;
    }
    let record = || {
        // SAFETY: as above.
        let taken = stack::of_this_thread(unsafe { stack::registers_in(context) });
        if overrun >= number as u32 {
            samples::sampled(Err(StackSource::NoSignal), overrun);
            samples::sampled(taken, 1);
        } else {
            samples::sampled(taken, overrun + 1);
        }
    };
    // SAFETY: as above; all signals are blocked, and recording neither faults nor unwinds.
    if unsafe { signal_stack::with_room(context, Handling::Other, record) }.is_none() {
        samples::dropped();
    }
}
