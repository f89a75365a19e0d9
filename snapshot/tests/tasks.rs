//! The rules of tasks, one at a time, and what a loss excuses.
#![cfg(feature = "read")]

mod written;

use lookback_snapshot::wire::{Generation, TaskId, TaskState};
use lookback_snapshot::{EventKind, Trace};
use written::{assert_found, assert_one, complete, events, incomplete, lossy, trace};

/// A thread in slot 1, and the site of its tasks.
const THREAD: &str = r#"
block slot=1 thread=1
@1 thread_start thread=1 os_thread=4001 name="w"
site id=1 name="Serve" file="src/main.rs" line=7
site id=2 name="Timer" file="src/main.rs" line=8
"#;

fn on_thread(body: &str) -> String {
    format!("{THREAD}{body}")
}

#[track_caller]
fn assert_task(body: &str, words: &[&str]) {
    assert_one(&on_thread(body), words);
}

const CREATE: &str = "@10 task_create task=0 incarnation=1 sequence=2 site=1\n";

#[test]
fn a_task_lives_from_its_creation_to_its_end() {
    let life = format!(
        "{CREATE}@20 task_poll task=0 sequence=3\n@30 task_pending\n\
         @40 task_wake task=0 sequence=4\n@50 task_poll task=0 sequence=5\n\
         @55 task_pending site=2\n@60 task_poll task=0 sequence=7\n@70 task_ready\n\
         @80 task_create task=0 incarnation=2 sequence=10 site=1\n@90 task_drop task=0 sequence=11\n\
         @95 task_create task=0 incarnation=3 sequence=12 site=1\n\
         @96 task_poll task=0 sequence=13\n@97 task_panic"
    );
    assert_task(&life, &[]);
    let text = complete(1, &on_thread(&life));
    let expected = [
        "thread_start w",
        "task_create 0#2",
        "task_poll 0#3",
        "task_pending 0#4",
        "task_wake 0#4",
        "task_poll 0#5",
        "task_pending 0#6",
        "task_poll 0#7",
        "task_ready 0#8",
        "task_create 0.2#10",
        "task_drop 0.2#11",
        "task_create 0.3#12",
        "task_poll 0.3#13",
        "task_panic 0.3#14",
    ];
    assert_eq!(events(&text), expected);
    let trace = trace(&text);
    let all: Vec<_> = trace.events().map(Result::unwrap).collect();
    assert!(all.iter().skip(1).all(|event| event.name() == "Serve"));
    let EventKind::TaskPending { waits_for: Some(site), .. } = all[6].kind() else { panic!() };
    assert_eq!(site.name, "Timer");
}

#[test]
fn polls_nest_and_tell_who_did_what() {
    let body = format!(
        "{CREATE}@11 task_create task=1 incarnation=1 sequence=2 site=2\n\
         @20 task_poll task=0 sequence=3\n@21 task_poll task=1 sequence=3\n\
         @22 task_create task=2 incarnation=1 sequence=2 site=1\n@23 task_wake task=0 sequence=3\n\
         @24 task_pending\n@25 task_wake task=2 sequence=2\n@26 task_ready\n@27 thread_exit"
    );
    assert_task(&body, &[]);
    let trace = trace(&complete(1, &on_thread(&body)));
    let within: Vec<_> =
        trace.events().map(|event| event.unwrap().task().map(|task| task.index)).collect();
    let (zero, one) = (Some(0), Some(1));
    assert_eq!(within, [None, None, None, zero, one, one, one, one, zero, zero, None]);
    let created = trace.events().nth(5).unwrap().unwrap();
    let EventKind::TaskCreate { parent, .. } = created.kind() else { panic!() };
    assert_eq!(parent, Some(TaskId { index: 1, incarnation: 1 }));
}

#[test]
fn a_transition_has_the_number_behind_the_last() {
    assert_task(
        &format!("{CREATE}@20 task_poll task=0 sequence=5\n@30 task_pending"),
        &["slot 1, block 0, byte 57: task 0: transition 5; 3 was to come"],
    );
    assert_task(
        &format!("{CREATE}@20 task_drop task=0 sequence=2"),
        &["transition 2; 3 was to come"],
    );
    let again =
        "@20 task_drop task=0 sequence=3\n@30 task_create task=0 incarnation=2 sequence=6 site=1";
    assert_task(&format!("{CREATE}{again}"), &["transition 6; 4 was to come"]);
    let other =
        "@20 task_drop task=0 sequence=3\n@30 task_create task=0 incarnation=3 sequence=4 site=1";
    assert_task(&format!("{CREATE}{other}"), &["incarnation 3; 2 was to come"]);
}

