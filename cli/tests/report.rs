//! `lookback report`: what it writes, and what it refuses. `report/check.sh` tests the page itself, in a browser, with the
//! snapshots that this makes.

mod command;

use base64::prelude::{BASE64_STANDARD, Engine};
use command::lookback;
use flate2::read::ZlibDecoder;
use lookback::read::text::from_text;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a name may be that comes from elsewhere.
const NAMES: [&str; 6] = [
    "<img src=x onerror=alert(1)>",
    "</script><script>window.broken=1</script>",
    "\\\"'><svg/onload=alert(1)>`${1}`",
    "ab\u{202e}gpj.exe\u{2066}",
    "NUL \0 and \u{1b}[31m",
    "<!--",
];

/// One generation with all of these names: of its threads, tasks, spans, fields, regions, counters, logs.
fn hostile() -> String {
    let long = "<b>long</b>".repeat(92);
    let mut text = head(2_000_000);
    for (number, name) in NAMES.into_iter().chain([&*long]).enumerate() {
        let number = number as u64 + 1;
        // Numbers of places are those of the whole generation.
        let [first, second, third] = [10, 11, 12].map(|id| 10 * number + id);
        writeln!(text, "block slot={number} sequence=0 thread={number} base=1000 first_event=0")
            .unwrap();
        for id in [first, second] {
            writeln!(text, "  site id={id} name=\"{name}\" file=\"{name}\" line=1").unwrap();
        }
        writeln!(
            text,
            "  callsite id={third} name=\"{name}\" file=\"{name}\" line=2 target=\"{name}\" level=3 \
             fields=[\"{name}\"]"
        )
        .unwrap();
        let task = number - 1;
        for line in [
            format!("thread_start thread={number} os_thread={} name=\"{name}\"", 4000 + number),
            format!("task_create task={task} incarnation=1 sequence=2 site={first}"),
            format!("task_poll task={task} sequence=3"),
            format!(
                "span_create span={number} incarnation=1 site={third} fields={{0: \"{name}\"}}"
            ),
            "span_enter".to_owned(),
            format!("region_begin site={second}"),
            format!("log level=5 site={first} message=\"{name}\""),
            format!("counter site={second} value=7"),
            "region_end".to_owned(),
            "span_exit".to_owned(),
            "task_pending".to_owned(),
        ]
        .iter()
        .enumerate()
        {
            writeln!(text, "  @{} {}", 1000 * (line.0 + 1), line.1).unwrap();
        }
    }
    text
}

/// Spans inside of each other, so many, and a time in which nanoseconds cannot be told apart as the numbers of a browser.
fn far(deep: u64) -> String {
    let length = 4_000_000_000_000_000_000;
    let mut text = head(length);
    text += "block slot=1 sequence=0 thread=1 base=1000 first_event=0\n  site id=1 name=\"a\" file=\"a.rs\" line=1\n  \
             callsite id=2 name=\"s\" file=\"a.rs\" line=2 target=\"t\" level=3 fields=[]\n  \
             @1000 thread_start thread=1 os_thread=7 name=\"t\"\n  @1001 region_begin site=1\n";
    for span in 1..=deep {
        let at = 1001 + 2 * span;
        writeln!(text, "  @{at} span_create span={span} incarnation=1 site=2 fields={{}}").unwrap();
        writeln!(text, "  @{} span_enter", at + 1).unwrap();
    }
    writeln!(text, "  @{} region_end", length + 999).unwrap();
    text
}

