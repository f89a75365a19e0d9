//! What the file of a program gives to who looks at its stacks: the compiler's rules for unwinding, and names.

use super::debug_file::{self, Missing};
use addr2line::gimli::{self, EndianSlice, RunTimeEndian};
use object::read::{Object, ObjectSection, ReadCache, ReadRef};
use std::borrow::Cow;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// So many units of debug information are looked at, and no larger sections.
const MOST_UNITS: usize = 512;
const LARGEST: u64 = 64 << 20;
/// So many codes of an abbreviation table.
const MOST_CODES: u64 = 10_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramInfo {
    /// How many functions have the compiler's rules for unwinding.
    pub functions: u64,
    /// The size of these rules, in bytes.
    pub unwind_bytes: u64,
    /// The names that it has itself, or that a file with its debug information has.
    pub names: NamesInfo,
    /// That file, if it is another one.
    pub debug_file: Option<PathBuf>,
}

/// Which names there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamesInfo {
    /// None: it was stripped.
    #[default]
    None,
    /// Those in the table of symbols: without lines, and without inlined functions.
    Symbols,
    /// Lines, and inlined functions without their paths.
    Lines,
    /// All.
    All,
    /// All or lines, in files beside the objects (`.dwo`), or in a package of these (`.dwp`).
    Split,
}

impl ProgramInfo {
    /// Looks at this file and, if it has no debug information, at where that would be, as a
    /// [`Symbolizer`](super::Symbolizer) does. `None` if it is no file of a program.
    ///
    /// ```no_run
    /// use lookback_snapshot::symbols::{NamesInfo, ProgramInfo};
    /// let of = ProgramInfo::of("/proc/self/exe".as_ref());
    /// assert!(of.is_some_and(|of| of.names != NamesInfo::None));
    /// ```
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let build_id = debug_file::build_id(path)?;
        let mut found = Self::default();
        read(path, |object| {
            (found.functions, found.unwind_bytes) = unwinding(object);
            found.names = names(object);
        })?;
        if matches!(found.names, NamesInfo::None | NamesInfo::Symbols) {
            // The file itself comes first, but without lines last.
            let other: Result<PathBuf, Missing> = debug_file::find(path, &build_id, &[]);
            if let Some(other) = other.ok().filter(|other| other != path) {
                read(&other, |object| found.names = names(object));
                found.debug_file = Some(other);
            }
        }
        Some(found)
    }
}

type File<'a> = object::File<'a, &'a ReadCache<BufReader<std::fs::File>>>;

fn read(path: &Path, look: impl FnOnce(&File<'_>)) -> Option<()> {
    let file = BufReader::new(debug_file::regular(path)?);
    let cache = ReadCache::new(file);
    let object = object::File::parse(&cache).ok()?;
    look(&object);
    Some(())
}

/// How many functions have rules, by the index of these, and how many bytes the rules take.
fn unwinding<'d>(object: &object::File<'d, impl ReadRef<'d>>) -> (u64, u64) {
    let bytes = object.section_by_name(".eh_frame").map_or(0, |rules| rules.size());
    let index = object.section_by_name(".eh_frame_hdr");
    let head =
        index.as_ref().and_then(|index| index.data_range(index.address(), 12).ok().flatten());
    let head: Option<&[u8; 12]> = head.and_then(|head| head.try_into().ok());
    // The version, then how the next three are written: where the rules are, how many, the table. Linkers write four bytes.
    let count = head.filter(|head| head[0] == 1 && head[1] & 0x0f == 0x0b && head[2] == 0x03);
    let count = count.and_then(|head| Some(u32::from_le_bytes(*head[8..].first_chunk()?)));
    (u64::from(count.unwrap_or_default()), bytes)
}

fn names<'d>(object: &object::File<'d, impl ReadRef<'d>>) -> NamesInfo {
    let has_symbols = object.symbols().next().is_some();
    let lines = object.section_by_name(".debug_line").is_some_and(|lines| lines.size() > 0);
    match units(object) {
        Some(names) if lines || names == NamesInfo::Split => names,
        _ if lines => NamesInfo::Lines,
        _ if has_symbols => NamesInfo::Symbols,
        _ => NamesInfo::None,
    }
}

