//! Reads the stack of a thread, of this process or another one, through the kernel, piece by piece, and only the pieces
//! that a walk needs. So a wild stack pointer cannot cause a fault, and nothing beyond the walked frames is read. A thread
//! that walks its [own stack](super::own_stack) reads that as it is, which takes a tenth of the time.
//!
//! For a blocked thread the kernel reports the stack pointer and the program counter, but not the frame pointer. Most
//! code between the system call and the service's own code does not need it. A function that uses a frame pointer
//! stores it in its first instructions, and it is read from there. Otherwise it is searched for: a word on the stack
//! that points further up, next to a return address. Either candidate counts only if a call instruction precedes that
//! return address.

use super::cfi_table::Kind;
use super::own_stack;
use super::unwind::{Code, Memory};
use crate::os::own_memory::OwnMemory;
use crate::os::read_memory::ReadMemory;
use std::cell::Cell;

/// A frame pointer is looked for in so many bytes.
const SEARCH: u64 = 8 << 10;
/// So many bytes are read at once. They lie within a page, and so within one mapping.
const PIECE: u64 = 1 << 10;
/// What lies further from the stack pointer is not on a stack: a walk reads nothing of other memory for long.
const LARGEST: u64 = 64 << 20;
/// So much below the stack pointer belongs to the innermost function, too.
const RED_ZONE: u64 = 128;

/// Room for a piece. A handler on a small stack has it elsewhere.
pub(crate) struct Piece([Cell<u64>; PIECE as usize / 8]);

impl Piece {
    pub(crate) const fn new() -> Self {
        Self([const { Cell::new(0) }; PIECE as usize / 8])
    }
}

/// See the module.
pub(crate) struct StackMemory<'a, R = OwnMemory> {
    memory: R,
    low: Cell<u64>,
    sp: Cell<u64>,
    /// Which piece is here, and how many words of it there are.
    piece: Cell<u64>,
    count: Cell<usize>,
    words: &'a Piece,
    /// What can be read as it is, of the thread that walks its own stack.
    own: Cell<(u64, u64)>,
    is_own: bool,
}

impl<'a, R: ReadMemory> StackMemory<'a, R> {
    /// The stack of a thread with this stack pointer.
    pub(crate) fn new(memory: R, sp: u64, words: &'a Piece) -> Self {
        Self {
            memory,
            low: Cell::new(sp.saturating_sub(RED_ZONE)),
            sp: Cell::new(sp),
            piece: Cell::new(u64::MAX),
            count: Cell::new(0),
            words,
            own: Cell::new((0, 0)),
            is_own: false,
        }
    }

    /// The stack of the calling thread, from a live frame with this stack pointer on.
    pub(crate) fn of_this_thread(memory: R, sp: u64, words: &'a Piece) -> Self {
        let own = own_stack::above(sp);
        Self { own: Cell::new((own.start, own.end)), is_own: true, ..Self::new(memory, sp, words) }
    }

    /// Whether what was read was this memory.
    pub(crate) fn is_sound(&self) -> bool {
        self.memory.is_sound()
    }
}

