//! Settings from the environment: `LOOKBACK_*` variables, which override the settings in code.
//!
//! One table holds them all. An invalid variable is an error and never a guess: if a recorder
//! silently ran with other settings than requested, that would be noticed during the incident.

mod links;
mod triggers;
pub mod values;

use crate::arena::MOST_BYTES;
use crate::error::Error;
use crate::heap::sampling::LEAST_INTERVAL;
use crate::os::rights;
use crate::record::filter::{self, Filter};
use crate::record::limits::{LEAST_TEXT, Limits};
use crate::recorder::Recorder;
use crate::recorder::builder::{
    Builder, LEAST_BYTES, LEAST_PERIOD, MOST_CPU_SAMPLES, MOST_PERIOD, MOST_WINDOW,
};
use crate::text::{front, quoted};
use lookback_snapshot::wire::CounterGroup;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::Duration;
use values::{bytes, duration, number, switch};

/// The prefix of all variables.
const PREFIX: &str = "LOOKBACK_";

/// The prefixes of related programs: of `lookback run`, the tests, and the benchmarks.
const OTHERS: [&str; 7] = [
    "LOOKBACK_RUN_",
    "LOOKBACK_TEST_",
    "LOOKBACK_BENCH_",
    "LOOKBACK_LONG",
    "LOOKBACK_GO",
    "LOOKBACK_PERFETTO",
    "LOOKBACK_WRITE_GOLDEN",
];

/// A variable: its name, a description of valid values, and its effect. The effect returns what is
/// wrong with a value as text.
struct Variable {
    name: &'static str,
    right: &'static str,
    set: fn(Builder, &str) -> Result<Builder, String>,
}

const TIME: &str = "expected a time like 10s, 500ms or 2m";
const BYTES: &str = "expected a number of bytes like 33554432, 32MiB or 32M";
const TEXT_BYTES: &str = "expected a number of bytes like 100 or 200";

