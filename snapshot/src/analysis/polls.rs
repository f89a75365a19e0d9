//! Long polls: a task that keeps a thread of its executor busy, and the tasks that waited meanwhile.

use super::interner::Name;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::{Gap, Home, Label, LiveState, Poll, WorkerNow};
use super::top_n::Top;
use super::{
    Evidence, Finding, Histogram, LockWaiter, Moment, Score, Section, SpanRef, TaskRef, ThreadRef,
    Unit,
};
use crate::format::{count, counted, duration};
use crate::read::decode::fast_map::Map;
use crate::read::{ThreadTimes, WorkerId};
use crate::wire::{Nanos, TaskId, ThreadNumber};
use std::collections::{BTreeSet, VecDeque};

/// A poll should not take longer than this.
pub const LONG_POLL: Nanos = Nanos(10_000_000);
/// A shorter poll may be long only because the kernel ran another thread meanwhile.
const SURELY_RUNNING: Nanos = Nanos(100_000_000);
/// A task that waited for less than this during a long poll is not its victim.
const VICTIM: u64 = 1_000_000;

const LONGEST: usize = 10;
/// The most groups of long polls that are distinguished, and the most polls that are kept of each.
const GROUPS: usize = 128;
const ALIKE: usize = 3;
const VICTIMS: usize = 64;
const LATE: usize = 256;
/// How many ready tasks to examine for each long poll, and how many more for each poll that there was. If
/// there are more, those that have waited longest.
const LOOKED_AT: usize = 1024;
const LOOKED_AT_A_POLL: usize = 64;
const MOST_NOTED: usize = 1 << 17;

/// Polls of recorded tasks.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Polls {
    /// How long they took. Polls that have not ended are not included.
    pub lengths: Histogram,
    /// How many were longer than [`LONG_POLL`].
    pub long: u64,
    /// The longest of all, longest first.
    pub longest: Vec<LongPoll>,
}

/// One poll.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LongPoll {
    /// The task that was polled.
    pub task: TaskRef,
    /// The thread that polled it.
    pub thread: ThreadRef,
    /// The worker that the thread was.
    pub worker: Option<WorkerId>,
    /// The span in which most of it was spent.
    pub span: Option<SpanRef>,
    /// The region in which most of it was spent.
    pub region: Option<String>,
    /// The span that shows its purpose, if there is one: that of a request with its route, for instance.
    pub route: Option<SpanRef>,
    /// When it began, or when the snapshot begins if that is later.
    pub began: Moment,
    /// How long it kept the thread busy (or the worker, until another thread took that over), without the
    /// polls of recorded tasks inside it. At least, if it began before the snapshot or has not ended.
    pub length: Nanos,
    /// Whether it began before the snapshot.
    pub before: bool,
    /// Whether it had not ended at the end of the snapshot.
    pub running: bool,
    /// Whether its worker continued on another thread (`block_in_place`).
    pub handed_over: bool,
    /// The lock that it waited for most of the time, if one did; the length is that of the longest wait.
    pub lock: Option<LockWaiter>,
    /// How long it waited for that lock, in all.
    pub lock_waited: Nanos,
    /// How many tasks were ready and not polled for a millisecond or more of it, if it was longer than
    /// [`LONG_POLL`]. Counts only tasks that this thread could have polled: those of its runtime, if it is a
    /// worker; otherwise those that it did poll.
    pub waited: u64,
    /// The tasks among them that waited longest.
    pub victims: Vec<Victim>,
}

/// A task that was ready while a thread was in a long poll.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Victim {
    /// The task.
    pub task: TaskRef,
    /// Since when it was ready.
    pub runnable: Moment,
    /// How long it was not polled, in all.
    pub waited: Nanos,
    /// The thread that polled it then; none if it was not polled.
    pub polled_by: Option<ThreadRef>,
    /// Whether that was the thread of the long poll: then the task waited for that poll.
    pub same_thread: bool,
}

