//! `tracing`: spans and events in the trace.
//!
//! [`layer`] goes onto a `tracing-subscriber` registry, beside other layers and with filters of its
//! own:
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
//! [`subscriber()`] has no registry below it. It costs less, and is for who needs nothing else:
//!
//! ```
//! tracing::subscriber::set_global_default(lookback::tracing::subscriber())?;
//! # Ok::<(), tracing::subscriber::SetGlobalDefaultError>(())
//! ```
//!
//! Spans and messages of INFO and above are recorded. More is for who asks for it: in code, by
//! [`Subscriber::with_max_level`] and [`Subscriber::with_targets`], for all of the process by
//! [`Builder::filter`](lookback_recorder::Builder::filter) or `LOOKBACK_LEVEL=debug`, or while it runs, by
//! [`set_filter`](lookback_recorder::set_filter).
//!
//! Values of fields that are named like secrets are not recorded, unless that is turned off: see
//! [`Subscriber::reveal_secrets`]. Records of the `log` crate come through [`record_log`].

mod callsite;
mod layer;
mod log_crate;
mod names;
mod redaction;
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

/// What is recorded of spans and events, and what is not.
#[derive(Clone, Debug)]
pub struct Settings {
    judge: Arc<Judge>,
    redaction: Redaction,
}

impl Default for Settings {
    fn default() -> Self {
        Self { judge: Judge::new(Level::Info.into()), redaction: Redaction::default() }
    }
}

/// What lets through what this does.
fn filter_of(level: LevelFilter) -> Filter {
    Filter::level(level.into_level().map(callsite::level_of))
}

/// Settings, for [`Subscriber`] and for [`Layer`] alike.
macro_rules! settings {
    ($($type:ty: $name:literal),*) => {$(
        impl $type {
            /// Records only what is at least of this level: INFO, unless set. A filter of the recorder takes
            /// the place of this: see [`Builder::filter`](lookback_recorder::Builder::filter).
            #[must_use]
            pub fn with_max_level(self, level: impl Into<LevelFilter>) -> Self {
                self.with_targets(filter_of(level.into()))
            }

            /// Records what this filter lets through, by level and target. A filter of the recorder
            /// takes the place of this: see [`Builder::filter`](lookback_recorder::Builder::filter).
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

            /// Leaves the values of fields out whose names contain one of these words, beside
            /// [`SECRETS`]. Upper and lower case are one. For the whole process, and for texts, there is
            /// [`Builder::redact_names`](crate::Builder::redact_names).
            #[must_use]
            pub fn redact<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
                self.settings.redaction.add(words);
                self
            }

            /// Records all values, whatever their fields are called. Secrets inside of texts are still left
            /// out, unless the recorder is told to [reveal](crate::Builder::reveal_secrets) them.
            #[must_use]
            pub fn reveal_secrets(mut self) -> Self {
                self.settings.redaction = Redaction::none();
                self
            }
        }
    )*};
}
settings!(Subscriber: "subscriber", Layer: "layer");
