//! The contents of a file: its metadata, and where its generations are.
//!
//! The trailer, the last frame of a file, leads to the index and to the copy of the metadata. Where one of
//! these is missing, another replaces it as far as possible: the copy replaces the first frame, a
//! [walk](super::frame_scan) replaces the index.

use super::decompress::{peek, unpack};
use super::sniff;
use super::source::{Source, SourceWindow};
use super::zstd_frame::{Extent, extent};
use crate::file::{
    FILE_MAGIC, FORMAT_VERSION, IndexEntry, METADATA_COPY_TAG, METADATA_FRONT, SKIPPABLE,
    SKIPPABLE_STACKS, STACKS_TAG, Trailer, decode_index, skippable_content,
};
#[cfg(feature = "symbols")]
use crate::file::{NAMES_TAG, SKIPPABLE_NAMES};
use crate::read::error::{ReadError, Reason};
use crate::read::limits::Limits;
#[cfg(feature = "symbols")]
use crate::wire::{CodeNames, MOST_CODE_NAMES};
use crate::wire::{Generation, Metadata, ProcessStacks};
use std::io;
use std::sync::Arc;

/// The position of a generation's frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameSpot {
    pub(crate) number: Generation,
    pub(crate) complete: bool,
    pub(crate) offset: u64,
    pub(crate) compressed: u64,
    /// What the index knows about it.
    pub(crate) entry: Option<IndexEntry>,
}

/// The generations of a file, with an error in place of each one that cannot be read.
pub(crate) type Frames = Vec<Result<FrameSpot, ReadError>>;

/// What was found in a file.
pub(crate) struct Catalog {
    pub(crate) version: u16,
    pub(crate) metadata: Metadata,
    /// The generations, in the order of the file; an error stands for one that cannot be read.
    pub(crate) frames: Frames,
    pub(crate) beside: Beside,
    pub(crate) damage: Vec<ReadError>,
}

/// What a file has besides its generations.
#[derive(Default)]
pub(crate) struct Beside {
    /// The stacks that were taken from outside.
    pub(crate) stacks: Option<ProcessStacks>,
    #[cfg(feature = "symbols")]
    pub(crate) naming: Naming,
}

/// Names for the addresses in stacks.
#[cfg(feature = "symbols")]
#[derive(Default)]
pub(crate) struct Naming {
    pub(crate) names: Option<Arc<CodeNames>>,
    /// Where the frame with them begins and ends.
    pub(crate) at: Option<(u64, u64)>,
    /// Where generations and stacks end, so that names may follow.
    pub(crate) place: u64,
}

/// How much of a file to read to see how its first frame begins: a block of zstd.
const MAX_PEEK: u64 = (128 << 10) + 64;
/// The most damage that is reported item by item.
pub(crate) const MAX_DAMAGE: usize = 1000;
/// The largest metadata.
const MAX_METADATA: u64 = 64 << 20;
/// The largest frame of stacks.
const MAX_STACKS: u64 = 32 << 20;

/// Looks through a file.
pub(crate) fn catalog(
    source: &Source,
    file: &Arc<str>,
    limits: &Limits,
) -> Result<Catalog, ReadError> {
    let mut search = Search { source, file, limits, damage: Vec::new() };
    search.run()
}

/// A search through a file.
pub(crate) struct Search<'a> {
    pub(crate) source: &'a Source,
    file: &'a Arc<str>,
    pub(crate) limits: &'a Limits,
    pub(crate) damage: Vec<ReadError>,
}

