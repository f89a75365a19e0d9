//! What is measured, written with `tracing` and with fastrace.

use fastrace::collector::SpanContext;
use fastrace::local::LocalSpan;
use fastrace::{Event, Span};
use lookback_peers::clock::clock_instruction;
use std::hint::black_box;
use tracing::{info, info_span};

/// The figures in the order of [`Shapes`]: their names, and their titles in the table.
pub const FIGURES: [(&str, &str); 4] = [
    ("root", "root span"),
    ("fields", "root span, two integers"),
    ("child", "child span"),
    ("event", "event, two integers"),
];

/// Functions that do a thing this many times; `None` for what a candidate does not support.
#[derive(Clone, Copy)]
pub struct Shapes {
    /// A span without a parent: created, entered, exited, closed.
    pub root: Option<fn(u32)>,
    /// The same with two integers as its fields.
    pub fields: Option<fn(u32)>,
    /// A span whose parent is this thread's current span.
    pub child: Option<fn(u32)>,
    /// An event with a message and two integers, in a span.
    pub event: Option<fn(u32)>,
}

/// The macros of `tracing`.
pub const TRACING: Shapes = Shapes {
    root: Some(|calls| {
        for _ in 0..calls {
            let _entered = info_span!(parent: None, "request").entered();
        }
    }),
    fields: Some(|calls| {
        for n in 0..u64::from(calls) {
            let (id, bytes) = (black_box(n), black_box(4000 + n));
            let _entered = info_span!(parent: None, "request", id, bytes).entered();
        }
    }),
    child: Some(|calls| {
        let _parent = info_span!(parent: None, "request").entered();
        for _ in 0..calls {
            let _entered = info_span!("query").entered();
        }
    }),
    event: Some(|calls| {
        let _parent = info_span!(parent: None, "request").entered();
        for n in 0..u64::from(calls) {
            let (keys, bytes) = (black_box(n), black_box(4000 + n));
            info!(keys, bytes, "evicted");
        }
    }),
};

/// fastrace's spans that may go to other threads.
pub const FASTRACE_SPAN: Shapes = Shapes {
    root: Some(|calls| {
        for _ in 0..calls {
            let span = Span::root("request", SpanContext::random());
            let _entered = span.set_local_parent();
        }
    }),
    fields: Some(|calls| {
        for n in 0..u64::from(calls) {
            let (id, bytes) = (black_box(n), black_box(4000 + n));
            let span = Span::root("request", SpanContext::random())
                .with_properties(|| [("id", id.to_string()), ("bytes", bytes.to_string())]);
            let _entered = span.set_local_parent();
        }
    }),
    child: Some(|calls| {
        let parent = Span::root("request", SpanContext::random());
        let _parent = parent.set_local_parent();
        for _ in 0..calls {
            let span = Span::enter_with_local_parent("query");
            let _entered = span.set_local_parent();
        }
    }),
    event: Some(|calls| {
        let parent = Span::root("request", SpanContext::random());
        for n in 0..u64::from(calls) {
            let (keys, bytes) = (black_box(n), black_box(4000 + n));
            parent.add_event(evicted(keys, bytes));
        }
    }),
};

/// fastrace's spans that stay on a thread, within one of the others.
pub const FASTRACE_LOCAL_SPAN: Shapes = Shapes {
    root: None,
    fields: None,
    child: Some(|calls| {
        let parent = Span::root("request", SpanContext::random());
        let _parent = parent.set_local_parent();
        for _ in 0..calls {
            let _entered = LocalSpan::enter_with_local_parent("query");
        }
    }),
    event: Some(|calls| {
        let parent = Span::root("request", SpanContext::random());
        let _parent = parent.set_local_parent();
        for n in 0..u64::from(calls) {
            let (keys, bytes) = (black_box(n), black_box(4000 + n));
            LocalSpan::add_event(evicted(keys, bytes));
        }
    }),
};

fn evicted(keys: u64, bytes: u64) -> Event {
    Event::new("evicted")
        .with_properties(|| [("keys", keys.to_string()), ("bytes", bytes.to_string())])
}

/// The clock instruction.
pub fn clock(calls: u32) {
    for _ in 0..calls {
        black_box(clock_instruction());
    }
}
