//! CPU samples, what is alive in the heap, or waits for locks, as folded stacks: a line for each stack, outermost function
//! first, and how many samples it has, or bytes, or nanoseconds. Flame graphs are drawn of it (`inferno-flamegraph`, `flamegraph.pl`), and
//! `speedscope.app` reads it.

use super::frame_names::FrameNames;
use crate::analysis::{ContentionProfile, CpuProfile, HeapProfile};
use crate::read::{OwnedFrame, StackSource};
use crate::symbols::{Location, Symbolizer};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Writes the lines, in alphabetical order, and returns how many. The first part of each is the thread's name.
///
/// ```no_run
/// use lookback_snapshot::{analysis::CpuProfile, export::folded, symbols::Symbolizer};
/// let trace = lookback_snapshot::Trace::open("incident.lbk")?;
/// let profile = CpuProfile::of(&trace, |error| eprintln!("{error}"));
/// folded::write(&profile, &mut Symbolizer::new(), std::io::stdout())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of `out`.
pub fn write(
    profile: &CpuProfile,
    symbolizer: &mut Symbolizer,
    out: impl Write,
) -> io::Result<u64> {
    let mut lines = Lines::of(profile.frames(), symbolizer);
    for stack in &profile.stacks {
        let thread = match profile.thread_name(stack) {
            "" => "(thread)",
            name => name,
        };
        lines.add(Some(thread), &stack.frames, stack.weight);
    }
    for (why, weight) in &profile.unplaced {
        lines.add_sampled(&[], *why, *weight);
    }
    lines.add(Some("(further stacks)"), &[], profile.left_out);
    lines.write(out)
}

/// Writes what is alive in the heap, in bytes, as far as the samples say: lines as of [`write`](fn@write), without threads.
///
/// # Errors
/// Those of `out`.
pub fn write_heap(
    profile: &HeapProfile,
    symbolizer: &mut Symbolizer,
    out: impl Write,
) -> io::Result<u64> {
    let mut lines = Lines::of(profile.frames(), symbolizer);
    for stack in &profile.stacks {
        lines.add_sampled(&stack.frames, stack.source, stack.live_bytes);
    }
    lines.add(Some("(further stacks)"), &[], profile.left_out.1);
    lines.write(out)
}

/// Writes how long threads and tasks waited for locks, in nanoseconds: lines as of [`write`](fn@write), without threads. The
/// innermost function is the service's, not one of the recorder's that takes the lock.
///
/// # Errors
/// Those of `out`.
pub fn write_contention(
    profile: &ContentionProfile,
    symbolizer: &mut Symbolizer,
    out: impl Write,
) -> io::Result<u64> {
    let mut lines = Lines::of(profile.frames(), symbolizer);
    for stack in &profile.stacks {
        // That a lock waits inside of what takes it, everybody knows.
        let (frames, functions) = lines.names.own_leaf(&stack.frames);
        lines.inside = functions;
        lines.add_sampled(&stack.frames[frames..], stack.source, stack.waited.0);
    }
    lines.inside = 0;
    lines.add(Some("(further stacks)"), &[], profile.left_out.1.0);
    lines.write(out)
}

struct Lines<'a> {
    names: FrameNames<'a>,
    lines: BTreeMap<String, u64>,
    /// So many functions of the innermost frame are left out of the next stack.
    inside: usize,
}

impl<'a> Lines<'a> {
    fn of(frames: &'a [OwnedFrame], symbolizer: &mut Symbolizer) -> Self {
        Self { names: FrameNames::of(frames, symbolizer), lines: BTreeMap::new(), inside: 0 }
    }

    /// A stack, innermost frame first, and what stands before it.
    fn add(&mut self, first: Option<&str>, frames: &[u32], weight: u64) {
        if weight == 0 {
            return;
        }
        let mut parts: Vec<_> = first.map(part).into_iter().collect();
        for (at, frame) in frames.iter().enumerate().rev() {
            let inside = if at == 0 { self.inside } else { 0 };
            match self.names.functions(*frame).get(inside..).unwrap_or_default() {
                [] => parts.push(part(&self.names.offset(*frame))),
                functions => {
                    let of = |of: &Location| part(&of.function.to_string());
                    parts.extend(functions.iter().rev().map(of));
                }
            }
        }
        let sum = self.lines.entry(parts.join(";")).or_default();
        *sum = sum.saturating_add(weight);
    }

    /// A stack, or why there is none.
    fn add_sampled(&mut self, frames: &[u32], source: Option<StackSource>, weight: u64) {
        if frames.is_empty() {
            let why = source.map_or("unknown", |why| why.in_words());
            self.add(Some(&format!("(no stack: {why})")), &[], weight);
        } else {
            self.add(None, frames, weight);
        }
    }

    /// Writes the lines, and returns how many.
    fn write(self, mut out: impl Write) -> io::Result<u64> {
        for (line, weight) in &self.lines {
            writeln!(out, "{line} {weight}")?;
        }
        out.flush()?;
        Ok(self.lines.len() as u64)
    }
}

/// A name without what has a meaning in a line.
fn part(name: &str) -> String {
    let harmless = |character: char| match character {
        ';' => ':',
        character if character.is_control() => '?',
        character => character,
    };
    name.chars().map(harmless).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::read::Trace;

    /// Samples of a program that is not here.
    pub(in crate::export) fn profile() -> CpuProfile {
        let text = "metadata \"cpu_samples_hz\" 100\n\
                    generation 1 incomplete began=1000000:5000000:5000000:200000000 \
                    ended=2000000:10000000:10000000:200000000\n\
                    block slot=1 thread=1\n  module id=2 path=\"/srv/my;shop\" build_id=0x0123\n  \
                    frame id=3 caller=0 module=0 offset=0\n  \
                    frame id=4 caller=3 module=2 offset=200\n  \
                    frame id=5 caller=4 module=2 offset=301\n  \
                    @10 thread_start thread=1 os_thread=7 name=\"wor;ker\\n\"\n  \
                    @20 cpu_sample thread=0 stack=5 source=3 weight=2 ago=0\n  \
                    @30 cpu_sample thread=0 stack=5 source=3 weight=1 ago=0\n  \
                    @40 cpu_sample thread=0 stack=0 source=16 weight=4 ago=0\n";
        let trace = Trace::from_bytes(crate::text::from_text(text).unwrap()).unwrap();
        CpuProfile::of(&trace, |error| panic!("{error}"))
    }

    #[test]
    fn equal_stacks_are_one_line_and_what_has_no_stack_is_told() {
        let mut out = Vec::new();
        let count = write(&profile(), &mut Symbolizer::new(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "(no stack: the recorder had no unwind tables yet) 4\n\
             wor:ker?;my:shop+0x64;my:shop+0x96 3\n"
        );
        assert_eq!(count, 2);
    }
}
