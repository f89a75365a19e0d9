//! The layer: records requests, and takes a snapshot of those that fail.

use super::body::ResponseBody;
use super::request::Recorded;
use super::response::ResponseFuture;
use http::{Request, Response};
use lookback_recorder::{Armed, Trigger};
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The response header that names the snapshot taken because of this response.
pub const SNAPSHOT_HEADER: &str = "x-lookback-snapshot";

/// Makes each request a span: see [`layer`].
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing before it is put onto a service"]
pub struct Layer {
    settings: Settings,
    limits: Limits,
}

/// What is recorded, and what takes a snapshot.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) server_error: Option<Armed>,
    pub(super) latency: Option<(Duration, Armed)>,
    /// If each request is a task, too: where the layer was made.
    pub(super) task: Option<&'static Location<'static>>,
    pub(super) header: bool,
    pub(super) path: bool,
    pub(super) query: bool,
}

/// Adjusts the limits of the triggers.
#[derive(Clone)]
struct Limits(Arc<dyn Fn(Trigger) -> Trigger + Send + Sync>);

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limits")
    }
}

impl Limits {
    fn arm(&self, name: &str) -> Armed {
        (self.0)(Trigger::named(name)).arm()
    }
}

/// A layer that makes each request a span named `request`, and takes a snapshot of those that go wrong.
///
/// The request is also a task of that name, created where this is called. So a handler that blocks its worker
/// is a stalled poll ([`Trigger::stalled_poll`]) and a long poll in a summary, although the server's own
/// tasks are not recorded.
///
/// The span begins when the request comes and ends with its response, before the response's body is
/// sent. Its fields are `method`, `route` (axum's template, such as `/items/{id}`, where the layer is
/// put on with `Router::layer`), `path`, and `traceparent` if the request has a well-formed one; later
/// `status`, or `error` if there is no response because the service failed, `cancelled` if the client
/// went away or gave up, or `panicked`.
///
/// The span of a gRPC call (`content-type: application/grpc`) lasts to the end of the body, and has
/// `grpc_status`, its code; `deadline_ms`, if the client set a timeout; `cancelled`, if the body was dropped
/// before its end. The codes of server failures (2, 4, 12 to 15) fire like a status of 5xx.
///
/// Neither the query nor any other header is recorded.
///
/// While nothing is recorded, the layer does nothing. Add it last, so that it is outermost and the work of
/// other layers is part of the request.
///
/// ```
/// use axum::{Router, routing::get};
/// let app: Router = Router::new()
///     .route("/", get(|| async { "hello" }))
///     .layer(lookback::axum::layer());
/// ```
#[track_caller]
pub fn layer() -> Layer {
    let settings = Settings {
        server_error: None,
        latency: None,
        task: Some(Location::caller()),
        header: true,
        path: true,
        query: false,
    };
    let layer = Layer { settings, limits: Limits(Arc::new(|trigger| trigger)) };
    layer.on_server_error()
}

impl Layer {
    /// Takes a snapshot when the status of a response is 5xx, or when the service fails without a
    /// response. This is on by default. The trigger is called `server_error`.
    pub fn on_server_error(mut self) -> Self {
        self.settings.server_error = Some(self.limits.arm("server_error"));
        self
    }

    /// Takes no snapshot when the server fails.
    pub fn no_server_error(mut self) -> Self {
        self.settings.server_error = None;
        self
    }

    /// Takes a snapshot when a response takes longer than `limit`, not counting its body; also when the
    /// client goes away after that. The trigger is called `latency`.
    pub fn on_latency(mut self, limit: Duration) -> Self {
        self.settings.latency = Some((limit, self.limits.arm("latency")));
        self
    }

    /// Adjusts how often each of the layer's triggers fires: by default at most once in 60 s and 20 times an
    /// hour. Clones of the layer, and all routes with it, share these limits.
    ///
    /// ```
    /// use std::time::Duration;
    /// let layer = lookback::axum::layer()
    ///     .on_latency(Duration::from_secs(1))
    ///     .trigger(|trigger| trigger.cool_down(Duration::from_secs(300)).per_hour(5));
    /// ```
    pub fn trigger(mut self, adjust: impl Fn(Trigger) -> Trigger + Send + Sync + 'static) -> Self {
        self.limits = Limits(Arc::new(adjust));
        if self.settings.server_error.is_some() {
            self = self.on_server_error();
        }
        if let Some((limit, _)) = self.settings.latency {
            self = self.on_latency(limit);
        }
        self
    }

    /// Makes requests spans only, not tasks: for a runtime whose tasks are all recorded anyway.
    pub fn no_task(mut self) -> Self {
        self.settings.task = None;
        self
    }

    /// Leaves the header [`x-lookback-snapshot`](SNAPSHOT_HEADER) out of responses: it tells clients the
    /// process's name and ID.
    pub fn no_header(mut self) -> Self {
        self.settings.header = false;
        self
    }

    /// Records no paths, which may contain secrets; only the route, if there is one.
    pub fn no_path(mut self) -> Self {
        self.settings.path = false;
        self
    }

    /// Records the query, too, as part of the path. Queries often contain secrets.
    pub fn with_query(mut self) -> Self {
        self.settings.query = true;
        self
    }
}

impl<S> tower_layer::Layer<S> for Layer {
    type Service = Service<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Service { inner, settings: Arc::new(self.settings.clone()) }
    }
}

/// A service whose requests are spans, as [`layer`] wraps it.
#[derive(Clone, Debug)]
pub struct Service<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S, B, B2> tower_service::Service<Request<B>> for Service<S>
where
    S: tower_service::Service<Request<B>, Response = Response<B2>>,
    S::Error: fmt::Display,
{
    type Response = Response<ResponseBody<B2>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let recorded = Recorded::begin(&self.settings, &request);
        // Events of the call itself belong to the request, too.
        let entered = recorded.as_ref().map(Recorded::enter);
        let inner = self.inner.call(request);
        drop(entered);
        ResponseFuture::new(inner, recorded, self.settings.task)
    }
}
