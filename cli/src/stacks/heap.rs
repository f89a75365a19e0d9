//! `lookback stacks --heap`: what is alive in memory, and which stacks have allocated it.

use super::cpu::named;
use super::groups::{Group, NamedFrame, alike};
use super::{is_of_threads_alone, print};
use crate::exit::{Damage, Verdict, complain};
use crate::format::{bytes, counted, duration, escape};
use crate::terminal::{dim, odd, strong};
use lookback::read::Trace;
use lookback::read::analysis::{AllocatingStack, HeapProfile};
use lookback::read::symbols::Symbolizer;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

/// So many stacks are printed.
const STACKS: usize = 10;
/// And of these, for programs.
const STACKS_IN_JSON: usize = 1000;

pub fn run(
    trace: &Trace,
    mut symbolizer: Symbolizer,
    mut damage: Damage,
    all_frames: bool,
    as_json: bool,
) -> anyhow::Result<Verdict> {
    let mut profile = HeapProfile::of(trace, |error| damage.note(&error));
    let frames = named(profile.frames(), &mut symbolizer);
    merge(&mut profile, &frames);
    let mut out = BufWriter::new(io::stdout().lock());
    if as_json {
        writeln!(out, "{:#}", json(trace, &profile, &frames, &symbolizer))?;
    } else {
        text(trace, &profile, &frames, all_frames, &mut out)?;
        out.flush()?;
        if profile.totals.is_some() {
            symbolizer.problems().iter().for_each(|line| complain(line));
        }
    }
    out.flush()?;
    Ok(damage.tell())
}

fn text(
    trace: &Trace,
    profile: &HeapProfile,
    frames: &[NamedFrame],
    all_frames: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if profile.totals.is_none() && profile.samples == 0 {
        return writeln!(out, "{}", why_none(trace, profile));
    }
    header(profile, out)?;
    let whole = sum(profile.stacks.iter().map(|of| of.live_bytes));
    for stack in profile.stacks.iter().take(STACKS) {
        writeln!(out)?;
        line(stack, whole, out)?;
        if !stack.frames.is_empty() {
            print::frames(&group(stack, frames), all_frames, out)?;
        }
    }
    let rest = profile.stacks.get(STACKS..).unwrap_or_default();
    let samples = sum(rest.iter().map(|of| of.live_samples)).saturating_add(profile.left_out.0);
    if samples > 0 {
        let live = sum(rest.iter().map(|of| of.live_bytes)).saturating_add(profile.left_out.1);
        let words = format!("{} are alive of other stacks", about(live, samples));
        writeln!(out, "\n{}", dim().apply_to(words))?;
    }
    Ok(())
}

/// Adds up the stacks that are printed alike.
fn merge(profile: &mut HeapProfile, frames: &[NamedFrame]) {
    let numbers = alike(frames);
    let mut known = HashMap::new();
    let mut merged: Vec<AllocatingStack> = Vec::new();
    for stack in std::mem::take(&mut profile.stacks) {
        let frames: Vec<_> = stack.frames.iter().map(|at| numbers[*at as usize]).collect();
        let words = (stack.end.map(|it| it.in_words()), stack.source.map(|it| it.in_words()));
        let at = *known.entry((frames, words)).or_insert(merged.len());
        let Some(sum) = merged.get_mut(at) else {
            merged.push(stack);
            continue;
        };
        for (sum, more) in [
            (&mut sum.live_samples, stack.live_samples),
            (&mut sum.live_objects, stack.live_objects),
            (&mut sum.live_bytes, stack.live_bytes),
            (&mut sum.samples, stack.samples),
        ] {
            *sum = sum.saturating_add(more);
        }
        sum.age = sum.age.max(stack.age);
        sum.objects += stack.objects;
        sum.allocated += stack.allocated;
    }
    profile.stacks = merged;
    profile.sort();
}

/// A file may claim any numbers.
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn header(profile: &HeapProfile, out: &mut impl Write) -> io::Result<()> {
    if let Some(totals) = profile.totals {
        writeln!(
            out,
            "{} alive in {}",
            strong().apply_to(bytes(totals.live)),
            counted(totals.live_objects, "object"),
        )?;
        let all = &profile.covered;
        let a_second = |number: u64| {
            (u128::from(number) * 1_000_000_000 / u128::from(all.time.0.max(1))) as u64
        };
        let words = format!(
            "within {}: {} allocated in {} ({} a second), {} freed, at most {} alive",
            duration(all.time.0),
            bytes(all.allocated),
            counted(all.allocations, "object"),
            bytes(a_second(all.allocated)),
            bytes(all.freed),
            bytes(all.peak.max(totals.live)),
        );
        writeln!(out, "{}", dim().apply_to(words))?;
    }
    let words = "What each stack has allocated is estimated from samples:";
    writeln!(out, "{}", dim().apply_to(words))
}

/// Bytes, as exact as so many samples are.
fn about(number: u64, samples: u64) -> String {
    format!("about {} ({})", bytes(number), counted(samples, "sample"))
}

