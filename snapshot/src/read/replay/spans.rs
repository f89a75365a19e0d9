//! The spans of a generation, followed from event to event.
//!
//! A span has no owner: any thread may enter it, and several at once. Two rules order its events all the
//! same. Its creation comes before everything that names it, and its end after. For the latter, the first
//! pass counts how often each span is named, and the end waits until no such event is left and no thread is
//! inside.

use super::wait_list::{Progress, Whose};
use crate::read::decode::codec::Arguments;
use crate::read::decode::definitions::NO_SITE;
use crate::read::decode::fields::ValuesAt;
use crate::read::decode::initial_state::InitialState;
use crate::read::decode::sparse_vec::SparseVec;
use crate::wire::{SpanId, Ticks};
use std::collections::HashMap;
use std::fmt;

/// The state of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SpanPhase {
    /// Not known.
    #[default]
    Unknown,
    /// This incarnation has yet to be created.
    Due,
    Open,
    Closed,
}

/// An entry for spans.
#[derive(Clone, Copy, Debug)]
struct SpanEntry {
    incarnation: u32,
    site: u32,
    parent: SpanId,
    began: Ticks,
    /// The values from its creation or status.
    values: ValuesAt,
    /// How many events that name it are still to come.
    left: u32,
    /// How often threads have entered it.
    inside: u32,
    phase: SpanPhase,
    /// Whether more values became known.
    recorded: bool,
    /// Whether values may be missing or outdated.
    part: bool,
}

impl Default for SpanEntry {
    fn default() -> Self {
        Self {
            incarnation: 0,
            site: NO_SITE,
            parent: SpanId::NONE,
            began: Ticks(0),
            values: ValuesAt::Nowhere,
            left: 0,
            inside: 0,
            phase: SpanPhase::Unknown,
            recorded: false,
            part: false,
        }
    }
}

impl SpanEntry {
    fn is_open(&self, incarnation: u32) -> bool {
        self.phase == SpanPhase::Open && self.incarnation == incarnation
    }
}

/// A span that is open at the end of a generation.
#[derive(Clone, Debug)]
pub(crate) struct SpanEnd {
    pub(crate) id: SpanId,
    pub(crate) parent: SpanId,
    pub(crate) began: Ticks,
    pub(crate) site: u32,
    /// Its values, first those from the beginning, then those that became known later, each with their site.
    pub(crate) values: Vec<(u32, ValuesAt)>,
    /// Whether values may be missing or outdated.
    pub(crate) part: bool,
}

/// What is wrong with an event of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanInconsistency {
    /// The span has neither a status nor a creation.
    NoStatus,
    /// The span has ended.
    Over,
    /// The span is created, and existed already.
    Open,
    /// This incarnation is created, and that one was the last.
    Incarnation(u32, u32),
    /// The span ends, and this many events that name it are still to come.
    Named(u32),
    /// The span ends while threads are inside it.
    Inside(u32),
    /// A thread exits a span that it has not entered.
    NotInside,
    /// A thread exits a span, and has entered none.
    InsideOfNone,
    /// A thread enters the span that it created last, or closes the one that it exited last, and there is
    /// none.
    NoLast,
}

impl fmt::Display for SpanInconsistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStatus => f.write_str("it has no status and was not created"),
            Self::Over => f.write_str("it is over"),
            Self::Open => f.write_str("it is there already"),
            Self::Incarnation(is, was) => {
                write!(f, "incarnation {is}; {} was to come", was.saturating_add(1))
            }
            Self::Named(left) => write!(f, "it ends, and {left} events that name it are to come"),
            Self::Inside(1) => f.write_str("it ends, and a thread is inside of it"),
            Self::Inside(inside) => {
                write!(f, "it ends, and threads are inside of it {inside} times")
            }
            Self::NotInside => f.write_str("the thread leaves it, and is not inside of it"),
            Self::InsideOfNone => f.write_str("the thread leaves a span, and is inside of none"),
            Self::NoLast => f.write_str("it refers to a span of the thread that there is none of"),
        }
    }
}

