//! `lookback stacks --cpu`: where CPU time went.

use super::groups::{Group, NamedFrame};
use super::is_of_threads_alone;
use super::print;
use crate::exit::{Damage, Verdict, complain};
use crate::format::{counted, duration, escape};
use crate::terminal::{dim, name, odd, strong};
use lookback::read::analysis::{CpuProfile, CpuStack};
use lookback::read::symbols::{Location, Symbolizer};
use lookback::read::wire::key;
use lookback::read::{OwnedFrame, Trace};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::rc::Rc;

/// So many functions are printed, and so many stacks.
const FUNCTIONS: usize = 20;
const STACKS: usize = 8;
/// And of these, for programs.
const STACKS_IN_JSON: usize = 1000;

pub fn run(
    trace: &Trace,
    mut symbolizer: Symbolizer,
    mut damage: Damage,
    all_frames: bool,
    as_json: bool,
) -> anyhow::Result<Verdict> {
    let profile = CpuProfile::of(trace, |error| damage.note(&error));
    let frames = named(profile.frames(), &mut symbolizer);
    let functions = functions(&profile, &frames);
    let mut out = BufWriter::new(io::stdout().lock());
    if as_json {
        let value = json(trace, &profile, &frames, &functions, &symbolizer);
        writeln!(out, "{value:#}")?;
    } else {
        text(trace, &profile, &frames, &functions, all_frames, &mut out)?;
        out.flush()?;
        if profile.weight > 0 {
            symbolizer.problems().iter().for_each(|line| complain(line));
        }
    }
    out.flush()?;
    Ok(damage.tell())
}

/// A profile's frames, with their functions.
pub(super) fn named(frames: &[OwnedFrame], symbolizer: &mut Symbolizer) -> Vec<NamedFrame> {
    let mut modules = HashMap::new();
    let named = frames.iter().map(|frame| {
        let frame = frame.frame();
        let module = frame.module.map(|of| {
            let hex = || of.build_id.iter().map(|byte| format!("{byte:02x}")).collect();
            let name = modules.entry((of.path, of.build_id));
            Rc::clone(name.or_insert_with(|| Rc::new((of.path.to_owned(), hex()))))
        });
        let functions = symbolizer.locations(&frame);
        NamedFrame { module, offset: frame.offset, is_exact: frame.is_exact, functions }
    });
    named.collect()
}

/// A function, and how much CPU time it has used.
struct Function {
    name: String,
    /// The line that it used the most of its own time in, if any is known.
    place: Option<(String, u32)>,
    is_own: bool,
    own: u64,
    total: u64,
}

/// The functions of a frame, innermost first: their names, and where they are.
fn names(frame: &NamedFrame) -> Vec<(String, Option<&Location>)> {
    if frame.functions.is_empty() {
        let file = frame.module.as_ref().and_then(|of| Path::new(&of.0).file_name());
        let file = file.map_or_else(|| "?".into(), |file| file.to_string_lossy());
        return vec![(format!("{file}+{:#x}", frame.offset), None)];
    }
    frame.functions.iter().map(|of| (of.function.to_string(), Some(of))).collect()
}

/// All functions, those with the most time of their own first.
fn functions(profile: &CpuProfile, frames: &[NamedFrame]) -> Vec<Function> {
    let mut found: Vec<Function> = Vec::new();
    let mut known: HashMap<(String, Option<String>), usize> = HashMap::new();
    let mut lines: HashMap<(usize, u32), u64> = HashMap::new();
    // For each frame: its functions, and their lines.
    let of_frame = frames.iter().map(|frame| {
        let of = names(frame).into_iter().map(|(name, location)| {
            let place = location.and_then(|of| of.place.as_ref());
            let key = (name.clone(), place.map(|(file, _)| file.clone()));
            let at = *known.entry(key).or_insert_with(|| {
                let is_own = location.is_some_and(|of| !of.is_foreign());
                found.push(Function { name, place: place.cloned(), is_own, own: 0, total: 0 });
                found.len() - 1
            });
            (at, place.map(|(_, line)| *line))
        });
        of.collect::<Vec<_>>()
    });
    let of_frame: Vec<_> = of_frame.collect();
    for stack in &profile.stacks {
        let mut met = HashSet::new();
        let mut through = stack.frames.iter().flat_map(|frame| &of_frame[*frame as usize]);
        if let Some((at, line)) = through.clone().next() {
            found[*at].own += stack.weight;
            if let Some(line) = line {
                *lines.entry((*at, *line)).or_default() += stack.weight;
            }
        }
        through.try_for_each(|(at, _)| {
            if met.insert(*at) {
                found[*at].total += stack.weight;
            }
            Some(())
        });
    }
    let mut most: HashMap<usize, (u64, u32)> = HashMap::new();
    for ((at, line), weight) in lines {
        let best = most.entry(at).or_default();
        // The lower line of two, so that the answer is always the same.
        if weight > best.0 || weight == best.0 && line < best.1 {
            *best = (weight, line);
        }
    }
    for (at, (_, line)) in most {
        if let Some((_, place)) = &mut found[at].place {
            *place = line;
        }
    }
    found.sort_by(|a, b| (b.own, b.total).cmp(&(a.own, a.total)).then(a.name.cmp(&b.name)));
    found
}

