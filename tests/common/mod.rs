//! Helpers of the whole-system tests: a process for each test, reading snapshots back, looking at the arena
//! from outside.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub mod chains;
pub mod plugin;
pub mod saved;
#[cfg(target_os = "linux")]
pub mod seccomp;

use lookback::read::wire::{ArenaHeader, Blocks, Generation, offset};
use lookback::read::{DecodedGeneration, Event, EventKind, Trace, Value, validate};
use lookback::{Recorder, Snapshot};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ALONE: &str = "LOOKBACK_TEST_ALONE";

/// A test in its own process counts as hanging after this many seconds, and is killed.
const HANGS: u32 = 900;

/// From now on this process is killed if it hangs.
pub fn must_end() {
    // SAFETY: the call has no preconditions.
    unsafe { libc::alarm(HANGS) };
}

/// Runs the body of the test `name` in a process of its own: a process has one recorder, and signals, limits,
/// filters and memory belong to the whole process.
pub fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var(ALONE).is_ok_and(|alone| alone == name) {
        must_end();
        return body();
    }
    let executable = std::env::current_exe().expect("a test has an executable");
    let output = Command::new(executable)
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .output()
        .expect("a test can run itself again");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && text.contains("1 passed");
    assert!(passed, "{name}, in a process of its own: {}\n{text}\n{errors}", output.status);
    for line in text.lines().filter(|line| line.contains("::")) {
        println!("{line}");
    }
}

/// Whether there is time for the long form of a test: `LOOKBACK_LONG=1`.
pub fn long() -> bool {
    std::env::var_os("LOOKBACK_LONG").is_some_and(|value| value != "0")
}

/// The snapshot, read back.
pub fn read(snapshot: &Snapshot) -> Trace {
    let mut file = Vec::new();
    let length = snapshot.write_to(&mut file).expect("memory takes every byte");
    assert_eq!(length, file.len() as u64, "the length that was told");
    Trace::from_bytes(file).expect("a snapshot can be read")
}

/// Checks that a trace is sound.
pub fn assert_sound(trace: &Trace) {
    assert!(trace.damage().is_empty(), "damage: {:?}", trace.damage());
    let violations = validate(trace);
    let words: Vec<_> = violations.iter().take(20).map(ToString::to_string).collect();
    assert!(words.is_empty(), "{} violations: {words:#?}", violations.len());
}

/// Every event of a trace, none of which may be damaged; times never decrease.
pub fn events(trace: &Trace) -> impl Iterator<Item = Event> {
    let mut latest = 0;
    trace.events().map(move |event| {
        let event = event.expect("no event is damaged");
        assert!(event.time().0 >= latest, "time goes back");
        latest = event.time().0;
        event
    })
}

/// How many events a trace says it has.
pub fn count(trace: &Trace) -> u64 {
    trace.generations().iter().map(|generation| generation.events).sum()
}

/// The number of an event's field.
pub fn number(event: &Event, field: &str) -> Option<u64> {
    event.fields().find(|(name, _)| *name == field).and_then(|(_, value)| match value {
        Value::Unsigned(value) => Some(value),
        Value::Signed(value) => u64::try_from(value).ok(),
        _ => None,
    })
}

/// The text of an event's field, and whether it was cut.
pub fn text(event: &Event, field: &str) -> Option<(String, bool)> {
    event.fields().find(|(name, _)| *name == field).and_then(|(_, value)| match value {
        Value::Text(text) => Some((text.to_string(), text.cut)),
        _ => None,
    })
}

/// Lost events of all causes, according to a snapshot's metadata.
pub fn lost(trace: &Trace) -> u64 {
    let cause = |(name, _): &(&str, _)| name.starts_with(lookback::read::wire::key::LOST);
    let names: Vec<_> = trace.metadata().iter().filter(cause).map(|(name, _)| name).collect();
    names.iter().map(|name| trace.metadata().number(name).expect("a count")).sum()
}

/// Events recorded since the start, according to a snapshot's metadata.
pub fn recorded(trace: &Trace) -> u64 {
    trace.metadata().number(lookback::read::wire::key::RECORDED).expect("a count")
}

/// Calls `done` until it returns true, for at most a minute; the deadline only ends the wait. Returns the
/// last result.
pub fn wait_for(mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    done()
}

/// Ends the running generation. Tries again if the machine stops a writer inside an event for half a second.
pub fn advance(recorder: &Recorder) {
    let advanced = (0..20).any(|_| recorder.advance());
    assert!(advanced, "a generation cannot be completed: {:?}", recorder.stats());
}

/// A number in each thread and each event, so that every one is accounted for.
#[derive(Debug, Default)]
pub struct Emitted(AtomicU64);

impl Emitted {
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts this many events.
    pub fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The memory of this process, in bytes: all that is resident of its own, and how much of it is shared (which includes
/// the arena).
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: u64,
    pub shared: u64,
}

impl Memory {
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).expect("a field");
            let number = line.split_whitespace().nth(1).expect("a number");
            number.parse::<u64>().expect("a number") * 1024
        };
        // Without pages of files: the kernel maps as many of a program's code around a fault as it has at hand.
        let shared = field("RssShmem:");
        Self { resident: field("RssAnon:") + shared, shared }
    }
}

