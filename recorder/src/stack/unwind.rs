//! Walks a stack, from each frame to its caller, by the rules of the [`ModuleMap`].
//!
//! The walk allocates nothing and needs some 300 bytes of stack, so it can run in a signal handler. It reads memory
//! only through a [`Memory`], which returns nothing where there is none. Each frame lies above the one before it
//! (except the one that a signal interrupted), so a walk ends, whatever is on the stack.

use super::cfi_table::{Kind, Rule};
use super::modules::ModuleMap;
use lookback_snapshot::wire::StackEnd as End;

/// The most frames that a stack has here.
pub(crate) const MAX_FRAMES: usize = 128;

/// Where a thread is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    /// `None` where only the kernel knows it.
    pub(crate) fp: Option<u64>,
}

/// The registers of the place of the call: it is always inlined.
#[inline(always)]
pub(crate) fn here() -> Registers {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let (pc, sp, fp): (u64, u64, u64);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads registers.
    unsafe {
        core::arch::asm!(
            "lea {}, [rip]", "mov {}, rsp", "mov {}, rbp",
            out(reg) pc, out(reg) sp, out(reg) fp,
            options(nomem, nostack, preserves_flags)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads registers.
    unsafe {
        core::arch::asm!(
            "adr {}, .", "mov {}, sp", "mov {}, x29",
            out(reg) pc, out(reg) sp, out(reg) fp,
            options(nomem, nostack, preserves_flags)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let (pc, sp, fp) = (0, 0, 0);
    Registers { pc, sp, fp: Some(fp) }
}

/// An address in code, and whether it is that of an instruction that was about to run; else a call returns there, and
/// the call before it is what the frame is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address(u64);

impl Address {
    pub(crate) const fn new(address: u64, is_exact: bool) -> Self {
        Self(address << 1 | is_exact as u64)
    }

    pub(crate) fn is_exact(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn get(self) -> u64 {
        self.0 >> 1
    }

    /// An address within the instruction that the frame is at.
    pub(crate) fn at(self) -> u64 {
        self.get().wrapping_sub(u64::from(!self.is_exact()))
    }
}

/// What is known of the code that a stack leads through: the [`ModuleMap`].
pub(crate) trait Code {
    /// How to get on from a frame in the code at this address.
    fn rule(&self, address: u64) -> Rule;

    /// The address of the instructions that set a frame pointer up, in the function that has the code at `at`.
    fn frame_setup(&self, at: u64) -> Option<u64>;

    /// Where the function begins that has the code at this address, as far as can be told.
    fn function_start(&self, _at: u64) -> Option<u64> {
        None
    }
}

/// A stack that can be read, as far as its bounds say.
pub(crate) trait Memory {
    /// The word at an address that is a multiple of eight.
    fn word(&self, at: u64) -> Option<u64>;

    /// What is read from here on is where a guess leads.
    fn is_guessed(&self) {}

    /// The walk goes on with what a signal has interrupted, which may be on another stack, with this stack pointer.
    fn switch(&self, _sp: u64) {}

    /// Whether a call in the code of the map returns to this address, as far as can be told.
    fn is_behind_call<C: Code>(&self, map: &C, address: u64) -> bool {
        map.rule(address.wrapping_sub(1)).kind() != Kind::Unknown
    }

    /// The frame pointer where the thread's registers are not known: of the innermost frame that has one, whose code is
    /// at `at`, with this stack pointer.
    fn find_frame_pointer<C: Code>(&self, _map: &C, _at: u64, _sp: u64) -> Option<u64> {
        None
    }
}

/// See the module.
pub(crate) struct Walk<'a, M, C = ModuleMap> {
    map: &'a C,
    memory: &'a M,
    pc: Address,
    sp: u64,
    fp: Option<u64>,
    /// Nothing was unwound yet.
    is_first: bool,
}

impl<'a, M: Memory> Walk<'a, M> {
    #[inline(always)]
    pub(crate) fn new(map: &'a ModuleMap, memory: &'a M, from: Registers) -> Self {
        Self::through(map, memory, from)
    }
}

impl<'a, M: Memory, C: Code> Walk<'a, M, C> {
    /// As [`new`](Self::new), through any code.
    #[inline(always)]
    pub(crate) fn through(map: &'a C, memory: &'a M, from: Registers) -> Self {
        let pc = Address::new(from.pc, true);
        Self { map, memory, pc, sp: from.sp, fp: from.fp, is_first: true }
    }

    /// The frame that it is at.
    pub(crate) fn pc(&self) -> Address {
        self.pc
    }

    /// The stack pointer in it.
    pub(crate) fn sp(&self) -> u64 {
        self.sp
    }

    /// Goes on to the caller.
    #[inline(always)]
    pub(crate) fn step(&mut self) -> Result<(), End> {
        let rule = self.map.rule(self.pc.at());
        let is_first = std::mem::replace(&mut self.is_first, false);
        let end = match rule.kind() {
            Kind::Sp => self.sp.wrapping_add(rule.end()),
            Kind::Fp => self.frame_pointer()?.wrapping_add(rule.end()),
            // So they are made: a jump in the first eleven bytes, behind a push in the others.
            Kind::Stub => self.sp.wrapping_add(if self.pc.get() % 16 >= 11 { 16 } else { 8 }),
            Kind::Pointer => {
                let at = self.sp.wrapping_add(rule.end());
                self.memory.word(at).ok_or(End::OffStack)?.wrapping_add(8)
            }
            Kind::Begin => return Err(End::Begin),
            Kind::Signal => return self.interrupted(),
            Kind::Other => return Err(End::Unsaid),
            Kind::Unknown => return self.unknown(is_first),
        };
        let saved = rule.saved();
        self.leave(end, (saved != 0).then(|| end.wrapping_sub(saved)))
    }

    fn frame_pointer(&mut self) -> Result<u64, End> {
        if self.fp.is_none() {
            self.fp = self.memory.find_frame_pointer(self.map, self.pc.at(), self.sp);
        }
        self.fp.ok_or(End::OffStack)
    }

    /// The frame ends at `end`, and the caller's frame pointer was saved at `saved`.
    #[inline(always)]
    fn leave(&mut self, end: u64, saved: Option<u64>) -> Result<(), End> {
        if end <= self.sp {
            return Err(End::OffStack);
        }
        let pc = self.memory.word(end.wrapping_sub(8)).ok_or(End::OffStack)?;
        if let Some(saved) = saved {
            self.fp = Some(self.memory.word(saved).ok_or(End::OffStack)?);
        }
        self.go_to(pc, end)
    }

    #[inline(always)]
    fn go_to(&mut self, pc: u64, sp: u64) -> Result<(), End> {
        // The upper bits may hold a signature.
        let pc = if cfg!(target_arch = "aarch64") { pc & ((1 << 48) - 1) } else { pc };
        if pc == 0 {
            return Err(End::Begin);
        }
        (self.pc, self.sp) = (Address::new(pc, false), sp);
        Ok(())
    }

    /// What a signal has interrupted, by what the kernel has saved.
    #[cold]
    fn interrupted(&mut self) -> Result<(), End> {
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        {
            // A `ucontext_t` lies at the stack pointer: flags, link and stack, then the registers.
            let register = |number: i32| {
                let at = self.sp.wrapping_add(40 + 8 * number as u64);
                self.memory.word(at).ok_or(End::OffStack)
            };
            let (fp, sp) = (register(libc::REG_RBP)?, register(libc::REG_RSP)?);
            let pc = Address::new(register(libc::REG_RIP)?, true);
            self.memory.switch(sp);
            (self.pc, self.sp, self.fp) = (pc, sp, Some(fp));
            Ok(())
        }
        #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
        Err(End::Unsaid)
    }

    /// Nothing is known of the code.
    #[cold]
    fn unknown(&mut self, is_first: bool) -> Result<(), End> {
        // A call to nowhere has just pushed where it came from.
        if is_first
            && cfg!(target_arch = "x86_64")
            && let Some(from) = self.memory.word(self.sp)
            && self.map.rule(from.wrapping_sub(1)).kind() != Kind::Unknown
        {
            return self.go_to(from, self.sp.wrapping_add(8));
        }
        // What is made at run time has frame pointers, mostly.
        self.memory.is_guessed();
        let fp = self.fp.filter(|fp| *fp >= self.sp).ok_or(End::UnknownCode)?;
        let pc = self.memory.word(fp.wrapping_add(8)).ok_or(End::UnknownCode)?;
        let is_generated = self.map.rule(pc.wrapping_sub(1)).kind() == Kind::Unknown;
        if !is_generated && !self.memory.is_behind_call(self.map, pc) {
            return Err(End::UnknownCode);
        }
        self.leave(fp.wrapping_add(16), Some(fp)).map_err(|_| End::UnknownCode)
    }
}

/// Walks to the end of the stack, the innermost frame first. Says how many frames that were, and why no more.
pub(crate) fn walk<M: Memory>(
    map: &ModuleMap,
    memory: &M,
    from: Registers,
    into: &mut [Address],
) -> (usize, End) {
    walk_through(map, memory, from, into)
}

/// As [`walk`], through any code.
#[inline(always)]
pub(crate) fn walk_through<M: Memory, C: Code>(
    map: &C,
    memory: &M,
    from: Registers,
    into: &mut [Address],
) -> (usize, End) {
    let mut walk = Walk::through(map, memory, from);
    for (count, frame) in into.iter_mut().enumerate() {
        *frame = walk.pc();
        if let Err(end) = walk.step() {
            return without_false_guess(map, &into[..=count], end);
        }
    }
    (into.len(), End::Full)
}

/// The way out of code without rules is a guess. A walk that then leaves the stack shows that it was a false one, and
/// nothing behind it is true.
fn without_false_guess<C: Code>(map: &C, frames: &[Address], end: End) -> (usize, End) {
    let is_unknown = |frame: &Address| map.rule(frame.at()).kind() == Kind::Unknown;
    if end == End::OffStack
        && let Some(guess) = frames.iter().position(is_unknown)
    {
        return (guess + 1, End::UnknownCode);
    }
    (frames.len(), end)
}
