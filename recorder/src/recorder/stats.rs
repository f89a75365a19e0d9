//! The recorder's statistics.

#![forbid(unsafe_code)]

use crate::generation::system_counters::{Groups, troubles};
use crate::generation::timing::DurationSummary;
use crate::heap::counters::{self, Totals};
use crate::heap::samples;
use crate::os::barrier::Barrier;
use crate::record::task::spawn_stacks;
use crate::record::{samples as cpu_samples, stacks};
use crate::recorder::sampler;
use crate::stack::await_chain;
use crate::stack::modules::UnwindTables;
use crate::stack::trie::Trie;
use lookback_snapshot::wire::{ClockKind, CounterGroup, Loss};
use std::path::PathBuf;
use std::time::Duration;

/// The state of a recorder at one instant. Unless noted otherwise, counts begin with its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Whether the recorder is enabled: see [`Builder::enabled`](crate::Builder::enabled).
    pub enabled: bool,
    /// The filters that apply to `tracing` and the `log` crate: the recorder's, or else those of
    /// subscribers and layers, without duplicates. Empty if there are none.
    pub filters: Vec<String>,
    /// A lower bound on the `tracing` callsites and kinds of tasks that found no room in a table,
    /// since the process started. They are recorded without name and values.
    pub nameless: u64,
    /// A lower bound on the texts that were written again, since the process started, though the
    /// generation may have contained them already, because its table of texts was full.
    pub unshared_texts: u64,
    /// Waits for locks that were not listed while they went on, since the process started: there were too many at once. Each is
    /// recorded when it ends.
    pub unlisted_lock_waits: u64,
    /// How often the kernel refused `membarrier` to a writing thread, since the process started,
    /// because of the thread's own filter (`seccomp`). A thread needs it to make room when the
    /// collector is late; without it the event is lost. See [`Barrier::Fence`].
    pub refused_barriers: u64,
    /// How often the whole process was stopped for a while (SIGSTOP, a frozen control group, a paused
    /// machine), since it started, as far as the collector noticed.
    pub stops: u64,
    /// Events recorded, including reclaimed ones.
    pub recorded: u64,
    /// How many of those were in generations that were reclaimed for new ones.
    pub reclaimed: u64,
    /// Events that could not be recorded, by cause; omits causes that did not occur.
    pub lost: Vec<(Loss, u64)>,
    /// Fields of `tracing` spans and events whose values did not fit, since the process started.
    pub omitted_fields: u64,
    /// The running generation.
    pub generation: u64,
    /// The number of generations in the arena, including the running one.
    pub generations: u64,
    /// The bytes of the arena in use.
    pub bytes: u64,
    /// The size of the arena in bytes, including its header: the bound that was requested.
    pub max_bytes: u64,
    /// How far back snapshots look.
    pub window: Duration,
    /// The directory for snapshots.
    pub snapshot_dir: PathBuf,
    /// The black box that is recorded into, if any.
    pub black_box: Option<PathBuf>,
    /// The number of threads that have recorded something.
    pub threads: u64,
    /// How long advances took, from noting silent threads to the end record, including the statuses
    /// of all live objects.
    pub advances: DurationSummary,
    /// How long advances waited for writers to leave the generation that ended.
    pub waits: DurationSummary,
    /// How long reading the arena took for each snapshot.
    pub snapshots: DurationSummary,
    /// Whole generations that the sink was too slow to receive.
    pub sink_lost: u64,
    /// Why the sink was dropped, if it failed.
    pub sink_error: Option<String>,
    /// The clock in use.
    pub clock: ClockKind,
    /// The clock's frequency, in ticks per second.
    pub clock_frequency: u64,
    /// Which side pays for the order between writers and advances.
    pub barrier: Barrier,
    /// The tables for unwinding stacks, since the process began.
    pub unwind_tables: UnwindTables,
    /// The stacks that were taken, since the process began.
    pub stacks: StackStats,
    /// The samples of where CPU time goes: see [`Builder::cpu_samples`](crate::Builder::cpu_samples).
    pub cpu_samples: CpuSampleStats,
    /// The counters of the process, its control group and the machine.
    pub system_counters: SystemCounterStats,
    /// The heap, if the program declares [`Alloc`](crate::Alloc).
    pub heap: Option<HeapStats>,
    /// The names of the armed triggers, as in the metadata.
    pub armed: Vec<String>,
    /// The outcomes of triggers.
    pub triggers: crate::recorder::trigger::Stats,
    /// Why recording has stopped by itself, if it has.
    pub broken: Option<String>,
}

