//! Tests what the doctor says about services of all ages: with little evidence, it says so.

use super::instrumentation::look;
use super::{Findings, Level};
use lookback::read::Trace;
use lookback::read::text::from_text;
use std::fmt::Write;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const HOUR: u64 = 3_600 * SECOND;

/// A recorded service. A tick is a nanosecond.
#[derive(Clone, Copy)]
struct Service {
    age: u64,
    /// The number of its oldest generation.
    first: u64,
    thread: &'static str,
    worker: bool,
    /// Polls of recorded tasks, of a millisecond each.
    polls: u64,
    /// How long the worker works outside these.
    outside: u64,
    log: bool,
    omitted: u64,
    /// How many requests the HTTP layer recorded, and whether with a route.
    requests: (u64, bool),
    /// Whether the last poll has not ended.
    stands: bool,
    /// The filter of `tracing`.
    filter: Option<&'static str>,
    /// Files, and how many tasks were spawned in line 7 of each without a wrapper.
    unwrapped: &'static [(&'static str, u64)],
}

const SERVICE: Service = Service {
    age: HOUR,
    first: 1,
    thread: "tokio-rt-worker",
    worker: true,
    polls: 1000,
    outside: 100 * MILLISECOND,
    log: true,
    omitted: 0,
    requests: (0, false),
    stands: false,
    filter: None,
    unwrapped: &[],
};

