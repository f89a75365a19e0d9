//! Messages of callsites without a site (see [`crate::record::site_registry`]), or with names that
//! come and go: the definition is written before each message. That takes more room in the trace,
//! and no other memory.

use crate::record::control::control;
use crate::record::fields::Fields;
use crate::record::hooks;
use crate::record::limits::Limits;
use crate::record::site::Passing;
use crate::record::span::said::said_of;
use crate::record::span::span_ops::Held;
use crate::record::span::{Parent, enter_gate};
use crate::record::value::{Encode, Text};
use crate::record::writer::WriteCtx;
use crate::text::{StackText, cut};
use lookback_snapshot::wire::{Kind, Loss, MAX_TEXT, MAX_VARINT};

/// Records a message with fields from such a callsite. `of` gives its span.
#[inline(never)]
pub fn log_passing(
    callsite: &Passing<'_>,
    message: &mut StackText<'_>,
    fields: &Fields<'_>,
    of: Parent,
) {
    message.scrub();
    write(callsite, message, fields, of);
    let text = || cut(message.as_str(), MAX_TEXT).to_owned();
    hooks::logged_of(callsite.target, control(), callsite.level, text);
}

fn write(callsite: &Passing<'_>, message: &StackText<'_>, fields: &Fields<'_>, of: Parent) {
    // The name may belong to any span, which must stay open while the name is used here.
    let held = Held::new(of);
    let (kind, name, named) = said_of(of, &held);
    let mut message = Text::clean(message.as_str());
    let limit = Limits::now().text;
    let size = 5 * MAX_VARINT + message.size(limit) + fields.size();
    let Some(writer) = enter_gate(size, [named, None]) else { return };
    let inside = writer.inside();
    message.resolve(inside);
    let id = match define(callsite, inside) {
        Ok(id) => id,
        Err(cause) => return inside.lose(cause),
    };
    if let Some((mut cursor, _)) = inside.begin(kind, size) {
        // SAFETY: as large as asked for.
        unsafe {
            if kind == Kind::LogIn {
                crate::record::span::put_name(name, &mut cursor);
            }
            cursor.number(callsite.level as u64);
            cursor.number(u64::from(id));
            message.put(&mut cursor, limit);
            fields.put(&mut cursor);
            inside.commit(cursor);
        }
    }
}

fn define(callsite: &Passing<'_>, inside: WriteCtx) -> Result<u32, Loss> {
    let id = inside.next_id()?;
    inside.record(Kind::Callsite, callsite.definition_size(), |cursor| {
        callsite.put_definition(id, cursor);
    })?;
    Ok(id)
}
