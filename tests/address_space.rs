//! What the recorder reserves is not memory: it takes only what it uses, however memory is counted.

mod common;

use common::alone;
use lookback::{RecordExt, Recorder};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const BYTES: u64 = 5 * MIB;

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>().unwrap() << 10
}

fn builder() -> lookback::Builder {
    Recorder::builder().max_bytes(BYTES as usize).window(Duration::from_secs(3600))
}

fn limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(resource, &limit) }, 0);
}

/// Keeps this many regions, tasks and spans open at once.
fn record(tasks: usize, depth: usize) {
    let pending = || std::future::pending::<()>().recorded("waits");
    let alive: Vec<_> = (0..tasks).map(|_| Box::pin(pending())).collect();
    let open: Vec<_> = (0..depth).map(|_| lookback::region!("nested")).collect();
    lookback::event!("written", tasks = alive.len(), regions = open.len());
    open.into_iter().rev().for_each(drop);
}

#[test]
fn of_locked_memory_it_takes_little_beyond_the_arena() {
    alone("of_locked_memory_it_takes_little_beyond_the_arena", || {
        // SAFETY: the call has no preconditions.
        if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
            println!("::skipped: this user cannot lock memory");
            return;
        }
        let before = status("VmRSS");
        let recorder = builder().start().unwrap();
        record(2000, 200);
        let grown = status("VmRSS") - before;
        println!("::{} KiB are resident of an arena of {} KiB", grown >> 10, BYTES >> 10);
        // This includes the collector's stack, whose 2 MiB are locked as well.
        assert!(grown <= BYTES + 6 * MIB, "{grown} bytes");
        common::stop(recorder);
    });
}

#[test]
fn what_counts_as_memory_that_can_be_written_is_what_is_used() {
    alone("what_counts_as_memory_that_can_be_written_is_what_is_used", || {
        let before = status("VmData");
        let recorder = builder().start().unwrap();
        record(2000, 200);
        let grown = status("VmData") - before;
        println!("::{} KiB of data", grown >> 10);
        assert!(grown <= 8 * MIB, "{grown} bytes");
        common::stop(recorder);
    });
}

#[test]
fn without_memory_for_more_tasks_they_are_counted_as_lost_and_nothing_else_happens() {
    let name = "without_memory_for_more_tasks_they_are_counted_as_lost_and_nothing_else_happens";
    alone(name, || {
        let recorder = builder().start().unwrap();
        record(100, 10);
        // What the test itself needs is allocated first, and so is what the collector needs to list a few
        // tasks.
        let few: Vec<_> =
            (0..5000).map(|_| std::future::pending::<()>().recorded("waits")).collect();
        common::advance(&recorder);
        common::advance(&recorder);
        drop(few);
        let mut alive = Vec::with_capacity(200_000);
        alive.extend((0..200_000).map(|_| None));
        limit(libc::RLIMIT_DATA, status("VmData"));
        for place in &mut alive {
            *place = Some(std::future::pending::<()>().recorded("waits"));
        }
        limit(libc::RLIMIT_DATA, libc::RLIM_INFINITY);
        let lost = recorder.stats().lost_in_all();
        assert!(lost > 0, "tasks without a place are counted");
        drop(alive);
        record(20_000, 10);
        assert_eq!(recorder.stats().lost_in_all(), lost, "there is memory again");
        let trace = common::stop(recorder);
        assert!(
            common::events(&trace).any(|event| common::number(&event, "tasks") == Some(20_000))
        );
    });
}

#[test]
fn under_a_limit_on_address_space_it_starts_with_smaller_tables_or_says_why_not() {
    let name = "under_a_limit_on_address_space_it_starts_with_smaller_tables_or_says_why_not";
    if let Ok(given) = std::env::var(ROOM) {
        return alone(name, || starts_or_says_why_not(&given));
    }
    // With 12 MiB little more than the service's own is left: what the recorder allocates then must not end it.
    for room in [1, 4, 12, 12, 12, 12, 24, 64, 512] {
        // SAFETY: only children of this test look at the variable.
        unsafe { std::env::set_var(ROOM, room.to_string()) };
        alone(name, || ());
    }
}

const ROOM: &str = "LOOKBACK_TEST_ROOM";

