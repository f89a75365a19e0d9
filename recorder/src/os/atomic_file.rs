//! Writes a file so that readers find either all of it or nothing.

#![forbid(unsafe_code)]

use crate::error::Error;
use crate::os::{file_lock, file_size, process};
use chrono::{DateTime, Utc};
use lookback_snapshot::file::{write_own, write_whole};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes `path` by [`write_whole`]. Errors name the path.
pub(crate) fn save(
    path: &Path,
    write: impl FnOnce(&mut Out<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let written = write_whole(path, |file| fill(file, write));
    written.map_err(|Failed(error)| error.at(path))
}

/// Writes a file of this name into the directory by [`write_own`], and returns its path, which
/// differs from the name if that was taken. Errors name the path.
pub(crate) fn save_own(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&mut Out<'_>) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let written = write_own(directory, name, |file| fill(file, write));
    written.map_err(|Failed(error)| error.at(&directory.join(name)))
}

/// The writer that a snapshot is written to.
pub(crate) type Out<'a> = BufWriter<Bounded<'a>>;

/// An error of the file, or of the contents.
struct Failed(Error);

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(Error::Write(error))
    }
}

fn fill(file: &File, write: impl FnOnce(&mut Out<'_>) -> Result<(), Error>) -> Result<(), Failed> {
    if file.metadata()?.is_file() {
        // Shows everybody that a process is writing to it, even where its ID means nothing.
        let _ = file_lock::lock(file);
    }
    let mut file = BufWriter::with_capacity(1 << 18, Bounded { file, written: 0 });
    write(&mut file).map_err(Failed)?;
    Ok(file.flush()?)
}

/// A file that is never written beyond the process's file size limit: exceeding it is a fatal
/// signal, to a service that has done nothing wrong.
#[derive(Debug)]
pub(crate) struct Bounded<'a> {
    file: &'a File,
    written: u64,
}

impl Bounded<'_> {
    /// The file's inode, which identifies it whatever its name.
    pub(crate) fn inode(&self) -> Option<u64> {
        self.file.metadata().ok().map(|metadata| metadata.ino())
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.written + bytes.len() as u64;
        if let Some(limit) = file_size::limit().filter(|limit| after > *limit) {
            return Err(file_size::too_large(limit));
        }
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The position of the last name in name order: in the high bits, how often the clock was set back;
/// below, the name's time in milliseconds.
static LAST: AtomicU64 = AtomicU64::new(0);
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// A clock that is behind the last name by less than this was not set back: names can be made
/// faster than milliseconds pass.
const TOLERATED: u64 = 1000;
/// The format of the time in a name, in UTC, and its length.
const FORMAT: &str = "%Y%m%dT%H%M%S%.3fZ";
const FORMAT_LENGTH: usize = 20;

/// A default name for a snapshot: the process, the time, and the trigger. It is unique within this
/// process and sorts after every name that was made or [observed](observe) before: if the clock was
/// set back, a number after the time says how often.
pub(crate) fn name(service: &str, trigger: &str) -> String {
    name_of(service, process::number_in_names(), trigger)
}

/// Like [`name`], of another process.
pub(crate) fn name_of(process: &str, number: impl Display, trigger: &str) -> String {
    let now = u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0).min(TIME);
    let (order, failure) = (Ordering::Relaxed, Ordering::Relaxed);
    let last = LAST.fetch_update(order, failure, |last| Some(next(last, now)));
    let this = next(last.unwrap_or(0), now);
    let time = DateTime::from_timestamp_millis((this & TIME) as i64).unwrap_or_default();
    let set_back = match this >> TIME_BITS {
        0 => String::new(),
        times => format!(".{times}"),
    };
    let stem = stem(process, number, time);
    format!("{stem}{set_back}-{}.lbk", safe(trigger))
}

fn stem(process: &str, number: impl Display, time: DateTime<Utc>) -> String {
    format!("{process}-{number}-{}", time.format(FORMAT))
}

/// A default name, without its ending, for what another process saves of process `pid`.
#[must_use]
pub fn stem_from_outside(process: &str, pid: u32) -> String {
    stem(safe(process).trim_start_matches('.'), pid, Utc::now())
}

fn next(last: u64, now: u64) -> u64 {
    let (times, time) = (last >> TIME_BITS, last & TIME);
    if now > time {
        times << TIME_BITS | now
    } else if time - now < TOLERATED || times == u64::MAX >> TIME_BITS {
        last + 1
    } else {
        (times + 1) << TIME_BITS | now
    }
}