/// All variables, in the order of the documentation.
const VARIABLES: &[Variable] = &[
    Variable {
        name: "LOOKBACK_WINDOW",
        right: TIME,
        set: |builder, text| {
            let window = duration(text)?;
            let sensible = (LEAST_PERIOD..=MOST_WINDOW).contains(&window);
            check(sensible, "must be between 1ms and 168h")?;
            Ok(builder.window(window))
        },
    },
    Variable {
        name: "LOOKBACK_MAX_BYTES",
        right: BYTES,
        set: |builder, text| {
            let bytes = usize::try_from(bytes(text)?).unwrap_or(usize::MAX);
            check((LEAST_BYTES..=MOST_BYTES).contains(&bytes), "must be between 256KiB and 16GiB")?;
            Ok(builder.max_bytes(bytes))
        },
    },
    Variable {
        name: "LOOKBACK_GENERATION_PERIOD",
        right: "expected a time like 1s or 500ms",
        set: |builder, text| {
            let period = duration(text)?;
            let sensible = (LEAST_PERIOD..=MOST_PERIOD).contains(&period);
            check(sensible, "must be between 1ms and 1h")?;
            Ok(builder.generation_period(period))
        },
    },
    Variable {
        name: "LOOKBACK_NAME",
        right: "expected a name of at most 200 bytes",
        set: |builder, text| {
            check(text.len() <= 200, &format!("it has {} bytes", text.len()))?;
            Ok(builder.name(text))
        },
    },
    Variable {
        name: "LOOKBACK_SNAPSHOT_DIR",
        right: "expected the path of a directory",
        set: |builder, text| {
            check(!text.contains('\0'), "a path must not contain NUL")?;
            Ok(builder.snapshot_dir(text))
        },
    },
    Variable {
        name: "LOOKBACK_SNAPSHOT_FILES",
        right: "expected a number of files like 32",
        set: |builder, text| {
            let files = usize::try_from(number(text)?).unwrap_or(usize::MAX);
            check(files > 0, "must be at least 1")?;
            let bytes = builder.snapshot_bounds.bytes;
            Ok(builder.snapshot_limits(files, bytes))
        },
    },
    Variable {
        name: "LOOKBACK_SNAPSHOT_BYTES",
        right: "expected a number of bytes like 500MiB or 1GiB",
        set: |builder, text| {
            let bytes = bytes(text)?;
            check(bytes > 0, "must be at least 1")?;
            let files = builder.snapshot_bounds.files;
            Ok(builder.snapshot_limits(files, bytes))
        },
    },
    Variable {
        name: "LOOKBACK_BLACK_BOX",
        right: "expected the path of a file, best on a tmpfs like /dev/shm",
        set: |builder, text| {
            check(!text.contains('\0'), "a path must not contain NUL")?;
            Ok(builder.black_box(text))
        },
    },
    Variable {
        name: "LOOKBACK_BLACK_BOXES_KEPT",
        right: "expected a number of files like 3",
        set: |builder, text| {
            let boxes = usize::try_from(number(text)?).unwrap_or(usize::MAX);
            Ok(builder.black_boxes_kept(boxes))
        },
    },
    Variable {
        name: "LOOKBACK_FATAL_SIGNALS",
        right: "expected on or off",
        set: |builder, text| Ok(builder.fatal_signals(switch(text)?)),
    },
    Variable {
        name: "LOOKBACK_STACKS",
        right: "expected on, off, or blocked",
        set: |builder, text| {
            if text.trim().eq_ignore_ascii_case("blocked") {
                return Ok(builder.stacks(true).stack_signals(false));
            }
            // What the program has said of signals is overridden, too.
            let taken = switch(text)?;
            let builder = builder.stacks(taken);
            Ok(if taken { builder.stack_signals(true) } else { builder })
        },
    },
    Variable {
        name: "LOOKBACK_ASYNC_STACKS",
        right: "expected on or off",
        set: |builder, text| Ok(builder.async_stacks(switch(text)?)),
    },
    Variable {
        name: "LOOKBACK_CPU_HZ",
        right: "expected how many a second, like 100, or off",
        set: |builder, text| {
            if switch(text) == Ok(false) {
                return Ok(builder.cpu_samples(0));
            }
            let most = MOST_CPU_SAMPLES as usize;
            Ok(builder.cpu_samples(within(number(text)?, 0, most)? as u32))
        },
    },
    Variable {
        name: "LOOKBACK_HEAP_SAMPLES",
        right: "expected a number of bytes like 512KiB, or off",
        set: |builder, text| {
            if switch(text) == Ok(false) {
                return Ok(builder.heap_samples(0));
            }
            let least = LEAST_INTERVAL as usize;
            Ok(builder.heap_samples(within(bytes(text)?, least, usize::MAX)? as u64))
        },
    },
    Variable {
        name: "LOOKBACK_LOCK_WAITS",
        right: "expected a time like 1ms or 100us, or off",
        set: |builder, text| {
            if switch(text) == Ok(false) {
                return Ok(builder.lock_waits(Duration::MAX));
            }
            Ok(builder.lock_waits(duration(text)?))
        },
    },
    Variable {
        name: "LOOKBACK_SYSTEM_COUNTERS",
        right: "expected all, none, or groups like `memory, cgroup`: memory, process, descriptors, storage, pressure, cgroup, \
                network, machine",
        set: |builder, text| Ok(builder.system_counters(groups(text)?)),
    },
    Variable {
        name: "LOOKBACK_ERROR_STACKS",
        right: "expected a number a second like 10, or off",
        set: |builder, text| {
            if text.trim().eq_ignore_ascii_case("off") {
                return Ok(builder.error_stacks(0));
            }
            Ok(builder.error_stacks(u32::try_from(number(text)?).unwrap_or(u32::MAX)))
        },
    },
    Variable {
        name: "LOOKBACK_SPAWN_STACKS",
        right: "expected a number a second like 1000, or off",
        set: |builder, text| {
            if text.trim().eq_ignore_ascii_case("off") {
                return Ok(builder.spawn_stacks(0));
            }
            Ok(builder.spawn_stacks(u32::try_from(number(text)?).unwrap_or(u32::MAX)))
        },
    },
    Variable {
        name: "LOOKBACK_MAX_TEXT_BYTES",
        right: TEXT_BYTES,
        set: |builder, text| {
            let bytes = within(bytes(text)?, LEAST_TEXT, Limits::USUAL.text)?;
            Ok(builder.max_text_bytes(bytes))
        },
    },
    Variable {
        name: "LOOKBACK_MAX_KEPT_FIELD_BYTES",
        right: TEXT_BYTES,
        set: |builder, text| {
            let bytes = within(bytes(text)?, LEAST_TEXT, Limits::USUAL.kept)?;
            Ok(builder.max_kept_field_bytes(bytes))
        },
    },
    Variable {
        name: "LOOKBACK_MAX_FIELDS",
        right: "expected a number of fields like 16",
        set: |builder, text| {
            let fields = within(number(text)?, 1, Limits::USUAL.fields)?;
            Ok(builder.max_fields(fields))
        },
    },
    Variable {
        name: "LOOKBACK_REDACT",
        right: "expected on, off, or names like `email, customer_id, !auth`",
        set: |mut builder, text| {
            // This also overrides a program that reveals everything.
            builder.redaction.reveal_all = switch(text) == Ok(false);
            match switch(text) {
                Ok(_) => Ok(builder),
                Err(_) => names(builder, text),
            }
        },
    },
    Variable { name: "LOOKBACK_TRIGGERS", right: triggers::RIGHT, set: triggers::set },
    Variable {
        name: "LOOKBACK_ENABLED",
        right: "expected on or off",
        set: |builder, text| Ok(builder.enabled(switch(text)?)),
    },
    Variable {
        name: "LOOKBACK_LEVEL",
        right: "expected off, error, warn, info, debug or trace",
        set: |mut builder, text| {
            let filter = Filter::parse(text)?;
            if !filter.has_level() {
                // A word alone is a target there, and a mistyped level here.
                let is_word = !text.contains([',', '=']);
                let none = "it contains no level that applies to all targets".to_owned();
                return Err(if is_word {
                    format!("{} is not a level", quoted(text))
                } else {
                    none
                });
            }
            builder.env_filters[0] = Some(filter);
            Ok(builder)
        },
    },
    Variable {
        name: "LOOKBACK_FILTER",
        right: filter::RIGHT,
        set: |mut builder, text| {
            builder.env_filters[1] = Some(Filter::parse(text)?);
            Ok(builder)
        },
    },
];

