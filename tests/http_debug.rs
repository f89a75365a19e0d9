//! The router `/debug/lookback`: what it serves, and which requests it rejects.

mod common;
#[path = "common/http.rs"]
mod server;

use axum::Router;
use axum::routing::get;
use common::alone;
use lookback::axum::{Debug, REQUEST_HEADER};
use lookback::read::Trace;
use lookback::read::wire::key;
use lookback::{Recorder, Trigger};
use serde_json::Value;
use server::{Answer, Server, answer, ask, client, raw};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const TOKEN: &str = "correct-horse-battery-staple";
const SNAPSHOTS: &str = "/debug/lookback/snapshots";

fn start(directory: &Path) -> Recorder {
    Recorder::builder()
        .max_bytes(4 << 20)
        .window(Duration::from_secs(3600))
        .name("debug")
        .snapshot_dir(directory)
        .trigger(Trigger::signal())
        .start()
        .expect("a recorder starts")
}

/// Takes snapshots as often as requested.
fn eager() -> Debug {
    Debug::new()
        .trust_loopback()
        .trigger(|trigger| trigger.cool_down(Duration::ZERO).per_hour(1000))
}

fn serve(debug: Debug) -> Server {
    Server::serve(2, |address| {
        let own = Router::new().route("/", get(|| async { "a page of the service" }));
        own.merge(debug.router(address).expect("it may be served there"))
    })
}

fn take(server: &Server, query: &str) -> Answer {
    let url = server.url(&format!("{SNAPSHOTS}{query}"));
    answer(client().post(url).header(REQUEST_HEADER, "1").send_empty())
}

/// Checks that an answer is an error, in JSON.
fn assert_refused(answer: &Answer, status: u16, word: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let json = answer.json();
    let error = json["error"].as_str().expect("it says why");
    assert!(error.contains(word), "{error} lacks {word}");
}

#[test]
fn the_status_says_what_is_recorded() {
    alone("the_status_says_what_is_recorded", || {
        let place = tempfile::tempdir().unwrap();
        let server = serve(Debug::new().trust_loopback());
        let status = || {
            let answer = ask(client().get(server.url("/debug/lookback")));
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            answer.json()
        };
        let off = status();
        assert_eq!(off["recording"], Value::Bool(false));
        assert!(off["why_not"].as_str().unwrap().contains("not being recorded"), "{off}");

        let recorder = start(place.path());
        (0..1000).for_each(|n| lookback::event!("tick", n = n));
        common::advance(&recorder);
        let on = status();
        assert_eq!(on["recording"], Value::Bool(true));
        assert!(on["events"].as_u64() >= Some(1000), "{on}");
        assert!(on["bytes"].as_u64() > Some(1000) && on["max_bytes"] == 4 << 20, "{on}");
        assert_eq!(on["window_ns"], 3_600_000_000_000_u64);
        // The frequency is that of the machine's counter, not that of the recorder's ticks.
        let stats = lookback::stats().unwrap();
        let counter = stats.clock_frequency * stats.clock.divisor();
        assert_eq!(on["clock"]["frequency"], counter);
        assert_eq!(on["snapshot_dir"], place.path().to_str().unwrap());
        assert_eq!(on["triggers"]["armed"], serde_json::json!(["signal", "panic"]));
        assert_eq!(on["triggers"]["fired"], 0);
        assert_eq!(on["black_box"], Value::Null);
        assert_eq!(on["lost"], serde_json::json!({}));
        assert_eq!(on["pid"], std::process::id());
        assert!(on["generations"].as_u64() >= Some(2), "{on}");
        // The service's own pages are unchanged.
        assert_eq!(ask(client().get(server.url("/"))).body, b"a page of the service");
        common::stop(recorder);
        assert_eq!(status()["recording"], Value::Bool(false));
    });
}

