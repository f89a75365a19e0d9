//! Describes the machine for the metadata of snapshots.

#![forbid(unsafe_code)]

use crate::os::process;
use lookback_snapshot::wire::{Metadata, key};
use std::fs;

/// Adds what is known of the machine.
pub(crate) fn describe(metadata: &mut Metadata) {
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        metadata.add(key::HOST_NAME, host.trim());
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    metadata.add(key::HOST_SYSTEM, format!("{} {}", std::env::consts::OS, release.trim()).trim());
    if let Ok(cores) = std::thread::available_parallelism() {
        metadata.add(key::HOST_CORES, cores.get() as u64);
    }
    if let Some(id) = process::boot_id_text() {
        metadata.add(key::BOOT_ID, id);
    }
}
