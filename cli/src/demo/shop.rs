//! The demo's service: a small shop, instrumented like a real service.

use super::cache::Cache;
use super::incident::Incident;
use super::inventory::{ITEMS, Inventory, Item, NoAnswer, PATIENCE};
use super::prices;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use lookback::{counter, event};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

/// The shop, shared by the tasks that serve it.
pub struct Shop {
    inventory: Inventory,
    cache: Cache,
    carts: Mutex<HashMap<u32, Vec<u32>>>,
    incident: Arc<Incident>,
    in_flight: AtomicU64,
    orders: AtomicU64,
}

/// Why a request fails.
enum Failure {
    NoSuchItem,
    NothingToBuy,
    NoAnswer,
}

type Answer = Result<Json<Value>, Failure>;

impl Shop {
    /// Opens the shop, inside the runtime that serves it.
    pub fn open(incident: &Arc<Incident>) -> Arc<Self> {
        Arc::new(Self {
            inventory: Inventory::open(),
            cache: Cache::default(),
            carts: Mutex::default(),
            incident: Arc::clone(incident),
            in_flight: AtomicU64::new(0),
            orders: AtomicU64::new(0),
        })
    }

    fn carts(&self) -> MutexGuard<'_, HashMap<u32, Vec<u32>>> {
        self.carts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shop's pages.
pub fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/items/{number}", get(item))
        .route("/carts/{customer}/items/{number}", post(put_in_cart))
        .route("/carts/{customer}/checkout", post(check_out))
        .route("/prices/reload", post(reload_prices))
        .layer(from_fn_with_state(Arc::clone(&shop), record))
        .with_state(shop)
}

/// Each request is a span. If one gets no answer, that is an incident.
async fn record(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = info_span!("request", %method, path, status = Empty);
    async {
        let began = Instant::now();
        counter!("in_flight", shop.in_flight.fetch_add(1, Relaxed) + 1);
        let response = next.run(request).await;
        let status = response.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let patience = PATIENCE.as_millis();
            let reason =
                format!("no answer from the inventory within {patience} ms in {method} {path}");
            tracing::error!("{reason}");
            shop.incident.save(reason).await;
        }
        Span::current().record("status", status.as_u16());
        let ms = began.elapsed().as_secs_f64() * 1e3;
        event!("answer", status = status.as_u16(), ms = ms);
        counter!("in_flight", shop.in_flight.fetch_sub(1, Relaxed) - 1);
        response
    }
    .instrument(span)
    .await
}

async fn item(State(shop): State<Arc<Shop>>, Path(number): Path<u32>) -> Answer {
    known(number)?;
    let item = match shop.cache.get(number) {
        Some(item) => item,
        None => {
            let item = shop.inventory.look_up(number).await?;
            shop.cache.keep(number, item);
            item
        }
    };
    let Item { price, stock } = item;
    Ok(Json(json!({ "item": number, "price": price, "stock": stock })))
}

async fn put_in_cart(
    State(shop): State<Arc<Shop>>,
    Path((customer, number)): Path<(u32, u32)>,
) -> Answer {
    known(number)?;
    let mut carts = shop.carts();
    let cart = carts.entry(customer).or_default();
    cart.push(number);
    event!("cart", customer = customer, item = number, items = cart.len());
    Ok(Json(json!({ "items": cart.len() })))
}

async fn check_out(State(shop): State<Arc<Shop>>, Path(customer): Path<u32>) -> Answer {
    let cart = shop.carts().remove(&customer).unwrap_or_default();
    if cart.is_empty() {
        tracing::info!(customer, "nothing is in the cart");
        return Err(Failure::NothingToBuy);
    }
    let items = cart.len();
    let total = shop.inventory.take(cart).await?;
    let order = shop.orders.fetch_add(1, Relaxed) + 1;
    event!("order", order = order, customer = customer, items = items, total = total);
    Ok(Json(json!({ "order": order, "total": total })))
}

/// See [`prices`] for what is wrong here.
async fn reload_prices(State(shop): State<Arc<Shop>>) -> Answer {
    lookback::spawn(forget_prices(Arc::clone(&shop)));
    let batches = prices::reload(&shop.inventory, &shop.incident);
    Ok(Json(json!({ "batches": batches })))
}

/// Cached items are outdated when prices change.
async fn forget_prices(shop: Arc<Shop>) {
    shop.cache.clear();
}

fn known(item: u32) -> Result<(), Failure> {
    if (1..=ITEMS).contains(&item) { Ok(()) } else { Err(Failure::NoSuchItem) }
}

impl From<NoAnswer> for Failure {
    fn from(NoAnswer: NoAnswer) -> Self {
        Self::NoAnswer
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::NoSuchItem => (StatusCode::NOT_FOUND, "no such item"),
            Self::NothingToBuy => (StatusCode::CONFLICT, "nothing to buy"),
            Self::NoAnswer => (StatusCode::SERVICE_UNAVAILABLE, "try again"),
        };
        (status, Json(json!({ "error": error }))).into_response()
    }
}
