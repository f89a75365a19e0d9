//! The stack of the thread that a fatal signal has interrupted, beside the note of it.
//!
//! The handler may run on a small alternate stack, anywhere in the program, so what is found is kept in room of its own:
//! one for the stack that goes into the arena, one for that of a note that waits. The walk itself reads by the kernel,
//! allocates nothing and takes no lock. Of a long stack the innermost and the outermost frames are kept.
//!
//! # Synchronization
//!
//! The stack in the arena names the state of the note that it belongs to, and 0 while it is being written. So a reader
//! takes no stack for that of another note, whichever of the two is written last. One thread at a time writes a note and
//! its stack: that which has swapped [`IS_WRITING`]. The others wait for it, as they may be about to end the process.

use super::note::wait_while;
use crate::stack;
use crate::stack::modules::{self, ModuleMap};
use crate::stack::unwind::{Address, Registers};
use lookback_snapshot::wire::{StackEnd, StackSource, crash_stack_offset as at, offset};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// So many frames are walked at most. A stack of 8 MiB has 175,000 frames of 48 bytes.
const MAX_WALKED: usize = 1 << 20;
/// So many files a stack is told of.
const MAX_FILES: usize = 16;

/// What a walk has found.
struct Found {
    /// How many frames there are, or why there are none.
    walked: Result<(usize, StackEnd), StackSource>,
    innermost: [Address; at::MAX_INNERMOST],
    /// A ring: frame number `n` lies at `n % MAX_OUTERMOST`.
    outermost: [Address; at::MAX_OUTERMOST],
}

/// Room for a stack, with what the walk needs.
pub(super) struct Room(UnsafeCell<(Found, stack::Piece)>);

// SAFETY: each room has one user at a time: see its definition.
unsafe impl Sync for Room {}

impl Room {
    pub(super) const fn new() -> Self {
        const NONE: Address = Address::new(0, false);
        let found = Found {
            walked: Err(StackSource::NoTables),
            innermost: [NONE; at::MAX_INNERMOST],
            outermost: [NONE; at::MAX_OUTERMOST],
        };
        Self(UnsafeCell::new((found, stack::Piece::new())))
    }

    /// No stack is taken: there were too many.
    ///
    /// # Safety
    /// This thread has the room for itself.
    pub(super) unsafe fn leave_empty(&self) {
        // SAFETY: the caller's promise.
        unsafe { (*self.0.get()).0.walked = Err(StackSource::Limited) };
    }

    /// Walks this thread's stack from these registers on.
    ///
    /// # Safety
    /// This thread has the room for itself.
    #[inline(never)]
    pub(super) unsafe fn fill(&self, from: Registers) {
        // SAFETY: the caller's promise.
        let (found, piece) = unsafe { &mut *self.0.get() };
        let Found { walked, innermost, outermost } = found;
        let mut count = 0;
        let mut keep = |frame: Address| {
            match innermost.get_mut(count) {
                Some(place) => *place = frame,
                None => outermost[count % at::MAX_OUTERMOST] = frame,
            }
            count += 1;
            count < MAX_WALKED
        };
        let end = stack::walk_from(from, piece, &mut keep);
        *walked = end.map(|end| (count, end));
    }
}

/// Room for the stack that is being written to the arena: for the thread that has swapped [`IS_WRITING`].
static ROOM: Room = Room::new();
static IS_WRITING: AtomicBool = AtomicBool::new(false);

/// Where a stack comes from.
pub(super) enum Of<'a> {
    /// These are the registers of what the signal has interrupted.
    Interrupted(Registers),
    /// It was walked before.
    Room(&'a Room),
}

/// Whether a thread is in the middle of a note with its stack.
pub(super) fn is_being_written() -> bool {
    IS_WRITING.load(Ordering::SeqCst)
}

/// While it exists, only this thread writes notes and stacks. So none stands without its stack when another thread goes
/// on, which may end the process.
pub(super) struct Writing(());

impl Writing {
    /// Waits for another thread. `None` if that takes too long: it may be this one, interrupted.
    pub(super) fn begin() -> Option<Self> {
        let mut is_held = false;
        wait_while(|| {
            let order = Ordering::SeqCst;
            is_held = IS_WRITING.compare_exchange(false, true, order, order).is_ok();
            !is_held
        });
        is_held.then_some(Self(()))
    }

    /// Writes a stack beside the note in this header, which has this state. Nothing if stacks are turned off.
    ///
    /// # Safety
    /// The header is mapped, and the room, if one is given, is this thread's for now.
    #[inline(never)]
    pub(super) unsafe fn write(&self, header: *mut u8, state: u64, of: Of<'_>) {
        if !stack::is_on() {
            return;
        }
        let room = match of {
            Of::Interrupted(from) => {
                // SAFETY: this thread has swapped the flag.
                unsafe { ROOM.fill(from) };
                &ROOM
            }
            Of::Room(room) => room,
        };
        // SAFETY: this thread has the room for itself, and nothing fills it now.
        let (found, _) = unsafe { &*room.0.get() };
        Place { header }.put(found, state);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        IS_WRITING.store(false, Ordering::SeqCst);
    }
}

/// The place for a stack in an arena's header, which is mapped while this exists.
struct Place {
    header: *mut u8,
}

