//! The passes over the events: one to choose, one to account, and one for each step to whom was waited for.

use super::choice::{Choice, Chosen};
use super::of_name::NameSums;
use super::told::{Follow, Told};
use super::watch::{Request, Watch};
use super::window::Whom;
use super::{AllOfName, Part, SlowestPart, Spent, State, Why, WhyOf};
use crate::analysis::event_view::EventView;
use crate::analysis::nanos_ext::Length;
use crate::analysis::onlooker::Onlooker;
use crate::analysis::pass;
use crate::analysis::report_context::ReportContext;
use crate::analysis::state::{Gap, LiveState, SpanDone};
use crate::analysis::{Moment, Report, SpanRef, TaskRef};
use crate::read::{DecodedGeneration, Trace};
use crate::wire::{Nanos, TaskId};
use std::cell::RefCell;
use std::rc::Rc;

/// How many steps are followed.
const DEPTH: usize = 4;
/// How many windows a step has at most.
const MOST_WINDOWS: usize = 128;
/// A part is followed if it is at least this part of the whole.
const WORTH: u64 = 50;

/// What a pass does beside the report.
struct Watcher {
    does: Does,
}

enum Does {
    Choose(Box<Choice>, Option<Box<Subject>>),
    Account(Box<Watch>, Vec<(Spent, Vec<Follow>)>),
}

/// What it is about, and when that was.
struct Subject {
    span: Option<SpanRef>,
    task: Option<TaskRef>,
    whom: Whom,
    began: Moment,
    from: (Nanos, Moment),
    until: Nanos,
    /// By the clock of the trace, stops included.
    length: Nanos,
    is_open: bool,
    is_shared: bool,
    is_certain: bool,
    all: Option<AllOfName>,
    /// The slowest spans of the name.
    slowest: Vec<(Whom, Nanos, Nanos)>,
}

impl Watcher {
    fn choose(asked: WhyOf) -> Self {
        Self { does: Does::Choose(Box::new(Choice::new(asked)), None) }
    }

    fn account(requests: &[Request]) -> Self {
        Self { does: Does::Account(Box::new(Watch::new(requests)), Vec::new()) }
    }
}

/// The watcher, as one who looks on.
fn onlooker(watcher: &Rc<RefCell<Watcher>>) -> Rc<RefCell<dyn Onlooker>> {
    Rc::<RefCell<Watcher>>::clone(watcher)
}

impl Onlooker for Watcher {
    fn list(&mut self, decoded: &DecodedGeneration, live: &mut LiveState) {
        if let Does::Account(watch, _) = &mut self.does {
            watch.list(decoded, live);
        }
    }

    fn before(&mut self, view: &EventView<'_>, live: &mut LiveState) {
        match &mut self.does {
            Does::Choose(choice, _) => choice.before(view, live),
            Does::Account(watch, _) => watch.before(view, live),
        }
    }

    fn gap(&mut self, gap: &Gap, at: Nanos) {
        if let Does::Account(watch, _) = &mut self.does {
            watch.gap(gap, at);
        }
    }

    fn span_done(&mut self, span: &SpanDone, live: &LiveState) {
        if let Does::Choose(choice, _) = &mut self.does {
            choice.done(span, live);
        }
    }

    fn end(&mut self, context: &ReportContext<'_>) {
        if let Does::Account(watch, told) = &mut self.does {
            let groups = watch.finish(context.live, context.end);
            let tell = Told { watch, context };
            *told = groups.iter().map(|(group, of)| tell.spent(*group, of)).collect();
        }
    }

    fn conclude(&mut self, context: &ReportContext<'_>) {
        if let Does::Choose(choice, subject) = &mut self.does {
            *subject = choice.subject(context).map(Box::new);
        }
    }
}

