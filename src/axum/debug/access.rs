//! Access control: a request needs the token; or, if loopback is trusted, it must come from this machine and
//! not from a page in a browser.

use super::reply::{Failure, unblocked};
use super::token_file;
use ::axum::extract::ConnectInfo;
use ::tokio::sync::Mutex;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, StatusCode, header};
use lookback_recorder::Error;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The header that a request without a token must have, with any value, to take a snapshot.
pub const REQUEST_HEADER: &str = "x-lookback";

/// The length of a token.
pub(super) const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 16..=1000;

/// How long to wait before looking for the token of the snapshot directory again.
const PAUSE: Duration = Duration::from_secs(1);
const NO_TOKEN: &str =
    "no token is set, and none can be kept: the service's stderr says why; `Debug::token` sets one";

/// Headers that proxies add.
const PROXIED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// The configured policy.
#[derive(Clone, Default)]
pub(super) enum Asked {
    /// The default: the token of the snapshot directory.
    #[default]
    Kept,
    Token(String),
    Loopback,
}

/// The policy and its state.
#[derive(Debug)]
pub(super) enum Access {
    Token(String),
    /// The token of the snapshot directory; unknown until something is recorded.
    Kept(Kept),
    Loopback,
}

/// The state of the token of the snapshot directory.
#[derive(Debug, Default)]
pub(super) struct Kept {
    token: OnceLock<String>,
    /// When it was last looked for in vain. Anyone can send requests, so only one at a time looks.
    failed: Mutex<Option<Instant>>,
}

impl Access {
    pub(super) fn new(asked: Asked, address: SocketAddr) -> Result<Self, Error> {
        Self::refuses(&asked, address)?;
        Ok(match asked {
            Asked::Token(token) => Self::Token(token),
            Asked::Loopback => Self::Loopback,
            Asked::Kept => {
                let kept = Kept::default();
                // While nothing is recorded, the directory is unknown; the next request tries again.
                if let Ok(Some(token)) = token_file::of_recorder() {
                    let _ = kept.token.set(token);
                }
                Self::Kept(kept)
            }
        })
    }

    /// What is wrong with the configuration.
    pub(super) fn refuses(asked: &Asked, address: SocketAddr) -> Result<(), Error> {
        match asked {
            Asked::Token(token) if !Self::is_token(token) => {
                let value = format!("({} bytes)", token.len());
                let reason = "must be 16 to 1000 visible ASCII characters";
                Err(Error::Setting { name: "token", value, reason })
            }
            Asked::Kept | Asked::Loopback if !is_loopback(address.ip()) => {
                let reason = "without a token, must be a loopback address, such as 127.0.0.1";
                let value = address.to_string();
                Err(Error::Setting { name: "address", value, reason })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_token(token: &str) -> bool {
        token.bytes().all(|byte| byte.is_ascii_graphic()) && TOKEN_LENGTH.contains(&token.len())
    }

    /// Loads the token if necessary. Every request is refused before that.
    pub(super) async fn ready(&self) -> Result<(), Failure> {
        let Self::Kept(kept) = self else { return Ok(()) };
        if kept.token.get().is_some() {
            return Ok(());
        }
        let mut failed = kept.failed.lock().await;
        if kept.token.get().is_none() {
            let none = || Failure::new(StatusCode::SERVICE_UNAVAILABLE, NO_TOKEN);
            if failed.is_some_and(|at| at.elapsed() < PAUSE) {
                return Err(none());
            }
            let found = unblocked(token_file::of_recorder).await??;
            *failed = found.is_none().then(Instant::now);
            let _ = kept.token.set(found.ok_or_else(none)?);
        }
        Ok(())
    }

    /// Whether this request is allowed.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Failure> {
        let (token, which) = match self {
            Self::Token(token) => (Some(token), "the token"),
            Self::Kept(kept) => (
                kept.token.get(),
                "the token, which is in the file that the service's stderr names,",
            ),
            Self::Loopback => {
                return check_loopback(request)
                    .map_err(|text| Failure::new(StatusCode::FORBIDDEN, text));
            }
        };
        let given = bearer(request.headers());
        let is_it = |token: &String| given.is_some_and(|given| is_same(given, token.as_bytes()));
        if token.is_some_and(is_it) {
            return Ok(());
        }
        let text = format!("the header `Authorization: Bearer` with {which} is required");
        Err(Failure::new(StatusCode::UNAUTHORIZED, text))
    }
}

fn check_loopback<B>(request: &Request<B>) -> Result<(), &'static str> {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        return Err("without a token, the peer's address must be known: serve the router with \
            `into_make_service_with_connect_info::<SocketAddr>()`");
    };
    if !is_loopback(peer.ip()) {
        return Err("without a token, requests must come from this machine");
    }
    let headers = request.headers();
    if PROXIED.iter().any(|name| headers.contains_key(*name)) {
        return Err("without a token, requests must not come through a proxy");
    }
    if !asks_for_loopback(request) {
        return Err(
            "without a token, the request's host must be `localhost` or a loopback address",
        );
    }
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && !headers.contains_key(REQUEST_HEADER) {
        return Err("without a token, the header `x-lookback` is required, with any value");
    }
    Ok(())
}

