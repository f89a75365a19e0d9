//! Which spans and messages are recorded, by level and target. This concerns `tracing` and the
//! `log` crate; the recorder's own macros always record.
//!
//! Each subscriber and each layer has its own filter. The recorder may have one that replaces them
//! all and can be changed at any time.
//!
//! # Synchronization
//!
//! A filter in use has a word: its number, the most detailed level that it accepts, and whether
//! targets matter. [`RECORDERS`] holds the word of the recorder's filter, 0 if there is none; for
//! most rejected messages, and for every decision of a filter without targets, nothing else is
//! read. The decision of a filter with targets is cached in the site, along with the filter's
//! number. Numbers are never reused, so a decision of an older filter does not count.

#![forbid(unsafe_code)]

use crate::error::Error;
use crate::record::site::Site;
use crate::text::quoted;
use arc_swap::ArcSwapOption;
use lookback_snapshot::wire::Level;
use parking_lot::Mutex;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Which spans and messages of `tracing`, and which messages of the `log` crate, are recorded.
///
/// The syntax is that of `tracing-subscriber`'s `Targets`: directives separated by commas. A level
/// alone (`off`, `error`, `warn`, `info`, `debug`, `trace`, or 0 to 5) applies to everything that
/// no other directive matches; `target=level` applies to targets with that prefix; `target` alone
/// enables all of its levels. If several directives match, the one with the longest target applies.
/// Without a level alone, everything else is off.
///
/// ```
/// use lookback_recorder::{Filter, Level};
/// let filter: Filter = "info,hyper=warn,my_crate=trace".parse()?;
/// assert!(filter.enables("my_crate::db", Level::Trace));
/// assert!(!filter.enables("hyper::client", Level::Info));
/// assert!("my_crate=loud".parse::<Filter>().is_err());
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The longest target first; the empty one, which is last, matches everything.
    directives: Vec<(String, u8)>,
}

/// One above the most severe level: matches nothing.
const OFF: u8 = Level::Error as u8 + 1;
const NAMES: [&str; 7] = ["", "trace", "debug", "info", "warn", "error", "off"];
/// The longest accepted filter, in bytes.
const MOST_TEXT: usize = 4096;

impl Filter {
    /// Everything of at least this level; nothing for `None`.
    #[must_use]
    pub fn level(level: Option<Level>) -> Self {
        Self { directives: vec![(String::new(), level.map_or(OFF, |level| level as u8))] }
    }

    /// Whether a message of this target and level is recorded.
    #[must_use]
    pub fn enables(&self, target: &str, level: Level) -> bool {
        level as u8 >= self.least_of(target)
    }

    /// The most detailed level that is recorded for any target; `None` if nothing is.
    #[must_use]
    pub fn most_detailed(&self) -> Option<Level> {
        let least = self.least();
        (least < OFF).then(|| Level::from_code(u64::from(least)))
    }

    fn least(&self) -> u8 {
        self.directives.iter().map(|(_, least)| *least).min().unwrap_or(OFF)
    }

    fn least_of(&self, target: &str) -> u8 {
        let fits = |(prefix, _): &&(String, u8)| target.starts_with(prefix.as_str());
        self.directives.iter().find(fits).map_or(OFF, |(_, least)| *least)
    }

    /// Whether there is a level for everything that no directive matches.
    pub(crate) fn has_level(&self) -> bool {
        self.directives.last().is_some_and(|(target, _)| target.is_empty())
    }

    /// Adds the directives of `other`, which take precedence for equal targets.
    pub(crate) fn with(mut self, other: &Self) -> Self {
        other.directives.iter().for_each(|(target, least)| self.set(target, *least));
        self
    }

    fn set(&mut self, target: &str, least: u8) {
        self.directives.retain(|(known, _)| known != target);
        let at = self.directives.partition_point(|(known, _)| known.len() >= target.len());
        self.directives.insert(at, (target.to_owned(), least));
    }

