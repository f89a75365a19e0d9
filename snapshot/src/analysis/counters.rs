//! Counters: their ranges of values.

use super::interner::Name;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::slices::{SLICES, Slices, rises};
use super::{Finding, Moment, Score, Section, Unit};
use crate::format::{count, counted, duration};
use crate::read::Value;
use crate::read::decode::fast_map::Map;
use crate::wire::Nanos;

/// What a counter of a queue may grow to at least.
pub const GROWN_QUEUE: f64 = 100.0;
/// And how many times its value at the beginning.
pub const GROWN_QUEUE_RATIO: f64 = 2.0;
/// A counter with one of these words in its name says how long something is that should not grow.
const QUEUES: [&str; 9] = [
    "queue",
    "backlog",
    "pending",
    "depth",
    "waiting",
    "inflight",
    "in_flight",
    "in-flight",
    "unacked",
];
/// What does not rise most of the time does not grow.
const RISING: f64 = 0.75;

const MOST_NAMES: usize = 1024;

/// Counters, by name.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// The counters.
    pub counters: Vec<CounterRange>,
    /// Samples of further counters, which were not analyzed.
    pub others: u64,
    /// Samples that are not finite numbers and belong to no range.
    pub not_finite: u64,
}

/// One counter. Values are `f64`: beyond 2^53 they are rounded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CounterRange {
    /// Its name.
    pub name: String,
    /// How often it was sampled.
    pub samples: u64,
    /// Its first value in the snapshot.
    pub first: f64,
    /// Its last value.
    pub last: f64,
    /// Its least value.
    pub least: f64,
    /// When it first had its least value.
    pub least_at: Moment,
    /// Its greatest value.
    pub most: f64,
    /// When it first had its greatest value.
    pub most_at: Moment,
    /// The mean of the samples.
    pub mean: f64,
}

/// Watches counters.
#[derive(Default)]
pub(super) struct CounterWatch {
    slices: Slices,
    counters: Map<Name, Range>,
    others: u64,
    /// Samples that are not finite numbers.
    not_finite: u64,
}

#[derive(Clone, Copy)]
struct Range {
    samples: u64,
    first: f64,
    last: f64,
    least: (f64, Nanos),
    most: (f64, Nanos),
    sum: f64,
    /// The last value in each slice of the snapshot's time; not a number where there is none.
    at: [f64; SLICES],
}

impl CounterWatch {
    /// For a snapshot of this time.
    pub(super) fn between(from: Nanos, until: Nanos) -> Self {
        Self { slices: Slices::between(from, until), ..Self::default() }
    }

    pub(super) fn sample(&mut self, name: Name, value: Value<'_>, at: Nanos) {
        let value = match value {
            Value::Unsigned(value) => value as f64,
            Value::Signed(value) => value as f64,
            Value::Float(value) if value.is_finite() => value,
            _ => {
                self.not_finite += 1;
                return;
            }
        };
        if self.counters.len() >= MOST_NAMES && !self.counters.contains_key(&name) {
            self.others += 1;
            return;
        }
        let (least, most) = ((value, at), (value, at));
        let at_slices = [f64::NAN; SLICES];
        let new =
            Range { samples: 0, first: value, last: value, least, most, sum: 0.0, at: at_slices };
        let range = self.counters.entry(name).or_insert(new);
        range.at[self.slices.at(at)] = value;
        range.samples += 1;
        range.last = value;
        range.sum += value;
        if value < range.least.0 {
            range.least = (value, at);
        }
        if value > range.most.0 {
            range.most = (value, at);
        }
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Counters> {
        let findings =
            self.counters.iter().filter_map(|(name, range)| self.grows(*name, range, context));
        let findings: Vec<_> = findings.collect();
        let counters = self.counters.into_iter().map(|(name, range)| CounterRange {
            name: context.text(name),
            samples: range.samples,
            first: range.first,
            last: range.last,
            least: range.least.0,
            least_at: context.moment(range.least.1),
            most: range.most.0,
            most_at: context.moment(range.most.1),
            mean: range.sum / range.samples.max(1) as f64,
        });
        let mut counters: Vec<_> = counters.collect();
        counters.sort_by(|a, b| a.name.cmp(&b.name));
        let not_finite = self.not_finite;
        let unknown = (not_finite > 0).then(|| {
            let samples = counted(not_finite, "sample");
            let are = if not_finite == 1 {
                "is no finite number (NaN,"
            } else {
                "are no finite numbers (NaN,"
            };
            format!("{samples} of counters {are} infinite), and not in their ranges")
        });
        if let (true, Some(unknown)) = (counters.is_empty(), &unknown) {
            return Section::nothing(unknown.clone());
        }
        if counters.is_empty() {
            return Section::nothing("no counter is recorded: `lookback::counter!` samples one");
        }
        let table = Counters { counters, others: self.others, not_finite };
        Section { table, findings, not_assessed: unknown.into_iter().collect() }.settle(3)
    }

    /// A queue that became longer all the while.
    fn grows(&self, name: Name, range: &Range, context: &ReportContext<'_>) -> Option<Finding> {
        let text = context.live.names.text(name);
        let lower = text.to_lowercase();
        if !QUEUES.iter().any(|word| lower.contains(word)) {
            return None;
        }
        let row: Vec<f64> = range.at.iter().copied().filter(|value| !value.is_nan()).collect();
        let limit = GROWN_QUEUE.max(GROWN_QUEUE_RATIO * range.first);
        let score = Score::beyond(range.last, limit, Unit::Count)?;
        if !rises(&row, RISING) {
            return None;
        }
        let title = format!(
            "Counter `{text}` grew from {} to {} in {}, all the while: more comes in than goes out",
            count(range.first.max(0.0) as u64),
            count(range.last.max(0.0) as u64),
            duration(context.end.since(context.first)),
        );
        let what = counted(range.samples, "sample");
        let evidence = context.evidence(what, context.first, Some(context.end));
        Some(Finding::new("counters", title, score, vec![evidence]))
    }
}

#[cfg(test)]
mod tests {
    use crate::analysis::test_trace::Script;

    fn findings(name: &str, value: impl Fn(u32) -> f64) -> Vec<String> {
        let mut script = Script::new(8, &[]);
        (0..80).for_each(|at| {
            script.counter(f64::from(at) * 100.0, name, value(at));
        });
        script.report().counters.findings.into_iter().map(|one| one.title).collect()
    }

    #[test]
    fn a_queue_that_grows_is_found_and_one_that_drains_is_not() {
        let found = findings("orders.queue_depth", |at| f64::from(at) * 10.0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("Counter `orders.queue_depth` grew from 0 to 790 in "));
        assert!(findings("queue", |at| f64::from(at % 20) * 50.0).is_empty());
        assert!(findings("queue", f64::from).is_empty(), "short");
        assert!(findings("queue", |at| if at < 40 { 0.0 } else { 900.0 }).is_empty(), "a jump");
        assert!(findings("requests", |at| f64::from(at) * 10.0).is_empty(), "no queue");
    }
}
