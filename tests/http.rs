//! HTTP: requests of a real server are spans; failing ones take a snapshot.

mod common;
#[path = "common/http.rs"]
mod server;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};
use common::{alone, wait_for};
use lookback::read::wire::key;
use lookback::read::{Event, EventKind, SpanId, Trace};
use lookback::{Recorder, Trigger};
use server::{Answer, Server, ask, client};
use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tower_service::Service;

const TRACE_PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn start(directory: &Path) -> Recorder {
    Recorder::builder()
        .max_bytes(4 << 20)
        .window(Duration::from_secs(3600))
        .name("http")
        .snapshot_dir(directory)
        .start()
        .expect("a recorder starts")
}

/// Spans and logs in words.
fn words(trace: &Trace) -> Vec<String> {
    let mut names: HashMap<SpanId, String> = HashMap::new();
    let mut said = Vec::new();
    for event in common::events(trace) {
        let name = |span: SpanId, names: &HashMap<SpanId, String>| names[&span].clone();
        let line = match event.kind() {
            EventKind::SpanCreate { span, site, parent } => {
                names.insert(span, site.name.to_owned());
                let parent = parent.map(|parent| format!(" in {}", name(parent, &names)));
                format!("create {}{}", site.name, parent.unwrap_or_default())
            }
            EventKind::SpanEnter { span } => format!("enter {}", name(span, &names)),
            EventKind::SpanExit { span } => format!("exit {}", name(span, &names)),
            EventKind::SpanClose { span } => format!("close {}", name(span, &names)),
            EventKind::SpanRecord { span } => format!("record {}", name(span, &names)),
            EventKind::Log { message, .. } => {
                let span = event.span().map(|span| format!(" in {}", name(span, &names)));
                format!("{}{}", &*message, span.unwrap_or_default())
            }
            _ if event.name() == "trigger" => {
                let span = event.span().map(|span| format!(" in {}", name(span, &names)));
                format!("trigger{}", span.unwrap_or_default())
            }
            _ => continue,
        };
        said.push(format!("{line}{}", fields(&event)));
    }
    said
}

fn fields(event: &Event) -> String {
    let own = ["level", "message", "span", "parent", "name", "reason", "file"];
    let fields = event.fields().filter(|(name, _)| !own.contains(name));
    fields.map(|(name, value)| format!(" {name}={value}")).collect()
}

/// Waits until the trace contains this, and returns everything it contains.
fn said(recorder: &Recorder, line: &str) -> Vec<String> {
    let mut all = Vec::new();
    let found = wait_for(|| {
        all = words(&common::read(&recorder.snapshot().expect("a snapshot")));
        all.iter().any(|said| said == line)
    });
    assert!(found, "{line} in {all:#?}");
    all
}

/// Waits for the snapshot that a response names, and reads it.
fn snapshot_of(answer: &Answer, directory: &Path) -> Trace {
    let name = answer.header(lookback::axum::SNAPSHOT_HEADER).expect("a snapshot was taken");
    assert!(wait_for(|| directory.join(name).exists()), "{name}");
    let trace = Trace::open(directory.join(name)).expect("it can be read");
    common::assert_sound(&trace);
    trace
}

fn told(trace: &Trace) -> (&str, &str) {
    let text = |name| trace.metadata().text(name).expect("it is there");
    (text(key::TRIGGER), text(key::REASON))
}

#[test]
fn a_handler_that_blocks_its_worker_is_a_stall() {
    alone("a_handler_that_blocks_its_worker_is_a_stall", || {
        let place = tempfile::tempdir().unwrap();
        let builder = Recorder::builder().name("http").snapshot_dir(place.path());
        let stalled = Trigger::stalled_poll(Duration::from_millis(10));
        let recorder = builder.trigger(stalled).start().unwrap();
        let directory = place.path().to_owned();
        let handler = move || async move {
            let names = || directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
            let is_stall =
                |name: std::ffi::OsString| name.to_string_lossy().ends_with("-stalled_poll.lbk");
            assert!(wait_for(|| names().any(is_stall)));
        };
        let app = Router::new().route("/", get(handler));
        let server = Server::start(app.layer(lookback::axum::layer()));
        assert_eq!(ask(client().get(server.url("/"))).status, 200);
        drop(server);
        common::stop(recorder);
    });
}

