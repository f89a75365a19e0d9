//! Settings from the environment: `LOOKBACK_*` variables, on top of what code has set.
//!
//! One table has all of them. What is not understood is an error, not a guess: a recorder that
//! silently runs with other settings than those that were asked for is found out during the incident.

mod links;
mod triggers;
mod values;

use crate::error::Error;
use crate::filter::{self, Filter};
use crate::limits::{LEAST_TEXT, Limits};
use crate::recorder::Recorder;
use crate::rights;
use crate::settings::{Builder, LEAST_BYTES, LEAST_PERIOD, MOST_BYTES, MOST_PERIOD, MOST_WINDOW};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use values::{bytes, duration, number, switch};

/// What all of them begin with.
const PREFIX: &str = "LOOKBACK_";

/// Those of other programs of this project: of `lookback run`, of the tests, of the benchmarks.
const OTHERS: [&str; 6] = [
    "LOOKBACK_RUN_",
    "LOOKBACK_TEST_",
    "LOOKBACK_BENCH_",
    "LOOKBACK_LONG",
    "LOOKBACK_GO",
    "LOOKBACK_WRITE_GOLDEN",
];

/// A variable: its name, what is right for it, and what it does. What is wrong with a value is told in
/// words.
struct Variable {
    name: &'static str,
    right: &'static str,
    set: fn(Builder, &str) -> Result<Builder, String>,
}

const TIME: &str = "a time like 10s, 500ms or 2m is expected";
const BYTES: &str = "a number of bytes like 33554432, 32MiB or 32M is expected";

