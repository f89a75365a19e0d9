//! Whether memory creeps: a service under a steady load, recorded, for as long as you like. `cargo bench
//! --bench soak -- --seconds 3600`; a minute by default. `--bare` runs the same service with nothing
//! recorded; `--without saves`, `outside`, `threads` or `blocking` leaves out a part of the load, to find the
//! cause of a slope. Exits with 1 if the heap grows.
//!
//! The load: requests as Tokio tasks with spans, fields, logs and texts that never recur; tasks without a
//! request; blocking work; threads that start and end; a snapshot saved now and then, and one read from
//! outside. Every minute it prints a line: resident memory, the anonymous part of it, what `malloc` has
//! handed out (`mallinfo2`), what Rust code holds of that, events, losses. At the end it prints the slope of
//! each over time (least squares of the minimum of each ten seconds, without the first fifth), and what grew
//! in the heap, by size.

use lookback::tracing::subscriber;
use lookback::{OutsideArena, Recorder};
use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many bytes the heap may grow in the second half: requests in flight come and go.
const CREEP: f64 = 256.0 * 1024.0;
/// The least of this many samples in a row counts: what requests in flight hold comes and goes.
const ROW: usize = 10;
const CLIENTS: u64 = 100;

/// Counts live allocations by size, so that at least the size of what grows is known.
struct Counting;

/// Live allocations of up to 2^n bytes, and their bytes.
static ALIVE: [(AtomicI64, AtomicI64); 40] = [const { (AtomicI64::new(0), AtomicI64::new(0)) }; 40];

fn count(bytes: usize, sign: i64) {
    let class = bytes.next_power_of_two().trailing_zeros() as usize;
    if let Some((number, all)) = ALIVE.get(class) {
        number.fetch_add(sign, Ordering::Relaxed);
        all.fetch_add(sign * bytes as i64, Ordering::Relaxed);
    }
}

fn alive() -> Vec<(i64, i64)> {
    let get = |(number, bytes): &(AtomicI64, AtomicI64)| {
        (number.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed))
    };
    ALIVE.iter().map(get).collect()
}

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whether this part of the load runs.
fn with(part: &str) -> bool {
    let arguments: Vec<_> = std::env::args().collect();
    !arguments.windows(2).any(|pair| pair[0] == "--without" && pair[1] == part)
}

static BLOCKING: LazyLock<bool> = LazyLock::new(|| with("blocking"));
static REQUESTS: AtomicU64 = AtomicU64::new(0);

#[tracing::instrument(skip_all, fields(customer = number % 977, path = "/orders"))]
async fn request(number: u64) {
    tokio::time::sleep(Duration::from_micros(200 + number % 1800)).await;
    tracing::info!(number, "order {number} of customer {}", number % 977);
    let price = lookback::spawn(price(number));
    let look = move || {
        let _looking = lookback::region!("look into the stock");
        lookback::event!("stock", article = number % 5003, text = format!("article {number}"));
        number % 7
    };
    let stock = match *BLOCKING {
        // At the end of the load, the runtime cancels what is in flight.
        true => match lookback::spawn_blocking(look).await {
            Ok(stock) => stock,
            Err(_) => return,
        },
        false => look(),
    };
    let Ok(price) = price.await else { return };
    lookback::counter!("price", price);
    if stock == 0 {
        tracing::warn!(article = number % 5003, "out of stock");
    }
    REQUESTS.fetch_add(1, Ordering::Relaxed);
}

#[tracing::instrument]
async fn price(number: u64) -> u64 {
    tokio::task::yield_now().await;
    number % 100
}

/// Memory use, in bytes.
#[derive(Clone, Copy)]
struct Sample {
    at: f64,
    resident: f64,
    anonymous: f64,
    /// Handed out by `malloc`, large pieces included.
    heap: f64,
    /// Of that, what Rust code holds.
    rust: f64,
}

impl Sample {
    fn now(began: Instant) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
        };
        // SAFETY: the call has no preconditions.
        let heap = unsafe { libc::mallinfo2() };
        Self {
            at: began.elapsed().as_secs_f64(),
            resident: field("VmRSS:"),
            anonymous: field("RssAnon:"),
            heap: (heap.uordblks + heap.hblkhd) as f64,
            rust: alive().iter().map(|(_, bytes)| *bytes as f64).sum(),
        }
    }
}

/// Bytes a second, least squares.
fn slope(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (at, level) = (mean(&|sample| sample.at), mean(&|sample| value(sample)));
    let above = samples.iter().map(|s| (s.at - at) * (value(s) - level)).sum::<f64>();
    above / samples.iter().map(|s| (s.at - at).powi(2)).sum::<f64>()
}

