//! Secrets in a text: `password=…`, `"token": "…"`, `Authorization: Bearer …`, `postgres://user:…@host`.
//!
//! Scans once from left to right, without allocating. The text before `=` or `:` is a name, looked
//! up like the name of a field; [`values`](super::values) finds the end of the value after it.
//! Where the end is ambiguous, it hides more rather than less. Lookahead is bounded or consumed at
//! once, so the time is linear in the length of the text.

#![forbid(unsafe_code)]

use super::values::{Value, is_blank};
use super::{REDACTED, hides, marks, names, rules};
use lookback_snapshot::wire::ceil_char_boundary;
use std::ops::Range;

/// The secrets in a text, in order. `is_cut`: the original text went on.
pub(super) fn secrets(text: &str, is_cut: bool) -> impl Iterator<Item = Range<usize>> {
    Secrets::new(if rules::reveal_all() { "" } else { text }, is_cut)
}

/// See the module.
pub(super) struct Secrets<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    is_cut: bool,
    /// The end of the last secret: no name of a later one begins before it.
    floor: usize,
    /// There is no `@` before this position.
    no_at: usize,
}

/// Secrets in a query; elsewhere, these names mean many other things.
const OF_QUERIES: &[&str] = &["key", "sig", "code", "pass"];

/// The values of these names extend to the end of the line if nothing encloses them; of the header
/// names, only after a colon.
const LINES: &[&str] = &["cookie", "cookies", "passphrase", "mnemonic", "phrase"];
const LINES_OF_HEADERS: &[&str] = &["authorization"];

/// The longest name that is examined, and the longest distance between a name and its `=`.
const LONGEST: usize = 128;
const APART: usize = 32;

impl<'a> Secrets<'a> {
    pub(super) fn new(text: &'a str, is_cut: bool) -> Self {
        Self { text, bytes: text.as_bytes(), at: 0, is_cut, floor: 0, no_at: 0 }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    fn value(&self) -> Value<'a> {
        Value { bytes: self.bytes }
    }

    /// The word that ends here, or its end if it is too long.
    fn word_before(&self, end: usize) -> Range<usize> {
        let least = self.floor.max(end.saturating_sub(LONGEST));
        let front = self.bytes.get(least..end).unwrap_or_default();
        let length = front.iter().rev().take_while(|byte| is_word(**byte)).count();
        // Non-ASCII bytes are all part of words, so a word begins at a character boundary, unless
        // it is cut.
        ceil_char_boundary(self.text, end - length)..end
    }

