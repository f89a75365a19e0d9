//! mini-redis: a server of Tokio's own making, with one `std` mutex over everything that it stores.

use crate::incident::Capture::{Outside, Run, Trigger};
use crate::incident::Name::{Line, Words};
use crate::incident::{Incident, Truth};
use crate::load::{Redis, Traffic, connect};
use crate::scene::Scene;
use crate::services::{Half, Service};
use std::io::Write;
use std::thread;
use std::time::Duration;

/// The server.
pub const SERVICE: Service = Service {
    package: "mini-redis",
    version: Some("0.4.1"),
    binary: "mini-redis-server",
    arguments: &["--port", "PORT"],
    port: None,
    config: None,
    features: &[],
    prepare: None,
    half: Half::Open,
};

/// The mutex over everything that is stored.
const STATE_IN_SET: crate::incident::Name = Line("src/db.rs", "truth: long_hold_lock");
const SLOW_WRITE: crate::incident::Name =
    Line("src/cmd/subscribe.rs", "make_message_frame(channel_name, msg)).await");

/// The incidents.
pub static INCIDENTS: &[Incident] = &[
    Incident {
        name: "redis_healthy",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(5.0)
        },
        truth: Truth {
            story: "Nothing is wrong: 16 clients get and set keys.",
            names: &[],
            never: &[],
        },
    },
    Incident {
        name: "redis_blocking_io",
        service: &SERVICE,
        fault: "blocking",
        env: &[("LOOKBACK_TRIGGERS", "stalled_poll=100ms,delay=500ms")],
        capture: Trigger,
        load: |scene| {
            traffic(scene);
            wait(3.0)?;
            Redis::connect(scene.address)?.ask(&["get", "audited"])?;
            wait(1.0)
        },
        truth: Truth {
            story: "A GET of one key asks another service with a blocking socket, in an async function.",
            names: &[&[Line("src/cmd/get.rs", "truth: blocking")]],
            never: &[],
        },
    },
    Incident {
        name: "redis_computing",
        service: &SERVICE,
        fault: "computing",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(3.0)?;
            Redis::connect(scene.address)?.ask(&["get", "report"])?;
            wait(0.5)
        },
        truth: Truth {
            story: "A GET of one key computes a report for some hundred milliseconds, in an async function.",
            names: &[&[Line("src/cmd/get.rs", "truth: computing")]],
            never: &[],
        },
    },
    Incident {
        name: "redis_lock_held_long",
        service: &SERVICE,
        fault: "long_hold",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(3.0)?;
            Redis::connect(scene.address)?.ask(&["set", "audited", "1"])?;
            wait(0.5)
        },
        truth: Truth {
            story: "A SET of one key asks another service while it holds the mutex over the store; everybody waits.",
            names: &[&[STATE_IN_SET, Line("src/db.rs", "truth: long_hold")]],
            never: &[],
        },
    },
    Incident {
        name: "redis_lock_convoy",
        service: &SERVICE,
        fault: "convoy",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(5.0)
        },
        truth: Truth {
            story: "Each GET computes for some milliseconds under the mutex over the store: all clients queue for it.",
            names: &[&[
                Line("src/db.rs", "truth: convoy_lock"),
                Line("src/db.rs", "truth: convoy"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "redis_poison",
        service: &SERVICE,
        fault: "poison",
        env: &[("LOOKBACK_TRIGGERS", "panic,delay=1s")],
        capture: Trigger,
        load: |scene| {
            traffic(scene);
            wait(3.0)?;
            // The connection breaks.
            let _ = Redis::connect(scene.address)?.ask(&["set", "poison", "1"]);
            wait(1.0)
        },
        truth: Truth {
            story: "A SET panics while it holds the mutex over the store; every later command panics, too.",
            names: &[&[Line("src/db.rs", "truth: poison")]],
            never: &[],
        },
    },
    Incident {
        name: "redis_deadlock_of_tasks",
        service: &SERVICE,
        fault: "abba",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            let address = scene.address;
            let publish = move |redis: &mut Redis, _| redis.ask(&["publish", "news", "1"]);
            scene.keep(Traffic::start(4, MS, move || Redis::connect(address), publish));
            wait(4.0)
        },
        truth: Truth {
            story: "SET takes the tokio mutexes `journal` and `replica` in this order, PUBLISH in the other one.",
            names: &[
                &[
                    Line("src/cmd/set.rs", "truth: abba_set_first"),
                    Line("src/cmd/set.rs", "truth: abba_set_second"),
                ],
                &[
                    Line("src/cmd/publish.rs", "truth: abba_publish_first"),
                    Line("src/cmd/publish.rs", "truth: abba_publish_second"),
                ],
                &[Words("eadlock")],
            ],
            never: &[],
        },
    },
    Incident {
        name: "redis_leaked_permits",
        service: &SERVICE,
        fault: "leaked_permit",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(2.0)?;
            for _ in 0..260 {
                // No frame begins like this.
                connect(scene.address)?.write_all(b"!\r\n")?;
                thread::sleep(MS * 5);
            }
            wait(3.0)
        },
        truth: Truth {
            story: "A connection that fails keeps its permit for ever; after 250 of them nobody is accepted.",
            names: &[
                &[Words("emaphore"), Words("permit")],
                &[Line("src/server.rs", "truth: acquire")],
            ],
            never: &["eadlock"],
        },
    },
    Incident {
        name: "redis_idle_clients",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            let address = scene.address;
            scene.keep((0..245).map(|_| Redis::connect(address)).collect::<Result<Vec<_>, _>>()?);
            traffic(scene);
            wait(4.0)
        },
        truth: Truth {
            story: "245 clients connect and say nothing; with the 5 that are served all 250 permits are taken, and the \
                    next clients are not accepted.",
            names: &[
                &[Words("emaphore"), Words("permit")],
                &[Line("src/server.rs", "truth: acquire")],
            ],
            never: &["eadlock"],
        },
    },
    Incident {
        name: "redis_hot_task",
        service: &SERVICE,
        fault: "hot",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(2.0)?;
            Redis::connect(scene.address)?.ask(&["set", "later", "1", "px", "60000"])?;
            wait(2.0)
        },
        truth: Truth {
            story: "The task that removes expired keys looks again and again, for as long as there is a key that will expire.",
            names: &[&[Line("src/db.rs", "truth: hot"), Words("purge_expired_tasks")]],
            never: &[],
        },
    },
    Incident {
        name: "redis_unbounded_spawns",
        service: &SERVICE,
        fault: "spawns",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            let address = scene.address;
            let publish = move |redis: &mut Redis, _| redis.ask(&["publish", "news", "1"]);
            scene.keep(Traffic::start(4, MS, move || Redis::connect(address), publish));
            wait(8.0)
        },
        truth: Truth {
            story: "Each PUBLISH spawns a task that waits for what never comes.",
            names: &[&[Line("src/cmd/publish.rs", "truth: spawns")]],
            never: &[],
        },
    },
    Incident {
        name: "redis_slow_subscriber",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            let mut slow = Redis::connect(scene.address)?;
            slow.ask(&["subscribe", "news"])?;
            scene.keep(slow);
            publishers(scene);
            wait(8.0)
        },
        truth: Truth {
            story: "One subscriber does not read: the task that writes to it stands still, and misses messages.",
            names: &[&[SLOW_WRITE]],
            never: &[],
        },
    },
    Incident {
        name: "redis_shutdown_hangs",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            let mut slow = Redis::connect(scene.address)?;
            slow.ask(&["subscribe", "news"])?;
            scene.keep(slow);
            publishers(scene);
            wait(3.0)?;
            scene.signal(libc::SIGINT)?;
            wait(5.0)
        },
        truth: Truth {
            story: "The server shuts down, and waits for a task that writes to a subscriber that does not read.",
            names: &[&[SLOW_WRITE]],
            never: &[],
        },
    },
    Incident {
        name: "redis_memory_grows",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Run,
        load: |scene| {
            traffic(scene);
            let address = scene.address;
            let value = "x".repeat(64 << 10);
            let store = move |redis: &mut Redis, call: u64| {
                redis.ask(&["set", &format!("visit {call}"), &value])
            };
            scene.keep(Traffic::start(2, MS * 2, move || Redis::connect(address), store));
            scene.until("it has too much memory", |scene| Ok(scene.resident()? > 500 << 20))?;
            scene.signal(libc::SIGKILL)
        },
        truth: Truth {
            story: "Clients store ever more keys that do not expire, until the service is killed for its memory.",
            names: &[
                &[Words("grew"), Words("grow")],
                &[
                    Words("src/connection.rs"),
                    Words("src/frame.rs"),
                    Words("src/parse.rs"),
                    Words("src/db.rs"),
                ],
            ],
            never: &[],
        },
    },
    Incident {
        name: "redis_stopped",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            traffic(scene);
            wait(3.0)?;
            scene.signal(libc::SIGSTOP)?;
            wait(1.5)?;
            scene.signal(libc::SIGCONT)?;
            wait(1.0)
        },
        truth: Truth {
            story: "The whole process is stopped for 1.5 s, by SIGSTOP.",
            names: &[
                &[Words("The process was stopped")],
                &[Words("1.5 s"), Words("1.51 s"), Words("1.49 s")],
                &[Words("SIGSTOP")],
            ],
            never: &[],
        },
    },
];

const MS: Duration = Duration::from_millis(1);

fn wait(seconds: f64) -> anyhow::Result<()> {
    thread::sleep(Duration::from_secs_f64(seconds));
    Ok(())
}

/// 16 clients that set and get keys of their own.
fn traffic(scene: &mut Scene) {
    let address = scene.address;
    let clients = Traffic::start(
        16,
        MS * 5,
        move || Redis::connect(address),
        |redis, call| {
            let key = format!("key {}", (call >> 32) * 100 + call % 100);
            match call % 4 {
                0 => redis.ask(&["set", &key, "some value"]),
                _ => redis.ask(&["get", &key]),
            }
        },
    );
    scene.keep(clients);
}

/// Two clients that publish messages of 16 KiB.
fn publishers(scene: &mut Scene) {
    let address = scene.address;
    let message = "x".repeat(16 << 10);
    let publish = move |redis: &mut Redis, _| redis.ask(&["publish", "news", &message]);
    scene.keep(Traffic::start(2, MS, move || Redis::connect(address), publish));
}
