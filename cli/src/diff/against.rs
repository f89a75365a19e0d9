//! What differs from a baseline, as a part of the summary of a snapshot.

use super::{json, print, sides};
use lookback::read::analysis::{Diff, DiffSide};
use serde_json::Value;
use std::io::{self, Write};
use std::path::Path;

/// A snapshot beside the baseline that it is compared with.
pub struct Against<'a> {
    paths: [&'a Path; 2],
    sides: [DiffSide; 2],
    diff: Diff,
    /// What cannot be read of either.
    pub damage: Vec<String>,
}

impl<'a> Against<'a> {
    /// Compares this snapshot with the baseline, which may be a directory of snapshots.
    pub fn read(
        baseline: &'a Path,
        file: &'a Path,
        symbols: &[std::path::PathBuf],
    ) -> anyhow::Result<Self> {
        let mut damage = Vec::new();
        let good = sides::read(baseline, symbols, &mut damage)?;
        // What is damaged in the snapshot itself, the summary says.
        let bad = sides::read(file, symbols, &mut Vec::new())?;
        let diff = Diff::between(&good, &bad, false);
        Ok(Self { paths: [baseline, file], sides: [good, bad], diff, damage })
    }

    /// The most important differences.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        print::against(&self.diff, self.paths, out)
    }

    /// As `lookback diff --json` has it.
    pub fn json(&self) -> Value {
        let [good, bad] = &self.sides;
        let sides = [(self.paths[0], good), (self.paths[1], bad)];
        json::diff(&self.diff, sides, &self.damage)
    }
}
