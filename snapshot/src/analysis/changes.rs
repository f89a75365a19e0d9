//! What was different in the last second: what happened more often than before, or less often.

use super::Section;
use super::interner::Name;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use crate::read::decode::fast_map::Map;
use crate::read::{EventKind, Level};
use crate::wire::Nanos;

/// The time at the end that is compared with the time before.
pub const LAST: Nanos = Nanos(1_000_000_000);

const MOST_NAMES: usize = 4096;
const LISTED: usize = 10;
/// Deviations of at least this many standard deviations are listed, assuming independent events.
const ODD: f64 = 5.0;

/// The differences, least likely first.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Changes {
    /// What happened so much more often, or less often, that chance is an unlikely explanation.
    pub changes: Vec<Change>,
}

/// Events of one name, before and during the last second.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// The kind of event, such as `log`.
    pub kind: &'static str,
    /// The name: of the span, the region, the task, or the log's category.
    pub name: String,
    /// How often it happened in the last second.
    pub last: u64,
    /// How often it happened per second before.
    pub before: f64,
}

/// Counts events, before and during the last second.
#[derive(Default)]
pub(super) struct ChangeWatch {
    /// When the last second begins.
    from: Nanos,
    counts: Map<(&'static str, Name), [u64; 2]>,
}

impl ChangeWatch {
    /// For a snapshot that ends at this time.
    pub(super) fn until(end: Nanos) -> Self {
        Self { from: end.since(LAST), ..Self::default() }
    }

    pub(super) fn event(&mut self, kind: &'static str, name: Name, at: Nanos) {
        if self.counts.len() < MOST_NAMES || self.counts.contains_key(&(kind, name)) {
            self.counts.entry((kind, name)).or_default()[usize::from(at >= self.from)] += 1;
        }
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Changes> {
        let before = self.from.since(context.first);
        if before < LAST {
            return Section::nothing(
                "there is less than a second before the last one to compare it with",
            );
        }
        if context.live.doubts.any() {
            return Section::nothing(context.live.doubts.because());
        }
        let seconds = before.0 as f64 / LAST.0 as f64;
        let mut odd: Vec<_> = self
            .counts
            .into_iter()
            .filter_map(|((kind, name), [earlier, last])| {
                let before = earlier as f64 / seconds;
                // The spread of the count, and of the expectation.
                let spread = (before + before / seconds).max(1.0).sqrt();
                let distance = (last as f64 - before).abs() / spread;
                let name = context.text(name);
                (distance >= ODD).then_some((distance, Change { kind, name, last, before }))
            })
            .collect();
        odd.sort_by(|(a, one), (b, other)| {
            b.total_cmp(a).then_with(|| (one.kind, &one.name).cmp(&(other.kind, &other.name)))
        });
        odd.truncate(LISTED);
        let changes = odd.into_iter().map(|(_, change)| change).collect();
        Section { table: Changes { changes }, ..Section::default() }
    }
}

/// What counts towards the differences in the last second: beginnings and messages.
pub(super) fn counted(kind: &EventKind<'_>) -> Option<&'static str> {
    Some(match kind {
        EventKind::Log { level, .. } => match level {
            Level::Error => "error log",
            Level::Warn => "warn log",
            _ => "log",
        },
        EventKind::Typed { .. } => "event",
        EventKind::RegionBegin { .. } => "region",
        EventKind::RangeBegin { .. } => "range",
        EventKind::SpanCreate { .. } => "span",
        EventKind::TaskCreate { .. } => "task",
        EventKind::TaskPanic { .. } => "panic",
        EventKind::TaskDrop { .. } => "cancelled task",
        _ => return None,
    })
}
