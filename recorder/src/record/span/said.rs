//! What is said of a span while it is open: fields that become known late, the spans that it follows from, and
//! messages within it.

use crate::record::control::control;
use crate::record::fields::Fields;
use crate::record::hooks;
use crate::record::limits::Limits;
use crate::record::site::Site;
use crate::record::span::span_ops::{Held, innermost, is_deep};
use crate::record::span::{Name, Parent, SpanEntry, enter_gate, find, put_name, was_given};
use crate::record::thread;
use crate::record::value::{Encode, Text};
use crate::text::{StackText, cut};
use lookback_snapshot::wire::{Kind, Level, MAX_TEXT, MAX_VARINT};
use std::sync::atomic::{Ordering, fence};

/// Records fields of a span that become known later.
#[inline(never)]
pub fn record(name: Name, fields: &Fields<'_>) {
    let Some(place) = find(name) else { return };
    let Some(site) = place.site() else { return };
    if fields.is_empty() {
        return;
    }
    let size = 4 * MAX_VARINT + fields.size();
    let mut is_kept = false;
    // Repeat if a newer generation has stated the span meanwhile, perhaps without these fields.
    for _ in 0..2 {
        let Some(writer) = enter_gate(size, [Some(place), None]) else { break };
        let inside = writer.inside();
        let (_, _, generation) = inside.parts();
        if !std::mem::replace(&mut is_kept, true) {
            place.keep_late(fields);
        }
        if let Some((id, mut cursor)) = inside.begin_at_id(Kind::SpanRecord, site, size) {
            // SAFETY: as large as asked for.
            unsafe {
                put_name(name, &mut cursor);
                cursor.number(u64::from(id));
                fields.put(&mut cursor);
                inside.commit(cursor);
            }
        }
        drop(writer);
        fence(Ordering::SeqCst);
        if !place.told.is_ahead_of(generation) {
            return;
        }
    }
    if !is_kept {
        place.keep_late(fields);
    }
}

/// Records that a span follows from another one, which may be closed. Does nothing if `name` is
/// closed, or if `from` was never recorded.
pub fn follows(name: Name, from: Name) {
    let held = [name, from].map(|name| Held::new(Parent::Of(name)));
    let named = held.each_ref().map(Held::place);
    let kind = match named {
        [None, _] => return,
        [_, Some(_)] => Kind::SpanFollows,
        [_, None] if was_given(from) => Kind::SpanFollowsClosed,
        _ => return,
    };
    let Some(writer) = enter_gate(1 + 5 * MAX_VARINT, named) else { return };
    if let Some((mut cursor, _)) = writer.inside().begin(kind, 4 * MAX_VARINT) {
        // SAFETY: as large as asked for.
        unsafe {
            put_name(name, &mut cursor);
            put_name(from, &mut cursor);
            writer.inside().commit(cursor);
        }
    }
}

/// Records a message with fields in this thread's innermost span, or in a given one. If the given
/// span is closed, the message belongs to none.
#[inline(never)]
pub fn log(
    site: &'static Site,
    level: Level,
    message: &mut StackText<'_>,
    fields: &Fields<'_>,
    of: Parent,
) {
    message.scrub();
    write_log(site, level, message, fields, of);
    hooks::logged(control(), site, level, || {
        let fields = hooks::fields_in_words(site, fields.bytes());
        format!("{}{fields}", cut(message.as_str(), MAX_TEXT))
    });
}

/// The kind of the message's record, and its span. `held` is the reference to the span of `of`.
pub(crate) fn said_of(of: Parent, held: &Held) -> (Kind, Name, Option<&'static SpanEntry>) {
    let (kind, name) = match of {
        Parent::Of(_) => (Kind::LogIn, held.0),
        // A reader may not know the innermost span, because not all are restated.
        Parent::Current => match thread::present_slot().filter(|slot| is_deep(slot)) {
            Some(slot) => (Kind::LogIn, innermost(slot)),
            None => (Kind::LogFields, 0),
        },
    };
    let named = find(name);
    (kind, if named.is_some() { name } else { 0 }, named)
}

fn write_log(
    site: &'static Site,
    level: Level,
    message: &StackText<'_>,
    fields: &Fields<'_>,
    of: Parent,
) {
    let held = Held::new(of);
    let (kind, name, named) = said_of(of, &held);
    let mut message = Text::clean(message.as_str());
    let limit = Limits::now().text;
    let size = 5 * MAX_VARINT + message.size(limit) + fields.size();
    let Some(writer) = enter_gate(size, [named, None]) else { return };
    let inside = writer.inside();
    message.resolve(inside);
    if let Some((id, mut cursor)) = inside.begin_at_id(kind, site, size) {
        // SAFETY: as large as asked for.
        unsafe {
            if kind == Kind::LogIn {
                put_name(name, &mut cursor);
            }
            cursor.number(level as u64);
            cursor.number(u64::from(id));
            message.put(&mut cursor, limit);
            fields.put(&mut cursor);
            inside.commit(cursor);
        }
    }
}
