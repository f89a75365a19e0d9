//! No secret is in a snapshot: however it is recorded, its bytes are nowhere in the file, decompressed. The
//! surrounding text is there, with a mark in the secret's place.

mod common;

use common::{events, stop, text};
use lookback::read::Trace;
use lookback::{Recorder, Trigger, counter, event, log};
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

/// The program contains this text only as a secret's value.
const SECRET: &str = "hunter2Zq";
const MARK: &str = "[redacted]";

/// All bytes of the file, with its compressed parts decompressed.
fn whole_file(path: &Path) -> Vec<u8> {
    const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    let file = std::fs::read(path).expect("the file is there");
    let mut bytes = file.clone();
    let mut parts = 0;
    for at in 0..file.len().saturating_sub(4) {
        if file[at..].starts_with(&MAGIC) {
            let decoder = zstd::stream::read::Decoder::new(&file[at..]).expect("a decoder");
            // Anything that is not a frame ends with an error, after its readable part.
            let _ = std::io::Read::read_to_end(&mut decoder.single_frame(), &mut bytes);
            parts += 1;
        }
    }
    assert!(parts > 0, "no part of the file is compressed?");
    bytes
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Records with `record`, saves, and looks for the secret in the whole file. `shown` must be there.
fn assert_hidden(record: impl FnOnce(&Recorder), shown: &[&str]) -> Trace {
    let place = tempfile::tempdir().expect("a directory");
    let builder = Recorder::builder().max_bytes(4 << 20).window(Duration::from_secs(3600));
    let recorder = builder.snapshot_dir(place.path()).start().expect("a recorder starts");
    record(&recorder);
    let path = recorder.save("the test is over").expect("it saves");
    let bytes = whole_file(&path);
    assert!(!has(&bytes, SECRET), "the secret is in the file");
    assert!(has(&bytes, MARK), "no mark tells that something was left out");
    for text in shown {
        assert!(has(&bytes, text), "{text} is not in the file");
    }
    stop(recorder)
}

/// An error whose source reveals a secret.
#[derive(Debug)]
struct Refused(Option<Box<Refused>>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(_) => f.write_str("no connection"),
            None => write!(f, "refused by postgres://ann:{SECRET}@db:5432/shop"),
        }
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_deref().map(|source| source as _)
    }
}

#[derive(Debug)]
#[expect(dead_code, reason = "for its Debug form")]
struct Config {
    user: &'static str,
    password: Option<String>,
    retries: u32,
}

fn config() -> Config {
    Config { user: "ann-the-user", password: Some(SECRET.to_owned()), retries: 3 }
}

#[test]
fn no_value_of_a_typed_event_that_is_named_like_a_secret_is_recorded() {
    common::alone("no_value_of_a_typed_event_that_is_named_like_a_secret_is_recorded", || {
        let url = format!("postgres://ann:{SECRET}@db:5432/shop");
        let record = |recorder: &Recorder| {
            for _ in 0..2 {
                // A recurring text is written differently within a generation.
                for _ in 0..4 {
                    event!("login", user = "ann-the-user", password = SECRET, attempts = 3_u8);
                    event!(
                        "numbers",
                        pin = 1234_u32,
                        card_number = 4_111_111_111_111_111_u64,
                        count = 7
                    );
                    event!("address", url = url.as_str(), retries = 2);
                    event!("shapes", config = ?config(), error = &Refused(None) as &dyn std::error::Error);
                    event!("maybe", api_key = Some(SECRET), set = true);
                }
                common::advance(recorder);
            }
        };
        let shown = [
            "ann-the-user",
            "db:5432/shop",
            "retries: 3",
            "refused by postgres://ann:[redacted]@db",
        ];
        let trace = assert_hidden(record, &shown);
        let (mut logins, mut numbers) = (0, 0);
        for event in events(&trace) {
            if event.name() == "login" {
                assert_eq!(text(&event, "password"), Some((MARK.to_owned(), false)));
                assert_eq!(common::number(&event, "attempts"), Some(3));
                logins += 1;
            } else if event.name() == "numbers" {
                assert_eq!(text(&event, "pin"), Some((MARK.to_owned(), false)));
                assert_eq!(text(&event, "card_number"), Some((MARK.to_owned(), false)));
                assert_eq!(common::number(&event, "count"), Some(7));
                numbers += 1;
            }
        }
        assert_eq!((logins, numbers), (8, 8));
    });
}

