//! Stacks as text and as JSON.

use super::groups::{Group, Groups, NamedFrame};
use crate::format::{counted, duration, escape, seconds};
use crate::frames;
use crate::terminal::{dim, name, odd, strong};
use lookback::read::symbols::{Location, Symbolizer};
use lookback::read::wire::key;
use lookback::read::{StackEnd, Trace};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::Path;

/// How many frames of a thread are shown that is in no function of the service.
const INNERMOST: usize = 3;

pub fn text(
    trace: &Trace,
    groups: &Groups,
    all_frames: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    if groups.groups.is_empty() {
        return writeln!(out, "{}", why_none(trace));
    }
    for (at, group) in groups.groups.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        header(group, out)?;
        frames(group, all_frames, out)?;
    }
    if groups.left_out > 0 {
        let words = format!("{} of other stacks are left out", counted(groups.left_out, "record"));
        writeln!(out, "\n{}", odd().apply_to(words))?;
    }
    Ok(())
}

/// The frames of a stack, innermost first.
pub fn frames(group: &Group, all: bool, out: &mut impl Write) -> io::Result<()> {
    if all { every_frame(group, out) } else { own_frames(group, out) }
}

/// Why a snapshot has no stacks, and what to set for some.
fn why_none(trace: &Trace) -> String {
    let number = |name| trace.metadata().number(name);
    match (number(key::STACKS), number(key::STALLED_POLL)) {
        (None, _) => "no stacks: this file does not say whether they were recorded. A recorder takes them of panics, errors and crashes and, \
                      with the trigger `stalled_poll`, of stalled polls, unless `LOOKBACK_STACKS=off` is set"
            .to_owned(),
        (Some(0), _) => "no stacks: they were turned off; `LOOKBACK_STACKS=on` or `Builder::stacks(true)` turns them on"
            .to_owned(),
        (Some(_), None) => "no stacks: nothing panicked, crashed or logged an error, and nothing watched for stalled polls; the trigger does: \
                            `stalled_poll=100ms` in `LOOKBACK_TRIGGERS`, or `Trigger::stalled_poll`"
            .to_owned(),
        (Some(_), Some(limit)) => {
            format!("no stacks: nothing panicked, crashed or logged an error, and no poll stalled for {}", duration(limit))
        }
    }
}

fn header(group: &Group, out: &mut impl Write) -> io::Result<()> {
    let reason = group.reason.map_or("for another reason", |reason| reason.in_words());
    let thread = if group.thread_name.is_empty() {
        format!("thread {}", group.thread)
    } else {
        format!("{}#{}", escape(&group.thread_name), group.thread)
    };
    write!(out, "{} at {} s on {thread}", odd().apply_to(reason), seconds(group.first))?;
    if group.count > 1 {
        write!(out, ", and {} more", counted(group.count - 1, "time"))?;
    }
    match group.source {
        Some(source) if group.frames.is_empty() => writeln!(out, ": no stack: {source}"),
        Some(source) => writeln!(out, " {}", dim().apply_to(format!("({source})"))),
        None => writeln!(out),
    }
}

/// The service's own functions, and the number of frames between them.
pub(super) fn own_frames(group: &Group, out: &mut impl Write) -> io::Result<()> {
    if !has_own(group) {
        return every_frame(group, out);
    }
    let all = || group.frames.iter().flat_map(lines);
    let mut folded = 0;
    for line in all() {
        match line {
            Line::LeftOut(more) => folded += more,
            _ if !line.is_own() => folded += 1,
            _ => {
                fold(&mut folded, out)?;
                line.print(out)?;
            }
        }
    }
    fold(&mut folded, out)?;
    end(group, out)
}

/// Whether any of the functions is the service's own.
pub(super) fn has_own(group: &Group) -> bool {
    group.frames.iter().flat_map(lines).any(|line| line.is_own())
}

/// The innermost few frames of a stack without any of the service's own functions.
pub(super) fn innermost_frames(group: &Group, out: &mut impl Write) -> io::Result<()> {
    let all: Vec<_> = group.frames.iter().flat_map(lines).collect();
    all.iter().take(INNERMOST).try_for_each(|line| line.print(out))?;
    fold(&mut (all.len().saturating_sub(INNERMOST) as u64), out)
}

