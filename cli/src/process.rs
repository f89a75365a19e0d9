//! What `/proc` says of a process.

use std::fs;
use std::os::linux::fs::MetadataExt;

/// The number of a process, as it is typed.
pub fn parse_pid(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|pid| *pid > 0);
    number.ok_or_else(|| {
        "not the number of a process; `lookback ps` lists those that are recorded".to_owned()
    })
}

/// A process, as its line in `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z` (has ended), …
    pub state: char,
    /// The group that it is in, and the session; 0 for one of another namespace's.
    pub group: u32,
    pub session: u32,
    /// When it began, in the kernel's clock ticks since boot.
    pub start: u64,
    /// How it ended, as `wait` has it, if it has and we may know; 0 otherwise.
    pub exit_code: i32,
}

impl Stat {
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; the fields are counted behind it.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
            exit_code: fields.get(49).and_then(|code| code.parse().ok()).unwrap_or_default(),
        })
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// Whether this process, by its number and its start, is there and has not ended.
pub fn is_alive(pid: u32, start: u64) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.start == start && !stat.has_ended())
}

/// What keeps a process from running, if anything does.
pub fn standstill(pid: u32) -> Option<&'static str> {
    match Stat::of(pid)?.state {
        'T' => Some("stopped by a signal"),
        't' => Some("stopped by a debugger"),
        'Z' | 'X' => Some("over"),
        _ => None,
    }
}

/// Whose it is: the real and the effective user, as its status has it.
pub fn users(pid: u32) -> Option<(u32, u32)> {
    let line = status_line(pid, "Uid:")?;
    let mut numbers = line.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// A line of its status.
pub fn status_line(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

/// What it calls itself, to say which one is meant.
pub fn command(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// How long it has been running, in nanoseconds; if it is known when it began.
pub fn age(start: u64) -> Option<u64> {
    if start == 0 {
        return None;
    }
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let uptime = uptime.tv_sec as u64 * 1_000_000_000 + uptime.tv_nsec as u64;
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    uptime.checked_sub(start.checked_mul(tick)?)
}

/// Now, by the clock that generations are timed with.
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The identity of this boot of the machine, zeroes where there is none.
pub fn boot_id() -> [u8; 16] {
    let mut id = [0; 16];
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] << 4 | pair[1]) as u8;
    }
    id
}

/// The identity of the namespace that numbers of processes are of here; 0 where there is none.
pub fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.st_ino())
}

/// Every process that can be seen, by number.
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_no_other_of_its_number() {
        let pid = std::process::id();
        let stat = Stat::of(pid).unwrap();
        assert!(is_alive(pid, stat.start) && !is_alive(pid, stat.start + 1));
        assert!(age(stat.start).unwrap() < 24 * 3600 * 1_000_000_000);
        assert!(users(pid).is_some() && all().contains(&pid));
        assert_ne!((boot_id(), pid_namespace()), ([0; 16], 0));
    }
}
