//! What a slot's owner restates at the start of a generation, and after a loss: how many events are
//! missing, its thread, its open regions, the task that it polls, and the spans that it is inside
//! of. So each generation can be read without any other.

use crate::record::cursor::Reserved;
use crate::record::site::Site;
use crate::record::slot::MAX_REGIONS;
use crate::record::thread;
use crate::record::writer::WriteCtx;
use lookback_snapshot::wire::{Kind, MAX_VARINT};
use std::sync::atomic::Ordering;

impl WriteCtx {
    /// States the slot: losses, identity, open regions.
    pub(crate) fn state(self) -> Option<()> {
        let slot = self.slot();
        let lost = slot.lost_here.get();
        if lost != 0 {
            self.piece(Kind::Lost, 2 * MAX_VARINT, |cursor| {
                cursor.number(u64::from(slot.lost_cause.get()));
                cursor.number(lost);
            })?;
            slot.lost_here.set(0);
        }
        if slot.thread.load(Ordering::Relaxed) == 0 {
            return Some(());
        }
        self.piece(Kind::ThreadStatus, thread::IDENTITY_SIZE, |cursor| {
            thread::put_identity(slot, cursor);
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
                cursor.number(u64::from(id));
                cursor.number(base.saturating_sub(began));
            });
        }
        if depth > MAX_REGIONS {
            self.piece(Kind::RegionsDeeper, MAX_VARINT, |cursor| {
                cursor.number((depth - MAX_REGIONS) as u64);
            })?;
        }
        crate::record::worker::state_worker(self)?;
        crate::record::task::state_polls(self)?;
        crate::record::span::state_entered(self)
    }

    /// The id of a site; if needed, the site is defined as part of the statement.
    pub(crate) fn site_piece(self, site: &Site) -> Option<u32> {
        if let Some(id) = site.cached(self.generation()) {
            return Some(id);
        }
        let id = self.next_id().ok()?;
        self.piece(site.definition_kind(), site.definition_size(), |cursor| {
            site.put_definition(id, cursor);
        })?;
        if let Some(size) = site.size() {
            self.piece(Kind::TaskSize, 2 * MAX_VARINT, |cursor| {
                cursor.number(u64::from(id));
                cursor.number(size);
            })?;
        }
        site.publish(self.generation(), id);
        Some(id)
    }

    /// Writes one record of a statement, which itself requires no statement.
    pub(crate) fn piece(
        self,
        kind: Kind,
        size: usize,
        put: impl FnOnce(&mut Reserved),
    ) -> Option<()> {
        if !self.block_for(1 + size) {
            return None;
        }
        self.put_record(kind, put);
        Some(())
    }
}
