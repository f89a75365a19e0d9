//! A snapshot as an execution trace of Go, for `go tool trace`.
//!
//! Go's reader checks each event against a state machine of threads, processors and goroutines, and
//! gives the whole trace up at the first one that does not fit. A snapshot may begin anywhere, and
//! lack what was lost. So between the two stands a model of that machine, which lets nothing through
//! that Go would not take; and whatever is missing for an event to fit is added, and counted.
//!
//! To read it: [`Report`] is what comes out, besides the file. `mapping` says for each event what it
//! becomes, with `annotations`, and `statement` how a generation begins; all act on the `stage`: which
//! goroutine is on which thread (`seat`), what is known of it as a `task`, which of the `processors` it
//! has. `machine` is the model, with `goroutine`, `user` and `regions`; `clock`, `batch`, `tables`,
//! `text` and `file` are the bytes.
//!
//! All of it is one generation of Go's: its format lets tables stand behind their use, so that
//! what is ready is written at once, and memory grows with what is alive, not with the snapshot.

mod annotations;
mod batch;
mod clock;
mod file;
mod goroutine;
mod machine;
mod mapping;
mod processors;
mod regions;
mod report;
mod seat;
mod stage;
mod statement;
mod tables;
mod task;
mod text;
mod user;

pub use report::{Count, Report};

use crate::read::{ReadError, Trace};
use crate::wire::ClockRecord;
use clock::EARLIEST;
use file::File;
use mapping::Mapping;
use std::io::{self, Write};

/// Writes all of a snapshot as one trace of version `go 1.26 trace`.
///
/// What cannot be read of the snapshot is left out, and named in the report.
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
/// `out` refused.
pub fn export(trace: &Trace, out: impl Write) -> io::Result<Report> {
    export_with(trace, out, |_, _| {})
}

/// As [`export`], and tells how far it is: after each generation, how many are through, and of how
/// many.
///
/// # Errors
/// `out` refused.
pub fn export_with(
    trace: &Trace,
    out: impl Write,
    mut progress: impl FnMut(usize, usize),
) -> io::Result<Report> {
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
            Export::NotBegun(out) => Box::new(Mapping::new(out, &generation)),
            Export::Begun(mapping) => mapping,
        };
        mapping.begin(&generation);
        for event in generation.events() {
            match event {
                Ok(event) => mapping.event(&event)?,
                Err(error) => note(&mut damage, error),
            }
        }
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

/// The trace begins with what was so before the first generation that can be read.
enum Export<W> {
    NotBegun(W),
    Begun(Box<Mapping<W>>),
}

/// Damage is told one by one up to so many.
const MOST_DAMAGE: usize = 1000;

fn note(damage: &mut Vec<ReadError>, error: ReadError) {
    if damage.len() < MOST_DAMAGE && !damage.contains(&error) {
        damage.push(error);
    }
}
