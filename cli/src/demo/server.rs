//! A real HTTP server in front of the shop: one thread accepts, some others serve.

use super::shop::{Answer, Shop};
use anyhow::Context;
use lookback::counter;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope};
use std::time::Instant;
use tiny_http::{Header, Request, Response};

/// How many threads serve requests.
pub const WORKERS: usize = 4;
/// How many requests may wait for one of them.
const QUEUE: usize = 256;

/// The server; its threads run until [`close`](Self::close).
pub struct Server {
    http: tiny_http::Server,
    address: SocketAddr,
    depth: AtomicUsize,
}

/// A request, and since when it has waited.
struct Waiting {
    request: Request,
    number: u64,
    since: Instant,
}

impl Server {
    /// Listens on a free port of this machine alone.
    pub fn bind() -> anyhow::Result<Self> {
        let http = tiny_http::Server::http("127.0.0.1:0")
            .map_err(|error| anyhow::anyhow!("cannot listen on 127.0.0.1: {error}"))?;
        let address = http.server_addr().to_ip().context("the server has no address")?;
        Ok(Self { http, address, depth: AtomicUsize::new(0) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the threads that serve the shop.
    pub fn serve<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        shop: &'scope Shop<'_>,
        queue: &'scope Queue,
    ) -> anyhow::Result<()> {
        // Dropped if not all of them can be started: then those that wait for requests end.
        let sender = queue.sender();
        for number in 1..=WORKERS {
            Builder::new()
                .name(format!("http-{number}"))
                .spawn_scoped(scope, move || self.work(shop, queue))
                .context("no thread for the server")?;
        }
        Builder::new()
            .name("accept".to_owned())
            .spawn_scoped(scope, move || self.accept(sender))
            .context("no thread for the server")?;
        Ok(())
    }

    /// Ends the threads, after what they are at.
    pub fn close(&self) {
        self.http.unblock();
    }

    fn accept(&self, queue: Option<SyncSender<Waiting>>) {
        let Some(queue) = queue else { return };
        let mut number = 0;
        while let Ok(request) = self.http.recv() {
            number += 1;
            counter!("queue_depth", self.depth.fetch_add(1, Relaxed) + 1);
            let waiting = Waiting { request, number, since: Instant::now() };
            if queue.send(waiting).is_err() {
                return;
            }
        }
    }

    fn work(&self, shop: &Shop<'_>, queue: &Queue) {
        while let Some(Waiting { request, number, since }) = queue.next() {
            counter!("queue_depth", self.depth.fetch_sub(1, Relaxed) - 1);
            let method = request.method().to_string();
            let answer = shop.handle(&method, request.url(), number, since.elapsed());
            // The client may be gone; then nobody misses the answer.
            let _ = request.respond(respond(answer));
        }
    }
}

/// The requests that wait for a thread.
pub struct Queue {
    sender: Mutex<Option<SyncSender<Waiting>>>,
    receiver: Mutex<Receiver<Waiting>>,
}

impl Queue {
    pub fn new() -> Self {
        let (sender, receiver) = sync_channel(QUEUE);
        Self { sender: Mutex::new(Some(sender)), receiver: Mutex::new(receiver) }
    }

    /// The sending end, for the one who accepts; the queue ends with it.
    fn sender(&self) -> Option<SyncSender<Waiting>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn next(&self) -> Option<Waiting> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

fn respond(answer: Answer) -> Response<std::io::Cursor<Vec<u8>>> {
    let json = Header::from_bytes("Content-Type", "application/json").expect("it is a header");
    Response::from_string(answer.body).with_status_code(answer.status).with_header(json)
}
