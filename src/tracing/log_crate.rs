//! Records of the `log` crate. Each call site has a site of the recorder, found by target, file and line.
//! Those come with each record as texts that may not outlive it, and a program may make targets up at run
//! time, so the number of sites is bounded. Beyond the bound, each message carries its target and place.

use super::Settings;
use super::callsite::level_of;
use lookback_recorder::integration::{
    FieldBuf, Fields, Passing, Site, StackText, TextBuf, log_passing, site_of_hash, span,
};
use lookback_recorder::{Level, is_recording};
use span::Parent;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::{Interest, NoSubscriber};
use tracing_core::{Dispatch, Event, Metadata, Subscriber};
use tracing_log::{LogTracer, log};

/// How many call sites get a site.
const MOST: usize = 1 << 14;
/// The longest target and the longest file of a call site with a site, in bytes.
const LONGEST: usize = 512;

/// How many there are, approximately: threads that add some at once may each add one too many.
static SITES: AtomicUsize = AtomicUsize::new(0);

/// The fields of a record of the `log` crate.
pub(super) fn passing<'a>(record: &'a Metadata<'_>) -> Passing<'a> {
    Passing {
        name: "log",
        file: record.file().unwrap_or(""),
        line: record.line().unwrap_or(0),
        target: record.target(),
        level: level_of(*record.level()),
        fields: &[],
    }
}

/// The site of a record of the `log` crate. `None` if there are too many.
pub(super) fn site_of(record: &Passing<'_>) -> Option<&'static Site> {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let level = record.level;
    let hash = KEY.hash_one((record.target, record.file, record.line, level as u8));
    let site = site_of_hash(hash, || make(record, level))?;
    let same = site.target_and_level() == Some((record.target, level))
        && site.place() == (record.file, record.line);
    same.then_some(site)
}

#[cold]
fn make(record: &Passing<'_>, level: Level) -> Option<Site> {
    if record.target.len().max(record.file.len()) > LONGEST
        || SITES.fetch_add(1, Ordering::Relaxed) >= MOST
    {
        // Saturate, so that the counter does not wrap around.
        SITES.fetch_min(MOST, Ordering::Relaxed);
        return None;
    }
    // Leaked once, or twice if another thread makes it at the same moment.
    let kept = |text: &str| -> &'static str { Box::leak(text.into()) };
    let place = (kept(record.file), record.line);
    Some(Site::of_callsite("log", &[], place, kept(record.target), level))
}

/// Records what is logged through the `log` crate. If `tracing` has a subscriber, each record becomes an
/// event for that subscriber, which decides whether it is recorded. If there is none, the record is recorded
/// directly: INFO and above, unless a filter of the recorder says otherwise. If the program already forwards
/// records to `tracing` (the `init()` of `tracing-subscriber` does, unless its feature `tracing-log` is off),
/// this does nothing and returns `Ok`.
///
/// # Errors
/// The `log` crate already has another logger, such as `env_logger`. A process has only one: to get both its output
/// and the trace, print with `tracing-subscriber` instead, or pass each record from it to a
/// `tracing_log::LogTracer`.
///
/// ```
/// assert!(lookback::tracing::record_log().is_ok());
/// assert!(lookback::tracing::record_log().is_ok(), "it is done already");
/// ```
pub fn record_log() -> Result<(), LogError> {
    let logger = Logger { tracer: LogTracer::new(), settings: Settings::default() };
    match log::set_boxed_logger(Box::new(logger)) {
        Ok(()) => log::set_max_level(log::LevelFilter::Trace),
        Err(_) if !forwards() => return Err(LogError(())),
        Err(_) => {}
    }
    Ok(())
}

/// Passes records to `tracing`, or records them itself if no subscriber would take them.
struct Logger {
    tracer: LogTracer,
    settings: Settings,
}

impl Logger {
    /// Whether `tracing` has no subscriber on this thread.
    fn is_alone() -> bool {
        tracing_core::dispatcher::get_default(|dispatch| dispatch.is::<NoSubscriber>())
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        if Self::is_alone() {
            let level = recorded_level(metadata.level());
            return is_recording() && self.settings.judge.wants(metadata.target(), level);
        }
        self.tracer.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if !Self::is_alone() {
            return self.tracer.log(record);
        }
        if !self.enabled(record.metadata()) {
            return;
        }
        // Snapshots name the filter.
        self.settings.judge.note_use();
        let passing = Passing {
            name: "log",
            file: record.file().unwrap_or(""),
            line: record.line().unwrap_or(0),
            target: record.target(),
            level: recorded_level(record.level()),
            fields: &[],
        };
        let (mut room, mut text) = (FieldBuf::new(), TextBuf::new());
        let mut message = StackText::format(&mut text, *record.args());
        let fields = Fields::new(&mut room);
        match site_of(&passing) {
            Some(site) => span::log(site, passing.level, &mut message, &fields, Parent::Current),
            None => log_passing(&passing, &mut message, &fields, Parent::Current),
        }
    }

    fn flush(&self) {}
}

fn recorded_level(level: log::Level) -> Level {
    match level {
        log::Level::Error => Level::Error,
        log::Level::Warn => Level::Warn,
        log::Level::Info => Level::Info,
        log::Level::Debug => Level::Debug,
        log::Level::Trace => Level::Trace,
    }
}

/// Records of the `log` crate cannot be recorded: another logger is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogError(());

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "the `log` crate has another logger already, which does not hand records on to `tracing`: remove it \
             and let `tracing-subscriber` print, or have it call `tracing_log::LogTracer::new().log(record)`",
        )
    }
}

impl std::error::Error for LogError {}

/// Whether the logger of the `log` crate passes records to `tracing`: if so, it asks the subscriber about a
/// probe.
fn forwards() -> bool {
    let asked = Arc::new(AtomicUsize::new(0));
    let dispatch = Dispatch::new(Probe(Arc::clone(&asked)));
    tracing_core::dispatcher::with_default(&dispatch, || {
        let question =
            log::Metadata::builder().level(log::Level::Error).target("lookback::log?").build();
        log::logger().enabled(&question);
    });
    drop(dispatch);
    // Callsites must not cache the interest of the probe.
    tracing_core::callsite::rebuild_interest_cache();
    asked.load(Ordering::Relaxed) > 0
}

/// A subscriber that notes that it was asked, and wants nothing.
struct Probe(Arc<AtomicUsize>);

impl Subscriber for Probe {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::never()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn current_span(&self) -> Current {
        Current::none()
    }
}
