//! What the recipes share: they read their own snapshot back, and check what it says.

use lookback::read::analysis::Report;
use lookback::read::{Event, EventKind, Trace, validate};
use lookback::{Recorder, Snapshot};
use std::collections::BTreeMap;
use std::time::Duration;

/// A recorder as a small service would start it.
pub fn start() -> Recorder {
    Recorder::builder()
        .window(Duration::from_secs(60))
        .max_bytes(16 << 20)
        .generation_period(Duration::from_millis(100))
        .start()
        .expect("a recorder starts")
}

/// What a snapshot says, counted.
pub struct Seen {
    pub trace: Trace,
    pub report: Report,
    pub kinds: BTreeMap<String, usize>,
}

impl Seen {
    /// Reads a snapshot back, which must be sound, and lack nothing.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut bytes = Vec::new();
        snapshot.write_to(&mut bytes).expect("memory takes every byte");
        let trace = Trace::from_bytes(bytes).expect("a snapshot can be read");
        let violations: Vec<_> = validate(&trace).iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "{violations:#?}");
        for generation in trace.generations() {
            assert!(generation.lost.is_empty(), "{generation:?}");
        }
        let mut kinds = BTreeMap::new();
        for event in trace.events() {
            let event = event.expect("no event is damaged");
            *kinds.entry(event.kind_name().to_owned()).or_default() += 1;
        }
        let report = Report::of(&trace);
        Self { trace, report, kinds }
    }

    /// How many events of this kind and name there are.
    #[must_use]
    pub fn count(&self, kind: &str, name: &str) -> usize {
        self.events().filter(|event| event.kind_name() == kind && event.name() == name).count()
    }

    /// All events.
    pub fn events(&self) -> impl Iterator<Item = Event> {
        self.trace.events().map(|event| event.expect("no event is damaged"))
    }

    /// How long the regions of this name took, in the order of their ends.
    #[must_use]
    pub fn regions(&self, name: &str) -> Vec<Duration> {
        let length = |event: Event| match event.kind() {
            EventKind::RegionEnd { site: Some(site), duration: Some(took), .. }
                if site.name == name =>
            {
                Some(Duration::from_nanos(took.0))
            }
            _ => None,
        };
        self.events().filter_map(length).collect()
    }

    /// Says in a line that the recipe works.
    pub fn tell(&self, recipe: &str) {
        let events: usize = self.kinds.values().sum();
        println!("{recipe}: {events} events, all sound: {:?}", self.kinds);
    }
}

/// Sends an HTTP request to a server of this machine, and returns the answer.
#[must_use]
pub fn get(address: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("the server listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("the server reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the server answers");
    answer
}
