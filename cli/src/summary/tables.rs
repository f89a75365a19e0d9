//! Prints the tables behind the findings.

use super::findings::section;
use super::wrap::{fit, moment};
use super::{locks, machine, numbers};
use crate::format::{bar, count, counted, duration, escape};
use crate::frames;
use crate::terminal::{bad, dim, name, odd, strong, width};
use console::{measure_text_width, truncate_str};
use lookback::read::Level;
use lookback::read::analysis::{
    BusyLoops, Changes, CounterRange, Delays, Endings, Histogram, LogLine, Polls, Report, Section,
    SlowSpan, SpanName, Spans, StuckTasks, WaitReason, Workers,
};
use lookback::read::symbols::Symbolizer;
use std::io::{self, Write};

/// How many rows of a table are shown.
const MOST_ROWS: usize = 12;
/// How many functions are shown beneath a log that has a stack.
const MOST_FRAMES: usize = 3;

/// Stacks have the names of functions if there is a symbolizer.
pub fn print(
    report: &Report,
    mut symbolizer: Option<&mut Symbolizer>,
    out: &mut impl Write,
) -> io::Result<()> {
    let spans = report.spans.table.names.iter();
    let outcomes = |of: &SpanName| Some((of.outcomes.failed, of.outcomes.cancelled));
    let spans: Vec<_> = spans.map(|of| (&*of.group, &of.lengths, of.open, outcomes(of))).collect();
    names("Spans", &spans, out)?;
    slowest(&report.spans.table, out)?;
    let regions = report.regions.table.names.iter();
    let regions: Vec<_> = regions.map(|of| (&*of.name, &of.lengths, of.open, None)).collect();
    names("Regions", &regions, out)?;
    polls(&report.polls.table, &report.delays.table, out)?;
    waits(&report.waits.table.reasons, report.locks.table.waits > 0, out)?;
    locks::print(&report.locks.table, out)?;
    tasks(&report.endings.table, &report.stuck.table, &report.busy.table, out)?;
    workers(&report.workers.table, out)?;
    counters(&report.counters.table.counters, out)?;
    machine::print(&report.system.table, out)?;
    numbers::print(report, out)?;
    changes(&report.changes, out)?;
    let (warnings, last) = (&report.logs.table.warnings, &report.logs.table.last);
    logs("The last warnings before the last logs", warnings, symbolizer.as_deref_mut(), out)?;
    logs("The last logs", last, symbolizer, out)
}

/// An empty table takes one line.
pub(super) fn nothing(title: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{}  {}", strong().apply_to(title), dim().apply_to("none recorded"))
}

pub(super) fn more(rows: usize, of: usize, out: &mut impl Write) -> io::Result<()> {
    match of - rows.min(of) {
        0 => Ok(()),
        more => {
            let line = format!("{} more, see --json", count(more as u64));
            writeln!(out, "  {}", dim().apply_to(line))
        }
    }
}

pub(super) fn head(
    first: &str,
    wide: usize,
    columns: &str,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "  {}", dim().apply_to(format!("{first:<wide$}{columns}")))
}

/// The count, three percentiles and the longest, as wide as [`LENGTHS`].
fn lengths(lengths: &Histogram) -> String {
    if lengths.count() == 0 {
        return format!("{:>11}{:2$}", "0", "", LENGTHS_WIDE - 11);
    }
    let times = [0.5, 0.9, 0.99].map(|part| duration(lengths.percentile(part).0));
    let most = duration(lengths.most().0);
    let mut out = format!(" {:>10}", count(lengths.count()));
    for time in times.iter().chain([&most]) {
        out += &format!(" {time:>8}");
    }
    out
}

const LENGTHS: &str = "      count     50 %     90 %     99 %  longest";
const LENGTHS_WIDE: usize = 11 + 4 * 9;

pub(super) fn name_wide(columns: usize) -> usize {
    width().saturating_sub(2 + columns).clamp(8, 60)
}