impl Place {
    fn put(&self, found: &Found, state: u64) {
        let note = |at: usize| offset::CRASH_NOTE + at;
        self.u64(note(at::STATE)).store(0, Ordering::SeqCst);
        let (count, end, source) = match found.walked {
            Ok((count, end)) => (count, end, StackSource::Own),
            Err(source) => (0, StackEnd::Begin, source),
        };
        let innermost = count.min(at::MAX_INNERMOST);
        let outermost = (count - innermost).min(at::MAX_OUTERMOST);
        let frames = found.innermost[..innermost].iter().copied().chain(
            (count - outermost..count).map(|number| found.outermost[number % at::MAX_OUTERMOST]),
        );
        self.u32(note(at::COUNT)).store((count as u32).to_le(), Ordering::Relaxed);
        for (at, byte) in [
            (at::INNERMOST, innermost as u8),
            (at::OUTERMOST, outermost as u8),
            (at::END, end as u8),
            (at::SOURCE, source as u8),
        ] {
            self.u8(note(at)).store(byte, Ordering::Relaxed);
        }
        let start = self.behind_metadata();
        let end = self.put_frames(frames, start);
        let (start, length) = (start as u16, (end - start) as u16);
        self.u16(note(at::FILES)).store(start.to_le(), Ordering::Relaxed);
        self.u16(note(at::FILES_LENGTH)).store(length.to_le(), Ordering::Relaxed);
        self.u64(note(at::STATE)).store(state.to_le(), Ordering::SeqCst);
    }

    /// Where the room behind the metadata begins, which nothing else uses.
    fn behind_metadata(&self) -> usize {
        let length = u32::from_le(self.u32(offset::METADATA).load(Ordering::Relaxed));
        (offset::METADATA + 4).saturating_add(length as usize).min(offset::SAVES)
    }

    /// Writes the frames, and their files at `start`, as far as there is room. Returns where the files end.
    fn put_frames(&self, frames: impl Iterator<Item = Address>, start: usize) -> usize {
        let map = ModuleMap::current();
        let mut files = [0_u16; MAX_FILES];
        let (mut known, mut runs, mut end, mut run) = (0, 0_u8, start + 1, None);
        for (index, frame) in frames.enumerate() {
            let found = map.as_ref().and_then(|map| map.find(frame.at()));
            let (file, offset) = match found {
                // Of the address itself, which may be the first one behind the file's code.
                Some((module, at)) => {
                    let number = module.number as u16;
                    let file = files[..known].iter().position(|file| *file == number);
                    let file = file.map_or_else(
                        || {
                            let place = files.get_mut(known)?;
                            (*place, known) = (number, known + 1);
                            Some(known)
                        },
                        |at| Some(at + 1),
                    );
                    (file.unwrap_or(0), at.wrapping_add(u32::from(!frame.is_exact())))
                }
                None => (0, 0),
            };
            let word = offset << 1 | u32::from(frame.is_exact());
            let place = offset::CRASH_NOTE + at::FRAMES + 4 * index;
            self.u32(place).store(word.to_le(), Ordering::Relaxed);
            match run {
                Some((of, length)) if of == file => run = Some((of, length + 1)),
                _ => {
                    self.put_run(run, &mut runs, &mut end);
                    run = Some((file, 1));
                }
            }
        }
        self.put_run(run, &mut runs, &mut end);
        if start >= offset::SAVES {
            return start;
        }
        self.u8(start).store(runs, Ordering::Relaxed);
        for number in &files[..known] {
            let Some(module) = modules::module(u32::from(*number)) else { break };
            let (path, build_id) = (module.path.as_bytes(), &*module.build_id);
            let fits = path.len() <= u16::MAX.into()
                && build_id.len() <= u8::MAX.into()
                && 3 + path.len() + build_id.len() <= offset::SAVES.saturating_sub(end);
            if !fits {
                break;
            }
            let [low, high] = (path.len() as u16).to_le_bytes();
            let front = [low, high, build_id.len() as u8];
            for byte in front.iter().chain(path).chain(build_id) {
                self.u8(end).store(*byte, Ordering::Relaxed);
                end += 1;
            }
        }
        end
    }

    fn put_run(&self, run: Option<(usize, u8)>, runs: &mut u8, end: &mut usize) {
        let Some((file, length)) = run else { return };
        if *end + 2 <= offset::SAVES {
            self.u8(*end).store(file as u8, Ordering::Relaxed);
            self.u8(*end + 1).store(length, Ordering::Relaxed);
            (*end, *runs) = (*end + 2, *runs + 1);
        }
    }

    fn u64(&self, at: usize) -> &AtomicU64 {
        // SAFETY: aligned, as the offsets are, and within the header, which is mapped.
        unsafe { &*self.at(at).cast() }
    }

    fn u32(&self, at: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { &*self.at(at).cast() }
    }

    fn u16(&self, at: usize) -> &AtomicU16 {
        // SAFETY: as above.
        unsafe { &*self.at(at).cast() }
    }

    fn u8(&self, at: usize) -> &AtomicU8 {
        // SAFETY: within the header, which is mapped.
        unsafe { &*self.at(at).cast() }
    }

    fn at(&self, at: usize) -> *mut u8 {
        debug_assert!(at < offset::DATA);
        // SAFETY: within the header.
        unsafe { self.header.add(at) }
    }
}
