//! The router `/debug/lookback`: what the recorder says of itself, and its snapshots.

mod access;
mod answer;
mod file;
mod limited;
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
use answer::{Failure, json, unblocked};
use file::FileBody;
use http::{HeaderValue, Request, StatusCode, header};
use limited::Limited;
use lookback_recorder::integration::{open_snapshot, snapshots};
use lookback_recorder::{Armed, Error, Trigger, is_recording};
use percent_encoding::percent_decode_str;
use serde_json::json;
use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const PATH: &str = "/debug/lookback";
/// How long who asks for a snapshot waits for it; after that, its name is all that can be told.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many connections a server of its own has at a time.
const MOST_CONNECTIONS: usize = 64;
/// The longest reason that is taken, in characters.
const LONGEST_REASON: usize = 500;

/// Serves what the recorder says of itself, and its snapshots, below `/debug/lookback`:
///
/// | request | answer |
/// |---|---|
/// | `GET /debug/lookback` | what is recorded, what was lost, which triggers there are |
/// | `GET /debug/lookback/snapshots` | which snapshots lie in the snapshot directory, newest first |
/// | `GET /debug/lookback/snapshots/{name}` | one of them |
/// | `POST /debug/lookback/snapshots?reason=…` | takes one now, and says its name |
///
/// Answers are JSON, snapshots apart; those that say no are `{"error": "…"}`.
///
/// A snapshot tells a lot about a service, so not everybody may have it: every request needs a token, in its
/// header `Authorization: Bearer …`. Either you [set one](Self::token). Or one is made: it is kept in the file
/// `debug-lookback.token` of the snapshot directory, which nobody but the service's user can read, and whose path
/// is said on the standard error. Then the address must be a loopback one. Who knows that nobody but him can reach
/// that address, and no proxy leads there, can do [without a token](Self::trust_loopback).
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
    /// With a token that is made and kept in the snapshot directory, and for loopback addresses alone.
    pub fn new() -> Self {
        let trigger = Trigger::named("http").cool_down(Duration::from_secs(1)).per_hour(120);
        Self { asked: Asked::default(), trigger }
    }

    /// Every request must have this token: 16 to 1000 visible ASCII characters, as secret as they can
    /// be.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.asked = Asked::Token(token.into());
        self
    }

    /// No token is needed: everybody on this machine may ask.
    ///
    /// The address must be a loopback one, and so must be the peer and the name that it asks for (a browser can be
    /// made to ask for another one that leads here), and who asks for a snapshot must send the header
    /// [`x-lookback`](REQUEST_HEADER), which a page of somebody else cannot make a browser send. What has a header
    /// of a proxy is refused; but a proxy on this machine that adds none, and that names the host as it is
    /// configured to, looks like anybody else: **behind a proxy, this lets in whomever that lets in.**
    pub fn trust_loopback(mut self) -> Self {
        self.asked = Asked::Loopback;
        self
    }

    /// Adjusts how often a snapshot can be asked for: once a second, and 120 times an hour, unless set.
    pub fn trigger(mut self, adjust: impl FnOnce(Trigger) -> Trigger) -> Self {
        self.trigger = adjust(self.trigger);
        self
    }

    /// The router, to be merged into one that is served on `address`.
    ///
    /// If [loopback is trusted](Self::trust_loopback) it must also see who asks, however it is served in the end:
    /// with `into_make_service_with_connect_info::<SocketAddr>()`. It refuses every request otherwise.
    ///
    /// # Errors
    /// No token was set, and the address is not a loopback one; or the token is not one.
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

    /// Listens on `address`, and serves nothing but this from then on, on a task of its own: 64
    /// connections at a time. When one more comes, the one that has been still for longest is closed.
    ///
    /// When this returns, the address is listened on: what is refused is an error here, and not in a task
    /// whose result nobody looks at. The address is given back, for one with port 0.
    ///
    /// # Errors
    /// As for [`router`](Self::router), or the address cannot be listened on.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
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

    /// Listens on `address`, and serves nothing but this, as [`start`](Self::start) does, until it fails.
    /// What is refused is also said on the standard error, because the result of a task that this is
    /// spawned on is easily overlooked.
    ///
    /// # Errors
    /// As for [`router`](Self::router), or the address cannot be listened on.
    pub async fn serve(self, address: SocketAddr) -> Result<(), Error> {
        let served = match self.listen(address).await {
            Ok(listener) => self.serve_on(listener).await,
            Err(error) => Err(error),
        };
        served.inspect_err(|error| {
            // A closed standard error is nobody's fault here.
            let _ =
                writeln!(std::io::stderr(), "lookback: nothing is served below {PATH}: {error}");
        })
    }

    async fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        // Refused before anybody could connect.
        Access::refuses(&self.asked, address)?;
        let listener = TcpListener::bind(address).await;
        listener.map_err(|error| {
            let error = std::io::Error::new(error.kind(), format!("{address}: {error}"));
            Error::System { what: "cannot listen", error }
        })
    }

    /// Serves nothing but this on a socket that listens already.
    ///
    /// # Errors
    /// As for [`router`](Self::router).
    pub async fn serve_on(self, listener: TcpListener) -> Result<(), Error> {
        let system = |error| Error::System { what: "cannot serve", error };
        let address = listener.local_addr().map_err(system)?;
        let router = self.router(address)?.fallback(nothing);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        // The tap makes the peer known to the service, which a listener of our own cannot.
        let listener = Limited::new(listener, MOST_CONNECTIONS).tap_io(|_| ());
        ::axum::serve(listener, service).await.map_err(system)
    }
}

/// Lets nobody in who may not, and nothing be kept by who passes answers on.
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
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here")
}

async fn nothing() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("there is nothing here; all is below {PATH}"))
}

async fn list() -> Result<Response, Failure> {
    let all = unblocked(snapshots).await??;
    let each = |snapshot: &lookback_recorder::integration::Shelved| json!({ "name": snapshot.name, "bytes": snapshot.bytes, "when": snapshot.when() });
    let all: Vec<_> = all.iter().map(each).collect();
    Ok(json(StatusCode::OK, &json!({ "snapshots": all })))
}

async fn download(name: Result<Path<String>, PathRejection>) -> Result<Response, Failure> {
    let none = || Failure::new(StatusCode::NOT_FOUND, "there is no snapshot of this name");
    let Path(name) = name.map_err(|_| none())?;
    // A quote, say, would end the name in the header.
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
    let reason = reason.unwrap_or_else(|| "asked for over HTTP".to_owned());
    let Some(fired) = trigger.fire(|| reason) else {
        return Err(if is_recording() {
            let text = "one was taken just now, or often enough in this hour";
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
        Some(Err(error)) => return Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error)),
        None => json(StatusCode::ACCEPTED, &json!({ "name": name, "bytes": null })),
    };
    // From wherever the router is.
    if let Ok(place) = HeaderValue::from_str(&format!("snapshots/{name}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// The reason that a query has, on one line and not too long.
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