/// The reasons of `waiting_for`, and the recorded locks.
fn waits(reasons: &[WaitReason], is_below: bool, out: &mut impl Write) -> io::Result<()> {
    const TITLE: &str = "What tasks waited for";
    if reasons.is_empty() {
        let line = match is_below {
            true => "no recorded task said; threads waited for locks, see below",
            false => "no task said what it waits for",
        };
        return writeln!(out, "\n{}  {}", strong().apply_to(TITLE), dim().apply_to(line));
    }
    section(TITLE, out)?;
    let wide = name_wide(11 + 9 + 9 + 9 + 9 + 7);
    head("reason", wide, "      count    total     99 %  longest  at once   open", out)?;
    for of in reasons.iter().take(MOST_ROWS) {
        let longest = of.longest.first().map_or(0, |wait| wait.length.0);
        writeln!(
            out,
            "  {} {:>10} {:>8} {:>8} {:>8} {:>8} {:>6}",
            name().apply_to(fit(&of.reason, wide)),
            count(of.count()),
            duration(of.total.0),
            // Of those that have ended.
            match of.lengths.count() {
                0 => String::new(),
                _ => duration(of.lengths.percentile(0.99).0),
            },
            duration(longest),
            count(of.most_at_once),
            if of.open > 0 { count(of.open) } else { String::new() },
        )?;
    }
    more(MOST_ROWS, reasons.len(), out)
}

/// A row of spans or regions of one name: how many are open, and how many spans failed and were cancelled.
type Row<'a> = (&'a str, &'a Histogram, u64, Option<(u64, u64)>);

