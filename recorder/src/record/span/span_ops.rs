//! The operations of a span's life: create, enter, exit, close. What is said of a span meanwhile is in
//! [`crate::record::span::said`]. See [`crate::record::span`] for how each generation stays complete.
//!
//! Like other events, each operation has a fast path that calls nothing (see
//! [`crate::record::fast_path`]), for when the thread has room in a block of the running
//! generation, which has stated the span.

use crate::record::control::control;
use crate::record::emit::is_recording;
use crate::record::fast_path::FastRecord;
use crate::record::fields::Fields;
use crate::record::hooks;
use crate::record::nesting::Entry;
use crate::record::site::Site;
use crate::record::slab::Cache;
use crate::record::slot::{MAX_SPANS, Slot};
use crate::record::span::open;
use crate::record::span::{
    Name, Parent, SPANS, SpanEntry, UNKNOWN, enter_gate, find, put_name, was_given,
};
use crate::record::sparse_fields::Values;
use crate::record::thread;
use crate::record::writer::Writer;
use lookback_snapshot::wire::{Kind, Loss, MAX_VARINT};
use std::sync::atomic::{AtomicU64, Ordering};

/// Creates a span and returns its name, with one reference; 0 if nothing is recorded, or there is
/// no place.
#[must_use]
#[inline(never)]
pub fn create(site: &'static Site, parent: Parent, fields: &Fields<'_>) -> Name {
    let ordinary = matches!(parent, Parent::Current | Parent::Of(0));
    if ordinary && let Some(name) = create_at_once(site, parent, fields) {
        return name;
    }
    create_slowly(site, parent, fields)
}

/// The fast path: the site is known, there is a place at hand, and the span has no parent or is a
/// child of the thread's innermost span.
#[inline(always)]
fn create_at_once(site: &'static Site, parent: Parent, fields: &Fields<'_>) -> Option<Name> {
    let ready = FastRecord::enter(1 + 6 * MAX_VARINT + fields.size())?;
    let (slot, generation) = (ready.slot, ready.generation);
    if is_deep(slot) {
        ready.leave();
        return None;
    }
    let complete = ready.control.complete.load(Ordering::Acquire);
    let is_free = |place: &SpanEntry| {
        let used = place.incarnation.load(Ordering::Relaxed) != 0;
        used && place.told.is_free_for(complete)
    };
    let found = site.cached(generation).zip(SPANS.take_at_hand(&slot.free_spans, is_free));
    let Some((id, (index, place))) = found else {
        ready.leave();
        return None;
    };
    let now = ready.now();
    let incarnation = place.incarnation.load(Ordering::Relaxed).wrapping_add(1).max(1);
    place.begin(site, incarnation, generation, fields);
    let (kind, of) = match parent {
        Parent::Current => (Kind::SpanCreate, innermost(slot)),
        Parent::Of(of) => (Kind::SpanCreateIn, of),
    };
    place.parent.store(of, Ordering::Relaxed);
    place.began.store(now, Ordering::Relaxed);
    let name = u64::from(incarnation) << 32 | u64::from(index + 1);
    ready.write(kind, now, |cursor| {
        put_name(name, cursor);
        if kind == Kind::SpanCreateIn {
            put_name(of, cursor);
        }
        cursor.number(u64::from(id));
        fields.put(cursor);
    });
    slot.created_last.set(name);
    place.told.open(generation);
    ready.leave();
    Some(name)
}

