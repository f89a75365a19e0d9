//! Where the files of the process's control group are, in both versions; and what is mounted in place of the kernel's files.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// The directories of the process's group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Version 2: of all controllers.
    pub(super) unified: Option<PathBuf>,
    /// Version 1.
    pub(super) cpu: Option<PathBuf>,
    pub(super) memory: Option<PathBuf>,
}

impl Places {
    /// From `/proc/self/cgroup` and `/proc/self/mountinfo`.
    pub(super) fn of(groups: &str, mounts: &str) -> Self {
        let of = |controller| directory(groups, mounts, controller);
        Self { unified: of(""), cpu: of("cpu"), memory: of("memory") }
    }
}

/// The directory of the process's group in the hierarchy of this controller; "" is version 2.
fn directory(groups: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|one| one == controller).then_some(path)
    })?;
    let (root, mounted) = mounts.lines().find_map(|line| mount(line, controller))?;
    // In a container, the process's group may be the root of the mount, or not be visible at all.
    let within = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    let is_outside = within.components().any(|part| part == std::path::Component::ParentDir);
    Some(if is_outside { mounted.to_owned() } else { mounted.join(within) })
}

/// Root and mount point of a line of `/proc/self/mountinfo`, if it mounts this hierarchy.
fn mount<'a>(line: &'a str, controller: &str) -> Option<(&'a str, &'a Path)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut kind = kind.split(' ');
    let is_it = match (kind.next()?, controller) {
        ("cgroup2", "") => true,
        ("cgroup", "") => false,
        ("cgroup", _) => kind.nth(1)?.split(',').any(|option| option == controller),
        _ => false,
    };
    let mut place = place.split(' ').skip(3);
    is_it.then_some((place.next()?, Path::new(place.next()?)))
}

/// What is mounted below `/proc` and is no part of it, from `/proc/self/mountinfo`.
pub(super) fn foreign(mounts: &str, most: usize) -> Vec<PathBuf> {
    let one = |line: &str| {
        let (place, kind) = line.split_once(" - ")?;
        let mounted = place.split(' ').nth(4).filter(|path| path.starts_with("/proc/"))?;
        let is_foreign = kind.split(' ').next() != Some("proc");
        is_foreign.then(|| PathBuf::from(mounted))
    };
    mounts.lines().filter_map(one).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_both_versions_are_found() {
        let mounts = "26 24 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        let found = Places::of("0::/shop/web\n", mounts);
        let web = Some(PathBuf::from("/sys/fs/cgroup/shop/web"));
        assert_eq!(found, Places { unified: web, ..Places::default() });
        let mounts = "35 31 0:32 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      36 31 0:33 /docker/abc /cg/memory ro - cgroup cgroup rw,memory\n\
                      37 31 0:34 / /cg/unified ro - cgroup2 cgroup2 rw\n";
        let found = Places::of("5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n", mounts);
        let path = |path| Some(PathBuf::from(path));
        assert_eq!(
            found,
            Places {
                unified: path("/cg/unified/"),
                cpu: path("/cg/cpu,cpuacct/x"),
                memory: path("/cg/memory/")
            }
        );
    }

    #[test]
    fn what_another_file_system_says_in_place_of_the_kernel_is_known() {
        let mounts = "21 20 0:5 / /proc rw - proc proc rw\n\
                      22 21 0:6 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw\n\
                      23 21 0:5 /sys /proc/sys ro - proc proc rw\n\
                      24 21 0:7 / /proc/acpi ro - tmpfs tmpfs ro\n\
                      25 20 0:8 / /procs rw - tmpfs tmpfs ro\n/proc/x - x\n";
        assert_eq!(foreign(mounts, 9), [Path::new("/proc/stat"), Path::new("/proc/acpi")]);
        assert_eq!(foreign(mounts, 1).len(), 1);
    }

    #[test]
    fn whatever_the_files_say_no_directory_outside_of_the_mount_is_found() {
        let mounts = "26 24 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let found = Places::of("0::/../../etc\n", mounts).unified;
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup")));
        for (groups, mounts) in [("", ""), ("0::/", ""), ("::::", mounts), ("0::/x", "a - cgroup2")]
        {
            assert_eq!(Places::of(groups, mounts).cpu, None);
            let _ = (Places::of(groups, mounts).unified, foreign(mounts, 9));
        }
    }
}