/// Names of fields to hide, and, with a leading `!`, of fields to show.
fn names(builder: Builder, text: &str) -> Result<Builder, String> {
    let names = text.split([',', ';']).map(str::trim).filter(|name| !name.is_empty());
    let builder = names.fold(builder, |builder, name| match name.strip_prefix('!') {
        Some(name) => builder.reveal_names([name.trim()]),
        None => builder.redact_names([name]),
    });
    let checked = builder.redaction.check();
    checked.map_err(|(name, wrong)| format!("{}: {wrong}", quoted(&name)))?;
    Ok(builder)
}

fn check(sensible: bool, wrong: &str) -> Result<(), String> {
    if sensible { Ok(()) } else { Err(wrong.to_owned()) }
}

/// A number within these bounds.
fn within(value: u64, least: usize, most: usize) -> Result<usize, String> {
    let value = usize::try_from(value).unwrap_or(usize::MAX);
    check((least..=most).contains(&value), &format!("must be between {least} and {most}"))?;
    Ok(value)
}

impl Builder {
    /// Applies the `LOOKBACK_*` variables of the environment over the settings so far: see
    /// [`Recorder::from_env`] for the list.
    ///
    /// # Errors
    /// A variable's value or name is invalid. Or one is set, and the program runs as another user
    /// or group, or with more capabilities, than the user who started it (set-user-id): then the
    /// environment is not trusted.
    ///
    /// ```
    /// use std::time::Duration;
    /// // Half a minute, unless LOOKBACK_WINDOW says something else.
    /// let builder = lookback_recorder::Recorder::builder().window(Duration::from_secs(30));
    /// let recorder = builder.from_env()?.start()?;
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn from_env(self) -> Result<Self, Error> {
        if rights::are_raised() {
            distrust(std::env::vars_os())?;
        }
        apply(self, std::env::vars_os())
    }
}

impl Recorder {
    /// Starts a recorder with settings from the environment alone.
    ///
    /// | variable | for example | what it sets |
    /// |---|---|---|
    /// | `LOOKBACK_WINDOW` | `10s` | [`Builder::window`] |
    /// | `LOOKBACK_MAX_BYTES` | `32MiB` | [`Builder::max_bytes`] |
    /// | `LOOKBACK_GENERATION_PERIOD` | `1s` | [`Builder::generation_period`] |
    /// | `LOOKBACK_NAME` | `shop` | [`Builder::name`] |
    /// | `LOOKBACK_SNAPSHOT_DIR` | `/var/lib/shop` | [`Builder::snapshot_dir`] |
    /// | `LOOKBACK_SNAPSHOT_FILES` | `32` | [`Builder::snapshot_limits`] |
    /// | `LOOKBACK_SNAPSHOT_BYTES` | `1GiB` | [`Builder::snapshot_limits`] |
    /// | `LOOKBACK_BLACK_BOX` | `/dev/shm/shop.lookback` | [`Builder::black_box`] |
    /// | `LOOKBACK_BLACK_BOXES_KEPT` | `3` | [`Builder::black_boxes_kept`] |
    /// | `LOOKBACK_FATAL_SIGNALS` | `on` | [`Builder::fatal_signals`] |
    /// | `LOOKBACK_STACKS` | `off` | [`Builder::stacks`], [`Builder::stack_signals`] |
    /// | `LOOKBACK_ASYNC_STACKS` | `off` | [`Builder::async_stacks`] |
    /// | `LOOKBACK_CPU_HZ` | `100` | [`Builder::cpu_samples`] |
    /// | `LOOKBACK_HEAP_SAMPLES` | `64KiB`, `off` | [`Builder::heap_samples`] |
    /// | `LOOKBACK_LOCK_WAITS` | `100us`, `off` | [`Builder::lock_waits`] |
    /// | `LOOKBACK_SYSTEM_COUNTERS` | `memory, cgroup`, `none` | [`Builder::system_counters`] |
    /// | `LOOKBACK_ERROR_STACKS` | `100`, `off` | [`Builder::error_stacks`] |
    /// | `LOOKBACK_SPAWN_STACKS` | `1000`, `off` | [`Builder::spawn_stacks`] |
    /// | `LOOKBACK_MAX_TEXT_BYTES` | `200` | [`Builder::max_text_bytes`] |
    /// | `LOOKBACK_MAX_KEPT_FIELD_BYTES` | `100` | [`Builder::max_kept_field_bytes`] |
    /// | `LOOKBACK_MAX_FIELDS` | `16` | [`Builder::max_fields`] |
    /// | `LOOKBACK_REDACT` | `email, !auth` | [`Builder::redact_names`], [`Builder::reveal_names`] |
    /// | `LOOKBACK_TRIGGERS` | `panic; log=ERROR` | [`Builder::trigger`] |
    /// | `LOOKBACK_ENABLED` | `off` | [`Builder::enabled`] |
    /// | `LOOKBACK_LEVEL` | `info` | [`Builder::filter`], for what no target names |
    /// | `LOOKBACK_FILTER` | `hyper=warn,my_crate=trace` | [`Builder::filter`] |
    ///
    /// Empty variables count as not set. `docs/environment.md` has the complete syntax.
    ///
    /// # Errors
    /// A variable is invalid, or the errors of [`Builder::start`].
    ///
    /// ```
    /// let recorder = lookback_recorder::Recorder::from_env()?;
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn from_env() -> Result<Self, Error> {
        Self::builder().from_env()?.start()
    }
}

