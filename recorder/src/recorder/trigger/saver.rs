//! The saver: a thread that copies, compresses and writes snapshots, so that neither firing threads nor the
//! collector do. It saves the snapshots of triggers, and those that the program saves to the snapshot
//! directory. Otherwise it sleeps.
//!
//! At most one [ticket](super::request) gathers triggers, one gathers requests of the program, which wait,
//! and one is being saved. So however many threads request a snapshot at once, there is one copy of the arena
//! in memory and one file being written, and the saver makes room for that first. Requests have a ticket of
//! their own, because the triggers' one may be delayed to see the consequences of a condition.
//!
//! # What it waits for
//!
//! A thread whose panic ends the process waits for the saver, as does the process's [exit](super::exit); it
//! may hold any lock of the recorder. So the saver blocks on none: it tries each for a while and then
//! continues without what the lock protects, like a reader outside the process.
//!
//! # The end
//!
//! The end is announced before the saver looks for a ticket for the last time, and a thread that opens a
//! ticket checks for the end afterwards (both sequentially consistent). So one of them sees the other, and no
//! ticket is left behind.

#![forbid(unsafe_code)]

use super::request::{Due, Joining, Reason, Ticket};
use super::{Stats, exit};
use crate::arena::Arena;
use crate::error::Error;
use crate::generation::noted;
use crate::os;
use crate::os::clock;
use crate::os::own_thread;
use crate::record::own_work;
use crate::recorder::Shared;
use crate::redact;
use crate::snapshot::snapshot_dir::Directory;
use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// The origin of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// By triggers.
    Triggers,
    /// By the program, which waits for the file.
    Requests,
}

/// The `trigger` in the metadata of a snapshot that the program requests.
const REQUEST: &str = "request";

/// See the module.
#[derive(Debug)]
pub(crate) struct Saver {
    pub(crate) directory: Directory,
    /// Indexed by [`Slot`].
    open: [ArcSwapOption<Ticket>; 2],
    /// Starting the thread has begun.
    started: AtomicBool,
    thread: OnceLock<Thread>,
    handle: Mutex<Option<JoinHandle<()>>>,
    /// The operating system's ID of the thread.
    os_thread: AtomicU64,
    ending: AtomicBool,
    over: AtomicBool,
    /// For waiting until the thread ends.
    end: (Mutex<()>, Condvar),
    pub(crate) counts: Counts,
    /// For tests.
    pub(crate) panics_next: AtomicBool,
    /// A test holds this to make the saver wait.
    pub(crate) held: Mutex<()>,
}

/// Tickets without an outcome yet. A signal handler reads it, too.
pub(crate) static PENDING: AtomicU32 = AtomicU32::new(0);

/// The outcomes of what was fired.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) fired: AtomicU64,
    pub(crate) saved: AtomicU64,
    pub(crate) failed: AtomicU64,
    suppressed_before: u64,
    last_error: Mutex<Option<String>>,
    /// The last attempt to save a trigger's snapshot failed, or the check at the start found that it would.
    fails: AtomicBool,
}

impl Saver {
    pub(crate) fn new(directory: Directory) -> Self {
        let suppressed_before = super::SUPPRESSED.load(Ordering::Relaxed);
        Self {
            directory,
            open: [ArcSwapOption::empty(), ArcSwapOption::empty()],
            started: AtomicBool::new(false),
            thread: OnceLock::new(),
            handle: Mutex::new(None),
            os_thread: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            over: AtomicBool::new(false),
            end: (Mutex::new(()), Condvar::new()),
            counts: Counts { suppressed_before, ..Counts::default() },
            panics_next: AtomicBool::new(false),
            held: Mutex::new(()),
        }
    }

    /// Starts the thread, unless that was done before.
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<()> {
        let saver = &shared.saver;
        if saver.started.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let run = Arc::clone(shared);
        match own_thread::spawn("lookback-save", move || run.saver.run(&run)) {
            Ok(handle) => {
                let _ = saver.thread.set(handle.thread().clone());
                // Tickets that were opened before could not wake it.
                handle.thread().unpark();
                *saver.handle.lock() = Some(handle);
                Ok(())
            }
            Err(error) => {
                saver.started.store(false, Ordering::Release);
                Err(error)
            }
        }
    }

