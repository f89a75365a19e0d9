//! The router `/debug/lookback`: serves the recorder's status and its snapshots.

mod access;
mod connection_limit;
mod file;
mod reply;
mod status;
mod token_file;

pub use access::REQUEST_HEADER;

use ::axum::Router;
use ::axum::body::Body;
use ::axum::extract::rejection::PathRejection;
use ::axum::extract::{Path, RawQuery, State};
use ::axum::middleware::{self, Next};
use ::axum::response::{IntoResponse, Response};
use ::axum::routing::get;
use ::axum::serve::ListenerExt;
use ::tokio::net::TcpListener;
use access::{Access, Asked};
use connection_limit::Limited;
use file::FileBody;
use http::{HeaderValue, Request, StatusCode, header};
use lookback_recorder::integration::{open_snapshot, snapshots};
use lookback_recorder::{Armed, Error, Trigger, is_recording};
use percent_encoding::percent_decode_str;
use reply::{Failure, json, unblocked};
use serde_json::json;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const PATH: &str = "/debug/lookback";
/// How long a request for a snapshot waits for it; after that, the answer is its name only.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many connections a server of its own has at a time.
const MOST_CONNECTIONS: usize = 64;
/// The longest accepted reason, in characters.
const LONGEST_REASON: usize = 500;

/// Serves the recorder's status and its snapshots below `/debug/lookback`:
///
/// | request | answer |
/// |---|---|
/// | `GET /debug/lookback` | what is recorded, what was lost, which triggers there are |
/// | `GET /debug/lookback/snapshots` | the snapshots in the snapshot directory, newest first |
/// | `GET /debug/lookback/snapshots/{name}` | one of them |
/// | `POST /debug/lookback/snapshots?reason=…` | takes one now, and returns its name |
///
/// Answers are JSON, except snapshots; errors are `{"error": "…"}`.
///
/// A snapshot reveals a lot about a service, so every request needs a token in the header `Authorization:
/// Bearer …`. Either you [set one](Self::token), or one is generated and kept in the file
/// `debug-lookback.token` of the snapshot directory, which only the service's user can read; stderr names its
/// path. A generated token requires a loopback address. If no one else can reach that address and no proxy
/// leads there, you can do [without a token](Self::trust_loopback).
#[must_use = "it is nothing before it is served"]
pub struct Debug {
    asked: Asked,
    trigger: Trigger,
}

impl fmt::Debug for Debug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_set = matches!(self.asked, Asked::Token(_));
        f.debug_struct("Debug").field("token", &is_set).finish_non_exhaustive()
    }
}

impl Default for Debug {
    fn default() -> Self {
        Self::new()
    }
}

impl Debug {
    /// With a generated token in the snapshot directory, for loopback addresses only.
    pub fn new() -> Self {
        let trigger = Trigger::named("http").cool_down(Duration::from_secs(1)).per_hour(120);
        Self { asked: Asked::default(), trigger }
    }

    /// Requires this token of every request: 16 to 1000 visible ASCII characters. Choose it at random.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.asked = Asked::Token(token.into());
        self
    }

    /// Requires no token: every process on this machine may send requests.
    ///
    /// The address must be a loopback one, and so must the peer and the host that it names (DNS can make a
    /// browser use another name for this machine). A request for a snapshot must have the header
    /// [`x-lookback`](REQUEST_HEADER), which a foreign page cannot make a browser send. Requests with a
    /// header of a proxy are refused; but a proxy on this machine that adds none, and names the configured
    /// host, looks like any local client: **behind a proxy, this admits everyone whom the proxy admits.**
    pub fn trust_loopback(mut self) -> Self {
        self.asked = Asked::Loopback;
        self
    }

    /// Adjusts how often a snapshot can be requested: by default once a second, and 120 times an hour.
    pub fn trigger(mut self, adjust: impl FnOnce(Trigger) -> Trigger) -> Self {
        self.trigger = adjust(self.trigger);
        self
    }

    /// The router, to merge into one that is served on `address`.
    ///
    /// If [loopback is trusted](Self::trust_loopback), serve it with
    /// `into_make_service_with_connect_info::<SocketAddr>()`, so that it sees the peer's address. It refuses
    /// every request otherwise.
    ///
    /// # Errors
    /// No token was set, and the address is not a loopback one; or the token is invalid.
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// let address: SocketAddr = "0.0.0.0:9100".parse()?;
    /// let open = lookback::axum::Debug::new().router(address);
    /// assert!(open.unwrap_err().to_string().starts_with("address = 0.0.0.0:9100: without a token"));
    /// let token = std::env::var("DEBUG_TOKEN").unwrap_or("0123456789abcdef".to_owned());
    /// let closed = lookback::axum::Debug::new().token(token).router(address)?;
    /// let app: axum::Router = axum::Router::new().merge(closed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn router(self, address: SocketAddr) -> Result<Router, Error> {
        let access = Arc::new(Access::new(self.asked, address)?);
        Ok(Router::new()
            .route(PATH, get(status::get))
            .route(&format!("{PATH}/snapshots"), get(list).post(take))
            .route(&format!("{PATH}/snapshots/{{name}}"), get(download))
            .method_not_allowed_fallback(not_allowed)
            .route_layer(middleware::from_fn_with_state(access, guard))
            .with_state(self.trigger.arm()))
    }

    /// Listens on `address`, and serves only this, on a task of its own, with at most 64 connections. When
    /// one more arrives, the one that has been idle for longest is closed.
    ///
    /// When this returns, the server listens: a refused address is an error here, not in a task whose result
    /// gets lost. It returns the address, for port 0.
    ///
    /// # Errors
    /// As for [`router`](Self::router), or the address cannot be listened on.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let address = lookback::axum::Debug::new().start("127.0.0.1:0".parse()?).await?;
    /// let taken = lookback::axum::Debug::new().start(address).await.unwrap_err().to_string();
    /// assert!(taken.starts_with(&format!("cannot listen: {address}: ")));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start(self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let listener = self.listen(address).await?;
        let address = listener.local_addr().unwrap_or(address);
        ::tokio::spawn(self.serve_on(listener));
        Ok(address)
    }

    /// Listens on `address`, and serves only this, like [`start`](Self::start), until it fails. Errors are
    /// also printed to stderr, because the result of a spawned task is easily overlooked.
    ///
    /// # Errors
    /// As for [`router`](Self::router), or the address cannot be listened on.
    pub async fn serve(self, address: SocketAddr) -> Result<(), Error> {
        let served = match self.listen(address).await {
            Ok(listener) => self.serve_on(listener).await,
            Err(error) => Err(error),
        };
        served.inspect_err(|error| {
            // A closed stderr is not an error here.
            let _ =
                writeln!(std::io::stderr(), "lookback: nothing is served below {PATH}: {error}");
        })
    }

    async fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        // Refused before any client could connect.
        Access::refuses(&self.asked, address)?;
        let listener = TcpListener::bind(address).await;
        listener.map_err(|error| {
            let error = std::io::Error::new(error.kind(), format!("{address}: {error}"));
            Error::System { what: "cannot listen", error }
        })
    }

    /// Serves only this on a listening socket.
    ///
    /// # Errors
    /// As for [`router`](Self::router).
    pub async fn serve_on(self, listener: TcpListener) -> Result<(), Error> {
        let system = |error| Error::System { what: "cannot serve", error };
        let address = listener.local_addr().map_err(system)?;
        let router = self.router(address)?.fallback(nothing);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        // The tap tells the service the peer, which our own listener cannot.
        let listener = Limited::new(listener, MOST_CONNECTIONS).tap_io(|_| ());
        ::axum::serve(listener, service).await.map_err(system)
    }
}

