//! On request, a task has the stack of the thread that spawned it.

use crate::common::{self, alone, wait_for};
use crate::{LONG, runtime, start_with};
use lookback::read::TaskId;
use lookback::read::symbols::Symbolizer;
use lookback::{RecordExt, Recorder};
use std::collections::BTreeMap;
use std::hint::black_box;

const FILE: &str = "tests/async_stacks/spawned.rs";

async fn sleeps() {
    tokio::time::sleep(LONG).await;
}

#[inline(never)]
fn spawns_anything() -> u32 {
    drop(lookback::spawn(sleeps()));
    black_box(line!() - 1)
}

#[inline(never)]
fn opens_an_account() -> [u32; 2] {
    let inner = spawns_anything();
    black_box([inner, line!() - 1])
}

#[inline(never)]
fn closes_an_account() -> [u32; 2] {
    let inner = spawns_anything();
    black_box([inner, line!() - 1])
}

/// The lines of this file in the stacks that spawned the tasks of the last complete generation, the innermost first.
fn spawned(recorder: &Recorder, tasks: usize) -> BTreeMap<TaskId, Vec<u32>> {
    let mut found = BTreeMap::new();
    let are_listed = wait_for(|| {
        lookback::log!("test", "so that there is something to complete");
        common::advance(recorder);
        let trace = common::read(&recorder.snapshot().expect("a snapshot"));
        common::assert_sound(&trace);
        let mut symbolizer = Symbolizer::new();
        let last = trace.generations().iter().rev().find(|info| info.complete).unwrap();
        let generation = trace.generation(last.number).unwrap();
        found.clear();
        for task in generation.waiting() {
            let of_task = generation.spawned_by(task.task);
            assert_eq!(of_task.is_some(), task.spawned_by().is_some());
            let frames = of_task.iter().flat_map(|stack| stack.frames());
            let places = frames.flat_map(|frame| symbolizer.locations(&frame));
            let lines = places.filter_map(|at| at.place.filter(|(file, _)| file.ends_with(FILE)));
            found.insert(task.task, lines.map(|(_, line)| line).collect());
        }
        found.len() >= tasks
    });
    assert!(are_listed, "{found:?}");
    found
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "optimised code of two places may be one, with one line"
)]
fn a_task_has_the_stack_of_the_thread_that_spawned_it() {
    alone("spawned::a_task_has_the_stack_of_the_thread_that_spawned_it", || {
        let recorder = start_with(|builder| builder.spawn_stacks(1000));
        let runtime = runtime();
        let wanted = {
            let _entered = runtime.enter();
            [opens_an_account(), closes_an_account()]
        };
        // It stays known in later generations, and of a task that was polled since.
        for _ in 0..2 {
            let found = spawned(&recorder, 2);
            let mut lines: Vec<_> = found.values().map(|lines| lines[..2].to_vec()).collect();
            lines.sort_unstable();
            assert_eq!(lines, wanted, "{found:?}");
        }
        runtime.shutdown_background();
        common::stop(recorder);
    });
}

#[test]
fn no_more_tasks_of_a_second_have_one_than_was_asked_for() {
    alone("spawned::no_more_tasks_of_a_second_have_one_than_was_asked_for", || {
        for most in [0, 2] {
            let recorder = start_with(|builder| builder.spawn_stacks(most));
            let runtime = runtime();
            let before = recorder.stats().stacks.spawns_limited;
            for _ in 0..50 {
                runtime.spawn(sleeps().recorded("sleeps"));
            }
            let limited = recorder.stats().stacks.spawns_limited - before;
            let found = spawned(&recorder, 50);
            let known = found.values().filter(|lines| !lines.is_empty()).count();
            match most {
                0 => assert_eq!((known, limited), (0, 0)),
                // Of every second that it has taken.
                _ => assert!(known >= 2 && known as u64 + limited == 50, "{known} {limited}"),
            }
            runtime.shutdown_background();
            common::stop(recorder);
        }
    });
}
