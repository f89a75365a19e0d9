//! The values of typed events: the supported types, and their encoding.
//!
//! [`Value`] is what a field may have, and [`Encode`] its encoded form: `scalar` has those of numbers and of what
//! holds other values, `text` those of texts and of what is formatted. [`Values`] is all of one event.

mod scalar;
mod text;
mod values;

use crate::record::cursor::Reserved;
use crate::record::strings::StringTable;
use crate::record::writer::WriteCtx;
use lookback_snapshot::wire::{Kind, ValueType};

pub(crate) use scalar::{put_duration, put_wide, put_wide_signed};
pub use text::{Text, debug, display};
pub use values::Values;

/// A value of a field of [`event!`](crate::event): what `tracing` supports, and more.
///
/// * Bytes (`[u8]`), in hexadecimal.
/// * Integers of all widths, `NonZero`, `Wrapping`; floats; `bool`; `char`.
/// * Texts: `str`, `String`, `Box<str>`, `Arc<str>`, `Rc<str>`, `Cow<str>`, [`fmt::Arguments`](std::fmt::Arguments).
/// * [`Duration`](std::time::Duration), which keeps its unit.
/// * Errors, as `&dyn Error`: with their sources, `a: b: c`.
/// * `Option` of any of these: `None` omits the field.
/// * References to and boxes of any of these.
///
/// Record anything else by its `Debug` or `Display` form: `?value`, `%value`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be recorded as it is",
    note = "numbers, `bool`, texts, `Duration`, `&dyn Error` and `Option`s of them can; \
            record anything else by its `Debug` or `Display` form: `?value`, `%value`"
)]
pub trait Value {
    /// The encoded form.
    #[doc(hidden)]
    type Encoded<'a>: Encode
    where
        Self: 'a;

    /// Encodes the value, before an event begins.
    #[doc(hidden)]
    fn encoded(&self) -> Self::Encoded<'_>;
}

/// A value of [`counter!`](crate::counter): integers up to 64 bits and floats.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the value of a counter",
    note = "integers up to 64 bits and floats can"
)]
pub trait Number: Value {
    #[doc(hidden)]
    const KIND: Kind;
}

/// A value that is ready to be written.
#[doc(hidden)]
pub trait Encode {
    const TYPE: ValueType;
    /// The number of texts in it: they share the room of a record.
    const TEXTS: usize = 0;
    /// As [`resolve`](Self::resolve), if the value needs no other record and contains no secret;
    /// otherwise returns `false` and changes nothing.
    #[inline(always)]
    fn try_resolve(&mut self, _: &StringTable, _generation: u64) -> bool {
        true
    }
    /// Looks up ids in the tables of the generation.
    #[inline(always)]
    fn resolve(&mut self, _: WriteCtx) {}
    /// The most bytes that it takes, with texts cut at `limit`.
    fn size(&self, limit: usize) -> usize;
    /// Writes the value.
    ///
    /// There must be room for `size` bytes.
    fn put(&self, cursor: &mut Reserved, limit: usize);
}
