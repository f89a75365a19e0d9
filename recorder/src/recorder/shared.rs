//! What the recorder, its threads and its triggers share.

#![forbid(unsafe_code)]

use super::standstill::Standstill;
use super::{LAST_PATIENCE, PATIENCE, driver};
use crate::arena::Arena;
use crate::crash;
use crate::error::Error;
use crate::generation::advance::{Advanced, Advancer};
use crate::generation::timing::Timings;
use crate::lock::listing::Listing;
use crate::os::barrier::Barrier;
use crate::os::mode::Mode;
use crate::os::own_thread;
use crate::record::control::Control;
use crate::recorder::builder::Settings;
use crate::recorder::driver::Command;
use crate::recorder::trigger::dispatch::Active;
use crate::recorder::trigger::saver::Saver;
use crate::snapshot::single_flight::Shares;
use crate::snapshot::sink::{Sink, SinkThread};
use crate::snapshot::window::Window;
use crossbeam_channel::{Sender, bounded};
use lookback_snapshot::wire::{ClockKind, Generation, Loss, Metadata};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the recorder, the collector and `snapshot()` share.
pub(crate) struct Shared {
    pub(crate) control: &'static Control,
    pub(crate) settings: Settings,
    pub(super) arena: Arc<Arena>,
    pub(super) barrier: Barrier,
    pub(super) clock: ClockKind,
    pub(super) mode: Mode,
    pub(crate) advancer: Mutex<Advancer>,
    pub(super) timings: Arc<Mutex<Timings>>,
    pub(super) sink: Mutex<Option<SinkThread>>,
    pub(super) metadata: Metadata,
    pub(super) snapshots: Shares<Arc<Window>>,
    pub(crate) saver: Saver,
    pub(crate) active: Active,
    /// The operating system's ID of the collector's thread.
    pub(crate) collector_thread: AtomicU64,
    pub(crate) standstill: Standstill,
    pub(super) lock_waits: Mutex<Listing>,
    /// The thread that allocates the rest of the arena.
    pub(super) growth: Mutex<Option<JoinHandle<()>>>,
    pub(super) ending: AtomicBool,
    /// Losses from before this recording began.
    pub(super) lost_before: Vec<(Loss, u64)>,
    /// Where the black box of a predecessor that died was moved.
    pub(super) predecessor: Option<PathBuf>,
}

impl Shared {
    /// Says which waits for locks go on, unless another thread is about to.
    pub(super) fn tell_lock_waits(&self) {
        if let Some(mut listing) = self.lock_waits.try_lock() {
            listing.look(self.control);
        }
    }

    pub(super) fn start_threads(
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
        let collector = own_thread::spawn("lookback", move || driver::run(&shared, &received))?;
        if !self.settings.triggers.is_empty() {
            Saver::start(self)?;
        }
        self.control.set_collector(collector.thread().clone());
        // An earlier request to advance could not wake it.
        collector.thread().unpark();
        Ok((commands, collector))
    }

    /// Advances, and notifies the sink.
    pub(crate) fn advance(&self, patience: Duration) -> Result<Advanced, Error> {
        let mut advancer = self.advancer.lock();
        let advanced = advancer.advance(patience);
        self.saver.note_failures(&self.arena);
        drop(advancer);
        self.notify_sink();
        advanced
    }

    /// Whether this is the operating system's ID of the collector's or the saver's thread.
    pub(crate) fn is_own_thread(&self, os_thread: u64) -> bool {
        self.saver.is_thread(os_thread)
            || self.collector_thread.load(Ordering::Relaxed) == os_thread
    }

    /// Issues the barrier, which orders what this thread stored before and what it loads afterwards for all
    /// other threads. Returns whether it succeeded.
    pub(crate) fn issue_barrier(&self) -> bool {
        self.barrier.issue().is_ok()
    }

    /// The clock's frequency, in ticks a second, as of the running generation.
    pub(crate) fn frequency(&self) -> u64 {
        let ring = self.arena.ring();
        let running = ring.entry(ring.running.load(Ordering::Relaxed));
        running.frequency.load(Ordering::Relaxed)
    }

    pub(super) fn notify_sink(&self) {
        if let Some(sink) = &*self.sink.lock() {
            sink.notify();
        }
    }

    pub(crate) fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Whether recording is ending, so that work for it is no longer needed.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Ends a recording that cannot continue.
    pub(crate) fn give_up(&self, reason: String) {
        self.advancer.lock().give_up(reason, PATIENCE);
    }

    /// Ends the recording: turns tracing off, completes the last generation, serves the sink.
    pub(super) fn end(&self) -> Result<(), Error> {
        self.ending.store(true, Ordering::Relaxed);
        if let Some(growth) = self.growth.lock().take() {
            let _ = growth.join();
        }
        crash::forget(&self.arena);
        let stopped = self.advancer.lock().stop(LAST_PATIENCE);
        if stopped.is_err() {
            // A thread may still be inside: what it may touch must stay.
            self.control.generation.store(0, Ordering::Release);
            self.arena.leak();
        }
        // In a panicking thread this is not an orderly end.
        if !std::thread::panicking() {
            self.arena.note_end();
        }
        // Do not hold its lock while waiting for it.
        let sink = self.sink.lock().take();
        if let Some(sink) = sink {
            sink.finish(LAST_PATIENCE);
        }
        stopped?;
        let broken = self.advancer.lock().broken().map(str::to_owned);
        broken.map_or(Ok(()), |reason| Err(Error::Broken(reason)))
    }
}
