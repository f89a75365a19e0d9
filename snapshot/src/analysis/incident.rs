//! Why the snapshot was taken, and where that happened: on which thread, in which task, span and regions.
//!
//! The metadata gives the reason in words. The recorder's own events (`trigger`, `stall`, `panic`) give the
//! time and the thread, and what was open there at that time gives the rest. If a fatal signal ended the
//! process, what was open on its thread at the end counts.

use super::event_view::EventView;
use super::interner::Name;
use super::report_context::ReportContext;
use super::state::{Here, LiveState};
use super::{Evidence, Finding, Score, Section, Unit};
use crate::format::counted;
use crate::read::{Event, EventKind, OwnedFrame, Trace, Value};
use crate::wire::{Metadata, Nanos, SpanId, StackReason, TRIGGER_ABOUT, ThreadNumber, key};

/// How many different panics to keep, from the first on: the first ones have caused the others as often as
/// not.
const LISTED: usize = 16;
/// How many reasons to keep: a recorder writes fewer.
const REASONS: usize = 64;
/// How many of them to report, besides the first.
const TOLD: usize = 3;
/// How many frames of a stack to keep: a recorder writes no more.
const SHOWN: usize = 128;
/// How often it is looked who is inside of a span, for which all threads are looked at: a recorder fires less often.
const SEARCHES: u32 = 256;
/// What a panic's message says if it met a lock that another panic had poisoned.
const POISONED: &str = "PoisonError";
/// A recorder's thread reports what a stall or a signal triggers.
const STALLED: &str = "stalled_poll";
const SIGNAL: &str = "signal";
/// Fires inside the span of the failed request.
const SERVER_ERROR: &str = "server_error";
/// A panic is reported on its own thread.
const PANIC: &str = "panic";
/// A message of a level has triggered it.
const LOG: &str = "log";

/// Why the snapshot was taken.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Incident {
    /// The reasons, in the order in which they came.
    pub causes: Vec<Cause>,
    /// How many panics there were, caught or not, as far as the recorder's hook was called.
    pub panics: u64,
    /// How many stacks of threads the snapshot has.
    pub stacks: u64,
}

/// One reason.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cause {
    /// What took the snapshot, such as the name of a trigger.
    pub trigger: String,
    /// Why, in words.
    pub reason: String,
    /// Where it happened, if the events say so.
    pub evidence: Option<Evidence>,
    /// The innermost few of the regions that the thread had open then, outermost first.
    pub regions: Vec<String>,
    /// The thread's stack, innermost frame first; empty if it was not recorded.
    pub stack: Vec<OwnedFrame>,
}

/// Watches the recorder's own events.
#[derive(Default)]
pub(super) struct IncidentWatch {
    causes: Vec<Known>,
    /// The thread that got the fatal signal, and when it last recorded something.
    crashed: Option<(ThreadNumber, Option<Nanos>)>,
    stalled: Option<ThreadNumber>,
    /// What the next trigger of this thread is about, if that is known.
    about: Option<(ThreadNumber, About)>,
    /// How often it was looked who is inside of a span.
    searched: u32,
    /// The last stack that was taken: why, and of which thread.
    stack: Option<(StackReason, ThreadNumber, Event)>,
    /// That of the thread that got the fatal signal.
    of_crash: Vec<OwnedFrame>,
    stacks: u64,
    panics: Vec<Panicked>,
    /// Panics beyond those that are kept.
    more: u64,
    panicked: u64,
}

/// A panic, and later ones with the same message in the same place.
struct Panicked {
    what: String,
    seen: Seen,
    times: u64,
}

impl Panicked {
    /// Whether its message says that another panic caused it.
    fn follows(&self) -> bool {
        self.what.contains(POISONED)
    }
}

struct Known {
    trigger: String,
    reason: String,
    seen: Option<Seen>,
    stack: Vec<OwnedFrame>,
}

/// What a trigger is about.
#[derive(Clone, Copy)]
enum About {
    Nothing,
    Thread(ThreadNumber),
    Span(SpanId),
}

