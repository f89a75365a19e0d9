//! Ranges: named stretches of time of the whole process, which any thread may end.
//!
//! An open range has an entry in a table of a fixed size, from which each generation is told what is open when it ends. Its
//! begin and its end are events of the threads that begin and end it. The end says how long it took, so it needs no begin.
//!
//! # Synchronization
//!
//! An entry belongs to the thread that claimed its number, by a compare-and-swap from 0 to [`CLAIMED`]. The number is stored (release) when
//! the rest is written, and 0 is stored when the range is over. The collector loads the number (acquire), then the rest, and
//! then the number again, after a fence: if it is the same, the rest belongs to it, because numbers are not used twice. The rest
//! is stored with release, too: a reader that has read a new site or begin then sees that the number before it is gone.
//! (`protocol/model/ranges.rs`)
//!
//! # Why the listing is true
//!
//! The collector notes the open ranges while the generation is still running, and drops the notes if it was not at their
//! end. A range that begins after the notes has its begin in that generation or a later one; one that ends after them has its
//! end there. So the ranges that were open at the end are those that were noted and those that began, without those that ended.
//! One may be noted and begin in the next generation, if its thread was stopped in between; then it is open a little early.

use crate::os::clock;
use crate::record::control::control;
use crate::record::emit::is_recording;
use crate::record::site::Site;
use crate::record::writer::Writer;
use lookback_snapshot::wire::{Kind, Loss, MAX_VARINT};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

/// How many ranges may be open.
const PLACES: usize = 1024;
/// The number of an entry whose range is about to begin.
const CLAIMED: u64 = u64::MAX;

struct Place {
    /// The range's number; 0 if the entry is free.
    number: AtomicU64,
    site: AtomicPtr<Site>,
    began: AtomicU64,
}

static TABLE: [Place; PLACES] = [const {
    Place { number: AtomicU64::new(0), site: AtomicPtr::new(null_mut()), began: AtomicU64::new(0) }
}; PLACES];

/// The last number.
static NUMBERS: AtomicU64 = AtomicU64::new(0);
/// No entry from this one on was ever used.
static USED: AtomicU64 = AtomicU64::new(0);

/// An open range of the process, which ends when this guard is dropped, on whatever thread.
///
/// Ranges nest and overlap as they please. While one is open, each generation says so, so a snapshot has it even if it began
/// long before. 1,024 ranges can be open at a time; further ones are not recorded, and count as lost. A range that begins while
/// nothing is recorded is not recorded.
///
/// ```
/// let range = lookback_recorder::range!("compaction");
/// std::thread::spawn(move || drop(range)).join().unwrap();
/// ```
#[derive(Debug)]
#[must_use = "the range ends at once unless the guard is kept: `let _guard = range!(…)`"]
pub struct Range {
    /// Its number; 0 if it is not recorded.
    number: u64,
    place: u32,
}

/// Begins a range at this site.
pub fn begin_range(site: &'static Site) -> Range {
    if is_recording() { begin(site, 0) } else { Range { number: 0, place: 0 } }
}

/// Begins a range that has lasted for so many ticks.
pub(crate) fn begin(site: &'static Site, ago: u64) -> Range {
    let now = clock::now(control().mode());
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed) + 1;
    let range = claim(site, now.saturating_sub(ago), number);
    let Some(writer) = Writer::enter() else { return range.unwrap_or(Range::NONE) };
    let inside = writer.inside();
    let Some(range) = range else {
        inside.count_lost(Loss::NoPlace);
        return Range::NONE;
    };
    // A lost begin opens the range all the same: the end of the generation lists it.
    if let Some((id, mut cursor)) = inside.begin_at_id(Kind::RangeBegin, site, 2 * MAX_VARINT) {
        [number, u64::from(id), ago].into_iter().for_each(|number| cursor.number(number));
        // SAFETY: as large as asked for: the id and two numbers.
        unsafe { inside.commit(cursor) };
    }
    range
}