fn main() {
    without_thread_caches();
    let arguments: Vec<_> = std::env::args().collect();
    let seconds = arguments.iter().position(|argument| argument == "--seconds");
    let seconds = seconds.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(60_u64);
    let is_bare = arguments.iter().any(|argument| argument == "--bare");
    let directory = tempfile::tempdir().expect("a directory");
    let recorder = (!is_bare).then(|| {
        let recorder =
            Recorder::builder().snapshot_dir(directory.path()).snapshot_limits(4, 1 << 30);
        recorder.start().expect("a recorder starts")
    });
    if !is_bare {
        tracing::subscriber::set_global_default(subscriber()).expect("it is the first");
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if !is_bare {
        let _ = lookback::tokio::instrument(builder.worker_threads(2).enable_all());
    } else {
        builder.worker_threads(2).enable_all();
    }
    let runtime = builder.build().expect("a runtime");
    for client in 0..CLIENTS {
        runtime.spawn(async move {
            let mut every = tokio::time::interval(Duration::from_millis(100));
            every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for number in 0_u64.. {
                every.tick().await;
                let _ = lookback::spawn(request(number * CLIENTS + client)).await;
            }
        });
    }
    let samples = watch(Duration::from_secs(seconds), recorder.as_ref());
    drop(runtime);
    verdict(&samples);
}

/// Starts this program again without the C library's caches for each thread: it counts what lies in them as
/// handed out, which looks like growth.
fn without_thread_caches() {
    const TUNABLES: &str = "GLIBC_TUNABLES";
    if std::env::var_os(TUNABLES).is_none() {
        let mut again = Command::new(std::env::current_exe().expect("this program has a path"));
        again.args(std::env::args().skip(1)).env(TUNABLES, "glibc.malloc.tcache_count=0");
        panic!("this program does not start again: {}", again.exec());
    }
}

/// Lets it run for this long, and takes a sample every second.
fn watch(time: Duration, recorder: Option<&Recorder>) -> Vec<Sample> {
    println!(
        "{:>7} {:>12} {:>13} {:>9} {:>9} {:>9} {:>12} {:>6} {:>6}",
        "second",
        "resident, kB",
        "anonymous, kB",
        "heap, kB",
        "Rust, kB",
        "requests",
        "events",
        "lost",
        "saved"
    );
    // Reserved, so that what this program itself keeps does not look like growth.
    let mut samples = Vec::with_capacity(time.as_secs() as usize + 2);
    let (began, mut saved) = (Instant::now(), 0);
    let mut settled = None;
    for second in 1_u64.. {
        std::thread::sleep(Duration::from_secs(second).saturating_sub(began.elapsed()));
        let short = || {
            lookback::set_thread_name("short-lived");
            lookback::event!("here", text = "a thread that ends at once");
        };
        (0..5)
            .map(|_| std::thread::spawn(short))
            .for_each(|thread| thread.join().expect("it ends"));
        if let Some(recorder) = recorder.filter(|_| second.is_multiple_of(10)) {
            if with("saves") {
                recorder.save("now and then").expect("it is saved");
                saved += 1;
            }
            if with("outside") {
                let arena = OutsideArena::of_process(std::process::id());
                // A reader that the ring overtakes has done its part of the load, too.
                let _ = arena.expect("there is an arena").snapshot("now and then", "soak");
            }
        }
        let now = Sample::now(began);
        samples.push(now);
        if settled.is_none() && now.at > time.as_secs_f64() / 5.0 {
            settled = Some(alive());
        }
        let is_over = began.elapsed() >= time;
        if second.is_multiple_of(60) || is_over {
            let stats = recorder.map(Recorder::stats);
            println!(
                "{second:>7} {:>12.0} {:>13.0} {:>9.1} {:>9.1} {:>9} {:>12} {:>6} {saved:>6}",
                now.resident / 1024.0,
                now.anonymous / 1024.0,
                now.heap / 1024.0,
                now.rust / 1024.0,
                REQUESTS.load(Ordering::Relaxed),
                stats.as_ref().map_or(0, |stats| stats.recorded),
                stats.as_ref().map_or(0, |stats| stats.lost_in_all()),
            );
        }
        if is_over {
            break;
        }
    }
    println!(
        "what of the heap's Rust part grew since a fifth of the time, of 64 bytes or more in all:"
    );
    for (class, (now, then)) in alive().iter().zip(settled.unwrap_or_default()).enumerate() {
        let (number, bytes) = (now.0 - then.0, now.1 - then.1);
        if bytes >= 64 {
            println!(
                "    up to {:>8} bytes each: {number:+} pieces, {bytes:+} bytes",
                1_u64 << class
            );
        }
    }
    samples
}

fn verdict(samples: &[Sample]) {
    let least = |value: fn(&Sample) -> f64| -> Vec<Sample> {
        let least =
            |row: &[Sample]| row.iter().copied().min_by(|a, b| value(a).total_cmp(&value(b)));
        samples.chunks_exact(ROW).filter_map(least).collect()
    };
    let row = |name: &str, value: fn(&Sample) -> f64| {
        let least = least(value);
        let (settled, half) = (&least[least.len() / 5..], &least[least.len() / 2..]);
        let (all, half) = (slope(settled, value), slope(half, value));
        println!(
            "{name}: {:+.3} kB/s, in the second half {:+.3} kB/s",
            all / 1024.0,
            half / 1024.0
        );
        half
    };
    row("resident", |sample| sample.resident);
    row("anonymous", |sample| sample.anonymous);
    let heap = row("heap", |sample| sample.heap);
    row("of it Rust's", |sample| sample.rust);
    let half = samples.last().map_or(0.0, |last| last.at) / 2.0;
    if half < 150.0 {
        return println!("too short for a verdict");
    }
    if heap * half > CREEP {
        println!("verdict: the heap grows");
        std::process::exit(1);
    }
    println!("verdict: the heap does not grow");
}