/// The format version and the metadata after it.
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
            && sniff::is_certain(&front)
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
        let front = first.as_ref().map_or(0, |(_, end)| *end);
        let ends = frames.iter().flatten().map(|spot| spot.offset.saturating_add(spot.compressed));
        let beside = self.beside(ends.fold(front, u64::max)).map_err(|error| self.io(0, error))?;
        let (version, metadata) = self.settle(first, copy, &frames)?;
        let damage = std::mem::take(&mut self.damage);
        Ok(Catalog { version, metadata, frames, beside, damage })
    }

    /// Decides which metadata to use.
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

    pub(crate) fn error(&self, offset: u64, reason: Reason) -> ReadError {
        ReadError::new(self.file, offset, reason)
    }

    fn io(&self, offset: u64, error: io::Error) -> ReadError {
        self.error(offset, error.into())
    }

    pub(crate) fn report(&mut self, offset: u64, reason: Reason) {
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

    /// The index, unless it is damaged or impossible.
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

    /// What stands behind all generations, which end at `start`, and before the index.
    fn beside(&mut self, start: u64) -> io::Result<Beside> {
        /// So many frames are looked at.
        const LOOKED_AT: usize = 16;
        let mut found = Beside::default();
        #[cfg(feature = "symbols")]
        {
            found.naming.place = start;
        }
        let (mut at, mut met_stacks) = (start, false);
        for _ in 0..LOOKED_AT {
            let head = self.source.read(at, 8)?;
            let Some((magic, length)) = skippable_head(&head) else { break };
            if magic == SKIPPABLE_STACKS && !met_stacks {
                met_stacks = true;
                found.stacks = self.stacks(at, length)?;
                if found.stacks.is_none() {
                    self.report(at, Reason::StacksDamaged);
                }
                #[cfg(feature = "symbols")]
                if found.stacks.is_some() {
                    found.naming.place = at + 8 + length;
                }
            }
            #[cfg(feature = "symbols")]
            if magic == SKIPPABLE_NAMES && found.naming.at.is_none() {
                found.naming.at = Some((at, (at + 8 + length).min(self.source.length())));
                found.naming.names = self.names(at, length)?.map(Arc::new);
                if found.naming.names.is_none() {
                    self.report(at, Reason::NamesDamaged);
                }
            }
            at += 8 + length;
        }
        Ok(found)
    }

    /// The stacks that were taken from outside, in the frame at `at`.
    fn stacks(&self, at: u64, length: u64) -> io::Result<Option<ProcessStacks>> {
        if length > MAX_STACKS.min(self.limits.frame_bytes) {
            return Ok(None);
        }
        let content = self.skippable(at, SKIPPABLE_STACKS)?;
        Ok(content
            .and_then(|content| ProcessStacks::decode(skippable_content(&content, STACKS_TAG)?)))
    }

    /// The names in the frame at `at`.
    #[cfg(feature = "symbols")]
    fn names(&self, at: u64, length: u64) -> io::Result<Option<CodeNames>> {
        let limits = Limits {
            frame_bytes: self.limits.frame_bytes.min(MOST_CODE_NAMES),
            window_log: self.limits.window_log,
        };
        if length > limits.frame_bytes {
            return Ok(None);
        }
        let content = self.skippable(at, SKIPPABLE_NAMES)?;
        let compressed = content.as_deref().and_then(|of| skippable_content(of, NAMES_TAG));
        let names = compressed.and_then(|bytes| unpack(bytes, &[], &limits).ok());
        Ok(names.and_then(|names| CodeNames::decode(&names)))
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

    /// The metadata in the first frame, and the end of that frame.
    fn first_frame(&self) -> Result<(Front, u64), FirstFrame> {
        let io = |error: io::Error| FirstFrame::Refused(error.into());
        let front = self.source.read(0, 64).map_err(io)?;
        if let Some(reason) = sniff::recognize(&front) {
            return Err(FirstFrame::Foreign(reason));
        }
        // Peek into any zstd frame, even one that is cut or unlike ours. Damage changes some of the eight
        // bytes, another format all of them.
        let piece = self.source.read(0, MAX_PEEK).map_err(io)?;
        let start = peek(&piece, FILE_MAGIC.len(), self.limits).unwrap_or_default();
        let alike = start.iter().zip(FILE_MAGIC).filter(|(a, b)| **a == *b).count();
        if !start.is_empty() && alike < start.len() / 2 {
            return Err(FirstFrame::Foreign(Reason::Foreign("something else, compressed by zstd")));
        }
        let whole =
            extent(&mut SourceWindow::new(self.source), 0, self.source.length()).map_err(io)?;
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
    /// Nothing else in the file can replace it.
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

/// The magic and the content length of a skippable frame.
pub(crate) fn skippable_head(bytes: &[u8]) -> Option<(u32, u64)> {
    let (magic, rest) = bytes.split_first_chunk()?;
    let magic = u32::from_le_bytes(*magic);
    let length = u32::from_le_bytes(*rest.first_chunk()?);
    (magic & !0xf == 0x184d_2a50).then_some((magic, u64::from(length)))
}
