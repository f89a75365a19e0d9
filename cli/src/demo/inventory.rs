//! The inventory: one task owns the items, and handles one message after another.

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
/// The reason for that wait in the trace.
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

/// A handle to the inventory.
pub struct Inventory {
    orders: UnboundedSender<Order>,
    queued: Arc<AtomicU64>,
}

/// A message to the inventory.
enum Order {
    LookUp { number: u32, answer: oneshot::Sender<Item> },
    Take { numbers: Vec<u32>, answer: oneshot::Sender<f64> },
    NewRevision,
    Reprice { first: u32, by: Vec<f64> },
}

impl Inventory {
    /// Starts the task that owns it.
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

    /// Takes items out, and returns their price.
    pub async fn take(&self, numbers: Vec<u32>) -> Result<f64, NoAnswer> {
        self.ask(|answer| Order::Take { numbers, answer }).await
    }

    /// Announces that prices will change. Does not wait.
    pub fn begin_revision(&self) {
        self.send(Order::NewRevision);
    }

    /// Changes the prices of the items from this one on. Does not wait.
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
        // The task lives as long as the shop; at its end no handler waits for an answer.
        let _ = self.orders.send(order);
    }
}

/// The task. It waits for nothing but messages.
async fn keep_inventory(mut orders: UnboundedReceiver<Order>, queued: Arc<AtomicU64>) {
    let item = |number: u32| Item { price: f64::from(number % 37) + 0.95, stock: 100_000 };
    let mut items: Vec<_> = (1..=ITEMS).map(item).collect();
    let mut revision = 1;
    while let Some(order) = orders.recv().waiting_for("orders").await {
        counter!("inventory_queue", queued.fetch_sub(1, Relaxed) - 1);
        match order {
            Order::LookUp { number, answer } => {
                work(Duration::from_micros(80));
                // The handler may have given up; then the answer is not needed.
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

/// Keeps a processor busy, like real work.
fn work(time: Duration) {
    let began = Instant::now();
    let mut dice = Dice::new(1);
    while began.elapsed() < time {
        std::hint::black_box(dice.below(100));
    }
}
