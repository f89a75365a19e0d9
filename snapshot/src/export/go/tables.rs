//! Strings and stacks: each is written once and has a number.
//!
//! Go lets one text or stack have several numbers. So the maps that tell what has a number are
//! simply emptied when they have grown large; what comes again is written again.

use super::batch::MAX_BATCH;
use super::file::{File, NO_THREAD};
use super::text::cut;
use crate::read::Site;
use crate::wire::put_varint;
use std::collections::HashMap;
use std::io::Write;

const STACKS: u8 = 2;
const STACK: u8 = 3;
const STRINGS: u8 = 4;
const STRING: u8 = 5;

/// A map has no more entries than this.
const MOST_KNOWN: usize = 1 << 15;
/// Nor are the texts in it longer than this, together.
const MOST_TEXT: usize = 8 << 20;
/// No event needs more records than this takes: a few texts of 1 KiB.
const ROOM: usize = 16 << 10;

/// The number of a string, 0 for the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct StringId(pub(super) u64);

/// The number of a stack, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct StackId(pub(super) u64);

/// A place in the source, by the numbers of its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Frame {
    function: StringId,
    file: StringId,
    line: u64,
}

/// The stack of a goroutine: one frame, which gives it its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) stack: StackId,
    frame: Frame,
}

/// See the module.
pub(super) struct Tables {
    strings: Part,
    stacks: Part,
    known: HashMap<Box<str>, StringId>,
    /// How long the known texts are, together.
    known_text: usize,
    known_stacks: HashMap<(Option<Frame>, Frame), StackId>,
    /// Program counters of frames. Go knows frames by these, so no two may share one.
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

impl Tables {
    pub(super) fn new() -> Self {
        Self {
            strings: Part::new(STRINGS),
            stacks: Part::new(STACKS),
            known: HashMap::new(),
            known_text: 0,
            known_stacks: HashMap::new(),
            counters: HashMap::new(),
            last_counter: 0,
        }
    }

    /// The number of a text, which may come again: a few bytes of a snapshot can name a long one.
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
        // Go hides goroutines of its own runtime.
        let name = match site.name {
            "" => "?".into(),
            name if name.starts_with("runtime.") => format!("::{name}").into(),
            name => std::borrow::Cow::Borrowed(name),
        };
        let frame = self.frame(Site { name: &name, ..site });
        Root { stack: self.stack(None, frame), frame }
    }

    /// The stack of what happens there, in that goroutine.
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
        let (function, file) = (self.name(site.name), self.name(site.file));
        Frame { function, file, line: u64::from(site.line) }
    }

    fn stack(&mut self, leaf: Option<Frame>, root: Frame) -> StackId {
        if let Some(known) = self.known_stacks.get(&(leaf, root)) {
            return *known;
        }
        let id = self.stacks.number();
        let frames = [leaf, Some(root)];
        let counters = frames.map(|frame| frame.map(|frame| self.counter(frame)));
        let out = &mut self.stacks.content;
        out.push(STACK);
        put_varint(out, id);
        put_varint(out, frames.iter().flatten().count() as u64);
        for (frame, counter) in frames.iter().flatten().zip(counters.iter().flatten()) {
            for number in [*counter, frame.function.0, frame.file.0, frame.line] {
                put_varint(out, number);
            }
        }
        if self.known_stacks.len() >= MOST_KNOWN {
            self.known_stacks.clear();
        }
        self.known_stacks.insert((leaf, root), StackId(id));
        StackId(id)
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

    /// Writes what has become too much to keep. Has to be called for each event.
    pub(super) fn make_room(&mut self, file: &mut File<impl Write>, time: u64) {
        self.strings.make_room(file, time);
        self.stacks.make_room(file, time);
    }

    /// Writes what is left.
    pub(super) fn finish(&mut self, file: &mut File<impl Write>, time: u64) {
        self.strings.write(file, time);
        self.stacks.write(file, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ClockRecord;

    const SITE: Site<'_> = Site { name: "task", file: "src/main.rs", line: 7, blocking: false };

    #[test]
    fn what_comes_again_has_the_number_that_it_had() {
        let mut tables = Tables::new();
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
        let mut tables = Tables::new();
        let hidden = tables.root(Site { name: "runtime.poll", ..SITE });
        assert_eq!(hidden, tables.root(Site { name: "::runtime.poll", ..SITE }));
    }

    #[test]
    fn however_many_texts_there_are_little_is_kept() {
        let mut tables = Tables::new();
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
