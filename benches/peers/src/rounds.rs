//! Candidates in turn, each in its own process.
#![forbid(unsafe_code)]

use crate::figures::{Spread, median, quiet};
use crate::report::Report;
use anyhow::{Context, Result, bail};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// One thing to measure.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its title in the table.
    pub title: String,
    /// The program that measures it.
    pub program: PathBuf,
    /// Its name in that program.
    pub name: &'static str,
    /// The index of the candidate that its ratio is to.
    pub base: usize,
}

impl Candidate {
    /// A command that measures it.
    #[must_use]
    pub fn command(&self, quick: bool) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--child", self.name]);
        if quick {
            command.arg("--quick");
        }
        command
    }
}

/// The reports of all rounds, by candidate.
#[derive(Debug)]
pub struct Results {
    reports: Vec<Vec<Report>>,
}

impl Results {
    /// Runs each candidate in turn, `rounds` times.
    ///
    /// # Errors
    ///
    /// A candidate fails.
    pub fn collect(
        candidates: &[Candidate],
        rounds: usize,
        mut run: impl FnMut(&Candidate) -> Result<Report>,
    ) -> Result<Self> {
        Self::collect_rounds(candidates, rounds, |round, reports| {
            for index in turns(candidates.len(), round) {
                let candidate = &candidates[index];
                reports[index] = run(candidate).with_context(|| candidate.title.clone())?;
            }
            Ok(())
        })
    }

    /// Runs `rounds` rounds, each of which fills in a report for each candidate.
    ///
    /// # Errors
    ///
    /// A round fails.
    pub fn collect_rounds(
        candidates: &[Candidate],
        rounds: usize,
        mut run: impl FnMut(usize, &mut [Report]) -> Result<()>,
    ) -> Result<Self> {
        let progress = std::io::stderr().is_terminal();
        let mut results = vec![Vec::new(); candidates.len()];
        for round in 0..rounds {
            if progress {
                eprint!("\rround {} of {rounds} ", round + 1);
            }
            let mut reports = vec![Report::default(); candidates.len()];
            run(round, &mut reports)?;
            for (results, report) in results.iter_mut().zip(reports) {
                results.push(report);
            }
        }
        if progress {
            eprint!("\r{:30}\r", "");
        }
        Ok(Self { reports: results })
    }

    /// Every value of a figure, of all rounds.
    #[must_use]
    pub fn pooled(&self, candidate: usize, figure: &str) -> Vec<f64> {
        self.reports[candidate].iter().flat_map(|report| report.get(figure)).copied().collect()
    }

    /// The median of a figure over all rounds, and that of its best tenth; `None` if the candidate does not
    /// have the figure.
    #[must_use]
    pub fn cost(&self, candidate: usize, figure: &str) -> Option<(f64, f64)> {
        let values = self.pooled(candidate, figure);
        (!values.is_empty()).then(|| (median(&values), quiet(&values)))
    }

    /// How the ratio to another candidate spreads over the rounds; `None` if either does not have the figure.
    #[must_use]
    pub fn ratio(&self, candidate: usize, base: usize, figure: &str) -> Option<Spread> {
        let medians = |candidate: usize| -> Option<Vec<f64>> {
            self.reports[candidate]
                .iter()
                .map(|report| {
                    let values = report.get(figure);
                    (!values.is_empty()).then(|| median(values))
                })
                .collect()
        };
        Some(Spread::of_ratios(&medians(candidate)?, &medians(base)?))
    }
}

/// The order of `count` candidates in a round: each round begins with a different one, so that none is always
/// first.
pub fn turns(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (round + turn) % count)
}

/// Runs a child to its end and reads its report.
///
/// # Errors
///
/// It cannot be started, fails, or prints something else than a report.
pub fn run_child(mut command: Command) -> Result<Report> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    Report::parse(&String::from_utf8_lossy(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_round_begins_with_another_candidate() {
        assert_eq!(turns(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(turns(3, 4).collect::<Vec<_>>(), [1, 2, 0]);
    }

    #[test]
    fn a_ratio_is_taken_within_a_round() {
        let candidate =
            |base| Candidate { title: String::new(), program: PathBuf::new(), name: "", base };
        let results =
            Results::collect_rounds(&[candidate(0), candidate(0)], 3, |round, reports| {
                let drift = 10.0_f64.powi(round as i32);
                reports[0].add("ns", [drift]);
                reports[1].add("ns", [2.0 * drift, 2.0 * drift, 9.0 * drift]);
                Ok(())
            })
            .unwrap();
        let spread = results.ratio(1, 0, "ns").unwrap();
        assert_eq!((spread.min, spread.max), (2.0, 2.0));
        assert!(results.ratio(1, 0, "other").is_none());
    }
}
