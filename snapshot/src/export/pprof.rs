//! CPU samples, samples of the heap, and waits for locks, as a profile of `pprof`: a gzip'd message of Protocol Buffers (`profile.proto`), for `go tool pprof` and
//! what else reads it.
//!
//! Each file of code has addresses of its own, `2^40` apart: where it was loaded does not matter, and `pprof` finds out
//! what address in the file one is.

use super::frame_names::FrameNames;
use super::protobuf::Message;
use crate::OwnedFrame;
use crate::analysis::{ContentionProfile, CpuProfile, HeapProfile};
use crate::symbols::Symbolizer;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::HashMap;
use std::io::{self, Write};

/// What a profile has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Its samples: different stacks.
    pub samples: u64,
    /// Its functions.
    pub functions: u64,
}

/// Writes a profile with two values for each stack: `samples` in `count`, and `cpu` in `nanoseconds`. The label `thread` has
/// the name of the thread.
///
/// ```no_run
/// use lookback_snapshot::{analysis::CpuProfile, export::pprof, symbols::Symbolizer};
/// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
/// let profile = CpuProfile::of(&trace, |error| eprintln!("{error}"));
/// let out = std::fs::File::create("cpu.pb.gz")?;
/// pprof::write(&profile, &mut Symbolizer::new(), out)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `out`.
pub fn write(
    profile: &CpuProfile,
    symbolizer: &mut Symbolizer,
    out: impl Write,
) -> io::Result<Written> {
    let mut message = Profile::new(profile.frames(), symbolizer, &CPU);
    for stack in &profile.stacks {
        let values = [stack.weight, profile.nanos(stack.weight)];
        message.sample(&stack.frames, values, profile.thread_name(stack));
    }
    for (why, weight) in &profile.unplaced {
        let why = why.map_or("unknown", |why| why.in_words());
        message.unplaced(&format!("(no stack: {why})"), [*weight, profile.nanos(*weight)]);
    }
    if profile.left_out > 0 {
        let values = [profile.left_out, profile.nanos(profile.left_out)];
        message.unplaced("(further stacks)", values);
    }
    let length = profile.span.map_or(0, |(first, last)| last.0 - first.0);
    message.write(profile.nanos(1), length, out)
}

/// Writes a profile with four values for each stack, as Go has them: `alloc_objects` in `count` and `alloc_space` in
/// `bytes`, which it allocated within the snapshot; `inuse_objects` and `inuse_space`, which were alive at its end. All of
/// them are estimates by samples.
///
/// # Errors
/// Those of `out`.
pub fn write_heap(
    profile: &HeapProfile,
    symbolizer: &mut Symbolizer,
    out: impl Write,
) -> io::Result<Written> {
    let mut message = Profile::new(profile.frames(), symbolizer, &HEAP);
    for stack in &profile.stacks {
        let (objects, allocated) = (stack.objects.round() as u64, stack.allocated.round() as u64);
        let values = [objects, allocated, stack.live_objects, stack.live_bytes];
        if stack.frames.is_empty() {
            let why = stack.source.map_or("unknown", |why| why.in_words());
            message.unplaced(&format!("(no stack: {why})"), values);
        } else {
            message.sample(&stack.frames, values, "");
        }
    }
    let (samples, bytes) = profile.left_out;
    if samples > 0 {
        // How many objects these stand for is not recorded: at least as many as there are samples.
        message.unplaced("(further stacks)", [0, 0, samples, bytes]);
    }
    message.write(profile.interval, profile.covered.time.0, out)
}

/// Writes a profile with two values for each stack, as Go has them: `contentions` in `count`, how often a thread or a task waited
/// for a lock there, and `delay` in `nanoseconds`, how long it did. Of waits that have ended, and that were long enough to be
/// recorded. The innermost function is the service's, not one of the recorder's that takes the lock. A comment says how many
/// waits have a stack.
///
/// # Errors
/// Those of `out`.
pub fn write_contention(
    profile: &ContentionProfile,
    symbolizer: &mut Symbolizer,
    out: impl Write,
) -> io::Result<Written> {
    let mut message = Profile::new(profile.frames(), symbolizer, &CONTENTION);
    for stack in &profile.stacks {
        let values = [stack.waits, stack.waited.0];
        if stack.frames.is_empty() {
            let why = stack.source.map_or("unknown", |why| why.in_words());
            message.unplaced(&format!("(no stack: {why})"), values);
        } else {
            message.sample_of_own(&stack.frames, values);
        }
    }
    message.comment(profile.in_words());
    if profile.left_out.0 > 0 {
        message.unplaced("(further stacks)", [profile.left_out.0, profile.left_out.1.0]);
    }
    let length = profile.span.map_or(0, |(first, last)| last.0 - first.0);
    message.write(1, length, out)
}

