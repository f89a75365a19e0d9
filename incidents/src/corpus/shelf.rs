//! shelf: libraries that services are made of: axum, deadpool over SQLite, Tokio's channels and its blocking pool.

use crate::incident::Capture::Outside;
use crate::incident::Name::{Line, Words};
use crate::incident::{Incident, Truth};
use crate::load::{Traffic, connect, get};
use crate::scene::Scene;
use crate::services::{Half, Service};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The service. Its source is here, those of its libraries are not.
pub const SERVICE: Service = Service {
    package: "shelf",
    version: None,
    binary: "shelf",
    arguments: &[],
    port: None,
    config: None,
    features: &[],
    prepare: None,
    half: Half::Open,
};

/// The incidents.
pub static INCIDENTS: &[Incident] = &[
    Incident {
        name: "shelf_healthy",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            ask(scene, 8, 5, |call| format!("/books/{}", 1 + call % 100));
            ask(scene, 2, 50, |call| format!("/covers/{}", 1 + call % 100));
            ask(scene, 1, 20, |call| format!("/lend/{}", 1 + call % 100));
            ask(scene, 1, 100, |_| "/report".to_owned());
            wait(6.0)
        },
        truth: Truth {
            story: "Nothing is wrong: clients read, lend and ask for covers.",
            names: &[],
            never: &[],
        },
    },
    Incident {
        name: "shelf_pool_held_over_call",
        service: &SERVICE,
        fault: "held_connection",
        env: &[("COVERS", "SLOW")],
        capture: Outside,
        load: |scene| {
            ask(scene, 8, 5, |call| format!("/books/{}", 1 + call % 100));
            wait(3.0)?;
            ask(scene, 6, 1, |call| format!("/covers/{}", 1 + call % 100));
            wait(2.5)
        },
        truth: Truth {
            story: "The handler of /covers keeps a connection of the pool while it waits for another service, which \
                    takes 3 s; all four are taken, and everybody waits for one.",
            names: &[&[
                Line("src/books.rs", "truth: held_await"),
                Line("src/books.rs", "truth: held_get"),
                Line("src/covers.rs", "truth: answer"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "shelf_pool_recursive",
        service: &SERVICE,
        fault: "recursive_get",
        env: &[],
        capture: Outside,
        load: |scene| {
            ask(scene, 8, 1, |call| format!("/books/{}", 1 + call % 100));
            wait(5.0)
        },
        truth: Truth {
            story: "Whoever has a connection of the pool asks for another one; once four requests have the first, all hang.",
            names: &[&[
                Line("src/books.rs", "truth: count_get"),
                Line("src/books.rs", "truth: recursive_count"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "shelf_pool_leaked",
        service: &SERVICE,
        fault: "leaked_connection",
        env: &[],
        capture: Outside,
        load: |scene| {
            ask(scene, 4, 5, |call| format!("/books/{}", 20 + call % 60));
            wait(3.0)?;
            for _ in 0..4 {
                get(&mut connect(scene.address)?, "/books/13")?;
            }
            wait(3.0)
        },
        truth: Truth {
            story: "Connections of the pool are forgotten on an error; after four of them everybody waits for one.",
            names: &[&[Words("pool")], &[Line("src/books.rs", "truth: title_get")]],
            never: &[],
        },
    },
    Incident {
        name: "shelf_database_locked",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            ask(scene, 4, 5, |call| format!("/books/{}", 1 + call % 100));
            ask(scene, 2, 10, |call| format!("/lend/{}", 1 + call % 100));
            wait(3.0)?;
            let mut holder = Command::new(scene.executable());
            scene.companion(holder.arg("30").current_dir(scene.folder.clone()))?;
            wait(3.0)
        },
        truth: Truth {
            story: "Another process holds the write lock of the database file: whoever lends waits in SQLite.",
            names: &[&[
                Line("src/books.rs", "truth: update"),
                Line("src/books.rs", "truth: update_await"),
            ]],
            never: &["something of a pool"],
        },
    },
    Incident {
        name: "shelf_blocking_pool_full",
        service: &SERVICE,
        fault: "blocking_pool",
        env: &[],
        capture: Outside,
        load: |scene| {
            ask(scene, 8, 5, |call| format!("/books/{}", 1 + call % 100));
            wait(3.0)?;
            ask(scene, 12, 5, |_| "/report".to_owned());
            wait(2.5)
        },
        truth: Truth {
            story: "Reports sleep for 4 s in `spawn_blocking`; all eight threads are taken, and queries of the database, \
                    which need one, wait.",
            names: &[&[
                Line("src/main.rs", "truth: blocking_pool_spawn"),
                Line("src/main.rs", "sum.await"),
                Line("src/faults.rs", "truth: blocking_pool"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "shelf_retry_storm",
        service: &SERVICE,
        fault: "retry_storm",
        env: &[("COVERS", "SLOW")],
        capture: Outside,
        load: |scene| {
            ask(scene, 8, 5, |call| format!("/books/{}", 1 + call % 100));
            ask(scene, 30, 5, |call| format!("/covers/{}", 1 + call % 100));
            wait(5.0)
        },
        truth: Truth {
            story: "The service with the covers takes 3 s; each request asks it again every 50 ms, without an end.",
            names: &[&[
                Line("src/covers.rs", "truth: retry"),
                Line("src/covers.rs", "truth: answer"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "shelf_cancelled_half_way",
        service: &SERVICE,
        fault: "cancelled",
        env: &[("COVERS", "SLOW")],
        capture: Outside,
        load: |scene| {
            ask(scene, 4, 5, |call| format!("/books/{}", 1 + call % 100));
            ask(scene, 4, 10, |call| format!("/lend/{}", 1 + call % 100));
            wait(5.0)
        },
        truth: Truth {
            story: "Lending takes longer than the time limit of 200 ms: it is cancelled after the book is lent, before \
                    that is noted.",
            names: &[&[Words("/lend/")], &[Words("504"), Words("cancelled"), Words("failed")]],
            never: &[],
        },
    },
    Incident {
        name: "shelf_connect_hangs",
        service: &SERVICE,
        fault: "",
        env: &[("COVERS", "DEAF")],
        capture: Outside,
        load: |scene| {
            ask(scene, 8, 5, |call| format!("/books/{}", 1 + call % 100));
            ask(scene, 4, 5, |call| format!("/covers/{}", 1 + call % 100));
            wait(5.0)
        },
        truth: Truth {
            story: "The service with the covers accepts nobody: connecting to it hangs, and so do requests for covers.",
            names: &[&[Line("src/covers.rs", "truth: connect")]],
            never: &[],
        },
    },
    Incident {
        name: "shelf_back_pressure",
        service: &SERVICE,
        fault: "slow_writer",
        env: &[],
        capture: Outside,
        load: |scene| {
            ask(scene, 4, 5, |call| format!("/books/{}", 1 + call % 100));
            ask(scene, 16, 5, |call| format!("/lend/{}", 1 + call % 100));
            wait(5.0)
        },
        truth: Truth {
            story: "The task that writes the journal takes 100 ms for each entry; its channel of 8 is full, and who lends \
                    waits for room in it.",
            names: &[&[
                Line("src/journal.rs", "truth: note"),
                Line("src/journal.rs", "truth: write"),
                Line("src/journal.rs", "truth: slow_write"),
                Line("src/journal.rs", "truth: writer"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "shelf_unbounded_queue",
        service: &SERVICE,
        fault: "unbounded_queue",
        env: &[],
        capture: Outside,
        load: |scene| {
            ask(scene, 8, 1, |call| format!("/lend/{}", 1 + call % 100));
            wait(9.0)
        },
        truth: Truth {
            story: "The journal's queue has no bound, and its writer is slow: entries of 64 KiB pile up.",
            names: &[&[Line("src/journal.rs", "truth: entry")]],
            never: &[],
        },
    },
];

fn wait(seconds: f64) -> anyhow::Result<()> {
    thread::sleep(Duration::from_secs_f64(seconds));
    Ok(())
}

/// So many clients that ask for such paths, with so many milliseconds between an answer and the next question.
fn ask(scene: &mut Scene, clients: u64, pause: u64, path: fn(u64) -> String) {
    let address = scene.address;
    let ask = move |stream: &mut _, call: u64| get(stream, &path(call & 0xffff)).map(drop);
    scene.keep(Traffic::start(
        clients,
        Duration::from_millis(pause),
        move || connect(address),
        ask,
    ));
}
