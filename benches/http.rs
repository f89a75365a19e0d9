//! What the HTTP layer costs per request, as a span alone and also as a task.
//!
//! `cargo bench --bench http --features axum`. First the service alone, called without a server: that is the
//! layer's own cost. Then a real server with one kept-open connection, one request after the other: how much
//! of that cost shows in a request's time.

mod common;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use common::{Rounds, header, row};
use lookback::Recorder;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::pin;
use std::task::{Context, Waker};
use tower_service::Service;

const CALLS: u32 = 1_000;
const REQUESTS: u32 = 200;

fn main() {
    println!("a request to a service, which waits once; every ratio is to the bare service");
    header();
    // Without a recorder, the layer does nothing.
    let mut layered = service(app().layer(lookback::axum::layer()));
    let (mut bare, mut again) = (service(app()), service(app()));
    let mut candidates: [(&str, &mut dyn FnMut()); 3] = [
        ("bare", &mut bare),
        ("bare, again", &mut again),
        ("layer, nothing recorded", &mut layered),
    ];
    compare(&mut candidates, CALLS);

    let _recorder = Recorder::builder().start().expect("nothing is recorded yet");
    let mut span = service(app().layer(lookback::axum::layer().no_task()));
    let mut candidates: [(&str, &mut dyn FnMut()); 3] = [
        ("bare, recording", &mut bare),
        ("layer, span alone", &mut span),
        ("layer, span and task", &mut layered),
    ];
    compare(&mut candidates, CALLS);

    println!("\na request to a real server over loopback");
    header();
    let (mut bare, mut again) = (client(app()), client(app()));
    let mut span = client(app().layer(lookback::axum::layer().no_task()));
    let mut layered = client(app().layer(lookback::axum::layer()));
    let mut candidates: [(&str, &mut dyn FnMut()); 4] = [
        ("bare", &mut bare),
        ("bare, again", &mut again),
        ("layer, span alone", &mut span),
        ("layer, span and task", &mut layered),
    ];
    compare(&mut candidates, REQUESTS);
}

fn compare(candidates: &mut [(&str, &mut dyn FnMut())], calls: u32) {
    let costs = Rounds::measure(candidates, calls);
    for ((name, _), cost) in candidates.iter().zip(&costs) {
        row(name, *cost, costs[0]);
    }
}

fn app() -> Router {
    let handler = || async {
        tokio::task::yield_now().await;
        "an item"
    };
    Router::new().route("/items/{id}", get(handler))
}

/// Calls it this many times, in place.
fn service(app: Router) -> impl FnMut() {
    move || {
        for _ in 0..CALLS {
            let request = Request::get("/items/7").body(Body::empty()).expect("a request");
            let mut response = pin!(app.clone().call(request));
            let mut context = Context::from_waker(Waker::noop());
            while response.as_mut().poll(&mut context).is_pending() {}
        }
    }
}

/// A server with a thread of its own, until the process ends.
fn serve(app: Router) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    listener.set_nonblocking(true).expect("a socket can be told that");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            axum::serve(listener, app).await
        })
    });
    address
}

/// Sends a server this many requests, over one connection.
fn client(app: Router) -> impl FnMut() {
    let mut stream = TcpStream::connect(serve(app)).expect("the server listens");
    stream.set_nodelay(true).expect("a socket can be told that");
    move || {
        let mut answer = [0; 1024];
        for _ in 0..REQUESTS {
            stream.write_all(b"GET /items/7 HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is there");
            let length = stream.read(&mut answer).expect("it answers");
            assert!(answer[..length].ends_with(b"an item"));
        }
    }
}
