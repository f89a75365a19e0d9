//! Strings and stacks: each is written once and gets a number. And CPU samples, which Go keeps like these.
//!
//! Go lets one text or stack have several numbers. So a map that has grown large is simply emptied; what
//! occurs again is written again.

use super::batch::MAX_BATCH;
use super::text::cut;
use super::writer::{File, NO_THREAD};
use crate::read::Site;
use crate::wire::put_varint;
use std::collections::HashMap;
use std::io::Write;

const STACKS: u8 = 2;
const STACK: u8 = 3;
const STRINGS: u8 = 4;
const STRING: u8 = 5;
const SAMPLES: u8 = 6;
const SAMPLE: u8 = 7;

/// The most entries of a map.
const MOST_KNOWN: usize = 1 << 15;
/// The most stacks of samples, which may be long.
const MOST_LONG: usize = 1 << 12;
/// The most bytes of the texts in a map, together.
const MOST_TEXT: usize = 8 << 20;
/// The most bytes of records that one event needs: a few texts of 1 KiB.
const ROOM: usize = 16 << 10;

/// The number of a string, 0 for the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct StringId(pub(super) u64);

/// The number of a stack, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct StackId(pub(super) u64);

/// A place in the source, with texts as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    function: StringId,
    file: StringId,
    line: u64,
}

/// The stack of a goroutine: one frame, which names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) stack: StackId,
    frame: Frame,
}

/// See the module.
pub(super) struct GoTables {
    strings: Part,
    stacks: Part,
    samples: Part,
    known: HashMap<Box<str>, StringId>,
    /// The length of the known texts, together.
    known_text: usize,
    known_stacks: HashMap<(Option<Frame>, Frame), StackId>,
    known_long: HashMap<Box<[Frame]>, StackId>,
    /// Program counters of frames. Go identifies frames by them, so no two frames may share one.
    counters: HashMap<Frame, u64>,
    last_counter: u64,
}

/// The records of one table that are not written yet.
struct Part {
    code: u8,
    last: u64,
    content: Vec<u8>,
}

impl Part {
    fn new(code: u8) -> Self {
        Self { code, last: 0, content: vec![code] }
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn make_room(&mut self, file: &mut File<impl Write>, time: u64) {
        if self.content.len() + ROOM > MAX_BATCH {
            self.write(file, time);
        }
    }

    fn write(&mut self, file: &mut File<impl Write>, time: u64) {
        if self.content.len() > 1 {
            file.batch(NO_THREAD, time, &self.content);
            self.content.clear();
            self.content.push(self.code);
        }
    }
}

impl GoTables {
    pub(super) fn new() -> Self {
        Self {
            strings: Part::new(STRINGS),
            stacks: Part::new(STACKS),
            samples: Part::new(SAMPLES),
            known: HashMap::new(),
            known_text: 0,
            known_stacks: HashMap::new(),
            known_long: HashMap::new(),
            counters: HashMap::new(),
            last_counter: 0,
        }
    }

    /// The number of a text that may occur again: a few bytes of a snapshot can refer to a long one.
    pub(super) fn name(&mut self, text: &str) -> StringId {
        if text.is_empty() {
            return StringId(0);
        }
        let text = cut(text);
        if let Some(known) = self.known.get(&*text) {
            return *known;
        }
        let id = self.text(&text);
        if self.known.len() >= MOST_KNOWN || self.known_text + text.len() > MOST_TEXT {
            self.known.clear();
            self.known_text = 0;
        }
        self.known_text += text.len();
        self.known.insert((&*text).into(), id);
        id
    }

    /// A new number for a text.
    fn text(&mut self, text: &str) -> StringId {
        if text.is_empty() {
            return StringId(0);
        }
        let (text, id) = (cut(text), self.strings.number());
        let out = &mut self.strings.content;
        out.push(STRING);
        put_varint(out, id);
        put_varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
        StringId(id)
    }

    /// The stack of a goroutine of this name.
    pub(super) fn root(&mut self, site: Site<'_>) -> Root {
        // Go hides its own runtime's goroutines.
        let name = match site.name {
            "" => "?".into(),
            name if name.starts_with("runtime.") => format!("::{name}").into(),
            name => std::borrow::Cow::Borrowed(name),
        };
        let frame = self.frame(Site { name: &name, ..site });
        Root { stack: self.stack(None, frame), frame }
    }

    /// The stack of this place in that goroutine.
    pub(super) fn inside(&mut self, site: Option<Site<'_>>, root: Root) -> StackId {
        match site {
            Some(site) => {
                let leaf = self.frame(site);
                self.stack(Some(leaf), root.frame)
            }
            None => root.stack,
        }
    }

    fn frame(&mut self, site: Site<'_>) -> Frame {
        self.frame_of(site.name, site.file, site.line)
    }

