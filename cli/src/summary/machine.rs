//! Prints how the process, its control group and the machine fared.

use super::findings::section;
use super::tables::{head, name_wide, nothing};
use super::wrap::{fit, moment};
use crate::format::{bytes, count, duration};
use crate::terminal::name;
use lookback::read::analysis::{System, SystemRange};
use lookback::read::format::percent;
use lookback::read::{CounterUnit, SystemCounter};
use std::io::{self, Write};

const TITLE: &str = "The process and its machine";

pub fn print(system: &System, out: &mut impl Write) -> io::Result<()> {
    if system.counters.is_empty() {
        return nothing(TITLE, out);
    }
    section(TITLE, out)?;
    let levels = system.counters.iter().filter(|one| !one.counter.is_increase());
    let wide = name_wide(4 * 11);
    head("level", wide, "      first       most    most at       last", out)?;
    for one in levels {
        writeln!(
            out,
            "  {} {:>10} {:>10} {:>10} {:>10}",
            name().apply_to(fit(one.counter.name(), wide)),
            value(one.counter, one.first),
            value(one.counter, one.most),
            moment(one.most_at),
            value(one.counter, one.last),
        )?;
    }
    // Most are 0 where nothing is wrong.
    let increases = system.counters.iter().filter(|one| one.counter.is_increase());
    let (some, none): (Vec<_>, Vec<_>) = increases.partition(|one| one.sum > 0);
    if !some.is_empty() {
        head("added", wide, "     in all   a second       most    most at", out)?;
    }
    for one in some {
        writeln!(
            out,
            "  {} {:>10} {:>10} {:>10} {:>10}",
            name().apply_to(fit(one.counter.name(), wide)),
            value(one.counter, one.sum),
            rate(one),
            value(one.counter, one.most),
            moment(one.most_at),
        )?;
    }
    let none: Vec<_> = none.iter().map(|one| one.counter.name()).collect();
    match none.is_empty() {
        true => Ok(()),
        false => writeln!(out, "  nothing was added to {}", none.join(", ")),
    }
}

pub(super) fn value(counter: SystemCounter, value: u64) -> String {
    match counter.unit() {
        CounterUnit::Bytes => bytes(value),
        CounterUnit::Nanos => duration(value),
        _ => count(value),
    }
}

/// Of times, the share of the time that passed: above 100 % where several cores add up.
pub(super) fn rate(one: &SystemRange) -> String {
    match one.counter.unit() {
        CounterUnit::Nanos => percent(one.rate() / 1e9),
        _ => value(one.counter, one.rate().round() as u64),
    }
}
