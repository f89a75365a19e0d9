//! A full recorder loses the oldest data, whatever is held up: the collector, before it advances and at each
//! of its steps, for seconds and forever; writers inside an event, while carving a block and while publishing
//! a generation, as others fill the arena several times over.
//!
//! On an overloaded machine this happens by itself, once in thousands of runs. Here threads are held up on
//! purpose (`fault_injection`), in builds with debug assertions or with that feature.
#![cfg(any(debug_assertions, feature = "fault_injection"))]

mod common;
#[path = "common/held.rs"]
mod held;

use common::Emitted;
use held::{FOREVER, LetGo, arena, in_use, laps, numbers};
use lookback::Recorder;
use lookback::fault_injection::{Point, hold};
use lookback::read::Trace;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const WRITERS: u64 = 2;

/// Writers that write numbered events as fast as they can, and remember the last one.
struct Writers {
    go_on: Arc<AtomicBool>,
    last: Vec<Arc<AtomicU64>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    fn start(emitted: &Arc<Emitted>) -> Self {
        let go_on = Arc::new(AtomicBool::new(true));
        let last: Vec<_> = (0..WRITERS).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let threads = last.iter().enumerate().map(|(writer, last)| {
            let (go_on, last, emitted) =
                (Arc::clone(&go_on), Arc::clone(last), Arc::clone(emitted));
            std::thread::spawn(move || {
                let _open = lookback::region!("held for good");
                // The thread's start and end, and those of the region.
                emitted.add(4);
                let mut number = 0;
                while go_on.load(Ordering::Relaxed) {
                    number += 1;
                    lookback::event!("numbered", writer = writer, number = number);
                    last.store(number, Ordering::Release);
                }
                // The previous event may have begun in a generation that is long gone.
                number += 1;
                lookback::event!("numbered", writer = writer, number = number);
                last.store(number, Ordering::Release);
                emitted.add(number);
            })
        });
        let threads = threads.collect();
        Self { go_on, last, threads }
    }

    fn written(&self) -> u64 {
        self.last.iter().map(|last| last.load(Ordering::Acquire)).sum()
    }

    /// What each writer has certainly written.
    fn newest(&self) -> Vec<u64> {
        self.last.iter().map(|last| last.load(Ordering::Acquire)).collect()
    }

