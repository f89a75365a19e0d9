//! What is stuck at the end of the snapshot: threads in a lock, and tasks that wait for one, for a second or
//! more. In a deadlock nothing takes long, because nothing ends: there may be no other region of that name to
//! compare with, and no poll that has ended.
//!
//! A region that has been open for long is no fault by itself: threads wait for work in one, and a whole
//! program may be in one. So only regions that are named as locks count.

use super::interner::Name;
use super::nanos_ext::Length;
use super::report_context::ReportContext;
use super::state::{Standing, TaskNow};
use super::{Evidence, FEWEST_SPANS, Finding, Moment, Score, Section, TaskRef, ThreadRef, Unit};
use crate::format::{count, counted, duration};
use crate::wire::{Nanos, TaskId, ThreadNumber};

/// Less time in a lock than this is not reported.
pub const STANDS: Nanos = Nanos(1_000_000_000);
/// The most that are listed.
const LISTED: usize = 20;

/// What is still open at the end of the snapshot, on threads that have recorded nothing for a second or more.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StandingStill {
    /// Threads in a lock and tasks that wait for one, longest first.
    pub locks: Vec<Stand>,
    /// Other threads that have recorded nothing for a second or more, with an open region.
    pub others: Vec<Stand>,
}

/// A thread that is inside something, or a task that waits for something.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stand {
    /// The thread; none if it is a waiting task.
    pub thread: Option<ThreadRef>,
    /// The waiting task, or the task that the thread polls.
    pub task: Option<TaskRef>,
    /// The region, the span, or what the task waits for.
    pub what: String,
    /// The regions around it, outermost first.
    pub within: Vec<String>,
    /// Since when.
    pub since: Moment,
    /// How long, up to the end of the snapshot.
    pub length: Nanos,
}

/// One of them, before it is put into words.
struct Found {
    thread: Option<ThreadNumber>,
    task: Option<(TaskId, Name)>,
    kind: &'static str,
    what: Name,
    within: Vec<Name>,
    since: Nanos,
    last: Nanos,
}

/// Leaves out what the findings in `told` have reported already. `ended` tells how many regions of a name
/// have ended.
pub(super) fn finish(
    context: &ReportContext<'_>,
    told: &[&Finding],
    ended: impl Fn(Name) -> u64,
) -> Section<StandingStill> {
    let mut section = Section::<StandingStill>::default();
    let (mut locks, mut others) = (Vec::new(), Vec::new());
    let live = context.live;
    for Standing { thread, region, what, within, since, last, task, certain } in live.standing() {
        if context.end.since(last) < STANDS || !certain {
            continue;
        }
        let is_lock = is_lock(live.names.text(what));
        let kind = if region { "region" } else { "span" };
        let found = Found { thread: Some(thread), task, kind, what, within, since, last };
        if is_lock {
            locks.push(found);
        } else if region && ended(what) < FEWEST_SPANS {
            others.push(found);
        }
    }
    for (id, task) in &live.tasks {
        if let TaskNow::Idle { since, mark, .. } = task.state
            && let Some(what) = task.waits_for
            && task.wake.is_none()
            && live.doubts.certain_since(mark)
            && context.end.since(since) >= STANDS
            && is_lock(live.names.text(what))
        {
            let (thread, task, within) = (None, Some((*id, task.name)), Vec::new());
            locks.push(Found { thread, task, kind: "", what, within, since, last: since });
        }
    }
    for list in [&mut locks, &mut others] {
        list.sort_by_key(|found| (found.since, found.thread, found.task.map(|(task, _)| task)));
    }
    section.findings.extend(finding(&locks, told, context));
    if let Some(first) = others.first() {
        let more = match others.len() {
            1 => String::new(),
            many => format!(", and {} more", count(many as u64 - 1)),
        };
        section.not_assessed.push(format!(
            "{} in a region and recorded nothing for a second or more, of a name of which fewer than \
             {FEWEST_SPANS} ended: nobody knows whether that is long for `{}` on {}{more}",
            match others.len() {
                1 => "1 thread has been".to_owned(),
                many => format!("{} have been", counted(many as u64, "thread")),
            },
            context.text(first.what),
            first.thread.map_or_else(String::new, |thread| context.thread(thread).label()),
        ));
    }
    let listed = |all: &[Found]| all.iter().take(LISTED).map(|found| found.told(context)).collect();
    section.table = StandingStill { locks: listed(&locks), others: listed(&others) };
    section
}

