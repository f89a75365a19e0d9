//! Open spans, and where their time goes.

use super::LiveState;
use super::task::{Gap, TaskNow};
use super::thread::MAX_OPEN;
use crate::analysis::completeness::Mark;
use crate::analysis::event_view::{EventView, changed};
use crate::analysis::inner::{Inner, Part};
use crate::analysis::interner::Name;
use crate::analysis::lock_times::LockTime;
use crate::analysis::nanos_ext::Length;
use crate::analysis::outcomes::outcome_of;
use crate::analysis::top_n::Top;
use crate::read::{EventKind, Value};
use crate::wire::{Nanos, Outcome, SpanId, TaskId, ThreadNumber};
use std::rc::Rc;

/// How many of the longest gaps of a span to keep.
pub(crate) const GAPS: usize = 4;

/// Shows each field.
pub(crate) type EachField<'a> = &'a dyn Fn(&mut dyn FnMut(&str, Value<'_>));

/// The name of a span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    pub(crate) span: SpanId,
    pub(crate) name: Name,
    /// The name with what distinguishes spans of it that do different things, such as their route.
    pub(crate) group: Name,
    pub(crate) fields: Rc<str>,
}

/// An open span.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) label: Label,
    pub(crate) parent: Option<SpanId>,
    pub(crate) began: Nanos,
    /// Whether it began before the snapshot.
    pub(crate) before: bool,
    /// From when on it is known what it does.
    known: Nanos,
    pub(crate) mark: Mark,
    /// The thread that created it; 0 if that was before the snapshot.
    pub(crate) thread: ThreadNumber,
    /// The task that it runs in: the one that entered it first, or else the one that created it.
    pub(crate) task: Option<(TaskId, Name)>,
    /// Whether it was entered, and by a task.
    pub(crate) entered: bool,
    pub(crate) entered_by_task: bool,
    /// When it was last exited.
    left: Nanos,
    /// Polls of its task since then that did not enter it.
    unentered: u64,
    /// The spans inside it that have ended.
    inner: Inner,
    /// Whether other tasks entered it, too; what they did is not in `spent`.
    pub(crate) shared: bool,
    pub(crate) spent: Spent,
    pub(crate) inside: TimeInside,
    /// How it ended, as far as its fields say so.
    pub(super) outcome: Option<Outcome>,
}

/// The time of a span, by what its task did. The parts have no overlap and leave nothing out: their sum is the
/// time from the span's begin (or the snapshot's, if that is later) to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    /// Up to when the parts account for it.
    until: Nanos,
    /// How often the task was polled meanwhile.
    polls: u64,
    /// The longest gap between polls.
    longest_gap: Nanos,
    pub(crate) polling: Nanos,
    /// Until the task was woken.
    pub(crate) waiting: Nanos,
    /// Woken, and not polled yet.
    pub(crate) runnable: Nanos,
    /// Between polls of unknown cause, before its task was known, and after that ended.
    pub(crate) unknown: Nanos,
    /// The reasons to wait that the task gave, and how much of the waiting each took.
    pub(crate) reasons: Vec<(Name, Nanos)>,
    /// The longest gaps between polls.
    pub(crate) gaps: Top<Gap, GAPS>,
}

/// How long at least one thread had a span entered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimeInside {
    threads: u32,
    since: Nanos,
    total: Nanos,
}

impl TimeInside {
    pub(crate) fn enter(&mut self, at: Nanos) {
        if self.threads == 0 {
            self.since = at;
        }
        self.threads = self.threads.saturating_add(1);
    }

    pub(crate) fn exit(&mut self, at: Nanos) {
        self.threads = self.threads.saturating_sub(1);
        if self.threads == 0 {
            self.total.grow(at.since(self.since));
        }
    }

    pub(crate) fn total(&self, at: Nanos) -> Nanos {
        if self.threads > 0 { self.total.plus(at.since(self.since)) } else { self.total }
    }
}

