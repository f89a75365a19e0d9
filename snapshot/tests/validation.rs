//! What `validate` finds, one rule at a time, and what it excuses.
#![cfg(feature = "read")]

mod build;

use build::{Gen, PERIOD, file, service};
use lookback_snapshot::wire::{Kind, Loss, Nanos, Ticks, put_varint};
use lookback_snapshot::{Trace, validate};

fn found(generations: &[Gen]) -> Vec<String> {
    let trace = Trace::from_bytes(file(generations)).unwrap();
    validate(&trace).iter().map(|violation| violation.what().to_owned()).collect()
}

/// A generation with one thread in slot 1, in which a region may be open.
fn small() -> Gen {
    let mut g = Gen::new(1);
    g.block(1, 1, 10).thread_start(1, 11, 1, "main");
    g
}

#[track_caller]
fn assert_found(generations: &[Gen], words: &[&str]) {
    let found = found(generations);
    let all = found.len() == words.len()
        && found.iter().zip(words).all(|(found, words)| found.contains(words));
    assert!(all, "{found:#?}");
}

#[test]
fn a_sound_file_has_no_violations() {
    assert_found(&service(3), &[]);
}

#[test]
fn a_region_that_ends_must_be_open() {
    let mut g = small();
    g.region_end(1, 20).end(&[]);
    assert_found(&[g], &["slot 1, block 0, byte 12: a region ends, and none was open"]);
    let mut g = small();
    *g.numbers.get_mut(&1).unwrap() += 1;
    g.block(1, 1, 15).lost(1, Loss::ArenaFull, 1).thread_status(1, 1, "main").region_end(1, 20);
    g.end(&[(Loss::ArenaFull, 1)]);
    assert_found(&[g], &[]);
}

#[test]
fn an_id_must_be_defined_in_its_generation() {
    let mut g = small();
    g.region_begin(1, 20, 77).end(&[]);
    assert_found(&[g], &["its site is not defined"]);
    let mut g = small();
    g.event(1, 20, 78, &[]).end(&[]);
    assert_found(&[g], &["an event's schema is not defined", "the end record", "the index"][..2]);
    let mut g = small();
    let site = g.site(1, "cache");
    g.at(1, 20, Kind::Log, |out| {
        put_varint(out, 3);
        put_varint(out, site);
        put_varint(out, 99 << 1 | 1);
    });
    g.end(&[]);
    assert_found(&[g], &["a string that is not defined"]);
}

#[test]
fn an_event_is_on_a_thread() {
    let mut g = Gen::new(1);
    g.block(1, 0, 10);
    let site = g.site(1, "x");
    g.region_begin(1, 20, site).end(&[]);
    assert_found(&[g], &["an event on no thread"]);
    let mut g = Gen::new(1);
    g.block(0, 0, 10).thread_start(0, 20, 4, "x").end(&[]);
    assert_found(&[g], &["an event in the collector's slot"]);
}

#[test]
fn a_complete_generation_has_an_end_record_that_is_right() {
    assert_found(&[small()], &["complete, but without an end record"]);
    assert_found(&[small().incomplete()], &[]);
    let mut g = small();
    g.end(&[]);
    g.thread_exit(1, 30);
    assert_found(&[g], &["the end record says 1 events, and there are 2"]);
    let mut g = small();
    g.end(&[]);
    g.last(1).events = 5;
    assert_found(&[g], &["the index says 5 events", "the block says 5 events, and there are 1"]);
}

#[test]
fn blocks_and_numbers_follow_each_other() {
    let mut g = small();
    g.block(1, 1, 20).thread_exit(1, 30);
    g.last(1).header.sequence = 3;
    g.end(&[]);
    assert_found(&[g], &["2 blocks before it are missing"]);
    let mut g = small();
    *g.numbers.get_mut(&1).unwrap() += 4;
    g.block(1, 1, 20).thread_exit(1, 30).end(&[]);
    assert_found(&[g], &["its first event has number 5; 1 was to come, and 0 are said to be lost"]);
}

