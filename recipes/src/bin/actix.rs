//! actix-web: one runtime a thread, which nobody can hook. Each thread says that it is a worker, and
//! a middleware makes each request a task and a span.

use actix_web::dev::Service;
use actix_web::{App, HttpServer, web};
use lookback::RecordExt;
use lookback_recipes::{Seen, get, start};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tracing::Instrument;

thread_local! {
    /// For as long as the thread lives.
    static WORKER: std::cell::RefCell<Option<lookback::Worker>> = const { std::cell::RefCell::new(None) };
}

async fn item(id: web::Path<u64>) -> String {
    let _region = lookback::region!("render");
    std::thread::sleep(Duration::from_millis(1));
    format!("item {id}")
}

async fn slow() -> &'static str {
    actix_web::rt::time::sleep(Duration::from_millis(20)).waiting_for("the database").await;
    "slow"
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let recorder = start();
    tracing::subscriber::set_global_default(lookback::tracing::subscriber())
        .expect("the first one");
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    let server = HttpServer::new(|| {
        // Called once on each worker's thread.
        let number = THREADS.fetch_add(1, Ordering::Relaxed);
        WORKER.set(Some(lookback::worker(&format!("arbiter-{number}"))));
        App::new()
            .wrap_fn(|request, service| {
                let route = request.match_pattern().unwrap_or_default();
                let span =
                    tracing::info_span!("request", http.route = route, path = request.path());
                service.call(request).instrument(span).recorded("request")
            })
            .route("/items/{id}", web::get().to(item))
            .route("/slow", web::get().to(slow))
    });
    let server = server.workers(2).bind(("127.0.0.1", 0))?;
    let address = server.addrs()[0].to_string();
    let server = server.run();
    let handle = server.handle();
    let clients = std::thread::spawn(move || {
        for id in 0..20 {
            assert!(get(&address, &format!("/items/{id}")).ends_with(&format!("item {id}")));
        }
        assert!(get(&address, "/slow").ends_with("slow"));
        actix_web::rt::System::new().block_on(handle.stop(true));
    });
    server.await?;
    clients.join().expect("the clients are served");
    let seen = Seen::of(&recorder.stop().expect("it stops"));
    assert_eq!(seen.count("span_create", "request"), 21);
    assert_eq!(seen.count("task_create", "request"), 21);
    assert_eq!(seen.regions("render").len(), 20);
    seen.tell("actix-web");
    Ok(())
}
