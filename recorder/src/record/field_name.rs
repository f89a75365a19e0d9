//! Computes field names at compile time from their source text: `a . r#type` becomes the field
//! `a.type`, as in `tracing`'s output.

#![forbid(unsafe_code)]

/// The length of a name without blanks and raw-identifier prefixes.
#[must_use]
pub const fn name_length(raw: &str) -> usize {
    let (bytes, mut at, mut length) = (raw.as_bytes(), 0, 0);
    while let Some((_, next)) = kept(bytes, at) {
        at = next;
        length += 1;
    }
    length
}

/// The name itself, of the length that [`name_length`] returns.
#[must_use]
pub const fn name_bytes<const LENGTH: usize>(raw: &str) -> [u8; LENGTH] {
    let (bytes, mut at, mut length) = (raw.as_bytes(), 0, 0);
    let mut name = [0; LENGTH];
    while let Some((byte, next)) = kept(bytes, at) {
        name[length] = byte;
        at = next;
        length += 1;
    }
    name
}

/// The name as a string.
#[must_use]
pub const fn name_of(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(name) => name,
        // Only whole characters are removed.
        Err(_) => "?",
    }
}

/// The next byte of the name at or after `at`, and where to continue.
const fn kept(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    while at < bytes.len() {
        let begins = at == 0 || matches!(bytes[at - 1], b'.' | b' ');
        if begins && at + 1 < bytes.len() && bytes[at] == b'r' && bytes[at + 1] == b'#' {
            at += 2;
        } else if bytes[at] == b' ' {
            at += 1;
        } else {
            return Some((bytes[at], at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_identifiers_and_blanks_leave_no_trace() {
        const NAMES: [(&str, &str); 6] = [
            ("keys", "keys"),
            ("r#type", "type"),
            ("a . b", "a.b"),
            ("a.r#type.r#fn", "a.type.fn"),
            ("r", "r"),
            ("größe.r", "größe.r"),
        ];
        for (raw, name) in NAMES {
            let mut found = Vec::new();
            let mut at = 0;
            while let Some((byte, next)) = kept(raw.as_bytes(), at) {
                found.push(byte);
                at = next;
            }
            assert_eq!(
                (String::from_utf8(found).unwrap().as_str(), name_length(raw)),
                (name, name.len())
            );
        }
        const TYPE: [u8; name_length("r#type")] = name_bytes("r#type");
        assert_eq!(name_of(&TYPE), "type");
    }
}