#[test]
fn a_snapshot_is_taken_listed_and_downloaded() {
    alone("a_snapshot_is_taken_listed_and_downloaded", || {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("not/there/yet");
        let recorder = start(&directory);
        // Random enough to make a file of many pieces.
        let mut state = 1_u64;
        (0..60_000).for_each(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            lookback::event!("noise", a = state, b = state.rotate_left(21));
        });
        let server = serve(eager());
        let list = || ask(client().get(server.url(SNAPSHOTS))).json();
        assert_eq!(list(), serde_json::json!({ "snapshots": [] }));

        let taken = take(&server, "?reason=it+is%20slow%0A&more=1");
        assert_eq!(taken.status, 201, "{taken:?}");
        let json = taken.json();
        let name = json["name"].as_str().unwrap();
        let bytes = json["bytes"].as_u64().unwrap();
        assert_eq!(taken.header("location"), Some(format!("snapshots/{name}").as_str()));
        assert!(bytes > 300_000, "{bytes}");
        let listed = list();
        assert_eq!(listed["snapshots"][0]["name"], name);
        assert_eq!(listed["snapshots"][0]["bytes"], bytes);
        let when = listed["snapshots"][0]["when"].as_str().unwrap();
        assert!(when.starts_with("20") && when.ends_with('Z'), "{when}");

        let url = server.url(&format!("{SNAPSHOTS}/{name}"));
        let file = ask(client().get(&url));
        assert_eq!(file.status, 200);
        assert_eq!(file.header("content-length"), Some(bytes.to_string().as_str()));
        let disposition = format!("attachment; filename=\"{name}\"");
        assert_eq!(file.header("content-disposition"), Some(disposition.as_str()));
        assert_eq!(file.body, fs::read(directory.join(name)).unwrap(), "byte for byte");
        let head = ask(client().head(&url));
        assert_eq!((head.status, head.body.len()), (200, 0));
        let trace = Trace::from_bytes(file.body).unwrap();
        common::assert_sound(&trace);
        assert_eq!(trace.metadata().text(key::REASON), Some("it is slow"));
        assert_eq!(trace.metadata().text(key::TRIGGER), Some("http"));

        // The next one is the first of the list.
        let second = take(&server, "").json();
        assert_eq!(list()["snapshots"][0]["name"], second["name"]);
        assert_eq!(list()["snapshots"][1]["name"], name);
        let trace = Trace::open(directory.join(second["name"].as_str().unwrap())).unwrap();
        assert_eq!(trace.metadata().text(key::REASON), Some("requested over HTTP"));
        common::stop(recorder);
    });
}

