//! A module's unwind table: for each place in its code, how to get from a frame there to its caller.
//!
//! The compiler's tables (`.eh_frame`) encode these rules as small programs, which an unwinder runs up to the place it
//! asks about. Here all of them run once, ahead of time, and each resulting row is kept as one word. A lookup takes
//! loads alone, so a signal handler can do it, and all threads share the table.
//!
//! A word holds the lowest eight bits of the place, and the [`Rule`] that applies from there on. An index gives the
//! first row of each 256 bytes of code, so a row needs no more bits of its place. At the start of such a piece the last
//! row of the piece before it still applies.

#![forbid(unsafe_code)]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) use build::build;

/// So much code has one entry of the index.
const PIECE: u32 = 1 << 8;

/// How to get from a frame to its caller: what kind of rule it is, and two distances in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule(u32);

/// The kinds of rules. The *frame's end* is where the caller's stack begins; the return address lies below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing is known of this code.
    Unknown,
    /// The frame's end lies so far above the stack pointer.
    Sp,
    /// The frame's end lies so far above the frame pointer.
    Fp,
    /// Nobody has called this code: a thread begins with it.
    Begin,
    /// A stub of the linker's: the frame's end is one word above the stack pointer, two in its second half.
    Stub,
    /// The kernel has put a signal's frame here.
    Signal,
    /// It is known, but cannot be said here.
    Other,
    /// So far above the stack pointer lies an address; the frame's end is one word above that. So it is where assembly
    /// has aligned its stack, as OpenSSL's does, and what stems from that.
    Pointer,
}

impl Rule {
    pub(super) const UNKNOWN: Self = Self(0);
    pub(super) const BEGIN: Self = Self(3);
    pub(super) const STUB: Self = Self(4);
    pub(super) const SIGNAL: Self = Self(5);
    pub(super) const OTHER: Self = Self(6);
    /// An index into the rules that do not fit a row.
    const WIDE: u32 = 7;
    /// [`Kind::Pointer`], which is never in a row, but in the list of those.
    const POINTER: u32 = 7;
    /// As a function begins that sets a frame pointer up, everywhere but in its first and last instructions.
    pub(super) const FRAME_POINTER: Self = Self::new(Kind::Fp, 2, 2);

    const END_BITS: u32 = 13;
    const WIDE_END_BITS: u32 = 15;
    const WIDE_SAVED_BITS: u32 = 14;
    const ROW_BITS: u32 = 24;

    /// The frame's end is `end` words above the register; the caller's frame pointer was saved `saved` words below
    /// the frame's end, or not at all (0).
    const fn new(kind: Kind, end: u32, saved: u32) -> Self {
        let kind = match kind {
            Kind::Fp => 2,
            Kind::Pointer => Self::POINTER,
            _ => 1,
        };
        Self(kind | end << 3 | saved << (3 + Self::WIDE_END_BITS))
    }

    pub(super) fn kind(self) -> Kind {
        match self.0 & 7 {
            0 => Kind::Unknown,
            1 => Kind::Sp,
            2 => Kind::Fp,
            3 => Kind::Begin,
            4 => Kind::Stub,
            5 => Kind::Signal,
            Self::POINTER => Kind::Pointer,
            _ => Kind::Other,
        }
    }

    /// How many bytes above its register the frame's end is.
    pub(super) fn end(self) -> u64 {
        u64::from(self.0 >> 3 & ((1 << Self::WIDE_END_BITS) - 1)) * 8
    }

