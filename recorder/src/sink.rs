//! The streaming consumer: each completed generation is handed to a sink, in order.
//!
//! The sink has a thread of its own, which copies a generation out of the arena as any reader would.
//! Nobody waits for it: if it is slower than the arena is reused, it loses whole generations, which
//! are counted.

#![forbid(unsafe_code)]

use crate::own_thread;
use crate::arena::Arena;
use crate::control::Mode;
use crate::cut::Wanted;
use crate::stream::Stream;
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

/// What is handed each completed generation, in order, on a thread of its own.
pub trait Sink: Send + 'static {
    /// Takes a generation. `metadata` says which process it comes from.
    ///
    /// # Errors
    /// The sink is given up; the error stands in [`Stats::sink_error`](crate::Stats::sink_error).
    fn generation(
        &mut self,
        metadata: &Metadata,
        generation: &mut GenerationFrame<'_>,
    ) -> io::Result<()>;

    /// Takes the end of the recording.
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

/// A sink that writes a growing `.lbk` file: cut off anywhere, what was written can be read.
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

/// The thread of a sink.
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
    /// Starts the thread; `first` is the first generation to be handed over.
    pub(crate) fn start(
        sink: Box<dyn Sink>,
        arena: Arc<Arena>,
        mode: Mode,
        metadata: Metadata,
        first: Generation,
    ) -> io::Result<Self> {
        let (wake, woken) = bounded(1);
        let status = Arc::new(Status::default());
        let consumer =
            Consumer { sink, arena, mode, metadata, next: first, status: Arc::clone(&status) };
        let thread = own_thread::spawn("lookback-sink", move || consumer.run(&woken))?;
        Ok(Self { wake, status, thread: Some(thread) })
    }

    /// Says that there may be a new generation. Never waits.
    pub(crate) fn notify(&self) {
        match self.wake.try_send(()) {
            // It is awake, or it is over.
            Ok(()) | Err(TrySendError::Full(())) | Err(TrySendError::Disconnected(())) => {}
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.status.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn error(&self) -> Option<String> {
        self.status.error.lock().clone()
    }

    /// Lets the sink have what is left, for as long as `patience`.
    pub(crate) fn finish(mut self, patience: Duration) {
        // The closed channel says that there will be no more.
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
    next: Generation,
    status: Arc<Status>,
}

impl Consumer {
    fn run(mut self, woken: &Receiver<()>) {
        let status = Arc::clone(&self.status);
        let serve = AssertUnwindSafe(|| loop {
            let over = woken.recv().is_err();
            self.hand_over()?;
            if over {
                break self.sink.finish();
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
        loop {
            let ring = self.arena.ring();
            if self.next.0 > ring.complete.load(Ordering::Acquire) {
                return Ok(());
            }
            let oldest = ring.oldest.load(Ordering::Acquire);
            if self.next.0 < oldest {
                self.status.lost.fetch_add(oldest - self.next.0, Ordering::Relaxed);
                self.next = Generation(oldest);
                continue;
            }
            match Stream::begin(&*self.arena, self.mode, Wanted::Only(self.next))? {
                Some(generation) => {
                    generation.each(|error| error, |frame| self.sink.generation(&self.metadata, frame))?;
                }
                None => {
                    self.status.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.next = self.next.next();
        }
    }
}