#[test]
fn a_client_that_reads_slowly_or_not_at_all_does_no_harm() {
    alone("a_client_that_reads_slowly_or_not_at_all_does_no_harm", || {
        use std::io::{Read, Write};
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        // More than the socket's buffers hold.
        let content: Vec<u8> =
            (0..24 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(place.path().join("large.lbk"), &content).unwrap();
        let server = serve(Debug::new().trust_loopback());
        let connect = || {
            let mut stream = std::net::TcpStream::connect(server.address).unwrap();
            let head = format!(
                "GET {SNAPSHOTS}/large.lbk HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream
        };
        let idle: Vec<_> = (0..8).map(|_| connect()).collect();
        let mut slow = connect();
        let mut first = [0; 1000];
        slow.read_exact(&mut first).unwrap();
        // It is deleted meanwhile, as when newer ones replace it.
        fs::remove_file(place.path().join("large.lbk")).unwrap();
        assert_eq!(ask(client().get(server.url("/debug/lookback"))).status, 200);
        let mut rest = first.to_vec();
        slow.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(&content[1 << 20..]), "{}", rest.len());
        drop(idle);
        common::stop(recorder);
    });
}

#[test]
fn nothing_outside_the_directory_is_given_away() {
    alone("nothing_outside_the_directory_is_given_away", || {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("snapshots");
        fs::create_dir_all(directory.join("inner")).unwrap();
        fs::write(place.path().join("secret.lbk"), "secret").unwrap();
        fs::write(directory.join("inner/secret.lbk"), "secret").unwrap();
        fs::write(directory.join("secret.txt"), "secret").unwrap();
        fs::write(directory.join("odd \"name\".lbk"), "odd").unwrap();
        std::os::unix::fs::symlink("../secret.lbk", directory.join("link.lbk")).unwrap();
        let recorder = start(&directory);
        let server = serve(Debug::new().trust_loopback());
        let absolute = place.path().join("secret.lbk");
        let absolute = absolute.to_str().unwrap();
        let escaped = absolute.replace('/', "%2F");
        let names = [
            "../secret.lbk",
            "..%2Fsecret.lbk",
            "..%2fsecret.lbk",
            "%2e%2e%2fsecret.lbk",
            "%2e%2e/secret.lbk",
            "..%5csecret.lbk",
            "..%252Fsecret.lbk",
            "..%c0%afsecret.lbk",
            "inner/secret.lbk",
            "inner%2Fsecret.lbk",
            "./inner/secret.lbk",
            "link.lbk",
            "secret.txt",
            "secret.txt%00.lbk",
            "secret.txt%00",
            "%ff.lbk",
            ".",
            "..",
            "%2e%2e",
            "",
            absolute,
            &escaped,
        ];
        for name in names {
            for path in [format!("{SNAPSHOTS}/{name}"), format!("{SNAPSHOTS}//{name}")] {
                let request =
                    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
                let answer = raw(server.address, request.as_bytes());
                assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
                assert!(
                    !String::from_utf8_lossy(&answer.body).contains("secret"),
                    "{path}: {answer:?}"
                );
            }
        }
        let listed = ask(client().get(server.url(SNAPSHOTS))).json();
        assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1, "{listed}");
        let odd = ask(client().get(server.url(&format!("{SNAPSHOTS}/odd%20%22name%22.lbk"))));
        assert_eq!((odd.status, odd.body.as_slice()), (200, &b"odd"[..]));
        assert_eq!(odd.header("content-disposition"), Some("attachment"));
        common::stop(recorder);
    });
}

#[test]
fn what_cannot_be_done_is_told_with_a_fitting_status() {
    alone("what_cannot_be_done_is_told_with_a_fitting_status", || {
        let place = tempfile::tempdir().unwrap();
        let server = serve(
            Debug::new().trust_loopback().trigger(|t| t.cool_down(Duration::from_secs(3600))),
        );
        assert_refused(&take(&server, ""), 503, "not being recorded");
        for path in [SNAPSHOTS.to_owned(), format!("{SNAPSHOTS}/a.lbk")] {
            assert_refused(&ask(client().get(server.url(&path))), 503, "not being recorded");
        }
        let recorder = start(place.path());
        let none = ask(client().get(server.url(&format!("{SNAPSHOTS}/a.lbk"))));
        assert_refused(&none, 404, "no snapshot of this name");
        let post = client().post(server.url("/debug/lookback")).header(REQUEST_HEADER, "1");
        assert_refused(&answer(post.send_empty()), 405, "not allowed here");
        let delete = client().delete(server.url(SNAPSHOTS)).header(REQUEST_HEADER, "1");
        assert_refused(&ask(delete), 405, "not allowed here");
        assert_eq!(take(&server, "").status, 201);
        assert_refused(&take(&server, ""), 429, "just now");
        common::stop(recorder);

        // A file where the directory was.
        let blocked = place.path().join("blocked");
        let recorder = start(&blocked);
        let _ = fs::remove_dir(&blocked);
        fs::write(&blocked, "").unwrap();
        let server = serve(eager());
        assert_refused(&take(&server, ""), 500, "blocked");
        assert_refused(&ask(client().get(server.url(SNAPSHOTS))), 500, "blocked");
        common::stop(recorder);
    });
}