/// All of them, in the order of the documentation.
const VARIABLES: &[Variable] = &[
    Variable {
        name: "LOOKBACK_WINDOW",
        right: TIME,
        set: |builder, text| {
            let window = duration(text)?;
            let sensible = (LEAST_PERIOD..=MOST_WINDOW).contains(&window);
            check(sensible, "1ms to 168h make sense")?;
            Ok(builder.window(window))
        },
    },
    Variable {
        name: "LOOKBACK_MAX_BYTES",
        right: BYTES,
        set: |builder, text| {
            let bytes = usize::try_from(bytes(text)?).unwrap_or(usize::MAX);
            check((LEAST_BYTES..=MOST_BYTES).contains(&bytes), "256KiB to 16GiB make sense")?;
            Ok(builder.max_bytes(bytes))
        },
    },
    Variable {
        name: "LOOKBACK_GENERATION_PERIOD",
        right: TIME,
        set: |builder, text| {
            let period = duration(text)?;
            let sensible = (LEAST_PERIOD..=MOST_PERIOD).contains(&period);
            check(sensible, "1ms to 1h make sense")?;
            Ok(builder.generation_period(period))
        },
    },
    Variable {
        name: "LOOKBACK_NAME",
        right: "a name of 200 bytes at most is expected",
        set: |builder, text| {
            check(text.len() <= 200, "it is too long")?;
            Ok(builder.name(text))
        },
    },
    Variable {
        name: "LOOKBACK_SNAPSHOT_DIR",
        right: "the path of a directory is expected",
        set: |builder, text| {
            check(!text.contains('\0'), "a path has no NUL in it")?;
            Ok(builder.snapshot_dir(text))
        },
    },
    Variable {
        name: "LOOKBACK_SNAPSHOT_FILES",
        right: "a number of files like 32 is expected",
        set: |builder, text| {
            let files = usize::try_from(number(text)?).unwrap_or(usize::MAX);
            check(files > 0, "1 at least makes sense")?;
            let bytes = builder.snapshot_bounds.bytes;
            Ok(builder.snapshot_limits(files, bytes))
        },
    },
    Variable {
        name: "LOOKBACK_SNAPSHOT_BYTES",
        right: BYTES,
        set: |builder, text| {
            let bytes = bytes(text)?;
            check(bytes > 0, "1 at least makes sense")?;
            let files = builder.snapshot_bounds.files;
            Ok(builder.snapshot_limits(files, bytes))
        },
    },
    Variable {
        name: "LOOKBACK_BLACK_BOX",
        right: "the path of a file, best on a tmpfs like /dev/shm, is expected",
        set: |builder, text| {
            check(!text.contains('\0'), "a path has no NUL in it")?;
            Ok(builder.black_box(text))
        },
    },
    Variable {
        name: "LOOKBACK_BLACK_BOXES_KEPT",
        right: "a number of files like 3 is expected",
        set: |builder, text| {
            let boxes = usize::try_from(number(text)?).unwrap_or(usize::MAX);
            Ok(builder.black_boxes_kept(boxes))
        },
    },
    Variable {
        name: "LOOKBACK_FATAL_SIGNALS",
        right: "on or off is expected",
        set: |builder, text| Ok(builder.fatal_signals(switch(text)?)),
    },
    Variable {
        name: "LOOKBACK_MAX_TEXT_BYTES",
        right: BYTES,
        set: |builder, text| {
            let bytes = within(bytes(text)?, LEAST_TEXT, Limits::USUAL.text)?;
            Ok(builder.max_text_bytes(bytes))
        },
    },
    Variable {
        name: "LOOKBACK_MAX_KEPT_FIELD_BYTES",
        right: BYTES,
        set: |builder, text| {
            let bytes = within(bytes(text)?, LEAST_TEXT, Limits::USUAL.kept)?;
            Ok(builder.max_kept_field_bytes(bytes))
        },
    },
    Variable {
        name: "LOOKBACK_MAX_FIELDS",
        right: "a number of fields like 16 is expected",
        set: |builder, text| {
            let fields = within(number(text)?, 1, Limits::USUAL.fields)?;
            Ok(builder.max_fields(fields))
        },
    },
    Variable {
        name: "LOOKBACK_REDACT",
        right: "on, off, or names like `email, customer_id, !auth` are expected",
        set: |builder, text| match switch(text) {
            Ok(true) => Ok(builder),
            Ok(false) => Ok(builder.reveal_secrets()),
            Err(_) => names(builder, text),
        },
    },
    Variable { name: "LOOKBACK_TRIGGERS", right: triggers::RIGHT, set: triggers::set },
    Variable {
        name: "LOOKBACK_ENABLED",
        right: "on or off is expected",
        set: |builder, text| Ok(builder.enabled(switch(text)?)),
    },
    Variable {
        name: "LOOKBACK_LEVEL",
        right: filter::RIGHT,
        set: |mut builder, text| {
            let filter = Filter::parse(text)?;
            check(filter.has_level(), "there is no level in it for what no target names")?;
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

/// Names of fields that are hidden, and, with `!` before them, of those that are not.
fn names(builder: Builder, text: &str) -> Result<Builder, String> {
    let names = text.split([',', ';']).map(str::trim).filter(|name| !name.is_empty());
    let builder = names.fold(builder, |builder, name| match name.strip_prefix('!') {
        Some(name) => builder.reveal_names([name.trim()]),
        None => builder.redact_names([name]),
    });
    let checked = builder.redaction.check();
    checked.map_err(|(name, wrong)| format!("`{}`: {wrong}", front(&name, 40)))?;
    Ok(builder)
}

fn check(sensible: bool, wrong: &str) -> Result<(), String> {
    if sensible { Ok(()) } else { Err(wrong.to_owned()) }
}

/// One that lies between these.
fn within(value: u64, least: usize, most: usize) -> Result<usize, String> {
    let value = usize::try_from(value).unwrap_or(usize::MAX);
    check((least..=most).contains(&value), &format!("{least} to {most} are possible"))?;
    Ok(value)
}

impl Builder {
    /// Applies the `LOOKBACK_*` variables of the environment on top of what was set until now: see
    /// [`Recorder::from_env`] for those that there are.
    ///
    /// # Errors
    /// A variable is not understood: its value, or its name. Or one is set, and the program runs as
    /// another user or group, or with more capabilities, than who has started it (set-user-id): then it is
    /// not trusted.
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
    /// Starts a recorder that is set up by the environment alone.
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
    /// | `LOOKBACK_MAX_TEXT_BYTES` | `200` | [`Builder::max_text_bytes`] |
    /// | `LOOKBACK_MAX_KEPT_FIELD_BYTES` | `100` | [`Builder::max_kept_field_bytes`] |
    /// | `LOOKBACK_MAX_FIELDS` | `16` | [`Builder::max_fields`] |
    /// | `LOOKBACK_REDACT` | `email, !auth` | [`Builder::redact_names`], [`Builder::reveal_names`] |
    /// | `LOOKBACK_TRIGGERS` | `panic; log=ERROR` | [`Builder::trigger`] |
    /// | `LOOKBACK_ENABLED` | `off` | [`Builder::enabled`] |
    /// | `LOOKBACK_LEVEL` | `info` | [`Builder::filter`], for what no target names |
    /// | `LOOKBACK_FILTER` | `hyper=warn,my_crate=trace` | [`Builder::filter`] |
    ///
    /// A variable that is empty is as one that is not set. `docs/environment.md` has the whole syntax.
    ///
    /// # Errors
    /// A variable is not understood, or as for [`Builder::start`].
    ///
    /// ```
    /// let recorder = lookback_recorder::Recorder::from_env()?;
    /// # Ok::<(), lookback_recorder::Error>(())
    /// ```
    pub fn from_env() -> Result<Self, Error> {
        Self::builder().from_env()?.start()
    }
}

/// Refuses every variable of ours: with some of them files are written.
fn distrust(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<(), Error> {
    let mut ours = variables.filter(|(name, value)| is_ours(name, value));
    ours.next().map_or(Ok(()), |(name, value)| {
        let variable = front(&name.to_string_lossy(), 100);
        let value = format!("\"{}\"", front(&value.to_string_lossy(), 100));
        let reason = "the program runs as another user or group, or with more capabilities, than who has started it, so this is not trusted";
        Err(Error::Environment { variable, value, reason: reason.to_owned() })
    })
}

/// Whether somebody has set this, and for the recorder.
fn is_ours(name: &OsStr, value: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
        && !value.is_empty()
        && !links::is_link(&name.to_string_lossy(), &value.to_string_lossy())
}

/// Applies those of these variables that are the recorder's.
fn apply(
    builder: Builder,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Builder, Error> {
    // In an order of their own, so that of several errors it is always the same one that is told.
    let set: BTreeMap<_, _> =
        variables.filter(|(name, value)| is_ours(name, value)).collect();
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
            return refuse(format!(
                "there is no such variable; {nearest} is the nearest that there is"
            ));
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

/// The text on one line, or the front of it.
fn front(text: &str, most: usize) -> String {
    let mut front: String = text.chars().take(most).flat_map(char::escape_debug).collect();
    if text.chars().nth(most).is_some() {
        front.push('…');
    }
    front
}

/// The name of a variable that is most like this one.
fn nearest(name: &str) -> &'static str {
    let name: String = name.chars().take(64).collect();
    let distance = |variable: &&Variable| distance(variable.name, &name.to_ascii_uppercase());
    VARIABLES.iter().min_by_key(distance).map_or(PREFIX, |variable| variable.name)
}

/// How many characters are to be changed, added or taken away to make one text of the other.
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
