//! Interferes with a recorder, for tests only.

#![forbid(unsafe_code)]

use super::running::{STARTING, WATCHERS};
use super::{Recorder, Shared};
use crate::recorder::driver::Command;
use std::sync::atomic::Ordering;

impl Recorder {
    /// Calls `work` while this thread holds every recorder lock under which a thread can panic; for
    /// tests.
    #[doc(hidden)]
    pub fn while_locked(&self, work: impl FnOnce()) {
        let shared = self.on().expect("it is on");
        let _locks = (shared.advancer.lock(), shared.timings.lock(), shared.sink.lock());
        let _more = (STARTING.lock(), WATCHERS.lock(), shared.saver.lock_all());
        work();
    }

    /// Makes the collector panic in the middle of an advance; for tests.
    #[doc(hidden)]
    pub fn panic_in_collector(&self) {
        let _ = self.commands.send(Command::Panic);
        self.wake_collector();
    }

    /// Calls `work` while the saver is paused; for tests.
    #[doc(hidden)]
    pub fn while_saver_waits(&self, work: impl FnOnce()) {
        let _held = self.on().expect("it is on").saver.held.lock();
        work();
    }

    /// Ends the recording as if the rest of its arena could not be allocated; for tests.
    #[doc(hidden)]
    pub fn give_up(&self, reason: &str) {
        self.on().expect("it is on").give_up(reason.to_owned());
    }

    /// Makes the saver panic with its next snapshot; for tests.
    #[doc(hidden)]
    pub fn panic_in_saver(&self) {
        self.on().expect("it is on").saver.panics_next.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// Panics as in the middle of an advance; for tests.
    pub(crate) fn panic_while_advancing(&self) {
        let _advancer = self.advancer.lock();
        panic!("the collector panics, as a test wants it");
    }
}