    /// Parses a filter; errors say what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MOST_TEXT {
            return Err(format!("a filter has at most {MOST_TEXT} bytes"));
        }
        let mut filter = Self { directives: Vec::new() };
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            if directive.contains(['[', ']', '{', '}', '"']) {
                return Err(format!(
                    "{}: filtering by spans or fields is not supported",
                    quoted(directive)
                ));
            }
            match directive.split_once('=') {
                Some((target, level)) => {
                    let (target, level) = (target.trim(), level.trim());
                    let Some(least) = least(level) else {
                        return Err(format!(
                            "{}: {} is not a level",
                            quoted(directive),
                            quoted(level)
                        ));
                    };
                    filter.set(target, least);
                }
                None => match least(directive) {
                    Some(least) => filter.set("", least),
                    None if directive.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                        return Err(format!(
                            "{} is neither a level nor a target",
                            quoted(directive)
                        ));
                    }
                    None => filter.set(directive, Level::Trace as u8),
                },
            }
        }
        if filter.directives.is_empty() {
            return Err("it contains no directive".to_owned());
        }
        Ok(filter)
    }
}

/// The least level that is recorded, from a level's name or number.
fn least(name: &str) -> Option<u8> {
    if let Ok(number @ 0..=5) = name.parse::<u8>() {
        return Some(OFF - number);
    }
    let found = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    (found > 0).then_some(found as u8)
}

/// What a filter should look like.
pub(crate) const RIGHT: &str = "expected levels like info, or info,hyper=warn,my_crate=trace (off, error, warn, info, debug, trace)";

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|wrong| {
            let value = format!("{}: {wrong}", quoted(text));
            Error::Setting { name: "filter", value, reason: RIGHT }
        })
    }
}

impl From<Level> for Filter {
    fn from(level: Level) -> Self {
        Self::level(Some(level))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The directive for everything comes first, as people write it.
        for (at, (target, least)) in self.directives.iter().rev().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let equals = if target.is_empty() { "" } else { "=" };
            write!(f, "{comma}{target}{equals}{}", NAMES[usize::from(*least)])?;
        }
        Ok(())
    }
}

/// A filter in use, by a subscriber or by the recorder.
#[derive(Debug)]
pub struct Judge {
    filter: Filter,
    word: u64,
    /// Whether its use was noted.
    is_noted: AtomicBool,
}

/// In a word: targets matter.
const BY_TARGET: u64 = 0x80;
const LEAST: u64 = 0x7f;
const NUMBER: u32 = 8;

/// The word of the recorder's filter; 0 for none.
static RECORDERS: AtomicU64 = AtomicU64::new(0);
static RECORDER: ArcSwapOption<Judge> = ArcSwapOption::const_empty();
/// The number of the next filter.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// The filters of subscribers and layers that are in use or were used last, as text.
static OWN: Mutex<Vec<(Weak<Judge>, String)>> = Mutex::new(Vec::new());
/// How many of them are reported.
const MOST_TOLD: usize = 8;

impl Judge {
    fn of(filter: Filter) -> Arc<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let by_target = filter.directives.iter().any(|(target, _)| !target.is_empty());
        let by_target = if by_target { BY_TARGET } else { 0 };
        let word = number << NUMBER | by_target | u64::from(filter.least());
        Arc::new(Self { filter, word, is_noted: AtomicBool::new(false) })
    }

    /// The filter of a subscriber.
    #[must_use]
    pub fn new(filter: Filter) -> Arc<Self> {
        Self::of(filter)
    }

    /// Notes that the subscriber is in use: snapshots report this filter from now on.
    pub fn note_use(self: &Arc<Self>) {
        if self.is_noted.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut own = OWN.lock();
        let is_over = |(judge, _): &(Weak<Self>, String)| judge.strong_count() == 0;
        if own.len() >= MOST_TOLD
            && let Some(at) = own.iter().position(is_over)
        {
            own.remove(at);
        }
        if own.len() < MOST_TOLD {
            own.push((Arc::downgrade(self), self.filter.to_string()));
        }
    }

    #[inline(always)]
    fn word(&self) -> u64 {
        match RECORDERS.load(Ordering::Relaxed) {
            0 => self.word,
            recorders => recorders,
        }
    }

    /// Whether a message of this target and level is recorded: by the recorder's filter if there is
    /// one, else by this one.
    #[inline]
    #[must_use]
    pub fn wants(&self, target: &str, level: Level) -> bool {
        let word = self.word();
        u64::from(level as u8) >= word & LEAST
            && (word & BY_TARGET == 0 || self.judge(target, level).1)
    }

    /// As [`wants`](Self::wants), from the level alone; `None` if the target matters.
    #[inline(always)]
    #[must_use]
    pub fn wants_level(&self, level: Level) -> Option<bool> {
        let word = self.word();
        if u64::from(level as u8) < word & LEAST {
            return Some(false);
        }
        (word & BY_TARGET == 0).then_some(true)
    }

    /// As [`wants`](Self::wants), for a callsite with a site.
    #[inline]
    #[must_use]
    pub fn wants_site(&self, site: &Site) -> bool {
        let judged = site.judged().load(Ordering::Relaxed);
        if judged >> 1 == self.word() >> NUMBER {
            return judged & 1 != 0;
        }
        let Some((target, level)) = site.target_and_level() else { return true };
        let (number, wanted) = self.judge(target, level);
        site.judged().store(number << 1 | u64::from(wanted), Ordering::Relaxed);
        wanted
    }

    #[cold]
    #[inline(never)]
    fn judge(&self, target: &str, level: Level) -> (u64, bool) {
        let recorders = RECORDER.load();
        let judge = recorders.as_deref().unwrap_or(self);
        (judge.word >> NUMBER, judge.filter.enables(target, level))
    }

    /// The most detailed level that is recorded for any target; `None` if nothing is.
    #[must_use]
    pub fn most_detailed(&self) -> Option<Level> {
        let least = (self.word() & LEAST) as u8;
        (least < OFF).then(|| Level::from_code(u64::from(least)))
    }
}

