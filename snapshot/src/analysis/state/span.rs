//! A span that is open, and where its time goes.

use super::super::doubts::Mark;
use super::super::inner::{Inner, Part};
use super::super::length::Length;
use super::super::names::Name;
use super::super::step::{Step, changed};
use super::super::top::Top;
use super::World;
use super::task::{Gap, TaskNow};
use super::thread::MAX_OPEN;
use crate::read::{EventKind, Value};
use crate::wire::{Nanos, SpanId, TaskId, ThreadNumber};
use std::rc::Rc;

/// So many of the longest gaps of a span are kept.
pub(crate) const GAPS: usize = 4;

/// Shows each field.
pub(crate) type EachField<'a> = &'a dyn Fn(&mut dyn FnMut(&str, Value<'_>));

/// What a span is called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Label {
    pub(crate) span: SpanId,
    pub(crate) name: Name,
    /// The name with what tells spans of it apart that do different things: their route, say.
    pub(crate) group: Name,
    pub(crate) fields: Rc<str>,
}

/// An open span.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) label: Label,
    pub(crate) parent: Option<SpanId>,
    pub(crate) began: Nanos,
    /// It began before the snapshot does.
    pub(crate) before: bool,
    pub(crate) mark: Mark,
    /// The thread that created it; 0 if that was before the snapshot.
    pub(crate) thread: ThreadNumber,
    /// The task that it runs in: that which entered it first, or else that which created it.
    pub(crate) task: Option<(TaskId, Name)>,
    /// Whether it was entered, and by a task.
    pub(crate) entered: bool,
    pub(crate) entered_by_task: bool,
    /// When it was left last.
    left: Nanos,
    /// Polls of its task since then, in which it was not entered.
    unentered: u64,
    /// The spans inside of it that are over.
    inner: Inner,
    /// It was entered by other tasks, too; what they did is not in `spent`.
    pub(crate) shared: bool,
    pub(crate) spent: Spent,
    pub(crate) inside: Inside,
}

/// The time of a span, by what its task did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) polling: Nanos,
    /// Until somebody woke the task.
    pub(crate) waiting: Nanos,
    /// Woken, and not polled yet.
    pub(crate) runnable: Nanos,
    /// Between polls whose cause is not known.
    pub(crate) unknown: Nanos,
    /// What the task said that it waited for, and how much of the waiting that was.
    pub(crate) reasons: Vec<(Name, Nanos)>,
    /// The longest gaps between polls.
    pub(crate) gaps: Top<Gap, GAPS>,
}

/// How long at least one thread was inside of a span.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inside {
    threads: u32,
    since: Nanos,
    total: Nanos,
}

impl Inside {
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
    /// A gap between polls is over, or the span is: what of it lies behind `began` counts.
    pub(crate) fn gap(&mut self, gap: &Gap, began: Nanos, now: Nanos) {
        let since = gap.since.unwrap_or(now).max(began);
        let waited = match gap.runnable {
            Some(runnable) => {
                let runnable = runnable.clamp(since, now.max(since));
                self.runnable.grow(now.since(runnable));
                runnable.since(since)
            }
            // Nobody woke it up to the end: it waits. It does, too, if it said so. Other polls without
            // a wake: nobody knows.
            None if gap.polled.is_none() || gap.waits_for.is_some() => now.since(since),
            None => {
                self.unknown.grow(now.since(since));
                Nanos(0)
            }
        };
        self.waiting.grow(waited);
        if let Some(what) = gap.waits_for {
            self.waited_for(what, waited);
        }
        self.gaps.add(now.0.saturating_sub(since.0), gap.clone());
    }

    fn waited_for(&mut self, what: Name, length: Nanos) {
        const REASONS: usize = 4;
        if let Some((_, sum)) = self.reasons.iter_mut().find(|(known, _)| *known == what) {
            sum.grow(length);
        } else if self.reasons.len() < REASONS {
            self.reasons.push((what, length));
        }
    }

    /// A poll is over, or the span is.
    pub(crate) fn polled(&mut self, from: Nanos, began: Nanos, now: Nanos) {
        self.polling.grow(now.since(from.max(began)));
    }
}

/// A span that is over, or that the end of the snapshot found open.
#[derive(Clone, Debug)]
pub(crate) struct SpanDone {
    pub(crate) label: Label,
    parent: Option<SpanId>,
    pub(crate) began: Nanos,
    pub(crate) before: bool,
    pub(crate) ended: Nanos,
    pub(crate) open: bool,
    pub(crate) certain: bool,
    pub(crate) thread: ThreadNumber,
    pub(crate) task: Option<(TaskId, Name)>,
    pub(crate) shared: bool,
    pub(crate) spent: Spent,
    pub(crate) inside: Nanos,
    /// The span inside of it that took most of its time.
    pub(crate) inner: Option<Part>,
    /// It is open, and nobody works in it.
    pub(crate) holder: Option<Holder>,
}