    pub(super) fn frame_of(&mut self, function: &str, file: &str, line: u32) -> Frame {
        let (function, file) = (self.name(function), self.name(file));
        Frame { function, file, line: u64::from(line) }
    }

    /// A stack of these frames, innermost first: at most 128.
    pub(super) fn stack_of(&mut self, frames: &[Frame]) -> StackId {
        if frames.is_empty() {
            return StackId(0);
        }
        if let Some(known) = self.known_long.get(frames) {
            return *known;
        }
        let id = self.write_stack(frames);
        if self.known_long.len() >= MOST_LONG {
            self.known_long.clear();
        }
        self.known_long.insert(frames.into(), id);
        id
    }

    /// A CPU sample, at this time: of a thread, the processor and the goroutine that it had, if known.
    pub(super) fn sample(&mut self, [time, thread, proc, goroutine]: [u64; 4], stack: StackId) {
        let out = &mut self.samples.content;
        out.push(SAMPLE);
        for number in [time, thread, proc, goroutine, stack.0] {
            put_varint(out, number);
        }
    }

    fn write_stack(&mut self, frames: &[Frame]) -> StackId {
        let id = self.stacks.number();
        self.stacks.content.push(STACK);
        put_varint(&mut self.stacks.content, id);
        put_varint(&mut self.stacks.content, frames.len() as u64);
        for frame in frames {
            let counter = self.counter(*frame);
            for number in [counter, frame.function.0, frame.file.0, frame.line] {
                put_varint(&mut self.stacks.content, number);
            }
        }
        StackId(id)
    }

    fn stack(&mut self, leaf: Option<Frame>, root: Frame) -> StackId {
        if let Some(known) = self.known_stacks.get(&(leaf, root)) {
            return *known;
        }
        let frames = [leaf.unwrap_or(root), root];
        let id = self.write_stack(&frames[usize::from(leaf.is_none())..]);
        if self.known_stacks.len() >= MOST_KNOWN {
            self.known_stacks.clear();
        }
        self.known_stacks.insert((leaf, root), id);
        id
    }

    fn counter(&mut self, frame: Frame) -> u64 {
        if let Some(known) = self.counters.get(&frame) {
            return *known;
        }
        self.last_counter += 1;
        if self.counters.len() >= MOST_KNOWN {
            self.counters.clear();
        }
        self.counters.insert(frame, self.last_counter);
        self.last_counter
    }

    /// Writes the tables if they have grown too large to keep. Must be called for each event.
    pub(super) fn make_room(&mut self, file: &mut File<impl Write>, time: u64) {
        self.strings.make_room(file, time);
        self.stacks.make_room(file, time);
        self.samples.make_room(file, time);
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self, file: &mut File<impl Write>, time: u64) {
        self.strings.write(file, time);
        self.stacks.write(file, time);
        self.samples.write(file, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ClockRecord;

    const SITE: Site<'_> = Site { name: "task", file: "src/main.rs", line: 7, blocking: false };

    #[test]
    fn what_comes_again_has_the_number_that_it_had() {
        let mut tables = GoTables::new();
        assert_eq!((tables.name(""), tables.text("")), (StringId(0), StringId(0)));
        assert_eq!((tables.name("a"), tables.name("b"), tables.name("a")), {
            (StringId(1), StringId(2), StringId(1))
        });
        assert_ne!(tables.text("a"), tables.text("a"));
        let root = tables.root(SITE);
        assert_eq!(tables.root(SITE), root);
        assert_ne!(tables.root(Site { line: 8, ..SITE }).stack, root.stack);
        let inner = tables.inside(Some(Site { name: "log", ..SITE }), root);
        assert_ne!(inner, root.stack);
        assert_eq!((tables.inside(None, root), root.stack), (root.stack, StackId(1)));
    }

    #[test]
    fn names_that_go_hides_are_written_otherwise() {
        let mut tables = GoTables::new();
        let hidden = tables.root(Site { name: "runtime.poll", ..SITE });
        assert_eq!(hidden, tables.root(Site { name: "::runtime.poll", ..SITE }));
    }

    #[test]
    fn however_many_texts_there_are_little_is_kept() {
        let mut tables = GoTables::new();
        let mut out = Vec::new();
        let mut file = File::new(&mut out, 2048, &ClockRecord::default());
        for n in 0..3 * MOST_KNOWN as u64 {
            let root = tables.root(Site { name: &format!("task {n}"), ..SITE });
            assert_eq!(root.stack, StackId(n + 1), "each has a number of its own");
            tables.make_room(&mut file, 2048);
            assert!(tables.strings.content.len() <= MAX_BATCH);
        }
        assert!(tables.known.len() <= MOST_KNOWN && tables.counters.len() <= MOST_KNOWN);
        tables.finish(&mut file, 2048);
        assert!(file.finish().unwrap() > 3 * MOST_KNOWN as u64 * 10);
    }
}
