//! What triggers cost when they do not fire, and how long it takes from the trigger to the file.
//!
//! `cargo bench --bench triggers`. Compares recorders with and without triggers in one run: a process has one
//! recorder, so it is started again for each round, in turn, and twice without triggers, so that the A/A pair
//! shows what the machine itself changes.

mod common;

use common::{Cost, header, quantiles, row};
use lookback::{Level, RecordExt, Recorder, Trigger, event, log, region};
use std::hint::black_box;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

const ROUND: u32 = 20_000;
const ROUNDS: usize = 41;
/// Longer than anything here takes.
const NEVER: Duration = Duration::from_secs(3600);

fn main() {
    let place = tempfile::tempdir().expect("a directory");
    println!("triggers that do not fire; every ratio is to the same work without triggers");
    header();
    sites(place.path());
    polls(place.path());
    to_file(place.path());
}

/// How a recorder is started: without triggers, or with one of each kind.
#[derive(Clone, Copy, PartialEq)]
enum With {
    Nothing,
    Triggers,
    Watchdog,
}

const IN_TURN: [With; 3] = [With::Nothing, With::Nothing, With::Triggers];

fn start(place: &Path, with: With) -> Recorder {
    let mut builder = Recorder::builder().max_bytes(64 << 20);
    if with != With::Nothing {
        builder = builder.snapshot_dir(place);
    }
    if with == With::Triggers {
        builder = builder
            .trigger(Trigger::log(Level::Error))
            .trigger(Trigger::slow_region("slow region", NEVER))
            .trigger(Trigger::slow_span("slow span", NEVER))
            .trigger(Trigger::signal());
    }
    if with != With::Nothing {
        builder = builder.trigger(Trigger::stalled_poll(Duration::from_millis(100)));
    }
    builder.start().expect("nothing is recorded yet")
}

/// Measures all of `work` in each configuration in turn; returns the costs, by work and by configuration.
fn in_turn(
    place: &Path,
    ways: [With; 3],
    calls: u32,
    work: &mut [&mut dyn FnMut()],
) -> Vec<[Cost; 3]> {
    let mut times = vec![[const { Vec::new() }; 3]; work.len()];
    for round in 0..ROUNDS + 2 {
        for turn in 0..3 {
            // The order changes, so that none is always first.
            let way = (turn + round) % 3;
            let recorder = start(place, ways[way]);
            for (work, times) in work.iter_mut().zip(&mut times) {
                work();
                let began = Instant::now();
                work();
                let nanos = began.elapsed().as_nanos() as f64 / f64::from(calls);
                if round >= 2 {
                    times[way].push(nanos);
                }
            }
            drop(recorder);
        }
    }
    times.into_iter().map(|mut ways| ways.each_mut().map(|times| Cost::of(times))).collect()
}

fn sites(place: &Path) {
    let subscriber = lookback::tracing::subscriber();
    let _default = tracing::subscriber::set_default(subscriber);
    let mut events = || {
        for n in 0..u64::from(ROUND) {
            event!("evict", keys = black_box(n & 63), bytes = black_box(4000 + (n & 1023)));
        }
    };
    let mut regions = || {
        for _ in 0..ROUND {
            let _guard = region!("parse");
        }
    };
    let mut watched_regions = || {
        for _ in 0..ROUND {
            let _guard = region!("slow region");
        }
    };
    let mut logs = || {
        for _ in 0..ROUND {
            log!("cache", "a message without arguments");
        }
    };
    let mut spans = || {
        for n in 0..ROUND {
            let _span = tracing::info_span!("request", n).entered();
        }
    };
    let mut watched_spans = || {
        for n in 0..ROUND {
            let _span = tracing::info_span!("slow span", n).entered();
        }
    };
    let work: &mut [&mut dyn FnMut()] = &mut [
        &mut events,
        &mut regions,
        &mut logs,
        &mut spans,
        &mut watched_regions,
        &mut watched_spans,
    ];
    let names = ["event", "region", "log", "span", "region with a limit", "span with a limit"];
    for (name, [base, again, with]) in names.iter().zip(in_turn(place, IN_TURN, ROUND, work)) {
        row(&format!("{name}, without triggers"), base, base);
        row(&format!("{name}, without triggers (A/A)"), again, base);
        row(&format!("{name}, with triggers"), with, base);
    }
}