pub(super) fn fold(folded: &mut u64, out: &mut impl Write) -> io::Result<()> {
    if *folded > 0 {
        let words = format!("… {}", counted(*folded, "frame"));
        writeln!(out, "  {}", dim().apply_to(words))?;
        *folded = 0;
    }
    Ok(())
}

pub(super) fn every_frame(group: &Group, out: &mut impl Write) -> io::Result<()> {
    group.frames.iter().flat_map(lines).try_for_each(|line| line.print(out))?;
    end(group, out)
}

/// Says why the stack ends, if it does not end as stacks should.
fn end(group: &Group, out: &mut impl Write) -> io::Result<()> {
    ends(group.end, group.is_damaged, out)
}

/// See [`end`].
pub(super) fn ends(
    end: Option<StackEnd>,
    is_damaged: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    match end {
        None if is_damaged => {
            writeln!(
                out,
                "  {}",
                dim().apply_to("(ends here: the file does not say how it goes on)")
            )
        }
        None | Some(StackEnd::Begin | StackEnd::Poll) => Ok(()),
        Some(end) => writeln!(out, "  {}", dim().apply_to(format!("(ends here: {end})"))),
    }
}

/// A line of a stack: a function, or a frame without a known one.
pub(super) enum Line<'a> {
    Function(&'a Location),
    Nameless(&'a NamedFrame),
    /// So many frames were not recorded.
    LeftOut(u64),
}

pub(super) fn lines(frame: &NamedFrame) -> Vec<Line<'_>> {
    match &frame.functions[..] {
        [] if frame.module.is_none() && frame.offset > 0 => vec![Line::LeftOut(frame.offset)],
        [] => vec![Line::Nameless(frame)],
        functions => functions.iter().map(Line::Function).collect(),
    }
}

impl Line<'_> {
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Function(location) if !location.is_foreign())
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Function(location) => {
                let function = location.function.to_string();
                let style = if self.is_own() { strong() } else { name() };
                write!(out, "  {}", style.apply_to(escape(&function)))?;
                if let Some((file, line)) = &location.place {
                    write!(out, "  {}", dim().apply_to(format!("{}:{line}", escape(file))))?;
                }
                writeln!(out)
            }
            Self::LeftOut(more) => {
                let words = format!("… {} not recorded", counted(*more, "frame"));
                writeln!(out, "  {}", dim().apply_to(words))
            }
            Self::Nameless(frame) => {
                let file = frame.module.as_ref().and_then(|of| Path::new(&of.0).file_name());
                let file = file.map_or_else(|| "?".into(), |file| file.to_string_lossy());
                writeln!(
                    out,
                    "  {}",
                    dim().apply_to(format!("{}+{:#x}", escape(&file), frame.offset))
                )
            }
        }
    }
}

/// A frame as JSON.
pub(super) fn frame(frame: &NamedFrame) -> Value {
    let module = frame.module.as_ref().map(|of| (&*of.0, of.1.clone()));
    frames::one_json(module, (frame.offset, frame.is_exact), &frame.functions)
}

pub fn json(trace: &Trace, groups: &Groups, symbolizer: &Symbolizer) -> Value {
    let group = |group: &Group| {
        json!({
            "count": group.count,
            "first_ns": group.first,
            "reason": group.reason.map(|it| it.in_words()),
            "taken": group.source.map(|it| it.in_words()),
            "thread": {"number": group.thread, "name": group.thread_name},
            "end": group.end.map(|it| it.in_words()),
            "damaged": group.is_damaged,
            "frames": group.frames.iter().map(frame).collect::<Vec<_>>(),
        })
    };
    json!({
        "file": trace.file(),
        "stacks": groups.groups.iter().map(group).collect::<Vec<_>>(),
        "left_out": groups.left_out,
        "recorded": trace.metadata().number(key::STACKS).map(|taken| taken != 0),
        "stalled_poll_ns": trace.metadata().number(key::STALLED_POLL),
        "problems": symbolizer.problems(),
    })
}
