//! Which sites have a limit: a byte in each site says so, and this is where it comes from.
//!
//! A site looks here when it is defined, which it is once a generation, by whoever uses it first in
//! it. So a site whose name has a limit knows it from its first use in a recording on, one that has
//! none pays nothing for those that have, and what an earlier recording wanted is forgotten.
//!
//! A span may be called otherwise than its site, by a field of its own: a site that has that field is watched
//! as soon as any span has a limit.
//!
//! The look-up may happen in a signal handler: it takes no lock, and follows a pointer to names that
//! live for ever. Each different list of names is kept once, however often a recorder starts.

use crate::control::Control;
use crate::site::Site;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;

/// Names with a limit: of a span, or of a region.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names(Vec<(bool, String)>);

static KNOWN: Mutex<Vec<&'static Names>> = Mutex::new(Vec::new());

/// Sets the names, before a generation is published.
pub(crate) fn set<'a>(control: &Control, names: impl Iterator<Item = (bool, &'a str)>) {
    let names = Names(names.map(|(is_span, name)| (is_span, name.to_owned())).collect());
    let mut pointer = std::ptr::null_mut();
    if !names.0.is_empty() {
        let mut known = KNOWN.lock();
        let found = known.iter().copied().find(|known| **known == names);
        let found = found.unwrap_or_else(|| {
            let kept: &'static Names = Box::leak(Box::new(names));
            known.push(kept);
            kept
        });
        pointer = std::ptr::from_ref(found).cast_mut();
    }
    control.slow.store(pointer, Ordering::Release);
}

/// Whether this site's name has a limit.
pub(crate) fn is_limited(control: &Control, site: &Site) -> bool {
    // SAFETY: it is null, or names that live for ever.
    let names = unsafe { control.slow.load(Ordering::Acquire).as_ref() };
    names.is_some_and(|names| {
        let may_be = |name: &str| name == site.name() || site.names_spans().is_some();
        names.0.iter().any(|(is_span, name)| *is_span == site.is_callsite() && may_be(name))
    })
}
