//! A client: reqwest against another service. The span says which call, `waiting_for` what the task
//! waits for.

use lookback::RecordExt;
use lookback_recipes::{Seen, start};
use std::io::{Read, Write};
use std::time::Duration;
use tracing::Instrument;

/// A service that answers slowly, on a thread of its own; it ends with its first request of `/end`.
fn upstream() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap_or(0);
            std::thread::sleep(Duration::from_millis(10));
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
            let _ = stream.write_all(answer.as_bytes());
            if request[..length].starts_with(b"GET /end") {
                return;
            }
        }
    });
    address
}

async fn call(client: &reqwest::Client, url: String) -> u16 {
    let span = tracing::info_span!("upstream", url, status = tracing::field::Empty);
    async {
        let answer = client.get(&url).send().waiting_for("upstream").await.expect("it answers");
        let status = answer.status().as_u16();
        tracing::Span::current().record("status", status);
        status
    }
    .instrument(span)
    .await
}

fn main() {
    let recorder = start();
    tracing::subscriber::set_global_default(lookback::tracing::subscriber())
        .expect("the first one");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    assert!(lookback::tokio::instrument(builder.worker_threads(2).enable_all()).is_whole());
    let runtime = builder.build().expect("a runtime");
    let address = upstream();
    lookback::block_on(&runtime, async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        for path in ["/a", "/b", "/c", "/end"] {
            let (client, url) = (client.clone(), format!("http://{address}{path}"));
            let task = lookback::spawn(async move { call(&client, url).await });
            assert_eq!(task.await.expect("it does not panic"), 200);
        }
    });
    drop(runtime);
    let seen = Seen::of(&recorder.stop().expect("it stops"));
    assert_eq!(seen.count("span_create", "upstream"), 4);
    let waits = seen.events().filter(|event| {
        matches!(event.kind(), lookback::read::EventKind::TaskPending { waits_for: Some(site), .. }
            if site.name == "upstream")
    });
    assert!(waits.count() >= 4);
    seen.tell("reqwest");
}
