//! Recognizes files of other formats by their first bytes.

use crate::file::{SKIPPABLE, ZSTD_MAGIC};
use crate::read::error::Reason;
use crate::wire::ARENA_MAGIC;

/// How files begin, and what they are then.
const KNOWN: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "a file compressed by gzip"),
    (b"\x7fELF", "an executable or a core dump (ELF)"),
    (b"go 1.", "an execution trace of Go"),
    (b"PK\x03\x04", "a zip archive"),
    (b"BZh", "a file compressed by bzip2"),
    (b"\xfd7zXZ", "a file compressed by xz"),
    (b"\x89PNG", "an image"),
    (b"%PDF", "a PDF document"),
    (b"PERFILE2", "a recording of perf"),
    (b"\xcf\xfa\xed\xfe", "an executable (Mach-O)"),
    (b"#!", "a script"),
];

/// What a file contains that was never written, or was lost when the machine crashed.
const ZEROES: &str = "zeroes, as after a crash of the machine or a full disk";

/// Why a file that begins like this is not ours, if it is not.
pub(crate) fn recognize(front: &[u8]) -> Option<Reason> {
    if front.starts_with(&ARENA_MAGIC) {
        return Some(Reason::Arena);
    }
    let zstd = ZSTD_MAGIC.to_le_bytes();
    if front.starts_with(&zstd) || zstd.starts_with(front) {
        return None;
    }
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| front.starts_with(magic)) {
        return Some(Reason::Foreign(what));
    }
    if SKIPPABLE.iter().any(|magic| front.starts_with(&magic.to_le_bytes())) {
        return Some(Reason::Foreign("a skippable frame of zstd, without what should come before"));
    }
    let text = front.trim_ascii_start();
    if text.starts_with(b"{") || text.starts_with(b"[") {
        return Some(Reason::Foreign("JSON"));
    }
    if !front.is_empty() && front.iter().all(|byte| *byte == 0) {
        return Some(Reason::Foreign(ZEROES));
    }
    let printable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    Some(Reason::Foreign(if front.iter().all(printable) { "text" } else { "unknown data" }))
}

/// Whether the first bytes alone prove that a file is not ours. Otherwise they may be damage.
pub(crate) fn is_certain(front: &[u8]) -> bool {
    !matches!(recognize(front), None | Some(Reason::Foreign("unknown data" | ZEROES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_called_by_their_names() {
        let words = |front: &[u8]| recognize(front).map(|reason| reason.to_string());
        assert!(words(b"\x1f\x8b\x08\0").unwrap().contains("gzip"));
        assert!(words(b"go 1.26 trace\0\0\0").unwrap().contains("Go"));
        assert!(words(b" {\"a\": 1}").unwrap().contains("JSON"));
        assert!(words(b"LBARENA\n").unwrap().contains("lookback recover"));
        assert!(words(b"hello world\n").unwrap().contains("text"));
        assert!(words(&[0; 64]).unwrap().contains("zeroes"));
        assert!(!is_certain(&[0; 64]), "what is behind them may be whole");
        assert_eq!(words(&ZSTD_MAGIC.to_le_bytes()), None);
        assert_eq!(words(b"\x28\xb5"), None);
    }
}
