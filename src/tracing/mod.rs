//! `tracing`: spans and events in the trace.
//!
//! [`layer`] is for a `tracing-subscriber` registry, beside other layers and with its own filters:
//!
//! ```
//! use tracing_subscriber::layer::SubscriberExt;
//! let subscriber = tracing_subscriber::registry().with(lookback::tracing::layer());
//! tracing::subscriber::with_default(subscriber, || {
//!     let _guard = tracing::info_span!("request", path = "/").entered();
//!     tracing::info!(status = 200, "served");
//! });
//! ```
//!
//! [`subscriber()`] needs no registry. It costs less, for programs that need no other layer:
//!
//! ```
//! tracing::subscriber::set_global_default(lookback::tracing::subscriber())?;
//! # Ok::<(), tracing::subscriber::SetGlobalDefaultError>(())
//! ```
//!
//! Spans and messages of INFO and above are recorded. For more, use [`Subscriber::with_max_level`] and
//! [`Subscriber::with_targets`]; for the whole process
//! [`Builder::filter`](lookback_recorder::Builder::filter) or `LOOKBACK_LEVEL=debug`, or while it runs, by
//! [`set_filter`](lookback_recorder::set_filter).
//!
//! Values of fields that are named like secrets are not recorded, unless [`Subscriber::reveal_secrets`] turns
//! that off. [`record_log`] records the `log` crate.

mod callsite;
mod layer;
mod log_crate;
mod redaction;
mod span_ids;
mod subscriber;
mod values;

pub use layer::{Layer, layer};
pub use log_crate::{LogError, record_log};
pub use redaction::SECRETS;
pub use subscriber::{Subscriber, subscriber};

use lookback_recorder::integration::Judge;
use lookback_recorder::{Filter, Level};
use redaction::Redaction;
use std::sync::Arc;
use tracing_core::LevelFilter;

/// Which spans, events and values are recorded.
#[derive(Clone, Debug)]
struct Settings {
    judge: Arc<Judge>,
    redaction: Redaction,
}

impl Default for Settings {
    fn default() -> Self {
        Self { judge: Judge::new(Level::Info.into()), redaction: Redaction::default() }
    }
}

/// The filter that corresponds to these settings.
fn filter_of(level: LevelFilter) -> Filter {
    Filter::level(level.into_level().map(callsite::level_of))
}

/// Settings of [`Subscriber`] and of [`Layer`].
macro_rules! settings {
    ($($type:ty: $name:literal),*) => {$(
        impl $type {
            /// Records this level and more severe ones; the default is INFO. A filter of the recorder
            /// overrides this: see [`Builder::filter`](lookback_recorder::Builder::filter).
            #[must_use]
            pub fn with_max_level(self, level: impl Into<LevelFilter>) -> Self {
                self.with_targets(filter_of(level.into()))
            }

            /// Records what this filter lets through, by level and target. A filter of the recorder
            /// overrides this: see [`Builder::filter`](lookback_recorder::Builder::filter).
            ///
            /// ```
            /// let filter = "info,hyper=warn,my_crate=trace".parse()?;
            #[doc = concat!("let recorded = lookback::tracing::", $name, "().with_targets(filter);")]
            /// # Ok::<(), lookback::Error>(())
            /// ```
            #[must_use]
            pub fn with_targets(mut self, filter: Filter) -> Self {
                self.settings.judge = Judge::new(filter);
                self
            }

            /// Redacts the values of fields whose names contain one of these words, in addition to
            /// [`SECRETS`], ignoring case. For the whole process, and for texts, there is
            /// [`Builder::redact_names`](crate::Builder::redact_names).
            #[must_use]
            pub fn redact<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
                self.settings.redaction.add(words);
                self
            }

            /// Records all values, whatever the names of their fields. Secrets inside texts are still
            /// redacted, unless the recorder [reveals](crate::Builder::reveal_secrets) them.
            #[must_use]
            pub fn reveal_secrets(mut self) -> Self {
                self.settings.redaction = Redaction::none();
                self
            }
        }
    )*};
}
settings!(Subscriber: "subscriber", Layer: "layer");
