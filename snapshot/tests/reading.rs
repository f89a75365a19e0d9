//! What is written is what is read.
#![cfg(feature = "read")]

mod build;

use build::{BOOT, Gen, PERIOD, Val, file, file_with, inline, metadata, service};
use lookback_snapshot::wire::{
    Argument, Generation, Kind, Loss, Nanos, ValueType, key, put_varint,
};
use lookback_snapshot::{Event, EventKind, GenerationInfo, Trace, Value, validate};
use proptest::prelude::*;

/// An event in words: thread, kind, name, fields.
fn words(event: &Event) -> String {
    let thread = event.thread().map_or(0, |thread| thread.number.0);
    let fields: Vec<_> = event.fields().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{} {} {} {}", thread, event.kind_name(), event.name(), fields.join(" "))
        .trim_end()
        .to_owned()
}

fn read(bytes: Vec<u8>) -> Vec<String> {
    let trace = Trace::from_bytes(bytes).unwrap();
    trace.events().map(|event| words(&event.unwrap())).collect()
}

#[track_caller]
fn assert_sound(bytes: Vec<u8>) {
    let trace = Trace::from_bytes(bytes).unwrap();
    let violations: Vec<_> = validate(&trace).iter().map(ToString::to_string).collect();
    assert_eq!(violations, [""; 0]);
}

#[test]
fn a_service_is_read_and_found_sound() {
    let generations = service(4);
    assert_sound(file(&generations));
    let trace = Trace::from_bytes(file(&generations)).unwrap();
    assert_eq!(trace.metadata().text(key::PROCESS_NAME), Some("shop"));
    assert_eq!(trace.damage(), []);
    assert_eq!(trace.format_version(), lookback_snapshot::file::FORMAT_VERSION);
    let infos = trace.generations();
    assert_eq!(infos.len(), 4);
    assert_eq!(infos[0].start, Nanos(BOOT + PERIOD * 5));
    assert_eq!(infos[0].duration, Nanos(PERIOD * 5));
    let events: u64 = infos.iter().map(|info| info.events).sum();
    assert_eq!(trace.events().count() as u64, events);
    let mut last = Nanos(0);
    for event in trace.events() {
        let event = event.unwrap();
        assert!(event.time() >= last);
        last = event.time();
    }
}

/// A part of a snapshot is a snapshot: it is sound, and has the events of its generations.
#[test]
fn a_part_of_a_snapshot_is_read_as_a_whole_one() {
    let bytes = file(&service(6));
    let whole = Trace::from_bytes(bytes.clone()).unwrap();
    let infos = whole.generations().to_vec();
    for (from, to) in [(0, 5), (0, 0), (2, 3), (5, 5), (1, 4)] {
        let middle = |info: &GenerationInfo| Nanos(info.start.0 + info.duration.0 / 2);
        let (since, until) = (middle(&infos[from]), middle(&infos[to]));
        let part = Trace::from_bytes(bytes.clone()).unwrap().within(since, until);
        assert_eq!(part.generations(), &infos[from..=to]);
        let is_in =
            |event: &Event| (infos[from].number..=infos[to].number).contains(&event.generation());
        let wanted: Vec<_> =
            whole.events().flatten().filter(is_in).map(|event| words(&event)).collect();
        let found: Vec<_> = part.events().map(|event| words(&event.unwrap())).collect();
        assert_eq!(found, wanted);
        assert!(!found.is_empty());
    }
    let none = Trace::from_bytes(bytes).unwrap().within(Nanos(0), Nanos(1));
    assert!(none.generations().is_empty() && none.events().next().is_none());
}

#[test]
fn a_complete_generation_is_read_alone() {
    let generations = service(4);
    for generation in &generations {
        assert_sound(file(std::slice::from_ref(generation)));
    }
    let alone = read(file(&generations[2..3]));
    let all = read(file(&generations));
    let per_generation = all.len() / 4;
    assert!(alone.len() >= per_generation);
    assert!(all.windows(alone.len()).any(|part| part == alone));
}

