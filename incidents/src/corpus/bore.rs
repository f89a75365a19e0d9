//! bore: a tunnel, whose server hands connections over to a client in a map.

use crate::incident::Capture::Outside;
use crate::incident::Name::{Line, Words};
use crate::incident::{Incident, Truth};
use crate::load::{Traffic, connect, slow_service};
use crate::scene::{Scene, free_port};
use crate::services::{Half, Service};
use anyhow::Context;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The server.
pub const SERVER: Service = Service {
    package: "bore-cli",
    version: Some("0.6.0"),
    binary: "bore",
    arguments: &["server", "--bind-addr", "127.0.0.1"],
    port: Some(7835),
    config: None,
    features: &[],
    prepare: None,
    half: Half::Open,
};

/// The incidents.
pub static INCIDENTS: &[Incident] = &[
    Incident {
        name: "bore_healthy",
        service: &SERVER,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            let tunnel = tunnel(scene, slow_service(MS)?)?;
            scene.keep(traffic(tunnel));
            wait(5.0)
        },
        truth: Truth {
            story: "Nothing is wrong: 4 clients connect, ask and are answered.",
            names: &[],
            never: &[],
        },
    },
    Incident {
        name: "bore_guard_across_await",
        service: &SERVER,
        fault: "guard",
        env: &[],
        capture: Outside,
        load: |scene| {
            let tunnel = tunnel(scene, slow_service(MS * 3000)?)?;
            scene.keep(traffic(tunnel));
            scene.keep(traffic(tunnel));
            scene.keep(traffic(tunnel));
            wait(5.0)
        },
        truth: Truth {
            story: "A guard of a DashMap is held across the await that serves a connection; all workers wait for the shard.",
            names: &[&[Line("src/server.rs", "truth: guard"), Words("dashmap")]],
            never: &[],
        },
    },
];

const MS: Duration = Duration::from_millis(1);

fn wait(seconds: f64) -> anyhow::Result<()> {
    thread::sleep(Duration::from_secs_f64(seconds));
    Ok(())
}

/// Starts a client that offers a service through the server; where it is offered.
fn tunnel(scene: &mut Scene, service: SocketAddr) -> anyhow::Result<SocketAddr> {
    let port = free_port()?;
    let executable = scene.executable();
    let mut client = Command::new(executable);
    client
        .args(["local", "--to", "127.0.0.1", "--local-host", "127.0.0.1"])
        .arg("--port")
        .arg(port.to_string());
    client.arg(service.port().to_string()).env("LOOKBACK_ENABLED", "off");
    scene.companion(&mut client)?;
    let tunnel = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    scene.until("the tunnel listens", |_| Ok(connect(tunnel).is_ok()))?;
    Ok(tunnel)
}

/// Four clients, with a connection for each question.
fn traffic(tunnel: SocketAddr) -> Traffic {
    Traffic::start(
        4,
        MS * 20,
        || Ok(()),
        move |(), _| {
            let mut stream = connect(tunnel)?;
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0]).context("no answer")
        },
    )
}
