//! Marks the recorder's own work on a host's thread, where it may take long, so that readers do not
//! mistake it for the host's.
//!
//! The mark is a region with a name reserved for the recorder
//! ([`OWN_REGION`](lookback_snapshot::wire::OWN_REGION)). So every reader sees how long the work
//! took and what it was nested in, even if it began in an earlier generation.

use crate::record::emit::{Region, begin_region};
use crate::record::site::Site;
use crate::record::slot::{MAX_REGIONS, Slot};
use lookback_snapshot::wire::OWN_REGION;
use std::sync::atomic::Ordering;

static OWN: Site = Site::new(OWN_REGION, &[], file!(), line!());

/// Marks this thread as working for the recorder, or waiting for it, until the guard is dropped.
pub(crate) fn begin() -> Region {
    begin_region(&OWN)
}

/// Whether the slot's thread is working for the recorder.
pub(crate) fn is_at_it(slot: &Slot) -> bool {
    let depth = slot.depth.load(Ordering::Relaxed) as usize;
    let open = &slot.regions[..depth.min(MAX_REGIONS)];
    open.iter().any(|region| std::ptr::eq(region.site.load(Ordering::Relaxed), &raw const OWN))
}
