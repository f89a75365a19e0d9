//! Stacks in the trace: each generation defines a frame once, and the definition names its caller's.
//!
//! # Synchronization
//!
//! As with [sites](crate::record::site), each node has its id in the newest generation that defined it. A
//! writer commits the definition and only then publishes the id (release); a thread that loads the id
//! (acquire) may refer to it at once, and so to everything it refers to, which was committed before.

use crate::record::cursor::Reserved;
use crate::record::emit::is_recording;
use crate::record::thread;
use crate::record::writer::{WriteCtx, Writer};
use crate::stack;
use crate::stack::budget::Budget;
use crate::stack::modules::{self, Module};
use crate::stack::trie::{Node, StackId, Trie};
use crate::stack::unwind::{MAX_FRAMES, Registers};
use lookback_snapshot::wire::{
    Kind, Loss, MAX_TEXT, MAX_VARINT, StackReason, StackSource, Waits, put_wait,
};
use std::sync::atomic::{AtomicU64, Ordering};

const ID_BITS: u32 = 24;

/// A service may panic any number of times, and catch it.
static PANICS: Budget = Budget::new(10);
/// The same for errors that are logged; none before a recorder says how many.
static ERRORS: Budget = Budget::new(0);
/// Stacks that a macro asked for more often than it said.
static TOO_OFTEN: AtomicU64 = AtomicU64::new(0);

/// How many stacks were not taken because there were too many of their kind in a second.
pub(crate) fn limited() -> u64 {
    PANICS.refused() + ERRORS.refused() + TOO_OFTEN.load(Ordering::Relaxed)
}

/// Records the stack of a thread, by its number, or why there is none. The caller has checked that stacks are
/// on.
pub(crate) fn thread_stack(
    thread: u64,
    stack: Option<StackId>,
    reason: StackReason,
    source: StackSource,
) {
    if !is_recording() {
        return;
    }
    let Some(writer) = Writer::enter() else { return };
    let inside = writer.inside();
    let id = match stack.map_or(Ok(0), |stack| id(inside, stack)) {
        Ok(id) => id,
        Err(cause) => return inside.lose(cause),
    };
    if let Some((mut cursor, _)) = inside.begin(Kind::ThreadStack, 4 * MAX_VARINT) {
        for number in [thread, u64::from(id), reason as u64, source as u64] {
            cursor.number(number);
        }
        // SAFETY: as large as asked for.
        unsafe { inside.commit(cursor) };
    }
}

/// A thread that stands still, or goes on.
pub(crate) struct Stands<'a> {
    /// The recorder's number.
    pub(crate) thread: u64,
    pub(crate) stack: Option<StackId>,
    pub(crate) source: StackSource,
    /// For so many nanoseconds; 0 if it goes on.
    pub(crate) since: u64,
    pub(crate) waits: &'a Waits,
    pub(crate) refers: &'a [u64],
    pub(crate) uses: &'a [u64],
}

/// Records that a thread stands still, or goes on.
pub(crate) fn thread_stands(stands: &Stands<'_>) {
    if !is_recording() {
        return;
    }
    let mut wait = Vec::new();
    put_wait(&mut wait, stands.waits, stands.refers, stands.uses);
    let Some(writer) = Writer::enter() else { return };
    let inside = writer.inside();
    let id = match stands.stack.map_or(Ok(0), |stack| id(inside, stack)) {
        Ok(id) => id,
        Err(cause) => return inside.lose(cause),
    };
    if let Some((mut cursor, _)) = inside.begin(Kind::ThreadStands, 5 * MAX_VARINT + wait.len()) {
        for number in [stands.thread, u64::from(id), stands.source as u64, stands.since] {
            cursor.number(number);
        }
        cursor.number(wait.len() as u64);
        wait.iter().for_each(|byte| cursor.byte(*byte));
        // SAFETY: as large as asked for.
        unsafe { inside.commit(cursor) };
    }
}

/// Records this thread's stack, from these registers on, or why there is none. Does nothing while stacks are
/// off.
pub(crate) fn own_stack(from: Registers, reason: StackReason) {
    if !stack::is_on() || !is_recording() {
        return;
    }
    let is_within = reason != StackReason::Panic || PANICS.take();
    record_own(from, reason, is_within);
}

/// Sets how many errors a second have stacks.
pub(crate) fn limit_errors(a_second: u32) {
    ERRORS.set(a_second);
}

