//! Names for addresses of code, which `lookback symbolize` puts into a file, in a frame of their own: so that its stacks
//! can be read where the recorded program is not.
//!
//! Names, paths and crates are texts, each written once. An address is one in the terms of its file's symbols: that of
//! an instruction, so for a return address the one before.

use super::rest::Rest;
use super::{floor_char_boundary, put_varint};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The most files, addresses, functions and texts, and the most bytes of the texts: more are not written, and not read.
/// All together they take less than 300 MB.
const MOST_MODULES: usize = 4096;
const MOST_ADDRESSES: usize = 1 << 20;
const MOST_FUNCTIONS: usize = 1 << 22;
const MOST_TEXTS: usize = 1 << 20;
const MOST_BYTES: usize = 32 << 20;
/// The longest text, and the most functions of one address.
const LONGEST_TEXT: usize = 64 << 10;
const MOST_INLINED: usize = 256;
/// The most bytes that all functions' texts take where each has its own: equal ones are written once.
const MOST_SAID: usize = 256 << 20;

/// The most bytes that [`CodeNames::encode`] writes.
pub(crate) const MOST_ENCODED: u64 = 256 << 20;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CodeNames {
    texts: Texts,
    modules: Vec<NamedModule>,
    /// By file, and in each by address.
    addresses: Vec<NamedAddress>,
    functions: Vec<NamedFunction>,
    /// How many bytes the texts of all functions take, each for itself.
    said: usize,
}

/// A function that an address stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CodeName<'a> {
    /// Its whole name, as the compiler has it.
    pub(crate) function: &'a str,
    /// The crate that it belongs to, if that is known and the name lacks it; else empty.
    pub(crate) krate: &'a str,
    /// The source file; empty if it is unknown.
    pub(crate) file: &'a str,
    pub(crate) line: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NamedModule {
    path: u32,
    build_id: Vec<u8>,
    /// Where its addresses end; they begin where those of the file before end.
    end: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NamedAddress {
    at: u64,
    /// Where its functions end.
    end: u32,
}

/// The numbers of its texts, and its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NamedFunction {
    name: u32,
    krate: u32,
    file: u32,
    line: u32,
}

/// Texts, one after the other. They count from 1; 0 is the empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Texts {
    all: String,
    ends: Vec<u32>,
}

impl Texts {
    fn get(&self, number: u32) -> &str {
        let Some(at) = (number as usize).checked_sub(1) else { return "" };
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.all[start as usize..self.ends[at] as usize]
    }

    /// `None` if there is no room.
    fn add(&mut self, text: &str) -> Option<u32> {
        let has_room = self.ends.len() < MOST_TEXTS && self.all.len() + text.len() <= MOST_BYTES;
        has_room.then(|| {
            self.all.push_str(text);
            self.ends.push(self.all.len() as u32);
            self.ends.len() as u32
        })
    }
}

/// Collects names.
#[derive(Default)]
pub(crate) struct CodeNamesWriter {
    names: CodeNames,
    /// The numbers of texts, by their hash.
    known: HashMap<u64, Vec<u32>>,
    hasher: RandomState,
}

impl CodeNamesWriter {
    /// Begins a file; the addresses that are added next are in it. Returns whether there is room.
    pub(crate) fn module(&mut self, path: &str, build_id: &[u8]) -> bool {
        let has_room = self.names.modules.len() < MOST_MODULES && build_id.len() <= 1024;
        let Some(path) = self.text(path).filter(|_| has_room) else { return false };
        let end = self.names.addresses.len() as u32;
        self.names.modules.push(NamedModule { path, build_id: build_id.to_owned(), end });
        true
    }

    /// The functions of an address, innermost first: each is inlined into the next one. Addresses of a file must ascend.
    /// Returns whether there is room.
    pub(crate) fn address<'n>(
        &mut self,
        at: u64,
        functions: impl IntoIterator<Item = CodeName<'n>>,
    ) -> bool {
        let before = self.names.functions.len();
        if self.names.addresses.len() >= MOST_ADDRESSES || self.names.modules.is_empty() {
            return false;
        }
        for of in functions.into_iter().take(MOST_INLINED) {
            let numbers = (self.text(of.function), self.text(of.krate), self.text(of.file));
            let has_room = self.names.functions.len() < MOST_FUNCTIONS;
            let (Some(name), Some(krate), Some(file), true) =
                (numbers.0, numbers.1, numbers.2, has_room)
            else {
                self.names.functions.truncate(before);
                return false;
            };
            if self.names.say([name, krate, file]).is_none() {
                self.names.functions.truncate(before);
                return false;
            }
            self.names.functions.push(NamedFunction { name, krate, file, line: of.line });
        }
        self.names.addresses.push(NamedAddress { at, end: self.names.functions.len() as u32 });
        if let Some(module) = self.names.modules.last_mut() {
            module.end = self.names.addresses.len() as u32;
        }
        true
    }

    /// What was collected.
    pub(crate) fn finish(self) -> CodeNames {
        self.names
    }

    /// The number of a text; `None` if there is no room for another one.
    fn text(&mut self, text: &str) -> Option<u32> {
        let text = &text[..floor_char_boundary(text, LONGEST_TEXT)];
        if text.is_empty() {
            return Some(0);
        }
        let alike = self.known.entry(self.hasher.hash_one(text)).or_default();
        let texts = &mut self.names.texts;
        if let Some(known) = alike.iter().find(|number| texts.get(**number) == text) {
            return Some(*known);
        }
        let number = texts.add(text)?;
        alike.push(number);
        Some(number)
    }
}

