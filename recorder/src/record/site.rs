//! Sites: the places in the source that record something, each a static with a name.
//!
//! # Synchronization
//!
//! A site caches its id in the newest generation that used it, in one word: `generation << 24 |
//! id`. A writer commits the definition to its own block and only then publishes the id (release),
//! so a thread that loads it (acquire) may use it at once. The word only grows, so a straggler in
//! an older generation never hides a newer one; it defines the site for itself. Two threads may
//! define a site twice in one generation; both definitions are equal.

use crate::record::control::{Control, control};
use crate::record::limits::MOST_FIELDS;
use crate::record::slot::Slot;
use crate::record::thresholds;
use crate::record::writer::WriteCtx;
use crate::redact;
use lookback_snapshot::wire::{Kind, Level, Loss, MAX_TEXT, MAX_VARINT, TypeName, ValueType};
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

const ID_BITS: u32 = 24;

/// The most fields of an event.
pub(crate) const MAX_FIELDS: usize = 12;

/// A place in the source that records something. The macros create sites.
#[repr(C, align(16))]
pub struct Site {
    // The fields that every event reads come first: 16 bytes on one cache line.
    cache: AtomicU64,
    /// The types of the fields as they were defined, four bits each: see [`Site::id_with`].
    types: AtomicU64,
    /// Which fields are hidden, one bit each, and the epoch of the rules that decided it.
    hidden: AtomicU64,
    hidden_by: AtomicU32,
    /// 1 if the name has a limit.
    watched: AtomicU8,
    /// How many of a callsite's fields have names in its definition.
    named: u8,
    /// Whether this is the site of closures that run where blocking is allowed.
    blocking: bool,
    /// A filter's decision, and which filter made it: see [`crate::record::filter`].
    judged: AtomicU64,
    /// A number for an integration.
    mark: u64,
    /// How many bytes each of a task's futures takes; 0 if this is no task's site.
    size: usize,
    name: &'static str,
    fields: &'static [&'static str],
    file: &'static str,
    line: u32,
    /// For a callsite of `tracing`: its target and level.
    callsite: Option<(&'static str, Level)>,
    origin: Option<&'static (dyn Any + Send + Sync)>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.name, self.file, self.line)
    }
}

