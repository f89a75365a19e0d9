//! The recorder: start, snapshot, stop.

pub(crate) mod builder;
pub(crate) mod driver;
pub(crate) mod environment;
pub(crate) mod fault_injection;
#[cfg(target_os = "linux")]
mod growth;
mod identity;
mod measured;
pub(crate) mod running;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod sampler;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "sampler_unsupported.rs"]
mod sampler;
pub(crate) mod saved;
mod shared;
pub(crate) mod snapshotting;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod standing;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "standing_unsupported.rs"]
mod standing;
pub(crate) mod stats;
pub(crate) mod trigger;
mod troubles;

mod off;
mod standstill;

use crate::arena::fd_handoff;
use crate::arena::{Arena, Identity};
use crate::crash;
use crate::error::Error;
use crate::generation::advance::Advancer;
use crate::generation::noted;
use crate::generation::timing::Timings;
use crate::os::barrier::Barrier;
use crate::os::clock::{self, Calibration};
use crate::os::mode::Mode;
use crate::os::no_fork::NoFork;
use crate::os::process;
use crate::record::control::{Control, control};
use crate::record::filter::{self, Filter};
use crate::record::task::await_chains;
use crate::record::thread;
use crate::record::thresholds;
use crate::recorder::builder::{Builder, Settings};
use crate::recorder::driver::Command;
use crate::recorder::stats::Stats;
use crate::recorder::trigger::dispatch::Active;
use crate::recorder::trigger::saver::Saver;
use crate::recorder::trigger::{Armed, Trigger, exit, panic_hook, signal};
use crate::redact;
use crate::snapshot::Snapshot;
use crate::snapshot::single_flight::Shares;
use crate::snapshot::sink::Sink;
use crate::snapshot::snapshot_dir::Directory;
use crate::stack::{await_chain, tables};
use crossbeam_channel::{Sender, bounded};
use lookback_snapshot::wire::{CounterGroup, Loss, Nanos, key};
pub(crate) use running::{current, peek};
pub(crate) use shared::Shared;

use off::Off;
use parking_lot::Mutex;
use running::{CURRENT, STARTING, change_filter, tell_watchers};
use standstill::Standstill;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a snapshot waits for the advancing thread, and for writers, before it continues without them.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the end of a recording waits for writers, and for the sink.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Records this process, from [`start`](Builder::start) until it is stopped or dropped.
///
/// ```
/// use std::time::Duration;
/// let recorder = lookback_recorder::Recorder::builder()
///     .window(Duration::from_secs(10))
///     .max_bytes(1 << 20)
///     .start()?;
/// lookback_recorder::event!("evict", keys = 3, bytes = 4096);
/// let snapshot = recorder.snapshot()?;
/// assert!(snapshot.events() >= 1);
/// recorder.stop()?;
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
#[must_use = "dropping a recorder stops it"]
pub struct Recorder {
    state: State,
    commands: Sender<Command>,
    collector: Option<JoinHandle<()>>,
}

/// Whether it was configured to record.
enum State {
    On(Arc<Shared>),
    Off(Arc<Off>),
}

impl Recorder {
    /// Configures what to record, and how much of it to keep. Every setting has a sensible default.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(settings: Settings, sink: Option<Box<dyn Sink>>) -> Result<Self, Error> {
        if !settings.enabled {
            return Ok(Self::off(settings));
        }
        if control().is_foreign() {
            return Err(Error::Forked);
        }
        let _starting = STARTING.lock();
        if CURRENT.load().is_some() {
            return Err(Error::AlreadyRecording);
        }
        let hindrance = match settings.saves {
            true => Directory::hindrance(&settings.snapshot_dir)?,
            false => None,
        };
        crate::os::pin::pin();
        NoFork::watch();
        crate::record::thread::introduce();
        let system = |what| move |error| Error::System { what, error };
        let control =
            Control::establish().map_err(system("cannot allocate the recorder's tables"))?;
        thread::watch_ends().map_err(system("cannot create a thread-specific key"))?;
        crate::record::strings::hash("the key is made here, and not in a signal handler");