impl Spent {
    /// A gap between polls has ended, or its task or the span has: the part of it that is not accounted for
    /// yet counts.
    pub(crate) fn gap(&mut self, gap: &Gap, now: Nanos) {
        if now <= self.until {
            return;
        }
        // Without a known begin of the gap it counts from when the task was ready.
        let since = gap.since.or(gap.runnable).unwrap_or(now).clamp(self.until, now);
        self.unknown_until(since);
        let waited = match gap.runnable {
            Some(runnable) => {
                let runnable = runnable.clamp(since, now);
                self.runnable.grow(now.since(runnable));
                runnable.since(since)
            }
            // Nothing woke the task before the end, or it said what it waits for: it waits. For other polls
            // without a wake this is unknown.
            None if gap.polled.is_none() || gap.waits_for.is_some() => now.since(since),
            None => {
                self.unknown.grow(now.since(since));
                Nanos(0)
            }
        };
        self.waiting.grow(waited);
        self.until = now;
        if let Some(what) = gap.waits_for {
            self.waited_for(what, waited);
        }
        self.longest_gap = self.longest_gap.max(now.since(since));
        self.gaps.add(now.since(since).0, gap.clone());
    }

    /// Whatever is not accounted for before this is unknown.
    fn unknown_until(&mut self, at: Nanos) {
        self.unknown.grow(at.since(self.until));
        self.until = self.until.max(at);
    }

    fn waited_for(&mut self, what: Name, length: Nanos) {
        const REASONS: usize = 4;
        if let Some((_, sum)) = self.reasons.iter_mut().find(|(known, _)| *known == what) {
            sum.grow(length);
        } else if self.reasons.len() < REASONS {
            self.reasons.push((what, length));
        }
    }

    /// A poll has ended, or the span has.
    pub(crate) fn polled(&mut self, from: Nanos, now: Nanos) {
        self.unknown_until(from.min(now));
        self.polls += 1;
        self.polling.grow(now.since(self.until));
        self.until = self.until.max(now);
    }
}

/// A span that has ended, or was open at the end of the snapshot.
#[derive(Clone, Debug)]
pub(crate) struct SpanDone {
    pub(crate) label: Label,
    pub(crate) parent: Option<SpanId>,
    pub(crate) began: Nanos,
    pub(crate) before: bool,
    /// From when on it is known what it does: its begin, or that of the snapshot.
    pub(crate) known: Nanos,
    pub(crate) ended: Nanos,
    pub(crate) open: bool,
    pub(crate) certain: bool,
    pub(crate) thread: ThreadNumber,
    pub(crate) task: Option<(TaskId, Name)>,
    pub(crate) shared: bool,
    pub(crate) spent: Spent,
    pub(crate) inside: Nanos,
    /// How it ended, as far as its fields say so.
    pub(crate) outcome: Option<Outcome>,
    /// The span inside it that took most of its time.
    pub(crate) inner: Option<Part>,
    /// Set if it is open and nothing works in it.
    pub(crate) holder: Option<Holder>,
    /// The lock that it waited for most of the time.
    pub(crate) lock: Option<LockTime>,
}

/// Why a span is open although nothing works in it: something holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Holder {
    /// It has never been entered.
    NeverEntered,
    /// The task that it ran in has ended.
    TaskOver,
    /// Its task has been polled this often without entering it, since it exited it at that time.
    TaskGoesOn(u64, Nanos),
}

impl SpanDone {
    pub(crate) fn length(&self) -> Nanos {
        self.ended.since(self.began)
    }

    /// Whether it is open and its task does something again and again, as in a conversation with a client: no gap between
    /// polls was long beside the whole.
    pub(crate) fn goes_on(&self) -> bool {
        const FEWEST_POLLS: u64 = 8;
        const PARTS: u64 = 4;
        let known = self.ended.since(self.known);
        self.open && self.spent.polls >= FEWEST_POLLS && self.spent.longest_gap.0 <= known.0 / PARTS
    }
}

/// How many spans of one task are followed at once; what the task did is not reported for further ones.
const SPANS_OF_A_TASK: usize = 16;

impl LiveState {
    pub(crate) fn span_create(&mut self, view: &EventView, span: SpanId) {
        if span == SpanId::default() {
            return;
        }
        let name = self.names.name(view.name);
        let group = self.group(name, &|see| view.each_field(see));
        let label = Label { span, name, group, fields: Rc::from(view.fields()) };
        let mark = self.doubts.mark();
        let parent = match view.kind {
            EventKind::SpanCreate { parent, .. } => parent,
            _ => None,
        };
        let mut created = Span::new(label, parent, (view.at, view.at), mark, view.thread);
        created.outcome = outcome_of(&|see| view.each_field(see));
        self.spans.insert(span, created);
        self.bind(span, view.task);
    }

