//! Texts and places in the source, each once. Texts are escaped as everywhere else, and long ones are cut.

use crate::format::escape;
use lookback::read::Site;
use lookback::read::wire::floor_char_boundary;
use std::collections::HashMap;

/// So many bytes of a text are kept.
const LONGEST: usize = 1024;
/// And so many of all of them, …
const MOST_BYTES: usize = 24 << 20;
/// … which are so many at most: a short one takes more than its bytes. And so many places in the source.
const MOST: usize = 1_000_000;

/// See the module.
#[derive(Debug)]
pub struct Names {
    known: HashMap<Box<str>, u32>,
    texts: Vec<Box<str>>,
    bytes: usize,
    sites: HashMap<(u32, u32), u32>,
    places: Vec<(u32, u32)>,
    /// How many texts there was no room for.
    pub left_out: u64,
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self {
            known: HashMap::new(),
            texts: Vec::new(),
            bytes: 0,
            sites: HashMap::new(),
            places: Vec::new(),
            left_out: 0,
        };
        // The first of each stands for what is not known.
        let none = names.text("");
        names.site_of(none, none);
        names
    }
}

impl Names {
    /// The number of a text; 0 is the empty one.
    pub fn text(&mut self, text: &str) -> u32 {
        let text = escape(text);
        let cut = floor_char_boundary(&text, LONGEST);
        let short = match cut < text.len() {
            true => format!("{}…", &text[..cut]),
            false => text.into_owned(),
        };
        if let Some(known) = self.known.get(&*short) {
            return *known;
        }
        if self.bytes + short.len() > MOST_BYTES || self.texts.len() >= MOST {
            self.left_out += 1;
            return 0;
        }
        self.bytes += short.len();
        let number = self.texts.len() as u32;
        self.texts.push(short.as_str().into());
        self.known.insert(short.into(), number);
        number
    }

    /// The number of a place in the source, with its name; 0 is an unknown one.
    pub fn site(&mut self, site: &Site<'_>) -> u32 {
        self.named(site, site.name)
    }

    /// The same, by another name.
    pub fn named(&mut self, site: &Site<'_>, name: &str) -> u32 {
        let name = self.text(name);
        let place = match site.line {
            0 => 0,
            line => self.text(&format!("{}:{line}", site.file)),
        };
        self.site_of(name, place)
    }

    /// A name that has no place.
    pub fn name(&mut self, name: &str) -> u32 {
        let name = self.text(name);
        self.site_of(name, 0)
    }

    fn site_of(&mut self, name: u32, place: u32) -> u32 {
        let next = self.places.len() as u32;
        if self.places.len() >= MOST {
            return self.sites.get(&(name, place)).copied().unwrap_or_default();
        }
        *self.sites.entry((name, place)).or_insert_with(|| {
            self.places.push((name, place));
            next
        })
    }

    /// All texts, in the order of their numbers.
    pub fn texts(&self) -> &[Box<str>] {
        &self.texts
    }

    /// All places, by the numbers of their names and of `file:line`.
    pub fn sites(&self) -> &[(u32, u32)] {
        &self.places
    }
}