#[cold]
#[inline(never)]
fn create_slowly(site: &'static Site, parent: Parent, fields: &Fields<'_>) -> Name {
    // The name may belong to any span, which must stay open while the name is used here.
    let held = Held::new(parent);
    let named = held.place();
    let size = 7 * MAX_VARINT + fields.size();
    let Some(writer) = enter_gate(size, [named, None]) else { return 0 };
    let inside = writer.inside();
    let (slot, control, generation) = inside.parts();
    let complete = control.complete.load(Ordering::Acquire);
    let Some(place) = SPANS.take(&slot.free_spans, |place| place.told.is_free_for(complete)) else {
        inside.count_lost(Loss::NoPlace);
        return 0;
    };
    let incarnation = match place.incarnation.load(Ordering::Relaxed) {
        // The place was never used, or its memory was returned since.
        0 => SPANS.floors().1,
        used => used,
    };
    let incarnation = incarnation.wrapping_add(1).max(1);
    place.begin(site, incarnation, generation, fields);
    let (kind, parent) = match parent {
        Parent::Current if slot.spans_beyond.get() > 0 => (Kind::SpanCreateUnder, UNKNOWN),
        // A reader may not know the innermost span, because not all are restated.
        Parent::Current if is_deep(slot) => (Kind::SpanCreateIn, innermost(slot)),
        Parent::Current => (Kind::SpanCreate, innermost(slot)),
        Parent::Of(name) if named.is_some() => (Kind::SpanCreateIn, name),
        Parent::Of(name) if was_given(name) => (Kind::SpanCreateUnder, name),
        Parent::Of(_) => (Kind::SpanCreateIn, 0),
    };
    place.parent.store(parent, Ordering::Relaxed);
    let name = place.name();
    // The thread's own statement has the status of its innermost span.
    place.began.store(slot.last.get(), Ordering::Relaxed);
    match inside.begin_at_id(kind, site, size) {
        Some((id, mut cursor)) => {
            place.began.store(slot.last.get(), Ordering::Relaxed);
            // The site may have learned only now whether its name has a limit.
            place.watched.store(site.watched(), Ordering::Relaxed);
            // SAFETY: as large as asked for.
            unsafe {
                put_name(name, &mut cursor);
                if kind != Kind::SpanCreate {
                    put_name(parent, &mut cursor);
                }
                cursor.number(u64::from(id));
                fields.put(&mut cursor);
                inside.commit(cursor);
            }
            slot.created_last.set(name);
            place.told.open(generation);
        }
        // The event is lost: the listing states the span.
        None => place.told.open(0),
    }
    name
}

/// The innermost span that the thread is inside; 0 for none.
#[inline(always)]
pub(super) fn innermost(slot: &Slot) -> Name {
    let depth = slot.span_depth.load(Ordering::Relaxed) as usize;
    match depth.checked_sub(1).and_then(|top| slot.spans.get(top)) {
        Some(span) => span.load(Ordering::Relaxed),
        None if depth == 0 => 0,
        None => innermost_deep(slot),
    }
}

#[cold]
#[inline(never)]
fn innermost_deep(slot: &Slot) -> Name {
    slot.entered_spans().outwards().next().map_or(0, Entry::get)
}

/// Whether a reader may not know which spans the thread is inside.
#[inline(always)]
pub(super) fn is_deep(slot: &Slot) -> bool {
    slot.spans_unknown.get()
}

/// The innermost span that this thread is inside; 0 for none.
#[inline]
#[must_use]
pub fn current_name() -> Name {
    thread::present_slot().map_or(0, innermost)
}

/// The innermost span that this thread is inside, and its site.
#[must_use]
pub fn current() -> Option<(Name, &'static Site)> {
    let name = innermost(thread::present_slot()?);
    Some((name, find(name)?.site()?))
}

/// The site of an open span.
#[inline]
#[must_use]
pub fn site_of(name: Name) -> Option<&'static Site> {
    find(name)?.site()
}

/// Enters a span on this thread.
#[inline(never)]
pub fn enter(name: Name) {
    let Some(place) = find(name) else { return };
    let Some(ready) = FastRecord::enter(1 + 3 * MAX_VARINT) else {
        return enter_slowly(place, name);
    };
    let slot = ready.slot;
    let depth = slot.span_depth.load(Ordering::Relaxed);
    if !place.told.is_stated_in(ready.generation) || depth as usize >= MAX_SPANS {
        ready.leave();
        return enter_slowly(place, name);
    }
    if slot.created_last.get() == name {
        ready.write(Kind::SpanEnterLast, ready.now(), |_| {});
    } else {
        ready.write(Kind::SpanEnter, ready.now(), |cursor| put_name(name, cursor));
    }
    slot.spans[depth as usize].store(name, Ordering::Relaxed);
    slot.span_depth.store(depth + 1, Ordering::Relaxed);
    ready.leave();
}