#[test]
fn only_an_idle_task_is_polled_or_dropped() {
    let polled = format!("{CREATE}@20 task_poll task=0 sequence=3\n");
    assert_task(
        &format!("{polled}@30 task_poll task=0 sequence=4"),
        &["task 0: it is being polled"],
    );
    assert_task(
        &format!("{polled}@30 task_drop task=0 sequence=4"),
        &["task 0: it is being polled"],
    );
    assert_task(
        &format!("{CREATE}@20 task_drop task=0 sequence=3\n@30 task_poll task=0 sequence=4"),
        &["task 0: it is over"],
    );
    assert_task(
        &format!("{CREATE}@12 task_create task=0 incarnation=1 sequence=2 site=1"),
        &["it is there already"],
    );
}

#[test]
fn a_poll_that_ends_has_begun() {
    assert_task("@10 task_pending", &["a poll ends, and none was going on"]);
    assert_task("@10 task_ready\n@11 task_panic", &["a poll ends, and none was going on"]);
}

#[test]
fn a_task_that_nobody_stated_does_not_exist() {
    assert_task(
        "@20 task_poll task=7 sequence=3",
        &["task 7: it has no status and was not created"],
    );
    assert_task("@20 task_drop task=7 sequence=3", &["it has no status and was not created"]);
    assert_task("@20 task_wake task=7 sequence=3", &["it has no status and was not created"]);
    assert_task("@20 task_wake#42 task=7 sequence=3", &[]);
    // A listed task was not mentioned by its owner.
    let listed = "\nblock slot=0\ntask_list tasks=[7.2 site 1 idle]";
    assert_task(&format!("@20 task_wake task=7 sequence=4{listed}"), &[]);
    assert_task(
        &format!("@20 task_poll task=7 sequence=5{listed}"),
        &["task 7.2: it has no status"],
    );
    assert_task(
        &format!(
            "task_status task=7 incarnation=2 sequence=4 state=1 site=1\n@20 task_poll task=7 sequence=5{listed}"
        ),
        &["task 7.2 is listed as not mentioned, and it is mentioned"],
    );
    // Its beginning was lost, and so was the end of the previous one.
    let before = "task_status task=7 incarnation=1 sequence=4 state=1 site=1\n@20 task_poll task=7 sequence=5";
    assert_task(
        &format!("{before}{listed}"),
        &["task 7.2 is listed as not mentioned, and its place is another's"],
    );
    assert_found(&lossy(1, &on_thread(&format!("{before}{listed}")), "[1:2]"), &[]);
}

#[test]
fn a_wake_is_of_a_task_that_lives_and_once_for_a_poll() {
    let over = format!("{CREATE}@20 task_drop task=0 sequence=3\n");
    assert_task(
        &format!("{over}@30 task_wake task=0 sequence=3"),
        &["it is woken when it is over"],
    );
    // What it saw was alive; it is only written later.
    assert_task(&format!("{over}@30 task_wake task=0 sequence=2"), &[]);
    assert_task(
        &format!("{over}@30 task_wake task=0 sequence=9"),
        &["it is woken when it is over"],
    );
    let woken = format!("{CREATE}@20 task_wake task=0 sequence=2\n");
    assert_task(
        &format!("{woken}@30 task_wake task=0 sequence=2"),
        &["it was woken for poll 3 before"],
    );
    // Idle, it was woken for poll 3; running, for poll 5.
    assert_task(
        &format!(
            "{woken}@30 task_poll task=0 sequence=3\n@31 task_wake task=0 sequence=3\n@32 task_pending\n\
             @33 task_wake task=0 sequence=4"
        ),
        &["it was woken for poll 5 before"],
    );
    let stated = "task_status task=3 incarnation=1 sequence=4 state=5 site=1\n@20 task_wake task=3 sequence=4\n@30 task_poll task=3 sequence=5";
    assert_task(stated, &["it was woken for poll 5 before"]);
}

