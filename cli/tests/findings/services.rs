//! The services that have a fault, and those that nearly have it.

use lookback::Recorder;
use std::fs::File;
use std::hint::black_box;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const PERIOD: Duration = Duration::from_millis(100);
/// How long most of them run.
const RUNS: Duration = Duration::from_millis(3500);

/// Runs one, and saves a snapshot of it.
pub fn run(how: &str, file: Option<&Path>) {
    let small = how.starts_with("reclaim") || how == "killed";
    let recorder = Recorder::builder()
        .max_bytes(if small { 4 << 20 } else { 64 << 20 })
        .window(Duration::from_secs(60))
        .generation_period(PERIOD)
        .heap_samples(64 << 10)
        .start()
        .unwrap();
    while recorder.stats().unwind_tables.modules == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Alive until the snapshot was taken.
    let mut runtime = None;
    match how {
        "leak" => runtime = tasks(|| spawn_sleepers(40, Duration::from_secs(3600))),
        "leak-nearly" => runtime = tasks(|| spawn_sleepers(40, Duration::from_millis(50))),
        "storm" => {
            let mut steps = 0;
            runtime = tasks(|| {
                steps += 1;
                // They may be spawned in several slices of time.
                spawn_sleepers(if steps == 60 { 40_000 } else { 2 }, Duration::ZERO);
            });
        }
        "storm-nearly" => runtime = tasks(|| spawn_sleepers(300, Duration::ZERO)),
        "futures" => runtime = large_futures(1000),
        "futures-nearly" => runtime = large_futures(100),
        "queue" => runtime = queue(1000),
        "queue-nearly" => runtime = queue(20),
        "counter" => steps(|at| lookback::counter!("orders.queue_depth", at * 10)),
        "counter-nearly" => steps(|at| lookback::counter!("orders.queue_depth", at % 20 * 50)),
        "growth" => {
            let mut kept = Vec::new();
            steps(|_| keeps_all(&mut kept, 1 << 20));
        }
        "growth-nearly" => {
            let mut kept = Vec::new();
            steps(|at| {
                keeps_all(&mut kept, 1 << 20);
                if at % 20 == 0 {
                    kept.clear();
                }
            });
        }
        "burst" => steps(|at| allocates_at_once(if at == 60 { 300 } else { 0 })),
        "burst-nearly" => steps(|_| allocates_at_once(5)),
        "starved" => starved(),
        "starved-nearly" => {
            let until = Instant::now() + RUNS;
            while Instant::now() < until {
                spin(Duration::from_millis(1));
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        "descriptors" => descriptors(250),
        "descriptors-nearly" => descriptors(200),
        "faults" => {
            if let Err(why) = faults(&recorder) {
                return println!("\nskipped: {why}");
            }
        }
        "faults-nearly" => {
            touches(64 << 20);
            steps(|_| ());
        }
        "reclaim" => writes(300 << 20),
        "reclaim-nearly" => writes(4 << 20),
        "killed" => {
            let mut kept = Vec::new();
            let began = Instant::now();
            while began.elapsed() < Duration::from_secs(300) {
                keeps_all(&mut kept, 1 << 20);
                lookback::event!("request");
                std::thread::sleep(Duration::from_millis(20));
            }
            return println!("\nskipped: the limit of memory takes no effect");
        }
        _ => panic!("there is no service {how}"),
    }
    recorder.snapshot().unwrap().save(file.unwrap()).unwrap();
    if let Some(runtime) = runtime {
        runtime.shutdown_background();
    }
}

/// Calls this about a hundred times while the service runs.
fn steps(mut step: impl FnMut(u64)) {
    for at in 0..100 {
        lookback::event!("step", at);
        step(at);
        std::thread::sleep(RUNS / 100);
    }
}

fn runtime(workers: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all();
    assert!(lookback::tokio::instrument(&mut builder).is_whole());
    builder.build().unwrap()
}

/// Calls this about a hundred times in a runtime.
fn tasks(mut step: impl FnMut()) -> Option<Runtime> {
    let runtime = runtime(2);
    let inside = runtime.enter();
    steps(|_| step());
    drop(inside);
    Some(runtime)
}

fn spawn_sleepers(many: usize, length: Duration) {
    for _ in 0..many {
        lookback::spawn(tokio::time::sleep(length));
    }
}

fn large_futures(many: usize) -> Option<Runtime> {
    let runtime = runtime(2);
    for _ in 0..many {
        lookback::spawn_on(runtime.handle(), async {
            let held = [7_u8; 32 << 10];
            tokio::time::sleep(Duration::from_secs(3600)).await;
            black_box(&held);
        });
    }
    steps(|_| ());
    Some(runtime)
}

/// So many tasks a tenth of a second, each of which computes for a millisecond.
fn queue(many: usize) -> Option<Runtime> {
    let runtime = runtime(1);
    steps(|at| {
        for _ in 0..if at % 3 == 0 { many } else { 0 } {
            lookback::spawn_on(runtime.handle(), async { spin(Duration::from_millis(1)) });
        }
    });
    Some(runtime)
}

fn spin(length: Duration) {
    let began = Instant::now();
    while began.elapsed() < length {
        std::hint::spin_loop();
    }
    lookback::event!("spun");
}

#[inline(never)]
fn keeps_all(kept: &mut Vec<Vec<u8>>, size: usize) {
    kept.push(black_box(vec![1; size]));
}

#[inline(never)]
fn allocates_at_once(many: usize) {
    let all: Vec<Vec<u8>> = (0..many).map(|_| vec![1; 1 << 20]).collect();
    black_box(all);
}

/// Threads that want to run, and other processes that run.
fn starved() {
    struct Others(Vec<Child>);
    impl Drop for Others {
        fn drop(&mut self) {
            for other in &mut self.0 {
                let _ = other.kill();
                let _ = other.wait();
            }
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let other = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let others = Others((0..4 * cores).map(|_| other()).collect());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let began = Instant::now();
                while began.elapsed() < RUNS {
                    spin(Duration::from_millis(1));
                }
            });
        }
    });
    drop(others);
}

