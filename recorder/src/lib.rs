#![doc = include_str!("../README.md")]
#![cfg_attr(loom, allow(dead_code, reason = "the model uses a part of what is left"))]

mod frame;
mod gate;
mod owner;
mod references;
mod ring;
mod sync;
mod told;
mod words;

#[cfg(all(test, loom))]
mod model;

/// Everything but the protocols is left out of the model: it is about the real machine.
macro_rules! real {
    ($($item:item)*) => { $(#[cfg(not(loom))] $item)* };
}

real! {
    mod abandoned;
    mod advance;
    mod arena;
    mod barrier;
    #[cfg(target_os = "linux")]
    mod black_box;
    mod block;
    mod carver;
    mod clock;
    mod collector;
    mod control;
    mod crash;
    mod cursor;
    mod cut;
    mod deep;
    mod emit;
    mod environment;
    mod error;
    mod fault;
    mod field_name;
    mod fields;
    mod file;
    mod filter;
    mod given;
    mod groups;
    #[cfg(target_os = "linux")]
    mod growth;
    #[cfg(not(target_os = "linux"))]
    #[path = "grown.rs"]
    mod growth;
    mod holder;
    mod ids;
    mod life;
    mod limits;
    mod listing;
    mod macros;
    mod mapping;
    #[cfg(target_os = "linux")]
    mod memory_left;
    mod named_worker;
    mod noted;
    mod observed;
    mod ordinary;
    #[cfg(target_os = "linux")]
    mod outside;
    mod own_thread;
    mod own_work;
    mod pace;
    mod pages;
    mod part;
    mod passing;
    mod pin;
    mod places;
    mod polls;
    mod process;
    mod publish;
    mod reasons;
    mod recorded;
    mod recorder;
    mod redact;
    mod rights;
    #[cfg(target_os = "linux")]
    mod room;
    mod settings;
    mod share;
    mod shelf;
    mod sigaction;
    mod sink;
    mod silent;
    mod site;
    mod slot;
    mod snapshot;
    mod source;
    mod span;
    mod span_life;
    mod statement;
    mod stats;
    mod stream;
    mod strings;
    mod tally;
    mod task;
    #[cfg(test)]
    mod testing;
    mod text;
    mod thread;
    mod timing;
    mod trigger;
    mod value;
    mod waker;
    mod window;
    mod worker;
    mod writer;

    pub use barrier::Barrier;
    pub use emit::{Region, is_recording};
    pub use error::Error;
    pub use filter::Filter;
    pub use lookback_snapshot::file::GenerationFrame;
    pub use lookback_snapshot::wire::{ClockKind, Level, Loss, Metadata};
    #[cfg(target_os = "linux")]
    pub use outside::{OutsideArena, OutsideError, recorded_processes};
    pub use holder::SOCKET as RUN_SOCKET;
    #[cfg(target_os = "linux")]
    #[doc(hidden)]
    pub use holder::peer_process;
    pub use recorded::{RecordExt, Recorded, WaitingFor};
    pub use recorder::{Recorder, save, set_filter, snapshot, stats};
    pub use settings::Builder;
    pub use sink::{FileSink, Sink};
    pub use snapshot::Snapshot;
    pub use stats::Stats;
    pub use thread::thread_name;
    pub use timing::Summary;
    pub use trigger::{Armed, Fired, SnapshotOnErr, Stats as TriggerStats, Trigger};
    pub use value::{Number, Value};
    pub use named_worker::{Worker, worker};

    /// What the macros expand to. Not part of the interface.
    #[doc(hidden)]
    pub mod __private {
        pub use crate::clock::counter as clock_instruction;
        pub use crate::emit::{begin_region, counter, encoded, log, typed_event};
        pub use crate::field_name::{name_bytes, name_length, name_of};
        pub use crate::places::longest_way;
        pub use crate::site::Site;
        pub use crate::value::{debug, display};
        // A program may have modules and crates of its own that are called so.
        pub extern crate core;
    }

    /// Where threads can be held up, for tests. Not part of the interface.
    #[cfg(any(debug_assertions, feature = "fault_injection"))]
    #[doc(hidden)]
    pub mod fault_injection {
        pub use crate::fault::{Point, hold, leave_the_collector_alone};
    }

    /// What integrations with `tracing` and with executors are made of. Not part of the interface.
    #[doc(hidden)]
    pub mod integration {
        pub use crate::fields::{Fields, Room};
        pub use crate::recorder::on_change;
        pub use crate::redact::{ABOUT, ABOUT_FIRST, REDACTED, SECRETS};
        pub use crate::shelf::{Shelved, open_regular, open_snapshot, snapshots};
        pub use crate::filter::Judge;
        pub use crate::passing::log_passing;
        pub use crate::places::{callsite, mix, site_of_hash};
        pub use crate::site::{Passing, Site};
        /// Spans, by their names.
        pub mod span {
            pub use crate::span::{Name, Parent};
            pub use crate::span_life::{
                add_reference, create, current, current_name, enter, exit, follows, give_up, log, record, site_of,
            };
        }
        pub use crate::observed::Observed;
        pub use crate::task::Errand;
        pub use crate::text::{StackText, TextRoom};
        pub use crate::thread::take_whole_name;
        pub use crate::worker::{Runtime, drive_runtime, leave_runtime};
    }
}