/// The values of each sample.
struct Values<const N: usize> {
    /// Their names and units.
    types: [(&'static str, &'static str); N],
    /// Which of them is shown first.
    default: usize,
    /// What a sample is taken of each so many of.
    period: (&'static str, &'static str),
}

const CPU: Values<2> = Values {
    types: [("samples", "count"), ("cpu", "nanoseconds")],
    default: 1,
    period: ("cpu", "nanoseconds"),
};

const CONTENTION: Values<2> = Values {
    types: [("contentions", "count"), ("delay", "nanoseconds")],
    default: 1,
    period: ("contentions", "count"),
};

const HEAP: Values<4> = Values {
    types: [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ],
    default: 3,
    period: ("space", "bytes"),
};

/// The fields of `message Profile`.
mod field {
    pub const SAMPLE_TYPE: u32 = 1;
    pub const SAMPLE: u32 = 2;
    pub const MAPPING: u32 = 3;
    pub const LOCATION: u32 = 4;
    pub const FUNCTION: u32 = 5;
    pub const STRING_TABLE: u32 = 6;
    pub const DURATION_NANOS: u32 = 10;
    pub const PERIOD_TYPE: u32 = 11;
    pub const PERIOD: u32 = 12;
    pub const COMMENT: u32 = 13;
    pub const DEFAULT_SAMPLE_TYPE: u32 = 14;
}

/// How far files of code lie apart, as a power of 2.
const APART: u32 = 40;

#[derive(Default)]
struct Mapping {
    file: u64,
    build_id: u64,
    /// The highest offset in it.
    last: u64,
    has_names: bool,
    has_lines: bool,
}

struct Profile<'a, const N: usize> {
    out: Message,
    names: FrameNames<'a>,
    values: &'static Values<N>,
    strings: HashMap<String, u64>,
    functions: HashMap<(u64, u64), u64>,
    mappings: Vec<Mapping>,
    mapping_numbers: HashMap<(String, Vec<u8>), u64>,
    /// The locations of frames that have one, with how many functions are left out of it, and their number.
    locations: HashMap<(u32, usize), u64>,
    count: u64,
}