#[test]
fn without_a_token_it_does_not_start_elsewhere_than_on_loopback() {
    for address in
        ["0.0.0.0:0", "[::]:0", "10.1.2.3:80", "[2001:db8::1]:80", "[::ffff:10.1.2.3]:80"]
    {
        let address: SocketAddr = address.parse().unwrap();
        let error = Debug::new().router(address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("address = {address}: without a token")), "{error}");
        assert!(Debug::new().token(TOKEN).router(address).is_ok());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        assert!(runtime.block_on(Debug::new().serve(address)).is_err());
    }
    for address in ["127.0.0.1:0", "127.9.9.9:1", "[::1]:0", "[::ffff:127.0.0.1]:80"] {
        assert!(Debug::new().router(address.parse().unwrap()).is_ok(), "{address}");
    }
    let short = Debug::new().token("short").router("127.0.0.1:1".parse().unwrap());
    let short = short.unwrap_err().to_string();
    assert!(short.starts_with("token = (5 bytes): must be"), "{short}");
}

#[test]
fn a_socket_that_listens_to_everybody_is_not_served_without_a_token() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let open = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        let error = Debug::new().serve_on(open).await.unwrap_err().to_string();
        assert!(error.starts_with("address = 0.0.0.0:"), "{error}");
    });
}

#[test]
fn a_server_of_its_own_answers_nothing_else() {
    alone("a_server_of_its_own_answers_nothing_else", || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(Debug::new().trust_loopback().serve_on(listener));
        let url = |path: &str| format!("http://{address}{path}");
        assert_eq!(ask(client().get(url("/debug/lookback"))).status, 200);
        assert_refused(&ask(client().get(url("/"))), 404, "/debug/lookback");
        let busy = runtime.block_on(Debug::new().serve(address)).unwrap_err().to_string();
        assert!(busy.starts_with("cannot listen: "), "{busy}");
    });
}

#[test]
fn without_a_token_no_page_in_a_browser_gets_through() {
    alone("without_a_token_no_page_in_a_browser_gets_through", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let server = serve(eager());
        let send = |method: &str, host: &str, more: &str| {
            let head = format!(
                "{method} {SNAPSHOTS} HTTP/1.1\r\nhost: {host}\r\n{more}content-length: 0\r\n\
                 connection: close\r\n\r\n"
            );
            raw(server.address, head.as_bytes())
        };
        // A foreign name that resolves to this address.
        for host in ["evil.example", "localhost.evil.example:80", "10.0.0.1", "0.0.0.0", ""] {
            assert_refused(&send("GET", host, ""), 403, "loopback");
            assert_refused(&send("POST", host, "x-lookback: 1\r\n"), 403, "loopback");
        }
        // A form in another page, which cannot send a header of its own.
        assert_refused(
            &send("POST", "localhost", "origin: http://evil.example\r\n"),
            403,
            "x-lookback",
        );
        // Its preflight request gets no answer that would allow it.
        let ask_first = "origin: http://evil.example\r\naccess-control-request-method: POST\r\n\
            access-control-request-headers: x-lookback\r\n";
        let asked = send("OPTIONS", "localhost", ask_first);
        assert_eq!(asked.status, 403);
        assert_eq!(asked.header("access-control-allow-origin"), None);
        for proxied in ["forwarded", "x-forwarded-for", "x-real-ip", "via"] {
            let header = format!("{proxied}: 10.0.0.1\r\n");
            assert_refused(&send("GET", "localhost", &header), 403, "proxy");
        }
        assert_eq!(recorder.stats().triggers.fired, 0);
        assert_eq!(send("GET", "localhost", "").status, 200);
        assert_eq!(send("POST", "127.0.0.1", "x-lookback: 1\r\n").status, 201);
        common::stop(recorder);
    });
}

#[test]
fn without_a_token_a_router_that_cannot_see_who_asks_refuses_everybody() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Debug::new().trust_loopback().router(address).unwrap();
    runtime.spawn(async { axum::serve(listener, router).await });
    let refused = ask(client().get(format!("http://{address}/debug/lookback")));
    assert_refused(&refused, 403, "into_make_service_with_connect_info");
}

