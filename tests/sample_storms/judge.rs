//! Whether the stacks of samples are right: each frame but the innermost is where a call returns to, they end where the
//! thread began, and those of threads whose work is known lead through that, and through nobody else's.

use crate::common;
use lookback::read::symbols::Symbolizer;
use lookback::read::{Event, EventKind, Frame, OwnedFrame, StackEnd, StackSource, Trace};
use std::collections::{BTreeMap, HashMap};

/// The work of threads: their name, and the function that all of it is below.
const WORK: [(&str, &str); 2] = [("busy", "busy_root"), ("tasks", "tasks_root")];

/// The names of the threads that are judged.
const SAMPLED: [&str; 4] = ["busy", "tasks", "storm", "brief"];

/// See the module.
#[derive(Default)]
pub struct Judge {
    symbolizer: Symbolizer,
    /// Where files are mapped, by path.
    biases: HashMap<String, u64>,
    /// What is known of a frame: whether it is behind a call, and the functions there.
    known: HashMap<OwnedFrame, (bool, Vec<String>)>,
    /// Files that come and go: what is mapped now says nothing of then.
    passing: Vec<String>,
    /// In storms of code that has no rules, stacks may end there.
    may_end_in_unknown_code: bool,
    /// Samples by thread name, and of those below the work of the thread.
    seen: BTreeMap<String, (u64, u64)>,
    without_stack: BTreeMap<String, u64>,
    ends: BTreeMap<String, u64>,
    /// The newest sample that was judged.
    newest: u64,
}

impl Judge {
    pub fn new() -> Self {
        Self::default()
    }

    /// Stacks may end in code that nobody has rules for.
    pub fn of_unknown_code(mut self) -> Self {
        self.may_end_in_unknown_code = true;
        self
    }

    /// A file whose code is unloaded.
    pub fn with_passing(mut self, path: &str) -> Self {
        self.passing.push(path.to_owned());
        self
    }

    /// Judges the samples that are newer than those before.
    pub fn examine(&mut self, trace: &Trace) {
        common::assert_sound(trace);
        self.biases = biases();
        let mut newest = self.newest;
        for event in common::events(trace) {
            let EventKind::CpuSample { source, .. } = event.kind() else { continue };
            if event.ticks().0 > self.newest {
                newest = newest.max(event.ticks().0);
                self.judge(&event, source);
            }
        }
        self.newest = newest;
    }

