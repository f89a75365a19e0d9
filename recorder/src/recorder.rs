//! The recorder: start, snapshot, stop.

#![forbid(unsafe_code)]

mod faults;
mod off;
mod taking;

use crate::own_thread;
use crate::advance::{Advanced, Advancer};
use crate::arena::{Arena, Identity};
use crate::barrier::Barrier;
use crate::clock::{self, Calibration};
use crate::collector::{self, Command};
use crate::control::{Control, Mode, control};
use crate::crash;
use crate::emit::is_recording;
use crate::error::Error;
use crate::filter::{self, Filter};
use crate::growth;
use crate::holder;
use crate::process;
use crate::redact;
use crate::settings::{Builder, Settings};
use crate::share::Shares;
use crate::sink::{Sink, SinkThread};
use crate::snapshot::Snapshot;
use crate::stats::Stats;
use crate::thread;
use crate::timing::Timings;
use crate::trigger::active::Active;
use crate::trigger::directory::Directory;
use crate::trigger::saver::Saver;
use crate::trigger::{Armed, exit, hook, signal, slow};
use crate::window::Window;
use off::{Off, turned_off};
use arc_swap::{ArcSwapOption, Guard};
use crossbeam_channel::{Sender, bounded};
use lookback_snapshot::wire::{ClockKind, Generation, Loss, Metadata, key};
use parking_lot::Mutex;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a snapshot waits for who is advancing, and for writers, before it goes on without.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the end of a recording waits for writers, and for the sink.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// The recorder of this process, for who has no handle of it.
static CURRENT: ArcSwapOption<Shared> = ArcSwapOption::const_empty();
/// Held while a recorder starts or stops.
static STARTING: Mutex<()> = Mutex::new(());

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

/// Whether it was meant to record.
enum State {
    On(Arc<Shared>),
    Off(Arc<Off>),
}

/// What recorder, collector and `snapshot()` share.
pub(crate) struct Shared {
    pub(crate) control: &'static Control,
    pub(crate) settings: Settings,
    arena: Arc<Arena>,
    barrier: Barrier,
    clock: ClockKind,
    mode: Mode,
    pub(crate) advancer: Mutex<Advancer>,
    timings: Arc<Mutex<Timings>>,
    sink: Mutex<Option<SinkThread>>,
    metadata: Metadata,
    snapshots: Shares<Arc<Window>>,
    pub(crate) saver: Saver,
    pub(crate) active: Active,
    /// The operating system's number of the collector's thread.
    pub(crate) collector_thread: AtomicU64,
    /// Gets what is missing of the arena.
    growth: Mutex<Option<JoinHandle<()>>>,
    ending: AtomicBool,
    /// Losses from before this recording began.
    lost_before: Vec<(Loss, u64)>,
    /// Where the black box of a predecessor that died was moved to.
    predecessor: Option<PathBuf>,
}

/// Who is told when recording starts or stops.
static WATCHERS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// From now on calls `watcher` after recording has started or stopped. Each is called once a change,
/// however often it was given.
pub fn on_change(watcher: fn()) {
    let mut watchers = WATCHERS.lock();
    if !watchers.iter().any(|known| std::ptr::fn_addr_eq(*known, watcher)) {
        watchers.push(watcher);
    }
}

fn tell_watchers() {
    let watchers = WATCHERS.lock().clone();
    watchers.iter().for_each(|watcher| watcher());
}

impl Recorder {
    /// What to record, and how much of it to keep. Every setting has a sensible default.
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
        crate::pin::pin();
        crate::thread::take_whole_name();
        let system = |what| move |error| Error::System { what, error };
        let control = Control::establish().map_err(system("no memory for the tables"))?;
        thread::watch_ends().map_err(system("no thread-specific key"))?;
        crate::strings::hash("the key is made here, and not in a signal handler");

