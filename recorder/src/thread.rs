//! Threads: how one gets a slot with its first event, and gives it back when it ends.
//!
//! The thread-local that holds the slot is a constant without a destructor, so it can be used at any
//! time, in signal handlers and while other thread-locals are being destroyed. The end of the thread
//! is seen through a pthread key. Keys are destroyed in rounds, as long as one is set; ours asks for
//! further rounds, so that what other destructors record is still this thread's.
//!
//! A key that is not among the first 32 makes the C library allocate when a thread first sets it,
//! and a thread's first event may come from a signal handler that has interrupted an allocation. So
//! such a key is not set; then, and when slots become scarce, the collector looks for threads that
//! are gone, and takes leave for them.

use crate::control::Control;
use crate::cursor::Cursor;
use crate::frame;
use crate::owner::was_left;
use crate::slot::{MAX_NAME, Slot, ThreadName};
use crate::writer::Writer;
use lookback_snapshot::wire::{Kind, Loss, MAX_VARINT};
use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// How many bytes [`put_identity`] takes at most.
pub(crate) const IDENTITY_SIZE: usize = 3 * MAX_VARINT + MAX_NAME;

/// How many rounds of destructors are awaited; POSIX promises four.
const ROUNDS: u32 = 3;

/// Keys below this one can be set without an allocation: `PTHREAD_KEY_2NDLEVEL_SIZE` of glibc.
const KEYS_AT_HAND: libc::pthread_key_t = 32;

