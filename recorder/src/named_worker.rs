//! Workers of executors that have no hooks: the thread itself says that it is one, and when it sleeps.

use crate::slot::ThreadName;
use crate::worker::{Post, become_worker, leave_named, next_runtime, turn, with_own_slot};
use lookback_snapshot::wire::Kind;
use std::marker::PhantomData;

/// This thread is a worker of an executor that nobody can hook, by this name, until the guard is
/// dropped.
///
/// Each such worker is a runtime of its own: what it polls could have run on no other thread. A summary
/// knows how long it polled recorded tasks. Whether it was at work otherwise is known only
/// of one that says when it sleeps, by [`park`](Worker::park) and [`unpark`](Worker::unpark), or is
/// driven by a Tokio runtime whose hooks tell.
///
/// Names longer than 64 bytes are cut, between two characters. Of several workers of one thread the one that spoke last
/// counts. One that is made before recording starts is told when it first parks or unparks.
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
    let worker = Worker {
        runtime: next_runtime(),
        name: ThreadName::given(name),
        _not_send: PhantomData,
    };
    with_own_slot(|slot, inside| become_worker(slot, inside, Some(worker.post(true))));
    worker
}

/// The calling thread is a worker for as long as this lives: see [`worker`].
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
#[must_use = "the thread is no worker any more as soon as this is dropped: `let _worker = worker(…)`"]
pub struct Worker {
    runtime: u32,
    name: ThreadName,
    /// A thread is a worker, and no other one in its place.
    _not_send: PhantomData<*const ()>,
}

impl Worker {
    /// The name that it was given, as much of it as is kept.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// It has nothing to do, and is about to sleep.
    pub fn park(&self) {
        self.turns(Kind::WorkerPark, true);
    }

    /// It goes on.
    pub fn unpark(&self) {
        self.turns(Kind::WorkerUnpark, false);
    }

    /// Calls what waits for work, and is parked meanwhile; also if that panics.
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

    /// `visit`: nobody says when it sleeps.
    fn post(&self, visit: bool) -> Post {
        Post::named(self.runtime, self.name, visit)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        leave_named(self.runtime);
    }
}
