//! The runtime that serves the shop, and its connections: each is a recorded task.

use super::shop::{Shop, router};
use anyhow::Context;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// How many workers the runtime has.
pub const WORKERS: usize = 4;
/// How long shutting down may take: as long as the fault.
const LONGEST_END: Duration = Duration::from_secs(15);

/// A server that listens, and serves once there is a shop.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

/// A running server, until it is closed.
pub struct Serving {
    runtime: Runtime,
}

impl Server {
    /// Listens on a free port of this machine alone.
    pub fn bind() -> anyhow::Result<Self> {
        let threads = AtomicUsize::new(0);
        let mut builder = Builder::new_multi_thread();
        builder
            .worker_threads(WORKERS)
            .thread_name_fn(move || format!("shop-{}", threads.fetch_add(1, Relaxed) + 1))
            .enable_all();
        // The builder has no hooks yet, so none is replaced.
        let _ = lookback::tokio::instrument(&mut builder);
        let runtime = builder.build().context("cannot start the server's threads")?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?;
        Ok(Self { runtime, listener, address })
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens the shop, and serves it on the runtime's workers.
    pub fn serve(self, open: impl FnOnce() -> Arc<Shop>) -> Serving {
        let Self { runtime, listener, .. } = self;
        {
            let _inside = runtime.enter();
            lookback::spawn(accept_connections(listener, router(open())));
        }
        Serving { runtime }
    }
}

impl Serving {
    /// Shuts down after the workers' current polls.
    pub fn close(self) {
        self.runtime.shutdown_timeout(LONGEST_END);
    }
}

async fn accept_connections(listener: TcpListener, router: Router) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                tracing::debug!(%client, "connected");
                lookback::spawn(serve_connection(stream, router.clone()));
            }
            Err(error) => {
                // Too many open files, for instance; other connections may close.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// All requests of one client, one after the other.
async fn serve_connection(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "the client is gone");
    }
}
