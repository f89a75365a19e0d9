//! Parses the values of variables, and of the options of commands: times, sizes, numbers, switches. An error is what
//! is wrong, in words.

#![forbid(unsafe_code)]

use crate::text::quoted;
use std::time::Duration;

/// Splits a text at the end of its number.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// An integer.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{} is not a whole number", quoted(text)));
    }
    text.parse().map_err(|_| format!("{} is too large", quoted(text)))
}

/// A time with a unit: `10s`, `1.5s`, `500ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (amount, unit) = split(text);
    let nanos: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" if !amount.is_empty() => return Err(format!("{} has no unit of time", quoted(text))),
        _ if amount.is_empty() => return Err(format!("{} is not a time", quoted(text))),
        _ => return Err(format!("{} is not a unit of time", quoted(unit))),
    };
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let (whole, digits) = (number(whole)?, fraction.len().min(9));
    // Digits beyond the ninth are below a nanosecond for all units but the longest two.
    number(fraction)?;
    let part =
        number(&fraction[..digits])? as u128 * u128::from(nanos) / 10_u128.pow(digits as u32);
    let total = u128::from(whole) * u128::from(nanos) + part;
    let total = u64::try_from(total).map_err(|_| format!("{} is too long", quoted(text)))?;
    Ok(Duration::from_nanos(total))
}

/// A size, with or without a unit: `33554432`, `32MiB`, `32M` (the same), `32MB` (decimal).
pub fn bytes(text: &str) -> Result<u64, String> {
    let (amount, unit) = split(text);
    let amount =
        number(amount).map_err(|_| format!("{} is not a whole number of bytes", quoted(text)))?;
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err(format!("{} is not a unit of bytes", quoted(unit))),
    };
    amount.checked_mul(factor).ok_or_else(|| format!("{} is too large", quoted(text)))
}

/// A share of a whole, between 0 and 1: `5%`, `0.5%`.
pub fn share(text: &str) -> Result<f64, String> {
    let wrong = || format!("{} is not a share such as 5%", quoted(text));
    let percent = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let is_number = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f64 = percent.parse().ok().filter(|_| is_number).ok_or_else(wrong)?;
    if percent <= 100.0 { Ok(percent / 100.0) } else { Err(wrong()) }
}

/// `on` or `off`.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "on" | "1" | "true" | "yes" => Ok(true),
        "off" | "0" | "false" | "no" => Ok(false),
        _ => Err(format!("{} is neither on nor off", quoted(text))),
    }
}
