//! The functions that the macros call to record regions, logs, typed events and counters.

use crate::os::clock;
use crate::record::control::control;
use crate::record::fast_path::{FastRecord, Ordinary};
use crate::record::hooks;
use crate::record::limits::Limits;
use crate::record::nesting::Entry;
use crate::record::site::Site;
use crate::record::slot::{OpenRegion, Slot};
use crate::record::thread;
use crate::record::value::{Encode, Number, Text, Value, Values};
use crate::record::writer::Writer;
use crate::redact;
use crate::text::{StackText, TextBuf, cut};
use lookback_snapshot::wire::{Kind, Level, Loss, MAX_TEXT, MAX_VARINT};
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

/// Whether anything is being recorded at this moment. Use it to skip costly preparations; the
/// macros check it themselves.
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

/// An open region, which ends when this guard is dropped, on the thread where it began.
///
/// Guards may be dropped in any order, kept in a `Vec`, replaced, or held over an `.await` of a
/// task that stays on its thread (on a `LocalSet` or a current-thread runtime): each region lasts
/// from its own begin to the drop of its own guard. A region held over an `.await` includes what
/// the thread does for other tasks meanwhile; to follow one task, use a span.
///
/// A thread can have 16,384 regions open; further ones are not recorded, and count as lost.
#[derive(Debug)]
#[must_use = "the region ends at once unless the guard is kept: `let _guard = region!(…)`"]
pub struct Region {
    /// The region's key, with [`WATCHED`] if it has a limit; 0 if it is not recorded.
    key: u64,
    /// A region belongs to its thread.
    _not_send: PhantomData<*const ()>,
}

/// Marks a region with a limit: the lowest bit of the value, not part of the key.
const WATCHED: u64 = 1;

/// Begins a region at this site.
#[inline(always)]
pub fn begin_region(site: &'static Site) -> Region {
    // Only this check is inlined: every call site pays for it while tracing is off.
    let key = if is_recording() { open_region(site) } else { 0 };
    Region { key, _not_send: PhantomData }
}

#[inline(never)]
fn open_region(site: &'static Site) -> u64 {
    let Some(ready) = FastRecord::enter(1 + 2 * MAX_VARINT) else {
        return open_region_slowly(site);
    };
    let slot = ready.slot;
    let depth = slot.depth.load(Ordering::Relaxed);
    let now = clock::counter();
    if now >= slot.last.get()
        && let Some(open) = slot.regions.get(depth as usize)
        && let Some(id) = site.cached(ready.generation)
    {
        ready.write(Kind::RegionBegin, now, |cursor| {
            cursor.number(u64::from(id));
        });
        let key = next_key(slot);
        open.set((std::ptr::from_ref(site).cast_mut(), now, key));
        slot.depth.store(depth + 1, Ordering::Relaxed);
        ready.leave();
        return key | u64::from(site.watched());
    }
    ready.leave();
    open_region_slowly(site)
}

#[cold]
#[inline(never)]
fn open_region_slowly(site: &'static Site) -> u64 {
    let Some(writer) = Writer::enter() else { return 0 };
    let inside = writer.inside();
    let slot = inside.slot();
    let regions = slot.open_regions();
    let Some(open) = regions.room() else {
        inside.count_lost(Loss::NoPlace);
        return 0;
    };
    // A lost begin opens the region all the same: the next statement mentions it.
    let mut began = slot.last.get();
    if let Some((cursor, now)) = inside.begin_at(Kind::RegionBegin, site, 0) {
        began = now;
        // SAFETY: the site is the only argument.
        unsafe { inside.commit(cursor) };
    }
    let key = next_key(slot);
    regions.push(open, (std::ptr::from_ref(site).cast_mut(), began, key));
    key | u64::from(site.watched())
}

/// A key that no region of the slot has had.
#[inline(always)]
fn next_key(slot: &Slot) -> u64 {
    let key = slot.last_region.get().wrapping_add(WATCHED << 1);
    slot.last_region.set(key);
    key
}

impl Drop for Region {
    #[inline(always)]
    fn drop(&mut self) {
        if self.key & WATCHED != 0 {
            end_watched_region(self.key & !WATCHED);
        } else if self.key != 0 {
            end_region(self.key);
        }
    }
}

/// Ends a region with a limit.
#[cold]
#[inline(never)]
fn end_watched_region(key: u64) {
    let open = thread::present_slot().and_then(|slot| {
        let regions = slot.open_regions();
        let (site, began, _) = regions.outwards().map(Entry::get).find(|open| open.2 == key)?;
        // SAFETY: the stack holds pointers to statics, or null.
        Some((unsafe { site.as_ref() }?, began))
    });
    end_region(key);
    if let Some((site, began)) = open {
        let now = clock::now(control().mode());
        let ticks = now.saturating_sub(began);
        hooks::ended(&hooks::Ended { names: [site.name(); 2], ticks, span: None });
    }
}

#[inline(never)]
fn end_region(key: u64) {
    let Some(ready) = FastRecord::enter(1 + MAX_VARINT) else { return end_region_slowly(key) };
    let slot = ready.slot;
    let depth = slot.depth.load(Ordering::Relaxed).wrapping_sub(1);
    let now = clock::counter();
    if now >= slot.last.get()
        && let Some(open) = slot.regions.get(depth as usize)
        && open.key.load(Ordering::Relaxed) == key
    {
        ready.write(Kind::RegionEnd, now, |_| {});
        slot.depth.store(depth, Ordering::Relaxed);
        return ready.leave();
    }
    ready.leave();
    end_region_slowly(key);
}

