//! Which span or task it is about, and from when to when that was.

use super::WhyOf;
use super::of_name::SpansOfName;
use super::window::Whom;
use crate::analysis::Histogram;
use crate::analysis::event_view::EventView;
use crate::analysis::interner::Name;
use crate::analysis::nanos_ext::Length;
use crate::analysis::state::{Label, LiveState, SpanDone};
use crate::analysis::top_n::Top;
use crate::read::EventKind;
use crate::wire::{Nanos, TaskId};

/// See the module.
#[derive(Debug)]
pub(super) struct Choice {
    of: WhyOf,
    /// The longest that has closed, and the longest that had not.
    pub(super) closed: Option<Chosen>,
    pub(super) open: Option<Chosen>,
    task: Option<OneTask>,
    pub(super) of_name: SpansOfName,
    /// The slowest of the name that began and ended in the snapshot.
    slowest: Top<Chosen, SLOWEST>,
}

/// How many of the slowest spans of a name are accounted for.
const SLOWEST: usize = 256;

/// A span.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) label: Label,
    pub(super) task: Option<(TaskId, Name)>,
    /// From its begin, or that of the snapshot, to its end.
    pub(super) from: Nanos,
    pub(super) until: Nanos,
    /// When it began, if that was before the snapshot.
    pub(super) before: Option<Nanos>,
    pub(super) is_open: bool,
    pub(super) is_shared: bool,
    pub(super) is_certain: bool,
}

/// A task, while it lives in the snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneTask {
    pub(super) task: TaskId,
    pub(super) name: Name,
    pub(super) from: Option<Nanos>,
    pub(super) until: Option<Nanos>,
}

impl Choice {
    pub(super) fn new(of: WhyOf) -> Self {
        let (closed, open, task, of_name, slowest) = Default::default();
        Self { of, closed, open, task, of_name, slowest }
    }

    /// An event, before the state follows it.
    pub(super) fn before(&mut self, view: &EventView<'_>, live: &mut LiveState) {
        let WhyOf::Task(asked) = self.of else { return };
        let (task, begins, ends) = match view.kind {
            EventKind::TaskCreate { task, .. } => (task, true, false),
            EventKind::TaskPoll { task } | EventKind::TaskPending { task, .. } => {
                (task, false, false)
            }
            EventKind::TaskReady { task }
            | EventKind::TaskPanic { task }
            | EventKind::TaskDrop { task } => (task, false, true),
            _ => return,
        };
        if task != asked {
            return;
        }
        let name = live.tasks.get(&task).map(|task| task.name);
        let name = name.unwrap_or_else(|| live.names.name(view.name));
        let new = OneTask { task, name, from: begins.then_some(view.at), until: None };
        let one = self.task.get_or_insert(new);
        one.until = one.until.or(ends.then_some(view.at));
    }

    /// A span has ended, or the snapshot has.
    pub(super) fn done(&mut self, span: &SpanDone, live: &LiveState) {
        let is_asked = match &self.of {
            WhyOf::Slowest => true,
            WhyOf::Span(id) => *id == span.label.span,
            WhyOf::SpansOf(name) => {
                let is_it = live.names.text(span.label.name) == name
                    || live.names.text(span.label.group) == name;
                if is_it {
                    self.of_name.add(span);
                    let length = span.length().0;
                    if !span.open && !span.before && self.slowest.wants(length) {
                        self.slowest.add(length, Chosen::new(span));
                    }
                }
                is_it
            }
            WhyOf::Task(_) => false,
        };
        if !is_asked {
            return;
        }
        let kept = if span.open { &mut self.open } else { &mut self.closed };
        let is_longer = |kept: &Chosen| span.length().0 > kept.length();
        if kept.as_ref().is_none_or(is_longer) {
            *kept = Some(Chosen::new(span));
        }
    }

    /// The one that it is about: the longest of a name, also if it has not ended. Of all spans one that has ended, if any has,
    /// because those of connections and the like are open for as long as the service runs.
    pub(super) fn chosen(&self) -> Option<&Chosen> {
        let (closed, open) = (self.closed.as_ref(), self.open.as_ref());
        match (&self.of, closed, open) {
            (WhyOf::SpansOf(_), Some(closed), Some(open)) if open.length() > closed.length() => {
                Some(open)
            }
            _ => closed.or(open),
        }
    }

    /// The task that is asked for, if it is there.
    pub(super) fn task(&self, live: &LiveState) -> Option<OneTask> {
        let WhyOf::Task(asked) = self.of else { return None };
        // One that does nothing is known by its status alone.
        let silent = || {
            let task = live.tasks.get(&asked)?;
            Some(OneTask { task: asked, name: task.name, from: None, until: None })
        };
        self.task.or_else(silent)
    }
}

impl Choice {
    /// The slowest hundredth of all spans of the name, or the slowest of it.
    pub(super) fn slowest_hundredth(&self) -> impl Iterator<Item = &Chosen> {
        let limit = Histogram::bucket_of(self.of_name.lengths.percentile(0.99));
        let length = |chosen: &Chosen| chosen.until.since(chosen.from);
        self.slowest.iter().filter(move |of| Histogram::bucket_of(length(of)) >= limit)
    }
}

impl Chosen {
    fn new(span: &SpanDone) -> Self {
        Self {
            label: span.label.clone(),
            task: span.task,
            from: span.known,
            until: span.ended,
            before: span.before.then_some(span.began),
            is_open: span.open,
            is_shared: span.shared,
            is_certain: span.certain,
        }
    }

    fn length(&self) -> u64 {
        self.until.0.saturating_sub(self.before.unwrap_or(self.from).0)
    }

    pub(super) fn whom(&self) -> Whom {
        match self.task {
            Some((task, _)) => Whom::Task(task),
            None => Whom::Span(self.label.span),
        }
    }
}
