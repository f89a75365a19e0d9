//! An echo service over real TCP on the loopback device, recorded against not.
//!
//! `cargo run --release --bin echo -- [--quick] [--rounds N] [--unstable DIR]`
//!
//! In each round every candidate's service is a new process. The clients, in the driver, load one after
//! the other, in many short slices: what disturbs the machine for longer than a slice disturbs all
//! of them. Both sides have two threads, so a small machine is busy all the time, and what the
//! service costs shows.
#![forbid(unsafe_code)]

mod client;
mod process;
mod service;

use anyhow::{Context, Result};
use lookback_peers::options::Options;
use lookback_peers::rounds::{Candidate, Results, turns};
use lookback_peers::table;
use process::Service;
use service::SERVICES;
use std::time::Duration;

/// How many connections there are, each of them with one request at a time.
const CONNECTIONS: usize = 50;
/// A request, and its answer, in bytes.
const MESSAGE: usize = 64;
/// How long a service is loaded before it is the next one's turn.
const SLICE: client::Load =
    client::Load { warm_up: Duration::from_millis(50), measured: Duration::from_millis(250) };

fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    match &options.child {
        None => drive(&options),
        Some(name) => service::run(name),
    }
}

/// Runs the candidates in turn and prints the table.
fn drive(options: &Options) -> Result<()> {
    let candidates = candidates(options)?;
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
                let report = client::run(services[index].port, SLICE, services[index].pid())
                    .with_context(|| candidates[index].title.clone())?;
                if slice > 0 {
                    reports[index].append(report);
                }
            }
        }
        services.drain(..).try_for_each(Service::stop)
    })?;

    table::heading("An echo service", "echo", &["tokio", "tracing", "dial9"], options);
    println!(
        "{CONNECTIONS} connections, {MESSAGE} bytes each way; {rounds} rounds with new processes, \
         in each of them {slices} interleaved slices of {:?}. A ratio is of the medians of a round; \
         its median, least, quartiles and most are over the rounds.",
        SLICE.measured
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
            let value = if value < 1000.0 { format!("{value:.2}") } else { format!("{value:.0}") };
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

fn candidates(options: &Options) -> Result<Vec<Candidate>> {
    let program = options.program()?;
    let mut candidates: Vec<_> = SERVICES
        .iter()
        .map(|(name, title)| Candidate {
            title: (*title).to_owned(),
            program: program.clone(),
            name,
            base: 0,
        })
        .collect();
    if let Some(program) = options.unstable_program("echo")? {
        let base = candidates.len();
        for (name, title) in
            [("bare", "bare, `tokio_unstable`"), ("dial9", "dial9, `tokio_unstable`")]
        {
            candidates.push(Candidate {
                title: title.to_owned(),
                program: program.clone(),
                name,
                base,
            });
        }
    }
    Ok(candidates)
}
