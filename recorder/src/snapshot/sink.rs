//! The streaming consumer, which passes each completed generation to a sink, in order.
//!
//! The sink has its own thread, which copies generations out of the arena as any reader would.
//! Writers never wait for it: if the sink is slower than the arena is reused, it loses whole
//! generations, which are counted.

#![forbid(unsafe_code)]

use crate::arena::Arena;
use crate::os::mode::Mode;
use crate::os::own_thread;
use crate::snapshot::follow::Follow;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use lookback_snapshot::file::{FileWriter, GenerationFrame};
use lookback_snapshot::wire::{Generation, Metadata};
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Receives each completed generation, in order, on its own thread.
pub trait Sink: Send + 'static {
    /// Receives a generation. `metadata` describes the process that it comes from.
    ///
    /// # Errors
    /// The sink is dropped, and [`Stats::sink_error`](crate::Stats::sink_error) holds the error.
    fn generation(
        &mut self,
        metadata: &Metadata,
        generation: &mut GenerationFrame<'_>,
    ) -> io::Result<()>;

    /// Receives the end of the recording.
    ///
    /// # Errors
    /// As for [`generation`](Self::generation).
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F> Sink for F
where
    F: FnMut(&mut GenerationFrame<'_>) -> io::Result<()> + Send + 'static,
{
    fn generation(&mut self, _: &Metadata, frame: &mut GenerationFrame<'_>) -> io::Result<()> {
        self(frame)
    }
}

/// A sink that writes a growing `.lbk` file, which is readable wherever it is cut off.
pub struct FileSink<W: Write> {
    state: State<W>,
}

enum State<W: Write> {
    New(W),
    Open(Box<FileWriter<W>>),
    Over,
}

impl<W: Write> fmt::Debug for FileSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink").finish_non_exhaustive()
    }
}

impl<W: Write> FileSink<W> {
    /// Writes to `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self { state: State::New(out) }
    }
}

impl<W: Write + Send + 'static> Sink for FileSink<W> {
    fn generation(&mut self, metadata: &Metadata, f: &mut GenerationFrame<'_>) -> io::Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::New(out) => State::Open(Box::new(FileWriter::new(out, metadata)?)),
            other => other,
        };
        match &mut self.state {
            State::Open(writer) => writer.generation(f),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Open(writer) => writer.finish()?.flush(),
            _ => Ok(()),
        }
    }
}

/// The handle of a sink's thread.
#[derive(Debug)]
pub(crate) struct SinkThread {
    wake: Sender<()>,
    status: Arc<Status>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Status {
    lost: AtomicU64,
    error: Mutex<Option<String>>,
}

impl SinkThread {
    /// Starts the thread; `first` is the first generation to pass on.
    pub(crate) fn start(
        sink: Box<dyn Sink>,
        arena: Arc<Arena>,
        mode: Mode,
        metadata: Metadata,
        first: Generation,
    ) -> io::Result<Self> {
        let (wake, woken) = bounded(1);
        let status = Arc::new(Status::default());
        let consumer = Consumer {
            sink,
            arena,
            mode,
            metadata,
            follow: Follow::new(first),
            status: Arc::clone(&status),
        };
        let thread = own_thread::spawn("lookback-sink", move || consumer.run(&woken))?;
        Ok(Self { wake, status, thread: Some(thread) })
    }

    /// Signals that there may be a new generation. Never waits.
    pub(crate) fn notify(&self) {
        match self.wake.try_send(()) {
            // The thread is awake, or it has ended.
            Ok(()) | Err(TrySendError::Full(())) | Err(TrySendError::Disconnected(())) => {}
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.status.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn error(&self) -> Option<String> {
        self.status.error.lock().clone()
    }

    /// Lets the sink receive the remaining generations, for at most `patience`.
    pub(crate) fn finish(mut self, patience: Duration) {
        // The closed channel says that there are no more generations.
        drop(self.wake);
        let began = Instant::now();
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            if began.elapsed() > patience {
                let reason = format!("it was still busy {patience:?} after the recording's end");
                *self.status.error.lock() = Some(reason);
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = thread.join();
    }
}

fn words_of(panic: &dyn Any) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("with no message")
}

struct Consumer {
    sink: Box<dyn Sink>,
    arena: Arc<Arena>,
    mode: Mode,
    metadata: Metadata,
    follow: Follow,
    status: Arc<Status>,
}

impl Consumer {
    fn run(mut self, woken: &Receiver<()>) {
        let status = Arc::clone(&self.status);
        let serve = AssertUnwindSafe(|| {
            loop {
                let over = woken.recv().is_err();
                self.hand_over()?;
                if over {
                    break self.sink.finish();
                }
            }
        });
        let failed = match catch_unwind(serve) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => format!("it panicked: {}", words_of(&*panic)),
        };
        *status.error.lock() = Some(failed);
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let (sink, metadata) = (&mut self.sink, &self.metadata);
        let taken = self.follow.hand_over(
            &*self.arena,
            self.mode,
            |error| error,
            |frame| sink.generation(metadata, frame),
        );
        self.status.lost.store(self.follow.lost(), Ordering::Relaxed);
        taken.map(drop)
    }
}
