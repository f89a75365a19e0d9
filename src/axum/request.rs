//! A recorded request: its span, and the outcome that is recorded at its end.

use super::layer::{SNAPSHOT_HEADER, Settings};
use super::{grpc, trace_parent};
use ::axum::extract::MatchedPath;
use http::{HeaderValue, Method, Request, Response, Uri};
use lookback_recorder::integration::{FieldBuf, Fields, Site, span};
use lookback_recorder::{Armed, Fired, Level, is_recording};
use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The span of every request.
static REQUEST: Site = Site::of_callsite(
    "request",
    &[
        "method",
        "route",
        "traceparent",
        "path",
        "status",
        "error",
        "cancelled",
        "panicked",
        "deadline_ms",
        "grpc_status",
    ],
    (file!(), line!()),
    "lookback::axum",
    Level::Info,
);
const METHOD: usize = 0;
const ROUTE: usize = 1;
const TRACE_PARENT: usize = 2;
const PATH: usize = 3;
const STATUS: usize = 4;
const ERROR: usize = 5;
const CANCELLED: usize = 6;
const PANICKED: usize = 7;
const DEADLINE: usize = 8;
const GRPC_STATUS: usize = 9;

/// A request in progress. Its span ends when this is dropped.
#[derive(Debug)]
pub(super) struct Recorded {
    /// The span; 0 if there was no free entry.
    span: span::Name,
    /// If that is of interest.
    began: Option<Instant>,
    panicked: AtomicBool,
    /// Describes the request in the reason of a snapshot.
    method: Method,
    uri: Uri,
    route: Option<MatchedPath>,
    settings: Arc<Settings>,
}

/// While this exists, the thread is inside the request's span.
pub(super) struct Entered<'a>(&'a Recorded);

impl Recorded {
    /// `None` if nothing is recorded.
    pub(super) fn begin<B>(settings: &Arc<Settings>, request: &Request<B>) -> Option<Self> {
        if !is_recording() {
            return None;
        }
        let route = request.extensions().get::<MatchedPath>();
        let mut room = FieldBuf::new();
        let mut fields = Fields::new(&mut room);
        fields.text(METHOD, request.method().as_str());
        if let Some(route) = route {
            fields.text(ROUTE, route.as_str());
        }
        if let Some(value) = trace_parent::of(request.headers()) {
            fields.text(TRACE_PARENT, value);
        }
        if let Some(timeout) = grpc::timeout(request.headers()) {
            fields.unsigned(DEADLINE, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        }
        // Last, because it may be long, and fields after it would not be restated.
        if settings.path {
            fields.text(PATH, path_of(request.uri(), settings.query));
        }
        Some(Self {
            span: span::create(&REQUEST, span::Parent::Current, &fields),
            began: settings.latency.is_some().then(Instant::now),
            panicked: AtomicBool::new(false),
            method: request.method().clone(),
            uri: request.uri().clone(),
            route: route.cloned(),
            settings: Arc::clone(settings),
        })
    }

    pub(super) fn enter(&self) -> Entered<'_> {
        span::enter(self.span);
        Entered(self)
    }

    /// Records the response. Call it inside the span.
    pub(super) fn answered<B>(&self, response: &mut Response<B>) {
        let status = response.status();
        self.record(|fields| fields.unsigned(STATUS, u64::from(status.as_u16())));
        let server_error = self.settings.server_error.as_ref();
        let server_error = server_error.filter(|_| status.is_server_error());
        let failed = server_error.and_then(|armed| self.fire(armed, format_args!("{status}")));
        let Some(fired) = self.fire_if_late().or(failed) else { return };
        if self.settings.header
            && let Ok(name) = HeaderValue::from_str(fired.file_name())
        {
            response.headers_mut().insert(SNAPSHOT_HEADER, name);
        }
    }

    /// Records the outcome of a gRPC call: `None` if its trailers have none.
    pub(super) fn concluded(&self, code: Option<u64>) {
        let Some(code) = code else {
            return self.record(|fields| fields.failure(ERROR, format_args!("no grpc-status")));
        };
        self.record(|fields| fields.unsigned(GRPC_STATUS, code));
        if let Some(armed) = &self.settings.server_error
            && let Some(name) = grpc::server_error(code)
        {
            self.fire(armed, format_args!("grpc-status {code} {name}"));
        }
    }

    /// Records that the service failed without a response. Call it inside the span.
    pub(super) fn failed(&self, error: &impl Display) {
        self.record(|fields| fields.failure(ERROR, format_args!("{error}")));
        if let Some(armed) = &self.settings.server_error {
            self.fire(armed, format_args!("{error}"));
        }
        self.fire_if_late();
    }

    /// Records that there is no response, because the client went away or the handler panicked. Call it
    /// inside the span.
    pub(super) fn given_up(&self) {
        let panicked = self.panicked.load(Ordering::Relaxed);
        self.record(|fields| fields.flag(if panicked { PANICKED } else { CANCELLED }, true));
        self.fire_if_late();
    }

    fn record(&self, add: impl FnOnce(&mut Fields<'_>)) {
        let mut room = FieldBuf::new();
        let mut fields = Fields::new(&mut room);
        add(&mut fields);
        span::record(self.span, &fields);
    }

    fn fire_if_late(&self) -> Option<Fired> {
        let (limit, armed) = self.settings.latency.as_ref()?;
        let took = self.began?.elapsed();
        if took <= *limit {
            return None;
        }
        self.fire(armed, format_args!("took {took:.1?}, more than {limit:?}"))
    }

    fn fire(&self, armed: &Armed, what: fmt::Arguments<'_>) -> Option<Fired> {
        armed.fire(|| {
            let route = self.route.as_ref().map(MatchedPath::as_str);
            let path = match self.settings.path {
                true => path_of(&self.uri, self.settings.query),
                false => route.unwrap_or("(a request)"),
            };
            format!("{} {path}: {what}", self.method)
        })
    }
}

fn path_of(uri: &Uri, query: bool) -> &str {
    match uri.path_and_query() {
        Some(whole) if query => whole.as_str(),
        _ => uri.path(),
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        span::give_up(self.span);
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked.store(true, Ordering::Relaxed);
        }
        span::exit(self.0.span);
    }
}