#[test]
fn a_request_is_a_task_unless_that_is_not_wanted() {
    alone("a_request_is_a_task_unless_that_is_not_wanted", || {
        let place = tempfile::tempdir().unwrap();
        let handler = || async {
            tokio::task::yield_now().await;
            "done"
        };
        let with = Router::new().route("/with", get(handler)).layer(lookback::axum::layer());
        let without = lookback::axum::layer().no_task();
        let without = Router::new().route("/without", get(handler)).layer(without);
        let server = Server::start(with.merge(without));
        let recorder = start(place.path());
        for path in ["/with", "/without"] {
            assert_eq!(ask(client().get(server.url(path))).status, 200);
        }
        let mut all = Vec::new();
        let over = wait_for(|| {
            all.clear();
            for event in common::events(&common::read(&recorder.snapshot().unwrap())) {
                all.extend(match event.kind() {
                    EventKind::TaskCreate { site, .. } => Some(format!("create {}", site.name)),
                    EventKind::TaskPoll { .. } => Some("poll".into()),
                    EventKind::TaskPending { .. } => Some("pending".into()),
                    EventKind::TaskReady { .. } => Some("ready".into()),
                    _ => None,
                });
            }
            all.iter().any(|said| said == "ready")
        });
        assert!(over, "{all:?}");
        assert_eq!(all, ["create request", "poll", "pending", "poll", "ready"]);
        drop(server);
        common::stop(recorder);
    });
}

/// Inside a recorded task, as on a runtime that records all of its own, however a request ends.
#[test]
fn a_request_inside_of_a_recorded_task_is_exported_soundly() {
    alone("a_request_inside_of_a_recorded_task_is_exported_soundly", || {
        use axum::body::Body;
        use axum::http::Request;
        use futures::FutureExt;
        use lookback::RecordExt;
        use std::panic::AssertUnwindSafe;
        let place = tempfile::tempdir().unwrap();
        let app = Router::new()
            .route("/done", get(|| async { tokio::task::yield_now().await }))
            .route("/never", get(std::future::pending::<()>))
            .route(
                "/panics",
                get(|| async {
                    if true {
                        panic!("this is meant")
                    }
                }),
            )
            .layer(lookback::axum::layer());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let ask = |path: &'static str| {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let limit = Duration::from_millis(5);
            let answer = AssertUnwindSafe(app.clone().call(request)).catch_unwind();
            async move { tokio::time::timeout(limit, answer).await.is_ok() }.recorded("connection")
        };
        let all = || async { (ask("/done").await, ask("/never").await, ask("/panics").await) };
        let recorder = start(place.path());
        assert_eq!(runtime.block_on(all()), (true, false, true));
        // The recording ends in the middle of one request, and begins in the middle of another.
        let unfinished = ask("/never");
        let mut unfinished = std::pin::pin!(unfinished);
        assert!(runtime.block_on(async { unfinished.as_mut().now_or_never() }).is_none());
        let before = common::stop(recorder);
        let unseen = ask("/never");
        let mut unseen = std::pin::pin!(unseen);
        assert!(runtime.block_on(async { unseen.as_mut().now_or_never() }).is_none());
        let recorder = start(place.path());
        assert_eq!(runtime.block_on(async { (unfinished.await, unseen.await) }), (false, false));
        assert_eq!(runtime.block_on(all()), (true, false, true));
        let after = common::stop(recorder);
        for trace in [before, after] {
            common::assert_sound(&trace);
            let mut go = Vec::new();
            lookback::read::export::go::export(&trace, &mut go).expect("memory takes it");
            assert!(!go.is_empty());
        }
    });
}

