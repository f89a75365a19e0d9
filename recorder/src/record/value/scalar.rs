//! Numbers, durations, and what points to or may hold other values.

use super::{Encode, Number, Value};
use crate::record::cursor::Reserved;
use crate::record::strings::StringTable;
use crate::record::writer::WriteCtx;
use lookback_snapshot::wire::{Kind, MAX_VARINT, ValueType, zigzag_wide};
use std::borrow::Cow;
use std::num::{NonZero, Wrapping};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

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
            fn put(&$self, $cursor: &mut Reserved, _: usize) {
                $put
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

/// Puts a 128-bit number: its low half, then its high half.
///
/// There must be room for two numbers.
#[inline(always)]
pub(crate) fn put_wide(cursor: &mut Reserved, value: u128) {
    cursor.number(value as u64);
    cursor.number((value >> 64) as u64);
}

/// Puts a signed 128-bit number.
///
/// There must be room for two numbers.
#[inline(always)]
pub(crate) fn put_wide_signed(cursor: &mut Reserved, value: i128) {
    put_wide(cursor, zigzag_wide(value));
}

/// Puts a duration: seconds, then nanoseconds.
///
/// There must be room for two numbers.
#[inline(always)]
pub(crate) fn put_duration(cursor: &mut Reserved, value: Duration) {
    cursor.number(value.as_secs());
    cursor.number(u64::from(value.subsec_nanos()));
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

/// Types that are recorded as the value that they point to.
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
non_zero!(
    u8 as Unsigned,
    u16 as Unsigned,
    u32 as Unsigned,
    u64 as Unsigned,
    usize as Unsigned,
    i8 as Signed,
    i16 as Signed,
    i32 as Signed,
    i64 as Signed,
    isize as Signed,
    u128 as Wide,
    i128 as WideSigned
);

impl<T: Number> Number for &T {
    const KIND: Kind = T::KIND;
}

/// A value or none.
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
    fn resolve(&mut self, inside: WriteCtx) {
        if let Some(value) = &mut self.0 {
            value.resolve(inside);
        }
    }

    #[inline(always)]
    fn size(&self, limit: usize) -> usize {
        1 + self.0.as_ref().map_or(0, |value| value.size(limit))
    }

    #[inline(always)]
    fn put(&self, cursor: &mut Reserved, limit: usize) {
        match &self.0 {
            None => cursor.byte(0),
            Some(value) => {
                // A type that encodes its own value type does not need it twice.
                if !matches!(E::TYPE, ValueType::Any) {
                    cursor.byte(E::TYPE as u8);
                }
                value.put(cursor, limit);
            }
        }
    }
}
