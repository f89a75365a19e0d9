//! The control block: the few words that every event reads, and the slots.
//!
//! It lies in a private mapping of its own that is made once and never unmapped, so a thread may
//! hold a pointer into it for ever. Slots become memory a few at a time, when threads first need them. The
//! mapping is wiped in a forked child (`MADV_WIPEONFORK`):
//! there the published generation reads 0, which means "off", so a child never writes to its
//! parent's arena, at no cost to the parent.
//!
//! # Synchronization
//!
//! All words but the published generation (see [`crate::gate`]) are either counters or are stored
//! before a generation is published and read by who is inside it, so the publication orders them.

use crate::ids::Ids;
use crate::carver::Pin;
use crate::slot::Slot;
use crate::strings::StringTable;
use crate::trigger::slow::Names;
use lookback_snapshot::wire::{ClockKind, Loss};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;

/// The most threads that can have a slot at the same time.
pub(crate) const MAX_SLOTS: usize = 8192;
/// And the fewest that there is room for, however little address space is left.
const FEWEST_SLOTS: usize = 64;
/// Of the address space that is left under a limit, slots take one part in so many.
const SHARE: usize = 16;
/// Memory is made of so many slots at a time.
const PIECE: usize = 16;

/// How the hot path must behave on this machine: two bits, loaded once an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(u32);

impl Mode {
    const FENCED: u32 = 1;
    const NO_COUNTER: u32 = 2;

    pub(crate) fn new(clock: ClockKind, fenced: bool) -> Self {
        let no_counter = if clock == ClockKind::Monotonic { Self::NO_COUNTER } else { 0 };
        Self(no_counter | if fenced { Self::FENCED } else { 0 })
    }

    /// Writers pay for the order of flag and generation themselves.
    #[inline(always)]
    pub(crate) fn is_fenced(self) -> bool {
        self.0 & Self::FENCED != 0
    }

    /// The processor's counter can be trusted.
    #[inline(always)]
    pub(crate) fn has_counter(self) -> bool {
        self.0 & Self::NO_COUNTER == 0
    }
}

/// See the module.
#[repr(C, align(128))]
pub(crate) struct Control {
    /// The published generation; 0 while tracing is off.
    pub(crate) generation: AtomicU64,
    mode: AtomicU32,
    /// The process that this was made for; 0 in a forked child.
    pid: AtomicU32,
    slots: AtomicPtr<Slot>,
    /// How many slots there is room for.
    slots_in_all: AtomicU32,
    /// How many of them are memory: the first ones.
    slots_committed: AtomicU32,
    strings: AtomicPtr<StringTable>,
    /// Which messages trigger: by how much their level is below the first one that no message has; 0
    /// for none.
    pub(crate) log_trigger: AtomicU32,
    /// The watchdog sleeps, and wants to be woken by a worker that goes on.
    pub(crate) watchdog_sleeps: AtomicU32,
    /// Spans and regions that have a limit, null for none.
    pub(crate) slow: AtomicPtr<Names>,

    /// Where the arena is mapped: its header.
    pub(crate) arena: AtomicPtr<u8>,
    /// How much data it holds.
    pub(crate) capacity: AtomicU64,
    /// How much of it writers may use: the rest is for the end of the running generation.
    pub(crate) limit: AtomicU64,
    /// The largest block.
    pub(crate) max_block: AtomicU64,
    /// Where the running generation starts, how much it may grow before the collector is asked to end it
    /// early, and before a writer does: see `pace`.
    pub(crate) running_start: AtomicU64,
    pub(crate) early_advance: AtomicU64,
    pub(crate) late_advance: AtomicU64,
    /// Whether the collector was asked to advance early.
    pub(crate) advance_requested: AtomicBool,
    /// Who is to be woken for it.
    collector: AtomicPtr<Thread>,

    /// The ids of definitions.
    pub(crate) ids: Ids,
    /// How many slots were ever used.
    pub(crate) slots_used: AtomicU32,
    /// The free slots: a stack, index + 1 in the low half, a tag against reuse in the high half.
    pub(crate) free_slots: AtomicU64,
    /// How many threads were numbered.
    pub(crate) threads: AtomicU64,
    /// The next generation to begin when recording starts again.
    pub(crate) next_generation: AtomicU64,
    /// The newest generation that no writer is left in.
    pub(crate) settled: AtomicU64,
    /// The newest generation that nobody lists any more: it is complete, or never will be.
    pub(crate) complete: AtomicU64,
    /// The newest generation that was published when a barrier was issued: nobody enters an older one.
    pub(crate) barred: AtomicU64,
    /// Up to this generation space was given up while writers may still have been inside; 0 for none.
    pub(crate) pinned_until: AtomicU64,
    /// How often the kernel refused it to a writer.
    pub(crate) refused_barriers: AtomicU64,
    /// The block that the collector fills.
    pub(crate) collector_pin: Pin,
    /// Losses that belong to no slot.
    pub(crate) lost: [AtomicU64; Loss::ALL.len() + 1],
}

