//! Texts, and everything that is recorded as one: what is formatted, errors, bytes.

use super::{Encode, Value};
use crate::record::cursor::Reserved;
use crate::record::limits::Limits;
use crate::record::strings::{self, Lookup, StringTable};
use crate::record::writer::WriteCtx;
use crate::redact;
use crate::text::{StackText, TextBuf};
use lookback_snapshot::wire::{Kind, MAX_VARINT, ValueType};
use std::error::Error;
use std::fmt;

/// A text, inline or by reference.
#[doc(hidden)]
pub struct Text<'a> {
    text: &'a str,
    hash: u64,
    id: u32,
    /// Whether it was already scanned for secrets.
    is_clean: bool,
    /// Whether it contains a secret, which is left out when it is written.
    has_secret: bool,
}

impl<'a> Text<'a> {
    /// A text that is known to contain no secret.
    #[inline]
    pub(crate) fn clean(text: &'a str) -> Self {
        let hash = strings::hash(text);
        Self { text, hash, id: 0, is_clean: true, has_secret: false }
    }
}

impl Value for str {
    type Encoded<'a> = Text<'a>;
    #[inline]
    fn encoded(&self) -> Text<'_> {
        // The program's own rule is foreign code, which may record, so it runs before the event
        // begins. If it finds anything, the whole text is left out.
        let text = if redact::own_rule_finds(self) { redact::REDACTED } else { self };
        Text { is_clean: false, ..Text::clean(text) }
    }
}

impl Value for String {
    type Encoded<'a> = Text<'a>;
    #[inline]
    fn encoded(&self) -> Text<'_> {
        self.as_str().encoded()
    }
}

impl Encode for Text<'_> {
    const TYPE: ValueType = ValueType::Text;
    const TEXTS: usize = 1;

    #[inline]
    fn try_resolve(&mut self, strings: &StringTable, generation: u64) -> bool {
        self.id = match strings.look_up(self.hash, generation) {
            Lookup::Id(id) => id,
            // A text with an id was scanned when it got the id.
            Lookup::Inline if self.is_clean || !redact::finds_secret(self.text) => 0,
            Lookup::Inline => return false,
            Lookup::Define(claim) => {
                strings.publish(claim, generation, 0);
                return false;
            }
        };
        true
    }

    fn resolve(&mut self, inside: WriteCtx) {
        let table = inside.strings();
        let found = table.look_up(self.hash, inside.generation());
        // A text with an id was scanned when it got the id.
        if !matches!(found, Lookup::Id(_)) && !self.is_clean && redact::finds_secret(self.text) {
            self.has_secret = true;
            if let Lookup::Define(claim) = found {
                table.publish(claim, inside.generation(), 0);
            }
            return;
        }
        self.id = match found {
            Lookup::Id(id) => id,
            Lookup::Inline => 0,
            Lookup::Define(claim) => {
                let limit = Limits::now().text;
                let defined = inside.next_id().and_then(|id| {
                    let size = 2 * MAX_VARINT + self.text.len().min(limit);
                    inside.record(Kind::String, size, |cursor| {
                        cursor.number(u64::from(id));
                        cursor.text(self.text, limit);
                    })?;
                    Ok(id)
                });
                let id = defined.unwrap_or(0);
                table.publish(claim, inside.generation(), id);
                id
            }
        };
    }

    fn size(&self, limit: usize) -> usize {
        // Without its secret, the text may be longer.
        MAX_VARINT + if self.has_secret { limit } else { self.text.len().min(limit) }
    }

    #[inline(always)]
    fn put(&self, cursor: &mut Reserved, limit: usize) {
        if self.has_secret {
            return put_without_secret(self.text, cursor, limit);
        }
        if self.id != 0 {
            cursor.short(u64::from(self.id) << 1 | 1);
        } else {
            cursor.text(self.text, limit);
        }
    }
}

/// Puts a text without the secrets in it.
///
/// There must be room for a number and for `limit` bytes.
#[cold]
#[inline(never)]
fn put_without_secret(text: &str, cursor: &mut Reserved, limit: usize) {
    let mut room = TextBuf::new();
    let text = redact::without_secrets(text, &mut room);
    cursor.text(text, limit);
}

/// A text formatted for the trace, or an error's message.
#[doc(hidden)]
pub struct Formatted<const IS_ERROR: bool> {
    room: TextBuf,
    length: usize,
    hash: u64,
    id: u32,
}