#[test]
fn with_a_token_every_request_needs_it() {
    alone("with_a_token_every_request_needs_it", || {
        let place = tempfile::tempdir().unwrap();
        let recorder = start(place.path());
        let server = serve(eager().token(TOKEN));
        let paths = ["/debug/lookback", SNAPSHOTS, "/debug/lookback/snapshots/a.lbk"];
        for path in paths {
            let refused = ask(client().get(server.url(path)).header(REQUEST_HEADER, "1"));
            assert_refused(&refused, 401, "Authorization");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
            for wrong in
                ["Bearer correct-horse-battery-stapld", "Basic Zm9vOmJhcg==", TOKEN, "Bearer "]
            {
                let request = client().get(server.url(path)).header("authorization", wrong);
                assert_refused(&ask(request), 401, "token");
            }
        }
        assert_refused(&take(&server, ""), 401, "token");
        assert_eq!(recorder.stats().triggers.fired, 0);

        // With the token, from anywhere, under any name.
        let bearer = format!("Bearer {TOKEN}");
        let status = |path: &str| {
            let request = client().get(server.url(path)).header("host", "shop.example");
            let request = request.header("x-forwarded-for", "10.0.0.1");
            ask(request.header("authorization", &bearer)).status
        };
        assert_eq!(paths.map(status), [200, 200, 404]);
        let post = client().post(server.url(SNAPSHOTS)).header("authorization", &bearer);
        assert_eq!(answer(post.send_empty()).status, 201);
        common::stop(recorder);
    });
}

#[test]
fn while_no_token_can_be_kept_nobody_is_told_where_and_the_disk_is_left_alone() {
    alone("while_no_token_can_be_kept_nobody_is_told_where_and_the_disk_is_left_alone", || {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("snapshots");
        let path = directory.join("debug-lookback.token");
        // A directory in place of the file is not a token.
        fs::create_dir_all(&path).unwrap();
        let recorder = start(&directory);
        let server = serve(Debug::new());
        let get = || ask(client().get(server.url("/debug/lookback")));
        let refused = get();
        assert_refused(&refused, 503, "stderr");
        let text = String::from_utf8_lossy(&refused.body);
        assert!(!text.contains("snapshots"), "{text}");
        // It is not looked for at each request, and is still found once it is there.
        let changed = || fs::metadata(&directory).unwrap().modified().unwrap();
        let mut looked_at = vec![changed()];
        let begun = std::time::Instant::now();
        for _ in 0..200 {
            assert_eq!(get().status, 503);
            looked_at.push(changed());
        }
        looked_at.dedup();
        let most = 3 + begun.elapsed().as_secs() as usize;
        assert!(looked_at.len() <= most, "{} looks, {most} seconds", looked_at.len());
        fs::remove_dir(&path).unwrap();
        assert!(common::wait_for(|| get().status == 401), "it is made");
        recorder.stop().unwrap();
    });
}

/// A proxy on the same machine may add no header and use the configured host. Its requests look like local
/// ones: without a token, all are rejected.
#[test]
fn nobody_is_let_in_without_a_token_unless_that_was_asked_for() {
    alone("nobody_is_let_in_without_a_token_unless_that_was_asked_for", || {
        let place = tempfile::tempdir().unwrap();
        let early = serve(Debug::new());
        let get = |server: &Server, token: Option<&str>| {
            let mut request = client().get(server.url("/debug/lookback"));
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            ask(request)
        };
        // While nothing is recorded, there is no directory for a token, so all requests are rejected.
        assert_refused(&get(&early, None), 503, "not being recorded");
        let recorder = start(place.path());
        let late = serve(Debug::new());
        for server in [&early, &late] {
            assert_refused(&get(server, None), 401, "Authorization: Bearer");
            assert_refused(&get(server, Some("0123456789abcdef0123456789abcdef")), 401, "stderr");
            let taken = client().post(server.url(SNAPSHOTS)).header(REQUEST_HEADER, "1");
            assert_refused(&answer(taken.send_empty()), 401, "Authorization: Bearer");
        }
        let path = place.path().join("debug-lookback.token");
        let token = fs::read_to_string(&path).unwrap();
        for server in [&early, &late] {
            assert_eq!(get(server, Some(token.trim_end())).status, 200);
        }
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        recorder.stop().unwrap();
    });
}
