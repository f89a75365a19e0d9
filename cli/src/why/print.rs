//! The account for people: what it is about, the parts, the longest stretches, and all spans of the name.

use crate::format::{bar, count, counted, duration, escape, shell_word};
use crate::frames;
use crate::summary::{moment, section, wrap};
use crate::terminal::{dim, name, odd, strong, width};
use lookback::read::analysis::{AllOfName, Moment, Part, Spent, State, Why};
use lookback::read::symbols::{Awaited, Location, Symbolizer};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// How many parts, and how many stretches, are shown.
const MOST_PARTS: usize = 12;
const MOST_STRETCHES: usize = 12;
/// And how many places.
const MOST_PLACES: usize = 5;
/// A part that is less than this share of the whole, beyond the first few, is left to `--json`.
const LEAST: f64 = 0.001;

pub fn why(
    why: &Why,
    file: &Path,
    mut symbolizer: Option<&mut Symbolizer>,
    out: &mut impl Write,
) -> io::Result<()> {
    let what = match (&why.span, &why.task) {
        (Some(span), _) => format!("Span {} ({})", span.label(), span.span),
        (None, Some(task)) => format!("Task {}", task.label()),
        (None, None) => "It".to_owned(),
    };
    let verb = if why.is_open { "has taken" } else { "took" };
    let title = format!("{what} {verb} {}", duration(why.length.0));
    writeln!(out, "{}", strong().apply_to(escape(&title)))?;
    let end = Moment(why.from.0.saturating_add(i64::try_from(why.length.0).unwrap_or(i64::MAX)));
    row("time", &format!("{} to {}", moment(why.from), moment(end)), out)?;
    if let (Some(_), Some(task)) = (&why.span, &why.task) {
        row("task", &task.label(), out)?;
    }
    notes(why, out)?;
    section("Where the time went", out)?;
    parts(&why.spent, 1, symbolizer.as_deref_mut(), out)?;
    seen(&why.spent, symbolizer.as_deref_mut(), out)?;
    stretches(why, out)?;
    if let Some(all) = &why.all {
        all_of_name(all, symbolizer, out)?;
    }
    commands(why, file, out)
}

fn row(label: &str, text: &str, out: &mut impl Write) -> io::Result<()> {
    let wide = width().saturating_sub(12);
    for (at, line) in wrap(&escape(text), wide).iter().enumerate() {
        let label = if at == 0 { label } else { "" };
        writeln!(out, "  {}  {line}", dim().apply_to(format_args!("{label:<8}")))?;
    }
    Ok(())
}

/// What limits the account.
fn notes(why: &Why, out: &mut impl Write) -> io::Result<()> {
    if why.began < why.from {
        let before = why.from.0.saturating_sub(why.began.0).unsigned_abs();
        let text = format!("it had begun {} before the snapshot does", duration(before));
        row("before", &text, out)?;
    }
    if why.is_open {
        row("end", "it had not ended when the snapshot did", out)?;
    }
    if why.span.is_some() && why.task.is_none() {
        row("task", "none that is recorded: this is what threads did that had entered it", out)?;
    }
    if why.is_shared {
        row("others", "other tasks entered the span, too; what they did is not in here", out)?;
    }
    if !why.is_certain {
        row(
            "lost",
            "events are missing, so what is said may be wrong: see `lookback summary`",
            out,
        )?;
    }
    Ok(())
}

