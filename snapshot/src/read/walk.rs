//! Finding the frames of a file without an index: from the front, one after the other.
//!
//! Where a walk meets damage it looks for the next place at which a whole frame of ours begins. What
//! looks like one is tried, but not for ever: a file that is made of false beginnings is given up.

use super::catalog::{FrameSpot, Frames, MAX_DAMAGE, Search, skippable_head};
use super::extent::{Extent, extent};
use super::source::Window;
use super::unpack::{check_head, peek, unpack};
use super::{ReadError, Reason};
use crate::file::{
    FramePrefix, GENERATION_TAG, INDEX_TAG, METADATA_COPY_TAG, SKIPPABLE, TRAILER_TAG, ZSTD_MAGIC,
    skippable_content,
};
use std::io;

/// How much of a frame is decompressed to see what it is.
const PREFIX: usize = 128;

impl Search<'_> {
    /// Walks the frames from `start` on; with `lost`, what begins there is known to be damaged.
    pub(super) fn walk(&mut self, start: u64, lost: bool) -> io::Result<Frames> {
        let length = self.source.length();
        let mut walk = Walk {
            window: Window::new(self.source),
            frames: Vec::new(),
            // So much may be spent on places that look like a frame and are none.
            patience: length.saturating_mul(16).saturating_add(64 << 20),
        };
        let (mut at, mut behind_index, mut ended) = (start, false, false);
        if lost {
            at = self.next_frame(&mut walk, start + 1)?.unwrap_or(length);
        }
        while at < length {
            match self.frame_at(&mut walk, at)? {
                Found::Generation(spot) => {
                    at = spot.offset + spot.compressed;
                    walk.frames.push(Ok(spot));
                }
                Found::Unreadable(reason, end) => {
                    self.lose(&mut walk, at, reason);
                    at = end;
                }
                Found::Passed(end) => (at, behind_index) = (end, true),
                Found::End(end) => {
                    // It is there, but led to no index, or the index would have been used.
                    let told = |error: &ReadError| matches!(error.reason(), Reason::IndexDamaged);
                    if !self.damage.iter().any(told) {
                        self.report(at, Reason::IndexDamaged);
                    }
                    (at, ended) = (end, true);
                }
                Found::Nothing => {
                    let next = self.next_frame(&mut walk, at + 1)?;
                    let front = walk.window.get(at, 4)?;
                    let reason = match next {
                        Some(next) => Reason::SteppedOver(next - at),
                        None if ZSTD_MAGIC.to_le_bytes().starts_with(front) => Reason::Cut,
                        None => Reason::SteppedOver(length - at),
                    };
                    let skippable = front.len() == 4 && front != ZSTD_MAGIC.to_le_bytes();
                    if behind_index || (next.is_none() && skippable && begins_frame(front)) {
                        // No generation can have been here.
                        self.report(at, Reason::IndexDamaged);
                    } else {
                        self.lose(&mut walk, at, reason);
                    }
                    at = next.unwrap_or(length);
                }
            }
        }
        if !ended {
            self.report(length, Reason::NoIndex);
        }
        Ok(walk.frames)
    }

    /// Something that was a generation cannot be read.
    fn lose(&mut self, walk: &mut Walk<'_>, at: u64, reason: Reason) {
        if self.damage.len() < MAX_DAMAGE {
            walk.frames.push(Err(self.error(at, reason.clone())));
        }
        self.report(at, reason);
    }

    /// What begins at `at`.
    fn frame_at(&self, walk: &mut Walk<'_>, at: u64) -> io::Result<Found> {
        let length = self.source.length();
        if let Some((magic, content)) = skippable_head(walk.window.get(at, 8)?) {
            let end = at + 8 + content;
            return Ok(match SKIPPABLE.iter().position(|known| *known == magic) {
                _ if end > length => Found::Nothing,
                Some(2) => Found::End(end),
                _ => Found::Passed(end),
            });
        }
        let Extent::Whole(_, end) = extent(&mut walk.window, at, length)? else {
            return Ok(Found::Nothing);
        };
        // What follows a whole frame is another one, or nothing. If not, one of the two is damaged.
        let next = walk.window.get(end, 4)?;
        let doubtful = next.len() == 4 && !begins_frame(next);
        if doubtful && !self.is_ours(walk, at)? {
            return Ok(Found::Nothing);
        }
        let bytes = self.source.read(at, end - at)?;
        Ok(match self.look_into(&bytes) {
            Ok(prefix) => Found::Generation(FrameSpot {
                number: prefix.number,
                complete: prefix.complete,
                offset: at,
                compressed: end - at,
                entry: None,
            }),
            Err(reason) => Found::Unreadable(reason, end),
        })
    }

    fn look_into(&self, bytes: &[u8]) -> Result<FramePrefix, Reason> {
        check_head(bytes, self.limits)?;
        let front = peek(bytes, PREFIX, self.limits)?;
        FramePrefix::decode(&front).map_err(Reason::Generation)
    }

    /// The next place from `at` on where something whole of ours begins.
    fn next_frame(&self, walk: &mut Walk<'_>, mut at: u64) -> io::Result<Option<u64>> {
        let length = self.source.length();
        while at < length {
            let piece = walk.window.get(at, 32 << 10)?;
            // Holes are long, and are passed over a page at a time.
            let zeroes =
                piece.chunks(ZEROES.len()).take_while(|page| **page == ZEROES[..page.len()]);
            let hole = zeroes.map(<[u8]>::len).sum::<usize>() as u64;
            if hole > 0 {
                at += hole;
                continue;
            }
            let Some(found) = piece.windows(4).position(begins_frame) else {
                // The last three bytes may be the front of one.
                if at + piece.len() as u64 >= length {
                    return Ok(None);
                }
                at += piece.len() as u64 - 3;
                continue;
            };
            at += found as u64;
            if self.is_ours(walk, at)? {
                return Ok(Some(at));
            }
            if walk.patience == 0 {
                return Ok(None);
            }
            at += 1;
        }
        Ok(None)
    }

    fn is_ours(&self, walk: &mut Walk<'_>, at: u64) -> io::Result<bool> {
        let length = self.source.length();
        if let Some((magic, content)) = skippable_head(walk.window.get(at, 8)?) {
            if at + 8 + content > length {
                return Ok(false);
            }
            walk.patience = walk.patience.saturating_sub(content);
            let content = self.source.read(at + 8, content)?;
            let tags = [INDEX_TAG, METADATA_COPY_TAG, TRAILER_TAG];
            return Ok(SKIPPABLE.iter().zip(tags).any(|(known, tag)| {
                *known == magic && skippable_content(&content, tag).is_some()
            }));
        }
        let Extent::Whole(head, end) = extent(&mut walk.window, at, length)? else {
            walk.patience = walk.patience.saturating_sub(4096);
            return Ok(false);
        };
        walk.patience = walk.patience.saturating_sub(end - at);
        let bytes = self.source.read(at, end - at)?;
        if self.look_into(&bytes).is_err() {
            return Ok(false);
        }
        walk.patience = walk.patience.saturating_sub(head.content);
        Ok(unpack(&bytes, &GENERATION_TAG, self.limits).is_ok())
    }
}

/// A page that nothing was written to. No frame begins with a zero.
const ZEROES: [u8; 4096] = [0; 4096];

struct Walk<'a> {
    window: Window<'a>,
    frames: Frames,
    patience: u64,
}

enum Found {
    Generation(FrameSpot),
    /// A frame, up to this offset, that cannot be read.
    Unreadable(Reason, u64),
    /// Something that may be passed over.
    Passed(u64),
    /// The trailer.
    End(u64),
    Nothing,
}

fn begins_frame(bytes: &[u8]) -> bool {
    let magic = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    magic == ZSTD_MAGIC || SKIPPABLE.contains(&magic)
}
