//! What is logged through the `log` crate: each place in the source that logs has a site, by its target and
//! its file and line. Those come with each record, as texts that may be gone afterwards, and the texts of a
//! target may be made up at any time; so the sites are as many as a bound allows. Beyond it a message brings
//! its target and place with it.

use super::Settings;
use super::callsite::level_of;
use lookback_recorder::integration::{
    Fields, Passing, Room, Site, StackText, TextRoom, log_passing, site_of_hash, span,
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

/// So many places have a site.
const MOST: usize = 1 << 14;
/// The longest target and the longest file of a place that has one, in bytes.
const LONGEST: usize = 512;

/// How many have one, about: threads that make some at once may each make one more.
static SITES: AtomicUsize = AtomicUsize::new(0);

/// What a record of the `log` crate says of itself.
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

/// The site of where a record of the `log` crate comes from. `None` if there are too many.
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
        // No more than it may be: it is not to come round.
        SITES.fetch_min(MOST, Ordering::Relaxed);
        return None;
    }
    // It is there for ever, once, unless another thread makes it at the same moment.
    let kept = |text: &str| -> &'static str { Box::leak(text.into()) };
    let place = (kept(record.file), record.line);
    Some(Site::of_callsite("log", &[], place, kept(record.target), level))
}

/// Records what is logged through the `log` crate. Where `tracing` has a subscriber, it becomes an event of
/// that, and so a log of the trace, or not, as the subscriber has it; where there is none, it is recorded at
/// once: INFO and above, unless a filter of the recorder says something else. Where the program does that already (the `init()`
/// of `tracing-subscriber` does, unless its feature `tracing-log` is off), there is nothing left to do, and
/// that is no error.
///
/// # Errors
/// The `log` crate has a logger already that does something else with records, `env_logger` say. There is
/// one a process: to have its output and the trace, let `tracing-subscriber` print instead of it, or hand
/// each record on to a `tracing_log::LogTracer` from it.
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

/// Hands records on to `tracing`, or records them itself where nobody would take them.
struct Logger {
    tracer: LogTracer,
    settings: Settings,
}

impl Logger {
    /// Whether `tracing` has nobody on this thread who takes what is handed on to it.
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
        // Snapshots tell by which filter.
        self.settings.judge.note_use();
        let passing = Passing {
            name: "log",
            file: record.file().unwrap_or(""),
            line: record.line().unwrap_or(0),
            target: record.target(),
            level: recorded_level(record.level()),
            fields: &[],
        };
        let (mut room, mut text) = (Room::new(), TextRoom::new());
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

/// Why records of the `log` crate cannot be recorded.
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

/// Whether the logger of the `log` crate hands records on to `tracing`: it asks the subscriber whether it
/// is to.
fn forwards() -> bool {
    let asked = Arc::new(AtomicUsize::new(0));
    let dispatch = Dispatch::new(Probe(Arc::clone(&asked)));
    tracing_core::dispatcher::with_default(&dispatch, || {
        let question =
            log::Metadata::builder().level(log::Level::Error).target("lookback::log?").build();
        log::logger().enabled(&question);
    });
    drop(dispatch);
    // What callsites remember of the probe is to be forgotten.
    tracing_core::callsite::rebuild_interest_cache();
    asked.load(Ordering::Relaxed) > 0
}

/// Notes that it is asked of a message, and wants none.
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
