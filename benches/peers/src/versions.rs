//! Which versions were measured, and on what.
#![forbid(unsafe_code)]

const LOCK: &str = include_str!("../Cargo.lock");

/// The versions of `packages` in the lock file, on one line.
#[must_use]
pub fn versions(packages: &[&str]) -> String {
    packages
        .iter()
        .map(|package| format!("{package} {}", version(package).unwrap_or("?")))
        .collect::<Vec<_>>()
        .join(", ")
}

fn version(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"\nversion = \"");
    let begin = LOCK.find(&name)? + name.len();
    LOCK[begin..].split('"').next()
}

/// The machine, as far as the system describes it: processor, cores, kernel.
#[must_use]
pub fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor".to_owned(), |(_, name)| name.trim().to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    format!("{cores} cores of {processor}, Linux {kernel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_the_lock_file() {
        assert!(version("tokio").is_some_and(|version| version.starts_with("1.")));
        assert_eq!(version("no-such-package"), None);
    }
}
