//! The thread that builds the unwind tables: when recording starts, and when something was loaded. A hundred megabytes
//! of code take some 200 ms, too long to hold the collector up.

#![forbid(unsafe_code)]

use super::{is_memory_scarce, is_on, modules, trie};
use crate::os::{own_memory, own_thread};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What it needs of stack.
const STACK: usize = 512 << 10;

/// How long a start waits for the tables. Those of 96 MB of code take 185 ms.
const PATIENCE: Duration = Duration::from_millis(250);

/// The collector is about to end: the thread is to stop. Relaxed, as it says nothing else.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// Waits until there are tables, or there will be none, for a moment at most. A task that waits from the start on, for
/// as long as the service lives, registers its waker but once: it would not be known where it waits.
pub(crate) fn await_first() {
    let began = Instant::now();
    while is_on()
        && !(modules::is_made() && own_memory::is_open())
        && !own_memory::is_refused()
        && began.elapsed() < PATIENCE
    {
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// The tables, as the collector looks after them.
#[derive(Default)]
pub(crate) struct Tables {
    maker: Option<JoinHandle<()>>,
}

impl Tables {
    /// Has the tables made, as far as they are not there or not of what is loaded now. Nothing while stacks are off.
    pub(crate) fn look_after(&mut self) {
        if !is_on() {
            return;
        }
        if let Some(maker) = self.maker.take_if(|maker| maker.is_finished()) {
            let _ = maker.join();
        }
        own_memory::open();
        let is_due = self.maker.is_none() && !own_memory::is_refused() && !modules::is_current();
        // With a map that is out of date, the thread takes that back, whatever memory is left.
        if is_due && (modules::is_made() || !is_memory_scarce()) {
            IS_OVER.store(false, Ordering::Relaxed);
            // Without a thread it is tried again with the next generation.
            self.maker = own_thread::spawn_small("lookback-code", STACK, make).ok();
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        IS_OVER.store(true, Ordering::Relaxed);
        if let Some(maker) = self.maker.take() {
            let _ = maker.join();
        }
        own_memory::close();
    }
}

fn make() {
    trie::Trie::make();
    modules::refresh(&|| IS_OVER.load(Ordering::Relaxed));
}
