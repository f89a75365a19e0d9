//! What was recorded only in part: no event is missing, and yet not everything is there.
//!
//! Losses are lost events. A text that was cut, a status that found no room, or a region deeper than the
//! recorder restates is not an event, and a user who reads "none lost" assumes that everything is there. So
//! these are counted, for every command to report.

use crate::format::counted;
use crate::read::{DecodedGeneration, Event, EventKind, GenerationInfo, SpanStatus, Value};

/// See the module.
///
/// ```no_run
/// use lookback_snapshot::analysis::LeftOut;
/// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
/// println!("left out: {:?}", LeftOut::of(&trace).words());
/// # Ok::<(), lookback_snapshot::ReadError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Statuses (of tasks, spans, threads) that found no room: what they describe may be unknown altogether.
    pub statuses: u64,
    /// Texts that were cut.
    pub texts: u64,
    /// Fields of spans and messages whose values found no room.
    pub omitted_fields: u64,
    /// Spans that were open at the beginning of the snapshot, or after a gap, and whose fields did not all
    /// find room.
    pub fields: u64,
    /// Regions and spans that threads had open then, deeper than the recorder restates.
    pub deeper: u64,
}

impl LeftOut {
    /// Reads a whole snapshot and counts.
    #[must_use]
    pub fn of(trace: &crate::read::Trace) -> Self {
        let mut left_out = Self::default();
        left_out.generations(trace.generations());
        if let Some(Ok(first)) = trace.generations().first().map(|g| trace.generation(g.number)) {
            left_out.begin(&first);
        }
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            if let Ok(lent) = next {
                left_out.event(lent.event);
            }
        }
        left_out
    }

    /// Counts what generations say about themselves.
    pub fn generations(&mut self, generations: &[GenerationInfo]) {
        let omitted = generations.iter().map(|info| info.omitted).fold(0, u64::saturating_add);
        self.statuses = self.statuses.saturating_add(omitted);
    }

    /// Counts what is known at the beginning of the snapshot, or after a gap.
    pub fn begin(&mut self, generation: &DecodedGeneration) {
        self.fields += generation.spans().filter(SpanStatus::is_part).count() as u64;
        for state in generation.statuses() {
            let deeper = state.deeper().saturating_add(state.spans_deeper());
            self.deeper = self.deeper.saturating_add(deeper);
        }
    }

    /// Counts one event.
    pub fn event(&mut self, event: &Event) {
        let has_texts = matches!(
            event.kind(),
            EventKind::Log { .. }
                | EventKind::Typed { .. }
                | EventKind::SpanCreate { .. }
                | EventKind::SpanRecord { .. }
        );
        if has_texts {
            // The message of a log is one of its fields.
            let cut = event.fields().filter(|(_, value)| match value {
                Value::Text(text) | Value::Error(text) => text.cut,
                _ => false,
            });
            self.texts += cut.count() as u64;
            self.omitted_fields += event.omitted_fields().count() as u64;
        }
    }

    /// Whether nothing was left out.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What was left out, in a few words for each kind; empty if nothing was.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut say = |many: u64, what: &str, why: &str| {
            words.extend((many > 0).then(|| format!("{} {why}", counted(many, what))));
        };
        say(self.statuses, "status", "for want of room");
        say(self.texts, "text", "cut");
        say(self.omitted_fields, "field", "of spans and messages for want of room");
        say(self.fields, "span", "open since before and without all of their fields");
        say(self.deeper, "level", "of regions or spans deeper than is restated");
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_in_its_words() {
        assert!(LeftOut::default().is_nothing() && LeftOut::default().words().is_empty());
        let left_out = LeftOut { statuses: 51, texts: 1, omitted_fields: 3, fields: 2, deeper: 0 };
        assert_eq!(
            left_out.words(),
            [
                "51 statuses for want of room",
                "1 text cut",
                "3 fields of spans and messages for want of room",
                "2 spans open since before and without all of their fields"
            ]
        );
    }
}
