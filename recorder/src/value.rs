//! The values of typed events: what may be given, and how it is written.

use crate::cursor::Cursor;
use crate::redact;
use crate::limits::Limits;
use crate::site::Types;
use crate::strings::{self, Lookup, StringTable};
use crate::text::{StackText, TextRoom};
use crate::writer::{Inside, MAX_RECORD};
use lookback_snapshot::wire::{Kind, MAX_VARINT, ValueType, zigzag_wide};
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::num::{NonZero, Wrapping};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A value of a field of [`event!`](crate::event): what `tracing` takes, and some more.
///
/// * Bytes (`[u8]`), in hexadecimal.
/// * Integers of all widths, `NonZero`, `Wrapping`; floats; `bool`; `char`.
/// * Texts: `str`, `String`, `Box<str>`, `Arc<str>`, `Rc<str>`, `Cow<str>`, [`fmt::Arguments`].
/// * [`Duration`], which keeps its unit.
/// * Errors, as `&dyn Error`: with their sources, `a: b: c`.
/// * `Option` of any of these: of `None` the field is not there.
/// * References to and boxes of any of these.
///
/// Of all else the `Debug` or `Display` form can be recorded: `?value`, `%value`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be recorded as it is",
    note = "numbers, `bool`, texts, `Duration`, `&dyn Error` and `Option`s of them can; of anything \
            else record its `Debug` or `Display` form: `?value`, `%value`"
)]
pub trait Value {
    /// How it is written.
    #[doc(hidden)]
    type Encoded<'a>: Encode
    where
        Self: 'a;

    /// Makes it ready to be written, before anything is begun.
    #[doc(hidden)]
    fn encoded(&self) -> Self::Encoded<'_>;
}

/// A value of [`counter!`](crate::counter): integers up to 64 bits and floats.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no number that a counter can have",
    note = "integers up to 64 bits and floats are"
)]
pub trait Number: Value {
    #[doc(hidden)]
    const KIND: Kind;
}

/// A value that is ready to be written.
#[doc(hidden)]
pub trait Encode {
    const TYPE: ValueType;
    /// How many texts it is: they share what room a record has.
    const TEXTS: usize = 0;
    /// As [`resolve`](Self::resolve), if nothing is to be written beside the value, and it has no secret;
    /// else `false`, and it is as before.
    #[inline(always)]
    fn try_resolve(&mut self, _: &StringTable, _generation: u64) -> bool {
        true
    }
    /// Looks up in the tables of the generation what may stand there.
    #[inline(always)]
    fn resolve(&mut self, _: Inside) {}
    /// How many bytes it takes at most, with texts cut at `limit`.
    fn size(&self, limit: usize) -> usize;
    /// Writes it.
    ///
    /// # Safety
    /// There must be room for `size` bytes.
    unsafe fn put(&self, cursor: &mut Cursor, limit: usize);
}

macro_rules! value {
    ($encoded:ident, $kind:ident, $size:expr, ($self:ident, $cursor:ident) $put:expr;
        $($type:ty => $convert:expr),*) => {
        impl Encode for $encoded {
            const TYPE: ValueType = ValueType::$kind;
            #[inline(always)]
            fn size(&self, _: usize) -> usize {
                $size
            }
            #[inline(always)]
            unsafe fn put(&$self, $cursor: &mut Cursor, _: usize) {
                // SAFETY: as the caller promises.
                unsafe { $put }
            }
        }
        $(impl Value for $type {
            type Encoded<'a> = $encoded;
            #[inline(always)]
            fn encoded(&self) -> $encoded {
                $encoded($convert(*self))
            }
        })*
    };
}

#[doc(hidden)]
pub struct Unsigned(u64);
#[doc(hidden)]
pub struct Signed(i64);
#[doc(hidden)]
pub struct Float(f64);
#[doc(hidden)]
pub struct Flag(bool);

value!(Unsigned, Unsigned, MAX_VARINT, (self, cursor) cursor.number(self.0);
    u8 => u64::from, u16 => u64::from, u32 => u64::from, u64 => u64::from, usize => |v| v as u64);
value!(Signed, Signed, MAX_VARINT, (self, cursor) cursor.signed(self.0);
    i8 => i64::from, i16 => i64::from, i32 => i64::from, i64 => i64::from, isize => |v| v as i64);
value!(Float, Float, 8, (self, cursor) cursor.bytes(&self.0.to_le_bytes());
    f32 => f64::from, f64 => f64::from);
value!(Flag, Bool, 1, (self, cursor) cursor.byte(u8::from(self.0)); bool => |v| v);

#[doc(hidden)]
pub struct Wide(u128);
#[doc(hidden)]
pub struct WideSigned(i128);
#[doc(hidden)]
pub struct Elapsed(Duration);

