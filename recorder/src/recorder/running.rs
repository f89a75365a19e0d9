//! The running recorder, for code that has no handle to it.

#![forbid(unsafe_code)]

use super::off::turned_off;
use super::shared::Shared;
use crate::error::Error;
use crate::generation::noted;
use crate::record::control::control;
use crate::record::emit::is_recording;
use crate::record::filter::{self, Filter};
use crate::recorder::stats::Stats;
use crate::snapshot::Snapshot;
use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;

/// The recorder of this process, for code that has no handle to it.
pub(super) static CURRENT: ArcSwapOption<Shared> = ArcSwapOption::const_empty();
/// Held while a recorder starts or stops.
pub(super) static STARTING: Mutex<()> = Mutex::new(());

/// Functions to call when recording starts or stops.
pub(super) static WATCHERS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// From now on calls `watcher` after recording has started or stopped, once for each change, however often it
/// was passed.
pub fn on_change(watcher: fn()) {
    let mut watchers = WATCHERS.lock();
    if !watchers.iter().any(|known| std::ptr::fn_addr_eq(*known, watcher)) {
        watchers.push(watcher);
    }
}

pub(super) fn tell_watchers() {
    let watchers = WATCHERS.lock().clone();
    watchers.iter().for_each(|watcher| watcher());
}

/// Takes a snapshot of this process from anywhere in it.
///
/// # Errors
/// No recorder is running, or as for [`Recorder::snapshot`](crate::Recorder::snapshot). It is not an error if recording is
/// turned off ([`Builder::enabled`](crate::Builder::enabled)): then the snapshot is empty, and says so.
pub fn snapshot() -> Result<Snapshot, Error> {
    match current() {
        Ok(shared) => shared.snapshot("requested", "request"),
        Err(error) => Ok(turned_off().ok_or(error)?.snapshot("requested", "request")),
    }
}

/// Takes a snapshot from anywhere in the process and saves it: see [`Recorder::save`](crate::Recorder::save).
///
/// # Errors
/// No recorder is running, or as for [`Recorder::save`](crate::Recorder::save). It is not an error if recording is
/// turned off ([`Builder::enabled`](crate::Builder::enabled)): then the snapshot is empty, and says so.
pub fn save(reason: &str) -> Result<PathBuf, Error> {
    match current() {
        Ok(shared) => shared.save(reason),
        Err(error) => turned_off().ok_or(error)?.save(reason),
    }
}

/// What the recorder of this process has done so far, from anywhere in it: see
/// [`Recorder::stats`](crate::Recorder::stats).
///
/// # Errors
/// No recorder is running, or this is a child of the recorded process.
///
/// ```
/// assert!(lookback_recorder::stats().is_err());
/// let recorder = lookback_recorder::Recorder::builder().max_bytes(1 << 20).start()?;
/// assert_eq!(lookback_recorder::stats()?.max_bytes, 1 << 20);
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
pub fn stats() -> Result<Stats, Error> {
    Ok(current()?.stats())
}

/// Changes which events of `tracing` and the `log` crate are recorded, from anywhere in the process: see
/// [`Recorder::set_filter`](crate::Recorder::set_filter).
///
/// # Errors
/// No recorder is running, or this is a child of the recorded process.
///
/// ```
/// let filter: lookback_recorder::Filter = "info,my_crate::db=trace".parse()?;
/// assert!(lookback_recorder::set_filter(filter.clone()).is_err(), "nothing is recorded");
/// let recorder = lookback_recorder::Recorder::builder().max_bytes(1 << 20).start()?;
/// lookback_recorder::set_filter(filter)?;
/// # Ok::<(), lookback_recorder::Error>(())
/// ```
pub fn set_filter(filter: impl Into<Option<Filter>>) -> Result<(), Error> {
    match current() {
        Ok(_) => change_filter(filter.into()),
        Err(error) => drop(turned_off().ok_or(error)?),
    }
    Ok(())
}

pub(super) fn change_filter(filter: Option<Filter>) {
    // Keeps a recorder from starting or stopping meanwhile: the next one begins with a filter of its own.
    let _starting = STARTING.lock();
    if let Some(shared) = &*CURRENT.load() {
        filter::set(filter);
        tell_watchers();
        // If another thread is advancing, it notes the filter now or the next time.
        if let Some(_advancing) = shared.advancer.try_lock() {
            noted::note(&shared.arena);
        }
    }
}

/// The running recorder, for a brief look: the cheap way.
pub(crate) fn peek() -> Guard<Option<Arc<Shared>>> {
    // A forked child records nothing.
    if is_recording() { CURRENT.load() } else { Guard::from_inner(None) }
}

/// The running recorder.
pub(crate) fn current() -> Result<Arc<Shared>, Error> {
    if control().is_foreign() {
        return Err(Error::Forked);
    }
    CURRENT.load_full().ok_or(Error::NotRecording)
}
