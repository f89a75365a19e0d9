//! The clients of a service: each sends a request, waits for its answer, and sends the next.
#![forbid(unsafe_code)]

use crate::figures::quantile;
use crate::report::Report;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

/// How many connections there are, each with one request at a time.
pub const CONNECTIONS: usize = 50;

/// What the clients send, and what they get.
#[derive(Clone, Copy, Debug)]
pub enum Messages {
    /// So many bytes each way.
    Echo(usize),
    /// This request, in HTTP/1.1. All its answers are as long as the first.
    Http(&'static str),
}

/// How long to load a service.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// At first, uncounted.
    pub warm_up: Duration,
    /// Then, counted.
    pub measured: Duration,
}

const WARM_UP: u8 = 0;
const MEASURED: u8 = 1;
const ENDED: u8 = 2;

/// Loads the service at `port`, whose process is `pid`: requests a second, latencies in nanoseconds, and the
/// service's processor time in microseconds per request.
///
/// # Errors
///
/// A connection fails, or no request is answered.
pub fn run(messages: Messages, port: u16, load: Load, pid: u32) -> Result<Report> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let phase = Arc::new(AtomicU8::new(WARM_UP));
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(tokio::spawn(client(messages, port, Arc::clone(&phase))));
        }
        tokio::time::sleep(load.warm_up).await;
        let processor = processor_time(pid);
        let began = Instant::now();
        phase.store(MEASURED, Ordering::Relaxed);
        tokio::time::sleep(load.measured).await;
        phase.store(ENDED, Ordering::Relaxed);
        let took = began.elapsed();
        let processor = processor_time(pid).zip(processor).map(|(end, begin)| end - begin);

        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(client.await?.context("a connection")?);
        }
        anyhow::ensure!(!latencies.is_empty(), "no request was answered");
        let requests = latencies.len() as f64;
        let mut report = Report::default();
        report.add("requests", [requests / took.as_secs_f64()]);
        report.add("processor", processor.map(|time| time.as_nanos() as f64 / 1e3 / requests));
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            report.add(name, [quantile(&latencies, share)]);
        }
        Ok(report)
    })
}

/// One connection, until the phase is over: its latencies.
async fn client(messages: Messages, port: u16, phase: Arc<AtomicU8>) -> std::io::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::with_capacity(1 << 15);
    let (request, mut answer) = match messages {
        Messages::Echo(bytes) => (vec![7; bytes], vec![0; bytes]),
        Messages::Http(request) => {
            stream.write_all(request.as_bytes()).await?;
            (request.as_bytes().to_vec(), vec![0; length_of_answer(&mut stream).await?])
        }
    };
    loop {
        let began = Instant::now();
        stream.write_all(&request).await?;
        stream.read_exact(&mut answer).await?;
        match phase.load(Ordering::Relaxed) {
            WARM_UP => (),
            MEASURED => latencies.push(began.elapsed().as_nanos() as f64),
            _ => return Ok(latencies),
        }
    }
}

/// Reads an answer with a `content-length`, and returns how long it is with its head.
async fn length_of_answer(stream: &mut TcpStream) -> std::io::Result<usize> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let body = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok())
        .filter(|_| text.starts_with("http/1.1 200 "))
        .ok_or_else(|| std::io::Error::other(format!("an answer that is not 200: {text}")))?;
    stream.read_exact(&mut vec![0; body]).await?;
    Ok(head.len() + body)
}

/// How long all threads of a process have run; `None` if the system does not tell.
fn processor_time(pid: u32) -> Option<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = thread.ok()?.path().join("schedstat");
        let text = std::fs::read_to_string(path).ok()?;
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanos))
}
