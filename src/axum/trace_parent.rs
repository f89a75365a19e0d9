//! W3C trace context: the header `traceparent`, which links a request to a distributed trace.
//!
//! It comes from outside, so only its exact form is kept.

use http::HeaderMap;

/// Its length in every version; later versions may append more, which is not kept.
const LENGTH: usize = 55;

/// The header's value, if there is one and it has its form: at most 55 bytes.
pub(super) fn of(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all("traceparent").iter();
    let value = all.next()?.to_str().ok()?;
    if all.next().is_some() {
        return None;
    }
    valid(value)
}

fn valid(value: &str) -> Option<&str> {
    let (front, rest) = value.split_at_checked(LENGTH)?;
    let mut parts = front.split('-');
    let mut part = |length: usize| {
        let part = parts.next().filter(|part| part.len() == length)?;
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.bytes().all(is_hex).then_some(part)
    };
    let (version, trace, parent, _flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    // Only later versions may append more.
    let ends = rest.is_empty() || version != "00" && rest.starts_with('-');
    (version != "ff" && !is_zero(trace) && !is_zero(parent) && ends).then_some(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_has_the_form_is_kept() {
        assert_eq!(valid(GOOD), Some(GOOD));
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(valid(&later), Some(later.as_str()));
        assert_eq!(valid(&format!("{later}-what-the-future-brings")), Some(later.as_str()));
    }

    #[test]
    fn what_has_not_the_form_is_not() {
        let wrong = [
            String::new(),
            GOOD[1..].to_owned(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-00"),
            format!("{GOOD} "),
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            GOOD.replacen("00", "ff", 1),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace("4bf", "4gf"),
            format!("cc{}x", &GOOD[2..]),
            "ä".repeat(30),
            "-".repeat(55),
        ];
        wrong.iter().for_each(|wrong| assert_eq!(valid(wrong), None, "{wrong}"));
    }

    #[test]
    fn two_of_them_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers), None);
        headers.append("traceparent", GOOD.parse().unwrap());
        assert_eq!(of(&headers), Some(GOOD));
        headers.append("traceparent", GOOD.parse().unwrap());
        assert_eq!(of(&headers), None);
    }
}