/// See the module.
pub(crate) struct Spans {
    places: SparseVec<SpanEntry>,
    /// Where the values are that became known later, each with its site.
    recorded: HashMap<SpanId, Vec<(u32, u32)>>,
}

impl Spans {
    pub(crate) fn new(begin: &InitialState, limit: usize) -> Self {
        let mut places = SparseVec::<SpanEntry>::new(limit);
        places.expect(begin.spans.len());
        for id in &begin.created_spans {
            let place = places.get_mut(id.index);
            if place.phase == SpanPhase::Unknown {
                (place.incarnation, place.phase) = (id.incarnation, SpanPhase::Due);
            }
        }
        for span in &begin.spans {
            let place = places.get_mut(span.id.index);
            let earlier =
                place.phase == SpanPhase::Unknown || span.id.incarnation < place.incarnation;
            if !earlier {
                continue;
            }
            *place = SpanEntry {
                incarnation: span.id.incarnation,
                site: span.site,
                parent: span.parent,
                began: span.began,
                values: span.values,
                left: begin.named_spans.get(span.id),
                phase: SpanPhase::Open,
                part: span.part,
                ..SpanEntry::default()
            };
        }
        Self { places, recorded: HashMap::new() }
    }

    /// The site of a span, if the span exists.
    pub(crate) fn site(&self, id: SpanId) -> u32 {
        let place = self.places.get(id.index);
        place
            .filter(|place| place.incarnation == id.incarnation)
            .map_or(NO_SITE, |place| place.site)
    }

    /// How far an entry has come: four steps for each incarnation, the third of which is that only the end is
    /// still to come.
    pub(crate) fn progress(&self, index: u32) -> Progress {
        let of = Whose::Span(index);
        let Some(place) = self.places.get(index) else { return Progress { of, level: 0 } };
        let step = match place.phase {
            SpanPhase::Unknown => return Progress { of, level: u64::MAX },
            SpanPhase::Due => DUE,
            SpanPhase::Open if place.left == 0 && place.inside == 0 => QUIET,
            SpanPhase::Open => OPEN,
            SpanPhase::Closed => CLOSED,
        };
        Progress { of, level: 4 * u64::from(place.incarnation) + step }
    }

    /// What a record that names a span must wait for, if anything.
    pub(crate) fn named_waits(&self, id: SpanId, begin: &InitialState) -> Option<Progress> {
        let Progress { of, level: was } = self.progress(id.index);
        let level = 4 * u64::from(id.incarnation) + OPEN;
        (was < level && begin.is_created(id)).then_some(Progress { of, level })
    }

    /// What a creation must wait for.
    pub(crate) fn created_waits(&self, id: SpanId) -> Option<Progress> {
        let Progress { of, level: was } = self.progress(id.index);
        let level = (4 * u64::from(id.incarnation) + CLOSED).saturating_sub(4);
        (was < level && was > 0).then_some(Progress { of, level })
    }

    /// What an end must wait for.
    pub(crate) fn close_waits(&self, id: SpanId) -> Option<Progress> {
        let Progress { of, level: was } = self.progress(id.index);
        let level = 4 * u64::from(id.incarnation) + QUIET;
        (was < level && was > 0).then_some(Progress { of, level })
    }

    /// A span is created.
    pub(crate) fn create(
        &mut self,
        args: &Arguments,
        parent: SpanId,
        site: u32,
        began: Ticks,
        begin: &InitialState,
    ) -> Result<(), SpanInconsistency> {
        let id = args.span();
        let place = self.places.get_mut(id.index);
        let (was, is) = (place.incarnation, id.incarnation);
        let outcome = match place.phase {
            SpanPhase::Unknown | SpanPhase::Due if was == is || was == 0 => Ok(()),
            SpanPhase::Closed if was.checked_add(1) == Some(is) => Ok(()),
            SpanPhase::Closed | SpanPhase::Due | SpanPhase::Unknown => {
                Err(SpanInconsistency::Incarnation(is, was))
            }
            SpanPhase::Open => Err(SpanInconsistency::Open),
        };
        *place = SpanEntry {
            incarnation: is,
            site,
            parent,
            began,
            values: args.given.into(),
            left: begin.named_spans.get(id),
            inside: 0,
            phase: SpanPhase::Open,
            recorded: false,
            part: false,
        };
        outcome
    }

