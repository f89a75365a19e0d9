//! Recorded tasks compared with bare Tokio: a switch in a ping-pong, and a spawn with its join.
//!
//! `cargo run --release --bin tasks -- [--quick] [--rounds N] [--unstable DIR]`
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
#[cfg(feature = "lookback")]
use lookback_peers::candidates::Lookback;
use lookback_peers::candidates::{Bare, Dial9, Tasks};
use lookback_peers::options::Options;
use lookback_peers::report::Report;
use lookback_peers::rounds::{Candidate, Results, run_child};
use lookback_peers::table;
use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::sync::Notify;

/// How often a task of a ping-pong waits, and how many tasks are spawned, in one measurement.
const CALLS: u32 = 20_000;

/// What is measured: the name of the figure, and its title in the table.
const FIGURES: [(&str, &str); 6] = [
    ("current.switch", "switch of a ping-pong, current thread"),
    ("current.deep10", "the same, ten async functions deep"),
    ("current.deep30", "the same, thirty deep"),
    ("workers.switch", "switch of a ping-pong, 2 workers"),
    ("current.spawn", "spawn and join, current thread"),
    ("workers.spawn", "spawn and join, 2 workers"),
];

fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    match options.child.as_deref() {
        None => drive(&options),
        Some("bare") => measure(Bare, &options),
        Some("dial9") => measure(Dial9::default(), &options),
        Some("dial9-dumps") => measure(Dial9 { task_dumps: true }, &options),
        #[cfg(feature = "lookback")]
        Some("lookback") => measure(Lookback::new(), &options),
        #[cfg(feature = "lookback")]
        Some("lookback-tasks") => measure(Lookback::new().async_stacks(false), &options),
        Some(name) => bail!("no candidate {name}"),
    }
}

/// Runs the candidates in turn and prints the table.
fn drive(options: &Options) -> Result<()> {
    let candidates = candidates(options)?;
    let rounds = options.rounds.unwrap_or(if options.quick { 3 } else { 15 });
    let results = Results::collect(&candidates, rounds, |candidate| {
        run_child(candidate.command(options.quick))
    })?;

    table::heading("Tasks", "tasks", &["tokio", "dial9"], options);
    println!(
        "Nanoseconds: the median of all measurements in {rounds} rounds, and the best tenth of them \
         (*quiet*). The ratio is the median of the ratios of the rounds, its quartiles beside it; \
         the quiet ratio is that of the quiet figures."
    );
    println!();
    table::columns(&["", "", "ns", "quiet", "ratio", "quartiles", "quiet ratio"]);
    for (figure, what) in FIGURES {
        for (index, candidate) in candidates.iter().enumerate() {
            let Some((median, quiet)) = results.cost(index, figure) else { continue };
            let Some((_, quiet_base)) = results.cost(candidate.base, figure) else { continue };
            let Some(ratio) = results.ratio(index, candidate.base, figure) else { continue };
            table::row(&[
                what.to_owned(),
                candidate.title.clone(),
                table::nanos(median),
                table::nanos(quiet),
                table::times(ratio.median),
                table::quartiles(&ratio),
                table::times(quiet / quiet_base),
            ]);
        }
    }
    println!();
    Ok(())
}

fn candidates(options: &Options) -> Result<Vec<Candidate>> {
    let program = options.program()?;
    let candidate = |title: &str, name, base| Candidate {
        title: title.to_owned(),
        program: program.clone(),
        name,
        base,
    };
    let mut candidates = vec![candidate("bare", "bare", 0), candidate("bare, again", "bare", 0)];
    #[cfg(feature = "lookback")]
    {
        candidates.push(candidate("lookback, without stacks of tasks", "lookback-tasks", 0));
        candidates.push(candidate("lookback", "lookback", 0));
    }
    candidates.push(candidate("dial9", "dial9", 0));
    if let Some(program) = options.unstable_program("tasks")? {
        let base = candidates.len();
        let candidate = |title: &str, name| Candidate {
            title: title.to_owned(),
            program: program.clone(),
            name,
            base,
        };
        candidates.push(candidate("bare, `tokio_unstable`", "bare"));
        candidates.push(candidate("dial9, `tokio_unstable`", "dial9"));
        candidates.push(candidate("dial9, `tokio_unstable`, task dumps", "dial9-dumps"));
    }
    Ok(candidates)
}

/// Measures one candidate, in this process.
fn measure<T: Tasks>(tasks: T, options: &Options) -> Result<()> {
    let budget = Duration::from_millis(if options.quick { 50 } else { 250 });
    let recorder = tasks.start()?;
    let mut report = Report::default();
    for (name, mut builder) in [
        ("current", Builder::new_current_thread()),
        ("workers", {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }),
    ] {
        builder.enable_all();
        let runtime = tasks.runtime(&recorder, builder)?;
        // As in any service, each of its threads has slept once.
        tasks.block_on(&runtime, async { tokio::time::sleep(Duration::from_millis(2)).await });
        report.add(
            &format!("{name}.switch"),
            repeat(budget, || tasks.block_on(&runtime, ping_pong(tasks, 1))),
        );
        if name == "current" {
            for depth in [10, 30] {
                let figure = format!("{name}.deep{depth}");
                let measure = || tasks.block_on(&runtime, ping_pong(tasks, depth));
                report.add(&figure, repeat(budget, measure));
            }
        }
        report.add(
            &format!("{name}.spawn"),
            repeat(budget, || tasks.block_on(&runtime, spawn_and_join(tasks))),
        );
    }
    tasks.stop(recorder)?;
    print!("{report}");
    Ok(())
}

/// Measures again and again until the time is used up; the first two times warm up.
fn repeat(budget: Duration, mut measure: impl FnMut() -> f64) -> Vec<f64> {
    measure();
    measure();
    let began = Instant::now();
    let mut values = Vec::new();
    while values.len() < 5 || began.elapsed() < budget {
        values.push(measure());
    }
    values
}

/// Two tasks wake each other in turn, each of them waiting in the innermost of `depth` async functions: nanoseconds
/// per switch.
async fn ping_pong<T: Tasks>(tasks: T, depth: u32) -> f64 {
    async fn player(mine: Arc<Notify>, theirs: Arc<Notify>, depth: u32) {
        for _ in 0..CALLS {
            if depth == 1 {
                mine.notified().await;
            } else {
                notified(&mine, depth).await;
            }
            theirs.notify_one();
        }
    }
    let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let began = Instant::now();
    let first = tasks.spawn(player(Arc::clone(&ping), Arc::clone(&pong), depth));
    let second = tasks.spawn(player(Arc::clone(&pong), Arc::clone(&ping), depth));
    ping.notify_one();
    first.await;
    second.await;
    began.elapsed().as_nanos() as f64 / f64::from(2 * CALLS)
}

/// Waits in the innermost of `depth` async functions. Each level is a box, so that the frames are there, whatever the
/// compiler inlines; and it is boxed for each wait.
fn notified(mine: &Notify, depth: u32) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    Box::pin(async move {
        if depth <= 1 {
            mine.notified().await;
        } else {
            notified(mine, depth - 1).await;
        }
    })
}

/// One task after the other, each joined before the next: nanoseconds each.
async fn spawn_and_join<T: Tasks>(tasks: T) -> f64 {
    let began = Instant::now();
    for n in 0..CALLS {
        black_box(tasks.spawn(async move { black_box(n) }).await);
    }
    began.elapsed().as_nanos() as f64 / f64::from(CALLS)
}
