//! Decides which sites have a limit, for the byte in each site that says so.
//!
//! The first thread to use a site in a generation defines it, and the definition looks up the limit
//! here. So a site whose name has a limit knows it from its first use in a recording, a site
//! without one pays nothing, and the limits of an earlier recording are forgotten.
//!
//! A span may have another name than its site, from one of its fields: a site with such a field is
//! watched as soon as any span has a limit.
//!
//! The look-up may run in a signal handler: it takes no lock, and follows a pointer to names that
//! are never freed. Each distinct list of names is kept once, however often a recorder starts.

use crate::record::control::Control;
use crate::record::site::Site;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;

/// Names with a limit, of spans (`true`) or regions.
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
    // SAFETY: the pointer is null, or to names that are never freed.
    let names = unsafe { control.slow.load(Ordering::Acquire).as_ref() };
    names.is_some_and(|names| {
        let may_be = |name: &str| name == site.name() || site.names_spans().is_some();
        names.0.iter().any(|(is_span, name)| *is_span == site.is_callsite() && may_be(name))
    })
}
