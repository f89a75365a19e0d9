//! An error that is logged has the stack of its thread, a few times a second; and so has an event that asks for it.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod common;

use common::alone;
use lookback::read::{Event, EventKind, Level, StackEnd, StackReason, Trace};
use lookback::{Builder, RecordExt, Recorder, event, log};
use std::hint::black_box;
use tracing_subscriber::layer::SubscriberExt;

fn start(builder: Builder) -> Recorder {
    let recorder = builder.max_bytes(4 << 20).stacks(true).start().unwrap();
    assert!(common::wait_for(|| recorder.stats().unwind_tables.modules > 0));
    recorder
}

/// The stacks of this reason, each with the event before it on its thread.
fn stacks(trace: &Trace, wanted: StackReason) -> Vec<(Event, Event)> {
    let all: Vec<_> = common::events(trace).collect();
    let is_it = |event: &Event| matches!(event.kind(), EventKind::ThreadStack { reason, .. } if reason == Some(wanted));
    let number = |event: &Event| event.thread().map(|thread| thread.number);
    let found = (0..all.len()).filter(|at| is_it(&all[*at])).map(|at| {
        let of_thread = |event: &&Event| number(event) == number(&all[at]);
        (all[at].clone(), all[..at].iter().rev().find(of_thread).expect("what it is of").clone())
    });
    found.collect()
}

/// Whether the stack goes through this function of this program, and from there to the thread's begin.
#[track_caller]
fn assert_leads_through(event: &Event, function: usize) {
    let program = std::env::current_exe().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let first = maps.lines().find(|line| line.ends_with(program.to_str().unwrap())).unwrap();
    let bias = u64::from_str_radix(first.split('-').next().unwrap(), 16).unwrap();
    let offset = function as u64 - bias;
    let stack = event.stack().expect("there is one");
    let is_it = |frame: lookback::read::Frame<'_>| {
        frame.module.is_some_and(|module| module.path == program.to_string_lossy())
            && (offset..offset + 3000).contains(&frame.offset)
    };
    assert!(stack.frames().any(is_it), "{offset:#x}: {stack:#x?}");
    assert_eq!(stack.end(), Some(StackEnd::Begin), "{stack:#x?}");
}

#[inline(never)]
fn logs_everywhere(by: &str) {
    match by {
        "macro" => log!(ERROR, "shop", "no more {}", 7),
        "tracing" => tracing::error!(order = 7, "no more"),
        _ => log::error!("no more {}", 7),
    }
    black_box(by);
}

#[test]
fn each_error_has_the_stack_of_who_logs_it_and_nothing_else_has() {
    alone("each_error_has_the_stack_of_who_logs_it_and_nothing_else_has", || {
        let recorder = start(Recorder::builder());
        lookback::tracing::record_log().unwrap();
        log!("shop", "all is well");
        log!(WARN, "shop", "hardly any");
        logs_everywhere("macro");
        logs_everywhere("log");
        let subscriber = tracing_subscriber::registry().with(lookback::tracing::layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!("hardly any");
            logs_everywhere("tracing");
        });
        // The stack of a poll is that of its thread.
        futures::executor::block_on(async { logs_everywhere("macro") }.recorded("shop"));
        let trace = common::stop(recorder);
        let found = stacks(&trace, StackReason::Error);
        assert_eq!(found.len(), 4, "{found:?}");
        for (stack, log) in &found {
            assert!(
                matches!(log.kind(), EventKind::Log { level: Level::Error, .. }),
                "{log:?} before {stack:?}"
            );
            assert_leads_through(stack, logs_everywhere as fn(&str) as usize);
        }
    });
}

#[test]
fn of_many_errors_as_many_a_second_have_stacks_as_was_said() {
    alone("of_many_errors_as_many_a_second_have_stacks_as_was_said", || {
        let recorder = start(Recorder::builder().error_stacks(3));
        let began = std::time::Instant::now();
        for _ in 0..1000 {
            log!(ERROR, "shop", "no more");
        }
        // Whole seconds count, so there may be one more than have passed.
        let seconds = began.elapsed().as_secs() + 2;
        let limited = recorder.stats().stacks.limited;
        let trace = common::stop(recorder);
        let found = stacks(&trace, StackReason::Error).len() as u64;
        assert!((3..=3 * seconds).contains(&found), "{found} in {seconds} s");
        assert_eq!(found + limited, 1000);
    });
}

#[test]
fn errors_have_no_stacks_if_they_are_to_have_none() {
    alone("errors_have_no_stacks_if_they_are_to_have_none", || {
        let off = [Recorder::builder().error_stacks(0), Recorder::builder().stacks(false)];
        for (at, builder) in off.into_iter().enumerate() {
            let builder = builder.max_bytes(4 << 20);
            let recorder = if at == 0 { start(builder) } else { builder.start().unwrap() };
            log!(ERROR, "shop", "no more");
            assert_eq!(recorder.stats().stacks.limited, 0);
            assert!(stacks(&common::stop(recorder), StackReason::Error).is_empty());
        }
    });
}

#[inline(never)]
fn asks_for_stacks(times: u32) {
    for round in 0..times {
        event!(stack: 2, "pool exhausted", round);
        log!(stack: 2, WARN, "shop", "hardly any in {round}");
    }
    black_box(times);
}

#[test]
fn an_event_that_asks_for_it_has_a_stack_at_the_rate_of_its_place() {
    alone("an_event_that_asks_for_it_has_a_stack_at_the_rate_of_its_place", || {
        let recorder = start(Recorder::builder());
        let began = std::time::Instant::now();
        asks_for_stacks(50);
        let seconds = began.elapsed().as_secs() + 2;
        let limited = recorder.stats().stacks.limited;
        let trace = common::stop(recorder);
        let found = stacks(&trace, StackReason::Asked);
        assert!((4..=4 * seconds).contains(&(found.len() as u64)), "{}", found.len());
        assert_eq!(found.len() as u64 + limited, 100);
        for (stack, before) in &found {
            let name = before.name();
            assert!(name == "pool exhausted" || name == "shop", "{before:?}");
            assert_leads_through(stack, asks_for_stacks as fn(u32) as usize);
        }
        let events = common::events(&trace).filter(|event| event.name() == "pool exhausted");
        assert_eq!(events.count(), 50, "each event is recorded, with a stack or without");
    });
}
