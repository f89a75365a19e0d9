//! Programs that hang, each in its way. Each says at which of its lines something waits.

use deadpool::managed;
use lookback::{Recorder, Trigger};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc as channel;
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::thread;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{self, Semaphore, mpsc, oneshot};

/// A thread or a task will wait at this line.
fn at(who: &str, line: u32) {
    println!("\nat {who}={line}");
    std::io::stdout().flush().unwrap();
}

/// Hangs as this kind says, and saves a snapshot of itself every second.
pub fn hang(kind: &str, directory: &Path) -> ! {
    let recorder = Recorder::builder()
        .name("hangs")
        .max_bytes(4 << 20)
        .generation_period(Duration::from_millis(250))
        .black_box(directory.join("black.box"))
        .snapshot_dir(directory)
        .trigger(Trigger::stalled_poll(Duration::from_millis(300)))
        .start()
        .unwrap();
    while recorder.stats().unwind_tables.modules == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    let runtime = runtime();
    match kind {
        "std mutexes" => std_mutexes(),
        "static mutexes" => static_mutexes(),
        "a mutex between a task and a thread" => task_and_thread(&runtime),
        "tokio mutexes" => tokio_mutexes(&runtime),
        "a blocked worker" => blocked_worker(&runtime),
        "a worker blocked for a while" => blocked_for_a_while(&runtime),
        "locks of commands" => commands(&runtime),
        "an exhausted pool" => exhausted_pool(&runtime),
        "an exhausted pool of deadpool" => exhausted_deadpool(&runtime),
        "a forgotten channel" => forgotten_channel(&runtime),
        "five in a circle" => five_in_a_circle(),
        "a lock held while waiting for work" => held_while_waiting_for_work(),
        "a receiver that several share" => shared_receiver(),
        "a mutex of tokio held for long" => held_for_long(&runtime),
        "polls that wait for a mutex" => polls_and_a_mutex(&runtime),
        "a channel that is read slowly" => slow_receiver(&runtime),
        _ => panic!("no program hangs like that: {kind}"),
    }
    println!("\nready {}", std::process::id());
    loop {
        thread::sleep(Duration::from_secs(1));
        // Something goes on, as in a service.
        lookback::event!("heartbeat");
        recorder.save("asked").unwrap();
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all();
    assert!(lookback::tokio::instrument(&mut builder).is_whole());
    builder.build().unwrap()
}

/// Starts a thread that has recorded something.
fn start(name: &str, body: impl FnOnce() + Send + 'static) {
    let body = move || {
        lookback::event!("begins");
        body();
    };
    thread::Builder::new().name(name.to_owned()).spawn(body).unwrap();
}

fn std_mutexes() {
    let locks = Arc::new((Mutex::new(1), Mutex::new(2)));
    let both = Arc::new(Barrier::new(2));
    let (there, other) = (Arc::clone(&locks), Arc::clone(&both));
    start("forth", move || transfer(&there.0, &there.1, &other));
    start("back", move || audit(&locks.0, &locks.1, &both));
}

#[inline(never)]
fn transfer(first: &Mutex<u32>, second: &Mutex<u32>, both: &Barrier) {
    let mut from = first.lock().unwrap();
    both.wait();
    at("forth", line!() + 1);
    let mut to = second.lock().unwrap();
    (*from, *to) = (*from - 1, *to + 1);
}

#[inline(never)]
fn audit(first: &Mutex<u32>, second: &Mutex<u32>, both: &Barrier) {
    let two = second.lock().unwrap();
    both.wait();
    at("back", line!() + 1);
    let one = first.lock().unwrap();
    assert_eq!(*one + *two, 3);
}

static ONE: Mutex<u32> = Mutex::new(1);
static TWO: Mutex<u32> = Mutex::new(2);
static BOTH: OnceLock<Barrier> = OnceLock::new();
/// How many threads hold one of them.
static HELD: AtomicU32 = AtomicU32::new(0);

fn both() -> &'static Barrier {
    BOTH.get_or_init(|| Barrier::new(2))
}

fn static_mutexes() {
    start("forth", transfer_statically);
    start("back", audit_statically);
    // They wait for the first one, and hold nothing.
    for name in ["victim", "victim too"] {
        start(name, || {
            while HELD.load(Ordering::Acquire) < 2 {
                thread::sleep(Duration::from_millis(1));
            }
            transfer_statically();
        });
    }
}