/// Groups of counters.
fn groups(text: &str) -> Result<Vec<CounterGroup>, String> {
    match (text.trim().to_ascii_lowercase().as_str(), switch(text)) {
        ("all", _) | (_, Ok(true)) => return Ok(CounterGroup::ALL.into()),
        ("none", _) | (_, Ok(false)) => return Ok(Vec::new()),
        _ => {}
    }
    let names = text.split([',', ';']).map(str::trim).filter(|name| !name.is_empty());
    let group = |name: &str| {
        let mut all = CounterGroup::ALL.into_iter();
        let found = all.find(|group| group.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("{} is no group of counters", quoted(name)))
    };
    names.map(group).collect()
}

/// Refuses every variable of the recorder, because some of them make it write files.
fn distrust(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<(), Error> {
    let mut ours = variables.filter(|(name, value)| is_ours(name, value));
    ours.next().map_or(Ok(()), |(name, value)| {
        let variable = front(&name.to_string_lossy(), 100);
        let value = format!("\"{}\"", front(&value.to_string_lossy(), 100));
        let reason = "the program runs as another user or group, or with more capabilities, than the user who started it, so the environment is not trusted; unset it";
        Err(Error::Environment { variable, value, reason: reason.to_owned() })
    })
}

/// Whether this variable is set for the recorder.
fn is_ours(name: &OsStr, value: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
        && !value.is_empty()
        && !links::is_link(&name.to_string_lossy(), &value.to_string_lossy())
}

/// Applies the recorder's variables among these.
fn apply(
    builder: Builder,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Builder, Error> {
    // In sorted order, so that of several errors always the same one is reported.
    let set: BTreeMap<_, _> = variables.filter(|(name, value)| is_ours(name, value)).collect();
    let mut builder = builder;
    for (name, value) in set {
        let name = name.to_string_lossy();
        if OTHERS.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        let refuse = |reason: String| {
            let (variable, value) = (front(&name, 100), front(&value.to_string_lossy(), 100));
            let value = format!("\"{value}\"");
            Err(Error::Environment { variable, value, reason })
        };
        let Some(variable) = VARIABLES.iter().find(|variable| variable.name == name) else {
            let nearest = nearest(&name);
            return refuse(format!("no such variable; did you mean {nearest}?"));
        };
        let Some(text) = value.to_str() else {
            return refuse(format!("it is not UTF-8; {}", variable.right));
        };
        match (variable.set)(builder, text) {
            Ok(set) => builder = set,
            Err(wrong) => return refuse(format!("{wrong}; {}", variable.right)),
        }
    }
    Ok(builder)
}

/// The variable with the most similar name.
fn nearest(name: &str) -> &'static str {
    let name: String = name.chars().take(64).collect();
    let distance = |variable: &&Variable| distance(variable.name, &name.to_ascii_uppercase());
    VARIABLES.iter().min_by_key(distance).map_or(PREFIX, |variable| variable.name)
}

/// The edit distance: how many characters must be changed, added or removed to turn one text into
/// the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests;
