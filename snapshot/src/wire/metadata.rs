//! Metadata: what a snapshot says about itself and the process it comes from.
//!
//! A list of named values. Each is the name (length as varint, then UTF-8), the code of the value's type (one
//! byte), and the value. A repeated name is a list; unknown names are kept.

use super::varint::{get_varint, put_varint, unzigzag, zigzag};

/// Names of the metadata that tools rely on.
pub mod key {
    /// Text: the version of the recorder.
    pub const RECORDER: &str = "recorder.version";
    /// Text: the process's name.
    pub const PROCESS_NAME: &str = "process.name";
    /// Number: the process ID.
    pub const PROCESS_PID: &str = "process.pid";
    /// Text: the path of its executable.
    pub const PROCESS_EXECUTABLE: &str = "process.executable";
    /// Text, repeated: an argument of its command line, the command included.
    pub const PROCESS_ARGUMENT: &str = "process.argument";
    /// Text: the GNU build id of the executable, in hexadecimal.
    pub const PROCESS_BUILD_ID: &str = "process.build_id";
    /// Text: the machine's name.
    pub const HOST_NAME: &str = "host.name";
    /// Text: the operating system and its version.
    pub const HOST_SYSTEM: &str = "host.system";
    /// Number: how many cores the process may use, by its affinity and its control group.
    pub const HOST_CORES: &str = "host.cores";
    /// Text: the machine's boot ID.
    pub const BOOT_ID: &str = "host.boot_id";
    /// Text: the clock that ticks come from.
    pub const CLOCK: &str = "clock.kind";
    /// Number: ticks a second.
    pub const CLOCK_FREQUENCY: &str = "clock.frequency";
    /// Text: why the snapshot was taken. Repeated if several triggers share it, in the order in which they
    /// fired.
    pub const REASON: &str = "reason";
    /// Text: what took it: `request`, `stop`, or the name of a trigger. As often as the reason.
    pub const TRIGGER: &str = "trigger";
    /// Number: further triggers that share it, not named.
    pub const MORE_REASONS: &str = "reasons.more";
    /// Text: name and number of the thread that fired the trigger. As often as the reason.
    pub const TRIGGER_THREAD: &str = "trigger.thread";
    /// Text: the message of a panic.
    pub const PANIC_MESSAGE: &str = "panic.message";
    /// Text: where the panic happened: file, line, column.
    pub const PANIC_LOCATION: &str = "panic.location";
    /// Text: the task in which the panic happened.
    pub const PANIC_TASK: &str = "panic.task";
    /// Text: the innermost span in which the panic happened.
    pub const PANIC_SPAN: &str = "panic.span";
    /// Text: when the snapshot was taken, in local time (RFC 3339).
    pub const TAKEN: &str = "taken";
    /// Number: when the snapshot was taken, in nanoseconds since 1970-01-01 UTC.
    pub const TAKEN_WALL: &str = "taken.wall_ns";
    /// Number: the configured window, in nanoseconds.
    pub const WINDOW: &str = "window_ns";
    /// Number: the first generation of this recorder; 1 if absent. Successive recorders of a process continue
    /// counting.
    pub const FIRST_GENERATION: &str = "generation.first";
    /// Number: how far back the snapshot goes, in nanoseconds.
    pub const COVERED: &str = "covered_ns";
    /// Number: the bound on the recorder's memory.
    pub const MAX_BYTES: &str = "max_bytes";
    /// Number: events recorded since the start, including reclaimed ones.
    pub const RECORDED: &str = "recorded_total";
    /// Number, with the name of a cause after it: events lost since the start.
    pub const LOST: &str = "lost.";
    /// Number, with the name of a cause after it: events lost since the last generation with an end record.
    /// Present, even if 0, for each cause that has lost any event.
    pub const LOST_UNTOLD: &str = "lost_untold.";
    /// Number: the fatal signal that the process died of.
    pub const CRASH_SIGNAL: &str = "crash.signal";
    /// Number: the address that could not be accessed or executed.
    pub const CRASH_ADDRESS: &str = "crash.address";
    /// Number: the address of the instruction.
    pub const CRASH_INSTRUCTION: &str = "crash.instruction";
    /// Number: the recorder's number of the thread that got the signal.
    pub const CRASH_THREAD: &str = "crash.thread";
    /// Number: the operating system's ID of that thread.
    pub const CRASH_OS_THREAD: &str = "crash.os_thread";
    /// Text: that thread's name.
    pub const CRASH_THREAD_NAME: &str = "crash.thread_name";
    /// Number: when that was, in nanoseconds since 1970-01-01 UTC.
    pub const CRASH_WALL: &str = "crash.wall_ns";
    /// Text: the filter of `tracing` and the `log` crate, such as `info,hyper=warn`: the recorder's, or
    /// otherwise that of each subscriber and layer.
    pub const FILTER: &str = "filter";
    /// Number: how many callsites and kinds of tasks (or more) found the recorder's table full. They are
    /// recorded as `(other)`.
    pub const NAMELESS: &str = "nameless";
    /// Number: how many texts (or more), since the process started, were written out because their
    /// generation's table of texts was full.
    pub const UNSHARED_TEXTS: &str = "unshared_texts";
    /// Number: how often the kernel refused `membarrier` to a writer that helped a late collector. The writer
    /// lost the event for which it needed room.
    pub const REFUSED_BARRIERS: &str = "refused_barriers";
    /// Number: how often the whole process was stopped for a while, since it started. See
    /// [`STOPPED_EVENT`](crate::wire::STOPPED_EVENT).
    pub const STOPS: &str = "stops";
    /// Number: how large `max_bytes` would have to be to cover the window at the snapshot's rate of events.
    /// Present if the snapshot covers less than half of the window and recording began before that.
    pub const NEEDED_BYTES: &str = "needed_bytes";
    /// Number: whether stacks were recorded, 1 or 0.
    pub const STACKS: &str = "stacks";
    /// Number: whether it was recorded where tasks wait, 1 or 0.
    pub const ASYNC_STACKS: &str = "async_stacks";
    /// Number: how long a poll had to stall for the trigger `stalled_poll`, in nanoseconds; the shortest limit if
    /// there were several. Absent if nothing watched for stalls.
    pub const STALLED_POLL: &str = "stalled_poll_ns";
    /// Number: how often a thread was sampled for each second of CPU time that it used. Absent if no thread was.
    pub const CPU_SAMPLES: &str = "cpu_samples_hz";
    /// Text: why no thread could be sampled, if none could.
    pub const CPU_SAMPLES_TROUBLE: &str = "cpu_samples.trouble";
    /// Number: from which length on waits for locks are recorded, in nanoseconds. Absent if none is.
    pub const LOCK_WAITS: &str = "lock_waits_ns";
    /// Text: the groups of counters of the process, its control group and the machine that were read, as `memory, cgroup`.
    pub const SYSTEM_COUNTERS: &str = "system_counters";
    /// Text: what of them could not be read, and why, once for each file.
    pub const SYSTEM_COUNTERS_TROUBLE: &str = "system_counters.trouble";
    /// Number: 0 if recording was turned off.
    pub const ENABLED: &str = "enabled";
    /// Bytes: the event table.
    pub const EVENT_TABLE: &str = "event_table";
}