/// The arena of this process, seen from outside, through its descriptor.
pub struct Outside(File);

/// What an outside reader finds in the arena.
#[derive(Debug)]
pub struct Seen {
    pub header: ArenaHeader,
    /// For each complete generation that was still whole after the copy: the number of events according to
    /// the header, and according to its blocks.
    pub complete: HashMap<u64, (u64, u64)>,
}

impl Outside {
    /// Finds the arena among this process's descriptors.
    pub fn find() -> Option<Self> {
        let entries = std::fs::read_dir("/proc/self/fd").ok()?;
        let arena = entries.flatten().map(|entry| entry.path()).find(|path| {
            std::fs::read_link(path)
                .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:lookback"))
        })?;
        File::open(arena).ok().map(Self)
    }

    pub fn header(&self) -> Option<ArenaHeader> {
        let mut bytes = vec![0; offset::DATA];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        ArenaHeader::parse(&bytes).ok()
    }

    /// Copies everything, and counts the events of complete generations.
    pub fn copy(&self) -> Option<Seen> {
        let header = self.header()?;
        // The copy of the header is not of one instant: if it is inconsistent, it is no copy.
        let length = header.head.0.checked_sub(header.tail.0)?;
        if length > header.capacity {
            return None;
        }
        let mut bytes = vec![0; length as usize];
        let at = header.tail.0 % header.capacity;
        let first = length.min(header.capacity - at) as usize;
        self.0.read_exact_at(&mut bytes[..first], offset::DATA as u64 + at).ok()?;
        self.0.read_exact_at(&mut bytes[first..], offset::DATA as u64).ok()?;
        let after = self.header()?;
        let whole = |number: Generation| {
            let entry = header.entry(number)?;
            let is_whole = entry.start >= after.tail && after.entry(number) == Some(entry);
            (is_whole && entry.is_complete()).then_some(*entry)
        };
        let mut complete: HashMap<u64, (u64, u64)> = (header.oldest.0..=header.complete.0)
            .filter_map(|number| Some((number, (whole(Generation(number))?.events, 0))))
            .collect();
        for block in Blocks::new(&bytes, header.tail) {
            if let Some((_, found)) = complete.get_mut(&block.header.generation.0) {
                *found += u64::from(block.events);
            }
        }
        Some(Seen { header, complete })
    }
}

impl Seen {
    /// Checks that every complete generation holds what its header says.
    pub fn assert_sound(&self) {
        for (number, (said, found)) in &self.complete {
            assert_eq!(said, found, "events of generation {number}, seen from outside");
        }
    }
}

/// Checks that a generation can be understood without any other: all names are known, every event has its
/// thread, every end its beginning.
pub fn assert_complete_in_itself(generation: &DecodedGeneration) {
    let number = generation.number();
    assert!(generation.info().damage.is_none(), "{number}: {:?}", generation.info().damage);
    // Of regions deeper than the recorder restates, only the number is known.
    let deeper: Vec<_> = generation
        .statuses()
        .filter(|state| state.deeper() > 0)
        .filter_map(|state| Some(state.thread()?.number))
        .collect();
    let mut count = 0;
    for event in generation.events() {
        let event = event.expect("no event is damaged");
        let thread = event.thread().unwrap_or_else(|| panic!("{number}: whose is {event:?}?"));
        assert_ne!(thread.os_thread, 0, "{number}: the thread of {event:?} is not stated");
        let is_deeper = matches!(event.kind(), EventKind::RegionEnd { site: None, .. })
            && deeper.contains(&thread.number);
        assert!(is_deeper || event.name() != "?", "{number}: what is {event:?}?");
        assert!(event.fields().all(|(name, _)| name != "?"), "{number}: the fields of {event:?}");
        count += 1;
    }
    assert_eq!(count, generation.info().events, "{number}: events");
    for state in generation.statuses() {
        assert_ne!(state.thread().expect("a status is of a thread").os_thread, 0);
        assert!(state.regions().all(|region| region.site.name != "?"), "{number}: a region's name");
    }
    let end = generation.end_record().unwrap_or_else(|| panic!("{number} has no end record"));
    assert_eq!(end.events, count, "{number}: events, as its end record has it");
}

/// A recorder that keeps everything that fits, and records nothing that the program does not do.
pub fn start_with(max_bytes: usize, period: Duration) -> Recorder {
    // No more than a thousand generations are kept.
    let window = if period.is_zero() { Duration::MAX } else { period * 900 };
    Recorder::builder()
        .window(window.min(Duration::from_secs(3600)))
        .max_bytes(max_bytes)
        .generation_period(period)
        .found_ranges(false)
        .start()
        .expect("a recorder starts")
}

/// Stops, checks the last snapshot, and returns it read.
pub fn stop(recorder: Recorder) -> Trace {
    let trace = read(&recorder.stop().expect("it stops"));
    assert_sound(&trace);
    trace
}
