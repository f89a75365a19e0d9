//! Ranges of the process: each has a track of its own.

use super::packets::Type;
use super::timeline::Timeline;
use crate::read::{Site, Value};
use std::io::{self, Write};

impl<W: Write> Timeline<'_, W> {
    /// A range, unless it is open already. One from before the snapshot is open from its begin on.
    pub(super) fn open_range(&mut self, range: u64, site: &Site<'_>, at: u64) -> io::Result<()> {
        if self.ranges.contains_key(&range) {
            return Ok(());
        }
        let track = self.new_track();
        self.ranges.insert(range, track);
        self.packets.track(track, Some(self.process), site.name, |_| {})?;
        let mut written = self.packets.event(Type::Begin, track, at.max(self.start));
        self.packets.name(&mut written, "range", site.name);
        if let Some(before) = self.start.checked_sub(at).filter(|before| *before > 0) {
            self.packets.annotate(&mut written, "began_ns_before", &Value::Unsigned(before));
        }
        written.place(site.file, site.line);
        self.report.slices += 1;
        self.packets.write(&written)
    }

    /// A range ends; it may have begun before the snapshot.
    pub(super) fn close_range(
        &mut self,
        range: u64,
        site: &Site<'_>,
        (began, ended): (u64, u64),
    ) -> io::Result<()> {
        self.open_range(range, site, began)?;
        match self.ranges.remove(&range) {
            Some(track) => self.end_slices(track, 1, ended, |_, _| {}),
            None => Ok(()),
        }
    }
}