impl<const IS_ERROR: bool> Formatted<IS_ERROR> {
    fn new(format: impl FnOnce(&mut StackText<'_>)) -> Self {
        let mut formatted = Self { room: TextBuf::new(), length: 0, hash: 0, id: 0 };
        let mut text = StackText::new(&mut formatted.room);
        format(&mut text);
        text.scrub();
        (formatted.length, formatted.hash) = (text.as_str().len(), strings::hash(text.as_str()));
        formatted
    }

    fn of(arguments: fmt::Arguments<'_>) -> Self {
        // An error means that the buffer is full or that the user's code failed; keep what was
        // written.
        Self::new(|text| {
            let _ = fmt::Write::write_fmt(text, arguments);
        })
    }

    /// The formatted text.
    fn text(&self) -> Text<'_> {
        // SAFETY: `length` bytes of it were written.
        let text = unsafe { self.room.text(self.length) };
        Text { text, hash: self.hash, id: self.id, is_clean: true, has_secret: false }
    }
}

impl<const IS_ERROR: bool> Encode for Formatted<IS_ERROR> {
    const TYPE: ValueType = if IS_ERROR { ValueType::Error } else { ValueType::Text };
    const TEXTS: usize = 1;

    fn try_resolve(&mut self, strings: &StringTable, generation: u64) -> bool {
        let mut text = self.text();
        let is_resolved = text.try_resolve(strings, generation);
        self.id = text.id;
        is_resolved
    }

    fn resolve(&mut self, inside: WriteCtx) {
        let mut text = self.text();
        text.resolve(inside);
        self.id = text.id;
    }

    fn size(&self, limit: usize) -> usize {
        MAX_VARINT + self.length.min(limit)
    }

    fn put(&self, cursor: &mut Reserved, limit: usize) {
        self.text().put(cursor, limit);
    }
}

impl Value for fmt::Arguments<'_> {
    type Encoded<'a>
        = Formatted<false>
    where
        Self: 'a;
    fn encoded(&self) -> Formatted<false> {
        Formatted::of(*self)
    }
}

/// Bytes, in hexadecimal.
impl Value for [u8] {
    type Encoded<'a> = Formatted<false>;
    fn encoded(&self) -> Formatted<false> {
        Formatted::new(|text| {
            let _ = fmt::Write::write_str(text, "[");
            for (at, byte) in self.iter().enumerate() {
                let space = if at > 0 { " " } else { "" };
                if fmt::Write::write_fmt(text, format_args!("{space}{byte:02x}")).is_err() {
                    return;
                }
            }
            let _ = fmt::Write::write_str(text, "]");
        })
    }
}

impl Value for char {
    type Encoded<'a> = Formatted<false>;
    fn encoded(&self) -> Formatted<false> {
        Formatted::of(format_args!("{self}"))
    }
}

macro_rules! error {
    ($($type:ty),*) => {
        $(impl Value for $type {
            type Encoded<'a> = Formatted<true> where Self: 'a;
            fn encoded(&self) -> Formatted<true> {
                Formatted::new(|text| text.write_error(self))
            }
        })*
    };
}
error!(
    dyn Error + 'static,
    dyn Error + Send + 'static,
    dyn Error + Sync + 'static,
    dyn Error + Send + Sync + 'static
);

/// The `Display` form of a value; for the macros.
#[doc(hidden)]
pub fn display<T: fmt::Display + ?Sized>(value: &T) -> DisplayForm<'_, T> {
    DisplayForm(value)
}

/// The `Debug` form of a value; for the macros.
#[doc(hidden)]
pub fn debug<T: fmt::Debug + ?Sized>(value: &T) -> DebugForm<'_, T> {
    DebugForm(value)
}

#[doc(hidden)]
pub struct DisplayForm<'v, T: ?Sized>(&'v T);
#[doc(hidden)]
pub struct DebugForm<'v, T: ?Sized>(&'v T);

macro_rules! form {
    ($($type:ident: $bound:ident $format:literal),*) => {$(
        impl<T: fmt::$bound + ?Sized> Value for $type<'_, T> {
            type Encoded<'a>
                = Formatted<false>
            where
                Self: 'a;
            fn encoded(&self) -> Formatted<false> {
                Formatted::of(format_args!($format, self.0))
            }
        }
    )*};
}
form!(DisplayForm: Display "{}", DebugForm: Debug "{:?}");

/// The text that replaces a hidden value.
pub(super) const HIDDEN: Text<'static> =
    Text { text: redact::REDACTED, hash: 0, id: 0, is_clean: true, has_secret: false };