static OFF: Control = Control::off();
static CONTROL: AtomicPtr<Control> = AtomicPtr::new((&raw const OFF).cast_mut());

/// The control block of this process; one that is always off until recording first starts.
#[inline(always)]
pub(crate) fn control() -> &'static Control {
    // SAFETY: the pointer is to a static, or to a mapping that is never unmapped; both hold a valid
    // `Control`, all of whose fields can be shared.
    unsafe { &*CONTROL.load(Ordering::Acquire) }
}

impl Control {
    const fn off() -> Self {
        Self {
            generation: AtomicU64::new(0),
            mode: AtomicU32::new(0),
            pid: AtomicU32::new(0),
            slots: AtomicPtr::new(std::ptr::null_mut()),
            slots_in_all: AtomicU32::new(0),
            slots_committed: AtomicU32::new(0),
            strings: AtomicPtr::new(std::ptr::null_mut()),
            log_trigger: AtomicU32::new(0),
            watchdog_sleeps: AtomicU32::new(0),
            slow: AtomicPtr::new(std::ptr::null_mut()),
            arena: AtomicPtr::new(std::ptr::null_mut()),
            capacity: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            max_block: AtomicU64::new(0),
            running_start: AtomicU64::new(0),
            early_advance: AtomicU64::new(0),
            late_advance: AtomicU64::new(0),
            advance_requested: AtomicBool::new(false),
            collector: AtomicPtr::new(std::ptr::null_mut()),
            ids: Ids::new(),
            slots_used: AtomicU32::new(0),
            free_slots: AtomicU64::new(0),
            threads: AtomicU64::new(0),
            next_generation: AtomicU64::new(1),
            settled: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            barred: AtomicU64::new(0),
            pinned_until: AtomicU64::new(0),
            refused_barriers: AtomicU64::new(0),
            collector_pin: Pin::new(),
            lost: [const { AtomicU64::new(0) }; Loss::ALL.len() + 1],
        }
    }

