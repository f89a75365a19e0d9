//! What can be wrong with a file, in words.

use crate::file::FORMAT_VERSION;
use crate::wire::Generation;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why something of a file cannot be read: which file, where in it, and the reason. One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    file: Arc<str>,
    offset: u64,
    generation: Option<Generation>,
    reason: Reason,
}

impl ReadError {
    pub(super) fn new(file: &Arc<str>, offset: u64, reason: Reason) -> Self {
        Self { file: Arc::clone(file), offset, generation: None, reason }
    }

    pub(super) fn of_generation(mut self, generation: Generation) -> Self {
        self.generation = Some(generation);
        self
    }

    /// The file's path, or `<memory>`.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where in the file, in bytes: for what is wrong inside of a frame, where the frame begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The generation that is concerned, if it is known.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// What is wrong.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, generation, reason } = self;
        match reason {
            // Of the file as a whole: it could not be opened.
            Reason::Io { .. } if *offset == 0 => write!(f, "{file}: {reason}"),
            Reason::NoGeneration { .. } => write!(f, "{file}: {reason}"),
            _ => match generation {
                Some(number) => {
                    write!(f, "{file}: at byte {offset}: generation {number}: {reason}")
                }
                None => write!(f, "{file}: at byte {offset}: {reason}"),
            },
        }
    }
}

impl std::error::Error for ReadError {}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The operating system refused.
    #[error("{message}")]
    Io {
        /// What kind of refusal.
        kind: io::ErrorKind,
        /// Its words.
        message: String,
    },
    /// There is nothing in the file.
    #[error("the file is empty: nothing was written to it; take another snapshot")]
    Empty,
    /// The file is something else.
    #[error(
        "not a snapshot of lookback: it looks like {0}; give a file that a trigger or `lookback snapshot` wrote"
    )]
    Foreign(&'static str),
    /// The file is an arena, not a snapshot.
    #[error("this is a recorder's arena (a black box), not a snapshot: use `lookback recover`")]
    Arena,
    /// The file is of a later version of the format.
    #[error("format version {0}; this program reads up to {FORMAT_VERSION}: use a newer lookback")]
    Version(u16),
    /// The file ends before its metadata does.
    #[error(
        "cut off in the metadata: nothing of the file can be read; if it was copied, copy it again"
    )]
    CutInMetadata,
    /// The metadata is damaged, and so is its copy, or there is none.
    #[error("the metadata is damaged ({0}), and there is no copy; names of the process are lost")]
    MetadataLost(String),
    /// The metadata is damaged, but its copy is not.
    #[error("the metadata is damaged ({0}); its copy at the end was read instead")]
    MetadataDamaged(String),
    /// The copy of the metadata is damaged.
    #[error("the copy of the metadata at the file's end is damaged; nothing is lost by it")]
    CopyDamaged,
    /// The file ends without an index.
    #[error("the file ends without an index: it was cut off, or is still being written")]
    NoIndex,
    /// There is an index that cannot be right.
    #[error("the index is damaged; the generations were found without it")]
    IndexDamaged,
    /// The file ends inside of a generation.
    #[error("the file is cut off in a generation, which is lost")]
    Cut,
    /// Something that is no frame, or damaged beyond recognition.
    #[error("{0} bytes are damaged and were stepped over; what was in them is lost")]
    SteppedOver(u64),
    /// The content of a frame is not what was written.
    #[error("frame checksum does not match; this generation is lost, others may be read")]
    Checksum,
    /// A frame cannot be decompressed.
    #[error("frame is damaged ({0}); this generation is lost, others may be read")]
    Frame(String),
    /// A frame is larger than the limit.
    #[error(
        "frame expands to {size} bytes, more than the limit of {limit}: it is not read; `Limits::frame_bytes` allows more"
    )]
    TooLarge {
        /// How large it says that it is.
        size: u64,
        /// What is allowed: `frame_bytes` of [`Limits`](super::Limits).
        limit: u64,
    },
    /// A frame needs a larger window than the limit.
    #[error(
        "frame needs a window of {size} bytes, more than the limit of {limit}: it is not read; `Limits::window_log` allows more"
    )]
    WindowTooLarge {
        /// How large.
        size: u64,
        /// What is allowed: 2 to the power of `window_log` of [`Limits`](super::Limits).
        limit: u64,
    },
    /// A generation is not what the format says.
    #[error("{0}; this generation is lost, others may be read")]
    Generation(&'static str),
    /// A record of a generation cannot be read, nor what follows it in its block.
    #[error("slot {slot}, block {block}, byte {position}: {what}; the rest of the block is lost")]
    Record {
        /// The slot.
        slot: u32,
        /// The sequence of the block in its slot.
        block: u32,
        /// How many bytes of the block's records could be read.
        position: u32,
        /// What is wrong there.
        what: &'static str,
    },
    /// There is no generation of this number.
    #[error("there is no generation {0} in it; `lookback info` lists those that there are")]
    NoGeneration(Generation),
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self::Io { kind: error.kind(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_the_file_the_place_and_what_to_do_or_what_is_lost() {
        let text = || "words".to_owned();
        let reasons = [
            Reason::Empty,
            Reason::Foreign("JSON"),
            Reason::Arena,
            Reason::Version(9),
            Reason::CutInMetadata,
            Reason::MetadataLost(text()),
            Reason::MetadataDamaged(text()),
            Reason::CopyDamaged,
            Reason::NoIndex,
            Reason::IndexDamaged,
            Reason::Cut,
            Reason::SteppedOver(7),
            Reason::Checksum,
            Reason::Frame(text()),
            Reason::TooLarge { size: 2, limit: 1 },
            Reason::WindowTooLarge { size: 2, limit: 1 },
            Reason::Generation("words"),
            Reason::Record { slot: 1, block: 2, position: 3, what: "words" },
        ];
        // What is to be done, or that there is nothing to do because the rest is read, or cannot be.
        let told = [
            "use ",
            "take another",
            "give a file",
            "copy it again",
            "allows more",
            " lost",
            "was read instead",
            "found without it",
            "still being written",
        ];
        let file: Arc<str> = "a.lbk".into();
        for reason in reasons {
            let words = ReadError::new(&file, 77, reason).to_string();
            assert!(words.starts_with("a.lbk: at byte 77: "), "{words}");
            assert!(!words.contains('\n'), "{words}");
            assert!(told.iter().any(|told| words.contains(told)), "{words}");
        }
        let io = || Reason::from(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(ReadError::new(&file, 0, io()).to_string(), "a.lbk: permission denied");
        assert_eq!(
            ReadError::new(&file, 7, io()).to_string(),
            "a.lbk: at byte 7: permission denied"
        );
        let none = ReadError::new(&file, 0, Reason::NoGeneration(Generation(5))).to_string();
        assert!(none.starts_with("a.lbk: there is no generation 5"), "{none}");
    }
}
