//! What a recorder takes of memory: the smallest process that is recorded, beside the same one that is not.
//! `cargo bench --bench footprint`.
//!
//! Each row is a process of its own, which starts the recorder, records one event, and looks at what the kernel
//! says of it; once as it is, once with all of its memory locked (`mlockall`), and once after a snapshot was
//! saved. The bare process is the same executable, so its code counts in neither difference.

use lookback::Recorder;
use std::process::Command;

const CASE: &str = "LOOKBACK_BENCH_FOOTPRINT";
const FIELDS: [&str; 7] = ["VmSize", "VmData", "VmRSS", "RssAnon", "RssShmem", "VmLck", "Threads"];

fn main() {
    if let Ok(case) = std::env::var(CASE) {
        return be(&case);
    }
    print!("{:<34}", "kB");
    FIELDS.iter().for_each(|field| print!(" {field:>10}"));
    println!();
    for (how, told) in [("", ""), ("lock ", ", locked"), ("save ", ", after a save")] {
        for what in ["bare", "defaults", "stackless", "1", "8", "32"] {
            if how == "save " && what == "bare" {
                continue;
            }
            let size = if what.parse::<usize>().is_ok() { " MiB" } else { "" };
            row(&format!("{what}{size}{told}"), &format!("{how}{what}"));
        }
    }
}

fn row(name: &str, case: &str) {
    let executable = std::env::current_exe().expect("it has a path");
    let output = Command::new(executable).env(CASE, case).output().expect("it can run again");
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return println!("{name:<34} {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    print!("{name:<34}");
    for field in FIELDS {
        let line = said.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()).unwrap_or("?");
        print!(" {number:>10}");
    }
    println!();
}

/// A process that is recorded as `case` says, and prints what the kernel says of it.
fn be(case: &str) {
    let (how, what) = case.split_once(' ').unwrap_or(("", case));
    // SAFETY: the call has no preconditions.
    if how == "lock" && unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
        eprintln!("this user cannot lock memory");
        std::process::exit(1);
    }
    let directory = (how == "save").then(|| tempfile::tempdir().expect("a directory"));
    let recorder = (what != "bare").then(|| {
        let mut builder = Recorder::builder();
        if let Ok(mebibytes) = what.parse::<usize>() {
            builder = builder.max_bytes(mebibytes << 20);
        }
        if let Some(directory) = &directory {
            builder = builder.snapshot_dir(directory.path());
        }
        builder.stacks(what != "stackless").start().expect("a recorder starts")
    });
    let has_tables = |recorder: &Recorder| recorder.stats().unwind_tables.modules > 0;
    while what != "stackless" && recorder.as_ref().is_some_and(|recorder| !has_tables(recorder)) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    lookback::event!("alive");
    if let (Some(recorder), Some(_)) = (&recorder, &directory) {
        // The arena is full once: what is saved is as large as it gets.
        for number in 0..recorder.stats().max_bytes / 4 {
            lookback::event!("number", number = number);
        }
        recorder.save("footprint").expect("it is saved");
    }
    print!("{}", std::fs::read_to_string("/proc/self/status").expect("Linux has /proc"));
}
