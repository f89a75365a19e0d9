//! How a thread gets a slot with its first event, and returns it when it ends.
//!
//! The thread-local that holds the slot is a constant without a destructor, so it can be used at
//! any time, in signal handlers and while other thread-locals are being destroyed. A pthread key
//! notices the end of the thread. Its destructors run in rounds as long as any key is set; this one
//! asks for further rounds, so that what other destructors record still belongs to this thread.
//!
//! The C library allocates when a thread first sets a key that is not among the first 32, and a
//! thread's first event may come from a signal handler that interrupted an allocation. So such a
//! key is not set. In that case, and when slots become scarce, the collector looks for threads that
//! are gone and returns their slots.

use crate::crash::{self, Witness};
use crate::os;
use crate::protocol::frame;
use crate::protocol::owner::was_left;
use crate::record::control::{self, Control};
use crate::record::cursor::Reserved;
use crate::record::panic_seen;
use crate::record::slot::{MAX_NAME, Slot, ThreadName};
use crate::record::writer::Writer;
use lookback_snapshot::wire::{Kind, Loss, MAX_VARINT};
use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// The most bytes that [`put_identity`] writes.
pub(crate) const IDENTITY_SIZE: usize = 3 * MAX_VARINT + MAX_NAME;

/// How many rounds of destructors to wait; POSIX promises four.
const ROUNDS: u32 = 3;

/// Keys below this one can be set without an allocation: `PTHREAD_KEY_2NDLEVEL_SIZE` of glibc.
const KEYS_AT_HAND: libc::pthread_key_t = 32;

