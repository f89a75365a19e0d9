//! What tests do to a recorder that nobody else should.

#![forbid(unsafe_code)]

use super::{Recorder, STARTING, Shared, WATCHERS};
use crate::collector::Command;
use std::sync::atomic::Ordering;

impl Recorder {
    /// Calls `work` while this thread holds every lock of the recorder that a thread can panic under;
    /// for tests.
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

    /// Calls `work` while the saver saves nothing; for tests.
    #[doc(hidden)]
    pub fn while_saver_waits(&self, work: impl FnOnce()) {
        let _held = self.on().expect("it is on").saver.held.lock();
        work();
    }

    /// Ends the recording as where the rest of its arena cannot be had; for tests.
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