/// A name with this position exists: names made from now on sort after it.
pub(crate) fn observe(place: u64) {
    LAST.fetch_max(place, Ordering::Relaxed);
}

/// The position of a name, given its part after the process's name and number. `None` if it has
/// another form.
pub(crate) fn place_of(rest: &str) -> Option<u64> {
    let (time, rest) = rest.split_at_checked(FORMAT_LENGTH)?;
    let time = chrono::NaiveDateTime::parse_from_str(time, FORMAT).ok()?.and_utc();
    let time = u64::try_from(time.timestamp_millis()).ok()?.min(TIME);
    let number = rest.strip_prefix('.').unwrap_or("");
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    let times = number[..digits].parse::<u16>().unwrap_or(0);
    Some(u64::from(times) << TIME_BITS | time)
}

/// Whether a name is of this trigger, given its part between the process's number and the ending.
pub(crate) fn is_of_trigger(rest: &str, trigger: &str) -> bool {
    let Some((_, rest)) = rest.split_at_checked(FORMAT_LENGTH) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = match rest.strip_prefix('.').map(|rest| rest.split_once('-')) {
        Some(Some((times, _))) if !digits(times) => return false,
        Some(Some((times, _))) => &rest[1 + times.len()..],
        Some(None) => return false,
        None => rest,
    };
    // A number follows if the name was taken.
    let rest = rest.strip_prefix('-').and_then(|rest| rest.strip_prefix(trigger));
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(digits))
}

/// The position of a name that [`name`] made, in any process. `None` for other names.
pub(crate) fn place_in(name: &str) -> Option<u64> {
    // The process's name may contain anything that looks like a time. The real time follows a
    // number and comes last.
    name.rmatch_indices('-').find_map(|(at, _)| {
        let pid = name[..at].rsplit('-').next()?;
        if process::is_number_in_names(pid) { place_of(&name[at + 1..]) } else { None }
    })
}

/// The text, with characters that do not belong in a file name replaced, cut to a sensible length.
pub(crate) fn safe(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    text.chars().take(100).map(safe).collect()
}

/// Writes to the file of this name for as long as `work` takes.
#[cfg(test)]
pub(crate) fn hold_for_tests(path: &Path, work: impl FnOnce()) {
    let file = File::options().append(true).open(path).unwrap();
    let held = fill(&file, |_| {
        work();
        Ok(())
    });
    assert!(held.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lbk");
        save(&path, |out| out.write_all(b"first").map_err(Error::Write)).unwrap();
        let failed = save(&path, |out| {
            out.write_all(b"second").map_err(Error::Write)?;
            Err(Error::Write(io::Error::other("the disk is full")))
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.contains("a.lbk") && message.contains("the disk is full"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.lbk");
        save(&path, |out| out.write_all(b"x").map_err(Error::Write)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_is_safe_and_new() {
        assert_eq!(safe("a/b c\u{e4}"), "a-b-c-");
        let names: std::collections::BTreeSet<_> = (0..100).map(|_| name("a", "p/q")).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| name.starts_with("a-") && name.ends_with("Z-p-q.lbk")));
    }

    #[test]
    fn names_are_in_the_order_in_which_they_were_made_wherever_the_clock_is_set_to() {
        let minute = 60_000;
        let mut last = 0;
        let mut times = Vec::new();
        // Forwards, the same again, a little back, far back, onwards from there, far into the
        // future, and back.
        for now in [10, 11, 11, 10, 3, 4, 500, 20].map(|at| at * minute) {
            let this = next(last, now);
            assert!(this > last, "{last:x} {this:x}");
            times.push((this >> TIME_BITS, (this & TIME) / minute));
            last = this;
        }
        let expected = [(0, 10), (0, 11), (0, 11), (1, 10), (2, 3), (2, 4), (2, 500), (3, 20)];
        assert_eq!(times, expected);
    }

    #[test]
    fn a_name_tells_its_place_in_the_order() {
        let told = |name: &str| place_of(name).map(|place| (place >> TIME_BITS, place & TIME));
        // Expected values by `date -u -d ... +%s`.
        assert_eq!(told("20260101T000000.000Z-panic.lbk"), Some((0, 1_767_225_600_000)));
        assert_eq!(told("20260101T000000.007Z.12-panic.lbk"), Some((12, 1_767_225_600_007)));
        assert_eq!(told("20260101T000000.000Z.lbk"), Some((0, 1_767_225_600_000)));
        for other in
            ["", "20260101T000000.000", "yesterday-at-noon---.lbk", "2026\u{e4}1T000000.000Z"]
        {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
