//! Prints the headline and the findings, worst first.

use super::wrap::{fit, moment, wrap};
use crate::format::{
    bytes, count, counted, covered_of, duration, escape, first_line, shell_word, without_fraction,
};
use crate::frames;
use crate::terminal::{bad, dim, good, name, odd, strong, width};
use console::{Style, measure_text_width};
use lookback::read::analysis::{Coverage, Evidence, Finding, Report, Score, Unit, WaitPlace};
use lookback::read::symbols::Symbolizer;
use lookback::read::wire::Nanos;
use std::io::{self, Write};
use std::path::Path;

/// How many pieces of evidence are shown for a finding.
const MOST_EVIDENCE: usize = 12;
/// How many files without names are told.
const MOST_UNNAMED: usize = 3;
/// The same for a finding about stops of the process.
const MOST_STOPS: usize = 3;

/// Stacks have the names of functions if there is a symbolizer; otherwise files and offsets.
pub fn print(
    report: &Report,
    findings: &[&Finding],
    most: usize,
    file: &Path,
    mut symbolizer: Option<&mut Symbolizer>,
    threads: &[String],
    out: &mut impl Write,
) -> io::Result<()> {
    headline(report, file, symbolizer.as_deref_mut(), out)?;
    let stacks = report.incident.table.stacks;
    if stacks > 0 {
        let line = format!("{}: lookback stacks {}", counted(stacks, "stack"), shell_word(file));
        row("stacks", &Style::new(), &line, out)?;
    }
    of_threads(threads, out)?;
    section("What stood out", out)?;
    if findings.is_empty() {
        // A panic is no less a finding for being the reason.
        let is_told = report.incident.table.causes.iter().any(|cause| !is_request(&cause.trigger));
        let line = match is_told {
            true => "Nothing besides the reason above.",
            false => "Nothing of what could be assessed.",
        };
        writeln!(out, "  {}", if is_told { odd() } else { good() }.apply_to(line))?;
    }
    for finding in findings.iter().take(most) {
        one(finding, report.before_window(finding), file, out)?;
        let task = finding.evidence.first().and_then(|evidence| evidence.task.as_ref());
        if finding.analysis == "stuck"
            && let Some(at) = task.and_then(|task| report.waiting.get(&task.task))
        {
            waits_at(&at.places, symbolizer.as_deref_mut(), out)?;
            if !at.spawned_by.is_empty() {
                let own = frames::in_short(&at.spawned_by, symbolizer.as_deref_mut());
                chain("spawned", "", &own, out)?;
            }
        }
        if finding.analysis == "heap" {
            let of = &report.heap.table;
            let burst = finding.title.starts_with("A burst");
            let (changes, word) =
                if burst { (&of.burst, "allocated") } else { (&of.growing, "grew by") };
            for change in changes {
                let own = frames::in_short(&change.stack, symbolizer.as_deref_mut());
                let own = if own.is_empty() { vec!["at an unknown place".to_owned()] } else { own };
                let about = format!(
                    "{word} about {}, by {}",
                    bytes(change.bytes),
                    counted(change.samples, "sample")
                );
                writeln!(out, "        {}", dim().apply_to(about))?;
                chain("at", "", &own, out)?;
            }
        }
    }
    let more = findings.len().saturating_sub(most);
    if more > 0 {
        let line = format!("{} more: --all", count(more as u64));
        writeln!(out, "  {}", dim().apply_to(line))?;
    }
    let not_assessed = report.not_assessed();
    if !not_assessed.is_empty() {
        section("Not assessed", out)?;
    }
    // Analyses with the same reason share a line.
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

/// Files whose functions have no names, as one of another build: then findings say less than they could.
pub fn unnamed(problems: &[String], out: &mut impl Write) -> io::Result<()> {
    let builds: Vec<_> =
        problems.iter().filter(|problem| problem.contains("of another build")).collect();
    if builds.is_empty() {
        return Ok(());
    }
    section("Without names", out)?;
    for problem in builds.into_iter().take(MOST_UNNAMED) {
        for line in wrap(&escape(problem), width().saturating_sub(4)) {
            writeln!(out, "  {}", odd().apply_to(line))?;
        }
    }
    Ok(())
}

/// A snapshot of a process that was not being recorded has no more than its threads.
pub fn threads_alone(
    report: &Report,
    findings: &[&Finding],
    file: &Path,
    threads: &[String],
    out: &mut impl Write,
) -> io::Result<()> {
    headline(report, file, None, out)?;
    row("recorder", &odd(), "none was running in the process: this has its threads alone", out)?;
    of_threads(threads, out)?;
    if findings.iter().any(|finding| finding.analysis == "hangs") {
        section("What stood out", out)?;
    }
    for finding in findings.iter().filter(|finding| finding.analysis == "hangs") {
        one(finding, None, file, out)?;
    }
    Ok(())
}

/// A heading, and lines below it.
fn of_threads(threads: &[String], out: &mut impl Write) -> io::Result<()> {
    let Some((first, rest)) = threads.split_first() else { return Ok(()) };
    section(first, out)?;
    rest.iter().try_for_each(|line| writeln!(out, "  {}", escape(line)))
}

/// Where a task waits: the innermost of the service's own functions.
fn waits_at(
    places: &[WaitPlace],
    mut symbolizer: Option<&mut Symbolizer>,
    out: &mut impl Write,
) -> io::Result<()> {
    for (at, place) in places.iter().enumerate() {
        let own = frames::in_short(&place.stack, symbolizer.as_deref_mut());
        let earlier = if place.is_earlier { " (registered in an earlier poll)" } else { "" };
        let head = if at == 0 { "waits at" } else { "and at" };
        chain(head, earlier, &own, out)?;
    }
    Ok(())
}

/// Functions, one below the other, with a word before the first and a remark behind it.
fn chain(head: &str, remark: &str, functions: &[String], out: &mut impl Write) -> io::Result<()> {
    for (at, function) in functions.iter().enumerate() {
        let (head, remark) = if at == 0 { (head, remark) } else { ("", "") };
        for line in wrap(&escape(function), width().saturating_sub(18)) {
            writeln!(out, "        {head:<8}  {line}{}", dim().apply_to(remark))?;
        }
    }
    Ok(())
}

/// Whether a snapshot was taken because somebody asked for it, not because something happened.
fn is_request(trigger: &str) -> bool {
    ["", "request", "stop", "outside"].contains(&trigger)
}

/// A heading.
pub fn section(title: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}", strong().apply_to(title))
}