    /// How many bytes below the frame's end the caller's frame pointer was saved; 0 if it still is what it was.
    pub(super) fn saved(self) -> u64 {
        u64::from(self.0 >> (3 + Self::WIDE_END_BITS)) * 8
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct CfiTable {
    /// Where the code begins, counted from where the module is loaded.
    first: u32,
    /// For each piece of it, its first row; and one more.
    index: Vec<u32>,
    /// Ascending within each piece.
    rows: Vec<u32>,
    /// What does not fit a row.
    wide: Vec<u32>,
}

impl CfiTable {
    /// The rule at a place in the code, counted from where the module is loaded.
    #[inline]
    pub(super) fn rule(&self, at: u32) -> Rule {
        let Some(at) = at.checked_sub(self.first) else { return Rule::UNKNOWN };
        let (piece, low) = ((at / PIECE) as usize, at % PIECE);
        let (Some(&from), Some(&to)) = (self.index.get(piece), self.index.get(piece + 1)) else {
            return Rule::UNKNOWN;
        };
        let (mut from, mut to) = (from as usize, to as usize);
        // The first row that is behind it.
        while from < to {
            let middle = (from + to) / 2;
            match self.rows.get(middle) {
                Some(row) if row & 0xff <= low => from = middle + 1,
                _ => to = middle,
            }
        }
        let Some(row) = from.checked_sub(1).and_then(|row| self.rows.get(row)) else {
            return Rule::UNKNOWN;
        };
        self.unpack(row >> 8)
    }

    #[inline]
    fn unpack(&self, packed: u32) -> Rule {
        match packed & 7 {
            kind @ (1 | 2) => {
                let end = packed >> 3 & ((1 << Rule::END_BITS) - 1);
                let saved = packed >> (3 + Rule::END_BITS);
                Rule(kind | end << 3 | saved << (3 + Rule::WIDE_END_BITS))
            }
            Rule::WIDE => {
                self.wide.get((packed >> 3) as usize).map_or(Rule::OTHER, |rule| Rule(*rule))
            }
            kind => Rule(kind),
        }
    }

    /// Where the instructions begin that set up the frame pointer which is in use at `at`: the last ones before it.
    pub(super) fn frame_setup(&self, at: u32) -> Option<u32> {
        /// So much code is looked through.
        const SEARCH: usize = 256;
        let piece = (at.checked_sub(self.first)? / PIECE) as usize;
        let mut next = Rule::UNKNOWN;
        for piece in (0..=piece).rev().take(SEARCH) {
            let rows = *self.index.get(piece)? as usize..*self.index.get(piece + 1)? as usize;
            for row in self.rows.get(rows)?.iter().rev() {
                let place = (self.first + piece as u32 * PIECE).saturating_add(row & 0xff);
                let rule = self.unpack(row >> 8);
                if place <= at {
                    // Behind the push, before the move.
                    let is_pushed =
                        rule.kind() == Kind::Sp && rule.end() == 16 && rule.saved() == 16;
                    if is_pushed && next == Rule::FRAME_POINTER {
                        return place.checked_sub(1);
                    }
                }
                next = rule;
            }
        }
        None
    }

    /// Where the function begins that has the code at `at`: the last place before it that is aligned as functions are, and where
    /// nothing is on the stack yet but the return address. It is so behind an epilogue, too, which is seldom aligned.
    pub(super) fn function_start(&self, at: u32) -> Option<u32> {
        /// So much code is looked through, in pieces.
        const SEARCH: usize = 256;
        const ALIGNED: u32 = 16;
        let last = (at.checked_sub(self.first)? / PIECE) as usize;
        // Where the row behind begins.
        let mut next = u32::MAX;
        for piece in (0..=last).rev().take(SEARCH) {
            let rows = *self.index.get(piece)? as usize..*self.index.get(piece + 1)? as usize;
            for row in self.rows.get(rows)?.iter().rev() {
                let place = (self.first + piece as u32 * PIECE).saturating_add(row & 0xff);
                let rule = self.unpack(row >> 8);
                if place <= at {
                    let is_start = rule.kind() == Kind::Sp && rule.end() == 8 && rule.saved() == 0;
                    // A function that directly follows another one's last instruction shares its row.
                    let start = place.checked_next_multiple_of(ALIGNED);
                    if let Some(start) = start
                        && is_start
                        && start <= at
                        && start < next
                    {
                        return Some(start);
                    }
                }
                next = place;
            }
        }
        None
    }

    /// How much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        (self.index.capacity() + self.rows.capacity() + self.wide.capacity()) * size_of::<u32>()
    }
}

/// Making a table, from rows that come in ascending order.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod build {
    use super::{CfiTable, PIECE, Rule};
    use crate::stack::cfi_table::Kind;
    use gimli::{
        BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, LittleEndian, Register,
        RegisterRule, UnwindContext, UnwindContextStorage, UnwindSection, UnwindTableRow, X86_64,
    };
    use std::collections::HashMap;
    use std::collections::hash_map::Entry;
    use std::ops::Range;

