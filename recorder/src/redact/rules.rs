//! The program's own redaction rules, added to the built-in ones.
//!
//! # Synchronization
//!
//! Rules are set when a recorder starts, before anything is recorded, and are never freed: a thread
//! that loads the pointer (acquire) may keep the reference. The epoch is raised after the rules are
//! stored; a site that has judged its names under an earlier epoch judges them again.

use super::names::words;
use lookback_snapshot::wire::{ceil_char_boundary, floor_char_boundary};
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Finds the first secret in a text.
pub(crate) type Finder = fn(&str) -> Option<Range<usize>>;

/// The most names that a program can add, and the longest of them.
const MOST_NAMES: usize = 256;
const LONGEST_NAME: usize = 128;
/// The most secrets that the program's own rule can find in one text; the rest of the text then
/// counts as a secret.
const MOST_FOUND: usize = 64;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Rules {
    pub(crate) redact: Vec<String>,
    pub(crate) reveal: Vec<String>,
    pub(crate) texts: Option<Finder>,
    pub(crate) reveal_all: bool,
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("redact", &self.redact)
            .field("reveal", &self.reveal)
            .field("texts", &self.texts.is_some())
            .field("reveal_all", &self.reveal_all)
            .finish()
    }
}

impl Rules {
    /// Checks the rules: on failure, the bad name and the reason.
    pub(crate) fn check(&self) -> Result<(), (String, &'static str)> {
        let names = || self.redact.iter().chain(&self.reveal);
        if names().count() > MOST_NAMES {
            return Err((names().count().to_string(), "must be at most 256 names"));
        }
        let is_wrong =
            |name: &&String| name.len() > LONGEST_NAME || words(name.as_bytes()).next().is_none();
        match names().find(is_wrong) {
            Some(name) => {
                let front = crate::text::cut(name, LONGEST_NAME).to_owned();
                Err((front, "a name must contain a letter, and have at most 128 bytes"))
            }
            None => Ok(()),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        let same_finder = match (self.texts, other.texts) {
            (None, None) => true,
            (Some(one), Some(other)) => std::ptr::fn_addr_eq(one, other),
            _ => false,
        };
        let names = self.redact == other.redact && self.reveal == other.reveal;
        names && same_finder && self.reveal_all == other.reveal_all
    }
}

static RULES: AtomicPtr<Rules> = AtomicPtr::new(std::ptr::null_mut());
static EPOCH: AtomicU32 = AtomicU32::new(1);

/// Changes whenever the set of hidden names changes. Never 0.
#[inline(always)]
#[must_use]
pub fn epoch() -> u32 {
    EPOCH.load(Ordering::Relaxed)
}

#[inline(always)]
fn current() -> Option<&'static Rules> {
    // SAFETY: the pointer is null, or points to rules that were leaked.
    unsafe { RULES.load(Ordering::Acquire).as_ref() }
}

/// Installs these rules. Called under the lock of `start`, while nothing is recorded.
pub(crate) fn set(rules: &Rules) {
    let none = Rules::default();
    if !current().unwrap_or(&none).is_like(rules) {
        RULES.store(Box::into_raw(Box::new(rules.clone())), Ordering::Release);
        // Zero is the epoch of a site that has not judged its names yet.
        let next = epoch().checked_add(1).unwrap_or(1);
        EPOCH.store(next, Ordering::Release);
    }
}

/// Whether everything is recorded as it is.
pub(crate) fn reveal_all() -> bool {
    current().is_some_and(|rules| rules.reveal_all)
}

/// Whether the program hides names that the built-in rules do not.
pub(super) fn have_names() -> bool {
    current().is_some_and(|rules| !rules.redact.is_empty())
}

/// Whether a field of this name is hidden, if these rules decide it.
#[inline]
pub(super) fn say(name: &str) -> Option<bool> {
    let rules = current()?;
    if rules.reveal_all {
        return Some(false);
    }
    if rules.redact.iter().any(|own| contains(name, own)) {
        return Some(true);
    }
    rules.reveal.iter().any(|own| is_same(name, own)).then_some(false)
}

