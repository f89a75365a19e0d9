//! Stacks, each once, as numbers of functions.

use super::columns::Columns;
use super::names::Names;
use crate::frames;
use lookback::read::symbols::Symbolizer;
use lookback::read::{Frame, OwnedFrame, Stack};
use std::collections::HashMap;

/// The most different stacks, and frames.
const MOST_STACKS: usize = 40_000;
const MOST_FRAMES: usize = 200_000;
/// The most functions of one stack.
const MOST_DEEP: usize = 200;

/// See the module. Without a symbolizer, functions are files and offsets.
#[derive(Default)]
pub struct Stacks {
    symbolizer: Option<Symbolizer>,
    frames: HashMap<OwnedFrame, Box<[u32]>>,
    /// By name and place; whether they are of what services are built on.
    functions: HashMap<(u32, u32), u32>,
    all: Vec<(u32, u32, bool)>,
    known: HashMap<Box<[u32]>, u32>,
    stacks: Vec<Box<[u32]>>,
    /// How many stacks there was no room for.
    pub left_out: u64,
}

impl Stacks {
    pub fn new(symbolizer: Option<Symbolizer>) -> Self {
        Self { symbolizer, ..Self::default() }
    }

    /// The number of a stack; 0 if there is none.
    pub fn number(&mut self, stack: Option<Stack<'_>>, names: &mut Names) -> u32 {
        let Some(stack) = stack else { return 0 };
        let mut functions: Vec<u32> = Vec::new();
        for frame in stack.frames() {
            if functions.len() >= MOST_DEEP {
                break;
            }
            functions.extend_from_slice(self.functions_of(&frame, names));
        }
        if let Some(known) = self.known.get(functions.as_slice()) {
            return *known;
        }
        if self.stacks.len() >= MOST_STACKS {
            self.left_out += 1;
            return 0;
        }
        let number = self.stacks.len() as u32 + 1;
        self.stacks.push(functions.as_slice().into());
        self.known.insert(functions.into(), number);
        number
    }

    /// Innermost first.
    fn functions_of(&mut self, frame: &Frame<'_>, names: &mut Names) -> &[u32] {
        let owned = OwnedFrame::from(*frame);
        if !self.frames.contains_key(&owned) {
            if self.frames.len() >= MOST_FRAMES {
                return &[];
            }
            let locations = self.symbolizer.as_mut().map(|of| of.locations(frame));
            let mut numbers: Vec<u32> = Vec::new();
            for location in locations.unwrap_or_default() {
                let place = location.place.as_ref();
                let place = place.map_or_else(String::new, |(file, line)| format!("{file}:{line}"));
                let (name, is_foreign) = (location.function.to_string(), location.is_foreign());
                numbers.push(self.function(&name, &place, is_foreign, names));
            }
            if numbers.is_empty() {
                let name = match frame.left_out() {
                    Some(count) => format!("({count} frames left out)"),
                    None => frames::offset(frame),
                };
                numbers.push(self.function(&name, "", true, names));
            }
            self.frames.insert(owned.clone(), numbers.into());
        }
        self.frames.get(&owned).map_or(&[], |known| known)
    }

    fn function(&mut self, name: &str, place: &str, is_foreign: bool, names: &mut Names) -> u32 {
        let key = (names.text(name), names.text(place));
        let next = self.all.len() as u32;
        *self.functions.entry(key).or_insert_with(|| {
            self.all.push((key.0, key.1, is_foreign));
            next
        })
    }

    pub fn write(self, columns: &mut Columns) {
        let all = &self.all;
        columns.numbers("functions.name", all.iter().map(|of| u64::from(of.0)));
        columns.numbers("functions.place", all.iter().map(|of| u64::from(of.1)));
        columns.numbers("functions.foreign", all.iter().map(|of| u64::from(of.2)));
        columns.numbers("stacks.length", self.stacks.iter().map(|of| of.len() as u64));
        let flat = self.stacks.iter().flat_map(|of| of.iter());
        columns.steps("stacks.functions", flat.map(|of| i64::from(*of)));
    }
}
