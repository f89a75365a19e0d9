//! The control block: the few words that every event reads, and the slots.
//!
//! It lies in a private mapping that is made once and never unmapped, so a thread may keep a
//! pointer into it. Slots become memory a few at a time, when threads first need them. The mapping
//! is wiped in a forked child (`MADV_WIPEONFORK`): there the published generation reads 0, which
//! means "off", so a child never writes to its parent's arena, at no cost to the parent.
//!
//! # Synchronization
//!
//! All words but the published generation (see [`crate::protocol::gate`]) are either counters, or
//! are stored before a generation is published and read by threads inside it, so the publication
//! orders them.

use crate::os::mode::Mode;
use crate::protocol::definition_ids::Ids;
use crate::record::carver::{Pin, Stuck};
use crate::record::slot::Slot;
use crate::record::strings::StringTable;
use crate::record::thresholds::Names;
use lookback_snapshot::wire::Loss;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;

/// The most threads that can have a slot at the same time.
pub(crate) const MAX_SLOTS: usize = 8192;
/// The least number of slots, however little address space is left.
const FEWEST_SLOTS: usize = 64;
/// Slots take at most this fraction of the address space that is left under a limit.
const SHARE: usize = 16;
/// Slots become memory this many at a time.
const PIECE: usize = 16;

/// See the module.
#[repr(C, align(128))]
pub(crate) struct Control {
    /// The published generation; 0 while tracing is off.
    pub(crate) generation: AtomicU64,
    mode: AtomicU32,
    /// The process that this was made for; 0 in a forked child.
    pid: AtomicU32,
    slots: AtomicPtr<Slot>,
    /// The number of slots that there is room for.
    slots_in_all: AtomicU32,
    /// The number of slots that are memory: the first ones.
    slots_committed: AtomicU32,
    strings: AtomicPtr<StringTable>,
    /// Which messages trigger, or have stacks: those whose level plus this exceeds `Level::Error`; 0 for none.
    pub(crate) log_trigger: AtomicU32,
    /// Whether the watchdog sleeps and wants a resuming worker to wake it.
    pub(crate) watchdog_sleeps: AtomicU32,
    /// Names of spans and regions that have a limit; null for none.
    pub(crate) slow: AtomicPtr<Names>,

    /// The address of the arena, that is, of its header.
    pub(crate) arena: AtomicPtr<u8>,
    /// The size of the arena's data.
    pub(crate) capacity: AtomicU64,
    /// How much of that writers may use: the rest is reserved for the end of the running
    /// generation.
    pub(crate) limit: AtomicU64,
    /// The largest block.
    pub(crate) max_block: AtomicU64,
    /// Where the running generation starts, and how much it may grow before the collector is asked
    /// to end it early, and before a writer does: see `pace`.
    pub(crate) running_start: AtomicU64,
    pub(crate) early_advance: AtomicU64,
    pub(crate) late_advance: AtomicU64,
    /// Whether the collector was asked to advance early.
    pub(crate) advance_requested: AtomicBool,
    /// The thread to wake for that.
    collector: AtomicPtr<Thread>,

    /// The definition ids.
    pub(crate) ids: Ids,
    /// The number of slots ever used.
    pub(crate) slots_used: AtomicU32,
    /// The free slots: a stack, index + 1 in the low half, a tag against reuse in the high half.
    pub(crate) free_slots: AtomicU64,
    /// The number of threads that were numbered.
    pub(crate) threads: AtomicU64,
    /// The generation to begin with when recording starts again.
    pub(crate) next_generation: AtomicU64,
    /// The newest generation with no writer left in it.
    pub(crate) settled: AtomicU64,
    /// The newest generation that will not be listed any more: it is complete, or never will be.
    pub(crate) complete: AtomicU64,
    /// The newest generation published when a barrier was issued: no writer enters an older one.
    pub(crate) barred: AtomicU64,
    /// The newest generation whose space was given up while writers may still have been inside; 0
    /// for none.
    pub(crate) pinned_until: AtomicU64,
    /// Which slots those writers have.
    pub(crate) stuck: Stuck,
    /// How often the kernel refused a barrier to a writer.
    pub(crate) refused_barriers: AtomicU64,
    /// How often the whole process was stopped for a while.
    pub(crate) stops: AtomicU64,
    /// The block that the collector fills.
    pub(crate) collector_pin: Pin,
    /// Losses that belong to no slot.
    pub(crate) lost: [AtomicU64; Loss::ALL.len() + 1],
}

static OFF: Control = Control::off();
static CONTROL: AtomicPtr<Control> = AtomicPtr::new((&raw const OFF).cast_mut());

