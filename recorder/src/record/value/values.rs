//! The values of one event, which share the room of its record.

use super::Encode;
use super::text::HIDDEN;
use crate::record::cursor::Reserved;
use crate::record::limits::Limits;
use crate::record::site::Types;
use crate::record::strings::StringTable;
use crate::record::writer::{MAX_RECORD, WriteCtx};
use crate::redact;

/// The values of one event: a tuple of encoded values.
#[doc(hidden)]
#[diagnostic::on_unimplemented(message = "an event has at most twelve fields")]
pub trait Values {
    const TYPES: &'static Types;
    /// The number of texts among them, which are looked up before they are written.
    const TEXTS: usize;
    fn try_resolve(&mut self, strings: &StringTable, generation: u64) -> bool;
    fn resolve(&mut self, inside: WriteCtx);
    fn size(&self) -> usize;
    /// There must be room for `size` bytes.
    fn put(&self, cursor: &mut Reserved);
    /// As [`resolve`](Self::resolve), except for hidden values, which have a bit each in `hidden`.
    fn resolve_shown(&mut self, inside: WriteCtx, hidden: u64);
    /// As [`size`](Self::size), with those values hidden.
    fn size_shown(&self, hidden: u64) -> usize;
    /// As [`put`](Self::put), with a mark in place of each hidden value.
    ///
    /// There must be room for [`size_shown`](Self::size_shown) bytes.
    fn put_shown(&self, cursor: &mut Reserved, hidden: u64);
}

/// How many bytes each of this many texts may have, so that the record stays within its bound.
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
            fn resolve(&mut self, inside: WriteCtx) {
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
            fn put(&self, cursor: &mut Reserved) {
                let limit = share(Self::TEXTS);
                let ($($name,)*) = self;
                $($name.put(cursor, limit);)*
            }
            #[allow(non_snake_case, unused_variables, unused_mut, unused_assignments,
                reason = "the empty tuple has no values")]
            fn resolve_shown(&mut self, inside: WriteCtx, mut hidden: u64) {
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
            fn put_shown(&self, cursor: &mut Reserved, mut hidden: u64) {
                let limit = share(Self::TEXTS);
                let ($($name,)*) = self;
                $(
                    if hidden & 1 == 0 {
                            $name.put(cursor, limit);
                        } else {
                            HIDDEN.put(cursor, redact::REDACTED.len());
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
