//! Where the tasks of a snapshot wait, with those that wait at the same places grouped.

use super::groups::{MOST_GROUPS, Modules, NamedFrame};
use crate::exit::Damage;
use lookback::read::analysis::IdleTasks;
use lookback::read::symbols::Symbolizer;
use lookback::read::{DecodedGeneration, EventKind, Stack, StackEnd, TaskId, Trace, WaitingTask};
use std::collections::{HashMap, HashSet};

/// How many tasks of a group are named.
const NAMED: usize = 100;

/// Tasks of one name that wait at the same places.
pub struct TaskGroup {
    pub count: u64,
    /// How many of them were polled after that moment.
    pub polled_since: u64,
    pub name: String,
    pub file: String,
    pub line: u32,
    /// The first of them.
    pub tasks: Vec<TaskId>,
    /// What was registered last comes first.
    pub waits_at: Vec<NamedChain>,
    /// The stack that spawned them, if it is known.
    pub spawned_by: Option<NamedChain>,
}

/// An await chain, or another stack.
pub struct NamedChain {
    pub is_earlier: bool,
    pub end: Option<StackEnd>,
    pub is_damaged: bool,
    /// Innermost first.
    pub frames: Vec<NamedFrame>,
}

/// See the module.
#[derive(Default)]
pub struct TaskGroups {
    /// The generation whose end that is, and when that was, in nanoseconds since the first event.
    pub moment: Option<(u64, u64)>,
    pub groups: Vec<TaskGroup>,
    /// Tasks of further groups.
    pub left_out: u64,
    /// Of how many tasks it is known where they wait, and of how many it is not.
    pub idle: IdleTasks,
}

/// Equal for tasks of one group: where they were spawned, and for each chain its frames, by file and offset; and those of
/// the stack that spawned them.
type Key<'a> = (&'a str, &'a str, u32, Vec<(bool, Vec<(u32, u64)>)>, Option<Vec<(u32, u64)>>);

impl TaskGroups {
    /// At the end of the last complete generation, or of the last one that had ended `at` so many nanoseconds after the
    /// first event.
    pub fn of(
        trace: &Trace,
        at: Option<u64>,
        symbolizer: &mut Symbolizer,
        damage: &mut Damage,
    ) -> Self {
        let Some(begin) = begin(trace, damage) else { return Self::default() };
        let ended = |start: u64, duration: u64| (start + duration).saturating_sub(begin);
        let infos = trace.generations();
        let last = infos.iter().rposition(|info| {
            info.complete && at.is_none_or(|at| ended(info.start.0, info.duration.0) <= at)
        });
        let Some(last) = last else { return Self::default() };
        let Some(generation) = damage.noted(trace.generation(infos[last].number)) else {
            return Self::default();
        };
        let moment = generation.ended().monotonic.0.saturating_sub(begin);
        let later = infos[last + 1..].iter();
        let later = later.filter_map(|info| damage.noted(trace.generation(info.number)));
        let polled = later.collect::<Vec<_>>().iter().flat_map(|of| polled(of, damage)).collect();
        let mut found = Self::grouped(&generation, &polled, symbolizer);
        found.moment = Some((generation.number().0, moment));
        found.idle = IdleTasks::at_end_of(&generation);
        found
    }

    fn grouped(
        generation: &DecodedGeneration,
        polled: &HashSet<TaskId>,
        symbolizer: &mut Symbolizer,
    ) -> Self {
        let mut found = Self::default();
        let mut modules = Modules::default();
        let mut known: HashMap<Key<'_>, usize> = HashMap::new();
        // Nearly all tasks have the set of another one.
        let mut by_set = HashMap::new();
        for task in generation.waiting() {
            let site = task.site;
            let of_set = (task.set, task.spawn_set, site.name, site.file, site.line);
            let group = *by_set
                .entry(of_set)
                .or_insert_with(|| found.group(&task, &mut known, &mut modules, symbolizer));
            let Some(group) = group.and_then(|at| found.groups.get_mut(at)) else {
                found.left_out += 1;
                continue;
            };
            group.count += 1;
            group.polled_since += u64::from(polled.contains(&task.task));
            if group.tasks.len() < NAMED {
                group.tasks.push(task.task);
            }
        }
        found.groups.sort_by(|a, b| (b.count, &a.name, a.line).cmp(&(a.count, &b.name, b.line)));
        found
    }

    /// The group that a task belongs to, made if there is none; `None` if there are too many.
    fn group<'a>(
        &mut self,
        task: &WaitingTask<'a>,
        known: &mut HashMap<Key<'a>, usize>,
        modules: &mut Modules,
        symbolizer: &mut Symbolizer,
    ) -> Option<usize> {
        let mut numbered = |stack: &Option<Stack<'_>>| -> Option<Vec<(u32, u64)>> {
            let frames = stack.iter().flat_map(Stack::frames);
            frames.map(|frame| Some((modules.number(&frame)?, frame.offset))).collect()
        };
        let mut chains = Vec::new();
        for place in task.places() {
            chains.push((place.is_earlier, numbered(&place.stack)?));
        }
        let spawned_by = task.spawned_by();
        let spawn = match &spawned_by {
            Some(_) => Some(numbered(&spawned_by)?),
            None => None,
        };
        let site = task.site;
        // The order is that of the registrations, which says nothing of where the task waits.
        let mut places = chains.clone();
        places.sort_unstable();
        let key = (site.name, site.file, site.line, places, spawn);
        if let Some(at) = known.get(&key) {
            return Some(*at);
        }
        if self.groups.len() >= MOST_GROUPS {
            return None;
        }
        let mut named =
            |is_earlier: bool, stack: Option<Stack<'_>>, numbers: &[(u32, u64)]| NamedChain {
                is_earlier,
                end: stack.and_then(|stack| stack.end()),
                is_damaged: stack.is_none_or(|stack| stack.is_damaged()),
                frames: stack
                    .iter()
                    .flat_map(Stack::frames)
                    .zip(numbers)
                    .map(|(frame, (number, _))| NamedFrame {
                        module: modules.name(*number),
                        offset: frame.offset,
                        is_exact: frame.is_exact,
                        functions: symbolizer.locations(&frame),
                    })
                    .collect(),
            };
        let waits_at = task.places().zip(&chains);
        let waits_at = waits_at
            .map(|(place, (_, numbers))| named(place.is_earlier, place.stack, numbers))
            .collect();
        let spawned_by = key.4.as_ref().map(|numbers| named(false, spawned_by, numbers));
        self.groups.push(TaskGroup {
            count: 0,
            polled_since: 0,
            name: site.name.to_owned(),
            file: site.file.to_owned(),
            line: site.line,
            tasks: Vec::new(),
            waits_at,
            spawned_by,
        });
        known.insert(key, self.groups.len() - 1);
        Some(self.groups.len() - 1)
    }
}

/// When the first event was.
fn begin(trace: &Trace, damage: &mut Damage) -> Option<u64> {
    let mut events = trace.events();
    while let Some(next) = events.lend() {
        if let Some(lent) = damage.noted(next) {
            return Some(lent.event.time().0);
        }
    }
    None
}

/// The tasks that a generation polls or ends.
fn polled(generation: &DecodedGeneration, damage: &mut Damage) -> Vec<TaskId> {
    let mut found = Vec::new();
    let mut events = generation.events();
    while let Some(next) = events.lend() {
        let Some(lent) = damage.noted(next) else { continue };
        if let EventKind::TaskPoll { task } | EventKind::TaskDrop { task } = lent.event.kind() {
            found.push(task);
        }
    }
    found
}
