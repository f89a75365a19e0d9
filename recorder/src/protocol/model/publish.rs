//! The first thread to come begins the next generation, exactly once, though several begin it at
//! once and each may stop anywhere. Every order of their steps is one in which some threads are
//! stopped for a while, and what holds after each step also holds if nothing follows.

use super::{Quiet, holds_within, is_caught};
use crate::protocol::ring::{Began, Ring};
use crate::sync::{AtomicU64, Ordering};
use loom::thread;
use std::sync::Arc;

struct Scene {
    ring: Ring,
    published: AtomicU64,
}

/// Generation 1 is running, and takes ten units.
fn scene() -> Arc<Scene> {
    let ring = Ring::new();
    ring.begin(1, Began { ticks: 100, monotonic: 1000, wall: 5000, frequency: 1_000_000_000 });
    ring.head.store(10, Ordering::Relaxed);
    ring.running.store(1, Ordering::Relaxed);
    Arc::new(Scene { ring, published: AtomicU64::new(1) })
}

impl Scene {
    /// `publish::enter` and `publish::publish`, at these ticks.
    fn begin_2(&self, ticks: u64) {
        let began = Began { ticks, ..Began::default() };
        self.ring.enter(2, began, &Quiet(&self.ring, |_| ())).expect("there is room");
        self.publish();
    }

    fn publish(&self) {
        let swap = |word: &AtomicU64| {
            let _ = word.compare_exchange(1, 2, Ordering::AcqRel, Ordering::Relaxed);
        };
        swap(&self.ring.running);
        swap(&self.published);
    }

    /// What a writer or a reader finds of generation 2, if it is published.
    fn look(&self) -> Option<[u64; 5]> {
        if self.published.load(Ordering::Acquire) != 2 {
            return None;
        }
        assert_eq!(
            self.ring.running.load(Ordering::Acquire),
            2,
            "its number was not written before"
        );
        let start = self.ring.start_of(2).expect("it is in the table");
        let entry = self.ring.entry(2);
        let word = |word: &AtomicU64| word.load(Ordering::Relaxed);
        let (ticks, monotonic) = (word(&entry.ticks), word(&entry.monotonic));
        assert_eq!(monotonic - 1000, ticks - 100, "the clocks disagree");
        assert_eq!(word(&entry.wall) - 5000, ticks - 100, "the clocks disagree");
        assert!(!entry.is_complete());
        Some([start, ticks, monotonic, word(&entry.wall), word(&entry.frequency)])
    }
}

#[test]
fn two_begin_the_next_generation_at_once() {
    holds_within(2, || {
        let scene = scene();
        let other = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                scene.begin_2(300);
                scene.look().expect("it is published")
            })
        };
        scene.begin_2(200);
        let found = scene.look().expect("it is published");
        // A block of the new generation: what comes before it must not change any more.
        scene.ring.head.fetch_add(1, Ordering::Release);
        assert_eq!(other.join().unwrap(), found, "it began twice");
        assert_eq!(scene.look(), Some(found), "it was changed after it had been published");
        assert_eq!(found[0], 10);
    });
}

#[test]
fn who_comes_late_changes_nothing() {
    holds_within(2, || {
        let scene = scene();
        let late = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || scene.begin_2(300))
        };
        scene.begin_2(200);
        let found = scene.look().expect("it is published");
        scene.ring.head.store(25, Ordering::Release);
        // The next generation begins and takes the entry that the late thread may still consider
        // its own.
        let began = Began { ticks: 400, ..Began::default() };
        scene.ring.enter(3, began, &Quiet(&scene.ring, |_| ())).expect("there is room");
        late.join().unwrap();
        assert_eq!(scene.look(), Some(found));
        assert_eq!(scene.ring.start_of(3), Some(25));
        assert!(scene.ring.entry(3).ticks.load(Ordering::Relaxed) >= 400);
    });
}

#[test]
fn one_that_sets_the_start_without_looking_is_caught() {
    is_caught("it was changed after it had been published", || {
        let scene = scene();
        let other = {
            let scene = Arc::clone(&scene);
            thread::spawn(move || {
                let entry = scene.ring.entry(2);
                if entry.number.load(Ordering::Acquire) != 2 {
                    entry.start.store(scene.ring.head.load(Ordering::Relaxed), Ordering::Relaxed);
                    scene.begin_2(300);
                }
            })
        };
        scene.begin_2(200);
        let found = scene.look();
        scene.ring.head.store(11, Ordering::Release);
        other.join().unwrap();
        assert_eq!(scene.look(), found, "it was changed after it had been published");
    });
}
