//! The stacks of events that have one, as text and as JSON. Events without one cost nothing here, and no file is opened
//! before the first frame is shown.

use crate::frames;
use lookback::read::symbols::Symbolizer;
use lookback::read::{Event, Frame, Trace};
use std::collections::HashMap;
use std::path::PathBuf;

/// How many of the service's own functions are shown in a line.
const MOST_FUNCTIONS: usize = 5;
/// So many frames are kept.
const MOST_KEPT: usize = 100_000;

/// See the module.
pub struct EventStacks {
    symbolizer: Option<Symbolizer>,
    /// Their paths and build ids, for their numbers.
    files: Vec<(String, Vec<u8>)>,
    /// By the number of the file (from 1), and the place in it.
    known: HashMap<(usize, u64, bool), Shown>,
}

/// A frame as it is shown.
struct Shown {
    json: String,
    /// The service's own functions in it, innermost first; without a symbolizer, the frame.
    own: Vec<String>,
}

impl EventStacks {
    /// Of this trace, with names from these directories, too.
    pub fn new(trace: &Trace, folders: &[PathBuf]) -> Self {
        let symbolizer = frames::symbolizer(trace, folders);
        Self { symbolizer, files: Vec::new(), known: HashMap::new() }
    }

    /// A list of frames, innermost first; `None` if the event has no stack.
    pub fn json(&mut self, event: &Event) -> Option<String> {
        let stack = event.stack()?;
        let mut list = String::new();
        for frame in stack.frames() {
            list.push(if list.is_empty() { '[' } else { ',' });
            list += &self.shown(&frame).json;
        }
        if list.is_empty() {
            list.push('[');
        }
        list.push(']');
        Some(list)
    }

    /// The innermost of the service's own functions in a line; `None` if the event has no stack, or none is in it.
    pub fn in_words(&mut self, event: &Event) -> Option<String> {
        let stack = event.stack()?;
        let mut words: Vec<String> = Vec::new();
        for frame in stack.frames() {
            words.extend(self.shown(&frame).own.iter().cloned());
            if words.len() >= MOST_FUNCTIONS {
                break;
            }
        }
        words.truncate(MOST_FUNCTIONS);
        (!words.is_empty()).then(|| words.join(" < "))
    }

    fn shown(&mut self, frame: &Frame<'_>) -> &Shown {
        let file = frame.module.map_or(0, |module| {
            let is_it =
                |(path, id): &(String, Vec<u8>)| path == module.path && id == module.build_id;
            let known = self.files.iter().position(is_it);
            known.unwrap_or_else(|| {
                self.files.push((module.path.to_owned(), module.build_id.to_owned()));
                self.files.len() - 1
            }) + 1
        });
        if self.known.len() >= MOST_KEPT || self.files.len() >= MOST_KEPT / 100 {
            // A stranger's file may have any number of them.
            self.known.clear();
            self.files.clear();
            return self.shown(frame);
        }
        let symbolizer = &mut self.symbolizer;
        let key = (file, frame.offset, frame.is_exact);
        self.known.entry(key).or_insert_with(|| {
            let functions = symbolizer.as_mut().map(|of| of.locations(frame));
            let json = frames::frame_json(frame, functions.as_deref().unwrap_or_default());
            let own = match &functions {
                Some(functions) => frames::own_functions(functions).collect(),
                None => vec![frames::offset(frame)],
            };
            Shown { json: json.to_string(), own }
        })
    }
}