#[test]
fn no_secret_in_a_message_is_recorded() {
    common::alone("no_secret_in_a_message_is_recorded", || {
        let record = |_: &Recorder| {
            for n in 0..4 {
                log!("db", "connecting with password={SECRET} as ann, try {n}");
                log!("db", "config is {:?}", config());
                let mut headers = http::HeaderMap::new();
                let value = http::HeaderValue::from_str(&format!("Bearer {SECRET}"));
                headers.insert(http::header::AUTHORIZATION, value.expect("a value"));
                headers.insert(http::header::HOST, http::HeaderValue::from_static("example-host"));
                log!("http", "headers {headers:?}");
                log!("http", "GET https://example-host/p?access_token={SECRET}&x=1");
                log!("cmd", "running {:?}", ["mysql", "--password", SECRET, "the-database"]);
                // Without an argument: the compiler may make one text of it.
                log!("const", "token: hunter2Zq, a constant");
            }
        };
        let shown = ["as ann, try 3", "retries: 3", "example-host", "the-database", "a constant"];
        assert_hidden(record, &shown);
    });
}

#[test]
fn no_secret_of_spans_and_events_of_tracing_is_recorded() {
    common::alone("no_secret_of_spans_and_events_of_tracing_is_recorded", || {
        let record = |_: &Recorder| {
            let both = || {
                let span = tracing::info_span!(
                    "login", sessionId = SECRET, user = "ann-the-user", url = tracing::field::Empty,
                    accessKey = tracing::field::Empty, config = ?config(),
                );
                let _entered = span.enter();
                span.record("accessKey", SECRET);
                span.record("url", format!("redis://:{SECRET}@cache-host/0").as_str());
                tracing::info!(jwt = SECRET, dsn = %SECRET, prompt_tokens = 12, "signed in");
                tracing::warn!(
                    "login failed for ann with password {{\"password\":\"{SECRET}\",\"n\":1}}"
                );
                let error = Refused(Some(Box::new(Refused(None))));
                tracing::error!(error = &error as &dyn std::error::Error, "no database");
                tracing::error!(error = %Refused(None), request = ?[("authorization", SECRET)], "again");
            };
            tracing::subscriber::with_default(lookback::tracing::subscriber(), both);
            let registry = tracing_subscriber::registry().with(lookback::tracing::layer());
            tracing::subscriber::with_default(registry, both);
        };
        let shown = [
            "ann-the-user",
            "cache-host/0",
            "signed in",
            "retries: 3",
            "no database",
            "db:5432/shop",
        ];
        let trace = assert_hidden(record, &shown);
        let tokens = events(&trace).filter_map(|event| common::number(&event, "prompt_tokens"));
        assert_eq!(tokens.collect::<Vec<_>>(), [12, 12], "numbers of tokens are not secret");
    });
}

#[test]
fn no_secret_of_the_log_crate_is_recorded() {
    common::alone("no_secret_of_the_log_crate_is_recorded", || {
        let record = |_: &Recorder| {
            lookback::tracing::record_log().expect("no logger yet");
            tracing::subscriber::with_default(lookback::tracing::subscriber(), || {
                log::warn!("retrying with Authorization: Bearer {SECRET}");
                log::error!(target: "the-target", "api_key={SECRET} was refused by example-host");
            });
        };
        assert_hidden(record, &["retrying with", "the-target", "was refused by example-host"]);
    });
}