#[inline(never)]
fn transfer_statically() {
    let mut from = ONE.lock().unwrap();
    HELD.fetch_add(1, Ordering::Release);
    both().wait();
    at("forth", line!() + 1);
    let mut to = TWO.lock().unwrap();
    (*from, *to) = (*from - 1, *to + 1);
}

#[inline(never)]
fn audit_statically() {
    let two = TWO.lock().unwrap();
    HELD.fetch_add(1, Ordering::Release);
    both().wait();
    at("back", line!() + 1);
    let one = ONE.lock().unwrap();
    assert_eq!(*one + *two, 3);
}

fn task_and_thread(runtime: &Runtime) {
    let locks = Arc::new((Mutex::new(1), Mutex::new(2)));
    let both = Arc::new(Barrier::new(2));
    let (there, other) = (Arc::clone(&locks), Arc::clone(&both));
    start("back", move || audit(&there.0, &there.1, &other));
    lookback::spawn_on(runtime.handle(), async move { transfer(&locks.0, &locks.1, &both) });
}

fn tokio_mutexes(runtime: &Runtime) {
    let locks = Arc::new((sync::Mutex::new(1), sync::Mutex::new(2)));
    let both = Arc::new(sync::Barrier::new(2));
    let (there, other) = (Arc::clone(&locks), Arc::clone(&both));
    lookback::spawn_on(runtime.handle(), transfer_async(there, other));
    lookback::spawn_on(runtime.handle(), audit_async(locks, both));
}

type Accounts = Arc<(sync::Mutex<u32>, sync::Mutex<u32>)>;

async fn transfer_async(locks: Accounts, both: Arc<sync::Barrier>) {
    let mut from = locks.0.lock().await;
    both.wait().await;
    at("forth", line!() + 1);
    let mut to = locks.1.lock().await;
    (*from, *to) = (*from - 1, *to + 1);
}

async fn audit_async(locks: Accounts, both: Arc<sync::Barrier>) {
    let two = locks.1.lock().await;
    both.wait().await;
    at("back", line!() + 1);
    let one = locks.0.lock().await;
    assert_eq!(*one + *two, 3);
}

fn blocked_worker(runtime: &Runtime) {
    let (keeps, blocks) = channel::channel::<()>();
    std::mem::forget(keeps);
    at("spawned", line!() + 1);
    lookback::spawn_on(runtime.handle(), blocks_its_worker(blocks));
}

async fn blocks_its_worker(blocks: channel::Receiver<()>) {
    tokio::task::yield_now().await;
    at("blocks", line!() + 1);
    let received = blocks.recv();
    std::hint::black_box(received).ok();
}

