//! A web service on axum, recorded and not recorded: each request waits four times, for a permit of a pool, for two
//! other tasks, and for a lock.
//!
//! `cargo run --release --bin web -- [--quick] [--rounds N] [--unstable DIR]`
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
#[cfg(feature = "lookback")]
use lookback_peers::candidates::Lookback;
use lookback_peers::candidates::{Bare, Dial9, Tasks};
use lookback_peers::compare::Comparison;
use lookback_peers::load::Messages;
use lookback_peers::options::Options;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

const WEB: Comparison = Comparison {
    program: "web",
    title: "A web service",
    request: "a GET whose handler waits four times",
    packages: &["tokio", "axum", "dial9"],
    messages: Messages::Http("GET /order HTTP/1.1\r\nhost: localhost\r\n\r\n"),
    services: SERVICES,
    others: &[],
    unstable: &[
        ("bare", "bare, `tokio_unstable`"),
        ("dial9", "dial9, `tokio_unstable`"),
        ("dial9-dumps", "dial9, `tokio_unstable`, task dumps"),
    ],
};

const SERVICES: &[(&str, &str)] = &[
    ("bare", "bare"),
    ("bare-again", "bare, again"),
    #[cfg(feature = "lookback")]
    ("lookback-tasks", "lookback, tasks without stacks"),
    #[cfg(feature = "lookback")]
    ("lookback", "lookback"),
    #[cfg(feature = "lookback")]
    ("lookback-100", "lookback, 100 samples a second"),
    #[cfg(feature = "lookback")]
    ("lookback-1000", "lookback, 1,000 samples a second"),
    ("dial9", "dial9"),
];

fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    match &options.child {
        None => WEB.drive(&options),
        Some(name) => run(name),
    }
}

/// Serves until the standard input ends. The first line of the output is the port.
fn run(name: &str) -> Result<()> {
    match name {
        "bare" | "bare-again" => serve(Bare),
        #[cfg(feature = "lookback")]
        "lookback-tasks" => serve(Lookback::new().async_stacks(false)),
        #[cfg(feature = "lookback")]
        "lookback" => serve(Lookback::new()),
        #[cfg(feature = "lookback")]
        "lookback-100" => serve(Lookback::new().cpu_samples(100)),
        #[cfg(feature = "lookback")]
        "lookback-1000" => serve(Lookback::new().cpu_samples(1_000)),
        "dial9" => serve(Dial9::default()),
        "dial9-dumps" => serve(Dial9 { task_dumps: true }),
        _ => bail!("no candidate {name}"),
    }
}

fn serve<T: Tasks>(tasks: T) -> Result<()> {
    lookback_peers::serving::serve(tasks, |tasks, listener| {
        let shop = Arc::new(Shop {
            pool: Semaphore::new(16),
            stock: backend(tasks),
            prices: backend(tasks),
            orders: Mutex::new(0),
        });
        let app = Router::new().route("/order", get(order)).with_state(shop);
        accept(tasks, listener, app)
    })
}

async fn accept<T: Tasks>(tasks: T, listener: TcpListener, app: Router) {
    // Whatever goes wrong, the clients see their connection end, and report it.
    while let Ok((stream, _)) = listener.accept().await {
        drop(tasks.spawn(connection(stream, app.clone())));
    }
}

async fn connection(stream: TcpStream, app: Router) {
    let _ = stream.set_nodelay(true);
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)).await;
}

struct Shop {
    pool: Semaphore,
    stock: mpsc::Sender<Question>,
    prices: mpsc::Sender<Question>,
    orders: Mutex<u64>,
}

type Question = (u64, oneshot::Sender<u64>);

/// A task that answers questions.
fn backend<T: Tasks>(tasks: T) -> mpsc::Sender<Question> {
    let (sender, mut questions) = mpsc::channel::<Question>(64);
    drop(tasks.spawn(async move {
        while let Some((number, answer)) = questions.recv().await {
            let _ = answer.send(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
    }));
    sender
}

async fn order(State(shop): State<Arc<Shop>>) -> String {
    let Ok(_permit) = shop.pool.acquire().await else { return String::new() };
    let stock = ask(&shop.stock, 7).await;
    let price = ask(&shop.prices, stock).await;
    let mut orders = shop.orders.lock().await;
    *orders += 1;
    format!("{:016x} {:016x}", stock, price)
}

async fn ask(backend: &mpsc::Sender<Question>, number: u64) -> u64 {
    let (sender, answer) = oneshot::channel();
    let _ = backend.send((number, sender)).await;
    answer.await.unwrap_or_default()
}
