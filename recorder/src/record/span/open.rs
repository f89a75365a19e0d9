//! Open spans whose name has a limit, as the recorder's own thread looks at them: how long they have been open, and for which
//! triggers it has told so. The threads that the spans belong to pay nothing for this.
//!
//! # Synchronization
//!
//! What is read of a place is that of one span if the place is open before and after, with the same incarnation. A reader could
//! still mix two spans on a machine that reorders stores; so before anything is told of a span, the reader [holds](Candidate::hold)
//! it, and reads the rest. A span that is held cannot end.
//!
//! The marks are bits of the byte that says that the span is watched, set while the span is held.

#![forbid(unsafe_code)]

use crate::record::hooks;
use crate::record::site::Site;
use crate::record::span::span_ops::{Held, span_name};
use crate::record::span::{Kept, Name, Parent, SPANS, SpanEntry};
use std::sync::atomic::Ordering;

/// The byte's first bit says that the span is watched; of the others, each is one mark.
const MARKS: usize = 7;

/// An open span that is watched.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) name: Name,
    pub(crate) site: &'static Site,
    /// In ticks.
    pub(crate) began: u64,
    /// The marks that it has.
    pub(crate) told: u8,
}

/// An open span that does not end while this exists.
pub(crate) struct HeldSpan {
    held: Held,
    site: &'static Site,
    kept: Kept,
}

/// The open spans that are watched.
pub(crate) fn watched() -> impl Iterator<Item = Candidate> {
    SPANS.each().filter_map(|(_, place)| {
        if place.watched.load(Ordering::Relaxed) == 0 || !place.told.is_open() {
            return None;
        }
        let (name, began) = (place.name(), place.began.load(Ordering::Relaxed));
        let (site, told) = (place.site()?, told(place));
        (place.told.is_open() && place.name() == name).then_some(Candidate {
            name,
            site,
            began,
            told,
        })
    })
}

/// The marks of a place's span.
pub(crate) fn told(place: &SpanEntry) -> u8 {
    place.watched.load(Ordering::Relaxed) & !1
}

/// The mark with this number. Those with high numbers share one.
pub(crate) fn mark(number: usize) -> u8 {
    1 << (1 + number.min(MARKS - 1))
}

impl Candidate {
    /// Keeps it open, if it still is.
    pub(crate) fn hold(&self) -> Option<HeldSpan> {
        let held = Held::new(Parent::Of(self.name));
        let place = held.place()?;
        let (site, kept) = (place.site()?, place.kept());
        Some(HeldSpan { held, site, kept })
    }

    /// Whether this is the name of its site, or the one that its field gives it.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        // A span that began meanwhile would write its fields while they are read.
        let is_given = || self.hold().is_some_and(|held| held.called() == name);
        self.site.name() == name || self.site.names_spans().is_some() && is_given()
    }
}

impl HeldSpan {
    /// What it is called.
    pub(crate) fn called(&self) -> &str {
        span_name(self.site, self.kept.bytes()).unwrap_or(self.site.name())
    }

    /// Its fields as text, with a blank before each.
    pub(crate) fn fields(&self) -> String {
        hooks::fields_in_words(self.site, self.kept.bytes())
    }

    /// Sets these marks.
    pub(crate) fn tell(&self, marks: u8) {
        if let Some(place) = self.held.place() {
            place.watched.fetch_or(marks, Ordering::Relaxed);
        }
    }
}