#[test]
fn a_wake_of_the_task_that_had_the_place_before_is_told_of_that_one() {
    let text = complete(
        1,
        &on_thread(&format!(
            "{CREATE}@20 task_drop task=0 sequence=3\n@30 task_create task=0 incarnation=2 sequence=4 site=2\n\
             @40 task_wake task=0 sequence=2"
        )),
    );
    assert_found(&text, &[]);
    assert_eq!(events(&text).last().unwrap(), "task_wake 0#2");
}

#[test]
fn a_state_and_its_number_belong_together() {
    assert_task(
        "task_status task=3 incarnation=1 sequence=5 state=1 site=1\n@20 task_poll task=3 sequence=6",
        &["its state is not that of transition 5: idle is even"],
    );
    assert_one(
        "block slot=1 thread=1\ntask_status task=3 incarnation=1 sequence=5 state=4 site=1",
        &["a task has a state that none has"],
    );
}

#[test]
fn only_the_first_thing_that_cannot_be_is_told_of_each_task() {
    let body = format!(
        "{CREATE}@11 task_create task=1 incarnation=1 sequence=2 site=1\n\
         @20 task_poll task=0 sequence=5\n@21 task_pending\n@30 task_poll task=0 sequence=9\n\
         @31 task_pending\n@40 task_poll task=1 sequence=7\n@41 task_pending"
    );
    assert_task(&body, &["task 0: transition 5", "task 1: transition 7"]);
}

#[test]
fn a_loss_excuses_as_many_transitions_as_were_lost() {
    let body = |lost: u64, next: u64| {
        format!(
            "{CREATE}block slot=1 thread=1 base=15 first_event={}\nlost cause=1 count={lost}\n\
             thread_status thread=1 os_thread=4001 name=\"w\"\n\
             task_status task=0 incarnation=1 sequence={} state=1 site=1\n@20 task_poll task=0 sequence={next}\n\
             @21 task_pending",
            2 + lost,
            next - 1,
        )
    };
    let text =
        |lost: u64, next: u64| lossy(1, &on_thread(&body(lost, next)), &format!("[1:{lost}]"));
    assert_found(&text(2, 5), &[]);
    assert_found(&text(2, 7), &["task 0: transition 7; 3 was to come"]);
    // And nothing that came before it.
    let before = format!("{CREATE}@11 task_poll task=0 sequence=9\n@12 task_pending\n");
    let text = lossy(
        1,
        &on_thread(
            &body(9, 11).replace(CREATE, &before).replace("first_event=11", "first_event=13"),
        ),
        "[1:9]",
    );
    assert_found(&text, &["task 0: transition 9; 3 was to come"]);
    // A loss without a place in the streams may have been anywhere.
    let body = on_thread(&format!("{CREATE}@20 task_poll task=0 sequence=5\n@21 task_pending"));
    assert_found(&lossy(1, &body, "[2:2]"), &[]);
}

