//! Measuring: interleaved rounds, medians, ratios.

#![allow(dead_code, reason = "not every benchmark uses everything")]

use std::time::Instant;

/// How long one call takes: the median of all rounds, and of their best tenth, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub median: f64,
    pub quiet: f64,
}

pub struct Rounds;

const ROUNDS: usize = 151;

impl Rounds {
    /// Runs each candidate in turn, `ROUNDS` times; each does its work `calls` times in a round.
    pub fn measure(candidates: &mut [(&str, &mut dyn FnMut())], calls: u32) -> Vec<Cost> {
        let mut times = vec![Vec::with_capacity(ROUNDS); candidates.len()];
        for round in 0..ROUNDS + 3 {
            for ((_, work), times) in candidates.iter_mut().zip(&mut times) {
                let began = Instant::now();
                work();
                let nanos = began.elapsed().as_nanos() as f64 / f64::from(calls);
                // The first rounds warm up.
                if round >= 3 {
                    times.push(nanos);
                }
            }
        }
        times.iter_mut().map(|times| Cost::of(times)).collect()
    }
}

impl Cost {
    pub fn of(times: &mut [f64]) -> Self {
        times.sort_by(f64::total_cmp);
        Self { median: times[times.len() / 2], quiet: times[times.len() / 20] }
    }
}

pub fn header() {
    println!("{:<44} {:>9} {:>9} {:>10} {:>10}", "", "ns", "ns quiet", "ratio", "quiet");
}

/// One figure, and its ratio to what it is compared with.
pub fn row(name: &str, cost: Cost, base: Cost) {
    println!(
        "{name:<44} {:>9.2} {:>9.2} {:>8.2} × {:>8.2} ×",
        cost.median,
        cost.quiet,
        cost.median / base.median,
        cost.quiet / base.quiet
    );
}

/// Quantiles of `values`, which are sorted for it.
pub fn quantiles<const N: usize>(values: &mut [f64], quantiles: [f64; N]) -> [f64; N] {
    values.sort_by(f64::total_cmp);
    quantiles.map(|quantile| values[((values.len() - 1) as f64 * quantile) as usize])
}