impl<'a, const N: usize> Profile<'a, N> {
    fn new(
        frames: &'a [OwnedFrame],
        symbolizer: &mut Symbolizer,
        values: &'static Values<N>,
    ) -> Self {
        let mut profile = Self {
            out: Message::default(),
            names: FrameNames::of(frames, symbolizer),
            values,
            strings: HashMap::new(),
            functions: HashMap::new(),
            mappings: Vec::new(),
            mapping_numbers: HashMap::new(),
            locations: HashMap::new(),
            count: 0,
        };
        // The first text is always the empty one.
        profile.text("");
        for (kind, unit) in values.types {
            let value = profile.value_type(kind, unit);
            profile.out.message(field::SAMPLE_TYPE, &value);
        }
        profile
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> Message {
        let mut value = Message::default();
        value.number(1, self.text(kind));
        value.number(2, self.text(unit));
        value
    }

    /// The number of a text.
    fn text(&mut self, text: &str) -> u64 {
        if let Some(known) = self.strings.get(text) {
            return *known;
        }
        self.out.bytes(field::STRING_TABLE, text.as_bytes());
        let number = self.strings.len() as u64;
        self.strings.insert(text.to_owned(), number);
        number
    }

    /// A stack, innermost frame first.
    fn sample(&mut self, frames: &[u32], values: [u64; N], thread: &str) {
        let locations: Vec<_> = frames.iter().map(|frame| self.location(*frame, 0)).collect();
        self.put(&locations, values, thread);
    }

    /// The same, from the service's own innermost function on.
    fn sample_of_own(&mut self, frames: &[u32], values: [u64; N]) {
        let (first, inside) = self.names.own_leaf(frames);
        let own = frames[first..].iter().enumerate();
        let locations: Vec<_> = own
            .map(|(at, frame)| self.location(*frame, if at == 0 { inside } else { 0 }))
            .collect();
        self.put(&locations, values, "");
    }

    /// What `pprof -comments` prints.
    fn comment(&mut self, comment: String) {
        let text = self.text(&comment);
        self.out.number(field::COMMENT, text);
    }

    /// What has no stack, by a name.
    fn unplaced(&mut self, name: &str, values: [u64; N]) {
        let location = self.named(name);
        self.put(&[location], values, "");
    }

    fn put(&mut self, locations: &[u64], values: [u64; N], thread: &str) {
        let mut sample = Message::default();
        sample.packed(1, locations);
        sample.packed(2, &values);
        if !thread.is_empty() {
            let mut label = Message::default();
            label.number(1, self.text("thread"));
            label.number(2, self.text(thread));
            sample.message(3, &label);
        }
        self.out.message(field::SAMPLE, &sample);
        self.count += 1;
    }

    /// A location without an address.
    fn named(&mut self, name: &str) -> u64 {
        let function = self.function(name, "", "");
        let number = self.next_location();
        let mut line = Message::default();
        line.number(1, function);
        let mut location = Message::default();
        location.number(1, number);
        location.message(4, &line);
        self.out.message(field::LOCATION, &location);
        // No frame has this number.
        self.locations.insert((u32::MAX - number as u32, 0), number);
        number
    }

    fn next_location(&self) -> u64 {
        self.locations.len() as u64 + 1
    }

    /// A frame, without the first few functions in it.
    fn location(&mut self, frame: u32, inside: usize) -> u64 {
        if let Some(known) = self.locations.get(&(frame, inside)) {
            return *known;
        }
        let functions = self.names.functions(frame).get(inside..).unwrap_or_default().to_vec();
        let known = self.names.frame(frame).map(OwnedFrame::frame);
        let mut location = Message::default();
        let number = self.next_location();
        location.number(1, number);
        if let Some(of) = known {
            let at = of.offset.saturating_sub(u64::from(!of.is_exact));
            let mapping = of.module.map(|module| {
                let number = self.mapping(module.path, module.build_id);
                let mapping = &mut self.mappings[number as usize - 1];
                mapping.last = mapping.last.max(at.min((1 << APART) - 1));
                mapping.has_names |= !functions.is_empty();
                mapping.has_lines |= functions.iter().any(|of| of.place.is_some());
                number
            });
            location.number(2, mapping.unwrap_or_default());
            let base = mapping.map_or(0, |number| number << APART);
            location.number(3, base + at.min((1 << APART) - 1));
        }
        for function in &functions {
            let (file, at) = function.place.as_ref().map_or(("", 0), |(file, line)| (file, *line));
            let (said, whole) = (function.function.to_string(), function.function.whole());
            let mut line = Message::default();
            line.number(1, self.function(&said, whole, file));
            line.number(2, u64::from(at));
            location.message(4, &line);
        }
        self.out.message(field::LOCATION, &location);
        self.locations.insert((frame, inside), number);
        number
    }

    fn function(&mut self, name: &str, whole: &str, file: &str) -> u64 {
        let whole = if whole.is_empty() { name } else { whole };
        let (name, whole, file) = (self.text(name), self.text(whole), self.text(file));
        let number = self.functions.len() as u64 + 1;
        let known = *self.functions.entry((whole, file)).or_insert(number);
        if known == number {
            let mut function = Message::default();
            // `pprof` takes a name that is also the system's for one of C++, and removes what stands in brackets:
            // `<shop::Cart as Iterator>::next` would be `::next`.
            let whole = if whole == name { 0 } else { whole };
            for (field, value) in [(1, number), (2, name), (3, whole), (4, file)] {
                function.number(field, value);
            }
            self.out.message(field::FUNCTION, &function);
        }
        known
    }

    /// The number of a file of code, from 1.
    fn mapping(&mut self, path: &str, build_id: &[u8]) -> u64 {
        let key = (path.to_owned(), build_id.to_owned());
        if let Some(known) = self.mapping_numbers.get(&key) {
            return *known;
        }
        let hex: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (file, build_id) = (self.text(path), self.text(&hex));
        self.mappings.push(Mapping { file, build_id, ..Mapping::default() });
        let number = self.mappings.len() as u64;
        self.mapping_numbers.insert(key, number);
        number
    }

    /// Ends the profile, which covers `length` nanoseconds, and writes it.
    fn write(mut self, period: u64, length: u64, out: impl Write) -> io::Result<Written> {
        let written = Written { samples: self.count, functions: self.functions.len() as u64 };
        let (kind, unit) = self.values.period;
        let value = self.value_type(kind, unit);
        let default = self.text(self.values.types[self.values.default].0);
        self.out.message(field::PERIOD_TYPE, &value);
        self.out.number(field::PERIOD, period);
        self.out.number(field::DEFAULT_SAMPLE_TYPE, default);
        self.out.number(field::DURATION_NANOS, length);
        for (at, of) in self.mappings.iter().enumerate() {
            let number = at as u64 + 1;
            let start = number << APART;
            // Whole pages.
            let limit = start + (of.last + 1).next_multiple_of(4096);
            let mut mapping = Message::default();
            for (field, value) in
                [(1, number), (2, start), (3, limit), (5, of.file), (6, of.build_id)]
            {
                mapping.number(field, value);
            }
            mapping.number(7, u64::from(of.has_names));
            mapping.number(8, u64::from(of.has_lines));
            mapping.number(9, u64::from(of.has_lines));
            mapping.number(10, u64::from(of.has_names));
            self.out.message(field::MAPPING, &mapping);
        }
        let mut out = GzEncoder::new(out, Compression::default());
        out.write_all(self.out.as_bytes())?;
        out.finish()?.flush()?;
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::super::folded::tests::profile as test_profile;
    use super::*;
    use crate::wire::get_varint;
    use std::io::Read;

    /// The fields of a message: numbers, and bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
        let number = |bytes: &mut &[u8]| {
            let (value, length) = get_varint(bytes).unwrap();
            *bytes = &bytes[length..];
            value
        };
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let tag = number(&mut bytes);
            match tag & 7 {
                0 => found.push((tag >> 3, number(&mut bytes), &[][..])),
                2 => {
                    let length = number(&mut bytes) as usize;
                    let (content, rest) = bytes.split_at(length);
                    found.push((tag >> 3, 0, content));
                    bytes = rest;
                }
                other => panic!("{other}"),
            }
        }
        found
    }

