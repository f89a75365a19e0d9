//! A random legal program, made from a seed. It reports to the judge what it does.
//!
//! It consists of actors (threads, tasks), each with its own dice. They share a pool of spans that any actor
//! may enter, name as a parent, add to, or drop. Regions are kept by thread, so whatever runs there may end
//! them, in any order.

use crate::clock::{Window, tid, timed};
use crate::judge::{self, TaskFact, TypedFact, facts, fresh, touch};
use lookback::{RecordExt, Recorder, Region};
use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tracing::{Instrument, Span};

/// A pseudo-random sequence of numbers: <https://prng.di.unimi.it/splitmix64.c>.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub fn fork(&mut self) -> Self {
        Self(self.next())
    }
}

/// What all actors share.
pub struct Pool {
    spans: Mutex<Vec<Span>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

impl Pool {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { spans: Mutex::default(), threads: Mutex::default() })
    }

    /// All threads that were started have ended.
    pub fn join(&self) {
        let next = || self.threads.lock().unwrap().pop();
        while let Some(thread) = next() {
            thread.join().expect("threads of a program catch their panics");
        }
    }

    fn pick(&self, random: &mut Random) -> Option<Span> {
        let spans = self.spans.lock().unwrap();
        (!spans.is_empty()).then(|| spans[random.below(spans.len() as u64) as usize].clone())
    }

    fn take(&self, random: &mut Random) -> Option<Span> {
        let mut spans = self.spans.lock().unwrap();
        let many = spans.len() as u64;
        (many > 0).then(|| spans.swap_remove(random.below(many) as usize))
    }
}