/// Watches polls.
#[derive(Default)]
pub(super) struct PollWatch {
    lengths: Histogram,
    long: u64,
    uncertain: u64,
    /// What the kernel said of threads at the end of the generation that is read.
    thread_times: Map<ThreadNumber, ThreadTimes>,
    longest: Top<Kept, LONGEST>,
    /// Long polls by purpose: one task name may be that of all tasks.
    groups: Map<GroupKey, Group>,
    next: u64,
    /// Tasks that still wait, with the polls that they waited for.
    watched: Map<TaskId, Vec<u64>>,
    /// The last late polls.
    late: VecDeque<Waiting>,
    /// How many more tasks may be examined.
    looks: usize,
    /// How many polls were noted in `watched` since displaced ones were last removed.
    noted: usize,
}

/// The task's name, the poll's purpose, the span and the region that took most of it, and where it waited for a lock for
/// most of it: what waits is not like what keeps others waiting.
type GroupKey = (Name, Option<Name>, Option<Name>, Option<Name>, Option<Name>);

/// Similar long polls.
#[derive(Default)]
struct Group {
    many: u64,
    longest: Top<Kept, ALIKE>,
}

#[derive(Clone)]
struct Kept {
    number: u64,
    poll: Poll,
    /// What the kernel said of its thread.
    times: Option<ThreadTimes>,
    waited: u64,
    victims: Vec<Waiting>,
    /// Tasks that may be further victims: which threads can poll them is not known yet.
    unsure: Vec<Waiting>,
}

#[derive(Clone)]
struct Waiting {
    task: TaskId,
    name: Name,
    home: Home,
    runnable: Nanos,
    polled: Option<(Nanos, ThreadNumber)>,
}

impl PollWatch {
    /// A generation begins, at whose end the kernel said this.
    pub(super) fn enter(&mut self, times: &[ThreadTimes]) {
        self.thread_times.clear();
        self.thread_times.extend(times.iter().map(|of| (of.thread, *of)));
    }

    /// A poll has ended, or the snapshot has.
    pub(super) fn ended(&mut self, poll: &Poll, live: &LiveState) {
        if poll.blocking {
            return;
        }
        self.looks = self.looks.saturating_add(LOOKED_AT_A_POLL);
        if poll.certain && poll.exact && !poll.running {
            self.lengths.add(poll.held);
        }
        let is_long = poll.blocked > LONG_POLL;
        if !poll.certain {
            self.uncertain += u64::from(is_long);
            return;
        }
        self.long += u64::from(is_long);
        let key = poll.group();
        let known = self.groups.get(&key);
        let is_kept = match known {
            Some(group) => group.longest.wants(poll.blocked.0),
            None => self.groups.len() < GROUPS,
        };
        let is_kept = is_long && is_kept;
        if is_long && (known.is_some() || is_kept) {
            self.groups.entry(key).or_default().many += 1;
        }
        if !self.longest.wants(poll.blocked.0) && !is_kept {
            return;
        }
        let number = self.next;
        self.next += 1;
        let found = if is_long { self.victims(poll, live) } else { Default::default() };
        let (waited, victims, unsure) = found;
        if self.noted > MOST_NOTED {
            self.forget_displaced();
        }
        for victim in victims.iter().chain(&unsure).filter(|victim| victim.polled.is_none()) {
            if self.watched.len() < VICTIMS * LONGEST {
                self.watched.entry(victim.task).or_default().push(number);
                self.noted += 1;
            }
        }
        let times = self.thread_times.get(&poll.thread).copied();
        let kept = Kept { number, poll: poll.clone(), times, waited, victims, unsure };
        if is_kept && let Some(group) = self.groups.get_mut(&key) {
            group.longest.add(poll.blocked.0, kept.clone());
        }
        self.longest.add(poll.blocked.0, kept);
    }

    /// Removes from `watched` the polls that longer ones have displaced.
    fn forget_displaced(&mut self) {
        let alike = self.groups.values().flat_map(|group| group.longest.iter());
        let kept: BTreeSet<_> = self.longest.iter().chain(alike).map(|kept| kept.number).collect();
        self.watched.values_mut().for_each(|numbers| numbers.retain(|one| kept.contains(one)));
        self.noted = 0;
    }