fn parts(
    spent: &Spent,
    depth: usize,
    mut symbolizer: Option<&mut Symbolizer>,
    out: &mut impl Write,
) -> io::Result<()> {
    let whole = spent.length.0.max(1) as f64;
    let share = |part: &Part| part.time.0 as f64 / whole;
    let shown = spent.parts.iter().take(MOST_PARTS).enumerate();
    let shown: Vec<_> =
        shown.filter(|(at, part)| *at < 3 || share(part) >= LEAST).map(|(_, part)| part).collect();
    let indent = "  ".repeat(depth);
    for part in &shown {
        let share = share(part);
        let head = format!("{:>5.1} % {:>9}", share * 100.0, duration(part.time.0));
        let graph = if depth == 1 { format!(" {:<8}", bar(share, 8)) } else { String::new() };
        let mut words = part.state.in_words();
        if let Some(awaited) = awaited(&part.state, symbolizer.as_deref_mut()) {
            words += &format!("; it waited for {}", awaited.in_words());
        }
        if part.times > 1 {
            // Which of the polls it was in, is not known.
            let times = if is_of_polls(&part.state) {
                "polls; the longest poll"
            } else {
                "times, the longest"
            };
            words += &format!(
                " ({} {times} {} at {})",
                count(part.times),
                duration(part.longest.0),
                moment(part.longest_at)
            );
        }
        let used = 2 * depth + head.chars().count() + graph.chars().count() + 2;
        for (at, line) in wrap(&escape(&words), width().saturating_sub(used)).iter().enumerate() {
            match at {
                0 => writeln!(out, "{indent}{head}{}  {line}", name().apply_to(&graph))?,
                _ => writeln!(out, "{:used$}{line}", "")?,
            }
        }
        for function in frames_of(&part.state, symbolizer.as_deref_mut()) {
            writeln!(out, "{:used$}{} {}", "", dim().apply_to("at"), escape(&function))?;
        }
        if let Some(followed) = &part.followed {
            let of = duration(followed.length.0);
            let line = format!("meanwhile, in {of} of that, the other task was");
            writeln!(out, "{indent}    {}", dim().apply_to(line))?;
            parts(followed, depth + 3, symbolizer.as_deref_mut(), out)?;
        }
    }
    let rest = &spent.parts;
    let left: u64 = rest.iter().map(|part| part.time.0).sum::<u64>()
        - shown.iter().map(|part| part.time.0).sum::<u64>();
    if rest.len() > shown.len() {
        let many = counted((rest.len() - shown.len()) as u64, "smaller part");
        let head = format!("{:>5.1} % {:>9}", left as f64 / whole * 100.0, duration(left));
        let shown: Vec<_> = shown.iter().map(|part| std::ptr::from_ref(*part)).collect();
        let hidden = rest.iter().filter(|part| !shown.contains(&std::ptr::from_ref(*part)));
        let line = format!("{many}: {}", by_state(hidden, whole));
        let used = 2 * depth + head.chars().count() + 2;
        for (at, line) in wrap(&line, width().saturating_sub(used)).iter().enumerate() {
            let line = dim().apply_to(line);
            match at {
                0 => writeln!(out, "{indent}{head}  {line}")?,
                _ => writeln!(out, "{:used$}{line}", "")?,
            }
        }
    }
    Ok(())
}

/// Whether it is a share of the time in polls that the kernel's counts tell, and not a stretch that was seen.
fn is_of_polls(state: &State) -> bool {
    match state {
        State::Running { .. } | State::WaitingForCore { .. } | State::Polled { .. } => true,
        State::Blocked { stack, .. } => stack.is_empty(),
        _ => false,
    }
}

/// What many small parts are together: `98.7 % waiting for locks, 0.1 % ready but not polled`.
fn by_state<'a>(parts: impl Iterator<Item = &'a Part>, whole: f64) -> String {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for part in parts {
        *sums.entry(together(&part.state)).or_default() += part.time.0;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(words, time)| (std::cmp::Reverse(*time), *words));
    let each =
        sums.iter().map(|(words, time)| format!("{:.1} % {words}", *time as f64 / whole * 100.0));
    each.collect::<Vec<_>>().join(", ")
}

fn together(state: &State) -> &'static str {
    match state {
        State::Running { .. } => "running",
        State::WaitingForCore { .. } => "polled, without a core",
        State::Blocked { .. } => "polled, blocked in the kernel",
        State::Polled { .. } => "polled",
        State::Ready { .. } => "ready but not polled",
        State::Lock(_) => "waiting for locks",
        State::Task { .. } => "waiting for other tasks",
        State::Wake { .. } => "waiting to be woken from outside of recorded tasks",
        State::NotWoken { .. } => "waiting, not woken",
        State::Stopped => "stopped",
        _ => "unknown",
    }
}

/// The innermost of the service's own functions there.
fn frames_of(state: &State, symbolizer: Option<&mut Symbolizer>) -> Vec<String> {
    match symbolizer {
        Some(symbolizer) => frames::in_short(state.stack(), Some(symbolizer)),
        None => frames::in_short(state.stack(), None),
    }
}

/// What it waits for, by the innermost functions of its await chain.
pub fn awaited(state: &State, symbolizer: Option<&mut Symbolizer>) -> Option<Awaited> {
    let symbolizer = symbolizer?;
    if matches!(state, State::Blocked { .. }) {
        return None;
    }
    let chain: Vec<Location> = state
        .stack()
        .iter()
        .flat_map(|frame| symbolizer.locations(&frame.frame()).to_vec())
        .collect();
    Awaited::of(&chain)
}

