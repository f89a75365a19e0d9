//! What differs between two sets of snapshots: what is new, gone, slower, more often.
//!
//! A pass over each snapshot keeps, for each thing that has a name, how often it happened in each of a few slices of time and
//! a bounded sample of how long it took (`collect`, `series`). Then each thing is asked about (`compare`): `statistic` says
//! how likely chance is as an explanation, and a difference is listed if that is unlikely after so many questions, and if it
//! is large enough to matter. `docs/diff.md` explains the tests and has the limits.

mod collect;
mod comparable;
mod compare;
mod functions;
mod lines;
mod series;
mod shape;
mod side;
mod statistic;
mod words;

pub use side::DiffSide;

use crate::read::Trace;
use crate::wire::{CounterGroup, SystemCounter};

/// A side that covers less than this is not compared, in seconds.
pub const LEAST_COVERED: f64 = 1.0;
/// The part of all listed differences that chance explains, at most, on average.
pub const FALSE_SHARE: f64 = 0.001;
/// A rate, a length, a level that changed by less than this factor does not matter.
pub const LEAST_RATIO: f64 = 1.5;
/// The same for the 99th percentile of lengths, and for what the recorder reads of the process.
pub const LEAST_TAIL_RATIO: f64 = 2.0;
/// A length matters if it changed by this much, or all of its name together by [`LEAST_TIME`], in nanoseconds.
pub const LEAST_LENGTH: f64 = 1e6;
/// How likely chance may be of what is [uncertain](Diff::uncertain), and by which factor it must have changed.
pub const UNCERTAIN: f64 = 0.005;
const UNCERTAIN_RATIO: f64 = 2.0;
/// In seconds for each second.
pub const LEAST_TIME: f64 = 0.001;

/// What differs between two sides.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Diff {
    /// The differences, those first that changed the most: see [`Difference::score`].
    pub differences: Vec<Difference>,
    /// What changed by a factor of two or more, and by chance hardly, but not surely enough for the number of questions: a single
    /// moment, such as one hang, is little evidence.
    pub uncertain: Vec<Difference>,
    /// What was seen on one side only, and too rarely to tell this from chance: errors first, then the most frequent.
    pub rare: Vec<Difference>,
    /// Differences around the program: of the machine, which may be causes.
    pub around: Vec<Difference>,
    /// What could not be compared, and why.
    pub not_comparable: Vec<NotComparable>,
    /// How many questions were asked.
    pub asked: u64,
}

/// Something that could not be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotComparable {
    /// What: `all`, or the [key](Kind::key) of a kind.
    pub what: &'static str,
    /// Why.
    pub because: String,
}

/// A difference.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Difference {
    /// What kind of thing it is about.
    pub kind: Kind,
    /// Its name: of the span, the task; the shape of a message; the function.
    pub name: String,
    /// Where it is: a place in the source, the category of a log, the task that waits; empty if that is not known.
    pub within: String,
    /// What changed, by how much that matters.
    pub changes: Vec<Change>,
    /// The first side's numbers.
    pub good: Numbers,
    /// The second side's.
    pub bad: Numbers,
    /// How much it matters, 0 to 1: `docs/diff.md` has the formula.
    pub score: f64,
}

/// One thing that changed.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// What.
    pub what: What,
    /// Its value on the first side.
    pub good: f64,
    /// On the second side.
    pub bad: f64,
    /// How likely the sides differ as much by chance, before the number of questions is considered.
    pub p: f64,
    /// How much it matters, 0 to 1.
    pub score: f64,
}

impl Change {
    /// How many times as much it is on the second side; infinite if there was nothing on the first one.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.good == self.bad { 1.0 } else { self.bad / self.good }
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum What {
    /// How often it happens a second; of functions, CPU seconds or bytes a second.
    Rate,
    /// How long it takes, in nanoseconds: the median.
    Length,
    /// How long the slowest hundredth takes, in nanoseconds.
    Tail,
    /// The share of those that fail.
    Failures,
    /// How many long polls there are a second.
    LongPolls,
    /// How high it is.
    Level,
    /// How much a counter that never falls rises in a second.
    Growth,
}

impl What {
    /// Its name in the output for machines.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Length => "median_ns",
            Self::Tail => "p99_ns",
            Self::Failures => "failures",
            Self::LongPolls => "long_polls",
            Self::Level => "level",
            Self::Growth => "growth",
        }
    }
}