    /// An event names a span.
    pub(crate) fn name(&mut self, id: SpanId) -> Result<(), SpanInconsistency> {
        let place = self.places.get_mut(id.index);
        let outcome = Self::known(place, id);
        if place.incarnation == id.incarnation {
            place.left = place.left.saturating_sub(1);
        }
        outcome
    }

    fn known(place: &mut SpanEntry, id: SpanId) -> Result<(), SpanInconsistency> {
        match place.phase {
            SpanPhase::Open if place.incarnation == id.incarnation => Ok(()),
            SpanPhase::Closed if place.incarnation >= id.incarnation => {
                Err(SpanInconsistency::Over)
            }
            SpanPhase::Open | SpanPhase::Due if place.incarnation > id.incarnation => {
                Err(SpanInconsistency::Over)
            }
            SpanPhase::Unknown => {
                // This keeps the next event that names it from being wrong for the same reason.
                (place.incarnation, place.phase) = (id.incarnation, SpanPhase::Open);
                Err(SpanInconsistency::NoStatus)
            }
            _ => Err(SpanInconsistency::NoStatus),
        }
    }

    /// A thread enters a span.
    pub(crate) fn enter(&mut self, id: SpanId) {
        let place = self.places.get_mut(id.index);
        if place.is_open(id.incarnation) {
            place.inside = place.inside.saturating_add(1);
        }
    }

    /// A thread exits it.
    pub(crate) fn leave(&mut self, id: SpanId) -> Result<(), SpanInconsistency> {
        let place = self.places.get_mut(id.index);
        let outcome = Self::known(place, id);
        if place.incarnation == id.incarnation {
            place.inside = place.inside.saturating_sub(1);
        }
        outcome
    }

    /// More values of a span become known.
    pub(crate) fn record(&mut self, args: &Arguments, site: u32) {
        let id = args.span();
        let place = self.places.get_mut(id.index);
        if place.is_open(id.incarnation) {
            place.recorded = true;
            self.recorded.entry(id).or_default().push((site, args.given));
        }
    }

    /// A span ends.
    pub(crate) fn close(&mut self, id: SpanId) -> Result<(), SpanInconsistency> {
        let place = self.places.get_mut(id.index);
        let mut outcome = Self::known(place, id);
        if place.is_open(id.incarnation) {
            if outcome.is_ok() && place.inside > 0 {
                outcome = Err(SpanInconsistency::Inside(place.inside));
            } else if outcome.is_ok() && place.left > 0 {
                outcome = Err(SpanInconsistency::Named(place.left));
            }
            if std::mem::take(&mut place.recorded) {
                self.recorded.remove(&id);
            }
            place.phase = SpanPhase::Closed;
        }
        outcome
    }

    /// The open spans, by index.
    pub(crate) fn end(&self) -> Vec<SpanEnd> {
        let open = self.places.iter().filter(|(_, place)| place.phase == SpanPhase::Open);
        let mut spans: Vec<_> = open
            .map(|(index, place)| {
                let id = SpanId { index, incarnation: place.incarnation };
                let first =
                    (place.values != ValuesAt::Nowhere).then_some((place.site, place.values));
                let later = self.recorded.get(&id).into_iter().flatten();
                let later = later.map(|(site, given)| (*site, ValuesAt::Content(*given)));
                let values = first.into_iter().chain(later).collect();
                let SpanEntry { parent, began, site, part, .. } = *place;
                SpanEnd { id, parent, began, site, values, part }
            })
            .collect();
        spans.sort_unstable_by_key(|span| span.id);
        spans
    }
}

const DUE: u64 = 0;
const OPEN: u64 = 1;
const QUIET: u64 = 2;
const CLOSED: u64 = 3;
