//! Names put into a snapshot, so that its stacks can be read where the recorded program is not.

use super::{FunctionName, Location, Symbolizer};
use crate::file::encode_names;
use crate::read::{Frame, Module, Trace};
use crate::wire::{CodeName, CodeNames, CodeNamesWriter};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// So many different addresses are looked at.
const MOST_ADDRESSES: usize = 1 << 20;
/// And so many files.
const MOST_MODULES: usize = 4096;

/// The level of compression: the names are written once, and read often.
const LEVEL: i32 = 9;

/// What [`symbolize`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Symbolized {
    /// How many different addresses the stacks of the snapshot have.
    pub addresses: u64,
    /// How many of them have names now.
    pub named: u64,
    /// How many were left out, because there is no room for more.
    pub left_out: u64,
    /// How many bytes the names take in the file.
    pub names_bytes: u64,
    /// How many bytes were written in all.
    pub bytes: u64,
}

/// Writes the snapshot to `out` with the names of all functions in its stacks. All else stays as it is, the addresses of the
/// frames included. Names that the snapshot has already are kept if the symbolizer has them
/// ([`with_names_of`](Symbolizer::with_names_of)) and finds no others.
///
/// ```no_run
/// use lookback_snapshot::symbols::{Symbolizer, symbolize};
/// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
/// let mut symbolizer = Symbolizer::new().with_names_of(&trace);
/// symbolize(&trace, &mut symbolizer, std::fs::File::create("incident.named.lbk")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `out`, and of reading the snapshot.
pub fn symbolize(
    trace: &Trace,
    symbolizer: &mut Symbolizer,
    mut out: impl Write,
) -> io::Result<Symbolized> {
    let (files, left_out) = addresses(trace);
    let mut done = Symbolized { left_out, ..Symbolized::default() };
    let mut writer = CodeNamesWriter::default();
    for ((path, build_id), addresses) in each_file(&files) {
        done.addresses += addresses.len() as u64;
        let module = Module { path, build_id };
        let mut is_begun = None;
        for at in addresses {
            let frame = Frame { module: Some(module), offset: *at, is_exact: true };
            let functions = symbolizer.locations(&frame);
            if functions.is_empty() {
                continue;
            }
            // Without any name a file has no entry.
            let has_room = *is_begun.get_or_insert_with(|| writer.module(path, build_id))
                && writer.address(*at, functions.iter().map(name));
            let counted = if has_room { &mut done.named } else { &mut done.left_out };
            *counted += 1;
        }
    }
    let mut names = Vec::new();
    writer.finish().encode(&mut names);
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    let compressed = compressor.compress(&names)?;
    let mut frame = Vec::new();
    encode_names(&mut frame, &compressed);
    done.names_bytes = frame.len() as u64;
    done.bytes = trace.write_with_names(&frame, &mut out)?;
    Ok(done)
}

/// By path and build id.
type Files = BTreeMap<String, BTreeMap<Vec<u8>, BTreeSet<u64>>>;

/// The addresses of a snapshot's stacks, and how many more there are.
fn addresses(trace: &Trace) -> (Files, u64) {
    let (mut files, mut modules, mut count, mut left_out) = (Files::new(), 0, 0, 0);
    trace.each_frame(|frame| {
        let Some(Module { path, build_id, .. }) = frame.module else { return };
        // Most frames are of a file that is known, which is looked up without a copy of its name.
        let known = files.get_mut(path).and_then(|builds| builds.get_mut(build_id));
        let addresses = match known {
            _ if count >= MOST_ADDRESSES => None,
            None if modules < MOST_MODULES => {
                modules += 1;
                let builds = files.entry(path.to_owned()).or_default();
                Some(builds.entry(build_id.to_owned()).or_default())
            }
            known => known,
        };
        match addresses {
            Some(addresses) => count += usize::from(addresses.insert(address(frame))),
            None => left_out += 1,
        }
    });
    (files, left_out)
}

fn each_file(files: &Files) -> impl Iterator<Item = ((&str, &[u8]), &BTreeSet<u64>)> {
    let builds = files.iter().flat_map(|(path, builds)| builds.iter().map(move |of| (path, of)));
    builds.map(|(path, (build_id, addresses))| ((&**path, &**build_id), addresses))
}

/// Where a frame's names are looked up: a return address lies after the call, which may be another line or even another
/// function.
pub(super) fn address(frame: &Frame<'_>) -> u64 {
    frame.offset.saturating_sub(u64::from(!frame.is_exact))
}

fn name(of: &Location) -> CodeName<'_> {
    let (file, line) = of.place.as_ref().map_or(("", 0), |(file, line)| (file, *line));
    let krate = of.function.within().unwrap_or_default();
    CodeName { function: of.function.whole(), krate, file, line }
}

/// The functions of an address, by the names that a snapshot has.
pub(super) fn locations(names: &CodeNames, module: &Module<'_>, at: u64) -> Vec<Location> {
    let location = |of: CodeName<'_>| Location {
        function: FunctionName::demangled(
            of.function.to_owned(),
            (!of.krate.is_empty()).then(|| of.krate.to_owned()),
        ),
        place: (!of.file.is_empty()).then(|| (of.file.to_owned(), of.line)),
        is_inlined: true,
    };
    let mut found: Vec<_> = names.of(module.path, module.build_id, at).map(location).collect();
    if let Some(last) = found.last_mut() {
        last.is_inlined = false;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{FileWriter, GenerationFrame};
    use crate::wire::{ClockRecord, CodeFile, CodeFrame, Generation, Metadata, ProcessStacks};

    #[test]
    fn stacks_from_outside_and_the_index_are_found_beside_the_names() {
        let stacks = ProcessStacks {
            modules: vec![CodeFile::new("/no/such/file", *b"id")],
            frames: vec![CodeFrame::new(0, 1, 17, true)],
            ..ProcessStacks::default()
        };
        let mut writer = FileWriter::new(Vec::new(), &Metadata::default()).unwrap();
        let clock = ClockRecord::default();
        let mut generation = GenerationFrame {
            number: Generation(1),
            complete: true,
            began: clock,
            ended: clock,
            blocks: Vec::new(),
        };
        writer.generation(&mut generation).unwrap();
        writer.stacks(&stacks).unwrap();
        let plain = Trace::from_bytes(writer.finish().unwrap()).unwrap();
        let mut named = Vec::new();
        let done = symbolize(&plain, &mut Symbolizer::new(), &mut named).unwrap();
        assert_eq!((done.addresses, done.named, done.bytes), (1, 0, named.len() as u64));
        let trace = Trace::from_bytes(named.clone()).unwrap();
        assert!(trace.damage().is_empty() && trace.names().is_some());
        assert_eq!(trace.process_stacks(), Some(&stacks));
        assert_eq!(trace.generations().len(), 1);
        let mut again = Vec::new();
        symbolize(&trace, &mut Symbolizer::new(), &mut again).unwrap();
        assert_eq!(again, named, "names replace those that were there");
        // Without the trailer it is found by a walk.
        named.truncate(named.len() - 40);
        let trace = Trace::from_bytes(named).unwrap();
        assert!(trace.names().is_some() && trace.process_stacks().is_some());
        assert_eq!(trace.generations().len(), 1);
    }
}