/// Puts a number of 128 bits: its low half, its high half.
///
/// # Safety
/// There must be room for two numbers.
#[inline(always)]
pub(crate) unsafe fn put_wide(cursor: &mut Cursor, value: u128) {
    // SAFETY: as the caller promises.
    unsafe {
        cursor.number(value as u64);
        cursor.number((value >> 64) as u64);
    }
}

/// Puts a signed number of 128 bits.
///
/// # Safety
/// There must be room for two numbers.
#[inline(always)]
pub(crate) unsafe fn put_wide_signed(cursor: &mut Cursor, value: i128) {
    // SAFETY: as the caller promises.
    unsafe { put_wide(cursor, zigzag_wide(value)) };
}

/// Puts a length of time: seconds, nanoseconds.
///
/// # Safety
/// There must be room for two numbers.
#[inline(always)]
pub(crate) unsafe fn put_duration(cursor: &mut Cursor, value: Duration) {
    // SAFETY: as the caller promises.
    unsafe {
        cursor.number(value.as_secs());
        cursor.number(u64::from(value.subsec_nanos()));
    }
}

value!(Wide, Wide, 2 * MAX_VARINT, (self, cursor) put_wide(cursor, self.0); u128 => |v| v);
value!(WideSigned, WideSigned, 2 * MAX_VARINT, (self, cursor) put_wide_signed(cursor, self.0);
    i128 => |v| v);
value!(Elapsed, Duration, 2 * MAX_VARINT, (self, cursor) put_duration(cursor, self.0);
    Duration => |v| v);

macro_rules! number {
    ($kind:ident: $($type:ty),*) => {
        $(impl Number for $type { const KIND: Kind = Kind::$kind; })*
    };
}
number!(CounterUnsigned: u8, u16, u32, u64, usize);
number!(CounterSigned: i8, i16, i32, i64, isize);
number!(CounterFloat: f32, f64);

/// Values that are recorded as what they lead to.
macro_rules! pointer {
    ($($type:ty),*) => {$(
        impl<T: Value + ?Sized> Value for $type {
            type Encoded<'a>
                = T::Encoded<'a>
            where
                Self: 'a;
            #[inline(always)]
            fn encoded(&self) -> T::Encoded<'_> {
                (**self).encoded()
            }
        }
    )*};
}
pointer!(&T, &mut T, Box<T>, Rc<T>, Arc<T>);

impl<T: Value + ToOwned + ?Sized> Value for Cow<'_, T> {
    type Encoded<'a>
        = T::Encoded<'a>
    where
        Self: 'a;
    #[inline(always)]
    fn encoded(&self) -> T::Encoded<'_> {
        (**self).encoded()
    }
}

impl<T: Value> Value for Wrapping<T> {
    type Encoded<'a>
        = T::Encoded<'a>
    where
        Self: 'a;
    #[inline(always)]
    fn encoded(&self) -> T::Encoded<'_> {
        self.0.encoded()
    }
}

/// Numbers that are never zero.
macro_rules! non_zero {
    ($($type:ty as $encoded:ident),*) => {$(
        impl Value for NonZero<$type> {
            type Encoded<'a> = $encoded;
            #[inline(always)]
            fn encoded(&self) -> $encoded {
                self.get().encoded()
            }
        }
    )*};
}
non_zero!(u8 as Unsigned, u16 as Unsigned, u32 as Unsigned, u64 as Unsigned, usize as Unsigned,
    i8 as Signed, i16 as Signed, i32 as Signed, i64 as Signed, isize as Signed,
    u128 as Wide, i128 as WideSigned);

impl<T: Number> Number for &T {
    const KIND: Kind = T::KIND;
}

/// A value, or none.
#[doc(hidden)]
pub struct Maybe<E>(Option<E>);

impl<T: Value> Value for Option<T> {
    type Encoded<'a>
        = Maybe<T::Encoded<'a>>
    where
        Self: 'a;
    #[inline(always)]
    fn encoded(&self) -> Maybe<T::Encoded<'_>> {
        Maybe(self.as_ref().map(Value::encoded))
    }
}

impl<E: Encode> Encode for Maybe<E> {
    const TYPE: ValueType = ValueType::Any;
    const TEXTS: usize = E::TEXTS;

    #[inline(always)]
    fn try_resolve(&mut self, strings: &StringTable, generation: u64) -> bool {
        self.0.as_mut().is_none_or(|value| value.try_resolve(strings, generation))
    }

    #[inline(always)]
    fn resolve(&mut self, inside: Inside) {
        if let Some(value) = &mut self.0 {
            value.resolve(inside);
        }
    }