#[test]
fn tasks_of_a_generation_are_those_that_the_one_before_left() {
    let first = complete(
        1,
        &on_thread(&format!(
            "{CREATE}@11 task_create task=4 incarnation=1 sequence=2 site=2\n\
             @12 task_wake task=4 sequence=2\n@20 task_poll task=0 sequence=3"
        )),
    );
    let second = |running: &str, list: &str| {
        complete(
            2,
            &format!(
                "block slot=0\nsite id=1 name=\"Serve\" file=\"src/main.rs\" line=7\n\
                 site id=2 name=\"Timer\" file=\"src/main.rs\" line=8\n\
                 thread_status thread=1 os_thread=4001 name=\"w\"\n{running}\ntask_list tasks=[{list}]"
            ),
        )
    };
    let running = "task_status task=0 incarnation=1 sequence=3 state=2 site=1";
    let found = |running: &str, list: &str, words: &[&str]| {
        assert_found(&format!("{first}{}", second(running, list)), words);
        assert_found(&second(running, list), &[]);
    };
    found(running, "4.1 site 2 idle woken", &[]);
    found(running, "4.1 site 2 idle", &[]);
    found(running, "", &["task 4 (Timer) lives on, and has no status"]);
    found(
        running,
        "4.1 site 2 idle, 5.1 site 2 idle",
        &["task 5 (Timer) has a status; generation 1 left none of it"],
    );
    found(running, "4.2 site 2 idle", &["task 4.2 is stated as 4.2; generation 1 left it as 4"]);
    found(running, "4.1 site 1 idle", &["task 4 is stated with the name Serve"]);
    found(
        running,
        "4.1 site 2 running",
        &["task 4 is stated as running; generation 1 left it as idle"],
    );
    found(
        "",
        "0.1 site 1 running, 4.1 site 2 idle",
        &["thread 1 is stated with no polls; generation 1 left it with polls 0"],
    );
    found(
        "task_status task=0 incarnation=1 sequence=5 state=2 site=1",
        "4.1 site 2 idle",
        &["task 0 is stated after transition 5; generation 1 left it after transition 3"],
    );
    let unwoken =
        first.replace("@12 task_wake task=4 sequence=2\n", "").replace("events=5", "events=4");
    assert_found(
        &format!("{unwoken}{}", second(running, "4.1 site 2 idle woken")),
        &["task 4 is stated as woken; up to generation 1 there is no wake for its next poll"],
    );
    let omitted =
        second(running, "").replace("task_list", "omitted_of what=2 site=2 count=1\ntask_list");
    assert_found(&format!("{first}{omitted}"), &[]);
}

fn states(trace: &Trace, generation: u64) -> Vec<(String, TaskState, bool, Option<u64>)> {
    let generation = trace.generation(Generation(generation)).unwrap();
    generation
        .tasks()
        .map(|status| {
            let thread = status.thread.map(|thread| thread.number.0);
            (format!("{} {}", status.site.name, status.task), status.state, status.woken, thread)
        })
        .collect()
}

#[test]
fn a_generation_tells_the_tasks_of_its_begin() {
    let body = on_thread(
        "task_status task=9 incarnation=1 sequence=4 state=5 site=2\n@20 task_poll task=9 sequence=5\n\
         @30 task_create task=1 incarnation=1 sequence=2 site=1\n\
         block slot=0\nthread_status thread=8 os_thread=1 name=\"busy\"\n\
         task_status task=2 incarnation=3 sequence=21 state=2 site=1\n\
         task_list tasks=[0.1 site 1 idle, 3.1 site 1 idle woken]",
    );
    let trace = trace(&complete(1, &body));
    let (idle, running) = (TaskState::Idle, TaskState::Running);
    assert_eq!(
        states(&trace, 1),
        [
            ("Serve 0".to_owned(), idle, false, None),
            ("Serve 2.3".to_owned(), running, false, Some(8)),
            ("Serve 3".to_owned(), idle, true, None),
            ("Timer 9".to_owned(), idle, true, None),
        ]
    );
}

#[test]
fn an_incomplete_generation_has_the_tasks_that_were_left_to_it() {
    let first = complete(
        1,
        &on_thread(&format!(
            "{CREATE}@11 task_create task=4 incarnation=1 sequence=2 site=2\n\
             @12 task_wake task=4 sequence=2\n@20 task_poll task=0 sequence=3"
        )),
    );
    let second = incomplete(
        2,
        "block slot=2 thread=2\n@5 thread_start thread=2 os_thread=2 name=\"x\"\n@9 task_wake task=0 sequence=3",
    );
    let text = format!("{first}{second}");
    assert_found(&text, &[]);
    let (idle, running) = (TaskState::Idle, TaskState::Running);
    let expected =
        [("Serve 0".to_owned(), running, false, Some(1)), ("Timer 4".to_owned(), idle, true, None)];
    assert_eq!(states(&trace(&text), 2), expected);
    let last = trace(&text).events().last().unwrap().unwrap();
    assert_eq!((last.name(), written::words(&last)), ("Serve", "task_wake 0#3".to_owned()));
    // Alone, nothing is known about it, and that is no violation.
    assert_found(&second, &[]);
    let third = incomplete(
        3,
        "block slot=2 thread=2\nthread_status thread=2 os_thread=2 name=\"x\"\n@9 task_wake task=4 sequence=2",
    );
    let mut expected = expected;
    expected[0].2 = true;
    assert_eq!(states(&trace(&format!("{text}{third}")), 3), expected);
}
