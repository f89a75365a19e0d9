//! "No event was lost" is not everything: each command that reports losses also reports what was recorded
//! only in part.

mod command;

use command::lookback;
use lookback::read::text::from_text;
use serde_json::Value;

/// Statuses that found no room, two texts that were cut, and no event lost.
const PARTIAL: &str = r#"
metadata "window_ns" 30000000000
generation 1 complete began=100:7000000000:100:1000000000 ended=9000000100:16000000000:100:1000000000
block slot=0 sequence=0 thread=0 base=100 first_event=0
  omitted what=2 count=51
  end events=4 bytes=0 blocks=0 lost=[] advances=[] waits=[] snapshots=[]
block slot=1 sequence=0 thread=1 base=100 first_event=0
  site id=1 name="shop" file="src/main.rs" line=7
  schema id=2 name="evict" file="src/main.rs" line=9 fields=[text "shard", unsigned "keys"]
  @200 thread_start thread=1 os_thread=4001 name="main"
  @300 log level=3 site=1 message="a long sto"…
  @400 event schema=2 values=("a long na"…, 7)
  @500 event schema=2 values=("whole", 7)
"#;

#[test]
fn what_was_recorded_in_part_is_told_by_each_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("partial.lbk");
    std::fs::write(&file, from_text(PARTIAL.trim_start()).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    let json = |command: &str| -> Value {
        let ended = lookback(&[command, file, "--json"]);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
    };
    for command in ["info", "summary", "doctor"] {
        let told = lookback(&[command, file]).stdout;
        assert!(told.contains("51 statuses") && told.contains("for want of room"), "{told}");
        assert!(told.contains("2 texts cut"), "{told}");
    }
    for left_out in [&json("info")["left_out"], &json("summary")["losses"]["left_out"]] {
        let [statuses, texts] = ["statuses", "texts"].map(|key| left_out[key].as_u64());
        assert_eq!((statuses, texts), (Some(51), Some(2)), "{left_out}");
    }
    let doctor = json("doctor");
    let findings = doctor["findings"].as_array().unwrap();
    assert_eq!(findings.iter().filter(|f| f["check"] == "left out").count(), 2, "{doctor}");
    let said = lookback(&["summary", "--all", file]).stdout;
    assert!(!said.contains("no span is recorded"), "{said}");
    assert!(said.contains("no span is known: 51 statuses were left out"), "{said}");
}

/// Three spans, one without all of its fields, and no event of any.
const OPEN: &str = r#"
metadata "window_ns" 30000000000
generation 2 complete began=100:7000000000:100:1000000000 ended=9000000100:16000000000:100:1000000000
block slot=0 sequence=0 thread=0 base=9000000000 first_event=0
  callsite id=3 name="request" file="src/main.rs" line=11 target="shop" level=3 fields=["path"]
  span_list spans=[1.1 ago 8999999000 site 3 {0: "/cart"}, 2.1 in 1.1 ago 8999998000 site 3 part {}, 3.1 ago 8999997000 site 3]
  omitted_of what=4 site=3 count=1
  end events=1 bytes=0 blocks=0 lost=[] advances=[] waits=[] snapshots=[]
block slot=1 sequence=0 thread=1 base=100 first_event=0
  site id=1 name="shop" file="src/main.rs" line=7
  thread_status thread=1 os_thread=4001 name="main"
  @200 counter site=1 value=3
"#;

#[test]
fn spans_that_are_open_are_recorded_though_nothing_happens_in_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("open.lbk");
    std::fs::write(&file, from_text(OPEN.trim_start()).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    let doctor = lookback(&["doctor", file]).stdout;
    assert!(doctor.contains("3 spans open, and nothing happened in them"), "{doctor}");
    assert!(!doctor.contains("no span"), "{doctor}");
    for command in ["info", "summary", "doctor"] {
        let told = lookback(&[command, file]).stdout;
        assert!(
            told.contains("1 span open since before and without all of their fields"),
            "{told}"
        );
        assert!(!told.contains("status"), "{command}: fields are no statuses: {told}");
    }
}

/// A window of 30 s, of which 9 s are there, although recording began long before.
const SHORT: &str = r#"
metadata "window_ns" 30000000000
metadata "max_bytes" 1048576
metadata "unshared_texts" 1234
generation 7 complete began=100:7000000000:100:1000000000 ended=9000000100:16000000000:100:1000000000
block slot=0 sequence=0 thread=0 base=100 first_event=0
  end events=1 bytes=0 blocks=0 lost=[] advances=[] waits=[] snapshots=[]
block slot=1 sequence=0 thread=1 base=100 first_event=0
  site id=1 name="shop" file="src/main.rs" line=7
  @200 thread_start thread=1 os_thread=4001 name="main"
  @300 log level=3 site=1 message="a long story"
"#;

#[test]
fn an_arena_that_is_too_small_is_told_with_what_would_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("short.lbk");
    std::fs::write(&file, from_text(SHORT.trim_start()).unwrap()).unwrap();
    let file = file.to_str().unwrap();
    for command in ["summary", "doctor"] {
        // However the lines are wrapped.
        let told = lookback(&[command, file]).stdout;
        let told: Vec<_> = told.split_whitespace().collect();
        let told = told.join(" ");
        for what in [
            "9 s of 30 s are covered",
            "an arena of 1 MiB is too small for 0 events a second",
            "for all of it `max_bytes` would have to be about 4.17 MiB",
        ] {
            assert!(told.contains(what), "{command}: {told}");
        }
    }
    for command in ["info", "summary", "doctor"] {
        let told = lookback(&[command, file]).stdout;
        assert!(told.contains("1,234 texts written out"), "{command}: {told}");
    }
}