/// Whether `name` contains the words of `own` in sequence.
fn contains(name: &str, own: &str) -> bool {
    let mut rest = words(name.as_bytes());
    loop {
        if begin_with(rest.clone(), own).is_some() {
            return true;
        }
        if rest.next().is_none() {
            return false;
        }
    }
}

/// Whether two names consist of the same words.
fn is_same(name: &str, own: &str) -> bool {
    begin_with(words(name.as_bytes()), own).is_some_and(|mut rest| rest.next().is_none())
}

/// What follows the words of `own` in `name`, if it begins with them.
fn begin_with<'a, I: Iterator<Item = &'a [u8]>>(mut name: I, own: &str) -> Option<I> {
    for word in words(own.as_bytes()) {
        if !name.next()?.eq_ignore_ascii_case(word) {
            return None;
        }
    }
    Some(name)
}

/// The program's own rule for texts.
#[inline(always)]
pub(super) fn own_finder() -> Option<Finder> {
    current()?.texts
}

/// The ranges that the program's own rule finds in a text, in order.
pub(super) struct Own<'a> {
    text: &'a str,
    at: usize,
    found: usize,
    finder: Option<Finder>,
}

impl<'a> Own<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, found: 0, finder: own_finder() }
    }
}

impl Iterator for Own<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let finder = self.finder?;
        let Some(_asked) = Asked::first() else {
            // A text that the rule itself records is not passed to the rule: that would never end.
            return Some(std::mem::replace(&mut self.at, self.text.len())..self.text.len());
        };
        let found = finder(rest)?;
        // Whatever the rule returns, keep to whole characters, within the text, and move on.
        let length = self.text.len();
        let start = floor_char_boundary(self.text, self.at.saturating_add(found.start).min(length));
        let end = ceil_char_boundary(self.text, self.at.saturating_add(found.end).min(length));
        if start >= end {
            return None;
        }
        self.found += 1;
        let end = if self.found == MOST_FOUND { self.text.len() } else { end };
        self.at = end;
        Some(start..end)
    }
}

thread_local! {
    /// The program's own rule is running on this thread.
    static IS_ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Marks the program's own rule as running until dropped.
struct Asked;

impl Asked {
    /// `None` if the rule is running already: it records something itself, or a signal interrupted
    /// it.
    fn first() -> Option<Self> {
        (!IS_ASKED.replace(true)).then(|| Self)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        IS_ASKED.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ones_own_names_are_found_word_by_word() {
        for name in ["email", "customer_email", "customerEmail", "EMAIL", "email.work"] {
            assert!(contains(name, "email"), "{name}");
        }
        assert!(!contains("emails", "email") && !contains("e_mail", "email"));
        assert!(contains("the.customerId", "customer_id") && !contains("customer", "customer_id"));
        assert!(is_same("authMethod", "auth_method") && !is_same("auth_method_x", "auth_method"));
        assert!(contains("größe", "größe") && !contains("größen", "größe"));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let with = |name: &str| Rules { redact: vec![name.to_owned()], ..Rules::default() };
        assert!(with("a").check().is_ok());
        assert!(with("").check().is_err() && with("__").check().is_err());
        assert!(with(&"x".repeat(200)).check().is_err());
        let many = Rules { reveal: vec!["a".to_owned(); 300], ..Rules::default() };
        assert_eq!(many.check().unwrap_err().0, "300");
    }

    #[test]
    fn whatever_ones_own_rule_says_ranges_are_whole_and_go_on() {
        let finders: [Finder; 5] = [
            |_| Some(0..0),
            |_| Some(1..2),
            |_| Some(usize::MAX..usize::MAX),
            |_| Some(0..usize::MAX),
            #[expect(clippy::reversed_empty_ranges, reason = "a rule may be wrong")]
            |_| Some(5..1),
        ];
        for finder in finders {
            let text = "äöü".repeat(200);
            let mut from = 0;
            for found in (Own { text: &text, at: 0, found: 0, finder: Some(finder) }) {
                assert!(found.start >= from && found.end > found.start);
                assert!(text.get(found.clone()).is_some());
                from = found.end;
            }
        }
    }
}
