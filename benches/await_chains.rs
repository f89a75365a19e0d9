//! What it costs to record where a task waits: a poll that is pending, as many async functions deep, whose leaf registers
//! the waker anew; and one whose leaf is at another place in each poll, of 1, 4 or 16. `cargo bench --bench await_chains`.
//!
//! Recorders with and without await chains take turns, and so does the clock instruction. With `-- --polls N --depth D
//! [--off]` nothing is measured, only done: for a tool that counts instructions.

mod common;

use common::Cost;
use lookback::{RecordExt, Recorder};
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// So many recorders of each kind, and with each so many pieces of so many polls: short ones, as others use the cores.
const ROUNDS: usize = 15;
const PIECES: usize = 60;
const POLLS: u32 = 500;
const KINDS: [Waits; 6] =
    [Waits::Deep(3), Waits::Deep(10), Waits::Deep(30), Waits::At(1), Waits::At(4), Waits::At(16)];

/// Never done. Registers the waker in each poll, as what has been woken does.
struct Leaf(Option<Waker>);

impl Future for Leaf {
    type Output = ();

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0 = Some(context.waker().clone());
        Poll::Pending
    }
}

type Boxed = Pin<Box<dyn Future<Output = ()>>>;

fn nested(depth: u32) -> Boxed {
    match depth {
        0 => Box::pin(Leaf(None)),
        _ => Box::pin(async move { nested(depth - 1).await }),
    }
}

/// Waits at another place in each poll, in turn.
struct Places {
    places: Vec<Boxed>,
    polls: usize,
}

impl Future for Places {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let at = self.polls % self.places.len();
        self.polls += 1;
        self.places[at].as_mut().poll(context)
    }
}

/// A place of its own for each `N`.
#[inline(never)]
fn place<const N: u32>() -> Boxed {
    Box::pin(async move {
        nested(2).await;
        // So that no two of them are the same code.
        std::hint::black_box(N);
    })
}

fn places(count: u32) -> Places {
    let all: [fn() -> Boxed; 16] = [
        place::<0>,
        place::<1>,
        place::<2>,
        place::<3>,
        place::<4>,
        place::<5>,
        place::<6>,
        place::<7>,
        place::<8>,
        place::<9>,
        place::<10>,
        place::<11>,
        place::<12>,
        place::<13>,
        place::<14>,
        place::<15>,
    ];
    let places = all.iter().take(count as usize).map(|place| place()).collect();
    Places { places, polls: 0 }
}

/// What a task does.
#[derive(Clone, Copy)]
enum Waits {
    /// At one place, so many async functions deep.
    Deep(u32),
    /// Three deep, at so many places.
    At(u32),
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deep(depth) => write!(f, "{depth} deep"),
            Self::At(1) => write!(f, "3 deep, at 1 place"),
            Self::At(count) => write!(f, "3 deep, at {count} places in turn"),
        }
    }
}

fn start(chains: bool) -> Recorder {
    // So large and so long that no generation ends meanwhile.
    let hours = |count: u64| Duration::from_secs(3600 * count);
    let builder = Recorder::builder().max_bytes(64 << 20).window(hours(2));
    let builder = builder.generation_period(hours(1)).async_stacks(chains);
    let recorder = builder.start().expect("it starts");
    while recorder.stats().unwind_tables.modules == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    recorder
}

fn polls(waits: Waits, count: u32) {
    match waits {
        Waits::Deep(depth) => polls_of(nested(depth), count),
        Waits::At(count_of_places) => polls_of(places(count_of_places), count),
    }
}

fn polls_of(task: impl Future<Output = ()>, count: u32) {
    let mut task = pin!(task.recorded("task"));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..count {
        assert!(task.as_mut().poll(&mut context).is_pending());
    }
}

fn timed(count: u32, work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_nanos() as f64 / f64::from(count)
}

#[cfg(target_arch = "x86_64")]
fn clock() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn clock() -> u64 {
    0
}

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    if let Some(count) = number("--polls") {
        let recorder = start(!arguments.iter().any(|argument| argument == "--off"));
        polls(Waits::Deep(number("--depth").unwrap_or(3)), count);
        drop(recorder.stop().expect("it stops"));
        return;
    }
    let mut clocks = Vec::new();
    let mut times = KINDS.map(|_| [Vec::new(), Vec::new()]);
    for _ in 0..ROUNDS {
        for chains in [false, true] {
            let recorder = start(chains);
            for _ in 0..PIECES {
                for (waits, times) in KINDS.into_iter().zip(&mut times) {
                    times[usize::from(chains)].push(timed(POLLS, || polls(waits, POLLS)));
                }
                clocks.push(timed(POLLS, || {
                    (0..POLLS).for_each(|_| _ = std::hint::black_box(clock()));
                }));
            }
            drop(recorder.stop().expect("it stops"));
        }
    }
    let clock = Cost::of(&mut clocks);
    common::header();
    common::row("the clock instruction", clock, clock);
    for (waits, [mut off, mut on]) in KINDS.into_iter().zip(times) {
        let (off, on) = (Cost::of(&mut off), Cost::of(&mut on));
        let (median, quiet) = (on.median - off.median, on.quiet - off.quiet);
        common::row(&format!("a pending poll, {waits}, without"), off, clock);
        common::row("  with where it waits", on, clock);
        common::row("  the difference", Cost { median, quiet }, clock);
    }
}