#[cold]
#[inline(never)]
fn end_region_slowly(key: u64) {
    let Some(slot) = thread::present_slot() else { return };
    // Enter the gate even if tracing was turned off: the stack is touched only inside.
    if let Some(writer) = Writer::enter_slot(control(), slot) {
        let inside = writer.inside();
        let regions = slot.open_regions();
        let key_of = |open: &OpenRegion| open.key.load(Ordering::Relaxed);
        let Some(others) = regions.find_key(key, key_of) else { return };
        let kind = if others == 0 { Kind::RegionEnd } else { Kind::RegionEndOther };
        if inside.is_recording()
            && let Some((mut cursor, _)) = inside.begin(kind, MAX_VARINT)
        {
            // SAFETY: the size asked for is a number's.
            unsafe {
                if others != 0 {
                    cursor.number(others as u64);
                }
                inside.commit(cursor);
            }
        }
        regions.remove(others);
    }
}

/// Records a message.
#[inline]
pub fn log(site: &'static Site, level: Level, arguments: fmt::Arguments<'_>) {
    // The user's formatting may itself record, so format before entering the gate.
    match arguments.as_str() {
        Some(text) if text.len() <= MAX_TEXT && !redact::has_own_rule() => {
            log_text(site, level, text, text.encoded());
        }
        _ => {
            let mut room = TextBuf::new();
            let mut text = StackText::format(&mut room, arguments);
            text.scrub();
            log_text(site, level, text.as_str(), Text::clean(text.as_str()));
        }
    }
}

fn log_text(site: &'static Site, level: Level, text: &str, message: Text<'_>) {
    write_log(site, level, message);
    // Reasons are scanned for secrets when they are made.
    hooks::logged(control(), site, level, || cut(text, MAX_TEXT).to_owned());
}

fn write_log(site: &'static Site, level: Level, mut message: Text<'_>) {
    let (limit, mut site_id) = (Limits::now().text, 0);
    let size = MAX_VARINT + message.size(limit);
    let resolve = |generation| {
        site_id = site.cached(generation)?;
        message.try_resolve(control().strings(), generation).then_some(None)
    };
    if let Some(mut event) = Ordinary::begin(Kind::Log, size, resolve) {
        // SAFETY: there is room for the level, the text, and a site's id.
        unsafe {
            event.cursor.byte(level as u8);
            event.cursor.short(u64::from(site_id));
            message.put(&mut event.cursor, limit);
            event.commit();
        }
        return event.leave();
    }
    write_log_slowly(site, level, message);
}

#[inline(never)]
fn write_log_slowly(site: &'static Site, level: Level, mut message: Text<'_>) {
    let Some(writer) = Writer::enter() else { return };
    let inside = writer.inside();
    message.resolve(inside);
    let id = match site.id(inside) {
        Ok(id) => id,
        Err(cause) => return inside.lose(cause),
    };
    let limit = Limits::now().text;
    let size = 2 * MAX_VARINT + message.size(limit);
    if let Some((mut cursor, _)) = inside.begin(Kind::Log, size) {
        // SAFETY: as large as asked for.
        unsafe {
            cursor.number(level as u64);
            cursor.number(u64::from(id));
            message.put(&mut cursor, limit);
            inside.commit(cursor);
        }
    }
}

/// Records a typed event.
#[inline(never)]
pub fn typed_event<V: Values>(site: &'static Site, mut values: V) {
    let size = values.size();
    let id = |generation| {
        let id = site.cached_with(V::TYPES, generation)?;
        let is_ready = V::TEXTS == 0 || values.try_resolve(control().strings(), generation);
        is_ready.then_some(Some(id))
    };
    if let Some(mut event) = Ordinary::begin(Kind::Event, size, id) {
        // SAFETY: as large as asked for.
        unsafe {
            values.put(&mut event.cursor);
            event.commit();
        }
        return event.leave();
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
        // SAFETY: as large as asked for.
        unsafe {
            value.put(&mut event.cursor, 0);
            event.commit();
        }
        return event.leave();
    }
    count_slowly::<N>(site, value);
}

/// The category of the log that replaces a counter with a secret name.
static HIDDEN_COUNTER: Site = Site::new("counter", &[], file!(), line!());

#[cold]
#[inline(never)]
fn count_slowly<N: Number>(site: &'static Site, value: N::Encoded<'_>) {
    // The site of such a counter is never defined, so all its values come here.
    if redact::hides_counter(site.name()) {
        let mut room = TextBuf::new();
        let arguments = format_args!("{} = {}", site.name(), redact::REDACTED);
        let text = StackText::format(&mut room, arguments);
        return write_log(&HIDDEN_COUNTER, Level::Trace, Text::clean(text.as_str()));
    }
    if let Some(writer) = Writer::enter()
        && let Some((mut cursor, _)) = writer.inside().begin_at(N::KIND, site, value.size(0))
    {
        // SAFETY: as large as asked for.
        unsafe {
            value.put(&mut cursor, 0);
            writer.inside().commit(cursor);
        }
    }
}

/// Encodes a value for writing; for the macros.
#[inline(always)]
pub fn encoded<V: Value + ?Sized>(value: &V) -> V::Encoded<'_> {
    value.encoded()
}