impl Site {
    /// A site with this name. `fields` are the names of an event's values.
    #[must_use]
    pub const fn new(
        name: &'static str,
        fields: &'static [&'static str],
        file: &'static str,
        line: u32,
    ) -> Self {
        let (cache, types) = (AtomicU64::new(0), AtomicU64::new(0));
        let (mark, origin, watched) = (0, None, AtomicU8::new(0));
        let (hidden, hidden_by, named, callsite) = (AtomicU64::new(0), AtomicU32::new(0), 0, None);
        let judged = AtomicU64::new(0);
        Self {
            cache,
            watched,
            name,
            fields,
            file,
            line,
            named,
            callsite,
            blocking: false,
            mark,
            size: 0,
            origin,
            types,
            hidden,
            hidden_by,
            judged,
        }
    }

    /// The site of a callsite of `tracing`, whose fields may have values of any type.
    #[must_use]
    pub const fn of_callsite(
        name: &'static str,
        fields: &'static [&'static str],
        place: (&'static str, u32),
        target: &'static str,
        level: Level,
    ) -> Self {
        let (cache, types) = (AtomicU64::new(0), AtomicU64::new(0));
        Self {
            cache,
            watched: AtomicU8::new(0),
            name,
            fields,
            file: place.0,
            line: place.1,
            named: named(fields),
            callsite: Some((target, level)),
            blocking: false,
            mark: 0,
            size: 0,
            origin: None,
            types,
            hidden: AtomicU64::new(0),
            hidden_by: AtomicU32::new(0),
            judged: AtomicU64::new(0),
        }
    }

    /// Turns this into the site of closures that run where blocking is allowed.
    #[must_use]
    pub(crate) const fn of_closures(mut self) -> Self {
        self.blocking = true;
        self
    }

    /// Says how many bytes each of the futures takes that are spawned here.
    #[must_use]
    pub(crate) const fn of_size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// The size of the futures that are spawned here, if it is known.
    pub(crate) fn size(&self) -> Option<u64> {
        (self.size > 0).then_some(self.size as u64)
    }

    /// Attaches a number and an object for an integration.
    #[must_use]
    pub const fn with_mark(mut self, mark: u64, origin: &'static (dyn Any + Send + Sync)) -> Self {
        self.mark = mark;
        self.origin = Some(origin);
        self
    }

    /// The number that an integration attached.
    #[inline(always)]
    #[must_use]
    pub const fn mark(&self) -> u64 {
        self.mark
    }

    /// The object that an integration attached, if it has this type.
    #[must_use]
    pub fn origin<T: 'static>(&self) -> Option<&'static T> {
        self.origin?.downcast_ref()
    }

    /// A filter's last decision about this site.
    #[inline(always)]
    pub(crate) fn judged(&self) -> &AtomicU64 {
        &self.judged
    }

    /// The place in the source.
    #[must_use]
    pub const fn place(&self) -> (&'static str, u32) {
        (self.file, self.line)
    }

    /// The target and the level of a callsite.
    #[must_use]
    pub const fn target_and_level(&self) -> Option<(&'static str, Level)> {
        self.callsite
    }

    /// The site's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The site's name as shown to people, if it is that of a task.
    pub(crate) fn said(&self) -> Said<'_> {
        Said(self)
    }

    /// The name of the field with this index.
    pub(crate) fn field(&self, index: usize) -> &'static str {
        self.fields.get(index).copied().unwrap_or("?")
    }

    /// The field that holds the names of the site's spans, as in `tracing-opentelemetry`.
    pub(crate) fn names_spans(&self) -> Option<usize> {
        self.fields.iter().position(|field| *field == "otel.name")
    }

    /// Which of the first 64 fields are recorded without their values because of their names, one
    /// bit each.
    #[inline(always)]
    #[must_use]
    pub fn hidden(&self) -> u64 {
        if self.hidden_by.load(Ordering::Acquire) == redact::epoch() {
            self.hidden.load(Ordering::Relaxed)
        } else {
            self.find_hidden()
        }
    }

    #[cold]
    fn find_hidden(&self) -> u64 {
        let epoch = redact::epoch();
        let hidden = redact::hidden(self.fields);
        let before = self.hidden.swap(hidden, Ordering::Relaxed);
        if before != hidden && self.hidden_by.load(Ordering::Relaxed) != 0 {
            // The old rules belong to a recording that is over; now the fields have other types.
            self.types.store(0, Ordering::Relaxed);
        }
        self.hidden_by.store(epoch, Ordering::Release);
        hidden
    }

    /// The target of a callsite, or else the name: the category of a log.
    pub(crate) fn target(&self) -> &'static str {
        self.callsite.map_or(self.name, |(target, _)| target)
    }

    /// Whether this is a callsite of `tracing`.
    pub(crate) fn is_callsite(&self) -> bool {
        self.callsite.is_some()
    }

    /// 1 if the name has a limit, else 0.
    #[inline(always)]
    pub(crate) fn watched(&self) -> u8 {
        self.watched.load(Ordering::Relaxed)
    }

    /// The kind of the definition, if the fields have no fixed types.
    pub(crate) fn definition_kind(&self) -> Kind {
        match self.callsite {
            Some(_) => Kind::Callsite,
            None if self.blocking => Kind::BlockingSite,
            None => Kind::Site,
        }
    }

    /// The id in this generation, if it is published.
    #[inline(always)]
    pub(crate) fn cached(&self, generation: u64) -> Option<u32> {
        let cached = self.cache.load(Ordering::Acquire);
        (cached >> ID_BITS == generation).then_some((cached & ((1 << ID_BITS) - 1)) as u32)
    }

    /// The id of an event's schema in this generation, if it is published and has these types.
    #[inline(always)]
    pub(crate) fn cached_with(&self, types: &'static Types, generation: u64) -> Option<u32> {
        let id = self.cached(generation)?;
        (self.types.load(Ordering::Relaxed) == types.packed).then_some(id)
    }

    /// The id, after defining the site if necessary.
    #[inline(always)]
    pub(crate) fn id(&self, inside: WriteCtx) -> Result<u32, Loss> {
        match self.cached(inside.generation()) {
            Some(id) => Ok(id),
            None => {
                let (slot, control, generation) = inside.parts();
                self.define(slot, control, generation)
            }
        }
    }

    /// The id of an event's schema with these types, and which fields are hidden. A site in a
    /// generic function may see several type lists; all but the first are defined again with every
    /// event.
    #[inline(always)]
    pub(crate) fn id_with(
        &self,
        types: &'static Types,
        inside: WriteCtx,
    ) -> Result<(u32, u64), Loss> {
        match self.cached_with(types, inside.generation()) {
            // If any fields were hidden, the types would differ.
            Some(id) => Ok((id, 0)),
            None => {
                let (slot, control, generation) = inside.parts();
                Ok((self.define_with(types, slot, control, generation)?, self.hidden()))
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn define(
        &self,
        slot: &'static Slot,
        control: &'static Control,
        generation: u64,
    ) -> Result<u32, Loss> {
        let inside = WriteCtx::from_parts(slot, control, generation);
        let id = inside.next_id()?;
        inside.record(self.definition_kind(), self.definition_size(), |cursor| {
            self.put_definition(id, cursor);
        })?;
        if let Some(size) = self.size() {
            inside.record(Kind::TaskSize, 2 * MAX_VARINT, |cursor| {
                cursor.number(u64::from(id));
                cursor.number(size);
            })?;
        }
        self.publish(inside.generation(), id);
        Ok(id)
    }

    #[cold]
    #[inline(never)]
    fn define_with(
        &self,
        types: &'static Types,
        slot: &'static Slot,
        control: &'static Control,
        generation: u64,
    ) -> Result<u32, Loss> {
        let inside = WriteCtx::from_parts(slot, control, generation);
        // A hidden value is a text, whatever its type.
        let hidden = self.hidden();
        let packed = types.packed_hiding(hidden);
        if hidden != 0
            && self.types.load(Ordering::Relaxed) == packed
            && let Some(id) = self.cached(generation)
        {
            return Ok(id);
        }
        let id = inside.next_id()?;
        let types =
            types.each.iter().enumerate().map(|(index, kind)| {
                if hidden >> index & 1 == 0 { *kind } else { ValueType::Text }
            });
        let names = || self.fields.iter().zip(types.clone()).take(MAX_FIELDS);
        // With twelve fields, a definition must still fit the smallest block.
        let limit = FIELD_NAME;
        let size = names().map(|(name, _)| 3 + name.len().min(limit)).sum::<usize>() + 1;
        inside.record(Kind::Schema, self.definition_size() + size, |cursor| {
            self.put_definition(id, cursor);
            cursor.number(names().count() as u64);
            for (name, kind) in names() {
                cursor.byte(kind as u8);
                cursor.text(name, limit);
            }
        })?;
        let first = self.types.compare_exchange(0, packed, Ordering::Relaxed, Ordering::Relaxed);
        if first.is_ok() || first == Err(packed) {
            self.publish(inside.generation(), id);
        }
        Ok(id)
    }

    /// The most bytes that a definition's arguments take.
    pub(crate) fn definition_size(&self) -> usize {
        let place =
            2 * MAX_VARINT + 4 + self.name.len().min(SITE_TEXT) + self.file.len().min(SITE_TEXT);
        let Some((target, _)) = self.callsite else { return place };
        let names = self.names().map(|name| 2 + name.len().min(CALLSITE_FIELD)).sum::<usize>();
        place + 2 + target.len().min(SITE_TEXT) + 1 + 1 + names
    }

    /// The names of a callsite's fields, as many as fit a definition.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().copied().take(usize::from(self.named))
    }

    /// How many of a callsite's fields have a name in its definition. The values of others are not
    /// recorded.
    #[inline(always)]
    #[must_use]
    pub const fn named_fields(&self) -> usize {
        self.named as usize
    }

    /// There must be room for [`definition_size`](Self::definition_size) bytes.
    pub(crate) fn put_definition(&self, id: u32, cursor: &mut crate::record::cursor::Reserved) {
        cursor.number(u64::from(id));
        cursor.text(self.name, SITE_TEXT);
        cursor.text(self.file, SITE_TEXT);
        cursor.number(u64::from(self.line));
        if let Some((target, level)) = self.callsite {
            cursor.text(target, SITE_TEXT);
            cursor.number(level as u64);
            cursor.number(self.names().count() as u64);
            self.names().for_each(|name| cursor.text(name, CALLSITE_FIELD));
        }
    }

    /// Publishes an id, after its definition was committed. Also looks up whether the name has a
    /// limit.
    pub(crate) fn publish(&self, generation: u64, id: u32) {
        self.watched.store(u8::from(thresholds::is_limited(control(), self)), Ordering::Relaxed);
        self.cache.fetch_max(generation << ID_BITS | u64::from(id), Ordering::AcqRel);
    }
}

/// See [`Site::said`].
pub(crate) struct Said<'a>(&'a Site);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Site { name, file, line, .. } = self.0;
        match TypeName::new(name, file, *line) {
            Some(name) => name.fmt(f),
            None => f.write_str(name),
        }
    }
}

