//! When the whole process was stopped, so that no task, span or thread is blamed for that time.
//!
//! The recorder's thread records that it overslept, and the two times that bound the stop
//! ([`STOPPED_EVENT`]). No thread can have recorded anything during the stop. So the stop is the longest
//! silence between them, if that is long enough; otherwise there was no stop.
//!
//! All lengths (polls, spans, regions, waits) are then measured by a clock that stands still during stops, except for
//! one nanosecond each. Points in time are reported by the clock of the trace.

use super::nanos_ext::Length;
use super::{Finding, Moment, Score, Unit};
use crate::format::{counted, duration};
use crate::read::{EventKind, Lent, Trace, Value};
use crate::wire::{Nanos, SHORTEST_STOP, STOPPED_AT_LEAST, STOPPED_AT_MOST, STOPPED_EVENT, key};

/// The most stops, and the most silences that may be stops.
const MOST: usize = 4096;
/// How much two clocks may differ.
const SLACK: Nanos = Nanos(20_000_000);

/// A time during which the whole process was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stop {
    /// When it was stopped, or slightly earlier: nothing has been recorded since.
    pub at: Moment,
    /// For how long.
    pub length: Nanos,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Stops(Vec<Pause>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    from: Nanos,
    until: Nanos,
    /// How much of the earlier pauses is left out.
    before: Nanos,
}

impl Pause {
    /// How much of it is left out.
    fn left_out(&self) -> Nanos {
        Nanos(self.until.since(self.from).0.saturating_sub(1))
    }
}

/// An event by which the recorder reports a stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) at: Nanos,
    pub(super) at_least: Nanos,
    pub(super) at_most: Nanos,
}

