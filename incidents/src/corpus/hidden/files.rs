//! dufs: a file server, whose handlers go to the disk through Tokio's blocking threads, and sometimes do not.

use super::{MS, wait};
use crate::incident::Capture::Outside;
use crate::incident::Name::{Line, Words};
use crate::incident::{Incident, Truth};
use crate::load::{Traffic, connect, get, request};
use crate::scene::Scene;
use crate::services::{Half, Service};
use anyhow::{Context, ensure};
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

/// The server.
pub const SERVICE: Service = Service {
    package: "dufs",
    version: Some("0.47.0"),
    binary: "dufs",
    arguments: &[
        "files",
        "--bind",
        "127.0.0.1",
        "--port",
        "PORT",
        "--allow-upload",
        "--allow-delete",
        "--allow-search",
    ],
    port: None,
    config: None,
    features: &[],
    prepare: Some(prepare),
    half: Half::Hidden,
};

/// The incidents.
pub static INCIDENTS: &[Incident] = &[
    Incident {
        name: "files_healthy",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            downloads(scene, 8);
            let address = scene.address;
            let upload =
                move |stream: &mut _, call| put(stream, &format!("/up-{}", call % 7), "new");
            scene.keep(Traffic::start(2, MS * 50, move || connect(address), upload));
            wait(5.0)
        },
        truth: Truth {
            story: "Nothing is wrong: 8 clients read files, 2 write some.",
            names: &[],
            never: &[],
        },
    },
    Incident {
        name: "files_log_stalls",
        service: &SERVICE,
        fault: "",
        env: &[("DUFS_LOG_FILE", "log")],
        capture: Outside,
        load: |scene| {
            downloads(scene, 8);
            wait(6.0)
        },
        truth: Truth {
            story: "The log is a pipe whose reader reads no more. When it is full, a handler blocks in a write to it, with the \
                    logger's lock; all others block for the lock, and with them the workers.",
            names: &[&[
                Line("src/logger.rs", "if let Ok(mut file) = file.lock() {"),
                Line("src/logger.rs", "let _ = writeln!(file, \"{text}\");"),
                Line("src/http_logger.rs", "log::logger().log("),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "files_blocking_walk",
        service: &SERVICE,
        fault: "",
        env: &[("DUFS_ALLOW_SYMLINK", "true")],
        capture: Outside,
        load: |scene| {
            // 4,000 files, and 60 more ways to them.
            let shelf = scene.folder.join("files/shelf");
            fs::create_dir(&shelf)?;
            for file in 0..4000 {
                fs::write(shelf.join(file.to_string()), "")?;
            }
            for way in 0..60 {
                symlink("shelf", scene.folder.join("files").join(format!("way-{way}")))?;
            }
            downloads(scene, 8);
            wait(2.0)?;
            let mut client = connect(scene.address)?;
            for _ in 0..3 {
                get(&mut client, "/?q=nowhere")?;
            }
            wait(0.5)
        },
        truth: Truth {
            story: "A search walks over 240,000 files with blocking calls, in one poll of an async function.",
            names: &[&[
                Line(
                    "src/server.rs",
                    "let mut it = WalkDir::new(&dir).follow_links(true).into_iter();",
                ),
                Line("src/server.rs", "while let Some(entry) = it.next() {"),
                Line("src/server.rs", "let search_paths = tokio::spawn(collect_dir_entries("),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "files_mount_hangs",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            downloads(scene, 4);
            wait(2.0)?;
            fifo(&scene.folder.join("files/mount"))?;
            for _ in 0..600 {
                let mut client = connect(scene.address)?;
                client.write_all(upload("/mount", "new").as_bytes())?;
                scene.keep(client);
            }
            wait(3.0)
        },
        truth: Truth {
            story: "Whoever opens one file hangs, as on a mount whose server is gone. 600 uploads to it hold all 512 blocking \
                    threads; then nobody gets to the disk any more.",
            names: &[&[Line(
                "src/server.rs",
                "None => (fs::File::create(path).await?, StatusCode::CREATED),",
            )]],
            never: &[],
        },
    },
    Incident {
        name: "files_password_computed",
        service: &SERVICE,
        fault: "",
        env: &[(
            "DUFS_AUTH",
            "ada:$6$rounds=400000$lookback$\
             SJ/SO8mfrcm8P.jKcyToMl1GKib6lEqgFJyjgtVMJldjQYSE4mZLDgfJIqQF8HR/akY.sjE6q6R1XDH9xMsRm.@/:rw|@/",
        )],
        capture: Outside,
        load: |scene| {
            downloads(scene, 8);
            wait(2.0)?;
            let mut client = connect(scene.address)?;
            for _ in 0..4 {
                let head = "GET /3 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic YWRhOnNlY3JldA==\r\n\r\n";
                ensure!(request(&mut client, head)? == 200, "the password is wrong");
            }
            wait(0.5)
        },
        truth: Truth {
            story: "A password is kept as a hash of 400,000 rounds, and checked with each request, in an async function.",
            names: &[&[Line("src/auth.rs", ".verify_password(pass.as_bytes(), auth_pass)")]],
            never: &[],
        },
    },
    Incident {
        name: "files_retry_storm",
        service: &SERVICE,
        fault: "retries",
        env: &[],
        capture: Outside,
        load: |scene| {
            downloads(scene, 8);
            wait(5.0)
        },
        truth: Truth {
            story: "Each download asks another service, which is down, 3,000 times without a pause before it gives up.",
            names: &[&[Line("src/server.rs", "truth: retries")]],
            never: &[],
        },
    },
    Incident {
        name: "files_refill_stopped",
        service: &SERVICE,
        fault: "budget",
        env: &[],
        capture: Outside,
        load: |scene| {
            downloads(scene, 8);
            wait(3.0)?;
            fs::write(scene.folder.join("budget"), "lots")?;
            wait(4.0)
        },
        truth: Truth {
            story: "A periodic task refills the permits. It ended when the file with their number had none; all downloads wait \
                    for permits.",
            names: &[&[Line("src/server.rs", "truth: budget")]],
            never: &["deadlock"],
        },
    },
    Incident {
        name: "files_upload_cancelled",
        service: &SERVICE,
        fault: "cancelled",
        env: &[],
        capture: Outside,
        load: |scene| {
            downloads(scene, 4);
            let address = scene.address;
            let upload_one = |stream: &mut _, _| put(stream, "/shared.txt", "new");
            scene.keep(Traffic::start(4, MS * 20, move || connect(address), upload_one));
            wait(2.0)?;
            // It sends half of what it has, and no more.
            let mut slow = connect(address)?;
            let text = upload("/shared.txt", &"half".repeat(50));
            slow.write_all(&text.as_bytes()[..text.len() / 2])?;
            wait(4.0)
        },
        truth: Truth {
            story: "A timeout cancels an upload that is half done, and leaves its lock file behind. All later uploads of the \
                    file wait for it, until their timeouts.",
            names: &[&[
                Line("src/server.rs", "truth: locked"),
                Line("src/server.rs", "truth: cancelled"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "files_index_queue",
        service: &SERVICE,
        fault: "index",
        env: &[],
        capture: Outside,
        load: |scene| {
            downloads(scene, 8);
            wait(6.0)
        },
        truth: Truth {
            story: "Each download puts 64 KiB into a queue without a bound, whose only reader takes 0.3 s for one of them; \
                    memory grows by megabytes a second.",
            names: &[&[
                Line("src/server.rs", "truth: index"),
                Line("src/server.rs", "truth: index_contents"),
                Line("src/server.rs", "truth: index_waits"),
            ]],
            never: &[],
        },
    },
    Incident {
        name: "files_noisy_neighbour",
        service: &SERVICE,
        fault: "",
        env: &[],
        capture: Outside,
        load: |scene| {
            downloads(scene, 8);
            wait(2.0)?;
            scene.crowd(24)?;
            wait(4.0)
        },
        truth: Truth {
            story: "24 other processes compute without end; the service's threads wait for cores.",
            names: &[&[Words("cores"), Words("starved"), Words("run queue")]],
            never: &[],
        },
    },
];

/// The files that it serves, how many permits there are, and a pipe for the log that nobody reads.
fn prepare(folder: &Path, _port: u16) -> anyhow::Result<()> {
    fs::create_dir(folder.join("files"))?;
    for file in 0..50 {
        fs::write(folder.join("files").join(file.to_string()), "line of a file\n".repeat(300))?;
    }
    fs::write(folder.join("budget"), "200")?;
    let log = folder.join("log");
    fifo(&log)?;
    let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&log)?;
    // It stays open for as long as this process.
    std::mem::forget(reader);
    Ok(())
}

fn fifo(path: &Path) -> anyhow::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a system call; the path ends with a zero.
    let made = unsafe { libc::mkfifo(path.as_ptr(), 0o644) };
    ensure!(made == 0, "a pipe cannot be made");
    Ok(())
}

/// Clients that read files, over connections that stay open.
fn downloads(scene: &mut Scene, clients: u64) {
    let address = scene.address;
    let ask = |stream: &mut _, call| {
        let status = get(stream, &format!("/{}", call % 50))?;
        (status == 200).then_some(()).context("it was refused")
    };
    scene.keep(Traffic::start(clients, MS * 10, move || connect(address), ask));
}

fn upload(path: &str, contents: &str) -> String {
    let length = contents.len();
    format!("PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{contents}")
}

fn put(stream: &mut std::net::TcpStream, path: &str, contents: &str) -> anyhow::Result<()> {
    request(stream, &upload(path, contents))?;
    Ok(())
}
