//! What happens to spans: they begin, are entered and left, and end; fields become known; logs are
//! said of them. See [`crate::span`] for what holds each generation together.
//!
//! Each has an ordinary case that calls nothing, as events have (see [`crate::ordinary`]): the thread
//! has room in a block of the running generation, which has stated the span.

use crate::control::control;
use crate::fields::Fields;
use crate::given::Values;
use crate::groups::Cache;
use crate::limits::Limits;
use crate::ordinary::Ready;
use crate::site::Site;
use crate::deep::Entry;
use crate::emit::is_recording;
use crate::slot::{MAX_SPANS, Slot};
use crate::span::{Name, Parent, SPANS, SpanPlace, UNKNOWN, enter_gate, find, put_name, was_given};
use crate::text::{StackText, cut};
use crate::thread;
use crate::trigger::active;
use crate::value::{Encode, Text};
use crate::writer::Writer;
use lookback_snapshot::wire::{Kind, Level, Loss, MAX_TEXT, MAX_VARINT};
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// A span begins. Its name, with one reference; 0 if nothing is recorded, or there is no place.
#[must_use]
#[inline(never)]
pub fn create(site: &'static Site, parent: Parent, fields: &Fields<'_>) -> Name {
    let ordinary = matches!(parent, Parent::Current | Parent::Of(0));
    if ordinary && let Some(name) = create_at_once(site, parent, fields) {
        return name;
    }
    create_slowly(site, parent, fields)
}

/// The ordinary case: the site is known, and there is a place. The span has no parent, or is a child of
/// the innermost span of the thread.
#[inline(always)]
fn create_at_once(site: &'static Site, parent: Parent, fields: &Fields<'_>) -> Option<Name> {
    let ready = Ready::enter(1 + 6 * MAX_VARINT + fields.size())?;
    let (slot, generation) = (ready.slot, ready.generation);
    if is_deep(slot) {
        ready.leave();
        return None;
    }
    let complete = ready.control.complete.load(Ordering::Acquire);
    let is_free = |place: &SpanPlace| {
        let used = place.incarnation.load(Ordering::Relaxed) != 0;
        used && place.told.is_free_for(complete)
    };
    let found = site.cached(generation).zip(
        SPANS.take_at_hand(&slot.free_spans, is_free),
    );
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
        // SAFETY: the size asked for is that of these.
        unsafe {
            put_name(name, cursor);
            if kind == Kind::SpanCreateIn {
                put_name(of, cursor);
            }
            cursor.number(u64::from(id));
            fields.put(cursor);
        }
    });
    slot.created_last.set(name);
    place.told.open(generation);
    ready.leave();
    Some(name)
}

#[cold]
#[inline(never)]
fn create_slowly(site: &'static Site, parent: Parent, fields: &Fields<'_>) -> Name {
    // Its name may come from anywhere: while it is used here, it stays open.
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
        // It was never used, or its memory was given back since.
        0 => SPANS.floors().1,
        used => used,
    };
    let incarnation = incarnation.wrapping_add(1).max(1);
    place.begin(site, incarnation, generation, fields);
    let (kind, parent) = match parent {
        Parent::Current if slot.spans_beyond.get() > 0 => (Kind::SpanCreateUnder, UNKNOWN),
        // A reader may not know which one is the innermost of those that are not restated.
        Parent::Current if is_deep(slot) => (Kind::SpanCreateIn, innermost(slot)),
        Parent::Current => (Kind::SpanCreate, innermost(slot)),
        Parent::Of(name) if named.is_some() => (Kind::SpanCreateIn, name),
        Parent::Of(name) if was_given(name) => (Kind::SpanCreateUnder, name),
        Parent::Of(_) => (Kind::SpanCreateIn, 0),
    };
    place.parent.store(parent, Ordering::Relaxed);
    let name = place.name();
    // The status of the innermost span stands in the statement of this thread.
    place.began.store(slot.last.get(), Ordering::Relaxed);
    match inside.begin_at_id(kind, site, size) {
        Some((id, mut cursor)) => {
            place.began.store(slot.last.get(), Ordering::Relaxed);
            // The site may only have learned of it now.
            place.watched.store(site.watched(), Ordering::Relaxed);
            // SAFETY: the size asked for is that of these.
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
        // The listing states it.
        None => place.told.open(0),
    }
    name
}

