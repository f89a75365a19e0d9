//! A real server on a real socket, and clients.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use axum::Router;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use ureq::typestate::WithoutBody;
use ureq::{Agent, RequestBuilder};

/// A server on a free port of this machine, until it is dropped.
pub struct Server {
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    /// With one worker, so that everything happens in one order.
    pub fn start(app: Router) -> Self {
        Self::start_with(1, app)
    }

    pub fn start_with(workers: usize, app: Router) -> Self {
        Self::serve(workers, |_| app)
    }

    /// Serves the app that `app` makes for its address.
    pub fn serve(workers: usize, app: impl FnOnce(SocketAddr) -> Router) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(workers).enable_all().build();
        let runtime = runtime.expect("threads for the server");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let service = app(address).into_make_service_with_connect_info::<SocketAddr>();
        runtime.spawn(async move { axum::serve(listener, service).await });
        Self { address, _runtime: runtime }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// A server's answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A client that accepts every status as an answer.
pub fn client() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_idle_connections(0)
        .timeout_global(Some(Duration::from_secs(300)))
        .build();
    Agent::new_with_config(config)
}

/// Sends a request without a body, like a GET.
pub fn ask(request: RequestBuilder<WithoutBody>) -> Answer {
    answer(request.call())
}

/// Reads the whole answer.
pub fn answer(called: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = called.expect("an answer");
    let header = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().iter().map(header).collect(),
        body: response.body_mut().with_config().limit(1 << 30).read_to_vec().expect("a body"),
    }
}

/// Sends raw bytes over a connection of their own, and reads the whole answer.
pub fn raw(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(300))).expect("it can be set");
    stream.write_all(request).expect("it is sent");
    let mut answer = Vec::new();
    // A server that refuses a request may close before it has read everything.
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status line");
    let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
    Answer {
        status: status.parse().expect("a status"),
        headers: lines.filter_map(header).collect(),
        body: answer[end + 4..].to_vec(),
    }
}
