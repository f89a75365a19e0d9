//! What locks cost that say who waits for them: `cargo bench --bench locks --features lock_api`.
//!
//! The same work with the standard library's locks, `parking_lot`'s, and those of `lookback::sync`, recorded and not, in turns.
//! Each number is a median over the rounds, as a ratio to the lock that it contains; that one is measured twice, as if it were
//! two (A/A).

use lookback::Recorder;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// A lock, whose ever.
trait Lock: Sync {
    fn add(&self);
}

macro_rules! lock {
    ($($of:ty: $lock:ident $(.$result:ident())?;)*) => {
        $(impl Lock for $of {
            #[inline(always)]
            fn add(&self) {
                *self.$lock()$(.$result())? += 1;
            }
        })*
    };
}

/// One that is only read.
struct Read<T>(T);

macro_rules! read {
    ($($of:ty: $lock:ident $(.$result:ident())?;)*) => {
        $(impl Lock for Read<$of> {
            #[inline(always)]
            fn add(&self) {
                black_box(*self.0.$lock()$(.$result())?);
            }
        })*
    };
}

type Raw = lock_api::Mutex<lookback::sync::RawMutex, u64>;
type RawRw = lock_api::RwLock<lookback::sync::RawRwLock, u64>;

lock! {
    std::sync::Mutex<u64>: lock.unwrap();
    lookback::sync::Mutex<u64>: lock.unwrap();
    parking_lot::Mutex<u64>: lock;
    Raw: lock;
    std::sync::RwLock<u64>: write.unwrap();
    lookback::sync::RwLock<u64>: write.unwrap();
}

read! {
    std::sync::RwLock<u64>: read.unwrap();
    lookback::sync::RwLock<u64>: read.unwrap();
    parking_lot::RwLock<u64>: read;
    RawRw: read;
}

const ROUNDS: usize = 41;
const COUNT: usize = 1_000_000;

/// One thread, of which the lock is.
fn alone<L: Lock>(lock: &L) -> Duration {
    let began = Instant::now();
    for _ in 0..COUNT {
        black_box(lock).add();
    }
    began.elapsed()
}

/// The same inside of the poll of a recorded task, where the lock's holder is a task.
fn in_a_task<L: Lock>(lock: &L) -> Duration {
    use lookback::RecordExt;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { alone(lock) }.recorded("work"))
}

/// Threads that all want it, and do something else meanwhile.
fn contended<L: Lock>(lock: &L) -> Duration {
    const THREADS: usize = 4;
    let both = Barrier::new(THREADS + 1);
    let mut took = Duration::ZERO;
    thread::scope(|scope| {
        let all: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    both.wait();
                    for _ in 0..COUNT / 10 {
                        lock.add();
                        (0..20).for_each(|at| _ = black_box(at));
                    }
                })
            })
            .collect();
        both.wait();
        let began = Instant::now();
        all.into_iter().for_each(|thread| thread.join().unwrap());
        took = began.elapsed();
    });
    took
}

type Work<'a> = Box<dyn Fn() -> Duration + 'a>;

struct Case<'a> {
    name: &'static str,
    is_recorded: bool,
    work: Work<'a>,
}

fn case<'a>(name: &'static str, is_recorded: bool, work: impl Fn() -> Duration + 'a) -> Case<'a> {
    Case { name, is_recorded, work: Box::new(work) }
}

fn measure(what: &str, count: usize, cases: &[Case<'_>]) {
    let mut took: Vec<Vec<Duration>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (case, took) in cases.iter().zip(&mut took) {
            let recorder = case.is_recorded.then(|| Recorder::builder().start().unwrap());
            took.push((case.work)());
            drop(recorder);
        }
    }
    let medians: Vec<_> = took.into_iter().map(median).collect();
    println!("{what}:");
    for (case, took) in cases.iter().zip(&medians) {
        let each = took.as_secs_f64() * 1e9 / count as f64;
        let ratio = took.as_secs_f64() / medians[0].as_secs_f64();
        println!("  {:32} {each:6.1} ns, {ratio:.2} x", case.name);
    }
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of[of.len() / 2]
}

fn main() {
    let (bare, ours) = (std::sync::Mutex::new(0), lookback::sync::Mutex::new(0));
    let (parked, raw) = (parking_lot::Mutex::new(0), Raw::new(0));
    measure(
        "a mutex that is free",
        COUNT,
        &[
            case("std", false, || alone(&bare)),
            case("std again (A/A)", false, || alone(&bare)),
            case("lookback, nothing recorded", false, || alone(&ours)),
            case("lookback, recorded", true, || alone(&ours)),
            case("lookback, recorded, in a task", true, || in_a_task(&ours)),
            case("parking_lot", false, || alone(&parked)),
            case("lookback's parking_lot, recorded", true, || alone(&raw)),
        ],
    );
    let (bare_rw, ours_rw) = (std::sync::RwLock::new(0), lookback::sync::RwLock::new(0));
    measure(
        "an RwLock that is free, to write",
        COUNT,
        &[
            case("std", false, || alone(&bare_rw)),
            case("std again (A/A)", false, || alone(&bare_rw)),
            case("lookback, recorded", true, || alone(&ours_rw)),
        ],
    );
    let (bare_rw, ours_rw) =
        (Read(std::sync::RwLock::new(0)), Read(lookback::sync::RwLock::new(0)));
    let (parked_rw, raw_rw) = (Read(parking_lot::RwLock::new(0)), Read(RawRw::new(0)));
    measure(
        "an RwLock that is free, to read",
        COUNT,
        &[
            case("std", false, || alone(&bare_rw)),
            case("std again (A/A)", false, || alone(&bare_rw)),
            case("lookback, recorded", true, || alone(&ours_rw)),
            case("parking_lot", false, || alone(&parked_rw)),
            case("lookback's parking_lot, recorded", true, || alone(&raw_rw)),
        ],
    );
    measure(
        "a mutex that four threads want",
        4 * COUNT / 10,
        &[
            case("std", false, || contended(&bare)),
            case("std again (A/A)", false, || contended(&bare)),
            case("lookback, nothing recorded", false, || contended(&ours)),
            case("lookback, recorded", true, || contended(&ours)),
            case("parking_lot", false, || contended(&parked)),
            case("lookback's parking_lot, recorded", true, || contended(&raw)),
        ],
    );
}
