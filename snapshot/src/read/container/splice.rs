//! A file with names put in: byte for byte the same but for the frame with them, and where the trailer leads.

use super::catalog::Naming;
use super::source::Source;
use crate::file::{Trailer, encode_trailer};
use std::io::{self, Write};

/// How much is copied at a time.
const PIECE: u64 = 1 << 20;

/// Writes the file with `names`, a whole frame, in place of those that it has. Returns how many bytes were written.
pub(crate) fn splice(
    source: &Source,
    naming: &Naming,
    names: &[u8],
    out: &mut impl Write,
) -> io::Result<u64> {
    let length = source.length();
    let place = naming.place.min(length);
    let (from, to) = naming.at.unwrap_or((place, place));
    // The names stand behind the place, so those that were there do.
    let (from, to) = (from.clamp(place, length), to.clamp(place, length));
    let tail = length.checked_sub(Trailer::LENGTH as u64).filter(|tail| *tail >= to);
    let trailer = match tail {
        Some(tail) => Trailer::decode(&source.read(tail, Trailer::LENGTH as u64)?),
        None => None,
    };
    let end = trailer.and(tail).unwrap_or(length);
    copy(source, 0, place, out)?;
    out.write_all(names)?;
    copy(source, place, from, out)?;
    copy(source, to, end, out)?;
    let mut last = Vec::new();
    if let Some(trailer) = trailer {
        let moved = |offset: u64| match offset {
            _ if offset < place => offset,
            _ if offset < to => offset.saturating_add(names.len() as u64),
            _ => offset.saturating_add(names.len() as u64) - (to - from),
        };
        encode_trailer(&mut last, moved(trailer.index), moved(trailer.metadata));
        out.write_all(&last)?;
    }
    out.flush()?;
    Ok(end - (to - from) + (names.len() + last.len()) as u64)
}

fn copy(source: &Source, mut at: u64, end: u64, out: &mut impl Write) -> io::Result<()> {
    while at < end {
        let piece = source.read(at, PIECE.min(end - at))?;
        if piece.is_empty() {
            let what = "the snapshot has become shorter while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        out.write_all(&piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}
