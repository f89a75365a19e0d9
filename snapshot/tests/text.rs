//! The text form of a file contains everything in it.
#![cfg(feature = "read")]

mod build;
mod written;

use build::{Gen, file, service};
use lookback_snapshot::Trace;
use lookback_snapshot::text::{from_text, to_text};
use lookback_snapshot::wire::Kind;
use proptest::prelude::*;
use written::{complete, incomplete};

/// A file without its compression.
fn content(bytes: &[u8]) -> Vec<u8> {
    let content = zstd::decode_all(bytes).unwrap();
    let first = content.windows(4).position(|tag| tag == b"LBGN").unwrap_or(content.len());
    content[first..].to_vec()
}

#[track_caller]
fn assert_survives(bytes: Vec<u8>) {
    let text = to_text(&Trace::from_bytes(bytes.clone()).unwrap());
    let again = from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(content(&again), content(&bytes), "{text}");
    let trace = Trace::from_bytes(again).unwrap();
    assert_eq!(trace.metadata(), Trace::from_bytes(bytes).unwrap().metadata());
    assert_eq!(to_text(&trace), text);
}

#[test]
fn a_file_survives_being_text() {
    assert_survives(file(&service(3)));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
    for version in ["v1.lbk", "v2.lbk", "v3.lbk"] {
        assert_survives(std::fs::read(format!("{path}{version}")).unwrap());
    }
}

#[test]
fn what_may_be_left_out_is_put_in() {
    let short = incomplete(
        1,
        r#"
        block slot=1 thread=1
        @10 thread_start thread=1 os_thread=7 name="a \"b\"\n\u{1b}"
        block slot=1 thread=1 base=20
        callsite id=1 name="s" file="f" line=3 target="t" level=3 fields=["x", "y"]
        @30 log level=3 site=1 message="cut"… fields={0: +7, 1: !"wrong", 0: fx7ff8000000000001}
        cut
        @40 counter#23 site=1 value=-3"#,
    );
    let text = to_text(&written::trace(&short));
    assert!(text.contains("block slot=1 sequence=1 thread=1 base=20 first_event=1\n"), "{text}");
    for line in short.lines().map(str::trim).filter(|line| !line.starts_with("block")) {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert_eq!(to_text(&written::trace(&text)), text);
}

#[test]
fn lists_of_tasks_are_readable() {
    let line = "task_list tasks=[0.1 site 2 idle, 3.1 site 2 running woken, 900.7 site 9 idle]";
    let text = complete(1, &format!("block slot=0\n{line}"));
    assert!(to_text(&written::trace(&text)).contains(line));
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let told = |text: &str| from_text(text).unwrap_err().to_string();
    assert_eq!(told("\nblock slot=1"), "line 2: a block stands in a generation");
    assert_eq!(told("metadata \"x\" 7 8"), "line 1: nothing was to come at `8`");
    let line = |record: &str| told(&incomplete(1, &format!("block slot=1\n{record}")));
    assert_eq!(line("region_end"), "line 3: `region_end` has a time: `@10 region_end`");
    assert_eq!(line("@1 site id=1"), "line 3: there is no record `site` with id");
    assert_eq!(line("task_list tasks=[1.1 site]"), "line 3: a number was to come at `]`");
    assert_eq!(line("string id=1 text=\"x"), "line 3: a text does not end");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a block contains: what cannot be read as records comes back as bytes.
    #[test]
    fn any_records_survive(
        records in prop::collection::vec(
            (1_u8..72, prop::collection::vec(0_u8..127, 0..8)), 0..60
        ),
        complete: bool,
    ) {
        let mut g = Gen::new(1);
        g.complete = complete;
        g.block(1, 1, 0);
        g.site(1, "a");
        let block = g.last(1);
        block.records.extend(records.into_iter().flat_map(|(code, rest)| std::iter::once(code).chain(rest)));
        assert_survives(file(&[g]));
    }

    #[test]
    fn any_text_is_survived(text in "(block |generation 1 |[a-z_]{1,9}|=|[0-9]|\"|\\[|@|\\n|.){0,80}") {
        let _ = from_text(&text);
    }

    #[test]
    fn any_texts_and_numbers_survive(text in ".{0,40}", a: u64, b: i64, c: f64) {
        let mut g = Gen::new(1);
        g.block(1, 1, 0).thread_start(1, 5, 1, &text);
        let site = g.site(1, &text);
        g.put(1, Kind::Omitted, |out| {
            lookback_snapshot::wire::put_varint(out, a);
            lookback_snapshot::wire::put_varint(out, a >> 40);
        });
        g.counter(1, 6, site, &build::Val::I(b)).counter(1, 7, site, &build::Val::F(c));
        assert_survives(file(&[g]));
    }
}
