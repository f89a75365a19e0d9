//! The runtime that the shop is served on, and its connections: each of them is a recorded task.

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
/// How long its end may take: as long as the fault may.
const LONGEST_END: Duration = Duration::from_secs(15);

/// A server that listens, and serves once there is a shop.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
}

/// A shop that is served, until this is closed.
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
        // The builder has no hooks yet, so there is none that could be left alone.
        let _ = lookback::tokio::instrument(&mut builder);
        let runtime = builder.build().context("no threads for the server")?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.context("cannot listen on 127.0.0.1")?;
        let address = listener.local_addr()?;
        Ok(Self { runtime, listener, address })
    }

    /// Where it listens.
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
    /// Ends it, after what its workers are at.
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
                // Too many files are open, say. Others may close theirs.
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
