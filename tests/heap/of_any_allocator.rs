//! The heap: what is counted is what was allocated and freed, and samples say which stacks allocated what is alive, within
//! the error that samples have.

use crate::INNER;
use crate::common::{self, alone};
use lookback::read::OwnedFrame;
use lookback::read::analysis::HeapProfile;
use lookback::{Alloc, Recorder};
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the allocator behind the recorder's sees: the truth.
struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes each call on.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's layout.
        let object = unsafe { INNER.alloc(layout) };
        assert!(object.addr().is_multiple_of(layout.align()));
        object
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's layout.
        unsafe { INNER.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size() as u64, Relaxed);
        FREES.fetch_add(1, Relaxed);
        // SAFETY: the caller's.
        unsafe { INNER.dealloc(object, layout) };
    }

    unsafe fn realloc(&self, object: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED.fetch_add(size as u64, Relaxed);
        ALLOCATIONS.fetch_add(1, Relaxed);
        FREED.fetch_add(layout.size() as u64, Relaxed);
        FREES.fetch_add(1, Relaxed);
        // SAFETY: the caller's.
        unsafe { INNER.realloc(object, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Alloc<Counting> = Alloc::new(Counting);

/// What the truth and the recorder's counters say at one moment, while no other thread allocates.
fn both() -> ([u64; 4], [u64; 4]) {
    let of = lookback::stats().unwrap().heap.expect("it is counted");
    let truth = [&ALLOCATED, &ALLOCATIONS, &FREED, &FREES].map(|word| word.load(Relaxed));
    (truth, [of.allocated, of.allocations, of.freed, of.frees])
}

#[test]
fn all_that_is_allocated_and_freed_is_counted() {
    alone("of_any_allocator::all_that_is_allocated_and_freed_is_counted", || {
        let recorder = Recorder::builder().start().unwrap();
        // The collector allocates while it reads how to unwind the stack.
        assert!(common::wait_for(|| recorder.stats().unwind_tables.modules > 0));
        let before = both();
        for round in 0..50_u64 {
            // Threads come and go; what one allocates another frees.
            let made: Vec<_> = (0..8)
                .map(|of| {
                    std::thread::spawn(move || {
                        let sizes = (0..2000).map(|i| 1 + (i * 7919 + of * 31 + round) % 5000);
                        let mut all: Vec<Vec<u8>> =
                            sizes.map(|size| black_box(vec![1; size as usize])).collect();
                        all.truncate(1500);
                        for grown in all.iter_mut().step_by(3) {
                            grown.reserve(grown.len() * 40);
                            grown.shrink_to_fit();
                        }
                        all
                    })
                })
                .collect();
            made.into_iter().for_each(|thread| drop(thread.join().unwrap()));
        }
        let after = both();
        // `stats` itself allocates, after it has read the counters.
        for (at, what) in ["allocated", "allocations", "freed", "frees"].iter().enumerate() {
            let truth = after.0[at] - before.0[at];
            let counted = after.1[at] - before.1[at];
            assert!(
                truth.abs_diff(counted) < 100_000.min(truth / 100),
                "{what}: {counted} of {truth}"
            );
        }
        common::stop(recorder);
    });
}

#[test]
fn samples_keep_what_is_in_them_and_their_alignment_however_they_grow() {
    alone(
        "of_any_allocator::samples_keep_what_is_in_them_and_their_alignment_however_they_grow",
        || {
            // Nearly everything is a sample.
            let recorder = Recorder::builder().heap_samples(1024).start().unwrap();
            let mut random = 12345_u64;
            let mut next = |most: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % most
            };
            let mut alive: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for step in 0..30_000_u64 {
                let most = if next(50) == 0 { 600_000 } else { 3000 };
                let size = 1 + next(most) as usize;
                let fill = step as u8;
                match next(4) {
                    0 | 1 => {
                        let layout = Layout::from_size_align(size, 1 << next(14)).unwrap();
                        let is_zeroed = next(2) == 0;
                        // SAFETY: the size is not 0.
                        unsafe {
                            let object = if is_zeroed {
                                std::alloc::alloc_zeroed(layout)
                            } else {
                                std::alloc::alloc(layout)
                            };
                            assert!(object.addr().is_multiple_of(layout.align()));
                            if is_zeroed {
                                assert!((0..size).all(|at| object.add(at).read() == 0));
                            }
                            object.write_bytes(fill, size);
                            alive.push((object, layout, fill));
                        }
                    }
                    2 if !alive.is_empty() => {
                        let at = next(alive.len() as u64) as usize;
                        let (object, layout, fill) = &mut alive[at];
                        // SAFETY: it was allocated with this layout.
                        unsafe {
                            *object = std::alloc::realloc(*object, *layout, size);
                            let kept = size.min(layout.size());
                            assert!((0..kept).all(|at| object.add(at).read() == *fill));
                            *layout = Layout::from_size_align(size, layout.align()).unwrap();
                            assert!(object.addr().is_multiple_of(layout.align()));
                            object.write_bytes(*fill, size);
                        }
                    }
                    _ if !alive.is_empty() => {
                        let (object, layout, fill) =
                            alive.swap_remove(next(alive.len() as u64) as usize);
                        // SAFETY: as above.
                        unsafe {
                            assert!((0..layout.size()).all(|at| object.add(at).read() == fill));
                            std::alloc::dealloc(object, layout);
                        }
                    }
                    _ => {}
                }
            }
            for (object, layout, _) in alive {
                // SAFETY: as above.
                unsafe { std::alloc::dealloc(object, layout) };
            }
            common::stop(recorder);
        },
    );
}

/// How many bytes each of three places keeps, in objects of which size, and how many it frees again.
const PLACES: [(&str, usize, usize, usize); 3] = [
    ("many_small", 100, 400_000, 0),
    ("some_large", 200_000, 150, 300),
    ("most_freed", 3000, 2000, 40_000),
];

#[inline(never)]
fn many_small(size: usize) -> Vec<u8> {
    black_box(vec![1; black_box(size)])
}

#[inline(never)]
fn some_large(size: usize) -> Vec<u8> {
    black_box(vec![2; black_box(size)])
}

#[inline(never)]
fn most_freed(size: usize) -> Vec<u8> {
    black_box(vec![3; black_box(size)])
}

#[test]
fn what_is_alive_is_told_by_stack_within_the_error_of_samples() {
    let name = "of_any_allocator::what_is_alive_is_told_by_stack_within_the_error_of_samples";
    for _ in 0..if common::long() { 20 } else { 3 } {
        // Each process has seeds of its own.
        alone(name, || {
            let recorder = Recorder::builder().max_bytes(64 << 20).start().unwrap();
            assert!(common::wait_for(|| recorder.stats().unwind_tables.modules > 0));
            let make: [fn(usize) -> Vec<u8>; 3] = [many_small, some_large, most_freed];
            let mut kept = Vec::new();
            for (make, (_, size, keep, free)) in make.into_iter().zip(PLACES) {
                (0..free).for_each(|_| drop(make(size)));
                kept.extend((0..keep).map(|_| make(size)));
            }
            let least: usize = PLACES.iter().map(|(_, size, keep, _)| size * keep).sum();
            // Not each generation lists it.
            let mut profile = HeapProfile::default();
            assert!(common::wait_for(|| {
                recorder.advance();
                let mut file = Vec::new();
                recorder.snapshot().unwrap().write_to(&mut file).unwrap();
                let trace = lookback::Trace::from_bytes(file).unwrap();
                profile = HeapProfile::of(&trace, |error| panic!("{error}"));
                profile.totals.is_some_and(|heap| heap.live as usize >= least)
            }));
            common::stop(recorder);
            let mut symbolizer = lookback::read::symbols::Symbolizer::new();
            let mut names = |frame: &OwnedFrame| -> Vec<_> {
                let named = symbolizer.locations(&frame.frame());
                named.iter().map(|of| of.function.to_string()).collect()
            };
            let names: Vec<_> = profile.frames().iter().map(&mut names).collect();
            for (place, size, keep, free) in PLACES {
                let is_it =
                    |frame: &u32| names[*frame as usize].iter().any(|name| name.ends_with(place));
                let found: Vec<_> =
                    profile.stacks.iter().filter(|of| of.frames.iter().any(is_it)).collect();
                let unknown: Vec<_> = profile
                    .stacks
                    .iter()
                    .filter(|of| of.frames.is_empty())
                    .map(|of| (of.source, of.live_bytes, of.allocated as u64))
                    .collect();
                let live: u64 = found.iter().map(|of| of.live_bytes).sum();
                let allocated: f64 = found.iter().map(|of| of.allocated).sum();
                // The variance of the estimate, of `n` objects of which each is a sample with probability p.
                let p = 1.0 - (-(size as f64) / (512.0 * 1024.0)).exp();
                let deviation = |n: usize| size as f64 * (n as f64 * (1.0 - p) / p).sqrt();
                for (what, told, n) in
                    [("alive", live as f64, keep), ("allocated", allocated, keep + free)]
                {
                    let off = (told - (size * n) as f64) / deviation(n);
                    println!("::{place}: {what} {told} of {}, {off:.2} deviations", size * n);
                    assert!(
                        off.abs() < 5.0,
                        "{place}: {what}: {told} of {}, off by {off}; without a stack: {unknown:?}",
                        size * n
                    );
                }
            }
            let heap = profile.totals.expect("the heap is counted");
            assert!(heap.live as usize >= least && heap.peak >= heap.live, "{heap:?}");
            drop(kept);
        });
    }
}
