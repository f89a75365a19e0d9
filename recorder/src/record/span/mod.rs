//! Spans: create, enter, exit, close; on any thread, for any length of time.
//!
//! Enter and exit belong to the thread that does them, which keeps a stack of the spans that it is
//! inside. Everything else belongs to the span: its place among [`SPANS`] holds its name, its
//! parent, its start, and the first of its fields, so that each generation can restate it.
//!
//! # The protocol
//!
//! A place records in which generation its span was last stated, created and closed: see
//! [`SpanGenerations`]. A thread that names the span in an event, under its gate's flag:
//!
//! * begins again if a generation newer than its own has stated the span: no event of a span goes
//!   into a generation older than one that has an event of it already;
//! * first writes the status if only an older generation has stated the span, and then stores its
//!   own generation there, with a mark if the generation before had it.
//!
//! Any number of threads may do so at once; two that meet may both write the status. When
//! generation *g* is over, the advancer lists each span that was created in *g* or before, was not
//! closed in *g* or before, and was stated neither by *g* nor (by the mark) by a thread already in
//! *g + 1*.
//!
//! The kept fields grow: a thread appends bytes to those present, and then stores the new length
//! with release. When there is no room, it repacks the fields, keeping only the last value of each,
//! and changes the version in the word that holds the length; the version is odd meanwhile. Threads
//! that copy the fields check the version before and after, as with a seqlock, and give up after a
//! few attempts. A thread that adds fields holds `adding`. A thread that finds it taken does not
//! wait: its fields are in the event alone, and statuses say that they are incomplete.
//!
//! A thread that adds fields states the span, adds them, and writes the event, all in one
//! generation *g*. A thread in *g + 1* that states the span at that moment could miss them. So both
//! look again, after a fence. The stating thread checks whether fields were added since its copy,
//! and then states again; the adding thread checks whether a newer generation has stated the span,
//! and then writes the event there, too. At least one of them notices.

pub(crate) mod open;
pub(crate) mod outcome;
pub(crate) mod said;
pub(crate) mod span_ops;

use crate::protocol::references::References;
use crate::protocol::span_generations::SpanGenerations;
use crate::record::cursor::Reserved;
use crate::record::fields::{Fields, KEPT};
use crate::record::limits::Limits;
use crate::record::site::Site;
use crate::record::slab::Slab;
use crate::record::slot::MAX_SPANS;
use crate::record::sparse_fields::{Packed, pack};
use crate::record::writer::{WriteCtx, Writer};
use lookback_snapshot::wire::{Kind, ListedFields, Loss, MAX_VARINT, SpanId, SpanListItem};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// The state of a span's kept fields, in one word: bytes, count, whether they differ from what was
/// last recorded, and a version, which is odd while they are being repacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const PART: u64 = 1 << 15;

    fn new(version: u32, count: u32, length: usize, part: bool) -> Self {
        let part = if part { Self::PART } else { 0 };
        Self(u64::from(version) << 32 | u64::from(count as u16) << 16 | part | length as u64)
    }

    fn version(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn count(self) -> u32 {
        u32::from((self.0 >> 16) as u16)
    }

    fn length(self) -> usize {
        (self.0 & 0xff) as usize
    }

    fn is_part(self) -> bool {
        self.0 & Self::PART != 0
    }
}

const _: () = assert!(KEPT <= 0xff);

/// A thread is adding fields; meanwhile another one came, whose fields are not kept.
const ADDING: u8 = 1;
const MISSED: u8 = 2;

/// How often to retry a copy of fields that were repacked meanwhile.
const ATTEMPTS: u32 = 8;

/// The most spans that can be open at once: 1.25 GiB of address space.
pub(crate) const MAX_OPEN: u32 = 1 << 22;
/// How many groups keep their memory, however few spans there are.
const KEPT_GROUPS: u32 = 16;

/// The places of all spans.
pub(crate) static SPANS: Slab<SpanEntry> = Slab::new();

