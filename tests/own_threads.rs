//! The recorder's own threads leave the service's signals to the service.
#![cfg(target_os = "linux")]

mod common;

use common::alone;
use lookback::{GenerationFrame, Recorder, Trigger};
use std::collections::HashMap;

/// Which signals each of the recorder's threads blocks, by the thread's name, as a set of bits.
fn blocked() -> HashMap<String, u64> {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let of = |thread: std::fs::DirEntry| {
        let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let name = field("Name:")?.to_owned();
        Some((name, u64::from_str_radix(field("SigBlk:")?, 16).ok()?))
    };
    threads.filter_map(of).filter(|(name, _)| name.starts_with("lookback")).collect()
}

#[test]
fn what_the_service_waits_for_is_not_delivered_to_a_thread_of_the_recorder() {
    alone("what_the_service_waits_for_is_not_delivered_to_a_thread_of_the_recorder", || {
        let directory = tempfile::tempdir().unwrap();
        let builder = Recorder::builder().max_bytes(1 << 20).snapshot_dir(directory.path());
        let sink = |_: &mut GenerationFrame<'_>| Ok(());
        // The recorder comes first, so nothing is blocked yet.
        let recorder =
            builder.trigger(Trigger::log(lookback::Level::Error)).sink(sink).start().unwrap();
        let service = [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGPROF, libc::SIGCHLD];
        // A thread gets its name a moment after it starts.
        let all = ["lookback", "lookback-save", "lookback-sink"];
        assert!(common::wait_for(|| all.iter().all(|name| blocked().contains_key(*name))));
        for (name, blocked) in blocked() {
            for signal in service {
                assert_ne!(blocked & 1 << (signal - 1), 0, "{name} and signal {signal}");
            }
            assert_eq!(blocked & 1 << (libc::SIGSEGV - 1), 0, "{name}: a fault is its own");
        }
        // SAFETY: a valid place; nothing is changed.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &mut set);
            assert_eq!(libc::sigismember(&set, libc::SIGTERM), 0, "who starts it is as before");
        }
        drop(recorder);
    });
}