    /// The table of a module, from its section `.eh_frame`, which is meant to lie at `address`. Addresses count from
    /// where the module is loaded. `None` if it would take more than `room` bytes, or it `is_over` meanwhile.
    pub(crate) fn build(
        section: &[u8],
        address: u64,
        text: &Range<u32>,
        room: usize,
        is_over: &dyn Fn() -> bool,
    ) -> Option<CfiTable> {
        /// After so many functions that is asked.
        const STEP: usize = 256;
        let bases = BaseAddresses::default().set_eh_frame(address).set_text(u64::from(text.start));
        let mut frames = EhFrame::new(section, LittleEndian);
        frames.set_address_size(8);
        let mut table = Building::new(text, room)?;
        let mut functions = functions(&frames, &bases, text)?;
        functions.sort_unstable();
        let mut context = UnwindContext::<usize, OnStack>::new_in();
        for (at, (start, offset)) in functions.iter().enumerate() {
            if at % STEP == 0 && is_over() {
                return None;
            }
            let next = functions.get(at + 1).map_or(u32::MAX, |(start, _)| *start);
            let offset = gimli::EhFrameOffset(*offset as usize);
            let found = frames.fde_from_offset(&bases, offset, EhFrame::cie_from_offset);
            let Ok(function) = found else { continue };
            let end = u64::from(*start).saturating_add(function.len()).min(u64::from(next));
            if function.is_signal_trampoline() {
                // What has just been called looks up one byte before it, which no function has.
                table.put((*start).saturating_sub(1), Rule::SIGNAL)?;
            } else if let Ok(mut rows) = function.rows(&frames, &bases, &mut context) {
                while let Ok(Some(row)) = rows.next_row() {
                    let begin = row.start_address().clamp(u64::from(*start), end);
                    table.put(begin as u32, rule_of(&frames, row))?;
                }
            }
            table.put(end as u32, Rule::UNKNOWN)?;
        }
        Some(table.finish())
    }

    /// What `gimli` keeps while it evaluates a function is on the stack: its default takes 25 KB from an allocator that ends
    /// the process if it has none. The x86-64 ABI has rules for 17 registers.
    struct OnStack;

    impl UnwindContextStorage<usize> for OnStack {
        type Rules = [(Register, RegisterRule<usize>); 32];
        type Stack = [UnwindTableRow<usize, Self>; 4];
    }

    type Frames<'a> = EhFrame<EndianSlice<'a, LittleEndian>>;

