//! Names for the frames of stacks: functions, files and lines, with what the compiler has inlined.
//!
//! A snapshot names the file of a frame's code and that file's build. The names of functions are in that
//! file, or in one with its debug information, so one of them must be available, of the very same build. A
//! file of another build is not used: its lines would be wrong.
//!
//! How much is known depends on how the service was built: `debug = 1` in its profile gives every name,
//! `"line-tables-only"` gives all lines; without either, there are no lines and no inlined functions.
//!
//! [`symbolize`] puts the names into the snapshot itself, which then needs none of these files.

mod awaited;
mod blocked;
mod debug_file;
mod function;
mod program;
mod symbolize;

pub use awaited::Awaited;
pub use blocked::{Blocked, FrameNames, Holder, Wait, WaitKind};
pub use function::FunctionName;
pub use program::{NamesInfo, ProgramInfo};
pub use symbolize::{Symbolized, symbolize};

use crate::read::{Frame, Module, Trace};
use crate::wire::CodeNames;
use addr2line::Loader;
use debug_file::Missing;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Finds names, and keeps what it has opened.
#[derive(Default)]
pub struct Symbolizer {
    folders: Vec<PathBuf>,
    /// Where the paths of the process begin, if it has a root of its own.
    root: Option<PathBuf>,
    files: Vec<PathBuf>,
    /// Names that a snapshot has itself.
    names: Option<Arc<CodeNames>>,
    /// Whether no file is to be opened.
    is_shut: bool,
    opened: HashMap<(String, Vec<u8>), Opened>,
}

/// A module whose file was looked for.
struct Opened {
    file: Result<Loader, Missing>,
    /// Whether any frame in it has a name.
    has_names: bool,
}

/// A function that a thread was in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Location {
    /// Its name.
    pub function: FunctionName,
    /// The source file, as the compiler got it, and the line.
    pub place: Option<(String, u32)>,
    /// Whether it was inlined into the next one.
    pub is_inlined: bool,
}

impl Location {
    /// Whether it is code that services are built on, as far as the name says it; else the source file does. With line
    /// tables alone, the names of inlined functions lack their paths.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        // The crates that the standard library itself is built on have names like any other.
        if self.place.as_ref().is_some_and(|(file, _)| file.starts_with(OF_STD)) {
            return true;
        }
        if self.function.has_path() {
            return self.function.is_foreign();
        }
        let is_of_service = |file: &str| file.ends_with(".rs") && !is_of_others(file);
        !self.place.as_ref().is_some_and(|(file, _)| is_of_service(file))
    }
}

impl Location {
    /// Whether it is the service's own code, as far as that can be told: no code that services are
    /// [built on](Self::is_foreign), and of no file that came from a registry of crates.
    #[must_use]
    pub fn is_of_service(&self) -> bool {
        !self.is_foreign() && !self.place.as_ref().is_some_and(|(file, _)| is_of_others(file))
    }
}

/// Where the sources of other people's code are.
const OF_OTHERS: [&str; 5] =
    ["/.cargo/registry/", "/.cargo/git/", "/vendor/", "/rustc/", "/rustlib/"];
/// And those of the standard library's dependencies, as its builds call them.
const OF_STD: &str = "/rust/deps/";

fn is_of_others(file: &str) -> bool {
    file.starts_with(OF_STD) || OF_OTHERS.iter().any(|place| file.contains(place))
}

impl Symbolizer {
    /// Looks for debug information where the recorded files say it is, and where the system keeps it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Also looks in this directory: for files of the same names, and for `.build-id/ab/cdef….debug`.
    #[must_use]
    pub fn with_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folders.push(folder.into());
        self
    }

    /// Takes the paths of files to begin in this directory: that of a process in a container, as `/proc/17/root`.
    #[must_use]
    pub fn with_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Also looks in this file, if it is of the right build: in `/proc/17/exe`, say, if the program was replaced on the
    /// disk.
    #[must_use]
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.files.push(file.into());
        self
    }

    /// Uses the names that this snapshot has itself ([`symbolize`]), where a file is missing or of another build, or has no
    /// names.
    #[must_use]
    pub fn with_names_of(mut self, trace: &Trace) -> Self {
        self.names = trace.names().map(Arc::clone);
        self
    }

    /// Opens no files at all: the names are those of the snapshot itself, if it has any.
    #[must_use]
    pub fn without_files(mut self) -> Self {
        self.is_shut = true;
        self
    }

    /// Whether it has names of a snapshot itself.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.names.is_some()
    }

    /// The functions that a frame stands for, innermost first: several if some were inlined, none if nothing
    /// is known.
    ///
    /// ```
    /// # fn print(event: &lookback_snapshot::Event) {
    /// let mut symbolizer = lookback_snapshot::symbols::Symbolizer::new();
    /// for frame in event.stack().iter().flat_map(|stack| stack.frames()) {
    ///     for location in symbolizer.locations(&frame) {
    ///         println!("{}", location.function);
    ///     }
    /// }
    /// # }
    /// ```
    pub fn locations(&mut self, frame: &Frame<'_>) -> Vec<Location> {
        let Some(module) = frame.module else { return Vec::new() };
        let at = symbolize::address(frame);
        let names = self.names.as_ref().map(Arc::clone);
        let opened = self.opened(&module);
        let mut found =
            opened.file.as_ref().map_or_else(|_| Vec::new(), |loader| locations(loader, at));
        if found.is_empty()
            && let Some(names) = names
        {
            found = symbolize::locations(&names, &module, at);
        }
        opened.has_names |= !found.is_empty();
        found
    }

    /// Why the frames of some files have no names, a line for each such file.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let missing = self.opened.iter().filter_map(|((path, _), opened)| {
            if opened.has_names || self.is_shut || is_of_the_kernel(path) {
                return None;
            }
            let why = opened.file.as_ref().err().unwrap_or(&Missing::Stripped);
            Some(format!("{path}: {why}"))
        });
        let mut lines: Vec<_> = missing.collect();
        lines.sort_unstable();
        lines
    }

    fn opened(&mut self, module: &Module<'_>) -> &mut Opened {
        let key = (module.path.to_owned(), module.build_id.to_owned());
        let (folders, root, files) = (&self.folders, self.root.as_deref(), &self.files);
        let is_shut = self.is_shut;
        self.opened.entry(key).or_insert_with(|| {
            if is_shut || is_of_the_kernel(module.path) {
                return Opened { file: Err(Missing::File), has_names: false };
            }
            let path = Path::new(module.path);
            let within = root.map(|root| root.join(path.strip_prefix("/").unwrap_or(path)));
            let open = |path: &Path| debug_file::open(path, module.build_id, folders);
            let mut file = within.map_or_else(|| open(path), |path| open(&path));
            for other in files.iter().filter(|_| !module.build_id.is_empty()) {
                file = file.or_else(|why| open(other).map_err(|_| why));
            }
            if root.is_some() {
                file = file.or_else(|why| open(path).map_err(|_| why));
            }
            Opened { file, has_names: false }
        })
    }
}

