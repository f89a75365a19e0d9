//! Why the snapshot was taken, and where that happened: on which thread, in which task, span, regions.
//!
//! The metadata says why, in words. The events of the recorder itself (`trigger`, `stall`, `panic`)
//! say when and on which thread, and what was open there then says the rest. Of a process that a
//! fatal signal ended, it is what was open on that thread at the end.

use super::scribe::Scribe;
use super::state::{Here, World};
use super::step::Step;
use super::{Evidence, Finding, Score, Section, Unit};
use crate::read::{Trace, Value};
use crate::wire::{Metadata, Nanos, ThreadNumber, key};
use crate::words::counted;

/// So many different panics are kept, the first ones: what came first has caused the others, as often as
/// not.
const LISTED: usize = 16;
/// So many reasons are kept: a recorder writes fewer.
const REASONS: usize = 64;
/// So many of them are told, beside the first.
const TOLD: usize = 3;
/// What panics say that meet a lock which another one has poisoned.
const POISONED: &str = "PoisonError";
/// What a stall or a signal triggers is told by a thread of the recorder.
const STALLED: &str = "stalled_poll";
const SIGNAL: &str = "signal";

/// Why the snapshot was taken.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Incident {
    /// Each reason, in the order in which they came.
    pub causes: Vec<Cause>,
    /// How many panics there were, caught or not, as far as the recorder's hook was told of them.
    pub panics: u64,
}

/// One reason.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cause {
    /// What took the snapshot: the name of a trigger, say.
    pub trigger: String,
    /// Why, in words.
    pub reason: String,
    /// Where it happened, if the events say so.
    pub evidence: Option<Evidence>,
    /// The innermost few of the regions that the thread was inside of then, outermost first.
    pub regions: Vec<String>,
}

/// Watches the recorder's own events.
#[derive(Default)]
pub(super) struct IncidentWatch {
    causes: Vec<Known>,
    /// The thread that a fatal signal ended, and when it last recorded something.
    crashed: Option<(ThreadNumber, Option<Nanos>)>,
    stalled: Option<ThreadNumber>,
    panics: Vec<Panicked>,
    /// Panics beyond those that are kept.
    more: u64,
    panicked: u64,
}

/// A panic, and those after it that say the same in the same place.
struct Panicked {
    what: String,
    seen: Seen,
    times: u64,
}

impl Panicked {
    /// Whether it says itself that another panic has caused it.
    fn follows(&self) -> bool {
        self.what.contains(POISONED)
    }
}

struct Known {
    trigger: String,
    reason: String,
    seen: Option<Seen>,
}

/// What was to be seen on a thread.
struct Seen {
    at: Nanos,
    thread: ThreadNumber,
    here: Here,
}

impl IncidentWatch {
    /// What the file says, without the events.
    pub(super) fn of(trace: &Trace) -> Self {
        let metadata = trace.metadata();
        let mut triggers = metadata.texts(key::TRIGGER);
        let reasons = metadata.texts(key::REASON).take(REASONS);
        let causes = reasons.map(|reason| Known {
            trigger: triggers.next().unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
            seen: None,
        });
        Self { causes: causes.collect(), crashed: crashed(metadata), ..Self::default() }
    }

    /// Any event.
    pub(super) fn step(&mut self, step: &Step<'_>) {
        if let Some((thread, at)) = &mut self.crashed
            && *thread == step.thread
        {
            *at = Some(step.at);
        }
    }

    /// A typed event, which may be one of the recorder's own.
    pub(super) fn typed(&mut self, step: &Step<'_>, world: &World) {
        let seen = |thread| Seen { at: step.at, thread, here: world.here(thread) };
        match step.name {
            "stall" => {
                let Some(Value::Unsigned(thread)) = field(step, "thread") else { return };
                self.stalled = Some(ThreadNumber(thread));
            }
            "panic" => {
                let (Some(message), Some(location)) =
                    (field(step, "message"), field(step, "location"))
                else {
                    return;
                };
                self.panicked += 1;
                let what = format!("panic at {location}: {message}");
                if let Some(same) = self.panics.iter_mut().find(|known| known.what == what) {
                    same.times += 1;
                } else if self.panics.len() < LISTED {
                    self.panics.push(Panicked { what, seen: seen(step.thread), times: 1 });
                } else {
                    self.more += 1;
                }
            }
            "trigger" => {
                let (Some(Value::Text(name)), Some(Value::Text(reason))) =
                    (field(step, "name"), field(step, "reason"))
                else {
                    return;
                };
                let (name, reason) = (name.text, reason.text);
                // What stands in an event may have been cut.
                let is_it = |known: &&mut Known| {
                    known.trigger == name && !reason.is_empty() && known.reason.starts_with(reason)
                };
                let Some(known) = self.causes.iter_mut().find(is_it) else { return };
                known.seen = match name {
                    STALLED => self.stalled.map(seen),
                    SIGNAL => None,
                    _ => Some(seen(step.thread)),
                };
            }
            _ => {}
        }
    }

