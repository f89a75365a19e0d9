//! How much memory the process may still take: by its memory groups (`cgroup`, both versions) and
//! by the machine.
//!
//! Beyond a group's limit the kernel returns no error: it kills a process. So code that is about to
//! allocate a lot checks first. The group's file cache counts as free, because the kernel reclaims
//! it first, and so does swap.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the kernel needs besides the bytes themselves: 1/64 for its bookkeeping of pages, and a constant.
const OVERHEAD: u64 = 64;
const LITTLE: u64 = 1 << 20;

/// How much memory is left, and of which limit.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    bytes: u64,
    of: String,
}

/// Fails with a readable error if fewer than `bytes` are left, as far as that is known.
pub(crate) fn check(bytes: u64) -> io::Result<()> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    match least(&read) {
        Some(left) if left.bytes < bytes + bytes / OVERHEAD + LITTLE => {
            let words = format!("not enough memory: {} has {} KiB left", left.of, left.bytes >> 10);
            Err(io::Error::new(io::ErrorKind::OutOfMemory, words))
        }
        _ => Ok(()),
    }
}

/// Reads a file, if it exists.
type Read<'a> = dyn Fn(&Path) -> Option<String> + 'a;

fn least(read: &Read<'_>) -> Option<Left> {
    let machine = read(Path::new("/proc/meminfo")).unwrap_or_default();
    let kibibytes = |name| number_after(&machine, name).map(|number| number << 10);
    let swap = kibibytes("SwapFree:").unwrap_or(0);
    let available = kibibytes("MemAvailable:");
    let available = available.map(|free| Left { bytes: free + swap, of: "the machine".to_owned() });
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let of_groups = groups.lines().flat_map(|line| of_group(line, &mounts, swap, read));
    available.into_iter().chain(of_groups).min_by_key(|left| left.bytes)
}

/// What is left by a line of `/proc/self/cgroup`: in that group and in its ancestors.
fn of_group(line: &str, mounts: &str, swap: u64, read: &Read<'_>) -> Vec<Left> {
    let mut parts = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
    else {
        return Vec::new();
    };
    let names = if controllers.is_empty() {
        &V2
    } else if controllers.split(',').any(|name| name == "memory") {
        &V1
    } else {
        return Vec::new();
    };
    let Some((root, mounted)) = mounts.lines().find_map(|line| names.mount(line)) else {
        return Vec::new();
    };
    // In a container, the process's group may be the root of the mount, or not be visible at all.
    let within = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    // By components, so that no path in a message ends with a slash.
    let directories = within.ancestors().map(|within| mounted.join(within).components().collect());
    directories.filter_map(|at: PathBuf| names.left(&at, swap, read)).collect()
}

