//! The service: what its threads do, each until the time is over. It compares everything it computes with
//! what it computed before anything was recorded.

use crate::common::plugin::Library;
use crate::common::seccomp;
use crate::signals;
use lookback::{Recorder, Snapshot, Trigger};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
pub const MAX_BYTES: usize = 2 << 20;
/// The length of a recording, as a fraction of a second.
const RECORDING: Duration = Duration::from_millis(300);

pub struct Host {
    directory: PathBuf,
    plugin: PathBuf,
    until: Instant,
    time: Duration,
    /// Where snapshots are sent, each preceded by its length: this needs no file.
    out: Mutex<UnixStream>,
    expected: u64,
    /// No recorder can start or save any more.
    refused: AtomicBool,
    /// The running recorder must stop.
    barred: AtomicBool,
    done: [AtomicU64; PARTS.len()],
}

type Part = (&'static str, fn(&Host, u64));

/// Everything that runs at once, each part on a thread of its own.
const PARTS: [Part; 12] = [
    ("computed", Host::compute),
    ("computed beside", Host::compute),
    ("threads", Host::threads),
    ("runtimes", Host::runtime),
    ("forks", Host::fork),
    ("programs", Host::program),
    ("plugins", Host::plug),
    ("signals", Host::signal),
    ("faults", Host::fault),
    ("panics", Host::panic),
    ("snapshots", Host::snapshot),
    ("limits", Host::read_limits),
];

/// The process: puts snapshots in `directory`, and runs for this long.
pub fn run(directory: &Path, plugin: &Path, time: Duration) {
    // A failure below is reported once, not by the hook, which is the recorder's then.
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<&str>().is_none_or(|text| *text != CAUGHT) {
            eprintln!("{info}");
        }
    }));
    signals::install_all();
    let expected = checksum(0);
    let out = UnixStream::connect(directory.join("socket")).expect("somebody listens");
    // SAFETY: the call has no preconditions. Without permission, continues without it.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } == 0;
    let host = Host {
        directory: directory.to_owned(),
        plugin: plugin.to_owned(),
        until: Instant::now() + time,
        time,
        out: Mutex::new(out),
        expected,
        refused: AtomicBool::new(false),
        barred: AtomicBool::new(false),
        done: [const { AtomicU64::new(0) }; PARTS.len()],
    };
    widen();
    // SAFETY: the call has no preconditions. Otherwise each thread reserves 64 MiB for its allocations.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 2) };
    limit_address_space(400 * MIB);
    let settled = Mutex::new(0);
    std::thread::scope(|scope| {
        for (index, (_, part)) in PARTS.iter().enumerate() {
            let host = &host;
            scope.spawn(move || {
                signals::have_a_large_alternate_stack();
                for round in 0_u64.. {
                    if host.is_over() {
                        break;
                    }
                    part(host, round);
                    host.done[index].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            std::thread::sleep(time / 3);
            *settled.lock().unwrap() = status("VmRSS");
        });
        host.record();
    });
    let settled = *settled.lock().unwrap();
    for ((name, _), done) in PARTS.iter().zip(&host.done) {
        let done = done.load(Ordering::Relaxed);
        println!("::{name}: {done}");
        assert!(done > 0, "{name}: it never got through");
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "::locked: {locked}; {} signals, {} samples, {} faults repaired; resident {} MiB, {} after a third of the \
         time, {} at most",
        count(&signals::HANDLED),
        count(&signals::PROFILED),
        count(&signals::REPAIRED),
        status("VmRSS") / MIB,
        settled / MIB,
        status("VmHWM") / MIB,
    );
    assert!(count(&signals::HANDLED) > 0 && count(&signals::REPAIRED) > 0);
    // Some tens of stacks of 2 MiB are locked; after a third of the time the number no longer grows.
    assert!(status("VmHWM") < 250 * MIB, "memory is bounded: {}", status("VmHWM"));
    assert!(status("VmRSS") < settled + 48 * MIB, "and does not grow");
}

/// Holds threads up now and then where the recorder's threads meet.
fn widen() {
    #[cfg(any(debug_assertions, feature = "fault_injection"))]
    {
        use lookback::fault_injection::{Point, hold};
        for point in [Point::Inside, Point::Carved, Point::Publish, Point::Helped] {
            hold(point, Duration::from_micros(300), 100);
        }
        for point in [Point::Noted, Point::Published, Point::Settled, Point::Listed] {
            hold(point, Duration::from_millis(2), 5);
        }
        hold(Point::Advance, Duration::from_millis(20), 4);
    }
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', '\t', ' ', 'k', 'B']).parse::<u64>().unwrap() << 10
}

fn limit_address_space(room: u64) {
    let limit = libc::rlimit { rlim_cur: status("VmSize") + room, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid limit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

/// Integers and floats: a handler that spoils a register spoils this.
fn checksum(seed: u64) -> u64 {
    let (mut state, mut sum) = (0x9e37_79b9_7f4a_7c15_u64, 0.0_f64);
    for number in 0..2000_u64 {
        let _region = (number % 100 == seed % 100).then(|| lookback::region!("a piece"));
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        sum = sum.mul_add(0.999, (state >> 11) as f64).sqrt() + number as f64;
        if number % 10 == seed % 10 {
            lookback::event!("piece", state = state, sum = sum);
        }
    }
    state ^ sum.to_bits()
}

const CAUGHT: &str = "this panic is caught";

#[tracing::instrument]
async fn request(number: u64) -> u64 {
    tokio::task::yield_now().await;
    tracing::info!(number, "served");
    if number == 17 {
        tracing::error!("an error that a trigger waits for");
    }
    tokio::time::sleep(Duration::from_micros(100)).await;
    number
}

impl Host {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn compute(&self, round: u64) {
        assert_eq!(checksum(round), self.expected, "the service's own result");
    }

    fn threads(&self, round: u64) {
        let expected = self.expected;
        let work = move || {
            signals::have_a_large_alternate_stack();
            lookback::set_thread_name(if round.is_multiple_of(2) { "even" } else { "odd" });
            checksum(round)
        };
        let threads: Vec<_> =
            (0..3).filter_map(|_| std::thread::Builder::new().spawn(work).ok()).collect();
        for thread in threads {
            assert_eq!(thread.join().expect("it does not panic"), expected);
        }
    }

    /// A runtime that starts and shuts down, with tasks that are never done.
    fn runtime(&self, round: u64) {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1 + round as usize % 2).enable_all();
        let _ = lookback::tokio::instrument(&mut builder);
        // Without memory for a runtime, there is none.
        let Ok(runtime) = builder.build() else { return };
        let sum = lookback::block_on(&runtime, async {
            lookback::spawn(std::future::pending::<()>());
            let tasks: Vec<_> = (0..30).map(|number| lookback::spawn(request(number))).collect();
            let slow = lookback::spawn_blocking(|| {
                let _slow = lookback::region!("slow");
                std::thread::sleep(Duration::from_millis(2));
                470
            });
            let mut sum = slow.await.expect("it does not panic");
            for task in tasks {
                sum += task.await.expect("no request panics");
            }
            sum
        });
        assert_eq!(sum, 470 + 29 * 15);
        runtime.shutdown_background();
    }

    /// A child that believes it records, and computes.
    fn fork(&self, round: u64) {
        // SAFETY: the child does what the C library says it may, and more: that it works is what is tested.
        let child = unsafe { libc::fork() };
        assert!(child >= 0 || self.refused.load(Ordering::Relaxed), "it can fork");
        if child == 0 {
            // SAFETY: no preconditions.
            unsafe { libc::alarm(120) };
            let is_right = checksum(round) == self.expected && !lookback::is_recording();
            // SAFETY: no preconditions.
            unsafe { libc::_exit(if is_right { 7 } else { 8 }) };
        }
        let mut status = 0;
        // SAFETY: a valid place. A handler may interrupt it.
        while unsafe { libc::waitpid(child, &mut status, 0) } != child {}
        assert_eq!(libc::WEXITSTATUS(status), 7, "a child is fine: {status:#x}");
        std::thread::sleep(Duration::from_millis(5));
    }

    fn program(&self, _: u64) {
        let output = std::process::Command::new("/bin/sh").args(["-c", "echo $((6 * 7))"]).output();
        let output = output.expect("there is a shell");
        assert_eq!(output.stdout, b"42\n", "{output:?}");
        std::thread::sleep(Duration::from_millis(5));
    }

    fn plug(&self, round: u64) {
        let Some(library) = Library::try_load(&self.plugin) else { return };
        let started = library.start();
        (0..100).for_each(|number| library.record(number));
        std::thread::scope(|scope| {
            let recording =
                std::thread::Builder::new().spawn_scoped(scope, || library.record(round));
            drop(recording);
        });
        let events = library.stop();
        assert!(events > 0 || !started || self.refused.load(Ordering::Relaxed));
        library.unload();
        std::thread::sleep(Duration::from_millis(20));
    }

    fn signal(&self, round: u64) {
        signals::send_to_all(if round.is_multiple_of(2) { libc::SIGUSR1 } else { libc::SIGUSR2 });
        if round.is_multiple_of(100) && lookback::is_recording() {
            // SAFETY: sends a signal to this process, which a trigger waits for.
            unsafe { libc::kill(libc::getpid(), libc::SIGURG) };
        }
        std::thread::sleep(Duration::from_millis(3));
    }

    fn fault(&self, _: u64) {
        signals::fault();
        std::thread::sleep(Duration::from_millis(2));
    }

    fn panic(&self, _: u64) {
        let caught = std::panic::catch_unwind(|| {
            let _region = lookback::region!("it panics inside");
            let span = tracing::info_span!("it panics inside");
            let _entered = span.enter();
            std::panic::panic_any(CAUGHT);
        });
        assert!(caught.is_err());
        std::thread::sleep(Duration::from_millis(20));
    }

    fn snapshot(&self, _: u64) {
        match lookback::snapshot() {
            Ok(snapshot) => self.send(&snapshot),
            Err(error) => assert_one_line(&error),
        }
        if let Err(error) = lookback::save("asked for") {
            assert_one_line(&error);
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    /// What a service reads that monitors itself.
    fn read_limits(&self, _: u64) {
        let _ = (status("VmSize"), lookback::stats().map(|stats| stats.lost_in_all()));
        std::thread::sleep(Duration::from_millis(10));
    }

    /// Sends it to the checking process.
    fn send(&self, snapshot: &Snapshot) {
        let mut bytes = vec![0; 8];
        let length = snapshot.write_to(&mut bytes).expect("memory takes it");
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        self.out.lock().unwrap().write_all(&bytes).expect("somebody reads it");
    }

    /// Starts one recording after another, until a filter forbids it.
    fn record(&self) {
        let (began, mut starts, mut without) = (Instant::now(), 0_u64, 0_u64);
        while began.elapsed() < self.time / 2 {
            let Some(recorder) = self.start(starts + without) else {
                without += 1;
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            starts += 1;
            std::thread::sleep(RECORDING);
            self.send(&recorder.snapshot().expect("it records"));
            self.send(&recorder.stop().expect("it stops"));
        }
        println!("::{starts} recordings, and {without} times there was no memory for one");
        assert!(starts > 0, "there was never memory for a recorder");
        self.under_filters();
    }

    fn under_filters(&self) {
        let recorder = std::iter::repeat_with(|| self.start(0)).take(1000).flatten().next();
        let recorder = recorder.expect("there is memory now and then");
        let membarrier = recorder.stats().barrier == lookback::Barrier::Membarrier;
        self.refused.store(true, Ordering::Relaxed);
        if !seccomp::forbid_what_a_recorder_needs() {
            return println!("::no filter may be set here");
        }
        while self.left() > self.time / 4 {
            std::thread::sleep(RECORDING);
            let before = recorder.stats();
            assert_eq!(before.broken, None, "it goes on");
            self.send(&recorder.snapshot().expect("it records"));
            assert_one_line(&recorder.save("under a filter").expect_err("no file can be made"));
        }
        self.barred.store(membarrier, Ordering::Relaxed);
        assert!(seccomp::forbid_membarrier());
        crate::common::wait_for(|| self.is_over() || recorder.stats().broken.is_some());
        if membarrier && !self.is_over() {
            assert!(!lookback::is_recording());
        }
        self.send(&recorder.snapshot().expect("what there is can still be read"));
        if let Err(error) = recorder.stop() {
            assert_one_line(&error);
        }
        while !self.is_over() {
            std::thread::sleep(RECORDING);
            let error = self.builder(0).start().expect_err("it cannot be done any more");
            assert_one_line(&error);
        }
    }

    fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    fn builder(&self, round: u64) -> lookback::Builder {
        let often =
            |trigger: Trigger| trigger.cool_down(Duration::from_millis(50)).per_hour(100_000);
        let builder = Recorder::builder()
            .name("everything")
            .max_bytes(MAX_BYTES)
            .window(Duration::from_secs(60))
            .generation_period(Duration::from_millis(if round.is_multiple_of(3) {
                60
            } else {
                200
            }))
            .snapshot_dir(&self.directory)
            .snapshot_limits(16, 256 << 20)
            .trigger(often(Trigger::log(lookback::Level::Error)))
            .trigger(often(Trigger::panic()))
            .trigger(often(Trigger::slow_region("slow", Duration::from_millis(1))))
            .trigger(often(Trigger::signal_number(libc::SIGURG)))
            .trigger(often(Trigger::stalled_poll(Duration::from_millis(100))));
        if round.is_multiple_of(2) {
            builder
        } else {
            builder.black_box(self.directory.join("box"))
        }
    }

    fn start(&self, round: u64) -> Option<Recorder> {
        match self.builder(round).start() {
            Ok(recorder) => Some(recorder),
            Err(error) => {
                assert_one_line(&error);
                assert!(error.to_string().contains("memory"), "it could start: {error}");
                None
            }
        }
    }
}

fn assert_one_line(error: &lookback::Error) {
    let words = error.to_string();
    assert!(!words.is_empty() && !words.contains('\n'), "{words}");
}
