//! Spans: create, enter, exit, close; on any thread, for any time.
//!
//! Enter and exit belong to the thread that does them, which keeps a stack of the spans that it is
//! inside of. All else is the span's own: its place among [`SPANS`] holds its name, its parent, when
//! it began, and the first of its fields, so that each generation can restate it.
//!
//! # The protocol
//!
//! A place says in which generation the span was stated last, in which one it was created and in
//! which one it was closed: see [`Told`]. Whoever names the span in an event, under the flag of its
//! gate:
//!
//! * begins again if the span was stated in a newer generation than its own: no event of a span
//!   stands in a generation that is older than one which has one already;
//! * writes the status first, if it was stated in an older one, and then stores its own generation
//!   there, with a mark if the generation before had it.
//!
//! Any number of threads may do so at once; two that meet may both write the status. When generation
//! *g* is over, who advances lists each span that was created in *g* or before, was not closed in it
//! or before, and that neither *g* nor (by the mark) a thread which is in *g + 1* already has stated.
//!
//! The fields that are kept grow: bytes are written behind those that are there, and then their number is
//! stored with release. Where there is no more room, they are packed anew, the last value of each field
//! alone, and a version in the word that says their number tells that: it is odd meanwhile, and who
//! copies them looks at it before and after, as with a seqlock, and does without after a few attempts.
//! Who adds to them holds `adding`; who finds it taken does not wait, that field is in the event alone,
//! and statuses say that they do not have all.
//!
//! Who adds fields states the span, adds them, and writes the event, all in one generation, *g*. A
//! thread in *g + 1* that states the span at that moment could miss them. So both look again, behind a
//! fence: who stated, whether fields were added since its copy (and states again); who added, whether a
//! newer generation has stated the span (and writes the event there, too). One of them finds it.

use crate::cursor::Cursor;
use crate::fields::{Fields, KEPT};
use crate::given::{Packed, pack};
use crate::groups::Groups;
use crate::limits::Limits;
use crate::references::References;
use crate::site::Site;
use crate::slot::MAX_SPANS;
use crate::told::Told;
use crate::writer::{Inside, Writer};
use lookback_snapshot::wire::{Kind, ListedFields, Loss, MAX_VARINT, SpanId, SpanListItem};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

/// What is kept of a span's fields, in one word: how many bytes, how many fields, whether that is not all
/// as it was recorded last, and a version, which is odd while they are being packed anew.
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

/// Somebody adds fields; and somebody else came meanwhile whose fields are not kept.
const ADDING: u8 = 1;
const MISSED: u8 = 2;

/// How often fields are copied again that were packed anew meanwhile.
const ATTEMPTS: u32 = 8;

/// The most spans that can be open at the same time: 1.25 GiB of address space.
pub(crate) const MAX_OPEN: u32 = 1 << 22;
/// Groups of places whose memory is kept, however few spans there are.
const KEPT_GROUPS: u32 = 16;

/// The places of all spans.
pub(crate) static SPANS: Groups<SpanPlace> = Groups::new();

/// See the module. Zeroes are a place that was never used.
#[repr(C, align(64))]
pub(crate) struct SpanPlace {
    pub(crate) told: Told,
    site: AtomicPtr<Site>,
    /// The parent's [`Name`], 0 for none.
    pub(crate) parent: AtomicU64,
    /// When it began, in ticks.
    pub(crate) began: AtomicU64,
    pub(crate) incarnation: AtomicU32,
    pub(crate) references: References,
    /// What is kept of the fields: a [`Word`].
    kept: AtomicU64,
    /// The same, as it was when the newest generation stated the span first.
    kept_before: AtomicU64,
    /// Whether its name has a limit, as its site says.
    pub(crate) watched: AtomicU8,
    adding: AtomicU8,
    fields: UnsafeCell<[u8; KEPT]>,
}

// SAFETY: everything but `fields` is atomic. Of those, only who holds `adding` (or has the place to itself)
// writes behind what is kept, where nobody else reads; and bytes that others may read change only by
// atomic stores, as they are read by atomic loads.
unsafe impl Sync for SpanPlace {}

const _: () = assert!(size_of::<SpanPlace>() == 320);

/// What names a span: its place's index, from 1, in the low half, its incarnation in the high half.
/// 0 is no span.
pub type Name = u64;

/// A parent of which it is not known which span it is.
pub(crate) const UNKNOWN: Name = Name::MAX;

/// Whose child a new span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// Of the innermost span that the thread is inside of.
    Current,
    /// Of this one, or of none (0).
    Of(Name),
}

