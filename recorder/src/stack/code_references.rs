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
/// Nothing farther from the begin of the code is named in it.
const REACH: u64 = (1 << 31) + SEARCH + 8;

/// Which of these addresses, in ascending order, the code of these frames names: in ascending order.
pub(crate) fn named_in_code<C: Code>(
    frames: impl IntoIterator<Item = Address>,
    code: &C,
    memory: impl ReadMemory,
    wanted: &[u64],
) -> Vec<u64> {
    let mut found = Vec::new();
    if !cfg!(target_arch = "x86_64") || wanted.is_empty() {
        return found;
    }
    let mut left = SEARCH_IN_ALL;
    let mut room = vec![0; SEARCH as usize];
    for frame in frames {
        if left == 0 {
            break;
        }
        let near = within_reach(frame.at(), wanted);
        let (Some(first), Some(last)) = (near.first(), near.last()) else { continue };
        let Some(start) = code.function_start(frame.at()) else { continue };
        let length = frame.get().saturating_sub(start).min(SEARCH).min(left);
        left -= length;
        let start = frame.get() - length;
        let code = memory.copy(start, &mut room[..length as usize]);
        for (at, bytes) in code.windows(4).enumerate() {
            let distance = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let behind = start + at as u64 + 4;
            let named = behind.wrapping_add_signed(distance.into());
            // One comparison for all: it is nearly always so, and there are very many.
            if named.wrapping_add(4).wrapping_sub(*first) > last - first + 4 {
                continue;
            }
            // From the end of the instruction, which may have an operand of its own behind the distance.
            let operands = [0, 1, 2, 4].map(|operand| named.wrapping_add(operand));
            found.extend(operands.into_iter().filter(|named| near.binary_search(named).is_ok()));
        }
    }
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST);
    found
}

/// Those that code around this place can name: locks on a heap or a stack are mostly too far away.
fn within_reach(place: u64, wanted: &[u64]) -> &[u64] {
    let from = wanted.partition_point(|address| *address < place.saturating_sub(REACH));
    let to = wanted.partition_point(|address| *address <= place.saturating_add(REACH));
    &wanted[from..to]
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
        // Others that are far away change nothing.
        let mut more = vec![16];
        more.extend(locks);
        more.extend([0x7fff_0000_0000, u64::MAX - 3]);
        let at = Address::new(begin + 404, false);
        assert_eq!(named_in_code([at], &code, code, &more), locks[1..]);
    }

    #[test]
    fn no_more_is_searched_than_can_be_named() {
        let place = 0x5555_0000_0000;
        let near = [place - (1 << 31), place, place + (1 << 31)];
        let far = [16, place - (1 << 32), place + (1 << 32), 0x7fff_0000_0000];
        let mut wanted = [&near[..], &far].concat();
        wanted.sort_unstable();
        assert_eq!(within_reach(place, &wanted), near);
        assert_eq!(within_reach(0, &wanted), [16]);
        assert!(within_reach(u64::MAX, &wanted).is_empty() && within_reach(place, &[]).is_empty());
    }
}
