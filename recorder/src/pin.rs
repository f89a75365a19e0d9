//! A recorder in a shared object that a program loads, and may unload.
//!
//! What the system calls later lies in that object: the destructor that sees the end of threads, the
//! handlers of signals, what the end of the process calls. None of it can be taken back with certainty,
//! for somebody may be about to call it. So the object stays mapped from the first start on, as C
//! libraries do that register such things (`-z nodelete`). It can still be closed, and loaded again: it
//! then is the same one.
//!
//! That is the object of the recorder. One that only uses it, as a plugin that records by way of the
//! program's recorder does, holds the statics (`Site`) of its own macros, which threads and tables point to as
//! long as the process lives. It must not be unloaded: link it with `-z nodelete`, or open it with
//! `RTLD_NODELETE`, or never close it.

/// Keeps the object that this code is in mapped. A program's own code always is: nothing happens there.
pub(crate) fn pin() {
    #[cfg(target_os = "linux")]
    {
        let mut about = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: the address is of this function, and the place is valid; zeroes are a value. The name is
        // the loader's own, which finds its object by it; that one is loaded, so nothing is run.
        unsafe {
            if libc::dladdr(pin as *const () as *const libc::c_void, about.as_mut_ptr()) == 0 {
                return;
            }
            let name = about.assume_init().dli_fname;
            if !name.is_null() {
                let flags = libc::RTLD_NOW | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
                libc::dlopen(name, flags);
            }
        }
    }
}