    /// Joins the open ticket, or opens one. Calls `told` with it before the ticket can be closed.
    pub(crate) fn ask(
        shared: &Arc<Shared>,
        slot: Slot,
        why: Reason,
        due: Due,
        latest: u64,
        told: impl FnOnce(&Ticket, &Reason),
    ) -> Arc<Ticket> {
        let saver = &shared.saver;
        let open = &saver.open[slot as usize];
        let trigger = why.trigger.clone();
        let finish = |joining: Joining<'_>, ticket: &Ticket| {
            told(ticket, &why);
            joining.add(why);
        };
        let mut current = open.load_full();
        let mut fresh: Option<Arc<Ticket>> = None;
        let ticket = loop {
            if let Some(ticket) = &current
                && let Some(joining) = ticket.join(due)
            {
                finish(joining, ticket);
                break Arc::clone(ticket);
            }
            let ticket = fresh.get_or_insert_with(|| {
                PENDING.fetch_add(1, Ordering::SeqCst);
                Arc::new(Ticket::open(saver.directory.name(&trigger), due, latest))
            });
            let there = open.compare_and_swap(&current, Some(Arc::clone(ticket)));
            let there = arc_swap::Guard::into_inner(there);
            let same = match (&there, &current) {
                (None, None) => true,
                (Some(there), Some(current)) => Arc::ptr_eq(there, current),
                _ => false,
            };
            if same {
                let ticket = Arc::clone(ticket);
                finish(ticket.opened(), &ticket);
                break ticket;
            }
            current = there;
        };
        if fresh.is_some_and(|fresh| !Arc::ptr_eq(&fresh, &ticket)) {
            PENDING.fetch_sub(1, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        if saver.over.load(Ordering::SeqCst) {
            saver.give_up(&ticket, Error::NotRecording);
        } else {
            if let Err(error) = Self::start(shared) {
                saver.give_up(
                    &ticket,
                    Error::System { what: "cannot start the thread that saves snapshots", error },
                );
            }
            saver.wake();
        }
        ticket
    }

    /// Saves a snapshot for the program, and waits for it. All requests that arrive before the copy begins
    /// get the same one.
    pub(crate) fn request(shared: &Arc<Shared>, reason: &str) -> Result<PathBuf, Error> {
        // Others may share this snapshot, and its first reason may be another one's.
        let (trigger, reason) = (REQUEST.to_owned(), redact::scrubbed_string(reason.to_owned()));
        let why = Reason { trigger, reason, details: Vec::new() };
        if shared.is_own_thread(os::thread::number()) || Self::start(shared).is_err() {
            // The thread could not be started; or this is the saver's thread (in a panic hook, say), which
            // must not wait for itself.
            let snapshot = shared.snapshot_for(&[&why], 0, false)?;
            return shared.pass_on(&shared.saver.directory.name(REQUEST), snapshot);
        }
        let _own = own_work::begin();
        let ticket = Self::ask(shared, Slot::Requests, why, Due::Urgent, 0, |_, _| {});
        ticket.wait_for_it().map_err(|error| error.again())
    }

    /// Lets no more threads join this ticket.
    fn take_down(&self, ticket: &Arc<Ticket>) {
        self.open.iter().for_each(|open| drop(open.compare_and_swap(ticket, None)));
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Resolves this ticket with an error, unless the saver has begun to save it.
    fn give_up(&self, ticket: &Arc<Ticket>, reason: Error) {
        while let Err(soon) = ticket.close(u64::MAX, true) {
            if ticket.is_closed() {
                return;
            }
            std::thread::sleep(soon);
        }
        self.take_down(ticket);
        self.note(ticket, Err(reason));
    }

    fn run(&self, shared: &Arc<Shared>) {
        self.os_thread.store(os::thread::number(), Ordering::Relaxed);
        exit::note_saver();
        self.directory.clear_left_over();
        loop {
            let ending = self.ending.load(Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // Requests that wait come first.
            let open: Vec<_> =
                self.open.iter().rev().filter_map(ArcSwapOption::load_full).collect();
            if open.is_empty() {
                if ending {
                    break;
                }
                std::thread::park();
                continue;
            }
            let mut wait = None;
            for ticket in &open {
                match ticket.close(clock::monotonic().0, ending || exit::is_aborting()) {
                    Ok(()) => {
                        self.take_down(ticket);
                        self.serve(shared, ticket);
                        wait = Some(Duration::ZERO);
                    }
                    Err(soon) => wait = Some(wait.map_or(soon, |wait: Duration| wait.min(soon))),
                }
            }
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                std::thread::park_timeout(wait);
            }
        }
        self.over.store(true, Ordering::SeqCst);
        drop(self.end.0.lock());
        self.end.1.notify_all();
        // A thread may have opened a ticket after the last look, without having seen the end yet.
        fence(Ordering::SeqCst);
        for ticket in self.open.iter().filter_map(ArcSwapOption::load_full) {
            self.give_up(&ticket, Error::NotRecording);
        }
    }

    /// Saves the ticket and sets its outcome. This panics if the recorder itself is wrong: then the handler
    /// of that panic resolves the ticket, or this does.
    fn serve(&self, shared: &Shared, ticket: &Arc<Ticket>) {
        drop(self.held.lock());
        let saved = catch_unwind(AssertUnwindSafe(|| self.save(shared, ticket, true)));
        let panicked = |_| {
            let (what, error) =
                ("the snapshot was not saved", io::Error::other("the saver panicked"));
            Err(Error::System { what, error })
        };
        self.note(ticket, saved.unwrap_or_else(panicked));
    }

    /// Saves the ticket in place of a thread of the recorder that panicked, and leaves out everything that
    /// could wait for that thread.
    pub(crate) fn help(shared: &Arc<Shared>, ticket: &Arc<Ticket>) {
        let saver = &shared.saver;
        while let Err(soon) = ticket.close(u64::MAX, true) {
            if ticket.is_closed() {
                return;
            }
            std::thread::sleep(soon);
        }
        saver.take_down(ticket);
        let saved = saver.save(shared, ticket, false);
        saver.note(ticket, saved);
    }

    fn note(&self, ticket: &Ticket, outcome: Result<PathBuf, Error>) {
        // A request gets the error as its result; a trigger's failure is counted.
        let is_asked = ticket
            .whys()
            .0
            .first()
            .is_some_and(|why| why.details.is_empty() && why.trigger == REQUEST);
        match &outcome {
            _ if is_asked => {}
            Ok(_) => {
                self.counts.saved.fetch_add(1, Ordering::Relaxed);
                self.counts.fails.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                self.counts.fails.store(true, Ordering::Relaxed);
                self.counts.failed.fetch_add(1, Ordering::Relaxed);
                if let Some(mut last) = self.counts.last_error.try_lock() {
                    *last = Some(error.to_string());
                }
            }
        }
        let failed = outcome.as_ref().err().filter(|_| !is_asked).map(ToString::to_string);
        ticket.resolve(outcome.map_err(Arc::new));
        PENDING.fetch_sub(1, Ordering::SeqCst);
        if let Some(error) = failed {
            // The service's operators must know before they look for the snapshot. Triggers have limits, so
            // this message is rare; and no thread waits for the snapshot any more.
            let text = format_args!(
                "lookback: a trigger fired, and no snapshot could be saved: {error}\n"
            );
            let _ = std::io::stderr().write_fmt(text);
        }
    }

    /// Notes, when recording starts, that snapshots cannot be saved, and says so on stderr.
    pub(crate) fn cannot_save(&self, error: &Error) {
        self.counts.fails.store(true, Ordering::Relaxed);
        *self.counts.last_error.lock() = Some(error.to_string());
        let text = format_args!("lookback: snapshots cannot be saved: {error}\n");
        let _ = std::io::stderr().write_fmt(text);
    }

    /// Notes failures in the arena's header, for readers outside. The caller holds the advancer's lock.
    pub(crate) fn note_failures(&self, arena: &Arena) {
        let failed = self.counts.failed.load(Ordering::Relaxed);
        let Some(last) = self.counts.last_error.try_lock() else { return };
        let fails = self.counts.fails.load(Ordering::Relaxed);
        if let Some(error) = &*last {
            noted::note_saves(arena, failed, if fails { error } else { "" });
        }
    }

    /// Takes the snapshot and writes its file, on this thread. `advance` says whether it may end the running
    /// generation.
    fn save(&self, shared: &Shared, ticket: &Ticket, advance: bool) -> Result<PathBuf, Error> {
        if self.panics_next.swap(false, Ordering::Relaxed) {
            panic!("the saver panics, as a test wants it");
        }
        let (whys, more) = ticket.whys();
        let snapshot = shared.snapshot_for(&whys, more, advance)?;
        shared.pass_on(ticket.file_name(), snapshot)
    }

    /// Saves the open tickets at once, regardless of delays: the process is ending.
    pub(crate) fn hurry(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Gives the thread `patience` to save the open tickets, and ends it.
    pub(crate) fn end(&self, patience: Duration) {
        self.ending.store(true, Ordering::SeqCst);
        if !self.started.load(Ordering::Acquire) {
            self.over.store(true, Ordering::SeqCst);
            return;
        }
        self.wake();
        let mut guard = self.end.0.lock();
        let is_over = || self.over.load(Ordering::SeqCst);
        if !is_over() {
            self.end.1.wait_while_for(&mut guard, |()| !is_over(), patience);
        }
        drop(guard);
        let handle = self.handle.lock().take();
        // A thread that hangs in the file system is left to itself.
        if is_over()
            && let Some(handle) = handle
        {
            let _ = handle.join();
        }
    }

    /// Whether this is the operating system's ID of the saver's thread.
    pub(crate) fn is_thread(&self, os_thread: u64) -> bool {
        self.os_thread.load(Ordering::Relaxed) == os_thread
    }

    /// All of its locks; for tests.
    pub(crate) fn lock_all(&self) -> impl Sized {
        (self.handle.lock(), self.end.0.lock(), self.counts.last_error.lock())
    }

    pub(crate) fn stats(&self) -> Stats {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            fired: count(&self.counts.fired),
            suppressed: super::SUPPRESSED.load(Ordering::Relaxed) - self.counts.suppressed_before,
            saved: count(&self.counts.saved),
            failed: count(&self.counts.failed),
            last_error: self.counts.last_error.lock().clone(),
        }
    }
}
