//! Generations without statuses and end record in the middle of a snapshot: nothing is dropped there, nothing
//! is called damaged or lost, and what was silent in them is as the previous generation left it.
#![cfg(feature = "read")]

mod program;
mod written;

use lookback_snapshot::Trace;
use lookback_snapshot::analysis::{LeftOut, Report, without_statuses};
use lookback_snapshot::export::go::export;
use lookback_snapshot::text::{from_text, to_text};
use lookback_snapshot::wire::Generation;
use program::Program;
use written::{PERIOD, assert_found, complete, incomplete, trace, violations, words};

const GENERATIONS: u64 = 12;

/// The same program twice: with all of its generations complete, and as if a collector had ended only those
/// in `ends`. The others were copied at the very end.
fn both(seed: u64, ends: impl Fn(u64) -> bool) -> (Trace, Trace, String) {
    let whole = Program::new(seed).in_order().run_ended(GENERATIONS, 60, |_| true).concat();
    let text = Program::new(seed).in_order().run_ended(GENERATIONS, 60, &ends).concat();
    (trace(&whole), trace(&text), text)
}

/// Some patterns of ended generations; the last one always is.
fn ends(seed: u64, number: u64) -> bool {
    number == GENERATIONS
        || match seed % 4 {
            0 => number % 3 == 1,
            1 => number == 1,
            2 => number % 2 == 1,
            _ => (seed >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (number % 60) & 1 == 1,
        }
}

fn told(trace: &Trace) -> Vec<(u64, String)> {
    trace.events().map(Result::unwrap).map(|event| (event.time().0, words(&event))).collect()
}

/// What exists when a generation begins, according to itself.
fn lives(trace: &Trace, number: Generation) -> Vec<String> {
    let generation = trace.generation(number).unwrap();
    let tasks = generation.tasks().map(|task| {
        let thread = task.thread.map(|thread| thread.number.0);
        format!("task {} {} {:?} {} {thread:?}", task.task, task.site.name, task.state, task.woken)
    });
    let spans = generation
        .spans()
        .map(|span| format!("span {} {} {:?}", span.span, span.began, span.parent));
    let threads = generation.statuses().map(|state| {
        let number = state.thread().map(|thread| thread.number.0);
        let polls: Vec<_> = state.tasks().collect();
        let spans: Vec<_> = state.spans().collect();
        // Not which worker it is: a thread need not know that another one has become its worker.
        format!("thread {number:?} {polls:?} {spans:?} {:?}", state.pool())
    });
    let mut all: Vec<_> = tasks.chain(spans).chain(threads).collect();
    all.sort();
    all
}

#[test]
fn the_events_are_all_there_and_in_their_order() {
    for seed in 0..120 {
        let (whole, part, text) = both(seed, |number| ends(seed, number));
        assert_eq!(told(&part), told(&whole), "seed {seed}\n{text}");
        for info in part.generations() {
            let alone: Vec<_> = part.generation(info.number).unwrap().events().collect();
            assert_eq!(alone.len() as u64, info.events, "seed {seed}, generation {}", info.number);
        }
    }
}

#[test]
fn nothing_in_them_is_called_wrong_lost_or_damaged() {
    for seed in 0..120 {
        // Wherever the window begins.
        let first = 1 + seed / 4 % 3;
        let written = Program::new(seed).run_ended(GENERATIONS, 60, |number| ends(seed, number));
        let text = written[first as usize - 1..].concat();
        let found = violations(&text);
        assert!(found.is_empty(), "seed {seed}: {found:#?}\n{text}");
        let trace = trace(&text);
        let report = Report::of(&trace);
        assert!(report.damage.is_empty() && trace.damage().is_empty(), "seed {seed}");
        assert!(report.losses.table.lost.is_empty(), "seed {seed}");
        assert_eq!(report.losses.table.left_out, LeftOut::default(), "seed {seed}");
    }
}

#[test]
fn what_was_silent_in_them_is_as_the_generation_before_left_it() {
    for seed in 0..60 {
        let (whole, part, text) = both(seed, |number| ends(seed, number) || number == 1);
        for number in (1..=GENERATIONS).rev().chain(1..=GENERATIONS).map(Generation) {
            assert_eq!(
                lives(&part, number),
                lives(&whole, number),
                "seed {seed}, {number}\n{text}"
            );
        }
    }
}

#[test]
fn a_summary_says_the_same_of_them() {
    for seed in 0..40 {
        let (whole, part, text) = both(seed, |number| ends(seed, number) || number == 1);
        let (whole, part) = (Report::of(&whole), Report::of(&part));
        let titles = |report: &Report| -> Vec<_> {
            report.findings().into_iter().map(|finding| finding.title.clone()).collect()
        };
        assert_eq!(titles(&part), titles(&whole), "seed {seed}\n{text}");
        assert_eq!(part.not_assessed(), whole.not_assessed(), "seed {seed}");
        assert_eq!(part.coverage.table.covered, whole.coverage.table.covered, "seed {seed}");
        assert_eq!(part.stuck.table, whole.stuck.table, "seed {seed}");
        assert_eq!(part.workers.table, whole.workers.table, "seed {seed}");
    }
}

#[test]
fn go_is_told_the_same_of_them() {
    for seed in 0..40 {
        let (whole, part, text) = both(seed, |number| ends(seed, number) || number == 1);
        let exported = |trace: &Trace| export(trace, &mut Vec::new()).unwrap();
        let (whole, part) = (exported(&whole), exported(&part));
        assert_eq!(format!("{part:#?}"), format!("{whole:#?}"), "seed {seed}\n{text}");
    }
}

#[test]
fn the_text_form_keeps_them() {
    let (_, part, _) = both(1, |number| ends(1, number));
    let text = to_text(&part);
    let again = Trace::from_bytes(from_text(&text).unwrap()).unwrap();
    assert_eq!(to_text(&again), text);
    assert_eq!(told(&again), told(&part));
}

#[test]
fn each_lasts_until_the_next_one_begins() {
    let (whole, part, _) = both(1, |number| ends(1, number));
    let lengths = |trace: &Trace| -> Vec<_> {
        trace.generations().iter().map(|info| info.duration).collect()
    };
    assert_eq!(lengths(&part), lengths(&whole));
    let one = part.generation(Generation(4)).unwrap();
    assert_eq!(one.info().duration.0, PERIOD * 5);
}

const THREAD: &str = "block slot=1 thread=1\n@1 thread_start thread=1 os_thread=1 name=\"w\"\n\
    site id=1 name=\"Serve\" file=\"a.rs\" line=1\n\
    @2 task_create task=0 incarnation=1 sequence=2 site=1\n";

/// A thread that wakes the task, which its generation does not mention otherwise.
const WAKES: &str = "block slot=2 thread=2\nthread_status thread=2 os_thread=2 name=\"x\"\n\
    @9 task_wake task=0 sequence=2";

#[test]
fn a_row_of_them_without_a_begin_is_told_nothing_wrong() {
    let text = format!("{}{}", incomplete(5, WAKES), incomplete(6, WAKES));
    assert_found(&text, &[]);
    let trace = trace(&text);
    for number in [5, 6] {
        assert!(trace.generation(Generation(number)).unwrap().is_alone());
    }
}

#[test]
fn a_row_that_is_longer_than_any_is_followed_to_its_begin() {
    let row: String = (2..=300).map(|number| incomplete(number, WAKES)).collect();
    let trace = trace(&format!("{}{row}", complete(1, THREAD)));
    for number in [300, 2, 150, 299] {
        let generation = trace.generation(Generation(number)).unwrap();
        assert!(!generation.is_alone());
        assert_eq!(generation.tasks().count(), 1, "{number}");
    }
}

/// What is silent in the first generations, which no complete one precedes, is known as soon as one states
/// it.
#[test]
fn what_the_first_ones_do_not_know_is_known_from_the_next_that_states_it() {
    let listed = "block slot=2 thread=2\nthread_status thread=2 os_thread=2 name=\"x\"\n\
        block slot=0\nsite id=1 name=\"Serve\" file=\"a.rs\" line=1\ntask_list tasks=[0.1 site 1 idle]";
    let quiet =
        "block slot=2 thread=2\nthread_status thread=2 os_thread=2 name=\"x\"\n@9 thread_exit";
    let report = Report::of(&trace(&format!("{}{}", incomplete(5, quiet), complete(6, listed))));
    assert_eq!(report.stuck.table.live, 1, "{:?}", report.stuck);
    assert!(report.stuck.not_assessed.is_empty(), "{:?}", report.stuck.not_assessed);
    let report = Report::of(&trace(&format!("{}{}", incomplete(5, WAKES), incomplete(6, quiet))));
    assert!(!report.stuck.not_assessed.is_empty());
}

/// The next end record reports what was lost in a generation without one: a reader does not count it twice,
/// and it excuses what is missing.
#[test]
fn what_was_lost_in_them_is_counted_once_and_excuses() {
    // The end of the poll was lost, and the losing thread says so in the next generation.
    let lost = "block slot=1 thread=1 first_event=2\nthread_status thread=1 os_thread=1 name=\"w\"\n\
        task_status task=0 incarnation=1 sequence=2 state=1 site=1\n\
        site id=1 name=\"Serve\" file=\"a.rs\" line=1\n@5 task_poll task=0 sequence=3\n\
        block slot=2 thread=2\n@4 thread_start thread=2 os_thread=2 name=\"x\"\n\
        @9 task_poll task=0 sequence=5";
    let end = "block slot=1 thread=1 first_event=4\nlost cause=1 count=1\n\
        thread_status thread=1 os_thread=1 name=\"w\"\n\
        block slot=2 thread=2 first_event=2\nthread_status thread=2 os_thread=2 name=\"x\"\n\
        task_status task=0 incarnation=1 sequence=5 state=2 site=1\n\
        site id=1 name=\"Serve\" file=\"a.rs\" line=1\n@3 task_pending";
    let text = format!(
        "{}{}{}",
        complete(1, THREAD),
        incomplete(2, lost),
        written::lossy(3, end, "[1: 1]")
    );
    assert_found(&text, &[]);
    let lost: u64 = trace(&text).generations().iter().flat_map(|g| &g.lost).map(|l| l.count).sum();
    assert_eq!(lost, 1);
    let said = "block slot=1 thread=1 first_event=3\nlost cause=1 count=7\n\
        thread_status thread=1 os_thread=1 name=\"w\"\n@3 thread_exit";
    let text = format!(
        "{}{}{}",
        complete(1, THREAD),
        incomplete(2, said),
        written::lossy(3, "", "[1: 9]")
    );
    let trace = trace(&text);
    let lost: Vec<u64> =
        trace.generations().iter().map(|info| info.lost.iter().map(|l| l.count).sum()).collect();
    assert_eq!(lost, [0, 7, 2]);
    let report = Report::of(&trace);
    assert_eq!(report.losses.table.lost.values().sum::<u64>(), 9);
}

#[test]
fn people_are_told_that_there_are_no_statuses() {
    let words = |text: &str| {
        let trace = trace(text);
        let words = without_statuses(trace.generations(), Generation(1));
        assert_eq!(Report::of(&trace).coverage.table.without_statuses, words);
        words
    };
    let row = format!("{}{}", incomplete(2, WAKES), incomplete(3, WAKES));
    let (first, last) = (complete(1, THREAD), complete(4, ""));
    assert_eq!(words(&format!("{first}{}", complete(2, ""))), None);
    assert_eq!(words(&format!("{first}{}", incomplete(2, WAKES))), None);
    assert_eq!(
        words(&format!("{first}{row}{last}")).unwrap(),
        "2 generations have no statuses: what was idle in them is known from the generation before"
    );
    assert_eq!(
        words(&format!("{row}{last}")).unwrap(),
        "2 generations have no statuses, and nothing before tells: what was idle in them is not known"
    );
    let later = format!("{}{}", incomplete(5, WAKES), complete(6, ""));
    assert_eq!(
        words(&format!("{row}{last}{later}")).unwrap(),
        "3 generations have no statuses: what was idle in them is known from the generation before, but for the \
         first 2"
    );
    // Before the very first one there was nothing.
    let first = incomplete(1, THREAD);
    assert!(
        words(&format!("{first}{last}")).unwrap().ends_with("known from the generation before")
    );
}
