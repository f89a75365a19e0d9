//! Workers of executors without hooks: the thread itself reports that it is a worker, and when it
//! sleeps.

use crate::record::slot::ThreadName;
use crate::record::worker::{Post, become_worker, leave_named, next_runtime, turn, with_own_slot};
use lookback_snapshot::wire::Kind;
use std::marker::PhantomData;

/// Marks this thread as a worker of an executor without hooks, under this name, until the guard is
/// dropped.
///
/// Each such worker is a runtime of its own: no other thread could have polled its tasks. A summary
/// shows how long it polled recorded tasks. How busy it was otherwise is known only if it reports
/// when it sleeps, by [`park`](Worker::park) and [`unpark`](Worker::unpark), or if a Tokio runtime
/// with hooks drives it.
///
/// Names longer than 64 bytes are cut at a character boundary. If a thread has several workers, the
/// last one to report counts. A worker made before recording starts appears when it first parks or
/// unparks.
///
/// ```
/// use std::cell::RefCell;
///
/// thread_local! {
///     static WORKER: RefCell<Option<lookback_recorder::Worker>> = const { RefCell::new(None) };
/// }
///
/// // Called once on each thread of the executor:
/// WORKER.set(Some(lookback_recorder::worker("arbiter-0")));
/// ```
pub fn worker(name: &str) -> Worker {
    let worker =
        Worker { runtime: next_runtime(), name: ThreadName::given(name), _not_send: PhantomData };
    with_own_slot(|slot, inside| become_worker(slot, inside, Some(worker.post(true))));
    worker
}

/// Marks the calling thread as a worker for as long as this lives: see [`worker`].
///
/// ```
/// use std::sync::mpsc;
///
/// let (jobs, work) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
/// let thread = std::thread::spawn(move || {
///     let worker = lookback_recorder::worker("indexer-0");
///     while let Ok(job) = worker.parked(|| work.recv()) {
///         job();
///     }
/// });
/// jobs.send(Box::new(|| println!("at work"))).unwrap();
/// drop(jobs);
/// thread.join().unwrap();
/// ```
#[derive(Debug)]
#[must_use = "the thread stops being a worker when this is dropped: `let _worker = worker(…)`"]
pub struct Worker {
    runtime: u32,
    name: ThreadName,
    /// The guard must stay on its thread.
    _not_send: PhantomData<*const ()>,
}

impl Worker {
    /// The worker's name, as far as it is kept.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Reports that the worker has nothing to do and is about to sleep.
    pub fn park(&self) {
        self.turns(Kind::WorkerPark, true);
    }

    /// Reports that the worker continues.
    pub fn unpark(&self) {
        self.turns(Kind::WorkerUnpark, false);
    }

    /// Calls `wait`, which waits for work, with the worker parked meanwhile; unparks even if it
    /// panics.
    pub fn parked<T>(&self, wait: impl FnOnce() -> T) -> T {
        struct Unparks<'a>(&'a Worker);
        impl Drop for Unparks<'_> {
            fn drop(&mut self) {
                self.0.unpark();
            }
        }
        self.park();
        let _unparks = Unparks(self);
        wait()
    }

    fn turns(&self, kind: Kind, parked: bool) {
        with_own_slot(|slot, inside| turn(slot, inside, self.post(false), (kind, parked)));
    }

    /// `visit`: the worker does not report when it sleeps.
    fn post(&self, visit: bool) -> Post {
        Post::named(self.runtime, self.name, visit)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        leave_named(self.runtime);
    }
}
