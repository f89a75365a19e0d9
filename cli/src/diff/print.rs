//! Prints what differs, most first, on one screen.

use crate::format::{count, counted, escape, seconds, shell_word};
use crate::summary::{fit, wrap};
use crate::terminal::{bad, dim, good, is_unlimited, odd, strong, width};
use lookback::read::analysis::{Diff, DiffSide, Difference};
use std::io::{self, Write};
use std::path::Path;

/// How many lines of each part are printed, unless all are asked for: twenty lines in all.
const DIFFERENCES: usize = 6;
const UNCERTAIN: usize = 3;
const RARE: usize = 2;
const AROUND: usize = 1;
const NOT_COMPARED: usize = 2;
/// The same beneath a summary.
const AGAINST: usize = 5;

/// What is said first.
pub fn headline(diff: &Diff) -> String {
    if let Some(part) = diff.not_comparable.iter().find(|part| part.what == "all") {
        return format!("Not comparable because {}", part.because);
    }
    match diff.differences.first() {
        Some(first) => first.in_words(),
        None => match diff.uncertain.first() {
            Some(first) => format!("Nothing differs for certain; the most: {}", first.in_words()),
            None => "Nothing differs that chance would not explain".to_owned(),
        },
    }
}

pub fn diff(
    diff: &Diff,
    sides: [(&Path, &DiffSide); 2],
    all: bool,
    out: &mut impl Write,
) -> io::Result<()> {
    let first = headline(diff);
    let style = match diff.differences.is_empty() {
        true if diff.asked > 0 && diff.uncertain.is_empty() => good(),
        true => odd(),
        false => strong(),
    };
    for line in lines(&first, 0, true) {
        writeln!(out, "{}", style.apply_to(line))?;
    }
    for (name, (path, side)) in ["GOOD", "BAD"].into_iter().zip(sides) {
        let files = counted(side.files(), "snapshot");
        let covered = seconds(side.covered().0);
        let events = counted(side.events(), "event");
        let line = format!("{}: {files}, {covered} s, {events}", path.display());
        for line in lines(&line, 12, false) {
            writeln!(out, "  {:<9} {line}", dim().apply_to(name))?;
        }
    }
    let mut more = 0;
    let rest: Vec<_> = diff.differences.iter().skip(1).collect();
    let asked = counted(diff.asked, "question");
    more += part(
        &format!("Also different, of {asked}"),
        &rest,
        if all { rest.len() } else { DIFFERENCES },
        all,
        out,
    )?;
    // The first of them is said above if nothing is certain.
    let said = usize::from(diff.differences.is_empty());
    let uncertain: Vec<_> = diff.uncertain.iter().skip(said).collect();
    let shown = if all { uncertain.len() } else { UNCERTAIN };
    more += part("Large, but one moment may explain it", &uncertain, shown, all, out)?;
    let rare: Vec<_> = diff.rare.iter().collect();
    more +=
        part("Too rare to tell from chance", &rare, if all { rare.len() } else { RARE }, all, out)?;
    let around: Vec<_> = diff.around.iter().collect();
    more += part("Around the program", &around, if all { around.len() } else { AROUND }, all, out)?;
    let parts: Vec<_> = diff.not_comparable.iter().collect();
    let parts: Vec<_> = match parts.first().filter(|first| first.what == "all") {
        // It is said above.
        Some(_) => parts.into_iter().skip(1).collect(),
        None => parts,
    };
    if !parts.is_empty() {
        writeln!(out, "\n{}", strong().apply_to("Not compared"))?;
        let shown = if all { parts.len() } else { NOT_COMPARED };
        for of in parts.iter().take(shown) {
            let line = format!("{}: {}", of.what, of.because);
            for line in lines(&line, 2, all) {
                writeln!(out, "  {}", odd().apply_to(line))?;
            }
        }
        more += parts.len().saturating_sub(shown);
    }
    if more > 0 {
        writeln!(out, "{}", dim().apply_to(format!("{} more lines: --all", count(more as u64))))?;
    }
    Ok(())
}

/// The same in a few lines, where the snapshot itself is told already.
pub fn against(diff: &Diff, [good, bad]: [&Path; 2], out: &mut impl Write) -> io::Result<()> {
    let title = format!("Against {}", escape(&good.display().to_string()));
    let all: Vec<_> = diff.differences.iter().chain(&diff.uncertain).collect();
    let mut more = 0;
    if diff.differences.is_empty() {
        writeln!(out, "\n{}", strong().apply_to(title))?;
        for line in lines(&headline(diff), 2, true) {
            writeln!(out, "  {}", odd().apply_to(line))?;
        }
    } else {
        more = part(&title, &all, AGAINST, true, out)?;
    }
    if more > 0 {
        let paths = [good, bad].map(|path| shell_word(path));
        let line = format!("{} more: lookback diff {}", count(more as u64), paths.join(" "));
        writeln!(out, "  {}", dim().apply_to(line))?;
    }
    Ok(())
}

/// Prints the first of these; returns how many there are beside.
fn part(
    title: &str,
    of: &[&Difference],
    shown: usize,
    all: bool,
    out: &mut impl Write,
) -> io::Result<usize> {
    if of.is_empty() {
        return Ok(0);
    }
    writeln!(out, "\n{}", strong().apply_to(title))?;
    for difference in of.iter().take(shown) {
        let score = format!("{:.2}", difference.score);
        let score = if difference.score > 0.0 {
            bad().apply_to(score)
        } else {
            dim().apply_to(" –  ".to_owned())
        };
        for (at, line) in lines(&difference.in_words(), 8, all).iter().enumerate() {
            match at {
                0 => writeln!(out, "  {score}  {line}")?,
                _ => writeln!(out, "        {line}")?,
            }
        }
    }
    Ok(of.len().saturating_sub(shown))
}

/// A text as lines after this margin; one line, cut at its end, unless it is to be whole.
fn lines(text: &str, margin: usize, whole: bool) -> Vec<String> {
    let room = width().saturating_sub(margin);
    match whole {
        true => wrap(&escape(text), room),
        false if is_unlimited() => vec![escape(text).into_owned()],
        false => vec![fit(text, room).trim_end().to_owned()],
    }
}
