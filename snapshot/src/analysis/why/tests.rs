//! Accounts of windows: whatever comes, the parts add up.

use super::doing::{Doing, Ready, Unknown, Waits, Waker};
use super::window::{Accounted, Segment, Whom, Window};
use crate::analysis::interner::Name;
use crate::analysis::state::Gap;
use crate::wire::{Nanos, TaskId, ThreadNumber};
use proptest::prelude::*;

const TASK: TaskId = TaskId { index: 1, incarnation: 1 };
const THREAD: ThreadNumber = ThreadNumber(3);
const WAITS: Doing = Doing::Waits(Waits { reason: None, waker: Waker::Nobody, stack: None });
const POLLED: Doing = Doing::Polled { thread: THREAD };

fn window(from: u64, until: u64) -> Window {
    Window::new(Whom::Task(TASK), Nanos(from), Nanos(until))
}

fn gap(since: Option<u64>, runnable: Option<u64>, is_polled: bool) -> Gap {
    Gap {
        task: TASK,
        name: Name::default(),
        since: since.map(Nanos),
        runnable: runnable.map(Nanos),
        chain: Box::default(),
        waits_for: None,
        polled: is_polled.then_some((Nanos(0), THREAD)),
        blocker: None,
        blocking: false,
    }
}

fn inside(from: u64, until: u64, doing: Doing) -> Segment {
    Segment { from: Nanos(from), until: Nanos(until), doing, thread: Some(THREAD) }
}

fn told(of: &Accounted) -> Vec<(u64, u64, Doing)> {
    of.longest.iter().map(|one| (one.from.0, one.until.0, one.doing)).collect()
}

#[test]
fn time_is_divided_at_the_wake_and_at_the_poll() {
    let mut window = window(100, 200);
    window.polled(Nanos(90), Nanos(110), THREAD);
    window.gap(&gap(Some(110), Some(150), true), Nanos(160), |_, _| WAITS);
    window.polled(Nanos(160), Nanos(170), THREAD);
    let ready = Doing::Ready(Ready { thread: Some(THREAD), ..Ready::default() });
    let over = Doing::Unknown(Unknown::TaskOver);
    assert_eq!(
        told(&window.finish(None)),
        [
            (100, 110, POLLED),
            (110, 150, WAITS),
            (150, 160, ready),
            (160, 170, POLLED),
            (170, 200, over)
        ]
    );
}

#[test]
fn a_lock_that_is_known_later_is_what_the_task_waited_for() {
    let mut window = window(0, 100);
    window.gap(&gap(Some(0), Some(90), true), Nanos(95), |_, _| WAITS);
    window.waited(Nanos(20), Nanos(96), Doing::Lock(7));
    window.polled(Nanos(95), Nanos(100), THREAD);
    let told = told(&window.finish(None));
    let ready = Doing::Ready(Ready { thread: Some(THREAD), ..Ready::default() });
    let right = [(0, 20, WAITS), (20, 90, Doing::Lock(7)), (90, 95, ready), (95, 100, POLLED)];
    assert_eq!(told, right);
}

#[test]
fn a_lock_of_a_thread_is_a_part_of_the_poll() {
    let mut window = window(0, 100);
    window.inside(inside(15, 60, Doing::Stands { thread: THREAD, stack: 0 }));
    window.inside(inside(10, 60, Doing::Lock(7)));
    window.polled(Nanos(0), Nanos(100), THREAD);
    let right = [(0, 10, POLLED), (10, 60, Doing::Lock(7)), (60, 100, POLLED)];
    assert_eq!(told(&window.finish(None)), right);
}

#[test]
fn a_wait_for_a_lock_goes_on_to_the_end_if_the_task_is_idle_since() {
    for (idle, until) in [(Some(Nanos(10)), 100), (Some(Nanos(60)), 50), (None, 50)] {
        let mut window = window(0, 100);
        window.gap(&gap(Some(0), None, false), Nanos(100), |_, _| WAITS);
        window.goes_on(inside(20, 50, Doing::Lock(7)));
        assert_eq!(told(&window.finish(idle))[1], (20, until, Doing::Lock(7)));
    }
}

proptest! {
    #[test]
    fn parts_add_up_whatever_comes(
        from in 0_u64..50,
        until in 0_u64..120,
        steps in proptest::collection::vec((0_u8..7, 0_u64..120, 0_u64..120, 0_u64..120), 0..60),
    ) {
        let mut window = window(from, until);
        let length = until.max(from) - from;
        for (what, a, b, c) in steps {
            match what {
                0 => window.gap(&gap(Some(a), Some(b), true), Nanos(c), |_, _| WAITS),
                1 => window.gap(&gap(None, None, c % 2 == 0), Nanos(a), |_, _| WAITS),
                2 => window.polled(Nanos(a), Nanos(b), THREAD),
                3 => window.inside(inside(a, b, Doing::Lock(c as usize))),
                4 => window.waited(Nanos(a), Nanos(b), Doing::Lock(c as usize)),
                5 => window.goes_on(inside(a, b, Doing::Lock(c as usize))),
                _ => if c % 2 == 0 { window.enter(THREAD, Nanos(a)) } else { window.exit(THREAD, Nanos(a)) },
            }
        }
        let accounted = window.finish(Some(Nanos(3)));
        let sum: u64 = accounted.sums.values().map(|sum| sum.time.0).sum();
        prop_assert_eq!(sum, length);
    }
}

#[test]
fn waits_for_locks_that_contain_one_another_leave_no_more_open_than_any_others() {
    let mut window = window(0, 2_000_000);
    window.gap(&gap(Some(0), None, false), Nanos(1_000_000), |_, _| WAITS);
    for number in 1..5000 {
        // Each began before the last one.
        window.waited(
            Nanos(1_000_000 - number * 100),
            Nanos(1_000_000),
            Doing::Lock(number as usize),
        );
        assert!(window.open() <= 1024, "{} after {number}", window.open());
    }
    let accounted = window.finish(None);
    let sum: u64 = accounted.sums.values().map(|sum| sum.time.0).sum();
    assert_eq!(sum, 2_000_000);
}
