//! What the recorder says of itself.

#![forbid(unsafe_code)]

use crate::barrier::Barrier;
use crate::timing::Summary;
use lookback_snapshot::wire::{ClockKind, Loss};
use std::path::PathBuf;
use std::time::Duration;

/// The state of a recorder at one instant. Counts are since it was started.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Whether it was meant to record: see [`Builder::enabled`](crate::Builder::enabled).
    pub enabled: bool,
    /// What is recorded of `tracing` and of the `log` crate: the recorder's filter, or else those of
    /// subscribers and layers, each once. None if there are none.
    pub filters: Vec<String>,
    /// Callsites of `tracing`, and kinds of tasks, for which there was no place in a table, since the
    /// process began: at least so many. They are recorded without name and values.
    pub nameless: u64,
    /// Texts that were written out, since the process began, though the generation may have had them
    /// before: the table of its texts was full. At least so many.
    pub unshared_texts: u64,
    /// How often the kernel refused `membarrier` to a thread that writes, since the process began: a filter of that
    /// thread's own (`seccomp`) forbids it. A thread needs it where the collector is late, to make room;
    /// without it the event is lost. See [`Barrier::Fence`].
    pub refused_barriers: u64,
    /// Events that were recorded, reclaimed ones included.
    pub recorded: u64,
    /// Of those, how many were in generations that were given up for new ones.
    pub reclaimed: u64,
    /// Events that could not be recorded, by cause; causes that did not occur are left out.
    pub lost: Vec<(Loss, u64)>,
    /// Fields of spans and events of `tracing` that had values for which there was no room, since the
    /// process began.
    pub omitted_fields: u64,
    /// The running generation.
    pub generation: u64,
    /// How many generations are in the arena, the running one included.
    pub generations: u64,
    /// Bytes of the arena that are in use.
    pub bytes: u64,
    /// Bytes of the arena, its header included: the bound that was asked for.
    pub max_bytes: u64,
    /// How far back snapshots are to look.
    pub window: Duration,
    /// Where snapshots are put.
    pub snapshot_dir: PathBuf,
    /// The black box that is recorded into, if there is one.
    pub black_box: Option<PathBuf>,
    /// Threads that have recorded something.
    pub threads: u64,
    /// How long advances took, from the notes of silent threads to the end record, with the statuses of all
    /// that is alive.
    pub advances: Summary,
    /// How long advances waited for writers to leave the generation that ended.
    pub waits: Summary,
    /// How long reading the arena took, for each snapshot.
    pub snapshots: Summary,
    /// Whole generations that the sink was too slow for.
    pub sink_lost: u64,
    /// Why the sink was given up, if it failed.
    pub sink_error: Option<String>,
    /// The clock in use.
    pub clock: ClockKind,
    /// Its frequency, in ticks a second.
    pub clock_frequency: u64,
    /// Which side pays for the order between writers and advances.
    pub barrier: Barrier,
    /// The triggers that the recorder was given, by their names in the metadata.
    pub armed: Vec<String>,
    /// What became of triggers.
    pub triggers: crate::trigger::Stats,
    /// Why recording has stopped by itself, if it has.
    pub broken: Option<String>,
}

impl Stats {
    /// What there is to say in a child of the process that is recorded: nothing but that.
    pub(crate) fn of_child(clock: ClockKind, barrier: Barrier) -> Self {
        Self {
            enabled: true,
            filters: Vec::new(),
            nameless: 0,
            unshared_texts: 0,
            refused_barriers: 0,
            recorded: 0,
            reclaimed: 0,
            lost: Vec::new(),
            omitted_fields: 0,
            generation: 0,
            generations: 0,
            bytes: 0,
            max_bytes: 0,
            window: Duration::ZERO,
            snapshot_dir: PathBuf::new(),
            black_box: None,
            threads: 0,
            advances: Summary::default(),
            waits: Summary::default(),
            snapshots: Summary::default(),
            sink_lost: 0,
            sink_error: None,
            clock,
            clock_frequency: 0,
            barrier,
            armed: Vec::new(),
            triggers: crate::trigger::Stats::default(),
            broken: Some(crate::Error::Forked.to_string()),
        }
    }

    /// Events lost, for whatever cause.
    #[must_use]
    pub fn lost_in_all(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }
}
