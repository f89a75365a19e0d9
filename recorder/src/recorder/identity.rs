//! Describes this process for the metadata of its snapshots.

#![forbid(unsafe_code)]

use crate::redact;
use crate::snapshot::machine;
use crate::text::cut;
use lookback_snapshot::wire::{Metadata, key};
use std::path::Path;

/// The most command-line arguments that are kept, and the most bytes of each and of all together.
const MAX_ARGUMENTS: usize = 32;
const MAX_ARGUMENT: usize = 200;
const MAX_COMMAND: usize = 1024;
/// The most bytes of a path that are kept.
const MAX_PATH: usize = 512;

/// What is known of the process when recording starts. Small, because it must fit the arena's
/// header.
pub(crate) fn describe(name: Option<&str>) -> Metadata {
    let mut metadata = Metadata::default();
    metadata.add(key::RECORDER, env!("CARGO_PKG_VERSION"));
    let executable = std::env::current_exe().ok();
    let file_name = executable.as_deref().and_then(Path::file_name).map(|n| n.to_string_lossy());
    metadata.add(key::PROCESS_NAME, name.or(file_name.as_deref()).unwrap_or("unknown"));
    metadata.add(key::PROCESS_PID, u64::from(std::process::id()));
    if let Some(path) = &executable {
        let path = path.to_string_lossy();
        metadata.add(key::PROCESS_EXECUTABLE, cut(&path, MAX_PATH));
    }
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    add_arguments(&mut metadata, arguments);
    machine::describe(&mut metadata);
    metadata
}

fn add_arguments(metadata: &mut Metadata, arguments: impl Iterator<Item = String>) {
    let mut room = MAX_COMMAND;
    let mut secrets = redact::Arguments::default();
    for argument in arguments.take(MAX_ARGUMENTS) {
        let argument = secrets.scrubbed(argument);
        let kept = cut(&argument, MAX_ARGUMENT.min(room));
        room -= kept.len();
        metadata.add(key::PROCESS_ARGUMENT, kept);
    }
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
        let room = offset::SAVES - offset::METADATA - 4;
        assert!(metadata.encode().len() <= room, "{} of {room}", metadata.encode().len());
    }
}