/// What was open on a thread.
struct Seen {
    at: Nanos,
    /// `None`: no thread is in it.
    thread: Option<ThreadNumber>,
    here: Here,
}

impl IncidentWatch {
    /// What the file says about itself, without its events.
    pub(super) fn of(trace: &Trace) -> Self {
        let metadata = trace.metadata();
        let mut triggers = metadata.texts(key::TRIGGER);
        let reasons = metadata.texts(key::REASON).take(REASONS);
        let causes = reasons.map(|reason| Known {
            trigger: triggers.next().unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
            seen: None,
            stack: Vec::new(),
        });
        Self { causes: causes.collect(), crashed: crashed(metadata), ..Self::default() }
    }

    /// Any event.
    pub(super) fn view(&mut self, view: &EventView<'_>) {
        if let Some((thread, at)) = &mut self.crashed
            && *thread == view.thread
        {
            *at = Some(view.at);
        }
    }

    /// The stack of a thread.
    pub(super) fn stack(&mut self, view: &EventView<'_>) {
        self.stacks += 1;
        let EventKind::ThreadStack { thread, reason: Some(reason), .. } = view.kind else { return };
        match view.event {
            Some(event) if reason == StackReason::Crash => self.of_crash = frames_of(event),
            event => self.stack = event.map(|event| (reason, thread, event.clone())),
        }
    }

    /// A typed event, which may be one of the recorder's own.
    pub(super) fn typed(&mut self, view: &EventView<'_>, live: &LiveState) {
        let seen = |thread| Seen { at: view.at, thread: Some(thread), here: live.here(thread) };
        match view.name {
            "stall" => {
                let Some(Value::Unsigned(thread)) = field(view, "thread") else { return };
                self.stalled = Some(ThreadNumber(thread));
            }
            TRIGGER_ABOUT => {
                let span = match field(view, "span") {
                    Some(Value::Text(text)) => span_id(text.text),
                    _ => None,
                };
                let about = match field(view, "thread") {
                    Some(Value::Unsigned(number @ 1..)) => About::Thread(ThreadNumber(number)),
                    _ => span.map_or(About::Nothing, About::Span),
                };
                self.about = Some((view.thread, about));
            }
            "panic" => {
                let (Some(message), Some(location)) =
                    (field(view, "message"), field(view, "location"))
                else {
                    return;
                };
                self.panicked += 1;
                let what = format!("panic at {location}: {message}");
                if let Some(same) = self.panics.iter_mut().find(|known| known.what == what) {
                    same.times += 1;
                } else if self.panics.len() < LISTED {
                    self.panics.push(Panicked { what, seen: seen(view.thread), times: 1 });
                } else {
                    self.more += 1;
                }
            }
            "trigger" => {
                let (Some(Value::Text(name)), Some(Value::Text(reason))) =
                    (field(view, "name"), field(view, "reason"))
                else {
                    return;
                };
                let (name, reason) = (name.text, reason.text);
                let about = self.about.take_if(|(thread, _)| *thread == view.thread);
                // The message in an event may have been cut.
                let is_it = |known: &&mut Known| {
                    known.trigger == name && !reason.is_empty() && known.reason.starts_with(reason)
                };
                let Some(known) = self.causes.iter_mut().find(is_it) else { return };
                let of = match name {
                    STALLED => self.stalled.map(|thread| (StackReason::Stall, thread)),
                    PANIC => Some((StackReason::Panic, view.thread)),
                    LOG => Some((StackReason::Error, view.thread)),
                    _ => None,
                };
                if let (Some((reason, thread, event)), Some(of)) = (&self.stack, of)
                    && of == (*reason, *thread)
                {
                    known.stack = frames_of(event);
                }
                known.seen = match (about, name) {
                    (Some((_, About::Thread(thread))), _) => Some(seen(thread)),
                    (Some((_, About::Span(span))), _) if self.searched < SEARCHES => {
                        self.searched += 1;
                        let found = live.inside(span);
                        found.map(|(thread, here)| Seen { at: view.at, thread, here })
                    }
                    (Some(_), _) | (None, SIGNAL) => None,
                    (None, STALLED) => self.stalled.map(seen),
                    (None, _) => Some(seen(view.thread)),
                };
            }
            _ => {}
        }
    }

