//! A file of each released version stays readable, event by event.
//!
//! `LOOKBACK_WRITE_GOLDEN=v2 cargo test -p lookback-snapshot --test golden` rewrites the files of that
//! version. Those of released versions must never change.
#![cfg(feature = "read")]

mod build;

use build::{Gen, PERIOD, Val, file, inline};
use lookback_snapshot::text::{from_text, to_text};
use lookback_snapshot::wire::{EVENT_TABLE, Kind, Loss, ValueType, put_varint};
use lookback_snapshot::{EventKind, Trace, validate};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Every kind of record of version 1, three threads, a loss, and a last generation that is incomplete.
fn golden() -> Vec<Gen> {
    let mut first = Gen::new(1);
    first.block(1, 1, 10);
    first.thread_start(1, 12, 1, "main");
    let serve = first.site(1, "serve");
    let cache = first.site(1, "cache");
    let fields = [
        ("keys", ValueType::Unsigned),
        ("delta", ValueType::Signed),
        ("share", ValueType::Float),
        ("full", ValueType::Bool),
        ("shard", ValueType::Text),
    ];
    let evict = first.schema(1, "evict", &fields);
    first.region_begin(1, 100, serve);
    first.log(1, 150, cache, 2, "warming up — naïvely");
    let values = [Val::U(300), Val::I(-12), Val::F(0.25), Val::B(true), Val::T("north".to_owned())];
    first.event(1, 175, evict, &values);
    let depth = first.site(1, "queue_depth");
    first.counter(1, 200, depth, &Val::U(17));
    first.counter(1, 210, depth, &Val::I(-3));
    first.counter(1, 220, depth, &Val::F(1.5));
    first.block(2, 2, 60).thread_start(2, 61, 2, "worker");
    let message = first.string(2, "a text that recurs");
    for time in [70, 160] {
        first.at(2, time, Kind::Log, |out| {
            put_varint(out, 4);
            put_varint(out, cache);
            put_varint(out, message << 1 | 1);
        });
    }
    first.region_begin(2, 165, serve).region_end(2, 230).thread_exit(2, 240);
    // Another thread takes over the slot.
    first.thread_start(2, 300, 3, "");
    let wait = first.site(2, "wait");
    first.region_begin(2, 310, wait);
    first.end(&[]);

    let mut second = first.next();
    second.block(1, 1, 5);
    second.thread_status(1, 1, "main");
    let serve = second.site(1, "serve");
    second.last(1).records.pop();
    second.last(1).records.push(11);
    second.region_status(1, serve, 100 - PERIOD.cast_signed());
    second.region_end(1, 30);
    *second.numbers.get_mut(&1).unwrap() += 2;
    second.block(1, 1, 400).lost(1, Loss::ArenaFull, 2).thread_status(1, 1, "main");
    second.at(1, 410, Kind::Log, |out| {
        put_varint(out, 5);
        put_varint(out, serve);
        put_varint(out, 8 << 2 | 2);
        out.extend(b"too long");
    });
    second.block(0, 0, PERIOD).thread_status(0, 3, "");
    let wait = second.site(0, "wait");
    second.region_status(0, wait, 310 - PERIOD.cast_signed());
    second.put(0, Kind::RegionsDeeper, |out| put_varint(out, 2));
    second.put(0, Kind::Omitted, |out| out.extend([1, 4]));
    second.end(&[(Loss::ArenaFull, 2), (Loss::Reentrant, 1)]);

    let mut third = second.next().incomplete();
    third.block(1, 1, 8).thread_status(1, 1, "main");
    let late = third.site(1, "late");
    third.region_begin(1, 20, late);
    let cut = third.last(1).records.len() as u32;
    third.region_end(1, 40);
    third.last(1).cut = Some(cut);
    third.block(2, 3, 8);
    third.coded(2, 60, Kind::RegionEnd as u8, |_| {});
    third.coded(2, 70, Kind::Log as u8, |out| {
        put_varint(out, 1);
        put_varint(out, late);
        inline(out, "awake");
    });
    vec![first, second, third]
}

