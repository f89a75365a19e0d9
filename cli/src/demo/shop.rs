//! The demo's service: a small shop. It records itself as a real service would.

use super::lock::{Held, Lock};
use super::traffic::Dice;
use lookback::{Recorder, Region, counter, event, log, region};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How many items there are, numbered from 1.
pub const ITEMS: u32 = 200;
/// How long a handler waits for the inventory before it gives up.
pub const PATIENCE: Duration = Duration::from_millis(200);
/// The region in which a thread holds the inventory.
pub const HOLDING: &str = "inventory_locked";
/// The region in which a thread waits for the inventory.
pub const WAITING: &str = "wait_for_inventory";

/// How many items the cache holds.
const CACHED: usize = 120;
/// The fault: prices come in this many batches, each of which takes this long, and all of them
/// are fetched with the inventory held.
const BATCHES: u32 = 8;
const BATCH: Duration = Duration::from_millis(50);
/// How slow prices are at most, if nobody has noticed before.
const MOST_BATCHES: u32 = 200;

/// The shop, shared by the threads that serve it.
pub struct Shop<'a> {
    recorder: &'a Recorder,
    incident: PathBuf,
    saved: OnceLock<anyhow::Result<()>>,
    inventory: Lock<Inventory>,
    cache: Mutex<Cache>,
    carts: Mutex<HashMap<u32, Vec<u32>>>,
    in_flight: AtomicU64,
    orders: AtomicU64,
}

/// What a handler answers.
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Somebody else held the inventory for too long.
struct TimedOut;

struct Inventory {
    items: Vec<Item>,
    revision: u32,
}

#[derive(Clone)]
struct Item {
    price: f64,
    stock: u32,
}

struct Cache {
    items: HashMap<u32, Item>,
    order: VecDeque<u32>,
}

enum Route {
    Item(u32),
    Cart { customer: u32, item: u32 },
    Checkout { customer: u32 },
    ReloadPrices,
}

impl<'a> Shop<'a> {
    /// Opens the shop. When something goes wrong in it, it saves a snapshot as `incident`.
    pub fn new(recorder: &'a Recorder, incident: &Path) -> Self {
        let item = |number: u32| Item { price: f64::from(number % 37) + 0.95, stock: 100_000 };
        Self {
            recorder,
            incident: incident.to_owned(),
            saved: OnceLock::new(),
            inventory: Lock::new(Inventory { items: (0..ITEMS).map(item).collect(), revision: 1 }),
            cache: Mutex::new(Cache { items: HashMap::new(), order: VecDeque::new() }),
            carts: Mutex::default(),
            in_flight: AtomicU64::new(0),
            orders: AtomicU64::new(0),
        }
    }

    /// How the snapshot was saved, if anything went wrong in the shop.
    pub fn into_saved(self) -> Option<anyhow::Result<()>> {
        self.saved.into_inner()
    }