impl SpanPlace {
    pub(crate) fn site(&self) -> Option<&'static Site> {
        // SAFETY: it is null, or a site that lives for ever.
        unsafe { self.site.load(Ordering::Relaxed).as_ref() }
    }

    pub(crate) fn name(&self) -> Name {
        let incarnation = u64::from(self.incarnation.load(Ordering::Relaxed));
        incarnation << 32 | u64::from(SPANS.index_of(self) + 1)
    }

    fn word(&self) -> Word {
        Word(self.kept.load(Ordering::Acquire))
    }

    /// A byte of the fields, as others may see it.
    fn byte(&self, at: usize) -> &AtomicU8 {
        assert!(at < KEPT);
        // SAFETY: it is in the array, and whoever reads or changes it at this time does so atomically.
        unsafe { AtomicU8::from_ptr(self.fields.get().cast::<u8>().add(at)) }
    }

    /// A copy of the fields that are kept, as far as `said` says, which is `kept` or `kept_before`.
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
        // They are not what they were then, or do not stay the same for long enough.
        Kept { bytes: [0; KEPT], word: Word::new(0, 0, 0, true) }
    }

    /// A copy of the fields that are kept.
    pub(crate) fn kept(&self) -> Kept {
        self.copied(&self.kept)
    }

    /// Puts bytes where nobody else reads or writes.
    ///
    /// # Safety
    /// The place is this thread's, or it holds `adding`, and nothing is kept from `at` on.
    #[inline(always)]
    unsafe fn put_fields(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= KEPT);
        // SAFETY: there is room for them, and they are nobody else's, as the caller promises.
        unsafe {
            let start = self.fields.get().cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
    }

    /// Puts bytes where others may read meanwhile what was there before.
    fn store_fields(&self, at: usize, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            self.byte(at).store(*byte, Ordering::Relaxed);
        }
    }

    /// Keeps the fields that the span begins with, or what fits of them.
    #[inline(always)]
    fn keep(&self, fields: &Fields<'_>) {
        let bytes = fields.bytes();
        if bytes.len() > Limits::now().kept || fields.is_part() {
            return self.keep_some(fields);
        }
        // SAFETY: the place is this thread's, and nothing is kept.
        unsafe { self.put_fields(0, bytes) };
        self.kept.store(Word::new(0, fields.count(), bytes.len(), false).0, Ordering::Release);
    }

    #[cold]
    fn keep_some(&self, fields: &Fields<'_>) {
        let mut out = [0; KEPT];
        let name = self.site().and_then(Site::names_spans);
        let Packed { count, length, part } =
            pack([fields.bytes(), &[]], name, Limits::now().kept, &mut out);
        // SAFETY: the place is this thread's, and nothing is kept.
        unsafe { self.put_fields(0, &out[..length]) };
        self.kept.store(Word::new(0, count, length, part).0, Ordering::Release);
    }

    /// Keeps what becomes known later.
    pub(crate) fn keep_late(&self, fields: &Fields<'_>) {
        let (order, failure) = (Ordering::AcqRel, Ordering::Acquire);
        loop {
            match self.adding.compare_exchange(0, ADDING, order, failure) {
                Ok(_) => break,
                // Nobody waits: this one is in the event alone, and who adds is told so.
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
        // While this thread still holds it: who holds it next builds on the word.
        if self.adding.compare_exchange(ADDING, 0, order, failure).is_err() {
            self.kept.fetch_or(Word::PART, Ordering::AcqRel);
            self.adding.store(0, Ordering::Release);
        }
    }

    /// Adds fields behind those that are kept; or packs all of them anew, if there is no room. This thread
    /// holds `adding`.
    fn add(&self, fields: &Fields<'_>) {
        let (word, bytes, limit) = (self.word(), fields.bytes(), Limits::now().kept);
        let (version, length) = (word.version(), word.length());
        let is_part = word.is_part() || fields.is_part();
        if !is_part && length + bytes.len() <= limit {
            if version == 0 {
                // SAFETY: this thread holds `adding`, and that is behind all that was ever kept.
                unsafe { self.put_fields(length, bytes) };
            } else {
                // Before they were packed anew more may have been kept, which somebody may still read.
                self.store_fields(length, bytes);
            }
            let (count, length) = (word.count() + fields.count(), length + bytes.len());
            self.kept.store(Word::new(version, count, length, false).0, Ordering::Release);
            return;
        }
        let (kept, mut out) = (self.kept(), [0; KEPT]);
        let name = self.site().and_then(Site::names_spans);
        let packed = pack([kept.bytes(), bytes], name, limit, &mut out);
        // Who copies them meanwhile sees that the version is odd, or that it has changed.
        let none = Word::new(version.wrapping_add(1), 0, 0, true);
        self.kept.store(none.0 | 1 << 16, Ordering::Relaxed);
        fence(Ordering::Release);
        // What was kept in the generation before is no longer there.
        self.kept_before.store(none.0, Ordering::Release);
        self.store_fields(0, &out[..packed.length]);
        // Of what was missed before, nobody knows whether it is among these.
        let part = packed.part || word.is_part();
        let version = version.wrapping_add(2);
        let word = Word::new(version, packed.count, packed.length, part);
        self.kept.store(word.0, Ordering::Release);
    }

    /// A span takes the place, with one reference. It is not open yet.
    #[inline(always)]
    pub(crate) fn begin(&self, site: &'static Site, incarnation: u32, generation: u64, fields: &Fields<'_>) {
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

    /// The status that the listing of `generation` must have of it, if it must.
    pub(crate) fn listed(&self, generation: u64) -> Option<Restated> {
        if !self.told.is_to_be_listed(generation) {
            return None;
        }
        // What was added in the next generation already is none of this one's.
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

/// What a status says of a span.
pub(crate) struct Restated {
    name: Name,
    pub(crate) site: &'static Site,
    parent: Name,
    began: u64,
    kept: Kept,
}

/// A copy of fields that are kept.
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
    /// How many bytes [`put`](Self::put) takes at most.
    pub(crate) fn size(&self) -> usize {
        7 * MAX_VARINT + 2 + self.kept.bytes().len()
    }

    /// How many fields it has.
    pub(crate) fn field_count(&self) -> u32 {
        self.kept.word.count()
    }

    /// Its fields, encoded.
    pub(crate) fn fields(&self) -> &[u8] {
        self.kept.bytes()
    }

    /// The kind of its status.
    pub(crate) fn kind(&self) -> Kind {
        if self.kept.word.is_part() { Kind::SpanStatusPart } else { Kind::SpanStatus }
    }

    /// What a list in a block of this base time says of it, with its fields or without them: all but its
    /// fields; whether those are not all; and its fields.
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

    /// Puts the arguments of a status into a block of this base time.
    ///
    /// # Safety
    /// There must be room for [`size`](Self::size) bytes.
    pub(crate) unsafe fn put(&self, site: u32, base: u64, cursor: &mut Cursor) {
        // SAFETY: as the caller promises.
        unsafe {
            put_name(self.name, cursor);
            put_name(self.parent, cursor);
            cursor.number(base.saturating_sub(self.began));
            cursor.number(u64::from(site));
            cursor.number(u64::from(self.field_count()));
            cursor.bytes(self.kept.bytes());
        }
    }
}

/// # Safety
/// There must be room for two numbers.
pub(crate) unsafe fn put_name(name: Name, cursor: &mut Cursor) {
    // SAFETY: as the caller promises.
    unsafe {
        cursor.number(name & 0xffff_ffff);
        cursor.number(name >> 32);
    }
}

/// Gives the memory of a past peak back, when generation `complete` is.
pub(crate) fn shrink(complete: u64) {
    SPANS.shrink(KEPT_GROUPS, |place| {
        let gone = complete > 2 && place.told.is_free_for(complete - 2);
        gone.then(|| (0, place.incarnation.load(Ordering::Relaxed)))
    });
}

/// The place of a span that is open.
#[inline(always)]
pub(crate) fn find(name: Name) -> Option<&'static SpanPlace> {
    let place = SPANS.get((name as u32).checked_sub(1)?)?;
    let is_it = place.incarnation.load(Ordering::Relaxed) == (name >> 32) as u32;
    (is_it && place.references.are_there()).then_some(place)
}

/// Whether a span of this name was ever there.
pub(crate) fn was_given(name: Name) -> bool {
    let Some(place) = (name as u32).checked_sub(1).and_then(|index| SPANS.get(index)) else {
        return false;
    };
    let newest = place.incarnation.load(Ordering::Relaxed).max(SPANS.floors().1);
    (1..=newest).contains(&((name >> 32) as u32))
}

/// Enters the gate, with room for `size` bytes more than what [`Inside::begin`] takes, and with
/// `named` stated, each of which must be open. A span that is ahead of this thread's generation means
/// to begin again.
// The flag of the gate tells where on its stack who has entered is, and that is the caller, who keeps the
// writer: from a frame of its own, further down, a handler that interrupts the caller might seem to be beside it.
#[inline(always)]
pub(crate) fn enter_gate(size: usize, named: [Option<&'static SpanPlace>; 2]) -> Option<Writer> {
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

/// States a span, if the generation has not yet.
#[cold]
fn state(inside: Inside, place: &SpanPlace) -> Option<()> {
    let (slot, _, generation) = inside.parts();
    // Again if fields were added meanwhile: who added them may not have seen that the span is stated. Where
    // that does not end, the last status says that it may not have all of them.
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
            // SAFETY: there is room for it.
            unsafe { restated.put(id, base, cursor) };
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

/// States the spans that the slot's thread is inside of, outermost first. `None` if there is no room.
pub(crate) fn state_entered(inside: Inside) -> Option<()> {
    let slot = inside.slot();
    let depth = slot.span_depth.load(Ordering::Relaxed) as usize;
    slot.spans_unknown.set(depth > MAX_SPANS);
    for span in &slot.spans[..depth.min(MAX_SPANS)] {
        let name = span.load(Ordering::Relaxed);
        if let Some(place) = find(name) {
            state(inside, place)?;
        }
        inside.piece(Kind::SpanEntered, 2 * MAX_VARINT, |cursor| {
            // SAFETY: a name, as asked for.
            unsafe { put_name(name, cursor) };
        })?;
    }
    if depth > MAX_SPANS {
        inside.piece(Kind::SpansDeeper, MAX_VARINT, |cursor| {
            // SAFETY: one number, as asked for.
            unsafe { cursor.number((depth - MAX_SPANS) as u64) };
        })?;
    }
    Some(())
}
