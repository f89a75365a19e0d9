//! Holds the sites that are not statics: those of tasks, named by a type and the place of their
//! spawn, of `tracing` callsites, and of messages from the `log` crate.
//!
//! Each site is made on first use and is never freed; there are as many as there are places in the
//! program. Look-ups take no lock and use a key mixed from the addresses of what names the site, or
//! from a text. The table has a fixed size, in cache lines of four entries. The key also determines
//! the probe sequence, so adjacent full lines do not make look-ups long.
//!
//! If there is no room, the caller gets no site and must do without; the registry counts these.
//!
//! # Synchronization
//!
//! An entry's site is stored with release after it is fully written, and never changes. Two threads
//! that need a site for the first time may both make it; either is as good as the other.

use crate::record::site::Site;
use std::panic::Location;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// The approximate capacity.
const ENTRIES: usize = 1 << 16;
/// The number of entries in a cache line, and of lines.
const IN_LINE: usize = 4;
const LINES: usize = ENTRIES / IN_LINE;
/// The number of lines that a key may use. While a quarter of all entries is free, one of these
/// lines has room for all but one key in a hundred million.
const PROBES: usize = 64;

#[repr(align(64))]
struct Line([Entry; IN_LINE]);

struct Entry {
    /// The key; 0 if the entry is free.
    key: AtomicU64,
    site: AtomicPtr<Site>,
}

static TABLE: [Line; LINES] = [const {
    Line(
        [const { Entry { key: AtomicU64::new(0), site: AtomicPtr::new(std::ptr::null_mut()) } };
            IN_LINE],
    )
}; LINES];

/// The site of tasks without a site of their own.
static OTHERS: Site = Site::new("(other)", &[], "", 0);

/// Mixes a number so that each bit flips each bit of the result with even odds: the finalizer of
/// SplitMix64 (<https://prng.di.unimi.it/splitmix64.c>). Distinct numbers stay distinct.
#[inline(always)]
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Mixes two addresses without loss: with one of them fixed, distinct others stay distinct.
#[inline(always)]
const fn mix_both(one: u64, other: u64) -> u64 {
    mix(one ^ mix(other))
}

/// The site of tasks with this name, spawned at this place, whose futures take `size` bytes (0: unknown) each.
#[inline]
pub(crate) fn site_of(
    name: &'static str,
    place: &'static Location<'static>,
    size: usize,
) -> &'static Site {
    let name_key = name.as_ptr() as u64 ^ (name.len() as u64) << 48;
    let key = mix_both(name_key, std::ptr::from_ref(place) as u64);
    let make = || Site::new(name, &[], place.file(), place.line()).of_size(size);
    find(key, || Some(make())).unwrap_or(&OTHERS)
}

/// The site of closures with this name, spawned at this place to run where blocking is allowed.
pub(crate) fn blocking_site_of(
    name: &'static str,
    place: &'static Location<'static>,
) -> &'static Site {
    // No name is long enough to have this bit.
    let name_key = name.as_ptr() as u64 ^ (name.len() as u64) << 48 ^ 1 << 63;
    let key = mix_both(name_key, std::ptr::from_ref(place) as u64);
    let make = || Site::new(name, &[], place.file(), place.line()).of_closures();
    find(key, || Some(make())).unwrap_or(&OTHERS)
}

/// The site for the callsite at this address, which must never change; `make` makes it on first
/// use. `None` if there is no room.
#[inline]
#[must_use]
pub fn callsite(address: usize, make: impl FnOnce() -> Site) -> Option<&'static Site> {
    const CALLSITE: u64 = mix(1);
    find(mix(address as u64 ^ CALLSITE), || Some(make()))
}

/// The site for this hash, which must be made with a random key so that all its bits are equally
/// good. The caller must check that the site is the right one. `make` makes it on first use, or
/// returns `None` if there is to be no site.
#[inline]
pub fn site_of_hash(hash: u64, make: impl FnOnce() -> Option<Site>) -> Option<&'static Site> {
    find(hash, make)
}

/// The lines that may hold this key, in probe order.
#[inline(always)]
fn lines(key: u64) -> impl Iterator<Item = &'static Line> {
    let first = (key >> 32) as usize;
    // Odd, so that the sequence reaches every line.
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
                // SAFETY: the pointer is null, or to a site that is never freed.
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
    let stored = entry
        .map(|entry| entry.site.compare_exchange(null, made, Ordering::AcqRel, Ordering::Acquire));
    if let Some(Ok(_)) = stored {
        // SAFETY: the site was just made, and is never freed from now on.
        return Some(unsafe { &*made });
    }
    // SAFETY: the site was just made, and nothing else refers to it.
    drop(unsafe { Box::from_raw(made) });
    match stored {
        // SAFETY: the other site is never freed.
        Some(Err(other)) => Some(unsafe { &*other }),
        _ => {
            count_without(key);
            None
        }
    }
}

/// The keys without room: one bit for each, by a part of the key.
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

/// A lower bound on the number of places in the program without a site since the process started.
pub(crate) fn without() -> u64 {
    COUNT_WITHOUT.load(Ordering::Relaxed)
}

/// The number of sites in the table, and the longest probe sequence of any of them, in lines. For
/// tests.
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
        let first = site_of("a task", here, 8);
        assert!(std::ptr::eq(first, site_of("a task", here, 8)));
        assert!(!std::ptr::eq(first, site_of("another task", here, 8)));
        assert_eq!((first.name(), first.size()), ("a task", Some(8)));
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

    /// The longest probe sequence of keys mixed from these addresses.
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
                (0..half)
                    .map(move |n| program + n * stride)
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
