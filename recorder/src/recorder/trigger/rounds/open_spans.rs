//! Spans that are still open: those that are slow already, and names of which none ends.

#![forbid(unsafe_code)]

use super::latch::Latch;
use super::{About, Look};
use crate::record::span::open::{Candidate, watched};
use crate::recorder::trigger::dispatch::{Active, Slow, duration};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// So many slow spans of a name are noted with one look at most.
const MOST: usize = 1 << 16;

/// See the module.
#[derive(Debug)]
pub(super) struct OpenSpans {
    /// Of each trigger for slow spans.
    slow: Vec<Latch>,
    no_progress: Vec<Quiet>,
}

/// For how long no span of a name has ended.
#[derive(Debug, Default)]
struct Quiet {
    ended: u64,
    time: Duration,
    latch: Latch,
}

/// Open spans of interest: how many, and the one that began first.
#[derive(Clone, Default)]
struct Found {
    count: u64,
    oldest: Option<Candidate>,
    /// Those of slow spans that were not told of yet.
    new: Vec<Candidate>,
}

impl Found {
    fn add(&mut self, span: Candidate) {
        self.count += 1;
        if self.oldest.is_none_or(|oldest| span.began < oldest.began) {
            self.oldest = Some(span);
        }
    }
}

impl OpenSpans {
    /// `None` if no trigger needs it.
    pub(super) fn new(active: &Active) -> Option<Self> {
        let slow: Vec<_> = active.slow_spans().map(|_| Latch::default()).collect();
        let quiet = active.lasting.no_progress.iter().map(|_| Quiet::default());
        let no_progress: Vec<_> = quiet.collect();
        (!slow.is_empty() || !no_progress.is_empty()).then_some(Self { slow, no_progress })
    }

    pub(super) fn look(&mut self, look: &Look<'_>) {
        let active = &look.shared.active;
        let mut slow = vec![Found::default(); self.slow.len()];
        let mut all = vec![Found::default(); self.no_progress.len()];
        for span in watched() {
            let open = look.open_for(&span);
            for (slow, found) in active.slow_spans().zip(&mut slow) {
                if open > slow.limit && span.is_called(&slow.name) {
                    let is_new = slow.mark.is_none_or(|mark| span.told & mark == 0);
                    found.add(span);
                    if is_new && found.new.len() < MOST {
                        found.new.push(span);
                    }
                }
            }
            for ((at, _), found) in active.lasting.no_progress.iter().zip(&mut all) {
                if active.counted.get(*at).is_some_and(|of| span.is_called(&of.name)) {
                    found.add(span);
                }
            }
        }
        for ((of, latch), found) in active.slow_spans().zip(&mut self.slow).zip(slow) {
            look_at_slow(look, of, latch, &found);
        }
        for (at, (quiet, found)) in self.no_progress.iter_mut().zip(all).enumerate() {
            quiet.look(look, at, &found);
        }
    }
}

/// Spans that are open for too long.
fn look_at_slow(look: &Look<'_>, slow: &Slow, latch: &mut Latch, found: &Found) {
    let ended_in_time = slow.in_time.swap(false, Ordering::Relaxed);
    if found.count == 0 || ended_in_time {
        latch.is_over();
    }
    fire_for_slow(look, slow, latch, found);
    slow.hangs.store(latch.has_fired(), Ordering::Relaxed);
}

fn fire_for_slow(look: &Look<'_>, slow: &Slow, latch: &mut Latch, found: &Found) {
    let Some(span) = found.new.iter().copied().min_by_key(|span| span.began) else { return };
    latch.holds(&slow.armed, |armed| {
        // Unless it has just ended: then that has told of it.
        let Some(held) = span.hold() else { return };
        let open = look.open_for(&span);
        About { span: span.name, thread: 0 }.record();
        let reason = || {
            let (called, fields, limit) = (held.called(), held.fields(), slow.limit);
            let others = match found.count - 1 {
                0 => String::new(),
                1 => "; one other is, too".to_owned(),
                others => format!("; {others} others are, too"),
            };
            format!(
                "span {called} is still open after {open:.1?}, more than {limit:?}{fields}{others}"
            )
        };
        armed.go(false, reason, Vec::new());
    });
    // All that are slow by now are of this hang, and tell nothing when they end, however late.
    if latch.has_fired() {
        for span in &found.new {
            if let (Some(held), Some(mark)) = (span.hold(), slow.mark) {
                held.tell(mark);
            }
        }
    }
}

impl Quiet {
    fn look(&mut self, look: &Look<'_>, at: usize, found: &Found) {
        let active = &look.shared.active;
        let Some((counted, limit)) = active.lasting.no_progress.get(at) else { return };
        let Some(counted) = active.counted.get(*counted) else { return };
        let ended = counted.counts().ended;
        let has_progress = std::mem::replace(&mut self.ended, ended) != ended;
        let Some(oldest) = found.oldest.filter(|_| !has_progress) else {
            (self.time, _) = (Duration::ZERO, self.latch.is_over());
            return;
        };
        self.time = self.time.saturating_add(look.step);
        let open = look.open_for(&oldest);
        if self.time.min(open) < *limit {
            return;
        }
        let quiet = self.time;
        self.latch.holds(&counted.armed, |armed| {
            let held = oldest.hold();
            About { span: oldest.name, thread: 0 }.record();
            let reason = || {
                let (name, many) = (&counted.name, found.count);
                let fields = held.as_ref().map(|held| held.fields()).unwrap_or_default();
                let many = if many == 1 { "one is".to_owned() } else { format!("{many} are") };
                format!(
                    "no span {name} has ended for {quiet:.1?}, more than {limit:?}: {many} open, the oldest for \
                     {open:.1?}{fields}"
                )
            };
            armed.go(false, reason, Vec::new());
        });
    }
}

impl Look<'_> {
    /// For how long a span has been open.
    fn open_for(&self, span: &Candidate) -> Duration {
        duration(self.shared, self.now.saturating_sub(span.began))
    }
}
