//! Where tasks wait, as text and as JSON.

use super::groups::NamedFrame;
use super::is_of_threads_alone;
use super::print::{Line, ends, fold, frame, lines};
use super::tasks::{NamedChain, TaskGroup, TaskGroups};
use crate::format::{count, counted, escape, seconds};
use crate::terminal::{dim, name, odd};
use lookback::read::Trace;
use lookback::read::analysis::IdleTasks;
use lookback::read::symbols::Symbolizer;
use lookback::read::wire::key;
use serde_json::{Value, json};
use std::io::{self, Write};

pub fn text(
    trace: &Trace,
    tasks: &TaskGroups,
    all_frames: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let Some((_, moment)) = tasks.moment.filter(|_| !tasks.groups.is_empty()) else {
        writeln!(out, "{}", why_none(trace, tasks))?;
        return unplaced(&tasks.idle, out);
    };
    let all = tasks.groups.iter().map(|group| group.count).sum::<u64>() + tasks.left_out;
    let all = counted(all, "task");
    writeln!(out, "{all} waiting at {} s", seconds(moment))?;
    unplaced(&tasks.idle, out)?;
    for group in &tasks.groups {
        writeln!(out)?;
        header(group, out)?;
        for (at, chain) in group.waits_at.iter().enumerate() {
            if group.waits_at.len() > 1 || chain.is_earlier {
                let and = if at > 0 { "and at" } else { "waits at" };
                let earlier =
                    if chain.is_earlier { " (registered in an earlier poll)" } else { "" };
                writeln!(out, "  {and}{}", dim().apply_to(earlier))?;
            }
            if all_frames { every_frame(chain, out)? } else { own_frames(chain, out)? }
        }
        if let Some(spawned_by) = &group.spawned_by {
            writeln!(out, "  spawned by")?;
            if all_frames { every_frame(spawned_by, out)? } else { callers(spawned_by, out)? }
        }
    }
    if tasks.left_out > 0 {
        let words = format!("{} of other groups are left out", counted(tasks.left_out, "task"));
        writeln!(out, "\n{}", odd().apply_to(words))?;
    }
    Ok(())
}

/// Of how many idle tasks it is not known where they wait, and why.
fn unplaced(idle: &IdleTasks, out: &mut impl Write) -> io::Result<()> {
    if idle.unplaced() == 0 {
        return Ok(());
    }
    let whys = [
        (idle.unwrapped, "not wrapped, as `lookback::spawn` does"),
        (idle.left_out, "left out for want of room"),
        (idle.unknown, "unseen when their waker was registered"),
    ];
    let whys = whys.iter().filter(|(count, _)| *count > 0);
    let whys = whys.map(|(many, why)| format!("{} {why}", count(*many))).collect::<Vec<_>>();
    let words = format!(
        "of {} it is not known where: {}",
        counted(idle.unplaced(), "other idle task"),
        whys.join(", ")
    );
    writeln!(out, "{}", dim().apply_to(words))
}

/// For programs.
pub fn idle_json(idle: &IdleTasks) -> Value {
    json!({
        "placed": idle.placed,
        "unwrapped": idle.unwrapped,
        "left_out": idle.left_out,
        "unknown": idle.unknown,
    })
}

/// Why it is not known of any task where it waits, and what to set.
fn why_none(trace: &Trace, tasks: &TaskGroups) -> &'static str {
    match trace.metadata().number(key::ASYNC_STACKS) {
        _ if is_of_threads_alone(trace) => {
            "no tasks: the process was not being recorded; without --tasks, this shows where its threads were"
        }
        None => "no tasks: this file does not say whether it was recorded where they wait",
        Some(0) => {
            "no tasks: it was not recorded where they wait; `LOOKBACK_ASYNC_STACKS=on` or \
             `Builder::async_stacks(true)` turns it on, and needs `LOOKBACK_STACKS=on`"
        }
        Some(_) if tasks.moment.is_none() => {
            "no tasks: it is known where they wait when a generation ends, and no generation of this file had ended"
        }
        Some(_) => {
            "no tasks: none was waiting whose future is wrapped, as `lookback::spawn` and `recorded` do, or the tables of \
             the program's code were not made when they were polled"
        }
    }
}

