//! Finds where the value of a secret within a text ends.

#![forbid(unsafe_code)]

use super::{REDACTED, names};
use std::ops::Range;

/// A text that contains a value.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) bytes: &'a [u8],
}

/// Words that may precede the secret itself.
const SCHEMES: &[&str] = &["bearer", "basic", "token", "negotiate", "apikey", "key", "jwt", "dpop"];
/// Schemes whose credentials have several parts.
const LONG_SCHEMES: &[&str] =
    &["digest", "hawk", "oauth", "aws4-hmac-sha256", "hoba", "scram-sha-256"];
/// Words that follow `Bearer` in ordinary sentences.
const WORDS: &[&str] = &[
    "token",
    "tokens",
    "auth",
    "authentication",
    "authorization",
    "credentials",
    "format",
    "header",
    "headers",
    "realm",
    "scheme",
    "expired",
    "expected",
    "instead",
    "invalid",
    "missing",
    "required",
];

pub(super) const fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0
}

fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

impl Value<'_> {
    fn byte(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The position after any blanks.
    fn skip_blanks(&self, mut at: usize) -> usize {
        while matches!(self.byte(at), Some(b' ' | b'\t')) {
            at += 1;
        }
        at
    }

    /// The value of a name. `is_line`: it extends to the end of the line.
    pub(super) fn named(&self, at: usize, is_line: bool) -> Option<Range<usize>> {
        let start = self.skip_blanks(at);
        let mut quote = start;
        while self.byte(quote) == Some(b'\\') {
            quote += 1;
        }
        if self.byte(quote).is_some_and(is_quote) {
            return self.quoted(quote);
        }
        if matches!(self.byte(start)?, b'[' | b'{' | b'(') {
            return Some(start..self.balanced(start));
        }
        if let Some(end) = self.constructed(start) {
            return Some(start..end);
        }
        if is_line {
            return Some(start..self.line(start));
        }
        let end = self.plain(start)?.end;
        let is_one_of = |list| names::is_one_of(&self.bytes[start..end], list);
        if self.byte(end) == Some(b' ') && is_one_of(LONG_SCHEMES) {
            return Some(start..self.line(start));
        }
        if self.byte(end) == Some(b' ') && is_one_of(SCHEMES) {
            return Some(start..self.plain(self.skip_blanks(end)).map_or(end, |more| more.end));
        }
        Some(start..end)
    }

    /// The contents of quotes that open at `open`. The backslashes before it tell how deeply the
    /// quotes are nested in others.
    pub(super) fn quoted(&self, open: usize) -> Option<Range<usize>> {
        let end = self.string_end(open);
        Some(open + 1..end)
    }

    /// The number of backslashes before this position.
    fn backslashes(&self, at: usize) -> usize {
        self.bytes[..at].iter().rev().take(64).take_while(|byte| **byte == b'\\').count()
    }

    /// The end of the text in the quotes that open here: at the closing quote, or at the
    /// backslashes that belong to it.
    fn string_end(&self, open: usize) -> usize {
        let (quote, depth) = (self.bytes[open], self.backslashes(open));
        let mut slashes = 0;
        for (at, byte) in self.bytes.iter().enumerate().skip(open + 1) {
            if *byte == b'\\' {
                slashes += 1;
                continue;
            }
            if *byte == quote {
                // As deep as the opening quote: within, each backslash is multiplied. A quote with
                // fewer backslashes ends the enclosing text, too.
                let (times, rest) = (slashes / (depth + 1), slashes % (depth + 1));
                if slashes < depth || (rest == depth && times % 2 == 0) {
                    return at - depth.min(slashes);
                }
            }
            slashes = 0;
        }
        self.bytes.len()
    }

    /// The position after the bracket that closes this one; the end of the text if none does.
    fn balanced(&self, open: usize) -> usize {
        let (mut depth, mut at) = (0_usize, open);
        while let Some(byte) = self.byte(at) {
            match byte {
                b'[' | b'{' | b'(' => depth += 1,
                b']' | b'}' | b')' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return at + 1;
                    }
                }
                b'"' => {
                    // The closing quote, without the backslashes before it.
                    at = self.string_end(at);
                    while self.byte(at) == Some(b'\\') {
                        at += 1;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        self.bytes.len()
    }

    /// The end of `Some("x")`, `Secret { … }` or `b"x"`, if one begins here.
    fn constructed(&self, start: usize) -> Option<usize> {
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':');
        let rest = &self.bytes[start..];
        let end = start + rest.iter().position(|byte| !is_name(byte)).unwrap_or(rest.len());
        let is_named = end > start;
        match self.byte(end)? {
            b'(' | b'{' | b'[' if is_named => Some(self.balanced(end)),
            b' ' if is_named
                && rest[0].is_ascii_uppercase()
                && self.byte(end + 1) == Some(b'{') =>
            {
                Some(self.balanced(end + 1))
            }
            b'"' if is_named && end - start <= 2 => Some(self.string_end(end) + 1),
            _ => None,
        }
        .map(|end| end.min(self.bytes.len()))
    }

    /// An unenclosed value, up to a blank or to a character that is not part of it.
    pub(super) fn plain(&self, start: usize) -> Option<Range<usize>> {
        // A value that was hidden already ends with a bracket.
        let is_hidden = self.bytes[start..].starts_with(REDACTED.as_bytes());
        let mut end = if is_hidden { start + REDACTED.len() } else { start };
        while let Some(byte) = self.byte(end)
            && !is_blank(byte)
            && !self.ends_plain(byte, end)
        {
            end += 1;
        }
        (end > start).then_some(start..end)
    }

    /// Whether this byte ends a value without blanks. A byte that could be part of a password ends
    /// it only where the text continues as if the value were over.
    fn ends_plain(&self, byte: u8, at: usize) -> bool {
        let next = self.byte(at + 1);
        let is_last = next.is_none_or(is_blank);
        let closes = |next: Option<u8>| {
            next.is_none_or(|byte| {
                is_blank(byte) || matches!(byte, b')' | b']' | b'}' | b',' | b';' | b'.')
            })
        };
        match byte {
            b',' | b';' | b'&' | b'|' => {
                is_last || next.is_some_and(is_quote) || next == Some(b'\\') || self.is_name(at + 1)
            }
            b'%' => self.bytes[at..].starts_with(b"%26") && self.is_name(at + 3),
            b')' | b']' | b'}' | b'>' => closes(next) || next.is_some_and(is_quote),
            b'"' | b'\'' | b'`' => closes(next) || next == Some(b':'),
            b'\\' => match next {
                Some(b'"') => true,
                Some(b'r') => self.bytes[at..].starts_with(b"\\r\\n"),
                Some(b'n') => self.byte(at + 2).is_none() || self.is_name(at + 2),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether a short name and `=` or `:` follow here.
    fn is_name(&self, at: usize) -> bool {
        let at = self.skip_blanks(at);
        let rest = &self.bytes[at.min(self.bytes.len())..];
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let length = rest.iter().take(40).take_while(|byte| is_part(byte)).count();
        let sign = rest.get(length..).unwrap_or_default();
        length > 0 && (sign.starts_with(b"=") || sign.starts_with(b":") || sign.starts_with(b"%3D"))
    }

    /// The end of the line, or of the enclosing quotes.
    fn line(&self, start: usize) -> usize {
        let mut is_inside = false;
        let mut at = start;
        while let Some(byte) = self.byte(at) {
            match byte {
                b'\n' | b'\r' => break,
                b'\\' if self.bytes[at..].starts_with(b"\\r\\n") => break,
                b'\\' if self.bytes[at..].starts_with(b"\\n") && self.is_name(at + 2) => break,
                b'"' => {
                    let slashes = self.backslashes(at).min(at - start);
                    let before = (at - slashes).checked_sub(1).and_then(|at| self.byte(at));
                    if !is_inside && before != Some(b'=') {
                        return at - slashes;
                    }
                    is_inside = !is_inside;
                }
                _ => {}
            }
            at += 1;
        }
        at
    }

    /// The token after `Bearer` or `Basic`, unless it is a word of a sentence.
    pub(super) fn token(&self, start: usize, is_bearer: bool) -> Option<Range<usize>> {
        let is_part = |byte: &u8| {
            byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b'%' | b'|' | b'$' | b'!'
                )
        };
        let rest = self.bytes.get(start..).unwrap_or_default();
        let token = &rest[..rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len())];
        let is_word = token.iter().all(u8::is_ascii_alphabetic);
        let is_encoded = token.iter().skip(1).any(|byte| !byte.is_ascii_lowercase());
        let word = token.strip_suffix(b".").unwrap_or(token);
        let is_secret = if is_bearer {
            token.len() >= 4 && !names::is_one_of(word, WORDS)
        } else {
            token.len() >= 8 && is_encoded && !(is_word && names::is_one_of(word, WORDS))
        };
        is_secret.then(|| start..start + token.len())
    }

    /// A private key, whose `-----BEGIN` ends here: everything between that line and the last one.
    pub(super) fn private_key(&self, at: usize) -> Option<Range<usize>> {
        const END: &[u8] = b"-----END";
        let rest = &self.bytes[at..];
        let head = &rest[..rest.len().min(48)];
        let mark = b"PRIVATE KEY-----";
        let start = at + head.windows(mark.len()).position(|part| part == mark)? + mark.len();
        let body = &self.bytes[start..];
        let end = body.windows(END.len()).position(|part| part == END).unwrap_or(body.len());
        Some(start..start + end)
    }
}