/// By the units of the program's own crates: those of the standard library come with the toolchain, as they were built. `None`
/// if there is none.
fn units<'d>(object: &object::File<'d, impl ReadRef<'d>>) -> Option<NamesInfo> {
    let endian = if object.is_little_endian() { RunTimeEndian::Little } else { RunTimeEndian::Big };
    // What the units' own entries need: all of it can take more memory than the process that is looked at may have.
    let is_needed = |id| {
        use gimli::SectionId::{
            DebugAbbrev, DebugAddr, DebugInfo, DebugLine, DebugLineStr, DebugStr, DebugStrOffsets,
        };
        let needed =
            [DebugAbbrev, DebugAddr, DebugInfo, DebugLine, DebugLineStr, DebugStr, DebugStrOffsets];
        needed.contains(&id)
    };
    let load = |id: gimli::SectionId| -> Result<Cow<'d, [u8]>, gimli::Error> {
        let section = if is_needed(id) { object.section_by_name(id.name()) } else { None };
        let data = section.and_then(|of| of.compressed_data().ok());
        let data = data.filter(|data| data.uncompressed_size <= LARGEST);
        Ok(data.and_then(|data| data.decompress().ok()).unwrap_or_default())
    };
    let sections = gimli::DwarfSections::load(load).ok()?;
    let dwarf = sections.borrow(|section| EndianSlice::new(section, endian));
    let mut headers = dwarf.units();
    let (mut all, mut lines) = (0_u64, 0_u64);
    for _ in 0..MOST_UNITS {
        let Ok(Some(header)) = headers.next() else { break };
        let Ok(unit) = dwarf.unit(header) else { continue };
        if unit.dwo_name().is_ok_and(|name| name.is_some()) {
            return Some(NamesInfo::Split);
        }
        let is_of_toolchain = unit.comp_dir.is_some_and(|directory| {
            let starts = |with: &[u8]| directory.slice().starts_with(with);
            starts(b"/rustc/") || starts(b"/rust/deps/")
        });
        if is_of_toolchain || !is_rust(&unit) {
            continue;
        }
        // Paths are namespaces, which line tables alone do without.
        let mut codes = (1..MOST_CODES).map_while(|code| unit.abbreviations.get(code));
        let has_paths = codes.any(|of| of.tag() == gimli::DW_TAG_namespace);
        *if has_paths { &mut all } else { &mut lines } += 1;
    }
    match (all, lines) {
        (0, 0) => None,
        _ if all > lines => Some(NamesInfo::All),
        _ => Some(NamesInfo::Lines),
    }
}

fn is_rust(unit: &gimli::Unit<EndianSlice<'_, RunTimeEndian>>) -> bool {
    let mut entries = unit.entries();
    let Ok(Some(root)) = entries.next_dfs() else { return false };
    let language = root.attr_value(gimli::DW_AT_language);
    matches!(language, Some(gimli::AttributeValue::Language(gimli::DW_LANG_Rust)))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn what_a_program_gives_is_what_it_was_built_with() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a.rs");
        std::fs::write(&source, "fn main() { println!(\"{}\", std::env::args().count()); }")
            .unwrap();
        let build = |name: &str, options: &[&str]| {
            let out = folder.path().join(name);
            let rustc =
                Command::new("rustc").args(options).arg("-o").arg(&out).arg(&source).status();
            rustc.is_ok_and(|status| status.success()).then_some(out)
        };
        let cases = [
            ("all", &["-Cdebuginfo=1"][..], NamesInfo::All),
            ("lines", &["-Cdebuginfo=line-tables-only"], NamesInfo::Lines),
            ("symbols", &["-Cdebuginfo=0", "-Cstrip=debuginfo"], NamesInfo::Symbols),
            ("none", &["-Cdebuginfo=0", "-Cstrip=symbols"], NamesInfo::None),
            ("split", &["-Cdebuginfo=1", "-Csplit-debuginfo=unpacked"], NamesInfo::Split),
        ];
        for (name, options, names) in cases {
            let Some(path) = build(name, options) else { return println!("::skipped: no rustc") };
            let found = ProgramInfo::of(&path).unwrap();
            assert_eq!(found.names, names, "{name}");
            assert!(found.functions > 100 && found.unwind_bytes > 10_000, "{name}: {found:?}");
        }
        assert_eq!(ProgramInfo::of(&source), None);
    }
}
