//! Services under load, recorded and not recorded.
//!
//! In each round every candidate's service is a new process. The clients, in the driver, load one service
//! after the other, in many short slices: whatever disturbs the machine for longer than a slice disturbs all
//! of them. Both sides have two threads, so a small machine is always busy, and what the service costs shows.
#![forbid(unsafe_code)]

use crate::load::{self, CONNECTIONS, Load, Messages};
use crate::options::Options;
use crate::rounds::{Candidate, Results, turns};
use crate::service::Service;
use crate::table;
use anyhow::{Context, Result};
use std::time::Duration;

/// How long a service is loaded before the next one's turn.
const SLICE: Load =
    Load { warm_up: Duration::from_millis(50), measured: Duration::from_millis(250) };

/// A service, with the candidates that record it.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// The program's name.
    pub program: &'static str,
    /// The heading of its tables.
    pub title: &'static str,
    /// What a request is, for the text above the tables.
    pub request: &'static str,
    /// The crates whose versions matter.
    pub packages: &'static [&'static str],
    /// The requests.
    pub messages: Messages,
    /// The candidates, by name and title. Ratios are to the first one.
    pub services: &'static [(&'static str, &'static str)],
    /// Those of another program beside this one, by the program's name, their own, and title. Ratios are as those of
    /// `services`.
    pub others: &'static [(&'static str, &'static str, &'static str)],
    /// Those of the build with `--cfg tokio_unstable`, whose ratios are to the first of these.
    pub unstable: &'static [(&'static str, &'static str)],
}

impl Comparison {
    /// Runs the candidates in turn and prints the tables.
    ///
    /// # Errors
    ///
    /// A candidate fails.
    pub fn drive(&self, options: &Options) -> Result<()> {
        let candidates = self.candidates(options)?;
        let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 10 });
        let slices = if options.quick { 2 } else { 12 };
        let results = Results::collect_rounds(&candidates, rounds, |round, reports| {
            let mut services = candidates
                .iter()
                .map(|candidate| {
                    Service::start(candidate.command(options.quick))
                        .with_context(|| candidate.title.clone())
                })
                .collect::<Result<Vec<_>>>()?;
            for slice in 0..=slices {
                // The first slice fills buffers, and is not counted.
                for index in turns(candidates.len(), round + slice) {
                    let report = load::run(
                        self.messages,
                        services[index].port,
                        SLICE,
                        services[index].pid(),
                    )
                    .with_context(|| candidates[index].title.clone())?;
                    if slice > 0 {
                        reports[index].append(report);
                    }
                }
            }
            services.drain(..).try_for_each(Service::stop)
        })?;

        table::heading(self.title, self.program, self.packages, options);
        println!(
            "{CONNECTIONS} connections, {}; {rounds} rounds with new processes, in each of them {slices} \
         interleaved slices of {:?}. A ratio is of the medians of a round; its median, least, \
         quartiles and most are over the rounds.",
            self.request, SLICE.measured
        );
        for (title, figure, scale) in [
            ("requests/s", "requests", 1.0),
            ("processor time of the service, µs a request", "processor", 1.0),
            ("p50, µs", "p50", 1e-3),
            ("p99, µs", "p99", 1e-3),
            ("p99.9, µs", "p999", 1e-3),
        ] {
            println!();
            table::columns(&[title, "", "ratio", "least", "quartiles", "most"]);
            for (index, candidate) in candidates.iter().enumerate() {
                let Some((median, _)) = results.cost(index, figure) else { continue };
                let Some(ratio) = results.ratio(index, candidate.base, figure) else { continue };
                let value = median * scale;
                let value =
                    if value < 1000.0 { format!("{value:.2}") } else { format!("{value:.0}") };
                table::row(&[
                    candidate.title.clone(),
                    value,
                    format!("{:.3}", ratio.median),
                    format!("{:.3}", ratio.min),
                    format!("{:.3}–{:.3}", ratio.low, ratio.high),
                    format!("{:.3}", ratio.max),
                ]);
            }
        }
        println!();
        Ok(())
    }

    fn candidates(&self, options: &Options) -> Result<Vec<Candidate>> {
        let program = options.program()?;
        let unstable =
            options.unstable_program(self.program)?.map(|program| (program, self.unstable));
        let mut candidates = Vec::new();
        for (program, services) in [(program, self.services)].into_iter().chain(unstable) {
            let base = candidates.len();
            candidates.extend(services.iter().map(|(name, title)| Candidate {
                title: (*title).to_owned(),
                program: program.clone(),
                name,
                base,
            }));
            if base == 0 {
                for (other, name, title) in self.others {
                    let (program, title) = (program.with_file_name(other), (*title).to_owned());
                    candidates.push(Candidate { title, program, name, base });
                }
            }
        }
        Ok(candidates)
    }
}
