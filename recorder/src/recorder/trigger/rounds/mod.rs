//! Conditions that last: a hang, an overload. The collector looks for them once a generation, so no recorded thread pays for it,
//! and a condition in which nothing is recorded any more is found, too.
//!
//! Each fires once while it lasts: see [`latch`]. It fires on the collector's thread, so an event before the
//! firing says which span, thread or task it is about: the reader shows that as the place where it happened.

#![forbid(unsafe_code)]

mod latch;
mod open_spans;

use crate::os::clock;
use crate::record::emit::{encoded, typed_event};
use crate::record::site::Site;
use crate::recorder::Shared;
use lookback_snapshot::wire::{SpanId, TRIGGER_ABOUT};
use open_spans::OpenSpans;
use std::time::{Duration, Instant};

/// It is not worth to look more often.
const LEAST: Duration = Duration::from_millis(20);
/// Looking takes at most one part in so many of a core's time: there may be a million spans.
const SHARE: u32 = 50;
/// After a longer time between two looks, only so much counts: the process may have been stopped. At least this, or twice a generation.
const LEAST_STEP: Duration = Duration::from_secs(1);

/// The triggers of conditions that last, but for those that are about spans that are [slow](super::dispatch::Slow).
#[derive(Debug, Default)]
pub(crate) struct Lasting {
    /// Which of those that are counted, and for how long none may end.
    pub(super) no_progress: Vec<(usize, Duration)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Rounds {
    looked: Instant,
    rest: Duration,
    longest_step: Duration,
    open_spans: Option<OpenSpans>,
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
}

/// The event that is recorded before the trigger's.
static ABOUT: Site = Site::new(TRIGGER_ABOUT, &["thread", "span"], file!(), line!());

impl Rounds {
    /// `None` if no trigger needs it.
    pub(crate) fn new(shared: &Shared) -> Option<Self> {
        let open_spans = OpenSpans::new(&shared.active);
        let longest_step = LEAST_STEP.max(shared.settings.generation_period.saturating_mul(2));
        open_spans.is_some().then(|| Self {
            looked: Instant::now(),
            rest: LEAST,
            longest_step,
            open_spans,
        })
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&mut self, shared: &Shared) {
        let began = Instant::now();
        let since = began.duration_since(self.looked);
        if since < self.rest {
            return;
        }
        self.looked = began;
        let used = clock::of_this_thread();
        let now = clock::now(shared.control.mode());
        let look = Look { shared, now, step: since.min(self.longest_step) };
        if let Some(open_spans) = &mut self.open_spans {
            open_spans.look(&look);
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