        let barrier = settings.barrier.unwrap_or_else(Barrier::detect);
        if barrier == Barrier::Membarrier && Barrier::detect() != Barrier::Membarrier {
            let error = std::io::ErrorKind::Unsupported.into();
            return Err(Error::System { what: "membarrier", error });
        }
        let clock = clock::detect();
        let mode = Mode::new(clock, barrier == Barrier::Fence);
        change_mode(control, mode)?;
        redact::rules::set(&settings.redaction);
        let mut metadata = process::describe(settings.name.as_deref());
        let first_generation = control.next_generation.load(Ordering::Relaxed);
        metadata.add(key::FIRST_GENERATION, first_generation);
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
        filter::set(settings.filter.clone());
        arena.note_settings();
        let active = Active::new(&settings.triggers);
        slow::set(control, active.names());
        let calibration = Calibration::measure(mode);
        let mut advancer = Advancer::start(
            control,
            Arc::clone(&arena),
            barrier,
            Arc::clone(&timings),
            calibration,
        )
        // A black box that nothing was recorded into is nobody's last words.
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
            growth: Mutex::new(None),
            ending: AtomicBool::new(false),
            lost_before,
            predecessor,
        });
        *shared.growth.lock() = growth::start(&shared);
        let is_held = holder::hand_over(&shared.arena);
        if shared.settings.fatal_signals && (is_held || shared.settings.black_box.is_some()) {
            crash::watch(&shared.arena);
        }
        exit::watch(shared.settings.panic_patience);
        if shared.settings.fatal_signals && shared.active.panic.is_some() {
            crash::watch_aborts();
        }
        let (commands, collector) = match shared.start_threads(sink, first) {
            Ok(started) => started,
            Err(error) => {
                let _ = shared.end();
                return Err(system("no thread")(crate::mapping::without_thread(error)));
            }
        };
        if shared.settings.notes_panics {
            hook::install();
        }
        if let Err(error) = signal::watch(&shared, collector.thread()) {
            let state = State::On(shared);
            let mut unfinished = Self { state, commands, collector: Some(collector) };
            let _ = unfinished.end_threads();
            return Err(error);
        }
        CURRENT.store(Some(Arc::clone(&shared)));
        shared.active.watch_logs(control);
        tell_watchers();
        Ok(Self { state: State::On(shared), commands, collector: Some(collector) })
    }

    /// Takes a snapshot of the last seconds. Nobody is stopped for it and nothing is consumed by
    /// it. The work is done on this thread; calls that overlap share it.
    ///
    /// # Errors
    /// The copy could not be made: out of descriptors, or a child of the recorded process.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        self.snapshot_because("requested")
    }

    /// Takes a snapshot that says why it was taken.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot).
    pub fn snapshot_because(&self, reason: &str) -> Result<Snapshot, Error> {
        match &self.state {
            State::On(shared) => shared.snapshot(reason, "request"),
            State::Off(off) => Ok(off.snapshot(reason, "request")),
        }
    }

    /// Takes a snapshot and saves it in the [`snapshot_dir`](Builder::snapshot_dir), under a name
    /// that says which process it is of and when it was taken (UTC). Returns the path. One thread of
    /// the recorder does the work, and this one waits for it. All who call this before that begins
    /// share one file, which says the reasons of all (16; more are counted).
    ///
    /// The window is not copied but passed on to the file a generation at a time: that takes a quarter of
    /// [`max_bytes`](Builder::max_bytes) and 4 MiB at most, and gives them back. What is overwritten before it is
    /// written is missing: at more than some 20 million events a second, or where the file system is slow,
    /// a part of the oldest. The newest is always there.
    ///
    /// # Errors
    /// As for [`snapshot`](Self::snapshot) and [`Snapshot::save`].
    pub fn save(&self, reason: &str) -> Result<PathBuf, Error> {
        match &self.state {
            State::On(shared) => shared.save(reason),
            State::Off(off) => off.save(reason),
        }
    }

    /// From now on records of `tracing` and of the `log` crate what this filter lets through; `None` leaves
    /// that to subscribers and layers again. It costs nothing where messages are recorded: who is
    /// filtered away is asked anew, once. What was recorded before stays. Spans that are open stay
    /// recorded.
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

    /// Where the [black box](Builder::black_box) of a predecessor was moved to that was found at
    /// start: of a process that died.
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
            // Whatever locks there are may have been held when this child was forked off.
            return Stats::of_child(shared.clock, shared.barrier);
        }
        shared.stats()
    }

    /// What fires for errors.
    pub(crate) fn on_error(&self) -> &Armed {
        match &self.state {
            State::On(shared) => &shared.active.error,
            State::Off(off) => &off.on_error,
        }
    }

    /// Advances to the next generation now, on the collector's thread; for tests. Says whether it
    /// could be done in time.
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

    /// Stops recording. What was recorded until now is handed to the sink and returned.
    ///
    /// # Errors
    /// A thread is stuck inside an event, so that the last generation could not be completed; or
    /// recording had stopped already, by itself.
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
            // A forked child: neither the threads nor the recording are its own.
            std::mem::forget(collector);
            return Err(Error::Forked);
        }
        let _starting = STARTING.lock();
        shared.control.log_trigger.store(0, Ordering::Relaxed);
        // Its filter stays: the last snapshot tells of it, and the next recorder begins with its own.
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
        // What triggers asked for is saved while there is still somebody who advances.
        shared.saver.end(LAST_PATIENCE);
        let _ = self.commands.send(Command::Stop);
        if let Some(collector) = self.collector.take() {
            collector.thread().unpark();
            let _ = collector.join();
        }
        shared.end()
    }

    /// What it records into, if it was meant to record.
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
        // An error here has nobody to go to; what it is about harms nobody.
        let _ = self.finish();
    }
}

