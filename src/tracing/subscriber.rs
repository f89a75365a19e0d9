//! A subscriber without a registry: the recorder itself holds the spans.

use super::Settings;
use super::callsite::{SECRET, create_nameless, level_of, metadata_of, nameless, site_of};
use super::log_crate;
use super::values::Values;
use lookback_recorder::integration::{
    FieldBuf, Fields, StackText, TextBuf, log_passing, on_change, span,
};
use lookback_recorder::{Level, is_recording};
use span::Parent;
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, LevelFilter, Metadata};
use tracing_log::NormalizeEvent;

/// The id of a span that is not recorded: it began before recording did, or found no free entry.
const UNRECORDED: u64 = u64::MAX;

/// Records spans and events, and does nothing else: see [`subscriber`].
#[derive(Debug)]
pub struct Subscriber {
    pub(super) settings: Settings,
}

/// A subscriber that records spans and events without a registry, at the lowest cost. While nothing is
/// recorded, it disables all callsites.
///
/// ```
/// let subscriber = lookback::tracing::subscriber().with_max_level(tracing::Level::INFO);
/// tracing::subscriber::with_default(subscriber, || tracing::info!("recorded"));
/// ```
#[must_use = "a subscriber does nothing before it is set"]
pub fn subscriber() -> Subscriber {
    // Callsites are asked again for their interest when that changes.
    on_change(tracing_core::callsite::rebuild_interest_cache);
    Subscriber { settings: Settings::default() }
}

/// The recorder's id in a `tracing` id.
#[inline(always)]
fn name_of(id: &Id) -> span::Name {
    let number = id.into_u64();
    if number == UNRECORDED { 0 } else { number }
}

impl Settings {
    /// Whether level and target let this through.
    pub(super) fn wants(&self, metadata: &Metadata<'_>) -> bool {
        self.judge.wants(metadata.target(), level_of(*metadata.level()))
    }

    /// Begins a span. 0 if it is not recorded.
    #[inline]
    pub(super) fn create(
        &self,
        attributes: &Attributes<'_>,
        parent: impl FnOnce() -> Parent,
    ) -> span::Name {
        let metadata = attributes.metadata();
        let wanted = self.judge.wants_level(level_of(*metadata.level()));
        if wanted == Some(false) {
            return 0;
        }
        let Some(site) = site_of(metadata) else {
            return if self.wants(metadata) { create_nameless(metadata, parent()) } else { 0 };
        };
        if wanted.is_none() && !self.judge.wants_site(site) {
            return 0;
        }
        let mut room = FieldBuf::new();
        let mut values = Values::of_span(site, &mut room, &self.redaction);
        if !metadata.fields().is_empty() {
            attributes.record(&mut values);
        }
        span::create(site, parent(), &values.fields)
    }

    /// Records fields of a span.
    pub(super) fn record(&self, name: span::Name, values: &Record<'_>) {
        // A shared site has no metadata, so which values are secrets is unknown.
        if let Some(site) = span::site_of(name).filter(|site| metadata_of(site).is_some()) {
            let mut room = FieldBuf::new();
            let mut late = Values::of_span(site, &mut room, &self.redaction);
            values.record(&mut late);
            span::record(name, &late.fields);
        }
    }

    /// Records an event. `of` is its span.
    #[inline]
    pub(super) fn event(&self, event: &Event<'_>, of: impl FnOnce() -> Parent) {
        let metadata = event.metadata();
        let wanted = self.judge.wants_level(level_of(*metadata.level()));
        if wanted == Some(false) {
            return;
        }
        // The name of the callsites of `log`'s records.
        if metadata.name() == "log event"
            && let Some(record) = event.normalized_metadata()
        {
            if wanted.is_some() || self.wants(&record) {
                self.log_record(event, &record, of());
            }
            return;
        }
        let Some(site) = site_of(metadata) else {
            if self.wants(metadata) {
                self.nameless_event(event, of());
            }
            return;
        };
        if wanted.is_none() && !self.judge.wants_site(site) {
            return;
        }
        let (mut room, mut text) = (FieldBuf::new(), TextBuf::new());
        let text = StackText::new(&mut text);
        let mut values = Values::of_event(site, &mut room, text, &self.redaction, false);
        event.record(&mut values);
        if let Some(message) = &mut values.message {
            span::log(site, level_of(*metadata.level()), message, &values.fields, of());
        }
    }

    /// Records a record of the `log` crate.
    #[inline(never)]
    fn log_record(&self, event: &Event<'_>, record: &Metadata<'_>, of: Parent) {
        let passing = log_crate::passing(record);
        let site = log_crate::site_of(&passing);
        let (mut room, mut text) = (FieldBuf::new(), TextBuf::new());
        let text = StackText::new(&mut text);
        let values_of = site.unwrap_or(&SECRET);
        let mut values = Values::of_event(values_of, &mut room, text, &self.redaction, true);
        event.record(&mut values);
        let Some(message) = &mut values.message else { return };
        match site {
            Some(site) => span::log(site, passing.level, message, &values.fields, of),
            None => log_passing(&passing, message, &Fields::new(&mut FieldBuf::new()), of),
        }
    }

    /// Records an event whose callsite has no site, without its values: which are secrets is unknown.
    #[cold]
    fn nameless_event(&self, event: &Event<'_>, of: Parent) {
        let (mut room, mut text) = (FieldBuf::new(), TextBuf::new());
        let text = StackText::new(&mut text);
        let mut values = Values::of_event(&SECRET, &mut room, text, &self.redaction, false);
        event.record(&mut values);
        if let Some(message) = &mut values.message {
            let mut room = FieldBuf::new();
            let (passing, fields) = nameless(event.metadata(), &mut room);
            log_passing(&passing, message, &fields, of);
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
        // `tracing` calls this when it installs the subscriber.
        self.settings.judge.note_use();
        Some(match self.settings.judge.most_detailed() {
            None => LevelFilter::OFF,
            Some(Level::Error) => LevelFilter::ERROR,
            Some(Level::Warn) => LevelFilter::WARN,
            Some(Level::Info) => LevelFilter::INFO,
            Some(Level::Debug) => LevelFilter::DEBUG,
            Some(Level::Trace) => LevelFilter::TRACE,
        })
    }

    #[inline]
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        if !is_recording() {
            return Id::from_u64(UNRECORDED);
        }
        let parent = || match attributes.parent() {
            Some(parent) => Parent::Of(name_of(parent)),
            None if attributes.is_root() => Parent::Of(0),
            None => Parent::Current,
        };
        match self.settings.create(attributes, parent) {
            0 => Id::from_u64(UNRECORDED),
            name => Id::from_u64(name),
        }
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        if is_recording() {
            self.settings.record(name_of(id), values);
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
        let of = || match event.parent() {
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
