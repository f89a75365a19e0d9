//! Finding the frames of a file: by its index, or, if that is missing or wrong, by walking.
//!
//! A file that was cut or is still being written has no index; its frames are found from the front.
//! Where a walk meets damage it looks for the next place at which a whole frame of ours begins.

use super::extent::{Extent, extent};
use super::source::{Source, Window};
use super::unpack::{peek, unpack};
use super::{Limits, ReadError, Reason, foreign};
use crate::file::{
    FILE_MAGIC, FORMAT_VERSION, FramePrefix, GENERATION_TAG, INDEX_TAG, IndexEntry,
    METADATA_COPY_TAG, METADATA_FRONT, SKIPPABLE, TRAILER_TAG, Trailer, ZSTD_MAGIC, decode_index,
    skippable_content,
};
use crate::wire::{Generation, Metadata};
use std::io;
use std::sync::Arc;

/// Where a generation's frame lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameSpot {
    pub(super) number: Generation,
    pub(super) complete: bool,
    pub(super) offset: u64,
    pub(super) compressed: u64,
    /// What the index knows besides.
    pub(super) entry: Option<IndexEntry>,
}

/// What was found in a file.
pub(super) struct Catalog {
    pub(super) version: u16,
    pub(super) metadata: Metadata,
    /// The generations, in the order of the file; an error where one was and cannot be read.
    pub(super) frames: Frames,
    pub(super) damage: Vec<ReadError>,
}

/// How much of a frame is decompressed to see what it is.
const PREFIX: usize = 128;
/// The most places of damage that are told one by one.
const MAX_DAMAGE: usize = 1000;
/// The largest metadata.
const MAX_METADATA: u64 = 64 << 20;

/// Looks through a file.
pub(super) fn catalog(
    source: &Source,
    file: &Arc<str>,
    limits: &Limits,
) -> Result<Catalog, ReadError> {
    let mut search = Search { source, file, limits, damage: Vec::new() };
    search.run()
}

struct Search<'a> {
    source: &'a Source,
    file: &'a Arc<str>,
    limits: &'a Limits,
    damage: Vec<ReadError>,
}

/// The metadata, with the version that stands before it.
type Front = (u16, Metadata);