#[cold]
#[inline(never)]
fn enter_slowly(place: &'static SpanEntry, name: Name) {
    if let Some(writer) = enter_gate(1 + 3 * MAX_VARINT, [Some(place), None]) {
        let inside = writer.inside();
        let slot = inside.slot();
        let spans = slot.entered_spans();
        let Some(entry) = room_inside(slot) else {
            inside.count_lost(Loss::NoPlace);
            return enter_beyond(slot);
        };
        let last = slot.created_last.get() == name;
        let kind = if last { Kind::SpanEnterLast } else { Kind::SpanEnter };
        if let Some((mut cursor, _)) = inside.begin(kind, 2 * MAX_VARINT) {
            // SAFETY: as large as asked for.
            unsafe {
                if !last {
                    put_name(name, &mut cursor);
                }
                inside.commit(cursor);
            }
        }
        spans.push(entry, name);
        return note_depth(slot);
    }
    // Remember the span though its event was not recorded: the next statement mentions it.
    if let Some(slot) = thread::present_slot()
        && let Some(writer) = Writer::enter_slot(control(), slot)
    {
        match room_inside(slot) {
            Some(entry) => {
                slot.entered_spans().push(entry, name);
                note_depth(slot);
            }
            None => enter_beyond(slot),
        }
        drop(writer);
    }
}

/// Room for entering one more span, which must then be pushed. `None` if there is no room, or was
/// none for a span around it.
fn room_inside(slot: &Slot) -> Option<&AtomicU64> {
    if slot.spans_beyond.get() == 0 { slot.entered_spans().room() } else { None }
}

/// Enters a span for which there is no room: the stack no longer tells which span is the innermost.
fn enter_beyond(slot: &Slot) {
    slot.spans_beyond.set(slot.spans_beyond.get() + 1);
    slot.spans_unknown.set(true);
}

/// Updates what readers know, after a span was entered or exited.
fn note_depth(slot: &Slot) {
    match slot.span_depth.load(Ordering::Relaxed) as usize {
        0 => slot.spans_unknown.set(false),
        depth if depth > MAX_SPANS => slot.spans_unknown.set(true),
        _ => {}
    }
}

/// Exits a span on this thread.
#[inline(never)]
pub fn exit(name: Name) {
    if let Some(ready) = FastRecord::enter(1 + 3 * MAX_VARINT) {
        let slot = ready.slot;
        let depth = slot.span_depth.load(Ordering::Relaxed).wrapping_sub(1);
        let top = slot.spans.get(depth as usize);
        if !is_deep(slot)
            && top.is_some_and(|top| top.load(Ordering::Relaxed) == name)
            && find(name).is_some_and(|place| place.told.is_stated_in(ready.generation))
        {
            ready.write(Kind::SpanExit, ready.now(), |_| {});
            slot.exited_last.set(name);
            slot.span_depth.store(depth, Ordering::Relaxed);
            return ready.leave();
        }
        ready.leave();
    }
    exit_slowly(name);
}

#[cold]
#[inline(never)]
fn exit_slowly(name: Name) {
    let Some(slot) = thread::present_slot() else { return };
    let written = find(name).and_then(|place| enter_gate(1 + 4 * MAX_VARINT, [Some(place), None]));
    if let Some(writer) = written {
        let inside = writer.inside();
        let Some(others) = others_inside(slot, name) else { return };
        // A reader may not know the innermost span, because not all are restated.
        let known = !is_deep(slot);
        let kind = match others {
            0 => Kind::SpanExit,
            _ if known => Kind::SpanExitOther,
            _ => Kind::SpanExitDeep,
        };
        if let Some((mut cursor, _)) = inside.begin(kind, 3 * MAX_VARINT) {
            // SAFETY: as large as asked for.
            unsafe {
                if others != 0 {
                    put_name(name, &mut cursor);
                }
                if kind == Kind::SpanExitDeep {
                    cursor.number(others as u64);
                }
                inside.commit(cursor);
            }
            slot.exited_last.set(if known { name } else { 0 });
        }
        slot.entered_spans().remove(others);
        note_depth(slot);
        return;
    }
    if let Some(writer) = Writer::enter_slot(control(), slot) {
        if let Some(others) = others_inside(slot, name) {
            slot.entered_spans().remove(others);
            note_depth(slot);
        }
        drop(writer);
    }
}

/// How many spans were entered since this one. `None` if the thread is not known to be inside
/// it: spans for which there was no room are exited first.
fn others_inside(slot: &Slot, name: Name) -> Option<usize> {
    let beyond = slot.spans_beyond.get();
    if beyond > 0 {
        slot.spans_beyond.set(beyond - 1);
        return None;
    }
    slot.entered_spans().find(|span| span.get() == name)
}

/// Takes a reference to a span.
#[inline]
pub fn add_reference(name: Name) {
    // With a reference, a caller knows that the place still holds the span; without one, it may
    // not.
    if let Some(place) = find(name)
        && place.references.hold()
        && place.name() != name
    {
        give_up(place.name());
    }
}