impl<R: ReadMemory> Memory for StackMemory<'_, R> {
    fn word(&self, at: u64) -> Option<u64> {
        let low = self.low.get();
        let is_on_stack = at >= low && at - low < LARGEST;
        if !is_on_stack || !at.is_multiple_of(8) {
            return None;
        }
        let (start, end) = self.own.get();
        if start <= at && at < end {
            // SAFETY: `above` has said so on this thread, as what is here is not `Sync`; and it is aligned.
            return Some(unsafe { own_stack::word(at) });
        }
        let piece = at / PIECE;
        if self.piece.replace(piece) != piece {
            self.count.set(self.memory.words(piece * PIECE, &self.words.0));
        }
        let index = (at % PIECE / 8) as usize;
        (index < self.count.get()).then(|| self.words.0[index].get())
    }

    /// A program may have protected pages in the middle of a stack, as guards of stacks that it has made there: no frame is
    /// there, but a guess may lead there.
    fn is_guessed(&self) {
        self.own.set((0, 0));
    }

    fn switch(&self, sp: u64) {
        self.low.set(sp.saturating_sub(RED_ZONE));
        self.sp.set(sp);
        if self.is_own {
            let own = own_stack::above(sp);
            self.own.set((own.start, own.end));
        }
    }

    fn is_behind_call<C: Code>(&self, map: &C, address: u64) -> bool {
        is_call_before(self.memory, map, address, None)
    }

    #[cold]
    #[inline(never)]
    fn find_frame_pointer<C: Code>(&self, map: &C, at: u64, sp: u64) -> Option<u64> {
        let memory = self.memory;
        let prologue = map.frame_setup(at);
        let by_prologue = prologue.and_then(|at| frame_size(memory, at)).and_then(|frame| {
            let fp = sp.checked_add(frame.size)?;
            let from = self.word(fp.checked_add(8)?)?;
            // What was called may have ended in a jump to this function. Then the call is of another one, which says less: it
            // counts where all of the frame's size is known.
            let is_it = is_call_before(memory, map, from, prologue)
                || frame.is_whole && is_call_before(memory, map, from, None);
            is_it.then_some(fp)
        });
        by_prologue.or_else(|| {
            let end = sp.saturating_add(SEARCH);
            (sp..end)
                .step_by(8)
                .map_while(|fp| Some((fp, self.word(fp)?, self.word(fp + 8)?)))
                .find_map(|(fp, above, from)| {
                    let leads_up = above > fp && above - self.sp.get() < LARGEST;
                    // Where the caller has no frame pointer, anything may be in its register.
                    let is_free = || map.rule(from.wrapping_sub(1)).kind() == Kind::Sp;
                    let is_it =
                        (leads_up || is_free()) && is_call_before(memory, map, from, prologue);
                    is_it.then_some(fp)
                })
        })
    }
}

/// What a function's first instructions say of its frame.
struct FrameSize {
    /// How far above the stack pointer the frame pointer is.
    size: u64,
    /// Whether they make the room for what is local, too. Without that there may be more of it, or it may be aligned.
    is_whole: bool,
}

/// The same of the instructions at `at`, which set the frame pointer up.
#[cfg(target_arch = "x86_64")]
fn frame_size(memory: impl ReadMemory, at: u64) -> Option<FrameSize> {
    let mut room = [0; 48];
    let mut code = memory.copy(at, &mut room).strip_prefix(&[0x55, 0x48, 0x89, 0xe5])?;
    let mut size = 0;
    let whole = |size| Some(FrameSize { size, is_whole: true });
    loop {
        // Pushes, and then room for what is local.
        match code {
            [0x50..=0x57, rest @ ..] => (size, code) = (size + 8, rest),
            [0x41, 0x50..=0x57, rest @ ..] => (size, code) = (size + 8, rest),
            [0x48, 0x83, 0xec, more, ..] => return whole(size + u64::from(*more)),
            [0x48, 0x81, 0xec, a, b, c, d, ..] => {
                return whole(size + u64::from(u32::from_le_bytes([*a, *b, *c, *d])));
            }
            _ => return Some(FrameSize { size, is_whole: false }),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn frame_size(_: impl ReadMemory, _: u64) -> Option<FrameSize> {
    None
}

/// Whether an instruction that calls stands before `from`: one that may have called the function whose first
/// instructions are at `callee`.
#[cfg(target_arch = "x86_64")]
fn is_call_before(
    memory: impl ReadMemory,
    map: &impl Code,
    from: u64,
    callee: Option<u64>,
) -> bool {
    if map.rule(from.wrapping_sub(1)).kind() == Kind::Unknown {
        return false;
    }
    let mut room = [0; 7];
    let code = memory.copy(from.wrapping_sub(7), &mut room);
    match *code {
        [_, _, 0xe8, a, b, c, d] => {
            let distance = i64::from(i32::from_le_bytes([a, b, c, d]));
            let target = from.wrapping_add_signed(distance);
            // Before the first instruction there may be one that says that the place may be jumped to.
            let is_it = |callee: u64| target == callee || target.wrapping_add(4) == callee;
            callee.is_none_or(is_it) || map.rule(target).kind() == Kind::Stub
        }
        // Through a register or memory, in two to seven bytes.
        [a, b, c, d, e, f, g] => {
            let is_call = |modes: u8| modes >> 3 & 7 == 2;
            [(a, b), (b, c), (c, d), (d, e), (e, f), (f, g)]
                .into_iter()
                .enumerate()
                .any(|(at, (code, modes))| code == 0xff && is_call(modes) && at != 2)
        }
        _ => false,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_call_before(_: impl ReadMemory, map: &impl Code, from: u64, _: Option<u64>) -> bool {
    map.rule(from.wrapping_sub(4)).kind() != Kind::Unknown
}