/// Takes a snapshot of this process from anywhere in it.
///
/// # Errors
/// No recorder is running, or as for [`Recorder::snapshot`]. It is none if the recorder was told not to record
/// ([`Builder::enabled`]): the snapshot is empty then, and says so.
pub fn snapshot() -> Result<Snapshot, Error> {
    match current() {
        Ok(shared) => shared.snapshot("requested", "request"),
        Err(error) => Ok(turned_off().ok_or(error)?.snapshot("requested", "request")),
    }
}

/// Takes a snapshot from anywhere in the process and saves it: see [`Recorder::save`].
///
/// # Errors
/// No recorder is running, or as for [`Recorder::save`]. It is none if the recorder was told not to record
/// ([`Builder::enabled`]): the snapshot is empty then, and says so.
pub fn save(reason: &str) -> Result<PathBuf, Error> {
    match current() {
        Ok(shared) => shared.save(reason),
        Err(error) => turned_off().ok_or(error)?.save(reason),
    }
}

/// What the recorder of this process has done so far, from anywhere in it: see [`Recorder::stats`].
///
/// # Errors
/// No recorder is running, or this is a child of the process that is recorded.
///
/// ```
/// assert!(lookback_recorder::stats().is_err());
/// let recorder = lookback_recorder::Recorder::builder().max_bytes(1 << 20).start()?;
/// assert_eq!(lookback_recorder::stats()?.max_bytes, 1 << 20);
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
pub fn stats() -> Result<Stats, Error> {
    Ok(current()?.stats())
}

/// Changes what is recorded of `tracing` and of the `log` crate, from anywhere in the process: see
/// [`Recorder::set_filter`].
///
/// # Errors
/// No recorder is running, or this is a child of the process that is recorded.
///
/// ```
/// let filter: lookback_recorder::Filter = "info,my_crate::db=trace".parse()?;
/// assert!(lookback_recorder::set_filter(filter.clone()).is_err(), "nothing is recorded");
/// let recorder = lookback_recorder::Recorder::builder().max_bytes(1 << 20).start()?;
/// lookback_recorder::set_filter(filter)?;
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
pub fn set_filter(filter: impl Into<Option<Filter>>) -> Result<(), Error> {
    match current() {
        Ok(_) => change_filter(filter.into()),
        Err(error) => drop(turned_off().ok_or(error)?),
    }
    Ok(())
}

fn change_filter(filter: Option<Filter>) {
    // No recorder starts or stops meanwhile: the next one begins with a filter of its own.
    let _starting = STARTING.lock();
    if let Some(shared) = &*CURRENT.load() {
        filter::set(filter);
        tell_watchers();
        // Else who advances now, or next, notes it.
        if let Some(_advancing) = shared.advancer.try_lock() {
            shared.arena.note_settings();
        }
    }
}

/// The recorder that is running, for a look at it: the cheap way.
pub(crate) fn peek() -> Guard<Option<Arc<Shared>>> {
    // A forked child records nothing.
    if is_recording() { CURRENT.load() } else { Guard::from_inner(None) }
}