thread_local! {
    /// The slot, for as long as the thread has one.
    static SLOT: Cell<Option<&'static Slot>> = const { Cell::new(None) };
    /// The thread is about to get a slot: where on its stack it is, and which slot. [`NEVER`]: it has got
    /// one, and when it has given that back, it gets none again.
    static BETWEEN: Cell<(u64, Option<&'static Slot>)> = const { Cell::new((0, None)) };
    /// The name that the thread was given here, none if it was not.
    static GIVEN: Cell<ThreadName> = const { Cell::new(ThreadName::NONE) };
}

/// This thread's slot, which it gets now if it has none.
#[inline(always)]
pub(crate) fn current_slot(control: &'static Control) -> Option<&'static Slot> {
    SLOT.get().or_else(|| arrive(control))
}

/// This thread's slot, if it has one.
#[inline(always)]
pub(crate) fn present_slot() -> Option<&'static Slot> {
    SLOT.get()
}

#[cold]
#[inline(never)]
fn arrive(control: &'static Control) -> Option<&'static Slot> {
    // Nothing is recorded: no thread needs a slot, and in a forked child there is none.
    if control.generation.load(Ordering::Relaxed) == 0 {
        return None;
    }
    let (began, almost) = BETWEEN.get();
    // Unless a handler has left in the middle of this: then it is done again.
    if began != 0 && !frame::is_gone(began, frame::here()) {
        control.count_lost(Loss::NoSlot);
        return None;
    }
    // A signal handler that records from here on finds the thread between two states; so does
    // what records after the thread has given its slot back.
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
    let os_thread = os_thread();
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
        // belongs to nobody.
        slot.thread.store(number, Ordering::Release);
    }
    SLOT.set(Some(slot));
    BETWEEN.set((NEVER, None));
    Some(slot)
}

/// Further up than any stack.
const NEVER: u64 = u64::MAX;

/// Writes who the thread of a slot is.
///
/// # Safety
/// There must be room for [`IDENTITY_SIZE`] bytes.
pub(crate) unsafe fn put_identity(slot: &Slot, cursor: &mut Cursor) {
    // SAFETY: as the caller promises.
    unsafe { put_identity_of(slot.thread.load(Ordering::Relaxed), slot, cursor) };
}

/// # Safety
/// There must be room for [`IDENTITY_SIZE`] bytes.
unsafe fn put_identity_of(number: u64, slot: &Slot, cursor: &mut Cursor) {
    // SAFETY: as the caller promises.
    unsafe {
        cursor.number(number);
        cursor.number(slot.os_thread.load(Ordering::Relaxed));
        cursor.text(slot.name().as_str(), MAX_NAME);
    }
}

fn depart(control: &'static Control, slot: &'static Slot) {
    // What a signal handler records from here on has no thread to belong to.
    SLOT.set(None);
    take_leave(control, slot);
}

/// Ends the slot's thread, which is this one, or is gone.
fn take_leave(control: &'static Control, slot: &'static Slot) {
    if slot.gate.is_inside() {
        // The thread ended in a signal handler that had interrupted an event: that one never goes
        // on.
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

/// Makes the key that tells the end of threads. Called by `start`, before the first event.
pub(crate) fn watch_ends() -> io::Result<()> {
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

/// Whether the end of threads is seen through the key.
fn ends_are_watched() -> bool {
    KEY.get().is_some_and(|key| *key < KEYS_AT_HAND)
}

/// Takes leave for threads that are gone and could not do so themselves: that were silent in
/// `generation` until now. Called by who advances, when the key does not see the end of every
/// thread, or slots have become scarce (a thread whose first event came very late in its end is not
/// seen either).
pub(crate) fn reap(control: &'static Control, generation: u64) {
    if ends_are_watched() && !control.slots_are_scarce() {
        return;
    }
    for slot in control.slots() {
        let silent = slot.gate.entered() < generation;
        if silent && was_left(&slot.thread, &slot.os_thread, is_gone) {
            take_leave(control, slot);
        }
    }
}

/// Whether there is no such thread of this process any more, as far as the kernel says.
#[cfg(target_os = "linux")]
pub(crate) fn is_gone(os_thread: u64) -> bool {
    let process = std::process::id();
    // SAFETY: signal 0 is sent to nobody: the call only says whether there is such a thread.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, process, os_thread, 0) };
    answer != 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn is_gone(_: u64) -> bool {
    false
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
        let control = crate::control::control();
        if !control.is_foreign() {
            depart(control, slot);
        }
    }
}

/// Gives this thread the name by which traces know it from now on, in place of the operating system's,
/// which has 15 bytes at most and is asked with the thread's first event. Names longer than 64 bytes
/// are cut, between two characters; an empty name changes nothing.
///
/// The name may be given before recording starts. It stays what it is for the operating system.
///
/// ```
/// std::thread::spawn(|| {
///     lookback_recorder::thread_name("indexer, partition 7 of 12");
/// });
/// ```
pub fn thread_name(name: &str) {
    let name = ThreadName::given(name);
    if name == ThreadName::NONE || GIVEN.try_with(|given| given.replace(name)) == Ok(name) {
        return;
    }
    let Some(slot) = present_slot().filter(|slot| slot.name() != name) else { return };
    let Some(writer) = Writer::enter_slot(crate::control::control(), slot) else { return };
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
    // It is called so only after the event, which may begin a new generation: that states the thread
    // as the last one left it.
    slot.set_name(name);
}

/// The standard library has the whole name of a thread, the kernel 15 bytes of it: the thread is
/// called by the whole one, unless it was given a name here, or the kernel has another one.
///
/// To be called where an allocation does no harm, and not in the end of the thread.
pub fn take_whole_name() {
    if GIVEN.try_with(Cell::get) != Ok(ThreadName::NONE) {
        return;
    }
    let thread = std::thread::current();
    let whole = thread.name().unwrap_or_default();
    if whole.len() > 15 && whole.as_bytes().starts_with(name().as_str().as_bytes()) {
        thread_name(whole);
    }
}

/// This thread, in words: its name and the operating system's number of it.
pub(crate) fn describe_self() -> String {
    format!("{} ({})", name().as_str(), os_thread())
}

/// The operating system's number of this thread.
#[cfg(target_os = "linux")]
pub(crate) fn os_thread() -> u64 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::syscall(libc::SYS_gettid) as u64 }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn os_thread() -> u64 {
    // SAFETY: the call has no preconditions.
    unsafe { libc::pthread_self() as u64 }
}

#[cfg(target_os = "linux")]
pub(crate) fn name() -> ThreadName {
    let mut name = [0; 16];
    // SAFETY: the kernel writes sixteen bytes at most, with a zero at the end.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    ThreadName::of_kernel(name)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn name() -> ThreadName {
    let mut name = [0; 16];
    // SAFETY: the name is written with a zero at the end, and cut to the length given.
    unsafe { libc::pthread_getname_np(libc::pthread_self(), name.as_mut_ptr().cast(), 16) };
    ThreadName::of_kernel(name)
}
