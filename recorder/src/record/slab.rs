//! A table of places for long-lived objects that are listed often: tasks and spans.
//!
//! Places never move and are never unmapped. They lie in one stretch of address space, which is
//! reserved at once and becomes memory from the front, as needed (see [`mmap`](crate::os::mmap)); a
//! place's index is its position there. Places come in groups of 64. Each group fills whole pages
//! and has a word with one bit per place, set while the place is taken. A thread that needs a place
//! takes all free places of a group and serves itself from them. A thread that returns a place of
//! another group clears its bit.
//!
//! A group whose places are all free can return its memory. Its places then start again from zero,
//! so the table keeps a lower bound for the numbers that must not be used twice.
//!
//! # Synchronization
//!
//! A bit is cleared with release after the last access to its place, and set with acquire before
//! the first one. A thread that returns a group's memory first takes the whole group, as any thread
//! would.
//!
//! A group becomes memory before the count of groups in use includes it. Two threads may commit the
//! same group at once without harm.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// The number of places in a group.
pub(crate) const GROUP: u32 = 64;
/// How many groups are searched for free places at a time.
const SEARCH: u32 = 4096;
/// How many groups return their memory at a time.
const GIVE_BACK: u32 = 4096;
/// Places become memory in pieces of about this many bytes, which takes a microsecond or two.
const PIECE: usize = 64 << 10;
/// The least number of groups, however little address space is left.
const FEWEST: u32 = 32;
/// A table takes at most this fraction of the address space that is left under a limit.
const SHARE: usize = 16;

/// Places of one kind. All zeroes must be a valid `T`.
pub(crate) struct Slab<T: 'static> {
    places: AtomicPtr<T>,
    /// One bit per taken place, one word per group.
    taken: AtomicPtr<AtomicU64>,
    /// Whether a group has memory.
    resident: AtomicPtr<AtomicU8>,
    capacity: AtomicU32,
    /// The number of groups that are memory: the first ones.
    committed: AtomicU32,
    /// The number of groups ever used.
    used: AtomicU32,
    /// Where to search for free places first.
    hint: AtomicU32,
    /// The highest numbers that were used in memory that was returned since.
    floor_sequence: AtomicU64,
    floor_incarnation: AtomicU32,
    _of: PhantomData<T>,
}

/// The places that a thread has taken of one group. All zeroes: none.
pub(crate) struct Cache {
    group: Cell<u32>,
    free: Cell<u64>,
}

impl Cache {
    #[cfg(test)]
    pub(crate) const fn new() -> Self {
        Self { group: Cell::new(0), free: Cell::new(0) }
    }
}

