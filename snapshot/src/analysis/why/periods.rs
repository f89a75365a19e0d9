//! How much of the time in polls a thread ran, was blocked, and waited for a core, as far as the kernel's counts tell.
//!
//! The kernel counts for each thread how long it ran and how long it waited for a core, and a recorder reads that about once
//! a generation. So in each period between two readings the sums are known, and not when. Of a period, a part was in the
//! polls that are asked about, a part the worker was parked, and the rest may have been anything. What the kernel counted
//! beyond that rest, at least, was in the polls. What is between the bounds stays unknown.

use super::window::Segment;
use crate::analysis::nanos_ext::Length;
use crate::read::ThreadTimes;
use crate::read::decode::fast_map::Map;
use crate::wire::{Nanos, ThreadNumber};
use std::collections::BTreeMap;

/// So many periods of all threads are kept.
const MOST: usize = 1 << 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Periods {
    of: Map<ThreadNumber, Vec<Period>>,
    parked: Map<ThreadNumber, Nanos>,
    count: usize,
    /// By group, thread and period: how long was in polls without a known cause, and how long it was known to be blocked.
    used: BTreeMap<(usize, ThreadNumber, usize), (Nanos, Nanos)>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    from: Nanos,
    until: Nanos,
    ran: Nanos,
    waited: Nanos,
    parked: Nanos,
}

impl Period {
    /// How much of this time is within it.
    fn part(&self, from: Nanos, until: Nanos) -> Nanos {
        until.min(self.until).since(from.max(self.from))
    }
}

/// How the time in polls is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Divided {
    pub(super) running: Nanos,
    pub(super) core: Nanos,
    pub(super) blocked: Nanos,
}

impl Periods {
    /// A generation is read, at whose end the kernel said this.
    pub(super) fn enter(&mut self, times: &[ThreadTimes], ended: Nanos) {
        for of in times {
            let periods = self.of.entry(of.thread).or_default();
            // What was read last ends where this begins, however late the reading was noted.
            let last = periods.last().map_or(Nanos(0), |last| last.until);
            let from = ended.since(of.time).max(last);
            if self.count >= MOST || ended <= from {
                continue;
            }
            self.count += 1;
            if let (Some(parked), Some(before)) = (self.parked.get(&of.thread), periods.last_mut())
            {
                before.parked.grow(before.part(*parked, before.until));
            }
            let (ran, waited, parked) = (of.ran, of.waited, Nanos(0));
            periods.push(Period { from, until: ended, ran, waited, parked });
        }
    }

    pub(super) fn parks(&mut self, thread: ThreadNumber, at: Nanos) {
        self.parked.insert(thread, at);
    }

    pub(super) fn unparks(&mut self, thread: ThreadNumber, at: Nanos) {
        if let Some(since) = self.parked.remove(&thread)
            && let Some(period) = self.of.get_mut(&thread).and_then(|of| of.last_mut())
        {
            period.parked.grow(period.part(since, at));
        }
    }

    /// A group of windows has spent this time in polls.
    pub(super) fn note(&mut self, group: usize, segments: impl IntoIterator<Item = Segment>) {
        for segment in segments {
            let Some(thread) = segment.thread else { continue };
            let Some(periods) = self.of.get(&thread) else { continue };
            let first = periods.partition_point(|period| period.until <= segment.from);
            let is_polled = segment.doing.is_polled();
            for (at, period) in periods.iter().enumerate().skip(first) {
                if period.from >= segment.until {
                    break;
                }
                let part = period.part(segment.from, segment.until);
                let used = self.used.entry((group, thread, at)).or_default();
                if is_polled { used.0.grow(part) } else { used.1.grow(part) }
            }
        }
    }

    /// How the group's time in polls of this thread, without a known cause, is divided.
    pub(super) fn divided(&self, group: usize, thread: ThreadNumber) -> Divided {
        let mut sum = Divided::default();
        let Some(periods) = self.of.get(&thread) else { return sum };
        let used = self.used.range((group, thread, 0)..=(group, thread, usize::MAX));
        for ((.., at), (polled, blocked)) in used {
            if let Some(period) = periods.get(*at) {
                let of = period.divide(*polled, *blocked);
                sum.running.grow(of.running);
                sum.core.grow(of.core);
                sum.blocked.grow(of.blocked);
            }
        }
        sum
    }
}

impl Period {
    /// At least so much of the time in polls was that.
    fn divide(&self, polled: Nanos, blocked: Nanos) -> Divided {
        let length = self.until.since(self.from);
        let elsewhere = length.since(polled).since(blocked).since(self.parked);
        let running = self.ran.since(elsewhere).min(polled);
        let core = self.waited.since(elsewhere).min(polled.since(running));
        let most = self.ran.plus(self.waited).min(polled);
        let blocked = polled.since(most.max(running.plus(core)));
        Divided { running, core, blocked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn period(length: u64, ran: u64, waited: u64, parked: u64) -> Period {
        let (ran, waited, parked) = (Nanos(ran), Nanos(waited), Nanos(parked));
        Period { from: Nanos(0), until: Nanos(length), ran, waited, parked }
    }

    #[test]
    fn what_the_kernel_counted_beyond_all_other_time_was_in_the_polls() {
        let of = |running, core, blocked| Divided {
            running: Nanos(running),
            core: Nanos(core),
            blocked: Nanos(blocked),
        };
        // The worker was parked whenever it did not poll, and the poll ran.
        assert_eq!(period(1000, 400, 0, 600).divide(Nanos(400), Nanos(0)), of(400, 0, 0));
        // The poll slept.
        assert_eq!(period(1000, 0, 0, 600).divide(Nanos(400), Nanos(0)), of(0, 0, 400));
        // It may have been other polls that ran.
        assert_eq!(period(1000, 400, 0, 0).divide(Nanos(400), Nanos(0)), of(0, 0, 0));
        // It wanted a core for half of the time.
        assert_eq!(period(1000, 200, 200, 600).divide(Nanos(400), Nanos(0)), of(200, 200, 0));
        // Half of it was a lock.
        assert_eq!(period(1000, 200, 0, 600).divide(Nanos(200), Nanos(200)), of(200, 0, 0));
    }

    proptest! {
        #[test]
        fn no_bound_is_beyond_what_was(
            ran_in in 0_u64..1000,
            core_in in 0_u64..1000,
            blocked_in in 0_u64..1000,
            lock in 0_u64..1000,
            parked in 0_u64..1000,
            ran_out in 0_u64..1000,
            core_out in 0_u64..1000,
            blocked_out in 0_u64..1000,
        ) {
            let polled = ran_in + core_in + blocked_in;
            let length = polled + lock + parked + ran_out + core_out + blocked_out;
            let of = period(length, ran_in + ran_out, core_in + core_out, parked);
            let divided = of.divide(Nanos(polled), Nanos(lock));
            prop_assert!(divided.running.0 <= ran_in, "{divided:?}");
            prop_assert!(divided.core.0 <= core_in, "{divided:?}");
            prop_assert!(divided.blocked.0 <= blocked_in, "{divided:?}");
        }
    }
}
