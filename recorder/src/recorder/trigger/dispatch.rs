//! A recorder's triggers, armed, and what happens when their conditions are met.

#![forbid(unsafe_code)]

use super::{Armed, Condition, Trigger, panic_hook};
use crate::record::control::Control;
use crate::record::hooks::{self, Hooks};
use crate::recorder::{self, Shared};
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

    /// The names of spans and regions with a limit.
    pub(crate) fn names(&self) -> impl Iterator<Item = (bool, &str)> {
        self.slow.iter().map(|slow| (slow.is_span, slow.name.as_str()))
    }

    /// From now on messages of the triggering levels, and the ends of slow spans and regions, call these
    /// triggers; and errors have stacks, if that is so.
    pub(crate) fn watch(&self, control: &Control, errors_have_stacks: bool) {
        hooks::set(&Hooks { logged: on_log, ended: on_end, missed_panic: panic_hook::on_missed });
        let least = self.logs.iter().map(|log| log.level as u32).min();
        let word = least.map_or(0, |least| Level::Error as u32 + 1 - least);
        let word = word.max(u32::from(errors_have_stacks));
        control.log_trigger.store(word, Ordering::Relaxed);
    }
}

#[cold]
#[inline(never)]
fn on_log(target: &str, level: Level, text: &mut dyn FnMut() -> String) {
    let shared = recorder::peek();
    let Some(shared) = &*shared else { return };
    let mut text = Some(text);
    for log in &shared.active.logs {
        if level >= log.level
            && log.target.as_deref().is_none_or(|prefix| target.starts_with(prefix))
            && log.armed.admit()
        {
            // One snapshot is enough, even if further triggers match this message.
            let Some(text) = text.take() else { continue };
            let reason = || format!("{level} of {target}: {}", text());
            log.armed.go(false, reason, Vec::new());
        }
    }
}

/// A region or span whose name may have a limit has ended after this many ticks; `fields` formats those of
/// the span. The first of its names is the one it goes by; the second is that of its site.
#[cold]
#[inline(never)]
fn on_end(names: [&str; 2], is_span: bool, ticks: u64, fields: &mut dyn FnMut() -> String) {
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
    // To nine digits, which is as precisely as the frequency is known.
    let seconds = ticks as f64 / shared.frequency().max(1) as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
