//! What code another process has loaded, with the unwind tables: from its memory alone, so that it does not matter
//! whether the files are still there, or in which namespace.
//!
//! What begins like an object where a file's beginning is mapped is one, if code of the same file, or of none, is where
//! its headers say.

#![forbid(unsafe_code)]

use super::memory::OutsideMemory;
use crate::os::loaded_code::Headers;
use crate::stack::modules::{Loaded, Module, ModuleMap};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

/// The code of another process.
pub(super) type Code = ModuleMap<Box<Module>>;

/// No more is read of the list of mappings.
const MOST_OF_LIST: u64 = 64 << 20;
/// No more objects are looked at.
const MOST_OBJECTS: usize = crate::stack::modules::MAX_MODULES;
/// All tables together take no more memory.
const MOST_TABLES: usize = 256 << 20;

/// The mappings that matter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mappings {
    /// Where the beginning of a file is mapped.
    begins: Vec<Begin>,
    /// Code, with its file; in the order of addresses.
    code: Vec<(Range<u64>, FileKey)>,
}

/// Device and number of a file, as the kernel prints them; no file is `00:00 0`.
type FileKey = (Box<str>, u64);

#[derive(Debug, PartialEq, Eq)]
struct Begin {
    address: u64,
    file: FileKey,
    path: String,
}

impl Mappings {
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let mut list = Vec::new();
        File::open(format!("/proc/{pid}/maps"))?.take(MOST_OF_LIST).read_to_end(&mut list)?;
        let mut found = Self::default();
        list.split(|byte| *byte == b'\n').for_each(|line| _ = found.add(line));
        Ok(found)
    }

    /// A line: `from-to r-xp offset major:minor inode path`.
    fn add(&mut self, line: &[u8]) -> Option<()> {
        let mut rest = line;
        let mut field = || {
            let trimmed = rest.trim_ascii_start();
            let end = trimmed.iter().position(|byte| *byte == b' ').unwrap_or(trimmed.len());
            let (field, behind) = trimmed.split_at(end);
            rest = behind;
            std::str::from_utf8(field).ok()
        };
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (from, to) = field()?.split_once('-')?;
        let range = number(from)?..number(to)?;
        let rights = field()?.as_bytes();
        let offset = number(field()?)?;
        let file = (field()?.into(), field()?.parse().ok()?);
        let path = rest.trim_ascii_start();
        if offset == 0 && !path.is_empty() && self.begins.len() < 16 * MOST_OBJECTS {
            let path = shown(path);
            self.begins.push(Begin { address: range.start, file: FileKey::clone(&file), path });
        }
        if rights.get(2) == Some(&b'x') && self.code.len() < 16 * MOST_OBJECTS {
            self.code.push((range, file));
        }
        Some(())
    }

    /// Whether code of this file, or of none, is mapped in this range.
    fn has_code(&self, range: &Range<u64>, file: &FileKey) -> bool {
        let first = self.code.partition_point(|(code, _)| code.end <= range.start);
        let within = self.code[first..].iter().take_while(|(code, _)| code.start < range.end);
        within.take(64).any(|(_, of)| of == file || of.1 == 0)
    }

    /// The code, with its tables. `is_over` says when to make no more of them.
    pub(super) fn code(&self, memory: OutsideMemory<'_>, is_over: &dyn Fn() -> bool) -> Code {
        let mut loaded = Vec::new();
        let mut room = MOST_TABLES;
        for begin in &self.begins {
            if loaded.len() == MOST_OBJECTS || is_over() {
                break;
            }
            let headers = Headers::behind(memory, begin.address);
            let object = headers.and_then(|headers| headers.describe(memory, &begin.path));
            let Some(object) = object.filter(|object| self.has_code(&object.text, &begin.file))
            else {
                continue;
            };
            let number = loaded.len() as u32 + 1;
            if let Some(object) = Loaded::elsewhere(number, object, memory, room, is_over) {
                room = room.saturating_sub(object.bytes());
                loaded.push(object);
            }
        }
        ModuleMap::new(loaded)
    }
}

/// A path as it was before the kernel has printed it; what the kernel has made has a name as the loader knows it.
fn shown(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    if path == "[vdso]" {
        return "linux-vdso.so.1".to_owned();
    }
    path.replace("\\012", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_mappings_is_read_and_what_is_none_is_left_out() {
        let list = b"1000-2000 r--p 00000000 fe:00 17    /bin/a b (deleted)\n\
            2000-3000 r-xp 00001000 fe:00 17   /bin/a b (deleted)\n\
            3000-4000 rw-p 00000000 00:00 0 \n\
            4000-5000 r-xp 00000000 00:00 0     [vdso]\n\
            x-y r-xp 0 0 0\n\nffff";
        let mut found = Mappings::default();
        list.split(|byte| *byte == b'\n').for_each(|line| _ = found.add(line));
        let file = (Box::from("fe:00"), 17);
        assert_eq!(found.begins.len(), 2);
        assert_eq!(found.begins[0].path, "/bin/a b");
        assert_eq!(found.begins[1].path, "linux-vdso.so.1");
        assert_eq!(found.code.len(), 2);
        assert!(found.has_code(&(0x2800..0x2900), &file));
        assert!(!found.has_code(&(0x1000..0x2000), &file));
        assert!(found.has_code(&(0x1000..0x4001), &(Box::from("fe:00"), 18)), "of no file");
    }

    #[test]
    fn of_this_process_the_program_is_found_with_its_table() {
        let memory = File::open("/proc/self/mem").unwrap();
        let mappings = Mappings::of(std::process::id()).unwrap();
        let code = mappings.code(OutsideMemory(&memory), &|| false);
        let here = of_this_process_the_program_is_found_with_its_table as fn() as usize as u64;
        let (module, _) = code.find(here).unwrap();
        assert_eq!(*module.path, *std::env::current_exe().unwrap().to_string_lossy());
        assert!(!module.build_id.is_empty());
        let none = mappings.code(OutsideMemory(&memory), &|| true);
        assert!(none.find(here).is_none());
    }
}