#[test]
fn open_regions_are_restated_and_ends_know_them() {
    let generations = service(3);
    let trace = Trace::from_bytes(file(&generations[2..])).unwrap();
    let generation = trace.generation(Generation(3)).unwrap();
    let states: Vec<_> = generation
        .statuses()
        .map(|state| {
            let thread = state.thread().unwrap();
            let regions: Vec<_> =
                state.regions().map(|region| (region.site.name, region.began.0)).collect();
            (thread.number.0, thread.name.to_string(), regions, state.deeper())
        })
        .collect();
    let began = BOOT + 2 * PERIOD * 5 + 1000 * 5;
    let slept = BOOT + PERIOD * 5 + 12 * 5;
    assert_eq!(
        states,
        [
            (1, "worker-1".to_owned(), vec![("request", began)], 0),
            (2, "worker-2".to_owned(), vec![("request", began)], 0),
            (3, "sleeper".to_owned(), vec![("sleep", slept)], 0),
        ]
    );
    let first = generation.events().next().unwrap().unwrap();
    let EventKind::RegionEnd { site, duration, .. } = first.kind() else { panic!("{first:?}") };
    assert_eq!(site.unwrap().name, "request");
    assert_eq!(duration.unwrap(), Nanos((PERIOD - 1000 + 30) * 5));
    assert_eq!(generation.end_record().unwrap().advances, [(1000, 3), (2000, 1)]);
}

#[test]
fn an_incomplete_generation_leans_on_the_one_before() {
    let mut generations = service(2);
    let mut last = generations[1].next().incomplete();
    last.block(1, 1, 5);
    let request = last.site(1, "request");
    last.thread_status(1, 1, "worker-1").region_status(1, request, 1000 - PERIOD.cast_signed());
    last.region_end(1, 50);
    generations.push(last);
    assert_sound(file(&generations));
    let stated = |bytes: Vec<u8>| {
        let trace = Trace::from_bytes(bytes).unwrap();
        let generation = trace.generation(Generation(3)).unwrap();
        let states: Vec<_> = generation
            .statuses()
            .map(|state| {
                let regions: Vec<_> =
                    state.regions().map(|region| region.site.name.to_owned()).collect();
                (state.thread().unwrap().name.to_string(), regions, state.is_carried())
            })
            .collect();
        states
    };
    let of =
        |name: &str, region: &str, carried| (name.to_owned(), vec![region.to_owned()], carried);
    assert_eq!(
        stated(file(&generations)),
        [
            of("worker-1", "request", false),
            of("worker-2", "request", true),
            of("sleeper", "sleep", true),
        ]
    );
    assert_eq!(stated(file(&generations[2..])), [of("worker-1", "request", false)]);
    assert_sound(file(&generations[2..]));
}

#[test]
fn events_behind_a_cut_do_not_count_but_definitions_do() {
    let mut g = Gen::new(1).incomplete();
    g.block(1, 1, 10);
    g.thread_start(1, 11, 1, "main");
    let cut = g.last(1).records.len() as u32;
    let other = g.site(1, "late");
    g.region_begin(1, 20, other);
    g.last(1).cut = Some(cut);
    g.block(2, 2, 10);
    g.thread_start(2, 12, 2, "second").region_begin(2, 30, other);
    let events = read(file(&[g.clone()]));
    assert_eq!(events, ["1 thread_start main", "2 thread_start second", "2 region_begin late"]);
    let trace = Trace::from_bytes(file(&[g])).unwrap();
    assert_eq!(trace.generations()[0].events, 3);
}

#[test]
fn behind_a_cut_an_event_may_lack_its_schema() {
    let undefined = 77;
    let mut g = Gen::new(1).incomplete();
    g.block(1, 1, 10);
    let (site, schema) = (g.site(1, "early"), g.schema(1, "known", &[]));
    g.thread_start(1, 11, 1, "main").region_begin(1, 12, site).event(1, 13, schema, &[]);
    let cut = g.last(1).records.len() as u32;
    // It was defined after the defining thread's block had been copied.
    g.event(1, 20, undefined, &[Val::I(7)]).region_end(1, 21);
    g.last(1).cut = Some(cut);
    g.block(1, 1, 30).event(1, 31, undefined, &[Val::I(7)]);
    g.last(1).cut = Some(0);
    assert_sound(file(&[g.clone()]));
    let events = read(file(&[g.clone()]));
    assert_eq!(events, ["1 thread_start main", "1 region_begin early", "1 event known"]);
    // Before a cut, that is damage.
    g.last(1).cut = None;
    let violations = validate(&Trace::from_bytes(file(&[g])).unwrap());
    assert!(violations.iter().any(|v| v.to_string().contains("schema is not defined")));
}