    /// The name before this position, separated only by blanks, quotes and the like.
    fn name_before(&self, end: usize) -> Range<usize> {
        let least = self.floor.max(end.saturating_sub(APART));
        let front = self.bytes.get(least..end).unwrap_or_default();
        let is_between =
            |byte: u8| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'`' | b'\\' | b']');
        let apart = front.iter().rev().take_while(|byte| is_between(**byte)).count();
        self.word_before(end - apart)
    }

    /// Whether a word begins here.
    fn begins(&self, at: usize) -> bool {
        at <= self.floor || !is_word(self.bytes[at - 1])
    }

    /// The end of the word that begins here.
    fn word_end(&self, at: usize) -> usize {
        at + self.bytes[at..].iter().take_while(|byte| is_word(**byte)).count()
    }

    /// Whether this is the name of a secret, alone or together with the word before it.
    fn is_named(&self, word: &Range<usize>) -> bool {
        let name = &self.text[word.clone()];
        let opens = word.start.checked_sub(1).and_then(|at| self.byte(at));
        if matches!(opens, Some(b'?' | b'&')) && names::is_one_of(name.as_bytes(), OF_QUERIES) {
            return true;
        }
        if name.is_empty() || !(names::may_name(name.as_bytes()) || rules::have_names()) {
            return false;
        }
        if hides(name) {
            return true;
        }
        // The word before must be part of the name, not a name by itself: `credit card`.
        let before = match opens {
            Some(b' ') if word.start > self.floor => self.word_before(word.start - 1),
            _ => return false,
        };
        if names::words(&self.bytes[before.clone()]).next().is_none() {
            return false;
        }
        let both = &self.text[before.start..word.end];
        !hides(&self.text[before]) && hides(both)
    }

    /// The value of a name and its `=` or `:` at `sign`; `self.at` is after that.
    fn named_value(&self, sign: usize, is_colon: bool) -> Option<Range<usize>> {
        let word = self.name_before(sign);
        if !self.is_named(&word) {
            return None;
        }
        let last = names::words(&self.bytes[word]).last().unwrap_or_default();
        let is_line =
            names::is_one_of(last, LINES) || (is_colon && names::is_one_of(last, LINES_OF_HEADERS));
        self.value().named(self.at, is_line)
    }

    /// `--password x`, also in quotes; or a private key. The word extends from `start` to
    /// `self.at`.
    fn behind_option(&self, start: usize) -> Option<Range<usize>> {
        let word = &self.text[start..self.at];
        if word.ends_with("-BEGIN") {
            return self.value().private_key(self.at);
        }
        let junk = |byte: u8| matches!(byte, b' ' | b',' | b'"' | b'\'' | b'\\');
        let mut at = self.at;
        while at < self.at + 8 && self.byte(at).is_some_and(junk) {
            at += 1;
        }
        let parts = &self.bytes[self.at..at];
        let is_apart = parts.contains(&b' ') || parts.contains(&b'"');
        let begins_other = self.byte(at).is_none_or(|byte| byte == b'-');
        if !is_apart || begins_other || !hides(&self.text[self.word_before(self.at)]) {
            return None;
        }
        match parts.last() {
            Some(b'"' | b'\'') => self.value().quoted(at - 1),
            _ => self.value().plain(at),
        }
    }

    /// `("password", "x")`, as `Debug` writes pairs. The comma is before `self.at`.
    fn paired_value(&self) -> Option<Range<usize>> {
        let quote = (self.at - 1).checked_sub(1).filter(|at| self.bytes[*at] == b'"')?;
        let word = self.name_before(quote);
        let mut open = word.start.checked_sub(1).filter(|at| self.bytes[*at] == b'"')?;
        while open > 0 && self.bytes[open - 1] == b'\\' && word.start - open < 8 {
            open -= 1;
        }
        let is_pair = open > 0 && matches!(self.bytes[open - 1], b'(' | b'[');
        (is_pair && self.is_named(&word)).then(|| self.value().named(self.at, false))?
    }

    /// Something that begins like a JWT, whose `J` is before `self.at`.
    fn jwt(&self) -> Option<Range<usize>> {
        let start = self.at.checked_sub(3)?;
        let is_one = self.bytes[start..].starts_with(b"eyJ") && self.begins(start);
        let word = start..if is_one { self.word_end(start) } else { start };
        (word.len() >= 20 && self.bytes[word.clone()].contains(&b'.')).then_some(word)
    }

    /// The credentials after `Bearer` or `Basic`, whose `B` is before `self.at`.
    fn behind_scheme(&self) -> Option<Range<usize>> {
        let start = self.at - 1;
        let is = |scheme: &[u8]| {
            let end = start + scheme.len();
            let word = self.bytes.get(start..end)?;
            let stands = word.eq_ignore_ascii_case(scheme) && self.byte(end) == Some(b' ');
            (stands && self.begins(start)).then_some(end + 1)
        };
        match is(b"bearer") {
            Some(at) => self.value().token(at, true),
            None => self.value().token(is(b"basic")?, false),
        }
    }

    /// The secret in a URL whose `://` ends here: the password, or a token in place of the user.
    fn user_info(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let scheme = &self.text[self.word_before(start - 3)];
        let rest = &self.bytes[start..];
        let ends = |byte: &u8| ENDS_AUTHORITY[usize::from(*byte)];
        let end = start + rest.iter().position(ends).unwrap_or(rest.len());
        let authority = &self.bytes[start..end];
        let colon = authority.iter().position(|byte| *byte == b':').map(|at| start + at + 1);
        if let Some(at) = authority.iter().rposition(|byte| *byte == b'@') {
            let at = start + at;
            return match colon.filter(|colon| *colon <= at) {
                Some(colon) => Some(colon..at),
                None => {
                    scheme.get(..4).filter(|s| s.eq_ignore_ascii_case("http")).map(|_| start..at)
                }
            };
        }
        let colon = colon.filter(|_| !authority.starts_with(b"["))?;
        // Where the text was cut, this may or may not be a port.
        if end == self.bytes.len() && self.is_cut {
            return Some(colon..end);
        }
        if self.bytes[colon..end].iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.far_at(end).map(|at| colon..at)
    }

    /// The last `@` before a blank or a quote: a password may contain slashes.
    fn far_at(&mut self, from: usize) -> Option<usize> {
        if from < self.no_at {
            return None;
        }
        let ends = |byte: &u8| is_blank(*byte) || matches!(byte, b'"' | b'`' | b'<' | b'>');
        let rest = &self.bytes[from..];
        let end = from + rest.iter().position(ends).unwrap_or(rest.len());
        let at = self.bytes[from..end].iter().rposition(|byte| *byte == b'@');
        if at.is_none() {
            self.no_at = end;
        }
        at.map(|at| from + at)
    }

    /// Examines the byte before `self.at`, which is a mark or resembles one.
    fn look(&mut self, byte: u8) -> Option<Range<usize>> {
        let sign = self.at - 1;
        let next = self.byte(self.at);
        match byte {
            b'=' => {
                while matches!(self.byte(self.at), Some(b'=' | b'>')) {
                    self.at += 1;
                }
                self.named_value(sign, false)
            }
            b':' if next == Some(b':') => {
                self.at += 1;
                None
            }
            b':' if self.bytes[self.at..].starts_with(b"//") => {
                self.at += 2;
                self.user_info()
            }
            b':' => {
                self.at += usize::from(next == Some(b'='));
                self.named_value(sign, true)
            }
            b'%' => {
                // `=` and `:` as a URL encodes them.
                let code = self.bytes.get(self.at..self.at + 2)?;
                if !matches!(code, b"3D" | b"3d" | b"3A" | b"3a") {
                    return None;
                }
                self.at += 2;
                self.named_value(sign, false)
            }
            b',' => self.paired_value(),
            b'-' if next == Some(b'-') && self.begins(sign) => {
                self.at = self.word_end(sign);
                self.behind_option(sign)
            }
            b'b' | b'B' if matches!(next, Some(b'e' | b'E' | b'a' | b'A')) => self.behind_scheme(),
            b'J' => self.jwt(),
            _ => None,
        }
    }
}