#[test]
fn no_secret_of_a_panic_or_a_reason_is_recorded() {
    common::alone("no_secret_of_a_panic_or_a_reason_is_recorded", || {
        let place = tempfile::tempdir().expect("a directory");
        let recorder = Recorder::builder()
            .max_bytes(2 << 20)
            .snapshot_dir(place.path())
            .trigger(Trigger::log(lookback::Level::Error))
            .start()
            .expect("a recorder starts");
        let panics = || panic!("cannot connect to postgres://ann:{SECRET}@db:5432/shop");
        // One after the other: concurrent reasons share a snapshot.
        let saved = |count| common::wait_for(|| recorder.stats().triggers.saved >= count);
        assert!(std::thread::spawn(panics).join().is_err());
        assert!(saved(1), "{:?}", recorder.stats());
        log!(ERROR, "db", "cannot log in with secret={SECRET} at db:5432");
        assert!(saved(2), "{:?}", recorder.stats());
        let refused: Result<(), _> =
            lookback::SnapshotOnErr::snapshot_on_err(Err(Refused(None)), &recorder);
        assert!(refused.is_err());
        let because =
            recorder.snapshot_because(&format!("password={SECRET} was wrong")).expect("it works");
        assert_eq!(because.reason(), "password=[redacted] was wrong");
        because.save(place.path().join("because.lbk")).expect("it saves");
        assert!(saved(3), "{:?}", recorder.stats());
        let files = std::fs::read_dir(place.path()).expect("it is there").flatten();
        let files: Vec<_> =
            files.map(|file| file.path()).filter(|p| p.extension().is_some()).collect();
        assert!(files.len() >= 4, "{files:?}");
        for file in files {
            let bytes = whole_file(&file);
            assert!(!has(&bytes, SECRET), "the secret is in {}", file.display());
            assert!(has(&bytes, MARK) && has(&bytes, "db:5432"));
        }
    });
}

