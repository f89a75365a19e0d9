//! The headline, and the findings, the worst first.

use super::lines::{fit, moment, wrap};
use crate::terminal::{bad, dim, good, name, odd, strong, width};
use crate::text::{
    count, counted, covered_of, duration, escape, first_line, shell_word, without_fraction,
};
use console::{Style, measure_text_width};
use lookback::read::analysis::{Coverage, Evidence, Finding, Report, Score, Unit};
use std::io::{self, Write};
use std::path::Path;

/// So many pieces of evidence of a finding are shown.
const MOST_EVIDENCE: usize = 10;

pub fn print(report: &Report, file: &Path, out: &mut impl Write) -> io::Result<()> {
    headline(report, file, out)?;
    let findings = report.findings();
    section("What stood out", out)?;
    if findings.is_empty() {
        writeln!(out, "  {}", good().apply_to("Nothing of what could be assessed."))?;
    }
    for finding in findings {
        one(finding, file, out)?;
    }
    let not_assessed = report.not_assessed();
    if !not_assessed.is_empty() {
        section("Not assessed", out)?;
    }
    // What has the same reason is told together.
    let mut told: Vec<(Vec<&str>, &str)> = Vec::new();
    for (analysis, because) in not_assessed {
        match told.iter_mut().find(|(_, known)| *known == because) {
            Some((analyses, _)) => analyses.push(analysis),
            None => told.push((vec![analysis], because)),
        }
    }
    for (analyses, because) in told {
        let line = format!("{}: because {}", analyses.join(", "), escape(because));
        for (at, line) in wrap(&line, width().saturating_sub(4)).iter().enumerate() {
            let indent = if at == 0 { "" } else { "  " };
            writeln!(out, "  {indent}{}", odd().apply_to(line))?;
        }
    }
    Ok(())
}

/// A heading.
pub fn section(title: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}", strong().apply_to(title))
}

fn headline(report: &Report, file: &Path, out: &mut impl Write) -> io::Result<()> {
    let coverage = &report.coverage.table;
    let process = coverage.process.as_deref().unwrap_or("an unknown process");
    let pid = coverage.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let about = format!("a snapshot of {}{pid}", escape(process));
    writeln!(
        out,
        "{}  {}\n",
        strong().apply_to(escape(&file.to_string_lossy())),
        dim().apply_to(about)
    )?;
    let plain = Style::new();
    let causes = &report.incident.table.causes;
    if causes.is_empty() {
        row("reason", &strong(), "not known", out)?;
    }
    for (at, cause) in causes.iter().enumerate() {
        let reason = first_line(&cause.reason);
        row(if at == 0 { "reason" } else { "and" }, &strong(), &reason, out)?;
        if let Some(evidence) = &cause.evidence {
            let thread = evidence.thread.as_ref().map(|thread| thread.label());
            let thread = thread.map_or(String::new(), |thread| format!(" on {thread}"));
            let place = format!("{}{thread}, {}", moment(evidence.at).trim_start(), evidence.what);
            row("where", &plain, &place, out)?;
        }
    }
    if coverage.trigger.is_some() || coverage.taken.is_some() {
        let taken = coverage.taken.as_deref().map(without_fraction);
        let taken = taken.as_deref().unwrap_or("at an unknown time");
        let by = coverage.trigger.as_deref().map(|by| format!(", by {by}")).unwrap_or_default();
        row("taken", &plain, &format!("{taken}{by}"), out)?;
    }
    row("covered", &plain, &covered(coverage), out)?;
    if let Some(words) = &coverage.without_statuses {
        row("statuses", &odd(), words, out)?;
    }
    row("events", &plain, &events(coverage), out)?;
    let losses = &report.losses.table;
    let lost = crate::losses::sum(losses.lost.values().copied());
    match lost {
        0 if losses.damaged.is_empty() => row("lost", &good(), "no event", out)?,
        0 => row("lost", &odd(), "no event, as far as the file can be read", out)?,
        lost => {
            let causes =
                losses.lost.iter().map(|(cause, many)| format!("{cause} {}", count(*many)));
            let causes = causes.collect::<Vec<_>>().join(", ");
            let generations = counted(losses.generations.len() as u64, "generation");
            let what = format!("{} ({causes}), in {generations}", count(lost));
            row("lost", &bad(), &what, out)?;
        }
    }
    if !losses.left_out.is_nothing() {
        row("left out", &odd(), &losses.left_out.words().join(", "), out)?;
    }
    if losses.nameless > 0 {
        let what = format!("{}: there was no place for more", counted(losses.nameless, "callsite"));
        row("nameless", &odd(), &what, out)?;
    }
    if losses.unshared_texts > 0 {
        row("texts", &dim(), &unshared(losses.unshared_texts), out)?;
    }
    Ok(())
}

/// That texts took more room than they need.
pub fn unshared(many: u64) -> String {
    format!(
        "{} written out: the table of a generation's texts had no entry free for them",
        counted(many, "text")
    )
}

fn row(label: &str, style: &Style, text: &str, out: &mut impl Write) -> io::Result<()> {
    let lines = wrap(&escape(text), width().saturating_sub(12));
    for (at, line) in lines.iter().enumerate() {
        let label = if at == 0 { label } else { "" };
        writeln!(out, "  {:<9} {}", dim().apply_to(label), style.apply_to(line))?;
    }
    Ok(())
}