    /// Handles one request.
    pub fn handle(&self, method: &str, url: &str, request: u64, waited: Duration) -> Answer {
        let _request = region!("request");
        let began = Instant::now();
        let queued_us = waited.as_micros() as u64;
        event!("accept", request = request, method = method, url = url, queued_us = queued_us);
        counter!("in_flight", self.in_flight.fetch_add(1, Relaxed) + 1);

        let what = format!("{method} {url}");
        let answer = match parse(method, url) {
            None => Ok(Answer { status: 404, body: r#"{"error":"no such page"}"#.to_owned() }),
            Some(Route::Item(number)) => self.item(number, &what),
            Some(Route::Cart { customer, item }) => Ok(self.put_in_cart(customer, item)),
            Some(Route::Checkout { customer }) => self.check_out(customer, &what),
            Some(Route::ReloadPrices) => self.reload_prices(&what),
        };
        let answer = answer.unwrap_or_else(|TimedOut| {
            self.take_snapshot(&what);
            Answer { status: 503, body: r#"{"error":"try again"}"#.to_owned() }
        });

        let ms = began.elapsed().as_secs_f64() * 1e3;
        event!("answer", request = request, status = answer.status, ms = ms);
        counter!("in_flight", self.in_flight.fetch_sub(1, Relaxed) - 1);
        answer
    }

    /// The first time that something goes wrong: keeps the seconds that led to it.
    fn take_snapshot(&self, what: &str) {
        self.saved.get_or_init(|| {
            let _region = region!("take_snapshot");
            let patience = PATIENCE.as_millis();
            let reason = format!("inventory lock timed out after {patience} ms in {what}");
            let snapshot = self.recorder.snapshot_because(&reason)?;
            Ok(snapshot.save(&self.incident)?)
        });
    }

    fn item(&self, number: u32, what: &str) -> Result<Answer, TimedOut> {
        let cached = {
            let _region = region!("cache");
            let cached = self.cache().items.get(&number).cloned();
            event!("cache_lookup", item = number, hit = cached.is_some());
            cached
        };
        let item = match cached {
            Some(item) => item,
            None => {
                let _region = region!("inventory");
                let item = {
                    let inventory = self.inventory(what)?;
                    work(Duration::from_micros(80));
                    inventory.items[number as usize - 1].clone()
                };
                self.keep(number, &item);
                item
            }
        };
        let Item { price, stock } = item;
        let body = format!(r#"{{"item":{number},"price":{price:.2},"stock":{stock}}}"#);
        Ok(Answer { status: 200, body })
    }

    fn keep(&self, number: u32, item: &Item) {
        let _region = region!("cache_fill");
        let mut cache = self.cache();
        if cache.items.insert(number, item.clone()).is_none() {
            cache.order.push_back(number);
        }
        if cache.items.len() > CACHED
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.items.remove(&oldest);
            log!(DEBUG, "cache", "evicted item {oldest} to make room for item {number}");
        }
        counter!("cache_size", cache.items.len());
    }

    fn put_in_cart(&self, customer: u32, item: u32) -> Answer {
        let _region = region!("cart");
        let mut carts = self.carts();
        let cart = carts.entry(customer).or_default();
        cart.push(item);
        event!("cart", customer = customer, item = item, items = cart.len());
        Answer { status: 200, body: format!(r#"{{"items":{}}}"#, cart.len()) }
    }

    fn check_out(&self, customer: u32, what: &str) -> Result<Answer, TimedOut> {
        let _region = region!("checkout");
        let cart = self.carts().remove(&customer).unwrap_or_default();
        if cart.is_empty() {
            log!("checkout", "customer {customer} has nothing in the cart");
            return Ok(Answer { status: 409, body: r#"{"error":"nothing to buy"}"#.to_owned() });
        }
        let mut total = 0.0;
        {
            let _region = region!("inventory");
            let mut inventory = self.inventory(what)?;
            for number in &cart {
                let item = &mut inventory.items[*number as usize - 1];
                item.stock = item.stock.saturating_sub(1);
                total += item.price;
            }
            work(Duration::from_micros(120));
        }
        let order = self.orders.fetch_add(1, Relaxed) + 1;
        event!("order", order = order, customer = customer, items = cart.len(), total = total);
        Ok(Answer { status: 200, body: format!(r#"{{"order":{order},"total":{total:.2}}}"#) })
    }

    /// The fault: this fetches prices from a slow supplier while it holds the inventory.
    fn reload_prices(&self, what: &str) -> Result<Answer, TimedOut> {
        let _region = region!("reload_prices");
        let supplier = "prices.example";
        log!("prices", "reloading the prices of {ITEMS} items from {supplier}");
        let mut inventory = self.inventory(what)?;
        inventory.revision += 1;
        let mut dice = Dice::new(inventory.revision.into());
        {
            let _region = region!("fetch_prices");
            let mut batch = 0;
            while batch < BATCHES || (self.saved.get().is_none() && batch < MOST_BATCHES) {
                batch += 1;
                std::thread::sleep(BATCH);
                let each = ITEMS / BATCHES;
                let first = (batch - 1) % BATCHES * each;
                for item in &mut inventory.items[first as usize..(first + each) as usize] {
                    item.price += f64::from(dice.below(100)) / 100.0;
                }
                event!("price_batch", batch = batch, items = each, supplier = supplier);
            }
        }
        log!("prices", "prices are at revision {}", inventory.revision);
        Ok(Answer { status: 200, body: format!(r#"{{"revision":{}}}"#, inventory.revision) })
    }

    /// Waits for the inventory, and shows in the trace who waits and who holds it.
    fn inventory(&self, what: &str) -> Result<Recorded<'_, Inventory>, TimedOut> {
        let held = {
            let _region = region!(WAITING);
            self.inventory.hold_within(PATIENCE)
        };
        match held {
            Some(held) => Ok(Recorded { _region: region!(HOLDING), held }),
            None => {
                let patience = PATIENCE.as_millis();
                log!(ERROR, "inventory", "no lock after {patience} ms in {what}");
                Err(TimedOut)
            }
        }
    }

    fn carts(&self) -> MutexGuard<'_, HashMap<u32, Vec<u32>>> {
        self.carts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock that is held, and the region that says so. The region ends before the lock is free.
struct Recorded<'a, T> {
    _region: Region,
    held: Held<'a, T>,
}

impl<T> std::ops::Deref for Recorded<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> std::ops::DerefMut for Recorded<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

/// Finds out what is asked for.
fn parse(method: &str, url: &str) -> Option<Route> {
    let _region = region!("parse");
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let asked = |name: &str| {
        let (_, value) = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(known, _)| *known == name)?;
        value.parse().ok()
    };
    let item = |number: u32| (1..=ITEMS).contains(&number).then_some(number);
    let mut parts = path.split('/').skip(1);
    match (method, parts.next()?, parts.next(), parts.next()) {
        ("GET", "items", Some(number), None) => Some(Route::Item(item(number.parse().ok()?)?)),
        ("POST", "cart", None, None) => {
            Some(Route::Cart { customer: asked("customer")?, item: item(asked("item")?)? })
        }
        ("POST", "checkout", None, None) => Some(Route::Checkout { customer: asked("customer")? }),
        ("POST", "prices", Some("reload"), None) => Some(Route::ReloadPrices),
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_can_be_asked_for() {
        assert!(matches!(parse("GET", "/items/7"), Some(Route::Item(7))));
        assert!(matches!(
            parse("POST", "/cart?customer=3&item=200"),
            Some(Route::Cart { customer: 3, item: 200 })
        ));
        for (method, url) in [
            ("GET", "/"),
            ("GET", "/items/0"),
            ("GET", "/items/201"),
            ("GET", "/items/seven"),
            ("POST", "/items/7"),
            ("POST", "/cart?customer=3"),
            ("GET", ""),
        ] {
            assert!(parse(method, url).is_none(), "{method} {url}");
        }
    }
}
