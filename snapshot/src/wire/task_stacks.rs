//! The list of where tasks wait, at the end of a generation.
//!
//! Many tasks wait at the same places. So the list has each different set of stacks once, where a task first has it, and
//! then its number.

use super::varint::{get_varint, put_varint};

/// The most stacks of one task. A recorder keeps four; more than these are damage.
pub const MAX_LISTED_STACKS: usize = 16;
/// The most bytes that one item takes.
pub const MAX_TASK_STACKS_ITEM: usize = 6 + 5 + 6 + 5 + 6 * 4;

/// Where a task waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListedStack {
    /// The id of the stack inside the task's poll, whose outermost frame is the function that polls the task.
    pub stack: u32,
    /// Whether the waker was registered in a poll before the task's last one: then the task may no longer wait there.
    pub is_earlier: bool,
}

/// Writes the list: of tasks in the order of their indexes.
///
/// For each task stands a varint:
///
/// | bits | meaning |
/// |---|---|
/// | 0 | its stacks are those of the previous task in the list |
/// | 1 | its incarnation is that of the previous task; otherwise it follows (a varint) |
/// | 2 and up | its index, minus that of the previous task |
///
/// If its stacks differ from the previous task's, a varint follows, then: the number of a set of stacks, counted from 1 in
/// the order in which they stand in the list. Or it is 0, and a new set follows: how many stacks it has, and for each a
/// varint, `id << 1 | is_earlier`.
#[derive(Debug, Default)]
pub struct TaskStacksWriter {
    out: Vec<u8>,
    task: u32,
    incarnation: u32,
    /// The number of the previous task's set, and how many there are.
    set: u32,
    sets: u32,
}

impl TaskStacksWriter {
    /// The list so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Makes room for another item. Returns whether there is memory for it.
    pub fn try_reserve(&mut self) -> bool {
        self.out.try_reserve(MAX_TASK_STACKS_ITEM).is_ok()
    }

    /// Appends a task with the stacks of this set.
    pub fn push(&mut self, task: u32, incarnation: u32, set: u32) {
        self.begin(task, incarnation, set == self.set);
        if set != self.set {
            put_varint(&mut self.out, u64::from(set));
        }
        self.set = set;
    }

    /// Appends a task with these stacks, which none before has. Returns the number of the set.
    pub fn push_new(&mut self, task: u32, incarnation: u32, stacks: &[ListedStack]) -> u32 {
        self.begin(task, incarnation, false);
        put_varint(&mut self.out, 0);
        put_varint(&mut self.out, stacks.len() as u64);
        for of in stacks {
            put_varint(&mut self.out, u64::from(of.stack) << 1 | u64::from(of.is_earlier));
        }
        self.sets += 1;
        self.set = self.sets;
        self.set
    }

    fn begin(&mut self, task: u32, incarnation: u32, has_same_set: bool) {
        let has_same_incarnation = incarnation == self.incarnation;
        let gap = u64::from(task.wrapping_sub(self.task));
        let bits = u64::from(has_same_set) | u64::from(has_same_incarnation) << 1;
        put_varint(&mut self.out, gap << 2 | bits);
        if !has_same_incarnation {
            put_varint(&mut self.out, u64::from(incarnation));
        }
        (self.task, self.incarnation) = (task, incarnation);
    }
}

/// A task in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskStacks {
    /// Its index.
    pub task: u32,
    /// Its incarnation.
    pub incarnation: u32,
    /// The index of its stacks in [`TaskStacksReader::sets`].
    pub set: u32,
}

/// Reads what [`TaskStacksWriter`] has written.
#[derive(Debug)]
pub struct TaskStacksReader<'a> {
    rest: &'a [u8],
    task: u32,
    incarnation: u32,
    set: u32,
    /// The sets so far.
    pub sets: Vec<Vec<ListedStack>>,
}

impl<'a> TaskStacksReader<'a> {
    /// Of a whole list.
    #[must_use]
    pub fn new(list: &'a [u8]) -> Self {
        Self { rest: list, task: 0, incarnation: 0, set: 0, sets: Vec::new() }
    }

    /// Whether all were read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next task. `None` if the list is cut off or invalid.
    #[allow(clippy::should_implement_trait, reason = "`None` is not the end, but damage")]
    pub fn next(&mut self) -> Option<TaskStacks> {
        let word = self.number()?;
        if word & 2 == 0 {
            self.incarnation = u32::try_from(self.number()?).ok()?;
        }
        self.task = u32::try_from(u64::from(self.task) + (word >> 2)).ok()?;
        if word & 1 == 0 {
            self.set = match self.number()? {
                0 => {
                    let set = self.stacks()?;
                    self.sets.push(set);
                    u32::try_from(self.sets.len()).ok()?
                }
                known => u32::try_from(known).ok()?,
            };
        }
        let set = self.set.checked_sub(1).filter(|set| (*set as usize) < self.sets.len())?;
        Some(TaskStacks { task: self.task, incarnation: self.incarnation, set })
    }

    fn stacks(&mut self) -> Option<Vec<ListedStack>> {
        let count = usize::try_from(self.number()?).ok()?;
        if count > MAX_LISTED_STACKS {
            return None;
        }
        let stack = |word: u64| {
            let stack = u32::try_from(word >> 1).ok()?;
            Some(ListedStack { stack, is_earlier: word & 1 != 0 })
        };
        (0..count).map(|_| stack(self.number()?)).collect()
    }

    fn number(&mut self) -> Option<u64> {
        let (value, length) = get_varint(self.rest)?;
        self.rest = &self.rest[length..];
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn read(bytes: &[u8]) -> Option<Vec<(u32, u32, Vec<ListedStack>)>> {
        let mut list = TaskStacksReader::new(bytes);
        let mut read = Vec::new();
        while !list.is_at_end() {
            let TaskStacks { task, incarnation, set } = list.next()?;
            read.push((task, incarnation, list.sets[set as usize].clone()));
        }
        Some(read)
    }

    fn stacks() -> impl Strategy<Value = Vec<ListedStack>> {
        let stack = (1_u32..5, any::<bool>());
        let stack = stack.prop_map(|(stack, is_earlier)| ListedStack { stack, is_earlier });
        proptest::collection::vec(stack, 1..3)
    }

    proptest! {
        #[test]
        fn a_list_is_read_as_it_was_written(
            items in proptest::collection::vec((1_u32..9, 0_u32..3, stacks()), 0..50)
        ) {
            let mut list = TaskStacksWriter::default();
            let (mut task, mut known, mut all) = (0, HashMap::new(), Vec::new());
            for (gap, incarnation, stacks) in items {
                task += gap;
                prop_assert!(list.try_reserve());
                match known.get(&stacks) {
                    Some(set) => list.push(task, incarnation, *set),
                    None => {
                        let set = list.push_new(task, incarnation, &stacks);
                        known.insert(stacks.clone(), set);
                    }
                }
                all.push((task, incarnation, stacks));
            }
            prop_assert_eq!(read(list.bytes()), Some(all));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Some(read) = read(&bytes) {
                prop_assert!(read.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn a_task_whose_neighbour_waits_at_the_same_place_takes_a_byte() {
        let mut list = TaskStacksWriter::default();
        let set = list.push_new(7, 1, &[ListedStack { stack: 300, is_earlier: false }]);
        let before = list.bytes().len();
        (8..108).for_each(|task| list.push(task, 1, set));
        assert_eq!(list.bytes().len() - before, 100);
    }
}