    #[inline(always)]
    fn size(&self, limit: usize) -> usize {
        1 + self.0.as_ref().map_or(0, |value| value.size(limit))
    }

    #[inline(always)]
    unsafe fn put(&self, cursor: &mut Cursor, limit: usize) {
        // SAFETY: as the caller promises.
        unsafe {
            match &self.0 {
                None => cursor.byte(0),
                Some(value) => {
                    // One that says itself what it is needs it said once.
                    if !matches!(E::TYPE, ValueType::Any) {
                        cursor.byte(E::TYPE as u8);
                    }
                    value.put(cursor, limit);
                }
            }
        }
    }
}

/// A text, as it stands or by reference.
#[doc(hidden)]
pub struct Text<'a> {
    text: &'a str,
    hash: u64,
    id: u32,
    /// It was looked at for secrets before.
    is_clean: bool,
    /// There is one in it, which is left out when it is written.
    has_secret: bool,
}

impl<'a> Text<'a> {
    /// A text that is known to have no secret in it.
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
        // The program's own rule is its own code, which may record: it is asked before anything is
        // begun, and whatever it finds, all of the text is left out.
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
            // What the table has an id of was looked at when it got it.
            Lookup::Inline if self.is_clean || !redact::finds_secret(self.text) => 0,
            Lookup::Inline => return false,
            Lookup::Define(claim) => {
                strings.publish(claim, generation, 0);
                return false;
            }
        };
        true
    }

    fn resolve(&mut self, inside: Inside) {
        let table = inside.strings();
        let found = table.look_up(self.hash, inside.generation());
        // What the table has an id of was looked at when it got it.
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
                        // SAFETY: as large as asked for.
                        unsafe {
                            cursor.number(u64::from(id));
                            cursor.text(self.text, limit);
                        }
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
        // Without its secret, it may be longer.
        MAX_VARINT + if self.has_secret { limit } else { self.text.len().min(limit) }
    }

    #[inline(always)]
    unsafe fn put(&self, cursor: &mut Cursor, limit: usize) {
        if self.has_secret {
            // SAFETY: as the caller promises.
            return unsafe { put_without_secret(self.text, cursor, limit) };
        }
        // SAFETY: as the caller promises.
        unsafe {
            if self.id != 0 {
                cursor.short(u64::from(self.id) << 1 | 1);
            } else {
                cursor.text(self.text, limit);
            }
        }
    }
}

/// Puts a text without the secrets in it.
///
/// # Safety
/// There must be room for a number and for `limit` bytes.
#[cold]
#[inline(never)]
unsafe fn put_without_secret(text: &str, cursor: &mut Cursor, limit: usize) {
    let mut room = TextRoom::new();
    let text = redact::without_secrets(text, &mut room);
    // SAFETY: as the caller promises.
    unsafe { cursor.text(text, limit) };
}

/// A text that is formatted for the trace, or what an error says of itself.
#[doc(hidden)]
pub struct Formatted<const IS_ERROR: bool> {
    room: TextRoom,
    length: usize,
    hash: u64,
    id: u32,
}

