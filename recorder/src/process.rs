//! Who this process is, for the metadata of its snapshots.

#![forbid(unsafe_code)]

use crate::redact;
use lookback_snapshot::wire::{Metadata, key};
use std::fs;
use std::path::Path;

/// The most arguments of the command line that are kept, of each so many bytes, and so many in all.
const MAX_ARGUMENTS: usize = 32;
const MAX_ARGUMENT: usize = 200;
const MAX_COMMAND: usize = 1024;
/// So many bytes of a path are kept.
const MAX_PATH: usize = 512;

/// Now, by the wall clock where the process is, as RFC 3339 has it; universal time ends in `Z`.
pub(crate) fn local_time() -> String {
    chrono::Local::now().to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// What is known of the process when recording starts. Small: it must fit the arena's header.
pub(crate) fn describe(name: Option<&str>) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.add(key::RECORDER, env!("CARGO_PKG_VERSION"));
    let executable = std::env::current_exe().ok();
    let file_name = executable.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy());
    metadata.add(key::PROCESS_NAME, name.or(file_name.as_deref()).unwrap_or("unknown"));
    metadata.add(key::PROCESS_PID, u64::from(std::process::id()));
    if let Some(path) = &executable {
        let path = path.to_string_lossy();
        metadata.add(key::PROCESS_EXECUTABLE, crate::text::cut(&path, MAX_PATH));
    }
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    add_arguments(&mut metadata, arguments);
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        metadata.add(key::HOST_NAME, host.trim());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    metadata.add(key::HOST_SYSTEM, format!("{} {}", std::env::consts::OS, release.trim()).trim());
    if let Some(id) = boot_id_text() {
        metadata.add(key::BOOT_ID, id);
    }
    metadata
}

fn add_arguments(metadata: &mut Metadata, arguments: impl Iterator<Item = String>) {
    let mut room = MAX_COMMAND;
    let mut secrets = redact::Arguments::default();
    for argument in arguments.take(MAX_ARGUMENTS) {
        let argument = secrets.scrubbed(argument);
        let kept = crate::text::cut(&argument, MAX_ARGUMENT.min(room));
        room -= kept.len();
        metadata.add(key::PROCESS_ARGUMENT, kept);
    }
}

fn boot_id_text() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// The identity of this boot of the machine, zeroes where there is none.
pub(crate) fn boot_id() -> [u8; 16] {
    let mut id = [0; 16];
    let text = boot_id_text().unwrap_or_default();
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] << 4 | pair[1]) as u8;
    }
    id
}

/// When this process began, in the kernel's clock ticks since boot; 0 where that is not known.
pub(crate) fn start_time() -> u64 {
    stat("self").map_or(0, |(_, start)| start)
}

/// Whether this process, by its number and its start, is there and has not ended; `None` if the kernel
/// does not say.
pub(crate) fn is_alive(pid: u32, start: u64) -> Option<bool> {
    let (state, began) = stat(&pid.to_string())?;
    Some(began == start && !matches!(state, 'Z' | 'X'))
}

/// Whether there is a process of this number, be it a dead one that nobody has waited for; `None` if the
/// kernel does not say.
pub(crate) fn is_there(pid: u32) -> Option<bool> {
    let known = Path::new("/proc/self").exists();
    known.then(|| Path::new("/proc").join(pid.to_string()).exists())
}

/// The state of a process or thread, by its path in `/proc`, and when it began.
pub(crate) fn stat(process: &str) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything; the fields are counted behind it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The identity of the namespace that numbers of processes are of here; 0 where there is none.
pub(crate) fn pid_namespace() -> u64 {
    #[cfg(target_os = "linux")]
    let inode = {
        use std::os::linux::fs::MetadataExt;
        fs::metadata("/proc/self/ns/pid").map_or(0, |metadata| metadata.st_ino())
    };
    #[cfg(not(target_os = "linux"))]
    let inode = 0;
    inode
}

#[cfg(test)]
mod tests {
    use super::*;
    use lookback_snapshot::wire::offset;

    #[test]
    fn a_process_knows_its_name_and_number() {
        let metadata = describe(None);
        assert!(metadata.text(key::PROCESS_NAME).is_some());
        assert_eq!(metadata.number(key::PROCESS_PID), Some(u64::from(std::process::id())));
        assert_eq!(describe(Some("shop")).text(key::PROCESS_NAME), Some("shop"));
    }

    #[test]
    fn a_long_command_line_fits_the_arenas_header() {
        let mut metadata = describe(Some(&"n".repeat(200)));
        add_arguments(&mut metadata, std::iter::repeat_n("x".repeat(5000), 1000));
        let room = offset::FILTER - offset::METADATA - 4;
        assert!(metadata.encode().len() <= room, "{} of {room}", metadata.encode().len());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn boot_and_start_are_known() {
        assert_ne!(boot_id(), [0; 16]);
        assert!(start_time() > 0);
    }
}