    fn end(mut self) -> Vec<u64> {
        self.go_on.store(false, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        threads.into_iter().for_each(|thread| thread.join().expect("a writer does not panic"));
        self.last.iter().map(|last| last.load(Ordering::Acquire)).collect()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.go_on.store(false, Ordering::Relaxed);
    }
}

/// The view of an outside reader, which advances nothing. A reader without a core for long is outrun.
fn seen() -> Trace {
    let look = || arena().snapshot("test", "test").ok();
    let snapshot = (0..100).find_map(|_| look()).expect("it can be read");
    common::read(&snapshot)
}

fn start(max_bytes: usize) -> Recorder {
    common::start_with(max_bytes, Duration::from_millis(100))
}

/// The collector gets no core: as far as the writers can tell, forever.
fn the_newest_is_kept(max_bytes: usize) {
    hold(Point::Advance, FOREVER, 1);
    let recorder = start(max_bytes);
    let held = LetGo(Point::Advance);
    let emitted = Arc::new(Emitted::new());
    let writers = Writers::start(&emitted);
    let arena = arena();
    assert!(common::wait_for(|| laps(&arena) >= 2), "the arena is filled");
    let mut least = 1.0_f64;
    while laps(&arena) < 5 {
        least = least.min(in_use(&arena).unwrap_or(1.0));
        std::thread::sleep(Duration::from_micros(100));
    }
    // Two writers fill a mebibyte in 2 ms. A writer without a core for that long has nothing left in the
    // arena, and a look that is held up for that long finds the newest event of neither: so one look of many
    // must.
    let has_all = |_| {
        let before = writers.newest();
        let trace = seen();
        common::assert_sound(&trace);
        let found = numbers(&trace, recorder.stats().lost_in_all());
        let mut all = (0..).zip(&before);
        all.all(|(writer, before)| found.get(&writer).is_some_and(|(_, last)| last >= before))
    };
    assert!((0..100).any(has_all), "no look has the newest event of each writer");
    let last = writers.end();
    let lost = recorder.stats().lost_in_all();
    // A writer that is held up for a whole lap between entering and carving may lose an event.
    let written = last.iter().sum::<u64>();
    assert!(lost * 100_000 <= written, "{lost} of {written} events were lost");
    assert!(least >= 0.7, "{least:.2} of the arena were in use");
    drop(held);
    let stats = recorder.stats();
    assert_eq!(stats.recorded + stats.lost_in_all(), emitted.get());
    let lost = recorder.stats().lost_in_all();
    let trace = common::stop(recorder);
    let found = numbers(&trace, lost);
    for (writer, last) in (0..).zip(&last) {
        assert_eq!(found.get(&writer).map(|(_, last)| last), Some(last), "writer {writer}");
    }
    println!("::{max_bytes}: {last:?} events, {least:.2} in use at least, {stats:?}");
}

#[test]
fn the_newest_is_kept_though_the_collector_never_comes() {
    common::alone("the_newest_is_kept_though_the_collector_never_comes", || {
        the_newest_is_kept(1 << 20);
        the_newest_is_kept(8 << 20);
        if !cfg!(debug_assertions) || common::long() {
            the_newest_is_kept(32 << 20);
        }
        // Each look reads all of it while two writers keep two cores busy.
        if common::long() {
            the_newest_is_kept(256 << 20);
        }
    });
}

/// Some thread is held up at these points, again and again, for longer than the arena takes to fill.
fn all_is_accounted_for(holds: &[(Point, u64, u64)]) {
    let recorder = start(1 << 20);
    let emitted = Arc::new(Emitted::new());
    let writers = Writers::start(&emitted);
    for (point, millis, one_in) in holds {
        hold(*point, Duration::from_millis(*millis), *one_in);
    }
    let arena = arena();
    let began = Instant::now();
    let (laps_wanted, mut looks) = (if common::long() { 100 } else { 6 }, 0);
    while laps(&arena) < laps_wanted && began.elapsed() < Duration::from_secs(60) {
        let trace = seen();
        common::assert_sound(&trace);
        numbers(&trace, recorder.stats().lost_in_all());
        looks += 1;
        if looks % 8 == 0 {
            // It is held up, too, and comes to its end all the same.
            let snapshot = lookback::snapshot().expect("a snapshot is taken");
            common::assert_sound(&common::read(&snapshot));
        }
    }
    for (point, ..) in holds {
        hold(*point, Duration::ZERO, 1);
    }
    let written = writers.written();
    let last = writers.end();
    common::advance(&recorder);
    let stats = recorder.stats();
    let (emitted, lost) = (emitted.get(), stats.lost_in_all());
    assert_eq!(emitted, stats.recorded + lost, "emitted = recorded + lost; {stats:?}");
    assert!(lost * 1000 <= emitted, "{lost} of {emitted} events were lost");
    let lost = recorder.stats().lost_in_all();
    let trace = common::stop(recorder);
    let found = numbers(&trace, lost);
    for (writer, last) in (0..).zip(&last) {
        assert_eq!(found.get(&writer).map(|(_, last)| last), Some(last), "writer {writer}");
    }
    println!("::{holds:?}: {written} events, {lost} lost, {looks} looks, {} laps", laps(&arena));
}

#[test]
fn an_advance_may_stop_at_each_of_its_steps() {
    common::alone("an_advance_may_stop_at_each_of_its_steps", || {
        for point in [Point::Noted, Point::Published, Point::Settled, Point::Listed] {
            all_is_accounted_for(&[(point, 150, 2)]);
        }
    });
}

#[test]
fn a_writer_may_stop_inside_of_an_event_while_others_fill_the_arena() {
    common::alone("a_writer_may_stop_inside_of_an_event_while_others_fill_the_arena", || {
        for point in [Point::Inside, Point::Carved, Point::Publish, Point::Helped] {
            all_is_accounted_for(&[(point, 150, 17)]);
        }
    });
}

#[test]
fn anybody_may_stop_anywhere() {
    common::alone("anybody_may_stop_anywhere", || {
        all_is_accounted_for(&[
            (Point::Advance, 40, 3),
            (Point::Noted, 30, 5),
            (Point::Published, 30, 7),
            (Point::Settled, 30, 3),
            (Point::Listed, 100, 3),
            (Point::Inside, 60, 31),
            (Point::Carved, 60, 37),
            (Point::Publish, 60, 11),
            (Point::Helped, 30, 13),
        ]);
    });
}

/// A writer that is still inside a generation when the next one is published, and then ends a region, is
/// noted as it leaves.
#[test]
fn who_lags_behind_is_noted_as_it_leaves() {
    common::alone("who_lags_behind_is_noted_as_it_leaves", || {
        hold(Point::Advance, FOREVER, 1);
        let recorder = common::start_with(1 << 20, Duration::from_millis(1));
        let held = LetGo(Point::Advance);
        let generation = || recorder.stats().generation;
        // Writers end generations: this one does, and is not held up.
        let publish = || {
            let before = generation();
            while generation() == before {
                (0..100).for_each(|number| lookback::event!("filler", number));
            }
        };
        let (order, ordered) = std::sync::mpsc::channel();
        let (say, said) = std::sync::mpsc::channel();
        let lagging = std::thread::spawn(move || {
            let region = lookback::region!("burst");
            say.send(()).expect("somebody listens");
            ordered.recv().expect("it is told to");
            drop(region);
            say.send(()).expect("somebody listens");
            ordered.recv().expect("it is told to");
        });
        said.recv().expect("it has begun");
        publish();
        // The first thread that needs room in the new generation: that one, inside, before it adopts it.
        lookback::event!("filler", number = 0);
        hold(Point::Inside, FOREVER, u64::MAX);
        order.send(()).expect("it is there");
        // Threads that are held up there are released.
        let let_go = std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(400));
            hold(Point::Inside, Duration::ZERO, 1);
        });
        std::thread::sleep(Duration::from_millis(100));
        publish();
        for _ in 0..3 {
            lookback::event!("filler", number = 1);
            std::thread::sleep(Duration::from_millis(2));
            common::assert_sound(&common::read(&recorder.snapshot().expect("one is taken")));
        }
        let_go.join().expect("it ends");
        said.recv().expect("it goes on");
        order.send(()).expect("it is there");
        lagging.join().expect("it ends");
        drop(held);
        common::stop(recorder);
    });
}

