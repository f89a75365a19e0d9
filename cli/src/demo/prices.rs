//! The demo's fault: the handler that reloads the prices blocks its worker.
//!
//! It calls a supplier through a blocking client. It holds no lock meanwhile, and only sends messages to the
//! inventory; so why does any other task have to wait? Because a task that another task wakes runs next on
//! that task's worker, and no other worker may steal it from there (Tokio's LIFO slot). The handler wakes the
//! inventory, and then keeps the worker busy.

use super::incident::Incident;
use super::inventory::{ITEMS, Inventory};
use super::traffic::Dice;
use lookback::{event, region};
use std::time::Duration;

/// Where new prices come from.
const SUPPLIER: &str = "prices.example";
/// Prices come in this many batches, each of which takes this long.
const BATCHES: u32 = 8;
const BATCH: Duration = Duration::from_millis(50);
/// How slow the supplier is at most, if no request fails before.
const MOST_BATCHES: u32 = 200;

/// Fetches new prices, and sends them to the inventory. It blocks, and must not be called from async code.
pub fn reload(inventory: &Inventory, incident: &Incident) -> u32 {
    tracing::info!(supplier = SUPPLIER, items = ITEMS, "reloading the prices");
    let _region = region!("reload_prices");
    inventory.begin_revision();
    let mut dice = Dice::new(2);
    let mut batch = 0;
    while batch < BATCHES || (!incident.is_saved() && batch < MOST_BATCHES) {
        batch += 1;
        let each = ITEMS / BATCHES;
        let by = fetch(each, &mut dice);
        inventory.reprice(1 + (batch - 1) % BATCHES * each, by);
        event!("price_batch", batch = batch, items = each, supplier = SUPPLIER);
    }
    batch
}

/// The blocking client: the thread waits for its answer.
fn fetch(items: u32, dice: &mut Dice) -> Vec<f64> {
    let _region = region!("fetch_prices");
    std::thread::sleep(BATCH);
    (0..items).map(|_| f64::from(dice.below(100)) / 100.0).collect()
}