    pub(crate) fn span_enter(&mut self, view: &EventView, span: SpanId) {
        let Some(entry) = self.spans.get_mut(&span) else { return };
        entry.inside.enter(view.at);
        let label = entry.label.clone();
        let first = !std::mem::replace(&mut entry.entered, true);
        entry.unentered = 0;
        let bound = entry.task.map(|(task, _)| task);
        match view.task {
            // It does not belong to its creator; perhaps a task enters it later.
            None if first && bound.is_some() => self.bind(span, None),
            None => {}
            Some(_) if !std::mem::replace(&mut entry.entered_by_task, true) => {
                self.bind(span, view.task);
            }
            Some(_) => entry.shared |= bound != view.task,
        }
        let thread = self.thread(view.thread);
        if thread.spans.len() < MAX_OPEN {
            thread.spans.push((label, view.at));
        }
    }

    pub(crate) fn span_exit(&mut self, view: &EventView, span: SpanId) {
        let thread = self.threads.entry(view.thread).or_default();
        let Some(at) = thread.spans.iter().rposition(|(label, _)| label.span == span) else {
            if !self.steps.take(thread.spans.len()) {
                thread.spans.clear();
            }
            return;
        };
        if !self.steps.take(2 * (thread.spans.len() - at)) {
            thread.spans.clear();
            return;
        }
        let (label, entered) = thread.spans.remove(at);
        if let Some(poll) = thread.polls.last_mut() {
            poll.route(&label);
            poll.span.ended(label, entered.max(poll.began), view.at);
        }
        if let Some(span) = self.spans.get_mut(&span) {
            span.inside.exit(view.at);
            span.left = view.at;
        }
    }

    /// More of its fields become known, or new values.
    pub(crate) fn span_record(&mut self, view: &EventView, span: SpanId) {
        let Some(entry) = self.spans.get(&span) else { return };
        let fields = changed(&entry.label.fields, &view.fields());
        let was = entry.label.name;
        let name = view.event.map_or(was, |event| self.names.name(event.name()));
        let group = self.group(name, &|see| view.each_field(see));
        let Some(entry) = self.spans.get_mut(&span) else { return };
        if group != name || name != was {
            entry.label.group = group;
        }
        entry.label.name = name;
        entry.label.fields = Rc::from(fields);
        entry.outcome = entry.outcome.max(outcome_of(&|see| view.each_field(see)));
    }

    /// The name with the fields that show the purpose of its spans; the name alone if there are too many
    /// different ones to mean anything.
    pub(super) fn group(&mut self, name: Name, fields: EachField<'_>) -> Name {
        const GROUPS: u32 = 64;
        const LONGEST: usize = 120;
        let mut said = [""; 2].map(str::to_owned);
        fields(&mut |field, value| {
            let at = match field {
                "method" | "http.method" | "http.request.method" => 0,
                "route" | "http.route" | "rpc.method" => 1,
                _ => return,
            };
            if let Value::Text(text) = value
                && text.len() <= LONGEST
            {
                said[at] = format!("{field}={}", &*text);
            }
        });
        let [method, route] = said;
        let which = match &*route {
            "" => return name,
            route if method.is_empty() => route.to_owned(),
            route => format!("{method} {route}"),
        };
        let group = format!("{} {{{which}}}", self.names.text(name));
        if let Some(known) = self.names.known(&group) {
            return known;
        }
        let groups = self.groups.entry(name).or_default();
        if *groups >= GROUPS {
            return name;
        }
        *groups += 1;
        self.names.name(&group)
    }

    pub(crate) fn span_close(&mut self, at: Nanos, span: SpanId) -> Option<SpanDone> {
        let done = self.span_done(at, span, false)?;
        self.told_to_parent(done.parent, done.label.group, done.length());
        Some(done)
    }

    fn told_to_parent(&mut self, parent: Option<SpanId>, group: Name, length: Nanos) {
        if let Some(parent) = parent.and_then(|parent| self.spans.get_mut(&parent)) {
            parent.inner.add(group, length);
        }
    }

    /// From now on the span runs in this task.
    pub(super) fn bind(&mut self, id: SpanId, task: Option<TaskId>) {
        let Some(span) = self.spans.get_mut(&id) else { return };
        if let Some(before) = span.task.take().and_then(|(task, _)| self.tasks.get_mut(&task)) {
            before.spans.retain(|span| *span != id);
        }
        if let Some(task) = task
            && let Some(entry) = self.tasks.get_mut(&task)
            && entry.spans.len() < SPANS_OF_A_TASK
        {
            span.task = Some((task, entry.name));
            entry.spans.push(id);
        }
    }