/// How large `max_bytes` would have to be for the whole window, given what the present size covers. The
/// running generation always takes a part of the arena.
///
/// ```
/// use lookback_snapshot::wire::{Nanos, needed_bytes};
/// assert_eq!(needed_bytes(1 << 20, Nanos(10_000), Nanos(1_000)), 10 * (5 << 18));
/// ```
#[must_use]
pub fn needed_bytes(max_bytes: u64, window: super::Nanos, covered: super::Nanos) -> u64 {
    let times = window.0 as f64 / covered.0.max(1) as f64;
    (max_bytes as f64 * times * 1.25) as u64
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned number (code 0: a varint).
    Unsigned(u64),
    /// A signed number (code 1: a zigzag varint).
    Signed(i64),
    /// A text (code 2: length as varint, then UTF-8).
    Text(String),
    /// A number with a fraction (code 3: eight bytes, little-endian).
    Float(f64),
    /// Bytes (code 4: length as varint, then the bytes).
    Bytes(Vec<u8>),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

/// Metadata that cannot be read: where in its bytes, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata damaged at its byte {offset}: {reason}")]
#[non_exhaustive]
pub struct MetadataError {
    /// How many bytes could be read.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

/// Named values, in the order in which they were added.
///
/// ```
/// use lookback_snapshot::wire::{Metadata, key};
/// let mut metadata = Metadata::default();
/// metadata.add(key::PROCESS_PID, 17);
/// let read = Metadata::decode(&metadata.encode()).unwrap();
/// assert_eq!(read.number(key::PROCESS_PID), Some(17));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    values: Vec<(String, Value)>,
}

impl Metadata {
    /// Adds a value.
    pub fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.values.push((name.to_owned(), value.into()));
    }

    /// Every name and value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The first value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The first text of this name.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Every text of this name.
    pub fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter().filter(move |(known, _)| *known == name).filter_map(|(_, value)| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The first number of this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Unsigned(value) => Some(*value),
            _ => None,
        }
    }

    /// The metadata as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let bytes = |out: &mut Vec<u8>, bytes: &[u8]| {
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        };
        for (name, value) in &self.values {
            bytes(&mut out, name.as_bytes());
            match value {
                Value::Unsigned(value) => {
                    out.push(0);
                    put_varint(&mut out, *value);
                }
                Value::Signed(value) => {
                    out.push(1);
                    put_varint(&mut out, zigzag(*value));
                }
                Value::Text(text) => {
                    out.push(2);
                    bytes(&mut out, text.as_bytes());
                }
                Value::Float(value) => {
                    out.push(3);
                    out.extend(value.to_le_bytes());
                }
                Value::Bytes(value) => {
                    out.push(4);
                    bytes(&mut out, value);
                }
            }
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Where and why it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, MetadataError> {
        let mut cursor = Cursor { bytes, offset: 0 };
        let mut metadata = Self::default();
        while cursor.offset < bytes.len() {
            let name = cursor.text()?;
            let value = match cursor.take(1)?[0] {
                0 => Value::Unsigned(cursor.number()?),
                1 => Value::Signed(unzigzag(cursor.number()?)),
                2 => Value::Text(cursor.text()?),
                3 => {
                    let mut raw = [0; 8];
                    raw.copy_from_slice(cursor.take(8)?);
                    Value::Float(f64::from_le_bytes(raw))
                }
                4 => Value::Bytes(cursor.bytes()?.to_vec()),
                _ => return Err(cursor.error("a type of value that this program does not know")),
            };
            metadata.values.push((name, value));
        }
        Ok(metadata)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn error(&self, reason: &'static str) -> MetadataError {
        MetadataError { offset: self.offset, reason }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], MetadataError> {
        let taken =
            self.bytes[self.offset..].get(..length).ok_or_else(|| self.error("it is cut off"))?;
        self.offset += length;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, MetadataError> {
        let (value, length) = get_varint(&self.bytes[self.offset..])
            .ok_or_else(|| self.error("a number is cut off or too large"))?;
        self.offset += length;
        Ok(value)
    }

    fn bytes(&mut self) -> Result<&'a [u8], MetadataError> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    fn text(&mut self) -> Result<String, MetadataError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.error("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<u64>().prop_map(Value::Unsigned),
            any::<i64>().prop_map(Value::Signed),
            ".*".prop_map(Value::Text),
            (-1e300..1e300).prop_map(Value::Float),
            any::<Vec<u8>>().prop_map(Value::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn metadata_survives_its_encoding(values in prop::collection::vec((".*", value()), 0..20)) {
            let metadata = Metadata { values };
            prop_assert_eq!(Metadata::decode(&metadata.encode()), Ok(metadata));
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            let _ = Metadata::decode(&bytes);
        }
    }
}