fn finding(locks: &[Found], told: &[&Finding], context: &ReportContext<'_>) -> Option<Finding> {
    let untold = |found: &&Found| {
        let is_it = |evidence: &Evidence| {
            let same_thread = || {
                let thread = evidence.thread.as_ref().map(|thread| thread.number);
                found.thread.is_some() && thread == found.thread
            };
            let same_task = || {
                let task = evidence.task.as_ref().map(|task| task.task);
                found.thread.is_none() && task == found.task.map(|(task, _)| task)
            };
            evidence.until.is_none() && (same_thread() || same_task())
        };
        !told.iter().any(|finding| finding.evidence.iter().any(is_it))
    };
    let first = locks.iter().find(untold)?;
    let length = context.end.since(first.since);
    let score = Score::beyond(length.0 as f64, STANDS.0 as f64, Unit::Nanos)?;
    let (what, length) = (context.text(first.what), duration(length));
    let silent = match first.last > first.since {
        true => format!("for the last {}", duration(context.end.since(first.last))),
        false => "since".to_owned(),
    };
    let mut title = match (first.thread, first.task) {
        (None, Some((task, name))) => format!(
            "Task {} has waited for `{what}` for the last {length} of the snapshot, and nobody woke it",
            context.task(task, name).label()
        ),
        (thread, task) => {
            let thread = context.thread(thread.unwrap_or_default()).label();
            let task = task
                .map(|(task, name)| format!(", polling task {}", context.task(task, name).label()));
            format!(
                "{thread} has been inside of {} `{what}` for the last {length} of the snapshot, and has \
                 recorded nothing {silent}{}",
                first.kind,
                task.unwrap_or_default()
            )
        }
    };
    if locks.len() > 1 {
        let (stand, wait) = if locks.len() == 2 { ("stands", "waits") } else { ("stand", "wait") };
        let more = count(locks.len() as u64 - 1);
        title += &format!("; {more} more {stand} in a lock or {wait} for one at the end");
    }
    let evidence = locks.iter().take(LISTED).map(|found| found.evidence(context)).collect();
    Some(Finding::new("standing", title, score, evidence))
}

impl Found {
    fn told(&self, context: &ReportContext<'_>) -> Stand {
        Stand {
            thread: self.thread.map(|thread| context.thread(thread)),
            task: self.task.map(|(task, name)| context.task(task, name)),
            what: context.text(self.what),
            within: self.within.iter().map(|name| context.text(*name)).collect(),
            since: context.moment(self.since),
            length: context.end.since(self.since),
        }
    }

    fn evidence(&self, context: &ReportContext<'_>) -> Evidence {
        let stand = self.told(context);
        let within = match stand.within.as_slice() {
            [] => String::new(),
            within => format!(", inside of {}", within.join(" > ")),
        };
        let what = match self.thread {
            Some(_) => format!("in {} `{}` up to the end{within}", self.kind, stand.what),
            None => format!("waits for `{}` up to the end", stand.what),
        };
        let mut evidence = context.evidence(what, self.since, None);
        (evidence.thread, evidence.task) = (stand.thread, stand.task);
        evidence
    }
}

/// Whether something is named as a lock: a word of its name is one.
fn is_lock(name: &str) -> bool {
    const WORDS: &[&str] = &[
        "lock",
        "locks",
        "locking",
        "mutex",
        "rwlock",
        "spinlock",
        "semaphore",
        "permit",
        "permits",
        "acquire",
        "latch",
    ];
    let mut word = String::new();
    let mut was_lower = false;
    for character in name.chars().chain([' ']) {
        let ends = !character.is_alphanumeric() || (was_lower && character.is_uppercase());
        if ends && WORDS.contains(&&*word) {
            return true;
        }
        if ends {
            word.clear();
        }
        if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        }
        was_lower = character.is_lowercase();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_known_by_a_word_of_its_name() {
        for name in [
            "lock",
            "lock a",
            "cache.lock",
            "lock_inventory",
            "Mutex::acquire",
            "pool permit",
            "RwLock",
            "tableLock",
        ] {
            assert!(is_lock(name), "{name}");
        }
        for name in
            ["", "block", "clock", "unlock", "lockfree", "blockchain", "permission", "flocks"]
        {
            assert!(!is_lock(name), "{name}");
        }
    }
}