    #[test]
    fn a_profile_has_each_stack_with_its_count_and_time() {
        let mut out = Vec::new();
        let written = write(&test_profile(), &mut Symbolizer::new(), &mut out).unwrap();
        assert_eq!(written, Written { samples: 2, functions: 1 });
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&out[..]).read_to_end(&mut bytes).unwrap();
        let all = fields(&bytes);
        let of = |field: u32| all.iter().filter(move |(number, ..)| *number == u64::from(field));
        let texts: Vec<_> = of(field::STRING_TABLE).map(|(.., text)| *text).collect();
        assert_eq!(texts[0], b"");
        assert!(texts.contains(&&b"/srv/my;shop"[..]) && texts.contains(&&b"0123"[..]));
        let values: Vec<_> = of(field::SAMPLE)
            .map(|(.., sample)| {
                let packed = fields(sample).into_iter().find(|(field, ..)| *field == 2).unwrap().2;
                let (count, length) = get_varint(packed).unwrap();
                (count, get_varint(&packed[length..]).unwrap().0)
            })
            .collect();
        assert_eq!(values, [(3, 30_000_000), (4, 40_000_000)]);
        assert_eq!(of(field::LOCATION).count(), 3);
        assert_eq!(of(field::MAPPING).count(), 1);
        assert_eq!(of(field::PERIOD).next().unwrap().1, 10_000_000);
    }
}
