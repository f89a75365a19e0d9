//! Programs with many callsites and many targets: each appears under its own name, and no secret is recorded.
//! Beyond the table's room, level and target stay, values do not, and their number is reported.

mod common;

use common::alone;
use lookback::Recorder;
use lookback::read::wire::{Level, key};
use lookback::read::{Event, EventKind, Trace};
use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::ffi::CString;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicPtr, Ordering};
use std::time::Duration;
use tracing::callsite::Identifier;
use tracing::field::{FieldSet, ValueSet};
use tracing::metadata::Kind;
use tracing::subscriber::{Interest, Subscriber, with_default};
use tracing::{Callsite, Metadata};
use tracing_subscriber::layer::SubscriberExt;

/// The number of bytes allocated right now.
static LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The longest search in a table that is a third full: lines of four entries.
const FAR: usize = 10;

/// A callsite like those of `tracing`'s macros: statics, side by side.
struct Place {
    metadata: Metadata<'static>,
    _interest: AtomicPtr<()>,
}

impl Callsite for Place {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        &self.metadata
    }
}

const FIELDS: &[&str] = &["message", "password", "count"];

impl Place {
    /// Makes the callsite with this number at this address, which it keeps.
    fn make(at: *mut Self, number: usize, kind: Kind, level: tracing::Level) -> &'static Self {
        // SAFETY: only its address is used before it is written.
        let identifier = Identifier(unsafe { &*at });
        let kept = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
        let (name, target) = (kept(format!("name {number}")), kept(format!("target::{number}")));
        let (file, line) = (Some("of/many.rs"), Some(number as u32));
        let fields = FieldSet::new(FIELDS, identifier);
        let metadata = Metadata::new(name, target, level, file, line, None, fields, kind);
        // SAFETY: the caller's memory is aligned, large enough, and used by nothing else.
        unsafe {
            at.write(Self { metadata, _interest: AtomicPtr::default() });
            &*at
        }
    }

    fn with_values(&'static self, work: impl FnOnce(&'static Metadata<'static>, &ValueSet<'_>)) {
        let mut fields = self.metadata.fields().iter();
        let [message, password, count] = std::array::from_fn(|_| fields.next().unwrap());
        let (text, secret) = (format_args!("said"), "hunter2");
        let values: [(&_, Option<&dyn tracing::Value>); 3] =
            [(&message, Some(&text)), (&password, Some(&secret)), (&count, Some(&7_u64))];
        work(&self.metadata, &self.metadata.fields().value_set(&values));
    }

    fn log(&'static self) {
        self.with_values(|metadata, values| tracing::Event::dispatch(metadata, values));
    }

    fn span(&'static self) {
        self.with_values(|metadata, values| drop(tracing::Span::new(metadata, values)));
    }
}

/// Memory for this many callsites, in a shared object that is built and loaded for it.
fn shared_object(directory: &std::path::Path, number: usize, places: usize) -> *mut Place {
    let (source, library) = (directory.join("room.rs"), directory.join(format!("lib{number}.so")));
    let bytes = places * size_of::<Place>();
    let text = format!(
        "#[repr(align(64))] pub struct Room([u8; {bytes}]);\n\
         #[unsafe(no_mangle)] pub static mut ROOM: Room = Room([0; {bytes}]);\n"
    );
    std::fs::write(&source, text).unwrap();
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--edition=2024", "--crate-type=cdylib", "-Cpanic=abort", "-o"])
        .args([&library, &source])
        .output()
        .expect("there is a compiler where tests are built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let library = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: the library runs nothing; the names are terminated.
    let room = unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOW);
        assert!(!handle.is_null(), "it can be loaded");
        libc::dlsym(handle, c"ROOM".as_ptr())
    };
    assert!(!room.is_null(), "it has the room");
    room.cast()
}

/// Through the subscriber and the layer, at the most detailed level.
fn ways() -> [Arc<dyn Subscriber + Send + Sync>; 2] {
    let level = tracing::Level::TRACE;
    let layer = lookback::tracing::layer().with_max_level(level);
    [
        Arc::new(lookback::tracing::subscriber().with_max_level(level)),
        Arc::new(tracing_subscriber::registry().with(layer)),
    ]
}

fn start() -> Recorder {
    common::start_with(128 << 20, Duration::from_secs(3600))
}

fn fields(event: &Event) -> Vec<(String, String)> {
    let own =
        |(name, _): &(String, String)| !["level", "message", "span", "parent"].contains(&&**name);
    event.fields().map(|(name, value)| (name.to_owned(), value.to_string())).filter(own).collect()
}

