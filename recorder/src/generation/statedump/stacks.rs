//! Definitions of stacks and modules in what the end of a generation lists.

use crate::generation::statedump::threads::Statuses;
use crate::record::cursor::Reserved;
use crate::record::stacks::{cached, module_size, put_module};
use crate::stack::modules::{self, Module};
use crate::stack::trie::{Node, StackId, Trie};
use crate::stack::unwind::MAX_FRAMES;
use lookback_snapshot::wire::{Kind, MAX_VARINT};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The most that a frame's definition takes.
const FRAME_SIZE: usize = 1 + 4 * MAX_VARINT;

/// The ids of the frames and modules that the list has defined, by their numbers.
#[derive(Default)]
pub(crate) struct Known {
    frames: Numbers<u64>,
    modules: Numbers<u64>,
}

pub(crate) type Numbers<T> = HashMap<T, u32, BuildHasherDefault<Mix>>;

impl Statuses<'_> {
    /// Whether this much fits. Statuses are not cut for the sake of stacks.
    pub(crate) fn leaves_room(&mut self, size: usize) -> bool {
        /// For the kind and the length of the list, and the count of what is left out.
        const MORE: usize = 2 * (1 + 2 * MAX_VARINT);
        let size = self.pending + size + MORE;
        self.out.len() + size <= self.room && self.out.try_reserve(size).is_ok()
    }

    /// The id of a stack, after defining those of its frames that no record has defined.
    pub(crate) fn stack(&mut self, trie: &Trie, stack: StackId, known: &mut Known) -> Option<u32> {
        let mut undefined = [stack; MAX_FRAMES + 1];
        let (mut count, mut next, mut id) = (0, Some(stack), 0);
        while let Some(node) = next {
            let defined = known.frames.get(&u64::from(node.number())).copied();
            if let Some(defined) = defined.or_else(|| cached(trie.defined(node), self.generation)) {
                id = defined;
                break;
            }
            *undefined.get_mut(count)? = node;
            count += 1;
            next = match trie.node(node) {
                Node::Frame { caller, .. } => Some(caller),
                Node::Root(_) => None,
            };
        }
        for node in undefined[..count].iter().rev() {
            let (module, offset) = match trie.node(*node) {
                Node::Frame { module, offset, .. } => match modules::module(module) {
                    Some(module) => (self.module(module, known)?, offset),
                    None => (0, offset),
                },
                Node::Root(end) => (0, end),
            };
            if !self.leaves_room(FRAME_SIZE) || known.frames.try_reserve(1).is_err() {
                return None;
            }
            let caller = id;
            id = self.control.ids.next(self.generation).ok()?;
            self.numbers(Kind::Frame, &[id, caller, module, offset].map(u64::from));
            known.frames.insert(u64::from(node.number()), id);
        }
        Some(id)
    }

    /// The id of a module, after defining it if no record has.
    fn module(&mut self, module: &Module, known: &mut Known) -> Option<u32> {
        let defined = known.modules.get(&u64::from(module.number)).copied();
        if let Some(id) = defined.or_else(|| cached(&module.defined, self.generation)) {
            return Some(id);
        }
        let size = module_size(module);
        let mut definition = Vec::new();
        if !self.leaves_room(1 + size)
            || definition.try_reserve_exact(size).is_err()
            || known.modules.try_reserve(1).is_err()
        {
            return None;
        }
        let id = self.control.ids.next(self.generation).ok()?;
        definition.resize(size, 0);
        let start = definition.as_mut_ptr();
        // SAFETY: the vector has the most that the definition takes.
        let mut cursor = unsafe { Reserved::new(start, size) };
        put_module(id, module, &mut cursor);
        definition.truncate(cursor.bytes_since(start));
        self.out.push(Kind::Module as u8);
        self.out.extend(definition);
        known.modules.insert(u64::from(module.number), id);
        Some(id)
    }
}

/// Hashes one number.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 32;
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "only numbers are hashed");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
