//! What is recorded: regions, logs, typed events, counters. The macros call these.

use crate::control::control;
use crate::ordinary::Ordinary;
use crate::site::Site;
use crate::slot::Slot;
use crate::text::{StackText, TextRoom, cut};
use crate::trigger::active;
use crate::value::{Encode, Number, Value, Values};
use crate::writer::Writer;
use crate::{clock, thread};
use lookback_snapshot::wire::{Kind, Level, MAX_TEXT, MAX_VARINT};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

/// Whether anything is being recorded at this moment. What is costly to prepare can be made to
/// depend on it; the macros do so themselves.
///
/// ```
/// if lookback_recorder::is_recording() {
///     // …
/// }
/// ```
#[inline(always)]
#[must_use]
pub fn is_recording() -> bool {
    control().generation.load(Ordering::Relaxed) != 0
}

/// An open region; it ends when this is dropped, on the thread where it began.
#[derive(Debug)]
#[must_use = "the region ends at once unless the guard is kept: `let _guard = region!(…)`"]
pub struct Region {
    state: u8,
    /// A region belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

/// States of a region; one above [`OPEN`] has a limit.
const OFF: u8 = 0;
const OPEN: u8 = 1;

/// Begins a region at this site.
#[inline(always)]
pub fn begin_region(site: &'static Site) -> Region {
    // Inline is what every place in the program pays for while tracing is off, and no more.
    let state = if is_recording() { open_region(site) } else { OFF };
    Region { state, _not_send: PhantomData }
}

#[inline(never)]
fn open_region(site: &'static Site) -> u8 {
    let event =
        Ordinary::begin(Kind::RegionBegin, 0, |generation| site.cached(generation).map(Some));
    let Some(event) = event else { return open_region_slowly(site) };
    // SAFETY: the site is the only argument.
    unsafe { event.commit() };
    push_region(event.slot, site, event.now);
    event.leave();
    OPEN + site.watched()
}

#[cold]
#[inline(never)]
fn open_region_slowly(site: &'static Site) -> u8 {
    let Some(writer) = Writer::enter() else { return OFF };
    let inside = writer.inside();
    let slot = inside.slot();
    // A begin that is lost opens the region all the same: the next statement tells of it.
    let mut began = slot.last.get();
    if let Some((cursor, now)) = inside.begin_at(Kind::RegionBegin, site, 0) {
        began = now;
        // SAFETY: the site is the only argument.
        unsafe { inside.commit(cursor) };
    }
    push_region(slot, site, began);
    OPEN + site.watched()
}

#[inline(always)]
fn push_region(slot: &Slot, site: &'static Site, began: u64) {
    let depth = slot.depth.load(Ordering::Relaxed);
    if let Some(open) = slot.regions.get(depth as usize) {
        open.site.store(std::ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
        open.began.store(began, Ordering::Relaxed);
    }
    slot.depth.store(depth.wrapping_add(1), Ordering::Relaxed);
}

#[inline(always)]
fn pop_region(slot: &Slot) {
    let depth = slot.depth.load(Ordering::Relaxed);
    slot.depth.store(depth.saturating_sub(1), Ordering::Relaxed);
}

impl Drop for Region {
    #[inline(always)]
    fn drop(&mut self) {
        if self.state == OPEN {
            end_region();
        } else if self.state != OFF {
            end_watched_region();
        }
    }
}

/// Ends a region that has a limit. One that is too deep to be restated is not measured.
#[cold]
#[inline(never)]
fn end_watched_region() {
    let open = thread::present_slot().and_then(|slot| {
        let depth = slot.depth.load(Ordering::Relaxed).checked_sub(1)?;
        let open = slot.regions.get(depth as usize)?;
        // SAFETY: the stack holds pointers to statics, or null.
        let site = unsafe { open.site.load(Ordering::Relaxed).as_ref() }?;
        Some((site, open.began.load(Ordering::Relaxed)))
    });
    end_region();
    if let Some((site, began)) = open {
        let now = clock::now(control().mode());
        active::ended(site, false, now.saturating_sub(began), String::new);
    }
}

#[inline(never)]
fn end_region() {
    let event = Ordinary::begin(Kind::RegionEnd, 0, |_| Some(None));
    let Some(event) = event else { return end_region_slowly() };
    // SAFETY: the event has no arguments.
    unsafe { event.commit() };
    pop_region(event.slot);
    event.leave();
}

#[cold]
#[inline(never)]
fn end_region_slowly() {
    let Some(slot) = thread::present_slot() else { return };
    // Inside the gate even if tracing was turned off: the stack is only touched there.
    if let Some(writer) = Writer::enter_slot(control(), slot) {
        let inside = writer.inside();
        if inside.is_recording()
            && let Some((cursor, _)) = inside.begin(Kind::RegionEnd, 0)
        {
            // SAFETY: the event has no arguments.
            unsafe { inside.commit(cursor) };
        }
        pop_region(slot);
    }
}

/// Records a message.
#[inline]
pub fn log(site: &'static Site, level: Level, arguments: fmt::Arguments<'_>) {
    // The user's formatting may itself record, so it runs before the gate is entered.
    match arguments.as_str() {
        Some(text) if text.len() <= MAX_TEXT => log_text(site, level, text),
        _ => {
            let mut room = TextRoom::new();
            log_text(site, level, StackText::format(&mut room, arguments).as_str());
        }
    }
}

fn log_text(site: &'static Site, level: Level, text: &str) {
    write_log(site, level, text);
    active::logged(control(), site, level, || cut(text, MAX_TEXT).to_owned());
}

fn write_log(site: &'static Site, level: Level, text: &str) {
    let mut message = text.encoded();
    let Some(writer) = Writer::enter() else { return };
    let inside = writer.inside();
    message.resolve(inside);
    let id = match site.id(inside) {
        Ok(id) => id,
        Err(cause) => return inside.lose(cause),
    };
    let size = 2 * MAX_VARINT + message.size(MAX_TEXT);
    if let Some((mut cursor, _)) = inside.begin(Kind::Log, size) {
        // SAFETY: the size asked for is that of these three.
        unsafe {
            cursor.number(level as u64);
            cursor.number(u64::from(id));
            message.put(&mut cursor, MAX_TEXT);
            inside.commit(cursor);
        }
    }
}

/// Records a typed event.
#[inline(never)]
pub fn typed_event<V: Values>(site: &'static Site, values: V) {
    if V::TEXTS == 0 {
        let id = |generation| site.cached_with(V::TYPES, generation).map(Some);
        if let Some(mut event) = Ordinary::begin(Kind::Event, values.size(), id) {
            // SAFETY: the size asked for is the values'.
            unsafe {
                values.put(&mut event.cursor);
                event.commit();
            }
            return event.leave();
        }
    }
    typed_event_slowly(site, values);
}

#[inline(never)]
fn typed_event_slowly<V: Values>(site: &'static Site, values: V) {
    if let Some(writer) = Writer::enter() {
        writer.inside().typed_event(site, values);
    }
}

/// Records a counter's value.
#[inline(always)]
pub fn counter<N: Number>(site: &'static Site, value: &N) {
    count::<N>(site, value.encoded());
}

#[inline(never)]
fn count<N: Number>(site: &'static Site, value: N::Encoded<'_>) {
    let id = |generation| site.cached(generation).map(Some);
    if let Some(mut event) = Ordinary::begin(N::KIND, value.size(0), id) {
        // SAFETY: the size asked for is the value's.
        unsafe {
            value.put(&mut event.cursor, 0);
            event.commit();
        }
        return event.leave();
    }
    count_slowly::<N>(site, value);
}

#[cold]
#[inline(never)]
fn count_slowly<N: Number>(site: &'static Site, value: N::Encoded<'_>) {
    if let Some(writer) = Writer::enter()
        && let Some((mut cursor, _)) = writer.inside().begin_at(N::KIND, site, value.size(0))
    {
        // SAFETY: the size asked for is the value's.
        unsafe {
            value.put(&mut cursor, 0);
            writer.inside().commit(cursor);
        }
    }
}

/// Makes a value ready to be written; for the macros.
#[inline(always)]
pub fn encoded<V: Value + ?Sized>(value: &V) -> V::Encoded<'_> {
    value.encoded()
}
