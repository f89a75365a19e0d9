//! What there is in a file: its metadata, and where its generations are.
//!
//! The trailer, which is the last thing in a file, leads to the index and to the copy of the
//! metadata. What any of them lacks is made up for by another, as far as can be: the first frame by
//! the copy, the index by a [walk](super::walk).

use super::extent::{Extent, extent};
use super::source::{Source, Window};
use super::unpack::{peek, unpack};
use super::{Limits, ReadError, Reason, foreign};
use crate::file::{
    FILE_MAGIC, FORMAT_VERSION, IndexEntry, METADATA_COPY_TAG, METADATA_FRONT, SKIPPABLE, Trailer,
    decode_index, skippable_content,
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

/// The generations of a file, and errors in the place of those that cannot be read.
pub(super) type Frames = Vec<Result<FrameSpot, ReadError>>;

/// What was found in a file.
pub(super) struct Catalog {
    pub(super) version: u16,
    pub(super) metadata: Metadata,
    /// The generations, in the order of the file; an error where one was and cannot be read.
    pub(super) frames: Frames,
    pub(super) damage: Vec<ReadError>,
}

/// How much of a file is looked at to see what its first frame begins with: a block of zstd.
const MAX_PEEK: u64 = (128 << 10) + 64;
/// The most places of damage that are told one by one.
pub(super) const MAX_DAMAGE: usize = 1000;
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

/// A search through a file.
pub(super) struct Search<'a> {
    pub(super) source: &'a Source,
    file: &'a Arc<str>,
    pub(super) limits: &'a Limits,
    pub(super) damage: Vec<ReadError>,
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

    pub(super) fn error(&self, offset: u64, reason: Reason) -> ReadError {
        ReadError::new(self.file, offset, reason)
    }

    fn io(&self, offset: u64, error: io::Error) -> ReadError {
        self.error(offset, error.into())
    }

    pub(super) fn report(&mut self, offset: u64, reason: Reason) {
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

    /// The metadata's copy, unless it is damaged.
    fn copy(&mut self, offset: u64) -> io::Result<Option<Front>> {
        let content = self.skippable(offset, SKIPPABLE[1])?;
        let copy = content.and_then(|content| {
            let said = skippable_content(&content, METADATA_COPY_TAG)?;
            parse_front(said).ok()
        });
        if copy.is_none() {
            self.report(offset, Reason::CopyDamaged);
        }
        Ok(copy)
    }

    /// The metadata in the first frame, and where that ends.
    fn first_frame(&self) -> Result<(Front, u64), FirstFrame> {
        let io = |error: io::Error| FirstFrame::Refused(error.into());
        let front = self.source.read(0, 64).map_err(io)?;
        if let Some(reason) = foreign::recognize(&front) {
            return Err(FirstFrame::Foreign(reason));
        }
        // Any zstd frame may be looked into, also one that is cut or not as ours are. Damage changes
        // some of the eight bytes, another format all of them.
        let piece = self.source.read(0, MAX_PEEK).map_err(io)?;
        let start = peek(&piece, FILE_MAGIC.len(), self.limits).unwrap_or_default();
        let alike = start.iter().zip(FILE_MAGIC).filter(|(a, b)| **a == *b).count();
        if !start.is_empty() && alike < start.len() / 2 {
            return Err(FirstFrame::Foreign(Reason::Foreign("something else, compressed by zstd")));
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
pub(super) fn skippable_head(bytes: &[u8]) -> Option<(u32, u64)> {
    let (magic, rest) = bytes.split_first_chunk()?;
    let magic = u32::from_le_bytes(*magic);
    let length = u32::from_le_bytes(*rest.first_chunk()?);
    (magic & !0xf == 0x184d_2a50).then_some((magic, u64::from(length)))
}