/// A message: its target, file, line, level, and fields in words.
type Log = (String, String, u32, Level, Vec<(String, String)>);

/// Each message of a trace.
fn logs(trace: &Trace) -> Vec<Log> {
    let events = common::events(trace);
    let logs = events.filter_map(|event| match event.kind() {
        EventKind::Log { level, site, message } => {
            assert!(message.to_string().starts_with("said"), "{message}");
            let (target, file) = (site.name.to_owned(), site.file.to_owned());
            Some((target, file, site.line, level, fields(&event)))
        }
        _ => None,
    });
    logs.collect()
}

#[test]
fn each_of_ten_thousand_callsites_of_two_shared_objects_is_known_and_keeps_its_secrets() {
    let name =
        "each_of_ten_thousand_callsites_of_two_shared_objects_is_known_and_keeps_its_secrets";
    alone(name, || {
        const PLACES: usize = 10_000;
        let directory = tempfile::tempdir().unwrap();
        let rooms = [1, 2].map(|number| shared_object(directory.path(), number, PLACES));
        let mut places = Vec::new();
        for (library, room) in rooms.into_iter().enumerate() {
            for index in 0..PLACES {
                let number = library * PLACES + index;
                // Every tenth one is a span's.
                let kind = if number.is_multiple_of(10) { Kind::SPAN } else { Kind::EVENT };
                let level = tracing::Level::TRACE;
                // SAFETY: the memory has room for this many.
                places.push(Place::make(unsafe { room.add(index) }, number, kind, level));
            }
        }
        let redacted = [("password", "[redacted]"), ("count", "7")];
        let redacted = redacted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for subscriber in ways() {
            let recorder = start();
            with_default(subscriber, || {
                for place in &places {
                    if place.metadata.is_span() { place.span() } else { place.log() }
                }
            });
            assert_eq!(recorder.stats().nameless, 0);
            let trace = common::stop(recorder);
            assert_eq!(common::lost(&trace), 0);
            let logs = logs(&trace);
            assert_eq!(logs.len(), 2 * PLACES * 9 / 10);
            let numbers = (0..2 * PLACES).filter(|number| !number.is_multiple_of(10));
            for (log, number) in logs.iter().zip(numbers) {
                let expected = (format!("target::{number}"), "of/many.rs".to_owned());
                assert_eq!((&log.0, &log.1), (&expected.0, &expected.1));
                assert_eq!((log.2 as usize, log.3, &*log.4), (number, Level::Trace, &redacted[..]));
            }
            let mut spans = 0;
            for event in common::events(&trace) {
                if let EventKind::SpanCreate { site, .. } = event.kind() {
                    assert_eq!(site.name, format!("name {}", spans * 10));
                    assert!(fields(&event).ends_with(&redacted));
                    spans += 1;
                }
            }
            assert_eq!(spans, 2 * PLACES / 10);
            let (sites, longest) = lookback::__private::longest_way();
            assert!(sites >= 2 * PLACES && longest <= FAR, "{longest} lines for {sites} sites");
        }
    });
}

/// Hundreds of callsites, made by the macros.
macro_rules! many {
    () => { tracing::trace!(password = "hunter2", count = 7_u64, "said") };
    ($one:tt $($more:tt)*) => {{ many!($($more)*); many!($($more)*); }};
}

#[test]
fn callsites_that_the_macros_make_are_known_each_by_itself() {
    alone("callsites_that_the_macros_make_are_known_each_by_itself", || {
        for subscriber in ways() {
            let recorder = start();
            with_default(subscriber, || many!(1 2 3 4 5 6 7 8 9));
            let trace = common::stop(recorder);
            let logs = logs(&trace);
            assert_eq!(logs.len(), 512);
            for (target, .., fields) in logs {
                assert_eq!(target, "many_callsites");
                assert_eq!(fields[0].1, "[redacted]");
            }
            assert!(lookback::__private::longest_way().1 <= FAR);
        }
    });
}

fn log(target: &str, line: u32) {
    let record = log::Record::builder();
    let mut record = record;
    let record = record.target(target).file(Some("a/library.rs")).line(Some(line));
    log::logger().log(&record.level(log::Level::Debug).args(format_args!("said")).build());
}