/// Why a span is open in which nobody works: somebody holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Holder {
    /// Nobody has ever entered it.
    NeverEntered,
    /// The task that it ran in is over.
    TaskOver,
    /// Its task was polled so often without entering it, since it left it then.
    TaskGoesOn(u64, Nanos),
}

impl SpanDone {
    pub(crate) fn length(&self) -> Nanos {
        self.ended.since(self.began)
    }
}

/// So many spans of one task are followed at once; of further ones it is not told what it did.
const SPANS_OF_A_TASK: usize = 16;

impl World {
    pub(crate) fn span_create(&mut self, step: &Step, span: SpanId) {
        if span == SpanId::default() {
            return;
        }
        let name = self.names.name(step.name);
        let group = self.group(name, &|see| step.each_field(see));
        let label = Label { span, name, group, fields: Rc::from(step.fields()) };
        let mark = self.doubts.mark();
        let parent = match step.kind {
            EventKind::SpanCreate { parent, .. } => parent,
            _ => None,
        };
        let created = Span::new(label, parent, step.at, false, mark, step.thread);
        self.spans.insert(span, created);
        self.bind(span, step.task);
    }

    pub(crate) fn span_enter(&mut self, step: &Step, span: SpanId) {
        let Some(entry) = self.spans.get_mut(&span) else { return };
        entry.inside.enter(step.at);
        let label = entry.label.clone();
        let first = !std::mem::replace(&mut entry.entered, true);
        entry.unentered = 0;
        let bound = entry.task.map(|(task, _)| task);
        match step.task {
            // It is not its creator's; perhaps a task enters it later.
            None if first && bound.is_some() => self.bind(span, None),
            None => {}
            Some(_) if !std::mem::replace(&mut entry.entered_by_task, true) => {
                self.bind(span, step.task);
            }
            Some(_) => entry.shared |= bound != step.task,
        }
        let thread = self.thread(step.thread);
        if thread.spans.len() < MAX_OPEN {
            thread.spans.push((label, step.at));
        }
    }

    pub(crate) fn span_exit(&mut self, step: &Step, span: SpanId) {
        let thread = self.threads.entry(step.thread).or_default();
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
            poll.span.ended(label, entered.max(poll.began), step.at);
        }
        if let Some(span) = self.spans.get_mut(&span) {
            span.inside.exit(step.at);
            span.left = step.at;
        }
    }

    /// More of its fields become known, or others of their values.
    pub(crate) fn span_record(&mut self, step: &Step, span: SpanId) {
        let Some(entry) = self.spans.get(&span) else { return };
        let fields = changed(&entry.label.fields, &step.fields());
        let was = entry.label.name;
        let name = step.event.map_or(was, |event| self.names.name(event.name()));
        let group = self.group(name, &|see| step.each_field(see));
        let Some(entry) = self.spans.get_mut(&span) else { return };
        if group != name || name != was {
            entry.label.group = group;
        }
        entry.label.name = name;
        entry.label.fields = Rc::from(fields);
    }

    /// The name with the fields that say what spans of it are for; with so many of those that it says
    /// nothing, the name alone.
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

    /// The span runs in this task from now on.
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

    /// The task is polled by a thread that is inside of the span. So it is the task's, if it was no
    /// other's yet.
    pub(super) fn polled_inside(&mut self, id: SpanId, task: TaskId, gap: &Gap) {
        let Some(span) = self.spans.get_mut(&id) else { return };
        match span.task {
            _ if span.entered_by_task => {}
            None => {
                self.bind(id, Some(task));
                if let (Some(span), Some((polled, _))) = (self.spans.get_mut(&id), gap.polled) {
                    span.spent.gap(gap, span.began, polled);
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
                TaskNow::Running { began, .. } => span.spent.polled(began, span.began, at),
                TaskNow::Idle { .. } => span.spent.gap(&entry.gap(task.0), span.began, at),
            }
        }
        let holder = if open { self.holder(&span) } else { None };
        Some(SpanDone {
            parent: span.parent,
            inner: span.inner.one_most_of(at.since(span.began)),
            holder,
            began: span.began,
            before: span.before,
            ended: at,
            open,
            certain: self.doubts.certain_since(span.mark),
            thread: span.thread,
            task: span.task,
            shared: span.shared,
            inside: span.inside.total(at),
            spent: span.spent,
            label: span.label,
        })
    }

    /// Whether nobody works in it, as far as the tasks and threads that are recorded tell.
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

    /// A poll of the task is over: of its spans, some were not entered in it.
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

    /// Spans that were open when the snapshot ends.
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
    pub(super) fn new(
        label: Label,
        parent: Option<SpanId>,
        began: Nanos,
        before: bool,
        mark: Mark,
        thread: ThreadNumber,
    ) -> Self {
        let (spent, inside, inner) = Default::default();
        Self {
            label,
            parent,
            began,
            before,
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
        }
    }
}
