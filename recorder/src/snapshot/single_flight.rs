//! Shares work between concurrent calls.
//!
//! A call that arrives while the work is under way must not get that result, because the result may
//! be older than the call. So all such calls wait together, and the next round serves them all: one
//! thread works at a time, and a call waits for at most one round before its own.

#![forbid(unsafe_code)]

use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shares<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    /// The next round's number.
    next: u64,
    busy: bool,
    /// Results that calls still wait for: the number of waiters, and the result once the round is
    /// over, in which `None` means that the round failed.
    waiting: HashMap<u64, (usize, Option<Option<T>>)>,
}

impl<T: Clone> Shares<T> {
    pub(crate) fn new() -> Self {
        let state = State { next: 0, busy: false, waiting: HashMap::new() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The result of a round of `work` that began after this call did. If a round fails, its error
    /// goes to the call that did the work, and the waiting calls do the work themselves.
    pub(crate) fn get<E>(&self, work: impl Fn() -> Result<T, E>) -> Result<T, E> {
        let mut state = self.state.lock();
        loop {
            let round = state.next;
            if !state.busy {
                state.busy = true;
                state.next += 1;
                drop(state);
                return self.lead(round, &work);
            }
            state.waiting.entry(round).or_insert((0, None)).0 += 1;
            loop {
                self.changed.wait(&mut state);
                let begun = state.busy || state.next != round;
                let (waiters, result) = state.waiting.get_mut(&round).expect("we wait for it");
                let done = result.clone();
                // Either a round served this call, or none has begun and this call leads it.
                if done.is_none() && begun {
                    continue;
                }
                *waiters -= 1;
                if *waiters == 0 && done.is_some() {
                    state.waiting.remove(&round);
                }
                match done {
                    Some(Some(result)) => return Ok(result),
                    Some(None) | None => break,
                }
            }
        }
    }

    fn lead<E>(&self, round: u64, work: &impl Fn() -> Result<T, E>) -> Result<T, E> {
        let finish = Finish { shares: self, round, result: None };
        let mut finish = finish;
        let result = work();
        finish.result = result.as_ref().ok().cloned();
        drop(finish);
        result
    }
}

/// Notifies the waiting calls, even if the work panics.
struct Finish<'a, T: Clone> {
    shares: &'a Shares<T>,
    round: u64,
    result: Option<T>,
}

impl<T: Clone> Drop for Finish<'_, T> {
    fn drop(&mut self) {
        let mut state = self.shares.state.lock();
        state.busy = false;
        if let Some((waiters, result)) = state.waiting.get_mut(&self.round) {
            if *waiters == 0 {
                state.waiting.remove(&self.round);
            } else {
                *result = Some(self.result.take());
            }
        }
        drop(state);
        self.shares.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[test]
    fn calls_that_overlap_share_a_round_that_began_after_them() {
        let shares = Shares::new();
        let (rounds, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let before = rounds.load(Ordering::SeqCst);
                        let result = shares.get(|| {
                            let round = rounds.fetch_add(1, Ordering::SeqCst) + 1;
                            std::thread::sleep(Duration::from_micros(200));
                            Ok::<_, ()>(round)
                        });
                        assert!(result.unwrap() > before, "a round that had begun before the call");
                        calls.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(calls.load(Ordering::SeqCst), 320);
        assert!(rounds.load(Ordering::SeqCst) < 320, "nothing was shared");
        assert!(shares.state.lock().waiting.is_empty());
    }

    #[test]
    fn a_failure_is_its_own_and_others_try_themselves() {
        let shares: Shares<u32> = Shares::new();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let shares = &shares;
                scope.spawn(move || {
                    let result = shares.get(|| {
                        std::thread::sleep(Duration::from_micros(100));
                        if number % 2 == 0 { Err(number) } else { Ok(number) }
                    });
                    if let Err(error) = result {
                        assert_eq!(error, number);
                    }
                });
            }
        });
        assert!(shares.state.lock().waiting.is_empty());
    }
}
