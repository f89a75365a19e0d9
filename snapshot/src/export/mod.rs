//! Exports: a snapshot in other tools' formats. `docs/export.md` says what becomes of what, and what is lost.

#[cfg(feature = "symbols")]
pub mod folded;
#[cfg(feature = "symbols")]
mod frame_names;
pub mod go;
pub mod perfetto;
#[cfg(feature = "symbols")]
pub mod pprof;
mod protobuf;

use crate::read::ReadError;

/// The most damage that a report lists one by one.
const MOST_DAMAGE: usize = 1000;

/// Notes for a report what cannot be read of a snapshot.
fn note(damage: &mut Vec<ReadError>, error: ReadError) {
    if damage.len() < MOST_DAMAGE && !damage.contains(&error) {
        damage.push(error);
    }
}
