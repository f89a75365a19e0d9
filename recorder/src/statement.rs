//! What a slot's owner says of itself at the front of a generation, and after a loss: how many events
//! are missing, whose slot it is, which regions are open, what it polls, which spans it is inside of. So no generation needs another to be read.

use crate::cursor::Cursor;
use crate::site::Site;
use crate::slot::MAX_REGIONS;
use crate::thread;
use crate::writer::Inside;
use lookback_snapshot::wire::{Kind, MAX_VARINT};
use std::sync::atomic::Ordering;

impl Inside {
    /// States the slot: what was lost, whose it is, which regions are open.
    pub(crate) fn state(self) -> Option<()> {
        let slot = self.slot();
        let lost = slot.lost_here.get();
        if lost != 0 {
            self.piece(Kind::Lost, 2 * MAX_VARINT, |cursor| {
                // SAFETY: two numbers, as asked for.
                unsafe {
                    cursor.number(u64::from(slot.lost_cause.get()));
                    cursor.number(lost);
                }
            })?;
            slot.lost_here.set(0);
        }
        if slot.thread.load(Ordering::Relaxed) == 0 {
            return Some(());
        }
        self.piece(Kind::ThreadStatus, thread::IDENTITY_SIZE, |cursor| {
            // SAFETY: as large as asked for.
            unsafe { thread::put_identity(slot, cursor) };
        })?;
        let depth = slot.depth.load(Ordering::Relaxed) as usize;
        for region in &slot.regions[..depth.min(MAX_REGIONS)] {
            // SAFETY: the stack holds pointers to statics only.
            let Some(site) = (unsafe { region.site.load(Ordering::Relaxed).as_ref() }) else {
                continue;
            };
            let id = self.site_piece(site)?;
            let began = region.began.load(Ordering::Relaxed);
            if !self.block_for(1 + 2 * MAX_VARINT) {
                return None;
            }
            let base = slot.base();
            self.put_record(Kind::RegionStatus, |cursor| {
                // SAFETY: two numbers, as asked for.
                unsafe {
                    cursor.number(u64::from(id));
                    cursor.number(base.saturating_sub(began));
                }
            });
        }
        if depth > MAX_REGIONS {
            self.piece(Kind::RegionsDeeper, MAX_VARINT, |cursor| {
                // SAFETY: one number, as asked for.
                unsafe { cursor.number((depth - MAX_REGIONS) as u64) };
            })?;
        }
        crate::worker::state_worker(self)?;
        crate::task::state_polls(self)?;
        crate::span::state_entered(self)
    }

    /// The id of a site, defined in a statement if it has to be.
    pub(crate) fn site_piece(self, site: &Site) -> Option<u32> {
        if let Some(id) = site.cached(self.generation()) {
            return Some(id);
        }
        let id = self.next_id().ok()?;
        self.piece(site.definition_kind(), site.definition_size(), |cursor| {
            // SAFETY: as large as asked for.
            unsafe { site.put_definition(id, cursor) };
        })?;
        site.publish(self.generation(), id);
        Some(id)
    }

    /// One record of a statement, which itself needs none.
    pub(crate) fn piece(self, kind: Kind, size: usize, put: impl FnOnce(&mut Cursor)) -> Option<()> {
        if !self.block_for(1 + size) {
            return None;
        }
        self.put_record(kind, put);
        Some(())
    }
}
