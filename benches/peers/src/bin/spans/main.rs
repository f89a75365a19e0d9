//! The whole life of a span, and an event: through lookback's subscriber and layer, against the bare registry
//! and other recorders of spans.
//!
//! `cargo run --release --bin spans -- [--quick] [--rounds N]`
//!
//! A process has one global subscriber, and a scoped one costs more to find. So each candidate is
//! installed globally, in a process of its own.
#![forbid(unsafe_code)]

mod recorders;
mod shapes;

use anyhow::Result;
use lookback_peers::options::Options;
use lookback_peers::report::Report;
use lookback_peers::rounds::{Candidate, Results, run_child};
use lookback_peers::table;
use recorders::RECORDERS;
use shapes::{FIGURES, Shapes};
use std::time::{Duration, Instant};

/// How often a shape is called between two readings of the clock.
const BATCH: u32 = 1_000;
/// How many batches make one value.
const BATCHES: u32 = 20;

fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    match &options.child {
        None => drive(&options),
        Some(name) => {
            let budget = Duration::from_millis(if options.quick { 30 } else { 200 });
            recorders::run(name, |shapes, settle| {
                let report = measure(shapes, settle, budget);
                print!("{report}");
            })
        }
    }
}

/// Runs the candidates in turn and prints the tables.
fn drive(options: &Options) -> Result<()> {
    let program = options.program()?;
    let registry = RECORDERS.iter().position(|(name, _)| *name == "registry").unwrap_or(0);
    let candidates: Vec<_> = RECORDERS
        .iter()
        .map(|(name, title)| Candidate {
            title: (*title).to_owned(),
            program: program.clone(),
            name,
            base: registry,
        })
        .collect();
    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 11 });
    let results = Results::collect(&candidates, rounds, |candidate| {
        run_child(candidate.command(options.quick))
    })?;

    let packages = ["tracing", "tracing-subscriber", "dial9-utils", "fastrace", "tracing-chrome"];
    table::heading("Spans", "spans", &packages, options);
    let clocks: Vec<_> =
        (0..candidates.len()).flat_map(|index| results.pooled(index, "clock")).collect();
    println!(
        "Nanoseconds, {rounds} rounds; a ratio is to the bare registry, the median of the ratios \
         of the rounds. The clock instruction took {} ns.",
        table::nanos(lookback_peers::figures::median(&clocks))
    );
    for quiet in [false, true] {
        println!();
        let mut columns = vec![if quiet { "the best tenth" } else { "the median" }];
        columns.extend(FIGURES.iter().map(|(_, what)| *what));
        table::columns(&columns);
        for (index, candidate) in candidates.iter().enumerate() {
            let mut cells = vec![candidate.title.clone()];
            cells.extend(
                FIGURES.iter().map(|(figure, _)| cell(&results, index, registry, figure, quiet)),
            );
            table::row(&cells);
        }
    }
    println!();
    Ok(())
}

/// One figure with its ratio, or a dash if the candidate has no such thing.
fn cell(results: &Results, index: usize, base: usize, figure: &str, quiet: bool) -> String {
    let (Some(cost), Some(base_cost), Some(ratio)) = (
        results.cost(index, figure),
        results.cost(base, figure),
        results.ratio(index, base, figure),
    ) else {
        return "–".to_owned();
    };
    let (value, ratio) =
        if quiet { (cost.1, cost.1 / base_cost.1) } else { (cost.0, ratio.median) };
    format!("{} ({})", table::nanos(value), table::times(ratio))
}

/// Measures every shape of one candidate.
fn measure(shapes: &Shapes, settle: &mut dyn FnMut(), budget: Duration) -> Report {
    let mut report = Report::default();
    report.add("clock", repeat(shapes::clock, &mut || (), budget / 4));
    let named = FIGURES.iter().zip([shapes.root, shapes.fields, shapes.child, shapes.event]);
    for ((figure, _), shape) in named {
        if let Some(shape) = shape {
            report.add(figure, repeat(shape, settle, budget));
        }
    }
    report
}

/// Measures a shape again and again until the time is used up, after a warm-up of half that time: the
/// registry's slab grows during the first quarter of a million spans.
fn repeat(shape: fn(u32), settle: &mut dyn FnMut(), budget: Duration) -> Vec<f64> {
    let began = Instant::now();
    while began.elapsed() < budget / 2 {
        value(shape, settle);
    }
    let began = Instant::now();
    let mut values = Vec::new();
    while values.len() < 3 || began.elapsed() < budget {
        values.push(value(shape, settle));
    }
    values
}

/// Nanoseconds a call. Between two batches the recorder may settle, which is not counted.
fn value(shape: fn(u32), settle: &mut dyn FnMut()) -> f64 {
    let mut took = Duration::ZERO;
    for _ in 0..BATCHES {
        let began = Instant::now();
        shape(BATCH);
        took += began.elapsed();
        settle();
    }
    took.as_nanos() as f64 / f64::from(BATCH * BATCHES)
}