fn names(title: &str, rows: &[Row<'_>], out: &mut impl Write) -> io::Result<()> {
    if rows.is_empty() {
        return nothing(title, out);
    }
    section(title, out)?;
    // A column that would be empty is left out.
    let any = |of: fn(&(u64, u64)) -> u64| {
        rows.iter().any(|(.., outcomes)| outcomes.as_ref().is_some_and(|all| of(all) > 0))
    };
    let columns = [("failed", any(|all| all.0)), ("cancelled", any(|all| all.1))];
    let extra: String =
        columns.iter().filter(|(_, any)| *any).map(|(what, _)| format!(" {what:>9}")).collect();
    let wide = name_wide(LENGTHS_WIDE + 7 + extra.len());
    head("name", wide, &format!("{LENGTHS}   open{extra}"), out)?;
    let some = |many: u64| if many > 0 { count(many) } else { String::new() };
    for (called, times, open, outcomes) in rows.iter().take(MOST_ROWS) {
        let called = name().apply_to(fit(called, wide));
        write!(out, "  {called}{} {:>6}", lengths(times), some(*open))?;
        let (failed, cancelled) = outcomes.unwrap_or_default();
        if columns[0].1 {
            write!(out, " {}", bad().apply_to(format!("{:>9}", some(failed))))?;
        }
        if columns[1].1 {
            write!(out, " {:>9}", some(cancelled))?;
        }
        writeln!(out)?;
    }
    more(MOST_ROWS, rows.len(), out)
}

/// The slowest spans of all names, with how they spent their time.
fn slowest(spans: &Spans, out: &mut impl Write) -> io::Result<()> {
    let mut all: Vec<&SlowSpan> = spans.names.iter().flat_map(|of| &of.slowest).collect();
    all.sort_by_key(|span| (std::cmp::Reverse(span.length), span.span.span));
    if !all.is_empty() {
        head("", 8, "       at  the slowest, and where their time went", out)?;
    }
    for span in all.iter().take(LONGEST) {
        let open = if span.open { ", still open" } else { "" };
        let spent = match &span.spent {
            Some(spent) => format!(": {}", spent.split()),
            None => String::new(),
        };
        let what = format!("{}{open}{spent}", span.span.label());
        long(span.length.0, moment(span.began), &what, out)?;
    }
    Ok(())
}

/// One of the longest: its duration, when, and what.
fn long(length: u64, at: String, what: &str, out: &mut impl Write) -> io::Result<()> {
    let what = escape(what);
    let what = truncate_str(&what, width().saturating_sub(2 + 8 + 11 + 2), "…");
    writeln!(out, "  {:>8} {:>10}  {what}", duration(length), dim().apply_to(at))
}

/// How many of the longest are shown.
const LONGEST: usize = 5;

fn polls(polls: &Polls, delays: &Delays, out: &mut impl Write) -> io::Result<()> {
    if polls.lengths.count() == 0 && delays.lengths.count() == 0 {
        return nothing("Polls", out);
    }
    section("Polls", out)?;
    head("", 14, LENGTHS, out)?;
    for (what, told) in [("a poll", &polls.lengths), ("wake to poll", &delays.lengths)] {
        writeln!(out, "  {what:<14}{}", lengths(told))?;
    }
    if delays.causes_unknown > 0 {
        let line = format!(
            "of {} it is not known who woke for them",
            counted(delays.causes_unknown, "poll")
        );
        writeln!(out, "  {}", dim().apply_to(line))?;
    }
    if !polls.longest.is_empty() {
        head("", 8, "       at  the longest polls", out)?;
    }
    for poll in polls.longest.iter().take(LONGEST) {
        let mut what = format!("{} on {}", poll.task.label(), poll.thread.label());
        if let Some(span) = &poll.span {
            what += &format!(", in span {}", span.label());
        }
        if poll.running {
            what += ", still running";
        }
        if poll.waited > 0 {
            what += &format!(", {} waited", counted(poll.waited, "task"));
        }
        long(poll.length.0, moment(poll.began), &what, out)?;
    }
    if !delays.longest.is_empty() {
        head("", 8, "       at  the longest from wake to poll", out)?;
    }
    for delay in delays.longest.iter().take(LONGEST) {
        let mut what = delay.task.label();
        if let Some(wake) = delay.wakes.first() {
            let how = if wake.spawned { "spawned" } else { "woken" };
            what += &format!(", {how} by {}", wake.label());
        }
        what += &match &delay.polled_by {
            Some(thread) => format!(", polled by {}", thread.label()),
            None => ", not polled up to the end".to_owned(),
        };
        long(delay.length.0, moment(delay.runnable), &what, out)?;
    }
    Ok(())
}

fn tasks(
    endings: &Endings,
    stuck: &StuckTasks,
    busy: &BusyLoops,
    out: &mut impl Write,
) -> io::Result<()> {
    if endings.spawned + endings.ready + endings.dropped + endings.panicked + stuck.live == 0 {
        return nothing("Tasks", out);
    }
    section("Tasks", out)?;
    writeln!(
        out,
        "  {} spawned, {} done, {} dropped, {} panicked, {} self-wakes",
        count(endings.spawned),
        count(endings.ready),
        count(endings.dropped),
        count(endings.panicked),
        count(busy.self_wakes),
    )?;
    writeln!(
        out,
        "  {} alive at the end, {} of them woken or being polled, {} never polled here",
        count(stuck.live),
        count(stuck.active),
        count(stuck.idle_throughout),
    )?;
    if stuck.longest.is_empty() {
        return Ok(());
    }
    let wide = name_wide(8 + 11 + 20);
    head("not polled nor woken for longest", wide, "     task    since       for", out)?;
    for idle in stuck.longest.iter().take(5) {
        let called = fit(&idle.task.name, wide);
        let since = if idle.before { "begin".to_owned() } else { moment(idle.since) };
        let task = idle.task.task.to_string();
        let length = duration(idle.length.0);
        let waits = idle.waits_for.as_deref().map(|what| format!("  for {}", escape(what)));
        let waits = waits.unwrap_or_default();
        writeln!(out, "  {}{task:>9}{since:>11} {length:>8}{waits}", name().apply_to(called))?;
    }
    Ok(())
}

fn workers(workers: &Workers, out: &mut impl Write) -> io::Result<()> {
    if workers.workers.is_empty() {
        return nothing("Workers", out);
    }
    section("Workers", out)?;
    let shown = || workers.workers.iter().take(32);
    let wide = shown().map(|worker| measure_text_width(&worker.thread.called())).max();
    let wide = wide.unwrap_or_default().clamp(6, 28);
    let label = shown().map(|worker| measure_text_width(&worker.label())).max();
    let label = label.unwrap_or_default().clamp(7, 19);
    let room = width().saturating_sub(2 + label + 1 + wide + 4 * 9 + 10 + 3).min(20);
    let columns = "  at work  polling  outside   parked     polls";
    head("worker", label + 1, &format!("{:<wide$}{columns}", "thread"), out)?;
    for worker in shown() {
        let busy = worker.busy();
        let style = if busy > 0.9 { bad() } else { name() };
        let polling = duration(worker.polling.0);
        let outside = match worker.unknown.0 {
            0 => duration(worker.outside.0),
            _ => "?".to_owned(),
        };
        let (parked, polls) = (duration(worker.parked.0), count(worker.polls));
        writeln!(
            out,
            "  {} {} {:>8} {polling:>8} {outside:>8} {parked:>8} {polls:>9}  {}",
            fit(&worker.label(), label),
            fit(&worker.thread.called(), wide),
            format!("{}{:.1} %", if worker.unknown.0 == 0 { "" } else { "≥ " }, busy * 100.0),
            style.apply_to(bar(busy, room)),
        )?;
    }
    more(32, workers.workers.len(), out)?;
    let line = format!(
        "{:.0} % of their time at work was outside of the polls of recorded tasks",
        workers.uninstrumented() * 100.0
    );
    writeln!(out, "  {}", dim().apply_to(line))
}

fn counters(counters: &[CounterRange], out: &mut impl Write) -> io::Result<()> {
    if counters.is_empty() {
        return nothing("Counters", out);
    }
    section("Counters", out)?;
    let wide = name_wide(11 * 5 + 12);
    head("name", wide, "    samples      first      least       most   most at       last", out)?;
    for counter in counters.iter().take(MOST_ROWS) {
        writeln!(
            out,
            "  {} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            name().apply_to(fit(&counter.name, wide)),
            count(counter.samples),
            value(counter.first),
            value(counter.least),
            value(counter.most),
            moment(counter.most_at),
            value(counter.last),
        )?;
    }
    more(MOST_ROWS, counters.len(), out)
}

/// A value in ten characters.
fn value(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e9 {
        return format!("{value:.0}");
    }
    let plain = format!("{value:.3}");
    if plain.len() <= 10 { plain } else { format!("{value:.3e}") }
}

fn changes(changes: &Section<Changes>, out: &mut impl Write) -> io::Result<()> {
    const TITLE: &str = "Different in the last second";
    let rows = &changes.table.changes;
    if rows.is_empty() {
        let what = if changes.not_assessed.is_empty() { "nothing much" } else { "not assessed" };
        return writeln!(out, "\n{}  {}", strong().apply_to(TITLE), dim().apply_to(what));
    }
    section(TITLE, out)?;
    let wide = name_wide(15 + 12 + 14);
    head("", 15, &format!("{:<wide$}      in it  before, a second", ""), out)?;
    for change in rows {
        writeln!(
            out,
            "  {:<14} {} {:>10} {:>13.1}",
            change.kind,
            name().apply_to(fit(&change.name, wide)),
            count(change.last),
            change.before
        )?;
    }
    Ok(())
}

fn logs(
    title: &str,
    logs: &[LogLine],
    mut symbolizer: Option<&mut Symbolizer>,
    out: &mut impl Write,
) -> io::Result<()> {
    if logs.is_empty() {
        // There may be no warnings before the last logs.
        return if title == "The last logs" { nothing(title, out) } else { Ok(()) };
    }
    section(title, out)?;
    let last = &logs[logs.len().saturating_sub(MOST_ROWS)..];
    for log in last {
        let level = log.level.name().to_uppercase();
        let level = match log.level {
            Level::Error => bad(),
            Level::Warn => odd(),
            _ => dim(),
        }
        .apply_to(level);
        let mut text = format!("{}: {}", log.category, log.message);
        if !log.fields.is_empty() {
            text += &format!("  {}", log.fields);
        }
        let room = width().saturating_sub(2 + 11 + 2 + 14 + 2 + 5 + 1);
        writeln!(
            out,
            "  {:>11}  {}  {level:<5} {}",
            dim().apply_to(moment(log.at)),
            name().apply_to(fit(&log.thread.short(), 14)),
            truncate_str(&escape(&text), room, "…"),
        )?;
        for line in frames::in_short(&log.stack, symbolizer.as_deref_mut()).iter().take(MOST_FRAMES)
        {
            writeln!(
                out,
                "  {:>11}  {:14}  {}",
                "",
                "",
                dim().apply_to(format!("at {}", escape(line)))
            )?;
        }
    }
    Ok(())
}
