//! A guard that keeps its lock alive: for a lock in an `Arc`, whose own guards borrow it.

use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;

/// A lock whose guards borrow it. `Way` tells those apart that it has several of.
pub trait Lends<Way>: 'static {
    /// What it protects.
    type Target: ?Sized;
    /// The guard.
    type Guard<'a>: Deref<Target = Self::Target>
    where
        Self: 'a;
}

/// The way to lock that excludes all others.
#[derive(Debug)]
pub struct Exclusive;

/// The way to lock for those that only read.
#[derive(Debug)]
pub struct Shared;

/// A future that takes a lock which it borrows.
type Taking<'a, L, Way> = Pin<Box<dyn Future<Output = <L as Lends<Way>>::Guard<'a>> + Send + 'a>>;

/// See the module.
pub struct Owned<L: Lends<Way> + ?Sized, Way> {
    /// Borrows from the lock, and is dropped before it. It is no plain field: a reference in one would have to be valid for
    /// as long as a function runs that this is passed to, and that may drop the lock.
    guard: MaybeUninit<L::Guard<'static>>,
    lock: Arc<L>,
}

impl<L: Lends<Way> + ?Sized, Way> Owned<L, Way> {
    /// Takes the lock, if `attempt` gets it.
    ///
    /// # Errors
    /// That of `attempt`.
    pub fn attempt<E>(
        lock: Arc<L>,
        attempt: impl for<'a> FnOnce(&'a L) -> Result<L::Guard<'a>, E>,
    ) -> Result<Self, E> {
        let guard = attempt(&lock)?;
        // SAFETY: whatever the lifetime, `attempt` can have taken the guard only from this lock, or from none.
        let guard = unsafe { extend::<L, Way>(guard) };
        Ok(Self { guard, lock })
    }

    /// Waits for the lock, and takes it.
    pub async fn take(
        lock: Arc<L>,
        take: impl for<'a> FnOnce(&'a L) -> Taking<'a, L, Way>,
    ) -> Self {
        let guard = take(&lock).await;
        // SAFETY: as above.
        let guard = unsafe { extend::<L, Way>(guard) };
        Self { guard, lock }
    }

    /// The lock.
    pub fn lock(&self) -> &Arc<L> {
        &self.lock
    }
}

// The guard itself is given to nobody: code that could exchange two of them would have one of a lock that it does not keep alive.
impl<L: Lends<Way> + ?Sized, Way> Deref for Owned<L, Way> {
    type Target = L::Target;

    fn deref(&self) -> &L::Target {
        // SAFETY: it is there until this is dropped.
        unsafe { self.guard.assume_init_ref() }
    }
}

impl<L: Lends<Way> + ?Sized, Way> DerefMut for Owned<L, Way>
where
    for<'a> L::Guard<'a>: DerefMut,
{
    fn deref_mut(&mut self) -> &mut L::Target {
        // SAFETY: as above.
        unsafe { self.guard.assume_init_mut() }
    }
}

impl<L: Lends<Way> + ?Sized, Way> fmt::Debug for Owned<L, Way>
where
    L::Target: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<L: Lends<Way> + ?Sized, Way> fmt::Display for Owned<L, Way>
where
    L::Target: fmt::Display,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// # Safety
/// The guard must be dropped before what it borrows.
unsafe fn extend<L: Lends<Way> + ?Sized, Way>(
    guard: L::Guard<'_>,
) -> MaybeUninit<L::Guard<'static>> {
    let guard = ManuallyDrop::new(guard);
    // SAFETY: types that differ in lifetimes alone are laid out alike, and the original is not used again.
    MaybeUninit::new(unsafe { ptr::read((&raw const *guard).cast()) })
}

impl<L: Lends<Way> + ?Sized, Way> Drop for Owned<L, Way> {
    fn drop(&mut self) {
        // SAFETY: it is there, and not used again.
        unsafe { self.guard.assume_init_drop() };
    }
}
