//! tonic: the layer for axum is one for any tower service, so gRPC requests are spans and tasks, too;
//! their status is that of gRPC.

use lookback_recipes::{Seen, start};
use std::time::Duration;
use tonic::transport::{Endpoint, Server};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn main() {
    let recorder = start();
    tracing::subscriber::set_global_default(lookback::tracing::subscriber())
        .expect("the first one");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    assert!(lookback::tokio::instrument(builder.worker_threads(2).enable_all()).is_whole());
    let runtime = builder.build().expect("a runtime");
    lookback::block_on(&runtime, async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        // Its number is all that is needed.
        drop(listener);
        let (_reporter, health) = tonic_health::server::health_reporter();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = Server::builder().layer(lookback::axum::layer()).add_service(health);
        let server = lookback::spawn(async move {
            server.serve_with_shutdown(address, async { drop(stopped.await) }).await
        });
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let mut client = HealthClient::new(channel);
        for _ in 0..5 {
            client.check(HealthCheckRequest { service: String::new() }).await.expect("it serves");
        }
        let unknown = HealthCheckRequest { service: "nobody".to_owned() };
        let refused = client.check(unknown).await.expect_err("there is no such service");
        assert_eq!(refused.code(), tonic::Code::NotFound);
        drop(client);
        stop.send(()).expect("the server runs");
        server.await.expect("it does not panic").expect("it served");
    });
    drop(runtime);
    let seen = Seen::of(&recorder.stop().expect("it stops"));
    assert_eq!(seen.count("span_create", "request"), 6);
    let mut statuses = Vec::new();
    for event in seen.events().filter(|event| event.kind_name() == "span_record") {
        let status =
            event.fields().find(|(name, _)| *name == "grpc_status" || *name == "grpc.status");
        statuses.extend(status.map(|(_, value)| value.to_string()));
    }
    statuses.sort();
    println!("statuses: {statuses:?}");
    assert_eq!(statuses.len(), 6);
    seen.tell("tonic");
}
