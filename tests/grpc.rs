//! gRPC: the outcome of a call follows its body, so its span lasts until then; deadlines and abandoned calls
//! are named.

mod common;

use axum::body::Bytes;
use common::{alone, wait_for};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use lookback::Recorder;
use lookback::read::wire::key;
use lookback::read::{EventKind, Trace};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use tower_service::Service;

/// A body of these frames, which logs the creation of each.
struct Frames(VecDeque<Result<Frame<Bytes>, String>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        lookback::log!(INFO, "test", "frame");
        Poll::Ready(self.0.pop_front())
    }
}

fn data() -> Result<Frame<Bytes>, String> {
    Ok(Frame::data(Bytes::from_static(b"message")))
}

fn trailers(code: &'static str) -> Result<Frame<Bytes>, String> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    Ok(Frame::trailers(trailers))
}

/// Answers with these headers and frames.
struct Server(Vec<(&'static str, &'static str)>, Vec<Result<Frame<Bytes>, String>>);

impl Service<Request<()>> for Server {
    type Response = Response<Frames>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Frames>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let mut response = Response::new(Frames(std::mem::take(&mut self.1).into()));
        for (name, value) in &self.0 {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        ready(Ok(response))
    }
}

const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");

/// Calls the service, and reads this many frames of the body before dropping it. Returns how many there were.
fn call(server: Server, frames: usize) -> usize {
    let mut service = tower_layer::Layer::layer(&lookback::axum::layer().no_task(), server);
    let request = Request::builder().method("POST").uri("http://there/shop.Cart/Add");
    let request = request.header("grpc-timeout", "250m").body(()).unwrap();
    let response = futures::executor::block_on(service.call(request)).unwrap();
    let mut body = Box::pin(response.into_body());
    let next = |body: &mut Pin<Box<lookback::axum::ResponseBody<Frames>>>| {
        futures::executor::block_on(poll_fn(|context| Body::poll_frame(body.as_mut(), context)))
    };
    (0..frames).take_while(|_| next(&mut body).is_some()).count()
}

fn start(directory: &Path) -> Recorder {
    let builder = Recorder::builder().max_bytes(1 << 20).name("grpc");
    builder.snapshot_dir(directory).start().expect("a recorder starts")
}

/// What is recorded about the request after its beginning, and whether logs are inside it.
fn said(trace: &Trace) -> Vec<String> {
    let mut said = Vec::new();
    for event in common::events(trace) {
        let fields = event.fields().map(|(name, value)| format!(" {name}={value}"));
        let fields: String = fields.collect();
        match event.kind() {
            EventKind::SpanCreate { .. } => said.push(format!("create{fields}")),
            EventKind::SpanRecord { .. } => said.push(format!("record{fields}")),
            EventKind::SpanClose { .. } => said.push("close".to_owned()),
            EventKind::Log { .. } if event.span().is_some() => said.push("frame".to_owned()),
            EventKind::Log { .. } => said.push("frame outside".to_owned()),
            _ => {}
        }
    }
    said
}

/// What the trace of one call has after the beginning of the span and its status.
fn told(
    name: &str,
    server: impl FnOnce() -> Server,
    frames: usize,
    snapshots: u64,
    expected: &[&str],
) {
    alone(name, || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        call(server(), frames);
        assert!(wait_for(|| recorder.stats().triggers.saved == snapshots));
        let said = said(&common::stop(recorder));
        assert_eq!(said[0], "create method=POST deadline_ms=250 path=/shop.Cart/Add");
        assert_eq!(said[1], "record status=200");
        assert_eq!(said[2..], *expected);
    });
}

#[test]
fn the_status_in_the_trailers_belongs_to_the_span() {
    let name = "the_status_in_the_trailers_belongs_to_the_span";
    let server = || Server(vec![GRPC], vec![data(), trailers("0")]);
    told(name, server, 9, 0, &["frame", "frame", "record grpc_status=0", "close"]);
}

#[test]
fn a_failure_of_the_server_takes_a_snapshot() {
    alone("a_failure_of_the_server_takes_a_snapshot", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        call(Server(vec![GRPC], vec![trailers("13")]), 9);
        assert!(wait_for(|| recorder.stats().triggers.saved == 1));
        let saved = std::fs::read_dir(place.path()).unwrap().flatten().next().unwrap();
        let trace = Trace::open(saved.path()).unwrap();
        let reason = trace.metadata().text(key::REASON);
        assert_eq!(reason, Some("POST /shop.Cart/Add: grpc-status 13 INTERNAL"));
    });
}

#[test]
fn a_failure_of_the_client_takes_none() {
    let server = || Server(vec![GRPC], vec![trailers("5")]);
    let expected = ["frame", "record grpc_status=5", "close"];
    told("a_failure_of_the_client_takes_none", server, 9, 0, &expected);
}

#[test]
fn a_call_without_a_body_has_its_status_in_the_headers() {
    let server = || Server(vec![GRPC, ("grpc-status", "16")], Vec::new());
    let expected = ["record grpc_status=16", "close", "frame outside"];
    told("a_call_without_a_body_has_its_status_in_the_headers", server, 1, 0, &expected);
}

#[test]
fn a_body_that_is_dropped_before_its_end_is_a_call_that_was_given_up() {
    let name = "a_body_that_is_dropped_before_its_end_is_a_call_that_was_given_up";
    let server = || Server(vec![GRPC], vec![data(), trailers("0")]);
    told(name, server, 1, 0, &["frame", "record cancelled=true", "close"]);
}

#[test]
fn a_body_that_fails_or_says_no_status_is_an_error() {
    let name = "a_body_that_fails_or_says_no_status_is_an_error";
    let server = || Server(vec![GRPC], vec![data()]);
    told(name, server, 9, 0, &["frame", "frame", "record error=no grpc-status", "close"]);
}

#[test]
fn of_other_responses_the_span_ends_with_the_head() {
    let server = || Server(vec![("content-type", "text/plain")], vec![data()]);
    let expected = ["close", "frame outside"];
    told("of_other_responses_the_span_ends_with_the_head", server, 1, 0, &expected);
}