impl CodeNames {
    /// The functions of an address in this file, innermost first; none if they are unknown.
    pub(crate) fn of(
        &self,
        path: &str,
        build_id: &[u8],
        at: u64,
    ) -> impl Iterator<Item = CodeName<'_>> {
        let is_it = |of: &NamedModule| of.build_id == build_id && self.texts.get(of.path) == path;
        let module = self.modules.iter().position(is_it);
        let within = module.map_or(0..0, |module| self.addresses_of(module));
        let addresses = &self.addresses[within.clone()];
        let found = addresses.binary_search_by_key(&at, |of| of.at).ok();
        let functions = found.map_or(0..0, |found| self.functions_of(within.start + found));
        self.functions[functions].iter().map(|of| CodeName {
            function: self.texts.get(of.name),
            krate: self.texts.get(of.krate),
            file: self.texts.get(of.file),
            line: of.line,
        })
    }

    /// Counts the texts of one more function; `None` if that is too much.
    fn say(&mut self, texts: [u32; 3]) -> Option<()> {
        let said = texts.map(|number| self.texts.get(number).len());
        self.said += said.iter().sum::<usize>();
        (self.said <= MOST_SAID).then_some(())
    }

    fn addresses_of(&self, module: usize) -> std::ops::Range<usize> {
        let start = module.checked_sub(1).map_or(0, |before| self.modules[before].end);
        start as usize..self.modules[module].end as usize
    }

    fn functions_of(&self, address: usize) -> std::ops::Range<usize> {
        let start = address.checked_sub(1).map_or(0, |before| self.addresses[before].end);
        start as usize..self.addresses[address].end as usize
    }

    /// Appends them to `out`, as the frame of a file has them once it is decompressed.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.texts.ends.len() as u64);
        for number in 1..=self.texts.ends.len() as u32 {
            put_bytes(out, self.texts.get(number).as_bytes());
        }
        put_varint(out, self.modules.len() as u64);
        let mut entry = Vec::new();
        for (at, module) in self.modules.iter().enumerate() {
            entry.clear();
            put_varint(&mut entry, u64::from(module.path));
            put_bytes(&mut entry, &module.build_id);
            let addresses = self.addresses_of(at);
            put_varint(&mut entry, addresses.len() as u64);
            let mut last = 0;
            for address in addresses {
                let at = self.addresses[address].at;
                put_varint(&mut entry, at.wrapping_sub(last));
                last = at;
                let functions = self.functions_of(address);
                put_varint(&mut entry, functions.len() as u64);
                for of in &self.functions[functions] {
                    for number in [of.name, of.krate, of.file, of.line] {
                        put_varint(&mut entry, u64::from(number));
                    }
                }
            }
            put_bytes(out, &entry);
        }
    }

    /// Reads what [`encode`](Self::encode) has written. `None` if it is damaged. What a later version has put behind a
    /// file's addresses is left out.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        let mut found = Self::default();
        for _ in 0..rest.count(MOST_TEXTS)? {
            let text = rest.bytes().filter(|text| text.len() <= LONGEST_TEXT)?;
            found.texts.add(&String::from_utf8_lossy(text))?;
        }
        for _ in 0..rest.count(MOST_MODULES)? {
            found.module(&mut Rest(rest.bytes()?))?;
        }
        Some(found)
    }

    fn module(&mut self, rest: &mut Rest<'_>) -> Option<()> {
        let texts = self.texts.ends.len() as u32;
        let text = |rest: &mut Rest<'_>| rest.small().filter(|number| *number <= texts);
        let (path, build_id) = (text(rest)?, rest.bytes()?.to_owned());
        let mut last = None;
        for _ in 0..rest.count(MOST_ADDRESSES - self.addresses.len())? {
            let step = rest.number()?;
            let at = match last {
                None => step,
                // Ascending, so that they can be searched.
                Some(last) => step.checked_add(last).filter(|at| *at > last)?,
            };
            last = Some(at);
            for _ in 0..rest.count(MOST_INLINED.min(MOST_FUNCTIONS - self.functions.len()))? {
                let (name, krate, file) = (text(rest)?, text(rest)?, text(rest)?);
                self.say([name, krate, file])?;
                self.functions.push(NamedFunction { name, krate, file, line: rest.small()? });
            }
            self.addresses.push(NamedAddress { at, end: self.functions.len() as u32 });
        }
        self.modules.push(NamedModule { path, build_id, end: self.addresses.len() as u32 });
        Some(())
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Path and build id, and for each address its functions: name, crate, file, line.
    type Module = ((String, Vec<u8>), BTreeMap<u64, Vec<(String, String, String, u32)>>);

    fn names(modules: &[Module]) -> CodeNames {
        let mut writer = CodeNamesWriter::default();
        for ((path, build_id), addresses) in modules {
            assert!(writer.module(path, build_id));
            for (at, functions) in addresses {
                let functions = functions.iter().map(|(function, krate, file, line)| CodeName {
                    function,
                    krate,
                    file,
                    line: *line,
                });
                assert!(writer.address(*at, functions));
            }
        }
        writer.finish()
    }

    fn module() -> impl Strategy<Value = Module> {
        let text = || "[a-c:<é]{0,3}";
        let function = (text(), text(), text(), any::<u32>());
        let functions = prop::collection::vec(function, 0..4);
        let address = prop_oneof![any::<u64>(), 0..100_u64];
        let addresses = prop::collection::btree_map(address, functions, 0..8);
        ((text(), prop::collection::vec(any::<u8>(), 0..3)), addresses)
    }

    proptest! {
        #[test]
        fn what_was_written_is_found_again(modules in prop::collection::vec(module(), 0..5)) {
            let written = names(&modules);
            let mut bytes = Vec::new();
            written.encode(&mut bytes);
            let read = CodeNames::decode(&bytes);
            prop_assert_eq!(read.as_ref(), Some(&written));
            let read = read.unwrap();
            let mut seen = std::collections::HashSet::new();
            for ((path, build_id), addresses) in &modules {
                // Of several entries of one file the first one counts.
                if !seen.insert((path, build_id)) {
                    continue;
                }
                for (at, functions) in addresses {
                    let found: Vec<_> = read.of(path, build_id, *at).collect();
                    let found: Vec<_> = found
                        .iter()
                        .map(|of| (of.function, of.krate, of.file, of.line))
                        .collect();
                    let all: Vec<_> = functions
                        .iter()
                        .map(|of| (&*of.0, &*of.1, &*of.2, of.3))
                        .collect();
                    prop_assert_eq!(found, all);
                    prop_assert_eq!(read.of(path, b"another build", *at).count(), 0);
                }
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Some(found) = CodeNames::decode(&bytes) {
                look_up_all(&found);
            }
        }

        #[test]
        fn what_was_changed_is_survived(
            modules in prop::collection::vec(module(), 1..4),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = Vec::new();
            names(&modules).encode(&mut bytes);
            for (at, to) in changes {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            if let Some(found) = CodeNames::decode(&bytes) {
                look_up_all(&found);
            }
            let end = bytes.len() / 2;
            if let Some(found) = CodeNames::decode(&bytes[..end]) {
                look_up_all(&found);
            }
        }
    }

    fn look_up_all(names: &CodeNames) {
        for (at, module) in names.modules.iter().enumerate() {
            for address in &names.addresses[names.addresses_of(at)] {
                names.of(names.texts.get(module.path), &module.build_id, address.at).for_each(drop);
            }
        }
    }

    #[test]
    fn what_finds_no_room_is_refused_and_what_claims_more_is_damaged() {
        let mut writer = CodeNamesWriter::default();
        assert!(!writer.address(1, []), "no file was begun");
        assert!(writer.module("shop", b"id"));
        let long = "a".repeat(LONGEST_TEXT + 9);
        let many = std::iter::repeat_n(CodeName { function: &long, ..CodeName::default() }, 1000);
        assert!(writer.address(1, many.clone()));
        let most = 1 + (2..).take_while(|at| writer.address(*at, many.clone())).count();
        assert_eq!(most, MOST_SAID / LONGEST_TEXT / MOST_INLINED, "equal texts are shown each");
        let names = writer.finish();
        assert_eq!(names.of("shop", b"id", 1).count(), MOST_INLINED);
        assert!(names.of("shop", b"id", 1).all(|of| of.function.len() == LONGEST_TEXT));
        let mut written = Vec::new();
        names.encode(&mut written);
        assert!(CodeNames::decode(&written).is_some());
        let mut claims = Vec::new();
        put_varint(&mut claims, u64::MAX);
        assert_eq!(CodeNames::decode(&claims), None);
        let twice = |step| [0, 1, 7, 0, 0, 2, 5, 0, step, 0];
        assert!(CodeNames::decode(&twice(1)).is_some());
        assert_eq!(CodeNames::decode(&twice(0)), None, "an address that does not ascend");
        let text_of_none = [0, 1, 3, 1, 0, 0];
        assert_eq!(CodeNames::decode(&text_of_none), None, "no text has this number");
    }
}
