//! The panic hook: records the panic, asks for a snapshot, and calls the hook that was there before. It
//! waits for the snapshot only where the process is sure to end with the panic: one that is caught costs
//! its thread microseconds, and nobody is held up by it. Where the process ends after all, its
//! [exit](super::exit) waits.
//!
//! It is installed once a process and stays; while nothing is recorded, and in a forked child, it does
//! nothing but call the one before.
//!
//! # What a panicking thread may hold
//!
//! Any lock. Here none is taken that anybody holds while something else of the recorder runs, and
//! the [saver](super::saver) waits for none. If it is the saver itself that panics, or the collector,
//! a helper takes the snapshot as an outside reader would. A panic in a hook ends the process at
//! once, so what could be wrong runs on those other threads.

#![forbid(unsafe_code)]

use super::exit::{self, ASKING};
use super::saver::Saver;
use crate::own_thread;
use crate::control::control;
use crate::emit::{encoded, is_recording, typed_event};
use crate::recorder::{self, Shared};
use crate::site::Site;
use crate::text::{StackText, TextRoom};
use crate::{own_work, polls, span_life, thread};
use lookback_snapshot::wire::{TaskId, Value, key};
use std::any::Any;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A helper is at work: if it panics, nobody helps it.
static HELPING: AtomicBool = AtomicBool::new(false);

/// What is recorded of a panic, on its thread.
static PANIC: Site =
    Site::new("panic", &["message", "location", "task", "task_id", "span"], file!(), line!());

/// Installs the hook, if that was not done before. Not possible while this thread panics: then the next
/// recorder does.
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
}

/// As `PanicHookInfo::payload_as_str`, which needs Rust 1.91.
fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref().map(String::as_str))
}

fn note(info: &PanicHookInfo<'_>) {
    // Off in a forked child, too.
    if !is_recording() {
        return;
    }
    let message = text_of(info.payload()).unwrap_or("(no text)");
    let mut room = TextRoom::new();
    let mut location = StackText::new(&mut room);
    if let Some(place) = info.location() {
        let _ = std::fmt::Write::write_fmt(&mut location, format_args!("{place}"));
    }
    let location = location.as_str();
    let task = polls::innermost();
    let mut room = TextRoom::new();
    let mut task_name = StackText::new(&mut room);
    if let Some((site, _)) = task {
        let _ = std::fmt::Write::write_fmt(&mut task_name, format_args!("{}", site.said()));
    }
    let task_name = task_name.as_str();
    // As it is called in every view; nothing, where there is no task.
    let mut room = TextRoom::new();
    let mut task_id = StackText::new(&mut room);
    if let Some((_, id)) = task {
        let _ = std::fmt::Write::write_fmt(&mut task_id, format_args!("{}", TaskId::from_number(id)));
    }
    let span = span_life::current().map_or("", |(_, site)| site.name());
    let texts = (encoded(message), encoded(location), encoded(task_name));
    typed_event(&PANIC, (texts.0, texts.1, texts.2, encoded(task_id.as_str()), encoded(span)));

    let Ok(shared) = recorder::current() else { return };
    let Some(armed) = &shared.active.panic else { return };
    let patience = shared.settings.panic_patience;
    let ends = ends_the_process(message);
    // Counted before it is known: another one that is held back must not end the process under it.
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
        if shared.is_own_thread(thread::os_thread()) {
            help(&shared, &fired, patience);
        } else if ends {
            let _own = own_work::begin();
            let _ = fired.wait(patience);
        }
    }
}

/// What the standard library says of panics that cannot be caught: out of a function of C, in a drop
/// while another panic unwinds.
const CANNOT_UNWIND: [&str; 2] =
    ["panic in a function that cannot unwind", "panic in a destructor during cleanup"];

/// Whether the process ends with this panic, whoever would catch it. Of others that can be said only
/// when it ends.
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
