//! The results of a check, line by line.

use crate::read::ReadError;
use crate::wire::Generation;
use std::fmt;
use std::sync::Arc;

/// Something in a file that violates the format. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    file: Arc<str>,
    offset: u64,
    generation: Option<Generation>,
    what: String,
}

impl Violation {
    /// The offset of its frame in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Its generation, if it is in one.
    #[must_use]
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// What is wrong, and where: slot, block and position.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: at byte {}: ", self.file, self.offset)?;
        if let Some(number) = self.generation {
            write!(f, "generation {number}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// The most violations that are reported one by one.
const MAX_VIOLATIONS: usize = 1000;
/// Violations, as they are found.
pub(super) struct Report {
    file: Arc<str>,
    list: Vec<Violation>,
    more: u64,
}

impl Report {
    pub(super) fn new(file: Arc<str>) -> Self {
        Self { file, list: Vec::new(), more: 0 }
    }

    pub(super) fn add(
        &mut self,
        offset: u64,
        generation: Option<Generation>,
        what: impl FnOnce() -> String,
    ) {
        if self.list.len() < MAX_VIOLATIONS {
            let file = Arc::clone(&self.file);
            self.list.push(Violation { file, offset, generation, what: what() });
        } else {
            self.more += 1;
        }
    }

    pub(super) fn damage(&mut self, error: &ReadError) {
        self.add(error.offset(), error.generation(), || error.reason().to_string());
    }

    pub(super) fn finish(mut self) -> Vec<Violation> {
        if self.more > 0 {
            let (file, what) = (self.file, format!("and {} more violations", self.more));
            self.list.push(Violation { file, offset: 0, generation: None, what });
        }
        self.list
    }
}