/// Again and again, and each time it goes on.
fn blocked_for_a_while(runtime: &Runtime) {
    let (keeps, blocks) = channel::channel::<()>();
    std::mem::forget(keeps);
    lookback::spawn_on(runtime.handle(), async move {
        loop {
            blocks_a_while(&blocks);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
}

#[inline(never)]
fn blocks_a_while(blocks: &channel::Receiver<()>) {
    at("blocks", line!() + 1);
    let received = blocks.recv_timeout(Duration::from_millis(900));
    std::hint::black_box(received).ok();
}

/// A server's connections: two of them have locked each other out in commands, the rest wait for requests.
fn commands(runtime: &Runtime) {
    let locks: Accounts = Arc::new((sync::Mutex::new(1), sync::Mutex::new(2)));
    let both = Arc::new(sync::Barrier::new(2));
    for number in 0..6 {
        let (locks, both) = (Arc::clone(&locks), Arc::clone(&both));
        lookback::spawn_on(runtime.handle(), serves(number, locks, both));
    }
}

async fn serves(number: u32, locks: Accounts, both: Arc<sync::Barrier>) {
    let (asks, mut requests) = mpsc::channel::<u32>(1);
    if number < 2 {
        asks.send(number).await.unwrap();
    }
    loop {
        request(&mut requests, Arc::clone(&locks), Arc::clone(&both)).await;
    }
}

async fn request(requests: &mut mpsc::Receiver<u32>, locks: Accounts, both: Arc<sync::Barrier>) {
    let (_asks, answered) = oneshot::channel::<u32>();
    match requests.try_recv() {
        Ok(number) => applies(number, locks, both).await,
        Err(_) => {
            at("idle", line!() + 1);
            let _ = answered.await;
        }
    }
}

async fn applies(number: u32, locks: Accounts, both: Arc<sync::Barrier>) {
    runs(number, locks, both).await;
}

async fn runs(number: u32, locks: Accounts, both: Arc<sync::Barrier>) {
    match number {
        0 => transfer_async(locks, both).await,
        _ => audit_async(locks, both).await,
    }
}

/// As pools of connections are made.
struct Pool(Semaphore);

impl Pool {
    async fn get(&self) -> sync::SemaphorePermit<'_> {
        self.0.acquire().await.unwrap()
    }
}

fn exhausted_pool(runtime: &Runtime) {
    let pool = Arc::new(Pool(Semaphore::new(2)));
    for _ in 0..7 {
        let pool = Arc::clone(&pool);
        lookback::spawn_on(runtime.handle(), async move { answers(&pool).await });
    }
}

async fn answers(pool: &Pool) {
    at("waits for one", line!() + 1);
    let connection = pool.get().await;
    queries().await;
    drop(connection);
}

struct Connections;

impl managed::Manager for Connections {
    type Type = u32;
    type Error = std::convert::Infallible;

    async fn create(&self) -> Result<u32, Self::Error> {
        Ok(7)
    }

    async fn recycle(
        &self,
        _: &mut u32,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<Self::Error> {
        Ok(())
    }
}

fn exhausted_deadpool(runtime: &Runtime) {
    let pool = managed::Pool::<Connections>::builder(Connections).max_size(2).build().unwrap();
    for _ in 0..7 {
        let pool = pool.clone();
        lookback::spawn_on(runtime.handle(), async move { asks_deadpool(&pool).await });
    }
}

async fn asks_deadpool(pool: &managed::Pool<Connections>) {
    at("waits for one", line!() + 1);
    let connection = pool.get().await.unwrap();
    queries().await;
    drop(connection);
}

async fn queries() {
    let (asks, answered) = oneshot::channel::<u32>();
    std::mem::forget(asks);
    at("has one", line!() + 1);
    let row = answered.await;
    std::hint::black_box(row).ok();
}

fn forgotten_channel(runtime: &Runtime) {
    let (sends, receives) = mpsc::channel::<u32>(4);
    lookback::spawn_on(runtime.handle(), consumes(receives));
    lookback::spawn_on(runtime.handle(), forgets(sends));
}

async fn consumes(mut receives: mpsc::Receiver<u32>) {
    at("receives", line!() + 1);
    while let Some(number) = receives.recv().await {
        std::hint::black_box(number);
    }
}

async fn forgets(sends: mpsc::Sender<u32>) {
    sends.send(1).await.unwrap();
    let never = sync::Notify::new();
    at("keeps the sender", line!() + 1);
    never.notified().await;
    drop(sends);
}

/// All have the address of the first lock on their stacks: it is that of all of them.
fn five_in_a_circle() {
    let forks: Arc<Vec<Mutex<u32>>> = Arc::new((0..5).map(Mutex::new).collect());
    let all = Arc::new(Barrier::new(5));
    for seat in 0..5 {
        let (forks, all) = (Arc::clone(&forks), Arc::clone(&all));
        start(&format!("seat {seat}"), move || dine(&forks, seat, &all));
    }
}

#[inline(never)]
fn dine(forks: &[Mutex<u32>], seat: usize, all: &Barrier) {
    let left = forks[seat].lock().unwrap();
    all.wait();
    at("dines", line!() + 1);
    let right = forks[(seat + 1) % forks.len()].lock().unwrap();
    std::hint::black_box(*left + *right);
}

/// Its address is that of its first lock.
#[repr(C)]
struct Bank {
    ledger: Mutex<u32>,
    audit: Mutex<u32>,
}

impl Bank {
    #[inline(never)]
    fn book(&self, orders: &channel::Receiver<u32>) {
        let mut ledger = self.ledger.lock().unwrap();
        while let Ok(order) = orders.recv() {
            *ledger += order;
        }
    }

    #[inline(never)]
    fn audit(&self) {
        let audit = self.audit.lock().unwrap();
        at("audits", line!() + 1);
        let ledger = self.ledger.lock().unwrap();
        std::hint::black_box(*audit + *ledger);
    }

    #[inline(never)]
    fn look(&self) {
        at("looks", line!() + 1);
        let audit = self.audit.lock().unwrap();
        std::hint::black_box((*audit, self));
    }
}

fn pause() {
    thread::sleep(Duration::from_millis(300));
}

/// Each waits for the one before it, and all go on with the next order.
fn held_while_waiting_for_work() {
    let bank: &'static Bank =
        Box::leak(Box::new(Bank { ledger: Mutex::new(0), audit: Mutex::new(0) }));
    let (sends, orders) = channel::channel();
    std::mem::forget(sends);
    start("books", move || bank.book(&orders));
    pause();
    start("audits", move || bank.audit());
    pause();
    start("looks", move || bank.look());
}

fn shared_receiver() {
    let (sends, receives) = channel::channel::<u32>();
    std::mem::forget(sends);
    let receives = Arc::new(Mutex::new(receives));
    for _ in 0..4 {
        let receives = Arc::clone(&receives);
        start("pool", move || take_turns(&receives));
    }
    // What is told: one that sleeps with a lock.
    let lock: &'static Mutex<u32> = Box::leak(Box::new(Mutex::new(0)));
    start("sleeps", move || sleep_with(lock));
    pause();
    start("waits", move || {
        at("waits", line!() + 1);
        let number = lock.lock().unwrap();
        std::hint::black_box(*number);
    });
}

#[inline(never)]
fn take_turns(receives: &Mutex<channel::Receiver<u32>>) {
    while let Ok(number) = receives.lock().unwrap().recv() {
        std::hint::black_box(number);
    }
}

#[inline(never)]
fn sleep_with(lock: &Mutex<u32>) {
    let number = lock.lock().unwrap();
    at("sleeps", line!() + 1);
    thread::sleep(Duration::from_secs(3600));
    std::hint::black_box(*number);
}

/// Two wait at two places for one that only takes long.
fn held_for_long(runtime: &Runtime) {
    let lock = Arc::new(sync::Mutex::new(0));
    lookback::spawn_on(runtime.handle(), holds(Arc::clone(&lock)));
    pause();
    lookback::spawn_on(runtime.handle(), reads(Arc::clone(&lock)));
    lookback::spawn_on(runtime.handle(), writes(lock));
}

type Number = Arc<sync::Mutex<u32>>;

async fn holds(lock: Number) {
    let number = lock.lock().await;
    at("holds", line!() + 1);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    std::hint::black_box(*number);
}

async fn reads(lock: Number) {
    at("reads", line!() + 1);
    let number = lock.lock().await;
    std::hint::black_box(*number);
}

async fn writes(lock: Number) {
    at("writes", line!() + 1);
    let mut number = lock.lock().await;
    *number += 1;
}

/// The poll that waits began before the one that holds the mutex, so it is the longer one.
fn polls_and_a_mutex(runtime: &Runtime) {
    let (mutex, is_held) = (Arc::new(Mutex::new(0)), Arc::new(Barrier::new(2)));
    let (there, held) = (Arc::clone(&mutex), Arc::clone(&is_held));
    lookback::spawn_on(runtime.handle(), async move { asks_for_it(&there, &held) });
    pause();
    lookback::spawn_on(runtime.handle(), async move { sleeps_with_it(&mutex, &is_held) });
}

#[inline(never)]
fn asks_for_it(mutex: &Mutex<u32>, is_held: &Barrier) {
    is_held.wait();
    at("asks", line!() + 1);
    let mut number = mutex.lock().unwrap();
    *number += 1;
}

#[inline(never)]
fn sleeps_with_it(mutex: &Mutex<u32>, is_held: &Barrier) {
    let mut number = mutex.lock().unwrap();
    is_held.wait();
    at("sleeps", line!() + 1);
    thread::sleep(Duration::from_secs(3600));
    *number += 1;
}

/// Eight wait for room, each for eight times as long as the receiver takes; nobody waits for a second.
fn slow_receiver(runtime: &Runtime) {
    tracing::subscriber::set_global_default(lookback::tracing::subscriber()).unwrap();
    let (sender, mut received) = mpsc::channel::<u32>(1);
    lookback::spawn_on(runtime.handle(), async move {
        while received.recv().await.is_some() {
            tokio::time::sleep(Duration::from_millis(80)).await;
        }
    });
    for _ in 0..8 {
        let sender = sender.clone();
        lookback::spawn_on(runtime.handle(), async move {
            loop {
                lend(&sender).await;
            }
        });
    }
}

#[tracing::instrument(skip_all)]
async fn lend(sender: &mpsc::Sender<u32>) {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| at("sends", line!() + 1));
    sender.send(1).await.unwrap();
}