fn headline(
    report: &Report,
    file: &Path,
    mut symbolizer: Option<&mut Symbolizer>,
    out: &mut impl Write,
) -> io::Result<()> {
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
    if !coverage.stops.is_empty() {
        let stops = coverage.stops.iter().map(|stop| {
            format!("for {}, from {} on", duration(stop.length.0), moment(stop.at).trim_start())
        });
        let stops: Vec<_> = stops.take(MOST_STOPS).collect();
        let more = coverage.stops.len() - stops.len();
        let more = if more > 0 {
            format!(", and {}", counted(more as u64, "more time"))
        } else {
            String::new()
        };
        row("stopped", &bad(), &format!("the process, {}{more}", stops.join(", ")), out)?;
    }
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
        let own = frames::in_short(&cause.stack, symbolizer.as_deref_mut());
        for (at, function) in own.iter().enumerate() {
            row(if at == 0 { "stack" } else { "" }, &plain, function, out)?;
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

/// Says that texts took more room than necessary.
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
        (coverage.range_events, "of ranges"),
        (coverage.lock_events, "of locks"),
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
    if coverage.cpu_samples > 0 {
        parts.push(counted(coverage.cpu_samples, "CPU sample"));
    }
    if coverage.allocation_samples > 0 {
        parts.push(format!("{} of the heap", count(coverage.allocation_samples)));
    }
    match parts.as_slice() {
        [] => count(coverage.events),
        parts => format!("{}: {}", count(coverage.events), parts.join(", ")),
    }
}

/// `ago` is set if it was over before the recorder's window.
fn one(finding: &Finding, ago: Option<Nanos>, file: &Path, out: &mut impl Write) -> io::Result<()> {
    let number = finding.score.number();
    let style = if number >= 0.8 { bad() } else { odd() };
    let age = ago.map(|ago| format!("; {} before the end", duration(ago.0))).unwrap_or_default();
    let lines = wrap(&escape(&first_line(&finding.title)), width().saturating_sub(9));
    for (at, line) in lines.iter().enumerate() {
        let score = if at == 0 { format!("{number:.2}") } else { String::new() };
        writeln!(out, "  {:<4}  {}", style.apply_to(score), strong().apply_to(line))?;
    }
    writeln!(out, "        {}", dim().apply_to(limit(&finding.score) + &age))?;
    for evidence in finding.evidence.iter().take(MOST_EVIDENCE) {
        shown(evidence, out)?;
    }
    let more = finding.evidence.len().saturating_sub(MOST_EVIDENCE);
    if more > 0 {
        writeln!(out, "        {}", dim().apply_to(format!("… {more} more, see --json")))?;
    }
    // To copy, so they are not cut.
    for line in commands(finding, file) {
        writeln!(out, "        {}", dim().apply_to(escape(&line)))?;
    }
    Ok(())
}

/// The commands that show what a finding is about.
pub fn commands(finding: &Finding, file: &Path) -> Vec<String> {
    let mut commands = Vec::new();
    if let Some(first) = finding.evidence.first().filter(|first| first.before_end.0 > 0) {
        let arguments = match finding.events.as_slice() {
            [] => events_at(first),
            kinds => events_of(kinds, first),
        };
        commands.push(format!("lookback events {} {}", shell_word(file), arguments.join(" ")));
    }
    commands.extend(why(finding).map(|of| format!("lookback why {} {of}", shell_word(file))));
    // Only waits that have ended are in the profile.
    if finding.events.contains(&"contention") {
        commands.push(format!(
            "lookback export {} --format pprof --profile contention -o contention.pb.gz",
            shell_word(file)
        ));
    }
    commands
}

/// Whose time `lookback why` is to account for.
fn why(finding: &Finding) -> Option<String> {
    let first = finding.evidence.first()?;
    match finding.analysis {
        "spans" => first.span.as_ref().map(|span| format!("--span {}", span.span)),
        "stuck" | "delays" => first.task.as_ref().map(|task| format!("--task {}", task.task)),
        _ => None,
    }
}

fn limit(score: &Score) -> String {
    let told = |value: f64| match score.unit {
        Unit::Nanos => duration(value as u64),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Bytes => bytes(value as u64),
        _ => count(value as u64),
    };
    format!("{} against a limit of {}", told(score.value), told(score.limit))
}

fn shown(evidence: &Evidence, out: &mut impl Write) -> io::Result<()> {
    let at = moment(evidence.at);
    let thread = evidence.thread.as_ref().map(|thread| thread.short()).unwrap_or_default();
    let indent = 2 * usize::from(evidence.depth).min(6);
    let mut what = evidence.what.clone();
    // If the evidence concerns another task than its text names.
    if let Some(task) = evidence.task.as_ref().filter(|_| evidence.depth > 0)
        && !what.contains(&task.label())
    {
        what += &format!(": {}", task.label());
    }
    // On a narrow terminal the thread has no column of its own.
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

/// This many microseconds, for `--last`: `4.302392s`, `17.5ms`, `840us`.
fn exactly(micros: u64) -> String {
    let (whole, part, digits, unit) = match micros {
        0..1_000 => (micros, 0, 0, "us"),
        1_000..1_000_000 => (micros / 1_000, micros % 1_000, 3, "ms"),
        _ => (micros / 1_000_000, micros % 1_000_000, 6, "s"),
    };
    let part = format!("{part:0digits$}");
    match part.trim_end_matches('0') {
        "" => format!("{whole}{unit}"),
        part => format!("{whole}.{part}{unit}"),
    }
}

/// The arguments of `lookback events` that show the events of this evidence.
pub fn events_at(evidence: &Evidence) -> Vec<String> {
    // A little earlier, so that the event is among them.
    let micros = evidence.before_end.0.div_ceil(1000) + 1;
    let mut arguments = vec!["--last".to_owned(), exactly(micros)];
    if let Some(thread) = evidence.thread.as_ref().filter(|thread| thread.number.0 > 0) {
        arguments.extend(["--thread".to_owned(), thread.number.to_string()]);
    }
    arguments.extend(["--limit".to_owned(), "20".to_owned()]);
    arguments
}

/// The same for events of these kinds, which any thread may have recorded.
fn events_of(kinds: &[&str], evidence: &Evidence) -> Vec<String> {
    let mut evidence = evidence.clone();
    evidence.thread = None;
    let mut arguments = events_at(&evidence);
    arguments.splice(2..2, kinds.iter().flat_map(|kind| ["--kind".to_owned(), (*kind).to_owned()]));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_to_copy_has_a_sensible_unit_and_is_exact() {
        let all = [0, 840, 1_000, 17_500, 999_999, 4_302_392, 60_000_000].map(exactly);
        assert_eq!(all, ["0us", "840us", "1ms", "17.5ms", "999.999ms", "4.302392s", "60s"]);
        for micros in [1, 4_302_392, 86_399_999_999] {
            let read = crate::format::parse_duration(&exactly(micros)).unwrap();
            assert!(read.as_micros().abs_diff(u128::from(micros)) <= 1, "{micros}");
        }
    }
}
