//! Which addresses the functions on a stack name in their code, before the place where they are.
//!
//! A lock in a `static` need not be on the stack, nor in a register, of the thread that holds it: optimised code names it by its
//! distance from the instruction (x86-64's RIP-relative operands). So the code from the begin of each function up to
//! its return address is searched for four bytes that are such a distance. That misses what a loop names further down, and finds
//! what was let go of long ago: it is a hint of who may hold a lock that others wait for, no more. Four bytes of
//! other instructions name one of a few wanted addresses about once in a billion places.

#![forbid(unsafe_code)]

use super::modules::ModuleMap;
use super::trie::{Node, StackId, Trie};
use super::unwind::{Address, Code};
use crate::os::own_memory::OwnMemory;
use crate::os::read_memory::ReadMemory;

/// So much code before a place is searched, and so much of a whole stack, from the innermost frame.
const SEARCH: u64 = 16 << 10;
const SEARCH_IN_ALL: u64 = 128 << 10;
/// So many addresses are found.
const MOST: usize = 16;

/// Which of these addresses, in ascending order, the code of these frames names: in ascending order.
pub(crate) fn named_in_code<C: Code>(
    frames: impl IntoIterator<Item = Address>,
    code: &C,
    memory: impl ReadMemory,
    wanted: &[u64],
) -> Vec<u64> {
    let mut found = Vec::new();
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return found };
    if !cfg!(target_arch = "x86_64") {
        return found;
    }
    let mut left = SEARCH_IN_ALL;
    let mut room = vec![0; SEARCH as usize];
    for frame in frames {
        let Some(start) = code.function_start(frame.at()) else { continue };
        let length = frame.get().saturating_sub(start).min(SEARCH).min(left);
        left -= length;
        let start = frame.get() - length;
        let code = memory.copy(start, &mut room[..length as usize]);
        for (at, bytes) in code.windows(4).enumerate() {
            let distance = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let behind = start + at as u64 + 4;
            // From the end of the instruction, which may have an operand of its own behind the distance.
            for operand in [0, 1, 2, 4] {
                let named = behind.wrapping_add(operand).wrapping_add_signed(distance.into());
                if (first..=last).contains(&&named) && wanted.binary_search(&named).is_ok() {
                    found.push(named);
                }
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST);
    found
}

/// The same of a stack of this process.
pub(crate) fn named_by(stack: StackId, wanted: &[u64]) -> Vec<u64> {
    let (map, trie, memory) = (ModuleMap::current(), Trie::get(), OwnMemory::get());
    let (Some(map), Some(trie), Some(memory)) = (map, trie, memory) else { return Vec::new() };
    let mut next = Some(stack);
    let frames = std::iter::from_fn(|| match trie.node(next?) {
        Node::Frame { caller, module, offset } => {
            next = Some(caller);
            Some(map.address(module, offset >> 1).map(|at| Address::new(at, offset & 1 != 0)))
        }
        Node::Root(_) => None,
    });
    let found = named_in_code(frames.flatten(), &*map, memory, wanted);
    if memory.is_sound() { found } else { Vec::new() }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::stack::cfi_table::Rule;
    use std::cell::Cell;

    /// Code that begins at this address, with functions that begin at the multiples of 256.
    #[derive(Clone, Copy)]
    struct Bytes<'a>(u64, &'a [u8]);

    impl Code for Bytes<'_> {
        fn rule(&self, _: u64) -> Rule {
            Rule::UNKNOWN
        }

        fn frame_setup(&self, _: u64) -> Option<u64> {
            None
        }

        fn function_start(&self, at: u64) -> Option<u64> {
            (at >= self.0).then_some(at & !255)
        }
    }

    impl ReadMemory for Bytes<'_> {
        fn copy(self, address: u64, room: &mut [u8]) -> &[u8] {
            let from = (address - self.0) as usize;
            let many = room.len().min(self.1.len().saturating_sub(from));
            room[..many].copy_from_slice(&self.1[from..from + many]);
            &room[..many]
        }

        fn words(self, _: u64, _: &[Cell<u64>]) -> usize {
            0
        }

        fn is_sound(self) -> bool {
            true
        }
    }

    #[test]
    fn what_a_function_names_before_the_place_is_found_and_nothing_else() {
        let begin = 0x5555_0000_0000;
        let mut code = vec![0x90; 1024];
        let mut put = |at: usize, operand: u64, target: u64| {
            let behind = begin + at as u64 + 4 + operand;
            let distance = target.wrapping_sub(behind) as u32;
            code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        };
        let locks = [0x5555_0010_0000, 0x5555_0010_0008, 0x5555_0010_0010, 0x5555_0010_0018];
        // In the function before, in the function, with an operand of a byte, and behind the place.
        put(100, 0, locks[0]);
        put(300, 0, locks[1]);
        put(320, 1, locks[2]);
        put(400, 0, locks[3]);
        let code = Bytes(begin, &code);
        let found = |at: u64| named_in_code([Address::new(begin + at, false)], &code, code, &locks);
        assert_eq!(found(400), [locks[1], locks[2]]);
        assert_eq!(found(404), locks[1..]);
        assert_eq!(found(310), [locks[1]]);
        assert_eq!(found(200), [locks[0]]);
        assert_eq!(found(60), []);
        assert_eq!(named_in_code([Address::new(12, false)], &code, code, &locks), []);
    }
}
