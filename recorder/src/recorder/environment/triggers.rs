//! Parses triggers from a variable: `panic; log=WARN,target=shop;
//! slow_span=request,500ms,delay=1s`.

#![forbid(unsafe_code)]

use super::values::{bytes, duration, number, share};
use crate::recorder::builder::Builder;
use crate::recorder::trigger::{LEAST_STALL, Pressure, Trigger};
use crate::text::quoted;
use lookback_snapshot::wire::Level;
use std::time::Duration;

pub(super) const RIGHT: &str = "expected a list like `panic; log=ERROR; slow_span=request,500ms; \
    stalled_poll=100ms,cool_down=30s; signal=SIGUSR2`, or `none`";

/// Signals that can request a snapshot from a service.
pub(super) const SIGNALS: [(&str, i32); 15] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CONT", libc::SIGCONT),
    ("TSTP", libc::SIGTSTP),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
];

/// Adds the triggers of a list. A leading `none` removes those that code has set.
pub(super) fn set(mut builder: Builder, list: &str) -> Result<Builder, String> {
    let mut items = list.split(';').map(str::trim).filter(|item| !item.is_empty()).peekable();
    if items.next_if_eq(&"none").is_some() {
        builder.triggers.clear();
        builder = builder.no_triggers();
    }
    items.try_fold(builder, |builder, item| Ok(builder.trigger(trigger(item)?)))
}

/// Parses one trigger: its kind, its arguments, and its limits.
fn trigger(item: &str) -> Result<Trigger, String> {
    let mut parts = item.split(',').map(str::trim);
    let first = parts.next().unwrap_or_default();
    let (kind, argument) = match first.split_once('=') {
        Some((kind, argument)) => (kind.trim(), Some(argument.trim())),
        None => (first, None),
    };
    let needed = |what: &str| {
        let argument = argument.filter(|argument| !argument.is_empty());
        argument.ok_or_else(|| format!("`{kind}` needs {what}"))
    };
    let mut next =
        |what: &str| parts.next().ok_or_else(|| format!("`{kind}` needs {what} after the name"));
    let mut limit = || long_enough(duration(next("a time")?)?);
    let trigger = match kind {
        "panic" => Trigger::panic(),
        "error" => Trigger::error(),
        "log" => Trigger::log(level(needed("a level, as in log=ERROR")?)?),
        "slow_span" => {
            Trigger::slow_span(needed("a name, as in slow_span=request,500ms")?, limit()?)
        }
        "slow_region" => {
            Trigger::slow_region(needed("a name, as in slow_region=parse,20ms")?, limit()?)
        }
        "no_progress" => {
            Trigger::no_progress(needed("a name, as in no_progress=request,10s")?, limit()?)
        }
        "error_rate" => {
            let name = needed("a name, as in error_rate=request,5%")?;
            Trigger::error_rate(name, share(next("a share")?)?)
        }
        "latency_quantile" => {
            let name = needed("a name, as in latency_quantile=request,p99,500ms")?;
            let quantile = quantile(next("a quantile")?)?;
            Trigger::latency_quantile(name, quantile, long_enough(duration(next("a time")?)?)?)
        }
        "memory" => match needed("a size or a share, as in memory=2GiB or memory=90%")? {
            part if part.ends_with('%') => Trigger::memory_share(share(part)?),
            size => Trigger::memory(bytes(size)?),
        },
        "pressure" => {
            let of = match needed("cpu, memory or io, as in pressure=memory,20%")? {
                "cpu" => Pressure::Cpu,
                "memory" => Pressure::Memory,
                "io" => Pressure::Io,
                other => return Err(format!("{} is none of cpu, memory, io", quoted(other))),
            };
            Trigger::pressure(of, share(next("a share")?)?)
        }
        "deadlock" => Trigger::deadlock(),
        "stalled_poll" => {
            let limit = duration(needed("a time, as in stalled_poll=100ms")?)?;
            if limit < LEAST_STALL {
                return Err("`stalled_poll` needs at least 1ms".to_owned());
            }
            Trigger::stalled_poll(limit)
        }
        "signal" => match argument {
            None => Trigger::signal(),
            Some(_) => Trigger::signal_number(signal(needed("a signal, as in signal=SIGUSR2")?)?),
        },
        "none" => return Err("`none` must be the first of the list".to_owned()),
        "" => return Err("nothing before the `,`".to_owned()),
        other => return Err(format!("unknown trigger {}", quoted(other))),
    };
    if argument.is_some() && matches!(kind, "panic" | "error" | "deadlock") {
        return Err(format!("`{kind}` takes no value"));
    }
    parts.try_fold(trigger, |trigger, option| limited(trigger, kind, option))
}

/// Adds one limit to a trigger.
fn limited(trigger: Trigger, kind: &str, option: &str) -> Result<Trigger, String> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let value = value.trim();
    let in_it = |wrong: String| format!("{}: {wrong}", name.trim());
    match name.trim() {
        "cool_down" => Ok(trigger.cool_down(duration(value).map_err(in_it)?)),
        "delay" => Ok(trigger.delay(duration(value).map_err(in_it)?)),
        "per_hour" => {
            let times = number(value).map_err(in_it)?;
            Ok(trigger.per_hour(u32::try_from(times).unwrap_or(u32::MAX)))
        }
        "over" if has_window(kind) => {
            Ok(trigger.over(long_enough(duration(value).map_err(in_it)?)?))
        }
        "at_least" if has_window(kind) && kind != "pressure" => {
            Ok(trigger.at_least(number(value).map_err(in_it)?))
        }
        "target" if kind != "log" => Err(format!("`{kind}` takes no target; only `log` does")),
        "target" if value.is_empty() => Err("`target` needs a name".to_owned()),
        "target" => Ok(trigger.target(value)),
        other => {
            let known = match kind {
                "pressure" => "cool_down, per_hour, delay and over",
                kind if has_window(kind) => "cool_down, per_hour, delay, over and at_least",
                _ => "cool_down, per_hour and delay, and target for log",
            };
            Err(format!("`{kind}` has no option {}; options are {known}", quoted(other)))
        }
    }
}

/// Whether it is measured over some time.
fn has_window(kind: &str) -> bool {
    matches!(kind, "error_rate" | "latency_quantile" | "pressure")
}

/// `p99`, `p99.9`, or `99%`.
fn quantile(text: &str) -> Result<f64, String> {
    let read = match text.trim().strip_prefix('p') {
        Some(number) => share(&format!("{number}%")),
        None => share(text),
    };
    read.map_err(|_| format!("{} is not a quantile such as p99", quoted(text)))
}

fn long_enough(limit: Duration) -> Result<Duration, String> {
    if limit.is_zero() { Err("the limit must not be zero".to_owned()) } else { Ok(limit) }
}

fn level(text: &str) -> Result<Level, String> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(Level::Trace),
        "debug" => Ok(Level::Debug),
        "info" => Ok(Level::Info),
        "warn" => Ok(Level::Warn),
        "error" => Ok(Level::Error),
        _ => {
            let known = "ERROR, WARN, INFO, DEBUG, TRACE";
            Err(format!("unknown level {}; levels are {known}", quoted(text)))
        }
    }
}

fn signal(text: &str) -> Result<i32, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let number = number(text).ok().and_then(|number| i32::try_from(number).ok());
    let usable = |number: &i32| Trigger::signal_number(*number).check(Duration::MAX).is_ok();
    number
        .filter(usable)
        .ok_or_else(|| format!("{} is not a usable signal; try SIGUSR2 or SIGHUP", quoted(text)))
}
