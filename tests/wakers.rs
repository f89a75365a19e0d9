//! Wakers of recorded futures behave like those of the same future unrecorded: no wake is lost, none is
//! added, `will_wake` is as accurate, and every waker that was given away keeps waking what it always did.

mod common;

use common::alone;
use lookback::{RecordExt, Recorder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// An executor's waker, which counts.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Counter {
    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn executor() -> (Arc<Counter>, Waker) {
    let counter = Arc::new(Counter::default());
    (Arc::clone(&counter), counter.into())
}

/// What a future must do in its next poll, and what it holds.
#[derive(Default)]
struct Hands {
    wakers: Vec<Waker>,
    clones: bool,
    wakes_itself: bool,
    will_wake: Vec<bool>,
    ready: bool,
}

/// A future that clones its waker, or uses it at once, on command.
fn puppet(hands: &Rc<RefCell<Hands>>) -> impl Future<Output = ()> + use<> {
    let hands = Rc::clone(hands);
    poll_fn(move |context| {
        let mut hands = hands.borrow_mut();
        let waker = context.waker();
        hands.will_wake = hands.wakers.iter().map(|held| held.will_wake(waker)).collect();
        if hands.wakes_itself {
            waker.wake_by_ref();
        }
        if hands.clones {
            let clone = waker.clone();
            hands.wakers.push(clone);
        }
        if hands.ready { Poll::Ready(()) } else { Poll::Pending }
    })
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Polls with this executor's waker; the future clones it, or wakes itself.
    Poll {
        executor: bool,
        clones: bool,
        wakes_itself: bool,
    },
    Wake(usize),
    WakeByRef(usize),
    CloneWaker(usize),
    DropWaker(usize),
    WakeOnAnotherThread(usize),
    Finish(bool),
    DropFuture,
    TurnOffAndOn,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<[bool; 3]>().prop_map(|[executor, clones, wakes_itself]| Step::Poll {
            executor,
            clones,
            wakes_itself
        }),
        2 => any::<usize>().prop_map(Step::Wake),
        3 => any::<usize>().prop_map(Step::WakeByRef),
        2 => any::<usize>().prop_map(Step::CloneWaker),
        2 => any::<usize>().prop_map(Step::DropWaker),
        1 => any::<usize>().prop_map(Step::WakeOnAnotherThread),
        1 => any::<bool>().prop_map(Step::Finish),
        1 => Just(Step::DropFuture),
        1 => Just(Step::TurnOffAndOn),
    ]
}

/// One future, with its two executors.
struct Play<F> {
    hands: Rc<RefCell<Hands>>,
    future: Option<Pin<Box<F>>>,
    executors: [(Arc<Counter>, Waker); 2],
}

impl<F: Future<Output = ()>> Play<F> {
    fn new(hands: Rc<RefCell<Hands>>, future: F) -> Self {
        Self { hands, future: Some(Box::pin(future)), executors: [executor(), executor()] }
    }

    fn poll(&mut self, executor: bool) {
        let Some(future) = &mut self.future else { return };
        let mut context = Context::from_waker(&self.executors[usize::from(executor)].1);
        if future.as_mut().poll(&mut context).is_ready() {
            self.future = None;
        }
    }

    /// Takes one of the wakers that the future has given away.
    fn held(&self, which: usize) -> Option<Waker> {
        let wakers = &mut self.hands.borrow_mut().wakers;
        let count = wakers.len();
        (count > 0).then(|| wakers.swap_remove(which % count))
    }

    fn give_back(&self, waker: Waker) {
        self.hands.borrow_mut().wakers.push(waker);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Poll { executor, clones, wakes_itself } => {
                {
                    let mut hands = self.hands.borrow_mut();
                    (hands.clones, hands.wakes_itself) = (clones, wakes_itself);
                    hands.ready = false;
                }
                self.poll(executor);
            }
            Step::Wake(which) => {
                if let Some(waker) = self.held(which) {
                    waker.wake();
                }
            }
            Step::WakeByRef(which) => {
                if let Some(waker) = self.held(which) {
                    waker.wake_by_ref();
                    self.give_back(waker);
                }
            }
            Step::CloneWaker(which) => {
                if let Some(waker) = self.held(which) {
                    self.give_back(waker.clone());
                    self.give_back(waker);
                }
            }
            Step::DropWaker(which) => drop(self.held(which)),
            Step::WakeOnAnotherThread(which) => {
                if let Some(waker) = self.held(which) {
                    std::thread::spawn(move || waker.wake()).join().unwrap();
                }
            }
            Step::Finish(executor) => {
                self.hands.borrow_mut().ready = true;
                self.poll(executor);
            }
            Step::DropFuture => self.future = None,
            Step::TurnOffAndOn => {}
        }
    }

    /// How often each executor was woken, and the result of `will_wake` in the last poll.
    fn seen(&self) -> ([usize; 2], usize, Vec<bool>) {
        let hands = self.hands.borrow();
        let counts = self.executors.each_ref().map(|(counter, _)| counter.get());
        (counts, hands.wakers.len(), hands.will_wake.clone())
    }
}

fn start() -> Recorder {
    Recorder::builder().max_bytes(1 << 20).start().expect("a recorder starts")
}

