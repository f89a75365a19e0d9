//! HTTP: requests as spans, a snapshot of those that go wrong, and a router to fetch snapshots from.
//!
//! [`layer`] is for an axum router, or for any tower service over `http`'s requests and responses. Each
//! request is a span named `request`, with its method, its route and its path, and later its status; events
//! recorded while it is handled are inside it. A server error takes a snapshot, and the response names it in
//! the header [`x-lookback-snapshot`](SNAPSHOT_HEADER).
//!
//! ```
//! use axum::{Router, routing::get};
//! use std::time::Duration;
//! let app: Router = Router::new()
//!     .route("/items/{id}", get(|| async { "an item" }))
//!     .layer(lookback::axum::layer().on_latency(Duration::from_millis(500)));
//! ```
//!
//! [`Debug`](struct@Debug) serves the recorder's status and its snapshots below `/debug/lookback`:
//!
//! ```no_run
//! # async fn start() -> Result<(), lookback::Error> {
//! let address = "127.0.0.1:9100".parse().expect("an address");
//! tokio::spawn(lookback::axum::Debug::new().serve(address));
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! $ TOKEN=$(cat debug-lookback.token)
//! $ curl -s -H "Authorization: Bearer $TOKEN" http://127.0.0.1:9100/debug/lookback
//! $ curl -s -X POST -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:9100/debug/lookback/snapshots?reason=slow'
//! ```

mod body;
mod debug;
mod grpc;
mod layer;
mod request;
mod response;
mod trace_parent;

pub use body::ResponseBody;
pub use debug::{Debug, REQUEST_HEADER};
pub use layer::{Layer, SNAPSHOT_HEADER, Service, layer};
pub use response::ResponseFuture;
