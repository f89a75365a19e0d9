//! The panic hook: records the panic, requests a snapshot, and calls the previous hook. It waits for the
//! snapshot only if the process is sure to end with the panic: a panic that is caught costs its thread
//! microseconds and holds nobody up. If the process ends after all, its [exit](super::exit) waits.
//!
//! The hook is installed once per process and stays, unless the program replaces it: see [`on_missed`]. While nothing is recorded, and in a forked child, it
//! only calls the previous one.
//!
//! # What a panicking thread may hold
//!
//! Any lock. The hook takes no lock that is held while other code of the recorder runs, and the
//! [saver](super::saver) waits for none. If the saver itself panics, or the collector, a helper thread takes
//! the snapshot as an outside reader would. A panic in a hook ends the process at once, so code that might
//! fail runs on those other threads.

#![forbid(unsafe_code)]

use super::exit::{self, ASKING};
use super::saver::Saver;
use crate::os;
use crate::os::own_thread;
use crate::record::control::control;
use crate::record::emit::{encoded, is_recording, typed_event};
use crate::record::own_work;
use crate::record::panic_seen;
use crate::record::site::Site;
use crate::record::span::span_ops;
use crate::record::stacks;
use crate::record::task::poll_stack;
use crate::recorder::{self, Shared};
use crate::stack;
use crate::text::{StackText, TextBuf};
use lookback_snapshot::wire::{StackReason, TaskId, Value, key};
use std::any::Any;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A helper is at work. If it panics, nothing helps it.
static HELPING: AtomicBool = AtomicBool::new(false);

/// The event that records a panic, on its thread.
static PANIC: Site =
    Site::new("panic", &["message", "location", "task", "task_id", "span"], file!(), line!());

/// Installs the hook, unless it is installed already. That is impossible while this thread panics: then the
/// next recorder installs it.
pub(crate) fn install() {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if std::thread::panicking() || INSTALLED.swap(true, Ordering::AcqRel) {
        return;
    }
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        note(info);
        previous(info);
    }));
    panic_seen::expect();
}

/// Like `PanicHookInfo::payload_as_str`, which needs Rust 1.91.
fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref().map(String::as_str))
}

fn note(info: &PanicHookInfo<'_>) {
    panic_seen::see();
    // Off in a forked child, too.
    if !is_recording() {
        return;
    }
    let message = text_of(info.payload()).unwrap_or("(no text)");
    let mut room = TextBuf::new();
    let mut location = StackText::new(&mut room);
    if let Some(place) = info.location() {
        let _ = std::fmt::Write::write_fmt(&mut location, format_args!("{place}"));
    }
    let location = location.as_str();
    let task = poll_stack::innermost();
    let mut room = TextBuf::new();
    let mut task_name = StackText::new(&mut room);
    if let Some((site, _)) = task {
        let _ = std::fmt::Write::write_fmt(&mut task_name, format_args!("{}", site.said()));
    }
    let task_name = task_name.as_str();
    // The task's name as every view shows it; empty outside a task.
    let mut room = TextBuf::new();
    let mut task_id = StackText::new(&mut room);
    if let Some((_, id)) = task {
        let _ =
            std::fmt::Write::write_fmt(&mut task_id, format_args!("{}", TaskId::from_number(id)));
    }
    let span = span_ops::current().map_or("", |(_, site)| site.name());
    let texts = (encoded(message), encoded(location), encoded(task_name));
    typed_event(&PANIC, (texts.0, texts.1, texts.2, encoded(task_id.as_str()), encoded(span)));
    stacks::own_stack(stack::here(), StackReason::Panic);

    let Ok(shared) = recorder::current() else { return };
    let Some(armed) = &shared.active.panic else { return };
    let patience = shared.settings.panic_patience;
    let ends = ends_the_process(message);
    // Counted before the limiter decides: a panic that it holds back must not end the process while another
    // one's snapshot is being written.
    ASKING.fetch_add(1, Ordering::SeqCst);
    if !armed.admit() {
        ASKING.fetch_sub(1, Ordering::SeqCst);
        if ends {
            exit::wait();
        }
        return;
    }
    let mut details: Vec<(_, Value)> =
        vec![(key::PANIC_MESSAGE, message.into()), (key::PANIC_LOCATION, location.into())];
    if !task_name.is_empty() {
        details.push((key::PANIC_TASK, task_name.into()));
    }
    if !span.is_empty() {
        details.push((key::PANIC_SPAN, span.into()));
    }
    let fired = armed.go(true, || format!("panic at {location}: {message}"), details);
    ASKING.fetch_sub(1, Ordering::SeqCst);
    if let Some(fired) = fired {
        if shared.is_own_thread(os::thread::number()) {
            help(&shared, &fired, patience);
        } else if ends {
            let _own = own_work::begin();
            let _ = fired.wait(patience);
        }
    }
}

/// A panic that no hook of ours saw unwinds the poll of a recorded task. The program has replaced the hook, or resumes a
/// panic. Its message and its place are not known here.
pub(super) fn on_missed() {
    if !is_recording() {
        return;
    }
    let Ok(shared) = recorder::current() else { return };
    let Some(armed) = &shared.active.panic else { return };
    ASKING.fetch_add(1, Ordering::SeqCst);
    if armed.admit() {
        let task = poll_stack::innermost();
        let name = task.map(|(site, _)| site.said().to_string()).unwrap_or_default();
        let id = task.map_or(String::new(), |(_, id)| format!(" ({})", TaskId::from_number(id)));
        let reason = || {
            format!(
                "panic in task {name}{id}, of which no more is known: the panic hook was replaced, or the panic was resumed"
            )
        };
        armed.go(true, reason, vec![(key::PANIC_TASK, name.as_str().into())]);
    }
    ASKING.fetch_sub(1, Ordering::SeqCst);
}

/// What the standard library says about panics that cannot be caught: out of a C function, or in a drop while
/// another panic unwinds.
const CANNOT_UNWIND: [&str; 2] =
    ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];

/// Whether this panic is sure to end the process. For other panics, only the end itself tells.
fn ends_the_process(message: &str) -> bool {
    cfg!(panic = "abort") || CANNOT_UNWIND.contains(&message)
}

/// Saves on another thread what this one, which is the recorder's own, cannot.
fn help(shared: &Arc<Shared>, fired: &super::Fired, patience: Duration) {
    if control().is_foreign() || HELPING.swap(true, Ordering::AcqRel) {
        return;
    }
    let ticket = Arc::clone(fired.ticket());
    let helped = Arc::clone(shared);
    let work = move || {
        Saver::help(&helped, &ticket);
        HELPING.store(false, Ordering::Release);
    };
    if own_thread::spawn("lookback-help", work).is_ok() {
        let _ = fired.wait(patience);
    } else {
        HELPING.store(false, Ordering::Release);
    }
}