    /// Makes the control block if there is none yet. Called under the lock of `start`.
    pub(crate) fn establish() -> std::io::Result<&'static Self> {
        let current = control();
        if !std::ptr::eq(current, &raw const OFF) {
            return Ok(current);
        }
        let room = crate::mapping::room_left();
        Self::make_tables(room).and_then(|()| Self::make(room)).inspect_err(|_| {
            // Else a program that is short of room would have even less of it.
            // SAFETY: nothing was ever recorded, so no place was taken; and nothing is, under this lock.
            unsafe {
                crate::task::TASKS.abandon();
                crate::span::SPANS.abandon();
                crate::deep::abandon();
            }
        })
    }

    fn make_tables(room: Option<usize>) -> std::io::Result<()> {
        crate::task::TASKS.establish(crate::task::MAX_TASKS, room)?;
        crate::span::SPANS.establish(crate::span::MAX_OPEN, room)?;
        crate::deep::establish(room)
    }

    fn make(room: Option<usize>) -> std::io::Result<&'static Self> {
        let most = room.map_or(usize::MAX, |left| left / SHARE);
        let slots = (most / size_of::<Slot>()).clamp(FEWEST_SLOTS, MAX_SLOTS);
        let front = size_of::<Self>().next_multiple_of(4096);
        let strings = size_of::<StringTable>().next_multiple_of(4096);
        // Whole pages, however large they are.
        let length = (front + strings + slots * size_of::<Slot>()).next_multiple_of(64 << 10);
        let mapping = crate::mapping::wiped_in_children(length)?;
        if !crate::mapping::commit(mapping, front + strings) {
            crate::mapping::unreserve(mapping, length);
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: the mapping is private to this process, page-aligned, and large enough for all three;
        // what is memory of it is zeroed, and zeroes are valid slots and a valid string table. Nobody
        // else knows it.
        unsafe {
            let control = mapping.cast::<Self>();
            control.write(Self::off());
            let control = &*control;
            control.strings.store(mapping.add(front).cast(), Ordering::Relaxed);
            control.slots.store(mapping.add(front + strings).cast(), Ordering::Relaxed);
            control.slots_in_all.store(slots as u32, Ordering::Relaxed);
            control.pid.store(std::process::id(), Ordering::Relaxed);
            CONTROL.store(mapping.cast(), Ordering::Release);
            Ok(control)
        }
    }

    /// How many slots there is room for.
    pub(crate) fn slots_in_all(&self) -> u32 {
        self.slots_in_all.load(Ordering::Relaxed)
    }

    /// Makes sure that the slot of this index, the first that was never used, is memory. Several threads
    /// may do so at once, which changes nothing.
    pub(crate) fn commit_slot(&self, index: u32) -> bool {
        if index < self.slots_committed.load(Ordering::Acquire) {
            return true;
        }
        let to = (index as usize + PIECE).min(self.slots_in_all() as usize);
        let first = self.slots.load(Ordering::Relaxed).wrapping_add(index as usize);
        let length = (to - index as usize) * size_of::<Slot>();
        let done = crate::mapping::commit(first.cast(), length);
        if done {
            self.slots_committed.fetch_max(to as u32, Ordering::AcqRel);
        }
        done
    }

    /// Whether this is the control block of another process: this one was forked off.
    pub(crate) fn is_foreign(&self) -> bool {
        !std::ptr::eq(self, &raw const OFF)
            && self.pid.load(Ordering::Relaxed) != std::process::id()
    }

    /// Turns tracing off in a child where the kernel does not do it by wiping the mapping.
    pub(crate) extern "C" fn off_in_child() {
        control().generation.store(0, Ordering::Relaxed);
        control().pid.store(0, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn mode(&self) -> Mode {
        Mode(self.mode.load(Ordering::Relaxed))
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode.0, Ordering::Relaxed);
    }

    /// The slot of this index.
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        assert!(index < self.slots_committed.load(Ordering::Relaxed));
        // SAFETY: so many slots are memory, which they stay.
        unsafe { &*self.slots.load(Ordering::Relaxed).add(index as usize) }
    }

    /// The index of a slot.
    pub(crate) fn index_of(&self, slot: &Slot) -> u32 {
        let first = self.slots.load(Ordering::Relaxed) as usize;
        ((std::ptr::from_ref(slot) as usize - first) / size_of::<Slot>()) as u32
    }

    /// Every slot that was ever used.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        let used = self.slots_used.load(Ordering::Acquire);
        (0..used).map(|index| self.slot(index))
    }

    /// Whether it is too late to list `generation`: see `publish`.
    pub(crate) fn is_outrun(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) > generation + 1
    }

    /// The table of dynamic strings.
    pub(crate) fn strings(&self) -> &StringTable {
        // SAFETY: as for the slots.
        unsafe { &*self.strings.load(Ordering::Relaxed) }
    }

    /// Counts a loss that belongs to no slot.
    #[cold]
    pub(crate) fn count_lost(&self, cause: Loss) {
        self.lost[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All losses of this cause so far.
    pub(crate) fn lost(&self, cause: Loss) -> u64 {
        let of_slots: u64 = self.slots().map(|slot| slot.lost(cause)).sum();
        of_slots + self.lost[cause as usize].load(Ordering::Relaxed)
    }

    /// As [`lost`](Self::lost), up to the end of `generation`, as far as it is known: what is counted
    /// without an event's number may be of the next one.
    pub(crate) fn lost_until(&self, generation: u64, cause: Loss) -> u64 {
        let of_slots: u64 = self.slots().map(|slot| slot.lost_until(generation, cause)).sum();
        of_slots + self.lost[cause as usize].load(Ordering::Relaxed)
    }

    /// Asks the collector for an early advance. Safe in a signal handler: one futex call at most.
    #[cold]
    pub(crate) fn request_advance(&self) {
        if !self.advance_requested.swap(true, Ordering::Relaxed) {
            self.wake_collector();
        }
    }

    /// Wakes the watchdog, for who is inside of a generation: whoever entered its gate while nothing is
    /// recorded is not waited for, and whom this wakes may be gone.
    #[cold]
    pub(crate) fn wake_watchdog(&self) {
        if self.watchdog_sleeps.swap(0, Ordering::AcqRel) != 0 {
            self.wake_collector();
        }
    }

    fn wake_collector(&self) {
        let thread = self.collector.load(Ordering::Acquire);
        if !thread.is_null() {
            // SAFETY: the pointer is set to a box that is freed only after tracing was turned
            // off and every slot was seen outside; we are inside of a generation.
            unsafe { (*thread).unpark() };
        }
    }

    /// Sets who is woken for an early advance.
    pub(crate) fn set_collector(&self, thread: Thread) {
        // One that stood there before is left alone: somebody may be waking it.
        self.collector.store(Box::into_raw(Box::new(thread)), Ordering::Release);
    }

    /// Forgets who is woken.
    ///
    /// # Safety
    /// Tracing must be off, and no thread may be inside a gate that it entered before.
    pub(crate) unsafe fn release_collector(&self) {
        let thread = self.collector.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !thread.is_null() {
            // SAFETY: it came from `Box::into_raw`, and by the contract nobody uses it.
            drop(unsafe { Box::from_raw(thread) });
        }
    }
}
