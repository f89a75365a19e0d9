#![doc = include_str!("../README.md")]
#![cfg_attr(all(loom, not(test)), allow(dead_code, reason = "only the model uses what is left"))]

mod gate;
mod ring;
mod sync;

#[cfg(all(test, loom))]
mod model;

/// Everything but the protocols is left out of the model: it is about the real machine.
macro_rules! real {
    ($($item:item)*) => { $(#[cfg(not(loom))] $item)* };
}

real! {
    mod advance;
    mod arena;
    mod barrier;
    mod block;
    mod clock;
    mod collector;
    mod control;
    mod cursor;
    mod emit;
    mod error;
    mod file;
    mod macros;
    mod mapping;
    mod ordinary;
    mod process;
    mod recorder;
    mod settings;
    mod share;
    mod sink;
    mod silent;
    mod site;
    mod slot;
    mod snapshot;
    mod statement;
    mod stats;
    mod strings;
    mod tally;
    mod text;
    mod thread;
    mod timing;
    mod value;
    mod window;
    mod writer;

    pub use barrier::Barrier;
    pub use emit::{Region, is_recording};
    pub use error::Error;
    pub use lookback_snapshot::file::GenerationFrame;
    pub use lookback_snapshot::wire::{ClockKind, Level, Loss, Metadata};
    pub use recorder::{Recorder, save, snapshot};
    pub use settings::Builder;
    pub use sink::{FileSink, Sink};
    pub use snapshot::Snapshot;
    pub use stats::Stats;
    pub use timing::Summary;
    pub use value::{Number, Value};

    /// What the macros expand to. Not part of the interface.
    #[doc(hidden)]
    pub mod __private {
        pub use crate::clock::counter as clock_instruction;
        pub use crate::emit::{begin_region, counter, encoded, log, typed_event};
        pub use crate::site::Site;
    }
}