#[test]
fn a_request_is_a_span_around_what_it_does() {
    alone("a_request_is_a_span_around_what_it_does", || {
        let place = tempfile::tempdir().unwrap();
        tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
        let handler = || async {
            tracing::info!("begun");
            let work = tracing::info_span!("work", step = 1);
            work.in_scope(|| tracing::info!("working"));
            drop(work);
            tokio::task::yield_now().await;
            "done"
        };
        let app = Router::new().route("/items/{id}", get(handler)).layer(lookback::axum::layer());
        let server = Server::start(app);
        // Nothing is recorded yet, and that is fine.
        assert_eq!(ask(client().get(server.url("/items/1"))).status, 200);
        let recorder = start(place.path());
        assert_eq!(ask(client().get(server.url("/items/7?token=hunter2"))).status, 200);
        let delete = client().delete(server.url("/nowhere"));
        assert_eq!(ask(delete).status, 404);
        drop(server);
        let trace = common::stop(recorder);
        let expected = [
            "create request method=GET route=/items/{id} path=/items/7",
            "enter request",
            "exit request",
            "enter request",
            "begun in request",
            "create work in request step=1",
            "enter work",
            "working in work",
            "exit work",
            "close work",
            "exit request",
            "enter request",
            "record request status=200",
            "exit request",
            "close request",
            "create request method=DELETE path=/nowhere",
            "enter request",
            "exit request",
            "enter request",
            "record request status=404",
            "exit request",
            "close request",
        ];
        assert_eq!(words(&trace), expected);
    });
}

#[test]
fn requests_at_the_same_time_have_spans_of_their_own() {
    alone("requests_at_the_same_time_have_spans_of_their_own", || {
        let place = tempfile::tempdir().unwrap();
        let registry = tracing_subscriber::layer::SubscriberExt::with(
            tracing_subscriber::registry(),
            lookback::tracing::layer(),
        );
        tracing::subscriber::set_global_default(registry).unwrap();
        let recorder = start(place.path());
        let handler = |uri: axum::http::Uri| async move {
            for _ in 0..20 {
                tracing::info!("{}", uri.path());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let app = Router::new().fallback(any(handler)).layer(lookback::axum::layer());
        let server = Server::start_with(4, app);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let url = server.url(&format!("/{number}"));
                scope.spawn(move || assert_eq!(ask(client().get(url)).status, 200));
            }
        });
        drop(server);
        let trace = common::stop(recorder);
        let mut paths = HashMap::new();
        let mut logs = 0;
        for event in common::events(&trace) {
            match event.kind() {
                EventKind::SpanCreate { span, .. } => {
                    paths.insert(span, common::text(&event, "path").expect("a path").0);
                }
                EventKind::Log { message, .. } => {
                    let span = event.span().expect("it belongs to a request");
                    assert_eq!(paths[&span], message.text);
                    logs += 1;
                }
                _ => {}
            }
        }
        assert_eq!((paths.len(), logs), (8, 160));
    });
}

#[test]
fn a_client_that_goes_away_ends_its_span() {
    alone("a_client_that_goes_away_ends_its_span", || {
        struct Dropped;
        impl Drop for Dropped {
            fn drop(&mut self) {
                lookback::log!("handler", "given up");
            }
        }
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let entered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&entered);
        let handler = move || async move {
            let _dropped = Dropped;
            count.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        };
        let app = Router::new().route("/wait", get(handler)).layer(lookback::axum::layer());
        let server = Server::start(app);
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        assert!(wait_for(|| entered.load(Ordering::SeqCst) == 1));
        drop(stream);
        let words = said(&recorder, "close request");
        let end = ["given up in request", "record request cancelled=true", "exit request"];
        let at = words.iter().position(|line| line == end[0]).expect("it was dropped");
        assert_eq!(words[at..at + 3], end, "{words:#?}");
        drop(server);
        common::stop(recorder);
    });
}

#[test]
fn a_panic_ends_the_span_and_is_told_from_a_client_that_went_away() {
    alone("a_panic_ends_the_span_and_is_told_from_a_client_that_went_away", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        async fn handler() {
            panic!("on purpose");
        }
        let app = Router::new().route("/", get(handler)).layer(lookback::axum::layer());
        let server = Server::start(app);
        assert!(client().get(server.url("/")).call().is_err());
        let words = said(&recorder, "close request");
        assert!(words.contains(&"record request panicked=true".to_owned()), "{words:#?}");
        drop(server);
        common::stop(recorder);
    });
}