impl Search<'_> {
    fn run(&mut self) -> Result<Catalog, ReadError> {
        let length = self.source.length();
        if length == 0 {
            return Err(self.error(0, Reason::Empty));
        }
        let trailer = self.trailer().map_err(|error| self.io(0, error))?;
        let front = self.source.read(0, 64).map_err(|error| self.io(0, error))?.into_owned();
        let index = match trailer {
            Some(trailer) => self.index(trailer).map_err(|error| self.io(0, error))?,
            None => None,
        };
        let copy = match trailer {
            Some(trailer) => self.copy(trailer.metadata).map_err(|error| self.io(0, error))?,
            None => None,
        };
        let first = self.first_frame();
        if copy.is_none()
            && index.is_none()
            && foreign::is_certain(&front)
            && let Err(FirstFrame::Foreign(reason)) = first
        {
            return Err(self.error(0, reason));
        }
        let frames = match index {
            Some(index) => index.into_iter().map(|entry| Ok(spot(entry))).collect(),
            None => {
                let start = first.as_ref().map_or(0, |(_, end)| *end);
                self.walk(start, first.is_err()).map_err(|error| self.io(0, error))?
            }
        };
        let (version, metadata) = self.settle(first, copy, &frames)?;
        Ok(Catalog { version, metadata, frames, damage: std::mem::take(&mut self.damage) })
    }

    /// Which metadata to believe.
    fn settle(
        &mut self,
        first: Result<(Front, u64), FirstFrame>,
        copy: Option<Front>,
        frames: &Frames,
    ) -> Result<Front, ReadError> {
        let found = match (first, copy) {
            (Ok((front, _)), _) => front,
            (Err(broken), Some(copy)) => {
                self.report(0, Reason::MetadataDamaged(broken.words()));
                copy
            }
            (Err(FirstFrame::Cut), None) if !frames.iter().any(Result::is_ok) => {
                return Err(self.error(self.source.length(), Reason::CutInMetadata));
            }
            (Err(FirstFrame::Refused(reason)), None) => return Err(self.error(0, reason)),
            (Err(FirstFrame::Foreign(reason)), None) if !frames.iter().any(Result::is_ok) => {
                return Err(self.error(0, reason));
            }
            (Err(broken), None) => {
                let reason = Reason::MetadataLost(broken.words());
                if !frames.iter().any(Result::is_ok) {
                    return Err(self.error(0, reason));
                }
                self.report(0, reason);
                (FORMAT_VERSION, Metadata::default())
            }
        };
        if found.0 > FORMAT_VERSION {
            return Err(self.error(0, Reason::Version(found.0)));
        }
        Ok(found)
    }

    fn error(&self, offset: u64, reason: Reason) -> ReadError {
        ReadError::new(self.file, offset, reason)
    }

    fn io(&self, offset: u64, error: io::Error) -> ReadError {
        self.error(offset, error.into())
    }

    fn report(&mut self, offset: u64, reason: Reason) {
        if self.damage.len() < MAX_DAMAGE {
            self.damage.push(self.error(offset, reason));
        }
    }

    fn trailer(&self) -> io::Result<Option<Trailer>> {
        let length = self.source.length();
        let Some(start) = length.checked_sub(Trailer::LENGTH as u64) else { return Ok(None) };
        Ok(Trailer::decode(&self.source.read(start, Trailer::LENGTH as u64)?))
    }

    /// The content of the skippable frame at `offset`.
    fn skippable(&self, offset: u64, magic: u32) -> io::Result<Option<Vec<u8>>> {
        let head = self.source.read(offset, 8)?;
        let Some((found, length)) = skippable_head(&head) else { return Ok(None) };
        let rest = self.source.length().saturating_sub(offset).saturating_sub(8);
        if found != magic || length > rest {
            return Ok(None);
        }
        Ok(Some(self.source.read(offset + 8, length)?.into_owned()))
    }

    /// The index, unless it is damaged or cannot be true.
    fn index(&mut self, trailer: Trailer) -> io::Result<Option<Vec<IndexEntry>>> {
        let content = self.skippable(trailer.index, SKIPPABLE[0])?;
        let entries = content.and_then(|content| decode_index(&content));
        let mut end = 0;
        let sound = entries.filter(|entries| {
            entries.iter().all(|entry| {
                let begins_after = entry.offset >= end;
                end = entry.offset.saturating_add(entry.compressed);
                begins_after && end <= trailer.index && entry.compressed > 0
            })
        });
        if sound.is_none() {
            self.report(trailer.index, Reason::IndexDamaged);
        }
        Ok(sound)
    }

    fn copy(&self, offset: u64) -> io::Result<Option<Front>> {
        let content = self.skippable(offset, SKIPPABLE[1])?;
        Ok(content.and_then(|content| {
            let said = skippable_content(&content, METADATA_COPY_TAG)?;
            parse_front(said).ok()
        }))
    }

    /// The metadata in the first frame, and where that ends.
    fn first_frame(&self) -> Result<(Front, u64), FirstFrame> {
        let io = |error: io::Error| FirstFrame::Refused(error.into());
        let front = self.source.read(0, 64).map_err(io)?;
        if let Some(reason) = foreign::recognize(&front) {
            return Err(FirstFrame::Foreign(reason));
        }
        let whole = extent(&mut Window::new(self.source), 0, self.source.length()).map_err(io)?;
        let end = match whole {
            Extent::Whole(_, end) => end,
            Extent::Cut => return Err(FirstFrame::Cut),
            Extent::Broken => return Err(FirstFrame::Broken("its frame is broken".to_owned())),
        };
        let bytes = self.source.read(0, end).map_err(io)?;
        let limits = Limits {
            frame_bytes: self.limits.frame_bytes.min(MAX_METADATA),
            window_log: self.limits.window_log,
        };
        let start = peek(&bytes, FILE_MAGIC.len(), &limits).unwrap_or_default();
        if start.len() == FILE_MAGIC.len() && start != FILE_MAGIC {
            return Err(FirstFrame::Foreign(Reason::Foreign("something else, compressed by zstd")));
        }
        let content = match unpack(&bytes, &FILE_MAGIC, &limits) {
            Ok(content) => content,
            Err(reason @ (Reason::TooLarge { .. } | Reason::WindowTooLarge { .. })) => {
                return Err(FirstFrame::Refused(reason));
            }
            Err(Reason::Frame(what)) => return Err(FirstFrame::Broken(what)),
            Err(_) => return Err(FirstFrame::Broken("its checksum does not match".to_owned())),
        };
        Ok((parse_front(&content)?, end))
    }

    /// Walks the frames from `start` on; with `lost`, what begins there is known to be damaged.
    fn walk(&mut self, start: u64, lost: bool) -> io::Result<Frames> {
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
                Found::End(end) => (at, ended) = (end, true),
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
        // What follows a whole frame is another one, or nothing.
        let next = walk.window.get(end, 4)?;
        if next.len() == 4 && !begins_frame(next) {
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
        let front = peek(bytes, PREFIX, self.limits)?;
        FramePrefix::decode(&front).map_err(Reason::Generation)
    }

    /// The next place from `at` on where something whole of ours begins.
    fn next_frame(&self, walk: &mut Walk<'_>, mut at: u64) -> io::Result<Option<u64>> {
        let length = self.source.length();
        while at < length {
            let piece = walk.window.get(at, 32 << 10)?;
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

/// The generations of a file, and errors in the place of those that cannot be read.
type Frames = Vec<Result<FrameSpot, ReadError>>;

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

/// What is wrong with the first frame.
enum FirstFrame {
    Cut,
    Broken(String),
    Foreign(Reason),
    /// Nothing else in the file can make up for it.
    Refused(Reason),
}

impl FirstFrame {
    fn words(self) -> String {
        match self {
            Self::Cut => "it is cut off".to_owned(),
            Self::Broken(what) => what,
            Self::Foreign(reason) | Self::Refused(reason) => reason.to_string(),
        }
    }
}

fn parse_front(content: &[u8]) -> Result<Front, FirstFrame> {
    let broken = |what: &str| FirstFrame::Broken(what.to_owned());
    let rest = content.strip_prefix(&FILE_MAGIC).ok_or_else(|| broken("its front is another"))?;
    let version = rest.first_chunk().ok_or_else(|| broken("it is too short"))?;
    let version = u16::from_le_bytes(*version);
    if version > FORMAT_VERSION {
        return Err(FirstFrame::Refused(Reason::Version(version)));
    }
    let metadata = content.get(METADATA_FRONT..).ok_or_else(|| broken("it is too short"))?;
    let metadata = Metadata::decode(metadata).map_err(|error| broken(&error.to_string()))?;
    Ok((version, metadata))
}

fn spot(entry: IndexEntry) -> FrameSpot {
    FrameSpot {
        number: entry.number,
        complete: entry.flags & 1 != 0,
        offset: entry.offset,
        compressed: entry.compressed,
        entry: Some(entry),
    }
}

/// Magic and content length of a skippable frame.
fn skippable_head(bytes: &[u8]) -> Option<(u32, u64)> {
    let (magic, rest) = bytes.split_first_chunk()?;
    let magic = u32::from_le_bytes(*magic);
    let length = u32::from_le_bytes(*rest.first_chunk()?);
    (magic & !0xf == 0x184d_2a50).then_some((magic, u64::from(length)))
}

fn begins_frame(bytes: &[u8]) -> bool {
    let magic = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    magic == ZSTD_MAGIC || SKIPPABLE.contains(&magic)
}
