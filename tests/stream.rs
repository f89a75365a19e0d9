//! The streaming example: what it sends to a file and to a socket is a whole recording.

#[allow(dead_code, reason = "its `main` is for people who run it")]
#[path = "../examples/stream.rs"]
mod example;

use lookback::Trace;
use std::io::Read;
use std::net::TcpListener;

fn assert_whole(bytes: Vec<u8>) {
    let trace = Trace::from_bytes(bytes).expect("it can be read");
    assert_eq!(lookback::read::validate(&trace), []);
    let steps = trace.events().map(|event| event.expect("it can be read"));
    let steps = steps.filter(|event| event.site().is_some_and(|site| site.name == "step")).count();
    assert_eq!(steps, 1000);
}

#[test]
fn a_file_and_a_socket_get_every_event() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("all.lbk");
    example::stream(file.to_str().expect("a path in UTF-8")).expect("it is streamed to a file");
    assert_whole(std::fs::read(file).expect("it is there"));

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let sender = std::thread::spawn(move || example::stream(&address).map_err(|e| e.to_string()));
    let mut bytes = Vec::new();
    let (mut socket, _) = listener.accept().expect("a connection");
    socket.read_to_end(&mut bytes).expect("it is read to its end");
    sender.join().expect("no panic").expect("it is streamed to a socket");
    assert_whole(bytes);
}