#[test]
fn events_later_than_the_end_of_an_incomplete_generation_do_not_count() {
    let later = |complete: bool| {
        let mut g = if complete { Gen::new(1) } else { Gen::new(1).incomplete() };
        let end = g.ended.ticks.0 - g.began.ticks.0;
        g.block(1, 1, 10).thread_start(1, 11, 1, "main");
        let site = g.site(1, "late");
        g.region_begin(1, end, site).region_end(1, end + 1);
        Trace::from_bytes(file(&[g])).unwrap().generations()[0].events
    };
    // At the very end is not later.
    assert_eq!((later(true), later(false)), (3, 2));
}

#[test]
fn a_schema_may_be_defined_in_another_slot_than_its_use() {
    let mut g = Gen::new(1);
    g.block(1, 1, 10).thread_start(1, 11, 1, "a");
    g.block(3, 3, 10).thread_start(3, 11, 3, "c");
    // Slot 3 defines; slot 1 uses that, and defines what slot 2 uses.
    let first = g.schema(3, "first", &[("x", ValueType::Unsigned), ("y", ValueType::Text)]);
    let name = g.string(3, "a text");
    g.at(1, 20, Kind::Event, |out| {
        put_varint(out, first);
        put_varint(out, 7);
        put_varint(out, name << 1 | 1);
    });
    let second = g.schema(1, "second", &[]);
    g.block(2, 2, 10).thread_start(2, 12, 2, "b").event(2, 25, second, &[]);
    g.end(&[]);
    assert_sound(file(std::slice::from_ref(&g)));
    let events = read(file(&[g]));
    let text = r#"y=Text(Text { text: "a text", cut: false })"#;
    assert!(events.contains(&format!("1 event first x=Unsigned(7) {text}")), "{events:#?}");
    assert!(events.contains(&"2 event second".to_owned()));
}

#[test]
fn losses_are_told_by_cause() {
    let mut g = Gen::new(5);
    g.block(1, 1, 10).thread_start(1, 11, 1, "a");
    *g.numbers.get_mut(&1).unwrap() += 3;
    g.block(1, 1, 50).lost(1, Loss::ArenaFull, 3).thread_status(1, 1, "a").region_end(1, 60);
    let open = g.clone().incomplete();
    g.end(&[(Loss::ArenaFull, 3), (Loss::NoSlot, 9)]);
    let lost = |g: &Gen| -> Vec<_> {
        let trace = Trace::from_bytes(file(std::slice::from_ref(g))).unwrap();
        let lost = &trace.generations()[0].lost;
        lost.iter().map(|lost| (lost.name().to_string(), lost.count)).collect()
    };
    assert_eq!(lost(&g), [("arena_full".to_owned(), 3), ("no_slot".to_owned(), 9)]);
    assert_eq!(lost(&open), [("arena_full".to_owned(), 3)]);
    assert_sound(file(&[g]));
}

#[test]
fn a_slot_serves_one_thread_after_another() {
    let mut g = Gen::new(1);
    g.block(1, 1, 0);
    let work = g.site(1, "work");
    for thread in 1..50 {
        let time = thread * 100;
        g.thread_start(1, time, thread, &format!("t{thread}"));
        g.region_begin(1, time + 1, work).region_end(1, time + 2).thread_exit(1, time + 3);
    }
    g.end(&[]);
    assert_sound(file(std::slice::from_ref(&g)));
    let events = read(file(&[g]));
    assert_eq!(events.len(), 49 * 4);
    assert_eq!(events[4 * 6 + 3], "7 thread_exit t7");
}