    /// A thread that has entered the span polls the task. So the span belongs to the task, if it belongs to
    /// no other yet.
    pub(super) fn polled_inside(&mut self, id: SpanId, task: TaskId, gap: &Gap) {
        let Some(span) = self.spans.get_mut(&id) else { return };
        match span.task {
            _ if span.entered_by_task => {}
            None => {
                self.bind(id, Some(task));
                if let (Some(span), Some((polled, _))) = (self.spans.get_mut(&id), gap.polled) {
                    span.spent.gap(gap, polled);
                }
            }
            Some((bound, _)) => span.shared |= bound != task,
        }
    }

    fn span_done(&mut self, at: Nanos, id: SpanId, open: bool) -> Option<SpanDone> {
        let mut span = self.spans.remove(&id)?;
        if let Some(task) = span.task
            && let Some(entry) = self.tasks.get_mut(&task.0)
            && entry.spans.contains(&id)
        {
            entry.spans.retain(|span| *span != id);
            match entry.state {
                TaskNow::Running { began, .. } => span.spent.polled(began, at),
                TaskNow::Idle { .. } => span.spent.gap(&entry.gap(task.0), at),
            }
        }
        span.spent.unknown_until(at);
        let holder = if open { self.holder(&span) } else { None };
        Some(SpanDone {
            parent: span.parent,
            inner: span.inner.one_most_of(at.since(span.began)),
            holder,
            lock: None,
            began: span.began,
            before: span.before,
            known: span.known,
            ended: at,
            open,
            certain: self.doubts.certain_since(span.mark),
            thread: span.thread,
            task: span.task,
            shared: span.shared,
            inside: span.inside.total(at),
            outcome: span.outcome,
            spent: span.spent,
            label: span.label,
        })
    }

    /// Whether nothing works in it, as far as the recorded tasks and threads tell.
    fn holder(&self, span: &Span) -> Option<Holder> {
        if span.inside.threads > 0 || !self.doubts.certain_since(span.mark) {
            return None;
        }
        let task = span.task.map(|(task, _)| task);
        match task.map(|task| self.tasks.contains_key(&task)) {
            _ if !span.entered && !span.before => Some(Holder::NeverEntered),
            Some(false) => Some(Holder::TaskOver),
            Some(true) if span.unentered > 0 => Some(Holder::TaskGoesOn(span.unentered, span.left)),
            _ => None,
        }
    }

    /// A poll of the task has ended; it may not have entered all of the task's spans.
    pub(super) fn unentered(&mut self, task: TaskId, poll_began: Nanos) {
        let Some(entry) = self.tasks.get(&task) else { return };
        for id in &entry.spans {
            if let Some(span) = self.spans.get_mut(id)
                && span.entered
                && span.inside.threads == 0
                && span.left < poll_began
            {
                span.unentered += 1;
            }
        }
    }

    /// Spans that were open at the end of the snapshot.
    pub(crate) fn open_spans(&mut self, at: Nanos) -> Vec<SpanDone> {
        let mut open: Vec<_> = self.spans.keys().copied().collect();
        open.sort();
        for span in &open {
            if let Some(span) = self.spans.get(span) {
                let (parent, group) = (span.parent, span.label.group);
                let length = at.since(span.began);
                self.told_to_parent(parent, group, length);
            }
        }
        open.into_iter().filter_map(|span| self.span_done(at, span, true)).collect()
    }
}

impl Span {
    /// A span that began then, and is known since another time.
    pub(super) fn new(
        label: Label,
        parent: Option<SpanId>,
        (began, known): (Nanos, Nanos),
        mark: Mark,
        thread: ThreadNumber,
    ) -> Self {
        let (inside, inner) = Default::default();
        let spent = Spent { until: known, ..Spent::default() };
        let before = began < known;
        Self {
            label,
            parent,
            began,
            before,
            known,
            mark,
            thread,
            task: None,
            entered: false,
            entered_by_task: false,
            left: began,
            unentered: 0,
            inner,
            shared: false,
            spent,
            inside,
            outcome: None,
        }
    }
}
