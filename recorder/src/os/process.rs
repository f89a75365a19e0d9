//! Processes: their numbers, start times and states, from `/proc`.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// The current wall time in the process's time zone, by RFC 3339; universal time ends in `Z`.
pub(crate) fn local_time() -> String {
    chrono::Local::now().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// The same as [`boot_id`], as text.
pub fn boot_id_text() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// The identity of this boot of the machine; zeroes if unknown.
pub fn boot_id() -> [u8; 16] {
    let mut id = [0; 16];
    let text = boot_id_text().unwrap_or_default();
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] << 4 | pair[1]) as u8;
    }
    id
}

/// When this process started, in the kernel's clock ticks since boot; 0 if unknown.
pub(crate) fn start_time() -> u64 {
    Stat::of("self").map_or(0, |stat| stat.start)
}

/// Whether the process with this number and start time exists and has not ended; `None` if the
/// kernel does not say.
pub fn is_alive(pid: u32, start: u64) -> Option<bool> {
    let stat = Stat::of(pid)?;
    Some(stat.start == start && !stat.has_ended())
}

/// Whether a process with this number exists, even as a zombie that its parent has not reaped;
/// `None` if the kernel does not say.
pub(crate) fn is_there(pid: u32) -> Option<bool> {
    let known = Path::new("/proc/self").exists();
    known.then(|| Path::new("/proc").join(pid.to_string()).exists())
}

/// The fields of `/proc/PID/stat` that lookback uses.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// `R`, `S`, `D`, `T` (stopped), `t` (traced), `Z` (has ended), …
    pub state: char,
    /// Its process group; 0 if that belongs to another namespace, or the process is being removed.
    pub group: u32,
    /// Its session; 0 if that belongs to another namespace, or the process is being removed.
    pub session: u32,
    /// When it started, in the kernel's clock ticks since boot.
    pub start: u64,
    /// Its wait status, if it has ended and the kernel shows it to this user; 0 otherwise.
    pub exit_code: i32,
}

impl Stat {
    /// Those of a process or thread, by its number or its path in `/proc`.
    pub fn of(process: impl Display) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name, in parentheses, may hold any character; the fields are counted from its end.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        // Of a thread or process that it is removing, the kernel gives -1 for both.
        let (group, session) = (fields.nth(1)?.parse(), fields.next()?.parse());
        let (group, session) = (group.unwrap_or_default(), session.unwrap_or_default());
        let start = fields.nth(15)?.parse().ok()?;
        let exit_code = fields.nth(29).and_then(|code| code.parse().ok()).unwrap_or_default();
        Some(Self { state, group, session, start, exit_code })
    }

    /// Whether it has ended: its parent may not have reaped it yet.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The value of a line of `/proc/PROCESS/status`, of a process or thread; `name` ends in a colon.
pub fn status_line(process: impl Display, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

/// The number of every process that this one sees, sorted.
pub fn all() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The identity of this process's pid namespace; 0 if there is none.
pub fn pid_namespace() -> u64 {
    #[cfg(target_os = "linux")]
    let inode = {
        use std::os::linux::fs::MetadataExt;
        fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.st_ino())
    };
    #[cfg(not(target_os = "linux"))]
    let inode = 0;
    inode
}

/// The initial namespace of process numbers.
const FIRST_NAMESPACE: u64 = 0xeffffffc;
/// The kernel numbers all other namespaces from here on.
const OTHER_NAMESPACES: u64 = 0xf000_0000;

/// The number of this process as file names have it: in a container, whose processes have numbers of their own, followed
/// by the number of that namespace.
pub(crate) fn number_in_names() -> String {
    static NAMESPACE: OnceLock<u64> = OnceLock::new();
    let pid = std::process::id();
    match *NAMESPACE.get_or_init(pid_namespace) {
        0 | FIRST_NAMESPACE => pid.to_string(),
        namespace => {
            format!("{pid}.{}", namespace.checked_sub(OTHER_NAMESPACES).unwrap_or(namespace))
        }
    }
}

/// Whether a text is one that [`number_in_names`] has made, of whatever process.
pub(crate) fn is_number_in_names(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.split_once('.') {
        Some((pid, namespace)) => is_number(pid) && is_number(namespace),
        None => is_number(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_in_a_name_may_have_that_of_its_namespace_behind_it() {
        assert!(is_number_in_names(&number_in_names()));
        for (text, is_one) in
            [("7", true), ("1.373", true), ("", false), ("1.", false), (".1", false), ("x", false)]
        {
            assert_eq!(is_number_in_names(text), is_one, "{text}");
        }
    }

    #[test]
    fn a_process_that_the_kernel_is_removing_has_ended() {
        let zeroes = "0 ".repeat(15);
        let stat = Stat::parse(&format!("7 (a) b) X 1 -1 -1 {zeroes}1234 0 0\n")).unwrap();
        assert_eq!((stat.group, stat.session, stat.start), (0, 0, 1234));
        assert!(stat.has_ended());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_alive_and_no_other_of_its_number() {
        assert_ne!(boot_id(), [0; 16]);
        let (pid, stat) = (std::process::id(), Stat::of("self").unwrap());
        assert!(stat.start > 0 && stat.start == start_time() && !stat.has_ended());
        assert_eq!(is_alive(pid, stat.start), Some(true));
        assert_eq!(is_alive(pid, stat.start + 1), Some(false));
        assert!(all().contains(&pid));
        assert_eq!(status_line(pid, "Pid:"), Some(pid.to_string()));
    }
}