/// Records this thread's stack, from these registers on: it has logged an error. Nothing while stacks are off, or if
/// there were too many in this second: a record for each would double a flood of errors.
pub(crate) fn of_error(from: Registers) {
    if stack::is_on() && is_recording() && ERRORS.take() {
        record_own(from, StackReason::Error, true);
    }
}

/// How often a second a place in the program has its stack recorded; for the macros.
#[derive(Debug)]
pub struct StackRate(Budget);

impl StackRate {
    /// At most so often.
    #[must_use]
    pub const fn new(a_second: u32) -> Self {
        Self(Budget::new(a_second))
    }

    /// Records the stack of the caller's thread, unless that was done too often in this second. Does nothing while
    /// stacks are off.
    #[cold]
    #[inline(never)]
    pub fn record(&self) {
        if !stack::is_on() || !is_recording() {
            return;
        }
        if self.0.take() {
            record_own(stack::here(), StackReason::Asked, true);
        } else {
            TOO_OFTEN.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn record_own(from: Registers, reason: StackReason, is_within: bool) {
    let taken = if is_within { stack::of_this_thread(from) } else { Err(StackSource::Limited) };
    let Some(slot) = thread::present_slot() else { return };
    let number = slot.thread.load(Ordering::Relaxed);
    let source = taken.err().unwrap_or(StackSource::Own);
    thread_stack(number, taken.ok(), reason, source);
}

/// The id of a stack in this generation, after defining those of its frames that have none.
pub(crate) fn id(inside: WriteCtx, stack: StackId) -> Result<u32, Loss> {
    let Some(trie) = Trie::get() else { return Ok(0) };
    // From the innermost frame to the first that is defined: then all below are, too.
    let mut undefined = [stack; MAX_FRAMES + 1];
    let (mut count, mut next, mut id) = (0, Some(stack), 0);
    while let Some(node) = next {
        if let Some(known) = cached(trie.defined(node), inside.generation()) {
            id = known;
            break;
        }
        let Some(place) = undefined.get_mut(count) else { break };
        (*place, count) = (node, count + 1);
        next = match trie.node(node) {
            Node::Frame { caller, .. } => Some(caller),
            Node::Root(_) => None,
        };
    }
    for node in undefined[..count].iter().rev() {
        id = define(inside, trie, *node, id)?;
    }
    Ok(id)
}

fn define(inside: WriteCtx, trie: &Trie, node: StackId, caller: u32) -> Result<u32, Loss> {
    let (module, offset) = match trie.node(node) {
        Node::Frame { module, offset, .. } => {
            (modules::module(module).map_or(Ok(0), |module| module_id(inside, module))?, offset)
        }
        Node::Root(end) => (0, end),
    };
    let id = inside.next_id()?;
    inside.record(Kind::Frame, 4 * MAX_VARINT, |cursor| {
        for number in [id, caller, module, offset] {
            cursor.number(u64::from(number));
        }
    })?;
    publish(trie.defined(node), inside.generation(), id);
    Ok(id)
}

fn module_id(inside: WriteCtx, module: &Module) -> Result<u32, Loss> {
    if let Some(id) = cached(&module.defined, inside.generation()) {
        return Ok(id);
    }
    let id = inside.next_id()?;
    inside.record(Kind::Module, module_size(module), |cursor| put_module(id, module, cursor))?;
    publish(&module.defined, inside.generation(), id);
    Ok(id)
}

/// The most bytes that a module's definition takes, without its kind.
pub(crate) fn module_size(module: &Module) -> usize {
    3 * MAX_VARINT + module.path.len().min(MAX_TEXT) + module.build_id.len()
}

/// Writes a module's definition, without its kind; there must be room for [`module_size`].
pub(crate) fn put_module(id: u32, module: &Module, cursor: &mut Reserved) {
    cursor.number(u64::from(id));
    cursor.text(&module.path, MAX_TEXT);
    cursor.number(module.build_id.len() as u64);
    module.build_id.iter().for_each(|byte| cursor.byte(*byte));
}

/// The id of a node or a module in this generation, if it has one.
pub(crate) fn cached(defined: &AtomicU64, generation: u64) -> Option<u32> {
    let word = defined.load(Ordering::Acquire);
    (word >> ID_BITS == generation).then_some((word & ((1 << ID_BITS) - 1)) as u32)
}

fn publish(defined: &AtomicU64, generation: u64, id: u32) {
    defined.fetch_max(generation << ID_BITS | u64::from(id), Ordering::AcqRel);
}