#[test]
fn each_of_many_log_targets_is_told_with_its_place_and_takes_no_memory_for_ever() {
    let name = "each_of_many_log_targets_is_told_with_its_place_and_takes_no_memory_for_ever";
    alone(name, || {
        lookback::tracing::record_log().unwrap();
        let turns = if common::long() { 1_000_000 } else { 60_000 };
        for subscriber in ways() {
            let recorder = start();
            with_default(subscriber, || {
                // Twice, and more of them than there are entries.
                for number in (0..10_000).chain(0..10_000).chain(10_000..30_000_u32) {
                    log(&format!("library::{number}"), number);
                }
            });
            let trace = common::stop(recorder);
            assert_eq!(common::lost(&trace), 0);
            let logs = logs(&trace);
            assert_eq!(logs.len(), 40_000);
            let numbers = (0..10_000).chain(0..10_000).chain(10_000..30_000_u32);
            for (log, number) in logs.into_iter().zip(numbers) {
                let (target, file) = (format!("library::{number}"), "a/library.rs".to_owned());
                assert_eq!(log, (target, file, number, Level::Debug, Vec::new()));
            }
        }
        let recorder = common::start_with(1 << 20, Duration::from_secs(3600));
        with_default(ways()[0].clone(), || {
            let before = LIVE.load(Ordering::Relaxed);
            for number in 0..turns {
                log(&format!("made::up::{number}"), 1);
            }
            let grown = LIVE.load(Ordering::Relaxed) - before;
            assert!(grown < 1 << 20, "{grown} bytes for {turns} targets");
        });
        let trace = common::stop(recorder);
        assert_eq!(logs(&trace).last().unwrap().0, format!("made::up::{}", turns - 1));
    });
}

#[test]
fn a_callsite_without_a_place_keeps_level_and_target_and_no_value_and_is_counted() {
    let name = "a_callsite_without_a_place_keeps_level_and_target_and_no_value_and_is_counted";
    alone(name, || {
        // More than the table holds, so that some have no entry, through both.
        const PLACES: usize = 70_000;
        let level = tracing::Level::WARN;
        let room = || Box::into_raw(Box::new(std::mem::MaybeUninit::<Place>::uninit())).cast();
        let places: Vec<_> =
            (0..PLACES).map(|number| Place::make(room(), number, Kind::EVENT, level)).collect();
        let spans: Vec<_> =
            (0..10).map(|number| Place::make(room(), number, Kind::SPAN, level)).collect();
        for subscriber in ways() {
            let trigger = lookback::Trigger::log(lookback::Level::Warn);
            let last = format!("target::{}", PLACES - 1);
            let directory = tempfile::tempdir().unwrap();
            let recorder = Recorder::builder()
                .max_bytes(128 << 20)
                // However long it takes, all of it is within the window.
                .window(Duration::from_secs(600))
                .generation_period(Duration::from_secs(5))
                .snapshot_dir(directory.path())
                .trigger(trigger.target(last.as_str()))
                .start()
                .unwrap();
            // `reveal_secrets` does not change that they have no names of their own.
            with_default(subscriber, || {
                places.iter().for_each(|place| place.log());
                spans.iter().for_each(|place| place.span());
            });
            let nameless = recorder.stats().nameless;
            assert!((3000..PLACES as u64).contains(&nameless), "{nameless}");
            let fired = || recorder.stats().triggers.fired >= 1;
            assert!(common::wait_for(fired), "{:?}", recorder.stats());
            let trace = common::stop(recorder);
            assert_eq!(trace.metadata().number(key::NAMELESS), Some(nameless));
            let mut withheld = 0;
            let all = logs(&trace);
            assert_eq!(all.len(), PLACES);
            for (number, (target, file, line, level, fields)) in all.into_iter().enumerate() {
                assert_eq!(target, format!("target::{number}"));
                assert_eq!((&*file, line as usize, level), ("of/many.rs", number, Level::Warn));
                let fields: HashMap<_, _> = fields.into_iter().collect();
                if fields.get("values").is_some_and(|value| value == "[redacted]") {
                    withheld += 1;
                    assert_eq!(fields.len(), 1);
                } else {
                    assert_eq!(fields["password"], "[redacted]");
                }
            }
            assert!(withheld >= 3000);
            let others: Vec<_> = common::events(&trace)
                .filter_map(|event| match event.kind() {
                    EventKind::SpanCreate { site, .. } if site.name == "(other)" => {
                        Some(fields(&event))
                    }
                    _ => None,
                })
                .collect();
            assert!(!others.is_empty());
            for fields in others {
                let fields: HashMap<_, _> = fields.into_iter().collect();
                assert!(fields["target"].starts_with("target::"), "{fields:?}");
                assert!(fields["callsite"].starts_with("name "), "{fields:?}");
                assert_eq!(fields["values"], "[redacted]");
            }
        }
    });
}