impl Iterator for Secrets<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        loop {
            let mark = marks::first(self.bytes, self.at)?;
            self.at = mark + 1;
            let found = self.look(self.bytes[mark]).filter(|found| !found.is_empty());
            let Some(found) = found else { continue };
            self.at = found.end;
            self.floor = found.end;
            // Text that was hidden before is not hidden again.
            if self.bytes[found.clone()] != *REDACTED.as_bytes() {
                return Some(found);
            }
        }
    }
}

/// Whether a byte is part of a name.
#[inline(always)]
fn is_word(byte: u8) -> bool {
    IS_WORD[usize::from(byte)]
}

const IS_WORD: [bool; 256] = {
    let (mut is_word, mut index) = ([false; 256], 0);
    while index < 256 {
        let byte = index as u8;
        is_word[index] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') || byte >= 0x80;
        index += 1;
    }
    is_word
};

/// The bytes that end the authority of a URL, the part with the user and the host.
const ENDS_AUTHORITY: [bool; 256] = {
    let (mut ends, mut index) = ([false; 256], 0);
    while index < 256 {
        let byte = index as u8;
        ends[index] = is_blank(byte)
            || matches!(byte, b'/' | b'?' | b'#' | b'"' | b'`' | b'<' | b'>' | b'\\');
        index += 1;
    }
    ends
};