/// A reader may be held up for longer than the arena takes to fill: then everything there began after its
/// look.
#[test]
fn who_looks_may_be_held_up_until_all_is_new() {
    common::alone("who_looks_may_be_held_up_until_all_is_new", || {
        let recorder = start(1 << 20);
        let emitted = Arc::new(Emitted::new());
        let writers = Writers::start(&emitted);
        let arena = arena();
        hold(Point::Advance, FOREVER, 1);
        let held = LetGo(Point::Advance);
        assert!(common::wait_for(|| laps(&arena) >= 2), "the arena is filled");
        hold(Point::Look, Duration::from_millis(if cfg!(debug_assertions) { 300 } else { 20 }), 2);
        for _ in 0..5 {
            // All attempts of one look may be outrun.
            if let Ok(snapshot) = arena.snapshot("test", "test") {
                common::assert_sound(&common::read(&snapshot));
            }
            if let Ok(snapshot) = lookback::snapshot() {
                common::assert_sound(&common::read(&snapshot));
            }
        }
        hold(Point::Look, Duration::ZERO, 1);
        writers.end();
        drop(held);
        drop(recorder);
    });
}

/// A silent thread, and the state of a task, are known again as soon as the collector runs.
#[test]
fn what_is_silent_is_known_again_when_the_collector_comes_back() {
    common::alone("what_is_silent_is_known_again_when_the_collector_comes_back", || {
        let recorder = start(1 << 20);
        let go_on = Arc::new(AtomicBool::new(true));
        let silent = {
            let go_on = Arc::clone(&go_on);
            std::thread::Builder::new().name("silent".to_owned()).spawn(move || {
                let _open = lookback::region!("open all the time");
                while go_on.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        };
        let silent = silent.expect("a thread starts");
        std::thread::sleep(Duration::from_millis(50));
        common::advance(&recorder);
        hold(Point::Advance, FOREVER, 1);
        let emitted = Arc::new(Emitted::new());
        let writers = Writers::start(&emitted);
        let arena = arena();
        assert!(common::wait_for(|| laps(&arena) >= 3), "the arena is filled");
        writers.end();
        hold(Point::Advance, Duration::ZERO, 1);
        common::advance(&recorder);
        let snapshot = recorder.snapshot().expect("a snapshot is taken");
        let trace = common::read(&snapshot);
        common::assert_sound(&trace);
        let last = trace.generations().iter().rfind(|info| info.complete).expect("one is complete");
        let generation = trace.generation(last.number).expect("it is there");
        let regions: Vec<_> = generation
            .statuses()
            .filter(|state| state.thread().is_some_and(|thread| &*thread.name == "silent"))
            .flat_map(|state| {
                state.regions().map(|region| region.site.name.to_string()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(regions, ["open all the time"]);
        go_on.store(false, Ordering::Relaxed);
        silent.join().expect("it ends");
    });
}