/// The names of a group's files.
struct Names {
    file_system: &'static str,
    option: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// The fields of `memory.stat` that count file cache.
    of_files: [&'static str; 2],
    /// The swap limit and the swap in use.
    swap: Option<[&'static str; 2]>,
}

const V1: Names = Names {
    file_system: "cgroup",
    option: "memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    of_files: ["total_inactive_file ", "total_active_file "],
    swap: None,
};
const V2: Names = Names {
    file_system: "cgroup2",
    option: "",
    limit: "memory.max",
    usage: "memory.current",
    of_files: ["inactive_file ", "active_file "],
    swap: Some(["memory.swap.max", "memory.swap.current"]),
};

impl Names {
    /// Root and mount point of a line of `/proc/self/mountinfo`, if it mounts this kind of group.
    fn mount<'a>(&self, line: &'a str) -> Option<(&'a str, PathBuf)> {
        let (place, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let is_this = kind.next()? == self.file_system;
        let mut options = kind.nth(1)?.split(',');
        if !is_this || !(self.option.is_empty() || options.any(|option| option == self.option)) {
            return None;
        }
        let mut place = place.split(' ').skip(3);
        Some((place.next()?, PathBuf::from(place.next()?)))
    }

    fn left(&self, directory: &Path, swap: u64, read: &Read<'_>) -> Option<Left> {
        let number = |name| read(&directory.join(name))?.trim().parse::<u64>().ok();
        let limit = number(self.limit)?;
        // Version 1 writes a number beyond all memory for "no limit".
        if limit >= i64::MAX as u64 / 4096 * 4096 {
            return None;
        }
        let used = number(self.usage)?;
        let statistics = read(&directory.join("memory.stat")).unwrap_or_default();
        let of_files = self.of_files.map(|name| number_after(&statistics, name).unwrap_or(0));
        let kept = used.saturating_sub(of_files.iter().sum());
        let swap = match self.swap.map(|names| names.map(number)) {
            Some([Some(most), used]) => swap.min(most.saturating_sub(used.unwrap_or(0))),
            _ => swap,
        };
        let of = format!("the memory group {} (limit {} KiB)", directory.display(), limit >> 10);
        Some(Left { bytes: limit.saturating_sub(kept) + swap, of })
    }
}

/// The number in the line that begins with these words.
fn number_after(text: &str, words: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(words))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: &str = "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\nSwapFree: 0 kB\n";

    fn with(files: &[(&str, &str)]) -> (u64, String) {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        let left = least(&read).unwrap();
        (left.bytes, left.of)
    }

    #[test]
    fn without_groups_the_machine_counts() {
        let (left, of) = with(&[("/proc/meminfo", MEMORY)]);
        assert_eq!((left, &*of), (8_000_000 << 10, "the machine"));
    }

    #[test]
    fn of_groups_in_each_other_the_narrowest_counts() {
        let (left, of) = with(&[
            ("/proc/meminfo", MEMORY),
            ("/proc/self/cgroup", "0::/shop/web\n"),
            (
                "/proc/self/mountinfo",
                "26 24 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n",
            ),
            ("/sys/fs/cgroup/shop/web/memory.max", "max\n"),
            ("/sys/fs/cgroup/shop/memory.max", "104857600\n"),
            ("/sys/fs/cgroup/shop/memory.current", "94371840\n"),
            ("/sys/fs/cgroup/shop/memory.stat", "anon 1\ninactive_file 1000\nactive_file 24\n"),
        ]);
        assert_eq!(left, (10 << 20) + 1024);
        assert_eq!(of, "the memory group /sys/fs/cgroup/shop (limit 102400 KiB)");
    }

    #[test]
    fn a_group_of_the_first_version_is_found_from_within_its_container() {
        let (left, of) = with(&[
            ("/proc/meminfo", MEMORY),
            ("/proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/abc\n0::/\n"),
            (
                "/proc/self/mountinfo",
                "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                 36 31 0:33 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            ),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "33554432\n"),
        ]);
        assert_eq!(left, 32 << 20);
        assert!(of.contains("/sys/fs/cgroup/memory (limit 65536 KiB)"), "{of}");
    }

    #[test]
    fn a_limit_that_is_none_and_swap_that_there_is_are_known() {
        let swap = MEMORY.replace("SwapFree: 0", "SwapFree: 1024");
        let mut files = vec![
            ("/proc/meminfo", &*swap),
            ("/proc/self/cgroup", "4:memory:/\n0::/web\n"),
            (
                "/proc/self/mountinfo",
                "36 31 0:33 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                 37 31 0:34 / /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n",
            ),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n"),
        ];
        assert_eq!(with(&files).0, 8_001_024 << 10);
        files.extend([
            ("/sys/fs/cgroup/unified/web/memory.max", "8388608"),
            ("/sys/fs/cgroup/unified/web/memory.current", "0"),
            ("/sys/fs/cgroup/unified/web/memory.swap.max", "max"),
        ]);
        assert_eq!(with(&files).0, 9 << 20, "all of the swap");
        files.last_mut().unwrap().1 = "4096";
        assert_eq!(with(&files).0, (8 << 20) + 4096);
    }
}