    pub(super) fn finish(self, scribe: &Scribe<'_>) -> Section<Incident> {
        let Self { mut causes, crashed, panics, more, panicked, .. } = self;
        if let (Some((thread, at)), Some(cause)) = (crashed, causes.first_mut()) {
            let here = scribe.world.here(thread);
            cause.seen = at.map(|at| Seen { at, thread, here });
        }
        let mut section = Section::<Incident>::default();
        let told = |what: &str| causes.iter().any(|known| known.reason == what);
        section.findings.extend(panics_in_order(&panics, more, &told, scribe));
        let told = causes.into_iter().map(|known| Cause {
            trigger: known.trigger,
            reason: known.reason,
            evidence: known.seen.as_ref().map(|seen| seen.tell(scribe)),
            regions: known.seen.map_or(Vec::new(), |seen| seen.here.regions(scribe)),
        });
        section.table = Incident { causes: told.collect(), panics: panicked };
        section
    }
}

/// What there is to say of panics, if the reasons do not say all of it: the first one that no other has
/// caused, as far as they say so themselves, and what came after it, in that order, counted.
fn panics_in_order(
    panics: &[Panicked],
    more: u64,
    told: &dyn Fn(&str) -> bool,
    scribe: &Scribe<'_>,
) -> Option<Finding> {
    let cause = panics.iter().find(|panic| !panic.follows()).or(panics.first())?;
    let times = |panics: &mut dyn Iterator<Item = &Panicked>| panics.map(|p| p.times).sum::<u64>();
    let all = times(&mut panics.iter()).saturating_add(more);
    if all == 1 && told(&cause.what) {
        return None;
    }
    let score = Score::beyond(all as f64, 0.0, Unit::Count)?;
    let poisoned = times(&mut panics.iter().filter(|panic| panic.follows()));
    let mut title = cause.what.clone();
    if all > 1 {
        title += &format!(", the first of {}", counted(all, "panic"));
    }
    if poisoned > 0 && !cause.follows() {
        title += &format!("; {poisoned} of them met a lock that another had poisoned");
    }
    let followers = panics.iter().filter(|panic| !std::ptr::eq(*panic, cause));
    let tell = |panic: &Panicked| {
        let mut evidence = panic.seen.tell(scribe);
        if !std::ptr::eq(panic, cause) {
            let often =
                if panic.times > 1 { format!("{} times ", panic.times) } else { String::new() };
            evidence.what = format!("then {often}{}; {}", panic.what, evidence.what);
        } else if panic.times > 1 {
            evidence.what = format!("{}, for the first of {} times", evidence.what, panic.times);
        }
        evidence
    };
    let evidence = std::iter::once(cause).chain(followers.take(TOLD)).map(tell).collect();
    Some(Finding { analysis: "incident", title, score, evidence })
}

impl Seen {
    fn tell(&self, scribe: &Scribe<'_>) -> Evidence {
        let task = self.here.task.map(|(task, name)| scribe.task(task, name));
        let span = self.here.span.as_ref().map(|span| scribe.span(span));
        let mut inside = Vec::new();
        inside.extend(task.as_ref().map(|task| format!("task {}", task.label())));
        inside.extend(span.as_ref().map(|span| format!("span {}", span.label())));
        let regions = self.here.regions(scribe).into_iter().rev();
        inside.extend(regions.take(3).map(|region| format!("region `{region}`")));
        let what = match inside.as_slice() {
            [] => "outside of any task, span and region".to_owned(),
            inside => format!("in {}", inside.join(", ")),
        };
        let mut evidence = scribe.evidence(what, self.at, None);
        evidence.thread = Some(scribe.thread(self.thread));
        (evidence.task, evidence.span) = (task, span);
        evidence
    }
}

impl Here {
    fn regions(&self, scribe: &Scribe<'_>) -> Vec<String> {
        self.regions.iter().map(|name| scribe.text(*name)).collect()
    }
}

/// The thread that a fatal signal ended.
fn crashed(metadata: &Metadata) -> Option<(ThreadNumber, Option<Nanos>)> {
    let number = metadata.number(key::CRASH_THREAD).filter(|number| *number > 0);
    number.map(|number| (ThreadNumber(number), None))
}

fn field<'a>(step: &Step<'a>, name: &str) -> Option<Value<'a>> {
    step.event?.fields().find_map(|(known, value)| (known == name).then_some(value))
}