fn covered(coverage: &Coverage) -> String {
    let mut covered = duration(coverage.covered.0);
    if let Some(window) = coverage.window {
        covered = covered_of(coverage.covered.0, window.0);
    }
    covered += &format!(", in {}", counted(coverage.generations, "generation"));
    if !coverage.incomplete.is_empty() {
        covered += &format!(", {} incomplete", coverage.incomplete.len());
    }
    if coverage.gaps > 0 {
        covered += &format!(", with {}", counted(coverage.gaps, "gap"));
    }
    covered
}

fn events(coverage: &Coverage) -> String {
    let kinds = [
        (coverage.task_events, "of tasks"),
        (coverage.worker_events, "of workers"),
        (coverage.span_events, "of spans"),
        (coverage.region_events, "of regions"),
        (coverage.typed, "typed"),
        (coverage.counters, "of counters"),
    ];
    let kinds = kinds.into_iter().filter(|(many, _)| *many > 0);
    let mut parts: Vec<_> = kinds.map(|(many, what)| format!("{} {what}", count(many))).collect();
    if coverage.logs > 0 {
        parts.push(counted(coverage.logs, "log"));
    }
    if coverage.thread_events > 0 {
        parts.push(format!("{} of threads", count(coverage.thread_events)));
    }
    match parts.as_slice() {
        [] => count(coverage.events),
        parts => format!("{}: {}", count(coverage.events), parts.join(", ")),
    }
}

fn one(finding: &Finding, file: &Path, out: &mut impl Write) -> io::Result<()> {
    let number = finding.score.number();
    let style = if number >= 0.8 { bad() } else { odd() };
    let lines = wrap(&escape(&first_line(&finding.title)), width().saturating_sub(9));
    for (at, line) in lines.iter().enumerate() {
        let score = if at == 0 { format!("{number:.2}") } else { String::new() };
        writeln!(out, "  {:<4}  {}", style.apply_to(score), strong().apply_to(line))?;
    }
    writeln!(out, "        {}", dim().apply_to(limit(&finding.score)))?;
    for evidence in finding.evidence.iter().take(MOST_EVIDENCE) {
        shown(evidence, out)?;
    }
    let more = finding.evidence.len().saturating_sub(MOST_EVIDENCE);
    if more > 0 {
        writeln!(out, "        {}", dim().apply_to(format!("… {more} more, see --json")))?;
    }
    if let Some(first) = finding.evidence.first() {
        // To be copied, so it is not cut.
        let arguments = events_at(first).join(" ");
        let line = format!("lookback events {} {arguments}", shell_word(file));
        writeln!(out, "        {}", dim().apply_to(escape(&line)))?;
    }
    Ok(())
}

fn limit(score: &Score) -> String {
    let told = |value: f64| match score.unit {
        Unit::Nanos => duration(value as u64),
        Unit::Share => format!("{:.1} %", value * 100.0),
        _ => count(value as u64),
    };
    format!("{} against a limit of {}", told(score.value), told(score.limit))
}

fn shown(evidence: &Evidence, out: &mut impl Write) -> io::Result<()> {
    let at = moment(evidence.at);
    let thread = evidence.thread.as_ref().map(|thread| thread.short()).unwrap_or_default();
    let indent = 2 * usize::from(evidence.depth).min(6);
    let mut what = evidence.what.clone();
    // Where it is about somebody else than its words say.
    if let Some(task) = evidence.task.as_ref().filter(|_| evidence.depth > 0)
        && !what.contains(&task.label())
    {
        what += &format!(": {}", task.label());
    }
    // On a narrow terminal threads have no column of their own.
    let wide = if width() < 80 { 0 } else { 14 };
    if wide == 0 && !thread.is_empty() {
        what = format!("{thread}: {what}");
    }
    let thread = if wide == 0 { String::new() } else { fit(&thread, wide) + "  " };
    let room = width().saturating_sub(8 + 11 + 2 + measure_text_width(&thread) + indent);
    for (line_at, line) in wrap(&escape(&what), room).iter().enumerate() {
        if line_at == 0 {
            let (at, thread) = (dim().apply_to(&at), name().apply_to(&thread));
            writeln!(out, "        {at:>11}  {thread}{:indent$}{line}", "")?;
        } else {
            let before = 8 + 11 + 2 + measure_text_width(&thread) + indent;
            writeln!(out, "{:before$}{line}", "")?;
        }
    }
    Ok(())
}

/// The arguments with which `lookback events` shows what is there.
pub fn events_at(evidence: &Evidence) -> Vec<String> {
    // A little before it, so that it is among them.
    let micros = evidence.before_end.0.div_ceil(1000) + 1;
    let mut arguments = vec!["--last".to_owned(), format!("{micros}us")];
    if let Some(thread) = evidence.thread.as_ref().filter(|thread| thread.number.0 > 0) {
        arguments.extend(["--thread".to_owned(), thread.number.to_string()]);
    }
    arguments.extend(["--limit".to_owned(), "20".to_owned()]);
    arguments
}
