//! Finding the frames of a file without an index: from the front, one after the other.
//!
//! Where the walk meets damage, it searches for the next place where a whole frame of ours begins. It tries
//! whatever looks like one, but not forever: it gives up on a file full of false beginnings.

use super::catalog::{FrameSpot, Frames, MAX_DAMAGE, Search, skippable_head};
use super::decompress::{check_head, peek, unpack};
use super::source::SourceWindow;
use super::zstd_frame::{Extent, extent};
use crate::file::{
    FramePrefix, GENERATION_TAG, INDEX_TAG, METADATA_COPY_TAG, NAMES_TAG, SKIPPABLE,
    SKIPPABLE_NAMES, SKIPPABLE_STACKS, STACKS_TAG, TRAILER_TAG, ZSTD_MAGIC, skippable_content,
};
use crate::read::error::{ReadError, Reason};
use std::io;

/// How much of a frame to decompress to see what it is.
const PREFIX: usize = 128;

impl Search<'_> {
    /// Walks the frames from `start` on; `lost` says that what begins there is known to be damaged.
    pub(crate) fn walk(&mut self, start: u64, lost: bool) -> io::Result<Frames> {
        let length = self.source.length();
        let mut walk = Walk {
            window: SourceWindow::new(self.source),
            frames: Vec::new(),
            // How much to spend on places that only look like a frame.
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
                Found::Beside(end) => at = end,
                Found::Passed(end) => (at, behind_index) = (end, true),
                Found::End(end) => {
                    // It exists, but led to no index, or the index would have been used.
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
                        // This cannot have been a generation.
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

    /// Notes that a generation cannot be read.
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
                _ if BESIDE.contains(&magic) => Found::Beside(end),
                Some(2) => Found::End(end),
                _ => Found::Passed(end),
            });
        }
        let Extent::Whole(_, end) = extent(&mut walk.window, at, length)? else {
            return Ok(Found::Nothing);
        };
        // After a whole frame comes another one, or the end. Otherwise one of the two is damaged.
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

    /// The next place from `at` on where a whole frame of ours begins.
    fn next_frame(&self, walk: &mut Walk<'_>, mut at: u64) -> io::Result<Option<u64>> {
        let length = self.source.length();
        while at < length {
            let piece = walk.window.get(at, 32 << 10)?;
            // Holes are long, so skip them a page at a time.
            let zeroes =
                piece.chunks(ZEROES.len()).take_while(|page| **page == ZEROES[..page.len()]);
            let hole = zeroes.map(<[u8]>::len).sum::<usize>() as u64;
            if hole > 0 {
                at += hole;
                continue;
            }
            let Some(found) = piece.windows(4).position(begins_frame) else {
                // The last three bytes may be the beginning of a magic.
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
            let tags = [INDEX_TAG, METADATA_COPY_TAG, TRAILER_TAG].into_iter().zip(SKIPPABLE);
            let mut tags = tags.chain([STACKS_TAG, NAMES_TAG].into_iter().zip(BESIDE));
            return Ok(tags
                .any(|(tag, known)| known == magic && skippable_content(&content, tag).is_some()));
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

/// The frames behind the generations that the trailer does not lead to.
const BESIDE: [u32; 2] = [SKIPPABLE_STACKS, SKIPPABLE_NAMES];

/// A page that was never written. No frame begins with a zero.
const ZEROES: [u8; 4096] = [0; 4096];

struct Walk<'a> {
    window: SourceWindow<'a>,
    frames: Frames,
    patience: u64,
}

enum Found {
    Generation(FrameSpot),
    /// A frame, up to this offset, that cannot be read.
    Unreadable(Reason, u64),
    /// Stacks that were taken from outside, or names.
    Beside(u64),
    /// Something to skip.
    Passed(u64),
    /// The trailer.
    End(u64),
    Nothing,
}

fn begins_frame(bytes: &[u8]) -> bool {
    let magic = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    magic == ZSTD_MAGIC || BESIDE.contains(&magic) || SKIPPABLE.contains(&magic)
}
