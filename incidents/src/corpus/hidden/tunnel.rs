//! rathole: a tunnel. Its server asks a client, over a control channel, for a data channel for each visitor.

use super::{MS, wait};
use crate::incident::Capture::Outside;
use crate::incident::Name::{Line, Words};
use crate::incident::{Incident, Truth};
use crate::load::{Traffic, connect, slow_service};
use crate::scene::{Scene, free_port};
use crate::services::{Half, Service};
use anyhow::{Context, ensure};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The server.
pub const SERVICE: Service = Service {
    package: "rathole",
    version: Some("0.5.0"),
    binary: "rathole",
    arguments: &["--server", "server.toml"],
    port: None,
    config: None,
    features: &["server", "client", "hot-reload"],
    prepare: Some(prepare),
    half: Half::Hidden,
};

/// The incidents.
pub static INCIDENTS: &[Incident] = &[
    Incident {
        name: "tunnel_healthy",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            tunnel(scene)?;
            visits(scene, 4)?;
            wait(5.0)
        },
        truth: Truth {
            story: "Nothing is wrong: 4 visitors connect, ask and are answered.",
            names: &[],
            never: &[],
        },
    },
    Incident {
        name: "tunnel_peer_stopped",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            let client = tunnel(scene)?;
            visits(scene, 4)?;
            wait(2.0)?;
            // SAFETY: a system call without memory; the process is a child that nobody has waited for.
            let stopped = unsafe { libc::kill(client, libc::SIGSTOP) };
            ensure!(stopped == 0, "the client cannot be stopped");
            visits(scene, 16)?;
            wait(4.0)
        },
        truth: Truth {
            story: "The client behind the tunnel is stopped. The server still writes to it, but gets no data channel any more: \
                    who was paired with one of the eight ready ones waits for an answer, all others for a data channel.",
            names: &[&[
                Line("src/server.rs", "if let Some(mut ch) = data_ch_rx.recv().await {"),
                Line("src/server.rs", "let _ = copy_bidirectional(&mut ch, &mut visitor).await;"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "tunnel_reload_storm",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            tunnel(scene)?;
            visits(scene, 4)?;
            wait(2.0)?;
            let storm = Storm::start(scene)?;
            scene.keep(storm);
            wait(3.0)
        },
        truth: Truth {
            story: "Something rewrites the configuration again and again, with another token each time. It is read anew each \
                    time, and the control channel dropped; the client cannot stay connected.",
            names: &[&[
                Words("config_watcher"),
                Words("handle_hot_reload"),
                Words("Rescan the configuration"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "tunnel_lock_across_await",
        service: &SERVICE,
        fault: "audit",
        env: &[("COVERS", "SLOW")],
        capture: Outside,
        load: |scene| {
            tunnel(scene)?;
            visits(scene, 4)?;
            wait(3.0)?;
            client(scene)?;
            wait(2.0)
        },
        truth: Truth {
            story: "A second client connects. The lock over all control channels is held for writing while another service is \
                    asked, which takes 3 s; no data channel can be handed over meanwhile.",
            names: &[&[
                Line("src/server.rs", "truth: audit_lock"),
                Line("src/server.rs", "truth: audit"),
            ]],
            never: &["deadlock"],
        },
    },
    Incident {
        name: "tunnel_shutdown_hangs",
        service: &SERVICE,
        fault: "drain",
        env: &[],
        capture: Outside,
        load: |scene| {
            tunnel(scene)?;
            visits(scene, 4)?;
            wait(3.0)?;
            scene.signal(libc::SIGINT)?;
            wait(3.0)
        },
        truth: Truth {
            story: "It was told to end. It waits for the instance to end before it tells the instance to.",
            names: &[&[Line("src/lib.rs", "truth: drain")]],
            never: &[],
        },
    },
    Incident {
        name: "tunnel_biased_select",
        service: &SERVICE,
        fault: "biased",
        env: &[],
        capture: Outside,
        load: |scene| {
            tunnel(scene)?;
            visits(scene, 4)?;
            wait(2.0)?;
            fs::write(scene.folder.join("server.toml"), {
                let old = fs::read_to_string(scene.folder.join("server.toml"))?;
                format!(
                    "{old}\n[server.services.spare]\nbind_addr = \"127.0.0.1:{}\"\n",
                    free_port()?
                )
            })?;
            wait(3.0)
        },
        truth: Truth {
            story: "After a change of the configuration the channel of changes is closed. The first branch of a biased `select!` \
                    is ready ever after: its task never waits, and accepts no data channel any more.",
            names: &[&[
                Line("src/server.rs", "truth: biased"),
                Line("src/lib.rs", "truth: instance"),
            ]],
            never: &[],
        },
    },
];

/// The server's configuration, with one service.
fn prepare(folder: &Path, port: u16) -> anyhow::Result<()> {
    let text = format!(
        "[server]\nbind_addr = \"127.0.0.1:{port}\"\ndefault_token = \"secret\"\n\n\
         [server.services.shop]\nbind_addr = \"127.0.0.1:{}\"\n",
        free_port()?
    );
    Ok(fs::write(folder.join("server.toml"), text)?)
}

/// Where visitors connect.
fn entrance(scene: &Scene) -> anyhow::Result<SocketAddr> {
    let text = fs::read_to_string(scene.folder.join("server.toml"))?;
    let (_, after) = text.split_once("services.shop").context("there is no service")?;
    let (_, after) = after.split_once("127.0.0.1:").context("it has no port")?;
    let port = after.split('"').next().context("the port ends")?.parse()?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Starts a client, with a service that answers within a millisecond, and waits until visitors get through; its id.
fn tunnel(scene: &mut Scene) -> anyhow::Result<libc::pid_t> {
    let service = slow_service(MS)?;
    let text = format!(
        "[client]\nremote_addr = \"{}\"\ndefault_token = \"secret\"\n\n[client.services.shop]\nlocal_addr = \"{service}\"\n",
        scene.address
    );
    fs::write(scene.folder.join("client.toml"), text)?;
    let pid = client(scene)?;
    let entrance = entrance(scene)?;
    scene.until("the tunnel listens", |_| Ok(visit(entrance).is_ok()))?;
    Ok(pid)
}

/// Starts a client; its id.
fn client(scene: &mut Scene) -> anyhow::Result<libc::pid_t> {
    let mut client = Command::new(scene.executable());
    client.args(["--client", "client.toml"]).current_dir(&scene.folder);
    client.env("LOOKBACK_ENABLED", "off").env("FAULT", "");
    scene.companion(&mut client)
}

fn visit(entrance: SocketAddr) -> anyhow::Result<()> {
    let mut stream = connect(entrance)?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0]).context("no answer")
}

/// Visitors, with a connection for each question.
fn visits(scene: &mut Scene, visitors: u64) -> anyhow::Result<()> {
    let entrance = entrance(scene)?;
    scene.keep(Traffic::start(visitors, MS * 20, || Ok(()), move |(), _| visit(entrance)));
    Ok(())
}

/// Rewrites the configuration again and again, until it is dropped.
struct Storm {
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Storm {
    fn start(scene: &Scene) -> anyhow::Result<Self> {
        let path = scene.folder.join("server.toml");
        let text = fs::read_to_string(&path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = stop.clone();
        let writer = thread::spawn(move || {
            let mut number = 0;
            while !is_over.load(Relaxed) {
                number += 1;
                let _ = fs::write(&path, format!("{text}token = \"{number}\"\n"));
                thread::sleep(Duration::from_millis(1));
            }
        });
        Ok(Self { stop, writer: Some(writer) })
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(writer) = self.writer.take() {
            // It has printed why if it panicked.
            let _ = writer.join();
        }
    }
}
