//! Messages of callsites that have no place of their own (see [`crate::places`]), or whose names come and
//! go: the definition stands before each message. That takes more room in the trace, and none elsewhere.

use crate::control::control;
use crate::fields::Fields;
use crate::limits::Limits;
use crate::site::Passing;
use crate::span::{Parent, enter_gate};
use crate::span_life::{Held, said_of};
use crate::text::{StackText, cut};
use crate::trigger::active;
use crate::value::{Encode, Text};
use crate::writer::Inside;
use lookback_snapshot::wire::{Kind, Loss, MAX_TEXT, MAX_VARINT};

/// A message with fields, of such a callsite. `of` says of which span it is.
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
    active::logged_of(callsite.target, control(), callsite.level, text);
}

fn write(callsite: &Passing<'_>, message: &StackText<'_>, fields: &Fields<'_>, of: Parent) {
    // Its name may come from anywhere: while it is used here, it stays open.
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
        // SAFETY: the size asked for is that of these.
        unsafe {
            if kind == Kind::LogIn {
                crate::span::put_name(name, &mut cursor);
            }
            cursor.number(callsite.level as u64);
            cursor.number(u64::from(id));
            message.put(&mut cursor, limit);
            fields.put(&mut cursor);
            inside.commit(cursor);
        }
    }
}

fn define(callsite: &Passing<'_>, inside: Inside) -> Result<u32, Loss> {
    let id = inside.next_id()?;
    inside.record(Kind::Callsite, callsite.definition_size(), |cursor| {
        // SAFETY: the size asked for is that of these arguments.
        unsafe { callsite.put_definition(id, cursor) };
    })?;
    Ok(id)
}