type Guard = (Region, &'static str, Window);

thread_local! {
    /// The open regions of this thread, whichever actor began them.
    static GUARDS: RefCell<Vec<Guard>> = const { RefCell::new(Vec::new()) };
}

fn begin_region(random: &mut Random) -> Guard {
    macro_rules! region {
        ($($name:literal)*) => {{
            const NAMES: &[&str] = &[$($name),*];
            let name = NAMES[random.below(NAMES.len() as u64) as usize];
            let (guard, at) = timed(|| match name {
                $($name => lookback::region!($name),)*
                _ => unreachable!(),
            });
            (guard, name, at)
        }};
    }
    touch();
    let guard =
        region!("parse" "lock" "query" "render" "commit" "read" "write" "flush" "hash" "sort");
    facts().threads.entry(tid()).or_default().begins.push((guard.1, guard.2));
    guard
}

fn end_region((guard, name, began): Guard) {
    let ((), ended) = timed(|| drop(guard));
    facts().threads.entry(tid()).or_default().ends.push((name, began, ended));
    touch();
}

/// Ends the regions of this thread, in random order.
pub fn drain_regions(random: &mut Random) {
    while let Some(guard) = take_guard(random) {
        end_region(guard);
    }
}

fn take_guard(random: &mut Random) -> Option<Guard> {
    GUARDS.with_borrow_mut(|guards| {
        let many = guards.len() as u64;
        (many > 0).then(|| guards.swap_remove(random.below(many) as usize))
    })
}

fn make_span(random: &mut Random, parent: Option<&Span>) -> Span {
    macro_rules! spans {
        ($($name:literal $level:ident)*) => {{
            const NAMES: &[&str] = &[$($name),*];
            let (name, id) = (NAMES[random.below(NAMES.len() as u64) as usize], fresh());
            let is_root = random.one_in(6);
            use tracing::{Level, field::Empty, span};
            match name {
                $($name => match parent {
                    Some(parent) => {
                        span!(parent: parent, Level::$level, $name, id, late = Empty, depth = 3)
                    }
                    None if is_root => {
                        span!(parent: None, Level::$level, $name, id, text = "of the root", late = Empty)
                    }
                    None => span!(Level::$level, $name, id, late = Empty),
                },)*
                _ => unreachable!(),
            }
        }};
    }
    spans! {
        "request" INFO "handler" INFO "query" DEBUG "cache" DEBUG "lock" TRACE "parse" TRACE
        "commit" WARN "retry" ERROR "flush" INFO "login" INFO
    }
}

fn say(random: &mut Random, parent: Option<&Span>) {
    let (id, level) = (fresh(), random.below(5));
    macro_rules! said {
        ($($number:literal $level:ident)*) => {
            match (level, parent) {
                $(($number, Some(parent)) => {
                    tracing::event!(parent: parent, tracing::Level::$level, id, "said {id}");
                }
                ($number, None) => tracing::event!(tracing::Level::$level, id, "said {id}"),)*
                _ => unreachable!(),
            }
        };
    }
    said!(0 ERROR 1 WARN 2 INFO 3 DEBUG 4 TRACE);
}

fn typed_event(random: &mut Random) {
    let id = fresh();
    let width = |random: &mut Random| random.next() >> random.below(64);
    let (u, i) = (width(random), width(random).cast_signed() - (1 << 20));
    let (f, b) = (f64::from(random.next() as u32) / 16.0, random.one_in(2));
    let text: String =
        (0..random.below(40)).map(|_| ['a', 'ß', '字', '🦀'][random.below(4) as usize]).collect();
    let ((), at) =
        timed(|| lookback::event!("typed", id = id, u = u, i = i, f = f, b = b, t = text.as_str()));
    let fact =
        TypedFact { values: (u, i, f, b, text), at, thread: tid(), task: judge::current_task() };
    facts().typed.insert(id, fact);
}

fn counter(random: &mut Random) {
    let value = random.next() >> random.below(64);
    macro_rules! counted {
        ($($number:literal $name:literal)*) => {
            match random.below(3) {
                $($number => { lookback::counter!($name, value); $name })*
                _ => unreachable!(),
            }
        };
    }
    let name = counted!(0 "queue_depth" 1 "open_files" 2 "hits");
    facts().threads.entry(tid()).or_default().counters.push((name, value));
}

fn spin(random: &mut Random) {
    let until = crate::clock::now() + random.below(60_000);
    while crate::clock::now() < until {
        std::hint::spin_loop();
    }
}

/// Something that acts, with its own dice.
pub struct Actor {
    pub random: Random,
    pub pool: Arc<Pool>,
    pub recorder: Arc<Recorder>,
    pub depth: u32,
}

impl Actor {
    fn child(&mut self) -> Self {
        Self {
            random: self.random.fork(),
            pool: Arc::clone(&self.pool),
            recorder: Arc::clone(&self.recorder),
            depth: self.depth + 1,
        }
    }

    /// A few steps, unless it is too deep already.
    fn body(&mut self) {
        self.depth += 1;
        if self.depth < 7 {
            for _ in 0..self.random.below(4) {
                self.step();
            }
        }
        self.depth -= 1;
    }

    /// This many steps, on this thread.
    pub fn steps(&mut self, many: u64) {
        for _ in 0..many {
            self.step();
        }
    }

    fn parent(&mut self) -> Option<Span> {
        if self.random.one_in(3) { self.pool.pick(&mut self.random) } else { None }
    }

    /// One action that needs no executor.
    fn step(&mut self) {
        touch();
        let random = &mut self.random;
        match random.below(24) {
            0 | 1 => {
                let guard = begin_region(random);
                self.body();
                end_region(guard);
            }
            2 => {
                let guard = begin_region(random);
                GUARDS.with_borrow_mut(|guards| guards.push(guard));
            }
            3 => {
                if let Some(guard) = take_guard(random) {
                    end_region(guard);
                }
            }
            4 => {
                // As in `guard = region!(…)`: the new one begins before the old one ends.
                if let Some(old) = take_guard(random) {
                    let new = begin_region(random);
                    end_region(old);
                    GUARDS.with_borrow_mut(|guards| guards.push(new));
                }
            }
            5 | 6 => {
                let parent = self.parent();
                let span = make_span(&mut self.random, parent.as_ref());
                self.pool.spans.lock().unwrap().push(span);
            }
            7 | 8 => {
                if let Some(span) = self.pool.pick(random) {
                    let _entered = span.enter();
                    self.body();
                }
            }
            9 => {
                let [first, second] = [0, 1].map(|_| self.pool.pick(&mut self.random));
                if let (Some(first), Some(second)) = (first, second) {
                    let (first, second) = (first.entered(), second.entered());
                    self.body();
                    drop(first);
                    self.body();
                    drop(second);
                }
            }
            10 | 11 => drop(self.pool.take(random)),
            12 => {
                if let Some(span) = self.pool.pick(random) {
                    span.record("late", random.next() >> random.below(64));
                }
            }
            13 => {
                if let (Some(span), Some(from)) = (self.pool.pick(random), self.pool.pick(random)) {
                    span.follows_from(&from);
                }
            }
            14 | 15 => {
                let parent = self.parent();
                say(&mut self.random, parent.as_ref());
            }
            16 => {
                let text = format!("by hand {}", fresh());
                lookback::log!("program", "{text}");
                facts().threads.entry(tid()).or_default().messages.push(text);
            }
            17 => typed_event(random),
            18 => counter(random),
            19 => spin(random),
            20 => std::thread::sleep(Duration::from_micros(random.below(300))),
            21 if random.one_in(8) => {
                let snapshot = self.recorder.snapshot().expect("a snapshot");
                crate::assert_valid(&snapshot, "a snapshot in the middle");
            }
            22 => {
                let span = make_span(&mut self.random, None);
                let work = std::panic::AssertUnwindSafe(|| {
                    let _entered = span.enter();
                    let guard = OnDrop(Some(begin_region(&mut self.random)));
                    self.body();
                    if self.random.one_in(2) {
                        panic!("a panic of the program");
                    }
                    drop(guard);
                });
                drop(std::panic::catch_unwind(work));
            }
            23 if self.depth < 4 && random.one_in(3) => {
                let mut child = self.child();
                let thread = std::thread::Builder::new().name(format!("actor-{}", fresh()));
                let many = child.random.below(12);
                let work = move || {
                    child.steps(many);
                    drain_regions(&mut child.random);
                };
                let thread = thread.spawn(work).expect("a thread");
                if self.random.one_in(2) {
                    thread.join().expect("threads of a program catch their panics");
                } else {
                    self.pool.threads.lock().unwrap().push(thread);
                }
            }
            _ => {}
        }
    }

    /// This many steps of a task.
    pub fn run(mut self, many: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            for _ in 0..many {
                self.await_step().await;
            }
        })
    }

    async fn await_step(&mut self) {
        let is_deep = self.depth > 4;
        match self.random.below(16) {
            0 => yield_once().await,
            1 => {
                let time = Duration::from_micros(self.random.below(2000));
                wait("nap", tokio::time::sleep(time)).await;
            }
            2 => {
                let sleep = wait("deadline", tokio::time::sleep(Duration::from_millis(5)));
                let time = Duration::from_micros(self.random.below(3000));
                let _ = tokio::time::timeout(time, sleep).await;
            }
            3 | 4 if !is_deep => {
                let many = self.random.below(8);
                let child = self.child();
                let task = spawn(child, many, &mut self.random);
                match self.random.below(3) {
                    0 => drop(task.await),
                    1 => task.abort(),
                    _ => drop(task),
                }
            }
            5 if !is_deep => {
                let span = self.pool.pick(&mut self.random).unwrap_or_else(Span::none);
                let many = self.random.below(5);
                let child = self.child();
                child.run(many).instrument(span).await;
            }
            6 if !is_deep => {
                let [(first, a), (second, b)] =
                    [0, 1].map(|_| (self.child(), self.random.below(5)));
                let first = judged(first.run(a), Some("left")).recorded("left");
                let second = judged(second.run(b), Some("right")).recorded("right");
                tokio::join!(first, second);
            }
            7 => {
                let mut long = pin!(wait("long", tokio::time::sleep(Duration::from_secs(3600))));
                let mut short = pin!(wait("short", tokio::time::sleep(Duration::from_micros(500))));
                tokio::select! {
                    () = &mut long => {}
                    () = &mut short => {}
                }
            }
            8 if !is_deep => {
                let mut child = self.child();
                let many = child.random.below(6);
                let task = fresh();
                let fact = TaskFact {
                    parent: judge::current_task(),
                    is_blocking: true,
                    ..TaskFact::default()
                };
                facts().tasks.insert(task, fact);
                let work = move || {
                    lookback::event!("task", id = task);
                    child.steps(many);
                    drain_regions(&mut child.random);
                };
                let _ = lookback::spawn_blocking(work).await;
            }
            9 => {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                let thread = std::thread::spawn(move || sender.send(()));
                let _ = wait("answer", receiver).await;
                let _ = thread.join();
            }
            _ => self.step(),
        }
    }
}