/// Rejects unauthorized requests and disables caching.
async fn guard(State(access): State<Arc<Access>>, request: Request<Body>, next: Next) -> Response {
    let may = access.ready().await.and_then(|()| access.check(&request));
    let mut response = match may {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn not_allowed() -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this method is not allowed here; use GET, or POST to take a snapshot",
    )
}

async fn nothing() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("nothing is here; everything is below {PATH}"))
}

async fn list() -> Result<Response, Failure> {
    let all = unblocked(snapshots).await??;
    let each = |snapshot: &lookback_recorder::integration::SnapshotFile| json!({ "name": snapshot.name, "bytes": snapshot.bytes, "when": snapshot.when() });
    let all: Vec<_> = all.iter().map(each).collect();
    Ok(json(StatusCode::OK, &json!({ "snapshots": all })))
}

async fn download(name: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let none = || {
        Failure::new(
            StatusCode::NOT_FOUND,
            "no snapshot of this name; GET /debug/lookback/snapshots lists them",
        )
    };
    let Path(name) = name.map_err(|_| none())?;
    // A quote, for instance, would end the name in the header.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    let disposition = match name.chars().all(plain) {
        true => format!("attachment; filename=\"{name}\""),
        false => "attachment".to_owned(),
    };
    let opened = unblocked(move || open_snapshot(&name)).await??;
    let (file, length) = opened.ok_or_else(none)?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((headers, Body::new(FileBody::new(file, length))).into_response())
}

async fn take(
    State(trigger): State<Armed>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let reason = reason_in(query.as_deref().unwrap_or_default());
    let reason = reason.unwrap_or_else(|| "requested over HTTP".to_owned());
    let Some(fired) = trigger.fire(|| reason) else {
        return Err(if is_recording() {
            let text = "a snapshot was taken just now, or the limit for this hour is reached; try again later";
            Failure::new(StatusCode::TOO_MANY_REQUESTS, text)
        } else {
            Error::NotRecording.into()
        });
    };
    let name = fired.file_name().to_owned();
    let saved = unblocked(move || {
        let saved = fired.wait(PATIENCE)?;
        Some(saved.map(|path| std::fs::metadata(path).map_or(0, |metadata| metadata.len())))
    });
    let mut response = match saved.await? {
        Some(Ok(bytes)) => json(StatusCode::CREATED, &json!({ "name": name, "bytes": bytes })),
        Some(Err(error)) => {
            return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
        }
        None => json(StatusCode::ACCEPTED, &json!({ "name": name, "bytes": null })),
    };
    // Relative to wherever the router is mounted.
    if let Ok(place) = HeaderValue::from_str(&format!("snapshots/{name}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// The reason in a query, on one line and not too long.
fn reason_in(query: &str) -> Option<String> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("reason="))?;
    let value = value.replace('+', " ");
    let text = percent_decode_str(&value).decode_utf8_lossy();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().take(LONGEST_REASON).map(plain).collect();
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_and_not_too_long() {
        let reason = |query| reason_in(query).unwrap_or_default();
        assert_eq!(reason("a=b&reason=slow+%26+st%C3%A4dy&c"), "slow & städy");
        assert_eq!(reason("reason=two%0Alines%00"), "two lines");
        assert_eq!(reason("reason=%ff%zz"), "\u{fffd}%zz");
        assert_eq!(reason(&format!("reason={}", "x".repeat(9999))).len(), LONGEST_REASON);
        assert_eq!(
            (reason_in(""), reason_in("reason=%20"), reason_in("unreason=x")),
            (None, None, None)
        );
    }
}
