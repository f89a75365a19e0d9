//! What CPU samples cost: `cargo bench --bench cpu_samples`.
//!
//! A thread does the same work without samples and with 100 and 1,000 a second, in turns. What it takes is the thread's own
//! CPU time, in which the handler of the signal counts, so other programs on the machine disturb little. Each number is a
//! median; the work without samples is measured twice, as if it were two (A/A).

#[cfg(target_os = "linux")]
mod linux {
    use lookback::Recorder;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    const ROUNDS: usize = 15;
    const RATES: [u32; 4] = [0, 100, 1000, 0];
    const WORK: u32 = 12_000;
    const FRAMES: u32 = 20;
    const THREADS: usize = 1000;

    pub fn run() {
        let mut took = RATES.map(|_| Vec::new());
        let mut samples = RATES.map(|_| 0);
        for _ in 0..ROUNDS {
            for (at, rate) in RATES.into_iter().enumerate() {
                let recorder = start(rate);
                // They count from the beginning of the process.
                let taken = recorder.stats().cpu_samples.taken;
                let before = used();
                std::hint::black_box(deep(FRAMES));
                took[at].push(used() - before);
                samples[at] += recorder.stats().cpu_samples.taken - taken;
                recorder.stop().unwrap();
            }
        }
        let [off, hundred, thousand, again] = took.map(median);
        let share = |of: Duration| of.as_secs_f64() / off.as_secs_f64();
        println!(
            "work of {off:?} of CPU time, {FRAMES} frames deep: 100 a second {:.4} x, 1,000 a second {:.4} x, A/A {:.4} x",
            share(hundred),
            share(thousand),
            share(again)
        );
        let each = samples[2] as f64 / ROUNDS as f64;
        let more = thousand.as_secs_f64() - (off + again).as_secs_f64() / 2.0;
        println!("{each:.0} samples at 1,000 a second, of {:.1} us each", more * 1e6 / each);
        collector();
    }

    fn start(rate: u32) -> Recorder {
        let recorder = Recorder::builder().cpu_samples(rate).start().unwrap();
        while recorder.stats().unwind_tables.modules == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        recorder
    }

    /// What the collector's look at the threads adds to an advance.
    fn collector() {
        static IS_OVER: AtomicBool = AtomicBool::new(false);
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let sleep = || {
                    while !IS_OVER.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(200));
                    }
                };
                std::thread::Builder::new().stack_size(64 << 10).spawn(sleep).unwrap()
            })
            .collect();
        let advances = |rate| {
            let recorder = start(rate);
            let times = (0..50).map(|_| {
                lookback::event!("something");
                let began = Instant::now();
                recorder.advance();
                began.elapsed()
            });
            // The first one makes the timers.
            let least = times.skip(1).min().unwrap();
            let timers = recorder.stats().cpu_samples.threads;
            recorder.stop().unwrap();
            (least, timers)
        };
        let ((without, _), (with, timers)) = (advances(0), advances(100));
        println!(
            "an advance with {THREADS} threads: {without:?} without, {with:?} with {timers} timers (the least of 49)"
        );
        IS_OVER.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// The CPU time of this thread.
    fn used() -> Duration {
        // SAFETY: the place is valid.
        unsafe {
            let mut time = std::mem::zeroed::<libc::timespec>();
            libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time);
            Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
        }
    }

    #[inline(never)]
    fn deep(depth: u32) -> u64 {
        if depth == 0 {
            return work();
        }
        deep(depth - 1) + std::hint::black_box(u64::from(depth))
    }

    fn work() -> u64 {
        let mut table = vec![0_u64; 4096];
        let mut mixed = 1_u64;
        for _ in 0..WORK {
            for at in 0..4096 {
                mixed = mixed.wrapping_mul(3).rotate_left(7) ^ table[(mixed as usize + at) & 4095];
                table[at] = mixed;
            }
        }
        mixed
    }

    fn median(mut times: Vec<Duration>) -> Duration {
        times.sort_unstable();
        times[times.len() / 2]
    }
}

fn main() {
    #[cfg(target_os = "linux")]
    linux::run();
}
