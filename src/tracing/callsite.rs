//! Callsites of `tracing`: registers each once as a site of the recorder.

use lookback_recorder::Level;
use lookback_recorder::integration::{FieldBuf, Fields, Passing, Site, callsite, span};
use tracing_core::Metadata;

/// The site of a callsite. `None` if the table of sites is full.
#[inline]
pub(super) fn site_of(metadata: &'static Metadata<'static>) -> Option<&'static Site> {
    callsite(std::ptr::from_ref(metadata) as usize, || make(metadata))
}

/// The metadata from which a site was made.
pub(super) fn metadata_of(site: &Site) -> Option<&'static Metadata<'static>> {
    site.origin()
}

#[cold]
fn make(metadata: &'static Metadata<'static>) -> Site {
    let names: Vec<&'static str> =
        metadata.fields().iter().map(|field| plain(field.name())).collect();
    let place = (metadata.file().unwrap_or(""), metadata.line().unwrap_or(0));
    let level = level_of(*metadata.level());
    // Leaked once, like the callsite itself.
    let names = Box::leak(names.into_boxed_slice());
    Site::of_callsite(metadata.name(), names, place, metadata.target(), level)
        .with_mark(0, metadata)
}

/// The name of a field without the prefix of raw identifiers: `type` for `r#type`.
fn plain(name: &'static str) -> &'static str {
    let is_raw = |part: &str| part.starts_with("r#");
    if !name.split('.').any(is_raw) {
        return name;
    }
    let parts = name.split('.').map(|part| part.strip_prefix("r#").unwrap_or(part));
    // Leaked once, like the callsite itself.
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

/// Replaces the values of a callsite without a site: the recorder cannot know which are secrets.
const WITHHELD: &str = "[redacted]";

/// The sites of spans without their own: one for each level, by its number less one.
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

/// Begins a span whose callsite has no site: records target and name as fields, but no value.
#[cold]
pub(super) fn create_nameless(metadata: &Metadata<'_>, parent: span::Parent) -> span::Name {
    let site = &OTHERS[level_of(*metadata.level()) as usize - 1];
    let mut room = FieldBuf::new();
    let mut fields = Fields::new(&mut room);
    fields.text(0, metadata.target());
    fields.text(1, metadata.name());
    if !metadata.fields().is_empty() {
        fields.text(2, WITHHELD);
    }
    span::create(site, parent, &fields)
}

/// The schema of events without a site of their own.
#[cold]
pub(super) fn nameless<'a>(
    metadata: &'a Metadata<'_>,
    room: &'a mut FieldBuf,
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

/// Marks the sites that stand for callsites without one: every value is secret.
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
