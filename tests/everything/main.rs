//! A service that does everything at once: it starts and ends threads and runtimes, forks, runs programs,
//! loads and unloads a plugin with its own recorder, handles signals that rain on it, locks its memory,
//! approaches its limit on address space, panics, starts and stops its recorder, and installs a filter of
//! system calls in the middle. Its own results stay right, its memory is bounded, and every snapshot is
//! sound: those that it takes, those that triggers save, and those taken from outside.
//!
//! This takes some seconds, or longer with `LOOKBACK_TEST_SECONDS` or `LOOKBACK_LONG=1` (ten minutes).
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

#[path = "../common/mod.rs"]
mod common;
mod host;
mod signals;

use lookback::{OutsideArena, Trace};
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DIRECTORY: &str = "LOOKBACK_TEST_HOST";
const PLUGIN: &str = "LOOKBACK_TEST_PLUGIN";
const SECONDS: &str = "LOOKBACK_TEST_SECONDS";

fn time() -> Duration {
    let given = std::env::var(SECONDS).ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(given.unwrap_or(if common::long() { 600 } else { 4 }))
}

#[test]
fn a_host_that_does_everything_at_once() {
    const NAME: &str = "a_host_that_does_everything_at_once";
    if let (Some(directory), Some(plugin)) = (std::env::var_os(DIRECTORY), std::env::var_os(PLUGIN))
    {
        return host::run(Path::new(&directory), Path::new(&plugin), time());
    }
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let (output, errors) = (directory.path().join("output"), directory.path().join("errors"));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory.path())
        .env(PLUGIN, common::plugin::built())
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(std::fs::File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    let (process, over) = (child.id(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            // A service that died before it could connect is detected below.
            listener.set_nonblocking(true).unwrap();
            let mut stream = None;
            common::wait_for(|| {
                stream = listener.accept().ok();
                stream.is_some() || over.load(Ordering::Relaxed)
            });
            stream.map_or(0, |(stream, _)| check_what_is_sent(stream))
        });
        let saved = scope.spawn(|| check_what_is_saved(directory.path(), &over));
        let outside = scope.spawn(|| look_from_outside(process, &over));
        let status = child.wait().unwrap();
        over.store(true, Ordering::Relaxed);
        let counts = [sent, saved, outside].map(|thread| thread.join());
        let said = std::fs::read_to_string(&output).unwrap();
        let told = std::fs::read_to_string(&errors).unwrap();
        assert!(status.success(), "{status}\n{said}\n{told}");
        said.lines().filter(|line| line.contains("::")).for_each(|line| println!("{line}"));
        let [sent, saved, outside] = counts.map(|count| count.expect("all are sound"));
        println!("::sound: {sent} sent, {saved} saved, {outside} from outside");
        assert!(sent > 0 && saved > 0, "there was something to check");
    });
}

/// Keeps a snapshot that is not sound, for inspection.
fn assert_sound(bytes: Vec<u8>, what: &str) {
    let checked = std::panic::catch_unwind(|| {
        let trace = Trace::from_bytes(bytes.clone());
        common::assert_sound(&trace.unwrap_or_else(|error| panic!("{what}: {error}")));
    });
    if let Err(panic) = checked {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("unsound-{what}.lbk"));
        std::fs::write(&path, bytes).unwrap();
        eprintln!("{} is not sound", path.display());
        std::panic::resume_unwind(panic);
    }
}

/// Snapshots that the service sends, each preceded by its length.
fn check_what_is_sent(mut stream: UnixStream) -> u64 {
    stream.set_nonblocking(false).unwrap();
    let (mut count, mut length) = (0, [0; 8]);
    while stream.read_exact(&mut length).is_ok() {
        let mut bytes = vec![0; u64::from_le_bytes(length) as usize];
        if stream.read_exact(&mut bytes).is_err() {
            break;
        }
        assert_sound(bytes, "sent");
        count += 1;
    }
    count
}

/// Snapshots that it saves, which this removes; the service removes old ones itself.
fn check_what_is_saved(directory: &Path, over: &AtomicBool) -> u64 {
    let mut count = 0;
    loop {
        // Checked first: everything that was saved before is then found.
        let is_over = over.load(Ordering::Relaxed);
        for path in common::saved::snapshots(directory) {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            assert_sound(bytes, "saved");
            let _ = std::fs::remove_file(&path);
            count += 1;
        }
        if is_over {
            return count;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Its arenas, and those of its plugin, as another process sees them.
fn look_from_outside(process: u32, over: &AtomicBool) -> u64 {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        for arena in OutsideArena::all_of_process(process).into_iter().flatten() {
            // A service that is stopped has none, and a copy may be overtaken.
            if let Ok(snapshot) = arena.snapshot("test", "outside") {
                let mut bytes = Vec::new();
                snapshot.write_to(&mut bytes).expect("memory takes it");
                assert_sound(bytes, "outside");
                count += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    count
}
