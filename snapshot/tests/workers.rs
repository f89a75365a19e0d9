//! The rules of workers, one at a time.
#![cfg(feature = "read")]

mod written;

use lookback_snapshot::WorkerId;
use lookback_snapshot::wire::Generation;
use written::{assert_found, assert_one, complete, events, trace};

fn threads(bodies: &[&str]) -> String {
    let thread = |(index, body): (usize, &&str)| {
        let number = index + 1;
        format!(
            "block slot={number} thread={number}\n\
             @{number} thread_start thread={number} os_thread=4 name=\"t{number}\"\n{body}\n"
        )
    };
    bodies.iter().enumerate().map(thread).collect()
}

#[track_caller]
fn assert_workers(bodies: &[&str], words: &[&str]) {
    assert_one(&threads(bodies), words);
}

const START: &str = "@10 worker_start runtime=0 worker=3 tenure=1\n";

#[test]
fn a_worker_parks_goes_on_and_stops() {
    let body = format!(
        "@9 pool_thread runtime=0\n{START}@20 worker_park\n@30 worker_unpark\n@40 worker_stop\n@41 thread_exit"
    );
    assert_workers(&[&body], &[]);
    let text = complete(1, &threads(&[&body]));
    let expected = [
        "thread_start t1",
        "pool_thread 0",
        "worker_start r0/w3",
        "worker_park r0/w3",
        "worker_unpark r0/w3",
        "worker_stop r0/w3",
        "thread_exit t1",
    ];
    assert_eq!(events(&text), expected);
    let trace = trace(&text);
    let all: Vec<_> = trace.events().map(Result::unwrap).collect();
    let worker = Some(WorkerId { runtime: 0, worker: 3 });
    let workers: Vec<_> = all.iter().map(|event| event.worker()).collect();
    assert_eq!(workers, [None, None, worker, worker, worker, worker, None]);
    assert_eq!(all[3].name(), "r0/w3");
}

#[test]
fn only_a_worker_that_runs_parks() {
    assert_workers(&["@10 worker_park"], &["the thread is no worker"]);
    assert_workers(
        &[&format!("{START}@20 worker_unpark")],
        &["worker r0/w3: it goes on, and was not parked"],
    );
    assert_workers(
        &[&format!("{START}@20 worker_park\n@30 worker_park")],
        &["worker r0/w3: it is parked already"],
    );
    assert_workers(
        &[&format!("{START}@20 worker_stop\n@30 worker_park")],
        &["the thread is no worker"],
    );
    assert_workers(
        &[&format!("{START}@20 worker_start runtime=0 worker=4 tenure=1")],
        &["worker r0/w4: the thread is a worker already"],
    );
}

#[test]
fn a_later_tenure_ends_an_earlier_one() {
    let second = "@20 worker_start runtime=0 worker=3 tenure=2\n@21 worker_park";
    assert_workers(&[START, second], &[]);
    // The previous thread is no longer the worker.
    assert_workers(&[&format!("{START}@30 worker_start runtime=0 worker=3 tenure=3"), second], &[]);
    let trace =
        trace(&complete(1, &threads(&[&format!("{START}@30 pool_thread runtime=0"), second])));
    let last = trace.events().last().unwrap().unwrap();
    assert_eq!((last.kind_name(), last.worker()), ("pool_thread", None));
    assert_workers(
        &[START, "@20 worker_start runtime=0 worker=3 tenure=1"],
        &["worker r0/w3: tenure 1 begins, and tenure 1 did before"],
    );
}

#[test]
fn tenures_come_one_after_the_other_whatever_their_times() {
    let first = "@80 worker_start runtime=0 worker=3 tenure=1\n@90 worker_park\n@91 worker_unpark";
    let second = "@20 worker_start runtime=0 worker=3 tenure=2\n@21 worker_park";
    assert_workers(&[first, second], &[]);
    let text = complete(1, &threads(&[first, second]));
    let workers: Vec<_> =
        events(&text).into_iter().filter(|words| words.contains("worker")).collect();
    let kinds: Vec<_> = workers.iter().map(|words| &words[7..words.len() - 6]).collect();
    assert_eq!(kinds, ["start", "park", "unpark", "start", "park"]);
}