fn line(stack: &AllocatingStack, whole: u64, out: &mut impl Write) -> io::Result<()> {
    let percent = stack.live_bytes as f64 * 100.0 / whole.max(1) as f64;
    if stack.live_samples > 0 {
        write!(
            out,
            "{} {} alive in about {}, the oldest for {}",
            odd().apply_to(format!("{percent:.1} %")),
            about(stack.live_bytes, stack.live_samples),
            counted(stack.live_objects, "object"),
            duration(stack.age.saturating_mul(1_000_000_000)),
        )?;
    } else {
        write!(out, "{}", odd().apply_to("nothing alive"))?;
    }
    if stack.samples > 0 {
        let allocated = about(stack.allocated as u64, stack.samples);
        // The totals may be of a longer time: what no generation had room to say is said by a later one.
        let words = format!("; {allocated} allocated within the snapshot");
        write!(out, "{}", dim().apply_to(words))?;
    }
    match stack.source.filter(|_| stack.frames.is_empty()) {
        Some(why) => writeln!(out, ": no stack: {}", escape(why.in_words())),
        None => writeln!(out),
    }
}

/// A stack, as the other stacks are printed.
fn group(stack: &AllocatingStack, frames: &[NamedFrame]) -> Group {
    let named = stack.frames.iter().map(|at| frames[*at as usize].clone());
    Group {
        count: stack.live_samples,
        first: 0,
        reason: None,
        source: None,
        thread: 0,
        thread_name: String::new(),
        end: stack.end,
        is_damaged: stack.end.is_none(),
        frames: named.collect(),
    }
}

/// Why a snapshot has no sample of the heap, and what to do for it.
pub fn why_none(trace: &Trace, profile: &HeapProfile) -> String {
    if profile.totals.is_some() {
        return "no samples of the heap: too little was allocated for one, or they were turned off"
            .to_owned();
    }
    if is_of_threads_alone(trace) {
        return "nothing of the heap: the process was not being recorded".to_owned();
    }
    "nothing of the heap: the program does not count it; `#[global_allocator] static A: lookback::Alloc = \
     lookback::Alloc::system();` does"
        .to_owned()
}

fn json(
    trace: &Trace,
    profile: &HeapProfile,
    frames: &[NamedFrame],
    symbolizer: &Symbolizer,
) -> Value {
    let stack = |stack: &AllocatingStack| {
        let frames = stack.frames.iter().map(|at| print::frame(&frames[*at as usize]));
        json!({
            "live": {
                "samples": stack.live_samples,
                "objects": stack.live_objects,
                "bytes": stack.live_bytes,
                "age_s": stack.age,
            },
            "allocated": {
                "samples": stack.samples,
                "objects": stack.objects.round() as u64,
                "bytes": stack.allocated.round() as u64,
            },
            "taken": stack.source.map(|it| it.in_words()),
            "end": stack.end.map(|it| it.in_words()),
            "frames": frames.collect::<Vec<_>>(),
        })
    };
    let all = &profile.covered;
    json!({
        "file": trace.file(),
        "live": profile.totals.map(|of| json!({"bytes": of.live, "objects": of.live_objects})),
        "covered": {
            "ns": all.time.0,
            "allocated_bytes": all.allocated,
            "allocations": all.allocations,
            "freed_bytes": all.freed,
            "frees": all.frees,
            "peak_bytes": all.peak,
        },
        "samples": profile.samples,
        "stacks": profile.stacks.iter().take(STACKS_IN_JSON).map(stack).collect::<Vec<_>>(),
        "left_out": {
            "stacks": profile.stacks.len().saturating_sub(STACKS_IN_JSON),
            "live_samples": profile.left_out.0,
            "live_bytes": profile.left_out.1,
        },
        "problems": symbolizer.problems(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    fn nameless(offset: u64) -> NamedFrame {
        let module = Some(Rc::new(("/usr/bin/shop".to_owned(), "ab".to_owned())));
        NamedFrame { module, offset, is_exact: false, functions: Vec::new() }
    }

    fn stack(frames: &[u32], bytes: u64) -> AllocatingStack {
        let mut stack = AllocatingStack::default();
        stack.frames = frames.to_vec();
        (stack.live_samples, stack.live_objects, stack.live_bytes) = (1, 2, bytes);
        (stack.samples, stack.objects, stack.allocated) = (1, 2.5, bytes as f64);
        (stack.age, stack.source) = (bytes / 10, None);
        stack
    }

    #[test]
    fn stacks_that_are_printed_alike_are_printed_once() {
        let frames = [nameless(1), nameless(2), nameless(1), nameless(3)];
        let mut profile = HeapProfile::default();
        profile.stacks = vec![stack(&[3], 100), stack(&[0, 1], 70), stack(&[2, 1], 50)];
        merge(&mut profile, &frames);
        let mut both = stack(&[0, 1], 120);
        (both.live_samples, both.live_objects, both.samples) = (2, 4, 2);
        (both.objects, both.age) = (5.0, 7);
        assert_eq!(profile.stacks, [both, stack(&[3], 100)]);
    }
}
