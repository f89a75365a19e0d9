//! Where the tasks wait that are idle when a generation ends, and where they were spawned. Written last, with what room the
//! statuses leave.

use crate::generation::statedump::stacks::{Known, Numbers};
use crate::generation::statedump::threads::Statuses;
use crate::record::task::await_chains::{self, KEPT, Waiting};
use crate::record::task::{TASKS, TaskEntry, spawn_stacks};
use crate::stack::trie::{StackId, Trie};
use lookback_snapshot::wire::{Kind, ListedStack, MAX_TASK_STACKS_ITEM, TaskStacksWriter};

/// How [`Kind::Omitted`] refers to where they wait, and to where they were spawned.
const STACKS_OMITTED: u64 = 5;
const SPAWNS_OMITTED: u64 = 6;

/// The stacks of a task: for each its number, and in the lowest bit whether it is of an earlier poll.
type Set = u128;

const _: () = assert!(KEPT * 32 <= Set::BITS as usize);

impl Statuses<'_> {
    /// Where tasks wait, and where they were spawned. Those without room are counted.
    pub(crate) fn task_stacks(&mut self, known: &mut Known) {
        let Some(trie) = Trie::get() else { return };
        if await_chains::are_there() {
            let waits_at = |index: u32, place: &TaskEntry, generation| {
                let since = place.words.idle_at_end(generation)?;
                Some(packed(await_chains::waiting(index, place, since)))
            };
            self.list_stacks(trie, known, (Kind::TaskStackList, STACKS_OMITTED), waits_at);
        }
        if spawn_stacks::are_there() {
            let spawned_at = |index: u32, place: &TaskEntry, generation| {
                let stack =
                    spawn_stacks::of(index).filter(|_| place.words.is_alive_at_end(generation))?;
                Some(packed(std::iter::once(Waiting { stack, is_earlier: false })))
            };
            self.list_stacks(trie, known, (Kind::TaskSpawnList, SPAWNS_OMITTED), spawned_at);
        }
    }

    /// Lists the stacks that `of` has of each task, as this kind.
    fn list_stacks(
        &mut self,
        trie: &Trie,
        known: &mut Known,
        (kind, omitted_as): (Kind, u64),
        of: impl Fn(u32, &TaskEntry, u64) -> Option<Set>,
    ) {
        let mut list = TaskStacksWriter::default();
        // The numbers of the sets in the list.
        let mut sets = Numbers::<Set>::default();
        let mut last = (0, 0);
        let mut omitted = 0;
        for (index, place) in TASKS.each() {
            if index.is_multiple_of(1024) && self.control.is_outrun(self.generation) {
                break;
            }
            let set = of(index, place, self.generation).unwrap_or_default();
            let Some((_, incarnation)) = place.named().filter(|_| set != 0) else { continue };
            // The list so far takes room, too, when a frame is defined.
            self.pending = list.bytes().len();
            if !self.leaves_room(MAX_TASK_STACKS_ITEM) || !list.try_reserve() {
                omitted += 1;
                continue;
            }
            let number = if last.0 == set { Some(last.1) } else { sets.get(&set).copied() };
            let number = match number {
                Some(number) => {
                    list.push(index, incarnation, number);
                    number
                }
                None => match self.define(trie, set, known) {
                    Some((count, stacks)) if sets.try_reserve(1).is_ok() => {
                        let number = list.push_new(index, incarnation, &stacks[..count]);
                        sets.insert(set, number);
                        number
                    }
                    _ => {
                        omitted += 1;
                        continue;
                    }
                },
            };
            last = (set, number);
        }
        self.pending = 0;
        self.list(kind, list.bytes());
        if omitted > 0 {
            self.count_omitted(omitted_as, omitted);
        }
    }

    /// The stacks of a set, with their ids. `None` if there is no room to define them.
    fn define(
        &mut self,
        trie: &Trie,
        set: Set,
        known: &mut Known,
    ) -> Option<(usize, [ListedStack; KEPT])> {
        let mut stacks = [ListedStack { stack: 0, is_earlier: false }; KEPT];
        let mut count = 0;
        for item in (0..KEPT).map(|at| (set >> (32 * at)) as u32) {
            if let Some(stack) = StackId::from_number(item >> 1) {
                let stack = self.stack(trie, stack, known)?;
                stacks[count] = ListedStack { stack, is_earlier: item & 1 != 0 };
                count += 1;
            }
        }
        Some((count, stacks))
    }
}

fn packed(stacks: impl Iterator<Item = Waiting>) -> Set {
    let packed = |Waiting { stack, is_earlier }: Waiting| {
        Set::from(stack.number()) << 1 | Set::from(is_earlier)
    };
    stacks.zip(0..).fold(0, |set, (of, at)| set | packed(of) << (32 * at))
}