/// Tokio hands a worker on when its task blocks in place. The thread that had it says that it is no worker
/// any more when it next has something to say: seconds later, or at its end.
#[test]
fn a_thread_whose_worker_was_taken_may_say_so_late() {
    let first = format!("{START}@80 worker_stop\n@81 pool_thread runtime=0");
    let second = "@20 worker_start runtime=0 worker=3 tenure=2\n@21 worker_park\n@90 worker_unpark";
    assert_workers(&[&first, second], &[]);
    let trace = trace(&complete(1, &threads(&[&first, second])));
    let all: Vec<_> = trace.events().map(Result::unwrap).collect();
    let seen: Vec<_> = all[2..].iter().map(|event| (event.kind_name(), event.worker())).collect();
    let worker = Some(WorkerId { runtime: 0, worker: 3 });
    let expected = [
        ("worker_start", worker),
        ("worker_start", worker),
        ("worker_park", worker),
        ("worker_stop", worker),
        ("pool_thread", None),
        ("worker_unpark", worker),
    ];
    assert_eq!(seen, expected, "nothing waits for the late word");
    assert!(all.iter().all(|event| event.time() == event.measured()));
    // It is said once.
    assert_workers(
        &[&format!("{START}@80 worker_stop\n@81 worker_stop"), second],
        &["the thread is no worker"],
    );
}

#[test]
fn a_thread_whose_worker_was_taken_is_stated_as_if_it_had_it_until_it_says_so() {
    let second = "@20 worker_start runtime=0 worker=3 tenure=2\n@21 worker_park";
    let first = complete(1, &threads(&[START, second]));
    let later = "block slot=1 thread=1\nthread_status thread=1 os_thread=4 name=\"t1\"\n\
                 worker_status runtime=0 worker=3 tenure=1 state=2\n@80 worker_stop\n@81 thread_exit\n\
                 block slot=2 thread=2\nthread_status thread=2 os_thread=4 name=\"t2\"\n\
                 worker_status runtime=0 worker=3 tenure=2 state=1\n@90 worker_unpark";
    let both = format!("{first}{}", complete(2, later));
    assert_found(&both, &[]);
    let trace = trace(&both);
    let generation = trace.generation(Generation(2)).unwrap();
    let workers: Vec<_> = generation.statuses().map(|state| state.worker()).collect();
    assert_eq!(workers, [None, Some(WorkerId { runtime: 0, worker: 3 })]);
}

#[test]
fn workers_of_a_generation_are_those_that_the_one_before_left() {
    let first =
        complete(1, &threads(&[&format!("@9 pool_thread runtime=0\n{START}@20 worker_park")]));
    let second = |status: &str| {
        complete(
            2,
            &format!("block slot=0\nthread_status thread=1 os_thread=4 name=\"t1\"\n{status}"),
        )
    };
    let stated = "pool_status runtime=0\nworker_status runtime=0 worker=3 tenure=1 state=1";
    let found = |status: &str, words: &[&str]| {
        assert_found(&format!("{first}{}", second(status)), words);
        assert_found(&second(status), &[]);
    };
    found(stated, &[]);
    found(
        &stated.replace("state=1", "state=2"),
        &[
            "stated as worker r0/w3, tenure 1, running; generation 1 left it as worker r0/w3, tenure 1, parked",
        ],
    );
    found(&stated.replace("worker=3", "worker=4"), &["stated as worker r0/w4"]);
    found(
        "",
        &[
            "stated as no worker; generation 1",
            "stated as of no runtime; generation 1 left it as of runtime 0",
        ],
    );
    let trace = trace(&second(stated));
    let generation = trace.generation(Generation(2)).unwrap();
    let state = generation.statuses().next().unwrap();
    assert_eq!(
        (state.worker(), state.is_parked()),
        (Some(WorkerId { runtime: 0, worker: 3 }), true)
    );
    assert_eq!(state.pool(), Some(0));
}