/// Runs with this many mebibytes of address space left.
fn starts_or_says_why_not(room: &str) {
    let room = room.parse::<u64>().unwrap() * MIB;
    let before = status("VmSize");
    limit(libc::RLIMIT_AS, before + room);
    match builder().start() {
        Ok(recorder) => {
            let taken = status("VmSize") - before;
            println!("::of {} MiB it has taken {}", room >> 20, taken >> 20);
            record(1000, 100);
            assert_eq!(recorder.stats().lost_in_all(), 0);
            // Most of what the arena, the collector's stack and the smallest tables leave belongs to the
            // service.
            let fixed = BYTES + 6 * MIB;
            assert!(taken <= fixed + room.saturating_sub(fixed) / 2, "{taken} of {room} bytes");
            common::stop(recorder);
        }
        Err(error) => {
            let words = error.to_string();
            println!("::with {} MiB: {words}", room >> 20);
            assert!(room < 8 * MIB && words.contains("memory"), "{room}: {words}");
        }
    }
    // Without the limit it starts, whatever happened before.
    limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
    let recorder = builder().start().unwrap();
    record(1000, 100);
    assert_eq!(recorder.stats().lost_in_all(), 0);
    common::stop(recorder);
}

/// The collector notes silent threads, and lists what is open: that needs memory, too.
#[test]
fn without_memory_for_what_is_noted_and_listed_the_service_goes_on() {
    alone("without_memory_for_what_is_noted_and_listed_the_service_goes_on", || {
        let recorder = builder().start().unwrap();
        const THREADS: usize = 300;
        let over = std::sync::Barrier::new(THREADS + 1);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let body = || {
                    let open: Vec<_> = (0..60).map(|_| lookback::region!("nested")).collect();
                    over.wait();
                    over.wait();
                    open.into_iter().rev().for_each(drop);
                };
                std::thread::Builder::new()
                    .stack_size(128 << 10)
                    .spawn_scoped(scope, body)
                    .unwrap();
            }
            over.wait();
            let tasks: Vec<_> =
                (0..3000).map(|_| std::future::pending::<()>().recorded("waits")).collect();
            // The waiting threads are silent from the second generation on.
            recorder.advance();
            limit(libc::RLIMIT_DATA, status("VmData"));
            for _ in 0..3 {
                lookback::event!("written", tasks = tasks.len());
                recorder.advance();
            }
            limit(libc::RLIMIT_DATA, libc::RLIM_INFINITY);
            lookback::event!("written", tasks = tasks.len());
            common::advance(&recorder);
            drop(tasks);
            over.wait();
        });
        common::stop(recorder);
    });
}

/// A service that locks what it maps, under a limit on locked memory.
#[test]
fn of_what_may_be_locked_it_leaves_most_to_the_service_or_says_why_it_cannot_start() {
    let name = "of_what_may_be_locked_it_leaves_most_to_the_service_or_says_why_it_cannot_start";
    if let Ok(given) = std::env::var(ROOM) {
        return alone(name, || leaves_most_of_what_may_be_locked(&given));
    }
    for room in [2, 4, 8, 64, 300] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([name, "--exact", "--nocapture", "--test-threads=1"]);
        let output = child.env(ROOM, room.to_string()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said.lines().filter(|line| line.contains("::")).for_each(|line| println!("{line}"));
    }
}

fn leaves_most_of_what_may_be_locked(room: &str) {
    let room = room.parse::<u64>().unwrap() * MIB;
    // Root may lock without limit; the user `nobody` may not.
    // SAFETY: the calls have no preconditions.
    let can_lock = unsafe {
        let limit = libc::rlimit { rlim_cur: room, rlim_max: room };
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) == 0
            && (libc::geteuid() != 0 || libc::setuid(65534) == 0)
            && libc::mlockall(libc::MCL_FUTURE) == 0
    };
    if !can_lock {
        println!("::skipped: so much cannot be locked here");
        return;
    }
    let can_map = |bytes: u64| {
        let (rights, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let bytes = bytes as usize;
        // SAFETY: a new mapping, which is unmapped again.
        unsafe {
            let at = libc::mmap(std::ptr::null_mut(), bytes, rights, flags, -1, 0);
            at != libc::MAP_FAILED && libc::munmap(at, bytes) == 0
        }
    };
    // A small arena: most machines allow unprivileged users to lock no more than 8 MiB. There is also the
    // stack of a thread, with what the C library allocates for it.
    let fixed = MIB / 4 + 4 * MIB;
    let recorder = builder().max_bytes(MIB as usize / 4).start();
    let taken = status("VmLck");
    match &recorder {
        Ok(recorder) => {
            println!("::of {} MiB {} KiB are locked", room >> 20, taken >> 10);
            record(1000, 100);
            assert_eq!(recorder.stats().lost_in_all(), 0);
        }
        Err(error) => {
            let words = error.to_string();
            println!("::with {} MiB: {words}", room >> 20);
            assert!(room < 8 * MIB && words.contains("RLIMIT_MEMLOCK"), "{room}: {words}");
            // Once there are tables, the next start finds them.
            let has_tables = !words.contains("cannot allocate the recorder's tables");
            assert!(has_tables || can_map(MIB), "{taken} bytes of {room} are kept for nothing");
        }
    }
    if room > fixed {
        assert!(can_map((room - fixed) / 2), "{taken} bytes of {room} are locked");
    }
}
