//! The values of typed events: what may be given, and how it is written.

use crate::cursor::Cursor;
use crate::site::Types;
use crate::strings::{self, Lookup};
use crate::writer::{Inside, MAX_RECORD};
use lookback_snapshot::wire::{Kind, MAX_TEXT, MAX_VARINT, ValueType};

/// A value of a field of [`event!`](crate::event): integers up to 64 bits, floats, `bool`, strings,
/// and references to them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be recorded as it is",
    note = "integers up to 64 bits, floats, `bool` and strings can; format anything else"
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

macro_rules! number {
    ($kind:ident: $($type:ty),*) => {
        $(impl Number for $type { const KIND: Kind = Kind::$kind; })*
    };
}
number!(CounterUnsigned: u8, u16, u32, u64, usize);
number!(CounterSigned: i8, i16, i32, i64, isize);
number!(CounterFloat: f32, f64);

impl<T: Value + ?Sized> Value for &T {
    type Encoded<'a>
        = T::Encoded<'a>
    where
        Self: 'a;
    #[inline(always)]
    fn encoded(&self) -> T::Encoded<'_> {
        (**self).encoded()
    }
}

impl<T: Number> Number for &T {
    const KIND: Kind = T::KIND;
}

/// A text, as it stands or by reference.
#[doc(hidden)]
pub struct Text<'a> {
    text: &'a str,
    hash: u64,
    id: u32,
}

impl Value for str {
    type Encoded<'a> = Text<'a>;
    #[inline]
    fn encoded(&self) -> Text<'_> {
        Text { text: self, hash: strings::hash(self), id: 0 }
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

    fn resolve(&mut self, inside: Inside) {
        let table = inside.strings();
        self.id = match table.look_up(self.hash, inside.generation()) {
            Lookup::Id(id) => id,
            Lookup::Inline => 0,
            Lookup::Define(claim) => {
                let defined = inside.next_id().and_then(|id| {
                    let size = 2 * MAX_VARINT + self.text.len();
                    inside.record(Kind::String, size, |cursor| {
                        // SAFETY: as large as asked for.
                        unsafe {
                            cursor.number(u64::from(id));
                            cursor.text(self.text, MAX_TEXT);
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
        MAX_VARINT + self.text.len().min(limit)
    }

    unsafe fn put(&self, cursor: &mut Cursor, limit: usize) {
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

/// The values of one event: a tuple of values that are ready to be written.
#[doc(hidden)]
#[diagnostic::on_unimplemented(message = "an event has at most twelve fields")]
pub trait Values {
    const TYPES: &'static Types;
    /// How many of them are texts, which are looked up before they are written.
    const TEXTS: usize;
    fn resolve(&mut self, inside: Inside);
    fn size(&self) -> usize;
    /// # Safety
    /// There must be room for `size` bytes.
    unsafe fn put(&self, cursor: &mut Cursor);
}

/// How many bytes each of so many texts may have, for the record to stay within its bound.
const fn share(texts: usize) -> usize {
    let all = MAX_RECORD - 512;
    if texts == 0 || all / texts > MAX_TEXT { MAX_TEXT } else { all / texts }
}

macro_rules! values {
    ($($name:ident)*) => {
        impl<$($name: Encode),*> Values for ($($name,)*) {
            const TYPES: &'static Types = &Types::new(&[$($name::TYPE),*]);
            const TEXTS: usize = 0 $(+ $name::TEXTS)*;
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
