//! The spans of a generation, followed from event to event.
//!
//! Nobody owns a span: any thread may enter it, and several at once. Two things order its events all
//! the same. It is created before all else that names it; and it is closed after. For the latter the
//! first pass counts how often each span is named, and a close waits until nothing is left and
//! nobody is inside.

use super::begin::Begin;
use super::mention::Mention;
use super::places::Places;
use super::stream::NO_SPAN;
use super::tables::NO_SITE;
use super::waiting::{Level, Whose};
use crate::wire::{SpanId, Ticks};
use std::collections::HashMap;
use std::fmt;

/// The parent of a span that was created deeper inside of others than the recorder restates.
pub(super) const UNKNOWN_PARENT: SpanId = SpanId { index: u32::MAX, incarnation: u32::MAX };

/// What a span's place is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody has said.
    #[default]
    Unknown,
    /// This incarnation is yet to be created.
    Due,
    Open,
    Closed,
}

/// A span's place.
#[derive(Clone, Copy, Debug)]
struct Place {
    incarnation: u32,
    site: u32,
    parent: SpanId,
    began: Ticks,
    /// Where the values that it was created or stated with begin.
    given: u32,
    /// How many events that name it are still to come.
    left: u32,
    /// How often threads are inside of it.
    inside: u32,
    phase: Phase,
    /// Whether more values became known.
    recorded: bool,
    /// Whether its values may not be all, or not the last.
    part: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            incarnation: 0,
            site: NO_SITE,
            parent: NO_SPAN,
            began: Ticks(0),
            given: 0,
            left: 0,
            inside: 0,
            phase: Phase::Unknown,
            recorded: false,
            part: false,
        }
    }
}

impl Place {
    fn is_open(&self, incarnation: u32) -> bool {
        self.phase == Phase::Open && self.incarnation == incarnation
    }
}

/// A span that is open at the end of a generation.
#[derive(Clone, Debug)]
pub(super) struct SpanEnd {
    pub(super) id: SpanId,
    pub(super) parent: SpanId,
    pub(super) began: Ticks,
    pub(super) site: u32,
    /// Where its values begin, those that became known later behind the first: each with its site.
    pub(super) given: Vec<(u32, u32)>,
    /// Whether its values may not be all, or not the last.
    pub(super) part: bool,
}

/// What is wrong with an event of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanWrong {
    /// It has neither a status nor a creation.
    NoStatus,
    /// It is over.
    Over,
    /// It is created, and was there already.
    Open,
    /// This incarnation is created, when that was the last.
    Incarnation(u32, u32),
    /// It is over, and so many events that name it are still to come.
    Named(u32),
    /// It is over, and threads are inside of it.
    Inside(u32),
    /// A thread leaves it that is not inside of it.
    NotInside,
    /// A thread leaves a span, and is inside of none.
    InsideOfNone,
    /// A thread enters the span that it created last, or closes the one it left last; there is none.
    NoLast,
}

impl fmt::Display for SpanWrong {
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
pub(super) struct Spans {
    places: Places<Place>,
    /// Where the values are that became known later, each with its site.
    recorded: HashMap<SpanId, Vec<(u32, u32)>>,
}

impl Spans {
    pub(super) fn new(begin: &Begin, limit: usize) -> Self {
        let mut places = Places::<Place>::new(limit);
        places.expect(begin.spans.len());
        for id in &begin.created_spans {
            let place = places.get_mut(id.index);
            if place.phase == Phase::Unknown {
                (place.incarnation, place.phase) = (id.incarnation, Phase::Due);
            }
        }
        for span in &begin.spans {
            let place = places.get_mut(span.id.index);
            let earlier = place.phase == Phase::Unknown || span.id.incarnation < place.incarnation;
            if !earlier {
                continue;
            }
            *place = Place {
                incarnation: span.id.incarnation,
                site: span.site,
                parent: span.parent,
                began: span.began,
                given: span.given,
                left: begin.named_spans.get(span.id),
                phase: Phase::Open,
                part: span.part,
                ..Place::default()
            };
        }
        Self { places, recorded: HashMap::new() }
    }

    /// The site of a span, if it is there.
    pub(super) fn site(&self, id: SpanId) -> u32 {
        let place = self.places.get(id.index);
        place
            .filter(|place| place.incarnation == id.incarnation)
            .map_or(NO_SITE, |place| place.site)
    }

    /// How far a place has come: four steps an incarnation, of which the third is that nothing but
    /// the end is to come.
    pub(super) fn level(&self, index: u32) -> Level {
        let of = Whose::Span(index);
        let Some(place) = self.places.get(index) else { return Level { of, level: 0 } };
        let step = match place.phase {
            Phase::Unknown => return Level { of, level: u64::MAX },
            Phase::Due => DUE,
            Phase::Open if place.left == 0 && place.inside == 0 => QUIET,
            Phase::Open => OPEN,
            Phase::Closed => CLOSED,
        };
        Level { of, level: 4 * u64::from(place.incarnation) + step }
    }

    /// What naming a span has to wait for, if it does.
    pub(super) fn named_waits(&self, id: SpanId, begin: &Begin) -> Option<Level> {
        let Level { of, level: was } = self.level(id.index);
        let level = 4 * u64::from(id.incarnation) + OPEN;
        (was < level && begin.is_created(id)).then_some(Level { of, level })
    }

    /// What a creation has to wait for.
    pub(super) fn created_waits(&self, id: SpanId) -> Option<Level> {
        let Level { of, level: was } = self.level(id.index);
        let level = (4 * u64::from(id.incarnation) + CLOSED).saturating_sub(4);
        (was < level && was > 0).then_some(Level { of, level })
    }