/// The recorder that is running.
pub(crate) fn current() -> Result<Arc<Shared>, Error> {
    if control().is_foreign() {
        return Err(Error::Forked);
    }
    CURRENT.load_full().ok_or(Error::NotRecording)
}

/// Sets how writers behave, and waits until everybody has left who entered before: with the old
/// mode, or in a recording that could not be ended in time. Only then is anything else changed.
fn change_mode(control: &Control, mode: Mode) -> Result<(), Error> {
    let system = |error| Error::System { what: "membarrier", error };
    let barrier = Barrier::detect();
    let used = control.slots_used.load(Ordering::Relaxed) > 0;
    if used && !control.mode().is_fenced() && barrier != Barrier::Membarrier {
        // Those who were promised the barrier cannot be told apart from those who were not.
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

impl Shared {
    fn start_threads(
        self: &Arc<Self>,
        sink: Option<Box<dyn Sink>>,
        first: Generation,
    ) -> std::io::Result<(Sender<Command>, JoinHandle<()>)> {
        if let Some(sink) = sink {
            let mut metadata = self.metadata.clone();
            self.add_settings(&mut metadata, "streamed", "stream");
            let arena = Arc::clone(&self.arena);
            let thread = SinkThread::start(sink, arena, self.mode, metadata, first)?;
            *self.sink.lock() = Some(thread);
        }
        let (commands, received) = bounded(16);
        let shared = Arc::clone(self);
        let collector = own_thread::spawn("lookback", move || collector::run(&shared, &received))?;
        if !self.settings.triggers.is_empty() {
            Saver::start(self)?;
        }
        self.control.set_collector(collector.thread().clone());
        // Who asked for an advance before could not wake it.
        collector.thread().unpark();
        Ok((commands, collector))
    }

    /// Advances, and tells the sink.
    pub(crate) fn advance(&self, patience: Duration) -> Result<Advanced, Error> {
        let advanced = self.advancer.lock().advance(patience);
        self.notify_sink();
        advanced
    }

    /// Whether this is the operating system's number of the collector's or the saver's thread.
    pub(crate) fn is_own_thread(&self, os_thread: u64) -> bool {
        self.saver.is_thread(os_thread)
            || self.collector_thread.load(Ordering::Relaxed) == os_thread
    }

    /// Issues the barrier between what this thread stored before and what it loads afterwards, as
    /// others see it. Says whether it could.
    pub(crate) fn issue_barrier(&self) -> bool {
        self.barrier.issue().is_ok()
    }

    /// The clock's frequency, in ticks a second, as the running generation has it.
    pub(crate) fn frequency(&self) -> u64 {
        let ring = self.arena.ring();
        let running = ring.entry(ring.running.load(Ordering::Relaxed));
        running.frequency.load(Ordering::Relaxed)
    }

    fn notify_sink(&self) {
        if let Some(sink) = &*self.sink.lock() {
            sink.notify();
        }
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Whether recording ends, so that nothing more is needed for it.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Recording cannot go on.
    pub(crate) fn give_up(&self, reason: String) {
        self.advancer.lock().give_up(reason, PATIENCE);
    }

    /// The end: tracing off, the last generation complete, the sink served.
    fn end(&self) -> Result<(), Error> {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(growth) = self.growth.lock().take() {
            let _ = growth.join();
        }
        crash::forget(&self.arena);
        let stopped = self.advancer.lock().stop(LAST_PATIENCE);
        if stopped.is_err() {
            // Somebody may still be inside: what it may touch must stay.
            self.control.generation.store(0, Ordering::Release);
            self.arena.leak();
        }
        // In a thread that panics this is no orderly end, whatever else it is.
        if !std::thread::panicking() {
            self.arena.note_end();
        }
        // Its lock is not held while it is waited for.
        let sink = self.sink.lock().take();
        if let Some(sink) = sink {
            sink.finish(LAST_PATIENCE);
        }
        stopped?;
        let broken = self.advancer.lock().broken().map(str::to_owned);
        broken.map_or(Ok(()), |reason| Err(Error::Broken(reason)))
    }
}