/// The control block of this process; until recording first starts, one that is always off.
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
            stuck: Stuck::new(),
            refused_barriers: AtomicU64::new(0),
            stops: AtomicU64::new(0),
            collector_pin: Pin::new(),
            lost: [const { AtomicU64::new(0) }; Loss::ALL.len() + 1],
        }
    }

    /// Makes the control block, unless it exists. Called under the lock of `start`.
    pub(crate) fn establish() -> std::io::Result<&'static Self> {
        let current = control();
        if !std::ptr::eq(current, &raw const OFF) {
            return Ok(current);
        }
        let room = crate::os::mmap::room_left();
        Self::make_tables(room).and_then(|()| Self::make(room)).inspect_err(|_| {
            // Otherwise a program short of address space would have even less of it.
            // SAFETY: nothing was ever recorded, so no place was taken; and nothing is, under this
            // lock.
            unsafe {
                crate::record::task::TASKS.abandon();
                crate::record::span::SPANS.abandon();
                crate::record::nesting::abandon();
            }
        })
    }

    fn make_tables(room: Option<usize>) -> std::io::Result<()> {
        crate::record::task::TASKS.establish(crate::record::task::MAX_TASKS, room)?;
        crate::record::span::SPANS.establish(crate::record::span::MAX_OPEN, room)?;
        crate::record::nesting::establish(room)
    }

    fn make(room: Option<usize>) -> std::io::Result<&'static Self> {
        let most = room.map_or(usize::MAX, |left| left / SHARE);
        let slots = (most / size_of::<Slot>()).clamp(FEWEST_SLOTS, MAX_SLOTS);
        let front = size_of::<Self>().next_multiple_of(4096);
        let strings = size_of::<StringTable>().next_multiple_of(4096);
        // Whole pages, whatever their size.
        let length = (front + strings + slots * size_of::<Slot>()).next_multiple_of(64 << 10);
        let mapping = crate::os::mmap::wiped_in_children(length, Self::off_in_child)?;
        if !crate::os::mmap::commit(mapping, front + strings) {
            crate::os::mmap::unreserve(mapping, length);
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        // SAFETY: the mapping is private to this process, page-aligned, and large enough for all
        // three; its committed part is zeroed, and zeroes are valid slots and a valid string table.
        // Nothing else refers to it.
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

    /// The number of slots that there is room for.
    pub(crate) fn slots_in_all(&self) -> u32 {
        self.slots_in_all.load(Ordering::Relaxed)
    }

    /// Makes sure that the slot with this index, the first unused one, is memory. Several threads
    /// may do so at once without harm.
    pub(crate) fn commit_slot(&self, index: u32) -> bool {
        if index < self.slots_committed.load(Ordering::Acquire) {
            return true;
        }
        let to = (index as usize + PIECE).min(self.slots_in_all() as usize);
        let first = self.slots.load(Ordering::Relaxed).wrapping_add(index as usize);
        let length = (to - index as usize) * size_of::<Slot>();
        let done = crate::os::mmap::commit(first.cast(), length);
        if done {
            self.slots_committed.fetch_max(to as u32, Ordering::AcqRel);
        }
        done
    }

    /// Whether this control block belongs to another process, from which this one was forked.
    pub(crate) fn is_foreign(&self) -> bool {
        !std::ptr::eq(self, &raw const OFF)
            && self.pid.load(Ordering::Relaxed) != std::process::id()
    }

    /// The process that is recorded; 0 if none is, or in a forked child.
    pub(crate) fn process(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Turns tracing off in a forked child, where the kernel does not wipe the mapping.
    pub(crate) extern "C" fn off_in_child() {
        control().generation.store(0, Ordering::Relaxed);
        control().pid.store(0, Ordering::Relaxed);
    }

    #[inline(always)]
    pub(crate) fn mode(&self) -> Mode {
        Mode::of_word(self.mode.load(Ordering::Relaxed))
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode.word(), Ordering::Relaxed);
    }

    /// The slot with this index.
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        assert!(index < self.slots_committed.load(Ordering::Relaxed));
        // SAFETY: slots below that index are memory, and stay so.
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

    /// As [`lost`](Self::lost), up to the end of `generation` as far as known: losses that are
    /// counted without an event number may belong to the next one.
    pub(crate) fn lost_until(&self, generation: u64, cause: Loss) -> u64 {
        let of_slots: u64 = self.slots().map(|slot| slot.lost_until(generation, cause)).sum();
        of_slots + self.lost[cause as usize].load(Ordering::Relaxed)
    }

    /// Asks the collector for an early advance. Async-signal-safe: one futex call at most.
    #[cold]
    pub(crate) fn request_advance(&self) {
        if !self.advance_requested.swap(true, Ordering::Relaxed) {
            self.wake_collector();
        }
    }

    /// Wakes the watchdog. The caller must be inside a generation: a thread that entered its
    /// gate while nothing is recorded is not waited for, so the thread to be woken may be gone.
    #[cold]
    pub(crate) fn wake_watchdog(&self) {
        if self.watchdog_sleeps.swap(0, Ordering::AcqRel) != 0 {
            self.wake_collector();
        }
    }

    fn wake_collector(&self) {
        let thread = self.collector.load(Ordering::Acquire);
        if !thread.is_null() {
            // SAFETY: the pointer is to a box that is freed only after tracing was turned off and
            // every slot was seen outside; this thread is inside a generation.
            unsafe { (*thread).unpark() };
        }
    }

    /// Sets the thread to wake for an early advance.
    pub(crate) fn set_collector(&self, thread: Thread) {
        // The previous one is leaked: another thread may be waking it.
        self.collector.store(Box::into_raw(Box::new(thread)), Ordering::Release);
    }

    /// Forgets the thread to wake.
    ///
    /// # Safety
    /// Tracing must be off, and no thread may be inside a gate that it entered before.
    pub(crate) unsafe fn release_collector(&self) {
        let thread = self.collector.swap(std::ptr::null_mut(), Ordering::AcqRel);
        if !thread.is_null() {
            // SAFETY: it came from `Box::into_raw`, and by the contract nothing uses it.
            drop(unsafe { Box::from_raw(thread) });
        }
    }
}
