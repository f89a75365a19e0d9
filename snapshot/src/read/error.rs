//! What can be wrong with a file.

use crate::file::FORMAT_VERSION;
use crate::wire::Generation;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Why part of a file cannot be read: which file, where in it, and the reason. Prints as one line.
#[derive(Clone, PartialEq, Eq)]
// One word, so that the result of reading an event fits registers.
pub struct ReadError(Box<Wrong>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Wrong {
    file: Arc<str>,
    offset: u64,
    generation: Option<Generation>,
    reason: Reason,
}

impl ReadError {
    #[cold]
    pub(crate) fn new(file: &Arc<str>, offset: u64, reason: Reason) -> Self {
        Self(Box::new(Wrong { file: Arc::clone(file), offset, generation: None, reason }))
    }

    pub(crate) fn of_generation(mut self, generation: Generation) -> Self {
        self.0.generation = Some(generation);
        self
    }

    /// The file's path, or `<memory>`.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.0.file
    }

    /// The byte offset in the file; for a problem inside a frame, where the frame begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.0.offset
    }

    /// The affected generation, if known.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.0.generation
    }

    /// What is wrong.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { file, offset, generation, reason } = &*self.0;
        match reason {
            // A problem with the file as a whole: it could not be opened.
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

impl fmt::Debug for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wrong { file, offset, generation, reason } = &*self.0;
        f.debug_struct("ReadError")
            .field("file", file)
            .field("offset", offset)
            .field("generation", generation)
            .field("reason", reason)
            .finish()
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
        /// The kind of error.
        kind: io::ErrorKind,
        /// The operating system's message.
        message: String,
    },
    /// The file is empty.
    #[error("the file is empty: nothing was written to it; take another snapshot")]
    Empty,
    /// The file has another format.
    #[error(
        "not a snapshot of lookback: it looks like {0}; give a file that a trigger or `lookback snapshot` wrote"
    )]
    Foreign(&'static str),
    /// The file is an arena, not a snapshot.
    #[error("this is a recorder's arena (a black box), not a snapshot: use `lookback recover`")]
    Arena,
    /// The file has a later version of the format.
    #[error("format version {0}; this program reads up to {FORMAT_VERSION}: use a newer lookback")]
    Version(u16),
    /// The file ends before its metadata does.
    #[error(
        "cut off in the metadata: nothing of the file can be read; if it was copied, copy it again"
    )]
    CutInMetadata,
    /// The metadata is damaged, and its copy is damaged or missing.
    #[error("the metadata is damaged ({0}), and there is no copy; names of the process are lost")]
    MetadataLost(String),
    /// The metadata is damaged; its copy was used.
    #[error("the metadata is damaged ({0}); its copy at the end was read instead")]
    MetadataDamaged(String),
    /// The copy of the metadata is damaged.
    #[error("the copy of the metadata at the file's end is damaged; nothing is lost by it")]
    CopyDamaged,
    /// The stacks that were taken from outside are damaged.
    #[error("the stacks that were taken from outside are damaged, and lost; the recording is not")]
    StacksDamaged,
    /// The names for the addresses in stacks are damaged.
    #[error(
        "the names that `lookback symbolize` has put in are damaged, and lost; the recording is not"
    )]
    NamesDamaged,
    /// The file ends without an index.
    #[error("the file ends without an index: it was cut off, or is still being written")]
    NoIndex,
    /// The index cannot be right.
    #[error("the index is damaged; the generations were found without it")]
    IndexDamaged,
    /// The file ends within a generation.
    #[error("the file is cut off in a generation, which is lost")]
    Cut,
    /// Bytes that are not a frame, or are damaged beyond recognition.
    #[error("{0} damaged bytes were skipped; what was in them is lost")]
    SteppedOver(u64),
    /// The content of a frame is not what was written.
    #[error("frame checksum does not match; this generation is lost, others may be read")]
    Checksum,
    /// A frame cannot be decompressed.
    #[error("frame is damaged ({0}); this generation is lost, others may be read")]
    Frame(String),
    /// A frame expands to more than the limit.
    #[error(
        "frame expands to {size} bytes, more than the limit of {limit}: it is not read; `Limits::frame_bytes` allows more"
    )]
    TooLarge {
        /// The size that it states.
        size: u64,
        /// The limit: `frame_bytes` of [`Limits`](super::Limits).
        limit: u64,
    },
    /// A frame needs a larger window than the limit.
    #[error(
        "frame needs a window of {size} bytes, more than the limit of {limit}: it is not read; `Limits::window_log` allows more"
    )]
    WindowTooLarge {
        /// The size of the window.
        size: u64,
        /// The limit: 2 to the power of `window_log` of [`Limits`](super::Limits).
        limit: u64,
    },
    /// A generation violates the format.
    #[error("{0}; this generation is lost, others may be read")]
    Generation(&'static str),
    /// A record of a generation cannot be read, and neither can the rest of its block.
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
    /// The file has no generation of this number.
    #[error("no generation {0}; `lookback info` lists the generations")]
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
            Reason::StacksDamaged,
            Reason::NamesDamaged,
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
        // What to do, or that nothing needs to be done because the rest is read, or that nothing can be.
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
        assert!(none.starts_with("a.lbk: no generation 5"), "{none}");
    }
}
