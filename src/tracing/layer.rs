//! A layer for a registry of `tracing-subscriber`.

use super::Settings;
use super::callsite::metadata_of;
use super::span_ids::{self, Names};
use lookback_recorder::integration::span;
use lookback_recorder::is_recording;
use span::Parent;
use std::sync::{Arc, OnceLock};
use tracing_core::dispatcher::{Dispatch, WeakDispatch};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

/// Records the spans and events of a registry: see [`layer`].
#[derive(Debug)]
pub struct Layer {
    pub(super) settings: Settings,
    /// Its own, or that of the layer that it replaced.
    names: OnceLock<Arc<Names>>,
    /// The subscriber type that it is a layer of.
    dispatch: OnceLock<WeakDispatch>,
}

/// A layer for a `tracing-subscriber` registry that records spans and events. Filters on it apply to the
/// trace only.
///
/// ```
/// use tracing_subscriber::{Layer, layer::SubscriberExt, filter::LevelFilter};
/// let recorded = lookback::tracing::layer().with_filter(LevelFilter::INFO);
/// let subscriber = tracing_subscriber::registry().with(recorded);
/// tracing::subscriber::with_default(subscriber, || tracing::info!("recorded"));
/// ```
#[must_use = "a layer does nothing before it is part of a subscriber"]
pub fn layer() -> Layer {
    Layer { settings: Settings::default(), names: OnceLock::new(), dispatch: OnceLock::new() }
}

/// The extension that the registry keeps for a span if the table of names had no room.
struct Name(span::Name);

impl<S> tracing_subscriber::Layer<S> for Layer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        let _ = self.dispatch.set(dispatch.downgrade());
        // It is part of the subscriber from the start, so it replaces no other layer.
        let _ = self.names.set(Arc::default());
        self.settings.judge.note_use();
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if !is_recording() {
            return;
        }
        let parent = || match attributes.parent() {
            Some(parent) => Parent::Of(self.recorded(parent, &context)),
            None if attributes.is_root() => Parent::Of(0),
            None => self.around(id, &context),
        };
        let name = self.settings.create(attributes, parent);
        if name != 0
            && !self.names(&context).insert(id.into_u64(), name)
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().insert(Name(name));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if is_recording()
            && let Some(name) = self.name_of(id, &context)
        {
            self.settings.record(name, values);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        if is_recording()
            && let Some(name) = self.name_of(id, &context)
        {
            span::follows(name, self.name_of(follows, &context).unwrap_or(0));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if !is_recording() {
            return;
        }
        let of = || match event.parent() {
            Some(parent) => Parent::Of(self.recorded(parent, &context)),
            None if event.is_root() => Parent::Of(0),
            None => Parent::Current,
        };
        self.settings.event(event, of);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(name) = self.name_of(id, &context) {
            span::enter(name);
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if let Some(name) = self.name_of(id, &context) {
            span::exit(name);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(name) = self.name_of(&id, &context) {
            self.names(&context).remove(id.into_u64());
            span::give_up(name);
        }
    }
}

impl Layer {
    /// The names of this registry's spans. A layer that was added after the registry became a subscriber may
    /// have replaced another one (`reload` does that), whose spans may still be open: then it takes over the
    /// names of that one.
    #[inline]
    fn names<S>(&self, context: &Context<'_, S>) -> &Names
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        match self.names.get() {
            Some(names) => names,
            None => self.take_over(context),
        }
    }

    #[cold]
    fn take_over<S>(&self, context: &Context<'_, S>) -> &Names
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Span ids are unique within one registry; the callsite says whether it is this one.
        let is_here = |id: u64, name: span::Name| {
            let here = context.metadata(&Id::from_u64(id));
            let recorded = span::site_of(name).and_then(metadata_of);
            here.zip(recorded).is_some_and(|(here, recorded)| std::ptr::eq(here, recorded))
        };
        self.names.get_or_init(|| {
            self.settings.judge.note_use();
            span_ids::take_over(is_here).unwrap_or_default()
        })
    }

    /// The recorder's id of a span, if it is recorded.
    #[inline]
    fn name_of<S>(&self, id: &Id, context: &Context<'_, S>) -> Option<span::Name>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        match self.names(context).get(id.into_u64()) {
            Ok(name) => Some(name),
            Err(false) => None,
            Err(true) => context.span(id)?.extensions().get::<Name>().map(|name| name.0),
        }
    }

    /// The nearest recorded span around a new one without an explicit parent. That need not be the innermost
    /// span that the thread has entered: that one may be hidden by a filter, and have a parent that this
    /// thread has not entered.
    fn around<S>(&self, id: &Id, context: &Context<'_, S>) -> Parent
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Nearly always it is, and then no lookup is needed.
        let current = match context.current_span().id() {
            Some(current) => self.names(context).get(current.into_u64()).ok(),
            None => Some(0),
        };
        if current == Some(span::current_name()) {
            return Parent::Current;
        }
        let Some(span) = context.span(id) else { return Parent::Current };
        let mut around = span.scope().skip(1);
        let name = around.find_map(|span| self.name_of(&span.id(), context)).unwrap_or(0);
        if name == span::current_name() { Parent::Current } else { Parent::Of(name) }
    }

    /// The nearest recorded span from this one outwards; 0 for none.
    fn recorded<S>(&self, id: &Id, context: &Context<'_, S>) -> span::Name
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let nearest =
            |span: SpanRef<'_, S>| span.scope().find_map(|span| self.name_of(&span.id(), context));
        if let Some(span) = context.span(id) {
            return nearest(span).unwrap_or(0);
        }
        // A per-layer filter hides the span, and with it its parents. The registry still has them.
        let known = |dispatch: &Dispatch| {
            let registry = dispatch.downcast_ref::<S>();
            registry.and_then(|registry| registry.span(id)).and_then(nearest)
        };
        match self.dispatch.get().and_then(WeakDispatch::upgrade) {
            Some(dispatch) => known(&dispatch),
            // A layer in a box or an `Arc` is not told which subscriber it is part of.
            None => tracing_core::dispatcher::get_default(known),
        }
        .unwrap_or(0)
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        if let Some(names) = self.names.take() {
            span_ids::leave(names);
        }
    }
}