fn descriptors(many: usize) {
    let limit = libc::rlimit { rlim_cur: 256, rlim_max: 256 };
    // SAFETY: the limit is there.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        use std::os::fd::AsRawFd;
        let is_last = file.as_raw_fd() as usize + 1 >= many;
        files.push(file);
        if is_last {
            break;
        }
    }
    steps(|_| ());
}

/// Touches so much new memory.
fn touches(bytes: usize) {
    let mut memory = vec![0_u8; bytes];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    black_box(memory);
}

/// Page faults, until the recorder says so and then for a while.
fn faults(recorder: &Recorder) -> Result<(), &'static str> {
    let began = Instant::now();
    let is_told = || {
        let mut bytes = Vec::new();
        recorder.snapshot().unwrap().write_to(&mut bytes).unwrap();
        let trace = lookback::Trace::from_bytes(bytes).unwrap();
        trace.events().flatten().any(|event| event.name() == "lookback: storm of page faults")
    };
    let mut until = None;
    while until.is_none_or(|until| Instant::now() < until) {
        for _ in 0..20 {
            touches(64 << 20);
        }
        lookback::event!("touched");
        if until.is_none() && is_told() {
            until = Some(Instant::now() + began.elapsed() + RUNS);
        }
        if began.elapsed() > Duration::from_secs(60) && until.is_none() {
            return Err("page faults are too slow here for a storm");
        }
    }
    Ok(())
}

/// Writes a file of this size again and again.
fn writes(bytes: usize) {
    let part = vec![7_u8; 1 << 20];
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let until = Instant::now() + 2 * RUNS;
    while Instant::now() < until {
        lookback::event!("writes");
        file.rewind().unwrap();
        for _ in 0..bytes >> 20 {
            file.write_all(&part).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
