//! What counting and sampling the heap costs: `cargo bench --bench heap`.
//!
//! The same work with the system's allocator, with the recorder's around it without samples, and with one sample in 512 KiB
//! and in 64 KiB, in turns, while recording. Each number is a median of a thread's own CPU time; the system's allocator is
//! measured twice, as if it were two (A/A).

use lookback::{Alloc, Recorder};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Duration;

const ROUNDS: usize = 31;

static COUNTED: Alloc = Alloc::system();

/// An allocator, and how many bytes lie between two samples.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    allocator: &'static dyn Allocator,
    interval: u64,
}

trait Allocator: Sync {
    /// One object after the other, each freed at once.
    fn pairs(&self, size: usize, count: usize);
    /// Objects of many sizes of which 1,000 are alive at a time (as in Larson's benchmark of servers).
    fn mixed(&self, count: usize);
}

impl<A: GlobalAlloc + Sync> Allocator for A {
    fn pairs(&self, size: usize, count: usize) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        for _ in 0..count {
            // SAFETY: the layout has a size, and the object is freed with it.
            unsafe {
                let object = black_box(self.alloc(layout));
                self.dealloc(object, layout);
            }
        }
    }

    fn mixed(&self, count: usize) {
        let mut alive = vec![(std::ptr::null_mut::<u8>(), Layout::new::<u8>()); 1000];
        let mut random = 88_172_645_463_325_252_u64;
        for _ in 0..count {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let place = &mut alive[(random % 1000) as usize];
            let size =
                16 + (random >> 32) as usize % if random.is_multiple_of(64) { 16_384 } else { 512 };
            // SAFETY: each object is freed once, with its layout.
            unsafe {
                if !place.0.is_null() {
                    self.dealloc(place.0, place.1);
                }
                place.1 = Layout::from_size_align(size, 8).unwrap();
                place.0 = self.alloc(place.1);
                place.0.write(1);
            }
        }
        for (object, layout) in alive {
            if !object.is_null() {
                // SAFETY: as above.
                unsafe { self.dealloc(object, layout) };
            }
        }
    }
}

fn main() {
    let system = Case { name: "system", allocator: &System, interval: 0 };
    let counted = Case { name: "counted", allocator: &COUNTED, interval: 0 };
    let cases = [
        system,
        counted,
        Case { name: "a sample in 512 KiB", interval: 512 << 10, ..counted },
        Case { name: "a sample in 64 KiB", interval: 64 << 10, ..counted },
        Case { name: "system again (A/A)", ..system },
    ];
    for (what, count, work) in [
        ("malloc and free of 64 bytes", 2_000_000, (|of, count| of.pairs(64, count)) as Work),
        ("malloc and free of 1 KiB", 2_000_000, |of, count| of.pairs(1024, count)),
        ("many sizes, 1,000 alive", 1_000_000, |of, count| of.mixed(count)),
    ] {
        measure(what, count, work, &cases);
    }
}

type Work = fn(&dyn Allocator, usize);

fn measure(what: &str, count: usize, work: Work, cases: &[Case]) {
    let mut took: Vec<Vec<Duration>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (case, took) in cases.iter().zip(&mut took) {
            let recorder = Recorder::builder().heap_samples(case.interval).start().unwrap();
            while recorder.stats().unwind_tables.modules == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // So that the place of the next sample is one of this interval.
            work(case.allocator, count / 20);
            let before = used();
            work(case.allocator, count);
            took.push(used() - before);
            recorder.stop().unwrap();
        }
    }
    let medians: Vec<_> = took.into_iter().map(median).collect();
    println!("{what}:");
    for (case, took) in cases.iter().zip(&medians) {
        let each = took.as_secs_f64() * 1e9 / count as f64;
        let ratio = took.as_secs_f64() / medians[0].as_secs_f64();
        println!("  {:20} {each:6.1} ns, {ratio:.3} x", case.name);
    }
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of[of.len() / 2]
}

/// This thread's CPU time.
fn used() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