pub(super) fn why(trace: &Trace, asked: WhyOf) -> Option<Why> {
    let mut asked = asked;
    let subject = loop {
        let watcher = Rc::new(RefCell::new(Watcher::choose(asked.clone())));
        let report = pass::watched(trace, Some(&onlooker(&watcher)));
        // The first pass may have kept others; what the report names is then looked up.
        if asked == WhyOf::Slowest
            && let Some(span) = named_first(&report)
            && watcher.borrow().does.chose() != Some(span)
        {
            asked = WhyOf::Span(span);
            continue;
        }
        let mut watcher = watcher.borrow_mut();
        let Does::Choose(_, subject) = &mut watcher.does else { return None };
        break subject.take()?;
    };
    let (mut spent, of_all) = account(trace, &subject);
    let stopped = subject.length.since(spent.length);
    if stopped.0 > 0 {
        spent.parts.push(Part {
            state: State::Stopped,
            time: stopped,
            times: 1,
            longest: stopped,
            longest_at: subject.from.1,
            followed: None,
        });
        spent.length = subject.length;
    }
    sort(&mut spent);
    let Subject {
        span, task, began, from, length, is_open, is_shared, is_certain, mut all, ..
    } = *subject;
    if let Some(all) = &mut all {
        all.spent = of_all;
    }
    let from = from.1;
    Some(Why { span, task, began, from, length, is_open, is_shared, is_certain, spent, all })
}

/// The span that the report names first.
fn named_first(report: &Report) -> Option<crate::wire::SpanId> {
    let evidence = report.findings().into_iter().flat_map(|finding| &finding.evidence);
    evidence.filter_map(|one| one.span.as_ref()).map(|span| span.span).next()
}

/// A part of an account that is followed into another one.
struct Node {
    spent: Spent,
    /// The account that it explains a part of.
    parent: Option<(usize, usize)>,
    task: Option<TaskId>,
    /// A part must be at least so long to be followed.
    worth: Nanos,
}

/// Of the subject, and of the slowest spans of the name.
fn account(trace: &Trace, subject: &Subject) -> (Spent, Spent) {
    let (from, until) = (subject.from.0, subject.until);
    let task = match subject.whom {
        Whom::Task(task) => Some(task),
        Whom::Span(_) => None,
    };
    let node = |task, all: Nanos| {
        let worth = Nanos(all.0 / WORTH);
        Node { spent: Spent::default(), parent: None, task, worth }
    };
    let slowest = subject.slowest.iter();
    let together =
        slowest.clone().fold(Nanos(0), |sum, (_, from, until)| sum.plus(until.since(*from)));
    let mut nodes = vec![node(task, until.since(from)), node(None, together)];
    let mut requests = vec![Request { group: 0, whom: subject.whom, from, until }];
    requests.extend(slowest.map(|(whom, from, until)| Request {
        group: 1,
        whom: *whom,
        from: *from,
        until: *until,
    }));
    for depth in 0..=DEPTH {
        let watcher = Rc::new(RefCell::new(Watcher::account(&requests)));
        let _ = pass::watched(trace, Some(&onlooker(&watcher)));
        let groups: Vec<usize> = {
            let mut groups: Vec<_> = requests.iter().map(|request| request.group).collect();
            groups.dedup();
            groups
        };
        let mut watcher = watcher.borrow_mut();
        let Does::Account(_, told) = &mut watcher.does else { break };
        requests = Vec::new();
        for (group, (spent, follow)) in groups.into_iter().zip(std::mem::take(told)) {
            nodes[group].spent = spent;
            if depth == DEPTH {
                continue;
            }
            for one in follow {
                let time = nodes[group].spent.parts[one.part].time;
                let many = one.stretches.len();
                if time < nodes[group].worth
                    || many == 0
                    || requests.len() + many > MOST_WINDOWS
                    || is_among(&nodes, group, one.task)
                {
                    continue;
                }
                let whom = Whom::Task(one.task);
                let group_of = nodes.len();
                requests.extend(one.stretches.iter().map(|(from, until)| Request {
                    group: group_of,
                    whom,
                    from: *from,
                    until: *until,
                }));
                let (parent, task) = (Some((group, one.part)), Some(one.task));
                let worth = nodes[group].worth;
                nodes.push(Node { spent: Spent::default(), parent, task, worth });
            }
        }
        if requests.is_empty() {
            break;
        }
    }
    // Later nodes explain earlier ones.
    let mut roots = Vec::new();
    while let Some(node) = nodes.pop() {
        let mut spent = node.spent;
        sort(&mut spent);
        match node.parent {
            Some((parent, part)) => {
                let part = nodes.get_mut(parent).and_then(|of| of.spent.parts.get_mut(part));
                if let Some(part) = part.filter(|_| !spent.parts.is_empty()) {
                    part.followed = Some(Box::new(spent));
                }
            }
            None => roots.push(spent),
        }
    }
    let one = roots.pop().unwrap_or_default();
    (one, roots.pop().unwrap_or_default())
}