#[test]
fn nothing_happens_behind_a_cut() {
    let cut = |second: Option<u32>| {
        let mut g = small();
        let site = g.site(1, "x");
        g.last(1).cut = Some(g.last(1).records.len() as u32);
        g.region_begin(1, 20, site);
        g.block(1, 1, 30).region_end(1, 40);
        g.last(1).cut = second;
        g.incomplete()
    };
    assert_found(&[cut(Some(0))], &[]);
    assert_found(&[cut(None)], &["it has events, and a block before it is cut"]);
}

#[test]
fn a_block_of_which_nothing_counts_may_come_later_than_what_was_copied_before() {
    let files = |cut: Option<u32>| {
        let mut first = small();
        *first.numbers.get_mut(&1).unwrap() += 1;
        let mut second = first.next();
        second.block(1, 1, 0).thread_exit(1, 10);
        second.last(1).cut = cut;
        [first.incomplete(), second.incomplete()]
    };
    assert_found(&files(Some(0)), &[]);
    assert_found(
        &files(None),
        &["its first event has number 2; 1 was to come, and 0 are said to be lost"],
    );
}

#[test]
fn times_lie_near_their_generation() {
    let mut g = small();
    g.thread_exit(1, 1 << 50).end(&[]);
    assert_found(&[g], &["its time is far outside of the generation"]);
    let mut g = small();
    g.end(&[]);
    g.ended.ticks = Ticks(0);
    g.ended.monotonic = Nanos(0);
    assert!(found(&[g]).contains(&"it ends before it begins".to_owned()));
}

#[test]
fn statuses_are_what_the_generation_before_left() {
    let first = {
        let mut g = small();
        let work = g.site(1, "work");
        g.region_begin(1, 20, work).end(&[]);
        g
    };
    // The site's index is the same: ids are assigned alike.
    let stated = |region: Option<&str>, other: bool| {
        let mut g = first.next();
        g.block(0, 0, PERIOD).thread_status(0, 1, "main");
        if let Some(region) = region {
            let site = g.site(0, region);
            g.region_status(0, site, 20 - PERIOD.cast_signed());
        }
        if other {
            g.thread_status(0, 9, "ghost");
        }
        g.end(&[]);
        g
    };
    assert_found(&[first.clone(), stated(Some("work"), false)], &[]);
    assert_found(
        &[first.clone(), stated(None, false)],
        &["thread 1 is stated with no open region; generation 1 left it with open regions work"],
    );
    assert_found(
        &[first.clone(), stated(Some("play"), true)],
        &["thread 1 is stated with open regions play", "thread 9 has a status"],
    );
    let mut silent = first.next();
    silent.end(&[]);
    assert_found(&[first.clone(), silent.clone()], &["thread 1 lives on, and has no status"]);
    // Without its predecessor nothing is known to be missing; and a loss is an excuse.
    assert_found(&[silent], &[]);
    let mut lossy = first.next();
    lossy.end(&[(Loss::Reentrant, 1)]);
    assert_found(&[first, lossy], &[]);
}

#[test]
fn generations_ascend() {
    let generations = service(2);
    assert_found(&[generations[1].clone(), generations[0].clone()], &["comes after generation 2"]);
}

#[test]
fn violations_are_lines_with_file_and_offset_and_their_number_is_bounded() {
    let mut g = small();
    for time in 0..3000 {
        g.region_end(1, 20 + time);
    }
    g.end(&[]);
    let trace = Trace::from_bytes(file(&[g])).unwrap();
    let lines: Vec<_> = validate(&trace).iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1001);
    let offset = trace.generations()[0].offset;
    assert!(lines[0].starts_with(&format!("<memory>: at byte {offset}: generation 1: slot 1, ")));
    assert!(lines[1000].ends_with("and 2000 more violations"));
}