#[test]
fn a_server_error_takes_a_snapshot_and_names_it() {
    alone("a_server_error_takes_a_snapshot_and_names_it", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let boom = || async { StatusCode::SERVICE_UNAVAILABLE };
        let other = || async { StatusCode::IM_A_TEAPOT };
        // On two routers, it is still one layer.
        let layer = lookback::axum::layer();
        let one = Router::new().route("/boom/{id}", get(boom)).layer(layer.clone());
        let two = Router::new().route("/boom", get(boom)).route("/tea", get(other)).layer(layer);
        let server = Server::start(one.merge(two));
        let snapshot = |path: &str| {
            let answer = ask(client().get(server.url(path)));
            answer.header(lookback::axum::SNAPSHOT_HEADER).map(str::to_owned)
        };
        assert_eq!(snapshot("/tea"), None);
        let answer = ask(client().get(server.url("/boom/7?key=hunter2")));
        assert_eq!(answer.status, 503);
        let trace = snapshot_of(&answer, place.path());
        assert_eq!(told(&trace), ("server_error", "GET /boom/7: 503 Service Unavailable"));
        assert!(answer.header("x-lookback-snapshot").unwrap().ends_with("-server_error.lbk"));
        assert!(words(&trace).contains(&"trigger in request".to_owned()), "{:#?}", words(&trace));
        let report = lookback::read::analysis::Report::of(&trace);
        // A machine that is short of something is another finding.
        let findings = report.findings();
        assert_eq!(
            findings.iter().find(|one| one.analysis != "system").unwrap().title,
            "1 of 1 spans `request {method=GET route=/boom/{id}}` ended with status 503"
        );
        assert_eq!(snapshot("/boom"), None, "it cools down");
        assert_eq!(recorder.stats().triggers.fired, 1);
        assert_eq!(recorder.stats().triggers.suppressed, 1);
        drop(server);
        common::stop(recorder);
    });
}

#[test]
fn what_fires_and_what_is_told_can_be_chosen() {
    alone("what_fires_and_what_is_told_can_be_chosen", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let boom = || async { StatusCode::INTERNAL_SERVER_ERROR };
        let at_once = |trigger: Trigger| trigger.cool_down(Duration::ZERO).per_hour(2);
        let quiet = lookback::axum::layer().no_server_error();
        let silent = lookback::axum::layer().trigger(at_once).no_header().no_path();
        let loud = lookback::axum::layer().with_query().trigger(at_once);
        let app = Router::new()
            .route("/quiet", get(boom))
            .layer(quiet)
            .merge(Router::new().route("/silent/{id}", get(boom)).layer(silent))
            .merge(Router::new().route("/loud", get(boom)).layer(loud));
        let server = Server::start(app);
        let fired = || recorder.stats().triggers.fired;
        let named = |path: &str| {
            let answer = ask(client().get(server.url(path)));
            assert_eq!(answer.status, 500);
            answer.header(lookback::axum::SNAPSHOT_HEADER).is_some()
        };
        assert!(!named("/quiet") && fired() == 0);
        assert!(!named("/silent/hunter2") && fired() == 1);
        assert!(named("/loud?q=1") && named("/loud?q=2") && fired() == 3);
        assert!(!named("/loud?q=3") && fired() == 3, "twice an hour");
        let words = words(&common::read(&recorder.snapshot().unwrap()));
        let has = |line: &str| words.iter().any(|said| said == line);
        assert!(has("create request method=GET route=/silent/{id}"), "{words:#?}");
        assert!(has("create request method=GET route=/loud path=/loud?q=2"), "{words:#?}");
        drop(server);
        common::stop(recorder);
        let reasons = std::fs::read_dir(place.path()).unwrap().flatten().flat_map(|entry| {
            let trace = Trace::open(entry.path()).unwrap();
            trace.metadata().texts(key::REASON).map(str::to_owned).collect::<Vec<_>>()
        });
        let reasons: Vec<_> = reasons.collect();
        let silent = "GET /silent/{id}: 500 Internal Server Error";
        assert!(reasons.iter().any(|reason| reason == silent), "{reasons:?}");
        assert!(reasons.iter().all(|reason| !reason.contains("hunter2")), "{reasons:?}");
    });
}

