//! Hooks that recording calls when something happens that may trigger a snapshot. This module knows
//! no triggers; the triggers [`set`] the functions to call.

#![forbid(unsafe_code)]

use crate::record::control::Control;
use crate::record::format_fields;
use crate::record::panic_seen;
use crate::record::site::Site;
use crate::record::stacks;
use crate::record::task::poll_stack;
use crate::stack;
use lookback_snapshot::wire::Level;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// A text that is made only on demand.
type Words<'a> = &'a mut dyn FnMut() -> String;

/// See the module.
pub(crate) struct Hooks {
    /// A message with this target and level was recorded; the last argument gives its text.
    pub(crate) logged: fn(&str, Level, Words<'_>),
    /// A region or a span ended whose name may have a limit.
    pub(crate) ended: fn(&Ended<'_>),
    /// A panic that the panic hook has not seen unwinds a poll of this thread.
    pub(crate) missed_panic: fn(),
}

/// A region or a span that has ended.
#[derive(Clone, Copy)]
pub(crate) struct Ended<'a> {
    /// The name that a span goes by, and that of its site.
    pub(crate) names: [&'a str; 2],
    /// How long it was open.
    pub(crate) ticks: u64,
    /// `None`: a region.
    pub(crate) span: Option<EndedSpan<'a>>,
}

/// What is known of a span that has ended.
#[derive(Clone, Copy)]
pub(crate) struct EndedSpan<'a> {
    pub(crate) site: &'static Site,
    /// Its fields, encoded.
    pub(crate) fields: &'a [u8],
    /// For which triggers it was told of already while it was open: see [`crate::record::span::open`].
    pub(crate) told: u8,
}

static HOOKS: OnceLock<&Hooks> = OnceLock::new();

/// Sets the functions to call, once for the whole process.
pub(crate) fn set(hooks: &'static Hooks) {
    let _ = HOOKS.set(hooks);
}

/// A message was recorded at this site; `text` gives its text.
#[inline(always)]
pub(crate) fn logged(control: &Control, site: &Site, level: Level, text: impl FnMut() -> String) {
    // While no message triggers, and errors have no stacks, the word is 0.
    if level as u32 + control.log_trigger.load(Ordering::Relaxed) > Level::Error as u32 {
        call_logged(site.target(), level, text);
    }
}

/// A message with this target was recorded.
pub(crate) fn logged_of(
    target: &str,
    control: &Control,
    level: Level,
    text: impl FnMut() -> String,
) {
    if level as u32 + control.log_trigger.load(Ordering::Relaxed) > Level::Error as u32 {
        call_logged(target, level, text);
    }
}

#[cold]
#[inline(never)]
fn call_logged(target: &str, level: Level, mut text: impl FnMut() -> String) {
    if level == Level::Error {
        // Before a trigger takes a snapshot, which is to have it.
        stacks::of_error(stack::here());
    }
    if let Some(hooks) = HOOKS.get() {
        (hooks.logged)(target, level, &mut text);
    }
}

/// See [`Hooks::ended`].
#[cold]
#[inline(never)]
pub(crate) fn ended(what: &Ended<'_>) {
    if let Some(hooks) = HOOKS.get() {
        (hooks.ended)(what);
    }
}

/// A poll of this thread is left before it has returned.
#[cold]
#[inline(never)]
pub(crate) fn poll_unwinds() {
    // A foreign exception unwinds, too.
    if std::thread::panicking()
        && panic_seen::is_missed(poll_stack::depth() <= 1)
        && let Some(hooks) = HOOKS.get()
    {
        (hooks.missed_panic)();
    }
}

/// The fields of a span or a message as text, with a blank before each.
pub(crate) fn fields_in_words(site: &Site, bytes: &[u8]) -> String {
    format_fields::fields(|index| site.field(index), bytes)
}
