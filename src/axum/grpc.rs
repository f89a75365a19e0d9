//! gRPC: the outcome of a call is in the trailers after the body, its deadline in a header. By HTTP's status
//! alone, every failed call would be a 200.

use http::{HeaderMap, HeaderValue, header};
use std::time::Duration;

/// Whether a message is gRPC. gRPC-web has its trailers in the body, so it does not count.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The outcome of a call, if these are its trailers (or its headers, if there is no body).
pub(super) fn status(headers: &HeaderMap) -> Option<u64> {
    let code = headers.get("grpc-status")?.to_str().ok()?;
    (code.len() <= 3 && code.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| code.parse().ok())?
}

/// How long the client waits, from `grpc-timeout`: at most eight digits and a unit.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// The name of a failure of the server: the codes that OpenTelemetry counts as server errors.
pub(super) fn server_error(code: u64) -> Option<&'static str> {
    Some(match code {
        2 => "UNKNOWN",
        4 => "DEADLINE_EXCEEDED",
        12 => "UNIMPLEMENTED",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        15 => "DATA_LOSS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        [(http::HeaderName::from_static(name), HeaderValue::from_static(value))]
            .into_iter()
            .collect()
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        let is = |value| is_grpc(&headers("content-type", value));
        assert!(
            is("application/grpc") && is("application/grpc+proto") && is("application/grpc;x=1")
        );
        assert!(!is("application/grpc-web") && !is("application/json") && !is(""));
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn codes_and_deadlines_are_read_if_they_are_some() {
        let code = |value| status(&headers("grpc-status", value));
        assert_eq!([code("0"), code("13"), code("999")], [Some(0), Some(13), Some(999)]);
        assert_eq!([code(""), code("-1"), code("+1"), code("1000"), code("13 ")], [None; 5]);
        let wait = |value| timeout(&headers("grpc-timeout", value));
        assert_eq!(wait("250m"), Some(Duration::from_millis(250)));
        assert_eq!(wait("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(wait("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for odd in ["", "m", "5", "5x", "-5m", "123456789m", "5 m"] {
            assert_eq!(wait(odd), None, "{odd}");
        }
        assert_eq!(server_error(13), Some("INTERNAL"));
        assert_eq!([0, 1, 5, 16, 99].map(server_error), [None; 5]);
    }
}
