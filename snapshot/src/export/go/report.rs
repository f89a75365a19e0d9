//! What an export did, in numbers.

use crate::read::ReadError;

/// How many events of one kind were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub all: u64,
    /// Those that stand for no event of the snapshot, but were needed for others to fit: because of what
    /// existed before the snapshot, what was lost, or Go's different rules.
    pub synthetic: u64,
}

impl Count {
    /// Those that stand for an event of the snapshot.
    #[must_use]
    pub fn recorded(self) -> u64 {
        self.all - self.synthetic
    }

    pub(super) fn add(&mut self, origin: Origin) {
        self.all += 1;
        self.synthetic += u64::from(origin == Origin::Added);
    }
}

/// Whether an event stands for one of the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Recorded,
    Added,
}

/// What was written, and what was not. Each [`Count`] is the number of such events that `go tool trace
/// -d=parsed` prints.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Events of the snapshot that were read.
    pub events: u64,
    /// Bytes of the trace.
    pub bytes: u64,
    /// Goroutines that existed before the trace began, and are stated.
    pub statuses: Count,
    /// Goroutines that were created: tasks, and what threads do outside them.
    pub creations: Count,
    /// Goroutines that began or continued to run: polls.
    pub starts: Count,
    /// Goroutines that began to wait: polls that ended pending.
    pub blocks: Count,
    /// Goroutines that stopped and stayed runnable: polls of tasks that had woken themselves.
    pub yields: Count,
    /// Goroutines that were woken.
    pub unblocks: Count,
    /// Goroutines that ended: tasks that were done, panicked or were dropped, and threads.
    pub destroys: Count,
    /// Processors that are stated.
    pub processors: Count,
    /// Processors that got a thread: workers that continued.
    pub processor_starts: Count,
    /// Processors that lost their thread: workers that parked.
    pub processor_stops: Count,
    /// User tasks that began: spans.
    pub tasks_begun: Count,
    /// User tasks that ended.
    pub tasks_ended: Count,
    /// User regions that began: regions, and spans that were entered.
    pub regions_begun: Count,
    /// User regions that ended.
    pub regions_ended: Count,
    /// User logs: logs, typed events, counters, the fields of spans.
    pub logs: Count,
    /// Metrics: the memory that is alive.
    pub metrics: Count,
    /// CPU samples: as many as the weights of those in the snapshot.
    pub samples: Count,
    /// Regions that appear longer than they were: they ended before regions inside them, and showing that
    /// would have taken too many events.
    pub late_ends: u64,
    /// Regions that were begun again because one around them ended.
    pub(super) begun_again: u64,
    /// Events of the snapshot that the trace does not show.
    pub left_out: LeftOut,
    /// Events that the model of Go's state machine refused: none, unless this exporter is wrong.
    pub refused: u64,
    /// The damage that was met in the snapshot.
    pub damage: Vec<ReadError>,
}

/// What the trace does not show, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Wakes of tasks that were runnable already, or that Go cannot express: the tasks were being polled, and
    /// never waited again.
    pub wakes: u64,
    /// Ends of regions and spans, and exits, whose beginning is not in the snapshot.
    pub ends: u64,
    /// Regions and entered spans inside more than 1,024 others of their goroutine.
    pub deep: u64,
    /// Events of tasks and spans whose name or number was lost.
    pub unknown: u64,
}

impl LeftOut {
    /// All of them.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.wakes + self.ends + self.deep + self.unknown
    }
}
