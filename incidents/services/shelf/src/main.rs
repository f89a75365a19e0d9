//! A library of books: it lends them, asks another service for their covers, and keeps a journal.

mod books;
mod covers;
mod faults;
mod journal;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use books::Books;
use covers::Covers;
use faults::fault;
use journal::Journal;
use lookback::tokio;
use std::error::Error;
use std::time::Duration;

type Answer = Result<String, StatusCode>;

#[derive(Clone)]
struct Shelf {
    books: Books,
    covers: Covers,
    journal: Journal,
}

async fn book(State(shelf): State<Shelf>, Path(id): Path<i64>) -> Answer {
    shelf.books.title(id).await.map_err(failed)
}

async fn cover(State(shelf): State<Shelf>, Path(id): Path<i64>) -> Answer {
    let title = if fault("held_connection") {
        shelf.books.title_with(id, shelf.covers.of(id)).await.map_err(failed)?
    } else {
        let title = shelf.books.title(id).await.map_err(failed)?;
        shelf.covers.of(id).await.map_err(failed)?;
        title
    };
    Ok(format!("the cover of {title}"))
}

async fn lend(State(shelf): State<Shelf>, Path(id): Path<i64>) -> Answer {
    shelf.books.lend(id).await.map_err(failed)?;
    if fault("cancelled") {
        shelf.covers.of(id).await.map_err(failed)?; // truth: cancelled
    }
    shelf.journal.note(id).await;
    Ok("lent".to_owned())
}

async fn report(State(shelf): State<Shelf>) -> Answer {
    let count = shelf.books.count().await.map_err(failed)?;
    let sum = tokio::task::spawn_blocking(move || faults::compute(count)); // truth: blocking_pool_spawn
    Ok(sum.await.map_err(failed)?.to_string())
}

fn failed(error: impl std::fmt::Display) -> StatusCode {
    tracing::warn!(%error, "failed");
    StatusCode::INTERNAL_SERVER_ERROR
}

async fn serve() -> Result<(), Box<dyn Error + Send + Sync>> {
    let shelf =
        Shelf { books: Books::open().await?, covers: Covers::new()?, journal: Journal::start() };
    let mut routes = Router::new()
        .route("/books/{id}", get(book))
        .route("/covers/{id}", get(cover))
        .route("/lend/{id}", get(lend))
        .route("/report", get(report))
        .with_state(shelf);
    if fault("cancelled") {
        let give_up = |error: tower::BoxError| async move {
            (StatusCode::GATEWAY_TIMEOUT, error.to_string())
        };
        routes = routes.layer(
            tower::ServiceBuilder::new()
                .layer(axum::error_handling::HandleErrorLayer::new(give_up))
                .layer(tower::timeout::TimeoutLayer::new(Duration::from_millis(200))),
        );
    }
    let listener =
        tokio::net::TcpListener::bind(format!("127.0.0.1:{}", std::env::var("PORT")?)).await?;
    Ok(axum::serve(listener, routes.layer(lookback::axum::layer())).await?)
}

#[global_allocator]
static ALLOCATOR: lookback::Alloc = lookback::Alloc::system();

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    if let Some(seconds) = std::env::args().nth(1) {
        return books::hold_the_file(seconds.parse()?);
    }
    let _recorder = lookback::Recorder::builder()
        .stall_stacks(Duration::from_millis(50))
        .from_env()?
        .start()?;
    tracing::subscriber::set_global_default(lookback::tracing::subscriber())?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().max_blocking_threads(8);
    let _ = lookback::tokio::instrument(&mut builder);
    builder.build()?.block_on(serve())
}
