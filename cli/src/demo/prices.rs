//! The demo's fault: the handler that reloads the prices blocks its worker.
//!
//! It calls a supplier through an old client that knows nothing of async. It holds no lock meanwhile,
//! and the inventory only gets messages from it; so why should anybody have to wait? Because a task
//! that is woken by the task of a worker runs next on that very worker, and no other worker may take
//! it from there (Tokio's LIFO slot). The inventory is woken by the handler, and then the handler
//! does not let the worker go.

use super::incident::Incident;
use super::inventory::{ITEMS, Inventory};
use super::traffic::Dice;
use lookback::{event, region};
use std::time::Duration;

/// Where new prices come from.
const SUPPLIER: &str = "prices.example";
/// Prices come in this many batches, and each of them takes this long.
const BATCHES: u32 = 8;
const BATCH: Duration = Duration::from_millis(50);
/// How slow the supplier is at most, if nobody has noticed before.
const MOST_BATCHES: u32 = 200;

/// Gets new prices, and sends them to the inventory. This is not async, and should not be called by
/// what is.
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

/// The old client: its answer comes when it comes, and the thread waits for it.
fn fetch(items: u32, dice: &mut Dice) -> Vec<f64> {
    let _region = region!("fetch_prices");
    std::thread::sleep(BATCH);
    (0..items).map(|_| f64::from(dice.below(100)) / 100.0).collect()
}
