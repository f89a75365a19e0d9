//! The collector: a thread that advances about once a period, and earlier when writers ask for it.
//! It is also the watchdog, and fires the triggers of signals and of conditions that last.

#![forbid(unsafe_code)]

use crate::fault::{self, Point};
use crate::generation::system_counters::SystemCounters;
use crate::generation::thread_times::ThreadTimes;
use crate::heap::profile::Profile;
use crate::os;
use crate::recorder::Shared;
use crate::recorder::sampler::Sampler;
use crate::recorder::standing::Standing;
use crate::recorder::standstill::Sleeper;
use crate::recorder::trigger::rounds::Rounds;
use crate::recorder::trigger::signal;
use crate::recorder::trigger::watchdog::Watchdog;
use crate::recorder::troubles::Troubles;
use crate::stack::tables::Tables;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the collector waits for writers to leave a generation before it gives up and tries
/// again later.
const PATIENCE: Duration = Duration::from_millis(500);
/// How soon it tries again after that, and, when it advances back to back, after an empty
/// generation.
const SOON: Duration = Duration::from_micros(100);

/// A command to the collector.
#[derive(Debug)]
pub(crate) enum Command {
    /// Advance now; the answer says whether that succeeded.
    Advance(Sender<bool>),
    /// Panic; for tests.
    Panic,
    /// End.
    Stop,
}

/// Runs until stopped. Sleeps between commands and deadlines: an idle process has one wake-up per
/// generation.
pub(crate) fn run(shared: &Arc<Shared>, commands: &Receiver<Command>) {
    shared.collector_thread.store(os::thread::number(), Ordering::Relaxed);
    let period = shared.settings.generation_period;
    let mut due = Instant::now() + period;
    let mut watchdog = Watchdog::new(&shared.active.stalls, shared.settings.stall_stacks);
    let mut rounds = Rounds::new(shared);
    let found_ranges = shared.settings.found_ranges;
    let mut sleeper = Sleeper::new(found_ranges);
    let mut tables = Tables::default();
    tables.look_after();
    let mut thread_times = ThreadTimes::new();
    let mut standing = Standing::new();
    let mut profile = Profile::new();
    let mut system_counters = SystemCounters::new(shared.control, shared.settings.system_counters);
    let mut troubles = Troubles::new(found_ranges);
    let mut sampler = Sampler::new(shared.settings.cpu_samples);
    let mut sample = || sampler.as_mut().map_or((), Sampler::look_after);
    sample();
    loop {
        signal::fire(shared);
        let mut asked = Vec::new();
        loop {
            match commands.try_recv() {
                Ok(Command::Advance(answer)) => asked.push(answer),
                Ok(Command::Panic) => shared.panic_while_advancing(),
                // Or the sender is gone, so no command can follow: the recorder failed to start.
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    shared.tell_lock_waits();
                    // The last generation lists them as of now.
                    let (times, heap) = (thread_times.look(shared.control), profile.last());
                    let system = system_counters.look();
                    troubles.look(shared.control, &system);
                    troubles.end(shared.control);
                    return shared.advancer.lock().list(times, heap, &system);
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        let now = Instant::now();
        let requested = shared.control.advance_requested.load(Ordering::Relaxed);
        // Until then, the request stays set, so writers do not wake the collector again; publishing
        // a generation does.
        let rest = if requested { shared.advancer.lock().rests_until() } else { None };
        let early = requested && rest.is_none();
        if early || now >= due || !asked.is_empty() {
            fault::point(Point::Advance);
            // The samples that wait belong to the generation that ends.
            sample();
            standing.look(shared.control);
            shared.tell_lock_waits();
            let (times, heap) = (thread_times.look(shared.control), profile.look());
            let system = system_counters.look();
            troubles.look(shared.control, &system);
            if !times.is_empty() || heap.is_some() || !system.is_empty() {
                shared.advancer.lock().list(times, heap, &system);
            }
            let advanced = shared.advance(PATIENCE);
            // Reset the request, whatever the outcome, so that the next request of a writer comes
            // through.
            shared.control.advance_requested.store(false, Ordering::Relaxed);
            tables.look_after();
            due = Instant::now() + if advanced.is_ok() { period } else { period.max(SOON) };
            // Where a million spans are alive, their listing may take more than its share of a period.
            if !period.is_zero()
                && let Some(rested) = shared.advancer.lock().rests_until()
            {
                due = due.max(rested);
            }
            if matches!(advanced, Ok(crate::generation::advance::Advanced::Extended))
                && period.is_zero()
            {
                due += SOON;
            }
            for answer in asked {
                let _ = answer.send(advanced.is_ok());
            }
            if let Some(rounds) = &mut rounds {
                rounds.look(shared, &system);
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
        shared.standstill.sleep(&mut sleeper, wake.saturating_duration_since(now));
    }
}