fn share(part: u64, whole: u64) -> String {
    format!("{:5.1} %", part as f64 * 100.0 / whole.max(1) as f64)
}

fn text(
    trace: &Trace,
    profile: &CpuProfile,
    frames: &[NamedFrame],
    functions: &[Function],
    all_frames: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if profile.weight == 0 {
        return writeln!(out, "{}", why_none(trace));
    }
    header(profile, out)?;
    let whole = profile.weight;
    writeln!(out, "\n{}", dim().apply_to("   self    total  function"))?;
    for function in functions.iter().filter(|of| of.own > 0).take(FUNCTIONS) {
        line(function, whole, out)?;
    }
    // What the service's own functions have called.
    let mut callers: Vec<_> = functions.iter().filter(|of| of.is_own && of.total > 0).collect();
    callers.sort_by_key(|of| std::cmp::Reverse((of.total, of.own)));
    let printed: HashSet<_> =
        functions.iter().filter(|of| of.own > 0).take(FUNCTIONS).map(|of| &of.name).collect();
    callers.retain(|of| !printed.contains(&of.name));
    if !callers.is_empty() {
        writeln!(
            out,
            "\n{}",
            dim().apply_to("The service's functions with what they have called:")
        )?;
        for function in callers.into_iter().take(FUNCTIONS) {
            line(function, whole, out)?;
        }
    }
    for stack in profile.stacks.iter().take(STACKS) {
        writeln!(out)?;
        let thread = profile.thread_name(stack);
        let percent = share(stack.weight, whole);
        writeln!(
            out,
            "{} {} {}",
            odd().apply_to(percent.trim_start()),
            duration(profile.nanos(stack.weight)),
            dim().apply_to(format!("on {}", escape(thread)))
        )?;
        print::frames(&group(profile, stack, frames), all_frames, out)?;
    }
    if profile.stacks.len() > STACKS {
        let rest: u64 = profile.stacks.iter().skip(STACKS).map(|stack| stack.weight).sum();
        let words = format!(
            "{} in {}",
            share(rest, whole).trim_start(),
            counted((profile.stacks.len() - STACKS) as u64, "other stack")
        );
        writeln!(out, "\n{}", dim().apply_to(words))?;
    }
    Ok(())
}

fn header(profile: &CpuProfile, out: &mut impl Write) -> io::Result<()> {
    let used = profile.nanos(profile.weight);
    write!(
        out,
        "{} of CPU time in {} of {}",
        strong().apply_to(duration(used)),
        counted(profile.weight, "sample"),
        counted(profile.threads() as u64, "thread"),
    )?;
    if let Some((first, last)) = profile.span
        && last.0 > first.0
    {
        let cores = used as f64 / (last.0 - first.0) as f64;
        write!(out, " within {}: {cores:.2} cores", duration(last.0 - first.0))?;
    }
    writeln!(out)?;
    for (why, weight) in &profile.unplaced {
        let why = why.map_or("of an unknown kind", |why| why.in_words());
        let words = format!("{} at an unknown place: {why}", share(*weight, profile.weight));
        writeln!(out, "{}", dim().apply_to(words.trim_start()))?;
    }
    if profile.left_out > 0 {
        let words = format!("{} in further stacks", share(profile.left_out, profile.weight));
        writeln!(out, "{}", odd().apply_to(words.trim_start()))?;
    }
    Ok(())
}