impl<const IS_ERROR: bool> Formatted<IS_ERROR> {
    fn new(format: impl FnOnce(&mut StackText<'_>)) -> Self {
        let mut formatted = Self { room: TextRoom::new(), length: 0, hash: 0, id: 0 };
        let mut text = StackText::new(&mut formatted.room);
        format(&mut text);
        text.scrub();
        (formatted.length, formatted.hash) = (text.as_str().len(), strings::hash(text.as_str()));
        formatted
    }

    fn of(arguments: fmt::Arguments<'_>) -> Self {
        // An error means that it is full, or that the user's code gave up: what there is, stands.
        Self::new(|text| {
            let _ = fmt::Write::write_fmt(text, arguments);
        })
    }

    /// The text that was formatted.
    fn text(&self) -> Text<'_> {
        // SAFETY: so many bytes of it were written.
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

    fn resolve(&mut self, inside: Inside) {
        let mut text = self.text();
        text.resolve(inside);
        self.id = text.id;
    }

    fn size(&self, limit: usize) -> usize {
        MAX_VARINT + self.length.min(limit)
    }

    unsafe fn put(&self, cursor: &mut Cursor, limit: usize) {
        // SAFETY: as the caller promises.
        unsafe { self.text().put(cursor, limit) };
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
error!(dyn Error + 'static, dyn Error + Send + 'static, dyn Error + Sync + 'static,
    dyn Error + Send + Sync + 'static);

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

/// The values of one event: a tuple of values that are ready to be written.
#[doc(hidden)]
#[diagnostic::on_unimplemented(message = "an event has at most twelve fields")]
pub trait Values {
    const TYPES: &'static Types;
    /// How many of them are texts, which are looked up before they are written.
    const TEXTS: usize;
    fn try_resolve(&mut self, strings: &StringTable, generation: u64) -> bool;
    fn resolve(&mut self, inside: Inside);
    fn size(&self) -> usize;
    /// # Safety
    /// There must be room for `size` bytes.
    unsafe fn put(&self, cursor: &mut Cursor);
    /// As [`resolve`](Self::resolve), but for the values that are hidden, a bit for each.
    fn resolve_shown(&mut self, inside: Inside, hidden: u64);
    /// As [`size`](Self::size), if those are hidden.
    fn size_shown(&self, hidden: u64) -> usize;
    /// As [`put`](Self::put); a mark stands for each of those that are hidden.
    ///
    /// # Safety
    /// There must be room for [`size_shown`](Self::size_shown) bytes.
    unsafe fn put_shown(&self, cursor: &mut Cursor, hidden: u64);
}

/// What stands for a hidden value, a text.
const HIDDEN: Text<'static> =
    Text { text: redact::REDACTED, hash: 0, id: 0, is_clean: true, has_secret: false };

/// How many bytes each of so many texts may have, for the record to stay within its bound.
#[inline(always)]
fn share(texts: usize) -> usize {
    let all = MAX_RECORD - 512;
    all.checked_div(texts).map_or(0, |each| each.min(Limits::now().text))
}

macro_rules! values {
    ($($name:ident)*) => {
        impl<$($name: Encode),*> Values for ($($name,)*) {
            const TYPES: &'static Types = &Types::new(&[$($name::TYPE),*]);
            const TEXTS: usize = 0 $(+ $name::TEXTS)*;
            #[inline(always)]
            #[allow(non_snake_case, unused_variables, reason = "the empty tuple has no values")]
            fn try_resolve(&mut self, strings: &StringTable, generation: u64) -> bool {
                let ($($name,)*) = self;
                true $(&& $name.try_resolve(strings, generation))*
            }
            #[inline(always)]
            #[allow(non_snake_case, unused_variables, reason = "the empty tuple has no values")]
            fn resolve(&mut self, inside: Inside) {
                let ($($name,)*) = self;
                $($name.resolve(inside);)*
            }
            #[inline(always)]
            #[allow(non_snake_case, unused_variables, reason = "the empty tuple has no values")]
            fn size(&self) -> usize {
                let limit = share(Self::TEXTS);
                let ($($name,)*) = self;
                0 $(+ $name.size(limit))*
            }
            #[inline(always)]
            #[allow(non_snake_case, unused_variables, reason = "the empty tuple has no values")]
            unsafe fn put(&self, cursor: &mut Cursor) {
                let limit = share(Self::TEXTS);
                let ($($name,)*) = self;
                // SAFETY: as the caller promises.
                $(unsafe { $name.put(cursor, limit) };)*
            }
            #[allow(non_snake_case, unused_variables, unused_mut, unused_assignments,
                reason = "the empty tuple has no values")]
            fn resolve_shown(&mut self, inside: Inside, mut hidden: u64) {
                let ($($name,)*) = self;
                $(
                    if hidden & 1 == 0 {
                        $name.resolve(inside);
                    }
                    hidden >>= 1;
                )*
            }
            #[allow(non_snake_case, unused_variables, unused_mut, unused_assignments,
                reason = "the empty tuple has no values")]
            fn size_shown(&self, mut hidden: u64) -> usize {
                let (limit, mut size) = (share(Self::TEXTS), 0);
                let ($($name,)*) = self;
                $(
                    size += if hidden & 1 == 0 { $name.size(limit) } else { HIDDEN.size(redact::REDACTED.len()) };
                    hidden >>= 1;
                )*
                size
            }
            #[allow(non_snake_case, unused_variables, unused_mut, unused_assignments,
                reason = "the empty tuple has no values")]
            unsafe fn put_shown(&self, cursor: &mut Cursor, mut hidden: u64) {
                let limit = share(Self::TEXTS);
                let ($($name,)*) = self;
                $(
                    // SAFETY: as the caller promises.
                    unsafe {
                        if hidden & 1 == 0 {
                            $name.put(cursor, limit);
                        } else {
                            HIDDEN.put(cursor, redact::REDACTED.len());
                        }
                    }
                    hidden >>= 1;
                )*
            }
        }
    };
}

values!();
values!(A);
values!(A B);
values!(A B C);
values!(A B C D);
values!(A B C D E);
values!(A B C D E F);
values!(A B C D E F G);
values!(A B C D E F G H);
values!(A B C D E F G H I);
values!(A B C D E F G H I J);
values!(A B C D E F G H I J K);
values!(A B C D E F G H I J K L);