/// See the module. All zeroes: a place that was never used.
#[repr(C, align(64))]
pub(crate) struct SpanEntry {
    pub(crate) told: SpanGenerations,
    site: AtomicPtr<Site>,
    /// The parent's [`Name`]; 0 for none.
    pub(crate) parent: AtomicU64,
    /// When the span began, in ticks.
    pub(crate) began: AtomicU64,
    pub(crate) incarnation: AtomicU32,
    pub(crate) references: References,
    /// The state of the kept fields: a [`Word`].
    kept: AtomicU64,
    /// The same, when the newest generation first stated the span.
    kept_before: AtomicU64,
    /// Whether the name has a limit, copied from the site; and what [`open`] notes of it.
    pub(crate) watched: AtomicU8,
    adding: AtomicU8,
    fields: UnsafeCell<[u8; KEPT]>,
}

// SAFETY: everything but `fields` is atomic. Only the thread that holds `adding` (or owns the whole
// place) writes to `fields` beyond the kept bytes, where no other thread reads. Bytes that other
// threads may read change only by atomic stores, and are read by atomic loads.
unsafe impl Sync for SpanEntry {}

const _: () = assert!(size_of::<SpanEntry>() == 320);

/// Identifies a span: its place's index, from 1, in the low half, its incarnation in the high half.
/// 0 is no span.
pub type Name = u64;

/// An unknown parent.
pub(crate) const UNKNOWN: Name = Name::MAX;

/// The parent of a new span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The innermost span that the thread is inside.
    Current,
    /// This span, or none (0).
    Of(Name),
}

