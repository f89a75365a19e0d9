//! What a recorded future knows of its task, in one word: a spawned future is moved and allocated
//! together with its wrappers, so each word of them costs.

use crate::record::emit::is_recording;
use crate::record::site::Site;
use crate::record::task::{Task, TaskEntry};
use std::fmt;
use std::ptr::NonNull;

/// See the module: the task's place, or, with the low bit set, the site of a task that is not
/// recorded yet; 0 when the task is over.
pub(crate) struct Life(usize);

// SAFETY: places and sites can be shared, and are never freed.
unsafe impl Send for Life {}
// SAFETY: as above; nothing changes through a shared reference.
unsafe impl Sync for Life {}

/// Marks a site, whose alignment leaves this bit free.
const SITE: usize = 1;

impl Life {
    /// Begins a task with this name.
    pub(crate) fn begin(site: &'static Site) -> Self {
        let task = if is_recording() { Task::create(site) } else { None };
        task.map_or_else(|| Self::unborn(site), Self::of)
    }

    /// No task, now or later.
    pub(crate) fn none() -> Self {
        Self(0)
    }

    fn of(task: Task) -> Self {
        Self(std::ptr::from_ref(task.into_place()).expose_provenance())
    }

    fn unborn(site: &'static Site) -> Self {
        const { assert!(align_of::<Site>() > SITE && align_of::<TaskEntry>() > SITE) };
        Self(std::ptr::from_ref(site).expose_provenance() | SITE)
    }

    /// The task's place, while the task is alive.
    #[inline(always)]
    fn place(&self) -> Option<&'static TaskEntry> {
        let alive = self.0 != 0 && self.0 & SITE == 0;
        // SAFETY: it is the address of a place, which is never unmapped.
        alive.then(|| unsafe { &*std::ptr::with_exposed_provenance::<TaskEntry>(self.0) })
    }

    /// The task's place. If the task began while nothing was recorded, and something is recorded
    /// now, takes a place for it.
    #[inline(always)]
    pub(crate) fn place_or_adopt(&mut self) -> Option<&'static TaskEntry> {
        match self.place() {
            Some(place) => Some(place),
            None => self.adopt(),
        }
    }

    #[cold]
    fn adopt(&mut self) -> Option<&'static TaskEntry> {
        if self.0 != 0 && is_recording() {
            // If there is no place for it, do not ask again.
            let task = self.site().and_then(Task::adopt);
            *self = task.map_or(Self::none(), Self::of);
        }
        self.place()
    }

    fn site(&self) -> Option<&'static Site> {
        let site = std::ptr::with_exposed_provenance_mut::<Site>(self.0 & !SITE);
        // SAFETY: with the mark it is the address of a site, which is never freed.
        (self.0 & SITE != 0).then(|| NonNull::new(site).map(|site| unsafe { site.as_ref() }))?
    }

    /// The future is done, or has panicked.
    #[inline]
    pub(crate) fn finish(&mut self) {
        if let Some(place) = self.place() {
            self.0 = 0;
            Task::from_place(place).finish();
        }
        self.0 = 0;
    }
}

impl Drop for Life {
    /// The future is dropped before completion.
    #[inline]
    fn drop(&mut self) {
        if let Some(place) = self.place() {
            drop(Task::from_place(place));
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.place(), self.site()) {
            (Some(place), _) => place.fmt(f),
            (None, Some(site)) => write!(f, "not recorded: {site:?}"),
            (None, None) => f.write_str("over"),
        }
    }
}
