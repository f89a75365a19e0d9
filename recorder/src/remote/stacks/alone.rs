//! A file of stacks alone, of a process that is not being recorded.

#![forbid(unsafe_code)]

use crate::os::process;
use crate::snapshot::machine;
use crate::text::cut;
use lookback_snapshot::file::FileWriter;
use lookback_snapshot::wire::{Metadata, ProcessStacks, key};
use std::fs;
use std::io::{self, Write};

/// The most bytes of a path that are kept.
const MAX_PATH: usize = 512;

/// Writes a file without a recording: what is known of the process, and its stacks.
///
/// # Errors
/// Those of `out`.
pub fn write_stacks_alone(
    pid: u32,
    stacks: &ProcessStacks,
    reason: &str,
    out: impl Write,
) -> io::Result<()> {
    let mut metadata = Metadata::default();
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    metadata.add(key::PROCESS_NAME, String::from_utf8_lossy(name.trim_ascii_end()).as_ref());
    metadata.add(key::PROCESS_PID, u64::from(pid));
    if let Ok(path) = fs::read_link(format!("/proc/{pid}/exe")) {
        metadata.add(key::PROCESS_EXECUTABLE, cut(&path.to_string_lossy(), MAX_PATH));
    }
    machine::describe(&mut metadata);
    metadata.add(key::REASON, reason);
    metadata.add(key::TRIGGER, "outside");
    metadata.add(key::TAKEN, process::local_time());
    metadata.add(key::TAKEN_WALL, stacks.wall.0);
    let mut writer = FileWriter::new(out, &metadata)?;
    writer.stacks(stacks)?;
    writer.finish().map(drop)
}
