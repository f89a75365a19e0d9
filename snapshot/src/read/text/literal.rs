//! Single values: how they are written and read.

use crate::wire::{MAX_TEXT, ValueType, put_varint, zigzag, zigzag_wide};
use std::fmt::Write;

/// Why a value cannot be read.
pub(super) type Reason = String;

/// Writes bytes as a text, in quotes if they are UTF-8.
pub(super) fn put_text(bytes: &[u8], cut: bool, out: &mut String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.push('"');
            for character in text.chars() {
                match character {
                    '"' | '\\' => out.extend(['\\', character]),
                    '\n' => out.push_str("\\n"),
                    character if character.is_control() => {
                        let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
                    }
                    character => out.push(character),
                }
            }
            out.push('"');
        }
        Err(_) => {
            out.push('%');
            put_hex(bytes, out);
        }
    }
    if cut {
        out.push('…');
    }
}

pub(super) fn put_hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

pub(super) fn put_float(value: f64, out: &mut String) {
    let _ = if value.is_finite() {
        write!(out, "f{value:?}")
    } else {
        write!(out, "fx{:016x}", value.to_bits())
    };
}

/// The rest of a line.
pub(super) struct Words<'a> {
    pub(super) rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        Self { rest: line.trim_start() }
    }

    /// Skips `what` if it comes next. Returns whether it did.
    pub(super) fn take(&mut self, what: &str) -> bool {
        match self.rest.strip_prefix(what) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&mut self, what: &str) -> Result<(), Reason> {
        if self.take(what) {
            Ok(())
        } else {
            Err(format!("`{what}` was to come at `{}`", self.front()))
        }
    }

    /// The beginning of the rest, for people.
    pub(super) fn front(&self) -> String {
        self.rest.chars().take(20).collect()
    }

    /// Letters, digits, underscores.
    pub(super) fn word(&mut self) -> &'a str {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self) -> Result<T, Reason> {
        let signed = self.rest.starts_with(['-', '+']);
        let digits = &self.rest[usize::from(signed)..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let end = end + usize::from(signed);
        let (number, rest) = self.rest.split_at(end);
        let parsed =
            number.parse().map_err(|_| format!("a number was to come at `{}`", self.front()))?;
        self.rest = rest.trim_start();
        Ok(parsed)
    }

    fn hex(&mut self) -> Result<Vec<u8>, Reason> {
        let end = self.rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if !digits.len().is_multiple_of(2) {
            return Err("bytes have two digits each".to_owned());
        }
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
        (0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>().map_err(|e| e.to_string())
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Reason> {
        self.expect("0x")?;
        self.hex()
    }

    pub(super) fn float(&mut self) -> Result<f64, Reason> {
        self.expect("f")?;
        if self.take("x") {
            let bits = self.hex()?;
            let bits =
                bits.try_into().map_err(|_| "the bits of a number are 16 digits".to_owned())?;
            return Ok(f64::from_bits(u64::from_be_bytes(bits)));
        }
        let is_part = |c: char| c.is_ascii_digit() || "+-.e".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        let parsed = number.parse().map_err(|_| format!("`{number}` is no number"))?;
        self.rest = rest.trim_start();
        Ok(parsed)
    }

    /// A text in quotes.
    pub(super) fn quoted(&mut self) -> Result<String, Reason> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices();
        if characters.next().map(|(_, c)| c) != Some('"') {
            return Err(format!("a text was to come at `{}`", self.front()));
        }
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = self.rest[at + 1..].trim_start();
                    return Ok(text);
                }
                '\\' => match characters.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('u') => {
                        let digits: String = characters
                            .by_ref()
                            .map(|(_, c)| c)
                            .skip_while(|c| *c == '{')
                            .take_while(|c| *c != '}')
                            .collect();
                        let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                        text.push(code.ok_or("an escape is no character")?);
                    }
                    Some(character) => text.push(character),
                    None => break,
                },
                character => text.push(character),
            }
        }
        Err("a text does not end".to_owned())
    }

    /// Reads a text into a record.
    pub(super) fn text(&mut self, out: &mut Vec<u8>) -> Result<(), Reason> {
        if self.take("&") {
            let id: u64 = self.number()?;
            put_varint(out, id << 1 | 1);
            return Ok(());
        }
        let bytes = if self.take("%") { self.hex()? } else { self.quoted()?.into_bytes() };
        if bytes.len() > MAX_TEXT {
            return Err(format!("a text has at most {MAX_TEXT} bytes"));
        }
        let cut = self.take("…");
        put_varint(out, (bytes.len() as u64) << 2 | u64::from(cut) << 1);
        out.extend(bytes);
        Ok(())
    }

    /// Reads a value into `out`, and returns its type.
    pub(super) fn value(&mut self, out: &mut Vec<u8>) -> Result<ValueType, Reason> {
        let kind = match self.rest.chars().next() {
            Some('0'..='9') => ValueType::Unsigned,
            Some('+' | '-') => ValueType::Signed,
            Some('t' | 'f') if self.rest.starts_with("true") || self.rest.starts_with("false") => {
                ValueType::Bool
            }
            Some('f') => ValueType::Float,
            Some('!') => ValueType::Error,
            Some('?') => ValueType::Any,
            Some('w') if self.rest.starts_with("w+") || self.rest.starts_with("w-") => {
                ValueType::WideSigned
            }
            Some('w') => ValueType::Wide,
            Some('d') => ValueType::Duration,
            Some('o') => ValueType::Omitted,
            _ => ValueType::Text,
        };
        match kind {
            ValueType::Unsigned => put_varint(out, self.number()?),
            ValueType::Signed => put_varint(out, zigzag(self.number()?)),
            ValueType::Float => out.extend(self.float()?.to_le_bytes()),
            ValueType::Bool => out.push(u8::from(self.word() == "true")),
            ValueType::Error => {
                self.expect("!")?;
                self.text(out)?;
            }
            ValueType::Text => self.text(out)?,
            ValueType::Any => {
                self.expect("?")?;
                let mut value = Vec::new();
                // Without a value, the next one or the end follows immediately.
                let kind = match self.rest.chars().next() {
                    None | Some(',' | ')') => 0,
                    Some(_) => self.value(&mut value)? as u8,
                };
                out.push(kind);
                out.extend(value);
            }
            ValueType::Wide | ValueType::WideSigned => {
                self.expect("w")?;
                let value = match kind {
                    ValueType::Wide => self.number::<u128>()?,
                    _ => zigzag_wide(self.number()?),
                };
                put_varint(out, value as u64);
                put_varint(out, (value >> 64) as u64);
            }
            ValueType::Duration => {
                self.expect("d")?;
                put_varint(out, self.number()?);
                self.expect(":")?;
                put_varint(out, self.number()?);
            }
            ValueType::Omitted => self.expect("omitted")?,
        }
        Ok(kind)
    }

    /// Reads a list between two brackets, separated by commas.
    pub(super) fn list(
        &mut self,
        brackets: [&str; 2],
        mut item: impl FnMut(&mut Self) -> Result<(), Reason>,
    ) -> Result<u64, Reason> {
        self.expect(brackets[0])?;
        let mut count = 0;
        while !self.take(brackets[1]) {
            if count > 0 {
                self.expect(",")?;
            }
            item(self)?;
            count += 1;
        }
        Ok(count)
    }

    /// Reads a given value, with the index of its field.
    pub(super) fn given(&mut self, out: &mut Vec<u8>) -> Result<(), Reason> {
        let index: u64 = self.number()?;
        self.expect(":")?;
        let mut value = Vec::new();
        let kind = self.value(&mut value)?;
        if kind as u8 > ValueType::Any as u8 {
            put_varint(out, index << 3 | ValueType::Any as u64);
            out.push(kind as u8);
        } else {
            put_varint(out, index << 3 | kind as u64);
        }
        out.extend(value);
        Ok(())
    }
}
