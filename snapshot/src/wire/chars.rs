//! Where a text may be cut: `str::floor_char_boundary` and its sibling, which need Rust 1.91.

/// The last place at or before byte `at` where a character of `text` begins, or its end.
///
/// ```
/// use lookback_snapshot::wire::floor_char_boundary;
/// assert_eq!(floor_char_boundary("a€", 2), 1);
/// assert_eq!(floor_char_boundary("a€", 99), 4);
/// ```
#[must_use]
pub fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The first place at or after byte `at` where a character of `text` begins, or its end.
///
/// ```
/// use lookback_snapshot::wire::ceil_char_boundary;
/// assert_eq!(ceil_char_boundary("a€", 2), 4);
/// assert_eq!(ceil_char_boundary("a€", 99), 4);
/// ```
#[must_use]
pub fn ceil_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}
