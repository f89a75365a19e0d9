//! Samples: allocations that are recorded with their stack, and remembered until they are freed.
//!
//! **How a free knows a sample.** Not by a look into a table at each free, which would miss the cache at each: a sample is
//! aligned to a page, which objects hardly ever are by themselves, so a free tests twelve bits of the address and looks
//! into the table for the few that have none of them set. An object that is [`LARGE`] is looked for in any case and keeps
//! its alignment, so that a large buffer still grows in place.

use crate::os::signal_chain::Errno;
use crate::os::{clock, own_thread, thread};
use crate::protocol::address_table::{About, AddressTable, BUCKET, Bucket, WORDS};
use crate::record::emit::is_recording;
use crate::record::stacks;
use crate::record::thread as recorded;
use crate::record::writer::Writer;
use crate::stack;
use crate::stack::budget::Budget;
use crate::stack::trie::StackId;
use lookback_snapshot::wire::{Kind, MAX_VARINT, StackSource};
use std::sync::atomic::{AtomicU64, Ordering};

/// What samples are aligned to.
pub(super) const PAGE: usize = 4096;
/// From this size on, an object need not be aligned to be found.
pub(super) const LARGE: usize = 128 << 10;
/// So many samples can be alive: 8 GiB of the default interval. In 640 KiB that are touched as needed.
const PLACES: usize = 16 << 10;

static BUCKETS: [Bucket; PLACES / BUCKET] = [const { Bucket::new() }; PLACES / BUCKET];
static ABOUT: [About; PLACES] = [const { About::new() }; PLACES];
static SPREAD: AtomicU64 = AtomicU64::new(0);
const TABLE: AddressTable<'static> =
    AddressTable { buckets: &BUCKETS, about: &ABOUT, spread: &SPREAD };

/// A program may allocate large objects at any rate, of which each is a sample. Those beyond have no stack.
static STACKS: Budget = Budget::new(2000);
/// Samples that found no place in the table, and those of which there is no event.
static UNLISTED: AtomicU64 = AtomicU64::new(0);
static UNRECORDED: AtomicU64 = AtomicU64::new(0);

/// A sample that is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) size: u64,
    /// The mean distance between samples when it was taken.
    pub(crate) interval: u64,
    pub(crate) stack: Option<StackId>,
    pub(crate) source: StackSource,
    /// When it was allocated, in seconds of the monotonic clock.
    pub(crate) second: u32,
}

impl Sample {
    fn words(self) -> [u64; WORDS] {
        let stack = u64::from(self.stack.map_or(0, StackId::number));
        [self.size, self.interval, u64::from(self.second) << 32 | stack << 8 | self.source as u64]
    }

    fn from_words([size, interval, rest]: [u64; WORDS]) -> Self {
        let stack = StackId::from_number((rest >> 8) as u32 & 0xff_ffff);
        let source = StackSource::from_code(rest & 0xff).unwrap_or(StackSource::NoAnswer);
        Self { size, interval, stack, source, second: (rest >> 32) as u32 }
    }
}

/// Whether a free must look for the object: whether it may be a sample.
#[inline(always)]
pub(super) fn may_be_one(object: *mut u8, size: usize) -> bool {
    object.addr() & (PAGE - 1) == 0 || size >= LARGE
}

/// Remembers an object of the calling thread as a sample. `false` if there is no room; then it is none.
#[inline(never)]
pub(super) fn add(object: *mut u8, size: u64, interval: u64) -> bool {
    let _errno = Errno::keep();
    let is_recorded = is_recording() && !own_thread::is_own(thread::number());
    let taken = if is_recorded { stack::within(&STACKS) } else { Err(StackSource::NotRecording) };
    let second = (clock::monotonic().0 / 1_000_000_000) as u32;
    let sample = Sample {
        size,
        interval,
        stack: taken.ok(),
        source: taken.err().unwrap_or(StackSource::Own),
        second,
    };
    let is_there = TABLE.add(object.addr() as u64, sample.words());
    if !is_there {
        UNLISTED.fetch_add(1, Ordering::Relaxed);
    }
    if is_recorded {
        record(&sample);
    }
    is_there
}

/// Forgets an object that is about to be freed. Returns whether it was a sample.
#[inline(never)]
pub(super) fn remove(object: *mut u8) -> bool {
    TABLE.remove(object.addr() as u64)
}

/// What is known of a sample; `None` if the object is none.
pub(super) fn get(object: *mut u8) -> Option<[u64; WORDS]> {
    TABLE.get(object.addr() as u64)
}

/// Remembers again what was known of an object.
pub(super) fn keep(object: *mut u8, was: [u64; WORDS]) {
    if !TABLE.add(object.addr() as u64, was) {
        UNLISTED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records it among the events of this thread.
fn record(sample: &Sample) {
    // An allocation inside of an event, which only an unusual value's formatting can be.
    let is_inside = recorded::present_slot().is_some_and(|slot| slot.gate.is_inside());
    if is_inside || recorded::is_between() && recorded::present_slot().is_none() {
        UNRECORDED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Some(writer) = Writer::enter() else { return };
    let inside = writer.inside();
    let id = match sample.stack.map_or(Ok(0), |stack| stacks::id(inside, stack)) {
        Ok(id) => id,
        Err(cause) => return inside.lose(cause),
    };
    if let Some((mut cursor, _)) = inside.begin(Kind::AllocationSample, 4 * MAX_VARINT) {
        for number in [u64::from(id), sample.source as u64, sample.size, sample.interval] {
            cursor.number(number);
        }
        // SAFETY: as large as asked for.
        unsafe { inside.commit(cursor) };
    }
}

/// All samples that are alive.
pub(super) fn alive() -> impl Iterator<Item = Sample> {
    (0..TABLE.len()).filter_map(|place| TABLE.at(place)).map(Sample::from_words)
}

/// How many samples found no place in the table, and of how many there is no event, since the process began.
pub(crate) fn counts() -> (u64, u64) {
    (UNLISTED.load(Ordering::Relaxed), UNRECORDED.load(Ordering::Relaxed))
}