#[test]
fn a_slow_response_takes_a_snapshot() {
    alone("a_slow_response_takes_a_snapshot", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let sleep = || tokio::time::sleep(Duration::from_millis(50));
        let at_once = |trigger: Trigger| trigger.cool_down(Duration::ZERO);
        // In this order, too.
        let slow = lookback::axum::layer().trigger(at_once).on_latency(Duration::from_millis(20));
        let patient = lookback::axum::layer().on_latency(Duration::from_secs(3600));
        let app = Router::new()
            .route("/slow", get(sleep))
            .layer(slow)
            .merge(Router::new().route("/patient", get(sleep)).layer(patient));
        let server = Server::start(app);
        let patient = ask(client().get(server.url("/patient")));
        assert_eq!((patient.status, patient.header("x-lookback-snapshot")), (200, None));
        for _ in 0..2 {
            let answer = ask(client().get(server.url("/slow")));
            assert_eq!(answer.status, 200);
            let trace = snapshot_of(&answer, place.path());
            let (trigger, reason) = told(&trace);
            assert_eq!(trigger, "latency");
            assert!(reason.starts_with("GET /slow: took ") && reason.ends_with("more than 20ms"));
        }
        drop(server);
        common::stop(recorder);
    });
}

/// A service that is not an axum router, and fails.
#[derive(Clone)]
struct Failing;

impl Service<http::Request<u8>> for Failing {
    type Response = http::Response<u16>;
    type Error = std::io::Error;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<u8>) -> Self::Future {
        lookback::log!("failing", "called");
        std::future::ready(Err(std::io::Error::other("the other side hung up")))
    }
}

#[test]
fn a_service_that_fails_takes_a_snapshot() {
    alone("a_service_that_fails_takes_a_snapshot", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let mut service = tower_layer::Layer::layer(&lookback::axum::layer(), Failing);
        let request = http::Request::builder().method("PUT").uri("http://there/thing").body(1);
        let called = service.call(request.unwrap());
        let error = futures::executor::block_on(called).expect_err("it fails");
        assert_eq!(error.to_string(), "the other side hung up");
        let expected = [
            "create request method=PUT path=/thing",
            "enter request",
            "called in request",
            "exit request",
            "enter request",
            "record request error=the other side hung up",
            "trigger in request",
            "exit request",
            "close request",
        ];
        assert!(wait_for(|| recorder.stats().triggers.saved == 1));
        let saved = std::fs::read_dir(place.path()).unwrap().flatten().next().unwrap();
        let trace = Trace::open(saved.path()).unwrap();
        assert_eq!(told(&trace), ("server_error", "PUT /thing: the other side hung up"));
        assert_eq!(words(&common::stop(recorder)), expected);
    });
}

#[test]
fn the_trace_parent_is_kept_if_it_is_one() {
    alone("the_trace_parent_is_kept_if_it_is_one", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let app = Router::new().route("/", get(|| async {})).layer(lookback::axum::layer());
        let server = Server::start(app);
        let wrong = TRACE_PARENT.replace('4', "x");
        let long = format!("{TRACE_PARENT}{}", "0".repeat(3000));
        for value in [TRACE_PARENT, &wrong, &long, ""] {
            let request = client().get(server.url("/")).header("traceparent", value);
            let request = request.header("tracestate", "hunter2").header("cookie", "hunter2");
            assert_eq!(ask(request).status, 200);
        }
        drop(server);
        let words = words(&common::stop(recorder));
        let created: Vec<_> = words.iter().filter(|line| line.starts_with("create")).collect();
        let with = format!("create request method=GET route=/ traceparent={TRACE_PARENT} path=/");
        let without = "create request method=GET route=/ path=/";
        assert_eq!(created, [with.as_str(), without, without, without]);
        assert!(words.iter().all(|line| !line.contains("hunter2")));
    });
}