/// Where it was seen while it was polled, by the service's own functions.
fn seen(
    spent: &Spent,
    mut symbolizer: Option<&mut Symbolizer>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut places: Vec<(Vec<String>, u64, Moment)> = Vec::new();
    for of in &spent.seen {
        let place = frames::in_short(&of.stack, symbolizer.as_deref_mut());
        match places.iter_mut().find(|(known, ..)| *known == place) {
            Some((_, times, _)) => *times += of.times,
            None => places.push((place, of.times, of.first)),
        }
    }
    places.retain(|(place, ..)| !place.is_empty());
    places.sort_by_key(|(_, times, first)| (std::cmp::Reverse(*times), *first));
    if places.is_empty() {
        return Ok(());
    }
    section("Where it was seen while it was polled", out)?;
    for (place, times, first) in places.iter().take(MOST_PLACES) {
        let head = format!("{:>11} {:>9}", moment(*first), counted(*times, "time"));
        for (at, function) in place.iter().enumerate() {
            match at {
                0 => writeln!(out, "  {head}  {} {}", dim().apply_to("at"), escape(function))?,
                _ => writeln!(out, "{:25}{} {}", "", dim().apply_to("at"), escape(function))?,
            }
        }
    }
    Ok(())
}

fn stretches(why: &Why, out: &mut impl Write) -> io::Result<()> {
    let mut longest: Vec<_> = why.spent.longest.iter().collect();
    longest.sort_by_key(|stretch| std::cmp::Reverse(stretch.length));
    longest.truncate(MOST_STRETCHES);
    if longest.len() < 2 {
        return Ok(());
    }
    longest.sort_by_key(|stretch| stretch.began);
    section("The longest stretches, in order", out)?;
    for stretch in longest {
        let head = format!("{:>11} {:>9}", moment(stretch.began), duration(stretch.length.0));
        for (at, line) in
            wrap(&escape(&stretch.state.in_words()), width().saturating_sub(25)).iter().enumerate()
        {
            match at {
                0 => writeln!(out, "  {head}  {line}")?,
                _ => writeln!(out, "{:25}{line}", "")?,
            }
        }
    }
    Ok(())
}

fn all_of_name(
    all: &AllOfName,
    symbolizer: Option<&mut Symbolizer>,
    out: &mut impl Write,
) -> io::Result<()> {
    let many = counted(all.lengths.count(), "span");
    section(&format!("All {many} of `{}` that began and ended here", escape(&all.name)), out)?;
    for part in &all.slowest {
        let which = match part.beyond {
            0.0 => "all of them".to_owned(),
            beyond => format!("the slowest {:.0} %", (1.0 - beyond) * 100.0),
        };
        let limit = match part.beyond {
            0.0 => String::new(),
            _ => format!(", {} or more", duration(part.limit.0)),
        };
        let line = format!("{which} ({}{limit})", count(part.spans));
        let whole = part.time.0.max(1) as f64;
        let parts = part
            .parts
            .iter()
            .map(|(what, time)| format!("{:.1} % {what}", time.0 as f64 / whole * 100.0));
        row("", &format!("{line}: {}", parts.collect::<Vec<_>>().join(", ")), out)?;
    }
    let Some(first) = all.spent.parts.first().filter(|_| all.lengths.count() > 1) else {
        return Ok(());
    };
    let p99 = duration(all.lengths.percentile(0.99).0);
    let share = first.time.0 as f64 / all.spent.length.0.max(1) as f64 * 100.0;
    let title = format!(
        "p99 of `{}` is {p99}, and {share:.0} % of that is {}",
        all.name,
        first.state.in_words()
    );
    writeln!(out)?;
    for line in wrap(&escape(&title), width()) {
        writeln!(out, "{}", strong().apply_to(line))?;
    }
    let many = counted(all.accounted, "span");
    writeln!(out, "  {}", dim().apply_to(format!("the slowest 1 %, {many} together:")))?;
    parts(&all.spent, 1, symbolizer, out)
}

/// What shows the events.
fn commands(why: &Why, file: &Path, out: &mut impl Write) -> io::Result<()> {
    let file = shell_word(file);
    let mut lines = Vec::new();
    if let Some(task) = &why.task {
        lines.push(format!("lookback events {file} --task {}", task.task));
    }
    if let Some(span) = &why.span {
        lines.push(format!("lookback events {file} --span {}", span.span));
    }
    section("To look at it", out)?;
    for line in lines {
        writeln!(out, "  {}", odd().apply_to(escape(&line)))?;
    }
    Ok(())
}
