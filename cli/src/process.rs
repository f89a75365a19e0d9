//! Reads `/proc`: processes, their state and their owner.

pub use lookback::command::process::{
    Stat, all, boot_id, boot_id_text, pid_namespace, status_line,
};

use lookback::command::process;
use std::fs::{self, File};
use std::io::Read;

/// Parses a process ID.
pub fn parse_pid(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|pid| *pid > 0);
    number.ok_or_else(|| "not a process ID; `lookback ps` lists the recorded processes".to_owned())
}

/// Whether the process with this ID and this start time exists and has not ended.
pub fn is_alive(pid: u32, start: u64) -> bool {
    process::is_alive(pid, start) == Some(true)
}

/// Why a process does not run, if it does not.
pub fn standstill(pid: u32) -> Option<&'static str> {
    match Stat::of(pid)?.state {
        'T' => Some("stopped by a signal"),
        't' => Some("stopped by a debugger"),
        'Z' | 'X' => Some("over"),
        _ => None,
    }
}

/// Its real and its effective user.
pub fn users(pid: u32) -> Option<(u32, u32)> {
    let line = status_line(pid, "Uid:")?;
    let mut numbers = line.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The process's name, for messages.
pub fn command(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

/// How long it has been running, in nanoseconds; `None` if its start is unknown.
pub fn age(start: u64) -> Option<u64> {
    if start == 0 {
        return None;
    }
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let uptime = uptime.tv_sec as u64 * 1_000_000_000 + uptime.tv_nsec as u64;
    let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    uptime.checked_sub(start.checked_mul(tick)?)
}

/// Now, in nanoseconds of the clock that times generations.
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The value of a variable of the process's environment, as it was when the process started.
pub fn variable(pid: u32, name: &str) -> Option<String> {
    /// The kernel allows more; a search stops here.
    const MOST: u64 = 1 << 20;
    let mut environment = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ")).ok()?;
    file.take(MOST).read_to_end(&mut environment).ok()?;
    let value = environment
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    #[test]
    fn what_the_kernel_tells_of_this_process() {
        let pid = std::process::id();
        let stat = Stat::of(pid).unwrap();
        assert!(is_alive(pid, stat.start) && !is_alive(pid, stat.start + 1));
        assert!(age(stat.start).unwrap() < 24 * 3600 * 1_000_000_000);
        assert!(users(pid).is_some() && all().contains(&pid));
        // A leader that is in an outer PID namespace has the number 0, so these two are compared
        // with those of a child that leads a group of its own.
        let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let of_child = Stat::of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        let of_child = of_child.unwrap();
        assert_eq!((of_child.group, of_child.session), (child.id(), stat.session));
        let path = std::env::var("PATH").ok();
        assert_eq!((variable(pid, "PATH"), variable(pid, "PAT")), (path, None));
    }
}