/// Statistics of stacks, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackStats {
    /// The frames kept: each once, however many stacks contain it.
    pub frames: u32,
    /// The most frames that are kept.
    pub max_frames: u32,
    /// Stacks that were not recorded because there was no room for another frame.
    pub without_room: u64,
    /// Stacks of panics that were not taken, because there were more than 10 in that second.
    pub limited: u64,
    /// Places where tasks wait that could not be remembered for want of room: these are found by a walk of the stack each
    /// time.
    pub chains_without_room: u64,
    /// How often it was not recorded where a task waits, because 1,000 stacks had been walked for that in that second.
    pub chains_limited: u64,
    /// Tasks whose spawning stack was not taken, because there were more in that second than
    /// [`Builder::spawn_stacks`](crate::Builder::spawn_stacks) says.
    pub spawns_limited: u64,
}

impl StackStats {
    pub(crate) fn now() -> Self {
        let fullness = Trie::get().map(Trie::fullness);
        let (frames, max_frames, without_room) = fullness.unwrap_or_default();
        let (chains_without_room, chains_limited) = await_chain::missed();
        let limited = stacks::limited();
        let spawns_limited = spawn_stacks::refused();
        Self {
            frames,
            max_frames,
            without_room,
            limited,
            chains_without_room,
            chains_limited,
            spawns_limited,
        }
    }
}

/// What the program has allocated since it began, and what is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapStats {
    /// Bytes that were allocated.
    pub allocated: u64,
    /// Objects that were allocated.
    pub allocations: u64,
    /// Bytes that were freed.
    pub freed: u64,
    /// Objects that were freed.
    pub frees: u64,
    /// Samples that no list of what is alive has: 16,384 were alive.
    pub unlisted_samples: u64,
    /// Samples that were not recorded, because they were allocated in the middle of an event.
    pub unrecorded_samples: u64,
}

impl HeapStats {
    pub(crate) fn now() -> Option<Self> {
        let Totals { allocated, allocations, freed, frees } =
            counters::are_used().then(counters::totals)?;
        let (unlisted_samples, unrecorded_samples) = samples::counts();
        Some(Self { allocated, allocations, freed, frees, unlisted_samples, unrecorded_samples })
    }

    /// Bytes that are alive.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.allocated.wrapping_sub(self.freed)
    }

    /// Objects that are alive.
    #[must_use]
    pub fn live_objects(&self) -> u64 {
        self.allocations.wrapping_sub(self.frees)
    }
}

/// Statistics of CPU samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuSampleStats {
    /// The samples for each second of CPU time; 0 if none are taken.
    pub per_second: u32,
    /// The threads that are sampled.
    pub threads: u32,
    /// The threads that were not when the collector looked at them last: they block the signal, the user has half of the
    /// signals queued that the kernel grants (`RLIMIT_SIGPENDING`; each timer takes one), or there are more than 4,096.
    pub refused_threads: u32,
    /// Samples recorded, since the process began.
    pub taken: u64,
    /// Samples that were not recorded because there was no room for them, since the process began.
    pub dropped: u64,
    /// Why no thread is sampled, if none is.
    pub trouble: Option<String>,
}

impl CpuSampleStats {
    pub(crate) fn now(per_second: u32) -> Self {
        let (threads, refused_threads, trouble) = sampler::state();
        let (taken, dropped) = cpu_samples::counts();
        Self { per_second, threads, refused_threads, taken, dropped, trouble }
    }
}

/// What is read of the process, its control group and the machine once a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemCounterStats {
    /// The groups that are read: see [`Builder::system_counters`](crate::Builder::system_counters).
    pub groups: Vec<CounterGroup>,
    /// What could not be read when it was tried last: the file, and why.
    pub troubles: Vec<String>,
}

impl SystemCounterStats {
    pub(crate) fn now(groups: Groups) -> Self {
        let troubles = if groups == Groups::NONE { Vec::new() } else { troubles() };
        Self { groups: groups.iter().collect(), troubles }
    }
}

impl Stats {
    /// The statistics in a forked child of the recorded process, which say only that.
    pub(crate) fn of_child(clock: ClockKind, barrier: Barrier) -> Self {
        Self {
            enabled: true,
            filters: Vec::new(),
            nameless: 0,
            unshared_texts: 0,
            unlisted_lock_waits: 0,
            refused_barriers: 0,
            stops: 0,
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
            advances: DurationSummary::default(),
            waits: DurationSummary::default(),
            snapshots: DurationSummary::default(),
            sink_lost: 0,
            sink_error: None,
            clock,
            clock_frequency: 0,
            barrier,
            unwind_tables: UnwindTables::default(),
            stacks: StackStats::default(),
            cpu_samples: CpuSampleStats::default(),
            system_counters: SystemCounterStats::default(),
            heap: None,
            armed: Vec::new(),
            triggers: crate::recorder::trigger::Stats::default(),
            broken: Some(crate::Error::Forked.to_string()),
        }
    }

    /// Events lost, by any cause.
    #[must_use]
    pub fn lost_in_all(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }
}
