//! The source of a file's bytes: memory, or a file that is read piece by piece.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The bytes of a snapshot.
pub(crate) enum Source {
    Memory(Vec<u8>),
    File { file: Mutex<File>, length: u64 },
}

/// How much to read into memory of what cannot be read piece by piece.
const MOST_IN_MEMORY: u64 = 1 << 30;

impl Source {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        if metadata.is_file() {
            return Ok(Self::File { file: Mutex::new(file), length: metadata.len() });
        }
        // A pipe cannot be read twice, and a device may never end.
        let mut bytes = Vec::new();
        file.take(MOST_IN_MEMORY + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_IN_MEMORY {
            let reason = "it is no regular file and has more than 1 GiB: save it to a file first";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        Ok(Self::Memory(bytes))
    }

    /// Its length when it was opened.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }

    /// `length` bytes from `offset` on, or as many as there are.
    pub(crate) fn read(&self, offset: u64, length: u64) -> io::Result<Cow<'_, [u8]>> {
        let offset = offset.min(self.length());
        let length = length.min(self.length() - offset);
        match self {
            Self::Memory(bytes) => Ok(Cow::Borrowed(&bytes[offset as usize..][..length as usize])),
            Self::File { file, .. } => {
                // A panic leaves nothing inconsistent: each use seeks first.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(offset))?;
                let mut bytes = Vec::with_capacity(length as usize);
                Read::take(&mut *file, length).read_to_end(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// Serves small reads near each other from one larger read.
pub(crate) struct SourceWindow<'a> {
    source: &'a Source,
    start: u64,
    bytes: Cow<'a, [u8]>,
}

impl<'a> SourceWindow<'a> {
    const LENGTH: u64 = 64 << 10;

    pub(crate) fn new(source: &'a Source) -> Self {
        Self { source, start: 0, bytes: Cow::Borrowed(&[]) }
    }

    /// `length` bytes from `offset` on, or as many as there are.
    pub(crate) fn get(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = offset.saturating_add(length as u64).min(self.source.length());
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || end > held.end {
            self.bytes = self.source.read(offset, Self::LENGTH.max(length as u64))?;
            self.start = offset.min(self.source.length());
        }
        let from = (offset - self.start).min(self.bytes.len() as u64) as usize;
        let rest = &self.bytes[from..];
        Ok(&rest[..rest.len().min(length)])
    }
}