thread_local! {
    /// The slot, for as long as the thread has one.
    static SLOT: Cell<Option<&'static Slot>> = const { Cell::new(None) };
    /// While the thread is getting a slot: its stack pointer and that slot. [`NEVER`]: it has had a
    /// slot, and after returning that it gets no other.
    static BETWEEN: Cell<(u64, Option<&'static Slot>)> = const { Cell::new((0, None)) };
    /// The name that the program gave the thread, if any.
    static GIVEN: Cell<ThreadName> = const { Cell::new(ThreadName::NONE) };
}

/// This thread's slot. Gets one if it has none.
#[inline(always)]
pub(crate) fn current_slot(control: &'static Control) -> Option<&'static Slot> {
    SLOT.get().or_else(|| arrive(control))
}

/// This thread's slot, if it has one.
#[inline(always)]
pub(crate) fn present_slot() -> Option<&'static Slot> {
    SLOT.get()
}

/// Whether this thread is getting a slot just now, which a signal handler may have interrupted, or has had one.
pub(crate) fn is_between() -> bool {
    BETWEEN.get().0 != 0
}

#[cold]
#[inline(never)]
fn arrive(control: &'static Control) -> Option<&'static Slot> {
    // Nothing is recorded: no thread needs a slot, and a forked child has none.
    if control.generation.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let (began, almost) = BETWEEN.get();
    // Unless a signal handler has jumped out of this function: then start over.
    if began != 0 && !frame::is_gone(began, frame::here()) {
        control.count_lost(Loss::NoSlot);
        return None;
    }
    // From here on, a signal handler that records finds the thread between the two states; so does
    // code that records after the thread has returned its slot.
    BETWEEN.set((frame::here().max(1), almost));
    let Some(slot) = almost.or_else(|| control.take_slot()) else {
        BETWEEN.set((0, None));
        control.count_lost(Loss::NoSlot);
        return None;
    };
    BETWEEN.set((frame::here().max(1), Some(slot)));
    if slot.gate.is_inside() {
        slot.room.set(0);
        slot.gate.leave();
    }
    let number = control.threads.fetch_add(1, Ordering::Relaxed) + 1;
    let os_thread = os::thread::number();
    let name = Some(GIVEN.get()).filter(|given| *given != ThreadName::NONE).unwrap_or_else(name);
    call_at_end(1);
    if let Some(writer) = Writer::enter_slot(control, slot) {
        slot.os_thread.store(os_thread, Ordering::Relaxed);
        slot.set_name(name);
        let inside = writer.inside();
        if inside.is_recording()
            && let Some((mut cursor, _)) = inside.begin(Kind::ThreadStart, IDENTITY_SIZE)
        {
            // SAFETY: as large as asked for.
            unsafe {
                put_identity_of(number, slot, &mut cursor);
                inside.commit(cursor);
            }
        }
        // The slot becomes the thread's only after its start was written: a statement before that
        // belongs to no thread.
        slot.thread.store(number, Ordering::Release);
    }
    SLOT.set(Some(slot));
    BETWEEN.set((NEVER, None));
    Some(slot)
}

/// Higher than any stack address.
const NEVER: u64 = u64::MAX;

/// Writes the identity of the slot's thread.
///
/// There must be room for [`IDENTITY_SIZE`] bytes.
pub(crate) fn put_identity(slot: &Slot, cursor: &mut Reserved) {
    put_identity_of(slot.thread.load(Ordering::Relaxed), slot, cursor);
}

/// There must be room for [`IDENTITY_SIZE`] bytes.
fn put_identity_of(number: u64, slot: &Slot, cursor: &mut Reserved) {
    cursor.number(number);
    cursor.number(slot.os_thread.load(Ordering::Relaxed));
    cursor.text(slot.name().as_str(), MAX_NAME);
}

fn depart(control: &'static Control, slot: &'static Slot) {
    // From here on, what a signal handler records belongs to no thread.
    SLOT.set(None);
    take_leave(control, slot);
}

/// Returns the slot for its thread, which is this one, or is gone.
fn take_leave(control: &'static Control, slot: &'static Slot) {
    if slot.gate.is_inside() {
        // The thread ended in a signal handler that had interrupted an event, which will never
        // resume.
        slot.end_block();
        slot.gate.leave();
    }
    if let Some(writer) = Writer::enter_slot(control, slot) {
        let inside = writer.inside();
        if inside.is_recording()
            && let Some((cursor, _)) = inside.begin(Kind::ThreadExit, 0)
        {
            // SAFETY: the event has no arguments.
            unsafe { inside.commit(cursor) };
        }
        slot.forget_thread();
    }
    control.give_slot(slot);
}

static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();

/// What a crash note says about the thread.
static WITNESS: Witness = Witness {
    is_foreign: || control::control().is_foreign(),
    mode: || control::control().mode(),
    thread: || present_slot().map_or(0, |slot| slot.thread.load(Ordering::Relaxed)),
    aborts_unseen: panic_seen::aborts_unseen,
};

/// Creates the key that notices the end of threads. Called by `start`, before the first event.
pub(crate) fn watch_ends() -> io::Result<()> {
    crash::ask(&WITNESS);
    if KEY.get().is_none() {
        let mut key = 0;
        // SAFETY: `key` is a valid place, and the destructor may be called on any thread.
        let error = unsafe { libc::pthread_key_create(&mut key, Some(at_end)) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let _ = KEY.set(key);
    }
    Ok(())
}

/// Whether the key notices the end of threads.
fn ends_are_watched() -> bool {
    KEY.get().is_some_and(|key| *key < KEYS_AT_HAND)
}

/// Returns the slots of threads that are gone and have not done so themselves, among those that
/// were silent in `generation` until now. Called by the advancer if the key does not see the end of
/// every thread, or if slots have become scarce (the key also misses a thread whose first event
/// comes very late in its end).
pub(crate) fn reap(control: &'static Control, generation: u64) {
    if ends_are_watched() && !control.slots_are_scarce() {
        return;
    }
    for slot in control.slots() {
        let silent = slot.gate.entered() < generation;
        if silent && was_left(&slot.thread, &slot.os_thread, os::thread::is_gone) {
            take_leave(control, slot);
        }
    }
}

fn call_at_end(round: usize) {
    if let Some(key) = KEY.get().filter(|_| ends_are_watched()) {
        // SAFETY: the key was made by `watch_ends`; the value is never dereferenced.
        unsafe { libc::pthread_setspecific(*key, std::ptr::without_provenance(round)) };
    }
}

extern "C" fn at_end(round: *mut libc::c_void) {
    let round = round.addr();
    if round < ROUNDS as usize {
        return call_at_end(round + 1);
    }
    if let Some(slot) = SLOT.get() {
        let control = crate::record::control::control();
        if !control.is_foreign() {
            depart(control, slot);
        }
    }
}

/// Names this thread in traces from now on. Replaces the operating system's name, which has at most
/// 15 bytes and is read at the thread's first event. Names longer than 64 bytes are cut at a
/// character boundary; an empty name changes nothing.
///
/// Can be called before recording starts. Does not change the operating system's name.
///
/// ```
/// std::thread::spawn(|| {
///     lookback_recorder::set_thread_name("indexer, partition 7 of 12");
/// });
/// ```
pub fn set_thread_name(name: &str) {
    let name = ThreadName::given(name);
    if name == ThreadName::NONE || GIVEN.try_with(|given| given.replace(name)) == Ok(name) {
        return;
    }
    let Some(slot) = present_slot().filter(|slot| slot.name() != name) else { return };
    let Some(writer) = Writer::enter_slot(crate::record::control::control(), slot) else { return };
    let inside = writer.inside();
    if inside.is_recording()
        && let Some((mut cursor, _)) = inside.begin(Kind::ThreadName, 2 * MAX_VARINT + MAX_NAME)
    {
        // SAFETY: as large as asked for.
        unsafe {
            cursor.number(slot.thread.load(Ordering::Relaxed));
            cursor.text(name.as_str(), MAX_NAME);
            inside.commit(cursor);
        }
    }
    // Set the name only after the event, because that may begin a new generation, which must state
    // the thread as the last generation left it.
    slot.set_name(name);
}

/// Finds out about this thread what cannot be asked everywhere: the bounds of its stack; and its full name, which the
/// standard library has, and of which the kernel keeps only 15 bytes, unless [`set_thread_name`] gave it another
/// name, or the kernel's name differs.
///
/// Call this where allocating is harmless, and not while the thread ends.
pub fn introduce() {
    crate::stack::note_bounds();
    if GIVEN.try_with(Cell::get) != Ok(ThreadName::NONE) {
        return;
    }
    let thread = std::thread::current();
    let whole = thread.name().unwrap_or_default();
    if whole.len() > 15 && whole.as_bytes().starts_with(name().as_str().as_bytes()) {
        set_thread_name(whole);
    }
}

/// The recorder's number of the thread with this number of the kernel's, if it has recorded anything.
pub(crate) fn with_os_number(os_thread: u64) -> Option<u64> {
    let is_it = |slot: &&Slot| slot.os_thread.load(Ordering::Relaxed) == os_thread;
    let number = |slot: &Slot| slot.thread.load(Ordering::Relaxed);
    control::control().slots().filter(is_it).map(number).find(|number| *number != 0)
}

/// How many events were recorded, but for those of this thread's slot. The collector says what it has seen of threads that
/// do nothing only if they do something after all.
pub(crate) fn recorded_by_others(control: &Control) -> u64 {
    let own = present_slot().map(std::ptr::from_ref);
    let others = control.slots().filter(|slot| Some(std::ptr::from_ref(*slot)) != own);
    others.map(Slot::recorded).sum()
}

/// A description of this thread: its name and the operating system's id.
pub(crate) fn describe_self() -> String {
    format!("{} ({})", name().as_str(), os::thread::number())
}

/// The kernel's name of this thread.
pub(crate) fn name() -> ThreadName {
    ThreadName::of_kernel(os::thread::name())
}
