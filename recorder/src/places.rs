//! Sites that are no statics: of tasks, which are named by a type and the place of their spawn, of
//! `tracing`'s callsites, and of what is logged through the `log` crate.
//!
//! Each is made when it is first met and lives for ever; there are as many as there are places in
//! the program. They are found by a key that is mixed from the addresses of what names them, or from
//! its text, without a lock. The table is of a fixed size, in cache lines of four entries; which line
//! comes after the first one depends on the key, too, so full lines beside each other make no long way.
//!
//! Where there is no room, who asks is told so, and must do without a site of its own; how many did is
//! counted.
//!
//! # Synchronization
//!
//! An entry's site is stored with release after all of it is written, and never changes. Two threads
//! that meet one for the first time may both make it; the second one is as good as the first.

use crate::site::Site;
use std::panic::Location;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// How many there can be, about.
const ENTRIES: usize = 1 << 16;
/// How many entries there are in a cache line, and how many lines.
const IN_LINE: usize = 4;
const LINES: usize = ENTRIES / IN_LINE;
/// How many lines one may lie in. While a quarter of the entries is free, some line of these is not full,
/// but for one key in a hundred millions.
const PROBES: usize = 64;

#[repr(align(64))]
struct Line([Entry; IN_LINE]);

struct Entry {
    /// The key of what names it; 0 for none.
    key: AtomicU64,
    site: AtomicPtr<Site>,
}

static TABLE: [Line; LINES] = [const {
    Line(
        [const { Entry { key: AtomicU64::new(0), site: AtomicPtr::new(std::ptr::null_mut()) } };
            IN_LINE],
    )
}; LINES];

/// What a task has that has no site of its own.
static OTHERS: Site = Site::new("(other)", &[], "", 0);

/// Mixes a number, so that each bit of it changes each bit of the result with even odds: the finalizer of
/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>). Different numbers stay different.
#[inline(always)]
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Mixes two addresses. Both count whole: with one of them given, different others stay different.
#[inline(always)]
const fn mix_both(one: u64, other: u64) -> u64 {
    mix(one ^ mix(other))
}

/// The site of a task of this name, spawned there.
#[inline]
pub(crate) fn site_of(name: &'static str, place: &'static Location<'static>) -> &'static Site {
    let name_key = name.as_ptr() as u64 ^ (name.len() as u64) << 48;
    let key = mix_both(name_key, std::ptr::from_ref(place) as u64);
    find(key, || Some(Site::new(name, &[], place.file(), place.line()))).unwrap_or(&OTHERS)
}

/// The site of a closure of this name, spawned there to run where blocking is allowed.
pub(crate) fn blocking_site_of(
    name: &'static str,
    place: &'static Location<'static>,
) -> &'static Site {
    // No name is so long that it has this bit.
    let name_key = name.as_ptr() as u64 ^ (name.len() as u64) << 48 ^ 1 << 63;
    let key = mix_both(name_key, std::ptr::from_ref(place) as u64);
    let make = || Site::new(name, &[], place.file(), place.line()).of_closures();
    find(key, || Some(make())).unwrap_or(&OTHERS)
}

/// The site that stands for what lies at this address for ever, made by `make` if it is new. `None` if
/// there is no place for it.
#[inline]
#[must_use]
pub fn callsite(address: usize, make: impl FnOnce() -> Site) -> Option<&'static Site> {
    const CALLSITE: u64 = mix(1);
    find(mix(address as u64 ^ CALLSITE), || Some(make()))
}

/// The site that stands for what has this hash: one that is made under a random key, of which all bits
/// are as good as the others. Its site is to be looked at, whether it is the right one. `make` makes it if
/// it is new, or says that it is not to be there.
#[inline]
pub fn site_of_hash(hash: u64, make: impl FnOnce() -> Option<Site>) -> Option<&'static Site> {
    find(hash, make)
}

/// The lines in which this key may lie, in the order in which they are looked at.
#[inline(always)]
fn lines(key: u64) -> impl Iterator<Item = &'static Line> {
    let first = (key >> 32) as usize;
    // Odd, so that it leads to every line.
    let step = (key as usize) | 1;
    (0..PROBES).map(move |probe| &TABLE[first.wrapping_add(probe.wrapping_mul(step)) % LINES])
}

#[inline(always)]
fn find(key: u64, make: impl FnOnce() -> Option<Site>) -> Option<&'static Site> {
    let key = key.max(1);
    for line in lines(key) {
        for entry in &line.0 {
            let found = entry.key.load(Ordering::Acquire);
            if found == key {
                // SAFETY: it is null, or a site that lives for ever.
                if let Some(site) = unsafe { entry.site.load(Ordering::Acquire).as_ref() } {
                    return Some(site);
                }
            }
            if found == 0 || found == key {
                return make_one(key, make);
            }
        }
    }
    count_without(key);
    None
}

