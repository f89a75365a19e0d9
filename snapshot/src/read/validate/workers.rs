//! Compares a generation's statements about workers with what the previous one left.

use super::Check;
use crate::read::WorkerId;
use crate::read::decode::carried::{CarriedThread, Carry};
use crate::wire::Generation;
use std::collections::HashMap;

impl Check<'_> {
    /// Checks that each thread is the worker that it was, and belongs to the same pool.
    pub(super) fn workers(&mut self, left: &Carry, said: &Carry, number: Generation) {
        let (before, now) = (left.by_thread(), said.by_thread());
        // A tenure that a later one has ended may still be stated: its thread need not know.
        let mut latest: HashMap<WorkerId, u64> = HashMap::new();
        for (worker, tenure) in self.of.begin.tenures.keys() {
            if let Some(worker) = self.of.begin.workers.get(*worker) {
                let known = latest.entry(worker).or_default();
                *known = (*tenure).max(*known);
            }
        }
        for (worker, tenure, ..) in before.values().chain(now.values()).filter_map(|t| t.worker) {
            let known = latest.entry(worker).or_default();
            *known = tenure.max(*known);
        }
        let held = |thread: &CarriedThread| {
            thread.worker.filter(|(worker, tenure, ..)| {
                latest.get(worker).max(left.tenures.get(worker)) == Some(tenure)
            })
        };
        let words = |worker: Option<(WorkerId, u64, bool, bool)>| match worker {
            None => "no worker".to_owned(),
            Some((worker, tenure, parked, visit)) => {
                let state = if parked { "parked" } else { "running" };
                let visit = if visit { ", on a visit" } else { "" };
                format!("worker {worker}, tenure {tenure}, {state}{visit}")
            }
        };
        for (thread, was) in &before {
            let Some(is) = now.get(thread) else { continue };
            if held(was) != held(is) {
                let (is, was) = (words(held(is)), words(held(was)));
                self.say(format!(
                    "thread {thread} is stated as {is}; generation {number} left it as {was}"
                ));
            }
            if was.pool != is.pool {
                let words = |pool: Option<u64>| {
                    pool.map_or("no runtime".to_owned(), |pool| format!("runtime {pool}"))
                };
                let (is, was) = (words(is.pool), words(was.pool));
                self.say(format!(
                    "thread {thread} is stated as of {is}; generation {number} left it as of {was}"
                ));
            }
        }
    }
}