struct OnDrop(Option<Guard>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(guard) = self.0.take() {
            end_region(guard);
        }
    }
}

/// Lets others run.
async fn yield_once() {
    let mut is_first = true;
    std::future::poll_fn(move |context| {
        if std::mem::take(&mut is_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// A wait with a reason that the judge knows.
struct Wait<F> {
    reason: &'static str,
    future: F,
}

fn wait<F: Future>(reason: &'static str, future: F) -> impl Future<Output = F::Output> {
    Wait { reason, future: Box::pin(future.waiting_for(reason)) }
}

impl<F: Future + Unpin> Future for Wait<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let reason = self.reason;
        let result = Pin::new(&mut self.future).poll(context);
        if result.is_pending() {
            judge::waits_for(reason)
        } else {
            judge::waits_no_more(reason)
        }
        result
    }
}

impl<F> Drop for Wait<F> {
    fn drop(&mut self) {
        judge::waits_no_more(self.reason);
    }
}

/// A future whose polls and end the judge knows.
pub struct Judged {
    task: u64,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_named: bool,
    is_over: bool,
}

pub fn judged(
    future: impl Future<Output = ()> + Send + 'static,
    name: Option<&'static str>,
) -> Judged {
    let task = fresh();
    let fact = TaskFact { name, parent: judge::current_task(), ..TaskFact::default() };
    facts().tasks.insert(task, fact);
    Judged { task, future: Box::pin(future), is_named: false, is_over: false }
}

impl Future for Judged {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut guard = judge::poll(self.task);
        if !std::mem::replace(&mut self.is_named, true) {
            lookback::event!("task", id = self.task);
        }
        // A poll that panics has ended, too.
        self.is_over = true;
        let result = self.future.as_mut().poll(context);
        self.is_over = result.is_ready();
        guard.is_pending = result.is_pending();
        guard.is_over = result.is_ready();
        result
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(fact) = facts().tasks.get_mut(&self.task)
        {
            fact.end = Some(judge::End::Dropped);
        }
    }
}

fn spawn(actor: Actor, many: u64, random: &mut Random) -> tokio::task::JoinHandle<()> {
    let work = actor.run(many);
    let panics = random.one_in(6);
    let work = async move {
        work.await;
        if panics {
            panic!("a task panics");
        }
    };
    if random.one_in(3) {
        let judged = judged(work, Some("named"));
        return tokio::spawn(judged.recorded("named"));
    }
    lookback::spawn(judged(work, None))
}