impl std::fmt::Debug for Symbolizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Symbolizer").field("folders", &self.folders).finish_non_exhaustive()
    }
}

/// Whether this is the code that the kernel gives each process, which is in no file.
fn is_of_the_kernel(path: &str) -> bool {
    ["linux-vdso.so.1", "linux-gate.so.1", "[vdso]"].contains(&path)
}

fn locations(loader: &Loader, at: u64) -> Vec<Location> {
    let mut found = Vec::new();
    if let Ok(mut frames) = loader.find_frames(at) {
        while let Ok(Some(frame)) = frames.next() {
            let place = frame
                .location
                .and_then(|place| Some((place.file?.to_owned(), place.line.unwrap_or_default())));
            let name = frame.function.as_ref().and_then(|name| name.raw_name().ok());
            // With line tables alone, functions have the names of their symbols.
            let name = name.or_else(|| loader.find_symbol(at).map(Into::into));
            let Some(name) = name else { continue };
            found.push(Location { function: FunctionName::new(&name), place, is_inlined: true });
        }
    }
    if found.is_empty()
        && let Some(name) = loader.find_symbol(at)
    {
        found.push(Location { function: FunctionName::new(name), place: None, is_inlined: true });
    }
    if let Some(last) = found.last_mut() {
        last.is_inlined = false;
        if !last.function.has_path()
            && let Some(symbol) = loader.find_symbol(at)
        {
            let whole = FunctionName::new(symbol);
            if whole.has_path() {
                last.function = whole;
            }
        }
    }
    name_crates(&mut found);
    found
}

/// An inlined function whose name lacks its path is of the crate of the function that it was inlined into, if the files of
/// both are of one directory of sources.
fn name_crates(found: &mut [Location]) {
    let directory = |of: &Location| {
        let (directory, _) = of.place.as_ref()?.0.rsplit_once("/src/")?;
        Some(directory.to_owned())
    };
    let mut outer: Option<(String, String)> = None;
    for location in found.iter_mut().rev() {
        let Some(directory) = directory(location) else { continue };
        match (location.function.krate(), &outer) {
            (Some(krate), _) => outer = Some((krate.to_owned(), directory)),
            (None, Some((krate, of))) if *of == directory => location.function.is_within(krate),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_of_the_standard_library_are_not_the_service() {
        let file = "/rust/deps/hashbrown-0.16.1/src/map.rs";
        for name in ["hashbrown::map::HashMap<K,V,S,A>::insert", "insert"] {
            let location = Location {
                function: FunctionName::new(name),
                place: Some((file.to_owned(), 1843)),
                is_inlined: true,
            };
            assert!(location.is_foreign() && !location.is_of_service(), "{name}");
        }
    }

    #[test]
    fn an_inlined_function_without_a_path_is_of_the_crate_whose_sources_are_beside_its_own() {
        let location = |name, file: &str| Location {
            function: FunctionName::new(name),
            place: Some((file.to_owned(), 1)),
            is_inlined: true,
        };
        let mut found = [
            location("here", "/home/a/recorder/src/stack/unwind.rs"),
            location("add", "/home/a/shop/src/cart.rs"),
            location(
                "lookback_recorder::record::hooks::logged",
                "/home/a/recorder/src/record/hooks.rs",
            ),
        ];
        assert!(!found[0].is_foreign(), "the file alone does not say it");
        name_crates(&mut found);
        assert_eq!(found.each_ref().map(Location::is_foreign), [true, false, true]);
        assert_eq!(found[0].function.to_string(), "here");
    }

    #[test]
    fn what_the_standard_library_is_built_of_is_not_the_services() {
        let location = |file: &str| Location {
            function: FunctionName::new("map::Map<K,V>::reserve"),
            place: Some((file.to_owned(), 17)),
            is_inlined: false,
        };
        assert!(!location("/rust/deps/hashbrown-0.16.1/src/map.rs").is_of_service());
        assert!(location("/home/a/rust/deps/src/map.rs").is_of_service());
    }
}
