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
//! Values of fields that are named like secrets are not recorded, unless that is turned off: see
//! [`Subscriber::reveal_secrets`]. Records of the `log` crate come through [`record_log`].

mod callsite;
mod layer;
mod names;
mod redaction;
mod subscriber;
mod values;

pub use callsite::record_log;
pub use layer::{Layer, layer};
pub use redaction::SECRETS;
pub use subscriber::{Subscriber, subscriber};

use redaction::Redaction;
use tracing_core::LevelFilter;

/// What is recorded of spans and events, and what is not.
#[derive(Clone, Debug)]
pub struct Settings {
    level: LevelFilter,
    redaction: Redaction,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: LevelFilter::TRACE, redaction: Redaction::default() }
    }
}

/// Settings, for [`Subscriber`] and for [`Layer`] alike.
macro_rules! settings {
    ($($type:ty),*) => {$(
        impl $type {
            /// Records only what is at least of this level: everything, unless set.
            #[must_use]
            pub fn with_max_level(mut self, level: impl Into<LevelFilter>) -> Self {
                self.settings.level = level.into();
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
settings!(Subscriber, Layer);