/// So many events, of four workers that poll tasks of their own.
fn many(events: u64) -> String {
    const NAMES: [&str; 8] = [
        "serve_connection",
        "keep_inventory",
        "flush",
        "query",
        "resize",
        "publish",
        "poll_timers",
        "accept",
    ];
    let (mut text, mut latest) = (String::new(), 0);
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for worker in 0..4_u64 {
        let slot = worker + 1;
        writeln!(text, "block slot={slot} sequence=0 thread={slot} base=1000 first_event=0")
            .unwrap();
        for (id, name) in NAMES.iter().enumerate() {
            writeln!(
                text,
                "  site id={} name=\"{name}\" file=\"src/{name}.rs\" line={}",
                id + 1,
                10 * id + 7
            )
            .unwrap();
        }
        writeln!(text, "  callsite id=20 name=\"request\" file=\"src/server.rs\" line=9 target=\"shop\" level=3 \
             fields=[\"path\"]").unwrap();
        writeln!(text, "  site id=21 name=\"parse\" file=\"src/server.rs\" line=19").unwrap();
        writeln!(text, "  site id=22 name=\"queue\" file=\"src/queue.rs\" line=3").unwrap();
        let mut at = 1000 + worker * 137;
        let mut put = |step: u64, what: std::fmt::Arguments<'_>| {
            at += step;
            latest = latest.max(at);
            writeln!(text, "  @{at} {what}").unwrap();
        };
        put(
            1,
            format_args!(
                "thread_start thread={slot} os_thread={} name=\"worker-{worker}\"",
                4000 + slot
            ),
        );
        put(1, format_args!("worker_start runtime=0 worker={worker} tenure={slot}"));
        let mut sequences = Vec::new();
        for task in 0..16 {
            let site = random(NAMES.len() as u64) + 1;
            put(
                50,
                format_args!(
                    "task_create task={} incarnation=1 sequence=2 site={site}",
                    worker * 16 + task
                ),
            );
            sequences.push(2);
        }
        let mut span = worker * 1_000_000;
        let mut left = (events / 4).saturating_sub(18);
        while left >= 8 {
            let which = random(16);
            let (task, sequence) = (worker * 16 + which, sequences[which as usize] + 1);
            sequences[which as usize] = sequence + 1;
            let is_long = random(20_000) == 0;
            let length = if is_long { 20_000_000 } else { 2_000 + random(30_000) };
            put(
                300 + random(3000),
                format_args!("task_wake task={task} sequence={}", sequence - 1),
            );
            put(500 + random(2000), format_args!("task_poll task={task} sequence={sequence}"));
            left -= 3;
            if random(6) == 0 {
                span += 1;
                put(
                    100,
                    format_args!(
                        "span_create span={span} incarnation=1 site=20 fields={{0: \"/items/{}\"}}",
                        random(500)
                    ),
                );
                put(100, format_args!("span_enter"));
                put(200, format_args!("region_begin site=21"));
                put(length, format_args!("region_end"));
                put(100, format_args!("span_exit"));
                put(100, format_args!("span_close"));
                left = left.saturating_sub(6);
            } else if random(40) == 0 {
                put(100, format_args!("counter site=22 value={}", random(100)));
                let level = if random(30) == 0 { 4 } else { 3 };
                put(
                    100,
                    format_args!(
                        "log level={level} site=1 message=\"a queue has {} items\"",
                        random(90)
                    ),
                );
                left = left.saturating_sub(2);
            }
            put(length, format_args!("task_pending"));
            if random(3) == 0 {
                put(100, format_args!("worker_park"));
                put(random(20_000), format_args!("worker_unpark"));
                left = left.saturating_sub(2);
            }
        }
    }
    head(latest + 1000) + &text
}

fn head(length: u64) -> String {
    let ended = 1000 + length;
    format!(
        "metadata \"process.name\" \"shop\"\nmetadata \"process.pid\" 17\n\
         generation 1 complete began=1000:1000000000:1700000000000000000:1000000000 \
         ended={ended}:{}:{}:1000000000\n\
         block slot=0 sequence=0 thread=0 base=1000 first_event=0\n  \
         end events=1 bytes=0 blocks=0 lost=[] advances=[] waits=[] snapshots=[]\n",
        1_000_000_000 + length,
        1_700_000_000_000_000_000 + length,
    )
}

fn written(directory: &Path, name: &str, text: &str) -> PathBuf {
    let file = directory.join(name);
    fs::write(&file, from_text(text).unwrap()).unwrap();
    file
}

/// What a page has inside: its header and its columns.
fn inside(page: &str) -> (Value, HashMap<String, Vec<i128>>) {
    let begin = "id=\"data\">";
    let data = page.split_once(begin).unwrap().1.split_once("</script>").unwrap().0;
    let mut bytes = Vec::new();
    let packed = BASE64_STANDARD.decode(data).unwrap();
    ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
    let mut rest = &bytes[4 + length..];
    let mut columns = HashMap::new();
    for column in header["columns"].as_array().unwrap() {
        let (part, after) = rest.split_at(column["bytes"].as_u64().unwrap() as usize);
        rest = after;
        if column["kind"] != "float" {
            let values = numbers(part, column["kind"] == "step");
            assert_eq!(values.len() as u64, column["count"].as_u64().unwrap());
            columns.insert(column["name"].as_str().unwrap().to_owned(), values);
        }
    }
    assert!(rest.is_empty());
    (header, columns)
}

fn numbers(bytes: &[u8], are_steps: bool) -> Vec<i128> {
    let (mut values, mut value, mut shift, mut before) = (Vec::new(), 0_u128, 0, 0_i128);
    for byte in bytes {
        value |= u128::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let half = (value >> 1) as i128;
            let step = if value & 1 == 1 { -half - 1 } else { half };
            before = if are_steps { before + step } else { value as i128 };
            values.push(before);
            (value, shift) = (0, 0);
        }
    }
    values
}