/// The innermost span that the thread is inside of; 0 for none.
#[inline(always)]
fn innermost(slot: &Slot) -> Name {
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

/// Whether a reader may not know which spans the thread is inside of.
#[inline(always)]
fn is_deep(slot: &Slot) -> bool {
    slot.spans_unknown.get()
}

/// The innermost span that this thread is inside of; 0 for none.
#[inline]
#[must_use]
pub fn current_name() -> Name {
    thread::present_slot().map_or(0, innermost)
}

/// The innermost span that this thread is inside of, and its site.
#[must_use]
pub fn current() -> Option<(Name, &'static Site)> {
    let name = innermost(thread::present_slot()?);
    Some((name, find(name)?.site()?))
}

/// The site of a span that is open.
#[inline]
#[must_use]
pub fn site_of(name: Name) -> Option<&'static Site> {
    find(name)?.site()
}

/// This thread enters a span.
#[inline(never)]
pub fn enter(name: Name) {
    let Some(place) = find(name) else { return };
    let Some(ready) = Ready::enter(1 + 3 * MAX_VARINT) else { return enter_slowly(place, name) };
    let slot = ready.slot;
    let depth = slot.span_depth.load(Ordering::Relaxed);
    if !place.told.is_stated_in(ready.generation) || depth as usize >= MAX_SPANS {
        ready.leave();
        return enter_slowly(place, name);
    }
    if slot.created_last.get() == name {
        ready.write(Kind::SpanEnterLast, ready.now(), |_| {});
    } else {
        // SAFETY: there is room for a name.
        ready.write(Kind::SpanEnter, ready.now(), |cursor| unsafe { put_name(name, cursor) });
    }
    slot.spans[depth as usize].store(name, Ordering::Relaxed);
    slot.span_depth.store(depth + 1, Ordering::Relaxed);
    ready.leave();
}