impl SpanEntry {
    pub(crate) fn site(&self) -> Option<&'static Site> {
        // SAFETY: the pointer is null, or to a site that is never freed.
        unsafe { self.site.load(Ordering::Relaxed).as_ref() }
    }

    pub(crate) fn name(&self) -> Name {
        let incarnation = u64::from(self.incarnation.load(Ordering::Relaxed));
        incarnation << 32 | u64::from(SPANS.index_of(self) + 1)
    }

    fn word(&self) -> Word {
        Word(self.kept.load(Ordering::Acquire))
    }

    /// A byte of the fields, for shared access.
    fn byte(&self, at: usize) -> &AtomicU8 {
        assert!(at < KEPT);
        // SAFETY: it lies in the array, and all concurrent accesses to it are atomic.
        unsafe { AtomicU8::from_ptr(self.fields.get().cast::<u8>().add(at)) }
    }

    /// A copy of the kept fields as described by `said`, which is `kept` or `kept_before`.
    fn copied(&self, said: &AtomicU64) -> Kept {
        for _ in 0..ATTEMPTS {
            let (now, word) = (self.word(), Word(said.load(Ordering::Acquire)));
            if word.count() == 0 {
                return Kept { bytes: [0; KEPT], word };
            }
            if now.version() % 2 == 0 && word.version() == now.version() {
                let mut kept = Kept { bytes: [0; KEPT], word };
                for (at, byte) in kept.bytes[..word.length().min(KEPT)].iter_mut().enumerate() {
                    *byte = self.byte(at).load(Ordering::Relaxed);
                }
                fence(Ordering::Acquire);
                if Word(self.kept.load(Ordering::Relaxed)).version() == now.version() {
                    return kept;
                }
            }
            std::hint::spin_loop();
        }
        // The fields have changed since then, or do not stay unchanged for long enough.
        Kept { bytes: [0; KEPT], word: Word::new(0, 0, 0, true) }
    }

    /// A copy of the kept fields.
    pub(crate) fn kept(&self) -> Kept {
        self.copied(&self.kept)
    }

    /// Puts bytes that no other thread reads or writes.
    ///
    /// # Safety
    /// The thread must own the place, or hold `adding`, and nothing may be kept from `at` on.
    #[inline(always)]
    unsafe fn put_fields(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= KEPT);
        // SAFETY: there is room, and by the contract no other thread accesses it.
        unsafe {
            let start = self.fields.get().cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
    }

    /// Puts bytes over others that other threads may be reading.
    fn store_fields(&self, at: usize, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            self.byte(at).store(*byte, Ordering::Relaxed);
        }
    }

    /// Keeps the fields that the span begins with, as far as they fit.
    #[inline(always)]
    fn keep(&self, fields: &Fields<'_>) {
        let bytes = fields.bytes();
        if bytes.len() > Limits::now().kept || fields.is_part() {
            return self.keep_some(fields);
        }
        // SAFETY: the place belongs to this thread, and nothing is kept.
        unsafe { self.put_fields(0, bytes) };
        self.kept.store(Word::new(0, fields.count(), bytes.len(), false).0, Ordering::Release);
    }

    #[cold]
    fn keep_some(&self, fields: &Fields<'_>) {
        let mut out = [0; KEPT];
        let name = self.site().and_then(Site::names_spans);
        let Packed { count, length, part } =
            pack([fields.bytes(), &[]], name, Limits::now().kept, &mut out);
        // SAFETY: the place belongs to this thread, and nothing is kept.
        unsafe { self.put_fields(0, &out[..length]) };
        self.kept.store(Word::new(0, count, length, part).0, Ordering::Release);
    }

    /// Keeps fields that become known later.
    pub(crate) fn keep_late(&self, fields: &Fields<'_>) {
        let (order, failure) = (Ordering::AcqRel, Ordering::Acquire);
        loop {
            match self.adding.compare_exchange(0, ADDING, order, failure) {
                Ok(_) => break,
                // Do not wait: these fields are in the event alone, and the adding thread will
                // know.
                Err(ADDING) => {
                    if self.adding.compare_exchange(ADDING, MISSED, order, failure).is_ok() {
                        return;
                    }
                }
                Err(MISSED) => return,
                Err(_) => {}
            }
        }
        self.add(fields);
        // While this thread still holds `adding`, because the next holder builds on the word.
        if self.adding.compare_exchange(ADDING, 0, order, failure).is_err() {
            self.kept.fetch_or(Word::PART, Ordering::AcqRel);
            self.adding.store(0, Ordering::Release);
        }
    }

    /// Appends fields to those that are kept, or repacks all of them if there is no room. This
    /// thread holds `adding`.
    fn add(&self, fields: &Fields<'_>) {
        let (word, bytes, limit) = (self.word(), fields.bytes(), Limits::now().kept);
        let (version, length) = (word.version(), word.length());
        let is_part = word.is_part() || fields.is_part();
        if !is_part && length + bytes.len() <= limit {
            if version == 0 {
                // SAFETY: this thread holds `adding`, and this is past everything that was ever
                // kept.
                unsafe { self.put_fields(length, bytes) };
            } else {
                // Before a repacking, more may have been kept here, which other threads may still
                // be reading.
                self.store_fields(length, bytes);
            }
            let (count, length) = (word.count() + fields.count(), length + bytes.len());
            self.kept.store(Word::new(version, count, length, false).0, Ordering::Release);
            return;
        }
        let (kept, mut out) = (self.kept(), [0; KEPT]);
        let name = self.site().and_then(Site::names_spans);
        let packed = pack([kept.bytes(), bytes], name, limit, &mut out);
        // A thread that copies them meanwhile sees an odd or a changed version.
        let none = Word::new(version.wrapping_add(1), 0, 0, true);
        self.kept.store(none.0 | 1 << 16, Ordering::Relaxed);
        fence(Ordering::Release);
        // The fields of the generation before no longer exist.
        self.kept_before.store(none.0, Ordering::Release);
        self.store_fields(0, &out[..packed.length]);
        // These may or may not include fields that were missed before.
        let part = packed.part || word.is_part();
        let version = version.wrapping_add(2);
        let word = Word::new(version, packed.count, packed.length, part);
        self.kept.store(word.0, Ordering::Release);
    }

    /// A span takes the place, with one reference. The span is not open yet.
    #[inline(always)]
    pub(crate) fn begin(
        &self,
        site: &'static Site,
        incarnation: u32,
        generation: u64,
        fields: &Fields<'_>,
    ) {
        self.incarnation.store(incarnation, Ordering::Relaxed);
        self.references.begin();
        self.told.begin(generation);
        self.site.store(std::ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
        self.watched.store(site.watched(), Ordering::Relaxed);
        if fields.is_empty() {
            self.kept.store(0, Ordering::Relaxed);
        } else {
            self.keep(fields);
        }
    }

    /// The status that the listing of `generation` must write, if any.
    pub(crate) fn status_at_end(&self, generation: u64) -> Option<Restated> {
        if !self.told.is_to_be_listed(generation) {
            return None;
        }
        // Fields that were added in the next generation do not belong to this one.
        let ahead = self.told.is_ahead_of(generation);
        let kept = if ahead { &self.kept_before } else { &self.kept };
        self.restated(self.copied(kept))
    }

    fn restated(&self, kept: Kept) -> Option<Restated> {
        Some(Restated {
            name: self.name(),
            site: self.site()?,
            parent: self.parent.load(Ordering::Relaxed),
            began: self.began.load(Ordering::Relaxed),
            kept,
        })
    }
}

