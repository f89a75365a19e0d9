//! Sites that are no statics: of tasks, which are named by a type and the place of their spawn, and
//! of `tracing`'s callsites.
//!
//! Each is made when it is first met and lives for ever; there are as many as there are places in
//! the program. They are found by the addresses of what names them, without a lock.
//!
//! # Synchronization
//!
//! An entry's site is stored with release after all of it is written, and never changes. Two threads
//! that meet one for the first time may both make it; the second one is as good as the first.

use crate::site::Site;
use std::panic::Location;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// How many there can be; more have no name of their own.
const ENTRIES: usize = 1 << 16;
/// How many entries one may lie in.
const PROBES: usize = 64;

struct Entry {
    /// The hash of what names it; 0 for none.
    key: AtomicU64,
    site: AtomicPtr<Site>,
}

static TABLE: [Entry; ENTRIES] = [const {
    Entry { key: AtomicU64::new(0), site: AtomicPtr::new(std::ptr::null_mut()) }
}; ENTRIES];

static OTHERS: Site = Site::new("(other)", &[], "", 0);

/// The site of a task of this name, spawned there.
#[inline]
pub(crate) fn site_of(name: &'static str, place: &'static Location<'static>) -> &'static Site {
    let name_key = name.as_ptr() as u64 ^ (name.len() as u64) << 48;
    let keys = (name_key, std::ptr::from_ref(place) as u64);
    find(keys, || Site::new(name, &[], place.file(), place.line()))
}

/// The site of a closure of this name, spawned there to run where blocking is allowed.
pub(crate) fn blocking_site_of(
    name: &'static str,
    place: &'static Location<'static>,
) -> &'static Site {
    // No name is so long that it has this bit.
    let name_key = name.as_ptr() as u64 ^ (name.len() as u64) << 48 ^ 1 << 63;
    let keys = (name_key, std::ptr::from_ref(place) as u64);
    find(keys, || Site::new(name, &[], place.file(), place.line()).of_closures())
}

/// The site that stands for two addresses, made by `make` if it is new.
#[inline]
pub(crate) fn find(keys: (u64, u64), make: impl FnOnce() -> Site) -> &'static Site {
    // Multiply and fold: both addresses whole, so two pairs have one hash with odds of 2^-64.
    let product = u128::from(keys.0 ^ 0x9e37_79b9_7f4a_7c15) * u128::from(keys.1 | 1 << 63);
    let key = (product as u64 ^ (product >> 64) as u64).max(1);
    let start = (key >> 20) as usize;
    for probe in 0..PROBES {
        let entry = &TABLE[(start + probe) % ENTRIES];
        let found = entry.key.load(Ordering::Acquire);
        if found == key {
            // SAFETY: it is null, or a site that lives for ever.
            if let Some(site) = unsafe { entry.site.load(Ordering::Acquire).as_ref() } {
                return site;
            }
        }
        if found == 0 || found == key {
            return make_at(entry, key, start, make);
        }
    }
    &OTHERS
}

#[cold]
fn make_at(first: &Entry, key: u64, start: usize, make: impl FnOnce() -> Site) -> &'static Site {
    let fresh = || -> *mut Site { Box::into_raw(Box::new(make())) };
    let claim = |entry: &Entry| {
        let claimed = entry.key.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire);
        claimed.is_ok() || claimed == Err(key)
    };
    let mut entry = first;
    let mut probe = 0;
    while !claim(entry) {
        probe += 1;
        if probe == PROBES {
            return &OTHERS;
        }
        entry = &TABLE[(start + probe) % ENTRIES];
    }
    let made = fresh();
    let null = std::ptr::null_mut();
    match entry.site.compare_exchange(null, made, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: it was just made, and lives for ever now.
        Ok(_) => unsafe { &*made },
        Err(other) => {
            // SAFETY: it was just made, and nobody else knows it.
            drop(unsafe { Box::from_raw(made) });
            // SAFETY: the other one lives for ever.
            unsafe { &*other }
        }
    }
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
            let sites = (0..500_u64).map(|n| {
                std::ptr::from_ref(find((n, 7), || Site::new("x", &[], here.file(), n as u32)))
            });
            sites.map(|site| site as usize).collect::<Vec<_>>()
        };
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(meet)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
