//! The stacks of a snapshot, with equal ones grouped.

use crate::exit::Damage;
use lookback::read::symbols::{Location, Symbolizer};
use lookback::read::{EventKind, Frame, Lent, Module, StackEnd, StackReason, StackSource, Trace};
use std::collections::HashMap;
use std::rc::Rc;

/// The most different stacks, and the most bytes of file names kept for them.
pub(super) const MOST_GROUPS: usize = 1000;
const MOST_BYTES: usize = 4 << 20;

/// Equal stacks that were taken for the same reason.
pub struct Group {
    pub count: u64,
    /// When the first one was taken, in nanoseconds since the first event.
    pub first: u64,
    pub reason: Option<StackReason>,
    pub source: Option<StackSource>,
    /// The thread of the first one.
    pub thread: u64,
    pub thread_name: String,
    pub end: Option<StackEnd>,
    /// Whether its end is missing in the file.
    pub is_damaged: bool,
    /// Innermost first; empty if there is no stack.
    pub frames: Vec<NamedFrame>,
}

/// A frame with its functions.
#[derive(Clone)]
pub struct NamedFrame {
    pub module: Option<Rc<(String, String)>>,
    pub offset: u64,
    pub is_exact: bool,
    pub functions: Vec<Location>,
}

/// A number for each of these frames, the same for those that are printed alike: one line of a function may have several
/// addresses.
pub(super) fn alike(frames: &[NamedFrame]) -> Vec<usize> {
    let (mut numbers, mut all) = (HashMap::new(), Vec::with_capacity(frames.len()));
    for NamedFrame { module, offset, functions, .. } in frames {
        let nameless = functions.is_empty().then_some((module, *offset));
        let next = numbers.len();
        all.push(*numbers.entry((functions, nameless)).or_insert(next));
    }
    all
}

/// See the module.
#[derive(Default)]
pub struct Groups {
    pub groups: Vec<Group>,
    /// Stacks beyond the limit of different ones.
    pub left_out: u64,
}

/// Equal for equal stacks: their files, by number, and the offsets in these.
type Key = (Option<StackReason>, Option<StackSource>, Vec<(u32, u64)>);

/// The files met so far, by number; 0 is none.
#[derive(Default)]
pub(super) struct Modules {
    numbers: HashMap<(String, Vec<u8>), u32>,
    names: Vec<Rc<(String, String)>>,
    bytes: usize,
}

impl Modules {
    /// The number of a frame's file; `None` if there is no room for another one.
    pub(super) fn number(&mut self, frame: &Frame<'_>) -> Option<u32> {
        let Some(Module { path, build_id, .. }) = frame.module else { return Some(0) };
        let key = (path.to_owned(), build_id.to_owned());
        if let Some(known) = self.numbers.get(&key) {
            return Some(*known);
        }
        self.bytes += 2 * path.len() + 3 * build_id.len() + 100;
        if self.bytes > MOST_BYTES {
            return None;
        }
        let hex = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        self.names.push(Rc::new((path.to_owned(), hex)));
        let number = self.names.len() as u32;
        self.numbers.insert(key, number);
        Some(number)
    }

    /// The path and the build id of a file, by its number.
    pub(super) fn name(&self, number: u32) -> Option<Rc<(String, String)>> {
        self.names.get((number as usize).checked_sub(1)?).map(Rc::clone)
    }
}

impl Groups {
    /// Reads the whole trace.
    pub fn of(trace: &Trace, symbolizer: &mut Symbolizer, damage: &mut Damage) -> Self {
        let mut begin = None;
        let mut found = Self::default();
        let mut modules = Modules::default();
        let mut known: HashMap<Key, usize> = HashMap::new();
        let mut events = trace.events();
        while let Some(next) = events.lend() {
            let Some(Lent { event, .. }) = damage.noted(next) else { continue };
            let begin = *begin.get_or_insert(event.time().0);
            let EventKind::ThreadStack { thread, reason, source, .. } = event.kind() else {
                continue;
            };
            let stack = event.stack();
            let frames = || stack.iter().flat_map(|stack| stack.frames());
            let numbers: Option<Vec<_>> =
                frames().map(|frame| Some((modules.number(&frame)?, frame.offset))).collect();
            let Some(numbers) = numbers else {
                found.left_out += 1;
                continue;
            };
            let key = (reason, source, numbers);
            if let Some(group) = known.get(&key).and_then(|at| found.groups.get_mut(*at)) {
                group.count += 1;
                continue;
            }
            if found.groups.len() >= MOST_GROUPS {
                found.left_out += 1;
                continue;
            }
            let named = frames().zip(&key.2).map(|(frame, (number, _))| NamedFrame {
                module: modules.name(*number),
                offset: frame.offset,
                is_exact: frame.is_exact,
                functions: symbolizer.locations(&frame),
            });
            found.groups.push(Group {
                count: 1,
                first: event.time().0.saturating_sub(begin),
                reason,
                source,
                thread: thread.0,
                thread_name: event.name().to_owned(),
                end: stack.and_then(|stack| stack.end()),
                is_damaged: stack.is_some_and(|stack| stack.is_damaged()),
                frames: named.collect(),
            });
            known.insert(key, found.groups.len() - 1);
        }
        // What others did at the time of a stall comes behind it.
        let is_beside = |group: &Group| group.reason == Some(StackReason::Beside);
        let rank = |group: &Group| (is_beside(group), std::cmp::Reverse(group.count), group.first);
        found.groups.sort_by_key(rank);
        found
    }
}
