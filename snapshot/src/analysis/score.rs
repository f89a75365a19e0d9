//! How far something is beyond its limit.

/// The unit of a value and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Nanoseconds.
    Nanos,
    /// A number of things.
    Count,
    /// A part of a whole, 0 to 1.
    Share,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// Its name in `--json`: `ns`, `count`, `share` or `bytes`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nanos => "ns",
            Self::Count => "count",
            Self::Share => "share",
            Self::Bytes => "bytes",
        }
    }
}

/// A value beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Score {
    /// The measured value.
    pub value: f64,
    /// The limit.
    pub limit: f64,
    /// The unit of both.
    pub unit: Unit,
}

impl Score {
    /// The score of a value, if it is beyond the limit.
    pub(crate) fn beyond(value: f64, limit: f64, unit: Unit) -> Option<Self> {
        (value > limit).then_some(Self { value, limit, unit })
    }

    /// From 0, at the limit, towards 1. For durations, counts and bytes it is `1 - limit / value`: 0.5 at twice the
    /// limit, 0.9 at ten times. For shares it is the used part of what remains above the limit: `(value -
    /// limit) / (1 - limit)`.
    #[must_use]
    pub fn number(&self) -> f64 {
        let number = match self.unit {
            Unit::Share => (self.value - self.limit) / (1.0 - self.limit),
            Unit::Nanos | Unit::Count | Unit::Bytes => 1.0 - self.limit / self.value,
        };
        if number.is_finite() { number.clamp(0.0, 1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_grows_from_the_limit_on() {
        let nanos = |value| Score::beyond(value, 10.0, Unit::Nanos).map(|score| score.number());
        assert_eq!(
            (nanos(9.0), nanos(10.0), nanos(20.0), nanos(100.0)),
            (None, None, Some(0.5), Some(0.9))
        );
        let share = Score::beyond(0.95, 0.9, Unit::Share).unwrap().number();
        assert!((share - 0.5).abs() < 1e-9);
        assert_eq!(Score::beyond(3.0, 0.0, Unit::Count).unwrap().number(), 1.0);
    }
}
