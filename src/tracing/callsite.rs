//! Callsites: the places of spans and events in the source, each registered once.

use lookback_recorder::Level;
use lookback_recorder::integration::{Fields, Passing, Room, Site, callsite, span};
use tracing_core::Metadata;

/// The site of a callsite. `None` if there is no place for it.
#[inline]
pub(super) fn site_of(metadata: &'static Metadata<'static>) -> Option<&'static Site> {
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

/// What stands for the values of a callsite that has no place: nothing is known of which are secrets.
const WITHHELD: &str = "[redacted]";

/// What a span has that has no site of its own: one for each level, by its number less one.
static OTHERS: [Site; 5] = [
    others(Level::Trace),
    others(Level::Debug),
    others(Level::Info),
    others(Level::Warn),
    others(Level::Error),
];

const fn others(level: Level) -> Site {
    Site::of_callsite("(other)", &["target", "callsite", "values"], ("", 0), "(other)", level)
}

/// A span begins whose callsite has no place: target and name are recorded as fields, no value is.
#[cold]
pub(super) fn create_nameless(metadata: &Metadata<'_>, parent: span::Parent) -> span::Name {
    let site = &OTHERS[level_of(*metadata.level()) as usize - 1];
    let mut room = Room::new();
    let mut fields = Fields::new(&mut room);
    fields.text(0, metadata.target());
    fields.text(1, metadata.name());
    if !metadata.fields().is_empty() {
        fields.text(2, WITHHELD);
    }
    span::create(site, parent, &fields)
}

/// What an event has that has no site of its own, and its values with it.
#[cold]
pub(super) fn nameless<'a>(
    metadata: &'a Metadata<'_>,
    room: &'a mut Room,
) -> (Passing<'a>, Fields<'a>) {
    let mut fields = Fields::new(room);
    if metadata.fields().iter().any(|field| field.name() != "message") {
        fields.text(0, WITHHELD);
    }
    let passing = Passing {
        name: metadata.name(),
        file: metadata.file().unwrap_or(""),
        line: metadata.line().unwrap_or(0),
        target: metadata.target(),
        level: level_of(*metadata.level()),
        fields: &["values"],
    };
    (passing, fields)
}

/// The mark of a site that stands for callsites without a place: everything is secret.
pub(super) static SECRET: Site = Site::new("(other)", &[], "", 0).with_mark(u64::MAX, &());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_has_a_site_for_spans_without_a_place() {
        for (at, site) in OTHERS.iter().enumerate() {
            assert_eq!(site.target_and_level().map(|(_, level)| level as usize), Some(at + 1));
        }
    }
}
