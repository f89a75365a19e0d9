//! What watching the heap costs: the recorder's allocator, dial9's, and jemalloc's own profiler, each around the
//! allocator that it can be had with.
//!
//! `cargo run --release --features heap --bin allocators -- [--quick] [--rounds N]`, built with
//! `RUSTFLAGS="-C force-frame-pointers=yes"`, which dial9's stacks need.

use anyhow::{Context, Result, bail};
use lookback_peers::candidates::BYTES;
use lookback_peers::options::Options;
use lookback_peers::report::Report;
use lookback_peers::rounds::{Candidate, Results, run_child};
use lookback_peers::table;
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Instant;
use tikv_jemallocator::Jemalloc;

/// A sample in so many bytes, on average: the default of all three.
const INTERVAL: u64 = 512 << 10;
/// How many allocations are measured at once.
const CALLS: u32 = 200_000;

const FIGURES: [(&str, &str); 3] = [
    ("small", "malloc and free of 64 bytes"),
    ("medium", "malloc and free of 1 KiB"),
    ("mixed", "many sizes, 1,000 alive (as in Larson's benchmark)"),
];

/// Names, titles, and the candidate whose ratio it is.
const CANDIDATES: [(&str, &str, usize); 9] = [
    ("system", "the system's (glibc)", 0),
    ("system", "the system's, again", 0),
    ("lookback-counted", "lookback around it, counted", 0),
    ("lookback", "lookback around it, counted and sampled", 0),
    ("dial9", "dial9 around it, sampled", 0),
    ("dial9-live", "dial9 around it, sampled, with what is alive", 0),
    ("jemalloc", "jemalloc", 6),
    ("jemalloc-profiled", "jemalloc, its own profiler", 6),
    ("lookback-jemalloc", "lookback around jemalloc, counted and sampled", 6),
];

fn main() -> Result<()> {
    let options = Options::from_arguments()?;
    match options.child.as_deref() {
        None => drive(&options),
        Some("system") => measure(System, &options),
        Some("jemalloc" | "jemalloc-profiled") => measure(Jemalloc, &options),
        Some("lookback-counted") => recorded(System, 0, &options),
        Some("lookback") => recorded(System, INTERVAL, &options),
        Some("lookback-jemalloc") => recorded(Jemalloc, INTERVAL, &options),
        Some("dial9") => by_dial9(false, &options),
        Some("dial9-live") => by_dial9(true, &options),
        Some(name) => bail!("no candidate {name}"),
    }
}

fn drive(options: &Options) -> Result<()> {
    let program = options.program()?;
    let candidates = CANDIDATES.map(|(name, title, base)| Candidate {
        title: title.to_owned(),
        program: program.clone(),
        name,
        base,
    });
    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 15 });
    let results = Results::collect(&candidates, rounds, |candidate| {
        let mut command = candidate.command(options.quick);
        if candidate.name == "jemalloc-profiled" {
            // 2 to the 19th bytes, as all of them.
            command.env("_RJEM_MALLOC_CONF", "prof:true,prof_active:true,lg_prof_sample:19");
        }
        run_child(command)
    })?;
    table::heading("Allocators", "allocators", &["dial9", "tikv-jemallocator"], options);
    println!("Nanoseconds; the ratio is the median of those of {rounds} rounds.");
    println!();
    table::columns(&["", "", "ns", "ratio", "quartiles"]);
    for (figure, what) in FIGURES {
        for (index, candidate) in candidates.iter().enumerate() {
            let Some((median, _)) = results.cost(index, figure) else { continue };
            let Some(ratio) = results.ratio(index, candidate.base, figure) else { continue };
            table::row(&[
                what.to_owned(),
                candidate.title.clone(),
                table::nanos(median),
                table::times(ratio.median),
                table::quartiles(&ratio),
            ]);
        }
    }
    println!();
    Ok(())
}

fn recorded<A: GlobalAlloc>(inner: A, interval: u64, options: &Options) -> Result<()> {
    let recorder = lookback::Recorder::builder().max_bytes(BYTES).heap_samples(interval).start()?;
    while recorder.stats().unwind_tables.modules == 0 {
        std::thread::yield_now();
    }
    measure(lookback::Alloc::new(inner), options)?;
    recorder.stop()?;
    Ok(())
}

fn by_dial9(track_liveset: bool, options: &Options) -> Result<()> {
    use dial9::memory::{Dial9Allocator, MemoryProfiler, MemoryProfilingConfig};
    let recorder = dial9::recorder(dial9::MemoryBuffer::new(BYTES as u64)?).build();
    let config = MemoryProfilingConfig::builder()
        .sample_rate_bytes(INTERVAL)
        .track_liveset(track_liveset)
        .build();
    let _profiler = MemoryProfiler::from_config(config)
        .install(recorder.handle().clone())
        .map_err(|error| anyhow::anyhow!("{error:?}"))
        .context("build with RUSTFLAGS=\"-C force-frame-pointers=yes\"")?;
    measure(Dial9Allocator::new(System), options)?;
    recorder.graceful_shutdown(std::time::Duration::from_secs(1));
    Ok(())
}

#[inline(never)]
fn measure<A: GlobalAlloc>(allocator: A, options: &Options) -> Result<()> {
    let batches = if options.quick { 5 } else { 20 };
    let mut report = Report::default();
    // The first batches fill tables and free lists, and are not counted.
    for counted in [false, true] {
        for _ in 0..batches {
            for (figure, work) in [
                ("small", (|of, calls| pairs(of, 64, calls)) as fn(&A, u32)),
                ("medium", |of, calls| pairs(of, 1024, calls)),
                ("mixed", mixed),
            ] {
                let began = Instant::now();
                work(&allocator, CALLS);
                let took = began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS);
                if counted {
                    report.add(figure, [took]);
                }
            }
        }
    }
    print!("{report}");
    Ok(())
}

/// One object after the other, each freed at once.
fn pairs<A: GlobalAlloc>(allocator: &A, size: usize, calls: u32) {
    let layout = Layout::from_size_align(size, 8).expect("a layout");
    for _ in 0..calls {
        // SAFETY: the layout has a size, and the object is freed with it.
        unsafe {
            let object = black_box(allocator.alloc(layout));
            allocator.dealloc(object, layout);
        }
    }
}

/// Objects of many sizes, of which 1,000 are alive at a time.
fn mixed<A: GlobalAlloc>(allocator: &A, calls: u32) {
    const ALIVE: usize = 1000;
    let mut alive = [(std::ptr::null_mut::<u8>(), Layout::new::<u8>()); ALIVE];
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..calls {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let place = &mut alive[(random % ALIVE as u64) as usize];
        let largest = if random.is_multiple_of(64) { 16_384 } else { 512 };
        let size = 16 + (random >> 32) as usize % largest;
        // SAFETY: each object is freed once, with its layout, which has a size.
        unsafe {
            if !place.0.is_null() {
                allocator.dealloc(place.0, place.1);
            }
            place.1 = Layout::from_size_align_unchecked(size, 8);
            place.0 = allocator.alloc(place.1);
            place.0.write(1);
        }
    }
    for (object, layout) in alive {
        if !object.is_null() {
            // SAFETY: as above.
            unsafe { allocator.dealloc(object, layout) };
        }
    }
}