impl Stops {
    /// The stops in a snapshot. Reads all of its events, but only if its metadata says that there were stops.
    pub(super) fn of(trace: &Trace) -> Self {
        if trace.metadata().number(key::STOPS).is_none_or(|stops| stops == 0) {
            return Self::default();
        }
        let (mut silences, mut told, mut last) = (Vec::new(), Vec::new(), None::<Nanos>);
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            let Ok(Lent { event, .. }) = next else { continue };
            let at = event.measured();
            if let Some(last) = last
                && at.since(last) >= SHORTEST_STOP
                && silences.len() < MOST
            {
                silences.push((last, at));
            }
            last = last.max(Some(at));
            if matches!(event.kind(), EventKind::Typed { .. }) && event.name() == STOPPED_EVENT {
                let field = |name| {
                    event.fields().find_map(|(known, value)| match value {
                        Value::Unsigned(number) if known == name => Some(Nanos(number)),
                        _ => None,
                    })
                };
                if let (Some(at_least), Some(at_most)) =
                    (field(STOPPED_AT_LEAST), field(STOPPED_AT_MOST))
                    && told.len() < MOST
                {
                    told.push(Told { at, at_least, at_most });
                }
            }
        }
        Self::between(&silences, &told)
    }

    /// The silences among these that were stops.
    pub(super) fn between(silences: &[(Nanos, Nanos)], told: &[Told]) -> Self {
        let mut pauses: Vec<Pause> = Vec::new();
        for told in told {
            // The recorder's thread was still running then.
            let earliest = told.at.since(told.at_most);
            let within = silences.iter().filter(|(_, until)| *until <= told.at.plus(SLACK));
            let cut = within.map(|(from, until)| ((*from).max(earliest), *until));
            let Some((from, until)) = cut.max_by_key(|(from, until)| until.since(*from)) else {
                continue;
            };
            let is_it = until.since(from).plus(SLACK) >= told.at_least;
            let is_new = pauses.last().is_none_or(|last| last.until <= from);
            if is_it && is_new && until.since(from) >= SHORTEST_STOP {
                let before = pauses.last().map(|last| last.before.plus(last.left_out()));
                pauses.push(Pause { from, until, before: before.unwrap_or_default() });
            }
        }
        Self(pauses)
    }

    /// Whether there was any.
    pub(super) fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Converts a time of the trace to the clock that stands still.
    #[inline]
    pub(super) fn counted(&self, at: Nanos) -> Nanos {
        if self.0.is_empty() {
            return at;
        }
        let over = self.0.partition_point(|pause| pause.from < at);
        let Some(last) = over.checked_sub(1).map(|last| self.0[last]) else { return at };
        // That clock stands still during the stop.
        let at = if at < last.until { Nanos(last.from.0 + 1) } else { at.since(last.left_out()) };
        at.since(last.before)
    }

    /// Converts back to a time of the trace.
    pub(super) fn told(&self, at: Nanos) -> Nanos {
        let began = |pause: &Pause| pause.from.since(pause.before) < at;
        let over = self.0.partition_point(began);
        match over.checked_sub(1).map(|last| self.0[last]) {
            Some(last) => at.plus(last.before).plus(last.left_out()),
            None => at,
        }
    }

    /// All stops, for a snapshot whose first event is at `first`, by the clock of the trace.
    pub(super) fn list(&self, first: Nanos) -> Vec<Stop> {
        let since = |at: Nanos| i128::from(at.0) - i128::from(first.0);
        let stop = |pause: &Pause| Stop {
            at: Moment(i64::try_from(since(pause.from)).unwrap_or(i64::MAX)),
            length: pause.until.since(pause.from),
        };
        self.0.iter().map(stop).collect()
    }

    /// The finding, which comes first: anything that took long may have been stopped.
    pub(super) fn finding(
        &self,
        context: &super::report_context::ReportContext<'_>,
    ) -> Option<Finding> {
        let longest = self.0.iter().max_by_key(|pause| pause.until.since(pause.from))?;
        let length = longest.until.since(longest.from);
        let mut title = format!("The process was stopped for {}", duration(length));
        if self.0.len() > 1 {
            let all = self.0.iter().map(|pause| pause.until.since(pause.from));
            let sum = all.fold(Nanos(0), Nanos::plus);
            let many = counted(self.0.len() as u64, "stop");
            title += &format!(", the longest of {many} of {} in all", duration(sum));
        }
        title += ": by a signal (SIGSTOP), in a frozen control group, or with its machine; all other times leave this out";
        let evidence = self.0.iter().map(|pause| {
            let (from, until) = (self.counted(pause.from), self.counted(pause.until));
            context.evidence("nobody ran", from, Some(until))
        });
        let evidence = evidence.collect();
        let score = Score::beyond(length.0 as f64, 0.0, Unit::Nanos)?;
        Some(Finding::new("coverage", title, score, evidence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn seconds(seconds: f64) -> Nanos {
        Nanos((seconds * SECOND as f64) as u64)
    }

    fn told(at: f64, at_least: f64, at_most: f64) -> Told {
        Told { at: seconds(at), at_least: seconds(at_least), at_most: seconds(at_most) }
    }

    fn stops(silences: &[(f64, f64)], told: &[Told]) -> Stops {
        let silences: Vec<_> =
            silences.iter().map(|(from, until)| (seconds(*from), seconds(*until))).collect();
        Stops::between(&silences, told)
    }

    fn lengths(stops: &Stops) -> Vec<u64> {
        stops.list(Nanos(0)).iter().map(|stop| stop.length.0 / 1_000_000).collect()
    }

    #[test]
    fn the_process_was_stopped_in_the_longest_silence_if_that_is_long_enough() {
        // It should have woken at 11, and woke at 15; silent since 10.4.
        let at = [told(15.0, 4.0, 5.0)];
        assert_eq!(lengths(&stops(&[(3.0, 9.0), (10.4, 15.0)], &at)), [4600]);
        // A process that was idle before was not stopped then.
        assert_eq!(lengths(&stops(&[(2.0, 15.0)], &at)), [5000]);
        // A thread was running.
        assert_eq!(lengths(&stops(&[(10.4, 12.0), (12.0, 15.0)], &at)), [0_u64; 0]);
        assert_eq!(lengths(&stops(&[], &at)), [0_u64; 0]);
        // Two stops, one of which is reported twice.
        let twice = [told(15.0, 4.0, 5.0), told(15.1, 4.0, 5.0), told(30.0, 1.0, 2.0)];
        assert_eq!(lengths(&stops(&[(10.4, 15.0), (28.5, 30.0)], &twice)), [4600, 1500]);
    }

    proptest! {
        #[test]
        fn lengths_are_without_what_lies_between_and_places_stay(
            times in proptest::collection::vec(1_u64..20, 0..6),
            at in 0_u64..200,
            later in 0_u64..200,
        ) {
            let (mut now, mut silences, mut said) = (0, Vec::new(), Vec::new());
            for pair in times.chunks_exact(2) {
                let (from, until) = (now + pair[0], now + pair[0] + pair[1]);
                silences.push((Nanos(from * SECOND), Nanos(until * SECOND)));
                let length = Nanos((until - from) * SECOND);
                said.push(Told { at: Nanos(until * SECOND), at_least: length, at_most: length });
                now = until;
            }
            let stops = Stops::between(&silences, &said);
            prop_assert_eq!(stops.0.len(), silences.len());
            let (at, later) = (Nanos(at * SECOND / 2), Nanos((at + later) * SECOND / 2));
            let inside: u64 = silences
                .iter()
                .map(|(from, until)| later.min(*until).since(at.max(*from)).0)
                .sum();
            let length = stops.counted(later).since(stops.counted(at));
            let expected = later.since(at).0 - inside;
            prop_assert!(length.0.abs_diff(expected) <= silences.len() as u64);
            let is_inside = silences.iter().any(|(from, until)| *from < at && at < *until);
            prop_assert!(is_inside || stops.told(stops.counted(at)) == at);
        }
    }
}
