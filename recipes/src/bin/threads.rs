//! Threads alone: rayon for the work, parking_lot for the locks. A region around each lock tells who
//! waited, and names of one's own tell rayon's threads apart.

use lookback_recipes::{Seen, start};
use parking_lot::Mutex;
use rayon::prelude::*;
use std::time::Duration;

fn main() {
    let recorder = start();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .thread_name(|number| format!("rayon-{number}"))
        .start_handler(|number| lookback::set_thread_name(&format!("indexer, rayon {number}")))
        .build()
        .expect("a pool");
    let cache = Mutex::new(0_u64);
    pool.install(|| {
        (0..200_u64).into_par_iter().for_each(|job| {
            let _job = lookback::region!("job");
            let mut guard = {
                let _lock = lookback::region!("lock.cache");
                cache.lock()
            };
            *guard += job;
            lookback::event!("indexed", job, sum = *guard);
            if job == 100 {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
    });
    drop(pool);
    let seen = Seen::of(&recorder.stop().expect("it stops"));
    assert_eq!(seen.regions("job").len(), 200);
    assert_eq!(seen.regions("lock.cache").len(), 200);
    assert!(seen.regions("job").iter().max() >= Some(&Duration::from_millis(50)));
    let names: std::collections::BTreeSet<String> =
        seen.events().filter_map(|event| Some(event.thread()?.name.to_string())).collect();
    assert!(names.iter().any(|name| name.starts_with("indexer, rayon")), "{names:?}");
    seen.tell("rayon and parking_lot");
}
