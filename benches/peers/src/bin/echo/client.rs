//! The clients: each sends a request, waits for its answer, and sends the next.

use crate::{CONNECTIONS, MESSAGE};
use anyhow::{Context, Result};
use lookback_peers::figures::quantile;
use lookback_peers::report::Report;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

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

/// Loads the service at `port`, which is the process `pid`: requests a second, latencies in
/// nanoseconds, and the processor time of the service in microseconds a request.
pub fn run(port: u16, load: Load, pid: u32) -> Result<Report> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let phase = Arc::new(AtomicU8::new(WARM_UP));
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(tokio::spawn(client(port, Arc::clone(&phase))));
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

/// One connection, until the phase says that it is over: its latencies.
async fn client(port: u16, phase: Arc<AtomicU8>) -> std::io::Result<Vec<f64>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let mut latencies = Vec::with_capacity(1 << 15);
    let mut message = [7; MESSAGE];
    loop {
        let began = Instant::now();
        stream.write_all(&message).await?;
        stream.read_exact(&mut message).await?;
        match phase.load(Ordering::Relaxed) {
            WARM_UP => (),
            MEASURED => latencies.push(began.elapsed().as_nanos() as f64),
            _ => return Ok(latencies),
        }
    }
}

/// How long all threads of a process have run, or none where the system does not tell.
fn processor_time(pid: u32) -> Option<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = thread.ok()?.path().join("schedstat");
        let text = std::fs::read_to_string(path).ok()?;
        nanos += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(nanos))
}