fn header(group: &TaskGroup, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{} {}", odd().apply_to(counted(group.count, "task")), escape(&group.name))?;
    if group.line > 0 {
        let place = format!(" (spawned at {}:{})", escape(&group.file), group.line);
        write!(out, "{}", dim().apply_to(place))?;
    }
    match group.polled_since {
        0 => writeln!(out),
        all if all == group.count => writeln!(out, ", polled since"),
        some => writeln!(out, ", {some} of them polled since"),
    }
}

/// What is waited for, the service's own functions, and the number of frames between them.
fn own_frames(chain: &NamedChain, out: &mut impl Write) -> io::Result<()> {
    let all: Vec<_> = chain.frames.iter().flat_map(lines).collect();
    let Some(first) = all.iter().position(Line::is_own) else { return every_frame(chain, out) };
    if let Some(what) = awaited(&all[..first]) {
        writeln!(out, "  {}", name().apply_to(escape(&what)))?;
    }
    callers(chain, out)
}

/// The service's own functions from the innermost on, and the number of frames between them.
fn callers(stack: &NamedChain, out: &mut impl Write) -> io::Result<()> {
    let all: Vec<_> = stack.frames.iter().flat_map(lines).collect();
    let Some(first) = all.iter().position(Line::is_own) else { return every_frame(stack, out) };
    let mut folded = 0;
    for line in &all[first..] {
        if !line.is_own() {
            folded += 1;
            continue;
        }
        fold(&mut folded, out)?;
        line.print(out)?;
    }
    ends(stack.end, stack.is_damaged, out)
}

/// The future that the innermost of the service's own functions waits for: the outermost function below it that is
/// not the language's.
fn awaited(below: &[Line<'_>]) -> Option<String> {
    let is_glue = |whole: &str| {
        let path = whole.trim_start_matches(['<', '&']);
        ["core::", "alloc::", "std::", "poll<", "{"].iter().any(|glue| path.starts_with(glue))
    };
    below.iter().rev().find_map(|line| match line {
        Line::Function(location) if !is_glue(location.function.whole()) => {
            Some(location.function.to_string())
        }
        _ => None,
    })
}

fn every_frame(chain: &NamedChain, out: &mut impl Write) -> io::Result<()> {
    chain.frames.iter().flat_map(lines).try_for_each(|line| line.print(out))?;
    ends(chain.end, chain.is_damaged, out)
}

pub fn json(trace: &Trace, tasks: &TaskGroups, symbolizer: &Symbolizer) -> Value {
    let frames = |of: &[NamedFrame]| of.iter().map(frame).collect::<Vec<_>>();
    let chain = |chain: &NamedChain| {
        json!({
            "earlier": chain.is_earlier,
            "end": chain.end.map(|it| it.in_words()),
            "damaged": chain.is_damaged,
            "frames": frames(&chain.frames),
        })
    };
    let group = |group: &TaskGroup| {
        json!({
            "count": group.count,
            "polled_since": group.polled_since,
            "name": group.name,
            "file": group.file,
            "line": group.line,
            "tasks": group.tasks.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "waits_at": group.waits_at.iter().map(chain).collect::<Vec<_>>(),
            "spawned_by": group.spawned_by.as_ref().map(chain),
        })
    };
    json!({
        "file": trace.file(),
        "at_ns": tasks.moment.map(|(_, at)| at),
        "generation": tasks.moment.map(|(generation, _)| generation),
        "tasks": tasks.groups.iter().map(group).collect::<Vec<_>>(),
        "left_out": tasks.left_out,
        "idle": idle_json(&tasks.idle),
        "recorded": trace.metadata().number(key::ASYNC_STACKS).map(|taken| taken != 0),
        "problems": symbolizer.problems(),
    })
}