    /// Where each function begins that the section describes, and where in it that stands.
    fn functions(
        frames: &Frames<'_>,
        bases: &BaseAddresses,
        text: &Range<u32>,
    ) -> Option<Vec<(u32, u32)>> {
        let mut found = Vec::new();
        let mut entries = frames.entries(bases);
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let Ok(function) = partial.parse(EhFrame::cie_from_offset) else { continue };
            if let (Ok(start), Ok(offset)) =
                (u32::try_from(function.initial_address()), u32::try_from(function.offset()))
                && text.contains(&start)
            {
                push(&mut found, (start, offset))?;
            }
        }
        Some(found)
    }

    /// As [`Vec::push`], with little to spare; `None` if there is no memory, which no service must die of.
    fn push<T>(list: &mut Vec<T>, item: T) -> Option<()> {
        if list.len() == list.capacity() {
            list.try_reserve_exact(list.len() / 8 + 1024).ok()?;
        }
        list.push(item);
        Some(())
    }

    /// What the linker says of its own stubs: the frame's end is 8 bytes above the stack pointer, and 8 more from the eleventh
    /// byte of each sixteen on.
    const OF_STUBS: [u8; 11] = [0x77, 0x08, 0x80, 0x00, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];

    fn rule_of(frames: &Frames<'_>, row: &UnwindTableRow<usize, OnStack>) -> Rule {
        match row.register(X86_64::RA) {
            None | Some(RegisterRule::Undefined) => return Rule::BEGIN,
            // Where the machine's call puts it.
            Some(RegisterRule::Offset(-8)) => {}
            Some(_) => return Rule::OTHER,
        }
        let saved = match row.register(X86_64::RBP) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => 0,
            Some(RegisterRule::Offset(offset)) if offset < 0 && offset % 8 == 0 => offset / -8,
            Some(_) => return Rule::OTHER,
        };
        let (kind, end) = match row.cfa() {
            CfaRule::RegisterAndOffset { register: Register(7), offset } => (Kind::Sp, *offset),
            CfaRule::RegisterAndOffset { register: Register(6), offset } => (Kind::Fp, *offset),
            CfaRule::RegisterAndOffset { .. } => return Rule::OTHER,
            CfaRule::Expression(expression) => match expression.get(frames) {
                Ok(said) if *said.0.slice() == OF_STUBS => return Rule::STUB,
                Ok(said) => match pointer(said.0.slice()) {
                    Some(at) => (Kind::Pointer, at),
                    None => return Rule::OTHER,
                },
                Err(_) => return Rule::OTHER,
            },
        };
        let fits = end > 0
            && end % 8 == 0
            && end / 8 < 1 << Rule::WIDE_END_BITS
            && saved < 1 << Rule::WIDE_SAVED_BITS;
        if fits { Rule::new(kind, (end / 8) as u32, saved as u32) } else { Rule::OTHER }
    }

    /// Where above the stack pointer the address lies that a [`Kind::Pointer`] needs: of `breg7 at; deref; plus_uconst 8`.
    fn pointer(expression: &[u8]) -> Option<i64> {
        let at = expression.strip_prefix(&[0x77])?.strip_suffix(&[0x06, 0x23, 0x08])?;
        match *at {
            [low @ 0..0x40] => Some(low.into()),
            [low @ 0x80..=0xff, high @ 0..0x40] => {
                Some(i64::from(low & 0x7f) | i64::from(high) << 7)
            }
            _ => None,
        }
    }

    struct Building {
        text: Range<u32>,
        index: Vec<u32>,
        rows: Vec<u32>,
        wide: Vec<u32>,
        known_wide: HashMap<u32, u32>,
        /// The place that was named last, whether the last row is of it, and what held before.
        last: u32,
        has_row: bool,
        before: Rule,
        now: Rule,
        room: usize,
    }

    impl Building {
        fn new(text: &Range<u32>, room: usize) -> Option<Self> {
            let pieces = (text.len() as u32).div_ceil(PIECE) as usize;
            let mut index = Vec::new();
            if pieces * 4 >= room || index.try_reserve_exact(pieces + 1).is_err() {
                return None;
            }
            Some(Self {
                text: text.clone(),
                index,
                rows: Vec::new(),
                wide: Vec::new(),
                known_wide: HashMap::new(),
                last: text.start,
                has_row: false,
                before: Rule::UNKNOWN,
                now: Rule::UNKNOWN,
                room,
            })
        }

        /// From `at` on `rule` holds. Places never decrease.
        fn put(&mut self, at: u32, rule: Rule) -> Option<()> {
            let at = at.clamp(self.last, self.text.end);
            if at == self.last && self.has_row {
                // Of two rows at one place the later one counts.
                self.rows.pop();
                self.now = self.before;
            }
            (self.last, self.has_row) = (at, rule != self.now);
            if !self.has_row {
                return Some(());
            }
            if self.rows.len() * 4 + self.index.capacity() * 4 + self.wide.len() * 4 > self.room {
                return None;
            }
            let (piece, low) = ((at - self.text.start) / PIECE, (at - self.text.start) % PIECE);
            // A piece without rows begins where the next one does.
            let first = self.rows.len() as u32;
            self.index.resize(self.index.len().max(piece as usize + 1), first);
            let packed = self.packed(rule)?;
            push(&mut self.rows, low | packed << 8)?;
            (self.before, self.now) = (self.now, rule);
            Some(())
        }

        fn packed(&mut self, rule: Rule) -> Option<u32> {
            let (kind, end) = (rule.0 & 7, rule.0 >> 3 & ((1 << Rule::WIDE_END_BITS) - 1));
            let saved = rule.0 >> (3 + Rule::WIDE_END_BITS);
            let saved_bits = Rule::ROW_BITS - 3 - Rule::END_BITS;
            if kind != Rule::POINTER && end < 1 << Rule::END_BITS && saved < 1 << saved_bits {
                return Some(kind | end << 3 | saved << (3 + Rule::END_BITS));
            }
            let next = self.wide.len() as u32;
            if next >= 1 << (Rule::ROW_BITS - 3) {
                return Some(Rule::OTHER.0);
            }
            self.known_wide.try_reserve(1).ok()?;
            let index = match self.known_wide.entry(rule.0) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => {
                    push(&mut self.wide, rule.0)?;
                    *new.insert(next)
                }
            };
            Some(Rule::WIDE | index << 3)
        }

        fn finish(mut self) -> CfiTable {
            let pieces = (self.text.len() as u32).div_ceil(PIECE) as usize;
            self.index.resize(pieces + 1, self.rows.len() as u32);
            CfiTable { first: self.text.start, index: self.index, rows: self.rows, wide: self.wide }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn built(rows: &[(u32, Rule)]) -> CfiTable {
            let mut building = Building::new(&(0x100..0x1000), 1 << 20).unwrap();
            rows.iter().for_each(|(at, rule)| building.put(*at, *rule).unwrap());
            building.finish()
        }

        #[test]
        fn a_rule_holds_from_its_row_to_the_next_one_across_pieces() {
            let (a, b) = (Rule::new(Kind::Sp, 3, 0), Rule::new(Kind::Fp, 2, 2));
            let table = built(&[(0x180, a), (0x5ff, b), (0x600, a), (0xfff, Rule::UNKNOWN)]);
            let rules = [
                (0x50, Rule::UNKNOWN),
                (0x100, Rule::UNKNOWN),
                (0x17f, Rule::UNKNOWN),
                (0x180, a),
                (0x400, a),
                (0x5fe, a),
                (0x5ff, b),
                (0x600, a),
                (0xffe, a),
                (0xfff, Rule::UNKNOWN),
                (0x1000, Rule::UNKNOWN),
                (u32::MAX, Rule::UNKNOWN),
            ];
            for (at, rule) in rules {
                assert_eq!(table.rule(at), rule, "{at:#x}");
            }
        }

        #[test]
        fn of_two_rows_at_one_place_the_later_one_counts() {
            let (a, b) = (Rule::new(Kind::Sp, 3, 0), Rule::new(Kind::Sp, 4, 0));
            let table = built(&[(0x180, a), (0x200, Rule::UNKNOWN), (0x200, a), (0x300, b)]);
            assert_eq!(table.rows.len(), 2, "nothing changes at 0x200");
            assert_eq!([table.rule(0x1ff), table.rule(0x200), table.rule(0x300)], [a, a, b]);
        }

        #[test]
        fn a_frame_of_any_size_that_is_said_comes_back() {
            let large = Rule::new(Kind::Fp, (1 << Rule::WIDE_END_BITS) - 1, 12_345);
            let table = built(&[(0x180, large), (0x181, Rule::BEGIN), (0x182, large)]);
            assert_eq!((large.end(), large.saved()), (((1 << 15) - 1) * 8, 12_345 * 8));
            let found = [0x180, 0x181, 0x182].map(|at| table.rule(at));
            assert_eq!(found, [large, Rule::BEGIN, large]);
            assert_eq!(table.wide.len(), 1, "said once");
        }

        #[test]
        fn a_table_that_is_larger_than_its_room_is_none() {
            let mut building = Building::new(&(0..0x10_0000), 20_000).unwrap();
            let rule = |at: u32| Rule::new(Kind::Sp, 1 + at % 7, 0);
            assert!((0..0x10_0000).any(|at| building.put(at, rule(at)).is_none()));
            assert!(building.rows.len() * 4 <= 20_000);
        }

        #[test]
        fn a_section_of_any_bytes_makes_a_table_or_none() {
            let mut bytes = [0_u8; 512];
            let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
            for _ in 0..2000 {
                for byte in &mut bytes {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    *byte = seed as u8;
                }
                // A length that makes sense, so that what comes behind it is read.
                bytes[..4].copy_from_slice(&20_u32.to_le_bytes());
                bytes[4..8].fill(0);
                let _ = build(&bytes, 0x1000, &(0..0x8000), 1 << 20, &|| false);
            }
        }
    }
}
