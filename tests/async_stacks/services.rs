//! What tasks of a service wait for: handlers below layers, clients, processes, files, and many futures at once.

use crate::common::alone;
use crate::{Kept, LONG, assert_at_lines, common, once, runtime, socket, spawn, start, waits};
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::http::{Request, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use lookback::RecordExt;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tower::{Layer, Service, ServiceBuilder, ServiceExt};

const FILE: &str = "tests/async_stacks/services.rs";

/// A layer as services write their own: whose future is boxed.
#[derive(Clone)]
struct Own;

#[derive(Clone)]
struct Within<S>(S);

impl<S> Layer<S> for Own {
    type Service = Within<S>;
    fn layer(&self, inner: S) -> Within<S> {
        Within(inner)
    }
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, R> Service<R> for Within<S>
where
    S: Service<R, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Boxed<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(response)
    }
}

async fn handler() -> &'static str {
    stock_of(7).await;
    "never"
}

async fn stock_of(_: u32) {
    waits!("axum handler", tokio::time::sleep(LONG).await);
}

/// A request to a service of hyper, axum and layers of tower, by a client that waits for the answer.
async fn serves(kept: &mut Kept) {
    async fn is_recorded(request: Request<Body>, next: Next) -> Response {
        next.run(request).recorded("axum handler").await
    }
    async fn fails(_: tower::BoxError) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
    let layers = ServiceBuilder::new()
        .layer(axum::middleware::from_fn(is_recorded))
        .layer(HandleErrorLayer::new(fails))
        .timeout(LONG)
        .concurrency_limit(4)
        .layer(Own);
    let service = axum::Router::new().route("/", axum::routing::get(handler)).layer(layers);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, service).await });
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.unwrap();
    kept.push(Box::new(client));
}

/// A service that does not answer for long.
fn slow() -> impl Service<u32, Response = (), Error = Infallible, Future: Send> + Send {
    tower::service_fn(async |_: u32| {
        waits!("tower Buffer", tokio::time::sleep(LONG).await);
        Ok(())
    })
}

async fn asks_through_a_buffer() {
    let buffer = tower::buffer::Buffer::new(slow(), 4);
    let _ = buffer.oneshot(7).await;
}

async fn is_limited() {
    let mut limited = tower::limit::ConcurrencyLimit::new(slow(), 1);
    let _first = limited.ready().await.unwrap().call(1);
    let _ = waits!("tower limit", limited.ready().await);
}

async fn asks_over_http(to: TcpStream) {
    let io = hyper_util::rt::TokioIo::new(to);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(io).await.unwrap();
    spawn("hyper connection", drives(connection));
    let request = Request::get("/").header("host", "here").body(Body::empty()).unwrap();
    let _ = waits!("hyper client", sender.send_request(request).await);
}

async fn drives(connection: impl Future<Output = Result<(), hyper::Error>>) {
    let _ = waits!("hyper connection", connection.await);
}

/// A client of a database that never answers.
async fn asks_a_database(listener: TcpListener) {
    let address = listener.local_addr().unwrap();
    let client = redis::Client::open(format!("redis://{address}/")).unwrap();
    let patient =
        redis::AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let connects = client.get_multiplexed_async_connection_with_config(&patient);
    let _ = waits!("redis", connects.await);
}

async fn waits_for_a_process() {
    // Ends when its input does: with this process.
    let mut child = tokio::process::Command::new("cat")
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let _input = child.stdin.take();
    let _ = waits!("process", child.wait().await);
}

async fn reads_from_a_process() {
    let mut child = tokio::process::Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let _ = waits!("pipe of a process", output.read_u8().await);
}

/// A pipe in the file system that nobody writes to.
async fn reads_a_file(path: std::path::PathBuf) {
    let _ = waits!("fs", tokio::fs::read(path).await);
}

async fn reads_a_unix_socket(mut from: UnixStream) {
    let _ = waits!("UnixStream", from.read_u8().await);
}

async fn receives_a_datagram() {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let _ = waits!("UdpSocket", socket.recv(&mut [0; 8]).await);
}

async fn writes(mut to: TcpStream) {
    let _ = waits!("write_all", to.write_all(&vec![0; 64 << 20]).await);
}

async fn copies(mut from: TcpStream) {
    let _ = waits!("copy", tokio::io::copy(&mut from, &mut tokio::io::sink()).await);
}

async fn waits_for_a_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signal = signal(SignalKind::window_change()).unwrap();
    waits!("signal", signal.recv().await);
}

async fn waits_for_a_value(mut from: watch::Receiver<u32>) {
    let _ = waits!("wait_for", from.wait_for(|value| *value > 7).await);
}

async fn reserves(to: mpsc::Sender<u32>) {
    to.send(1).await.unwrap();
    let _ = waits!("reserve", to.reserve().await);
}

