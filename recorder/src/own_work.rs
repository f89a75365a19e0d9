//! What the recorder does on a thread of its host, as far as that takes long: it is marked in the trace, and
//! nobody takes it for the host's.
//!
//! The mark is a region of a name that is the recorder's alone
//! ([`OWN_REGION`](lookback_snapshot::wire::OWN_REGION)), so that every reader sees how long it took and
//! inside of what, also where it began in a generation before.

use crate::emit::{Region, begin_region};
use crate::site::Site;
use crate::slot::{MAX_REGIONS, Slot};
use lookback_snapshot::wire::OWN_REGION;
use std::sync::atomic::Ordering;

static OWN: Site = Site::new(OWN_REGION, &[], file!(), line!());

/// From now on, until the guard is dropped, this thread works for the recorder, or waits for it.
pub(crate) fn begin() -> Region {
    begin_region(&OWN)
}

/// Whether the slot's thread does.
pub(crate) fn is_at_it(slot: &Slot) -> bool {
    let depth = slot.depth.load(Ordering::Relaxed) as usize;
    let open = &slot.regions[..depth.min(MAX_REGIONS)];
    open.iter().any(|region| std::ptr::eq(region.site.load(Ordering::Relaxed), &raw const OWN))
}
