//! Conditions that last: a hang, an overload. The collector looks for them once a generation, so no recorded thread pays for it,
//! and a condition in which nothing is recorded any more is found, too.
//!
//! Each fires once while it lasts: see [`latch`]. It fires on the collector's thread, so an event before the
//! firing says which span, thread or task it is about: the reader shows that as the place where it happened.

#![forbid(unsafe_code)]

mod deadlocks;
mod latch;
mod open_spans;
pub(crate) mod rates;
mod sliding;
pub(crate) mod strain;

use crate::generation::system_counters::Readings;
use crate::os::clock;
use crate::record::emit::{encoded, typed_event};
use crate::record::site::Site;
use crate::recorder::Shared;
use crate::recorder::trigger::Armed;
use deadlocks::Deadlocks;
use lookback_snapshot::wire::{SpanId, TRIGGER_ABOUT};
use open_spans::OpenSpans;
use rates::{Rate, Rates};
use std::time::{Duration, Instant};
use strain::{Memory, Pressed, Strain};

/// It is not worth to look more often.
const LEAST: Duration = Duration::from_millis(20);
/// Looking takes at most one part in so many of a core's time: there may be a million spans.
const SHARE: u32 = 50;
/// After a longer time between two looks, only so much counts: the process may have been stopped. At least this, or twice a generation.
const LEAST_STEP: Duration = Duration::from_secs(1);

/// A condition is over when what has a limit is below this part of the limit: at the limit itself it would come and go.
const CALM: f64 = 0.9;

/// The triggers of conditions that last, but for those that are about spans that are [slow](super::dispatch::Slow).
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    /// Which of those that are counted, and for how long none may end.
    pub(super) no_progress: Vec<(usize, Duration)>,
    pub(super) rates: Vec<Rate>,
    pub(super) memory: Vec<Memory>,
    pub(super) pressure: Vec<Pressed>,
    pub(super) deadlock: Option<Armed>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rounds {
    looked: Instant,
    rest: Duration,
    longest_step: Duration,
    open_spans: Option<OpenSpans>,
    rates: Option<Rates>,
    strain: Option<Strain>,
    deadlocks: Option<Deadlocks>,
}

/// What a firing is about, for the reader.
#[derive(Clone, Copy, Default)]
pub(super) struct About {
    pub(super) span: u64,
    /// The recorder's number.
    pub(super) thread: u64,
}

/// One look.
pub(super) struct Look<'a> {
    pub(super) shared: &'a Shared,
    /// In ticks.
    pub(super) now: u64,
    /// How much time has passed since the look before, as far as it counts.
    pub(super) step: Duration,
    /// All of it.
    pub(super) since: Duration,
}

/// The event that is recorded before the trigger's.
static ABOUT: Site = Site::new(TRIGGER_ABOUT, &["thread", "span"], file!(), line!());

impl Rounds {
    /// `None` if no trigger needs it.
    pub(crate) fn new(shared: &Shared) -> Option<Self> {
        let active = &shared.active;
        let (open_spans, rates) = (OpenSpans::new(active), Rates::new(active));
        let strain = Strain::new(active);
        let deadlocks = active.lasting.deadlock.clone().map(Deadlocks::new);
        let is_needed =
            open_spans.is_some() || rates.is_some() || strain.is_some() || deadlocks.is_some();
        let longest_step = LEAST_STEP.max(shared.settings.generation_period.saturating_mul(2));
        is_needed.then(|| Self {
            looked: Instant::now(),
            rest: LEAST,
            longest_step,
            open_spans,
            rates,
            strain,
            deadlocks,
        })
    }

    /// The counters were read. Looks, if it is time to.
    pub(crate) fn look(&mut self, shared: &Shared, readings: &Readings) {
        if let Some(strain) = &mut self.strain {
            strain.look(&shared.active, readings);
        }
        let began = Instant::now();
        let since = began.duration_since(self.looked);
        if since < self.rest {
            return;
        }
        self.looked = began;
        let used = clock::of_this_thread();
        let now = clock::now(shared.control.mode());
        let look = Look { shared, now, step: since.min(self.longest_step), since };
        if let Some(open_spans) = &mut self.open_spans {
            open_spans.look(&look);
        }
        if let Some(rates) = &mut self.rates {
            rates.look(&look);
        }
        if let Some(deadlocks) = &mut self.deadlocks {
            deadlocks.look(shared.control);
        }
        let used = clock::of_this_thread().saturating_sub(used);
        self.rest = LEAST.max(used.saturating_mul(SHARE));
    }
}

impl About {
    /// Records it, right before what it is about fires.
    pub(super) fn record(self) {
        let span = SpanId::from_number(self.span);
        let span = if span == SpanId::NONE { String::new() } else { span.to_string() };
        typed_event(&ABOUT, (encoded(&self.thread), encoded(&*span)));
    }
}
