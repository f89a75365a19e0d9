//! The stacks of another process's threads, on a machine where nothing unwinds them.

#![forbid(unsafe_code)]

use super::OutsideError;
use lookback_snapshot::wire::ProcessStacks;
use std::io::{self, Write};

/// None.
///
/// # Errors
/// Always.
pub fn stacks_of_process(pid: u32, _: bool) -> Result<ProcessStacks, OutsideError> {
    let error = io::Error::new(io::ErrorKind::Unsupported, "no stacks on this machine");
    Err(OutsideError::Io { name: format!("process {pid}"), error })
}

/// Nothing: there are no stacks.
///
/// # Errors
/// Never.
pub fn write_stacks_alone(_: u32, _: &ProcessStacks, _: &str, _: impl Write) -> io::Result<()> {
    Ok(())
}
