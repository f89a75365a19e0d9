//! fast-socks5: its example of a server, a proxy with a task for each connection.

use super::{MS, wait};
use crate::incident::Capture::Outside;
use crate::incident::Name::{Line, Words};
use crate::incident::{Incident, Truth};
use crate::load::{Traffic, connect, deaf_service, slow_service};
use crate::scene::Scene;
use crate::services::{Half, Service};
use anyhow::{Context, ensure};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};

/// The server.
pub const SERVICE: Service = Service {
    package: "fast-socks5",
    version: Some("1.0.0"),
    binary: "fast-socks5-server",
    arguments: &["--listen-addr", "127.0.0.1:PORT", "no-auth"],
    port: None,
    config: None,
    features: &[],
    prepare: None,
    half: Half::Hidden,
};

/// The incidents.
pub static INCIDENTS: &[Incident] = &[
    Incident {
        name: "socks_healthy",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene)?;
            wait(5.0)
        },
        truth: Truth {
            story: "Nothing is wrong: 8 clients connect through it, ask and are answered.",
            names: &[],
            never: &[],
        },
    },
    Incident {
        name: "socks_connect_hangs",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene)?;
            wait(3.0)?;
            let (deaf, queued) = deaf_service()?;
            scene.keep(queued);
            let address = scene.address;
            scene.keep(Traffic::start(8, MS * 20, || Ok(()), move |(), _| ask(address, deaf)));
            wait(5.0)
        },
        truth: Truth {
            story: "One of the services that clients go to does not accept. Connecting to it hangs, up to a timeout of 10 s.",
            names: &[&[
                Line("src/util/stream.rs", "match timeout(request_timeout, fut).await {"),
                Line("src/util/stream.rs", "match TcpStream::connect(addr).await {"),
                Line(
                    "src/server.rs",
                    "let outbound = match tcp_connect_with_timeout(addr, request_timeout).await {",
                ),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "socks_names_hang",
        service: &SERVICE,
        fault: "",
        env: &[("RESOLVER", "127.0.0.99")],
        capture: Outside,
        load: |scene| {
            // The server for names is there, and does not answer.
            scene.keep(UdpSocket::bind(("127.0.0.99", 53)).context("only root has port 53")?);
            traffic(scene)?;
            wait(3.0)?;
            let address = scene.address;
            let visit = move |_: &mut (), _| ask_by_name(address, "shop.example");
            scene.keep(Traffic::start(8, MS * 20, || Ok(()), visit));
            wait(4.0)
        },
        truth: Truth {
            story: "The server that is asked for names does not answer. Who connects by a name waits for a blocking thread that \
                    does; who connects by an address does not notice.",
            names: &[&[
                Line(
                    "src/util/target_addr.rs",
                    "let socket_addr = lookup_host((&domain[..], port))",
                ),
                Line(
                    "src/util/target_addr.rs",
                    ".map_err(|err| AddrError::DNSResolutionFailed(err))?",
                ),
                Words("target_addr.rs"),
                Words("getaddrinfo"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "socks_slots_leak",
        service: &SERVICE,
        fault: "slots",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene)?;
            wait(3.0)?;
            // Nobody listens there.
            let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
            for _ in 0..64 {
                ensure!(ask(scene.address, nobody).is_err(), "somebody listens on port 9");
            }
            wait(4.0)
        },
        truth: Truth {
            story: "Who cannot be connected does not give its slot back. When 64 have failed no slot is left, and all \
                    wait for one.",
            names: &[&[
                Line("examples/server.rs", "truth: slots"),
                Line("examples/server.rs", "truth: forgotten"),
            ]],
            never: &["deadlock"],
        },
    },
    Incident {
        name: "socks_audit_lags",
        service: &SERVICE,
        fault: "audit",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene)?;
            wait(6.0)
        },
        truth: Truth {
            story: "What is connected is broadcast to a task that takes 0.3 s for each entry. It lags, and most entries are \
                    lost.",
            names: &[&[
                Line("examples/server.rs", "truth: audit"),
                Line("examples/server.rs", "truth: lost"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "socks_stopped",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene)?;
            wait(3.0)?;
            scene.signal(libc::SIGSTOP)?;
            wait(2.0)?;
            scene.signal(libc::SIGCONT)?;
            wait(1.0)
        },
        truth: Truth {
            story: "The process was stopped from outside for 2 s; then it went on.",
            names: &[&[
                Words("stopped"),
                Words("did not run"),
                Words("suspended"),
                Words("SIGSTOP"),
            ]],
            never: &["deadlock"],
        },
    },
];

/// Eight clients that connect to a service through the proxy, with a connection for each question.
fn traffic(scene: &mut Scene) -> anyhow::Result<()> {
    let (address, service) = (scene.address, slow_service(MS)?);
    scene.keep(Traffic::start(8, MS * 10, || Ok(()), move |(), _| ask(address, service)));
    Ok(())
}

/// Connects to a service through the proxy, and asks it something.
fn ask(proxy: SocketAddr, service: SocketAddr) -> anyhow::Result<()> {
    let mut stream = open(proxy)?;
    let IpAddr::V4(address) = service.ip() else { anyhow::bail!("not an address of version 4") };
    // An address of version 4.
    let mut target = vec![1];
    target.extend(address.octets());
    reach(&mut stream, &target, service.port())?;
    question(&mut stream)
}

/// The same, by the service's name.
fn ask_by_name(proxy: SocketAddr, name: &str) -> anyhow::Result<()> {
    let mut stream = open(proxy)?;
    let mut target = vec![3, u8::try_from(name.len())?];
    target.extend(name.as_bytes());
    reach(&mut stream, &target, 80)?;
    question(&mut stream)
}

/// Connects to the proxy.
fn open(proxy: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = connect(proxy)?;
    // Version 5; one method, which is to ask for nothing.
    stream.write_all(&[5, 1, 0])?;
    stream.read_exact(&mut [0; 2])?;
    Ok(stream)
}

/// Has the proxy connect to a service.
fn reach(stream: &mut TcpStream, target: &[u8], port: u16) -> anyhow::Result<()> {
    let mut message = vec![5, 1, 0];
    message.extend(target);
    message.extend(port.to_be_bytes());
    stream.write_all(&message)?;
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    ensure!(answer[1] == 0, "it cannot be connected");
    Ok(())
}

fn question(stream: &mut TcpStream) -> anyhow::Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0]).context("no answer")
}
