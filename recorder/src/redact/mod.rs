//! Keeps secrets out of traces: the values of fields with secret names, and secrets within texts.
//!
//! [`names`] judges field names, once per site; [`text`] finds secrets in a text when
//! it is recorded; [`rules`] holds the rules that the program adds. `docs/redaction.md` explains
//! all of it to users, including what cannot be caught. Because texts are also recorded in signal
//! handlers, nothing here waits, and only the functions that return a `String` allocate.

mod marks;
mod names;
pub(crate) mod rules;
mod text;
mod values;

pub use names::{ABOUT, ABOUT_FIRST, SECRETS};
pub(crate) use rules::{Rules, epoch};

use crate::text::{StackText, TextBuf, cut};
use lookback_snapshot::wire::{MAX_TEXT, Value};
use std::fmt::Write;
use std::ops::Range;

/// The replacement for a secret.
pub const REDACTED: &str = "[redacted]";

/// How many bytes of a text are scanned. Fewer are recorded.
const MOST: usize = 4 * MAX_TEXT;

/// Whether a field of this name is recorded without its value.
#[must_use]
pub fn hides(name: &str) -> bool {
    rules::say(name).unwrap_or_else(|| names::find(name).is_secret())
}

/// Whether a counter of this name is recorded without its value: only if the name *ends* with a
/// secret's name. `otp.sent` counts what was sent.
pub(crate) fn hides_counter(name: &str) -> bool {
    rules::say(name).unwrap_or_else(|| names::find(name) == names::Found::Last)
}

/// Which of these fields are recorded without their values, one bit each.
pub(crate) fn hidden(names: &[&str]) -> u64 {
    let names = names.iter().enumerate().take(64);
    names.fold(0, |hidden, (index, name)| hidden | u64::from(hides(name)) << index)
}

/// Whether the recorded part of this text contains a secret.
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

/// The text to record: the text itself if it contains no secret.
///
/// Calls the program's own rule, if there is one, so call this before an event begins.
#[inline]
pub(crate) fn scrubbed<'a>(text: &'a str, room: &'a mut TextBuf) -> &'a str {
    changed(text, room).unwrap_or(text)
}

/// The text to record, or `None` if the given text can be recorded as it is.
#[inline]
pub(crate) fn changed<'a>(text: &str, room: &'a mut TextBuf) -> Option<&'a str> {
    let is_clean = !finds_secret(text) && !has_own_rule();
    if is_clean { None } else { Some(scrub(text, room)) }
}

#[cold]
fn scrub<'a>(text: &str, room: &'a mut TextBuf) -> &'a str {
    if !has_own_rule() {
        return without_secrets(text, room);
    }
    let mut first = TextBuf::new();
    let text = without_secrets(text, &mut first);
    let mut out = StackText::new(room);
    let is_whole = hide(text, rules::Own::new(text), &mut out);
    if is_whole && text.len() > MAX_TEXT {
        out.fill();
    }
    out.into_str()
}

/// The text without the secrets that the built-in rules find. Calls no foreign code.
pub(crate) fn without_secrets<'a>(text: &str, room: &'a mut TextBuf) -> &'a str {
    let (front, is_cut) = (cut(text, MOST), text.len() > MAX_TEXT);
    let mut out = StackText::new(room);
    let is_whole = hide(front, text::secrets(front, is_cut), &mut out);
    if is_whole && is_cut {
        // The text was cut, and readers must see that.
        out.fill();
    }
    out.into_str()
}

/// The text to keep, without a limit on its length.
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

/// The details of a snapshot, without secrets in their texts.
pub(crate) fn scrubbed_details<N>(details: Vec<(N, Value)>) -> Vec<(N, Value)> {
    let scrubbed = |value| match value {
        Value::Text(text) => Value::Text(scrubbed_string(text)),
        other => other,
    };
    details.into_iter().map(|(name, value)| (name, scrubbed(value))).collect()
}

impl StackText<'_> {
    /// Removes secrets from the text.
    pub(crate) fn scrub(&mut self) {
        let mut room = TextBuf::new();
        if let Some(text) = changed(self.as_str(), &mut room) {
            self.replace(text);
        }
    }
}

/// The text without these ranges, which are ordered and disjoint. Returns whether everything fit.
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

/// Whether the program has its own rule for texts.
#[inline(always)]
pub(crate) fn has_own_rule() -> bool {
    rules::own_finder().is_some()
}

/// Whether the program has its own rule for texts, and that rule finds a secret in this one.
pub(crate) fn own_rule_finds(text: &str) -> bool {
    has_own_rule() && rules::Own::new(cut(text, MOST)).next().is_some()
}

/// Hides secrets in the arguments of a command line, one at a time.
#[derive(Default)]
pub(crate) struct Arguments {
    /// The previous argument named a secret: the next one is its value.
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
