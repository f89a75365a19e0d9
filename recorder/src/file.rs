//! Writing a file so that it is there whole or not at all.

#![forbid(unsafe_code)]

use crate::arena::{file_size_limit, too_large};
use crate::error::Error;
use lookback_snapshot::file::{write_own, write_whole};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes `path` as [`write_whole`] does. An error names it.
pub(crate) fn save(path: &Path, write: impl FnOnce(&mut Out<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let written = write_whole(path, |file| fill(file, write));
    written.map_err(|Failed(error)| error.at(path))
}

/// Writes a file of this name into the directory, as [`write_own`] does; its path, which is another one if
/// something has that name. An error names it.
pub(crate) fn save_own(
    directory: &Path,
    name: &str,
    write: impl FnOnce(&mut Out<'_>) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let written = write_own(directory, name, |file| fill(file, write));
    written.map_err(|Failed(error)| error.at(&directory.join(name)))
}

/// What a snapshot is written to.
pub(crate) type Out<'a> = BufWriter<Bounded<'a>>;

/// An error of the file's, or of what was to be written.
struct Failed(Error);

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(Error::Write(error))
    }
}

fn fill(
    file: &File,
    write: impl FnOnce(&mut Out<'_>) -> Result<(), Error>,
) -> Result<(), Failed> {
    let mut file = BufWriter::with_capacity(1 << 18, Bounded { file, written: 0 });
    write(&mut file).map_err(Failed)?;
    Ok(file.flush()?)
}

/// A file that is not written beyond the process's limit: that would be a fatal signal, to a service
/// that has done nothing wrong.
#[derive(Debug)]
pub(crate) struct Bounded<'a> {
    file: &'a File,
    written: u64,
}

impl Bounded<'_> {
    /// Which file it is, whatever its name is.
    pub(crate) fn inode(&self) -> Option<u64> {
        self.file.metadata().ok().map(|metadata| metadata.ino())
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.written + bytes.len() as u64;
        if let Some(limit) = file_size_limit().filter(|limit| after > *limit) {
            return Err(too_large(limit));
        }
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The last name's place in the order of names: how often the clock was found to have been set back,
/// then the milliseconds of its time.
static LAST: AtomicU64 = AtomicU64::new(0);
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// A clock that is behind the last name by less was not set back: names are made faster than its
/// milliseconds pass.
const TOLERATED: u64 = 1000;
/// How a time stands in a name, in UTC, and how long that is.
const FORMAT: &str = "%Y%m%dT%H%M%S%.3fZ";
const FORMAT_LENGTH: usize = 20;

/// A name for a snapshot that nobody gave a name: the process, when, and what took it. No other one
/// of this process has it. It comes after every name that was made or [observed](observe) before: where
/// the clock was set back, a number behind the time says how often.
pub(crate) fn name(process: &str, trigger: &str) -> String {
    let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0).min(TIME);
    let (order, failure) = (Ordering::Relaxed, Ordering::Relaxed);
    let last = LAST.fetch_update(order, failure, |last| Some(next(last, now)));
    let this = next(last.unwrap_or(0), now);
    let time = chrono::DateTime::from_timestamp_millis((this & TIME) as i64).unwrap_or_default();
    let time = time.format(FORMAT);
    let set_back = match this >> TIME_BITS {
        0 => String::new(),
        times => format!(".{times}"),
    };
    format!("{process}-{}-{time}{set_back}-{}.lbk", std::process::id(), safe(trigger))
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

/// A name of this place in the order is there: those that are made from now on come after it.
pub(crate) fn observe(place: u64) {
    LAST.fetch_max(place, Ordering::Relaxed);
}

/// The place in the order of names of one that goes on so behind the process and its number. `None` if
/// no name does.
pub(crate) fn place_of(rest: &str) -> Option<u64> {
    let (time, rest) = rest.split_at_checked(FORMAT_LENGTH)?;
    let time = chrono::NaiveDateTime::parse_from_str(time, FORMAT).ok()?.and_utc();
    let time = u64::try_from(time.timestamp_millis()).ok()?.min(TIME);
    let number = rest.strip_prefix('.').unwrap_or("");
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    let times = number[..digits].parse::<u16>().unwrap_or(0);
    Some(u64::from(times) << TIME_BITS | time)
}

/// The place in the order of a name that [`name`] has made, of whatever process. `None` for any other.
pub(crate) fn place_in(name: &str) -> Option<u64> {
    // The process's name may have anything in it that looks like a time; the one that counts follows a
    // number, and is the last.
    name.rmatch_indices('-').find_map(|(at, _)| {
        let pid = name[..at].rsplit('-').next()?;
        let digits = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
        if digits { place_of(&name[at + 1..]) } else { None }
    })
}

/// The text, with nothing in it that a file's name must not have, and no longer than one should be.
pub(crate) fn safe(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    text.chars().take(100).map(safe).collect()
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
        // Forwards, the same again, a little back, far back, onwards from there, far into the future
        // and back from it.
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
        // The right values by `date -u -d ... +%s`.
        assert_eq!(told("20260101T000000.000Z-panic.lbk"), Some((0, 1_767_225_600_000)));
        assert_eq!(told("20260101T000000.007Z.12-panic.lbk"), Some((12, 1_767_225_600_007)));
        assert_eq!(told("20260101T000000.000Z.lbk"), Some((0, 1_767_225_600_000)));
        for other in ["", "20260101T000000.000", "yesterday-at-noon---.lbk", "2026\u{e4}1T000000.000Z"] {
            assert_eq!(told(other), None, "{other}");
        }
    }
}
