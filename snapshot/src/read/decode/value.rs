//! Values of events: texts, numbers, levels, places in the source.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// A text, and whether the recorder cut it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// The recorded part of it.
    pub text: &'a str,
    /// Whether there was more.
    pub cut: bool,
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        self.text
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// A value of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value<'a> {
    /// An unsigned number.
    Unsigned(u64),
    /// A signed number.
    Signed(i64),
    /// A number with a fraction.
    Float(f64),
    /// A Boolean.
    Bool(bool),
    /// A text.
    Text(Text<'a>),
    /// An error's message, followed by those of its sources.
    Error(Text<'a>),
    /// An unsigned number of 128 bits.
    Wide(u128),
    /// A signed number of 128 bits.
    WideSigned(i128),
    /// A duration.
    Duration(Duration),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(value) => value.fmt(f),
            Self::Signed(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Text(value) | Self::Error(value) => value.fmt(f),
            Self::Wide(value) => value.fmt(f),
            Self::WideSigned(value) => value.fmt(f),
            Self::Duration(value) => fmt::Debug::fmt(value, f),
        }
    }
}

/// A place in the source, with its name.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Site<'a> {
    /// The name: of a region, a typed event, a counter, a log's category.
    pub name: &'a str,
    /// The source file.
    pub file: &'a str,
    /// The line in it.
    pub line: u32,
    /// Whether it is a closure that runs where blocking is allowed (`spawn_blocking`): such a task holds no
    /// worker.
    pub blocking: bool,
}

impl Site<'static> {
    /// An unknown one.
    pub(crate) const UNKNOWN: Self = Self { name: "?", file: "?", line: 0, blocking: false };
}

impl fmt::Debug for Site<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut site = f.debug_struct("Site");
        site.field("name", &self.name).field("file", &self.file).field("line", &self.line);
        if self.blocking {
            site.field("blocking", &true);
        }
        site.finish()
    }
}
