//! A snapshot as an execution trace of Go, for `go tool trace`.
//!
//! Go's reader checks each event against a state machine of threads, processors and goroutines, and rejects
//! the whole trace at the first event that does not fit. A snapshot may begin anywhere, and lacks what was
//! lost. So a model of that state machine stands in between. It lets nothing through that Go would reject;
//! events that are missing for others to fit are added, and counted.
//!
//! How to read this module: [`Report`] is the result besides the file. `translate`, with `annotations`, says
//! what each event becomes, and `initial_state` how a generation begins. All of them act on the `scheduler`,
//! which tracks the goroutine on each thread (`thread`), what is known of it as a `task`, and which of the
//! `processors` it has. `state_machine` is the model, with `goroutine`, `user_events` and `regions`; `clock`,
//! `batch`, `tables`, `text` and `writer` produce the bytes.
//!
//! The whole trace is one generation in Go's sense: Go's format allows tables after their use, so finished
//! parts are written at once, and memory grows with what is alive, not with the snapshot.

mod annotations;
mod batch;
mod clock;
mod counters;
mod cpu_samples;
mod goroutine;
mod initial_state;
mod processors;
mod regions;
mod report;
mod scheduler;
mod state_machine;
mod tables;
mod task;
mod text;
mod thread;
mod translate;
mod user_events;
mod writer;

pub use cpu_samples::FrameName;
pub use report::{Count, Report};

use super::note;
use crate::read::{Frame, Trace};
use crate::wire::ClockRecord;
use clock::EARLIEST;
use cpu_samples::Names;
use std::io::{self, Write};
use translate::Mapping;
use writer::File;

/// Writes a whole snapshot as one trace of version `go 1.26 trace`.
///
/// It leaves out what cannot be read of the snapshot, and names it in the report.
///
/// ```no_run
/// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
/// let out = std::io::BufWriter::new(std::fs::File::create("trace.out")?);
/// let report = lookback_snapshot::export::go::export(&trace, out)?;
/// println!("{} goroutines were created", report.creations.all);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `out`.
pub fn export(trace: &Trace, out: impl Write) -> io::Result<Report> {
    export_with(trace, out, |_, _| {})
}

/// Like [`export`], with progress: after each generation, calls back with how many are done, and of how many.
///
/// # Errors
/// Those of `out`.
pub fn export_with(
    trace: &Trace,
    out: impl Write,
    progress: impl FnMut(usize, usize),
) -> io::Result<Report> {
    export_named(trace, out, progress, |_| Vec::new())
}

/// Like [`export_with`], with names for the frames of CPU samples: `names` finds the functions of a frame, innermost first.
/// Without any, a frame is named by its file and offset.
///
/// # Errors
/// Those of `out`.
pub fn export_named(
    trace: &Trace,
    out: impl Write,
    mut progress: impl FnMut(usize, usize),
    mut names: impl FnMut(&Frame<'_>) -> Vec<FrameName>,
) -> io::Result<Report> {
    let names: &mut Names<'_> = &mut names;
    let mut names = Some(names);
    let generations = trace.generations();
    let mut damage = Vec::new();
    trace.damage().iter().for_each(|error| note(&mut damage, error.clone()));
    let mut export = Export::NotBegun(out);
    for (index, info) in generations.iter().enumerate() {
        progress(index, generations.len());
        let generation = match trace.generation(info.number) {
            Ok(generation) => generation,
            Err(error) => {
                note(&mut damage, error);
                continue;
            }
        };
        let mut mapping = match export {
            Export::NotBegun(out) => {
                let Some(names) = names.take() else { unreachable!("it begins once") };
                Box::new(Mapping::new(out, &generation, names))
            }
            Export::Begun(mapping) => mapping,
        };
        mapping.begin(&generation);
        let mut events = generation.events();
        while let Some(next) = events.lend() {
            match next {
                Ok(lent) => mapping.event(lent.event)?,
                Err(error) => note(&mut damage, error),
            }
        }
        mapping.counters(&generation);
        mapping.end(info, generation.is_alone());
        export = Export::Begun(mapping);
    }
    progress(generations.len(), generations.len());
    let mut report = match export {
        Export::NotBegun(out) => {
            let bytes = File::new(out, EARLIEST, &ClockRecord::default()).finish()?;
            Report { bytes, ..Report::default() }
        }
        Export::Begun(mapping) => mapping.finish()?,
    };
    report.damage = damage;
    Ok(report)
}

/// The trace begins with the state before the first readable generation.
enum Export<'n, W> {
    NotBegun(W),
    Begun(Box<Mapping<'n, W>>),
}