impl Service {
    fn trace(self) -> Trace {
        let (mut body, mut events, mut time) = (String::new(), 0, 0);
        let mut event = |time: &mut u64, after: u64, what: &str| {
            *time += after;
            writeln!(body, "@{} {what}", *time).unwrap();
            events += 1;
        };
        event(
            &mut time,
            1,
            &format!("thread_start thread=1 os_thread=4001 name=\"{}\"", self.thread),
        );
        if self.worker {
            event(&mut time, 1, "worker_start runtime=0 worker=0 tenure=1");
        }
        if self.polls > 0 {
            event(&mut time, 1, "task_create task=1 incarnation=1 sequence=2 site=1");
        }
        for poll in 0..self.polls {
            event(&mut time, 1, &format!("task_poll task=1 sequence={}", 3 + 2 * poll));
            event(&mut time, MILLISECOND, "task_pending");
        }
        let (mut sites, mut task) = (String::new(), 1);
        for ((file, many), site) in self.unwrapped.iter().zip(2..) {
            writeln!(sites, "site id={site} name=\"(task)\" file=\"{file}\" line=7").unwrap();
            for _ in 0..*many {
                task += 1;
                let create =
                    format!("task_create task={task} incarnation=1 sequence=2 site={site}");
                event(&mut time, 1, &create);
            }
        }
        for request in 0..self.requests.0 {
            let route = if self.requests.1 { "1: \"/items/{id}\"" } else { "3: \"/items/7\"" };
            let span = request + 1;
            event(
                &mut time,
                1,
                &format!(
                    "span_create span={span} incarnation=1 parent=0 parent_incarnation=0 site=99 fields={{{route}}}"
                ),
            );
            event(&mut time, 1, &format!("span_close span={span} incarnation=1"));
        }
        if self.log {
            event(&mut time, 1, "log level=3 site=1 message=\"started\"");
        }
        if self.stands {
            event(&mut time, 1, &format!("task_poll task=1 sequence={}", 3 + 2 * self.polls));
        } else if self.worker {
            event(&mut time, self.outside, "worker_park");
        }
        if self.requests.0 > 0 {
            sites.push_str(
                "callsite id=99 name=\"request\" file=\"/r/lookback-0.1.0/src/axum/request.rs\" line=33 \
                 target=\"lookback::axum\" level=3 fields=[\"method\", \"route\", \"traceparent\", \"path\"]\n",
            );
        }
        let omitted = match self.omitted {
            0 => String::new(),
            many => format!("omitted what=2 count={many}\n"),
        };
        let filter = self
            .filter
            .map_or(String::new(), |filter| format!("metadata \"filter\" \"{filter}\"\n"));
        let (began, ended) = (7 * SECOND, 7 * SECOND + self.age.max(time + 1));
        let clock = |at: u64| format!("{at}:{at}:{at}:1000000000");
        let text = format!(
            "{filter}metadata \"window_ns\" {}\nmetadata \"max_bytes\" {}\n\
             generation {} complete began={} ended={}\n\
             block slot=0 sequence=0 thread=0 base={began} first_event=0\n{omitted}\
             end events={events} bytes=0 blocks=0 lost=[] advances=[] waits=[] snapshots=[]\n\
             block slot=1 sequence=0 thread=1 base=0 first_event=0\n\
             site id=1 name=\"serve\" file=\"src/main.rs\" line=7\n{sites}{body}",
            30 * SECOND,
            32 << 20,
            self.first,
            clock(began),
            clock(ended),
        );
        let bytes = from_text(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        Trace::from_bytes(bytes).unwrap()
    }

    fn ask(self) -> Vec<(Level, &'static str, String)> {
        let mut findings = Findings::default();
        look(&self.trace(), &mut findings);
        let told = findings.0.into_iter().map(|f| (f.level, f.check, f.what));
        told.collect()
    }

    /// The checks with a finding other than ok.
    fn wrong(self) -> Vec<(Level, &'static str)> {
        let told = self.ask().into_iter().filter(|(level, ..)| *level != Level::Ok);
        told.map(|(level, check, _)| (level, check)).collect()
    }
}

#[test]
fn a_service_of_which_all_is_recorded_is_well_at_any_age() {
    use Level::Unknown;
    let young = |age, polls| Service { age, polls, outside: 3 * MILLISECOND, ..SERVICE };
    // A starting runtime works, with nothing to record.
    assert_eq!(young(10 * MILLISECOND, 1).wrong(), [(Unknown, "missing")]);
    assert_eq!(young(SECOND, 5).wrong(), [(Unknown, "missing")]);
    assert_eq!(young(10 * SECOND, 5).wrong(), [(Unknown, "work")]);
    assert_eq!(SERVICE.wrong(), []);
    let told = SERVICE.ask();
    let (_, _, work) = told.iter().find(|(_, check, _)| *check == "work").unwrap();
    assert_eq!(
        work,
        "1.1 s at work, 1,000 polls of recorded tasks; 9 % of that time was outside these"
    );
}

#[test]
fn what_is_not_recorded_is_a_warning_once_there_is_enough_to_say_so() {
    use Level::{Unknown, Warning};
    let busy = |age| Service { age, polls: 200, outside: 20 * SECOND, ..SERVICE };
    assert_eq!(busy(HOUR).wrong(), [(Warning, "work")]);
    // The same share of little.
    let idle = Service { polls: 3, outside: 20 * MILLISECOND, ..SERVICE };
    assert_eq!(idle.wrong(), [(Unknown, "work")]);
    let bare = |age| Service { age, polls: 0, worker: false, log: true, ..SERVICE };
    assert_eq!(bare(10 * MILLISECOND).wrong(), [(Unknown, "missing")]);
    assert_eq!(bare(SECOND).wrong(), [(Unknown, "missing")]);
    assert_eq!(bare(HOUR).wrong(), [(Warning, "tasks"), (Warning, "workers")]);
}

#[test]
fn places_that_spawn_without_a_wrapper_are_named_and_libraries_are_not_blamed() {
    let service = Service {
        unwrapped: &[
            ("src/main.rs", 2),
            ("src/mail.rs", 4),
            ("/root/.cargo/registry/src/index.crates.io-1/hyper-1.0.0/src/rt.rs", 1),
        ],
        ..SERVICE
    };
    assert_eq!(service.wrong(), [(Level::Warning, "spawns")]);
    let told = service.ask();
    let said: Vec<_> = told.iter().filter(|(_, check, _)| *check == "spawns").collect();
    assert_eq!(
        said[0].2,
        "6 tasks were spawned without a wrapper: src/mail.rs:7 (4), src/main.rs:7 (2); their types, wakes and \
         cancellations are not recorded"
    );
    assert_eq!(
        (said[1].0, &*said[1].2),
        (
            Level::Ok,
            "by libraries, 1 task was spawned without a wrapper: \
             /root/.cargo/registry/src/index.crates.io-1/hyper-1.0.0/src/rt.rs:7 (1)"
        )
    );
    // Even of a service so young that nothing can be said to be missing.
    let young =
        Service { age: 0, polls: 1, outside: 1, unwrapped: &[("src/main.rs", 1)], ..SERVICE };
    assert_eq!(young.wrong(), [(Level::Warning, "spawns"), (Level::Unknown, "missing")]);
    const MANY: &[(&str, u64)] = &[
        ("1.rs", 1),
        ("2.rs", 1),
        ("3.rs", 1),
        ("4.rs", 1),
        ("5.rs", 1),
        ("6.rs", 1),
        ("7.rs", 1),
        ("8.rs", 1),
        ("9.rs", 1),
        ("10.rs", 1),
        ("11.rs", 1),
        ("12.rs", 1),
    ];
    let many = Service { unwrapped: MANY, ..SERVICE }.ask();
    let said = many.iter().find(|(_, check, _)| *check == "spawns").unwrap();
    assert!(said.2.contains(" 7.rs:7 (1), 2 further places; their types"), "{}", said.2);
}

#[test]
fn a_worker_that_stands_in_a_poll_is_named() {
    let told = Service { stands: true, ..SERVICE }.ask();
    let (level, _, what) = told.iter().find(|(_, check, _)| *check == "workers").unwrap();
    assert_eq!(*level, Level::Warning);
    assert!(what.starts_with("worker r0/w0 has been in one poll of task `serve`"), "{what}");
    assert!(what.ends_with(" for 3599 s"), "{what}");
}

#[test]
fn requests_without_any_route_are_told() {
    let requests = |many, routed| Service { requests: (many, routed), ..SERVICE }.wrong();
    assert_eq!(requests(20, false), [(Level::Unknown, "routes")]);
    assert_eq!((requests(20, true), requests(2, false)), (vec![], vec![]));
}

#[test]
fn a_filter_without_spans_hints_at_another_subscriber() {
    let silent = |filter| Service { log: false, filter, ..SERVICE };
    for (filter, hint) in [(Some("info"), true), (None, false)] {
        let told = silent(filter).ask();
        let (_, _, what) = told.iter().find(|(_, check, _)| *check == "spans").unwrap();
        assert_eq!(what.contains("though a filter is set for them"), hint, "{what}");
    }
}

#[test]
fn nothing_is_a_problem_only_after_a_while() {
    use Level::{Problem, Unknown};
    let silent = |age| Service { age, polls: 0, worker: false, log: false, ..SERVICE };
    assert_eq!(silent(10 * MILLISECOND).wrong(), [(Unknown, "content")]);
    assert_eq!(silent(SECOND).wrong(), [(Problem, "content")]);
    assert_eq!(silent(HOUR).wrong(), [(Problem, "content")]);
}

#[test]
fn without_evidence_of_tokio_nobody_is_told_what_tokio_needs() {
    for thread in ["actix-rt|system:0", "smol-1", "main", "rayon-3"] {
        let tasks = Service { thread, worker: false, ..SERVICE };
        assert_eq!(tasks.wrong(), [(Level::Unknown, "workers")], "{thread}");
        let none = Service { polls: 0, ..tasks };
        assert_eq!(none.wrong(), [], "{thread}");
        let said = tasks.ask().into_iter().chain(none.ask());
        said.for_each(|(_, _, what)| assert!(!what.contains("Tokio"), "{what}"));
    }
}

#[test]
fn where_statuses_were_left_out_no_span_is_not_the_same_as_none() {
    let bare = Service { log: false, ..SERVICE };
    assert_eq!(bare.wrong(), [(Level::Warning, "spans")]);
    let left_out = Service { omitted: 51, ..bare };
    assert_eq!(left_out.wrong(), [(Level::Unknown, "spans"), (Level::Warning, "left out")]);
    let what = left_out.ask().into_iter().find(|(_, check, _)| *check == "left out").unwrap().2;
    assert!(what.starts_with("51 statuses left out for want of room"), "{what}");
}

#[test]
fn the_window_is_told_as_it_is_at_any_age() {
    let window = |age, first| {
        let told = Service { age, first, ..SERVICE }.ask();
        let (level, _, what) = told.into_iter().find(|(_, check, _)| *check == "window").unwrap();
        (level, what)
    };
    let (level, what) = window(2 * SECOND, 1);
    assert_eq!((level, &*what), (Level::Ok, "2 s of 30 s are covered: all since it was started"));
    // After an hour, two seconds are little.
    let (level, what) = window(2 * SECOND, 1800);
    assert_eq!(level, Level::Warning);
    let why = "2 s of 30 s are covered; an arena of 32 MiB is too small for ";
    assert!(what.starts_with(why) && what.ends_with(" events a second"), "{what}");
    assert_eq!(window(30 * SECOND, 1800), (Level::Ok, "30 s of 30 s are covered".to_owned()));
    let more = window(87 * SECOND, 1800);
    assert_eq!(more, (Level::Ok, "87 s are covered, more than the window of 30 s".to_owned()));
}
