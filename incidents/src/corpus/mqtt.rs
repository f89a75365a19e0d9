//! rumqttd: a broker, with a thread for the router and a runtime of one thread for each listener.

use crate::incident::Capture::Outside;
use crate::incident::Name::Line;
use crate::incident::{Incident, Truth};
use crate::load::{Mqtt, Traffic};
use crate::scene::Scene;
use crate::services::{Half, Service};
use std::thread;
use std::time::Duration;

/// The broker.
pub const SERVICE: Service = Service {
    package: "rumqttd",
    version: Some("0.20.0"),
    binary: "rumqttd",
    arguments: &["--quiet", "-v", "--config", "broker.toml"],
    port: None,
    config: Some("broker.toml"),
    features: &[],
    prepare: None,
    half: Half::Open,
};

/// The incidents.
pub static INCIDENTS: &[Incident] = &[
    Incident {
        name: "mqtt_healthy",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(5.0)
        },
        truth: Truth {
            story: "Nothing is wrong: 8 clients publish, 4 read what they do.",
            names: &[],
            never: &[],
        },
    },
    Incident {
        name: "mqtt_blocking_authentication",
        service: &SERVICE,
        fault: "auth",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(5.0)?;
            for client in 0..4 {
                Mqtt::connect(scene.address, &format!("late-{client}"))?;
            }
            wait(0.5)
        },
        truth: Truth {
            story: "Who connects is checked by another service, with a blocking socket in an async function; everybody \
                    on the listener's only thread waits.",
            names: &[&[Line("src/main.rs", "truth: auth")]],
            never: &[],
        },
    },
    Incident {
        name: "mqtt_router_blocked",
        service: &SERVICE,
        fault: "router",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(3.0)?;
            let mut archive = Mqtt::connect(scene.address, "archive")?;
            for _ in 0..2 {
                archive.publish("archive", b"1")?;
            }
            // A client that connects meanwhile waits for the router, and so does the thread of all connections.
            let address = scene.address;
            let late = thread::spawn(move || {
                thread::sleep(Duration::from_millis(100));
                Mqtt::connect(address, "late")
            });
            archive.publish("archive", b"1")?;
            let _ = late.join();
            wait(0.3)
        },
        truth: Truth {
            story: "The router's thread sleeps for 0.7 s when `archive` publishes; a client that connects meanwhile waits \
                    for it in a blocking `recv`, and with it all connections of the listener.",
            names: &[&[Line("src/router/routing.rs", "truth: router")]],
            never: &[],
        },
    },
];

fn wait(seconds: f64) -> anyhow::Result<()> {
    thread::sleep(Duration::from_secs_f64(seconds));
    Ok(())
}

/// Eight clients that publish, and four that read it.
fn traffic(scene: &mut Scene) {
    let address = scene.address;
    let number = || thread::current().id();
    let publish = |client: &mut Mqtt, _| client.publish("news", b"some news");
    let connect = move || Mqtt::connect(address, &format!("publisher {:?}", number()));
    scene.keep(Traffic::start(8, Duration::from_millis(10), connect, publish));
    let connect = move || {
        let mut client = Mqtt::connect(address, &format!("reader {:?}", number()))?;
        client.subscribe("news")?;
        Ok(client)
    };
    scene.keep(Traffic::start(4, Duration::ZERO, connect, |client, _| client.answer()));
}