    /// The tasks that this poll's thread could have run, and did not: how many, those that waited longest,
    /// and those for which that is not known yet.
    fn victims(&mut self, poll: &Poll, live: &LiveState) -> (u64, Vec<Waiting>, Vec<Waiting>) {
        let until = poll.began.plus(poll.held);
        let home = Home::of(poll.worker, poll.thread);
        let is_victim = |waiting: &Waiting| {
            let polled = waiting.polled.map_or(until, |(polled, _)| polled.min(until));
            let overlap = polled.0.saturating_sub(waiting.runnable.max(poll.began).0);
            overlap >= VICTIM && waiting.task != poll.task
        };
        let mut looked = 0;
        let most = LOOKED_AT + self.looks;
        let ready = live.runnable().take_while(|(runnable, _)| *runnable < until).take(most);
        let still = ready.inspect(|_| looked += 1).filter_map(|(runnable, task)| {
            let entry = live.tasks.get(&task)?;
            let (name, home) = (entry.name, entry.home);
            Some(Waiting { task, name, home, runnable, polled: None })
        });
        let late = self
            .late
            .iter()
            .filter(|late| late.polled.is_some_and(|(polled, _)| polled > poll.began));
        let mut found = Top::<_, VICTIMS>::default();
        let mut unsure = Vec::new();
        // One task may have waited again and again.
        let mut waited = BTreeSet::new();
        for waiting in still.chain(late.cloned()).filter(is_victim) {
            if waiting.home == Home::Unknown && unsure.len() < VICTIMS {
                unsure.push(waiting);
            } else if waiting.home == home {
                waited.insert(waiting.task);
                let polled = waiting.polled.map_or(until, |(polled, _)| polled);
                found.add(polled.0.saturating_sub(waiting.runnable.0), waiting);
            }
        }
        self.looks = most.saturating_sub(looked.max(LOOKED_AT));
        (waited.len() as u64, found.iter().cloned().collect(), unsure)
    }

    /// A task is polled after a while: perhaps it waited for one of the long polls.
    pub(super) fn polled(&mut self, gap: &Gap, live: &LiveState) {
        let home = live.tasks.get(&gap.task).map_or(Home::Unknown, |task| task.home);
        if let Some(numbers) = self.watched.remove(&gap.task) {
            let alike = self.groups.values_mut().flat_map(|group| group.longest.iter_mut());
            let kept = self.longest.iter_mut().chain(alike);
            // They are in ascending order.
            let kept = kept.filter(|kept| numbers.binary_search(&kept.number).is_ok());
            kept.for_each(|kept| kept.polled(gap, home));
        }
        if let (Some(delay), Some(runnable)) = (gap.delay(), gap.runnable)
            && delay.0 >= VICTIM
        {
            if self.late.len() == LATE {
                self.late.pop_front();
            }
            let (task, name, polled) = (gap.task, gap.name, gap.polled);
            self.late.push_back(Waiting { task, name, home, runnable, polled });
        }
    }

    pub(super) fn finish(self, context: &ReportContext<'_>) -> Section<Polls> {
        let mut section = Section::<Polls>::default();
        if context.live.doubts.any() {
            let so_many = match self.uncertain {
                0 => String::new(),
                many => format!(" ({} of more than {})", count(many), duration(LONG_POLL)),
            };
            section.not_assessed.push(format!(
                "polls that touch times from which events are missing are left out{so_many}: {}",
                context.live.doubts.because()
            ));
        }
        let mut groups: Vec<_> = self.groups.values().collect();
        let longest = |group: &Group| {
            group
                .longest
                .iter()
                .next()
                .map(|kept| (kept.poll.blocked, std::cmp::Reverse(kept.number)))
        };
        groups.sort_by_key(|group| std::cmp::Reverse(longest(group)));
        let held: BTreeSet<_> = groups
            .iter()
            .flat_map(|group| group.longest.iter())
            .filter(|kept| kept.poll.running && !kept.poll.handed_over)
            .filter_map(|kept| kept.poll.worker)
            .collect();
        let told = groups.iter().take(5).filter_map(|group| group.finding(&held, context));
        section.findings.extend(told);
        section.table.longest = self.longest.iter().map(|kept| kept.told(context)).collect();
        section.table.lengths = self.lengths;
        section.table.long = self.long;
        section.settle(5)
    }
}