/// The numbers of one side; those that its kind does not have are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Numbers {
    /// How often it happened.
    pub count: f64,
    /// How often a second.
    pub per_second: f64,
    /// The share that failed.
    pub failures: f64,
    /// Lengths, in nanoseconds: the median.
    pub p50: f64,
    /// What a tenth exceeds.
    pub p90: f64,
    /// What a hundredth exceeds.
    pub p99: f64,
    /// The longest.
    pub most: f64,
    /// All lengths together, in seconds for each second.
    pub time: f64,
    /// The share of that which tasks spent in polls.
    pub polled: f64,
    /// The mean level.
    pub level: f64,
}

/// A kind of thing that can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// An error, by its message's shape.
    ErrorLog,
    /// A panic of a task.
    Panic,
    /// A warning.
    WarnLog,
    /// A span, with its route.
    Span,
    /// A region.
    Region,
    /// A range.
    Range,
    /// Where a lock is waited for.
    Lock,
    /// Polls of tasks of a name.
    Poll,
    /// Where tasks wait, and of which name.
    Wait,
    /// A function on the CPU.
    Cpu,
    /// A function that allocates.
    Allocation,
    /// Tasks that are spawned.
    Task,
    /// Tasks that are alive.
    AliveTasks,
    /// Tasks that are dropped before they are done.
    Cancelled,
    /// A typed event.
    Event,
    /// Another message.
    Log,
    /// A counter of the program.
    Counter,
    /// What the recorder reads of the process and its control group.
    System,
    /// What it reads of a runtime.
    Runtime,
    /// What it reads of the machine.
    Machine,
}

impl Kind {
    /// Its name in the output for machines.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::ErrorLog => "error_log",
            Self::Panic => "panic",
            Self::WarnLog => "warn_log",
            Self::Span => "span",
            Self::Region => "region",
            Self::Range => "range",
            Self::Lock => "lock",
            Self::Poll => "poll",
            Self::Wait => "wait",
            Self::Cpu => "cpu",
            Self::Allocation => "allocation",
            Self::Task => "task",
            Self::AliveTasks => "alive_tasks",
            Self::Cancelled => "cancelled",
            Self::Event => "event",
            Self::Log => "log",
            Self::Counter => "counter",
            Self::System => "system",
            Self::Runtime => "runtime",
            Self::Machine => "machine",
        }
    }

    fn of_counter(counter: SystemCounter) -> Self {
        match counter.group() {
            CounterGroup::Pressure | CounterGroup::Network | CounterGroup::Machine => Self::Machine,
            CounterGroup::Runtime => Self::Runtime,
            _ => Self::System,
        }
    }

    /// Whether it is trouble whenever it happens.
    const fn is_trouble(self) -> bool {
        matches!(self, Self::ErrorLog | Self::Panic | Self::WarnLog | Self::Cancelled)
    }
}

/// A function in a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The place in it, as `file:line`, if known.
    pub place: Option<String>,
    /// Whether it is the service's own.
    pub is_own: bool,
    /// Whether the name is one; otherwise it is an offset.
    pub is_named: bool,
}

impl Diff {
    /// Compares snapshots; the functions of stacks are not named.
    ///
    /// ```no_run
    /// use lookback_snapshot::analysis::Diff;
    /// let open = lookback_snapshot::Trace::open;
    /// let diff = Diff::of(&[open("good.lbk")?], &[open("bad.lbk")?]);
    /// for difference in &diff.differences {
    ///     println!("{}", difference.in_words());
    /// }
    /// # Ok::<(), lookback_snapshot::ReadError>(())
    /// ```
    #[must_use]
    pub fn of(good: &[Trace], bad: &[Trace]) -> Self {
        let side = |traces: &[Trace]| {
            let mut side = DiffSide::of_files(traces.len());
            traces.iter().for_each(|trace| side.add(trace, None));
            side
        };
        Self::between(&side(good), &side(bad), false)
    }

    /// Compares two sides. Those of different programs are compared if `any_program`.
    ///
    /// ```no_run
    /// use lookback_snapshot::analysis::{Diff, DiffSide};
    /// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
    /// let mut side = DiffSide::of_files(1);
    /// side.add(&trace, None);
    /// assert!(Diff::between(&side, &side, false).differences.is_empty());
    /// # Ok::<(), lookback_snapshot::ReadError>(())
    /// ```
    #[must_use]
    pub fn between(good: &DiffSide, bad: &DiffSide, any_program: bool) -> Self {
        compare::compare(good, bad, any_program)
    }
}
