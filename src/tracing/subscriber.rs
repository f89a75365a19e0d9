//! A subscriber with nothing below it: the recorder itself holds the spans.

use super::Settings;
use super::callsite::{level_of, metadata_of, site_of, site_of_log};
use super::values::Values;
use lookback_recorder::integration::{Room, Site, StackText, TextRoom, on_change, span};
use lookback_recorder::is_recording;
use span::Parent;
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, LevelFilter, Metadata};
use tracing_log::NormalizeEvent;

/// The id of a span that is not recorded: recording began after it, or had no place for it.
const UNRECORDED: u64 = u64::MAX;

/// Records spans and events, and does nothing else: see [`subscriber`].
#[derive(Debug)]
pub struct Subscriber {
    pub(super) settings: Settings,
}

/// A subscriber that records spans and events and needs no registry below it: the cheapest way.
/// While nothing is recorded, it says that it wants nothing.
///
/// ```
/// let subscriber = lookback::tracing::subscriber().with_max_level(tracing::Level::INFO);
/// tracing::subscriber::with_default(subscriber, || tracing::info!("recorded"));
/// ```
#[must_use = "a subscriber does nothing before it is set"]
pub fn subscriber() -> Subscriber {
    // What callsites remember of being wanted is asked anew when that changes.
    on_change(tracing_core::callsite::rebuild_interest_cache);
    Subscriber { settings: Settings::default() }
}

/// The name in an id.
#[inline(always)]
fn name_of(id: &Id) -> span::Name {
    let number = id.into_u64();
    if number == UNRECORDED { 0 } else { number }
}

impl Settings {
    pub(super) fn wants(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    /// Records an event. `of` says which span it belongs to.
    pub(super) fn event(&self, event: &Event<'_>, of: Parent) {
        let metadata = event.metadata();
        // That is what the callsites of `log`'s records are called.
        let may_be_log = metadata.name() == "log event";
        let normalized = if may_be_log { event.normalized_metadata() } else { None };
        let is_log = normalized.is_some();
        let site = normalized.and_then(|log| site_of_log(&log, metadata));
        let site: &'static Site = site.unwrap_or_else(|| site_of(metadata));
        let (mut room, mut text) = (Room::new(), TextRoom::new());
        let text = StackText::new(&mut text);
        let mut values = Values::of_event(site, &mut room, text, &self.redaction, is_log);
        event.record(&mut values);
        if let Some(message) = &mut values.message {
            span::log(site, level_of(*metadata.level()), message, &values.fields, of);
        }
    }
}

impl tracing_core::Subscriber for Subscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if !self.settings.wants(metadata) {
            Interest::never()
        } else if is_recording() {
            Interest::always()
        } else {
            Interest::sometimes()
        }
    }

    #[inline]
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_recording() && self.settings.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.settings.level)
    }

    #[inline]
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        if !is_recording() {
            return Id::from_u64(UNRECORDED);
        }
        let site = site_of(attributes.metadata());
        let mut room = Room::new();
        let mut values = Values::of_span(site, &mut room, &self.settings.redaction);
        if !attributes.metadata().fields().is_empty() {
            attributes.record(&mut values);
        }
        let parent = match attributes.parent() {
            Some(parent) => Parent::Of(name_of(parent)),
            None if attributes.is_root() => Parent::Of(0),
            None => Parent::Current,
        };
        match span::create(site, parent, &values.fields) {
            0 => Id::from_u64(UNRECORDED),
            name => Id::from_u64(name),
        }
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        if is_recording()
            && let Some(site) = span::site_of(name_of(id))
        {
            let mut room = Room::new();
            let mut late = Values::of_span(site, &mut room, &self.settings.redaction);
            values.record(&mut late);
            span::record(name_of(id), &late.fields);
        }
    }

    fn record_follows_from(&self, id: &Id, follows: &Id) {
        if is_recording() {
            span::follows(name_of(id), name_of(follows));
        }
    }

    #[inline]
    fn event(&self, event: &Event<'_>) {
        if !is_recording() {
            return;
        }
        let of = match event.parent() {
            Some(parent) => Parent::Of(name_of(parent)),
            None if event.is_root() => Parent::Of(0),
            None => Parent::Current,
        };
        self.settings.event(event, of);
    }

    #[inline]
    fn enter(&self, id: &Id) {
        span::enter(name_of(id));
    }

    #[inline]
    fn exit(&self, id: &Id) {
        span::exit(name_of(id));
    }

    #[inline]
    fn clone_span(&self, id: &Id) -> Id {
        span::add_reference(name_of(id));
        id.clone()
    }

    #[inline]
    fn try_close(&self, id: Id) -> bool {
        span::give_up(name_of(&id))
    }

    fn current_span(&self) -> Current {
        let current = span::current().and_then(|(name, site)| Some((name, metadata_of(site)?)));
        match current {
            Some((name, metadata)) => Current::new(Id::from_u64(name), metadata),
            None => Current::none(),
        }
    }
}
