//! What was different in the last second: what happened more often than before, or less.

use super::Section;
use super::length::Length;
use super::map::Map;
use super::names::Name;
use super::scribe::Scribe;
use crate::wire::Nanos;

/// The time at the end that is compared with what was before.
pub const LAST: Nanos = Nanos(1_000_000_000);

const MOST_NAMES: usize = 4096;
const LISTED: usize = 10;
/// So many standard deviations from what was to be expected are listed, if each event came by
/// itself.
const ODD: f64 = 5.0;

/// What was different, the least likely first.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Changes {
    /// What happened so much more often, or less, that it is unlikely to be by chance.
    pub changes: Vec<Change>,
}

/// Events of one name, before and in the last second.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change {
    /// What kind of event: `log`, say.
    pub kind: &'static str,
    /// Its name: of the span, the region, the task, the log's category.
    pub name: String,
    /// How often it happened in the last second.
    pub last: u64,
    /// How often in a second before.
    pub before: f64,
}

/// Counts events, before and in the last second.
#[derive(Default)]
pub(super) struct ChangeWatch {
    /// When the last second begins.
    from: Nanos,
    counts: Map<(&'static str, Name), [u64; 2]>,
}

impl ChangeWatch {
    /// The snapshot ends then.
    pub(super) fn until(end: Nanos) -> Self {
        Self { from: end.since(LAST), ..Self::default() }
    }

    pub(super) fn event(&mut self, kind: &'static str, name: Name, at: Nanos) {
        if self.counts.len() < MOST_NAMES || self.counts.contains_key(&(kind, name)) {
            self.counts.entry((kind, name)).or_default()[usize::from(at >= self.from)] += 1;
        }
    }

    pub(super) fn finish(self, scribe: &Scribe<'_>) -> Section<Changes> {
        let before = self.from.since(scribe.first);
        if before < LAST {
            return Section::nothing(
                "there is less than a second before the last one to compare it with",
            );
        }
        if scribe.world.doubts.any() {
            return Section::nothing(scribe.world.doubts.because());
        }
        let seconds = before.0 as f64 / LAST.0 as f64;
        let mut odd: Vec<_> = self
            .counts
            .into_iter()
            .filter_map(|((kind, name), [earlier, last])| {
                let before = earlier as f64 / seconds;
                // The spread of what is counted, and of what it is expected from.
                let spread = (before + before / seconds).max(1.0).sqrt();
                let distance = (last as f64 - before).abs() / spread;
                let name = scribe.text(name);
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
