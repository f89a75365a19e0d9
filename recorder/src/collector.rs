//! The collector: a thread that advances about once a period, and earlier when writers ask for it. It
//! is also the watchdog, and fires for signals.

#![forbid(unsafe_code)]

use crate::fault::{self, Point};
use crate::recorder::Shared;
use crate::trigger::signal;
use crate::trigger::watchdog::Watchdog;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the collector waits for a writer to leave a generation before it tries again later.
const PATIENCE: Duration = Duration::from_millis(500);
/// How soon it tries again after that, or, when it advances back to back, after an empty
/// generation.
const SOON: Duration = Duration::from_micros(100);

/// What the collector is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Advance now; the answer says whether it could.
    Advance(Sender<bool>),
    /// Panic; for tests.
    Panic,
    /// End.
    Stop,
}

/// Runs until it is told to stop. It sleeps in between: an idle process sees no more of it than one
/// wake-up a generation.
pub(crate) fn run(shared: &Arc<Shared>, commands: &Receiver<Command>) {
    shared.collector_thread.store(crate::thread::os_thread(), Ordering::Relaxed);
    let period = shared.settings.generation_period;
    let mut due = Instant::now() + period;
    let mut watchdog = Watchdog::new(&shared.active.stalls);
    loop {
        signal::fire(shared);
        let mut asked = Vec::new();
        loop {
            match commands.try_recv() {
                Ok(Command::Advance(answer)) => asked.push(answer),
                Ok(Command::Panic) => shared.panic_while_advancing(),
                // Nobody is there any more who could say so: a recorder that could not be started.
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => break,
            }
        }
        let now = Instant::now();
        let requested = shared.control.advance_requested.load(Ordering::Relaxed);
        // While it is so, nobody wakes the collector for it again, but whoever publishes a generation.
        let rest = if requested { shared.advancer.lock().rests_until() } else { None };
        let early = requested && rest.is_none();
        if early || now >= due || !asked.is_empty() {
            fault::point(Point::Advance);
            let advanced = shared.advance(PATIENCE);
            // The next request of a writer must come through, whatever became of this one.
            shared.control.advance_requested.store(false, Ordering::Relaxed);
            due = Instant::now() + if advanced.is_ok() { period } else { period.max(SOON) };
            if matches!(advanced, Ok(crate::advance::Advanced::Extended)) && period.is_zero() {
                due += SOON;
            }
            for answer in asked {
                let _ = answer.send(advanced.is_ok());
            }
            if let Some(watchdog) = &mut watchdog {
                watchdog.run(shared, true);
            }
            continue;
        }
        let mut wake = due;
        if let Some(watchdog) = &mut watchdog {
            watchdog.run(shared, false);
            wake = watchdog.due().map_or(due, |watch| watch.min(due));
        }
        wake = rest.map_or(wake, |rest| rest.min(wake));
        std::thread::park_timeout(wake.saturating_duration_since(now));
    }
}
