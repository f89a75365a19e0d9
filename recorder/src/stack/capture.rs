//! Captures a stack: this thread's, or [another thread's](super::other_thread).

use super::await_chain::Step;
use super::modules::ModuleMap;
use super::stack_memory::{Piece, StackMemory};
use super::trie::{StackId, Trie};
use super::unwind::{Address, MAX_FRAMES, Memory, Registers, Walk, walk};
use crate::os::own_memory::{self, WhenRead};
use crate::os::signal_chain::Errno;
use lookback_snapshot::wire::{StackEnd, StackSource};

/// The stack of this thread, from the place of these registers on; or why there is none.
#[inline(never)]
pub(crate) fn of_this_thread(from: Registers) -> Result<StackId, StackSource> {
    let mut frames = [Address::default(); MAX_FRAMES];
    let (count, end) = walked(from, &mut frames)?;
    intern(&frames[..count], end)
}

/// The frames of a thread of this process, the innermost first, and why there are no more. May be called in a handler of
/// a signal.
pub(super) fn walked(
    from: Registers,
    frames: &mut [Address],
) -> Result<(usize, StackEnd), StackSource> {
    let _errno = Errno::keep();
    let map = ModuleMap::current().ok_or_else(without_tables)?;
    let memory = WhenRead::default();
    let piece = Piece::new();
    let stack = StackMemory::of_this_thread(&memory, from.sp, &piece);
    let walked = walk(&map, &stack, from, frames);
    if stack.is_sound() { Ok(walked) } else { Err(StackSource::NotReadable) }
}

/// The frames of this thread from the place of these registers up to the poll whose function has the stack pointer
/// `top`, the innermost first, with their number, and whether those are all. `None` if the walk does not get there, or only
/// through a handler of a signal. May be called in one.
pub(super) fn up_to_poll(
    from: Registers,
    top: u64,
    steps: &mut [Step],
) -> Option<(usize, StackEnd)> {
    let _errno = Errno::keep();
    let (map, memory) = (ModuleMap::current()?, WhenRead::default());
    let piece = Piece::new();
    let stack = StackMemory::of_this_thread(&memory, from.sp, &piece);
    let mut walk = Walk::new(&map, &stack, from);
    let mut count = 0;
    loop {
        let returns = if count == 0 { 0 } else { stack.word(walk.sp().wrapping_sub(8))? };
        let Some(step) = steps.get_mut(count) else {
            return stack.is_sound().then_some((count, StackEnd::Full));
        };
        // How to leave code that is not known can only be guessed, and a chain is remembered for good.
        map.find(walk.pc().at()).filter(|_| map.is_still_there(walk.pc().at(), &memory))?;
        *step = Step { at: walk.pc(), sp: walk.sp(), returns };
        count += 1;
        if walk.sp() >= top {
            return stack.is_sound().then_some((count, StackEnd::Poll));
        }
        walk.step().ok()?;
        if walk.pc().is_exact() {
            return None;
        }
    }
}

/// Walks a stack of this process, and passes each frame on, the innermost first, until that returns `false`. Returns why
/// there are no more. For a handler of a signal: it needs little stack, allocates nothing, and takes no lock.
pub(crate) fn walk_from(
    from: Registers,
    piece: &Piece,
    keep: &mut dyn FnMut(Address) -> bool,
) -> Result<StackEnd, StackSource> {
    let map = ModuleMap::current().ok_or_else(without_tables)?;
    let memory = WhenRead::default();
    let stack = StackMemory::new(&memory, from.sp, piece);
    let mut walk = Walk::new(&map, &stack, from);
    let end = loop {
        if !keep(walk.pc()) {
            break StackEnd::Full;
        }
        if let Err(end) = walk.step() {
            break end;
        }
    };
    if stack.is_sound() { Ok(end) } else { Err(StackSource::NotReadable) }
}

fn without_tables() -> StackSource {
    if own_memory::is_refused() { StackSource::NotReadable } else { StackSource::NoTables }
}

/// The number of the stack with these frames.
pub(super) fn intern(frames: &[Address], end: StackEnd) -> Result<StackId, StackSource> {
    let map = ModuleMap::current().ok_or_else(without_tables)?;
    let trie = Trie::get().ok_or(StackSource::NoTables)?;
    let (frames, end) = known_by(&map, frames, end)?;
    trie.intern(&map, frames, end).ok_or(StackSource::NoRoom)
}

/// The frames up to the first one in code that has come in the place of what the map has there.
fn known_by<'a>(
    map: &ModuleMap,
    frames: &'a [Address],
    end: StackEnd,
) -> Result<(&'a [Address], StackEnd), StackSource> {
    let memory = WhenRead::default();
    let mut last = None;
    for (at, frame) in frames.iter().enumerate() {
        let module = map.find(frame.at()).map(|(module, _)| module.number);
        if module == last {
            continue;
        }
        if !map.is_still_there(frame.at(), &memory) {
            memory.get().ok_or(StackSource::NotReadable)?;
            let known = &frames[..at];
            return if at > 0 { Ok((known, StackEnd::UnknownCode)) } else { Err(without_tables()) };
        }
        last = module;
    }
    Ok((frames, end))
}

#[cfg(target_os = "linux")]
/// What a signal has interrupted.
///
/// # Safety
/// `context` must be what a handler was given.
pub(crate) unsafe fn registers_in(context: *mut libc::c_void) -> Registers {
    // SAFETY: with `SA_SIGINFO` it is that.
    let context = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    let registers = {
        let register = |number: libc::c_int| context.gregs[number as usize].cast_unsigned();
        let fp = Some(register(libc::REG_RBP));
        Registers { pc: register(libc::REG_RIP), sp: register(libc::REG_RSP), fp }
    };
    #[cfg(target_arch = "aarch64")]
    let registers = Registers { pc: context.pc, sp: context.sp, fp: Some(context.regs[29]) };
    registers
}
