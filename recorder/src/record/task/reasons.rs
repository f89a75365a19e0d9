//! What the tasks that a thread is polling are about to wait for.
//!
//! A pending future adds itself as a reason, and removes itself when it completes or is dropped. So
//! at the end of a poll, the remaining reasons are what the task still waits for. Only the thread
//! itself touches its list, and signal handlers do not poll.

use crate::record::site::Site;
use crate::record::slot::Slot;
use crate::record::thread;
use std::cell::Cell;
use std::sync::atomic::Ordering;

/// The most reasons at once; further pending futures are not recorded as reasons.
const MOST: usize = 16;

/// See the module. All zeroes: no reasons.
pub(crate) struct Reasons {
    count: Cell<u32>,
    /// The number of reasons ever added in this slot.
    serial: Cell<u64>,
    entries: [Cell<Entry>; MOST],
}

#[derive(Clone, Copy)]
struct Entry {
    site: Option<&'static Site>,
    serial: u64,
    /// The depth of the poll that the reason belongs to, counting that poll.
    depth: u32,
}

impl Reasons {
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// The first reason of the poll at this depth.
    pub(crate) fn first_of(&self, depth: u32) -> Option<&'static Site> {
        self.entries().find(|entry| entry.depth == depth)?.site
    }

    /// The poll at this depth has ended: forgets its reasons and those of polls inside it.
    pub(crate) fn forget_from(&self, depth: u32) {
        self.keep(|entry| entry.depth < depth);
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().take(self.count.get() as usize).map(Cell::get)
    }

    fn keep(&self, is_kept: impl Fn(&Entry) -> bool) {
        let mut kept = 0;
        for at in 0..self.count.get() as usize {
            let entry = self.entries[at].get();
            if is_kept(&entry) {
                self.entries[kept].set(entry);
                kept += 1;
            }
        }
        self.count.set(kept as u32);
    }

    fn has(&self, serial: u64) -> bool {
        self.entries().any(|entry| entry.serial == serial)
    }

    /// Adds a reason and returns its serial number, or 0 if there is no room.
    fn add(&self, site: &'static Site, depth: u32) -> u64 {
        let count = self.count.get();
        let Some(entry) = self.entries.get(count as usize) else { return 0 };
        let serial = self.serial.get() + 1;
        self.serial.set(serial);
        entry.set(Entry { site: Some(site), serial, depth });
        self.count.set(count + 1);
        serial
    }
}

/// A future as a reason, and where it is listed.
#[derive(Debug)]
pub(crate) struct Reason {
    site: &'static Site,
    /// The address of the slot of the thread that polled it last, which is never unmapped; 0 if it
    /// is not listed.
    slot: usize,
    serial: u64,
}

impl Reason {
    pub(crate) fn new(site: &'static Site) -> Self {
        Self { site, slot: 0, serial: 0 }
    }

    /// Lists the reason: the future is pending.
    #[inline]
    pub(crate) fn stands(&mut self) {
        let Some(slot) = thread::present_slot() else { return };
        let depth = slot.poll_depth.load(Ordering::Relaxed);
        let address = std::ptr::from_ref::<Slot>(slot).addr();
        if depth == 0 || self.slot == address && slot.reasons.has(self.serial) {
            return;
        }
        (self.slot, self.serial) = (address, slot.reasons.add(self.site, depth));
    }

    /// Removes the reason: the future is done, or dropped.
    #[inline]
    pub(crate) fn is_over(&mut self) {
        if self.serial != 0 {
            self.take_back();
        }
    }

    #[cold]
    fn take_back(&mut self) {
        let serial = std::mem::take(&mut self.serial);
        if let Some(slot) = thread::present_slot()
            && std::ptr::from_ref::<Slot>(slot).addr() == self.slot
        {
            slot.reasons.keep(|entry| entry.serial != serial);
        }
    }
}

impl Drop for Reason {
    #[inline]
    fn drop(&mut self) {
        self.is_over();
    }
}