/// Whether every host that the request names is this machine.
fn asks_for_loopback<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return false;
    }
    let host = match host.map(|host| Authority::try_from(host.as_bytes())) {
        Some(Err(_)) => return false,
        Some(Ok(host)) => Some(host),
        None => None,
    };
    let mut named = host.iter().chain(request.uri().authority()).peekable();
    named.peek().is_some() && named.all(is_loopback_name)
}

fn is_loopback_name(authority: &Authority) -> bool {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_name = bare.eq_ignore_ascii_case("localhost");
    !authority.as_str().contains('@') && (is_name || bare.parse().is_ok_and(is_loopback))
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// The token of a request, if it has one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let value = all.next().filter(|_| all.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Whether both are equal, in constant time: it depends on their lengths, not on where they differ.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differ = |so_far: u8, (a, b): (&u8, &u8)| black_box(so_far | (a ^ b));
    one.len() == other.len() && one.iter().zip(other).fold(0, differ) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        let peer: SocketAddr = "127.0.0.1:5".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    }

    fn host_is_fine(host: &str) -> bool {
        Access::Loopback.check(&request(Method::GET, "/", &[("host", host)])).is_ok()
    }

    #[test]
    fn without_a_token_only_loopback_names_are_answered() {
        let fine =
            ["localhost", "LOCALHOST:80", "127.0.0.1", "127.1.2.3:9100", "[::1]", "[::1]:9100"];
        fine.iter().for_each(|host| assert!(host_is_fine(host), "{host}"));
        let wrong = [
            "",
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
            "evil@localhost",
            "0.0.0.0",
            "[::]",
            "10.0.0.1",
            "::1",
            "a b",
            "2130706433",
            "[::ffff:10.0.0.1]",
        ];
        wrong.iter().for_each(|host| assert!(!host_is_fine(host), "{host}"));
        let check = |uri: &str, headers: &[(&str, &str)]| {
            Access::Loopback.check(&request(Method::GET, uri, headers)).is_ok()
        };
        assert!(!check("/", &[]), "none");
        assert!(!check("/", &[("host", "localhost"), ("host", "localhost")]), "two");
        assert!(check("http://localhost/", &[]), "as HTTP/2 has it");
        assert!(!check("http://evil.example/", &[("host", "localhost")]));
        assert!(!check("http://localhost/", &[("host", "evil.example")]));
        PROXIED.iter().for_each(|name| {
            assert!(!check("/", &[("host", "localhost"), (name, "x")]), "{name}");
        });
    }

    #[test]
    fn without_a_token_who_asks_must_be_on_this_machine_and_known() {
        let mut request = request(Method::GET, "/", &[("host", "localhost")]);
        for (peer, fine) in [("127.0.0.1:1", true), ("[::1]:1", true), ("10.0.0.1:1", false)] {
            let peer: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
            assert_eq!(Access::Loopback.check(&request).is_ok(), fine, "{peer}");
        }
        request.extensions_mut().clear();
        assert!(Access::Loopback.check(&request).is_err());
    }

    #[test]
    fn without_a_token_what_changes_something_needs_the_header() {
        let check = |headers: &[(&str, &str)]| {
            Access::Loopback.check(&request(Method::POST, "/", headers)).is_ok()
        };
        assert!(!check(&[("host", "localhost")]));
        assert!(check(&[("host", "localhost"), (REQUEST_HEADER, "")]));
    }

    #[test]
    fn a_token_must_be_the_same() {
        let address: SocketAddr = "0.0.0.0:1".parse().unwrap();
        let access = Access::new(Asked::Token("0123456789abcdef".to_owned()), address).unwrap();
        let check = |values: &[&str]| {
            let headers: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
            access.check(&request(Method::POST, "/", &headers)).is_ok()
        };
        assert!(check(&["Bearer 0123456789abcdef"]) && check(&["bearer 0123456789abcdef"]));
        let wrong: [&[&str]; 7] = [
            &[],
            &["0123456789abcdef"],
            &["Bearer "],
            &["Bearer 0123456789abcdeF"],
            &["Bearer 0123456789abcdef0"],
            &["Basic 0123456789abcdef"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ];
        wrong.iter().for_each(|values| assert!(!check(values), "{values:?}"));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_shown() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        for wrong in ["", "hunter2", "hunter2 hunter2 hunter2", "hünter2hünter2hünter2"] {
            let error =
                Access::new(Asked::Token(wrong.to_owned()), address).unwrap_err().to_string();
            assert!(error.starts_with("token = (") && !error.contains("nter2"), "{error}");
        }
    }
}