#[cold]
#[inline(never)]
fn make_one(key: u64, make: impl FnOnce() -> Option<Site>) -> Option<&'static Site> {
    let made = Box::into_raw(Box::new(make()?));
    let claim = |entry: &&Entry| {
        let claimed = entry.key.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire);
        claimed.is_ok() || claimed == Err(key)
    };
    let entry = lines(key).flat_map(|line| &line.0).find(claim);
    let null = std::ptr::null_mut();
    let stored = entry.map(|entry| {
        entry.site.compare_exchange(null, made, Ordering::AcqRel, Ordering::Acquire)
    });
    if let Some(Ok(_)) = stored {
        // SAFETY: it was just made, and lives for ever now.
        return Some(unsafe { &*made });
    }
    // SAFETY: it was just made, and nobody else knows it.
    drop(unsafe { Box::from_raw(made) });
    match stored {
        // SAFETY: the other one lives for ever.
        Some(Err(other)) => Some(unsafe { &*other }),
        _ => {
            count_without(key);
            None
        }
    }
}

/// Which keys had no place: a bit for each, by a part of the key.
static WITHOUT: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];
static COUNT_WITHOUT: AtomicU64 = AtomicU64::new(0);

#[cold]
#[inline(never)]
fn count_without(key: u64) {
    let bit = 1 << (key % 64);
    if WITHOUT[(key >> 6) as usize % WITHOUT.len()].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        COUNT_WITHOUT.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many places in the program have no site of their own, since the process began: at least so many.
pub(crate) fn without() -> u64 {
    COUNT_WITHOUT.load(Ordering::Relaxed)
}

/// How many sites the table holds, and in how many lines one has to look for the one that is found last.
/// For tests.
#[must_use]
pub fn longest_way() -> (usize, usize) {
    let keys = TABLE.iter().flat_map(|line| &line.0).map(|entry| entry.key.load(Ordering::Acquire));
    let ways = keys.filter(|key| *key != 0).map(|key| {
        let holds = |line: &Line| line.0.iter().any(|e| e.key.load(Ordering::Acquire) == key);
        lines(key).position(holds).map_or(usize::MAX, |at| at + 1)
    });
    ways.fold((0, 0), |(sites, longest), way| (sites + 1, longest.max(way)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_site_and_another_has_another() {
        let here = Location::caller();
        let first = site_of("a task", here);
        assert!(std::ptr::eq(first, site_of("a task", here)));
        assert!(!std::ptr::eq(first, site_of("another task", here)));
        assert_eq!(first.name(), "a task");
    }

    #[test]
    fn threads_that_meet_a_place_at_once_agree_on_its_site() {
        let here = Location::caller();
        let meet = || {
            let sites = (0..500_usize).map(|n| {
                let site = callsite(n, || Site::new("x", &[], here.file(), n as u32));
                std::ptr::from_ref(site.expect("there is room for 500"))
            });
            sites.map(|site| site as usize).collect::<Vec<_>>()
        };
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(meet)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// Where keys come to lie that are mixed from addresses as they are: the longest way of them.
    fn way_of(addresses: impl Iterator<Item = u64>, mixed: impl Fn(u64) -> u64) -> usize {
        let mut full = vec![0_u8; LINES];
        let index = |line: &'static Line| {
            (std::ptr::from_ref(line) as usize - std::ptr::from_ref(&TABLE) as usize) / 64
        };
        let mut longest = 0;
        for address in addresses {
            let way = lines(mixed(address)).position(|line| {
                let used = &mut full[index(line)];
                let free = usize::from(*used) < IN_LINE;
                *used += u8::from(free);
                free
            });
            longest = longest.max(way.map_or(usize::MAX, |at| at + 1));
        }
        longest
    }

    #[test]
    fn addresses_of_any_stride_have_short_ways() {
        let program = 0x5581_2f00_0000_u64;
        let library = 0x7f3a_9c40_0000_u64;
        for stride in [1, 8, 16, 64, 72, 104, 144, 4096, 1 << 16, 1 << 20, 1 << 24] {
            let half = 24_000;
            let addresses = || {
                (0..half).map(move |n| program + n * stride)
                    .chain((0..half).map(move |n| library + n * stride))
            };
            // Three quarters of the table are full.
            let way = way_of(addresses(), |address| mix(address ^ mix(1)));
            assert!(way <= 40, "{way} lines of callsites {stride} bytes apart");
            let way = way_of(addresses(), |address| mix_both(program - 64, address));
            assert!(way <= 40, "{way} lines of places {stride} bytes apart");
            let way = way_of(addresses(), |address| mix_both(address, address + 24));
            assert!(way <= 40, "{way} lines of pairs {stride} bytes apart");
            // As full as a large program makes it: 20,000.
            let few = addresses().step_by(3).take(20_000);
            let way = way_of(few, |address| mix(address ^ mix(1)));
            assert!(way <= 8, "{way} lines of 16,000 callsites {stride} bytes apart");
        }
    }
}
