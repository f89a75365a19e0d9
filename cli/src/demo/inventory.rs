//! The inventory: a task that alone has the items, and does what it is sent, one thing after the other.

use super::traffic::Dice;
use lookback::{RecordExt, counter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How many items there are, numbered from 1.
pub const ITEMS: u32 = 200;
/// How long a handler waits for the inventory's answer before it gives up.
pub const PATIENCE: Duration = Duration::from_millis(200);
/// What a handler waits for meanwhile, as the trace says it.
pub const WAITS_FOR: &str = "inventory";

/// What is known of an item.
#[derive(Clone, Copy)]
pub struct Item {
    pub price: f64,
    pub stock: u32,
}

/// The inventory did not answer in time.
#[derive(Debug)]
pub struct NoAnswer;

/// The way to the inventory.
pub struct Inventory {
    orders: UnboundedSender<Order>,
    queued: Arc<AtomicU64>,
}

/// Something for the inventory to do.
enum Order {
    LookUp { number: u32, answer: oneshot::Sender<Item> },
    Take { numbers: Vec<u32>, answer: oneshot::Sender<f64> },
    NewRevision,
    Reprice { first: u32, by: Vec<f64> },
}

impl Inventory {
    /// Starts the task that keeps it.
    pub fn open() -> Self {
        let (orders, received) = unbounded_channel();
        let queued = Arc::new(AtomicU64::new(0));
        lookback::spawn(keep_inventory(received, Arc::clone(&queued)));
        Self { orders, queued }
    }

    /// What is known of an item.
    pub async fn look_up(&self, number: u32) -> Result<Item, NoAnswer> {
        self.ask(|answer| Order::LookUp { number, answer }).await
    }

    /// Takes items out, and says what they cost.
    pub async fn take(&self, numbers: Vec<u32>) -> Result<f64, NoAnswer> {
        self.ask(|answer| Order::Take { numbers, answer }).await
    }

    /// Prices are about to change. Waits for nothing.
    pub fn begin_revision(&self) {
        self.send(Order::NewRevision);
    }

    /// Changes the prices of the items from this one on. Waits for nothing.
    pub fn reprice(&self, first: u32, by: Vec<f64>) {
        self.send(Order::Reprice { first, by });
    }

    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, NoAnswer> {
        let (sender, answer) = oneshot::channel();
        self.send(order(sender));
        match timeout(PATIENCE, answer).waiting_for(WAITS_FOR).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(NoAnswer),
        }
    }

    fn send(&self, order: Order) {
        counter!("inventory_queue", self.queued.fetch_add(1, Relaxed) + 1);
        // It is there for as long as the shop is; at its end nobody waits for an answer.
        let _ = self.orders.send(order);
    }
}

/// The task. It never waits for anything but orders.
async fn keep_inventory(mut orders: UnboundedReceiver<Order>, queued: Arc<AtomicU64>) {
    let item = |number: u32| Item { price: f64::from(number % 37) + 0.95, stock: 100_000 };
    let mut items: Vec<_> = (1..=ITEMS).map(item).collect();
    let mut revision = 1;
    while let Some(order) = orders.recv().waiting_for("orders").await {
        counter!("inventory_queue", queued.fetch_sub(1, Relaxed) - 1);
        match order {
            Order::LookUp { number, answer } => {
                work(Duration::from_micros(80));
                // Who asked may have given up; then nobody misses the answer.
                let _ = answer.send(items[number as usize - 1]);
            }
            Order::Take { numbers, answer } => {
                work(Duration::from_micros(120));
                let mut total = 0.0;
                for number in numbers {
                    let item = &mut items[number as usize - 1];
                    item.stock = item.stock.saturating_sub(1);
                    total += item.price;
                }
                let _ = answer.send(total);
            }
            Order::NewRevision => {
                revision += 1;
                tracing::info!(revision, "prices are about to change");
            }
            Order::Reprice { first, by } => {
                for (item, by) in items[first as usize - 1..].iter_mut().zip(by) {
                    item.price += by;
                }
            }
        }
    }
}

/// Keeps a processor busy, as real work would.
fn work(time: Duration) {
    let began = Instant::now();
    let mut dice = Dice::new(1);
    while began.elapsed() < time {
        std::hint::black_box(dice.below(100));
    }
}