    fn judge(&mut self, event: &Event, source: Option<StackSource>) {
        // The test's own threads read snapshots, also in assembly that has no rules: zstd's.
        if !SAMPLED.contains(&event.name()) {
            return;
        }
        let Some(stack) = event.stack() else {
            *self.without_stack.entry(format!("{source:?}")).or_default() += 1;
            return;
        };
        let frames: Vec<_> = stack.frames().collect();
        // While the C library's unwinder goes to where a panic is caught, it writes to the very frames that lead out of it.
        let is_unwinder = |frame: &Frame<'_>| {
            frame.module.is_some_and(|module| module.path.contains("libgcc_s.so"))
        };
        if frames.first().is_some_and(is_unwinder) {
            return;
        }
        let end = stack.end();
        *self.ends.entry(format!("{end:?}")).or_default() += 1;
        let is_end = match end {
            Some(StackEnd::Begin) => true,
            Some(StackEnd::UnknownCode) => self.may_end_in_unknown_code,
            // The loader's code that binds functions when they are first called aligns the stack.
            Some(StackEnd::Unsaid) => true,
            _ => false,
        };
        assert!(is_end, "{}: {end:?} {}", event.name(), self.words(&frames));
        assert!(frames[0].is_exact, "{}", self.words(&frames));
        let mut functions = Vec::new();
        for (at, frame) in frames.iter().enumerate() {
            let (is_behind_call, names) = self.known(frame);
            functions.extend(names.iter().cloned());
            // A handler of a signal was called by nobody.
            let has_interrupted = frames.get(at + 1).is_some_and(|caller| caller.is_exact);
            assert!(
                is_behind_call || has_interrupted,
                "{}: {frame:x?} of {}",
                event.name(),
                self.words(&frames)
            );
        }
        let below = |root: &str| functions.iter().any(|function| function.contains(root));
        let work = WORK.iter().find(|(name, _)| *name == event.name());
        let is_there = work.is_some_and(|(_, root)| below(root));
        let (all, there) = self.seen.entry(event.name().to_owned()).or_default();
        (*all, *there) = (*all + 1, *there + u64::from(is_there));
        let foreign = WORK.iter().find(|of| Some(*of) != work && below(of.1));
        assert_eq!(foreign, None, "{}: {}", event.name(), self.words(&frames));
    }

    /// Whether a frame is behind a call, as far as that can be told, and the functions there.
    fn known(&mut self, frame: &Frame<'_>) -> (bool, Vec<String>) {
        if let Some(known) = self.known.get(&OwnedFrame::from(*frame)) {
            return known.clone();
        }
        let is_behind_call = frame.is_exact || self.is_behind_call(frame);
        let located = self.symbolizer.locations(frame);
        let names = located.iter().map(|at| at.function.whole().to_owned()).collect();
        self.known.insert(OwnedFrame::from(*frame), (is_behind_call, names));
        self.known[&OwnedFrame::from(*frame)].clone()
    }

    fn is_behind_call(&self, frame: &Frame<'_>) -> bool {
        // Without a file the address is unknown, and the kernel's page of code has none.
        let Some(module) = frame.module else { return self.may_end_in_unknown_code };
        if self.passing.iter().any(|path| path == module.path) {
            return true;
        }
        // The loader may know a file by the path of a link.
        let path = std::fs::canonicalize(module.path).unwrap_or_else(|_| module.path.into());
        let Some(bias) = path.to_str().and_then(|path| self.biases.get(path)) else {
            return module.path.starts_with("linux-vdso");
        };
        let at = std::ptr::with_exposed_provenance::<u8>((bias + frame.offset) as usize);
        // SAFETY: code of a file that stays loaded, behind its first page.
        let before = unsafe { std::slice::from_raw_parts(at.wrapping_sub(7), 7) };
        let through = |length: usize| {
            let [code, modes, ..] = before[7 - length..] else { return false };
            code == 0xff && modes >> 3 & 7 == 2
        };
        before[2] == 0xe8 || [2, 3, 4, 6, 7].into_iter().any(through)
    }

    fn words(&mut self, frames: &[Frame<'_>]) -> String {
        let mut words = String::new();
        for frame in frames.iter().take(40) {
            let names: Vec<_> =
                self.symbolizer.locations(frame).iter().map(|at| at.function.to_string()).collect();
            let path = frame.module.map_or("?", |module| module.path);
            words += &format!("\n  {path}+{:#x} {names:?}", frame.offset);
        }
        words
    }

    /// Whether there was a sample of each thread whose work is known. One that mostly sleeps is seldom sampled.
    pub fn has_seen_all(&self) -> bool {
        WORK.iter().all(|(name, _)| self.seen.get(*name).is_some_and(|(all, _)| *all > 0))
    }

    /// Says what there was; the threads whose work is known were at it nearly all the time.
    pub fn sum_up(&self) {
        println!("::{:?}, ends {:?}, without stack {:?}", self.seen, self.ends, self.without_stack);
        for (name, _) in WORK {
            let (all, there) = self.seen.get(name).copied().unwrap_or_default();
            assert!(all > 0, "{name} is sampled");
            // As the thread begins, and ends.
            assert!(all - there <= 4 + all / 50, "{name}: {there} of {all}");
        }
        let ends = |of: StackEnd| self.ends.get(&format!("{:?}", Some(of))).copied();
        let unsaid = ends(StackEnd::Unsaid).unwrap_or_default();
        let all: u64 = self.ends.values().sum();
        assert!(unsaid <= 2 + all / 50, "{unsaid} of {all}");
    }
}

/// Where the files that are loaded now begin.
fn biases() -> HashMap<String, u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has /proc");
    let mut found = HashMap::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), _, Some("00000000"), _, _, Some(path)) =
            (words.next(), words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let start = range.split('-').next().and_then(|start| u64::from_str_radix(start, 16).ok());
        found.entry(path.to_owned()).or_insert(start.expect("a number"));
    }
    found
}
