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
use std::collections::VecDeque;

/// So many panics are kept.
const LISTED: usize = 10;
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
    /// The regions that the thread was inside of then, outermost first.
    pub regions: Vec<String>,
}

/// Watches the recorder's own events.
#[derive(Default)]
pub(super) struct IncidentWatch {
    causes: Vec<Known>,
    /// The thread that a fatal signal ended, and when it last recorded something.
    crashed: Option<(ThreadNumber, Option<Nanos>)>,
    stalled: Option<ThreadNumber>,
    panics: VecDeque<(String, Seen)>,
    panicked: u64,
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
        let causes = metadata.texts(key::REASON).map(|reason| Known {
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
                if self.panics.len() == LISTED {
                    self.panics.pop_front();
                }
                let what = format!("panic at {location}: {message}");
                self.panics.push_back((what, seen(step.thread)));
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
        let Self { mut causes, crashed, panics, panicked, .. } = self;
        if let (Some((thread, at)), Some(cause)) = (crashed, causes.first_mut()) {
            let here = scribe.world.here(thread);
            cause.seen = at.map(|at| Seen { at, thread, here });
        }
        let told = |what: &str| causes.iter().any(|known| known.reason == what);
        let others: Vec<_> = panics.iter().filter(|(what, _)| !told(what)).collect();
        let many = panicked - (panics.len() - others.len()) as u64;
        let mut section = Section::<Incident>::default();
        section.findings.extend(others.last().and_then(|last| {
            let score = Score::beyond(many as f64, 0.0, Unit::Count)?;
            let before = match many {
                1 => String::new(),
                many => format!(", the last of {}", counted(many, "panic")),
            };
            let title = format!("{}{before}", last.0);
            let evidence = others.iter().rev().take(3);
            let evidence = evidence.map(|(_, seen)| seen.tell(scribe)).collect();
            Some(Finding { analysis: "incident", title, score, evidence })
        }));
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
