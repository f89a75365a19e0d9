//! Reads the snapshots of a side, one after the other.

use crate::exit::{Damage, open};
use crate::frames;
use anyhow::anyhow;
use lookback::Trace;
use lookback::read::Frame;
use lookback::read::analysis::{DiffFunction, DiffSide};
use lookback::read::symbols::Symbolizer;
use lookback::read::wire::key;
use std::path::{Path, PathBuf};

/// All snapshots of a directory, or the one that is named. What is damaged is added to `damage`; in a directory, so is what
/// is no snapshot.
pub fn read(
    path: &Path,
    folders: &[PathBuf],
    damage: &mut Vec<String>,
) -> anyhow::Result<DiffSide> {
    let files = files(path)?;
    let is_directory = path.is_dir();
    let mut side = DiffSide::of_files(files.len());
    let mut names = Names::default();
    for file in &files {
        match open(file) {
            Ok(trace) => {
                let mut found = Damage::of(&trace);
                for generation in trace.generations() {
                    generation.damage.iter().for_each(|error| found.note(error));
                }
                damage.extend(found.lines().iter().cloned());
                let symbolizer = names.of(&trace, folders);
                let mut name = |frame: &Frame<'_>| {
                    symbolizer.as_mut().map(|of| functions(of, frame)).unwrap_or_default()
                };
                side.add(&trace, Some(&mut name));
            }
            Err(error) if is_directory => damage.push(format!("{error:#}")),
            Err(error) => return Err(error),
        }
    }
    if side.files() == 0 {
        return Err(anyhow!(
            "{}: none of the {} files in it can be read",
            path.display(),
            files.len()
        ));
    }
    Ok(side)
}

/// The snapshots of a directory, in the order of their names.
fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let shown = path.display();
    let entries = path.read_dir().map_err(|error| anyhow!("{shown}: cannot be read: {error}"))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "lbk")).collect();
    files.sort();
    match files.is_empty() {
        true => {
            Err(anyhow!("{shown}: this is a directory with no .lbk file in it; name a snapshot"))
        }
        false => Ok(files),
    }
}

fn functions(symbolizer: &mut Symbolizer, frame: &Frame<'_>) -> Vec<DiffFunction> {
    let locations = symbolizer.locations(frame);
    let named = locations.iter().map(|location| DiffFunction {
        name: location.function.to_string(),
        place: location.place.as_ref().map(|(file, line)| format!("{file}:{line}")),
        is_own: !location.is_foreign(),
        is_named: true,
    });
    named.collect()
}

/// The names of functions. Debug information is opened once for all files of a build.
#[derive(Default)]
struct Names(Option<(String, Option<Symbolizer>)>);

impl Names {
    fn of(&mut self, trace: &Trace, folders: &[PathBuf]) -> &mut Option<Symbolizer> {
        let metadata = trace.metadata();
        let text = |name| metadata.text(name).unwrap_or_default();
        let build =
            [key::BOOT_ID, key::PROCESS_EXECUTABLE, key::PROCESS_BUILD_ID].map(text).join(" ");
        // Names that are in a file are those of its own frames.
        let has_names = Symbolizer::new().with_names_of(trace).has_names();
        let is_known = self.0.as_ref().is_some_and(|(known, _)| *known == build);
        if !is_known || has_names {
            self.0 = None;
        }
        &mut self.0.get_or_insert_with(|| (build, frames::symbolizer(trace, folders))).1
    }
}
