//! What must not get into a trace: values of fields that are named like secrets, and secrets inside of
//! texts.
//!
//! [`names`] tells by a field's name, once a site; [`text`](self::text) finds secrets in a text, where one is
//! recorded. [`rules`] are those that the program adds. `docs/redaction.md` says all of it to users, and
//! what cannot be caught. Nothing here allocates but what is asked for a `String`, or waits: texts are
//! recorded in signal handlers, too.

mod marks;
mod names;
pub(crate) mod rules;
mod text;
mod values;

pub use names::{ABOUT, ABOUT_FIRST, SECRETS};
pub(crate) use rules::{Rules, epoch};

use crate::text::{StackText, TextRoom, cut};
use lookback_snapshot::wire::{MAX_TEXT, Value};
use std::fmt::Write;
use std::ops::Range;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// So many bytes of a text are looked at. What is recorded of one is less.
const MOST: usize = 4 * MAX_TEXT;

/// Whether a field of this name is recorded without its value.
#[must_use]
pub fn hides(name: &str) -> bool {
    rules::say(name).unwrap_or_else(|| names::find(name).is_secret())
}

/// Whether a counter of this name is recorded without its value: one whose name *ends* with a secret's.
/// `otp.sent` is how many were sent.
pub(crate) fn hides_counter(name: &str) -> bool {
    rules::say(name).unwrap_or_else(|| names::find(name) == names::Found::Last)
}

/// Which of these fields are recorded without their values, a bit for each.
pub(crate) fn hidden(names: &[&str]) -> u64 {
    let names = names.iter().enumerate().take(64);
    names.fold(0, |hidden, (index, name)| hidden | u64::from(hides(name)) << index)
}

/// Whether there is a secret in what is recorded of this text.
#[inline]
pub(crate) fn finds_secret(text: &str) -> bool {
    let front = text.as_bytes();
    let front = front.get(..MAX_TEXT).unwrap_or(front);
    marks::first(front, 0).is_some() && finds_secret_by_marks(text)
}

#[inline(never)]
fn finds_secret_by_marks(text: &str) -> bool {
    let front = cut(text, MAX_TEXT);
    text::secrets(front, front.len() < text.len()).next().is_some()
}

/// The text as it may be recorded: itself, where there is no secret in it.
///
/// Calls the program's own rule, if there is one, so this is to be called before anything is begun.
#[inline]
pub(crate) fn scrubbed<'a>(text: &'a str, room: &'a mut TextRoom) -> &'a str {
    changed(text, room).unwrap_or(text)
}

/// The text as it may be recorded, if it is not to be recorded as it is.
#[inline]
pub(crate) fn changed<'a>(text: &str, room: &'a mut TextRoom) -> Option<&'a str> {
    let is_clean = !finds_secret(text) && !has_own_rule();
    if is_clean { None } else { Some(scrub(text, room)) }
}

#[cold]
fn scrub<'a>(text: &str, room: &'a mut TextRoom) -> &'a str {
    if !has_own_rule() {
        return without_secrets(text, room);
    }
    let mut first = TextRoom::new();
    let text = without_secrets(text, &mut first);
    let mut out = StackText::new(room);
    let is_whole = hide(text, rules::Own::new(text), &mut out);
    if is_whole && text.len() > MAX_TEXT {
        out.fill();
    }
    out.into_str()
}

/// The text without the secrets that are found in any program's texts. Calls nobody else's code.
pub(crate) fn without_secrets<'a>(text: &str, room: &'a mut TextRoom) -> &'a str {
    let (front, is_cut) = (cut(text, MOST), text.len() > MAX_TEXT);
    let mut out = StackText::new(room);
    let is_whole = hide(front, text::secrets(front, is_cut), &mut out);
    if is_whole && is_cut {
        // The text went on: that must be seen.
        out.fill();
    }
    out.into_str()
}

/// The text as it may be kept, of any length.
pub(crate) fn scrubbed_string(text: String) -> String {
    let mut out = String::new();
    let _ = hide(&text, text::secrets(&text, false), &mut out);
    if !has_own_rule() {
        return out;
    }
    let mut own = String::new();
    let _ = hide(&out, rules::Own::new(&out), &mut own);
    own
}

/// What is said of a snapshot, without secrets in its texts.
pub(crate) fn scrubbed_details<N>(details: Vec<(N, Value)>) -> Vec<(N, Value)> {
    let scrubbed = |value| match value {
        Value::Text(text) => Value::Text(scrubbed_string(text)),
        other => other,
    };
    details.into_iter().map(|(name, value)| (name, scrubbed(value))).collect()
}

/// The text without these, which are in order and lie apart. Says whether there was room for it all.
fn hide(text: &str, secrets: impl Iterator<Item = Range<usize>>, out: &mut impl Write) -> bool {
    let mut from = 0;
    for secret in secrets {
        let shown = text.get(from..secret.start).unwrap_or_default();
        if out.write_str(shown).is_err() || out.write_str(REDACTED).is_err() {
            return false;
        }
        from = secret.end;
    }
    out.write_str(text.get(from..).unwrap_or_default()).is_ok()
}

/// Whether the program has a rule of its own for texts.
#[inline(always)]
pub(crate) fn has_own_rule() -> bool {
    rules::own_finder().is_some()
}

/// Whether a text is for the program's own rule to look at, and this finds a secret in it.
pub(crate) fn own_rule_finds(text: &str) -> bool {
    has_own_rule() && rules::Own::new(cut(text, MOST)).next().is_some()
}

/// Hides secrets in the arguments of a command line, one after the other.
#[derive(Default)]
pub(crate) struct Arguments {
    /// The argument before named a secret, which is this one.
    is_secret: bool,
}

impl Arguments {
    pub(crate) fn scrubbed(&mut self, argument: String) -> String {
        let is_option = argument.starts_with('-');
        if std::mem::take(&mut self.is_secret) && !is_option && !rules::reveal_all() {
            return REDACTED.to_owned();
        }
        self.is_secret = is_option && !argument.contains(['=', ' ']) && hides(&argument);
        scrubbed_string(argument)
    }
}

#[cfg(test)]
mod tests;
