//! A recorder's triggers, armed, and what happens when their conditions are met.

#![forbid(unsafe_code)]

use super::counted::{Bad, Counted};
use super::rounds::Lasting;
use super::rounds::rates::Rate;
use super::rounds::strain::{Memory, Pressed};
use super::{Armed, Condition, Trigger, panic_hook};
use crate::record::control::Control;
use crate::record::hooks::{self, Ended, Hooks};
use crate::record::span::open;
use crate::recorder::{self, Shared};
use lookback_snapshot::wire::Level;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) panic: Option<Armed>,
    /// For [`snapshot_on_err`](crate::SnapshotOnErr::snapshot_on_err).
    pub(crate) error: Armed,
    logs: Vec<Log>,
    slow: Vec<Slow>,
    /// What is counted of spans that end.
    pub(super) counted: Vec<Counted>,
    pub(super) lasting: Lasting,
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
pub(super) struct Slow {
    /// `None`: a region. Else the mark of open spans that it was told of.
    pub(super) mark: Option<u8>,
    pub(super) name: String,
    pub(super) limit: Duration,
    pub(super) armed: Armed,
    /// Whether one has ended in time since this was last cleared.
    pub(super) in_time: AtomicBool,
    /// Whether it has fired for spans that are open, and that goes on: those that end now are of the same hang.
    pub(super) hangs: AtomicBool,
}

impl Active {
    pub(crate) fn new(triggers: &[Trigger]) -> Self {
        let error = Trigger::error().arm();
        let mut active = Self {
            panic: None,
            error,
            logs: Vec::new(),
            slow: Vec::new(),
            counted: Vec::new(),
            lasting: Lasting::default(),
            stalls: Vec::new(),
            signals: Vec::new(),
        };
        for trigger in triggers {
            let armed = trigger.clone().arm();
            match trigger.condition.clone() {
                Condition::Panic => active.panic = Some(armed),
                Condition::Error => active.error = armed,
                Condition::Log { level, target } => {
                    active.logs.push(Log { level, target, armed });
                }
                Condition::SlowSpan { name, limit } => {
                    let mark = open::mark(active.slow_spans().count());
                    active.slow.push(Slow::new(Some(mark), name, limit, armed));
                }
                Condition::SlowRegion { name, limit } => {
                    active.slow.push(Slow::new(None, name, limit, armed));
                }
                Condition::NoProgress { name, limit } => {
                    active.lasting.no_progress.push((active.counted.len(), limit));
                    active.counted.push(Counted::new(name, armed, Bad::None));
                }
                Condition::ErrorRate { name, share, over, at_least } => {
                    let counted = active.counted.len();
                    active.lasting.rates.push(Rate { counted, share, over, at_least });
                    active.counted.push(Counted::new(name, armed, Bad::Failed));
                }
                Condition::LatencyQuantile { name, quantile, limit, over, at_least } => {
                    let (counted, share) = (active.counted.len(), 1.0 - quantile);
                    active.lasting.rates.push(Rate { counted, share, over, at_least });
                    active.counted.push(Counted::new(name, armed, Bad::Slower(limit)));
                }
                Condition::Memory { limit } => {
                    active.lasting.memory.push(Memory { limit, armed });
                }
                Condition::Pressure { of, share, over } => {
                    active.lasting.pressure.push(Pressed { of, share, over, armed });
                }
                Condition::Deadlock => active.lasting.deadlock = Some(armed),
                Condition::StalledPoll { limit } => active.stalls.push((limit, armed)),
                Condition::Signal { number } => active.signals.push((number, armed)),
                Condition::Named { .. } => {}
            }
        }
        active
    }

    /// The names of spans and regions with a limit.
    pub(crate) fn names(&self) -> impl Iterator<Item = (bool, &str)> {
        let slow = self.slow.iter().map(|slow| (slow.mark.is_some(), slow.name.as_str()));
        slow.chain(self.counted.iter().map(|counted| (true, counted.name.as_str())))
    }

    /// Those of spans.
    pub(super) fn slow_spans(&self) -> impl Iterator<Item = &Slow> {
        self.slow.iter().filter(|slow| slow.mark.is_some())
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

impl Slow {
    fn new(mark: Option<u8>, name: String, limit: Duration, armed: Armed) -> Self {
        Self {
            mark,
            name,
            limit,
            armed,
            in_time: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
        }
    }

    /// Notes that one has ended in time.
    fn ended_in_time(&self) {
        // Many threads may be here, and the word seldom changes.
        if !self.in_time.load(Ordering::Relaxed) {
            self.in_time.store(true, Ordering::Relaxed);
        }
    }
}

/// A region or span whose name may have a limit has ended.
#[cold]
#[inline(never)]
fn on_end(ended: &Ended<'_>) {
    let shared = recorder::peek();
    let Some(shared) = &*shared else { return };
    let took = duration(shared, ended.ticks);
    let of_kind = |slow: &&Slow| slow.mark.is_some() == ended.span.is_some();
    for slow in shared.active.slow.iter().filter(of_kind) {
        if !ended.names.contains(&&*slow.name) {
            continue;
        }
        if took <= slow.limit {
            slow.ended_in_time();
            continue;
        }
        let told = ended.span.map_or(0, |span| span.told);
        let is_told = slow.mark.is_some_and(|mark| told & mark != 0);
        if is_told || slow.hangs.load(Ordering::Relaxed) || !slow.armed.admit() {
            continue;
        }
        let reason = || {
            let (what, fields) = match ended.span {
                Some(span) => ("span", hooks::fields_in_words(span.site, span.fields)),
                None => ("region", String::new()),
            };
            let (name, limit) = (ended.names[0], slow.limit);
            format!("{what} {name} took {took:.1?}, more than {limit:?}{fields}")
        };
        slow.armed.go(false, reason, Vec::new());
    }
    if let Some(span) = &ended.span {
        let of_name = |counted: &&Counted| ended.names.contains(&&*counted.name);
        shared.active.counted.iter().filter(of_name).for_each(|counted| counted.ended(took, span));
    }
}

/// So many ticks as a time.
pub(super) fn duration(shared: &Shared, ticks: u64) -> Duration {
    // To nine digits, which is as precisely as the frequency is known.
    let seconds = ticks as f64 / shared.frequency().max(1) as f64;
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