/// Whether this is the task of the node, or of one that it explains.
fn is_among(nodes: &[Node], mut node: usize, task: TaskId) -> bool {
    loop {
        if nodes[node].task == Some(task) {
            return true;
        }
        match nodes[node].parent {
            Some((parent, _)) => node = parent,
            None => return false,
        }
    }
}

fn sort(spent: &mut Spent) {
    spent.parts.sort_by_key(|part| std::cmp::Reverse(part.time));
}

impl Does {
    /// The span that was chosen.
    fn chose(&self) -> Option<crate::wire::SpanId> {
        match self {
            Self::Choose(_, Some(subject)) => subject.span.as_ref().map(|span| span.span),
            _ => None,
        }
    }
}

impl Choice {
    fn subject(&self, context: &ReportContext<'_>) -> Option<Subject> {
        if let Some(one) = self.task(context.live) {
            let from = one.from.unwrap_or(context.first);
            let until = one.until.unwrap_or(context.end);
            return Some(Subject {
                span: None,
                task: Some(context.task(one.task, one.name)),
                whom: Whom::Task(one.task),
                began: context.moment(from),
                from: (from, context.moment(from)),
                until,
                length: told(context, from, until),
                is_open: one.until.is_none(),
                is_shared: false,
                is_certain: !context.live.doubts.any(),
                all: None,
                slowest: Vec::new(),
            });
        }
        let chosen = self.chosen()?;
        let all = (self.of_name.lengths.count() > 0).then(|| self.all(chosen, context));
        let slowest = self.slowest_hundredth();
        let slowest = slowest.map(|one| (one.whom(), one.from, one.until));
        Some(Subject {
            span: Some(context.span(&chosen.label)),
            task: chosen.task.map(|(task, name)| context.task(task, name)),
            whom: chosen.whom(),
            began: context.moment(chosen.before.unwrap_or(chosen.from)),
            from: (chosen.from, context.moment(chosen.from)),
            until: chosen.until,
            length: told(context, chosen.from, chosen.until),
            is_open: chosen.is_open,
            is_shared: chosen.is_shared,
            is_certain: chosen.is_certain,
            all,
            slowest: slowest.collect(),
        })
    }

    /// All spans of the name.
    fn all(&self, chosen: &Chosen, context: &ReportContext<'_>) -> AllOfName {
        let lengths = self.of_name.lengths.clone();
        let part = |beyond: f64| {
            let limit = if beyond > 0.0 { lengths.percentile(beyond) } else { lengths.least() };
            self.of_name.from(limit).told(beyond, limit, context)
        };
        let slowest = [0.0, 0.5, 0.9, 0.99].map(part).into_iter().collect();
        let name = context.text(chosen.label.name);
        let (open, spent) = (self.of_name.open, Spent::default());
        let accounted = self.slowest_hundredth().count() as u64;
        AllOfName { name, lengths, open, slowest, accounted, spent }
    }
}

impl NameSums {
    fn told(&self, beyond: f64, limit: Nanos, context: &ReportContext<'_>) -> SlowestPart {
        let parts = [
            (self.polling, "being polled".to_owned()),
            (self.runnable, "ready but not polled".to_owned()),
            (self.waiting, "waiting to be woken".to_owned()),
            (self.unknown, "unknown".to_owned()),
        ];
        let reasons = self.reasons.iter();
        let reasons = reasons
            .map(|(what, length)| (*length, format!("waiting for `{}`", context.text(*what))));
        let parts = parts.into_iter().chain(reasons).filter(|(length, _)| length.0 > 0);
        let mut parts: Vec<_> = parts.map(|(length, what)| (what, length)).collect();
        parts.sort_by_key(|(_, length)| std::cmp::Reverse(*length));
        SlowestPart { beyond, limit, spans: self.spans, time: self.time, parts }
    }
}

/// The length by the clock of the trace.
fn told(context: &ReportContext<'_>, from: Nanos, until: Nanos) -> Nanos {
    let stops = &context.live.stops;
    stops.told(until).since(stops.told(from))
}