    /// The groups of the spans for whose failure the snapshot was taken.
    pub(super) fn failed(&self) -> Vec<Name> {
        let failed = self.causes.iter().filter(|cause| cause.trigger == SERVER_ERROR);
        let spans = failed.filter_map(|cause| cause.seen.as_ref()?.here.span.as_ref());
        spans.map(|span| span.group).collect()
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Incident> {
        let Self { mut causes, crashed, of_crash, stacks, panics, more, panicked, .. } = self;
        if let Some(cause) = causes.first_mut().filter(|_| !of_crash.is_empty()) {
            cause.stack = of_crash;
        }
        if let (Some((thread, at)), Some(cause)) = (crashed, causes.first_mut()) {
            let here = context.live.here(thread);
            cause.seen = at.map(|at| Seen { at, thread: Some(thread), here });
        }
        let mut section = Section::<Incident>::default();
        let told = |what: &str| causes.iter().any(|known| known.reason == what);
        section.findings.extend(panics_in_order(&panics, more, &told, context));
        let told = causes.into_iter().map(|known| Cause {
            trigger: known.trigger,
            reason: known.reason,
            evidence: known.seen.as_ref().map(|seen| seen.tell(context)),
            regions: known.seen.map_or(Vec::new(), |seen| seen.here.regions(context)),
            stack: known.stack,
        });
        section.table = Incident { causes: told.collect(), panics: panicked, stacks };
        section
    }
}

/// The panics, if the reasons do not tell everything: first the one that no other caused, as far as the
/// messages tell, then those after it in their order, counted.
fn panics_in_order(
    panics: &[Panicked],
    more: u64,
    told: &dyn Fn(&str) -> bool,
    context: &ReportContext<'_>,
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
        let mut evidence = panic.seen.tell(context);
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
    Some(Finding::new("incident", title, score, evidence))
}

impl Seen {
    fn tell(&self, context: &ReportContext<'_>) -> Evidence {
        let task = self.here.task.map(|(task, name)| context.task(task, name));
        let span = self.here.span.as_ref().map(|span| context.span(span));
        let mut inside = Vec::new();
        inside.extend(task.as_ref().map(|task| format!("task {}", task.label())));
        inside.extend(span.as_ref().map(|span| format!("span {}", span.label())));
        let regions = self.here.regions(context).into_iter().rev();
        inside.extend(regions.take(3).map(|region| format!("region `{region}`")));
        let what = match inside.as_slice() {
            [] => "outside of any task, span and region".to_owned(),
            inside => format!("in {}", inside.join(", ")),
        };
        let mut evidence = context.evidence(what, self.at, None);
        evidence.thread = self.thread.map(|thread| context.thread(thread));
        (evidence.task, evidence.span) = (task, span);
        evidence
    }
}

impl Here {
    fn regions(&self, context: &ReportContext<'_>) -> Vec<String> {
        self.regions.iter().map(|name| context.text(*name)).collect()
    }
}

/// The innermost frames of the stack that an event reports.
fn frames_of(event: &Event) -> Vec<OwnedFrame> {
    let stack = event.stack();
    let frames = stack.iter().flat_map(|stack| stack.frames()).take(SHOWN);
    frames.map(OwnedFrame::from).collect()
}

/// The thread that got the fatal signal.
fn crashed(metadata: &Metadata) -> Option<(ThreadNumber, Option<Nanos>)> {
    let number = metadata.number(key::CRASH_THREAD).filter(|number| *number > 0);
    number.map(|number| (ThreadNumber(number), None))
}

/// The span that every view shows like this.
fn span_id(text: &str) -> Option<SpanId> {
    let (index, incarnation) = text.split_once('.').unwrap_or((text, "1"));
    Some(SpanId { index: index.parse().ok()?, incarnation: incarnation.parse().ok()? })
}

fn field<'a>(view: &EventView<'a>, name: &str) -> Option<Value<'a>> {
    view.event?.fields().find_map(|(known, value)| (known == name).then_some(value))
}