async fn selects_of_several(mut from: mpsc::Receiver<u32>, answer: oneshot::Receiver<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receives = async { waits!("select! of several", from.recv().await) };
    let answered = async { waits!("select! of several", answer.await) };
    let sleeps = async { waits!("select! of several", tokio::time::sleep(LONG).await) };
    let accepts = async { waits!("select! of several", listener.accept().await) };
    tokio::select! { _ = receives => {}, _ = answered => {}, () = sleeps => {}, _ = accepts => {} }
}

/// A stream of adapters, the innermost of which is a function of the test's.
async fn next_of_a_stream(from: mpsc::Receiver<u32>) {
    let received = futures::stream::unfold(from, |mut from| async {
        let number = waits!("stream of adapters", from.recv().await)?;
        Some((number, from))
    });
    let chosen = received.filter(|number| std::future::ready(*number > 7)).map(|number| number + 1);
    let mut pages = Box::pin(chosen.chunks(10));
    pages.next().await;
}

async fn joins_all() {
    let each = |number: u64| async move {
        waits!("join_all", tokio::time::sleep(LONG + std::time::Duration::from_secs(number)).await)
    };
    futures::future::join_all((0..3).map(each)).await;
}

async fn is_an_async_closure() {
    let closure = async |number: u64| {
        let time = LONG + std::time::Duration::from_secs(number);
        waits!("async closure", tokio::time::sleep(time).await)
    };
    closure(1).await;
}

/// As the macro `async_trait` writes it.
trait Stock {
    fn reserve<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = u32> + Send + 'a>>;
}

struct Warehouse(tokio::sync::Semaphore);

impl Stock for Warehouse {
    fn reserve<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = u32> + Send + 'a>> {
        Box::pin(async move {
            let permit = waits!("async trait", self.0.acquire().await);
            name.len() as u32 + u32::from(permit.is_ok())
        })
    }
}

async fn uses_a_trait(stock: Box<dyn Stock + Send + Sync>) {
    stock.reserve("pears").await;
}

async fn spawn_all(kept: &mut Kept, pipe: &std::path::Path) {
    serves(kept).await;
    spawn("tower Buffer", asks_through_a_buffer());
    spawn("tower limit", is_limited());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    spawn("hyper client", asks_over_http(socket(&listener, kept).await));
    spawn("redis", asks_a_database(TcpListener::bind("127.0.0.1:0").await.unwrap()));
    spawn("process", waits_for_a_process());
    spawn("pipe of a process", reads_from_a_process());
    spawn("fs", reads_a_file(pipe.to_owned()));
    let (here, there) = UnixStream::pair().unwrap();
    kept.push(Box::new(there));
    spawn("UnixStream", reads_a_unix_socket(here));
    spawn("UdpSocket", receives_a_datagram());
    spawn("write_all", writes(socket(&listener, kept).await));
    spawn("copy", copies(socket(&listener, kept).await));
    spawn("signal", waits_for_a_signal());
    let (tx, rx) = watch::channel(0);
    kept.push(Box::new(tx));
    spawn("wait_for", waits_for_a_value(rx));
    let (tx, rx) = mpsc::channel(1);
    kept.push(Box::new(rx));
    spawn("reserve", reserves(tx));
    let ((tx, rx), (tell, answer)) = (mpsc::channel(1), oneshot::channel());
    kept.push(Box::new((tx, tell)));
    spawn("select! of several", selects_of_several(rx, answer));
    let (tx, rx) = mpsc::channel(1);
    kept.push(Box::new(tx));
    spawn("stream of adapters", next_of_a_stream(rx));
    spawn("join_all", joins_all());
    spawn("async closure", is_an_async_closure());
    spawn("async trait", uses_a_trait(Box::new(Warehouse(tokio::sync::Semaphore::new(0)))));
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "optimised code of two places may be one, with one line"
)]
fn each_task_of_a_service_waits_at_its_line() {
    alone("services::each_task_of_a_service_waits_at_its_line", || {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let path = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
        // SAFETY: a text with a zero at its end.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let recorder = start();
        let (runtime, mut kept) = (runtime(), Vec::new());
        // Who reads the pipe waits for as long as this is there.
        let _writer = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        runtime.block_on(spawn_all(&mut kept, &pipe));
        let found = once(&recorder, FILE, 21);
        assert_at_lines(&found, &[], &[]);
        // The layer of the timeout waits, too.
        let handler = found["axum handler"][0].iter().find(|chain| !chain.own.is_empty());
        let own: Vec<_> = handler.unwrap().own.iter().map(|(function, _)| &**function).collect();
        assert!(own[0].contains("stock_of") && own[1].contains("handler"), "{own:?}");
        runtime.shutdown_background();
        common::stop(recorder);
    });
}