impl Kept {
    /// A waiting task is polled, which shows where it can be polled.
    fn polled(&mut self, gap: &Gap, home: Home) {
        let own = Home::of(self.poll.worker, self.poll.thread);
        let is_it = |waiting: &Waiting| waiting.task == gap.task && waiting.polled.is_none();
        if let Some(at) = self.victims.iter().position(is_it) {
            if home == own {
                self.victims[at].polled = gap.polled;
            } else {
                // It was spawned there, to run elsewhere.
                self.victims.remove(at);
                self.waited -= 1;
            }
        }
        if let Some(at) = self.unsure.iter().position(is_it) {
            let waiting = self.unsure.swap_remove(at);
            if home == own {
                self.waited += 1;
                self.victims.push(Waiting { polled: gap.polled, home, ..waiting });
                self.victims.sort_by_key(|victim| victim.runnable);
                self.victims.truncate(VICTIMS);
            }
        }
    }

    fn told(&self, context: &ReportContext<'_>) -> LongPoll {
        let Self { poll, .. } = self;
        let victims = self.victims.iter().map(|victim| {
            let until = victim.polled.map_or(context.end, |(polled, _)| polled);
            Victim {
                task: context.task(victim.task, victim.name),
                runnable: context.moment(victim.runnable),
                waited: until.since(victim.runnable),
                polled_by: victim.polled.map(|(_, thread)| context.thread(thread)),
                same_thread: victim.polled.is_some_and(|(_, thread)| thread == poll.thread),
            }
        });
        LongPoll {
            task: context.task(poll.task, poll.name),
            thread: context.thread(poll.thread),
            worker: poll.worker,
            span: poll.span.as_ref().map(|span| context.span(span)),
            region: poll.region.map(|region| context.text(region)),
            route: poll.route.as_ref().map(|span| context.span(span)),
            began: context.moment(poll.began),
            length: poll.blocked,
            before: !poll.exact,
            running: poll.running,
            handed_over: poll.handed_over,
            lock: poll.lock.as_ref().map(|time| time.wait.told(context)),
            lock_waited: poll.lock.as_ref().map_or(Nanos(0), |time| time.waited),
            waited: self.waited,
            victims: victims.collect(),
        }
    }

    fn evidence(&self, told: &LongPoll, context: &ReportContext<'_>) -> Evidence {
        let poll = &self.poll;
        let mut what = format!("a poll of {}", duration(poll.blocked));
        if let Some(region) = &told.region {
            what += &format!(", most of it in region `{region}`");
        }
        let until = (!poll.running).then_some(poll.ended);
        let mut evidence = context.evidence(what, poll.began, until);
        evidence.thread = Some(told.thread.clone());
        evidence.task = Some(told.task.clone());
        evidence.span.clone_from(&told.span);
        evidence
    }
}

/// The number of a runtime's workers, if there are several and all of them were in long polls at the end:
/// then nothing else of the runtime could run.
fn all_held(runtime: u64, held: &BTreeSet<WorkerId>, context: &ReportContext<'_>) -> Option<u64> {
    if context.live.doubts.any() {
        return None;
    }
    let there = context.live.workers.iter().filter(|(_, worker)| worker.now != WorkerNow::Gone);
    let mut own = there.map(|(id, _)| id).filter(|id| id.runtime == runtime);
    let many = own.clone().count() as u64;
    (many > 1 && own.all(|id| held.contains(id))).then_some(many)
}