fn claim(site: &'static Site, began: u64, number: u64) -> Option<Range> {
    let free = |place: &&Place| {
        place.number.load(Ordering::Relaxed) == 0
            && place
                .number
                .compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    };
    let at = TABLE.iter().position(|place| free(&place))?;
    let place = &TABLE[at];
    // A reader of one of them that then reads the number, after its fence, sees that the entry was claimed anew.
    place.site.store(std::ptr::from_ref(site).cast_mut(), Ordering::Release);
    place.began.store(began, Ordering::Release);
    place.number.store(number, Ordering::Release);
    USED.fetch_max(at as u64 + 1, Ordering::Release);
    Some(Range { number, place: at as u32 })
}

impl Range {
    const NONE: Self = Self { number: 0, place: 0 };

    /// Ends it; it was over so many ticks ago.
    pub(crate) fn end_late(mut self, late: u64) {
        self.end(late);
    }

    fn end(&mut self, late: u64) {
        let number = std::mem::take(&mut self.number);
        let Some(place) = TABLE.get(self.place as usize).filter(|_| number != 0) else { return };
        // SAFETY: the table holds pointers to statics, and this entry belongs to this range.
        let site = unsafe { place.site.load(Ordering::Relaxed).as_ref() };
        let began = place.began.load(Ordering::Relaxed);
        place.number.store(0, Ordering::Release);
        let Some(site) = site.filter(|_| is_recording()) else { return };
        let Some(writer) = Writer::enter() else { return };
        let inside = writer.inside();
        let took = clock::now(control().mode()).saturating_sub(late).saturating_sub(began);
        if let Some((id, mut cursor)) = inside.begin_at_id(Kind::RangeEnd, site, 3 * MAX_VARINT) {
            for number in [number, u64::from(id), took, late] {
                cursor.number(number);
            }
            // SAFETY: as large as asked for: the id and three numbers.
            unsafe { inside.commit(cursor) };
        }
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        self.end(0);
    }
}

/// A range that was open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) number: u64,
    pub(crate) site: &'static Site,
    pub(crate) began: u64,
}

/// The ranges that are open now, in the order in which they began. As many as there is memory for.
pub(crate) fn note_all() -> Vec<Noted> {
    let mut all = Vec::new();
    let used = USED.load(Ordering::Acquire) as usize;
    for place in &TABLE[..used.min(PLACES)] {
        let number = place.number.load(Ordering::Acquire);
        if number == 0 || number == CLAIMED {
            continue;
        }
        let (site, began) =
            (place.site.load(Ordering::Relaxed), place.began.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        // SAFETY: the table holds pointers to statics, or null.
        let Some(site) = (unsafe { site.as_ref() }) else { continue };
        if place.number.load(Ordering::Relaxed) == number && all.try_reserve(1).is_ok() {
            all.push(Noted { number, site, began });
        }
    }
    all.sort_unstable_by_key(|noted| noted.number);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    static HERE: Site = Site::new("here", &[], "", 0);

    #[test]
    fn what_is_open_is_noted_and_what_is_over_is_not() {
        let is_noted = |number| note_all().iter().any(|noted| noted.number == number);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed) + 1;
        let mut range = claim(&HERE, 7, number).unwrap();
        let noted = note_all().into_iter().find(|noted| noted.number == number).unwrap();
        assert_eq!((noted.site.name(), noted.began), ("here", 7));
        range.end(0);
        assert!(!is_noted(number));
        // Its entry may be another one's by now.
        range.end(0);
    }

    #[test]
    fn entries_that_are_claimed_at_once_differ() {
        let claimed: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let number = || NUMBERS.fetch_add(1, Ordering::Relaxed) + 1;
                        (0..50).filter_map(|_| claim(&HERE, 0, number())).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut places: Vec<_> = claimed.iter().map(|range| range.place).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 200);
    }
}