/// Everything that a file contains, in words.
fn listing(bytes: Vec<u8>) -> String {
    let trace = Trace::from_bytes(bytes).unwrap();
    let mut out = String::new();
    for (name, value) in trace.metadata().iter().filter(|(name, _)| *name != "event_table") {
        writeln!(out, "metadata {name} = {value:?}").unwrap();
    }
    for info in trace.generations() {
        let lost: Vec<_> =
            info.lost.iter().map(|lost| format!("{} {}", lost.count, lost.name())).collect();
        writeln!(
            out,
            "generation {} complete={} start={} duration={} events={} lost=[{}] blocks={} \
             threads={} omitted={}",
            info.number,
            info.complete,
            info.start,
            info.duration,
            info.events,
            lost.join(", "),
            info.blocks,
            info.threads,
            info.omitted
        )
        .unwrap();
        let generation = trace.generation(info.number).unwrap();
        for state in generation.statuses() {
            let thread = state.thread().unwrap();
            let inside = match (state.worker(), state.pool()) {
                (None, None) => String::new(),
                (worker, pool) => format!(
                    " worker {worker:?} pool {pool:?} tasks {:?} spans {:?} and {}",
                    state.tasks().collect::<Vec<_>>(),
                    state.spans().collect::<Vec<_>>(),
                    state.spans_deeper()
                ),
            };
            let regions: Vec<_> =
                state.regions().map(|open| format!("{}@{}", open.site.name, open.began)).collect();
            writeln!(
                out,
                "  status thread {} {:?} os {} regions [{}] deeper {} carried {}{inside}",
                thread.number,
                thread.name,
                thread.os_thread,
                regions.join(", "),
                state.deeper(),
                state.is_carried()
            )
            .unwrap();
        }
        for task in generation.tasks() {
            let thread = task.thread.map_or(0, |thread| thread.number.0);
            writeln!(
                out,
                "  task {} {} {} woken {} sequence {:?} thread {thread}",
                task.task,
                task.site.name,
                task.state.name(),
                task.woken,
                task.sequence
            )
            .unwrap();
        }
        for span in generation.spans() {
            write!(out, "  span {} {} in {:?}", span.span, span.site.name, span.parent).unwrap();
            let fields: Vec<_> =
                span.fields().map(|(name, value)| format!(" {name}={value:?}")).collect();
            writeln!(out, " began {}{}", span.began, fields.concat()).unwrap();
        }
        if let Some(end) = generation.end_record() {
            writeln!(out, "  {end:?}").unwrap();
        }
    }
    for event in trace.events() {
        let event = event.unwrap();
        let thread = event.thread().map_or(0, |thread| thread.number.0);
        let (time, generation) = (event.time(), event.generation());
        write!(out, "{time} g{generation} t{thread} {} {}", event.kind_name(), event.name())
            .unwrap();
        if let Some(site) = event.site() {
            write!(out, " ({}:{})", site.file, site.line).unwrap();
        }
        if let EventKind::RegionEnd { duration: Some(took), .. } = event.kind() {
            write!(out, " took {took}").unwrap();
        }
        for (name, value) in event.fields() {
            write!(out, " {name}={value:?}").unwrap();
        }
        if let Some(number) = event.sequence() {
            write!(out, " #{number}").unwrap();
        }
        let kind = format!("{:?}", event.kind());
        if kind.starts_with("Task") || kind.starts_with("Span") || kind.starts_with("Pool") {
            write!(out, " {kind}").unwrap();
        }
        if let Some(stack) = event.stack() {
            write!(out, " {stack:?} {:?}", stack.end()).unwrap();
        }
        let within = [
            event.task().map(|task| format!("task {task}")),
            event.span().map(|span| format!("span {span}")),
            event.worker().map(|worker| format!("worker {worker}")),
        ];
        for within in within.into_iter().flatten() {
            write!(out, " in {within}").unwrap();
        }
        out.push('\n');
    }
    out
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A file of this version states this version.
#[track_caller]
fn assert_read(version: &str, written: impl FnOnce() -> Vec<u8>) {
    let (file_path, listing_path) =
        (folder().join(format!("{version}.lbk")), folder().join(format!("{version}.events.txt")));
    if std::env::var_os("LOOKBACK_WRITE_GOLDEN").is_some_and(|wanted| wanted == version) {
        let bytes = written();
        std::fs::write(&listing_path, listing(bytes.clone())).unwrap();
        std::fs::write(&file_path, bytes).unwrap();
    }
    let bytes = std::fs::read(&file_path).unwrap();
    let expected = std::fs::read_to_string(&listing_path).unwrap();
    assert_eq!(listing(bytes.clone()), expected);
    let violations: Vec<_> =
        validate(&Trace::from_bytes(bytes).unwrap()).iter().map(ToString::to_string).collect();
    assert_eq!(violations, [""; 0]);
}

#[test]
fn the_golden_file_of_version_1_is_read_as_ever() {
    assert_read("v1", || file(&golden()));
}

/// The golden file of a version whose source is a text.
#[track_caller]
fn assert_text_read(version: &str) {
    let text_path = folder().join(format!("{version}.text"));
    let text = std::fs::read_to_string(&text_path).unwrap();
    assert_read(version, || from_text(&text).unwrap());
    let bytes = std::fs::read(folder().join(format!("{version}.lbk"))).unwrap();
    let trace = Trace::from_bytes(bytes).unwrap();
    if std::env::var_os("LOOKBACK_WRITE_GOLDEN").is_some_and(|wanted| wanted == version) {
        std::fs::write(&text_path, to_text(&trace)).unwrap();
        return;
    }
    // The text omits an event table that is this version's own; later versions have more rows.
    let is_own = |line: &&str| !line.starts_with("metadata \"event_table\" ");
    let read = to_text(&trace);
    let read: Vec<_> = read.lines().filter(is_own).collect();
    assert_eq!(read, text.lines().collect::<Vec<_>>());
}

#[test]
fn the_golden_file_of_version_2_is_read_as_ever() {
    assert_text_read("v2");
}

/// Not released yet: add a line to `v3.text` for each new kind of record, and rewrite the rest with
/// `LOOKBACK_WRITE_GOLDEN=v3`.
#[test]
fn the_golden_file_of_version_3_is_read_as_ever() {
    assert_text_read("v3");
}

#[test]
fn this_version_writes_what_the_golden_file_holds() {
    let old = std::fs::read(folder().join("v1.lbk")).unwrap();
    // Without the metadata, whose event table may grow.
    let generations = |bytes: &[u8]| {
        let content = zstd::decode_all(bytes).unwrap();
        let first = content.windows(4).position(|tag| tag == b"LBGN").unwrap();
        content[first..].to_vec()
    };
    assert_eq!(generations(&file(&golden())), generations(&old));
}

#[test]
fn the_golden_file_has_every_kind_of_record() {
    let text = std::fs::read_to_string(folder().join("v3.text")).unwrap();
    for row in EVENT_TABLE {
        // With the names of its arguments, or its code, where the name is not enough.
        let of_kind = |line: &str| {
            let mut words = line.trim().split(' ').skip_while(|word| word.starts_with('@'));
            let name = words.next().unwrap_or_default();
            let short = EVENT_TABLE.iter().find(|other| {
                other.name == row.name
                    && other
                        .arguments
                        .iter()
                        .map(|(name, _)| name)
                        .eq(row.arguments.iter().map(|(name, _)| name))
            });
            let given = row.arguments.iter().all(|(name, _)| line.contains(&format!(" {name}=")));
            let code = format!("{}#{}", row.name, row.code);
            name == code || (short == Some(row) && name == row.name && given)
        };
        assert!(text.lines().any(of_kind), "{row:?}");
    }
}