#[cold]
#[inline(never)]
fn enter_slowly(place: &'static SpanPlace, name: Name) {
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
            // SAFETY: the size asked for is a name's.
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
    // What is not recorded is known all the same: the next statement tells of it.
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

/// The entry for a span that is entered now, which must then be pushed. `None` if there is no room, or was
/// none for one around it.
fn room_inside(slot: &Slot) -> Option<&AtomicU64> {
    if slot.spans_beyond.get() == 0 { slot.entered_spans().room() } else { None }
}

/// A span was entered for which there is no room: nobody knows from the stack which one is the innermost.
fn enter_beyond(slot: &Slot) {
    slot.spans_beyond.set(slot.spans_beyond.get() + 1);
    slot.spans_unknown.set(true);
}

/// A span was entered or left.
fn note_depth(slot: &Slot) {
    match slot.span_depth.load(Ordering::Relaxed) as usize {
        0 => slot.spans_unknown.set(false),
        depth if depth > MAX_SPANS => slot.spans_unknown.set(true),
        _ => {}
    }
}

/// This thread leaves a span.
#[inline(never)]
pub fn exit(name: Name) {
    if let Some(ready) = Ready::enter(1 + 3 * MAX_VARINT) {
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
        // Which one is the innermost of those that are not restated, a reader may not know.
        let known = !is_deep(slot);
        let kind = match others {
            0 => Kind::SpanExit,
            _ if known => Kind::SpanExitOther,
            _ => Kind::SpanExitDeep,
        };
        if let Some((mut cursor, _)) = inside.begin(kind, 3 * MAX_VARINT) {
            // SAFETY: the size asked for is that of a name and a number.
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

/// How many spans were entered since this one was. `None` if the thread is not inside of it, as far
/// as is recorded: those that there was no room for are left first.
fn others_inside(slot: &Slot, name: Name) -> Option<usize> {
    let beyond = slot.spans_beyond.get();
    if beyond > 0 {
        slot.spans_beyond.set(beyond - 1);
        return None;
    }
    slot.entered_spans().find(|span| span.get() == name)
}

/// One more reference to a span.
#[inline]
pub fn add_reference(name: Name) {
    // Who has a reference knows that it is the span; who has none, that it may not be.
    if let Some(place) = find(name)
        && place.references.hold()
        && place.name() != name
    {
        give_up(place.name());
    }
}

/// One reference less. The last one closes the span; says whether it did.
#[inline(never)]
pub fn give_up(name: Name) -> bool {
    let Some(place) = find(name) else { return false };
    if !place.references.let_go() {
        return false;
    }
    close(place, name);
    true
}

/// The name that a span has of its own, by the last of these fields that names it.
fn span_name<'a>(site: &Site, fields: &'a [u8]) -> Option<&'a str> {
    let index = site.names_spans()? as u64;
    let names = Values(fields).filter(|given| given.index == index);
    names.last()?.text().map(|(name, _)| name).filter(|name| !name.is_empty())
}

/// Closes a span that has a limit.
#[cold]
#[inline(never)]
fn close_watched(place: &'static SpanPlace, name: Name) {
    let (site, began) = (place.site(), place.began.load(Ordering::Relaxed));
    let ticks = crate::clock::now(control().mode()).saturating_sub(began);
    // Afterwards the place is another one's.
    let kept = place.kept();
    close_slowly(place, name);
    if let Some(site) = site {
        let called = span_name(site, kept.bytes()).unwrap_or(site.name());
        let fields = || active::fields_in_words(site, kept.bytes());
        active::ended([called, site.name()], true, ticks, fields);
    }
}

#[inline(always)]
fn close(place: &'static SpanPlace, name: Name) {
    if place.watched.load(Ordering::Relaxed) != 0 {
        return close_watched(place, name);
    }
    let Some(ready) = Ready::enter(1 + 3 * MAX_VARINT) else { return close_slowly(place, name) };
    let slot = ready.slot;
    if slot.exited_last.get() != name || !place.told.is_stated_in(ready.generation) {
        ready.leave();
        return close_slowly(place, name);
    }
    // That nothing was recorded since it was left does not say that no time has passed.
    ready.write(Kind::SpanCloseLast, ready.now(), |_| {});
    place.references.end();
    place.told.close(ready.generation);
    SPANS.give(name as u32 - 1, Some(&slot.free_spans));
    ready.leave();
}

#[cold]
#[inline(never)]
fn close_slowly(place: &'static SpanPlace, name: Name) {
    let mut closed = control().generation.load(Ordering::Acquire);
    if let Some(writer) = enter_gate(1 + 3 * MAX_VARINT, [Some(place), None]) {
        let inside = writer.inside();
        let (slot, _, generation) = inside.parts();
        closed = generation;
        let last = slot.exited_last.get() == name;
        let kind = if last { Kind::SpanCloseLast } else { Kind::SpanClose };
        if let Some((mut cursor, _)) = inside.begin(kind, 2 * MAX_VARINT) {
            // SAFETY: the size asked for is a name's.
            unsafe {
                if !last {
                    put_name(name, &mut cursor);
                }
                inside.commit(cursor);
            }
        }
        return release(place, closed, Some(&slot.free_spans));
    }
    // Not before the last one that may have stated it, or that is being listed now.
    closed = closed.max(place.told.newest()) + 1;
    if !is_recording() {
        // Nor before the last one ends, whose listing may still be to come.
        closed = closed.max(control().next_generation.load(Ordering::Relaxed));
    }
    release(place, closed, None);
}

/// Ends a span. The cache is that of the thread, if it is inside its gate.
fn release(place: &'static SpanPlace, closed: u64, cache: Option<&Cache>) {
    place.references.end();
    place.told.close(closed);
    SPANS.give(SPANS.index_of(place), cache);
}

/// A reference to a span that somebody named without having one of his own, for as long as a call
/// takes. It must outlast the gate: to give it up may close the span.
pub(crate) struct Held(Name);

impl Held {
    pub(crate) fn new(of: Parent) -> Self {
        let Parent::Of(name) = of else { return Self(0) };
        let held = find(name).filter(|place| place.references.hold());
        // If another span has taken the place in between, that one is let go again.
        match held.map(SpanPlace::name) {
            Some(held) if held == name => Self(name),
            other => {
                drop(Self(other.unwrap_or(0)));
                Self(0)
            }
        }
    }

    pub(crate) fn place(&self) -> Option<&'static SpanPlace> {
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

/// Fields of a span that become known later.
#[inline(never)]
pub fn record(name: Name, fields: &Fields<'_>) {
    let Some(place) = find(name) else { return };
    let Some(site) = place.site() else { return };
    if fields.is_empty() {
        return;
    }
    let size = 4 * MAX_VARINT + fields.size();
    let mut is_kept = false;
    // Again if a newer generation has stated the span meanwhile, perhaps without these fields.
    for _ in 0..2 {
        let Some(writer) = enter_gate(size, [Some(place), None]) else { break };
        let inside = writer.inside();
        let (_, _, generation) = inside.parts();
        if !std::mem::replace(&mut is_kept, true) {
            place.keep_late(fields);
        }
        if let Some((id, mut cursor)) = inside.begin_at_id(Kind::SpanRecord, site, size) {
            // SAFETY: the size asked for is that of these.
            unsafe {
                put_name(name, &mut cursor);
                cursor.number(u64::from(id));
                fields.put(&mut cursor);
                inside.commit(cursor);
            }
        }
        drop(writer);
        fence(Ordering::SeqCst);
        if !place.told.is_ahead_of(generation) {
            return;
        }
    }
    if !is_kept {
        place.keep_late(fields);
    }
}

/// A span follows from another one, which may be over. Of one that was never recorded there is nothing
/// to say.
pub fn follows(name: Name, from: Name) {
    let held = [name, from].map(|name| Held::new(Parent::Of(name)));
    let named = held.each_ref().map(Held::place);
    let kind = match named {
        [None, _] => return,
        [_, Some(_)] => Kind::SpanFollows,
        [_, None] if was_given(from) => Kind::SpanFollowsClosed,
        _ => return,
    };
    let Some(writer) = enter_gate(1 + 5 * MAX_VARINT, named) else { return };
    if let Some((mut cursor, _)) = writer.inside().begin(kind, 4 * MAX_VARINT) {
        // SAFETY: the size asked for is that of two names.
        unsafe {
            put_name(name, &mut cursor);
            put_name(from, &mut cursor);
            writer.inside().commit(cursor);
        }
    }
}

/// A message with fields, said of the innermost span of this thread, or of another one. Said of one that
/// is over, it is said of none.
#[inline(never)]
pub fn log(
    site: &'static Site,
    level: Level,
    message: &mut StackText<'_>,
    fields: &Fields<'_>,
    of: Parent,
) {
    message.scrub();
    write_log(site, level, message, fields, of);
    active::logged(control(), site, level, || {
        let fields = active::fields_in_words(site, fields.bytes());
        format!("{}{fields}", cut(message.as_str(), MAX_TEXT))
    });
}

/// As which kind a message is recorded, and of which span it is said. What is held is that of `of`.
pub(crate) fn said_of(
    of: Parent,
    held: &Held,
) -> (Kind, Name, Option<&'static SpanPlace>) {
    let (kind, name) = match of {
        Parent::Of(_) => (Kind::LogIn, held.0),
        // A reader may not know which one is the innermost of those that are not restated.
        Parent::Current => match thread::present_slot().filter(|slot| is_deep(slot)) {
            Some(slot) => (Kind::LogIn, innermost(slot)),
            None => (Kind::LogFields, 0),
        },
    };
    let named = find(name);
    (kind, if named.is_some() { name } else { 0 }, named)
}

fn write_log(site: &'static Site, level: Level, message: &StackText<'_>, fields: &Fields<'_>, of: Parent) {
    let held = Held::new(of);
    let (kind, name, named) = said_of(of, &held);
    let mut message = Text::clean(message.as_str());
    let limit = Limits::now().text;
    let size = 5 * MAX_VARINT + message.size(limit) + fields.size();
    let Some(writer) = enter_gate(size, [named, None]) else { return };
    let inside = writer.inside();
    message.resolve(inside);
    if let Some((id, mut cursor)) = inside.begin_at_id(kind, site, size) {
        // SAFETY: the size asked for is that of these.
        unsafe {
            if kind == Kind::LogIn {
                put_name(name, &mut cursor);
            }
            cursor.number(level as u64);
            cursor.number(u64::from(id));
            message.put(&mut cursor, limit);
            fields.put(&mut cursor);
            inside.commit(cursor);
        }
    }
}