/// Sets the recorder's filter; with `None`, the filters of subscribers apply.
pub(crate) fn set(filter: Option<Filter>) {
    let judge = filter.map(Judge::of);
    let word = judge.as_ref().map_or(0, |judge| judge.word);
    // A thread that reads one of the two before the change decides by either filter, and caches
    // which one it was.
    RECORDER.store(judge);
    RECORDERS.store(word, Ordering::Release);
}

/// The filters that apply to `tracing`, as text: the recorder's, or those of subscribers and
/// layers, without duplicates. Does not wait long for a lock.
pub(crate) fn in_words() -> Vec<String> {
    if let Some(judge) = &*RECORDER.load() {
        return vec![judge.filter.to_string()];
    }
    let Some(own) = OWN.try_lock_for(Duration::from_millis(10)) else { return Vec::new() };
    let is_used = |(judge, _): &(Weak<Judge>, String)| judge.strong_count() > 0;
    let none_is = !own.iter().any(is_used);
    let mut words: Vec<String> = Vec::new();
    for (_, said) in own.iter().filter(|one| none_is || is_used(one)) {
        if !words.contains(said) {
            words.push(said.clone());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_target_decides_and_what_is_written_is_read() {
        let filter: Filter = " WARN, shop = debug ,shop::db=off,log".parse().unwrap();
        let enabled = [
            ("other", Level::Warn, true),
            ("other", Level::Info, false),
            ("shop", Level::Debug, true),
            ("shop", Level::Trace, false),
            ("shop::db", Level::Error, false),
            ("log::x", Level::Trace, true),
        ];
        for (target, level, expected) in enabled {
            assert_eq!(filter.enables(target, level), expected, "{target} {level}");
        }
        assert_eq!(filter.to_string(), "warn,log=trace,shop=debug,shop::db=off");
        assert_eq!(filter.to_string().parse::<Filter>().unwrap(), filter);
        assert_eq!(filter.most_detailed(), Some(Level::Trace));
        assert_eq!("0".parse::<Filter>().unwrap(), Filter::level(None));
        assert_eq!("5".parse::<Filter>().unwrap(), Filter::from(Level::Trace));
        assert_eq!("off".parse::<Filter>().unwrap().most_detailed(), None);
        assert!(!"a=info".parse::<Filter>().unwrap().enables("b", Level::Error));
    }

    #[test]
    fn what_is_no_filter_is_told_in_one_line() {
        let wrong = [
            ("", "no directive"),
            ("info,shop=loud", "`loud` is not a level"),
            ("shop[request]=info", "is not supported"),
            ("in fo", "neither a level nor a target"),
            ("a=b=c", "`b=c` is not a level"),
        ];
        for (text, expected) in wrong {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("info,hyper=warn"), "{error}");
            assert_eq!(error.lines().count(), 1);
        }
    }
}