/// The contents of a span's status.
pub(crate) struct Restated {
    name: Name,
    pub(crate) site: &'static Site,
    parent: Name,
    began: u64,
    kept: Kept,
}

/// A copy of the kept fields.
pub(crate) struct Kept {
    bytes: [u8; KEPT],
    word: Word,
}

impl Kept {
    /// The fields, encoded.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.word.length().min(KEPT)]
    }
}

impl Restated {
    /// The most bytes that [`put`](Self::put) writes.
    pub(crate) fn size(&self) -> usize {
        7 * MAX_VARINT + 2 + self.kept.bytes().len()
    }

    /// The number of fields.
    pub(crate) fn field_count(&self) -> u32 {
        self.kept.word.count()
    }

    /// The fields, encoded.
    pub(crate) fn fields(&self) -> &[u8] {
        self.kept.bytes()
    }

    /// The kind of the status.
    pub(crate) fn kind(&self) -> Kind {
        if self.kept.word.is_part() { Kind::SpanStatusPart } else { Kind::SpanStatus }
    }

    /// The span as an item of a list in a block with this base time, with fields or without: the
    /// item, whether its fields are incomplete, and its fields.
    pub(crate) fn listed(&self, site: u32, base: u64, bare: bool) -> (SpanListItem, bool, &[u8]) {
        let item = SpanListItem {
            span: SpanId::from_number(self.name),
            parent: SpanId::from_number(self.parent),
            ago: base.saturating_sub(self.began),
            site,
            fields: ListedFields::None,
        };
        let part = self.kept.word.is_part() || bare && self.field_count() > 0;
        (item, part, if bare { &[] } else { self.kept.bytes() })
    }

    /// Puts the arguments of a status into a block with this base time.
    ///
    /// There must be room for [`size`](Self::size) bytes.
    pub(crate) fn put(&self, site: u32, base: u64, cursor: &mut Reserved) {
        put_name(self.name, cursor);
        put_name(self.parent, cursor);
        cursor.number(base.saturating_sub(self.began));
        cursor.number(u64::from(site));
        cursor.number(u64::from(self.field_count()));
        cursor.bytes(self.kept.bytes());
    }
}

/// There must be room for two numbers.
pub(crate) fn put_name(name: Name, cursor: &mut Reserved) {
    cursor.number(name & 0xffff_ffff);
    cursor.number(name >> 32);
}

/// Returns the memory of a past peak, once generation `complete` is complete.
pub(crate) fn shrink(complete: u64) {
    let numbers = |place: &SpanEntry| {
        let gone = complete > 2 && place.told.is_free_for(complete - 2);
        gone.then(|| (0, place.incarnation.load(Ordering::Relaxed)))
    };
    SPANS.shrink(KEPT_GROUPS, numbers, |_, _| {});
}

/// The place of an open span.
#[inline(always)]
pub(crate) fn find(name: Name) -> Option<&'static SpanEntry> {
    let place = SPANS.get((name as u32).checked_sub(1)?)?;
    let is_it = place.incarnation.load(Ordering::Relaxed) == (name >> 32) as u32;
    (is_it && place.references.are_there()).then_some(place)
}