#[test]
fn what_a_later_version_records_is_shown_by_the_files_own_table() {
    let mut table = Vec::new();
    let known = [Kind::ThreadStart, Kind::RegionBegin, Kind::End, Kind::Site, Kind::ThreadExit];
    put_varint(&mut table, known.len() as u64 + 2);
    let row = |table: &mut Vec<u8>, code, class, name: &str, arguments: &[(&str, Argument)]| {
        table.extend([code, class, name.len() as u8]);
        table.extend_from_slice(name.as_bytes());
        table.push(arguments.len() as u8);
        for (name, kind) in arguments {
            table.extend([*kind as u8, name.len() as u8]);
            table.extend_from_slice(name.as_bytes());
        }
    };
    for kind in known {
        let mut arguments = kind.row().arguments.to_vec();
        if kind == Kind::RegionBegin {
            arguments.push(("colour", Argument::Text));
        }
        row(&mut table, kind as u8, kind.row().class as u8, kind.row().name, &arguments);
    }
    let poll = [("task", Argument::Unsigned), ("why", Argument::Text), ("site", Argument::Id)];
    row(&mut table, 200, 2, "task_poll", &poll);
    row(&mut table, 201, 1, "task_status", &[("task", Argument::Signed)]);
    let mut g = Gen::new(1);
    g.block(1, 1, 0).thread_start(1, 5, 1, "main");
    let work = g.site(1, "work");
    g.at(1, 6, Kind::RegionBegin, |out| {
        put_varint(out, work);
        inline(out, "red");
    });
    g.coded(1, 7, 200, |out| {
        put_varint(out, 77);
        inline(out, "timer");
        put_varint(out, work);
    });
    let block = g.last(1);
    block.records.extend([201, 5]);
    g.thread_exit(1, 9).end(&[]);
    let mut metadata = metadata();
    metadata = metadata.iter().filter(|(name, _)| *name != key::EVENT_TABLE).fold(
        lookback_snapshot::wire::Metadata::default(),
        |mut kept, (name, value)| {
            kept.add(name, value.clone());
            kept
        },
    );
    metadata.add(key::EVENT_TABLE, table);
    let bytes = file_with(&metadata, &[g]);
    assert_sound(bytes.clone());
    let events = read(bytes);
    assert_eq!(events[1], "1 region_begin work");
    let text = |text: &str| format!("Text(Text {{ text: {text:?}, cut: false }})");
    let (why, site) = (text("timer"), text("work"));
    assert_eq!(events[2], format!("1 task_poll task_poll task=Unsigned(77) why={why} site={site}"));
    assert_eq!(events[3], "1 thread_exit main");
}

#[test]
fn a_file_on_disk_is_read_piece_by_piece() {
    let generations = service(3);
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file(&generations)).unwrap();
    let trace = Trace::open(path.path()).unwrap();
    let from_disk: Vec<_> = trace.events().map(|event| words(&event.unwrap())).collect();
    assert_eq!(from_disk, read(file(&generations)));
    let missing = Trace::open("/no/such/file.lbk").err().unwrap().to_string();
    assert!(missing.starts_with("/no/such/file.lbk: No such file"), "{missing}");
}

#[test]
fn a_trace_and_its_events_may_go_to_other_threads() {
    fn sent<T: Send + Sync>() {}
    sent::<Trace>();
    sent::<Event>();
}

#[derive(Clone, Debug)]
enum Op {
    Begin(u8),
    End,
    Log(u8, u8, String),
    Event(u8, Vec<Val>),
    Counter(u8, Val),
    NewBlock,
    Exit,
}

