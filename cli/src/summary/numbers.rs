//! Prints how runtimes, ranges of the process, numbers of tasks and the heap fared.

use super::findings::section;
use super::machine::{rate, value};
use super::tables::{head, more, name_wide};
use super::wrap::{fit, moment};
use crate::format::{bytes, count, duration, escape};
use crate::terminal::{dim, name};
use lookback::read::analysis::{HeapGrowth, Ranges, Report, Runtimes, TaskNumbers};
use std::io::{self, Write};

/// How many rows of a table are shown.
const MOST_ROWS: usize = 8;

pub fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    ranges(&report.ranges.table, out)?;
    tasks(&report.tasks.table, out)?;
    runtimes(&report.runtimes.table, out)?;
    heap(&report.heap.table, out)
}

fn ranges(of: &Ranges, out: &mut impl Write) -> io::Result<()> {
    if of.names.is_empty() {
        return Ok(());
    }
    section("Ranges of the whole process", out)?;
    let wide = name_wide(2 * 11 + 3 * 11);
    head("name", wide, "      count       open        all    longest        from", out)?;
    for one in of.names.iter().take(MOST_ROWS) {
        writeln!(
            out,
            "  {} {:>10} {:>10} {:>10} {:>10} {:>11}",
            name().apply_to(fit(&escape(&one.name), wide)),
            count(one.count),
            count(one.open),
            duration(one.total.0),
            duration(one.longest.0),
            moment(one.longest_at),
        )?;
    }
    more(MOST_ROWS, of.names.len(), out)
}

fn tasks(of: &TaskNumbers, out: &mut impl Write) -> io::Result<()> {
    if of.names.is_empty() {
        return Ok(());
    }
    section("Tasks by name", out)?;
    let wide = name_wide(5 * 11);
    head("name", wide, "      first       most       last    spawned     future", out)?;
    for one in of.names.iter().take(MOST_ROWS) {
        let size = if one.size == 0 { "?".to_owned() } else { bytes(one.size) };
        writeln!(
            out,
            "  {} {:>10} {:>10} {:>10} {:>10} {:>10}",
            name().apply_to(fit(&escape(&one.name), wide)),
            count(one.first),
            count(one.most),
            count(one.last),
            count(one.spawned),
            size,
        )?;
    }
    more(MOST_ROWS, of.names.len(), out)
}

fn runtimes(of: &Runtimes, out: &mut impl Write) -> io::Result<()> {
    for runtime in of.runtimes.iter().take(MOST_ROWS) {
        section(&format!("Runtime r{}, by its own counters", runtime.runtime), out)?;
        let wide = name_wide(4 * 11);
        head("counter", wide, "      first       most       last   a second", out)?;
        for one in &runtime.counters {
            let rate = if one.counter.is_increase() { rate(one) } else { String::new() };
            writeln!(
                out,
                "  {} {:>10} {:>10} {:>10} {rate:>10}",
                name().apply_to(fit(one.counter.name(), wide)),
                value(one.counter, one.first),
                value(one.counter, one.most),
                value(one.counter, one.last),
            )?;
        }
    }
    more(MOST_ROWS, of.runtimes.len(), out)
}

fn heap(of: &HeapGrowth, out: &mut impl Write) -> io::Result<()> {
    let Some((first, last)) = of.live else { return Ok(()) };
    section("The heap", out)?;
    let line = format!(
        "{} alive at first, {} at last, {} at most; {} allocated in between",
        bytes(first),
        bytes(last),
        bytes(of.peak),
        bytes(of.allocated),
    );
    writeln!(out, "  {line}")?;
    writeln!(out, "  {}", dim().apply_to("which stacks: lookback stacks FILE --heap"))
}
