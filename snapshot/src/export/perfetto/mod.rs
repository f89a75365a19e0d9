//! A snapshot as a trace of Perfetto: packets of Protocol Buffers with `TrackEvent`s, for <https://ui.perfetto.dev> and its
//! trace processor, which answers queries in SQL.
//!
//! `packets` writes the packets, with each name once; `timeline` says what each event becomes, and keeps what is open
//! on each track (`slices`); `samples` has the stacks of CPU samples, `locks` the waits for locks.

mod counters;
mod locks;
mod packets;
mod ranges;
mod samples;
mod slices;
mod timeline;

use super::go::FrameName;
use super::note;
use crate::read::{Frame, ReadError, Trace};
use samples::Names;
use std::io::{self, Write};
use timeline::Timeline;

/// What was written, and what could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The events of the snapshot.
    pub events: u64,
    /// The length of the trace.
    pub bytes: u64,
    /// Polls, regions, spans, parked workers and waits for locks.
    pub slices: u64,
    /// Typed events, logs, wakes, spawns: what takes no time.
    pub instants: u64,
    /// Values of counters.
    pub counters: u64,
    /// Arrows: from a wake or a spawn to the poll that it led to.
    pub flows: u64,
    /// CPU samples, as often as they count.
    pub samples: u64,
    /// Slices that had not ended when the snapshot did.
    pub open: u64,
    /// Regions that ended before one that was opened inside of them, and so appear longer than they were.
    pub late_ends: u64,
    /// Ends of regions whose begin is not in the snapshot.
    pub without_begin: u64,
    /// Slices inside of more than 500 others, which were left out: the trace processor does not read them. And waits for locks
    /// beside 256 others of whoever waits.
    pub too_deep: u64,
    /// Slices whose end is in generations that could not be read: they end where the next one begins, and say so.
    pub unknown_ends: u64,
    /// What could not be read of the snapshot.
    pub damage: Vec<ReadError>,
}

/// Writes a whole snapshot.
///
/// It leaves out what cannot be read of the snapshot, and names it in the report.
///
/// ```no_run
/// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
/// let out = std::io::BufWriter::new(std::fs::File::create("incident.pftrace")?);
/// let report = lookback_snapshot::export::perfetto::export(&trace, out)?;
/// println!("{} slices", report.slices);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `out`.
pub fn export(trace: &Trace, out: impl Write) -> io::Result<Report> {
    export_named(trace, out, |_, _| {}, |_| Vec::new())
}

/// Like [`export`], with progress: after each generation, calls back with how many are done, and of how many. And with names
/// for the frames of CPU samples: `names` finds the functions of a frame, innermost first. Without any, a frame is named
/// by its file and offset.
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
    let mut damage = Vec::new();
    trace.damage().iter().for_each(|error| note(&mut damage, error.clone()));
    let generations = trace.generations();
    let mut timeline = Timeline::new(trace.metadata(), out, names)?;
    for (index, info) in generations.iter().enumerate() {
        progress(index, generations.len());
        let generation = match trace.generation(info.number) {
            Ok(generation) => generation,
            Err(error) => {
                note(&mut damage, error);
                continue;
            }
        };
        timeline.begin(&generation)?;
        let mut events = generation.events();
        while let Some(next) = events.lend() {
            match next {
                Ok(lent) => timeline.event(lent.event)?,
                Err(error) => note(&mut damage, error),
            }
        }
        timeline.end(&generation)?;
    }
    progress(generations.len(), generations.len());
    Ok(Report { damage, ..timeline.finish()? })
}
