//! The recorders of spans, each set up as its documentation shows.

use crate::shapes::{FASTRACE_LOCAL_SPAN, FASTRACE_SPAN, Shapes, TRACING};
use anyhow::{Result, bail, ensure};
use dial9_utils::tracing_layer::Dial9TracingLayer;
use fastrace::collector::{Config, Reporter, SpanRecord};
use lookback_peers::candidates::{Dial9, Tasks};
use std::io::Write;
use std::sync::mpsc::{Sender, channel};
use tokio::runtime::Builder;
#[cfg(feature = "lookback")]
use tracing::Subscriber;
use tracing::subscriber::set_global_default;
use tracing_chrome::ChromeLayerBuilder;
use tracing_subscriber::prelude::*;

/// The candidates: their names, and their titles in the table.
pub const RECORDERS: &[(&str, &str)] = &[
    ("none", "no subscriber"),
    ("registry", "`tracing-subscriber`, bare registry"),
    #[cfg(feature = "lookback")]
    ("lookback", "lookback, subscriber"),
    #[cfg(feature = "lookback")]
    ("lookback-layer", "lookback, layer on the registry"),
    ("dial9", "dial9, layer on the registry"),
    ("fastrace", "fastrace, `Span`"),
    ("fastrace-local", "fastrace, `LocalSpan`"),
    ("chrome", "tracing-chrome, without arguments"),
    ("chrome-args", "tracing-chrome, with arguments"),
];

/// Sets one of them up, and measures it. `measure` gets the shapes that it supports, and a function that lets
/// the recorder catch up with what was recorded.
pub fn run(name: &str, measure: impl FnOnce(&Shapes, &mut dyn FnMut())) -> Result<()> {
    match name {
        "none" => measure(&TRACING, &mut || ()),
        "registry" => {
            set_global_default(tracing_subscriber::registry())?;
            measure(&TRACING, &mut || ());
        }
        #[cfg(feature = "lookback")]
        "lookback" => lookback(lookback::tracing::subscriber(), measure)?,
        #[cfg(feature = "lookback")]
        "lookback-layer" => {
            let layer = lookback::tracing::layer();
            lookback(tracing_subscriber::registry().with(layer), measure)?;
        }
        "dial9" => dial9(measure)?,
        "fastrace" => fastrace(&FASTRACE_SPAN, measure),
        "fastrace-local" => fastrace(&FASTRACE_LOCAL_SPAN, measure),
        "chrome" => chrome(false, measure)?,
        "chrome-args" => chrome(true, measure)?,
        _ => bail!("no candidate {name}"),
    }
    Ok(())
}

#[cfg(feature = "lookback")]
fn lookback(
    subscriber: impl Subscriber + Send + Sync,
    measure: impl FnOnce(&Shapes, &mut dyn FnMut()),
) -> Result<()> {
    use lookback_peers::candidates::Lookback;
    let recorder = Lookback::new().start()?;
    set_global_default(subscriber)?;
    measure(&TRACING, &mut || ());
    Lookback::new().stop(recorder)
}

/// dial9's layer records on threads that have a handle to it, as its runtime's threads do. It does not record
/// events.
fn dial9(measure: impl FnOnce(&Shapes, &mut dyn FnMut())) -> Result<()> {
    let recorder = Dial9::default().start()?;
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    let runtime = Dial9::default().runtime(&recorder, builder)?;
    set_global_default(tracing_subscriber::registry().with(Dial9TracingLayer::new()))?;
    runtime.block_on(async { measure(&Shapes { event: None, ..TRACING }, &mut || ()) });
    drop(runtime);
    Dial9::default().stop(recorder)
}

/// fastrace's collector is flushed after each batch: its queue holds no more than a few.
fn fastrace(shapes: &Shapes, measure: impl FnOnce(&Shapes, &mut dyn FnMut())) {
    struct Nothing;
    impl Reporter for Nothing {
        fn report(&mut self, _spans: Vec<SpanRecord>) {}
    }
    fastrace::set_reporter(Nothing, Config::default());
    measure(shapes, &mut fastrace::flush);
}

/// tracing-chrome writes JSON on its own thread, to nowhere. The queue to it is unbounded, so this waits for
/// that thread after each batch.
fn chrome(arguments: bool, measure: impl FnOnce(&Shapes, &mut dyn FnMut())) -> Result<()> {
    struct Nowhere(Sender<()>);
    impl Write for Nowhere {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            // Nobody waits for the flush at the end.
            let _ = self.0.send(());
            Ok(())
        }
    }
    let (flushed, wait) = channel();
    let (layer, guard) =
        ChromeLayerBuilder::new().writer(Nowhere(flushed)).include_args(arguments).build();
    set_global_default(tracing_subscriber::registry().with(layer))?;
    let mut alive = true;
    measure(&TRACING, &mut || {
        guard.flush();
        alive &= wait.recv().is_ok();
    });
    ensure!(alive, "the thread that writes has ended");
    Ok(())
}
