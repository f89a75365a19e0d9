//! Deadlocks: who waits for a lock that somebody holds who waits for a lock, and so on, back to the first.
//!
//! A thread that holds a lock like the standard library's has to unlock it itself, whichever task it polls. So a thread that
//! waits is one of a circle if it holds what is waited for before; and so is a task that holds it, if that waits. Of locks with several
//! holders at once (a semaphore's permits, an `RwLock` of Tokio) it is not certain who has to let go, so they are in no circle.
//!
//! The recorder's own thread asks for this, from the tables: the threads that wait pay nothing.

#![forbid(unsafe_code)]

use super::tables::{self, Wait};
use super::waiting::HeldBy;
use super::words::Who;
use crate::os::clock;
use crate::record::thread::with_os_number;
use std::collections::{HashMap, HashSet};

/// A shorter wait may be one that is given up.
const LEAST: u64 = 1_000_000_000;

/// One that waits in a circle for the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) wait: Wait,
    pub(crate) held: HeldBy,
}

/// The circles of those that have waited for long, each from the one that has waited longest.
pub(crate) fn cycles() -> Vec<Vec<Link>> {
    let now = clock::monotonic().0;
    let is_long = |wait: &Wait| now.saturating_sub(wait.since) >= LEAST;
    let waits = tables::waits().filter(is_long).filter(|wait| wait.kind.has_certain_holder());
    let linked = |wait: Wait| Some(Link { wait, held: tables::holder(wait.lock)? });
    find(waits.filter_map(linked).collect(), with_os_number)
}

fn find(mut links: Vec<Link>, with_os_number: impl Fn(u64) -> Option<u64>) -> Vec<Vec<Link>> {
    links.sort_unstable_by_key(|link| link.wait.since);
    // Once for each: to find a thread, all threads are looked at.
    let numbers = Numbers { with_os_number, known: HashMap::new() }.of(&links);
    let next = |here: usize| {
        let (_, holder) = numbers[here];
        let holds = |(other, (waiter, _)): (&Link, &(Option<Number>, _))| {
            holds((&links[here].held, holder), (&other.wait, *waiter))
        };
        links.iter().zip(&numbers).position(holds)
    };
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for start in 0..links.len() {
        let (mut path, mut at) = (Vec::new(), Some(start));
        while let Some(here) = at.filter(|here| seen.insert(*here)) {
            path.push(here);
            at = next(here);
        }
        // It ends where this path has been.
        if let Some(begin) = at.and_then(|here| path.iter().position(|known| *known == here)) {
            let mut circle = path.split_off(begin);
            let first = circle.iter().enumerate().min_by_key(|(_, at)| **at);
            let first = first.map_or(0, |(first, _)| first);
            circle.rotate_left(first);
            found.push(circle.into_iter().map(|at| links[at]).collect());
        }
    }
    found
}

/// Whether the holder of a lock is the one that waits so.
fn holds(
    (held, holder): (&HeldBy, Option<Number>),
    (wait, waiter): (&Wait, Option<Number>),
) -> bool {
    let is_task = held.task != 0 && held.task == wait.task;
    match (holder, waiter) {
        (Some(holder), Some(waiter)) => holder == waiter,
        // A task that waits in its poll holds its thread up, and itself.
        _ => is_task,
    }
}

/// A thread's number: the recorder's, or else the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Own(u64),
    Os(u64),
}

/// The numbers of threads, each looked for once.
struct Numbers<F> {
    with_os_number: F,
    known: HashMap<u64, Option<u64>>,
}

impl<F: Fn(u64) -> Option<u64>> Numbers<F> {
    /// Of each link, who waits and who holds.
    fn of(mut self, links: &[Link]) -> Vec<(Option<Number>, Option<Number>)> {
        links.iter().map(|link| (self.thread(link.wait.who), self.thread(link.held.who))).collect()
    }

    fn thread(&mut self, who: Who) -> Option<Number> {
        match who {
            Who::Thread(number) => Some(Number::Own(number)),
            // It may have recorded something since it took the lock: that it waits itself, for one.
            Who::OsThread(os) => {
                let own = *self.known.entry(os).or_insert_with(|| (self.with_os_number)(os));
                Some(own.map_or(Number::Os(os), Number::Own))
            }
            Who::Task => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::waiting::LockKind;
    use std::cell::Cell;
    use std::panic::Location;

    fn link(lock: u64, waiter: (Who, u64), holder: (Who, u64)) -> Link {
        let place = Location::caller();
        let kind = LockKind::Mutex;
        let wait = Wait { lock, kind, who: waiter.0, task: waiter.1, place, since: lock };
        let held = HeldBy {
            who: holder.0,
            place,
            task: holder.1,
            since: 0,
            is_since_at_least: false,
            is_across_await: false,
        };
        Link { wait, held }
    }

    fn found(links: &[Link]) -> Vec<Vec<u64>> {
        let circles = find(links.to_vec(), |_| None);
        circles.iter().map(|of| of.iter().map(|link| link.wait.lock).collect()).collect()
    }

    #[test]
    fn circles_are_found_from_the_longest_wait_on_and_who_waits_behind_one_is_in_none() {
        let thread = |number| (Who::Thread(number), 0);
        let task = |number| (Who::Task, number);
        let round = [link(2, thread(1), thread(2)), link(1, thread(2), thread(1))];
        assert_eq!(found(&round), [[1, 2]]);
        let behind = [link(3, thread(3), thread(1)), round[0], round[1]];
        assert_eq!(found(&behind), [[1, 2]]);
        assert_eq!(found(&[link(1, thread(1), thread(1))]), [[1]]);
        assert_eq!(
            found(&[link(1, thread(1), thread(2)), link(2, thread(3), thread(1))]),
            [[0; 0]; 0]
        );
        assert_eq!(found(&[link(1, task(7), task(8)), link(2, task(8), task(7))]), [[1, 2]]);
        // A task holds one lock, and waits for another on its thread, which is held up.
        let polled = (Who::Thread(4), 7);
        assert_eq!(found(&[link(1, thread(1), task(7)), link(2, polled, thread(1))]), [[1, 2]]);
        // Tasks that are not known are not one task.
        assert_eq!(found(&[link(1, task(0), task(0))]), [[0; 0]; 0]);
    }

    #[test]
    fn a_thread_that_many_wait_for_is_looked_for_once() {
        let looked = Cell::new(0);
        let waits = |number| link(number, (Who::Thread(number), 0), (Who::OsThread(7), 0));
        let looks = |_| {
            looked.set(looked.get() + 1);
            None
        };
        assert!(find((1..=1000).map(waits).collect(), looks).is_empty());
        assert_eq!(looked.get(), 1);
    }
}
