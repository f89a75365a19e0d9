//! What is said of what is in a snapshot, for services of all ages: with little to go by, it says so.

use super::content::look;
use super::{Findings, Level};
use lookback::read::Trace;
use lookback::read::read::text::from_text;
use std::fmt::Write;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
const HOUR: u64 = 3_600 * SECOND;

/// A service, as far as it is recorded. A tick is a nanosecond.
#[derive(Clone, Copy)]
struct Service {
    age: u64,
    /// The number of its first generation that is left.
    first: u64,
    thread: &'static str,
    worker: bool,
    /// Polls of recorded tasks, of a millisecond each.
    polls: u64,
    /// How long the worker is at work beside these.
    outside: u64,
    log: bool,
    omitted: u64,
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
        if self.log {
            event(&mut time, 1, "log level=3 site=1 message=\"started\"");
        }
        if self.worker {
            event(&mut time, self.outside, "worker_park");
        }
        let omitted = match self.omitted {
            0 => String::new(),
            many => format!("omitted what=2 count={many}\n"),
        };
        let (began, ended) = (7 * SECOND, 7 * SECOND + self.age.max(time + 1));
        let clock = |at: u64| format!("{at}:{at}:{at}:1000000000");
        let text = format!(
            "metadata \"window_ns\" {}\nmetadata \"max_bytes\" {}\n\
             generation {} complete began={} ended={}\n\
             block slot=0 sequence=0 thread=0 base={began} first_event=0\n{omitted}\
             end events={events} bytes=0 blocks=0 lost=[] advances=[] waits=[] snapshots=[]\n\
             block slot=1 sequence=0 thread=1 base=0 first_event=0\n\
             site id=1 name=\"serve\" file=\"src/main.rs\" line=7\n{body}",
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

    /// The checks of which something else is said than that all is well.
    fn wrong(self) -> Vec<(Level, &'static str)> {
        let told = self.ask().into_iter().filter(|(level, ..)| *level != Level::Ok);
        told.map(|(level, check, _)| (level, check)).collect()
    }
}

#[test]
fn a_service_of_which_all_is_recorded_is_well_at_any_age() {
    use Level::Unknown;
    let young = |age, polls| Service { age, polls, outside: 3 * MILLISECOND, ..SERVICE };
    // A runtime that starts is at work, with nothing that could be recorded.
    assert_eq!(young(10 * MILLISECOND, 1).wrong(), [(Unknown, "missing")]);
    assert_eq!(young(SECOND, 5).wrong(), [(Unknown, "missing")]);
    assert_eq!(young(10 * SECOND, 5).wrong(), [(Unknown, "work")]);
    assert_eq!(SERVICE.wrong(), []);
    let told = SERVICE.ask();
    let (_, _, work) = told.iter().find(|(_, check, _)| *check == "work").unwrap();
    assert_eq!(
        work,
        "1.1 s at work, 1,000 polls of recorded tasks; 9 % of that time was outside of these"
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