fn val() -> impl Strategy<Value = Val> {
    prop_oneof![
        any::<u64>().prop_map(Val::U),
        any::<i64>().prop_map(Val::I),
        (-1e9..1e9).prop_map(Val::F),
        any::<bool>().prop_map(Val::B),
        ".{0,20}".prop_map(Val::T),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0_u8..5).prop_map(Op::Begin),
        3 => Just(Op::End),
        2 => (0_u8..5, 1_u8..6, ".{0,30}").prop_map(|(site, level, text)| Op::Log(site, level, text)),
        2 => (0_u8..5, prop::collection::vec(val(), 0..6))
            .prop_map(|(site, values)| Op::Event(site, values)),
        1 => (0_u8..5, prop_oneof![
            any::<u64>().prop_map(Val::U), any::<i64>().prop_map(Val::I), (0.0..1.0).prop_map(Val::F)
        ]).prop_map(|(site, value)| Op::Counter(site, value)),
        1 => Just(Op::NewBlock),
        1 => Just(Op::Exit),
    ]
}

fn shown(value: &Val) -> String {
    match value {
        Val::U(value) => format!("{:?}", Value::Unsigned(*value)),
        Val::I(value) => format!("{:?}", Value::Signed(*value)),
        Val::F(value) => format!("{:?}", Value::Float(*value)),
        Val::B(value) => format!("{:?}", Value::Bool(*value)),
        Val::T(text) => format!("Text(Text {{ text: {text:?}, cut: false }})"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// One generation of up to four slots; everything is defined again at each use.
    #[test]
    fn any_events_come_back_in_their_order(
        ops in prop::collection::vec((1_u32..5, 1_u64..100_000, op()), 0..120)
    ) {
        let mut g = Gen::new(1);
        let mut expected = Vec::new();
        let mut threads = std::collections::HashMap::new();
        let mut open: std::collections::HashMap<u32, Vec<u8>> = std::collections::HashMap::new();
        let (mut time, mut next_thread) = (0, 1);
        for (slot, later, op) in ops {
            time += later;
            let thread = *threads.entry(slot).or_insert_with(|| {
                let thread = next_thread;
                next_thread += 1;
                g.block(slot, thread, time);
                g.thread_start(slot, time, thread, &format!("t{thread}"));
                expected.push(format!("{thread} thread_start t{thread}"));
                open.insert(slot, Vec::new());
                time += 1;
                thread
            });
            let stack = open.get_mut(&slot).unwrap();
            match op {
                Op::Begin(site) => {
                    let id = g.site(slot, &format!("r{site}"));
                    g.region_begin(slot, time, id);
                    stack.push(site);
                    expected.push(format!("{thread} region_begin r{site}"));
                }
                Op::End => if let Some(site) = stack.pop() {
                    g.region_end(slot, time);
                    expected.push(format!("{thread} region_end r{site}"));
                },
                Op::Log(site, level, text) => {
                    let id = g.site(slot, &format!("c{site}"));
                    g.log(slot, time, id, u64::from(level), &text);
                    let level = ["trace", "debug", "info", "warn", "error"][usize::from(level) - 1];
                    let text = shown(&Val::T(text));
                    let level = shown(&Val::T(level.to_owned()));
                    expected.push(format!("{thread} log c{site} level={level} message={text}"));
                }
                Op::Event(site, values) => {
                    let names: Vec<_> = (0..values.len()).map(|n| format!("f{n}")).collect();
                    let fields: Vec<_> =
                        names.iter().zip(&values).map(|(name, value)| (name.as_str(), value.kind())).collect();
                    let id = g.schema(slot, &format!("e{site}"), &fields);
                    g.event(slot, time, id, &values);
                    let shown: Vec<_> =
                        names.iter().zip(&values).map(|(name, value)| format!("{name}={}", shown(value))).collect();
                    let line = format!("{thread} event e{site} {}", shown.join(" "));
                    expected.push(line.trim_end().to_owned());
                }
                Op::Counter(site, value) => {
                    let id = g.site(slot, &format!("n{site}"));
                    g.counter(slot, time, id, &value);
                    expected.push(format!("{thread} counter n{site} value={}", shown(&value)));
                }
                Op::NewBlock => { g.block(slot, thread, time); }
                Op::Exit => {
                    g.thread_exit(slot, time);
                    expected.push(format!("{thread} thread_exit t{thread}"));
                    threads.remove(&slot);
                }
            }
        }
        g.end(&[]);
        let bytes = file(&[g]);
        assert_sound(bytes.clone());
        prop_assert_eq!(read(bytes), expected);
    }
}
