//! Callsites: the places of spans and events in the source, each registered once.

use lookback_recorder::Level;
use lookback_recorder::integration::{Site, callsite};
use std::collections::HashSet;
use std::sync::Mutex;
use tracing_core::Metadata;

/// So many targets of the `log` crate have a name of their own.
const MOST_TARGETS: usize = 4096;

/// The site of a callsite.
#[inline]
pub(super) fn site_of(metadata: &'static Metadata<'static>) -> &'static Site {
    callsite(std::ptr::from_ref(metadata) as usize, || make(metadata))
}

/// The metadata that a site was made of.
pub(super) fn metadata_of(site: &Site) -> Option<&'static Metadata<'static>> {
    site.origin()
}

#[cold]
fn make(metadata: &'static Metadata<'static>) -> Site {
    let names: Vec<&'static str> =
        metadata.fields().iter().map(|field| plain(field.name())).collect();
    let place = (metadata.file().unwrap_or(""), metadata.line().unwrap_or(0));
    let level = level_of(*metadata.level());
    // As a callsite, it is there for ever, once.
    let names = Box::leak(names.into_boxed_slice());
    Site::of_callsite(metadata.name(), names, place, metadata.target(), level)
        .with_mark(0, metadata)
}

/// The name of a field without the marks of raw identifiers: of `r#type` it is `type`.
fn plain(name: &'static str) -> &'static str {
    let is_raw = |part: &str| part.starts_with("r#");
    if !name.split('.').any(is_raw) {
        return name;
    }
    let parts = name.split('.').map(|part| part.strip_prefix("r#").unwrap_or(part));
    // As a callsite, it is there for ever, once.
    Box::leak(parts.collect::<Vec<_>>().join(".").into_boxed_str())
}

pub(super) fn level_of(level: tracing_core::Level) -> Level {
    match level {
        tracing_core::Level::ERROR => Level::Error,
        tracing_core::Level::WARN => Level::Warn,
        tracing_core::Level::INFO => Level::Info,
        tracing_core::Level::DEBUG => Level::Debug,
        _ => Level::Trace,
    }
}

/// The site of a record of the `log` crate, all of which have one callsite a level: by their target.
/// `None` if there are too many.
pub(super) fn site_of_log(
    metadata: &Metadata<'_>,
    fields: &'static Metadata<'static>,
) -> Option<&'static Site> {
    static TARGETS: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let known = |targets: &Option<HashSet<&'static str>>| {
        targets.as_ref().and_then(|targets| targets.get(metadata.target()).copied())
    };
    // Nobody waits for it: who finds the table taken does without a name of its own for once.
    let found = known(&*TARGETS.try_lock().ok()?);
    let target = match found {
        Some(target) => target,
        None => {
            // Allocated without the lock: an allocator may log, too.
            let target: &'static str = Box::leak(metadata.target().into());
            let mut targets = TARGETS.try_lock().ok()?;
            let targets = targets.get_or_insert_with(|| HashSet::with_capacity(MOST_TARGETS));
            if targets.len() >= MOST_TARGETS {
                return None;
            }
            targets.insert(target);
            target
        }
    };
    let level = level_of(*metadata.level());
    let address = target.as_ptr() as usize ^ (level as usize) << 56;
    Some(callsite(address, || {
        let names: Vec<&'static str> = fields.fields().iter().map(|field| field.name()).collect();
        Site::of_callsite("log", Box::leak(names.into_boxed_slice()), ("", 0), target, level)
    }))
}

/// Turns what is logged through the `log` crate into events of `tracing`, and so into logs of the
/// trace. To be called once, beside setting a subscriber.
///
/// # Errors
/// The `log` crate has a logger already.
///
/// ```
/// assert!(lookback::tracing::record_log().is_ok());
/// assert!(lookback::tracing::record_log().is_err());
/// ```
pub fn record_log() -> Result<(), impl std::error::Error> {
    tracing_log::LogTracer::init()
}
