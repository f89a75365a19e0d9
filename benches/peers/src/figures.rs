//! Medians, quantiles, and the spread of a ratio.
#![forbid(unsafe_code)]

/// The value below which a share `quantile` (0 to 1) of `values` lies, interpolated linearly between the two
/// nearest values.
///
/// # Panics
///
/// If there are no values.
#[must_use]
pub fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = (sorted.len() - 1) as f64 * quantile;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

/// The value in the middle.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The best tenth: the cost when nothing else disturbs the machine.
#[must_use]
pub fn quiet(values: &[f64]) -> f64 {
    quantile(values, 0.1)
}

/// How the ratio of two candidates, taken round by round, spreads.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The first quartile.
    pub low: f64,
    /// The one in the middle.
    pub median: f64,
    /// The third quartile.
    pub high: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// The ratios of `values` to `bases`, pair by pair.
    ///
    /// # Panics
    ///
    /// If there is no pair.
    #[must_use]
    pub fn of_ratios(values: &[f64], bases: &[f64]) -> Self {
        let ratios: Vec<f64> = values.iter().zip(bases).map(|(value, base)| value / base).collect();
        let at = |share| quantile(&ratios, share);
        Self { min: at(0.0), low: at(0.25), median: at(0.5), high: at(0.75), max: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_on_the_line_between_two_values() {
        let values = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(median(&values), 3.0);
        assert_eq!(median(&[1.0, 4.0]), 2.5);
        assert_eq!(quantile(&values, 0.0), 1.0);
        assert_eq!(quantile(&values, 1.0), 5.0);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        let spread = Spread::of_ratios(&[2.0, 30.0, 8.0], &[1.0, 10.0, 2.0]);
        assert_eq!((spread.min, spread.median, spread.max), (2.0, 3.0, 4.0));
    }
}
