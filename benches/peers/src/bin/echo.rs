//! An echo service over real TCP on the loopback device, recorded and not recorded: a little work for each
//! request, a task for each connection.
//!
//! `cargo run --release --bin echo -- [--quick] [--rounds N] [--unstable DIR]`
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use lookback_peers::candidates::{Bare, Dial9, Tasks};
use lookback_peers::compare::Comparison;
use lookback_peers::load::Messages;
use lookback_peers::options::Options;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracing::subscriber::set_global_default;
use tracing::{Instrument, debug, info_span};
use tracing_subscriber::prelude::*;

/// The size of a request, and of its answer, in bytes.
const MESSAGE: usize = 64;

const ECHO: Comparison = Comparison {
    program: "echo",
    title: "An echo service",
    request: "64 bytes each way",
    packages: &["tokio", "tracing", "dial9"],
    messages: Messages::Echo(MESSAGE),
    services: SERVICES,
    others: OTHERS,
    unstable: &[("bare", "bare, `tokio_unstable`"), ("dial9", "dial9, `tokio_unstable`")],
};

const SERVICES: &[(&str, &str)] = &[
    ("bare", "bare"),
    ("bare-again", "bare, again"),
    ("bare-spans", "bare, spans in the bare registry"),
    #[cfg(feature = "lookback")]
    ("lookback", "lookback, tasks"),
    #[cfg(feature = "lookback")]
    ("lookback-spans", "lookback, tasks and spans"),
    ("dial9", "dial9, tasks"),
    ("dial9-spans", "dial9, tasks and spans"),
];

/// What counts the heap needs an allocator of its own, so it is another program.
#[cfg(feature = "lookback")]
const OTHERS: &[(&str, &str, &str)] = &[
    ("echo_everything", "everything", "lookback, everything on"),
    ("echo_everything", "everything-spans", "lookback, everything on, and spans"),
];
#[cfg(not(feature = "lookback"))]
const OTHERS: &[(&str, &str, &str)] = &[];

pub(crate) fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    match &options.child {
        None => ECHO.drive(&options),
        Some(name) => run(name),
    }
}

/// Serves until the standard input ends. The first line of the output is the port.
fn run(name: &str) -> Result<()> {
    match name {
        "bare" | "bare-again" => serve(Bare),
        "bare-spans" => {
            set_global_default(tracing_subscriber::registry())?;
            serve(Bare)
        }
        #[cfg(feature = "lookback")]
        "lookback" => serve(lookback_peers::candidates::Lookback::new()),
        #[cfg(feature = "lookback")]
        "lookback-spans" => {
            record_spans()?;
            serve(lookback_peers::candidates::Lookback::new())
        }
        #[cfg(feature = "lookback")]
        "everything" => serve(everything()),
        #[cfg(feature = "lookback")]
        "everything-spans" => {
            record_spans()?;
            serve(everything())
        }
        "dial9" => serve(Dial9::default()),
        "dial9-spans" => {
            let layer = dial9_utils::tracing_layer::Dial9TracingLayer::new();
            set_global_default(tracing_subscriber::registry().with(layer))?;
            serve(Dial9::default())
        }
        _ => bail!("no candidate {name}"),
    }
}

#[cfg(feature = "lookback")]
fn record_spans() -> Result<()> {
    let subscriber = lookback::tracing::subscriber();
    Ok(set_global_default(subscriber.with_max_level(tracing::Level::DEBUG))?)
}

/// What is on by default, stacks of waiting tasks and system counters among it, and 100 samples of each second of
/// processor time; samples of the heap come with the allocator.
#[cfg(feature = "lookback")]
fn everything() -> lookback_peers::candidates::Lookback {
    lookback_peers::candidates::Lookback::new().cpu_samples(100)
}

fn serve<T: Tasks>(tasks: T) -> Result<()> {
    lookback_peers::serving::serve(tasks, accept)
}

async fn accept<T: Tasks>(tasks: T, listener: TcpListener) {
    // Whatever goes wrong, the clients see their connection end, and report it.
    while let Ok((stream, _)) = listener.accept().await {
        drop(tasks.spawn(async move {
            let _ = echo(stream).await;
        }));
    }
}

/// Answers the requests of one connection until it ends. A request is a span with two fields and
/// an event in it; without a subscriber they cost a nanosecond or two.
async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    for request in 0_u64.. {
        stream.read_exact(&mut message).await?;
        let span = info_span!(parent: None, "request", request, bytes = MESSAGE);
        async {
            let checksum = work(&message);
            message[..8].copy_from_slice(&checksum.to_le_bytes());
            debug!(request, checksum, "answered");
            stream.write_all(&message).await
        }
        .instrument(span)
        .await?;
    }
    Ok(())
}

/// A microsecond or so: a checksum over the request, many times.
fn work(message: &[u8]) -> u64 {
    let mut checksum = 0xcbf2_9ce4_8422_2325_u64;
    for _ in 0..16 {
        for byte in message {
            checksum = (checksum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    checksum
}
