//! The limits on what is saved of processes that die: a service that dies again and again must not fill the disk.

use crate::exit::complain;
use lookback::command::parse;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub files: usize,
    pub bytes: u64,
}

impl Limits {
    /// What the options say, or else the variables that a recorder heeds, or else its defaults.
    pub fn of(files: Option<usize>, bytes: Option<u64>) -> Self {
        let files = files.or_else(|| variable("LOOKBACK_SNAPSHOT_FILES", parse_files));
        let bytes = bytes.or_else(|| variable("LOOKBACK_SNAPSHOT_BYTES", parse_bytes));
        Self { files: files.unwrap_or(32), bytes: bytes.unwrap_or(1 << 30) }
    }
}

/// A wrong value does not keep the service from starting.
fn variable<T>(name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
    let value = value.to_string_lossy();
    let wrong = |why| complain(&format!("{name} = {value:?}: {why}; the default applies"));
    parse(&value).map_err(wrong).ok()
}

/// A number of files.
pub fn parse_files(text: &str) -> Result<usize, String> {
    match text.trim().parse() {
        Ok(files) if files > 0 => Ok(files),
        _ => Err("expected a number of files like 32".to_owned()),
    }
}

/// A number of bytes, with or without a unit.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    match parse::bytes(text) {
        Ok(0) => Err(format!("it must not be zero; {BYTES}")),
        parsed => parsed.map_err(|wrong| format!("{wrong}; {BYTES}")),
    }
}

const BYTES: &str = "`64MiB` is a number of bytes, or `1GiB`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_above_zero() {
        assert_eq!((parse_files(" 7 "), parse_bytes("2MiB")), (Ok(7), Ok(2 << 20)));
        for wrong in ["0", "-1", "many", ""] {
            assert!(parse_files(wrong).is_err() && parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