impl Poll {
    /// What it has in common with similar polls.
    fn group(&self) -> GroupKey {
        let group = |span: &Option<Label>| span.as_ref().map(|span| span.group);
        let lock = self.lock.as_ref().map(|time| time.wait.at);
        (self.name, group(&self.route), group(&self.span), self.region, lock)
    }
}

impl Group {
    /// One finding for all similar long polls.
    ///
    /// `held` are the workers that were in a long poll at the end.
    fn finding(&self, held: &BTreeSet<WorkerId>, context: &ReportContext<'_>) -> Option<Finding> {
        let worst = self.longest.iter().next()?;
        let poll = &worst.poll;
        let told = &worst.told(context);
        let score = Score::beyond(told.length.0 as f64, LONG_POLL.0 as f64, Unit::Nanos)?;
        let least = if told.before || told.running { "at least " } else { "" };
        let whom = match told.worker {
            Some(worker) if told.thread.worker == Some(worker) => {
                format!("worker {}", told.thread.label())
            }
            Some(worker) => format!("worker {worker} ({})", told.thread.label()),
            None => told.thread.label(),
        };
        let mut title =
            format!("Task {} held {whom} for {least}{}", told.task.label(), duration(told.length));
        if let Some(span) = &told.span {
            title += &format!(" in span {}", span.label());
        }
        if let Some(route) = told.route.as_ref().filter(|route| told.span.as_ref() != Some(route)) {
            title += &format!(", inside span {}", route.label());
        }
        if let Some(lock) = &poll.lock {
            title += &format!(": it {}", lock.in_words(told.length, context));
        }
        if told.running {
            title += ", and still held it at the end";
            if let Some(many) =
                told.worker.and_then(|worker| all_held(worker.runtime, held, context))
            {
                title += &format!(", when none of the {many} workers of its runtime was free");
            }
        }
        if told.waited > 0 {
            let same = told.victims.iter().filter(|victim| victim.same_thread).count() as u64;
            title += &format!("; {} waited meanwhile", counted(told.waited, "task"));
            if same > 0 {
                title += &format!(", {} of them for this thread", count(same));
            }
        }
        if self.many > 1 {
            title += &format!(" ({} more like it)", count(self.many - 1));
        }
        let mut evidence = vec![worst.evidence(told, context)];
        evidence.extend(poll.lock.as_ref().map(|lock| lock.wait.evidence(1, context)));
        let times = worst.times.filter(|of| of.waited.0 >= told.length.0.min(of.time.0 / 2) / 4);
        if let Some(ThreadTimes { time, waited, ran, .. }) = times {
            evidence[0].what += &format!(
                "; in the {} around it the thread waited {} for a core, and ran for {}",
                duration(time),
                duration(waited),
                duration(ran)
            );
        } else if worst.times.is_none()
            && told.length < SURELY_RUNNING
            && told.region.is_none()
            && told.lock.is_none()
            && !told.running
        {
            evidence[0].what += "; whether the thread ran all the time, or the kernel ran another one meanwhile, is \
                                 not recorded";
        }
        for victim in told.victims.iter().take(3) {
            let then = match &victim.polled_by {
                Some(_) if victim.same_thread => "then polled by the same thread".to_owned(),
                Some(thread) => format!("then polled by {}", thread.label()),
                None => "and was not polled up to the end".to_owned(),
            };
            let what = format!("waited {}, {then}", duration(victim.waited));
            let from = context.at(victim.runnable);
            let mut one = context.evidence(what, from, Some(from.plus(victim.waited)));
            one.task = Some(victim.task.clone());
            one.depth = 1;
            evidence.push(one);
        }
        let others = self.longest.iter().skip(1);
        evidence.extend(others.map(|other| other.evidence(&other.told(context), context)));
        let mut finding = Finding::new("polls", title, score, evidence);
        // What lies outside of the poll may all be such waiting.
        finding.wants_core = times.is_some_and(|ThreadTimes { time, waited, .. }| {
            let inside = waited.since(time.since(told.length));
            inside.0 >= told.length.0 / 2
        });
        finding.lock.clone_from(&told.lock);
        Some(finding)
    }
}
