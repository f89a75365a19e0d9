//! Differences in words.

use super::{Change, Difference, Kind, What};
use crate::format::{bytes, count, duration, percent};
use crate::wire::{CounterUnit, Nanos, SystemCounter};

impl Difference {
    /// What differs, in one sentence that a person can read out.
    #[must_use]
    pub fn in_words(&self) -> String {
        let changes = self.changes.iter().take(3).map(|change| self.change(change));
        let mut words = changes.collect::<Vec<_>>().join("; ");
        if self.changes.is_empty() {
            let (side, many) = match self.bad.count > 0.0 {
                true => ("BAD", self.bad.count),
                false => ("GOOD", self.good.count),
            };
            words = format!("only in {side}, {}", times(many));
        }
        format!("{} {words}", self.subject())
    }

    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> String {
        let (what, name) = (self.what(), &self.name);
        let within = match self.kind {
            Kind::Wait => return format!("{what} `{}` that wait at `{name}`:", self.within),
            _ if self.within.is_empty() => String::new(),
            _ => format!(" ({})", self.within),
        };
        match self.kind {
            Kind::Poll => format!("Polls of `{name}`{within}"),
            Kind::Lock => format!("Waits for the lock at `{name}`{within}"),
            Kind::AliveTasks => format!("Tasks `{name}` alive:"),
            _ => format!("{what} `{name}`{within}"),
        }
    }

    fn what(&self) -> &'static str {
        match self.kind {
            Kind::ErrorLog => "Error log",
            Kind::Panic => "Panics of task",
            Kind::WarnLog => "Warning",
            Kind::Span => "Span",
            Kind::Region => "Region",
            Kind::Range => "Range",
            Kind::Lock => "Lock",
            Kind::Poll => "Polls",
            Kind::Wait | Kind::AliveTasks => "Tasks",
            Kind::Cpu => "CPU time in",
            Kind::Allocation => "Allocations by",
            Kind::Task => "Spawns of task",
            Kind::Cancelled => "Cancelled tasks",
            Kind::Event => "Event",
            Kind::Log => "Log",
            Kind::Counter | Kind::System | Kind::Runtime | Kind::Machine => "Counter",
        }
    }

    /// One change, with the numbers of both sides.
    fn change(&self, change: &Change) -> String {
        let Change { what, good, bad, .. } = change;
        let (from, to) = (self.value(*what, *good), self.value(*what, *bad));
        let rate = match self.kind {
            Kind::Cpu | Kind::Allocation => "",
            _ => " a second",
        };
        let factor = factor(*good, *bad);
        match what {
            What::Rate if *good == 0.0 && rate.is_empty() => format!("is new: {to}"),
            What::Rate if *good == 0.0 => {
                format!("is new: {to}{rate}, {} in all", times(self.bad.count))
            }
            What::Rate if *bad == 0.0 && rate.is_empty() => format!("is gone: was {from}"),
            What::Rate if *bad == 0.0 => {
                format!("is gone: was {from}{rate}, {} in all", times(self.good.count))
            }
            What::Rate if rate.is_empty() => format!("{factor}: {from} → {to}"),
            What::Rate => format!("{factor} as often: {from} → {to}{rate}"),
            What::Length => {
                let (p, q) =
                    (duration(Nanos(self.good.p99 as u64)), duration(Nanos(self.bad.p99 as u64)));
                format!("{factor} as long: median {from} → {to}, p99 {p} → {q}{}", self.polled())
            }
            What::Tail => format!("p99 is {factor} as long: {from} → {to}"),
            What::Failures if *good == 0.0 => format!("fails now: {to} of them"),
            What::Failures => format!("fails {factor} as often: {from} → {to} of them"),
            What::LongPolls if *good == 0.0 => {
                format!("now long: {to} a second take more than 10 ms")
            }
            What::LongPolls => {
                format!("long {factor} as often: {from} → {to} a second take more than 10 ms")
            }
            What::Level if matches!(self.kind, Kind::Wait | Kind::AliveTasks) => {
                format!("{from} → {to}")
            }
            What::Level => format!("{factor} as high: {from} → {to}"),
            What::Growth => format!("grows {factor} as fast: {from} → {to} a second"),
        }
    }

    /// Where the time went, if tasks were polled for a part of it.
    fn polled(&self) -> String {
        let of = |share: f64| format!("{:.0} %", share * 100.0);
        match self.kind == Kind::Span && self.good.polled.max(self.bad.polled) > 0.0 {
            true => {
                format!(", in polls for {} → {} of it", of(self.good.polled), of(self.bad.polled))
            }
            false => String::new(),
        }
    }

    fn value(&self, what: What, value: f64) -> String {
        match what {
            What::Length | What::Tail => duration(Nanos(value as u64)),
            What::Failures => percent(value),
            What::Rate if self.kind == Kind::Cpu => format!("{} s a second", number(value)),
            What::Rate if self.kind == Kind::Allocation => {
                format!("{} a second", bytes(value as u64))
            }
            What::Level if is_reading(self.kind) => self.reading(value),
            _ => number(value),
        }
    }

    /// A value of what the recorder reads.
    fn reading(&self, value: f64) -> String {
        let counter = SystemCounter::ALL.iter().find(|counter| counter.name() == self.name);
        let Some(counter) = counter else { return number(value) };
        let rate = if counter.is_increase() { " a second" } else { "" };
        match counter.unit() {
            CounterUnit::Bytes => format!("{}{rate}", bytes(value as u64)),
            CounterUnit::Nanos if counter.is_increase() => {
                format!("{} s a second", number(value / 1e9))
            }
            CounterUnit::Nanos => duration(Nanos(value as u64)),
            _ => format!("{}{rate}", number(value)),
        }
    }
}

fn is_reading(kind: Kind) -> bool {
    matches!(kind, Kind::System | Kind::Runtime | Kind::Machine)
}

/// `2.0 ×`.
fn factor(good: f64, bad: f64) -> String {
    let ratio = bad / good;
    match ratio {
        ratio if !ratio.is_finite() || ratio < 0.0 => "another".to_owned(),
        ratio if ratio >= 9.95 => format!("{ratio:.0} ×"),
        ratio if ratio >= 0.095 => format!("{ratio:.1} ×"),
        ratio => format!("{ratio:.3} ×"),
    }
}

fn times(many: f64) -> String {
    match many.round() as u64 {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        many => format!("{} times", count(many)),
    }
}

/// A number with three digits at most, or all of them before the point.
fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        size if size >= 1000.0 && value > 0.0 => count(value.round() as u64),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