        let barrier = settings.barrier.unwrap_or_else(Barrier::detect);
        if barrier == Barrier::Membarrier && Barrier::detect() != Barrier::Membarrier {
            let error = std::io::ErrorKind::Unsupported.into();
            return Err(Error::System { what: "membarrier", error });
        }
        let clock = clock::detect();
        let mode = Mode::new(clock, barrier == Barrier::Fence);
        change_mode(control, mode)?;
        redact::rules::set(&settings.redaction);
        let mut metadata = identity::describe(settings.name.as_deref());
        let first_generation = control.next_generation.load(Ordering::Relaxed);
        metadata.add(key::FIRST_GENERATION, first_generation);
        metadata.add(key::STACKS, u64::from(settings.stacks));
        let async_stacks = await_chain::turn(settings.async_stacks && await_chains::establish());
        metadata.add(key::ASYNC_STACKS, u64::from(async_stacks));
        if settings.cpu_samples > 0 {
            metadata.add(key::CPU_SAMPLES, u64::from(settings.cpu_samples));
        }
        // A limit that no wait reaches records none.
        if let Ok(limit) = u64::try_from(settings.lock_waits.as_nanos()) {
            metadata.add(key::LOCK_WAITS, limit);
        }
        let groups: Vec<_> = settings.system_counters.iter().map(CounterGroup::name).collect();
        metadata.add(key::SYSTEM_COUNTERS, groups.join(", "));
        let of_triggers = settings.triggers.iter().filter_map(Trigger::stall_limit);
        if let Some(limit) = of_triggers.chain(settings.stall_stacks).min() {
            metadata.add(key::STALLED_POLL, u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX));
        }
        let identity = Identity {
            process_start: process::start_time(),
            boot_id: process::boot_id(),
            pid_namespace: process::pid_namespace(),
            clock,
            window: settings.window.as_nanos() as u64,
            metadata: &metadata.encode(),
        };
        let (arena, predecessor) = match &settings.black_box {
            Some(path) => {
                let kept = settings.black_boxes_kept;
                Arena::in_black_box(settings.max_bytes, &identity, path, kept)?
            }
            None => (Arena::new(settings.max_bytes, &identity)?, None),
        };
        let arena = Arc::new(arena);
        let timings = Arc::new(Mutex::new(Timings::new()));
        let lost_before = Loss::ALL.map(|cause| (cause, control.lost(cause))).to_vec();

        settings.limits.set();
        crate::stack::turn(settings.stacks, settings.stack_signals);
        crate::heap::sampling::set_interval(settings.heap_samples);
        crate::record::stacks::limit_errors(settings.error_stacks);
        let limit = u64::try_from(settings.lock_waits.as_nanos()).unwrap_or(u64::MAX);
        crate::lock::waiting::limit(Nanos(limit));
        crate::lock::tables::begin();
        crate::record::task::spawn_stacks::limit(settings.spawn_stacks);
        filter::set(settings.filter.clone());
        noted::note(&arena);
        let active = Active::new(&settings.triggers);
        thresholds::set(control, active.names());
        let calibration = Calibration::measure(mode);
        let mut advancer = Advancer::start(
            control,
            Arc::clone(&arena),
            barrier,
            Arc::clone(&timings),
            calibration,
        )
        // An empty black box is not worth preserving.
        .inspect_err(|_| arena.note_end())?;
        let first = advancer.running().0;
        let process = metadata.text(key::PROCESS_NAME).unwrap_or("lookback");
        let (path, bounds) = (settings.snapshot_dir.clone(), settings.snapshot_bounds);
        let directory = Directory::new(path, bounds, process);
        let shared = Arc::new(Shared {
            control,
            settings,
            arena,
            barrier,
            clock,
            mode,
            advancer: Mutex::new(advancer),
            timings,
            sink: Mutex::new(None),
            metadata,
            snapshots: Shares::new(),
            saver: Saver::new(directory),
            active,
            collector_thread: AtomicU64::new(0),
            standstill: Standstill::default(),
            lock_waits: Mutex::default(),
            growth: Mutex::new(None),
            ending: AtomicBool::new(false),
            lost_before,
            predecessor,
        });
        if let Some(error) = hindrance {
            shared.saver.cannot_save(&error);
            shared.saver.note_failures(&shared.arena);
        }
        #[cfg(target_os = "linux")]
        {
            *shared.growth.lock() = growth::start(&shared);
        }
        let is_held = fd_handoff::hand_over(&shared.arena);
        if shared.settings.fatal_signals && (is_held || shared.settings.black_box.is_some()) {
            crash::watch(&shared.arena);
        }
        exit::watch(shared.settings.panic_patience);
        if shared.settings.fatal_signals && shared.active.panic.is_some() {
            crash::watch_aborts(exit::wait_in_abort);
        }
        let (commands, collector) = match shared.start_threads(sink, first) {
            Ok(started) => started,
            Err(error) => {
                let _ = shared.end();
                return Err(system("no thread")(crate::os::mmap::without_thread(error)));
            }
        };
        if shared.settings.notes_panics {
            panic_hook::install();
        }
        if let Err(error) = signal::watch(&shared, collector.thread()) {
            let state = State::On(shared);
            let mut unfinished = Self { state, commands, collector: Some(collector) };
            let _ = unfinished.end_threads();
            return Err(error);
        }
        CURRENT.store(Some(Arc::clone(&shared)));
        shared.active.watch(control, shared.settings.error_stacks > 0);
        tell_watchers();
        if await_chain::are_taken() {
            tables::await_first();
        }
        Ok(Self { state: State::On(shared), commands, collector: Some(collector) })
    }

    /// Takes a snapshot of the last seconds. It stops no thread and consumes nothing. This thread does the
    /// work; overlapping calls share it.
    ///
    /// # Errors
    /// The copy could not be made: there are no free descriptors, or this is a child of the recorded process.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        self.snapshot_because("requested")
    }

    /// Takes a snapshot with this reason.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot).
    pub fn snapshot_because(&self, reason: &str) -> Result<Snapshot, Error> {
        match &self.state {
            State::On(shared) => shared.snapshot(reason, "request"),
            State::Off(off) => Ok(off.snapshot(reason, "request")),
        }
    }

    /// Takes a snapshot and saves it in the [`snapshot_dir`](Builder::snapshot_dir), under a name that
    /// identifies the process and the time (UTC). Returns the path. A thread of the recorder does the work,
    /// and this one waits for it. All calls that arrive before it begins share one file, which holds the
    /// reasons of all of them (16; more are counted).
    ///
    /// The window is not copied as a whole: it is passed to the file one generation at a time. That takes at
    /// most a quarter of [`max_bytes`](Builder::max_bytes) and 4 MiB, which are returned afterwards. Data
    /// that is overwritten before its turn is missing: at more than some 20 million events a second, or on a
    /// slow file system, part of the oldest. The newest is always there.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot) and [`Snapshot::save`].
    pub fn save(&self, reason: &str) -> Result<PathBuf, Error> {
        match &self.state {
            State::On(shared) => shared.save(reason),
            State::Off(off) => off.save(reason),
        }
    }

    /// From now on records what this filter accepts from `tracing` and the `log` crate; `None` leaves that to
    /// subscribers and layers again. This costs the recording threads nothing: each callsite is asked once
    /// for its interest again. What was recorded before stays, and open spans stay recorded.
    ///
    /// ```
    /// let recorder = lookback_recorder::Recorder::builder().max_bytes(1 << 20).start()?;
    /// recorder.set_filter("info,my_crate::db=trace".parse::<lookback_recorder::Filter>()?);
    /// recorder.set_filter(None);
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn set_filter(&self, filter: impl Into<Option<Filter>>) {
        if let State::On(shared) = &self.state
            && self.collector.is_some()
            && !shared.control.is_foreign()
        {
            change_filter(filter.into());
        }
    }

    /// Where the [black box](Builder::black_box) of a predecessor that died was moved at the start, if there
    /// was one.
    #[must_use]
    pub fn predecessor(&self) -> Option<&Path> {
        self.on()?.predecessor.as_deref()
    }

    /// What the recorder has done so far, and how well.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = match &self.state {
            State::On(shared) => shared,
            State::Off(off) => return off.stats(),
        };
        if shared.control.is_foreign() {
            // Any lock may have been held when this child was forked.
            return Stats::of_child(shared.clock, shared.barrier);
        }
        shared.stats()
    }

    /// The trigger for errors.
    pub(crate) fn on_error(&self) -> &Armed {
        match &self.state {
            State::On(shared) => &shared.active.error,
            State::Off(off) => &off.on_error,
        }
    }

    /// Advances to the next generation now, on the collector's thread; for tests. Returns whether that
    /// succeeded in time.
    #[doc(hidden)]
    pub fn advance(&self) -> bool {
        if self.on().is_none_or(|shared| shared.control.is_foreign()) {
            return false;
        }
        let (answer, answered) = bounded(1);
        if self.commands.send(Command::Advance(answer)).is_err() {
            return false;
        }
        self.wake_collector();
        answered.recv_timeout(LAST_PATIENCE).unwrap_or(false)
    }

    /// Stops recording. Passes everything recorded so far to the sink, and returns it.
    ///
    /// # Errors
    /// A thread is stuck inside an event, so the last generation could not be completed; or recording had
    /// already stopped by itself.
    pub fn stop(mut self) -> Result<Snapshot, Error> {
        self.finish()?;
        match &self.state {
            State::On(shared) => shared.copy("stopped", "stop"),
            State::Off(off) => Ok(off.snapshot("stopped", "stop")),
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        let Some(collector) = self.collector.take() else { return Ok(()) };
        let Some(shared) = self.on() else { return Ok(()) };
        if shared.control.is_foreign() {
            // In a forked child, neither the threads nor the recording are its own.
            std::mem::forget(collector);
            return Err(Error::Forked);
        }
        let _starting = STARTING.lock();
        shared.control.log_trigger.store(0, Ordering::Relaxed);
        // Its filter stays: the last snapshot describes it, and the next recorder begins with its own.
        CURRENT.store(None);
        self.collector = Some(collector);
        let ended = self.end_threads();
        tell_watchers();
        ended
    }

    /// Ends the recorder's threads, and the recording.
    fn end_threads(&mut self) -> Result<(), Error> {
        let State::On(shared) = &self.state else { return Ok(()) };
        signal::unwatch(shared);
        // Save what triggers requested while the collector can still advance.
        shared.saver.end(LAST_PATIENCE);
        let _ = self.commands.send(Command::Stop);
        if let Some(collector) = self.collector.take() {
            collector.thread().unpark();
            let _ = collector.join();
        }
        shared.end()
    }

    /// The shared state, if it was configured to record.
    fn on(&self) -> Option<&Arc<Shared>> {
        match &self.state {
            State::On(shared) => Some(shared),
            State::Off(_) => None,
        }
    }

    fn wake_collector(&self) {
        if let Some(collector) = &self.collector {
            collector.thread().unpark();
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = match &self.state {
            State::On(shared) => &shared.settings,
            State::Off(off) => &off.settings,
        };
        f.debug_struct("Recorder").field("settings", settings).finish_non_exhaustive()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Nobody can receive this error, and its cause harms nobody.
        let _ = self.finish();
    }
}

/// Sets how writers behave, and waits until every thread has left that entered before: with the old mode, or
/// in a recording that could not be ended in time. Only then does anything else change.
fn change_mode(control: &Control, mode: Mode) -> Result<(), Error> {
    let system = |error| Error::System { what: "membarrier", error };
    let barrier = Barrier::detect();
    let used = control.slots_used.load(Ordering::Relaxed) > 0;
    if used && !control.mode().is_fenced() && barrier != Barrier::Membarrier {
        // Threads that rely on the barrier cannot be told apart from those that do not.
        return Err(system(std::io::ErrorKind::PermissionDenied.into()));
    }
    control.set_mode(mode);
    barrier.issue().map_err(system)?;
    let began = Instant::now();
    while !control.slots().all(|slot| slot.gate.is_past(0)) {
        if began.elapsed() > LAST_PATIENCE {
            return Err(Error::Stuck(LAST_PATIENCE));
        }
        std::thread::sleep(Duration::from_micros(20));
    }
    Ok(())
}
