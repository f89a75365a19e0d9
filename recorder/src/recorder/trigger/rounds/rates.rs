//! Which part of the spans of a name end badly: failed, or slow. A quantile of their lengths is above a limit just if a larger part
//! than the rest is longer than the limit, so no lengths need to be kept.

#![forbid(unsafe_code)]

use super::latch::Latch;
use super::sliding::{Sliding, Sums};
use super::{About, CALM, Look};
use crate::recorder::trigger::counted::{Bad, Counted, Counts};
use crate::recorder::trigger::dispatch::Active;
use std::time::Duration;

/// What a trigger asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Which of those that are counted.
    pub(crate) counted: usize,
    /// A larger part fires.
    pub(crate) share: f64,
    pub(crate) over: Duration,
    pub(crate) at_least: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rates(Vec<Watched>);

#[derive(Debug)]
struct Watched {
    before: Counts,
    window: Sliding,
    latch: Latch,
}

impl Rates {
    /// `None` if no trigger needs it.
    pub(super) fn new(active: &Active) -> Option<Self> {
        let watched = active.lasting.rates.iter().map(|rate| Watched {
            before: Counts::default(),
            window: Sliding::new(rate.over),
            latch: Latch::default(),
        });
        let watched: Vec<_> = watched.collect();
        (!watched.is_empty()).then_some(Self(watched))
    }

    pub(super) fn look(&mut self, look: &Look<'_>) {
        let active = &look.shared.active;
        for (rate, watched) in active.lasting.rates.iter().zip(&mut self.0) {
            if let Some(counted) = active.counted.get(rate.counted) {
                watched.look(look, rate, counted);
            }
        }
    }
}

impl Watched {
    fn look(&mut self, look: &Look<'_>, rate: &Rate, counted: &Counted) {
        let counts = counted.counts();
        let new = counts.since(std::mem::replace(&mut self.before, counts));
        let longest = counted.take_longest();
        let (all, bad) = (new.ended, new.badly);
        let sums = self.window.add(Sums { time: look.since, all, bad, longest });
        let share = sums.bad as f64 / sums.all.max(1) as f64;
        if sums.all >= rate.at_least && share > rate.share {
            self.latch.holds(&counted.armed, |armed| {
                About::default().record();
                armed.go(false, || reason(rate, counted, &sums), Vec::new());
            });
        } else if sums.all < rate.at_least || share <= rate.share * CALM {
            self.latch.is_over();
        }
    }
}

fn reason(rate: &Rate, counted: &Counted, sums: &Sums) -> String {
    let Sums { time, all, bad, longest } = sums;
    let (name, time) = (&counted.name, time.min(&rate.over));
    let percent = |share: f64| (share * 1e7).round() / 1e5;
    match counted.bad {
        Bad::Slower(limit) => {
            let quantile = percent(1.0 - rate.share);
            format!(
                "p{quantile} of spans {name} in the last {time:.1?} is above {limit:?}: {bad} of {all} took longer, the \
                 longest {longest:.1?}"
            )
        }
        Bad::None | Bad::Failed => {
            let (found, limit) = (100.0 * *bad as f64 / (*all).max(1) as f64, percent(rate.share));
            format!(
                "{bad} of {all} spans {name} in the last {time:.1?} failed: {found:.1} %, more than {limit} %"
            )
        }
    }
}