#[test]
fn a_page_has_all_that_happened() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), "many.lbk", &many(2000));
    let said = lookback(&["report", file.to_str().unwrap(), "--json"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    let page = directory.path().join("many.html");
    assert_eq!(said["out"], page.to_str().unwrap(), "beside the snapshot, if nothing else is said");
    assert_eq!(said["bytes"], fs::metadata(&page).unwrap().len());
    let (header, columns) = inside(&fs::read_to_string(page).unwrap());
    let info = lookback(&["events", file.to_str().unwrap(), "--json"]).stdout;
    let happened = |kind: &str| {
        let kind = format!("\"kind\":\"{kind}\"");
        info.lines().filter(|line| line.contains(&kind)).count()
    };
    let polls = columns["slices.kind"].iter().filter(|kind| **kind & 7 == 0).count();
    assert_eq!(polls, happened("task_poll"), "{info}");
    assert_eq!(columns["wakes.at"].len(), happened("task_wake") + happened("task_create"));
    assert_eq!(columns["spans.began"].len(), happened("span_create"));
    assert_eq!(columns["notes.at"].len(), happened("log"));
    assert_eq!(header["summary"]["coverage"]["process"], "shop");
    assert!(header["why"]["span"]["name"] == "request", "{}", header["why"]);
    let workers: Vec<_> =
        header["threads"].as_array().unwrap().iter().map(|of| &of["worker"]).collect();
    assert!(workers.contains(&&Value::from("r0/w3")), "{workers:?}");
}

#[test]
fn no_name_gets_out_of_the_data() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), "hostile.lbk", &hostile());
    let page = directory.path().join("page.html");
    let said = lookback(&["report", file.to_str().unwrap(), "-o", page.to_str().unwrap()]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let page = fs::read_to_string(page).unwrap();
    for name in NAMES.iter().filter(|name| **name != "<!--") {
        assert!(!page.contains(name), "{name:?}");
    }
    let (header, _) = inside(&page);
    let texts: Vec<_> =
        header["texts"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(texts.contains(&NAMES[0]), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains(['\0', '\u{202e}', '\u{1b}'])), "{texts:?}");
    assert!(texts.iter().all(|text| text.len() <= 1024 + "…".len()), "{texts:?}");
}

#[test]
fn whatever_the_times_and_however_deep_the_spans_there_is_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), "far.lbk", &far(500));
    let said = lookback(&["report", file.to_str().unwrap()]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let (header, columns) = inside(&fs::read_to_string(file.with_extension("html")).unwrap());
    assert_eq!(header["end"], 4_000_000_000_000_000_000_u64 - 1);
    assert_eq!(columns["spans.began"].len(), 500);
}

#[test]
fn a_wake_that_comes_after_the_end_of_its_task_makes_no_other_task() {
    let directory = tempfile::tempdir().unwrap();
    let mut text = head(10_000);
    text += "block slot=1 sequence=0 thread=1 base=1000 first_event=0\n  site id=1 name=\"a\" file=\"a.rs\" line=1\n  \
             @1000 thread_start thread=1 os_thread=7 name=\"t\"\n  \
             @1001 task_create task=3 incarnation=1 sequence=2 site=1\n  @1002 task_poll task=3 sequence=3\n  \
             @1003 task_ready\n  @1004 task_wake task=3 sequence=2\n";
    let file = written(directory.path(), "late.lbk", &text);
    let said = lookback(&["report", file.to_str().unwrap()]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:?}");
    let (_, columns) = inside(&fs::read_to_string(file.with_extension("html")).unwrap());
    assert_eq!(columns["wakes.at"].len(), 2, "with its spawn");
    assert_eq!(columns["tasks.how"], [2], "it was done");
}

#[test]
fn what_cannot_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = written(directory.path(), "few.lbk", &many(100));
    let file = file.to_str().unwrap();
    for wrong in [&["--json"][..], &["--open"]] {
        let said = lookback(&[&["report", file, "-o", "-"], wrong].concat());
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{said:?}");
        assert!(said.stderr.contains("so -o must name a file"), "{said:?}");
    }
    let said = lookback(&["report", file, "-o", file]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("this is the input file"), "{said:?}");
    let page = lookback(&["report", file, "-o", "-"]);
    assert!(page.stdout.starts_with("<!doctype html>"), "{page:?}");
}

/// For `report/check.sh`: makes the snapshots for which it tests the page in a browser.
#[test]
#[ignore = "for report/check.sh"]
fn makes_snapshots_for_the_browser() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/report");
    fs::create_dir_all(&directory).unwrap();
    written(&directory, "hostile.lbk", &hostile());
    written(&directory, "million.lbk", &many(1_000_000));
    written(&directory, "far.lbk", &far(500));
    // More than a page has room for.
    written(&directory, "large.lbk", &many(5_000_000));
}