/// Drops a reference. The last one closes the span; returns whether it did.
#[inline(never)]
pub fn give_up(name: Name) -> bool {
    let Some(place) = find(name) else { return false };
    if !place.references.let_go() {
        return false;
    }
    close(place, name);
    true
}

/// The span's own name, from the last of these fields that gives one.
pub(crate) fn span_name<'a>(site: &Site, fields: &'a [u8]) -> Option<&'a str> {
    let index = site.names_spans()? as u64;
    let names = Values(fields).filter(|given| given.index == index);
    names.last()?.text().map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// Closes a span with a limit.
#[cold]
#[inline(never)]
fn close_watched(place: &'static SpanEntry, name: Name) {
    let (site, began) = (place.site(), place.began.load(Ordering::Relaxed));
    let ticks = crate::os::clock::now(control().mode()).saturating_sub(began);
    // After closing, the place may belong to another span.
    let (kept, told) = (place.kept(), open::told(place));
    close_slowly(place, name);
    if let Some(site) = site {
        let called = span_name(site, kept.bytes()).unwrap_or(site.name());
        let span = hooks::EndedSpan { site, fields: kept.bytes(), told };
        hooks::ended(&hooks::Ended { names: [called, site.name()], ticks, span: Some(span) });
    }
}

#[inline(always)]
fn close(place: &'static SpanEntry, name: Name) {
    if place.watched.load(Ordering::Relaxed) != 0 {
        return close_watched(place, name);
    }
    let Some(ready) = FastRecord::enter(1 + 3 * MAX_VARINT) else {
        return close_slowly(place, name);
    };
    let slot = ready.slot;
    if slot.exited_last.get() != name || !place.told.is_stated_in(ready.generation) {
        ready.leave();
        return close_slowly(place, name);
    }
    // No event since the exit does not mean that no time has passed.
    ready.write(Kind::SpanCloseLast, ready.now(), |_| {});
    place.references.end();
    place.told.close(ready.generation);
    SPANS.give(name as u32 - 1, Some(&slot.free_spans));
    ready.leave();
}

#[cold]
#[inline(never)]
fn close_slowly(place: &'static SpanEntry, name: Name) {
    let mut closed = control().generation.load(Ordering::Acquire);
    if let Some(writer) = enter_gate(1 + 3 * MAX_VARINT, [Some(place), None]) {
        let inside = writer.inside();
        let (slot, _, generation) = inside.parts();
        closed = generation;
        let last = slot.exited_last.get() == name;
        let kind = if last { Kind::SpanCloseLast } else { Kind::SpanClose };
        if let Some((mut cursor, _)) = inside.begin(kind, 2 * MAX_VARINT) {
            // SAFETY: as large as asked for.
            unsafe {
                if !last {
                    put_name(name, &mut cursor);
                }
                inside.commit(cursor);
            }
        }
        return release(place, closed, Some(&slot.free_spans));
    }
    // Not before the last generation that may have stated the span, or that is being listed now.
    closed = closed.max(place.told.newest()) + 1;
    if !is_recording() {
        // Nor before the end of the last generation, whose listing may still be to come.
        closed = closed.max(control().next_generation.load(Ordering::Relaxed));
    }
    release(place, closed, None);
}

/// Ends a span. `cache` is the thread's, if the thread is inside its gate.
fn release(place: &'static SpanEntry, closed: u64, cache: Option<&Cache>) {
    place.references.end();
    place.told.close(closed);
    SPANS.give(SPANS.index_of(place), cache);
}

/// A temporary reference to a span, for a caller that has only its name. Must outlive the gate,
/// because dropping it may close the span.
pub(crate) struct Held(pub(super) Name);

impl Held {
    pub(crate) fn new(of: Parent) -> Self {
        let Parent::Of(name) = of else { return Self(0) };
        let held = find(name).filter(|place| place.references.hold());
        // If another span has taken the place meanwhile, release that one.
        match held.map(SpanEntry::name) {
            Some(held) if held == name => Self(name),
            other => {
                drop(Self(other.unwrap_or(0)));
                Self(0)
            }
        }
    }

    pub(crate) fn place(&self) -> Option<&'static SpanEntry> {
        find(self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.0 != 0 {
            give_up(self.0);
        }
    }
}