    /// What an end has to wait for.
    pub(super) fn close_waits(&self, id: SpanId) -> Option<Level> {
        let Level { of, level: was } = self.level(id.index);
        let level = 4 * u64::from(id.incarnation) + QUIET;
        (was < level && was > 0).then_some(Level { of, level })
    }

    /// A span is created.
    pub(super) fn create(
        &mut self,
        mention: &Mention,
        parent: SpanId,
        site: u32,
        began: Ticks,
        begin: &Begin,
    ) -> Result<(), SpanWrong> {
        let id = mention.span();
        let place = self.places.get_mut(id.index);
        let (was, is) = (place.incarnation, id.incarnation);
        let outcome = match place.phase {
            Phase::Unknown | Phase::Due if was == is || was == 0 => Ok(()),
            Phase::Closed if was.checked_add(1) == Some(is) => Ok(()),
            Phase::Closed | Phase::Due | Phase::Unknown => Err(SpanWrong::Incarnation(is, was)),
            Phase::Open => Err(SpanWrong::Open),
        };
        *place = Place {
            incarnation: is,
            site,
            parent,
            began,
            given: mention.given,
            left: begin.named_spans.get(id),
            inside: 0,
            phase: Phase::Open,
            recorded: false,
            part: false,
        };
        outcome
    }

    /// An event names a span.
    pub(super) fn name(&mut self, id: SpanId) -> Result<(), SpanWrong> {
        let place = self.places.get_mut(id.index);
        let outcome = Self::known(place, id);
        if place.incarnation == id.incarnation {
            place.left = place.left.saturating_sub(1);
        }
        outcome
    }

    fn known(place: &mut Place, id: SpanId) -> Result<(), SpanWrong> {
        match place.phase {
            Phase::Open if place.incarnation == id.incarnation => Ok(()),
            Phase::Closed if place.incarnation >= id.incarnation => Err(SpanWrong::Over),
            Phase::Open | Phase::Due if place.incarnation > id.incarnation => Err(SpanWrong::Over),
            Phase::Unknown => {
                // So the next event that names it is not wrong for the same reason.
                (place.incarnation, place.phase) = (id.incarnation, Phase::Open);
                Err(SpanWrong::NoStatus)
            }
            _ => Err(SpanWrong::NoStatus),
        }
    }

    /// A thread is inside of a span from now on.
    pub(super) fn enter(&mut self, id: SpanId) {
        let place = self.places.get_mut(id.index);
        if place.is_open(id.incarnation) {
            place.inside = place.inside.saturating_add(1);
        }
    }

    /// A thread is no longer inside of it.
    pub(super) fn leave(&mut self, id: SpanId) -> Result<(), SpanWrong> {
        let place = self.places.get_mut(id.index);
        let outcome = Self::known(place, id);
        if place.incarnation == id.incarnation {
            place.inside = place.inside.saturating_sub(1);
        }
        outcome
    }

    /// More values of a span become known.
    pub(super) fn record(&mut self, mention: &Mention, site: u32) {
        let id = mention.span();
        let place = self.places.get_mut(id.index);
        if place.is_open(id.incarnation) {
            place.recorded = true;
            self.recorded.entry(id).or_default().push((site, mention.given));
        }
    }

    /// A span is over.
    pub(super) fn close(&mut self, id: SpanId) -> Result<(), SpanWrong> {
        let place = self.places.get_mut(id.index);
        let mut outcome = Self::known(place, id);
        if place.is_open(id.incarnation) {
            if outcome.is_ok() && place.inside > 0 {
                outcome = Err(SpanWrong::Inside(place.inside));
            } else if outcome.is_ok() && place.left > 0 {
                outcome = Err(SpanWrong::Named(place.left));
            }
            if std::mem::take(&mut place.recorded) {
                self.recorded.remove(&id);
            }
            place.phase = Phase::Closed;
        }
        outcome
    }

    /// The spans that are open, by index.
    pub(super) fn end(&self) -> Vec<SpanEnd> {
        let open = self.places.iter().filter(|(_, place)| place.phase == Phase::Open);
        let mut spans: Vec<_> = open
            .map(|(index, place)| {
                let id = SpanId { index, incarnation: place.incarnation };
                let mut given = Vec::new();
                if place.given != 0 {
                    given.push((place.site, place.given));
                }
                given.extend(self.recorded.get(&id).into_iter().flatten());
                let Place { parent, began, site, part, .. } = *place;
                SpanEnd { id, parent, began, site, given, part }
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

/// How often each span is named in a generation, other than by its creation and its end.
#[derive(Default)]
pub(super) struct Named {
    /// The incarnation of each place that is met first, and how often it is named.
    places: Option<Places<(u32, u32)>>,
    others: HashMap<SpanId, u32>,
}

impl Named {
    /// More places than this are counted the slow way.
    const MANY: usize = 1 << 20;

    /// A span is named so often more. Whether its place was not before.
    pub(super) fn add(&mut self, id: SpanId, count: u32) -> bool {
        if id.index == 0 {
            return false;
        }
        let places = self.places.get_or_insert_with(|| Places::new(Self::MANY));
        let place = places.get_mut(id.index);
        let fresh = place.1 == 0;
        if fresh {
            place.0 = id.incarnation;
        }
        let named = if place.0 == id.incarnation {
            &mut place.1
        } else {
            self.others.entry(id).or_default()
        };
        let fresh = fresh || *named == 0;
        *named = named.saturating_add(count);
        fresh
    }

    pub(super) fn get(&self, id: SpanId) -> u32 {
        let place = self.places.as_ref().and_then(|places| places.get(id.index));
        match place {
            Some((incarnation, count)) if *incarnation == id.incarnation => *count,
            _ if self.others.is_empty() => 0,
            _ => self.others.get(&id).copied().unwrap_or(0),
        }
    }
}