fn polls(place: &Path) {
    // By hand, on one thread: an executor's overhead differs from round to round.
    let mut polls = || {
        let mut left = ROUND;
        let yields = std::future::poll_fn(move |_| {
            left -= 1;
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut yields = pin!(yields.recorded("yields"));
        let mut context = Context::from_waker(Waker::noop());
        while yields.as_mut().poll(&mut context).is_pending() {}
    };
    let ways = [With::Nothing, With::Nothing, With::Watchdog];
    let [base, again, with] = in_turn(place, ways, ROUND, &mut [&mut polls])[0];
    row("poll, without the watchdog", base, base);
    row("poll, without the watchdog (A/A)", again, base);
    row("poll, with the watchdog", with, base);
}

/// Fills the arena with what a service would record, until it has wrapped around.
fn fill(recorder: &Recorder) {
    let mut random = 1_u64;
    while recorder.stats().reclaimed == 0 {
        for n in 0..20_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let _request = region!("request");
            for _ in 0..(random >> 58) {
                std::hint::spin_loop();
            }
            event!("lookup", key = random >> 44, hit = random >> 63 == 1);
            let _inner = region!("render");
            if n % 8 == 0 {
                log!("cache", "evicted {} of {n}", random >> 52);
            }
        }
    }
}

fn to_file(place: &Path) {
    let recorder = Recorder::builder()
        .max_bytes(32 << 20)
        .window(NEVER)
        .snapshot_dir(place)
        .snapshot_limits(3, 1 << 30)
        .start()
        .expect("nothing is recorded yet");
    fill(&recorder);
    let trigger = Trigger::named("bench").cool_down(Duration::ZERO).per_hour(u32::MAX).arm();
    let fire = || {
        let began = Instant::now();
        let fired = trigger.fire(|| "measured".to_owned()).expect("it fires");
        let fire = began.elapsed();
        fired.wait(NEVER).expect("in time").expect("there is room");
        [fire, began.elapsed()]
    };
    let mut all: Vec<_> = (0..15).map(|_| fire()).collect();
    println!("\nfrom the trigger to the file, for a full arena of 32 MiB, in ms");
    println!("{:<44} {:>9} {:>9}", "", "median", "worst");
    let show = |name: &str, mut values: Vec<f64>| {
        let [median, worst] = quantiles(&mut values, [0.5, 1.0]);
        println!("{name:<44} {median:>9.2} {worst:>9.2}");
    };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    show("the firing thread's wait", all.iter().map(|times| ms(times[0])).collect());
    show("trigger to file, quiet", all.iter().map(|times| ms(times[1])).collect());
    parts(&recorder, place, show);

    // The cost of two writers' events meanwhile: in short rounds, with and without a save in progress.
    let (stop, saving) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let writer = |stop: Arc<AtomicBool>, saving: Arc<AtomicBool>| {
        move || {
            let mut rounds = [Vec::new(), Vec::new()];
            while !stop.load(Ordering::Relaxed) {
                let before = saving.load(Ordering::Relaxed);
                let began = Instant::now();
                for n in 0..200_u64 {
                    event!("evict", keys = black_box(n & 63), bytes = black_box(4000 + n));
                }
                let nanos = began.elapsed().as_nanos() as f64 / 200.0;
                if before == saving.load(Ordering::Relaxed) {
                    rounds[usize::from(before)].push(nanos);
                }
                std::thread::sleep(Duration::from_micros(50));
            }
            rounds
        }
    };
    let writer = std::thread::spawn(writer(Arc::clone(&stop), Arc::clone(&saving)));
    all.clear();
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(150));
        saving.store(true, Ordering::Relaxed);
        all.push(fire());
        saving.store(false, Ordering::Relaxed);
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = writer.join().expect("it does not panic");
    show("trigger to file, while a thread records", all.iter().map(|t| ms(t[1])).collect());
    println!(
        "\nan event of that thread, in ns: the median of rounds of 200, their 99 %, the worst"
    );
    for (name, mut rounds) in
        ["nothing is being saved", "a snapshot is being saved"].iter().zip(rounds)
    {
        let count = rounds.len();
        let [median, most, worst] = quantiles(&mut rounds, [0.5, 0.99, 1.0]);
        println!("{name:<44} {median:>9.1} {most:>9.1} {worst:>9.1}   of {count}");
    }
    println!("events lost: {}", recorder.stats().lost_in_all());
}

/// What the time goes into.
fn parts(recorder: &Recorder, place: &Path, show: impl Fn(&str, Vec<f64>)) {
    use std::io::Write;
    let (mut copies, mut compressions) = (Vec::new(), Vec::new());
    let (mut writes, mut syncs) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    let ms = |began: Instant| began.elapsed().as_secs_f64() * 1e3;
    for _ in 0..15 {
        let began = Instant::now();
        let snapshot = recorder.snapshot().expect("nobody is stuck");
        copies.push(ms(began));
        let (began, mut file) = (Instant::now(), Vec::new());
        snapshot.write_to(&mut file).expect("memory takes everything");
        compressions.push(ms(began));
        bytes = file.len();
        let began = Instant::now();
        let path = place.join("parts.tmp");
        let mut out = std::fs::File::create(&path).expect("it can be made");
        out.write_all(&file).expect("there is room");
        writes.push(ms(began));
        let began = Instant::now();
        out.sync_all().expect("it can be synced");
        syncs.push(ms(began));
        std::fs::remove_file(path).expect("it is there");
    }
    show("  of which: copy", copies);
    show("  of which: compress", compressions);
    show("  of which: write", writes);
    show("  of which: sync", syncs);
    println!("  the file has {:.1} MB", bytes as f64 / 1e6);
}
