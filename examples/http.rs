//! A small shop whose requests are recorded, with a page for its operators.
//!
//! ```text
//! $ LOOKBACK_SNAPSHOT_DIR=/tmp/shop cargo run --example http --features axum
//! $ curl -i http://127.0.0.1:8080/items/0
//! $ TOKEN=$(cat /tmp/shop/debug-lookback.token)
//! $ curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:9100/debug/lookback/snapshots
//! ```

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use std::net::SocketAddr;
use std::time::Duration;

/// An item; the first one is always out of stock, and that counts as the server's fault.
async fn item(Path(number): Path<u64>) -> Result<String, StatusCode> {
    let _region = lookback::region!("look up");
    tracing::info!(number, "looking for it");
    if number == 0 { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(format!("item {number}\n")) }
}

fn shop() -> Router {
    let layer = lookback::axum::layer().on_latency(Duration::from_millis(500));
    Router::new().route("/items/{number}", get(item)).layer(layer)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _recorder = lookback::Recorder::from_env()?;
    tracing::subscriber::set_global_default(lookback::tracing::subscriber())?;
    let debug: SocketAddr = "127.0.0.1:9100".parse()?;
    // If the address is in use, the shop opens all the same.
    if let Err(error) = lookback::axum::Debug::new().start(debug).await {
        eprintln!("nothing below /debug/lookback: {error}");
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    axum::serve(listener, shop()).await?;
    Ok(())
}
