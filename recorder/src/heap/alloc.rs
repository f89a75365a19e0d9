//! The allocator that a program declares.

use crate::heap::counters::Counters;
use crate::heap::samples::{self, LARGE, PAGE};
use crate::heap::sampling;
use std::alloc::{GlobalAlloc, Layout, System};

/// An allocator that counts what it passes on to another one, and samples where it comes from.
///
/// Declared as the program's global allocator, it makes known in each snapshot how much is allocated and freed, how much is
/// alive, and which stacks have allocated it. It costs a few additions for each object; about every 512 KiB
/// ([`Builder::heap_samples`](crate::Builder::heap_samples)) an object's stack is taken.
///
/// It may wrap any allocator, and be declared whether anything is recorded or not.
///
/// ```
/// use lookback_recorder::Alloc;
///
/// #[global_allocator]
/// static ALLOCATOR: Alloc = Alloc::system();
/// # fn main() {}
/// ```
///
/// Around another one:
///
/// ```ignore
/// #[global_allocator]
/// static ALLOCATOR: lookback::Alloc<mimalloc::MiMalloc> = lookback::Alloc::new(mimalloc::MiMalloc);
/// ```
///
/// An object that is a sample is aligned to a page, unless it is larger than 128 KiB, so that it can be told from
/// others when it is freed: on average one in 512 KiB.
#[derive(Debug, Default)]
pub struct Alloc<A = System>(A);

impl Alloc {
    /// Around the system's allocator.
    #[must_use]
    pub const fn system() -> Self {
        Self(System)
    }
}

impl<A> Alloc<A> {
    /// Around this allocator.
    #[must_use]
    pub const fn new(inner: A) -> Self {
        Self(inner)
    }
}

/// How a sample is allocated: so that it is found when it is freed.
fn as_sample(layout: Layout) -> Layout {
    if layout.size() >= LARGE {
        return layout;
    }
    // A layout that would overflow is too large for any allocator, and above `LARGE`.
    layout.align_to(PAGE).unwrap_or(layout)
}

impl<A: GlobalAlloc> Alloc<A> {
    /// Allocates what needs more than to be counted: now and then all, and samples.
    #[cold]
    #[inline(never)]
    fn allocate_more(&self, layout: Layout, allocate: unsafe fn(&A, Layout) -> *mut u8) -> *mut u8 {
        let own = Counters::claimed();
        let size = layout.size() as u64;
        let sample = if own.is_due(size) { self.sample(layout, allocate) } else { None };
        let object = match sample {
            Some(object) => object,
            // SAFETY: the caller's layout.
            None => unsafe { allocate(&self.0, layout) },
        };
        if !object.is_null() {
            own.count_more_allocated(size);
        }
        object
    }

    /// `None` if it can be no sample.
    fn sample(
        &self,
        layout: Layout,
        allocate: unsafe fn(&A, Layout) -> *mut u8,
    ) -> Option<*mut u8> {
        let interval = Some(sampling::interval()).filter(|interval| *interval != 0)?;
        let aligned = as_sample(layout);
        // SAFETY: of the same size as the caller's, which is not 0.
        let object = unsafe { allocate(&self.0, aligned) };
        if object.is_null() {
            return None;
        }
        if samples::add(object, layout.size() as u64, interval) || layout.size() >= LARGE {
            return Some(object);
        }
        // SAFETY: just allocated like this.
        unsafe { self.0.dealloc(object, aligned) };
        None
    }

    /// An object that may be a sample goes. Returns how it was allocated.
    #[inline(never)]
    fn forget(object: *mut u8, layout: Layout) -> Layout {
        if samples::remove(object) { as_sample(layout) } else { layout }
    }

    /// Allocates another object, copies, and frees this one.
    #[cold]
    unsafe fn moved(&self, object: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's size is valid with this alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both have so many bytes, and are different objects; the old one is the caller's.
            unsafe {
                std::ptr::copy_nonoverlapping(object, new, layout.size().min(size));
                self.dealloc(object, layout);
            }
        }
        new
    }

    /// Grows or shrinks what is not aligned to be a sample, and stays so.
    unsafe fn resized(&self, object: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let own = Counters::own();
        let is_more = !own.is_within(size as u64);
        let own = if is_more { Counters::claimed() } else { own };
        let is_due = is_more && own.is_due(size as u64);
        if is_due && size < LARGE && sampling::interval() != 0 {
            // SAFETY: the caller's.
            return unsafe { self.moved(object, layout, size) };
        }
        // SAFETY: the caller's.
        let new = unsafe { self.0.realloc(object, layout, size) };
        if new.is_null() {
            return new;
        }
        if is_due && sampling::interval() != 0 {
            samples::add(new, size as u64, sampling::interval());
        }
        if is_more {
            own.count_more_allocated(size as u64);
        } else {
            own.count_allocation(size as u64);
        }
        if own.count_free(layout.size() as u64) {
            Counters::count_more_freed(layout.size() as u64);
        }
        new
    }
}

// SAFETY: passes every call on to an allocator. A sample's layout has the size that was asked for and a larger
// alignment; its address is in the table until it is freed, so it is freed with that layout.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Alloc<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (own, size) = (Counters::own(), layout.size() as u64);
        if !own.is_within(size) {
            return self.allocate_more(layout, A::alloc);
        }
        // SAFETY: the caller's layout.
        let object = unsafe { self.0.alloc(layout) };
        if !object.is_null() {
            own.count_allocation(size);
        }
        object
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (own, size) = (Counters::own(), layout.size() as u64);
        if !own.is_within(size) {
            return self.allocate_more(layout, A::alloc_zeroed);
        }
        // SAFETY: the caller's layout.
        let object = unsafe { self.0.alloc_zeroed(layout) };
        if !object.is_null() {
            own.count_allocation(size);
        }
        object
    }

    #[inline]
    unsafe fn dealloc(&self, object: *mut u8, layout: Layout) {
        let size = layout.size();
        let allocated_as =
            if samples::may_be_one(object, size) { Self::forget(object, layout) } else { layout };
        // SAFETY: the caller's object, with the layout that it was allocated with.
        unsafe { self.0.dealloc(object, allocated_as) };
        if Counters::own().count_free(size as u64) {
            Counters::count_more_freed(size as u64);
        }
    }

    #[inline]
    unsafe fn realloc(&self, object: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !samples::may_be_one(object, layout.size()) {
            // SAFETY: the caller's, and no sample.
            return unsafe { self.resized(object, layout, size) };
        }
        // SAFETY: the caller's.
        unsafe { self.realloc_more(object, layout, size) }
    }
}

impl<A: GlobalAlloc> Alloc<A> {
    /// Grows or shrinks what may be a sample.
    #[cold]
    #[inline(never)]
    unsafe fn realloc_more(&self, object: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let was = samples::get(object);
        let Some(was) = was else {
            // SAFETY: the caller's, and no sample.
            return unsafe { self.resized(object, layout, size) };
        };
        if layout.size() < LARGE || size < LARGE {
            // SAFETY: the caller's.
            return unsafe { self.moved(object, layout, size) };
        }
        // A large one keeps its alignment, and may grow in place. It is forgotten before its address can be another's.
        samples::remove(object);
        // SAFETY: the caller's; as `layout` says, since it is large.
        let new = unsafe { self.resized(object, layout, size) };
        if new.is_null() {
            samples::keep(object, was);
        }
        new
    }
}
