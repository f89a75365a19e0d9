//! The triggers of a recorder, armed, and what happens when their conditions are met.

#![forbid(unsafe_code)]

use super::{Armed, Condition, Trigger, described};
use crate::control::Control;
use crate::recorder::{self, Shared};
use crate::site::Site;
use lookback_snapshot::wire::Level;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) panic: Option<Armed>,
    /// For [`snapshot_on_err`](crate::SnapshotOnErr::snapshot_on_err).
    pub(crate) error: Armed,
    logs: Vec<Log>,
    slow: Vec<Slow>,
    pub(crate) stalls: Vec<(Duration, Armed)>,
    pub(crate) signals: Vec<(i32, Armed)>,
}

#[derive(Debug)]
struct Log {
    level: Level,
    target: Option<String>,
    armed: Armed,
}

#[derive(Debug)]
struct Slow {
    is_span: bool,
    name: String,
    limit: Duration,
    armed: Armed,
}

impl Active {
    pub(crate) fn new(triggers: &[Trigger]) -> Self {
        let error = Trigger::error().arm();
        let (logs, slow, stalls, signals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut active = Self { panic: None, error, logs, slow, stalls, signals };
        for trigger in triggers {
            let armed = trigger.clone().arm();
            match trigger.condition.clone() {
                Condition::Panic => active.panic = Some(armed),
                Condition::Error => active.error = armed,
                Condition::Log { level, target } => {
                    active.logs.push(Log { level, target, armed });
                }
                Condition::SlowSpan { name, limit } => {
                    active.slow.push(Slow { is_span: true, name, limit, armed });
                }
                Condition::SlowRegion { name, limit } => {
                    active.slow.push(Slow { is_span: false, name, limit, armed });
                }
                Condition::StalledPoll { limit } => active.stalls.push((limit, armed)),
                Condition::Signal { number } => active.signals.push((number, armed)),
                Condition::Named { .. } => {}
            }
        }
        active
    }

    /// The names of spans and regions that have a limit.
    pub(crate) fn names(&self) -> impl Iterator<Item = (bool, &str)> {
        self.slow.iter().map(|slow| (slow.is_span, slow.name.as_str()))
    }

    /// From now on messages of the levels that trigger are noticed.
    pub(crate) fn watch_logs(&self, control: &Control) {
        let least = self.logs.iter().map(|log| log.level as u32).min();
        let word = least.map_or(0, |least| Level::Error as u32 + 1 - least);
        control.log_trigger.store(word, Ordering::Relaxed);
    }
}

/// A message was recorded at this site; `text` tells it.
#[inline(always)]
pub(crate) fn logged(control: &Control, site: &Site, level: Level, text: impl FnOnce() -> String) {
    // While no message triggers, the word is 0.
    if level as u32 + control.log_trigger.load(Ordering::Relaxed) > Level::Error as u32 {
        on_log(site.target(), level, text);
    }
}

/// A message of this target was recorded.
pub(crate) fn logged_of(target: &str, control: &Control, level: Level, text: impl FnOnce() -> String) {
    if level as u32 + control.log_trigger.load(Ordering::Relaxed) > Level::Error as u32 {
        on_log(target, level, text);
    }
}

#[cold]
#[inline(never)]
fn on_log(target: &str, level: Level, text: impl FnOnce() -> String) {
    let shared = recorder::peek();
    let Some(shared) = &*shared else { return };
    let mut text = Some(text);
    for log in &shared.active.logs {
        if level >= log.level
            && log.target.as_deref().is_none_or(|prefix| target.starts_with(prefix))
            && log.armed.admit()
        {
            // One snapshot is enough, whatever else would take one of this message.
            let Some(text) = text.take() else { continue };
            let reason = || format!("{level} of {target}: {}", text());
            log.armed.go(false, reason, Vec::new());
        }
    }
}

/// A region, or a span, whose name may have a limit has ended after so many ticks; `fields` tells those of
/// the span. The first of its names is the one that it is called by; the other one is that of its site.
#[cold]
#[inline(never)]
pub(crate) fn ended(names: [&str; 2], is_span: bool, ticks: u64, fields: impl FnOnce() -> String) {
    let shared = recorder::peek();
    let Some(shared) = &*shared else { return };
    let took = duration(shared, ticks);
    let mut fields = Some(fields);
    let what = if is_span { "span" } else { "region" };
    for slow in &shared.active.slow {
        if slow.is_span == is_span
            && names.contains(&&*slow.name)
            && took > slow.limit
            && slow.armed.admit()
        {
            let fields = fields.take();
            let reason = || {
                let fields = fields.map(|fields| fields()).unwrap_or_default();
                let (name, limit) = (names[0], slow.limit);
                format!("{what} {name} took {took:.1?}, more than {limit:?}{fields}")
            };
            slow.armed.go(false, reason, Vec::new());
        }
    }
}

fn duration(shared: &Shared, ticks: u64) -> Duration {
    // To nine digits, which is as good as the frequency is known.
    let seconds = ticks as f64 / shared.frequency().max(1) as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// The fields of a span or of a message in words, with a blank before each.
pub(crate) fn fields_in_words(site: &Site, bytes: &[u8]) -> String {
    described::fields(|index| site.field(index), bytes)
}