impl<T: 'static> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            places: AtomicPtr::new(std::ptr::null_mut()),
            taken: AtomicPtr::new(std::ptr::null_mut()),
            resident: AtomicPtr::new(std::ptr::null_mut()),
            capacity: AtomicU32::new(0),
            committed: AtomicU32::new(0),
            used: AtomicU32::new(0),
            hint: AtomicU32::new(0),
            floor_sequence: AtomicU64::new(0),
            floor_incarnation: AtomicU32::new(0),
            _of: PhantomData,
        }
    }

    /// Reserves address space for `places` places, or for fewer if address space is limited: `room`
    /// is what is left of it for the whole process. Does nothing if done before. Called under the
    /// lock of `start`.
    pub(crate) fn establish(&self, places: u32, room: Option<usize>) -> io::Result<()> {
        const { assert!(Self::GROUP_BYTES.is_multiple_of(4096)) };
        if !self.places.load(Ordering::Acquire).is_null() {
            return Ok(());
        }
        let mut groups = places / GROUP;
        let mut most = room.map_or(usize::MAX, |left| left / SHARE);
        let fewest = FEWEST.min(groups);
        loop {
            let bytes = Self::bytes(groups);
            let length = bytes.iter().sum();
            let is_last = groups <= fewest;
            if length <= most || is_last {
                match crate::os::mmap::reserved(length) {
                    Ok(mapping) => {
                        self.capacity.store(groups, Ordering::Relaxed);
                        let at = |offset: usize| mapping.wrapping_add(offset);
                        self.taken.store(at(bytes[0]).cast(), Ordering::Relaxed);
                        self.resident.store(at(bytes[0] + bytes[1]).cast(), Ordering::Relaxed);
                        self.places.store(mapping.cast(), Ordering::Release);
                        return Ok(());
                    }
                    Err(error) if is_last => return Err(error),
                    Err(error) if crate::os::mmap::is_of_locked_memory(&error) => {
                        // An undetected limit applies. Leave most of the rest to others, instead of
                        // taking what just fits.
                        let left = crate::os::mmap::locked_memory_left();
                        most = most.min(left.map_or(usize::MAX, |left| left / SHARE));
                    }
                    Err(_) => {}
                }
            }
            groups = (groups / 2).max(fewest);
        }
    }

    /// Returns the address space, because recording cannot begin.
    ///
    /// # Safety
    /// No place may ever have been taken, and no thread may be about to take one.
    pub(crate) unsafe fn abandon(&self) {
        assert_eq!(self.used.load(Ordering::Relaxed), 0);
        let places = self.places.swap(std::ptr::null_mut(), Ordering::Relaxed);
        if !places.is_null() {
            let length = Self::bytes(self.capacity.swap(0, Ordering::Relaxed)).iter().sum();
            crate::os::mmap::unreserve(places.cast(), length);
        }
    }

    /// The sizes in bytes of the places and the two tables, for this many groups.
    fn bytes(groups: u32) -> [usize; 3] {
        let count = groups as usize;
        [count * Self::GROUP_BYTES, count * 8, count].map(|length| length.next_multiple_of(4096))
    }

    const GROUP_BYTES: usize = size_of::<T>() * GROUP as usize;

    /// Turns groups into memory, a few at a time, starting with `from`, the first without memory.
    /// Returns whether it succeeded.
    #[cold]
    fn commit(&self, from: u32) -> bool {
        let piece = (PIECE / Self::GROUP_BYTES).max(1) as u32;
        let to = from.saturating_add(piece).min(self.capacity.load(Ordering::Relaxed));
        let places = self.places.load(Ordering::Relaxed).cast::<u8>();
        let taken = self.taken.load(Ordering::Relaxed).cast::<u8>();
        let resident = self.resident.load(Ordering::Relaxed).cast::<u8>();
        // One page of either table covers many groups.
        let done = [(places, Self::GROUP_BYTES), (taken, 8), (resident, 1)].map(|(table, size)| {
            let page = |group: u32| (group as usize * size).next_multiple_of(4096);
            let (from, to) = (page(from), page(to));
            from == to || crate::os::mmap::commit(table.wrapping_add(from), to - from)
        });
        if done != [true; 3] {
            return false;
        }
        self.committed.fetch_max(to, Ordering::AcqRel);
        true
    }

    /// The number of places.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity.load(Ordering::Relaxed) * GROUP
    }

    fn taken(&self, group: u32) -> &AtomicU64 {
        // SAFETY: `establish` made room for one word per group, and callers pass only groups that
        // are memory.
        unsafe { &*self.taken.load(Ordering::Relaxed).add(group as usize) }
    }

    fn resident(&self, group: u32) -> &AtomicU8 {
        // SAFETY: as for `taken`.
        unsafe { &*self.resident.load(Ordering::Relaxed).add(group as usize) }
    }

    /// The place with this index, which must be below the capacity.
    #[inline(always)]
    fn place(&self, index: u32) -> NonNull<T> {
        let places = self.places.load(Ordering::Relaxed);
        // SAFETY: `establish` reserved all places of the capacity.
        unsafe { NonNull::new_unchecked(places.add(index as usize)) }
    }

    /// The place with this index, if it was ever handed out.
    #[inline(always)]
    pub(crate) fn get(&self, index: u32) -> Option<&'static T> {
        // SAFETY: all zeroes are a valid `T`, places are never unmapped, and every field of a `T`
        // can be shared.
        (index / GROUP < self.used.load(Ordering::Relaxed))
            .then(|| unsafe { self.place(index).as_ref() })
    }

    /// The index of a place.
    #[inline(always)]
    pub(crate) fn index_of(&self, place: &T) -> u32 {
        let first = self.places.load(Ordering::Relaxed) as usize;
        ((std::ptr::from_ref(place) as usize - first) / size_of::<T>()) as u32
    }

    /// Takes a place that `is_free` accepts. `None` if there is none.
    #[inline(always)]
    pub(crate) fn take(&self, cache: &Cache, is_free: impl Fn(&T) -> bool) -> Option<&'static T> {
        match self.take_at_hand(cache, &is_free) {
            Some((_, place)) => Some(place),
            None => self.take_elsewhere(cache, &is_free),
        }
    }

    /// Takes the cache's first place, if `is_free` accepts it.
    #[inline(always)]
    pub(crate) fn take_at_hand(
        &self,
        cache: &Cache,
        is_free: impl Fn(&T) -> bool,
    ) -> Option<(u32, &'static T)> {
        let free = cache.free.get();
        if free == 0 {
            return None;
        }
        let index = cache.group.get() * GROUP + free.trailing_zeros();
        let place = self.get(index)?;
        if !is_free(place) {
            return None;
        }
        cache.free.set(free & (free - 1));
        Some((index, place))
    }

    #[cold]
    fn take_elsewhere(&self, cache: &Cache, is_free: &dyn Fn(&T) -> bool) -> Option<&'static T> {
        let choose = |cache: &Cache| {
            let mut left = cache.free.get();
            while left != 0 {
                let bit = left.trailing_zeros();
                let place = self.get(cache.group.get() * GROUP + bit)?;
                if is_free(place) {
                    cache.free.set(cache.free.get() & !(1 << bit));
                    return Some(place);
                }
                left &= left - 1;
            }
            None
        };
        if let Some(place) = choose(cache) {
            return Some(place);
        }
        self.release(cache);
        let used = self.used.load(Ordering::Relaxed);
        let start = self.hint.load(Ordering::Relaxed).min(used);
        let end = used.min(start + SEARCH);
        for group in start..end {
            let word = self.taken(group);
            if word.load(Ordering::Relaxed) == u64::MAX {
                continue;
            }
            let free = !word.swap(u64::MAX, Ordering::Acquire);
            if free != 0 {
                self.resident(group).store(1, Ordering::Release);
                cache.group.set(group);
                cache.free.set(free);
                if let Some(place) = choose(cache) {
                    let _ = self.hint.compare_exchange(
                        start,
                        group,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                    return Some(place);
                }
                self.release(cache);
            }
        }
        let _ = self.hint.compare_exchange(start, end, Ordering::Relaxed, Ordering::Relaxed);
        // Groups that were never used come last.
        let capacity = self.capacity.load(Ordering::Relaxed);
        loop {
            let group = self.used.load(Ordering::Relaxed);
            let is_memory = || group < self.committed.load(Ordering::Acquire) || self.commit(group);
            if group >= capacity || !is_memory() {
                return None;
            }
            let (next, order) = (group + 1, (Ordering::AcqRel, Ordering::Relaxed));
            if self.used.compare_exchange(group, next, order.0, order.1).is_err() {
                continue;
            }
            let free = !self.taken(group).swap(u64::MAX, Ordering::Acquire);
            // Another thread may have found the group meanwhile.
            if free != 0 {
                self.resident(group).store(1, Ordering::Release);
                cache.group.set(group);
                cache.free.set(free);
                return choose(cache);
            }
        }
    }

    /// Returns the places that a cache holds.
    pub(crate) fn release(&self, cache: &Cache) {
        let free = cache.free.replace(0);
        if free != 0 {
            self.put_back(cache.group.get(), free);
        }
    }

    fn put_back(&self, group: u32, free: u64) {
        self.taken(group).fetch_and(!free, Ordering::Release);
        if group < self.hint.load(Ordering::Relaxed) {
            self.hint.store(group, Ordering::Relaxed);
        }
    }

    /// Returns a place: to the thread's own cache, if the place belongs to its group.
    #[inline(always)]
    pub(crate) fn give(&self, index: u32, cache: Option<&Cache>) {
        let (group, bit) = (index / GROUP, 1_u64 << (index % GROUP));
        match cache {
            Some(cache) if cache.free.get() != 0 && cache.group.get() == group => {
                cache.free.set(cache.free.get() | bit);
            }
            _ => self.put_back(group, bit),
        }
    }

    /// Every place that may have been used since its memory was last returned, in index order.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &'static T)> {
        let used = self.used.load(Ordering::Acquire);
        (0..used)
            .filter(|group| self.resident(*group).load(Ordering::Acquire) != 0)
            .flat_map(|group| group * GROUP..(group + 1) * GROUP)
            .filter_map(|index| Some((index, self.get(index)?)))
    }

    /// The numbers that places must exceed after their memory was returned.
    pub(crate) fn floors(&self) -> (u64, u32) {
        let incarnation = self.floor_incarnation.load(Ordering::Relaxed);
        (self.floor_sequence.load(Ordering::Relaxed), incarnation)
    }

    /// Returns the memory of unused groups, except the first `keep`. `numbers` gives the last
    /// sequence number and incarnation of a place, or `None` if it is still needed. `given_back` is told the number of each
    /// group whose memory is returned, and whether its neighbour (the number with the lowest bit changed) has memory.
    pub(crate) fn shrink(
        &self,
        keep: u32,
        numbers: impl Fn(&T) -> Option<(u64, u32)>,
        given_back: impl Fn(u32, bool),
    ) {
        let used = self.used.load(Ordering::Acquire);
        let mut given = 0;
        for group in (keep..used).rev() {
            if given == GIVE_BACK {
                return;
            }
            let word = self.taken(group);
            let is_idle = self.resident(group).load(Ordering::Relaxed) != 0
                && word.compare_exchange(0, u64::MAX, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if !is_idle {
                continue;
            }
            let places = (group * GROUP..(group + 1) * GROUP).filter_map(|index| self.get(index));
            let last = places.map(&numbers).try_fold((0, 0), |most, place| {
                let place = place?;
                Some((most.0.max(place.0), most.1.max(place.1)))
            });
            if let Some((sequence, incarnation)) = last {
                self.floor_sequence.fetch_max(sequence, Ordering::Relaxed);
                self.floor_incarnation.fetch_max(incarnation, Ordering::Relaxed);
                let first = self.place(group * GROUP).as_ptr().cast();
                crate::os::mmap::give_back(first, Self::GROUP_BYTES);
                self.resident(group).store(0, Ordering::Release);
                let neighbour = group ^ 1;
                let is_used =
                    neighbour < used && self.resident(neighbour).load(Ordering::Relaxed) != 0;
                given_back(group, is_used);
                given += 1;
            }
            word.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    struct Place([AtomicU64; 8]);

    fn groups(places: u32) -> Slab<Place> {
        let groups = Slab::new();
        groups.establish(places, None).unwrap();
        groups
    }

    fn cache() -> Cache {
        Cache { group: Cell::new(0), free: Cell::new(0) }
    }

    #[test]
    fn every_place_is_given_out_once_and_can_be_used_again() {
        let (groups, cache) = (groups(256), cache());
        assert_eq!(groups.capacity(), 256);
        let mut taken: Vec<_> = (0..256).map(|_| groups.take(&cache, |_| true).unwrap()).collect();
        assert!(groups.take(&cache, |_| true).is_none());
        let indexes: Vec<_> = taken.iter().map(|place| groups.index_of(place)).collect();
        assert_eq!(indexes, (0..256).collect::<Vec<_>>());
        groups.give(groups.index_of(taken.remove(77)), None);
        let again = groups.take(&cache, |_| true).unwrap();
        assert_eq!(groups.index_of(again), 77);
    }

    #[test]
    fn a_place_that_is_not_free_yet_is_passed_over() {
        let (groups, cache) = (groups(256), cache());
        let first = groups.take(&cache, |_| true).unwrap();
        first.0[0].store(1, Ordering::Relaxed);
        groups.give(groups.index_of(first), Some(&cache));
        let is_free = |place: &Place| place.0[0].load(Ordering::Relaxed) == 0;
        let second = groups.take(&cache, is_free).unwrap();
        assert_eq!(groups.index_of(second), 1);
        first.0[0].store(0, Ordering::Relaxed);
        let third = groups.take(&cache, is_free).unwrap();
        assert_eq!(groups.index_of(third), 0);
    }

    #[test]
    fn memory_of_a_past_peak_is_given_back_and_numbers_are_not_used_twice() {
        let (groups, cache) = (groups(64 * 100), cache());
        let taken: Vec<_> = (0..6400).map(|_| groups.take(&cache, |_| true).unwrap()).collect();
        for (number, place) in taken.iter().enumerate() {
            place.0[0].store(number as u64, Ordering::Relaxed);
        }
        assert_eq!(groups.each().count(), 6400);
        let numbers = |place: &Place| Some((place.0[0].load(Ordering::Relaxed), 3));
        taken[200..].iter().for_each(|place| groups.give(groups.index_of(place), None));
        groups.shrink(0, numbers, |_, _| {});
        // The first 200 places are in four groups.
        assert_eq!(groups.each().count(), 256);
        assert_eq!(groups.floors(), (6399, 3));
        assert_eq!(taken[300].0[0].load(Ordering::Relaxed), 0);
        assert!(
            taken[..200]
                .iter()
                .enumerate()
                .all(|(n, place)| { place.0[0].load(Ordering::Relaxed) == n as u64 })
        );
        let again: Vec<_> = (0..6200).map(|_| groups.take(&cache, |_| true).unwrap()).collect();
        assert_eq!(again.len(), 6200);
    }

    #[test]
    fn threads_that_take_and_give_never_hold_the_same_place() {
        let groups = groups(64 * 8);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let cache = cache();
                    let mut held = Vec::new();
                    for turn in 0..20_000 {
                        if let Some(place) = groups.take(&cache, |_| true) {
                            assert_eq!(place.0[1].swap(1, Ordering::Relaxed), 0, "held twice");
                            held.push(place);
                        }
                        if turn % 3 == 0 || held.len() > 100 {
                            for place in held.drain(..) {
                                place.0[1].store(0, Ordering::Relaxed);
                                let cache = (turn % 2 == 0).then_some(&cache);
                                groups.give(groups.index_of(place), cache);
                            }
                        }
                    }
                    for place in held {
                        place.0[1].store(0, Ordering::Relaxed);
                        groups.give(groups.index_of(place), None);
                    }
                    groups.release(&cache);
                });
            }
        });
        assert!(groups.each().all(|(_, place)| place.0[1].load(Ordering::Relaxed) == 0));
    }
}