fn line(function: &Function, whole: u64, out: &mut impl Write) -> io::Result<()> {
    let style = if function.is_own { strong() } else { name() };
    let shares = format!("{}  {}", share(function.own, whole), share(function.total, whole));
    write!(out, "{shares}  {}", style.apply_to(escape(&function.name)))?;
    if let Some((file, line)) = &function.place {
        write!(out, "  {}", dim().apply_to(format!("{}:{line}", escape(file))))?;
    }
    writeln!(out)
}

/// A stack, as the other stacks are printed.
fn group(profile: &CpuProfile, stack: &CpuStack, frames: &[NamedFrame]) -> Group {
    let named = stack.frames.iter().map(|at| frames[*at as usize].clone());
    Group {
        count: stack.weight,
        first: 0,
        reason: None,
        source: None,
        thread: 0,
        thread_name: profile.thread_name(stack).to_owned(),
        end: stack.end,
        is_damaged: stack.end.is_none(),
        frames: named.collect(),
    }
}

/// Why a snapshot has no samples, and what to set for some.
pub fn why_none(trace: &Trace) -> String {
    let number = |name| trace.metadata().number(name);
    if let Some(trouble) = trace.metadata().text(key::CPU_SAMPLES_TROUBLE) {
        return format!("no CPU samples: {}", escape(trouble));
    }
    match (number(key::CPU_SAMPLES), number(key::STACKS)) {
        _ if is_of_threads_alone(trace) => {
            "no CPU samples: the process was not being recorded; `lookback stacks` shows where its threads were"
        }
        (Some(_), _) => "no CPU samples: no thread has used as much CPU time as lies between two samples",
        (None, Some(0)) => {
            "no CPU samples: stacks were turned off, and samples need them; `LOOKBACK_STACKS=on` and \
             `LOOKBACK_CPU_HZ=100`, or `Builder::cpu_samples(100)`, turn them on"
        }
        (None, _) => {
            "no CPU samples: they were not turned on; `LOOKBACK_CPU_HZ=100` does that where the service calls `from_env`, \
             and so does `Builder::cpu_samples(100)`"
        }
    }
    .to_owned()
}

fn json(
    trace: &Trace,
    profile: &CpuProfile,
    frames: &[NamedFrame],
    functions: &[Function],
    symbolizer: &Symbolizer,
) -> Value {
    let function = |of: &Function| {
        json!({
            "name": of.name,
            "file": of.place.as_ref().map(|(file, _)| file),
            "line": of.place.as_ref().map(|(_, line)| line),
            "self": of.own,
            "total": of.total,
            "own": of.is_own,
        })
    };
    let stack = |stack: &CpuStack| {
        let frames = stack.frames.iter().map(|at| print::frame(&frames[*at as usize]));
        json!({
            "samples": stack.weight,
            "thread": profile.thread_name(stack),
            "end": stack.end.map(|it| it.in_words()),
            "frames": frames.collect::<Vec<_>>(),
        })
    };
    let unplaced: Map<_, _> = profile
        .unplaced
        .iter()
        .map(|(why, weight)| {
            (why.map_or("unknown", |why| why.in_words()).to_owned(), json!(weight))
        })
        .collect();
    let rest: u64 = profile.stacks.iter().skip(STACKS_IN_JSON).map(|stack| stack.weight).sum();
    json!({
        "file": trace.file(),
        "per_second": (profile.per_second > 0).then_some(profile.per_second),
        "samples": profile.weight,
        "cpu_ns": profile.nanos(profile.weight),
        "threads": profile.threads(),
        "covered_ns": profile.span.map_or(0, |(first, last)| last.0 - first.0),
        "functions": functions.iter().map(function).collect::<Vec<_>>(),
        "stacks": profile.stacks.iter().take(STACKS_IN_JSON).map(stack).collect::<Vec<_>>(),
        "unplaced": unplaced,
        "left_out": profile.left_out + rest,
        "problems": symbolizer.problems(),
    })
}