/// A callsite without a site: it is defined again with each of its records.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// The callsite's name.
    pub name: &'a str,
    /// The source file.
    pub file: &'a str,
    /// The line in that file.
    pub line: u32,
    /// The target.
    pub target: &'a str,
    /// The level.
    pub level: Level,
    /// The names of the fields.
    pub fields: &'a [&'a str],
}

impl Passing<'_> {
    /// The most bytes that the definition's arguments take.
    pub(crate) fn definition_size(&self) -> usize {
        let texts = [self.name, self.file, self.target].map(|text| text.len().min(SITE_TEXT));
        let names = self.names().map(|name| 2 + name.len().min(CALLSITE_FIELD)).sum::<usize>();
        2 * MAX_VARINT + 8 + texts.iter().sum::<usize>() + names
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().copied().take(usize::from(named(self.fields)))
    }

    /// There must be room for [`definition_size`](Self::definition_size) bytes.
    pub(crate) fn put_definition(&self, id: u32, cursor: &mut crate::record::cursor::Reserved) {
        cursor.number(u64::from(id));
        cursor.text(self.name, SITE_TEXT);
        cursor.text(self.file, SITE_TEXT);
        cursor.number(u64::from(self.line));
        cursor.text(self.target, SITE_TEXT);
        cursor.number(self.level as u64);
        cursor.number(self.names().count() as u64);
        self.names().for_each(|name| cursor.text(name, CALLSITE_FIELD));
    }
}