#[test]
fn no_secret_of_any_reason_is_recorded_where_many_share_a_snapshot() {
    common::alone("no_secret_of_any_reason_is_recorded_where_many_share_a_snapshot", || {
        let place = tempfile::tempdir().expect("a directory");
        let builder = Recorder::builder().max_bytes(2 << 20).snapshot_dir(place.path());
        let recorder = builder.start().expect("a recorder starts");
        let ask = |number: u32| {
            let saved = recorder.save(&format!("asker {number}: password={SECRET} was wrong"));
            saved.expect("it saves")
        };
        let mut paths: Vec<_> = std::thread::scope(|scope| {
            let mut threads = Vec::new();
            recorder.while_saver_waits(|| {
                for number in 0..8 {
                    threads.push(scope.spawn(move || ask(number)));
                    // The first one holds the saver up; the others gather behind it.
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            threads.into_iter().map(|thread| thread.join().expect("it works")).collect()
        });
        paths.sort();
        paths.dedup();
        for path in paths {
            let bytes = whole_file(&path);
            assert!(!has(&bytes, SECRET), "the secret is in {}", path.display());
            assert!(has(&bytes, MARK) && has(&bytes, "asker "));
        }
        drop(recorder);
        let off = Recorder::builder().enabled(false).snapshot_dir(place.path()).start();
        let off = off.expect("it does nothing");
        let nothing = off.snapshot_because(&format!("password={SECRET} was wrong"));
        let nothing = nothing.expect("it works");
        assert_eq!(nothing.reason(), "password=[redacted] was wrong (recording is turned off)");
    });
}

#[test]
fn no_secret_of_a_request_is_recorded() {
    common::alone("no_secret_of_a_request_is_recorded", || {
        use tower_service::Service;
        let record = |_: &Recorder| {
            let router = axum::Router::new();
            let layer = lookback::axum::layer().with_query();
            let mut service = tower_layer::Layer::layer(&layer, router);
            let request = http::Request::get(format!("/the-path?access_token={SECRET}&page=17"))
                .header("authorization", format!("Bearer {SECRET}"))
                .header("cookie", SECRET)
                .body(axum::body::Body::empty())
                .expect("a request");
            let response = futures::executor::block_on(service.call(request)).expect("it answers");
            assert_eq!(response.status(), http::StatusCode::NOT_FOUND);
        };
        assert_hidden(record, &["/the-path?access_token=[redacted]&page=17"]);
    });
}

#[test]
fn no_secret_of_a_counter_is_recorded() {
    common::alone("no_secret_of_a_counter_is_recorded", || {
        let trace = assert_hidden(
            |_| {
                for n in 0..3_u32 {
                    counter!("card_number", 4_111_111_111_111_111_u64 + u64::from(n));
                    counter!("otp.sent", n);
                }
            },
            &["card_number = [redacted]"],
        );
        let names: Vec<_> = events(&trace).map(|event| event.name().to_owned()).collect();
        assert_eq!(names.iter().filter(|name| *name == "otp.sent").count(), 3, "{names:?}");
        assert_eq!(names.iter().filter(|name| *name == "counter").count(), 3, "{names:?}");
    });
}

/// The command line is part of the metadata.
#[test]
fn no_secret_of_the_command_line_is_recorded() {
    const AGAIN: &str = "LOOKBACK_TEST_ARGUMENTS";
    if let Some(path) = std::env::var_os(AGAIN) {
        let recorder = Recorder::builder().start().expect("a recorder starts");
        recorder.snapshot().expect("it works").save(path).expect("it saves");
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("arguments.lbk");
    let (option, url) = (format!("--token={SECRET}"), format!("redis://:{SECRET}@cache-host/0"));
    // The test harness takes the first arguments for names of tests, and this one's suffices.
    let status = std::process::Command::new(std::env::current_exe().expect("a test has one"))
        .args(["no_secret_of_the_command_line_is_recorded", "--exact", "--test-threads=1"])
        .args(["--skip", &url, "--skip", &format!("password={SECRET}"), "--skip", &option])
        .env(AGAIN, &path)
        .status()
        .expect("a test can run itself again");
    assert!(status.success());
    let bytes = whole_file(&path);
    assert!(!has(&bytes, SECRET), "the secret is in the file");
    for shown in ["redis://:[redacted]@cache-host/0", "password=[redacted]", "--token=[redacted]"] {
        assert!(has(&bytes, shown), "{shown} is not in the file");
    }
}

#[test]
fn ones_own_rules_hide_and_reveal_in_names_and_in_texts() {
    common::alone("ones_own_rules_hide_and_reveal_in_names_and_in_texts", || {
        fn customer(text: &str) -> Option<std::ops::Range<usize>> {
            let start = text.find("c-")?;
            Some(start..start + 10)
        }
        let record = || {
            event!("order", customer_email = "ann-at-home", auth = "by-key", n = 1);
            event!("order2", of = "c-12345678", email = 5_u8);
            log!("orders", "c-12345678 and c-87654321 ordered, email=ann-at-home");
            tracing::subscriber::with_default(lookback::tracing::subscriber(), || {
                tracing::info!(newEmail = "ann-at-home", auth = "by-key", "for c-12345678");
            });
        };
        let words = |trace: &Trace| -> String {
            events(trace).map(|event| format!("{event:?}\n")).collect()
        };
        let start =
            |builder: lookback::Builder| builder.max_bytes(1 << 20).start().expect("it starts");
        let own = Recorder::builder()
            .redact_names(["email"])
            .reveal_names(["auth"])
            .redact_texts(customer);
        let recorder = start(own);
        (0..3).for_each(|_| record());
        let said = words(&stop(recorder));
        for hidden in ["ann-at-home", "12345678", "87654321"] {
            assert!(!said.contains(hidden), "{hidden} in {said}");
        }
        assert!(
            said.contains("by-key") && said.contains("[redacted] and [redacted] ordered"),
            "{said}"
        );
        // The same sites, with other rules.
        let recorder = start(Recorder::builder());
        (0..3).for_each(|_| record());
        let said = words(&stop(recorder));
        assert!(said.contains("ann-at-home") && said.contains("12345678"), "{said}");
        assert!(!said.contains("by-key"), "{said}");
        let recorder = start(Recorder::builder().reveal_secrets());
        record();
        event!("login", password = SECRET);
        log!("x", "password={SECRET}");
        // The search of the other tests finds what is there.
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("revealed.lbk");
        recorder.snapshot().expect("it works").save(&path).expect("it saves");
        assert!(has(&whole_file(&path), SECRET));
        let said = words(&stop(recorder));
        assert!(
            said.contains(&format!("(\"password\", Text(Text {{ text: \"{SECRET}\"")),
            "{said}"
        );
        assert!(said.contains("by-key") && said.contains(&format!("password={SECRET}")), "{said}");
    });
}

#[test]
fn ones_own_rule_may_record_and_what_it_records_is_hidden() {
    common::alone("ones_own_rule_may_record_and_what_it_records_is_hidden", || {
        fn rule(text: &str) -> Option<std::ops::Range<usize>> {
            log!("rule", "asked about {text}");
            event!("asked", text);
            text.find("c-").map(|at| at..at + 10)
        }
        let place = tempfile::tempdir().expect("a directory");
        let builder = Recorder::builder().max_bytes(2 << 20).snapshot_dir(place.path());
        let recorder = builder.redact_texts(rule).start().expect("a recorder starts");
        log!("shop", "customer c-{SECRET}, who ordered");
        let path = recorder.save("the test is over").expect("it saves");
        let bytes = whole_file(&path);
        assert!(has(&bytes, "customer [redacted]") && !has(&bytes, "asked about"));
        let asked = stop(recorder);
        let asked: Vec<_> = events(&asked).filter(|event| event.name() == "asked").collect();
        assert!(!asked.is_empty());
        assert!(asked.iter().all(|event| text(event, "text").is_some_and(|t| t.0 == MARK)));
    });
}

#[test]
fn a_site_that_hides_a_number_defines_itself_once_a_generation() {
    common::alone("a_site_that_hides_a_number_defines_itself_once_a_generation", || {
        let recorder = common::start_with(1 << 20, Duration::from_secs(3600));
        for n in 0..5000_u32 {
            event!("hidden", pin = n, n = n);
        }
        let bytes = recorder.stats().bytes;
        let trace = stop(recorder);
        let found = events(&trace).filter(|event| event.name() == "hidden");
        let numbers: Vec<_> = found.filter_map(|event| common::number(&event, "n")).collect();
        assert_eq!(numbers, (0..5000).collect::<Vec<_>>());
        // A definition of it has more than 40 bytes, an event less than 30.
        assert!(bytes < 5000 * 30, "{bytes} bytes");
    });
}

/// The documentation lists exactly the names in the code.
#[test]
fn the_documentation_lists_the_names_as_they_are() {
    let text = include_str!("../docs/redaction.md");
    let listed = |heading: &str| {
        let part = text.split_once(heading).unwrap_or_else(|| panic!("no {heading}")).1;
        let list =
            part.split_once("```text\n").expect("a list").1.split_once("```").expect("its end").0;
        let names = list.split([',', '\n']).map(str::trim).filter(|name| !name.is_empty());
        let mut names: Vec<_> = names.map(str::to_owned).collect();
        names.sort_unstable();
        names
    };
    let sorted = |names: &[&str]| {
        let mut names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        names.sort_unstable();
        names
    };
    use lookback_recorder::integration::{ABOUT, ABOUT_FIRST, SECRETS};
    assert_eq!(listed("## Names of secrets"), sorted(SECRETS));
    assert_eq!(listed("### Endings that make a name harmless"), sorted(ABOUT));
    assert_eq!(listed("### Beginnings that make a name harmless"), sorted(ABOUT_FIRST));
}