/// Whether a span with this name ever existed.
pub(crate) fn was_given(name: Name) -> bool {
    let Some(place) = (name as u32).checked_sub(1).and_then(|index| SPANS.get(index)) else {
        return false;
    };
    let newest = place.incarnation.load(Ordering::Relaxed).max(SPANS.floors().1);
    (1..=newest).contains(&((name >> 32) as u32))
}

/// Enters the gate, with room for `size` bytes more than [`WriteCtx::begin`] needs, and with each
/// span in `named`, all of which must be open, stated. If one of them is ahead of this thread's
/// generation, begins again.
// Inlined, because the gate's flag is a stack pointer and must be that of the caller, which keeps
// the writer: from a deeper frame, a handler that interrupts the caller might seem to be beside the
// writer.
#[inline(always)]
pub(crate) fn enter_gate(size: usize, named: [Option<&'static SpanEntry>; 2]) -> Option<Writer> {
    for _ in 0..4 {
        let writer = Writer::enter()?;
        let inside = writer.inside();
        let (_, _, generation) = inside.parts();
        if inside.room_for(size).is_err() {
            inside.lose(Loss::ArenaFull);
            return None;
        }
        let places = || named.iter().flatten();
        if places().all(|place| place.told.is_stated_in(generation)) {
            return Some(writer);
        }
        if !places().any(|place| place.told.is_ahead_of(generation)) {
            let stated = places().try_for_each(|place| state(inside, place));
            if stated.is_none() || inside.room_for(size).is_err() {
                inside.lose(Loss::ArenaFull);
                return None;
            }
            return Some(writer);
        }
        drop(writer);
        fence(Ordering::SeqCst);
    }
    None
}

/// States a span, unless the generation has stated it.
#[cold]
fn state(inside: WriteCtx, place: &SpanEntry) -> Option<()> {
    let (slot, _, generation) = inside.parts();
    // Repeats if fields were added meanwhile: the adding thread may not have seen that the span is
    // stated. After too many attempts, the last status says that it may be incomplete.
    let mut left = ATTEMPTS;
    while !place.told.is_stated_in(generation) {
        let mut kept = place.kept();
        let word = kept.word;
        left -= 1;
        if left == 0 {
            kept.word.0 |= Word::PART;
        }
        let restated = place.restated(kept)?;
        let id = inside.site_piece(restated.site)?;
        if !inside.block_for(1 + restated.size()) {
            return None;
        }
        let base = slot.base();
        inside.put_record(restated.kind(), |cursor| {
            restated.put(id, base, cursor);
        });
        if place.told.is_ahead_of(generation) {
            return Some(());
        }
        if !place.told.is_stated_in(generation) {
            place.kept_before.store(word.0, Ordering::Relaxed);
        }
        place.told.is_stated_now(generation);
        fence(Ordering::SeqCst);
        if place.kept.load(Ordering::Relaxed) != word.0 && left > 0 {
            place.told.is_to_be_stated_again(generation);
        }
    }
    Some(())
}

/// States the spans that the slot's thread is inside, outermost first. `None` if there is no
/// room.
pub(crate) fn state_entered(inside: WriteCtx) -> Option<()> {
    let slot = inside.slot();
    let depth = slot.span_depth.load(Ordering::Relaxed) as usize;
    slot.spans_unknown.set(depth > MAX_SPANS);
    for span in &slot.spans[..depth.min(MAX_SPANS)] {
        let name = span.load(Ordering::Relaxed);
        if let Some(place) = find(name) {
            state(inside, place)?;
        }
        inside.piece(Kind::SpanEntered, 2 * MAX_VARINT, |cursor| {
            put_name(name, cursor);
        })?;
    }
    if depth > MAX_SPANS {
        inside.piece(Kind::SpansDeeper, MAX_VARINT, |cursor| {
            cursor.number((depth - MAX_SPANS) as u64);
        })?;
    }
    Some(())
}