/// The longest name and the longest file path of a site; a definition must hold both.
const SITE_TEXT: usize = MAX_TEXT / 2;
/// The longest name of a field.
const FIELD_NAME: usize = 128;
/// The most bytes of all names of a callsite's fields, and of one of them.
const CALLSITE_FIELDS: usize = 1856;
const CALLSITE_FIELD: usize = 56;

/// How many of these names fit a definition.
const fn named(fields: &[&str]) -> u8 {
    let (mut count, mut bytes) = (0, 0);
    while count < fields.len() && count < MOST_FIELDS {
        let length = fields[count].len();
        bytes += 2 + if length < CALLSITE_FIELD { length } else { CALLSITE_FIELD };
        if bytes > CALLSITE_FIELDS {
            break;
        }
        count += 1;
    }
    count as u8
}

/// The types of an event's values.
#[derive(Debug)]
pub struct Types {
    each: &'static [ValueType],
    packed: u64,
}

impl Types {
    /// These types, in order.
    #[must_use]
    pub const fn new(each: &'static [ValueType]) -> Self {
        // The top bit distinguishes "no fields" from "not yet defined".
        let (mut packed, mut index) = (1 << 63, 0);
        while index < each.len() && index < MAX_FIELDS {
            packed |= (each[index] as u64) << (4 * index);
            index += 1;
        }
        Self { each, packed }
    }

    /// The packed types with some fields hidden; never equal to those with none hidden.
    fn packed_hiding(&self, hidden: u64) -> u64 {
        let fields = (0..self.each.len().min(MAX_FIELDS)).filter(|index| hidden >> index & 1 != 0);
        fields.fold(self.packed | u64::from(hidden != 0) << 62, |packed, index| {
            packed & !(0xf << (4 * index)) | (ValueType::Text as u64) << (4 * index)
        })
    }
}