#[test]
fn whatever_is_done_with_a_waker_the_executor_sees_the_same() {
    alone("whatever_is_done_with_a_waker_the_executor_sees_the_same", || {
        let recorder = RefCell::new(Some(start()));
        let cases = if cfg!(debug_assertions) && !common::long() { 200 } else { 2000 };
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let steps = proptest::collection::vec(step(), 0..40);
        TestRunner::new(config)
            .run(&steps, |steps| {
                let (bare, recorded) = <(Rc<RefCell<Hands>>, Rc<RefCell<Hands>>)>::default();
                let mut bare = Play::new(Rc::clone(&bare), puppet(&bare));
                let wrapped = puppet(&recorded).recorded("puppet");
                let mut recorded = Play::new(recorded, wrapped);
                let mut switched = false;
                for step in steps {
                    if matches!(step, Step::TurnOffAndOn) {
                        // Seldom, because starting a recorder takes a while.
                        let running = recorder.take().expect("there is one");
                        running.stop().expect("it stops");
                        bare.take(Step::Poll { executor: true, clones: true, wakes_itself: false });
                        recorded.take(Step::Poll {
                            executor: true,
                            clones: true,
                            wakes_itself: false,
                        });
                        recorder.replace(Some(start()));
                        switched = true;
                    }
                    bare.take(step);
                    recorded.take(step);
                    let (ours, theirs) = (recorded.seen(), bare.seen());
                    prop_assert_eq!(&ours.0, &theirs.0, "wakes");
                    prop_assert_eq!(ours.1, theirs.1, "wakers held");
                    // A waker from before recording was turned off may be cloned once more.
                    if !switched {
                        prop_assert_eq!(ours.2, theirs.2, "will_wake");
                    }
                }
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn a_waker_of_a_task_that_is_over_wakes_what_it_always_did() {
    alone("a_waker_of_a_task_that_is_over_wakes_what_it_always_did", || {
        let _recorder = start();
        let hands = Rc::<RefCell<Hands>>::default();
        let mut play = Play::new(Rc::clone(&hands), puppet(&hands).recorded("short"));
        play.take(Step::Poll { executor: false, clones: true, wakes_itself: false });
        play.take(Step::Finish(false));
        let waker = play.held(0).unwrap();
        for _ in 0..100 {
            // Other tasks come and go meanwhile, and none of them takes its entry.
            let hands = Rc::<RefCell<Hands>>::default();
            let mut other = Play::new(Rc::clone(&hands), puppet(&hands).recorded("other"));
            other.take(Step::Poll { executor: false, clones: true, wakes_itself: false });
            other.take(Step::Finish(false));
            waker.wake_by_ref();
        }
        waker.wake();
        assert_eq!(play.executors[0].0.get(), 101);
    });
}

#[test]
fn an_executor_s_waker_is_let_go_with_the_task_and_its_last_waker() {
    alone("an_executor_s_waker_is_let_go_with_the_task_and_its_last_waker", || {
        let _recorder = start();
        let hands = Rc::<RefCell<Hands>>::default();
        let mut play = Play::new(Rc::clone(&hands), puppet(&hands).recorded("held"));
        let counter = Arc::clone(&play.executors[0].0);
        let without = Arc::strong_count(&counter);
        play.take(Step::Poll { executor: false, clones: false, wakes_itself: true });
        assert_eq!(Arc::strong_count(&counter), without, "it is borrowed, not cloned");
        play.take(Step::Poll { executor: false, clones: true, wakes_itself: false });
        play.take(Step::CloneWaker(0));
        assert_eq!(Arc::strong_count(&counter), without + 1, "it is cloned once");
        play.take(Step::Poll { executor: true, clones: true, wakes_itself: false });
        play.take(Step::DropFuture);
        assert_eq!(Arc::strong_count(&counter), without + 1);
        hands.borrow_mut().wakers.clear();
        assert_eq!(Arc::strong_count(&counter), without, "and let go");
        assert_eq!(Arc::strong_count(&play.executors[1].0), 2, "the play's own");
    });
}

#[test]
fn many_threads_share_a_waker_that_is_lent() {
    alone("many_threads_share_a_waker_that_is_lent", || {
        let _recorder = start();
        for _ in 0..200 {
            let (counter, executor) = executor();
            let future = poll_fn(|context| {
                let waker = context.waker();
                std::thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(|| {
                            waker.wake_by_ref();
                            let clone = waker.clone();
                            clone.wake();
                        });
                    }
                });
                Poll::<()>::Pending
            });
            let mut future = std::pin::pin!(future.recorded("shared"));
            let _ = future.as_mut().poll(&mut Context::from_waker(&executor));
            assert_eq!(counter.get(), 8);
        }
    });
}

#[test]
fn other_executors_run_recorded_futures_to_their_ends() {
    alone("other_executors_run_recorded_futures_to_their_ends", || {
        let recorder = start();
        // The local pool of `futures`, with futures that a set of their own polls.
        let mut pool = futures::executor::LocalPool::new();
        let sum = pool.run_until(
            async {
                let set: futures::stream::FuturesUnordered<_> =
                    (0..100_u64).map(|n| counts(n).recorded("one of many")).collect();
                futures::StreamExt::fold(set, 0, |sum, n| async move { sum + n }).await
            }
            .recorded("root"),
        );
        assert_eq!(sum, 4950);
        // smol, on two threads.
        let executor = smol::Executor::new();
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| smol::block_on(executor.run(stopped.recv())));
            }
            let sum = smol::block_on(async {
                let tasks: Vec<_> =
                    (0..100_u64).map(|n| executor.spawn(counts(n).recorded("smol"))).collect();
                let mut sum = 0;
                for task in tasks {
                    sum += task.await;
                }
                sum
            });
            assert_eq!(sum, 4950);
            drop(stop);
        });
        common::stop(recorder);
    });
}

/// Says `n`, after some turns.
async fn counts(n: u64) -> u64 {
    for _ in 0..n % 7 {
        futures::future::ready(()).await;
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
    n
}
